//! Statements that define: what they make, change or drop in the catalog, each in one durable step.

mod alter;
mod create;
mod drop;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::sql::sqlparser::ast::{Expr, ObjectName};
use serde_json::{Map, Value, json};

use super::execute::Runner;
use super::rewrite::call;
use super::scope::Scope;
use super::select::select;
use super::statements::{Statement, options};
use super::usage::Usage;
use super::{Cancelled, Environment, drain, prepare};
use crate::emulator::names::{DatasetId, ProjectId, TableName};
use crate::emulator::wire::{Failure, Outcome};

pub(super) async fn run(runner: &Runner, scope: &Scope, statement: Statement) -> Outcome<Value> {
    let kind = statement.kind();
    match statement {
        Statement::CreateTable(create) => create::table(runner, scope, kind, *create).await,
        Statement::CreateView(create) => create::view(runner, scope, *create).await,
        Statement::CreateSchema(create) => create::schema(runner, scope, create).await,
        Statement::Drop(drop) => drop::run(runner, scope, drop).await,
        Statement::Truncate(name) => drop::truncate(runner, scope, &name).await,
        Statement::Alter(alter) => alter::run(runner, scope, kind, alter).await,
        _ => Err(Failure::unsupported_sql(format!("{kind} here"))),
    }
}

/// What is known without doing it: names are checked, and queries planned.
pub(super) async fn dry_run(env: Environment<'_>, statement: Statement) -> Outcome<Value> {
    let kind = statement.kind();
    let target = statement.target().map(|name| env.rewriter().table_name(name)).transpose()?;
    if let Some(target) = &target {
        env.emulator.catalog.dataset(&target.project, &target.dataset)?;
    }
    let query = match statement {
        Statement::CreateTable(create) => create.query,
        Statement::CreateView(create) => Some(create.query),
        _ => None,
    };
    let mut statistics = match query {
        Some(query) => {
            let prepared = prepare(env, *query).await?;
            let mut statistics = Usage::of(&prepared.scans).statistics(kind, true);
            statistics["query"]["schema"] = prepared.schema_document();
            statistics
        }
        None => Usage::default().statistics(kind, true),
    };
    if let Some(target) = target {
        statistics["query"]["ddlTargetTable"] = target.reference();
    }
    Ok(statistics)
}

/// What a statement did, in the words of `statistics.query.ddlOperationPerformed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    /// IF EXISTS or IF NOT EXISTS said so.
    Skip,
    Replace,
    Drop,
    Alter,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Skip => "SKIP",
            Operation::Replace => "REPLACE",
            Operation::Drop => "DROP",
            Operation::Alter => "ALTER",
        }
    }
}

fn performed(mut statistics: Value, operation: Operation, target: &TableName) -> Value {
    statistics["query"]["ddlOperationPerformed"] = json!(operation.name());
    statistics["query"]["ddlTargetTable"] = target.reference();
    statistics
}

/// OPTIONS of a table or view as members of its document.
async fn table_options(
    env: Environment<'_>,
    list: &[(String, Expr)],
    body: &mut Map<String, Value>,
) -> Outcome<()> {
    for (name, expr) in list {
        let value = match options::constant(expr) {
            Some(value) => value,
            None if name == "expiration_timestamp" => json!(timestamp_ms(env, expr.clone()).await?),
            None => {
                return Err(Failure::unsupported_sql(format!("the option {name} with the value {expr}")));
            }
        };
        options::apply_table(body, name, value)?;
    }
    let Some(expiration) = body.shift_remove("partitionExpirationMs") else { return Ok(()) };
    match body.get_mut("timePartitioning") {
        Some(partitioning) => partitioning["expirationMs"] = expiration,
        None => {
            return Err(Failure::invalid_query(
                "partition_expiration_days can only be set on a table that is partitioned by time",
            ));
        }
    }
    Ok(())
}

/// The value of a TIMESTAMP expression, in milliseconds.
async fn timestamp_ms(env: Environment<'_>, expr: Expr) -> Outcome<i64> {
    // Rewritten like all of a query, also when the expression has a subquery or a parameter.
    let query = select(vec![call("UNIX_MILLIS", vec![expr])], Vec::new(), None)?;
    let prepared = prepare(env, query).await?;
    let never: Cancelled = std::sync::Arc::new(|| false);
    let value = drain(prepared, never, |next| {
        let batch = next().filter(|batch| batch.num_rows() == 1);
        Ok(batch.and_then(|b| {
            let column = b.column(0).as_primitive_opt::<Int64Type>()?;
            datafusion::arrow::array::Array::is_valid(column, 0).then(|| column.value(0))
        }))
    })
    .await?;
    value.ok_or_else(|| Failure::invalid_query("a TIMESTAMP value that is not NULL is expected"))
}

/// The dataset that a one- or two-part name says.
pub(super) fn dataset_name(env: Environment<'_>, name: &ObjectName) -> Outcome<(ProjectId, DatasetId)> {
    let parts: Vec<String> = super::assign::name_parts(name)
        .iter()
        .flat_map(|part| part.split('.').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    match parts.as_slice() {
        [dataset] => Ok((env.spec.project.clone(), DatasetId::parse(dataset)?)),
        [project @ .., dataset] if !project.is_empty() => {
            Ok((ProjectId::parse(&project.join("."))?, DatasetId::parse(dataset)?))
        }
        _ => Err(Failure::invalid_query("Syntax error: a dataset without a name")),
    }
}
