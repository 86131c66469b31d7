//! EXISTS and IN over a query that no outer row changes, where their answer is a value: in the SELECT list, in
//! CASE, under OR. DataFusion runs them only as conditions that rows pass or do not, where NULL is FALSE.
//!
//! Such a query is run once: to one row for EXISTS, to one array for IN.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray};
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue, Spans, internal_err};
use datafusion::functions_aggregate::expr_fn::{array_agg, count};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Subquery, Volatility, lit,
};

use super::library::supertype;
use super::positions::as_type;

/// The plan with such conditions as values.
pub(super) fn as_values(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        // Wide tables are many: schemas are only put together where there is a subquery.
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= expr.exists(|e| Ok(is_uncorrelated(e)))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !found {
            return Ok(Transformed::no(node));
        }
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        let is_filter = matches!(node, LogicalPlan::Filter(_));
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            if is_filter {
                let conditions = split_conjunction_owned(expr).into_iter().map(|condition| {
                    match is_plain_condition(&condition) {
                        true => Ok(condition),
                        false => Ok(condition.transform_up(|e| as_value(e, &schema))?.data),
                    }
                });
                let conditions = conditions.collect::<Result<Vec<_>>>()?;
                return Ok(Transformed::yes(conjunction(conditions).unwrap_or_else(|| lit(true))));
            }
            let name = names.save(&expr);
            Ok(expr.transform_up(|e| as_value(e, &schema))?.update_data(|e| name.restore(e)))
        })?
        .map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(rewritten.data)
}

fn is_uncorrelated(expr: &Expr) -> bool {
    match expr {
        Expr::Exists(Exists { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. }) => {
            subquery.outer_ref_columns.is_empty()
        }
        _ => false,
    }
}

/// A condition of WHERE that DataFusion makes a join of.
fn is_plain_condition(expr: &Expr) -> bool {
    match expr {
        Expr::Not(inner) => is_uncorrelated(inner),
        other => is_uncorrelated(other),
    }
}

fn as_value(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::Exists(Exists { subquery, negated }) if subquery.outer_ref_columns.is_empty() => {
            let rows = LogicalPlanBuilder::from(subquery.subquery)
                .limit(0, Some(1))?
                .aggregate(Vec::<Expr>::new(), vec![count(lit(1)).alias("rows")])?
                .build()?;
            let wanted = lit(i64::from(!negated));
            Transformed::yes(scalar(rows, subquery.spans).eq(wanted))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) if subquery.outer_ref_columns.is_empty() => {
            let Some(item) = subquery.subquery.schema().columns().into_iter().next() else {
                return internal_err!("IN over a query without columns");
            };
            let given = expr.get_type(schema)?;
            let item_type = subquery.subquery.schema().field(0).data_type().clone();
            // A literal text that is compared with a date becomes one.
            let common = match supertype([&given, &item_type]).unwrap_or(item_type) {
                DataType::Null => DataType::Int64,
                common => common,
            };
            let items = LogicalPlanBuilder::from(subquery.subquery)
                .project(vec![as_type(Expr::Column(item), &common).alias("item")])?
                .aggregate(Vec::<Expr>::new(), vec![array_agg(datafusion::prelude::col("item"))])?
                .build()?;
            let args = vec![as_type(*expr, &common), scalar(items, subquery.spans)];
            let within = ScalarUDF::new_from_impl(Within::default()).call(args);
            Transformed::yes(if negated { Expr::Not(Box::new(within)) } else { within })
        }
        other => Transformed::no(other),
    })
}

fn scalar(plan: LogicalPlan, spans: Spans) -> Expr {
    Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns: Vec::new(), spans })
}

/// `x IN (rows)`, the rows as one array: TRUE when one is equal, else NULL when x or one of them is, else FALSE.
#[derive(Debug)]
struct Within {
    signature: Signature,
    /// What was made of the array last; all batches of a query come with the same.
    known: Mutex<Option<(Arc<ListArray>, Arc<Items>)>>,
}

impl Default for Within {
    fn default() -> Self {
        Within { signature: Signature::any(2, Volatility::Immutable), known: Mutex::default() }
    }
}

impl PartialEq for Within {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Within {}

impl Hash for Within {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

#[derive(Debug)]
struct Items {
    converter: RowConverter,
    rows: HashSet<OwnedRow>,
    has_null: bool,
}

impl Items {
    fn new(list: &ListArray) -> Result<Items> {
        let items = match list.is_empty() || list.is_null(0) {
            true => list.values().slice(0, 0),
            false => list.value(0),
        };
        let has_null = items.logical_null_count() > 0;
        let items = comparable(&items, true)?;
        let converter = RowConverter::new(vec![SortField::new(items.data_type().clone())])?;
        let rows = converter.convert_columns(&[Arc::clone(&items)])?;
        let rows = (0..items.len()).filter(|row| items.is_valid(*row)).map(|row| rows.row(row).owned());
        let rows = rows.collect();
        Ok(Items { converter, rows, has_null })
    }

    fn contain(&self, values: &ArrayRef) -> Result<BooleanArray> {
        let values = comparable(values, false)?;
        let nulls = values.logical_nulls();
        let rows = self.converter.convert_columns(&[values])?;
        let answer = |row: usize| {
            let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            match is_null {
                true => (self.rows.is_empty() && !self.has_null).then_some(false),
                false if self.rows.contains(&rows.row(row).owned()) => Some(true),
                false => (!self.has_null).then_some(false),
            }
        };
        Ok((0..rows.num_rows()).map(answer).collect())
    }
}

/// Values whose bytes are equal when they are: both zeros are one, and NaN, which equals nothing, may go.
fn comparable(values: &ArrayRef, drops_nan: bool) -> Result<ArrayRef> {
    if *values.data_type() != DataType::Float64 {
        return Ok(Arc::clone(values));
    }
    let floats = values.as_primitive::<Float64Type>();
    let floats = floats.unary::<_, Float64Type>(|value| if value == 0.0 { 0.0 } else { value });
    if !drops_nan {
        return Ok(Arc::new(floats));
    }
    let numbers: BooleanArray = floats.iter().map(|value| Some(!value.is_some_and(f64::is_nan))).collect();
    Ok(filter(&floats, &numbers)?)
}

impl ScalarUDFImpl for Within {
    fn name(&self) -> &str {
        "bq_within"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, items] = args.args.as_slice() else { return internal_err!("IN needs a value and rows") };
        let values = value.to_array(args.number_rows)?;
        match items {
            ColumnarValue::Scalar(ScalarValue::List(list)) => {
                let items = {
                    let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                    match known.as_ref().filter(|(of, _)| Arc::ptr_eq(of, list)) {
                        Some((_, items)) => Arc::clone(items),
                        None => {
                            let items = Arc::new(Items::new(list)?);
                            *known = Some((Arc::clone(list), Arc::clone(&items)));
                            items
                        }
                    }
                };
                Ok(ColumnarValue::Array(Arc::new(items.contain(&values)?)))
            }
            other => {
                let lists = other.to_array(args.number_rows)?;
                let mut found = Vec::with_capacity(args.number_rows);
                for row in 0..args.number_rows {
                    let items = Items::new(lists.slice(row, 1).as_list::<i32>())?;
                    found.push(items.contain(&values.slice(row, 1))?.iter().next().flatten());
                }
                Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(found))))
            }
        }
    }
}
