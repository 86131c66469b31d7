//! Recognises `ROW_NUMBER() = 1` over one window and puts [`LatestPerKey`] in its place.

use std::sync::Arc;

use arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result};
use datafusion::functions_window::row_number::RowNumber;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionDefinition};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Extension, Filter, LogicalPlan, Operator, Projection, Window,
    WindowFrame, WindowFrameBound, lit,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::RULE;
use super::node::LatestPerKey;

#[derive(Debug)]
pub(super) struct LatestRule;

impl OptimizerRule for LatestRule {
    fn name(&self) -> &str {
        RULE
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    // `install` puts it behind the push-down of filters, so both ways of writing it look the same.
    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let LogicalPlan::Window(window) = filter.input.as_ref() else { return Ok(Transformed::no(plan)) };
        let [window_expr] = window.window_expr.as_slice() else { return Ok(Transformed::no(plan)) };
        let Some(function) = row_number(window_expr) else { return Ok(Transformed::no(plan)) };
        if !supported(function, window.input.schema()) {
            return Ok(Transformed::no(plan));
        }
        let (first, rest): (Vec<&Expr>, Vec<&Expr>) =
            split_conjunction(&filter.predicate).into_iter().partition(|e| is_first(e, window));
        // A predicate without columns could be pushed anywhere; one that draws lots must see its rows once.
        if first.is_empty() || rest.iter().any(|e| e.is_volatile() || e.column_refs().is_empty()) {
            return Ok(Transformed::no(plan));
        }
        let numbered = replace(window, function)?;
        Ok(Transformed::yes(match conjunction(rest.into_iter().cloned()) {
            Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, Arc::new(numbered))?),
            None => numbered,
        }))
    }
}

/// The window's output: the rows that are number 1, and the constant 1 under the window's name.
fn replace(window: &Window, function: &WindowFunction) -> Result<LogicalPlan> {
    let node = LatestPerKey {
        input: window.input.as_ref().clone(),
        key: function.params.partition_by.clone(),
        order: function.params.order_by.clone(),
    };
    let columns = window.input.schema().iter().map(|field| Expr::Column(Column::from(field)));
    let (qualifier, number) = window.schema.qualified_field(window.schema.fields().len() - 1);
    let one = lit(1_u64).alias_qualified(qualifier.cloned(), number.name());
    let latest = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    let exprs = columns.chain([one]).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(latest))?))
}

/// `ROW_NUMBER()` without arguments, filter or frame of its own.
fn row_number(expr: &Expr) -> Option<&WindowFunction> {
    let expr = match expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        expr => expr,
    };
    let Expr::WindowFunction(function) = expr else { return None };
    let WindowFunctionDefinition::WindowUDF(udf) = &function.fun else { return None };
    let params = &function.params;
    let WindowFrame { start_bound, end_bound, .. } = &params.window_frame;
    // The type of the missing bounds varies, so frames are not compared whole.
    let ends = matches!(end_bound, WindowFrameBound::CurrentRow)
        || matches!(end_bound, WindowFrameBound::Following(_)) && end_bound.is_unbounded();
    let default_frame = start_bound.is_unbounded() && ends;
    let plain = udf.inner().is::<RowNumber>()
        && params.args.is_empty()
        && params.filter.is_none()
        && params.null_treatment.is_none()
        && !params.distinct
        && default_frame;
    plain.then_some(function.as_ref())
}

/// Whether key and order can be compared as bytes, and evaluated more than once.
fn supported(function: &WindowFunction, schema: &DFSchema) -> bool {
    let key = &function.params.partition_by;
    let order = function.params.order_by.iter().map(|sort| &sort.expr);
    !key.is_empty()
        && key.iter().chain(order).all(|expr| {
            expr.get_type(schema).is_ok_and(|data_type| {
                // A struct's or list's NULLs sort in ways of their own; they stay with DataFusion.
                !data_type.is_nested() && RowConverter::supports_fields(&[SortField::new(data_type)])
            }) && !expr.is_volatile()
        })
}

/// `rn = 1`, `rn <= 1`, `rn < 2` and their mirror images.
fn is_first(expr: &Expr, window: &Window) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return false };
    let (column, op, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) => (column, Some(*op), value),
        (Expr::Literal(value, _), Expr::Column(column)) => (column, op.swap(), value),
        _ => return false,
    };
    let number = window.schema.fields().len() - 1;
    if window.schema.maybe_index_of_column(column) != Some(number) {
        return false;
    }
    let bound = match op {
        Some(Operator::Eq | Operator::LtEq) => 1_u64,
        Some(Operator::Lt) => 2,
        _ => return false,
    };
    *value == bound.into()
}
