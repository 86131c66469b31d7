//! What aggregate functions take. DataFusion's take more, or refuse it in words of their own, so arguments pass
//! through functions that only look at their types; the optimizer takes those out again.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast;

use super::library::signature_name;
use super::rewrite::call;
use super::wording::plan_err;
use crate::emulator::fields::Kind;

const PREFIX: &str = "bq_argument_of_";

/// Names, which of their arguments are looked at, and what those are.
const CHECKED: [(&str, &[usize], Takes); 23] = [
    ("SUM", &[0], Takes::Numbers),
    ("AVG", &[0], Takes::Numbers),
    ("STDDEV", &[0], Takes::Numbers),
    ("STDDEV_SAMP", &[0], Takes::Numbers),
    ("STDDEV_POP", &[0], Takes::Numbers),
    ("VARIANCE", &[0], Takes::Numbers),
    ("VAR_SAMP", &[0], Takes::Numbers),
    ("VAR_POP", &[0], Takes::Numbers),
    ("CORR", &[0, 1], Takes::Numbers),
    ("COVAR_POP", &[0, 1], Takes::Numbers),
    ("COVAR_SAMP", &[0, 1], Takes::Numbers),
    ("BIT_AND", &[0], Takes::Integers),
    ("BIT_OR", &[0], Takes::Integers),
    ("BIT_XOR", &[0], Takes::Integers),
    ("COUNTIF", &[0], Takes::Conditions),
    ("LOGICAL_AND", &[0], Takes::Conditions),
    ("LOGICAL_OR", &[0], Takes::Conditions),
    ("STRING_AGG", &[0], Takes::Texts),
    ("MIN", &[0], Takes::Ordered),
    ("MAX", &[0], Takes::Ordered),
    ("MIN_BY", &[1], Takes::Ordered),
    ("MAX_BY", &[1], Takes::Ordered),
    ("ARRAY_AGG", &[0], Takes::Elements),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Takes {
    Numbers,
    Integers,
    Conditions,
    Texts,
    /// Whatever has an order.
    Ordered,
    /// Whatever an array may hold.
    Elements,
}

impl Takes {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Takes::Numbers => &[Kind::Int64, Kind::Float64, Kind::Numeric, Kind::BigNumeric],
            Takes::Integers => &[Kind::Int64],
            Takes::Conditions => &[Kind::Bool],
            Takes::Texts => &[Kind::String, Kind::Bytes],
            Takes::Ordered | Takes::Elements => &[],
        }
    }

    fn takes(self, field: &FieldRef) -> bool {
        let kind = match field.data_type() {
            DataType::Null => return true,
            DataType::List(_) => return false,
            _ => Kind::of_field(field),
        };
        match self {
            Takes::Ordered => {
                !matches!(kind, None | Some(Kind::Json | Kind::Geography | Kind::Record | Kind::Range(_)))
            }
            Takes::Elements => true,
            _ => kind.is_some_and(|kind| self.kinds().contains(&kind)),
        }
    }
}

/// The arguments of an aggregate, with a look at their types.
pub(super) fn checked(upper: &str, args: Vec<ast::Expr>) -> Vec<ast::Expr> {
    let Some((name, places, _)) = CHECKED.iter().find(|(name, ..)| *name == upper) else { return args };
    let look = |(at, arg)| match places.contains(&at) {
        true => call(&function_name(name), vec![arg]),
        false => arg,
    };
    args.into_iter().enumerate().map(look).collect()
}

/// Whether a function only looks at its argument.
pub(super) fn is_check(function: &ScalarUDF) -> bool {
    function.name().starts_with(PREFIX)
}

/// All of them, for registration.
pub(super) fn all() -> impl Iterator<Item = ScalarUDF> {
    CHECKED.iter().map(|(aggregate, _, takes)| {
        let (name, signature) = (function_name(aggregate), Signature::user_defined(Volatility::Immutable));
        ScalarUDF::new_from_impl(Checked { name, aggregate, takes: *takes, signature })
    })
}

fn function_name(aggregate: &str) -> String {
    format!("{PREFIX}{}", aggregate.to_lowercase())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: String,
    aggregate: &'static str,
    takes: Takes,
    signature: Signature,
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        // A NULL that has no type yet is of the first that is taken.
        let first = self.takes.kinds().first().and_then(|kind| kind.arrow_type());
        let typed = |given: &DataType| match given {
            DataType::Null => first.clone().unwrap_or(DataType::Null),
            given => given.clone(),
        };
        Ok(given.iter().map(typed).collect())
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [field] = args.arg_fields else { return plan_err!("{} takes one argument", self.name) };
        if self.takes.takes(field) {
            return Ok(Arc::new(field.as_ref().clone().with_name(&self.name)));
        }
        let given = match Kind::of_field(field).filter(|_| !matches!(field.data_type(), DataType::List(_))) {
            Some(kind) if kind != Kind::Record => kind.sql().to_owned(),
            _ => signature_name(field.data_type()),
        };
        let aggregate = self.aggregate;
        match self.takes {
            Takes::Ordered => return plan_err!("{aggregate} is not defined for arguments of type {given}"),
            Takes::Elements => {
                return plan_err!("The argument to {aggregate} must not be an array type but was {given}");
            }
            Takes::Numbers | Takes::Integers | Takes::Conditions | Takes::Texts => {}
        }
        let supported: Vec<String> =
            self.takes.kinds().iter().map(|kind| format!("{aggregate}({})", kind.sql())).collect();
        plan_err!(
            "No matching signature for aggregate function {aggregate} for argument types: {given}. Supported \
             signatures: {}",
            supported.join("; ")
        )
    }

    fn simplify(&self, mut args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        match args.pop() {
            Some(arg) if args.is_empty() => Ok(ExprSimplifyResult::Simplified(arg)),
            _ => plan_err!("{} takes one argument", self.name),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.pop() {
            Some(arg) => Ok(arg),
            None => plan_err!("{} takes one argument", self.name),
        }
    }
}
