//! INT64 arithmetic that fails on overflow, as BigQuery's does. DataFusion's own wraps around.

use std::sync::Arc;

use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use datafusion::prelude::SessionContext;

use crate::error::Error;

pub(super) const ADD: &str = "googlesql_add";
pub(super) const SUBTRACT: &str = "googlesql_subtract";
pub(super) const MULTIPLY: &str = "googlesql_multiply";

/// Teaches a session what translated texts call.
pub(crate) fn install(session: &SessionContext) {
    for name in [ADD, SUBTRACT, MULTIPLY] {
        session.register_udf(ScalarUDF::new_from_impl(Checked::new(name)));
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    signature: Signature,
}

impl Checked {
    fn new(name: &'static str) -> Self {
        let integers = vec![DataType::Int64, DataType::Int64];
        Checked { name, signature: Signature::exact(integers, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    // Keys that cannot be NULL are compared faster.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, DataType::Int64, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else { return internal_err!("{} of two values", self.name) };
        apply(left, right, |left, right| {
            let (result, sign) = match self.name {
                ADD => (numeric::add(left, right), '+'),
                SUBTRACT => (numeric::sub(left, right), '-'),
                _ => (numeric::mul(left, right), '*'),
            };
            result.map_err(|_| {
                let message = format!("INT64 overflow: the result of `{sign}` does not fit");
                ArrowError::ExternalError(Box::new(Error::failed(message)))
            })
        })
    }
}
