//! tabledata.list, and the pages of query results.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use serde_json::{Value, json};

use super::catalog::Catalog;
use super::encode::{PAGE_ROWS_MAX, Rows, TimestampFormat};
use super::fields::arrow_schema;
use super::files::{read_part, same_name};
use super::names::Address;
use super::partitions::Partition;
use super::versions::Version;
use super::wire::{Arguments, Failure, Outcome, Reply};

/// One page of a table or partition.
#[derive(Debug)]
pub(super) struct Page {
    pub rows: String,
    pub total_rows: u64,
    pub next: Option<String>,
}

pub(super) fn list(catalog: &Catalog, address: &Address, arguments: &Arguments) -> Outcome<Reply> {
    let version = catalog.version(address)?;
    let page = page(&version, address.partition, arguments)?;
    let mut envelope = json!({
        "kind": "bigquery#tableDataList",
        "etag": version.definition.etag(),
        "totalRows": page.total_rows.to_string(),
    });
    if let Some(next) = page.next {
        envelope["pageToken"] = Value::from(next);
    }
    Ok(Reply::Rows(envelope, page.rows))
}

/// Honours maxResults, pageToken, startIndex, selectedFields and formatOptions.useInt64Timestamp.
pub(super) fn page(version: &Version, partition: Option<Partition>, arguments: &Arguments) -> Outcome<Page> {
    let partition = version.resolve(partition)?;
    let birth = version.definition.birth.as_str();
    let start = match arguments.get("pageToken") {
        Some(token) => parse_token(token, birth)?,
        None => arguments.number("startIndex")?.unwrap_or(0),
    };
    let max_rows = arguments.number("maxResults")?.unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX);
    let format = TimestampFormat::of(
        arguments.flag("formatOptions.useInt64Timestamp"),
        arguments.get("formatOptions.timestampOutputFormat"),
    )?;
    let total_rows: u64 = version.parts_of(partition).map(|p| p.rows).sum();
    let schema = selected(version, arguments.get("selectedFields"))?;

    let mut rows = Rows::new();
    let mut skip = start;
    'parts: for part in version.parts_of(partition) {
        if skip >= part.rows {
            skip -= part.rows;
            continue;
        }
        let left = max_rows - rows.count;
        if left == 0 {
            break;
        }
        for batch in read_part(part, &schema, skip, Some(left))? {
            if !rows.push(&batch?, format) {
                break 'parts;
            }
        }
        skip = 0;
    }
    let end = start.saturating_add(rows.count);
    let more = end < total_rows && max_rows > 0;
    Ok(Page { total_rows, next: more.then(|| token(version, end)), rows: rows.finish() })
}

/// The page that begins at row `start`.
pub(super) fn token(version: &Version, start: u64) -> String {
    format!("{}{start:016x}", version.definition.birth)
}

/// A token is bound to the table it was made for; a table of the same name made later refuses it.
fn parse_token(token: &str, birth: &str) -> Outcome<u64> {
    token
        .strip_prefix(birth)
        .and_then(|offset| u64::from_str_radix(offset, 16).ok())
        .ok_or_else(|| Failure::invalid("Invalid value for pageToken: the token is of another table"))
}

fn selected(version: &Version, selected: Option<&str>) -> Outcome<Arc<Schema>> {
    let schema = arrow_schema(&version.definition.fields);
    let Some(selected) = selected else { return Ok(schema) };
    let mut wanted = BTreeSet::new();
    for name in selected.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        if name.contains('.') {
            return Err(Failure::not_implemented(format!("selectedFields of nested fields ({name})")));
        }
        let index = schema.fields().iter().position(|f| same_name(f.name(), name));
        wanted.insert(index.ok_or_else(|| Failure::invalid(format!("No such field: {name}.")))?);
    }
    // The order is the table's, whatever the order asked for.
    let wanted: Vec<usize> = wanted.into_iter().collect();
    schema.project(&wanted).map(Arc::new).map_err(|e| Failure::backend(e.to_string()))
}
