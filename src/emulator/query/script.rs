//! Scripts: statements one after the other, each a job of its own under the script's.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::execute::{Output, Runner, target};
use super::scope::Scope;
use super::statements::{Parsed, Statement};
use crate::emulator::Emulator;
use crate::emulator::catalog::DatasetDocument;
use crate::emulator::destination::Destination;
use crate::emulator::jobs::{Job, JobDocument, State};
use crate::emulator::names::{DatasetId, JobId, TableId, TableName, hex};
use crate::emulator::run::{anonymous, blocking};
use crate::emulator::wire::{Failure, Outcome, now_ms};

/// A bound of our own: every statement is a job that is kept.
const STATEMENTS_MAX: usize = 1000;

/// Runs all statements; the first that fails ends the script, and what went before it stays.
pub(super) async fn run(runner: &Runner, parsed: Vec<Parsed>) -> Outcome<Value> {
    if parsed.len() > STATEMENTS_MAX {
        return Err(Failure::invalid_query(format!("A script has more than {STATEMENTS_MAX} statements")));
    }
    let mut scope = Scope::with_functions(&parsed)?;
    let outcome = run_all(runner, parsed, &mut scope).await;
    // All in one dataset.
    if let Some(TableName { project, dataset, .. }) = scope.temporary.into_values().next() {
        let emulator = Arc::clone(&runner.emulator);
        blocking(move || {
            let Emulator { catalog, jobs, .. } = emulator.as_ref();
            match catalog.delete_dataset(&project, &dataset, true, |_, commits| jobs.attest(commits)) {
                Err(failure) if failure.code != 404 => Err(failure),
                _ => Ok(()),
            }
        })
        .await?;
    }
    outcome
}

async fn run_all(runner: &Runner, parsed: Vec<Parsed>, scope: &mut Scope) -> Outcome<Value> {
    let (mut bytes, mut billed) = (0_u64, 0_u64);
    let is_job = |p: &Parsed| !matches!(p.statement, Statement::CreateFunction(_));
    let parsed: Vec<Parsed> = parsed.into_iter().filter(is_job).collect();
    let count = parsed.len();
    for (number, Parsed { mut statement, text }) in parsed.into_iter().enumerate() {
        if (runner.cancelled)() {
            return Err(Failure::stopped());
        }
        if let Statement::CreateTable(create) = &mut statement
            && create.temporary
        {
            let name = temporary_table(runner, scope, &create.name).await?;
            create.temporary = false;
            create.name = full_name(&name);
        }
        let (job, destination) = child(runner, scope, &statement, &text, number).await?;
        let child = Runner { document: Arc::new(job.document()), ..runner.clone() };
        job.start();
        let outcome = child.statement(statement, scope, destination).await;
        let ended = outcome.clone();
        blocking(move || {
            job.finish(ended);
            Ok(())
        })
        .await?;
        let statistics = outcome?;
        let number_of = |member: &str| {
            statistics["query"][member].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        bytes = bytes.saturating_add(number_of("totalBytesProcessed"));
        billed = billed.saturating_add(number_of("totalBytesBilled"));
    }
    Ok(json!({
        "numChildJobs": count.to_string(),
        "totalBytesProcessed": bytes.to_string(),
        "query": {
            "statementType": "SCRIPT",
            "totalBytesProcessed": bytes.to_string(),
            "totalBytesBilled": billed.to_string(),
            "cacheHit": false,
        },
    }))
}

/// The job of one statement, and where its rows go.
async fn child(
    runner: &Runner,
    scope: &Scope,
    statement: &Statement,
    text: &str,
    number: usize,
) -> Outcome<(Arc<Job>, Option<Destination>)> {
    let parent = &runner.document;
    let mut document = JobDocument {
        id: JobId::parse(&format!("script_job_{}_{number}", script_hash(parent)))?,
        configuration: json!({"jobType": "QUERY", "query": {"query": text, "useLegacySql": false}}),
        state: State::Pending,
        created_ms: now_ms(),
        started_ms: None,
        ended_ms: None,
        failure: None,
        statistics: Value::Null,
        destination: None,
        dataset: None,
        removal: None,
        parent: Some(parent.id.clone()),
        ..JobDocument::clone(parent)
    };
    let destination = match statement {
        Statement::Select(_) => Some(anonymous(&runner.emulator, &mut document)?),
        other => {
            match target(runner.environment(scope), other) {
                Output::Table(name) => {
                    document.configuration["query"]["destinationTable"] = name.reference();
                    document.destination = Some(name);
                }
                Output::Dataset(project, id) => document.dataset = Some((project, id)),
                Output::Rows | Output::Other => {}
            }
            None
        }
    };
    if let Some(destination) = &destination {
        document.destination = Some(destination.address.name.clone());
    }
    let emulator = Arc::clone(&runner.emulator);
    let job = blocking(move || emulator.jobs.create(document)).await?;
    Ok((job, destination))
}

fn script_hash(parent: &JobDocument) -> String {
    let hash = hex(&Sha256::digest(parent.full_id().as_bytes()));
    hash.get(..32).unwrap_or(&hash).to_owned()
}

/// A new table for this script alone, in a dataset that is not listed.
async fn temporary_table(runner: &Runner, scope: &mut Scope, name: &ObjectName) -> Outcome<TableName> {
    let id = match super::assign::name_parts(name).as_slice() {
        [id] => id.clone(),
        _ => {
            return Err(Failure::invalid_query(format!(
                "CREATE TEMPORARY TABLE {name}: a temporary table has no dataset"
            )));
        }
    };
    let name = TableName {
        project: runner.spec.project.clone(),
        dataset: DatasetId::of_script(&script_hash(&runner.document))?,
        table: TableId::parse(&id)?,
    };
    let (emulator, location): (Arc<Emulator>, String) =
        (Arc::clone(&runner.emulator), runner.document.location.clone());
    let (project, dataset) = (name.project.clone(), name.dataset.clone());
    blocking(move || {
        match emulator.catalog.insert_dataset(DatasetDocument::new(project, dataset, location)) {
            Err(failure) if failure.code != 409 => Err(failure),
            _ => Ok(()),
        }
    })
    .await?;
    scope.temporary.insert(id, name.clone());
    Ok(name)
}

fn full_name(name: &TableName) -> ObjectName {
    let part = |text: &str| Ident::with_quote('`', text);
    ObjectName::from(vec![
        part(name.project.as_str()),
        part(name.dataset.as_str()),
        part(name.table.as_str()),
    ])
}
