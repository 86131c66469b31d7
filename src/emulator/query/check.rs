//! Types that BigQuery does not compare: DataFusion would convert one side and answer something.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, JoinType};
use datafusion::logical_expr::expr::{InList, WindowFunctionParams};
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, ExprSchemable, Like, LogicalPlan, Operator, WindowFrameBound, WindowFrameUnits,
};

use super::arguments;
use super::library::signature_name;
use super::wording::query_failure;
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
        refused = refused.take().or_else(|| check_node(node, &schema).err());
        for expr in node.expressions() {
            expr.apply(|e| {
                refused = refused.take().or_else(|| check_expr(e, &schema).err());
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|e| query_failure(&e))?;
    refused.map_or(Ok(()), Err)
}

pub(super) fn input_schema(node: &LogicalPlan) -> DFSchemaRef {
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
            if !comparable(a, b) {
                return Some(incompatible(column, a, b));
            }
        }
    }
    None
}

fn incompatible(column: usize, a: &Field, b: &Field) -> Failure {
    let (column, a, b) = (column + 1, name(a), name(b));
    Failure::invalid_query(format!("Column {column} in a set operation has incompatible types: {a}, {b}"))
}

/// Clauses that compare rows, which not every type lets them.
fn check_node(node: &LogicalPlan, schema: &DFSchemaRef) -> Outcome<()> {
    match node {
        LogicalPlan::Sort(sort) => sort.expr.iter().try_for_each(|key| check_key(&key.expr, schema)),
        LogicalPlan::Join(join) => join.on.iter().enumerate().try_for_each(|(at, (left, right))| {
            let (left, right) = (field_of(left, join.left.schema()), field_of(right, join.right.schema()));
            match (left, right) {
                (Some(a), Some(b)) if !comparable(&a, &b) => Err(match join.join_type {
                    // So EXCEPT and INTERSECT are planned.
                    JoinType::LeftAnti | JoinType::LeftSemi => incompatible(at, &a, &b),
                    _ => no_signature("=", &name(&a), &name(&b)),
                }),
                _ => Ok(()),
            }
        }),
        LogicalPlan::Aggregate(aggregate) => check_grouping("Grouping", &aggregate.group_expr, schema),
        LogicalPlan::Distinct(_) => schema.fields().iter().try_for_each(|field| match equality(field) {
            Equality::Undefined(kind) => Err(Failure::invalid_query(format!(
                "Column {} of type {} cannot be used in SELECT DISTINCT",
                field.name(),
                kind.sql()
            ))),
            Equality::Defined => Ok(()),
        }),
        _ => Ok(()),
    }
}

fn check_key(key: &Expr, schema: &DFSchemaRef) -> Outcome<()> {
    match incomparable(key, schema) {
        Some(given) => {
            Err(Failure::invalid_query(format!("ORDER BY does not support expressions of type {given}")))
        }
        None => Ok(()),
    }
}

fn check_grouping(what: &str, keys: &[Expr], schema: &DFSchemaRef) -> Outcome<()> {
    keys.iter().try_for_each(|key| match unequal(key, schema) {
        Some(kind) => {
            let kind = kind.sql();
            Err(Failure::invalid_query(format!("{what} by expressions of type {kind} is not allowed")))
        }
        None => Ok(()),
    })
}

enum Equality {
    Defined,
    Undefined(Kind),
}

/// JSON and GEOGRAPHY have no equality and no order.
fn equality(field: &Field) -> Equality {
    match field.data_type() {
        DataType::List(_) => Equality::Defined,
        _ => match Kind::of_field(field) {
            Some(kind @ (Kind::Json | Kind::Geography)) => Equality::Undefined(kind),
            _ => Equality::Defined,
        },
    }
}

/// With its metadata, which DataFusion forgets where one of several expressions is the result.
fn field_of(expr: &Expr, schema: &DFSchemaRef) -> Option<FieldRef> {
    let tagged = |e: &Expr| field_of(e, schema).filter(|field| !field.metadata().is_empty());
    let result = match expr {
        Expr::Case(case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            results.chain(case.else_expr.as_deref()).find_map(tagged)
        }
        Expr::ScalarFunction(function) if function.name() == "coalesce" => {
            function.args.iter().find_map(tagged)
        }
        _ => None,
    };
    result.or_else(|| Some(expr.to_field(schema.as_ref()).ok()?.1))
}

fn unequal(expr: &Expr, schema: &DFSchemaRef) -> Option<Kind> {
    match equality(field_of(expr, schema)?.as_ref()) {
        Equality::Defined => None,
        Equality::Undefined(kind) => Some(kind),
    }
}

/// The type of what is neither equal to anything nor less. Arrays can be grouped, but not compared.
fn incomparable(expr: &Expr, schema: &DFSchemaRef) -> Option<String> {
    let field = field_of(expr, schema)?;
    match (field.data_type(), equality(&field)) {
        (DataType::List(_), _) | (_, Equality::Undefined(_)) => Some(name(&field)),
        _ => None,
    }
}

fn check_expr(expr: &Expr, schema: &DFSchemaRef) -> Outcome<()> {
    // Whether both may become one type.
    let alike = |operator: &str, left: &Expr, right: &Expr| {
        let (Some(a), Some(b)) = (field_of(left, schema), field_of(right, schema)) else {
            return Ok(()); // the planner says what is wrong with it
        };
        fits(operator, (Some(left), &a), (Some(right), &b))
    };
    let pair = |operator: &str, left: &Expr, right: &Expr| {
        alike(operator, left, right)?;
        match (incomparable(left, schema), incomparable(right, schema)) {
            (Some(given), _) | (_, Some(given))
                if matches!(operator, "=" | "!=" | "IN" | "CASE" | "NULLIF") =>
            {
                Err(Failure::invalid_query(format!("Equality is not defined for arguments of type {given}")))
            }
            (Some(given), _) | (_, Some(given)) => Err(no_signature(operator, &given, &given)),
            (None, None) => Ok(()),
        }
    };
    let kind_is = |e: &Expr, wanted: Kind| {
        field_of(e, schema).is_none_or(|field| is_null(field.data_type()) || kind_of(&field) == Some(wanted))
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
                    if let Some(found) = field_of(side, schema)
                        && !kind_is(side, Kind::Bool)
                    {
                        return Err(no_signature(&op.to_string(), &name(&found), "BOOL"));
                    }
                }
                Ok(())
            }
            Operator::StringConcat => {
                let (Some(a), Some(b)) = (field_of(left, schema), field_of(right, schema)) else {
                    return Ok(());
                };
                match kind_is(left, Kind::String) && kind_is(right, Kind::String) {
                    true => Ok(()),
                    false => Err(no_signature("||", &name(&a), &name(&b))),
                }
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
        Expr::Like(Like { expr, pattern, .. }) => {
            pair("LIKE", expr, pattern)?;
            match field_of(expr, schema).and_then(|field| kind_of(&field)) {
                Some(Kind::Bytes) => {
                    Err(Failure::unsupported_sql("LIKE on BYTES with a pattern that is no literal"))
                }
                _ => Ok(()),
            }
        }
        Expr::Case(case) => {
            if case.expr.is_none()
                && let Some(found) = case.when_then_expr.iter().find(|(when, _)| !kind_is(when, Kind::Bool))
                && let Some(found) = field_of(&found.0, schema)
            {
                let found = name(&found);
                return Err(Failure::invalid_query(format!(
                    "A condition of IF or CASE should return type BOOL, but returns {found}"
                )));
            }
            let mut results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            if let Some(first) = results.next() {
                results.chain(case.else_expr.as_deref()).try_for_each(|e| alike("CASE", first, e))?;
            }
            match &case.expr {
                Some(operand) => {
                    case.when_then_expr.iter().try_for_each(|(when, _)| pair("CASE", operand, when))
                }
                None => Ok(()),
            }
        }
        // DataFusion does not look at what orders or filters an aggregate.
        Expr::ScalarFunction(function) if arguments::is_check(&function.func) => {
            expr.to_field(schema.as_ref()).map(drop).map_err(|e| query_failure(&e))
        }
        Expr::ScalarFunction(function) => {
            let (name, args) = (function.name(), function.args.as_slice());
            match name {
                "coalesce" => match args.split_first() {
                    Some((first, rest)) => rest.iter().try_for_each(|e| alike("COALESCE", first, e)),
                    None => Ok(()),
                },
                "nullif" | "greatest" | "least" => match args.split_first() {
                    Some((first, rest)) => rest.iter().try_for_each(|e| pair(&name.to_uppercase(), first, e)),
                    None => Ok(()),
                },
                "upper" | "lower" | "btrim" | "ltrim" | "rtrim" | "replace" | "reverse" | "starts_with"
                | "ends_with" | "regexp_like" | "character_length" | "strpos" => {
                    let other = |e: &&Expr| !kind_is(e, Kind::String);
                    match args.iter().find(other).and_then(|e| field_of(e, schema)) {
                        Some(found) => Err(Failure::invalid_query(format!(
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
        Expr::InSubquery(within) => {
            let item = within.subquery.subquery.schema().fields().first();
            let found = item.map(|field| equality(field));
            let found = match (unequal(&within.expr, schema), found) {
                (Some(kind), _) | (None, Some(Equality::Undefined(kind))) => kind.sql(),
                _ => {
                    return match (item, field_of(&within.expr, schema)) {
                        (Some(item), Some(given)) => fits("IN", (Some(&within.expr), &given), (None, item)),
                        _ => Ok(()),
                    };
                }
            };
            Err(Failure::invalid_query(format!("Equality is not defined for arguments of type {found}")))
        }
        Expr::AggregateFunction(aggregate) => {
            let params = &aggregate.params;
            let found = params.args.iter().find_map(|arg| unequal(arg, schema));
            match (found, aggregate.func.name()) {
                (Some(kind), function @ ("min" | "max")) => Err(Failure::invalid_query(format!(
                    "{} is not defined for arguments of type {}",
                    function.to_uppercase(),
                    kind.sql()
                ))),
                (Some(kind), _) if params.distinct => Err(Failure::invalid_query(format!(
                    "Aggregate functions with DISTINCT cannot be used with arguments of type {}",
                    kind.sql()
                ))),
                _ => params.order_by.iter().try_for_each(|key| check_key(&key.expr, schema)),
            }
        }
        Expr::WindowFunction(window) => {
            check_grouping("Partitioning", &window.params.partition_by, schema)?;
            check_frame(&window.params, schema)?;
            window.params.order_by.iter().try_for_each(|key| check_key(&key.expr, schema))
        }
        _ => Ok(()),
    }
}

/// Whether two values may become one type; of the rows of a query there is no expression.
fn fits(operator: &str, left: (Option<&Expr>, &Field), right: (Option<&Expr>, &Field)) -> Outcome<()> {
    // A literal text takes the type of the other side when that is a date or time.
    let literal_text =
        |(e, f): (Option<&Expr>, &Field)| e.is_some_and(is_literal) && kind_of(f) == Some(Kind::String);
    let coerced =
        |f: &Field| matches!(kind_of(f), Some(Kind::Date | Kind::Timestamp | Kind::DateTime | Kind::Time));
    let (a, b) = (left.1, right.1);
    match comparable(a, b) || (literal_text(left) && coerced(b)) || (literal_text(right) && coerced(a)) {
        true => Ok(()),
        false => Err(no_signature(operator, &name(a), &name(b))),
    }
}

/// Only numbers can be a distance apart.
fn check_frame(window: &WindowFunctionParams, schema: &DFSchemaRef) -> Outcome<()> {
    let has_offset = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => !by.is_null(),
        WindowFrameBound::CurrentRow => false,
    };
    let frame = &window.window_frame;
    if frame.units != WindowFrameUnits::Range
        || !(has_offset(&frame.start_bound) || has_offset(&frame.end_bound))
    {
        return Ok(());
    }
    match window.order_by.iter().find_map(|key| field_of(&key.expr, schema).filter(|f| !is_number(f))) {
        Some(found) => Err(Failure::invalid_query(format!(
            "A RANGE window frame with an offset needs a numeric ORDER BY key, not one of type {}",
            name(&found)
        ))),
        None => Ok(()),
    }
}

fn is_number(field: &Field) -> bool {
    matches!(kind_of(field), Some(Kind::Int64 | Kind::Float64 | Kind::Numeric | Kind::BigNumeric))
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

fn is_null(data_type: &DataType) -> bool {
    *data_type == DataType::Null
}

/// Of an array there is no kind.
fn kind_of(field: &Field) -> Option<Kind> {
    match field.data_type() {
        DataType::List(_) => None,
        _ => Kind::of_field(field),
    }
}

fn comparable(a: &Field, b: &Field) -> bool {
    let number = |k: Kind| matches!(k, Kind::Int64 | Kind::Float64 | Kind::Numeric | Kind::BigNumeric);
    let (types, kinds) = ((a.data_type(), b.data_type()), (kind_of(a), kind_of(b)));
    match kinds {
        (Some(a), Some(b)) => a == b || (number(a) && number(b)),
        // NULL goes with everything; nested types are left to the planner.
        _ => is_null(types.0) || is_null(types.1) || types.0 == types.1,
    }
}

fn no_signature(operator: &str, a: &str, b: &str) -> Failure {
    Failure::invalid_query(format!(
        "No matching signature for operator {operator} for argument types: {a}, {b}"
    ))
}

fn name(field: &Field) -> String {
    kind_of(field).map_or_else(|| signature_name(field.data_type()), |kind| kind.sql().to_owned())
}
