//! NaN and the two zeros as BigQuery has them.
//!
//! DataFusion compares FLOAT64 by bits: NaN is equal to NaN, and larger or smaller than all numbers by its
//! sign, which is an accident; -0.0 is less than 0.0. In BigQuery NaN is equal to nothing, comes first in
//! ORDER BY, is one group, and is the result of MIN and MAX wherever it occurs; there is one zero. Once the
//! types are known this rule puts [keys](keys::Key) in the place of values where these are compared. Other
//! types are left alone, and equality stays equality: a join on FLOAT64 is a hash join still.

mod compare;
pub(super) mod keys;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DFSchemaRef, NullEquality, Result};
use datafusion::logical_expr::expr::{AggregateFunction, Sort as SortKey, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, Join, JoinConstraint, LogicalPlan, Projection, Sort, Window,
    WindowFunctionDefinition,
};
use datafusion::optimizer::analyzer::AnalyzerRule;

use self::compare::{is_float, key_of, with_keys};
use self::keys::Key;

#[derive(Debug)]
pub(super) struct FloatRule;

impl AnalyzerRule for FloatRule {
    fn name(&self) -> &str {
        "bq_floats"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|node| with_keys(node)?.transform_data(clause))?.data)
    }
}

/// Clauses that compare rows.
fn clause(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Sort(Sort { expr, input, fetch }) => {
            let expr = sort_keys(expr, input.schema());
            Ok(Transformed::yes(LogicalPlan::Sort(Sort { expr, input, fetch })))
        }
        LogicalPlan::Distinct(Distinct::All(input)) if has_floats(input.schema()) => {
            let input = Arc::new(with_one_nan(input, |_| true)?);
            Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(input))))
        }
        LogicalPlan::Aggregate(node) if has_floats(node.input.schema()) || has_floats(&node.schema) => {
            aggregate(node).map(Transformed::yes)
        }
        LogicalPlan::Window(node) if has_floats(node.input.schema()) || has_floats(&node.schema) => {
            window(node).map(Transformed::yes)
        }
        LogicalPlan::Join(node) => join(node),
        other => Ok(Transformed::no(other)),
    }
}

fn has_floats(schema: &DFSchema) -> bool {
    schema.fields().iter().any(|field| *field.data_type() == DataType::Float64)
}

fn sort_keys(keys: Vec<SortKey>, schema: &DFSchema) -> Vec<SortKey> {
    let key = |key: SortKey| match is_float(&key.expr, schema) {
        true => SortKey { expr: key_of(Key::Below, key.expr, schema), ..key },
        false => key,
    };
    keys.into_iter().map(key).collect()
}

fn keys(exprs: Vec<Expr>, schema: &DFSchema) -> Vec<Expr> {
    let key = |expr: Expr| match is_float(&expr, schema) {
        true => key_of(Key::Below, expr, schema),
        false => expr,
    };
    exprs.into_iter().map(key).collect()
}

fn column(schema: &DFSchema, index: usize) -> Expr {
    Expr::Column(Column::from(schema.qualified_field(index)))
}

/// The same rows, with one NaN and one zero in the columns that are `wanted`.
fn with_one_nan(input: Arc<LogicalPlan>, wanted: impl Fn(usize) -> bool) -> Result<LogicalPlan> {
    let schema = input.schema();
    let exprs = schema.iter().enumerate().map(|(index, (relation, field))| {
        match wanted(index) && *field.data_type() == DataType::Float64 {
            true => Key::Below.of(column(schema, index)).alias_qualified(relation.cloned(), field.name()),
            false => column(schema, index),
        }
    });
    let exprs = exprs.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, input)?))
}

/// The columns of `schema` from a node in which those at `integers` are keys as integers.
fn values(node: LogicalPlan, schema: &DFSchemaRef, integers: &BTreeSet<usize>) -> Result<LogicalPlan> {
    if integers.is_empty() {
        return Ok(node);
    }
    let exprs = schema.iter().enumerate().map(|(index, (relation, field))| match integers.contains(&index) {
        true => Key::Value.of(column(schema, index)).alias_qualified(relation.cloned(), field.name()),
        false => column(schema, index),
    });
    let exprs = exprs.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(node))?))
}

/// DataFusion's MIN and MAX lose a NaN, or find it by its sign; those of integers have no such trouble.
fn integer_key(function: &str) -> Option<Key> {
    match function {
        "min" => Some(Key::IntegerBelow),
        "max" => Some(Key::IntegerAbove),
        _ => None,
    }
}

fn aggregate(node: Aggregate) -> Result<LogicalPlan> {
    let Aggregate { mut input, group_expr, aggr_expr, schema, .. } = node;
    let mut columns = BTreeSet::new();
    for expr in &group_expr {
        let keys = match expr {
            Expr::GroupingSet(set) => set.distinct_expr(),
            expr => vec![expr],
        };
        let grouped = keys.into_iter().filter_map(|key| match key {
            Expr::Column(column) => input.schema().maybe_index_of_column(column),
            _ => None,
        });
        columns
            .extend(grouped.filter(|index| *input.schema().field(*index).data_type() == DataType::Float64));
    }
    if !columns.is_empty() {
        input = Arc::new(with_one_nan(input, |index| columns.contains(&index))?);
    }
    let group = |expr: Expr| match &expr {
        Expr::Column(_) | Expr::GroupingSet(_) => expr,
        _ if is_float(&expr, input.schema()) => {
            let (relation, name) = expr.qualified_name();
            key_of(Key::Below, expr, input.schema()).alias_qualified(relation, name)
        }
        _ => expr,
    };
    let group_expr = group_expr.into_iter().map(group).collect();
    let first = schema.fields().len() - aggr_expr.len();
    let mut integers = BTreeSet::new();
    let mut functions = Vec::with_capacity(aggr_expr.len());
    for (index, expr) in (first..).zip(aggr_expr) {
        let Expr::AggregateFunction(AggregateFunction { func, mut params }) = expr.clone().unalias() else {
            functions.push(expr);
            continue;
        };
        let is_of_float = params.args.first().is_some_and(|arg| is_float(arg, input.schema()));
        match integer_key(func.name()).filter(|_| is_of_float) {
            Some(key) => {
                params.args = params.args.into_iter().map(|arg| key.of(arg)).collect();
                integers.insert(index);
            }
            None if params.distinct => params.args = keys(params.args, input.schema()),
            None => {}
        }
        params.order_by = sort_keys(params.order_by, input.schema());
        let function = Expr::AggregateFunction(AggregateFunction { func, params });
        functions.push(named(function, &schema, index));
    }
    let node = LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, functions)?);
    values(node, &schema, &integers)
}

fn window(node: Window) -> Result<LogicalPlan> {
    let Window { input, window_expr, schema, .. } = node;
    let first = schema.fields().len() - window_expr.len();
    let mut integers = BTreeSet::new();
    let mut functions = Vec::with_capacity(window_expr.len());
    for (index, expr) in (first..).zip(window_expr) {
        let Expr::WindowFunction(function) = expr.clone().unalias() else {
            functions.push(expr);
            continue;
        };
        let WindowFunction { fun, mut params, .. } = *function;
        let is_of_float = params.args.first().is_some_and(|arg| is_float(arg, input.schema()));
        let key = match &fun {
            WindowFunctionDefinition::AggregateUDF(function) if is_of_float => integer_key(function.name()),
            _ => None,
        };
        if let Some(key) = key {
            params.args = params.args.into_iter().map(|arg| key.of(arg)).collect();
            integers.insert(index);
        }
        params.partition_by = keys(params.partition_by, input.schema());
        params.order_by = sort_keys(params.order_by, input.schema());
        let function = WindowFunction { fun, params };
        functions.push(named(Expr::WindowFunction(Box::new(function)), &schema, index));
    }
    let node = LogicalPlan::Window(Window::try_new(functions, input)?);
    values(node, &schema, &integers)
}

/// Under the name that the rest of the plan knows it by.
fn named(expr: Expr, schema: &DFSchema, index: usize) -> Expr {
    let (relation, field) = schema.qualified_field(index);
    match expr.qualified_name() {
        (own, name) if own.as_ref() == relation && name == *field.name() => expr,
        _ => expr.alias_qualified(relation.cloned(), field.name()),
    }
}

fn join(mut node: Join) -> Result<Transformed<LogicalPlan>> {
    // EXCEPT and INTERSECT, to which all NaN are one as all NULL are.
    let is_set_operation = node.null_equality == NullEquality::NullEqualsNull;
    let right_key = if is_set_operation { Key::Below } else { Key::Above };
    let mut changed = false;
    let (left_schema, right_schema) = (node.left.schema(), node.right.schema());
    for (left, right) in &mut node.on {
        if is_float(left, left_schema) && is_float(right, right_schema) {
            *left = key_of(Key::Below, std::mem::take(left), left_schema);
            *right = key_of(right_key, std::mem::take(right), right_schema);
            changed = true;
        }
    }
    if changed {
        // USING is of columns only.
        node.join_constraint = JoinConstraint::On;
    }
    Ok(Transformed::new_transformed(LogicalPlan::Join(node), changed))
}
