//! Tables copied and renamed: what cannot go well is found before the job, and what went wrong before anything
//! is deleted.

use serde_json::Value;

use super::definition::{Definition, difference};
use super::schema;
use super::words::rows_words;
use crate::bigquery::{Address, BigQuery, Change, CopyJob, Document, JobFailure, Removal, Write, in_utc};
use crate::error::{Error, Kind, Result};

/// What a copy did.
#[derive(Debug)]
pub struct Copied {
    pub rows: u64,
    pub job_id: String,
    pub destination: Document,
    /// What the user should know of it.
    pub remarks: Vec<String>,
}

/// Copies `sources` into `destination` by one job, once both sides are known to fit.
pub async fn copy(
    bigquery: &BigQuery,
    sources: &[Address],
    destination: &Address,
    write: Write,
) -> Result<Copied> {
    let mut found = Vec::new();
    for source in sources {
        if bigquery.named(source) == bigquery.named(destination) {
            return Err(Error::usage(format!("`{source}` is both source and destination")));
        }
        let Some(document) = bigquery.document(source).await? else {
            return Err(no_source(bigquery, source).await);
        };
        check_kind(source, &document)?;
        found.push(document);
    }
    let Some((first, others)) = found.split_first() else {
        return Err(Error::usage("there is nothing to copy"));
    };
    for (other, source) in others.iter().zip(&sources[1..]) {
        if let Some(difference) = difference(&first.value, &other.value) {
            return Err(differs(&sources[0], source, &difference));
        }
        check_location(&sources[0], first, source, other)?;
    }
    let before = bigquery.document(destination).await?;
    match &before {
        Some(there) => check_destination(&sources[0], first, destination, there, write)?,
        None => match bigquery.dataset(destination).await? {
            Some(dataset) => check_location(&sources[0], first, destination, &dataset)?,
            None => return Err(bigquery.missing(destination).await),
        },
    }
    let mut remarks = Vec::new();
    for (source, document) in sources.iter().zip(&found) {
        if let Some(rows) = streamed(document) {
            remarks.push(format!("about {rows} rows in the streaming buffer of `{source}` are not copied"));
        }
    }
    let expected: u64 = found.iter().map(Document::rows).sum();
    let (job_id, rows) = run(&bigquery.at(first.text("location")), sources, destination, write).await?;
    let rows = rows.unwrap_or(expected);
    let after = bigquery.document(destination).await?.ok_or_else(|| {
        Error::failed(format!("job `{job_id}` ended well and `{destination}` is not there"))
            .hint("was it deleted meanwhile?")
    })?;
    // Rows that were there count too where they are kept.
    if write != Write::Append && after.rows() != rows {
        return Err(Error::new(
            Kind::Mismatch,
            format!("{rows} rows were copied and `{destination}` has {}", after.rows()),
        )
        .hint("does something else write to it?"));
    }
    Ok(Copied { rows, job_id, destination: after, remarks })
}

/// Sends the job under an id of its own, and waits. The rows, where the service says.
pub(super) async fn run(
    bigquery: &BigQuery,
    sources: &[Address],
    destination: &Address,
    write: Write,
) -> Result<(String, Option<u64>)> {
    let job_id = format!("api2bq_copy_{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let job = CopyJob { id: &job_id, sources, destination, write };
    match bigquery.copy(&job).await? {
        Ok(done) => Ok((job_id, done.copied_rows)),
        Err(failure) => Err(failed(&job_id, destination, &failure)),
    }
}

fn failed(job_id: &str, destination: &Address, failure: &JobFailure) -> Error {
    let JobFailure { reason, message, transient, .. } = failure;
    let error = Error::failed(format!("copy job `{job_id}` failed: {reason}: {}", in_utc(message)));
    match transient {
        true => {
            error.hint(format!("BigQuery had a bad moment; `{destination}` is as it was, repeat the command"))
        }
        false if message.contains("snapshot time") => error.hint(
            "the past can be read for 7 days, or as long as the dataset's time travel window says, and not \
             before the table was made",
        ),
        false => error.hint(format!("`{destination}` is as it was: a copy takes effect whole or not at all")),
    }
}

/// What a rename did.
#[derive(Debug)]
pub struct Renamed {
    pub rows: u64,
    /// When `from` was last there, by the service's clock.
    pub instant_ms: Option<u64>,
}

/// Copies `from` to `to` and deletes `from`, once the copy is proven and `from` is still what was copied.
pub async fn rename(bigquery: &BigQuery, from: &Address, to: &Address) -> Result<Renamed> {
    let Some(before) = bigquery.document(from).await? else { return Err(bigquery.missing(from).await) };
    check_kind(from, &before)?;
    if let Some(rows) = streamed(&before) {
        return Err(Error::usage(format!(
            "about {rows} rows of `{from}` are in its streaming buffer: they would be lost"
        ))
        .hint("they are moved on within 90 minutes of the last one; rename it then"));
    }
    if bigquery.document(to).await?.is_some() {
        return Err(Error::usage(format!("table `{to}` is there already")));
    }
    let copied = copy(bigquery, std::slice::from_ref(from), to, Write::Empty).await?;
    let unproven = |why: String| {
        Error::new(Kind::Mismatch, format!("`{from}` is not deleted: {why}"))
            .hint(format!("both tables are there; compare them, then delete one: `api2bq table delete {to}`"))
    };
    if copied.destination.rows() != before.rows() {
        return Err(unproven(format!(
            "it has {} rows, and its copy {}",
            before.rows(),
            copied.destination.rows()
        )));
    }
    if let Some(difference) = difference(&before.value, &copied.destination.value) {
        return Err(unproven(format!("its copy is another: {difference}")));
    }
    restore_settings(bigquery, to, &Definition::of(&before.value), &copied.destination).await?;
    let Some(now) = bigquery.document(from).await? else { return Err(bigquery.missing(from).await) };
    let same = |member: &str| now.value[member] == before.value[member];
    if !same("etag") || !same("lastModifiedTime") || !same("numRows") || streamed(&now).is_some() {
        return Err(unproven("it was changed while it was copied".into()));
    }
    if bigquery.remove_table(from, Some(now.etag())).await? == Removal::Lost {
        return Err(unproven("it was changed after it was copied".into()));
    }
    Ok(Renamed { rows: copied.rows, instant_ms: now.instant_ms() })
}

/// Settings that a copy does not bring along are set. Nothing is done where all are there.
pub(super) async fn restore_settings(
    bigquery: &BigQuery,
    table: &Address,
    wanted: &Definition,
    found: &Document,
) -> Result<Document> {
    let has = Definition::of(&found.value);
    let mut patch = serde_json::Map::new();
    for member in ["requirePartitionFilter", "expirationTime", "description", "friendlyName", "labels"] {
        if !wanted.get(member).is_null() && wanted.get(member) != has.get(member) {
            patch.insert(member.to_owned(), wanted.get(member).clone());
        }
    }
    let expiration = &wanted.get("timePartitioning")["expirationMs"];
    if !expiration.is_null() && has.get("timePartitioning")["expirationMs"] != *expiration {
        patch.insert("timePartitioning".to_owned(), wanted.get("timePartitioning").clone());
    }
    if patch.is_empty() {
        return Ok(found.clone());
    }
    match bigquery.patch_table(table, found.etag(), &Value::Object(patch)).await? {
        Change::Made(document) => Ok(document),
        Change::Lost => Err(Error::failed(format!("`{table}` was changed by somebody else meanwhile"))
            .hint("its rows are there; `api2bq table show` says what is set")),
    }
}

async fn no_source(bigquery: &BigQuery, source: &Address) -> Error {
    match &source.at {
        Some(at) => Error::usage(format!("there is no table `{source}`")).hint(format!(
            "BigQuery does not describe every table of the past; `api2bq table recover {} --at {at} --to …` \
             brings it back all the same",
            Address { at: None, ..source.clone() }
        )),
        None => bigquery.missing(source).await,
    }
}

fn check_kind(table: &Address, document: &Document) -> Result<()> {
    match document.text("type") {
        "TABLE" | "SNAPSHOT" | "CLONE" | "" => Ok(()),
        kind => Err(Error::usage(format!("`{table}` is a {kind}, and only tables can be copied"))
            .hint("`api2bq query --destination` writes what a view shows into a table")),
    }
}

pub(super) fn check_location(
    one: &Address,
    found: &Document,
    other: &Address,
    there: &Document,
) -> Result<()> {
    let (here, there) = (found.text("location"), there.text("location"));
    if here.eq_ignore_ascii_case(there) || here.is_empty() || there.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!("`{one}` is in {here} and `{other}` in {there}"))
        .hint("a copy job stays in one location; export and load instead, or use the Data Transfer Service"))
}

fn check_destination(
    source: &Address,
    first: &Document,
    destination: &Address,
    there: &Document,
    write: Write,
) -> Result<()> {
    check_location(source, first, destination, there)?;
    let full = || {
        Error::usage(format!("table `{destination}` is there and has {}", rows_words(there.rows())))
            .hint("`--write append` adds to them, `--write truncate` replaces them")
    };
    match write {
        Write::Empty if there.rows() > 0 || streamed(there).is_some() => Err(full()),
        // The destination takes the source's columns on.
        Write::Truncate if destination.partition.is_none() => Ok(()),
        _ => match schema::difference(&first.value["schema"]["fields"], &there.value["schema"]["fields"])
            .or_else(|| {
                super::layout_difference(&first.value, &there.value).filter(|_| source.partition.is_none())
            }) {
            Some(difference) => Err(differs(source, destination, &difference)),
            None => Ok(()),
        },
    }
}

fn differs(one: &Address, other: &Address, difference: &str) -> Error {
    Error::usage(format!("`{one}` (here) and `{other}` (there) differ: {difference}"))
        .hint("tables that are copied into one have the same columns, partitioning and clustering")
}

/// Rows that streaming inserts brought and no copy sees yet.
fn streamed(document: &Document) -> Option<&str> {
    let buffer = document.value.get("streamingBuffer")?;
    Some(buffer["estimatedRows"].as_str().unwrap_or("some"))
}
