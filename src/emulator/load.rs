//! Load jobs: files from `file://`, `gs://` and uploads into a table, all or nothing.
//!
//! A format answers two questions about a file: which fields it says it has, and what its rows are in the
//! table's own types, one bounded batch after the other. All else is the same for every format.

mod avro;
mod bad_rows;
mod csv;
mod detect;
mod json;
mod parquet;
mod spec;
mod text;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use serde_json::{Value, json};

use self::bad_rows::BadRows;
use self::parquet::take_file;
use self::spec::Format;
pub(super) use self::spec::LoadSpec;
use super::catalog::Catalog;
use super::destination::{Destination, Target};
use super::disk::{OwnedFile, unique_name};
use super::fields::{Field, arrow_schema};
use super::files::RowsWriter;
use super::run::blocking;
use super::sources::{self, Source};
use super::storage::Objects;
use super::versions::Part;
use super::wire::{Failure, Outcome};

/// The rows of one file, in the types of the table, one bounded batch after the other.
type Batches<'a> = Box<dyn Iterator<Item = Outcome<RecordBatch>> + 'a>;

/// Files that are ready to become part of the table.
#[derive(Debug)]
pub(super) struct Loaded {
    pub target: Arc<Target>,
    pub parts: Vec<Part>,
    /// Rows that were left out, as far as the job allows it.
    pub warnings: Vec<Failure>,
    bad_records: u64,
    input_files: u64,
    input_bytes: u64,
}

impl Loaded {
    /// `statistics.load`.
    pub(super) fn statistics(&self) -> Value {
        let rows: u64 = self.parts.iter().map(|p| p.rows).sum();
        let bytes: u64 = self.parts.iter().map(Part::logical_bytes).sum();
        json!({"load": {
            "inputFiles": self.input_files.to_string(),
            "inputFileBytes": self.input_bytes.to_string(),
            "outputRows": rows.to_string(),
            "outputBytes": bytes.to_string(),
            "badRecords": self.bad_records.to_string(),
        }})
    }
}

/// Reads every source. Nothing is visible until the parts are committed.
pub(super) async fn run(
    spec: &LoadSpec,
    catalog: Arc<Catalog>,
    own: &Arc<Objects>,
    cancelled: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> Outcome<Loaded> {
    let found = find(spec, own).await?;
    let target = Arc::new(target(spec, found.last(), &catalog, own).await?);
    let (mut input_bytes, input_files) = (0, found.len() as u64);
    let mut parts = Vec::new();
    let mut bad = BadRows::new(spec.format.name(), spec.bad_rows_max);
    for source in found {
        if cancelled() {
            return Err(Failure::stopped());
        }
        let fetched = fetch(&source, &spec.destination, &catalog, own).await?;
        let plain = plain(spec, &source, &fetched, &target.dir).await?;
        let (cancelled, spec) = (cancelled.clone(), spec.clone());
        let target = Arc::clone(&target);
        let (bytes, taken, tally) = blocking(move || {
            let bytes = std::fs::metadata(fetched.path())?.len();
            let path = plain.as_ref().map_or(fetched.path(), OwnedFile::path);
            let taken = take(&spec, &source, path, &target, &mut bad, &cancelled)?;
            Ok((bytes, taken, bad))
        })
        .await?;
        bad = tally;
        input_bytes += bytes;
        parts.extend(taken);
    }
    let (bad_records, warnings) = bad.into_parts();
    Ok(Loaded { target, parts, warnings, bad_records, input_files, input_bytes })
}

/// Every file of the job, in the order of their names.
async fn find(spec: &LoadSpec, own: &Arc<Objects>) -> Outcome<Vec<Source>> {
    if let Some(uploaded) = &spec.uploaded {
        return Ok(vec![Source { uri: String::new(), local: Some(uploaded.path().to_owned()) }]);
    }
    let mut found = Vec::new();
    for uri in &spec.uris {
        found.extend(sources::expand(uri, own).await?);
    }
    found.sort_by(|a, b| a.uri.cmp(&b.uri));
    Ok(found)
}

/// What will be written: by the schema that was given, else by the one of the alphabetically last file, as
/// BigQuery does it, or else by the table's own.
async fn target(
    spec: &LoadSpec,
    last: Option<&Source>,
    catalog: &Catalog,
    own: &Arc<Objects>,
) -> Outcome<Target> {
    if let Some(schema) = &spec.schema {
        return spec.destination.target(catalog, schema, true);
    }
    let last = match &spec.reference {
        Some(uri) => sources::expand(uri, own).await?.pop(),
        None => last.cloned(),
    };
    let (Some(last), true) = (last, spec.has_own_schema()) else {
        let target = spec.destination.target(catalog, &[], false)?;
        if target.fields.is_empty() {
            return Err(Failure::invalid("No schema specified on job or table."));
        }
        return Ok(target);
    };
    let fetched = fetch(&last, &spec.destination, catalog, own).await?;
    let dir = catalog.table_dir(&spec.destination.address.name)?;
    let plain = plain(spec, &last, &fetched, &dir).await?;
    let known = spec.destination.known_fields(catalog)?;
    let spec_of_task = spec.clone();
    let incoming = blocking(move || {
        let path = plain.as_ref().map_or(fetched.path(), OwnedFile::path);
        fields_of(&spec_of_task, path, &last.uri, &known)
    })
    .await?;
    spec.destination.target(catalog, &incoming, false)
}

/// What a file says of its own columns; of the table's are taken the types that it leaves open.
fn fields_of(spec: &LoadSpec, path: &Path, uri: &str, known: &[Field]) -> Outcome<Vec<Field>> {
    match &spec.format {
        Format::Parquet(options) => parquet::fields_of(path, uri, options),
        Format::Json(options) => json::detect(path, uri, options, known),
        Format::Csv(options) => csv::detect(path, uri, options, known),
        Format::Avro(options) => avro::fields_of(path, uri, options),
    }
}

/// The source as a local file: where it is, or a copy that goes away by itself.
async fn fetch(
    source: &Source,
    destination: &Destination,
    catalog: &Catalog,
    own: &Arc<Objects>,
) -> Outcome<OwnedFile> {
    match &source.local {
        Some(path) => Ok(OwnedFile::new(path.clone())),
        None => {
            let dir = catalog.table_dir(&destination.address.name)?;
            let draft = OwnedFile::draft(dir.join(format!("{}.tmp", unique_name())));
            sources::download(source, draft.path(), own).await?;
            Ok(draft)
        }
    }
}

/// A text as plain UTF-8, where it is not that already, and Avro as Parquet.
async fn plain(
    spec: &LoadSpec,
    source: &Source,
    fetched: &OwnedFile,
    dir: &Path,
) -> Outcome<Option<OwnedFile>> {
    let draft = || OwnedFile::draft(dir.join(format!("{}.tmp", unique_name())));
    let encoding = match &spec.format {
        Format::Parquet(_) => return Ok(None),
        Format::Avro(options) => {
            let (options, uri, draft) = (options.clone(), source.uri.clone(), draft());
            let path = fetched.path().to_owned();
            let converted = blocking(move || {
                avro::convert(&path, &uri, &options, draft.path())?;
                Ok(draft)
            });
            return converted.await.map(Some);
        }
        Format::Json(options) => options.encoding,
        Format::Csv(options) => options.encoding,
    };
    text::plain(fetched.path(), encoding, draft).await.map_err(|e| match e.code {
        400 => read_failed(&source.uri, e.message),
        _ => e,
    })
}

fn take(
    spec: &LoadSpec,
    source: &Source,
    path: &Path,
    target: &Target,
    bad: &mut BadRows,
    cancelled: &impl Fn() -> bool,
) -> Outcome<Vec<Part>> {
    let batches: Batches<'_> = match &spec.format {
        Format::Parquet(options) => return take_file(source, path, target, options, cancelled),
        Format::Avro(options) => return avro::take_file(source, path, target, options, cancelled),
        Format::Json(options) => Box::new(json::rows(path, &source.uri, options, &target.fields, bad)?),
        Format::Csv(options) => {
            let columns = spec.schema.as_deref().unwrap_or(&target.fields);
            Box::new(csv::rows(path, &source.uri, options, columns, &target.fields, bad)?)
        }
    };
    let mut writer = RowsWriter::new(&target.dir, arrow_schema(&target.fields), target.rule);
    for batch in batches {
        if cancelled() {
            return Err(Failure::stopped());
        }
        writer.write(&batch?)?;
    }
    writer.finish()
}

/// What a library says of a file is for the log: it speaks of its own types.
fn damaged(uri: &str, format: &str, error: impl std::fmt::Display) -> Failure {
    tracing::warn!(uri, %error, "a file cannot be read");
    read_failed(uri, format!("The file is damaged, or it is no {format} file; the log says where."))
}

fn read_failed(uri: &str, error: impl std::fmt::Display) -> Failure {
    let message = format!("Error while reading data, error message: {error}");
    match uri {
        // An upload has no name.
        "" => Failure::invalid(message),
        uri => {
            Failure { location: Some(uri.to_owned()), ..Failure::invalid(format!("{message} File: {uri}")) }
        }
    }
}
