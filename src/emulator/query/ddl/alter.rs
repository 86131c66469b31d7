//! ALTER TABLE, ALTER VIEW, ALTER SCHEMA.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::Schema;
use serde_json::{Map, Value, json};

use super::{Operation, dataset_name, performed, table_options};
use crate::emulator::catalog::{Catalog, DATASET_REST, apply_rest};
use crate::emulator::copy;
use crate::emulator::fields::{self, Field, Mode, arrow_schema};
use crate::emulator::files::{RowsWriter, Rule, read_part, same_name};
use crate::emulator::jobs::Removal;
use crate::emulator::names::{TableId, TableName};
use crate::emulator::query::assign::{fits, type_name};
use crate::emulator::query::execute::Runner;
use crate::emulator::query::scope::Scope;
use crate::emulator::query::statements::{Alter, AlterColumn, Change, options};
use crate::emulator::query::usage::Usage;
use crate::emulator::run::blocking;
use crate::emulator::tables::apply_table;
use crate::emulator::versions::{Definition, Part, Version, not_found};
use crate::emulator::wire::{Failure, Outcome};

/// How often the rows are written again because the table changed meanwhile.
const ATTEMPTS_MAX: usize = 20;

pub(super) async fn run(runner: &Runner, scope: &Scope, kind: &str, alter: Alter) -> Outcome<Value> {
    let env = runner.environment(scope);
    let statistics = Usage::default().statistics(kind, false);
    if alter.is_schema() {
        return schema(runner, scope, alter, statistics).await;
    }
    let name = env.rewriter().table_name(&alter.name)?;
    let found = runner.emulator.catalog.table(&name);
    let version = match found {
        Ok(table) => table.current(),
        Err(failure) if failure.code == 404 && alter.if_exists => {
            return Ok(performed(statistics, Operation::Skip, &name));
        }
        Err(failure) => return Err(failure),
    };
    let wanted = if alter.is_view() { "VIEW" } else { "TABLE" };
    if version.definition.kind() != wanted {
        return Err(Failure::invalid(format!(
            "{} is not allowed for this operation because it is currently a {}.",
            name.legacy(),
            version.definition.kind()
        )));
    }
    let statistics = performed(statistics, Operation::Alter, &name);
    if let [Change::RenameTo(to)] = alter.changes.as_slice() {
        return rename(runner, name, to, statistics).await;
    }
    // OPTIONS may need a query to be evaluated, so they are documents before the table is locked.
    let mut changes = Vec::with_capacity(alter.changes.len());
    for change in alter.changes {
        changes.push(match change {
            Change::SetOptions(list) => {
                let mut body = Map::new();
                if let Some(partitioning) = &version.definition.partitioning {
                    let (member, document) = partitioning.document();
                    body.insert(member.to_owned(), document);
                }
                table_options(env, &list, &mut body).await?;
                Edit::Options(body)
            }
            Change::AddColumn { if_not_exists, column } => {
                Edit::Add { if_not_exists, field: Box::new(field(column)?) }
            }
            Change::DropColumn { if_exists, name } => Edit::Drop { if_exists, name },
            Change::RenameColumn { if_exists, from, to } => Edit::Rename { if_exists, from, to },
            Change::AlterColumn { if_exists, name, change } => Edit::Column { if_exists, name, change },
            Change::RenameTo(_) => return Err(Failure::unsupported_sql("RENAME TO with other actions")),
        });
    }
    let changes = Arc::new(changes);
    for _ in 0..ATTEMPTS_MAX {
        let done = attempt(runner, &name, Arc::clone(&changes), statistics.clone()).await?;
        if done {
            return Ok(statistics);
        }
    }
    Err(Failure::invalid_query(format!(
        "Could not serialize access to table {name} due to concurrent update"
    )))
}

/// The table under another name in its dataset.
async fn rename(runner: &Runner, name: TableName, to: &str, statistics: Value) -> Outcome<Value> {
    let renamed = TableName { table: TableId::parse(to)?, ..name.clone() };
    let taking = runner.clone();
    runner
        .commit(statistics, move |catalog, commit, _| {
            let statistics = commit.statistics.clone();
            catalog.rename_table(&name, &renamed, |version, dir| {
                let birth = version.definition.birth.clone();
                let removal =
                    Removal { birth, moved_to: Some(renamed.clone()), statistics: statistics.clone() };
                taking.take_away(removal, &version.commits)?;
                let mut parts = Vec::with_capacity(version.parts.len());
                for part in &version.parts {
                    let file = Arc::new(copy::link(part.file.path(), dir)?);
                    parts.push(Part { file, ..part.clone() });
                }
                let own = Definition::new(renamed.clone());
                let definition =
                    Definition { name: own.name, birth: own.birth, number: 0, ..version.definition.clone() };
                Ok(Version::new(definition, parts, vec![commit]))
            })?;
            Ok(statistics)
        })
        .await
}

/// A change of one table's definition.
enum Edit {
    Options(Map<String, Value>),
    Add { if_not_exists: bool, field: Box<Field> },
    Drop { if_exists: bool, name: String },
    Rename { if_exists: bool, from: String, to: String },
    Column { if_exists: bool, name: String, change: Box<AlterColumn> },
}

fn field(document: Value) -> Outcome<Field> {
    let mut schema = Map::new();
    schema.insert("fields".into(), json!([document]));
    let mut fields = fields::parse_schema(&schema).map_err(|e| Failure::invalid_query(e.message))?;
    fields.pop().ok_or_else(|| Failure::invalid_query("a column without a type"))
}

/// Whether the table was still what the change was computed from.
async fn attempt(
    runner: &Runner,
    name: &TableName,
    edits: Arc<Vec<Edit>>,
    statistics: Value,
) -> Outcome<bool> {
    let catalog = Arc::clone(&runner.emulator.catalog);
    let (table, cancelled) = (name.clone(), Arc::clone(&runner.cancelled));
    let (before, after, parts) = blocking(move || {
        let before = catalog.table(&table)?.current();
        let mut after = before.definition.clone();
        let mut kept: Vec<(usize, usize)> = (0..after.fields.len()).map(|i| (i, i)).collect();
        for edit in edits.iter() {
            apply(&mut after, &mut kept, edit)?;
        }
        after.check_partitioning()?;
        let same_names = kept.len() == before.definition.fields.len()
            && kept
                .iter()
                .all(|(old, new)| same_name(&before.definition.fields[*old].name, &after.fields[*new].name));
        let parts = match same_names {
            true => None,
            false => Some(rewritten(&catalog, &before, &after, &kept, &*cancelled)?),
        };
        Ok((before, after, parts))
    })
    .await?;
    let name = name.clone();
    runner
        .commit(statistics, move |catalog, commit, settled| {
            let mut overtaken = false;
            let changed = catalog.table(&name)?.change(|version| {
                let (now, then) = (&version.definition, &before.definition);
                if now.birth != then.birth || now.number != then.number {
                    overtaken = true;
                    return Err(not_found(&name));
                }
                version.definition = after;
                if let Some(parts) = parts {
                    version.parts = parts;
                }
                version.commits.retain(|commit| !settled(commit));
                version.commits.push(commit);
                Ok(())
            });
            match changed {
                Ok(()) => Ok(true),
                Err(_) if overtaken => Ok(false),
                Err(failure) => Err(failure),
            }
        })
        .await
}

/// Applies an edit; `kept` says which old column is which new one.
fn apply(after: &mut Definition, kept: &mut Vec<(usize, usize)>, edit: &Edit) -> Outcome<()> {
    let table = after.name.clone();
    let find =
        |definition: &Definition, name: &str| definition.fields.iter().position(|f| same_name(&f.name, name));
    let missing = |name: &str| Failure::invalid_query(format!("Column not found: {name} in table {table}"));
    match edit {
        Edit::Options(body) => apply_table(after, body),
        Edit::Add { if_not_exists, field } => {
            if find(after, &field.name).is_some() {
                return match if_not_exists {
                    true => Ok(()),
                    false => Err(Failure::invalid_query(format!("Column already exists: {}", field.name))),
                };
            }
            if field.mode == Mode::Required {
                return Err(Failure::invalid_query(format!(
                    "Cannot add required fields to an existing schema. (field: {})",
                    field.name
                )));
            }
            if field.rest.contains_key("defaultValueExpression") {
                return Err(Failure::invalid_query(format!(
                    "Adding a column with a DEFAULT value is not supported: add column {} first, then set its \
                     DEFAULT",
                    field.name
                )));
            }
            after.fields.push(field.as_ref().clone());
            Ok(())
        }
        Edit::Drop { if_exists, name } => {
            let Some(index) = find(after, name) else {
                return if *if_exists { Ok(()) } else { Err(missing(name)) };
            };
            check_unused(after, name)?;
            if after.fields.len() == 1 {
                return Err(Failure::invalid_query("ALTER TABLE DROP COLUMN cannot drop all columns"));
            }
            after.fields.remove(index);
            kept.retain(|(_, new)| *new != index);
            for (_, new) in kept.iter_mut().filter(|(_, new)| *new > index) {
                *new -= 1;
            }
            Ok(())
        }
        Edit::Rename { if_exists, from, to } => {
            let Some(index) = find(after, from) else {
                return if *if_exists { Ok(()) } else { Err(missing(from)) };
            };
            check_unused(after, from)?;
            fields::check_name(to)?;
            if find(after, to).is_some_and(|other| other != index) {
                return Err(Failure::invalid_query(format!("Column already exists: {to}")));
            }
            after.fields[index].name.clone_from(to);
            Ok(())
        }
        Edit::Column { if_exists, name, change } => match find(after, name) {
            Some(index) => alter_column(&mut after.fields[index], change),
            None if *if_exists => Ok(()),
            None => Err(missing(name)),
        },
    }
}

/// Partitioning and clustering hang on the names of columns.
fn check_unused(definition: &Definition, name: &str) -> Outcome<()> {
    let partitioned = definition.partition_field().is_some_and(|f| same_name(&f.name, name));
    let clustered = definition
        .rest
        .get("clustering")
        .and_then(|c| c.get("fields")?.as_array())
        .is_some_and(|fields| fields.iter().any(|f| f.as_str().is_some_and(|f| same_name(f, name))));
    if partitioned || clustered {
        return Err(Failure::invalid_query(format!(
            "Column {name} cannot be dropped or renamed: table {} is partitioned or clustered by it",
            definition.name
        )));
    }
    Ok(())
}

fn alter_column(field: &mut Field, change: &AlterColumn) -> Outcome<()> {
    match change {
        AlterColumn::SetOptions(list) => {
            let Value::Object(mut document) = field.document() else { return Ok(()) };
            for (name, value) in list {
                options::apply_column(&mut document, name, value)?;
            }
            *field = self::field(Value::Object(document))?;
            Ok(())
        }
        AlterColumn::DropNotNull => {
            if field.mode != Mode::Required {
                let name = &field.name;
                return Err(Failure::invalid_query(format!(
                    "Column {name} does not have a NOT NULL constraint"
                )));
            }
            field.mode = Mode::Nullable;
            Ok(())
        }
        AlterColumn::SetDefault(expr) => {
            field.rest.insert("defaultValueExpression".into(), json!(expr.to_string()));
            Ok(())
        }
        AlterColumn::DropDefault => {
            field.rest.shift_remove("defaultValueExpression");
            Ok(())
        }
        AlterColumn::SetDataType(data_type) => set_data_type(field, data_type),
    }
}

/// Only where every value that was possible before still is.
fn set_data_type(field: &mut Field, data_type: &Value) -> Outcome<()> {
    let mut document = data_type.clone();
    document["name"] = json!(field.name);
    let mut wanted = self::field(document)?;
    let refused = |wanted: &Field| {
        Failure::invalid_query(format!(
            "ALTER TABLE ALTER COLUMN SET DATA TYPE requires that the existing column type ({}) is assignable \
             to the new type ({})",
            type_name(field),
            type_name(wanted)
        ))
    };
    let number = |field: &Field, member: &str| -> Option<u64> {
        field.rest.get(member).and_then(Value::as_str).and_then(|t| t.parse().ok())
    };
    // A parameter may be widened or dropped; one that was not there would narrow.
    let narrowed = ["maxLength", "precision", "scale"].iter().any(|member| {
        let same_kind = field.kind == wanted.kind;
        match (number(field, member), number(&wanted, member)) {
            (Some(old), Some(new)) => same_kind && new < old,
            (None, Some(_)) => *member != "scale" || number(field, "precision").is_none(),
            (_, None) => false,
        }
    });
    let nested = field.kind == crate::emulator::fields::Kind::Record && *field.fields != *wanted.fields;
    if narrowed || nested || !fits(field, &wanted) {
        return Err(refused(&wanted));
    }
    wanted.mode = field.mode;
    for member in ["description", "defaultValueExpression", "policyTags"] {
        if let Some(value) = field.rest.get(member) {
            wanted.rest.insert(member.to_owned(), value.clone());
        }
    }
    *field = wanted;
    Ok(())
}

/// All rows under the new names. Files know columns by name, so a name that is used again must not find the
/// values of another column.
fn rewritten(
    catalog: &Catalog,
    before: &Version,
    after: &Definition,
    kept: &[(usize, usize)],
    cancelled: &dyn Fn() -> bool,
) -> Outcome<Vec<Part>> {
    let dir = catalog.table_dir(&after.name)?;
    let (old, new) = (arrow_schema(&before.definition.fields), arrow_schema(&after.fields));
    let columns: Vec<usize> = kept.iter().map(|(old, _)| *old).collect();
    let unfit = |e: datafusion::arrow::error::ArrowError| Failure::backend(e.to_string());
    let read = Arc::new(old.project(&columns).map_err(unfit)?);
    let named: Vec<_> = kept
        .iter()
        .map(|(old_index, index)| old.field(*old_index).clone().with_name(new.field(*index).name().clone()))
        .collect();
    let named = Arc::new(Schema::new(named));
    let mut parts = Vec::with_capacity(before.parts.len());
    for part in &before.parts {
        if cancelled() {
            return Err(Failure::stopped());
        }
        let mut writer = RowsWriter::new(&dir, Arc::clone(&named), Rule::Fixed(part.partition));
        for batch in read_part(part, &read, 0, None)? {
            let columns = batch?.columns().to_vec();
            writer.write(&RecordBatch::try_new(Arc::clone(&named), columns).map_err(unfit)?)?;
        }
        parts.extend(writer.finish()?);
    }
    Ok(parts)
}

async fn schema(runner: &Runner, scope: &Scope, alter: Alter, mut statistics: Value) -> Outcome<Value> {
    let (project, id) = dataset_name(runner.environment(scope), &alter.name)?;
    let mut body = Map::new();
    for change in &alter.changes {
        let Change::SetOptions(list) = change else {
            return Err(Failure::unsupported_sql("this ALTER SCHEMA"));
        };
        for (name, expr) in list {
            if name == "location" {
                return Err(Failure::invalid_query("Dataset location cannot be changed"));
            }
            let value = options::constant(expr).ok_or_else(|| {
                Failure::unsupported_sql(format!("the option {name} with the value {expr}"))
            })?;
            options::apply_dataset(&mut body, name, value)?;
        }
    }
    statistics["query"]["ddlTargetDataset"] =
        json!({"projectId": project.as_str(), "datasetId": id.as_str()});
    let mut skipped = statistics.clone();
    for (statistics, operation) in [(&mut statistics, Operation::Alter), (&mut skipped, Operation::Skip)] {
        statistics["query"]["ddlOperationPerformed"] = json!(operation.name());
    }
    let altered = runner
        .commit(statistics.clone(), move |catalog, commit, settled| {
            catalog.dataset(&project, &id)?.change(|document| {
                apply_rest(&mut document.rest, &body, &DATASET_REST);
                document.commits.retain(|commit| !settled(commit));
                document.commits.push(commit);
                Ok(())
            })
        })
        .await;
    match altered {
        Ok(()) => Ok(statistics),
        Err(failure) if failure.code == 404 && alter.if_exists => Ok(skipped),
        Err(failure) => Err(failure),
    }
}
