//! Comparisons of FLOAT64: NaN is equal to nothing, not even to NaN, and neither less nor greater.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Cast, InList, InSubquery, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Between, BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, cast,
};

use super::keys::Key;
use crate::emulator::query::check::input_schema;

/// The node with its comparisons of FLOAT64 as comparisons of keys.
pub(super) fn with_keys(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut compares = false;
    node.apply_expressions(|expr| {
        compares = compares || expr.exists(|e| Ok(is_comparison(e)))?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !compares {
        return Ok(Transformed::no(node));
    }
    let schema = input_schema(&node);
    // The columns of a sorted input are not named by the sort.
    let names = (!matches!(node, LogicalPlan::Sort(_))).then(|| NamePreserver::new(&node));
    let rewritten = node.map_expressions(|expr| {
        if let Expr::GroupingSet(_) = expr {
            return Ok(Transformed::no(expr)); // it has no name that could be kept
        }
        let name = names.as_ref().map(|names| names.save(&expr));
        let rewritten = expr.transform_up(|e| compare(e, &schema))?;
        Ok(match name {
            Some(name) => rewritten.update_data(|e| name.restore(e)),
            None => rewritten,
        })
    })?;
    rewritten.map_data(LogicalPlan::recompute_schema)
}

fn is_comparison(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(binary) => keys_of(binary.op).is_some(),
        Expr::Between(_) | Expr::InList(_) | Expr::InSubquery(_) => true,
        Expr::Case(case) => case.expr.is_some(),
        Expr::ScalarFunction(function) => matches!(function.name(), "nullif" | "greatest" | "least"),
        _ => false,
    }
}

pub(super) fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type == DataType::Float64)
}

/// The key of an expression; what can only be a plain number is one.
pub(super) fn key_of(key: Key, expr: Expr, schema: &DFSchema) -> Expr {
    if let Expr::Cast(Cast { expr: inner, .. }) = &expr
        && inner.get_type(schema).is_ok_and(|from| from.is_integer())
    {
        return expr;
    }
    key.of(expr)
}

/// The keys of both sides that make the comparison of their bits the right one, with NaN on either side.
fn keys_of(op: Operator) -> Option<(Key, Key)> {
    Some(match op {
        Operator::Eq | Operator::NotEq => (Key::Below, Key::Above),
        Operator::Lt | Operator::LtEq => (Key::Above, Key::Below),
        Operator::Gt | Operator::GtEq => (Key::Below, Key::Above),
        Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => (Key::Below, Key::Below),
        _ => return None,
    })
}

fn compare(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let are_floats = |all: &[&Expr]| all.iter().all(|e| is_float(e, schema));
    let boxed = |key, expr: Box<Expr>| Box::new(key_of(key, *expr, schema));
    Ok(Transformed::yes(match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = as_floats(left, right, schema);
            match keys_of(op) {
                Some((a, b)) if are_floats(&[&left, &right]) => {
                    Expr::BinaryExpr(BinaryExpr { left: boxed(a, left), op, right: boxed(b, right) })
                }
                _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            }
        }
        Expr::Between(Between { expr, negated, low, high }) if are_floats(&[&expr, &low, &high]) => {
            // NaN is below `low` then, and a `high` that is NaN is below all.
            let (expr, low, high) =
                (boxed(Key::Below, expr), boxed(Key::Above, low), boxed(Key::Below, high));
            Expr::Between(Between { expr, negated, low, high })
        }
        Expr::InList(InList { expr, list, negated }) if is_float(&expr, schema) => {
            let list = list.into_iter().map(|item| key_of(Key::Above, item, schema)).collect();
            Expr::InList(InList { expr: boxed(Key::Below, expr), list, negated })
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) if is_float(&expr, schema) => {
            let (expr, subquery) = (boxed(Key::Below, expr), above(subquery)?);
            Expr::InSubquery(InSubquery { expr, subquery, negated })
        }
        Expr::Case(Case { expr: Some(operand), when_then_expr, else_expr }) if is_float(&operand, schema) => {
            let whens = when_then_expr.into_iter().map(|(when, then)| (boxed(Key::Above, when), then));
            let when_then_expr = whens.collect();
            Expr::Case(Case { expr: Some(boxed(Key::Below, operand)), when_then_expr, else_expr })
        }
        Expr::ScalarFunction(function) if function.args.iter().all(|arg| is_float(arg, schema)) => {
            let ScalarFunction { func, args } = function;
            // Of many values NaN is the result, whatever is asked for.
            let key = match func.name() {
                "greatest" => Key::Above,
                "least" => Key::Below,
                "nullif" => return nullif(args, schema).map(Transformed::yes),
                _ => return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))),
            };
            let args = args.into_iter().map(|arg| key_of(key, arg, schema)).collect();
            Expr::ScalarFunction(ScalarFunction { func, args })
        }
        other => return Ok(Transformed::no(other)),
    }))
}

/// DataFusion compares FLOAT64 and NUMERIC as decimals, which NaN is none of; a literal may become one.
fn as_floats(left: Box<Expr>, right: Box<Expr>, schema: &DFSchema) -> (Box<Expr>, Box<Expr>) {
    let float = |expr: &Expr| match expr {
        Expr::Cast(Cast { expr: inner, field }) if field.data_type().is_decimal() => {
            (is_float(inner, schema) && !matches!(**inner, Expr::Literal(..))).then(|| inner.clone())
        }
        _ => None,
    };
    let other = |expr: Box<Expr>| match *expr {
        Expr::Cast(Cast { expr: inner, field }) if field.data_type().is_decimal() => {
            Box::new(cast(*inner, DataType::Float64))
        }
        expr => Box::new(cast(expr, DataType::Float64)),
    };
    match (float(&left), float(&right)) {
        (Some(left), None) => (left, other(right)),
        (None, Some(right)) => (other(left), right),
        _ => (left, right),
    }
}

/// The value itself is the result, and not its key.
fn nullif(args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
    let [value, other] = <[Expr; 2]>::try_from(args)
        .map_err(|_| datafusion::common::internal_datafusion_err!("NULLIF takes two arguments"))?;
    let equal = key_of(Key::Below, value.clone(), schema).eq(key_of(Key::Above, other, schema));
    let null = Expr::Literal(ScalarValue::Float64(None), None);
    let when_then_expr = vec![(Box::new(equal), Box::new(null))];
    Ok(Expr::Case(Case { expr: None, when_then_expr, else_expr: Some(Box::new(value)) }))
}

/// The only column of a subquery as keys.
fn above(subquery: Subquery) -> Result<Subquery> {
    let schema = subquery.subquery.schema();
    let (relation, field) = schema.qualified_field(0);
    let column = Expr::Column(Column::from((relation, field)));
    let key = key_of(Key::Above, column, schema).alias_qualified(relation.cloned(), field.name());
    let plan = LogicalPlanBuilder::new_from_arc(subquery.subquery).project([key])?.build()?;
    Ok(Subquery { subquery: plan.into(), ..subquery })
}
