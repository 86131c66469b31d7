//! CREATE TABLE in all its forms, CREATE VIEW, CREATE SCHEMA.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Operation, dataset_name, performed, table_options, timestamp_ms};
use crate::emulator::catalog::{Catalog, DATASET_REST, DatasetDocument, apply_rest};
use crate::emulator::copy::{self, CopySpec};
use crate::emulator::destination::{self, Target};
use crate::emulator::fields::{self, Field};
use crate::emulator::names::TableName;
use crate::emulator::query::assign;
use crate::emulator::query::execute::Runner;
use crate::emulator::query::scope::Scope;
use crate::emulator::query::statements::{
    CreateSchema, CreateTable, CreateView, OriginKind, options, partitioning,
};
use crate::emulator::query::usage::Usage;
use crate::emulator::query::{Environment, Prepared, describe, prepare, write};
use crate::emulator::run::blocking;
use crate::emulator::tables::{apply_table, defined};
use crate::emulator::versions::{Commit, Definition, Version};
use crate::emulator::wire::{Failure, Outcome};

/// What happens when the name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfTaken {
    Fail,
    Skip,
    Replace,
}

impl IfTaken {
    fn new(or_replace: bool, if_not_exists: bool) -> Self {
        match (or_replace, if_not_exists) {
            (true, _) => IfTaken::Replace,
            (false, true) => IfTaken::Skip,
            (false, false) => IfTaken::Fail,
        }
    }

    /// Settles what can be settled before anything is computed.
    fn check(self, catalog: &Catalog, name: &TableName) -> Outcome<Option<Operation>> {
        catalog.dataset(&name.project, &name.dataset)?;
        match (catalog.table(name).is_ok(), self) {
            (true, IfTaken::Skip) => Ok(Some(Operation::Skip)),
            (true, IfTaken::Fail) => Err(taken(name)),
            _ => Ok(None),
        }
    }
}

fn taken(name: &TableName) -> Failure {
    Failure::duplicate(format!("Already Exists: Table {}", name.legacy()))
}

pub(super) async fn table(runner: &Runner, scope: &Scope, kind: &str, create: CreateTable) -> Outcome<Value> {
    let env = runner.environment(scope);
    if create.temporary {
        return Err(Failure::invalid_query("Use of CREATE TEMPORARY TABLE requires a script or session"));
    }
    let name = env.rewriter().table_name(&create.name)?;
    let if_taken = IfTaken::new(create.or_replace, create.if_not_exists);
    if let Some(skipped) = if_taken.check(&runner.emulator.catalog, &name)? {
        return Ok(performed(Usage::default().statistics(kind, false), skipped, &name));
    }
    if create.origin.as_ref().is_some_and(|origin| origin.kind != OriginKind::Like) {
        return copied(runner, env, kind, name, &create).await;
    }
    let prepared = match &create.query {
        Some(query) => Some(prepare(env, (**query).clone()).await?),
        None => None,
    };
    let definition = definition(env, name, &create, prepared.as_ref()).await?;
    let Some(mut prepared) = prepared else {
        let statistics = Usage::default().statistics(kind, false);
        return put(runner, Version::empty(definition), if_taken, statistics).await;
    };

    prepared.check_bytes_billed(&runner.spec)?;
    let statistics = Usage::of(&prepared.scans).statistics(kind, false);
    prepared.fields.clone_from(&definition.fields);
    let target = Target {
        fields: definition.fields.clone(),
        rule: destination::rule(&definition, None)?,
        dir: runner.emulator.catalog.table_dir(&definition.name)?,
        partitioning: definition.partitioning.clone(),
        decorated: false,
        existed: false,
    };
    let parts = write(prepared, Arc::new(target), Arc::clone(&runner.cancelled)).await?;
    put(runner, Version::new(definition, parts, Vec::new()), if_taken, statistics).await
}

async fn definition(
    env: Environment<'_>,
    name: TableName,
    create: &CreateTable,
    prepared: Option<&Prepared>,
) -> Outcome<Definition> {
    let mut body = Map::new();
    if let Some(expr) = &create.partition_by {
        partitioning(expr, &mut body)?;
        let by_arrival = body.get("timePartitioning").is_some_and(|p| p.get("field").is_none());
        if by_arrival && create.query.is_some() {
            return Err(Failure::invalid_query(
                "CREATE TABLE ... PARTITION BY _PARTITIONDATE cannot be used with AS SELECT: the rows have no \
                 partition",
            ));
        }
    }
    if !create.cluster_by.is_empty() {
        body.insert("clustering".into(), json!({"fields": create.cluster_by}));
    }
    let fields = columns(create, prepared)?;
    body.insert("schema".into(), json!({"fields": fields::documents(&fields)}));

    let Some(origin) = &create.origin else {
        table_options(env, &create.options, &mut body).await?;
        return defined(name, &body);
    };
    // LIKE: the other table's layout and words, except where this statement has its own.
    let rewriter = env.rewriter();
    let like = rewriter.table_name(&origin.name)?;
    let like = rewriter.readable(&like, None)?.definition.clone();
    let mut definition = Definition::new(name);
    definition.fields = if fields.is_empty() { like.fields } else { fields };
    definition.partitioning = like.partitioning;
    definition.require_filter = like.require_filter;
    definition.rest = like.rest;
    body.shift_remove("schema");
    table_options(env, &create.options, &mut body).await?;
    apply_table(&mut definition, &body)?;
    definition.check_partitioning()?;
    Ok(definition)
}

/// COPY, CLONE and SNAPSHOT: what a copy job of that kind makes, with the options on top.
async fn copied(
    runner: &Runner,
    env: Environment<'_>,
    kind: &str,
    name: TableName,
    create: &CreateTable,
) -> Outcome<Value> {
    let Some(origin) = &create.origin else { return Err(Failure::backend("a copy of nothing")) };
    if runner.emulator.catalog.table(&name).is_ok() {
        return Err(Failure::unsupported_sql("CREATE OR REPLACE TABLE with COPY or CLONE"));
    }
    let source = env.rewriter().table_name(&origin.name)?;
    let mut from = source.reference();
    if let Some(at) = &origin.at {
        let ms = timestamp_ms(env, at.clone()).await?;
        from["tableId"] = json!(format!("{}@{ms}", source.table));
    }
    let mut options = Map::new();
    table_options(env, &create.options, &mut options).await?;
    let operation = match (create.snapshot, origin.kind) {
        (true, _) => "SNAPSHOT",
        (false, OriginKind::Clone) => "CLONE",
        (false, _) => "COPY",
    };
    let document =
        json!({"sourceTable": from, "destinationTable": name.reference(), "operationType": operation});
    let document = document.as_object().cloned().unwrap_or_default();
    let spec = CopySpec::parse(&document, &runner.spec.project)?;
    let (catalog, cancelled) = (Arc::clone(&runner.emulator.catalog), Arc::clone(&runner.cancelled));
    let version = blocking(move || {
        let copied = copy::run(&spec, &catalog, || cancelled())?;
        let mut definition = copied.destination.created(&copied.target.fields)?;
        apply_table(&mut definition, &options)?;
        Ok(Version::new(definition, copied.parts, Vec::new()))
    })
    .await?;
    let if_taken = IfTaken::new(false, create.if_not_exists);
    put(runner, version, if_taken, Usage::default().statistics(kind, false)).await
}

/// The columns that are listed, else those of the query; both must fit.
fn columns(create: &CreateTable, prepared: Option<&Prepared>) -> Outcome<Vec<Field>> {
    let listed = match &create.columns {
        Some(columns) => {
            let mut schema = Map::new();
            schema.insert("fields".into(), columns.clone().into());
            Some(fields::parse_schema(&schema).map_err(|e| Failure::invalid_query(e.message))?)
        }
        None => None,
    };
    match (listed, prepared) {
        (None, None) => Ok(Vec::new()),
        (Some(listed), None) => Ok(listed),
        (None, Some(prepared)) => Ok(prepared.fields.clone()),
        (Some(listed), Some(prepared)) => {
            if listed.len() != prepared.fields.len() {
                return Err(Failure::invalid_query(format!(
                    "The number of columns in the column definition list does not match the number of columns \
                     produced by the query: {} and {}",
                    listed.len(),
                    prepared.fields.len()
                )));
            }
            for (index, (field, value)) in listed.iter().zip(&prepared.fields).enumerate() {
                if !prepared.is_untyped(index) && !assign::fits(value, field) {
                    return Err(Failure::invalid_query(format!(
                        "Column {} has type {} but the query's column {} has type {}",
                        field.name,
                        assign::type_name(field),
                        value.name,
                        assign::type_name(value)
                    )));
                }
            }
            Ok(listed)
        }
    }
}

pub(super) async fn view(runner: &Runner, scope: &Scope, create: CreateView) -> Outcome<Value> {
    let CreateView { or_replace, if_not_exists, name, columns, options, query, text } = create;
    let env = runner.environment(scope);
    let name = env.rewriter().table_name(&name)?;
    let if_taken = IfTaken::new(or_replace, if_not_exists);
    let statistics = Usage::default().statistics("CREATE_VIEW", false);
    if let Some(skipped) = if_taken.check(&runner.emulator.catalog, &name)? {
        return Ok(performed(statistics, skipped, &name));
    }
    // A view knows no default dataset and no parameters, whoever asks it.
    let own = crate::emulator::query::QuerySpec::of_view(text.clone(), runner.spec.project.clone());
    let described = describe(Environment { spec: &own, scope: &Scope::default(), ..env }, *query).await?;
    let mut body = Map::new();
    table_options(env, &options, &mut body).await?;
    let mut definition = defined(name, &body)?;
    definition.rest.insert("view".into(), json!({"query": text, "useLegacySql": false}));
    definition.fields = described;
    if !columns.is_empty() {
        if columns.len() != definition.fields.len() {
            return Err(Failure::invalid_query(
                "The number of columns of the view does not match the number of columns of its query",
            ));
        }
        for (field, (column, document)) in definition.fields.iter_mut().zip(columns) {
            fields::check_name(&column)?;
            field.name = column;
            if let Value::Object(rest) = document {
                field.rest.extend(rest);
            }
        }
    }
    put(runner, Version::empty(definition), if_taken, statistics).await
}

/// Makes the table durable together with the job's statistics.
async fn put(runner: &Runner, version: Version, if_taken: IfTaken, statistics: Value) -> Outcome<Value> {
    let name = version.definition.name.clone();
    let create = performed(statistics.clone(), Operation::Create, &name);
    let replace = performed(statistics.clone(), Operation::Replace, &name);
    let skip = performed(statistics, Operation::Skip, &name);
    runner
        .commit(create.clone(), move |catalog, commit, settled| {
            loop {
                let made = Version { commits: vec![commit.clone()], ..version.clone() };
                match (catalog.create_table(made), if_taken) {
                    (Ok(_), _) => return Ok(create),
                    (Err(failure), IfTaken::Skip) if failure.code == 409 => return Ok(skip),
                    (Err(failure), IfTaken::Replace) if failure.code == 409 => {}
                    (Err(failure), _) => return Err(failure),
                }
                let commit = Commit { statistics: replace.clone(), ..commit.clone() };
                match catalog
                    .table(&name)
                    .and_then(|table| table.change(|before| replaced(before, &version, commit, settled)))
                {
                    Ok(()) => return Ok(replace),
                    // Dropped in between.
                    Err(failure) if failure.code == 404 => {}
                    Err(failure) => return Err(failure),
                }
            }
        })
        .await
}

/// Another table of the same name, in one step.
fn replaced(
    before: &mut Version,
    version: &Version,
    commit: Commit,
    settled: &dyn Fn(&Commit) -> bool,
) -> Outcome<()> {
    let (old, new) = (before.definition.kind(), version.definition.kind());
    if old != new {
        let name = &before.definition.name;
        return Err(Failure::invalid(format!(
            "{} is not allowed for this operation because it is currently a {old}.",
            name.legacy()
        )));
    }
    *before = Version { commits: std::mem::take(&mut before.commits), ..version.clone() };
    before.commits.retain(|commit| !settled(commit));
    before.commits.push(commit);
    Ok(())
}

pub(super) async fn schema(runner: &Runner, scope: &Scope, create: CreateSchema) -> Outcome<Value> {
    let (project, id) = dataset_name(runner.environment(scope), &create.name)?;
    if id.as_str().starts_with('_') {
        return Err(Failure::invalid(format!("Invalid dataset ID \"{id}\": the underscore is reserved")));
    }
    let mut body = Map::new();
    for (name, expr) in &create.options {
        let value = options::constant(expr)
            .ok_or_else(|| Failure::unsupported_sql(format!("the option {name} with the value {expr}")))?;
        options::apply_dataset(&mut body, name, value)?;
    }
    let location =
        body.get("location").and_then(Value::as_str).unwrap_or(&runner.document.location).to_owned();
    let mut document = DatasetDocument::new(project.clone(), id.clone(), location);
    apply_rest(&mut document.rest, &body, &DATASET_REST);
    let reference = json!({"projectId": project.as_str(), "datasetId": id.as_str()});
    let mut statistics = Usage::default().statistics("CREATE_SCHEMA", false);
    statistics["query"]["ddlTargetDataset"] = reference;
    let mut skipped = statistics.clone();
    for (statistics, operation) in [(&mut statistics, Operation::Create), (&mut skipped, Operation::Skip)] {
        statistics["query"]["ddlOperationPerformed"] = json!(operation.name());
    }
    let made = runner
        .commit(statistics.clone(), move |catalog, commit, _| {
            document.commits.push(commit);
            catalog.insert_dataset(document).map(drop)
        })
        .await;
    match made {
        Ok(()) => Ok(statistics),
        Err(failure) if failure.code == 409 && create.if_not_exists => Ok(skipped),
        Err(failure) => Err(failure),
    }
}
