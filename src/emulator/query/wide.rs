//! SELECT lists of hundreds of columns.
//!
//! DataFusion's planner compares each item of the list with all before it, by their names, which it writes
//! out each time: seconds for a few thousand columns. A long list of plain expressions is planned here, on top of
//! what the rest of the query gives.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Limit, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement as PlanStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, ExprWithAlias, GroupByExpr, Query, SelectItem, SetExpr, Statement, Value, visit_expressions,
};

use super::aggregates::is_aggregated;
use super::parameters::literal;

/// Fewer take no time worth saving.
const ITEMS_MIN: usize = 200;

pub(super) async fn logical_plan(state: &SessionState, mut query: Query) -> Result<LogicalPlan> {
    let items = take_items(&mut query);
    let statement = PlanStatement::Statement(Box::new(Statement::Query(Box::new(query))));
    let plan = state.statement_to_plan(statement).await?;
    match items {
        None => Ok(plan),
        Some(items) => with_items(state, plan, items),
    }
}

/// The SELECT list, when it is long and plain; one number stands in its place then.
fn take_items(query: &mut Query) -> Option<Vec<ExprWithAlias>> {
    if query.with.is_some() || query.order_by.is_some() {
        return None;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let filtered = select.having.is_some() || select.qualify.is_some();
    if select.projection.len() < ITEMS_MIN || select.distinct.is_some() || grouped || filtered {
        return None;
    }
    if !select.projection.iter().all(is_plain) {
        return None;
    }
    let one = SelectItem::UnnamedExpr(literal(Value::Number("1".into(), false)));
    let items = std::mem::replace(&mut select.projection, vec![one]).into_iter();
    let taken = items.filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) => Some(ExprWithAlias { expr, alias: None }),
        SelectItem::ExprWithAlias { expr, alias } => Some(ExprWithAlias { expr, alias: Some(alias) }),
        _ => None,
    });
    Some(taken.collect())
}

/// Whether a row's item depends on that row alone.
fn is_plain(item: &SelectItem) -> bool {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return false };
    let found = visit_expressions(expr, |e| match e {
        Expr::Function(f) if f.over.is_some() || f.name.to_string().eq_ignore_ascii_case("unnest") => {
            ControlFlow::Break(())
        }
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_continue() && !is_aggregated(expr)
}

fn with_items(state: &SessionState, plan: LogicalPlan, items: Vec<ExprWithAlias>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Limit(limit) => {
            let input = Arc::new(with_items(state, Arc::unwrap_or_clone(limit.input), items)?);
            Ok(LogicalPlan::Limit(Limit { input, ..limit }))
        }
        LogicalPlan::Projection(projection) => {
            let input = Arc::unwrap_or_clone(projection.input);
            let schema = Arc::clone(input.schema());
            let item = |item| state.create_logical_expr_from_sql_expr(item, &schema);
            let exprs = items.into_iter().map(item).collect::<Result<Vec<_>>>()?;
            LogicalPlanBuilder::from(input).project(exprs)?.build()
        }
        other => datafusion::common::internal_err!("a SELECT list on top of {}", other.display()),
    }
}
