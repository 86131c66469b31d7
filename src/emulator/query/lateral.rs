//! `t, UNNEST(t.tags)`: a join with the elements of an array of the left side, which DataFusion plans and
//! cannot run. Here it becomes an unnest of the left side itself.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DataFusionError, NullHandling, Result, ScalarValue, TableReference};
use datafusion::logical_expr::{
    Expr, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Subquery, SubqueryAlias, Unnest,
};

use super::wording::marked;

/// The plan without such joins.
pub(super) fn unnest_laterals(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match lateral_side(&join) {
            Some(_) => rewrite(join).map(Transformed::yes),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        node => Ok(Transformed::no(node)),
    })?;
    Ok(rewritten.data)
}

fn lateral_side(join: &Join) -> Option<(&TableReference, &Subquery)> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return None;
    }
    match join.right.as_ref() {
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => match input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some((alias, subquery)),
            _ => None,
        },
        _ => None,
    }
}

fn rewrite(join: Join) -> Result<LogicalPlan> {
    let Some((alias, subquery)) = lateral_side(&join) else { return Ok(LogicalPlan::Join(join)) };
    let keeps_rows = join.join_type == JoinType::Left;
    let is_true = |filter: &Expr| matches!(filter, Expr::Literal(ScalarValue::Boolean(Some(true)), _));
    if keeps_rows && (!join.on.is_empty() || join.filter.as_ref().is_some_and(|f| !is_true(f))) {
        return Err(DataFusionError::NotImplemented(marked("a condition in LEFT JOIN UNNEST")));
    }
    let left: Vec<Expr> = columns_of(&join.left);
    let side = Side { left: &left, keeps_rows };
    let right = side.over(&subquery.subquery, &join.left)?;
    // The columns under the names that they had in the join.
    let mut named = left.clone();
    for (_, field) in subquery.subquery.schema().iter() {
        let column = Column::new_unqualified(field.name());
        let column = match right.schema().maybe_index_of_column(&column) {
            Some(_) => Expr::Column(column),
            None => return Err(DataFusionError::Internal(format!("no column {column} of an array"))),
        };
        named.push(column.alias_qualified(Some(alias.clone()), field.name()));
    }
    let mut builder = LogicalPlanBuilder::from(right).project(named)?;
    let conditions = join.on.into_iter().map(|(left, right)| left.eq(right));
    for condition in conditions.chain(join.filter).filter(|f| !is_true(f)) {
        builder = builder.filter(condition)?;
    }
    builder.build()
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// The right side, built again on top of the left one.
struct Side<'a> {
    left: &'a [Expr],
    keeps_rows: bool,
}

impl Side<'_> {
    fn over(&self, node: &LogicalPlan, left: &Arc<LogicalPlan>) -> Result<LogicalPlan> {
        match node {
            LogicalPlan::EmptyRelation(_) => Ok(left.as_ref().clone()),
            LogicalPlan::Projection(projection) => {
                let input = self.over(&projection.input, left)?;
                let mut exprs = self.left.to_vec();
                for expr in &projection.expr {
                    exprs.push(inner(expr.clone())?);
                }
                LogicalPlanBuilder::from(input).project(exprs)?.build()
            }
            LogicalPlan::Unnest(Unnest { input, exec_columns, options, .. }) => {
                let input = self.over(input, left)?;
                let nulls =
                    if self.keeps_rows { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
                let options = options.clone().with_null_handling(nulls);
                LogicalPlanBuilder::from(input)
                    .unnest_columns_with_options(exec_columns.clone(), options)?
                    .build()
            }
            _ => Err(DataFusionError::NotImplemented(marked("a correlated subquery in FROM"))),
        }
    }
}

/// Columns of the left side are plain columns now.
fn inner(expr: Expr) -> Result<Expr> {
    let rewritten = expr.transform(|e| {
        Ok(match e {
            Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
            other => Transformed::no(other),
        })
    })?;
    Ok(rewritten.data)
}
