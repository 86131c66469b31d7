//! Types that BigQuery does not compare: DataFusion would convert one side and answer something.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Like, LogicalPlan, Operator};

use crate::emulator::fields::Kind;
use crate::emulator::wire::{Failure, Outcome};

/// Checks a plan before DataFusion coerces its types.
pub(super) fn check_types(plan: &LogicalPlan) -> Outcome<()> {
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Union(union) = node {
            refused = refused.take().or_else(|| check_union(&union.inputs));
        }
        let schema = input_schema(node);
        for expr in node.expressions() {
            expr.apply(|e| {
                refused = refused.take().or_else(|| check_expr(e, &schema).err());
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|e| Failure::invalid_query(e.strip_backtrace()))?;
    refused.map_or(Ok(()), Err)
}

fn input_schema(node: &LogicalPlan) -> DFSchemaRef {
    // Merging compares every column with every other, which wide tables feel.
    if let [input] = node.inputs().as_slice() {
        return std::sync::Arc::clone(input.schema());
    }
    let mut merged = DFSchema::empty();
    for input in node.inputs() {
        merged.merge(input.schema());
    }
    std::sync::Arc::new(merged)
}

fn check_union(inputs: &[std::sync::Arc<LogicalPlan>]) -> Option<Failure> {
    let first = inputs.first()?;
    for input in inputs {
        for (column, (a, b)) in first.schema().fields().iter().zip(input.schema().fields()).enumerate() {
            if !comparable(a.data_type(), b.data_type()) {
                let (a, b) = (name(a.data_type()), name(b.data_type()));
                return Some(Failure::invalid_query(format!(
                    "Column {} in a set operation has incompatible types: {a}, {b}",
                    column + 1
                )));
            }
        }
    }
    None
}

fn check_expr(expr: &Expr, schema: &DFSchemaRef) -> Outcome<()> {
    let pair = |operator: &str, left: &Expr, right: &Expr| {
        let (Ok(a), Ok(b)) = (left.get_type(schema.as_ref()), right.get_type(schema.as_ref())) else {
            return Ok(()); // the planner says what is wrong with it
        };
        let literal_text = |e: &Expr, t: &DataType| is_literal(e) && Kind::of(t) == Some(Kind::String);
        // A literal text takes the type of the other side when that is a date or time.
        let coerced = |t: &DataType| {
            matches!(Kind::of(t), Some(Kind::Date | Kind::Timestamp | Kind::DateTime | Kind::Time))
        };
        if comparable(&a, &b)
            || (literal_text(left, &a) && coerced(&b))
            || (literal_text(right, &b) && coerced(&a))
        {
            return Ok(());
        }
        Err(no_signature(operator, &a, &b))
    };
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => pair(&op.to_string(), left, right),
            Operator::And | Operator::Or => {
                for side in [left, right] {
                    if let Ok(found) = side.get_type(schema.as_ref())
                        && !is_null(&found)
                        && Kind::of(&found) != Some(Kind::Bool)
                    {
                        return Err(no_signature(&op.to_string(), &found, &DataType::Boolean));
                    }
                }
                Ok(())
            }
            Operator::StringConcat => {
                let (Ok(a), Ok(b)) = (left.get_type(schema.as_ref()), right.get_type(schema.as_ref())) else {
                    return Ok(());
                };
                let text = |t: &DataType| is_null(t) || Kind::of(t) == Some(Kind::String);
                if text(&a) && text(&b) { Ok(()) } else { Err(no_signature("||", &a, &b)) }
            }
            _ => Ok(()),
        },
        Expr::Between(Between { expr, low, high, negated: _ }) => {
            pair("BETWEEN", expr, low)?;
            pair("BETWEEN", expr, high)
        }
        Expr::InList(InList { expr, list, negated: _ }) => {
            list.iter().try_for_each(|item| pair("IN", expr, item))
        }
        Expr::Like(Like { expr, pattern, .. }) => pair("LIKE", expr, pattern),
        Expr::Case(case) => {
            let mut results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            if let Some(first) = results.next() {
                results.chain(case.else_expr.as_deref()).try_for_each(|e| pair("CASE", first, e))?;
            }
            match &case.expr {
                Some(operand) => {
                    case.when_then_expr.iter().try_for_each(|(when, _)| pair("CASE", operand, when))
                }
                None => Ok(()),
            }
        }
        Expr::ScalarFunction(function) => {
            let (name, args) = (function.name(), function.args.as_slice());
            match name {
                "coalesce" | "nullif" | "greatest" | "least" => match args.split_first() {
                    Some((first, rest)) => rest.iter().try_for_each(|e| pair(&name.to_uppercase(), first, e)),
                    None => Ok(()),
                },
                "upper" | "lower" | "btrim" | "ltrim" | "rtrim" | "replace" | "reverse" | "starts_with"
                | "ends_with" | "regexp_like" | "character_length" | "strpos" => {
                    let text = |e: &&Expr| {
                        e.get_type(schema.as_ref())
                            .is_ok_and(|t| !is_null(&t) && Kind::of(&t) != Some(Kind::String))
                    };
                    match args.iter().find(text).map(|e| e.get_type(schema.as_ref())) {
                        Some(Ok(found)) => Err(Failure::invalid_query(format!(
                            "No matching signature for function {} for argument types: {}",
                            name.to_uppercase(),
                            self::name(&found)
                        ))),
                        _ => Ok(()),
                    }
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

fn is_null(data_type: &DataType) -> bool {
    *data_type == DataType::Null
}

fn comparable(a: &DataType, b: &DataType) -> bool {
    let number = |k: Kind| matches!(k, Kind::Int64 | Kind::Float64 | Kind::Numeric | Kind::BigNumeric);
    match (Kind::of(a), Kind::of(b)) {
        (Some(a), Some(b)) => a == b || (number(a) && number(b)),
        // NULL goes with everything; nested types are left to the planner.
        _ => is_null(a) || is_null(b) || a == b,
    }
}

fn no_signature(operator: &str, a: &DataType, b: &DataType) -> Failure {
    Failure::invalid_query(format!(
        "No matching signature for operator {operator} for argument types: {}, {}",
        name(a),
        name(b)
    ))
}

fn name(data_type: &DataType) -> String {
    Kind::of(data_type).map_or_else(|| data_type.to_string(), |kind| kind.sql().to_owned())
}
