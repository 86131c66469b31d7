//! GROUP BY ROLLUP, CUBE and GROUPING SETS of a column that WHERE fixes to one value.
//!
//! DataFusion takes such a column for a constant behind the grouping too, where it is NULL in some rows, and
//! leaves out an ORDER BY of it. Below the grouping its columns therefore pass through a function that nothing
//! is known of.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

/// The plan with the columns of such groupings hidden.
pub(super) fn hide_constants(plan: LogicalPlan) -> Result<LogicalPlan> {
    let hidden = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(aggregate) if matches!(&aggregate.group_expr[..], [Expr::GroupingSet(_)]) => {
            let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
            let keys: HashSet<Column> =
                group_expr.iter().flat_map(|key| key.column_refs()).cloned().collect();
            let opaque = Arc::new(ScalarUDF::new_from_impl(Opaque::default()));
            let columns = input.schema().columns().into_iter().map(|column| match keys.contains(&column) {
                true => {
                    let (relation, name) = (column.relation.clone(), column.name.clone());
                    let args = vec![Expr::Column(column), opaque.call(Vec::new())];
                    opaque.call(args).alias_qualified(relation, name)
                }
                false => Expr::Column(column),
            });
            let columns: Vec<Expr> = columns.collect();
            let input = LogicalPlanBuilder::from(input).project(columns)?.build()?;
            let aggregate = Aggregate::try_new_with_schema(Arc::new(input), group_expr, aggr_expr, schema)?;
            Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
        }
        node => Ok(Transformed::no(node)),
    })?;
    Ok(hidden.data)
}

/// The first argument as it is. The other, which depends on nothing and is no constant, makes it none either.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Opaque {
    signature: Signature,
}

impl Default for Opaque {
    fn default() -> Self {
        let arguments = vec![TypeSignature::Nullary, TypeSignature::Any(2)];
        Opaque { signature: Signature::one_of(arguments, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for Opaque {
    fn name(&self) -> &str {
        "bq_opaque"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given.first().cloned().unwrap_or(DataType::Boolean))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let given = args.arg_fields.first().map(|field| field.as_ref().clone().with_name(self.name()));
        Ok(Arc::new(given.unwrap_or_else(|| Field::new(self.name(), DataType::Boolean, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.into_iter().next();
        Ok(given.unwrap_or(ColumnarValue::Scalar(ScalarValue::Boolean(None))))
    }
}
