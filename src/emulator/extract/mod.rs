//! Extract jobs: the rows of a table into files of Cloud Storage, or local ones.

mod avro;
mod container;
mod sink;
mod text;
mod writer;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::catalog::Catalog;
use super::fields::{Field, Kind, Mode, arrow_schema};
use super::files::read_part;
use super::names::{Address, ProjectId};
use super::run::blocking;
use super::sources::{self, Place};
use super::storage::Objects;
use super::versions::{Part, Version};
use super::wire::{Failure, Outcome, object, text};
use writer::{FileWriter, Format};

const URIS_MAX: usize = 500;
/// 1 GB is the most that BigQuery puts into one file.
const SINGLE_FILE_BYTES_MAX: u64 = 1_000_000_000;
/// 256 MB of output, then the next file is begun, where there may be a next one.
const SHARD_BYTES: u64 = 256_000_000;

/// `configuration.extract`, checked.
#[derive(Debug)]
pub(super) struct ExtractSpec {
    pub source: Address,
    uris: Vec<String>,
    format: Format,
}

impl ExtractSpec {
    pub(super) fn parse(extract: &Map<String, Value>, project: &ProjectId) -> Outcome<Self> {
        let missing = |name: &str| {
            Failure::invalid(format!("Required parameter is missing: configuration.extract.{name}"))
        };
        if extract.get("sourceModel").is_some_and(|v| !v.is_null()) {
            return Err(Failure::not_implemented("extract jobs of models"));
        }
        let source = object(extract, "sourceTable").ok_or_else(|| missing("sourceTable"))?;
        let source = Address::from_reference(source, project)?;
        let many = extract.get("destinationUris").and_then(Value::as_array);
        let mut uris: Vec<String> =
            many.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        if uris.is_empty() {
            uris.extend(text(extract, "destinationUri").map(str::to_owned));
        }
        if uris.is_empty() {
            return Err(missing("destinationUris"));
        }
        if uris.len() > URIS_MAX {
            return Err(Failure::invalid(format!(
                "Too many destination URIs: {}. Limit is 500.",
                uris.len()
            )));
        }
        for uri in &uris {
            sources::check(uri)?;
            if uris.len() > 1 && !uri.contains('*') {
                return Err(Failure::invalid(
                    "Each of several destination URIs must contain exactly one '*' wildcard",
                ));
            }
        }
        Ok(ExtractSpec { source, uris, format: Format::parse(extract)? })
    }
}

/// Writes the files one after the other; each is there whole or not at all.
pub(super) async fn run(
    spec: &ExtractSpec,
    catalog: Arc<Catalog>,
    own: Arc<Objects>,
    cancelled: impl Fn() -> bool + Clone + Send + 'static,
) -> Outcome<Value> {
    let source = spec.source.clone();
    let version = blocking(move || catalog.version(&source)).await?;
    let partition = version.resolve(spec.source.partition)?;
    check(&version, spec.format)?;
    for uri in &spec.uris {
        sink::check(uri, &own).await?;
    }
    let parts: Vec<Part> = version.parts_of(partition).cloned().collect();
    let input_bytes: u64 = parts.iter().map(Part::logical_bytes).sum();
    if !spec.uris[0].contains('*') && input_bytes > SINGLE_FILE_BYTES_MAX {
        return Err(Failure::invalid(format!(
            "Table {} too large to be exported to a single file. Specify a uri including a * to shard export. \
             See 'Exporting data into one or more files' in \
             https://cloud.google.com/bigquery/docs/exporting-data.",
            version.definition.name.legacy()
        )));
    }
    let mut counts = vec![0u64; spec.uris.len()];
    let mut rows = Rows::new(version, parts);
    // Every URI gets a file; the rest of the rows goes to them in turn.
    for index in (0..spec.uris.len()).cycle() {
        let is_first_round = counts[index] == 0;
        if !is_first_round && rows.is_over {
            break;
        }
        let uri = spec.uris[index].replacen('*', &format!("{:012}", counts[index]), 1);
        let may_shard = spec.uris[index].contains('*');
        let (format, draft, cancelled) = (spec.format, own.draft()?, cancelled.clone());
        // Of several URIs none waits for another one's file to be full.
        let bytes_max = if !may_shard { u64::MAX } else { SHARD_BYTES / spec.uris.len() as u64 };
        let written = blocking(move || {
            let mut writer = FileWriter::new(format, &rows.version.definition.fields, draft)?;
            while writer.bytes() < bytes_max
                && let Some(batch) = rows.next()?
            {
                if cancelled() {
                    return Err(Failure::stopped());
                }
                writer.write(&batch)?;
            }
            Ok((rows, writer.finish()?))
        });
        let (left, draft) = written.await?;
        rows = left;
        sink::store(&uri, draft, &own).await?;
        counts[index] += 1;
    }
    let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
    Ok(json!({"extract": {"destinationUriFileCounts": counts, "inputBytes": input_bytes.to_string()}}))
}

fn check(version: &Version, format: Format) -> Outcome<()> {
    let name = version.definition.name.legacy();
    let kind = version.definition.kind();
    if !matches!(kind, "TABLE" | "SNAPSHOT") {
        return Err(Failure::invalid(format!("{name} cannot be extracted: it is a {kind}")));
    }
    if let Format::Csv { .. } = format {
        let is_nested = |f: &&Field| f.mode == Mode::Repeated || f.kind == Kind::Record;
        if let Some(field) = version.definition.fields.iter().find(is_nested) {
            return Err(Failure::invalid(format!(
                "Operation cannot be performed on a nested schema. Field: {}",
                field.name
            )));
        }
    }
    Ok(())
}

/// Rows of the parts, batch by batch.
struct Rows {
    version: Arc<Version>,
    parts: std::vec::IntoIter<Part>,
    reader: Option<super::files::Reader>,
    is_over: bool,
}

impl Rows {
    fn new(version: Arc<Version>, parts: Vec<Part>) -> Self {
        Rows { version, parts: parts.into_iter(), reader: None, is_over: false }
    }

    fn next(&mut self) -> Outcome<Option<datafusion::arrow::array::RecordBatch>> {
        loop {
            if let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
                return batch.map(Some);
            }
            let Some(part) = self.parts.next() else {
                self.is_over = true;
                return Ok(None);
            };
            let schema = arrow_schema(&self.version.definition.fields);
            self.reader = Some(read_part(&part, &schema, 0, None)?);
        }
    }
}

/// For messages of the parts of this module.
fn write_failed(error: impl std::fmt::Display) -> Failure {
    Failure::backend(format!("cannot write an extracted file: {error}"))
}

fn place(uri: &str) -> Outcome<Place> {
    sources::parse(uri)
}
