//! `x != 0 AND 1 / x > 1`: what can fail is computed only for the rows that the conditions before it let through.
//!
//! BigQuery promises no order either, but people write such guards and BigQuery's answers bear them out.
//! DataFusion computes both sides for a whole batch of rows, except within CASE. So once a plan is optimized,
//! and nothing moves conditions any more, CASE is put around what can fail.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, disjunction, split_binary, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator, lit, when};

/// Of our functions those that have a value for every argument, as far as conditions use them often.
const NEVER_FAIL: [&str; 18] = [
    "bq_array",
    "bq_as_type",
    "bq_concat",
    "bq_contains_substr",
    "bq_ends_with",
    "bq_field",
    "bq_in_array",
    "bq_join",
    "bq_length",
    "bq_lower",
    "bq_ltrim",
    "bq_rtrim",
    "bq_starts_with",
    "bq_strpos",
    "bq_struct",
    "bq_trim",
    "bq_upper",
    "bq_within",
];

/// An optimized plan in which conditions guard those behind them.
pub(super) fn guard(plan: LogicalPlan) -> Result<LogicalPlan> {
    let guarded = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(Filter { predicate, input, .. }) if can_fail(&predicate)? => {
            let predicate = passing(inner(predicate)?.data)?;
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
        }
        // What a scan may leave out is decided by partitions alone.
        node @ (LogicalPlan::Filter(_) | LogicalPlan::TableScan(_)) => Ok(Transformed::no(node)),
        node => {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                if !can_fail(&expr)? {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                Ok(expr.transform_down(chained)?.update_data(|e| name.restore(e)))
            })
        }
    })?;
    Ok(guarded.data)
}

fn can_fail(expr: &Expr) -> Result<bool> {
    expr.exists(|e| {
        Ok(match e {
            Expr::ScalarFunction(call) => {
                let name = call.name();
                name.starts_with("bq_") && !name.starts_with("bq_safe_") && !NEVER_FAIL.contains(&name)
            }
            _ => false,
        })
    })
}

/// The conditions of WHERE, each for itself.
fn inner(predicate: Expr) -> Result<Transformed<Expr>> {
    let conditions = split_conjunction_owned(predicate).into_iter();
    let conditions = conditions.map(|condition| Ok(condition.transform_down(chained)?.data));
    let conditions = conditions.collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(conjunction(conditions).unwrap_or_else(|| lit(true))))
}

/// Which rows pass: of a condition only TRUE counts, so those that cannot fail may come first. They do not
/// always, because the optimizer puts the WHERE of an outer query before that of an inner one.
fn passing(predicate: Expr) -> Result<Expr> {
    let (mut safe, mut fallible) = (Vec::new(), Vec::new());
    for condition in split_conjunction_owned(predicate) {
        if can_fail(&condition)? { fallible.push(condition) } else { safe.push(condition) }
    }
    let mut passing = conjunction(safe);
    for condition in fallible {
        passing = Some(match passing {
            Some(before) => when(before, condition).otherwise(lit(false))?,
            None => condition,
        });
    }
    Ok(passing.unwrap_or_else(|| lit(true)))
}

/// A chain of AND or OR as `CASE WHEN NOT a THEN FALSE … ELSE a AND b END`: no condition is computed where one
/// before it has decided, and every one at most twice.
fn chained(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let op = *op;
    let conditions: Vec<Expr> = split_binary(&expr, op).into_iter().cloned().collect();
    let Some(last) =
        conditions.iter().skip(1).map(can_fail).collect::<Result<Vec<_>>>()?.iter().rposition(|f| *f)
    else {
        return Ok(Transformed::no(expr));
    };
    let conditions = conditions.into_iter().map(|condition| Ok(condition.transform_down(chained)?.data));
    let conditions = conditions.collect::<Result<Vec<_>>>()?;
    let mut cases = Vec::new();
    for before in &conditions[..=last] {
        let decided = match op {
            Operator::And => Expr::Not(Box::new(before.clone())),
            _ => before.clone(),
        };
        cases.push((Box::new(decided), Box::new(lit(op == Operator::Or))));
    }
    let all = if op == Operator::And { conjunction(conditions) } else { disjunction(conditions) };
    let case = datafusion::logical_expr::Case::new(None, cases, all.map(Box::new));
    // What is in it is guarded already.
    Ok(Transformed::new(Expr::Case(case), true, datafusion::common::tree_node::TreeNodeRecursion::Jump))
}
