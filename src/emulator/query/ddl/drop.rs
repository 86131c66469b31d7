//! DROP and TRUNCATE.

use datafusion::sql::sqlparser::ast::ObjectName;
use serde_json::{Value, json};

use super::{Operation, dataset_name, performed};
use crate::emulator::catalog::Catalog;
use crate::emulator::jobs::Removal;
use crate::emulator::query::changes::{Counts, check_target};
use crate::emulator::query::execute::Runner;
use crate::emulator::query::scope::Scope;
use crate::emulator::query::statements::{Drop, DropKind};
use crate::emulator::query::usage::Usage;
use crate::emulator::versions::Definition;
use crate::emulator::wire::{Failure, Outcome};

pub(super) async fn run(runner: &Runner, scope: &Scope, drop: Drop) -> Outcome<Value> {
    let env = runner.environment(scope);
    let Drop { kind, if_exists, name, cascade } = drop;
    let statistics = Usage::default().statistics(kind.statement_type(), false);
    if kind == DropKind::Schema {
        let (project, id) = dataset_name(env, &name)?;
        let mut statistics = statistics;
        statistics["query"]["ddlTargetDataset"] =
            json!({"projectId": project.as_str(), "datasetId": id.as_str()});
        let with = move |operation: Operation| {
            let mut statistics = statistics.clone();
            statistics["query"]["ddlOperationPerformed"] = json!(operation.name());
            statistics
        };
        return dropped(runner, if_exists, with, move |runner, catalog, statistics| {
            catalog.delete_dataset(&project, &id, cascade, |document, commits| {
                let birth = document.birth.clone();
                runner.take_away(Removal { birth, moved_to: None, statistics }, commits)
            })
        })
        .await;
    }
    let name = env.rewriter().table_name(&name)?;
    let target = name.clone();
    let with = move |operation| performed(statistics.clone(), operation, &target);
    dropped(runner, if_exists, with, move |runner, catalog, statistics| {
        catalog.delete_table(&name, |version| {
            check_kind(&version.definition, kind)?;
            let birth = version.definition.birth.clone();
            runner.take_away(Removal { birth, moved_to: None, statistics }, &version.commits)
        })
    })
    .await
}

/// Drops by `work`, which is to note the statistics with what it takes away.
async fn dropped(
    runner: &Runner,
    if_exists: bool,
    with: impl Fn(Operation) -> Value,
    work: impl FnOnce(&Runner, &Catalog, Value) -> Outcome<()> + Send + 'static,
) -> Outcome<Value> {
    let (statistics, taking) = (with(Operation::Drop), runner.clone());
    let noted = statistics.clone();
    match runner.commit(Value::Null, move |catalog, _, _| work(&taking, catalog, noted)).await {
        Ok(()) => Ok(statistics),
        Err(failure) if failure.code == 404 && if_exists => Ok(with(Operation::Skip)),
        Err(failure) => Err(failure),
    }
}

fn check_kind(definition: &Definition, kind: DropKind) -> Outcome<()> {
    let wanted = match kind {
        DropKind::View => "VIEW",
        DropKind::Snapshot => "SNAPSHOT",
        DropKind::Table | DropKind::Schema => "TABLE",
    };
    let found = definition.kind();
    if found == wanted {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "{} is not allowed for this operation because it is currently a {found}.",
        definition.name.legacy()
    )))
}

pub(super) async fn truncate(runner: &Runner, scope: &Scope, name: &ObjectName) -> Outcome<Value> {
    let name = runner.environment(scope).rewriter().table_name(name)?;
    let statistics = Usage::default().statistics("TRUNCATE_TABLE", false);
    runner
        .commit(Value::Null, move |catalog, mut commit, settled| {
            catalog.table(&name)?.change(|version| {
                check_target(&version.definition)?;
                let deleted = version.parts.iter().map(|part| part.rows).sum();
                let counts = Counts { deleted, ..Counts::default() };
                let mut statistics = statistics;
                counts.document(&mut statistics["query"]);
                commit.statistics = statistics.clone();
                version.take_rows(None);
                version.commits.retain(|commit| !settled(commit));
                version.commits.push(commit);
                Ok(statistics)
            })
        })
        .await
}
