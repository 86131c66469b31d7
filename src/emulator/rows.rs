//! tabledata.list, and the pages of query results.
//!
//! A page token says which version of the table the first page was of, and all pages are of that one: rows do
//! not come twice or never because somebody changes the table in between.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use serde_json::{Value, json};

use super::catalog::Catalog;
use super::encode::{PAGE_ROWS_MAX, Rows, TimestampFormat};
use super::fields::{Field, arrow_schema};
use super::files::{read_part, same_name};
use super::names::Address;
use super::partitions::Partition;
use super::versions::Version;
use super::wire::{Arguments, Failure, Outcome, Reply};

/// One page of a table or partition.
#[derive(Debug)]
pub(super) struct Page {
    /// The text of an array, in pieces.
    pub rows: Vec<Bytes>,
    pub total_rows: u64,
    pub next: Option<String>,
}

pub(super) fn list(catalog: &Catalog, address: &Address, arguments: &Arguments) -> Outcome<Reply> {
    let version = version(catalog, address, arguments)?;
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

/// What a page is of: the version that its token names, else what the table is now.
pub(super) fn version(catalog: &Catalog, address: &Address, arguments: &Arguments) -> Outcome<Arc<Version>> {
    let version = catalog.version(address)?;
    let Some(token) = arguments.get("pageToken") else { return Ok(version) };
    let number = Token::parse(token, &version)?.number;
    let found = catalog.version_numbered(version, number)?;
    found.ok_or_else(|| {
        Failure::invalid("Invalid value for pageToken: the table has changed, and what it was is not kept")
    })
}

/// Honours maxResults, pageToken, startIndex, selectedFields and formatOptions.useInt64Timestamp.
pub(super) fn page(version: &Version, partition: Option<Partition>, arguments: &Arguments) -> Outcome<Page> {
    let partition = version.resolve(partition)?;
    let start = match arguments.get("pageToken") {
        Some(token) => Token::parse(token, version)?.start,
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
    let definition = &version.definition;
    format!("{}{:016x}{start:016x}", definition.birth, definition.number)
}

/// A token is bound to the table it was made for; a table of the same name made later refuses it.
struct Token {
    /// Of the version.
    number: u64,
    start: u64,
}

impl Token {
    fn parse(token: &str, version: &Version) -> Outcome<Token> {
        let digits = token.strip_prefix(version.definition.birth.as_str());
        let halves =
            digits.filter(|digits| digits.len() == 32).and_then(|digits| digits.split_at_checked(16));
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        halves
            .and_then(|(number_hex, start)| {
                Some(Token { number: number(number_hex)?, start: number(start)? })
            })
            .ok_or_else(|| Failure::invalid("Invalid value for pageToken: the token is of another table"))
    }
}

/// The columns that were asked for, in the table's order whatever the order asked for.
fn selected(version: &Version, selected: Option<&str>) -> Outcome<Arc<Schema>> {
    let fields = &version.definition.fields;
    let Some(selected) = selected else { return Ok(arrow_schema(fields)) };
    let names = selected.split(',').map(str::trim).filter(|n| !n.is_empty());
    let paths: Vec<Vec<&str>> = names.map(|name| name.split('.').collect()).collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    Ok(arrow_schema(&select(fields, &paths)?))
}

/// The fields that paths like `e.d` lead to, in the records that they are in.
fn select(fields: &[Field], paths: &[&[&str]]) -> Outcome<Vec<Field>> {
    for path in paths {
        if !fields.iter().any(|f| same_name(&f.name, path[0])) {
            return Err(Failure::invalid(format!("No such field: {}.", path.join("."))));
        }
    }
    let mut chosen = Vec::new();
    for field in fields {
        let own: Vec<&[&str]> =
            paths.iter().filter(|path| same_name(&field.name, path[0])).copied().collect();
        let below: Vec<&[&str]> = own.iter().map(|path| &path[1..]).collect();
        match own.is_empty() {
            true => {}
            false if below.iter().any(|path| path.is_empty()) => chosen.push(field.clone()),
            false => chosen.push(Field { fields: select(&field.fields, &below)?, ..field.clone() }),
        }
    }
    Ok(chosen)
}
