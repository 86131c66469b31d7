//! The statement that would make a table, view or dataset as it is.

use serde_json::Value;

use crate::emulator::catalog::DatasetDocument;
use crate::emulator::fields::{Field, Kind, Mode};
use crate::emulator::partitions::By;
use crate::emulator::query::statements::options;
use crate::emulator::versions::Definition;

/// `ARRAY<STRUCT<a INT64, b STRING(10)>>`.
pub(super) fn data_type(field: &Field) -> String {
    let member = |name: &str| field.rest.get(name).and_then(Value::as_str);
    let name = match field.kind {
        Kind::Record => {
            let inner: Vec<String> =
                field.fields.iter().map(|f| format!("{} {}", f.name, data_type(f))).collect();
            format!("STRUCT<{}>", inner.join(", "))
        }
        kind => match (member("maxLength").or_else(|| member("precision")), member("scale")) {
            (Some(first), Some(scale)) => format!("{}({first}, {scale})", kind.sql()),
            (Some(first), None) => format!("{}({first})", kind.sql()),
            _ => kind.sql().to_owned(),
        },
    };
    if field.mode == Mode::Repeated { format!("ARRAY<{name}>") } else { name }
}

fn column(field: &Field) -> String {
    let mut text = format!("  {} {}", field.name, data_type(field));
    if let Some(default) = field.default_expression() {
        text.push_str(&format!(" DEFAULT {default}"));
    }
    if field.mode == Mode::Required {
        text.push_str(" NOT NULL");
    }
    if let Some(description) = field.rest.get("description").and_then(Value::as_str) {
        text.push_str(&format!(" OPTIONS(description={})", options::string_literal(description)));
    }
    text
}

/// `document` is what tables.get answers.
pub(super) fn table_ddl(definition: &Definition, document: &Value) -> String {
    let name = &definition.name;
    let mut lines = Vec::new();
    if let Some(query) = definition.view() {
        lines.push(format!("CREATE VIEW `{name}`"));
        lines.extend(option_lines(document));
        lines.push(format!("AS {query};"));
        return lines.join("\n");
    }
    let base = |member: &str| {
        let base = definition.rest.get(member)?.get("baseTableReference")?;
        let part = |name: &str| base.get(name).and_then(Value::as_str).unwrap_or_default();
        Some(format!("{}.{}.{}", part("projectId"), part("datasetId"), part("tableId")))
    };
    if let Some(base) = base("snapshotDefinition") {
        lines.push(format!("CREATE SNAPSHOT TABLE `{name}`\nCLONE `{base}`"));
    } else {
        lines.push(format!("CREATE TABLE `{name}`"));
        let columns: Vec<String> = definition.fields.iter().map(column).collect();
        lines.push(format!("(\n{}\n)", columns.join(",\n")));
        if let Some(partitioning) = partition_by(definition) {
            lines.push(format!("PARTITION BY {partitioning}"));
        }
        let clustering = definition.rest.get("clustering").and_then(|c| c.get("fields")?.as_array());
        if let Some(fields) = clustering.filter(|fields| !fields.is_empty()) {
            let fields: Vec<&str> = fields.iter().filter_map(Value::as_str).collect();
            lines.push(format!("CLUSTER BY {}", fields.join(", ")));
        }
    }
    lines.extend(option_lines(document));
    lines.join("\n") + ";"
}

fn partition_by(definition: &Definition) -> Option<String> {
    let partitioning = definition.partitioning.as_ref()?;
    let field = definition.partition_field();
    Some(match (partitioning.by, field) {
        (By::Range { start, end, interval }, Some(field)) => {
            format!("RANGE_BUCKET({}, GENERATE_ARRAY({start}, {end}, {interval}))", field.name)
        }
        (By::Range { .. }, None) => return None,
        (By::Time(granularity), None) => match granularity.name() {
            "DAY" => "DATE(_PARTITIONTIME)".to_owned(),
            unit => format!("TIMESTAMP_TRUNC(_PARTITIONTIME, {unit})"),
        },
        (By::Time(granularity), Some(field)) => match (field.kind, granularity.name()) {
            (Kind::Date, "DAY") => field.name.clone(),
            (_, "DAY") => format!("DATE({})", field.name),
            (Kind::Date, unit) => format!("DATE_TRUNC({}, {unit})", field.name),
            (Kind::DateTime, unit) => format!("DATETIME_TRUNC({}, {unit})", field.name),
            (_, unit) => format!("TIMESTAMP_TRUNC({}, {unit})", field.name),
        },
    })
}

fn option_lines(document: &Value) -> Option<String> {
    let shown: Vec<String> =
        options::shown(document).into_iter().map(|(name, _, value)| format!("  {name}={value}")).collect();
    (!shown.is_empty()).then(|| format!("OPTIONS(\n{}\n)", shown.join(",\n")))
}

pub(super) fn schema_ddl(dataset: &DatasetDocument) -> String {
    let mut shown: Vec<String> = options::shown(&dataset.resource())
        .into_iter()
        .map(|(name, _, value)| format!("  {name}={value}"))
        .collect();
    shown.push(format!("  location={}", options::string_literal(&dataset.location.to_lowercase())));
    format!("CREATE SCHEMA `{}.{}`\nOPTIONS(\n{}\n);", dataset.project, dataset.id, shown.join(",\n"))
}
