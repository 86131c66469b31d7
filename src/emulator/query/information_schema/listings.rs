//! What each view of INFORMATION_SCHEMA lists.

use serde_json::Value;

use super::ddl::{data_type, schema_ddl, table_ddl};
use super::{Cell, Columns, Place, Type};
use crate::emulator::catalog::DatasetDocument;
use crate::emulator::fields::{Field, Mode};
use crate::emulator::names::Address;
use crate::emulator::partitions::{Granularity, Partition};
use crate::emulator::query::statements::options;
use crate::emulator::tables::resource;
use crate::emulator::versions::{PartitionSummary, Version};
use crate::emulator::wire::Outcome;

type Rows = Vec<Vec<Cell>>;
use Type::{Int64, String as Text, Timestamp};

/// The columns and rows of a view; `None` for one that this server does not have.
pub(super) fn list(view: &str, place: &Place) -> Outcome<Option<(Columns, Rows)>> {
    let listing: (Columns, fn(&DatasetDocument, &Version) -> Rows) = match view {
        "SCHEMATA" => return Ok(Some((SCHEMATA, place.datasets.iter().map(|(_, d)| schema(d)).collect()))),
        "SCHEMATA_OPTIONS" => {
            let rows = place.datasets.iter().flat_map(|(_, d)| schema_options(d));
            return Ok(Some((SCHEMATA_OPTIONS, rows.collect())));
        }
        "TABLES" => (TABLES, |d, v| vec![table(d, v)]),
        "COLUMNS" => (COLUMNS, |_, v| columns(v)),
        "COLUMN_FIELD_PATHS" => (COLUMN_FIELD_PATHS, |_, v| field_paths(v)),
        "PARTITIONS" => (PARTITIONS, |_, v| partitions(v)),
        "TABLE_OPTIONS" => (TABLE_OPTIONS, table_options),
        "VIEWS" => (VIEWS, |_, v| view_of(v)),
        _ => return Ok(None),
    };
    let mut rows = Vec::new();
    for (dataset, document) in &place.datasets {
        for table in dataset.tables() {
            rows.extend(listing.1(document, &table.current()));
        }
    }
    Ok(Some((listing.0, rows)))
}

/// Catalog, schema and name.
fn names(version: &Version) -> Vec<Cell> {
    let name = &version.definition.name;
    vec![
        Cell::text(name.project.as_str()),
        Cell::text(name.dataset.as_str()),
        Cell::text(name.table.as_str()),
    ]
}

/// The table's document, as tables.get answers it.
fn document(dataset: &DatasetDocument, version: &Version) -> Value {
    let address = Address { name: version.definition.name.clone(), partition: None, time: None };
    resource(version, &address, &dataset.location)
}

const SCHEMATA: Columns = &[
    ("catalog_name", Text),
    ("schema_name", Text),
    ("schema_owner", Text),
    ("creation_time", Timestamp),
    ("last_modified_time", Timestamp),
    ("location", Text),
    ("ddl", Text),
    ("default_collation_name", Text),
];

fn schema(dataset: &DatasetDocument) -> Vec<Cell> {
    vec![
        Cell::text(dataset.project.as_str()),
        Cell::text(dataset.id.as_str()),
        Cell::Text(None),
        Cell::Time(Some(dataset.created_ms)),
        Cell::Time(Some(dataset.modified_ms)),
        Cell::text(dataset.location.as_str()),
        Cell::text(schema_ddl(dataset)),
        Cell::text("NULL"),
    ]
}

const SCHEMATA_OPTIONS: Columns = &[
    ("catalog_name", Text),
    ("schema_name", Text),
    ("option_name", Text),
    ("option_type", Text),
    ("option_value", Text),
];

fn schema_options(dataset: &DatasetDocument) -> Rows {
    let names = [Cell::text(dataset.project.as_str()), Cell::text(dataset.id.as_str())];
    option_rows(&names, &dataset.resource())
}

const TABLES: Columns = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("table_type", Text),
    ("is_insertable_into", Text),
    ("is_typed", Text),
    ("is_change_history_enabled", Text),
    ("creation_time", Timestamp),
    ("base_table_catalog", Text),
    ("base_table_schema", Text),
    ("base_table_name", Text),
    ("snapshot_time_ms", Timestamp),
    ("ddl", Text),
    ("default_collation_name", Text),
];

fn table(dataset: &DatasetDocument, version: &Version) -> Vec<Cell> {
    let definition = &version.definition;
    let member = |name: &str| definition.rest.get(name);
    let base = member("snapshotDefinition").or_else(|| member("cloneDefinition"));
    let of_base = |name: &str| {
        let text = base.and_then(|b| b.get("baseTableReference")?.get(name)?.as_str());
        Cell::Text(text.map(str::to_owned))
    };
    let taken = base.and_then(|b| b.get("snapshotTime").or_else(|| b.get("cloneTime"))?.as_str());
    let taken = taken.and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let kind = match (definition.kind(), member("cloneDefinition")) {
        ("TABLE", Some(_)) => "CLONE",
        ("TABLE", None) => "BASE TABLE",
        (other, _) => other,
    };
    let mut row = names(version);
    row.extend([
        Cell::text(kind),
        Cell::yes(definition.kind() == "TABLE"),
        Cell::yes(false),
        Cell::yes(false),
        Cell::Time(Some(definition.created_ms)),
        of_base("projectId"),
        of_base("datasetId"),
        of_base("tableId"),
        Cell::Time(taken.map(|time| time.timestamp_millis())),
        Cell::text(table_ddl(definition, &document(dataset, version))),
        Cell::text("NULL"),
    ]);
    row
}

const COLUMNS: Columns = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("column_name", Text),
    ("ordinal_position", Int64),
    ("is_nullable", Text),
    ("data_type", Text),
    ("is_generated", Text),
    ("generation_expression", Text),
    ("is_stored", Text),
    ("is_hidden", Text),
    ("is_updatable", Text),
    ("is_system_defined", Text),
    ("is_partitioning_column", Text),
    ("clustering_ordinal_position", Int64),
    ("collation_name", Text),
    ("column_default", Text),
    ("rounding_mode", Text),
];

fn columns(version: &Version) -> Rows {
    let definition = &version.definition;
    let clustering = definition.rest.get("clustering").and_then(|c| c.get("fields")?.as_array());
    let partitioned_by = definition.partition_field().map(|f| f.name.clone());
    let mut rows = Vec::new();
    for (index, field) in definition.fields.iter().enumerate() {
        let clustered = clustering.and_then(|fields| {
            let named = |f: &Value| f.as_str().is_some_and(|f| f.eq_ignore_ascii_case(&field.name));
            fields.iter().position(named)
        });
        let number = |n: usize| Cell::Number(i64::try_from(n + 1).ok());
        let mut row = names(version);
        row.extend([
            Cell::text(field.name.as_str()),
            number(index),
            Cell::yes(field.mode != Mode::Required),
            Cell::text(data_type(field)),
            Cell::text("NEVER"),
            Cell::Text(None),
            Cell::Text(None),
            Cell::yes(false),
            Cell::Text(None),
            Cell::yes(false),
            Cell::yes(partitioned_by.as_deref() == Some(field.name.as_str())),
            clustered.map_or(Cell::Number(None), number),
            Cell::text("NULL"),
            Cell::text(field.default_expression().unwrap_or("NULL")),
            Cell::Text(None),
        ]);
        rows.push(row);
    }
    let mut pseudo = |name: &str, data_type: &str| {
        let mut row = names(version);
        row.extend([
            Cell::text(name),
            Cell::Number(None),
            Cell::yes(true),
            Cell::text(data_type),
            Cell::text("NEVER"),
            Cell::Text(None),
            Cell::Text(None),
            Cell::yes(true),
            Cell::Text(None),
            Cell::yes(true),
            Cell::yes(name == "_PARTITIONTIME"),
            Cell::Number(None),
            Cell::text("NULL"),
            Cell::text("NULL"),
            Cell::Text(None),
        ]);
        rows.push(row);
    };
    if definition.is_ingestion_partitioned() {
        pseudo("_PARTITIONTIME", "TIMESTAMP");
    }
    if definition.ingestion_granularity() == Some(Granularity::Day) {
        pseudo("_PARTITIONDATE", "DATE");
    }
    rows
}

const COLUMN_FIELD_PATHS: Columns = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("column_name", Text),
    ("field_path", Text),
    ("data_type", Text),
    ("description", Text),
    ("collation_name", Text),
    ("rounding_mode", Text),
];

fn field_paths(version: &Version) -> Rows {
    fn walk(version: &Version, column: &str, path: &str, field: &Field, rows: &mut Rows) {
        let description = field.rest.get("description").and_then(Value::as_str);
        let mut row = names(version);
        row.extend([
            Cell::text(column),
            Cell::text(path),
            Cell::text(data_type(field)),
            Cell::Text(description.map(str::to_owned)),
            Cell::text("NULL"),
            Cell::Text(None),
        ]);
        rows.push(row);
        for inner in &field.fields {
            walk(version, column, &format!("{path}.{}", inner.name), inner, rows);
        }
    }
    let mut rows = Vec::new();
    for field in &version.definition.fields {
        walk(version, &field.name, &field.name, field, &mut rows);
    }
    rows
}

const PARTITIONS: Columns = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("partition_id", Text),
    ("total_rows", Int64),
    ("total_logical_bytes", Int64),
    ("total_billable_bytes", Int64),
    ("last_modified_time", Timestamp),
    ("storage_tier", Text),
];

fn partitions(version: &Version) -> Rows {
    if version.definition.kind() == "VIEW" {
        return Vec::new();
    }
    let mut found = version.partitions();
    if found.is_empty() && version.definition.partitioning.is_none() {
        let (created_ms, modified_ms) = (version.definition.created_ms, version.definition.modified_ms);
        found.push(PartitionSummary {
            partition: Partition::Whole,
            rows: 0,
            bytes: 0,
            created_ms,
            modified_ms,
        });
    }
    let number = |n: u64| Cell::Number(i64::try_from(n).ok());
    let row = |summary: PartitionSummary| {
        let id = (summary.partition != Partition::Whole).then(|| summary.partition.to_string());
        let mut row = names(version);
        row.extend([
            Cell::Text(id),
            number(summary.rows),
            number(summary.bytes),
            number(summary.bytes),
            Cell::Time(Some(summary.modified_ms)),
            Cell::text("ACTIVE"),
        ]);
        row
    };
    found.into_iter().map(row).collect()
}

const TABLE_OPTIONS: Columns = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("option_name", Text),
    ("option_type", Text),
    ("option_value", Text),
];

fn table_options(dataset: &DatasetDocument, version: &Version) -> Rows {
    option_rows(&names(version), &document(dataset, version))
}

fn option_rows(names: &[Cell], document: &Value) -> Rows {
    let row = |(name, kind, value): (&str, &str, String)| {
        let mut row = names.to_vec();
        row.extend([Cell::text(name), Cell::text(kind), Cell::text(value)]);
        row
    };
    options::shown(document).into_iter().map(row).collect()
}

const VIEWS: Columns = &[
    ("table_catalog", Text),
    ("table_schema", Text),
    ("table_name", Text),
    ("view_definition", Text),
    ("check_option", Text),
    ("use_standard_sql", Text),
];

fn view_of(version: &Version) -> Rows {
    let Some(query) = version.definition.view() else { return Vec::new() };
    let mut row = names(version);
    row.extend([Cell::text(query), Cell::Text(None), Cell::yes(true)]);
    vec![row]
}
