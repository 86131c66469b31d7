//! GoogleSQL: parsed with BigQuery's dialect, rewritten clause by clause, planned and run by DataFusion.
//!
//! Only what is on the lists of `rewrite`, `tables`, `expressions` and `calls` runs. DataFusion would accept
//! more, and sometimes with another meaning: integer division, NULLs last, concat() that skips NULL,
//! FOR SYSTEM_TIME AS OF ignored.

mod calls;
mod casts;
mod check;
mod dates;
mod expressions;
mod filter;
mod functions;
mod parameters;
mod rewrite;
mod prune;
mod scan;
mod tables;
pub(super) mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Field as ArrowField, Schema, SchemaRef};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlanStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::Parser;
use futures::StreamExt;
use serde_json::{Map, Value, json};

use self::parameters::Parameters;
use self::rewrite::Rewriter;
use super::Emulator;
use super::destination::{Destination, Disposition, Target};
use super::fields::{self, Field, Mode, arrow_schema};
use super::files::{RowsWriter, conform, same_name};
use super::names::{DatasetId, ProjectId};
use super::versions::Part;
use super::wire::{Failure, Outcome, integer, object, text};

/// What BigQuery bills at least: 10 MiB for each query that reads anything.
const BILLED_BYTES_MIN: u64 = 10 << 20;

/// `configuration.query`, or the body of jobs.query.
#[derive(Debug, Clone)]
pub(super) struct QuerySpec {
    sql: String,
    project: ProjectId,
    default_dataset: Option<(ProjectId, DatasetId)>,
    parameters: Parameters,
    bytes_billed_max: Option<u64>,
    /// A destination that was asked for.
    pub destination: Option<Destination>,
}

impl QuerySpec {
    pub(super) fn parse(query: &Map<String, Value>, project: &ProjectId) -> Outcome<Self> {
        let sql = text(query, "query").filter(|sql| !sql.trim().is_empty());
        let sql = sql.ok_or_else(|| Failure::invalid("Required parameter is missing: query"))?.to_owned();
        // BigQuery's own rule: a prefix in the text decides, then the flag, and without either it is legacy SQL.
        let prefix = sql.trim_start().lines().next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_legacy = match prefix.as_str() {
            "#legacysql" => true,
            "#standardsql" => false,
            _ => query.get("useLegacySql").and_then(Value::as_bool) != Some(false),
        };
        if is_legacy {
            return Err(Failure::not_implemented(
                "legacy SQL (useLegacySql is true unless a request says false)",
            ));
        }
        for member in ["userDefinedFunctionResources", "tableDefinitions", "scriptOptions"] {
            if query.get(member).is_some_and(|v| !v.is_null()) {
                return Err(Failure::not_implemented(member));
            }
        }
        let default_dataset = match object(query, "defaultDataset") {
            None => None,
            Some(dataset) => {
                let project = text(dataset, "projectId").unwrap_or(project.as_str());
                let id = text(dataset, "datasetId").ok_or_else(|| {
                    Failure::invalid("Required parameter is missing: defaultDataset.datasetId")
                })?;
                Some((ProjectId::parse(project)?, DatasetId::parse(id)?))
            }
        };
        let destination = object(query, "destinationTable")
            .map(|table| Destination::parse(query, table, project, Disposition::Empty))
            .transpose()?;
        Ok(QuerySpec {
            sql,
            project: project.clone(),
            default_dataset,
            parameters: Parameters::parse(query)?,
            bytes_billed_max: integer(query, "maximumBytesBilled")?.and_then(|n| u64::try_from(n).ok()),
            destination,
        })
    }
}

/// A query that is planned and may run.
#[derive(Debug)]
pub(super) struct Prepared {
    pub fields: Vec<Field>,
    plan: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    bytes: u64,
}

impl Prepared {
    pub(super) fn bytes_processed(&self) -> u64 {
        self.bytes
    }

    pub(super) fn schema_document(&self) -> Value {
        json!({"fields": fields::documents(&self.fields)})
    }

    fn bytes_billed(&self) -> u64 {
        match self.bytes {
            0 => 0,
            bytes => bytes.div_ceil(1 << 20).saturating_mul(1 << 20).max(BILLED_BYTES_MIN),
        }
    }

    /// `statistics.query` and its neighbours.
    pub(super) fn statistics(&self, dry_run: bool) -> Value {
        let bytes = self.bytes.to_string();
        let billed = if dry_run { 0 } else { self.bytes_billed() };
        let mut query = json!({
            "statementType": "SELECT",
            "totalBytesProcessed": bytes,
            "totalBytesBilled": billed.to_string(),
            "cacheHit": false,
        });
        if dry_run {
            query["schema"] = self.schema_document();
            query["totalBytesProcessedAccuracy"] = json!("PRECISE");
        }
        json!({"totalBytesProcessed": bytes, "query": query})
    }
}

/// Parses, checks and plans. All mistakes in the text of a query are found here.
pub(super) async fn prepare(emulator: &Emulator, spec: &QuerySpec, location: &str) -> Outcome<Prepared> {
    let query = parse(&spec.sql)?;
    let bytes = Arc::new(AtomicU64::new(0));
    let mut rewriter = Rewriter {
        catalog: &emulator.catalog,
        project: &spec.project,
        default_dataset: spec.default_dataset.as_ref(),
        location,
        parameters: &spec.parameters,
        now_us: chrono::Utc::now().timestamp_micros(),
        bytes: Arc::clone(&bytes),
        scans: Vec::new(),
        ctes: Vec::new(),
        positional: 0,
        merged: Vec::new(),
    };
    let (query, names) = rewriter.query(query)?;
    let scans = rewriter.scans;
    let context = session(emulator);
    for (index, scan) in scans.into_iter().enumerate() {
        let name = TableReference::bare(format!("#{index}"));
        context.register_table(name, scan).map_err(|e| query_failure(&e))?;
    }
    let statement = PlanStatement::Statement(Box::new(Statement::Query(Box::new(query))));
    let state = context.state();
    let plan = state.statement_to_plan(statement).await.map_err(|e| query_failure(&e))?;
    check::check_types(&plan)?;
    let plan = state.optimize(&plan).map_err(|e| query_failure(&e))?;
    filter::check_required_filters(&plan)?;
    let fields = output_fields(plan.schema().as_arrow(), &names)?;
    let plan =
        state.query_planner().create_physical_plan(&plan, &state).await.map_err(|e| query_failure(&e))?;
    let bytes = bytes.load(Ordering::Relaxed);
    let prepared = Prepared { fields, plan, task: context.task_ctx(), bytes };
    if let Some(max) = spec.bytes_billed_max.filter(|max| prepared.bytes_billed() > *max) {
        return Err(Failure::bytes_billed(format!(
            "Query exceeded limit for bytes billed: {max}. {} or higher required.",
            prepared.bytes_billed()
        )));
    }
    Ok(prepared)
}

/// Runs the plan into files of the target. Nothing is visible until the parts are committed.
pub(super) async fn write(
    prepared: Prepared,
    target: Arc<Target>,
    cancelled: impl Fn() -> bool + Send + Sync + 'static,
) -> Outcome<Vec<Part>> {
    let named = arrow_names(&prepared.fields, &prepared.plan.schema());
    let mut stream = execute_stream(prepared.plan, prepared.task).map_err(|e| query_failure(&e))?;
    let (sender, mut batches) = tokio::sync::mpsc::channel::<RecordBatch>(2);
    let writing = tokio::task::spawn_blocking(move || {
        let wanted = arrow_schema(&target.fields);
        let mut writer = RowsWriter::new(&target.dir, Arc::clone(&wanted), target.rule);
        while let Some(batch) = batches.blocking_recv() {
            let batch = conform(&batch, &wanted).map_err(|e| {
                Failure::invalid_query(format!("the result does not fit its destination: {e}"))
            })?;
            check_required(&batch, &target.fields)?;
            writer.write(&batch)?;
        }
        writer.finish()
    });
    let mut failure = None;
    while let Some(batch) = stream.next().await {
        if cancelled() {
            failure = Some(Failure::stopped());
            break;
        }
        let renamed = batch.and_then(|batch| {
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().to_vec();
            Ok(RecordBatch::try_new_with_options(Arc::clone(&named), columns, &options)?)
        });
        match renamed {
            Ok(batch) => {
                if sender.send(batch).await.is_err() {
                    break; // the writer failed and says why
                }
            }
            Err(error) => {
                failure = Some(query_failure(&error));
                break;
            }
        }
    }
    drop(sender);
    let written = writing.await.unwrap_or_else(|e| Err(Failure::backend(format!("the writer died: {e}"))));
    // Parts that were written are dropped here, and with them their files.
    match failure {
        Some(failure) => Err(failure),
        None => written,
    }
}

fn check_required(batch: &RecordBatch, fields: &[Field]) -> Outcome<()> {
    for (field, column) in fields.iter().zip(batch.columns()) {
        if field.mode == Mode::Required && column.logical_null_count() > 0 {
            return Err(Failure::invalid(format!("Required field {} cannot be null", field.name)));
        }
    }
    Ok(())
}

fn parse(sql: &str) -> Outcome<Query> {
    let statements = Parser::parse_sql(&BigQueryDialect {}, sql)
        .map_err(|e| Failure::invalid_query(format!("Syntax error: {e}")))?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(Statement::Query(query)), None) => Ok(*query),
        (Some(statement), None) => {
            let text = statement.to_string();
            let verb = text.split_whitespace().next().unwrap_or_default().to_uppercase();
            Err(Failure::unsupported_sql(format!("{verb} statements")))
        }
        (_, Some(_)) => Err(Failure::unsupported_sql("scripts of several statements")),
        (None, None) => Err(Failure::invalid_query("Syntax error: Unexpected end of statement")),
    }
}

/// A session of DataFusion with our functions and none of its own conveniences.
fn session(emulator: &Emulator) -> SessionContext {
    let mut config = emulator.engine.config();
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".into());
    let state = emulator.engine.state_builder(config).build();
    let context = SessionContext::new_with_state(state);
    for function in functions::all() {
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
    debug_assert!(fields.iter().all(|f| fields.iter().filter(|g| same_name(&g.name, &f.name)).count() == 1));
    Arc::new(Schema::new(fields.iter().zip(plan.fields()).map(renamed).collect::<Vec<_>>()))
}

/// DataFusion's errors in BigQuery's words where there are some.
fn query_failure(error: &DataFusionError) -> Failure {
    let root = error.find_root();
    match root {
        DataFusionError::ResourcesExhausted(message) => Failure {
            reason: "resourcesExceeded".into(),
            ..Failure::invalid_query(format!("Resources exceeded during query execution: {message}"))
        },
        DataFusionError::External(error) => Failure::backend(error.to_string()),
        DataFusionError::Plan(message) | DataFusionError::Execution(message) => {
            // What our functions say about their arguments comes wrapped in what DataFusion says about that.
            let own = message.rsplit("Error during planning: ").next().unwrap_or(message);
            let own = own.split(" No function matches the given name").next().unwrap_or(own);
            Failure::invalid_query(own)
        }
        DataFusionError::NotImplemented(what) => Failure::unsupported_sql(what),
        DataFusionError::SchemaError(error, _) => {
            use datafusion::common::SchemaError;
            match error.as_ref() {
                SchemaError::FieldNotFound { field, .. } => {
                    let name = field.flat_name().replace('"', "");
                    Failure::invalid_query(format!("Unrecognized name: {name}"))
                }
                SchemaError::AmbiguousReference { field } => {
                    Failure::invalid_query(format!("Column name {} is ambiguous", field.name))
                }
                other => Failure::invalid_query(other.to_string()),
            }
        }
        other => Failure::invalid_query(other.strip_backtrace()),
    }
}
