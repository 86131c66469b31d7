//! tabledata.insertAll: rows that are durable and visible when the answer comes.
//!
//! # Why is there no streaming buffer?
//! BigQuery gathers streamed rows beside the table for up to 90 minutes, in which copies miss them and DML does
//! not touch them. Here they become a part of the table at once; what waits for the buffer to empty finds none.
//!
//! A row whose `insertId` was stored within the last minute is dropped. That memory is lost with the process;
//! BigQuery promises no more than its best effort either.

mod compact;
mod window;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::Emulator;
use super::coerce::{Cell, Coercer, Defaults, Form, RowsBuilder, Wrong};
use super::destination::{Destination, Target};
use super::fields::{Kind, arrow_schema};
use super::files::RowsWriter;
use super::names::{Address, TableId};
use super::partitions::Partition;
use super::versions::{Definition, Part, Version};
use super::wire::{Failure, Outcome, Reply, now_ms, text};

pub(super) use window::Windows;

const DAY_US: i64 = 86_400_000_000;
const ROWS_MAX: usize = 50_000;
const INSERT_ID_CHARS_MAX: usize = 128;

pub(super) fn insert_all(emulator: &Emulator, address: Address, body: &Map<String, Value>) -> Outcome<Reply> {
    let rows = parse_rows(body)?;
    let flag = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut address = address.present()?;
    if let Some(suffix) = text(body, "templateSuffix").filter(|suffix| !suffix.is_empty()) {
        address = from_template(emulator, address, suffix)?;
    }
    let destination = Destination::append_to(address).resolve(&emulator.catalog)?;
    let address = &destination.address;
    let version = emulator.catalog.table(&address.name)?.current();
    check_partition(&version.definition, address.partition)?;

    // One request at a time writes to a table: two that bring the same insertId must not both store it.
    let window = emulator.windows.of(&version.definition.birth);
    let mut window = window.lock();
    let target = destination.target(&emulator.catalog, &[], false)?;
    if target.fields.is_empty() {
        return Err(Failure::invalid("The destination table has no schema."));
    }
    let defaults = Defaults::of(&target.fields)?;
    let ignore_unknown = flag("ignoreUnknownValues");
    let coercer = Coercer { fields: &target.fields, defaults: &defaults, ignore_unknown, form: Form::Insert };
    let bounds = DateBounds::of(&version.definition);
    let coerced = |row: &Row<'_>| {
        let cells = coercer.row(row.json)?;
        bounds.as_ref().map_or(Ok(()), |bounds| bounds.check(&cells))?;
        Ok(cells)
    };
    let coerced: Vec<Result<Vec<Cell>, Wrong>> = rows.iter().map(coerced).collect();
    let num_bad = coerced.iter().filter(|row| row.is_err()).count();
    let stores_rest = num_bad == 0 || flag("skipInvalidRows");
    let errors = insert_errors(&coerced, stores_rest);
    if stores_rest && num_bad < rows.len() {
        let fresh = window.fresh(rows.iter().map(|row| row.insert_id));
        let wanted = coerced.iter().zip(&rows).zip(&fresh);
        let wanted = wanted.filter_map(|((cells, row), fresh)| Some((cells.as_ref().ok()?, row, *fresh)));
        let wanted: Vec<_> = wanted.filter(|(_, _, fresh)| *fresh).collect();
        let parts = write(&target, wanted.iter().map(|(cells, _, _)| cells.as_slice()))?;
        if !parts.is_empty() {
            destination.add(&emulator.catalog, &target, parts, |version| {
                compact::compact(version, &target.dir);
            })?;
        }
        window.remember(wanted.iter().filter_map(|(_, row, _)| row.insert_id));
    }
    let mut answer = json!({"kind": "bigquery#tableDataInsertAllResponse"});
    if !errors.is_empty() {
        answer["insertErrors"] = Value::from(errors);
    }
    Ok(Reply::Json(answer))
}

struct Row<'a> {
    insert_id: Option<&'a str>,
    json: &'a Map<String, Value>,
}

fn parse_rows(body: &Map<String, Value>) -> Outcome<Vec<Row<'_>>> {
    let documents = body.get("rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if documents.is_empty() {
        return Err(Failure::invalid("No rows present in the request."));
    }
    if documents.len() > ROWS_MAX {
        return Err(Failure::invalid(format!(
            "too many rows present in the request, limit: {ROWS_MAX} row count: {}.",
            documents.len()
        )));
    }
    let mut rows = Vec::with_capacity(documents.len());
    for (index, document) in documents.iter().enumerate() {
        let json = document.get("json").and_then(Value::as_object).ok_or_else(|| {
            Failure::invalid(format!("Invalid value at 'rows[{index}].json': it is no JSON object"))
        })?;
        let insert_id = document.get("insertId").and_then(Value::as_str).filter(|id| !id.is_empty());
        if insert_id.is_some_and(|id| id.chars().count() > INSERT_ID_CHARS_MAX) {
            return Err(Failure::invalid(format!(
                "Maximum allowed length of insertId is {INSERT_ID_CHARS_MAX} characters. rows[{index}] is over it."
            )));
        }
        rows.push(Row { insert_id, json });
    }
    Ok(rows)
}

/// Wrong rows are `invalid`; where one stops all, the others are `stopped`.
fn insert_errors(rows: &[Result<Vec<Cell>, Wrong>], stores_rest: bool) -> Vec<Value> {
    let entry = |reason: &str, location: &str, message: &str| json!({"reason": reason, "location": location, "debugInfo": "", "message": message});
    let mut errors = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let error = match row {
            Err(wrong) => entry("invalid", &wrong.location, &wrong.message),
            Ok(_) if stores_rest => continue,
            Ok(_) => entry("stopped", "", ""),
        };
        errors.push(json!({"index": index, "errors": [error]}));
    }
    errors
}

/// How far from today a row may be that is streamed to a table partitioned by a date or time column.
struct DateBounds {
    column: usize,
    name: String,
    table: String,
    today: i64,
}

impl DateBounds {
    const DAYS_BEFORE: i64 = 3650;
    const DAYS_AFTER: i64 = 366;

    /// `None` when the table is not partitioned so.
    fn of(definition: &Definition) -> Option<Self> {
        let field = definition.partition_field()?;
        let column = definition.fields.iter().position(|f| f.name == field.name)?;
        let (name, table) = (field.name.clone(), definition.name.legacy());
        match field.kind {
            Kind::Date | Kind::DateTime | Kind::Timestamp => {
                Some(DateBounds { column, name, table, today: (now_ms() * 1000).div_euclid(DAY_US) })
            }
            _ => None,
        }
    }

    fn check(&self, cells: &[Cell]) -> Result<(), Wrong> {
        let (day, shown) = match cells.get(self.column) {
            Some(Cell::Days(day)) => (i64::from(*day), i64::from(*day)),
            Some(Cell::Int(us)) => (us.div_euclid(DAY_US), *us),
            _ => return Ok(()),
        };
        if (-Self::DAYS_BEFORE..=Self::DAYS_AFTER).contains(&(day - self.today)) {
            return Ok(());
        }
        let DateBounds { name, table, .. } = self;
        let (before, after) = (Self::DAYS_BEFORE, Self::DAYS_AFTER);
        let message = format!(
            "Value {shown} for field {name} of the destination table {table} is outside the allowed bounds. You can \
             only stream to date range within {before} days in the past and {after} days in the future relative to \
             the current date."
        );
        Err(Wrong { location: name.clone(), message })
    }
}

fn write<'a>(target: &Target, rows: impl Iterator<Item = &'a [Cell]>) -> Outcome<Vec<Part>> {
    let mut writer = RowsWriter::new(&target.dir, arrow_schema(&target.fields), target.rule);
    let mut builder = RowsBuilder::new(&target.fields);
    for row in rows {
        builder.push(row, 0);
        if builder.is_full()
            && let Some(batch) = builder.take()
        {
            writer.write(&batch)?;
        }
    }
    if let Some(batch) = builder.take() {
        writer.write(&batch)?;
    }
    writer.finish()
}

/// Rows can be streamed to a day of an ingestion-time table that is not long past or far ahead.
fn check_partition(definition: &Definition, partition: Option<Partition>) -> Outcome<()> {
    let Some((start_us, _)) = partition.and_then(Partition::bounds_us) else { return Ok(()) };
    if !definition.is_ingestion_partitioned() {
        return Ok(());
    }
    let days = start_us.div_euclid(DAY_US) - (now_ms() * 1000).div_euclid(DAY_US);
    if (-31..=16).contains(&days) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "The destination table's partition {}${} is outside the allowed bounds. You can only stream to partitions \
         within 31 days in the past and 16 days in the future relative to the current date.",
        definition.name.legacy(),
        partition.map(|p| p.to_string()).unwrap_or_default()
    )))
}

/// The table of the template's name and the suffix, made like the template when it is not there.
fn from_template(emulator: &Emulator, address: Address, suffix: &str) -> Outcome<Address> {
    if !suffix.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Failure::invalid(format!("Invalid value for templateSuffix: {suffix}")));
    }
    if address.partition.is_some() {
        return Err(Failure::invalid("A template table cannot be named with a partition decorator."));
    }
    let template = emulator.catalog.table(&address.name)?.current();
    let mut name = address.name;
    name.table = TableId::parse(&format!("{}{suffix}", name.table))?;
    if matches!(emulator.catalog.table(&name), Err(failure) if failure.code == 404) {
        let mut definition = Definition::new(name.clone());
        definition.fields.clone_from(&template.definition.fields);
        definition.partitioning.clone_from(&template.definition.partitioning);
        definition.require_filter = template.definition.require_filter;
        if let Some(clustering) = template.definition.rest.get("clustering") {
            definition.rest.insert("clustering".to_owned(), clustering.clone());
        }
        match emulator.catalog.create_table(Version::empty(definition)) {
            // Another request made it in between.
            Err(failure) if failure.reason != "duplicate" => return Err(failure),
            _ => {}
        }
    }
    Ok(Address { name, partition: None, time: None })
}
