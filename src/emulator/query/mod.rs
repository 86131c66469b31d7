//! GoogleSQL: parsed with BigQuery's dialect, rewritten clause by clause, planned and run by DataFusion.
//!
//! Only what is on the lists of `rewrite`, `tables`, `expressions` and `calls` runs. DataFusion would accept
//! more, and sometimes with another meaning: integer division, NULLs last, concat() that skips NULL,
//! FOR SYSTEM_TIME AS OF ignored.

mod aggregates;
mod analytic;
mod answer;
mod arguments;
mod assign;
mod calls;
mod casts;
mod changes;
mod check;
mod clauses;
mod correlated;
mod ddl;
mod dml;
mod execute;
mod expressions;
mod filter;
mod floats;
mod functions;
mod grouping;
mod guards;
mod information_schema;
mod insert;
mod lateral;
mod library;
mod likes;
mod literals;
mod membership;
mod merge;
mod nested;
mod parameters;
mod positions;
mod prune;
mod recursion;
mod rewrite;
mod scan;
mod scope;
mod script;
mod select;
mod spec;
mod stars;
mod statements;
mod syntax;
mod tables;
mod threads;
#[cfg(test)]
mod tests;
mod types;
mod undeclared;
mod unnest;
mod usage;
pub(super) mod values;
mod views;
mod visible;
mod wide;
mod wildcard;
mod wording;

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::MemTable;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Query;
use futures::StreamExt;
use serde_json::{Value, json};

pub(super) use self::answer::Piece;
pub(super) use self::execute::Output;
pub(super) use self::parameters::parameters_as_text;
use self::rewrite::Rewriter;
use self::scan::ScanTable;
use self::scope::Scope;
pub(super) use self::spec::QuerySpec;
pub(super) use self::threads::{QueryThreads, answer, dry_run, location, output, run, view_document};
use self::wording::query_failure;
use super::Emulator;
use super::destination::Target;
use super::elements::check_arrays;
use super::fields::{self, Field, Mode, arrow_schema, fit_limits};
use super::files::{RowsWriter, conform};
use super::versions::Part;
use super::wire::{Failure, Outcome};

/// How often a running query looks whether it was asked to stop.
const CANCELLED_EVERY: Duration = Duration::from_millis(100);

/// Whether the job was asked to stop.
pub(super) type Cancelled = Arc<dyn Fn() -> bool + Send + Sync>;

/// Where a statement runs, and what the names in it stand for.
#[derive(Debug, Clone, Copy)]
struct Environment<'a> {
    emulator: &'a Emulator,
    spec: &'a QuerySpec,
    location: &'a str,
    scope: &'a Scope,
}

impl<'a> Environment<'a> {
    fn rewriter(&self) -> Rewriter<'a> {
        Rewriter {
            catalog: &self.emulator.catalog,
            project: &self.spec.project,
            default_dataset: self.spec.default_dataset.as_ref(),
            location: self.location,
            parameters: &self.spec.parameters,
            scope: self.scope,
            now_us: chrono::Utc::now().timestamp_micros(),
            scans: Vec::new(),
            listings: Vec::new(),
            describes: false,
            views: Vec::new(),
            ctes: Vec::new(),
            relations: 0,
            positional: 0,
            scopes: Vec::new(),
            emulator: self.emulator,
        }
    }
}

/// A query that is planned and may run.
#[derive(Debug)]
struct Prepared {
    fields: Vec<Field>,
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    scans: Vec<Arc<ScanTable>>,
}

impl Prepared {
    fn schema_document(&self) -> Value {
        json!({"fields": fields::documents(&self.fields)})
    }

    /// Whether the `index`-th column is a NULL that no type is known of.
    fn is_untyped(&self, index: usize) -> bool {
        self.plan.schema().fields().get(index).is_some_and(|f| *f.data_type() == DataType::Null)
    }

    /// Refuses to run what would cost more than the request allows.
    fn check_bytes_billed(&self, spec: &QuerySpec) -> Outcome<()> {
        let billed = usage::Usage::of(&self.scans).bytes_billed();
        match spec.bytes_billed_max {
            Some(max) if billed > max => Err(Failure::bytes_billed(format!(
                "Query exceeded limit for bytes billed: {max}. {billed} or higher required."
            ))),
            _ => Ok(()),
        }
    }
}

/// Checks and plans. All mistakes in the text of a query are found here.
async fn prepare(env: Environment<'_>, query: Query) -> Outcome<Prepared> {
    let mut rewriter = env.rewriter();
    let (query, names) = rewriter.result(query)?;
    plan(env.emulator, rewriter, query, &names).await
}

/// The columns of a query's result.
async fn describe(env: Environment<'_>, query: Query) -> Outcome<Vec<Field>> {
    let mut rewriter = env.rewriter();
    rewriter.describes = true;
    let (query, names) = rewriter.result(query)?;
    Ok(plan(env.emulator, rewriter, query, &names).await?.fields)
}

/// What a query says, with none of its types brought to one another yet.
async fn logical(env: Environment<'_>, query: Query) -> Outcome<LogicalPlan> {
    let mut rewriter = env.rewriter();
    let (query, _) = rewriter.result(query)?;
    let context = context_of(env.emulator, &rewriter.scans, rewriter.listings)?;
    wide::logical_plan(&context.state(), query).await.map_err(|e| query_failure(&e))
}

/// A session that knows the tables of a rewritten query.
fn context_of(
    emulator: &Emulator,
    scans: &[Arc<ScanTable>],
    listings: Vec<MemTable>,
) -> Outcome<SessionContext> {
    let context = session(emulator);
    for (index, scan) in scans.iter().enumerate() {
        let name = TableReference::bare(format!("#{index}"));
        context.register_table(name, Arc::clone(scan) as _).map_err(|e| query_failure(&e))?;
    }
    for (index, listing) in listings.into_iter().enumerate() {
        let name = TableReference::bare(format!("#i{index}"));
        context.register_table(name, Arc::new(listing)).map_err(|e| query_failure(&e))?;
    }
    Ok(context)
}

/// Plans a query that is rewritten already.
async fn plan(
    emulator: &Emulator,
    rewriter: Rewriter<'_>,
    query: Query,
    names: &[String],
) -> Outcome<Prepared> {
    let Rewriter { scans, listings, describes, .. } = rewriter;
    let context = context_of(emulator, &scans, listings)?;
    let state = context.state();
    let plan = wide::logical_plan(&state, query).await.map_err(|e| query_failure(&e))?;
    check::check_types(&plan)?;
    let plan = positions::match_structs(plan)
        .and_then(lateral::unnest_laterals)
        .and_then(membership::as_values)
        .and_then(grouping::hide_constants)
        .map_err(|e| query_failure(&e))?;
    let bound = correlated::bind_subqueries(plan.clone(), &state, false).map_err(|e| query_failure(&e))?;
    let planned = match physical(&state, bound, names, describes).await? {
        Err(error) if is_unjoined(&error) => {
            let bound = correlated::bind_subqueries(plan, &state, true).map_err(|e| query_failure(&e))?;
            physical(&state, bound, names, describes).await?
        }
        planned => planned,
    };
    let (plan, fields) = planned.map_err(|e| query_failure(&e))?;
    Ok(Prepared { fields, plan, task: context.task_ctx(), scans })
}

/// DataFusion's words for a subquery that it cannot make a join of: at all, or for NOT IN with an outer column.
fn is_unjoined(error: &DataFusionError) -> bool {
    let said = error.to_string();
    ["Physical plan does not support logical expression", "null_aware anti join only supports single column"]
        .iter()
        .any(|words| said.contains(words))
}

/// The plan as it runs, and the columns of its result. What the planner says comes as it is.
async fn physical(
    state: &SessionState,
    plan: LogicalPlan,
    names: &[String],
    describes: bool,
) -> Outcome<datafusion::common::Result<(Arc<dyn ExecutionPlan>, Vec<Field>)>> {
    let plan = match state.optimize(&plan) {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(error)),
    };
    if !describes {
        filter::check_required_filters(&plan)?;
    }
    let fields = output_fields(plan.schema().as_arrow(), names)?;
    let plan = guards::guard(plan).map_err(|e| query_failure(&e))?;
    let planned = state.query_planner().create_physical_plan(&plan, state).await;
    Ok(planned.map(|plan| (plan, fields)))
}

/// Runs the plan and hands its batches to `take`, which may block. Columns have the names of `fields`.
async fn drain<T: Send + 'static>(
    prepared: Prepared,
    cancelled: Cancelled,
    take: impl FnOnce(&mut dyn FnMut() -> Option<RecordBatch>) -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let named = arrow_names(&prepared.fields, &prepared.plan.schema());
    let mut stream = execute_stream(prepared.plan, prepared.task).map_err(|e| query_failure(&e))?;
    let (sender, mut batches) = tokio::sync::mpsc::channel::<RecordBatch>(2);
    let taking = tokio::task::spawn_blocking(move || take(&mut || batches.blocking_recv()));
    let mut failure = None;
    // An operator may compute for minutes before its next batch: it is not waited for.
    let mut look = tokio::time::interval(CANCELLED_EVERY);
    loop {
        let batch = tokio::select! {
            batch = stream.next() => batch,
            _ = look.tick() => match cancelled() {
                true => {
                    failure = Some(Failure::stopped());
                    break;
                }
                false => continue,
            },
        };
        let Some(batch) = batch else { break };
        let renamed = batch.and_then(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().to_vec();
            Ok(RecordBatch::try_new_with_options(Arc::clone(&named), columns, &options)?)
        });
        match renamed {
            Ok(batch) => {
                if sender.send(batch).await.is_err() {
                    break; // the taker failed and says why
                }
            }
            Err(error) => {
                failure = Some(query_failure(&error));
                break;
            }
        }
    }
    drop(sender);
    let taken = taking.await.unwrap_or_else(|e| Err(Failure::backend(format!("the writer died: {e}"))));
    // Parts that were written are dropped here, and with them their files.
    match failure {
        Some(failure) => Err(failure),
        None => taken,
    }
}

/// Runs the plan into files of the target. Nothing is visible until the parts are committed.
async fn write(prepared: Prepared, target: Arc<Target>, cancelled: Cancelled) -> Outcome<Vec<Part>> {
    drain(prepared, cancelled, move |next| {
        let wanted = arrow_schema(&target.fields);
        let mut writer = RowsWriter::new(&target.dir, Arc::clone(&wanted), target.rule);
        while let Some(batch) = next() {
            // The schema of a table that was there was compared by name.
            let batch = if target.existed { batch } else { positions::stored_rows(&batch, &wanted)? };
            let batch = conform(&batch, &wanted)
                .map_err(|e| wording::unfit("the result does not fit its destination", &e))?;
            let batch = fit_values(batch, &target.fields)?;
            check_arrays(&batch).map_err(|failure| Failure::invalid_query(failure.message))?;
            writer.write(&batch)?;
        }
        writer.finish()
    })
    .await
}

/// What Arrow's types do not say of a column: REQUIRED, and the limits of STRING(n), NUMERIC(p, s) and their like.
fn fit_values(batch: RecordBatch, fields: &[Field]) -> Outcome<RecordBatch> {
    for (field, column) in fields.iter().zip(batch.columns()) {
        if field.mode == Mode::Required && column.logical_null_count() > 0 {
            return Err(Failure::invalid(format!("Required field {} cannot be null", field.name)));
        }
    }
    fit_limits(batch, fields)
}

/// A session of DataFusion with our functions and none of its own conveniences.
fn session(emulator: &Emulator) -> SessionContext {
    let mut config = emulator.engine.config();
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".into());
    let builder = emulator.engine.state_builder(config);
    let builder = builder.with_analyzer_rule(Arc::new(floats::FloatRule));
    let state = builder.with_physical_optimizer_rule(Arc::new(recursion::LimitRecursion)).build();
    let context = SessionContext::new_with_state(state);
    for function in functions::all().into_iter().chain(library::all()).chain(arguments::all()) {
        context.register_udf(function);
    }
    context
}

fn output_fields(schema: &Schema, names: &[String]) -> Outcome<Vec<Field>> {
    let mut fields = fields::fields_of(schema).map_err(|e| Failure::invalid_query(e.message))?;
    for (field, name) in fields.iter_mut().zip(names) {
        fields::check_name(name).map_err(|e| Failure::invalid_query(e.message))?;
        field.name.clone_from(name);
    }
    Ok(fields)
}

/// The plan's own types under the result's names.
fn arrow_names(fields: &[Field], plan: &SchemaRef) -> SchemaRef {
    let renamed = |(field, column): (&Field, &Arc<ArrowField>)| {
        column.as_ref().clone().with_name(field.name.clone()).with_nullable(true)
    };
    Arc::new(Schema::new(fields.iter().zip(plan.fields()).map(renamed).collect::<Vec<_>>()))
}
