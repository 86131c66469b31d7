//! Load jobs: Parquet files from `file://` and `gs://` into a table, all or nothing.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value, json};

use super::destination::{Destination, Disposition, Target};
use super::disk::{OwnedFile, unique_name};
use super::fields::{self, Field, Kind, Mode, arrow_schema};
use super::files::{RowsWriter, Rule, column_bytes, conform, same_name};
use super::names::ProjectId;
use super::sources::{self, Source};
use super::storage::Objects;
use super::versions::Part;
use super::wire::{Failure, Outcome, object, text};

const SOURCES_MAX: usize = 10_000;

/// `configuration.load`, checked.
#[derive(Debug, Clone)]
pub(super) struct LoadSpec {
    pub destination: Destination,
    uris: Vec<String>,
    schema: Option<Vec<Field>>,
    /// Whether Parquet lists become REPEATED columns, as opposed to BigQuery's `list.element` records.
    list_inference: bool,
}

impl LoadSpec {
    pub(super) fn parse(load: &Map<String, Value>, project: &ProjectId) -> Outcome<Self> {
        let required = |name: &str| {
            Failure::invalid(format!("Required parameter is missing: configuration.load.{name}"))
        };
        let reference = object(load, "destinationTable").ok_or_else(|| required("destinationTable"))?;
        let destination = Destination::parse(load, reference, project, Disposition::Append)?;
        match text(load, "sourceFormat") {
            Some("PARQUET") => {}
            other => {
                let format = other.unwrap_or("CSV");
                return Err(Failure::not_implemented(format!("load jobs with sourceFormat {format}")));
            }
        }
        let uris: Vec<String> = load
            .get("sourceUris")
            .and_then(Value::as_array)
            .map(|uris| uris.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            .unwrap_or_default();
        if uris.is_empty() {
            return Err(required("sourceUris"));
        }
        if uris.len() > SOURCES_MAX {
            return Err(Failure::invalid(format!(
                "Too many sources provided: {}. Limit is 10000.",
                uris.len()
            )));
        }
        for uri in &uris {
            sources::check(uri)?;
        }
        for member in ["hivePartitioningOptions", "referenceFileSchemaUri", "columnNameCharacterMap"] {
            if load.get(member).is_some_and(|v| !v.is_null()) {
                return Err(Failure::not_implemented(member));
            }
        }
        if load.get("ignoreUnknownValues").and_then(Value::as_bool) == Some(true) {
            return Err(Failure::not_implemented("ignoreUnknownValues"));
        }
        let schema = object(load, "schema").map(fields::parse_schema).transpose()?.filter(|s| !s.is_empty());
        let list_inference = object(load, "parquetOptions")
            .and_then(|o| o.get("enableListInference"))
            .and_then(Value::as_bool)
            .unwrap_or(false);
        Ok(LoadSpec { destination, uris, schema, list_inference })
    }
}

/// Files that are ready to become part of the table.
#[derive(Debug)]
pub(super) struct Loaded {
    pub target: Arc<Target>,
    pub parts: Vec<Part>,
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
            "badRecords": "0",
        }})
    }
}

/// Reads every source. Nothing is visible until the parts are committed.
pub(super) async fn run(
    spec: &LoadSpec,
    catalog: Arc<super::catalog::Catalog>,
    own: &Arc<Objects>,
    cancelled: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> Outcome<Loaded> {
    let mut found = Vec::new();
    for uri in &spec.uris {
        found.extend(sources::expand(uri, own).await?);
    }
    // BigQuery takes the schema of the alphabetically last file; it must fit all the others.
    found.sort_by(|a, b| a.uri.cmp(&b.uri));
    let target = match (&spec.schema, found.last().cloned()) {
        (Some(schema), _) => spec.destination.target(&catalog, schema, true)?,
        (None, None) => spec.destination.target(&catalog, &[], false)?,
        (None, Some(last)) => {
            let fetched = fetch(&last, &spec.destination, &catalog, own).await?;
            let incoming = blocking(move || inferred_fields(fetched.path(), &last.uri)).await?;
            spec.destination.target(&catalog, &incoming, false)?
        }
    };
    let target = Arc::new(target);
    let (mut input_bytes, input_files) = (0, found.len() as u64);
    let mut parts = Vec::new();
    for source in found {
        if cancelled() {
            return Err(Failure::stopped());
        }
        let fetched = fetch(&source, &spec.destination, &catalog, own).await?;
        let (cancelled, list_inference) = (cancelled.clone(), spec.list_inference);
        let target = Arc::clone(&target);
        let (bytes, taken) = blocking(move || {
            let bytes = std::fs::metadata(fetched.path())?.len();
            Ok((bytes, take_file(&source, &fetched, &target, list_inference, &cancelled)?))
        })
        .await?;
        input_bytes += bytes;
        parts.extend(taken);
    }
    Ok(Loaded { target, parts, input_files, input_bytes })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(Failure::backend(format!("the load task died: {e}"))))
}

/// The source as a local file: where it is, or a copy that goes away by itself.
async fn fetch(
    source: &Source,
    destination: &Destination,
    catalog: &super::catalog::Catalog,
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

fn reader(path: &Path, uri: &str) -> Outcome<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|e| Failure::not_found(format!("Not found: URI {uri}: {e}")))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| read_failed(uri, e))
}

fn read_failed(uri: &str, error: impl std::fmt::Display) -> Failure {
    let message = format!("Error while reading data, error message: {error} File: {uri}");
    Failure { location: Some(uri.to_owned()), ..Failure::invalid(message) }
}

fn inferred_fields(path: &Path, uri: &str) -> Outcome<Vec<Field>> {
    let fields = fields::fields_of(reader(path, uri)?.schema()).map_err(|e| read_failed(uri, e.message))?;
    for field in &fields {
        fields::check_name(&field.name).map_err(|e| read_failed(uri, e.message))?;
    }
    Ok(fields)
}

fn take_file(
    source: &Source,
    fetched: &OwnedFile,
    target: &Target,
    list_inference: bool,
    cancelled: &impl Fn() -> bool,
) -> Outcome<Vec<Part>> {
    let builder = reader(fetched.path(), &source.uri)?;
    let schema = Arc::clone(builder.schema());
    let metadata = Arc::clone(builder.metadata());
    let same = check_schema(&schema, &target.fields, list_inference).map_err(|e| match e.code {
        400 => read_failed(&source.uri, e.message),
        _ => e,
    })?;
    if metadata.file_metadata().num_rows() == 0 {
        return Ok(Vec::new());
    }
    let batches = builder.with_batch_size(8192).build().map_err(|e| read_failed(&source.uri, e))?;
    let required: Vec<&Field> = target.fields.iter().filter(|f| f.mode == Mode::Required).collect();
    let checked = batches.map(|batch| {
        if cancelled() {
            return Err(Failure::stopped());
        }
        let batch = batch.map_err(|e| read_failed(&source.uri, e))?;
        check_required(&batch, &required, &source.uri)?;
        Ok(batch)
    });
    match (same, target.rule) {
        (true, Rule::Fixed(partition)) => {
            // Every page is decoded once, so that a damaged file fails now; the bytes are then kept as they are.
            let mut rows = 0;
            for batch in checked {
                rows += batch?.num_rows() as u64;
            }
            let file = Arc::new(copy(fetched.path(), &target.dir)?);
            let column_bytes = column_bytes(&metadata);
            check_unchanged(file.path(), &metadata, &source.uri)?;
            Ok(vec![Part::new(partition, rows, column_bytes, file)])
        }
        _ => {
            let wanted = arrow_schema(&target.fields);
            let mut writer = RowsWriter::new(&target.dir, Arc::clone(&wanted), target.rule);
            for batch in checked {
                writer.write(&conform(&batch?, &wanted).map_err(|e| read_failed(&source.uri, e))?)?;
            }
            writer.finish()
        }
    }
}

fn copy(from: &Path, dir: &Path) -> Outcome<OwnedFile> {
    let draft = OwnedFile::draft(dir.join(format!("{}.parquet", unique_name())));
    let mut source = BufReader::with_capacity(1 << 20, File::open(from)?);
    let mut copy = File::create_new(draft.path())?;
    std::io::copy(&mut source, &mut copy)?;
    copy.sync_all()?;
    Ok(draft)
}

/// The file that was checked and the file that was copied must be the same one.
fn check_unchanged(copy: &Path, metadata: &ParquetMetaData, uri: &str) -> Outcome<()> {
    let copied = reader(copy, uri)?;
    if copied.metadata().row_groups() != metadata.row_groups() {
        return Err(read_failed(uri, "the file changed while it was read."));
    }
    Ok(())
}

/// Whether the file's columns already have the table's types; an error when they cannot become them.
fn check_schema(file: &SchemaRef, table: &[Field], list_inference: bool) -> Outcome<bool> {
    let mut same = true;
    for (index, column) in file.fields().iter().enumerate() {
        let name = column.name();
        if file.fields()[..index].iter().any(|f| same_name(f.name(), name)) {
            return Err(Failure::invalid(format!("Duplicate Parquet column '{name}'.")));
        }
        let Some(field) = table.iter().find(|f| same_name(&f.name, name)) else {
            return Err(Failure::invalid(format!("No such field: {name}.")));
        };
        same &= check_type(column.data_type(), field, list_inference)?;
    }
    for field in table.iter().filter(|f| f.mode == Mode::Required) {
        if !file.fields().iter().any(|f| same_name(f.name(), &field.name)) {
            let name = &field.name;
            return Err(Failure::invalid(format!(
                "Required column '{name}' is missing from the Parquet schema."
            )));
        }
    }
    Ok(same)
}

fn check_type(found: &DataType, field: &Field, list_inference: bool) -> Outcome<bool> {
    let item = match found {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            if !list_inference {
                return Err(Failure::not_implemented(format!(
                    "Parquet lists without parquetOptions.enableListInference (column {})",
                    field.name
                )));
            }
            Some(item.data_type())
        }
        _ => None,
    };
    let found_kind = Kind::of(item.unwrap_or(found));
    let fits = item.is_some() == (field.mode == Mode::Repeated)
        && found_kind.is_some_and(|kind| {
            kind == field.kind
                || matches!(
                    (kind, field.kind),
                    (Kind::Bytes, Kind::String)
                        | (Kind::DateTime, Kind::Timestamp)
                        | (Kind::Timestamp, Kind::DateTime)
                        | (Kind::Numeric, Kind::BigNumeric)
                )
        });
    if !fits {
        let (found_name, repeated) = (
            found_kind.map_or_else(|| found.to_string(), |k| k.sql().to_owned()),
            if item.is_some() { "REPEATED " } else { "" },
        );
        return Err(Failure::invalid(format!(
            "Parquet column '{}' has type {repeated}{found_name} which does not match the target type {}{}.",
            field.name,
            if field.mode == Mode::Repeated { "REPEATED " } else { "" },
            field.kind.sql(),
        )));
    }
    if let DataType::Struct(children) = item.unwrap_or(found) {
        check_schema(&Arc::new(Schema::new(children.clone())), &field.fields, list_inference)?;
    }
    let wanted = arrow_schema(std::slice::from_ref(field));
    Ok(match (wanted.field(0).data_type(), found) {
        (DataType::Utf8, DataType::LargeUtf8 | DataType::Utf8View) => true,
        (DataType::Timestamp(unit, Some(_)), DataType::Timestamp(found_unit, Some(zone))) => {
            unit == found_unit && matches!(zone.as_ref(), "UTC" | "+00:00" | "Z")
        }
        (wanted, found) => wanted == found,
    })
}

fn check_required(batch: &RecordBatch, required: &[&Field], uri: &str) -> Outcome<()> {
    let schema = batch.schema();
    for field in required {
        let column = schema.fields().iter().position(|f| same_name(f.name(), &field.name));
        if column.is_none_or(|index| batch.column(index).logical_null_count() > 0) {
            let name = &field.name;
            return Err(read_failed(uri, format!("Required column '{name}' has a NULL value.")));
        }
    }
    Ok(())
}
