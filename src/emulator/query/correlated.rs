//! Subqueries that depend on the row they stand in, where DataFusion cannot turn them into joins: those over
//! an array of that row above all. They are planned once and run for each row, with the row's values bound.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, internal_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility, lit,
};
use datafusion::physical_plan::{ExecutionPlan, collect};
use tokio::runtime::Runtime;

use super::floats::keys::Key;
use super::wording::{exec_err, marked};

/// Answers that are remembered: rows often repeat the values that a subquery depends on.
const REMEMBERED_MAX: usize = 10_000;

/// The plan with such subqueries as functions of the columns that they depend on.
pub(super) fn bind_subqueries(plan: LogicalPlan, state: &SessionState, all: bool) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| {
        // Wide tables are many: schemas are only put together where there is a subquery.
        let mut has_subquery = false;
        node.apply_expressions(|expr| {
            has_subquery |= expr.exists(|e| Ok(subquery_of(e).is_some()))?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        if !has_subquery {
            return Ok(Transformed::no(node));
        }
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        let is_filter = matches!(node, LogicalPlan::Filter(_));
        node.map_expressions(|expr| {
            let bind = |expr: Expr, exactly: bool| {
                expr.transform_up(|e| match subquery_of(&e) {
                    Some(subquery)
                        if all
                            || (exactly && matches!(e, Expr::InSubquery(_)))
                            || depends_on_array(subquery)? =>
                    {
                        bound(e, &schema, state)
                    }
                    _ => Ok(Transformed::no(e)),
                })
            };
            if !is_filter {
                return bind(expr, false);
            }
            let conditions = split_conjunction_owned(expr).into_iter().map(|condition| {
                let exactly = !is_true_or_not(&condition);
                Ok(bind(condition, exactly)?.data)
            });
            let conditions = conditions.collect::<Result<Vec<_>>>()?;
            Ok(Transformed::yes(conjunction(conditions).unwrap_or_else(|| lit(true))))
        })?
        .map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(rewritten.data)
}

/// Whether an IN that is NULL makes a condition of WHERE what an IN that is FALSE makes of it. That is what it is
/// where DataFusion makes a join of it that marks rows.
fn is_true_or_not(condition: &Expr) -> bool {
    fn is_positive(expr: &Expr) -> bool {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
                is_positive(left) && is_positive(right)
            }
            Expr::InSubquery(within) => !within.negated,
            other => !other.exists(|e| Ok(matches!(e, Expr::InSubquery(_)))).unwrap_or(true),
        }
    }
    match condition {
        Expr::InSubquery(_) => true,
        Expr::Not(inner) if matches!(inner.as_ref(), Expr::InSubquery(_)) => true,
        other => is_positive(other),
    }
}

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    let subquery = match expr {
        Expr::ScalarSubquery(subquery) => subquery,
        Expr::Exists(exists) => &exists.subquery,
        Expr::InSubquery(within) => &within.subquery,
        _ => return None,
    };
    (!subquery.outer_ref_columns.is_empty()).then_some(subquery)
}

/// Whether rows come from an array of the outer row.
fn depends_on_array(subquery: &Subquery) -> Result<bool> {
    let mut found = false;
    subquery.subquery.apply_with_subqueries(|node| {
        if let LogicalPlan::Unnest(unnest) = node {
            unnest.input.apply(|below| {
                found |= below.contains_outer_reference();
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn bound(expr: Expr, schema: &DFSchema, state: &SessionState) -> Result<Transformed<Expr>> {
    let (subquery, asks, mut args) = match expr {
        Expr::ScalarSubquery(subquery) => (subquery, Asks::Value, Vec::new()),
        Expr::Exists(Exists { subquery, negated }) => (subquery, Asks::Exists { negated }, Vec::new()),
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            (subquery, Asks::In { negated }, vec![*expr])
        }
        other => return Ok(Transformed::no(other)),
    };
    // Each outer column once, in the order in which they are bound.
    let mut columns: Vec<(FieldRef, Column)> = Vec::new();
    subquery.subquery.apply_with_subqueries(|node| {
        node.apply_expressions(|e| {
            e.apply(|e| {
                if let Expr::OuterReferenceColumn(field, column) = e
                    && !columns.iter().any(|(_, known)| known == column)
                {
                    columns.push((Arc::clone(field), column.clone()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let result = match asks {
        Asks::Value => subquery.subquery.schema().field(0).data_type().clone(),
        Asks::Exists { .. } | Asks::In { .. } => DataType::Boolean,
    };
    let cells: Arc<Vec<Cell>> =
        Arc::new(columns.iter().map(|(field, _)| Cell::of(field.data_type())).collect());
    let bindings: HashMap<Column, usize> =
        columns.iter().enumerate().map(|(at, (_, column))| (column.clone(), at)).collect();
    let plan = subquery.subquery.as_ref().clone().transform_down_with_subqueries(|node| {
        // What only marks a subquery in FROM is of no use any more; one in an expression is no child.
        let node = node.map_children(|child| {
            Ok(match child {
                LogicalPlan::Subquery(inner) => Transformed::yes(Arc::unwrap_or_clone(inner.subquery)),
                other => Transformed::no(other),
            })
        })?;
        let node = node.data;
        node.map_expressions(|e| {
            e.transform_down(|e| {
                Ok(match &e {
                    Expr::OuterReferenceColumn(field, column) => match bindings.get(column) {
                        Some(at) => {
                            let value = BoundValue::new(Arc::clone(&cells), *at, field.data_type().clone());
                            let name = e.qualified_name();
                            let call = ScalarUDF::new_from_impl(value).call(Vec::new());
                            Transformed::yes(call.alias_qualified(name.0, name.1))
                        }
                        None => Transformed::no(e),
                    },
                    _ => Transformed::no(e),
                })
            })
        })
    })?;
    let plan = if let Asks::Exists { .. } = asks {
        LogicalPlanBuilder::from(plan.data).limit(0, Some(1))?.build()?
    } else {
        plan.data
    };
    for (_, column) in &columns {
        let inner = schema.maybe_index_of_column(column).is_some();
        args.push(match inner {
            true => Expr::Column(column.clone()),
            // It is of a query further out, which binds it in its turn.
            false => {
                let (field, column) = columns
                    .iter()
                    .find(|(_, c)| c == column)
                    .cloned()
                    .ok_or_else(|| DataFusionError::Internal("an outer column is lost".into()))?;
                Expr::OuterReferenceColumn(field, column)
            }
        });
    }
    for arg in &args {
        arg.get_type(schema)?;
    }
    let runner = Runner::new(plan, state, cells, asks, result)?;
    Ok(Transformed::yes(ScalarUDF::new_from_impl(runner).call(args)))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Asks {
    Value,
    Exists { negated: bool },
    In { negated: bool },
}

/// The value that an outer column has in the row at hand.
#[derive(Debug)]
struct Cell(Mutex<ScalarValue>);

impl Cell {
    fn of(data_type: &DataType) -> Cell {
        Cell(Mutex::new(ScalarValue::try_from(data_type).unwrap_or(ScalarValue::Null)))
    }

    fn get(&self) -> ScalarValue {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set(&self, value: ScalarValue) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = value;
    }
}

/// A function without arguments: an outer column within the subquery. Volatile, so that nobody computes it early.
#[derive(Debug)]
struct BoundValue {
    cells: Arc<Vec<Cell>>,
    at: usize,
    data_type: DataType,
    signature: Signature,
}

impl BoundValue {
    fn new(cells: Arc<Vec<Cell>>, at: usize, data_type: DataType) -> Self {
        BoundValue { cells, at, data_type, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl PartialEq for BoundValue {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cells, &other.cells) && self.at == other.at
    }
}

impl Eq for BoundValue {}

impl Hash for BoundValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.at.hash(state);
    }
}

impl ScalarUDFImpl for BoundValue {
    fn name(&self) -> &str {
        "bq_bound"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.cells.get(self.at) {
            Some(cell) => Ok(ColumnarValue::Scalar(cell.get())),
            None => internal_err!("an outer column is lost"),
        }
    }
}

/// Numbers subqueries. DataFusion takes two calls with the same arguments for one where their functions have
/// the same name and hash, whatever else tells these apart.
static SUBQUERIES: AtomicU64 = AtomicU64::new(0);

/// Runs the subquery for each row.
#[derive(Debug)]
struct Runner {
    name: String,
    plan: Arc<dyn ExecutionPlan>,
    state: SessionState,
    cells: Arc<Vec<Cell>>,
    asks: Asks,
    result: DataType,
    signature: Signature,
    /// One row at a time binds the cells; also what was answered before.
    answers: Mutex<HashMap<Vec<ScalarValue>, ScalarValue>>,
}

impl Runner {
    fn new(
        plan: LogicalPlan,
        state: &SessionState,
        cells: Arc<Vec<Cell>>,
        asks: Asks,
        result: DataType,
    ) -> Result<Self> {
        // Rows are few here: one thread, no exchange of rows between threads.
        let mut state = state.clone();
        state.config_mut().options_mut().execution.target_partitions = 1;
        let plan = state.optimize(&plan)?;
        super::filter::check_required_filters(&plan).map_err(|f| DataFusionError::Plan(marked(f.message)))?;
        let plan = super::guards::guard(plan)?;
        let plan = futures::executor::block_on(state.query_planner().create_physical_plan(&plan, &state))?;
        let signature =
            Signature::any(cells.len() + usize::from(matches!(asks, Asks::In { .. })), Volatility::Stable);
        let signature = if cells.is_empty() { Signature::nullary(Volatility::Stable) } else { signature };
        let name = format!("bq_subquery_{}", SUBQUERIES.fetch_add(1, Ordering::Relaxed));
        Ok(Runner { name, plan, state, cells, asks, result, signature, answers: Mutex::default() })
    }

    fn answer(&self, args: &[ScalarValue], runtime: &Runtime) -> Result<ScalarValue> {
        let outer = args.len() - self.cells.len();
        for (cell, value) in self.cells.iter().zip(&args[outer..]) {
            cell.set(value.clone());
        }
        // What a plan keeps from one run must not be in the next.
        let plan = datafusion::physical_plan::execution_plan::reset_plan_states(Arc::clone(&self.plan))?;
        let batches = runtime.block_on(collect(plan, self.state.task_ctx()))?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        match self.asks {
            Asks::Exists { negated } => Ok(ScalarValue::Boolean(Some((rows > 0) != negated))),
            Asks::Value if rows > 1 => exec_err!("Scalar subquery produced more than one element"),
            Asks::Value => match batches.iter().find(|b| b.num_rows() > 0) {
                Some(batch) => ScalarValue::try_from_array(batch.column(0), 0),
                None => ScalarValue::try_from(&self.result),
            },
            Asks::In { negated } => {
                let columns: Vec<&dyn Array> = batches.iter().map(|b| b.column(0).as_ref()).collect();
                let found = match columns.as_slice() {
                    [] => Some(false),
                    columns => is_in(&args[0], &concat(columns)?)?,
                };
                Ok(ScalarValue::Boolean(found.map(|found| found != negated)))
            }
        }
    }
}

fn is_in(value: &ScalarValue, items: &ArrayRef) -> Result<Option<bool>> {
    if items.is_empty() {
        return Ok(Some(false));
    }
    let value = Key::Below.of_array(&cast(&value.to_array()?, items.data_type())?);
    let equal: BooleanArray = datafusion::arrow::compute::kernels::cmp::eq(
        &Key::Above.of_array(items),
        &datafusion::arrow::array::Scalar::new(value),
    )?;
    Ok(if equal.true_count() > 0 {
        Some(true)
    } else if equal.null_count() > 0 {
        None
    } else {
        Some(false)
    })
}

impl PartialEq for Runner {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
    }
}

impl Eq for Runner {}

impl Hash for Runner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cells.len().hash(state);
    }
}

impl ScalarUDFImpl for Runner {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays: Vec<ArrayRef> = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<_>>()?;
        let run = || -> Result<ArrayRef> {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            let mut answers = self.answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut values = Vec::with_capacity(rows);
            for row in 0..rows {
                let key: Vec<ScalarValue> =
                    arrays.iter().map(|a| ScalarValue::try_from_array(a, row)).collect::<Result<_>>()?;
                if let Some(known) = answers.get(&key) {
                    values.push(known.clone());
                    continue;
                }
                let value = self.answer(&key, &runtime)?;
                if answers.len() >= REMEMBERED_MAX {
                    answers.clear();
                }
                answers.insert(key, value.clone());
                values.push(value);
            }
            match values.is_empty() {
                true => Ok(new_null_array(&self.result, 0)),
                false => ScalarValue::iter_to_array(values),
            }
        };
        // A thread and a runtime of its own: those of the query may not wait for a plan.
        let result = std::thread::scope(|scope| {
            scope.spawn(run).join().unwrap_or_else(|_| exec_err!("a subquery died"))
        })?;
        Ok(ColumnarValue::Array(result))
    }
}
