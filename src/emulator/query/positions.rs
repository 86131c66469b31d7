//! STRUCTs that meet: the values of CASE or COALESCE, the rows of UNION, both sides of a comparison.
//!
//! GoogleSQL brings them to one type field by field, in their order. DataFusion would go by the names of the
//! fields where both have the same ones, and give `STRUCT(1 AS b, 2 AS a)` the values of another.

use std::mem;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, internal_err};
use datafusion::logical_expr::expr::{InList, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator,
    ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Union, Volatility,
};

use super::library::{cast_nested, only_value, supertype};
use crate::emulator::wire::Outcome;

/// The plan with casts where STRUCTs of several types meet.
pub(super) fn match_structs(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !knows_structs(&plan)? {
        return Ok(plan);
    }
    let rewritten = plan.transform_up_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::Union(union) => LogicalPlan::Union(alike_rows(union)?),
            node => node.recompute_schema()?,
        };
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        let mut changed = false;
        let names = NamePreserver::new(&node);
        let node = node.map_expressions(|expr| {
            let (name, is_set) = (names.save(&expr), matches!(expr, Expr::GroupingSet(_)));
            let matched = expr.transform_up(|e| matched(e, &schema))?;
            changed |= matched.transformed;
            // GROUPING SETS themselves have no name.
            Ok(if is_set { matched } else { matched.update_data(|e| name.restore(e)) })
        })?;
        // What is cast here has other types, and the nodes above take theirs from those.
        Ok(Transformed::yes(if changed { node.data.recompute_schema()? } else { node.data }))
    })?;
    Ok(rewritten.data)
}

/// Most queries have none, and wide ones are not taken apart for nothing.
fn knows_structs(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= node.schema().fields().iter().any(|field| has_struct(field.data_type()));
        node.apply_expressions(|expr| {
            let is_struct = |e: &Expr| matches!(e, Expr::ScalarFunction(f) if f.name() == "bq_struct");
            found |= expr.exists(|e| Ok(is_struct(e)))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn has_struct(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) => true,
        DataType::List(item) => has_struct(item.data_type()),
        _ => false,
    }
}

/// The type that values meet in, when there are STRUCTs of several types among them.
fn common_type<'a>(types: impl IntoIterator<Item = &'a DataType> + Clone) -> Option<DataType> {
    let mut structs = types.clone().into_iter().filter(|t| has_struct(t));
    let first = structs.next()?;
    if structs.all(|other| other == first) {
        return None;
    }
    supertype(types)
}

/// A UNION whose inputs have the same types.
fn alike_rows(union: Union) -> Result<Union> {
    let width = union.schema.fields().len();
    let inputs = &union.inputs;
    let types = |column: usize| inputs.iter().map(move |input| input.schema().field(column).data_type());
    let wanted: Vec<Option<DataType>> = match inputs.iter().all(|i| i.schema().fields().len() == width) {
        true => (0..width).map(|column| common_type(types(column).collect::<Vec<_>>())).collect(),
        false => Vec::new(),
    };
    if wanted.iter().all(Option::is_none) {
        return Union::try_new_with_loose_types(union.inputs);
    }
    let mut alike = Vec::with_capacity(union.inputs.len());
    for input in union.inputs {
        let mut columns = Vec::with_capacity(width);
        for (column, wanted) in input.schema().columns().into_iter().zip(&wanted) {
            let (relation, name) = (column.relation.clone(), column.name.clone());
            let column = Expr::Column(column);
            columns.push(match wanted {
                Some(wanted) => as_type(column, wanted).alias_qualified(relation, name),
                None => column,
            });
        }
        alike.push(Arc::new(LogicalPlanBuilder::from(input).project(columns)?.build()?));
    }
    Union::try_new_with_loose_types(alike)
}

fn matched(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let changed = match &mut expr {
        Expr::Case(case) => {
            let (mut whens, mut results) = (Vec::new(), Vec::new());
            for (when, result) in &mut case.when_then_expr {
                whens.push(when.as_mut());
                results.push(result.as_mut());
            }
            results.extend(case.else_expr.as_deref_mut());
            let compared = match case.expr.as_deref_mut() {
                Some(operand) => {
                    whens.push(operand);
                    alike(whens, schema)?
                }
                None => false,
            };
            alike(results, schema)? || compared
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            alike(vec![left.as_mut(), right.as_mut()], schema)?
        }
        Expr::InList(InList { expr, list, .. }) => {
            alike(std::iter::once(expr.as_mut()).chain(list).collect(), schema)?
        }
        Expr::InSubquery(InSubquery { expr, subquery, .. }) => {
            let given = expr.get_type(schema)?;
            let rows = subquery.subquery.schema();
            let item = rows.fields().first().map_or(DataType::Null, |f| f.data_type().clone());
            match common_type([&given, &item]) {
                Some(common) => {
                    let columns =
                        rows.columns().into_iter().map(|c| as_type(Expr::Column(c), &common).alias("item"));
                    let columns: Vec<Expr> = columns.collect();
                    let rows = Arc::clone(&subquery.subquery);
                    subquery.subquery = Arc::new(LogicalPlanBuilder::from(rows).project(columns)?.build()?);
                    **expr = as_type(mem::take(expr), &common);
                    true
                }
                None => false,
            }
        }
        Expr::ScalarFunction(function) if matches!(function.name(), "coalesce" | "nullif") => {
            alike(function.args.iter_mut().collect(), schema)?
        }
        // What our own functions take.
        Expr::ScalarFunction(function) if function.name().starts_with("bq_") => {
            let given = function.args.iter().map(|e| e.get_type(schema)).collect::<Result<Vec<_>>>()?;
            let wanted = match given.iter().any(has_struct) {
                true => function.func.coerce_types(&given).unwrap_or_default(),
                false => Vec::new(),
            };
            let mut changed = false;
            for ((arg, given), wanted) in function.args.iter_mut().zip(&given).zip(&wanted) {
                if has_struct(given) && given != wanted {
                    *arg = as_type(mem::take(arg), wanted);
                    changed = true;
                }
            }
            changed
        }
        _ => false,
    };
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

fn is_comparison(op: Operator) -> bool {
    use Operator as O;
    matches!(
        op,
        O::Eq | O::NotEq | O::Lt | O::LtEq | O::Gt | O::GtEq | O::IsDistinctFrom | O::IsNotDistinctFrom
    )
}

/// Casts those that are not of the common type; `false` when there are none.
fn alike(exprs: Vec<&mut Expr>, schema: &DFSchema) -> Result<bool> {
    let types = exprs.iter().map(|e| e.get_type(schema)).collect::<Result<Vec<_>>>()?;
    let Some(common) = common_type(&types) else { return Ok(false) };
    for (expr, given) in exprs.into_iter().zip(&types) {
        if *given != common && *given != DataType::Null {
            *expr = as_type(mem::take(expr), &common);
        }
    }
    Ok(true)
}

/// Rows whose columns are those of a new table, in their order.
pub(super) fn stored_rows(batch: &RecordBatch, wanted: &SchemaRef) -> Outcome<RecordBatch> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for ((field, column), wanted) in batch.schema().fields().iter().zip(batch.columns()).zip(wanted.fields())
    {
        let column = as_stored(column, wanted.data_type()).map_err(|e| super::query_failure(&e))?;
        fields.push(field.as_ref().clone().with_data_type(column.data_type().clone()));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
    rows.map_err(|e| super::query_failure(&e.into()))
}

/// A column as the table has it, whatever the query calls the fields of its STRUCTs.
pub(super) fn as_stored(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    match has_struct(column.data_type()) {
        true => cast_nested(column, wanted, false),
        false => Ok(Arc::clone(column)),
    }
}

/// The expression as one of another type.
pub(super) fn as_type(expr: Expr, to: &DataType) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::new_from_impl(AsType { to: to.clone(), signature }).call(vec![expr])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AsType {
    to: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for AsType {
    fn name(&self) -> &str {
        "bq_as_type"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [given] = args.arg_fields else { return internal_err!("a cast of several values") };
        let field = given.as_ref().clone().with_data_type(self.to.clone()).with_nullable(true);
        Ok(Arc::new(field.with_name(self.name())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else { return internal_err!("a cast of several values") };
        match value {
            _ if args.number_rows == 0 => Ok(ColumnarValue::Array(new_null_array(&self.to, 0))),
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(cast_nested(array, &self.to, false)?)),
            ColumnarValue::Scalar(scalar) => {
                let cast = cast_nested(&scalar.to_array()?, &self.to, false)?;
                Ok(ColumnarValue::Scalar(only_value(&cast)?))
            }
        }
    }
}
