//! Runs the statements of a query job.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::ObjectName;
use serde_json::{Value, json};

use super::changes::{self, Committed};
use super::dml::plan_dml;
use super::scope::Scope;
use super::statements::{self, Parsed, Statement};
use super::usage::Usage;
use super::{Cancelled, Environment, QuerySpec, ddl, prepare, script, undeclared, write};
use crate::emulator::Emulator;
use crate::emulator::destination::Destination;
use crate::emulator::jobs::{JobDocument, Removal};
use crate::emulator::names::{DatasetId, ProjectId, TableName};
use crate::emulator::run::{blocking, commit_rows};
use crate::emulator::versions::Commit;
use crate::emulator::wire::{Failure, Outcome};

/// How often a statement starts over because others changed its table; each time one of them got on.
const OVERTAKEN_MAX: usize = 50;

/// What a query job leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::emulator) enum Output {
    /// Rows, in a table of the job's own.
    Rows,
    /// A table that was made or changed.
    Table(TableName),
    /// A dataset that was made, changed or dropped.
    Dataset(ProjectId, DatasetId),
    /// Nothing that has a name, or several things.
    Other,
}

/// Told before the job exists. A text with a mistake in it is taken for a query, and fails as one.
pub(super) fn output(emulator: &Emulator, spec: &QuerySpec) -> Output {
    let Ok(statements) = statements::parse(&spec.sql) else { return Output::Rows };
    match single(&statements) {
        Some(Statement::Select(_)) => Output::Rows,
        Some(statement) => {
            let scope = Scope::default();
            let env = Environment { emulator, spec, location: "", scope: &scope };
            target(env, statement)
        }
        None => Output::Other,
    }
}

/// What a statement that is no query makes or changes.
pub(super) fn target(env: Environment<'_>, statement: &Statement) -> Output {
    let table = statement.target().and_then(|name| env.rewriter().table_name(name).ok());
    let dataset = || ddl::dataset_name(env, statement.schema()?).ok();
    match table {
        Some(name) => Output::Table(name),
        None => dataset().map_or(Output::Other, |(project, id)| Output::Dataset(project, id)),
    }
}

/// Where a query runs that does not say it: where the first dataset is that it names.
pub(super) fn location(emulator: &Emulator, spec: &QuerySpec) -> String {
    let scope = Scope::default();
    let env = Environment { emulator, spec, location: "", scope: &scope };
    let located = |name: &ObjectName| {
        let table = env.rewriter().table_name(name).ok()?;
        Some(emulator.catalog.dataset(&table.project, &table.dataset).ok()?.document().location)
    };
    let mut found = None;
    for Parsed { statement, .. } in statements::parse(&spec.sql).unwrap_or_default() {
        statement.visit_tables(&mut |name| found = found.take().or_else(|| located(name)));
    }
    let default = || {
        let (project, dataset) = spec.default_dataset.as_ref()?;
        Some(emulator.catalog.dataset(project, dataset).ok()?.document().location)
    };
    found.or_else(default).unwrap_or_else(|| "US".to_owned())
}

/// The statement of a text that is no script. Functions that go before it belong to it.
pub(super) fn single(statements: &[Parsed]) -> Option<&Statement> {
    let (last, before) = statements.split_last()?;
    let functions = before.iter().all(|p| matches!(p.statement, Statement::CreateFunction(_)));
    let scripted = matches!(&last.statement, Statement::CreateFunction(_));
    (functions && !scripted).then_some(&last.statement)
}

/// `statistics` of a job that is not run, and the schema of its rows.
pub(super) async fn dry_run(emulator: &Arc<Emulator>, spec: &QuerySpec, location: &str) -> Outcome<Value> {
    let parsed = statements::parse(&spec.sql)?;
    let scope = Scope::default();
    let env = Environment { emulator, spec, location, scope: &scope };
    let Some(statement) = single(&parsed).cloned() else {
        return Ok(Usage::default().statistics("SCRIPT", true));
    };
    let (scope, statement) = (Scope::with_functions(&parsed)?, statement);
    let statement = scope.inlined(statement)?;
    let env = Environment { scope: &scope, ..env };
    let kind = statement.kind();
    let (declared, undeclared) = undeclared::declared(env, &statement).await?;
    let env = Environment { spec: &declared, ..env };
    let mut statistics = match statement {
        Statement::Select(query) => {
            let prepared = prepare(env, *query).await?;
            prepared.check_bytes_billed(spec)?;
            let mut statistics = Usage::of(&prepared.scans).statistics(kind, true);
            statistics["query"]["schema"] = prepared.schema_document();
            statistics
        }
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => {
            let planned = plan_dml(env, statement).await?;
            planned.prepared.check_bytes_billed(spec)?;
            let mut statistics = Usage::of(&planned.prepared.scans).statistics(kind, true);
            let definition = &planned.version.definition;
            statistics["query"]["schema"] =
                json!({"fields": crate::emulator::fields::documents(&definition.fields)});
            statistics
        }
        other => ddl::dry_run(env, other).await?,
    };
    if !undeclared.is_empty() {
        statistics["query"]["undeclaredQueryParameters"] = Value::from(undeclared);
    }
    Ok(statistics)
}

/// What every statement of a job shares.
#[derive(Clone)]
pub(super) struct Runner {
    pub emulator: Arc<Emulator>,
    pub spec: Arc<QuerySpec>,
    pub document: Arc<JobDocument>,
    pub cancelled: Cancelled,
}

/// Runs a job to its end; its statistics. `destination` is where the rows of a query go.
pub(super) async fn run(
    emulator: &Arc<Emulator>,
    document: JobDocument,
    spec: QuerySpec,
    destination: Option<Destination>,
    cancelled: Cancelled,
) -> Outcome<Value> {
    let parsed = statements::parse(&spec.sql)?;
    let (spec, document) = (Arc::new(spec), Arc::new(document));
    let runner = Runner { emulator: Arc::clone(emulator), spec, document, cancelled };
    match single(&parsed).cloned() {
        Some(statement) => {
            let scope = Scope::with_functions(&parsed)?;
            runner.statement(statement, &scope, destination).await
        }
        None => script::run(&runner, parsed).await,
    }
}

impl Runner {
    pub(super) fn environment<'a>(&'a self, scope: &'a Scope) -> Environment<'a> {
        Environment { emulator: &self.emulator, spec: &self.spec, location: &self.document.location, scope }
    }

    pub(super) async fn statement(
        &self,
        statement: Statement,
        scope: &Scope,
        destination: Option<Destination>,
    ) -> Outcome<Value> {
        match scope.inlined(statement)? {
            Statement::Select(query) => {
                let destination =
                    destination.ok_or_else(|| Failure::backend("a query without a destination"))?;
                self.select(*query, scope, destination).await
            }
            statement @ (Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_)) => self.change(statement, scope).await,
            other => ddl::run(self, scope, other).await,
        }
    }

    async fn select(
        &self,
        query: datafusion::sql::sqlparser::ast::Query,
        scope: &Scope,
        destination: Destination,
    ) -> Outcome<Value> {
        let prepared = prepare(self.environment(scope), query).await?;
        prepared.check_bytes_billed(&self.spec)?;
        let target = Arc::new(destination.target(&self.emulator.catalog, &prepared.fields, false)?);
        let mut statistics = Usage::of(&prepared.scans).statistics("SELECT", false);
        let parts = write(prepared, Arc::clone(&target), Arc::clone(&self.cancelled)).await?;
        let rows: u64 = parts.iter().map(|p| p.rows).sum();
        statistics["query"]["outputRows"] = json!(rows.to_string());
        commit_rows(&self.emulator, &self.document, destination, target, parts, statistics, &self.cancelled)
            .await
    }

    /// DML: once more from the start whenever another job changed the same rows first.
    async fn change(&self, statement: Statement, scope: &Scope) -> Outcome<Value> {
        let kind = statement.kind();
        for _ in 0..OVERTAKEN_MAX {
            let planned = plan_dml(self.environment(scope), statement.clone()).await?;
            planned.prepared.check_bytes_billed(&self.spec)?;
            let target = planned.target.clone();
            let dir = self.emulator.catalog.table_dir(&target)?;
            let mut statistics = Usage::of(&planned.prepared.scans).statistics(kind, false);
            let changes = changes::write(planned, dir, Arc::clone(&self.cancelled)).await?;
            changes.counts.document(&mut statistics["query"]);
            if self
                .commit(statistics.clone(), move |catalog, commit, settled| {
                    changes.commit(catalog, commit, settled)
                })
                .await?
                == Committed::Done
            {
                return Ok(statistics);
            }
        }
        let name = statement.target().map(ToString::to_string).unwrap_or_default();
        Err(Failure::invalid_query(format!(
            "Could not serialize access to table {name} due to concurrent update"
        )))
    }

    /// Does `work`, which is to record the commit with what it changes.
    pub(super) async fn commit<T: Send + 'static>(
        &self,
        statistics: Value,
        work: impl FnOnce(&crate::emulator::catalog::Catalog, Commit, &dyn Fn(&Commit) -> bool) -> Outcome<T>
        + Send
        + 'static,
    ) -> Outcome<T> {
        let runner = self.clone();
        blocking(move || {
            if (runner.cancelled)() {
                return Err(Failure::stopped());
            }
            let document = &runner.document;
            let commit =
                Commit { project: Some(document.project.clone()), job: document.id.clone(), statistics };
            let settled = |commit: &Commit| runner.emulator.jobs.is_settled(commit);
            work(&runner.emulator.catalog, commit, &settled)
        })
        .await
    }

    /// To be called while what the statement takes away is locked: notes it in the job's document, and what
    /// it knows of other jobs in theirs.
    pub(super) fn take_away(&self, removal: Removal, commits: &[Commit]) -> Outcome<()> {
        self.emulator.jobs.attest(commits)?;
        self.emulator.jobs.note_removal(&self.document, removal)
    }
}
