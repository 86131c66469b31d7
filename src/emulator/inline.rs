//! Query results in Arrow: `queryResultsFormat: "ARROW"` of jobs.query sends the first page as one record batch.
//!
//! Schema and batch are IPC messages in base64, as Google's Python client 3.47 reads them. Pages after the
//! first come through the Storage Read API (gRPC), which this server does not have.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::{Array, ArrayData, RecordBatch, RecordBatchOptions, make_array};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use datafusion::arrow::ipc::{CompressionType, MetadataVersion};
use serde_json::{Map, Value, json};

use super::fields::{Field, Kind, arrow_schema};
use super::files::read_part;
use super::versions::Version;
use super::wire::{Failure, Outcome, object, text};

/// 10 MB of values, and 100,000 rows, are a page, as they are in JSON.
const PAGE_BYTES_MAX: usize = 10_000_000;
const PAGE_ROWS_MAX: u64 = 100_000;

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    compression: Option<CompressionType>,
}

impl Wanted {
    /// `None` when the rows are wanted as JSON.
    pub(super) fn parse(body: &Map<String, Value>) -> Outcome<Option<Self>> {
        match text(body, "queryResultsFormat") {
            None | Some("" | "STRUCT_ENCODING" | "QUERY_RESULTS_FORMAT_UNSPECIFIED") => return Ok(None),
            Some("ARROW") => {}
            Some(other) => {
                return Err(Failure::invalid(format!("Invalid value for queryResultsFormat: {other}")));
            }
        }
        let codec = object(body, "arrowSerializationOptions").and_then(|o| text(o, "bufferCompression"));
        let compression = match codec {
            None | Some("" | "COMPRESSION_UNSPECIFIED") => None,
            Some("LZ4_FRAME") => Some(CompressionType::LZ4_FRAME),
            Some("ZSTD") => Some(CompressionType::ZSTD),
            Some(other) => {
                return Err(Failure::invalid(format!("Invalid value for bufferCompression: {other}")));
            }
        };
        Ok(Some(Wanted { compression }))
    }
}

/// Puts the first rows of a result into its envelope; how many there are.
pub(super) fn first_page(
    envelope: &mut Value,
    version: &Version,
    max_rows: Option<u64>,
    wanted: Wanted,
) -> Outcome<u64> {
    refuse_intervals(&version.definition.fields)?;
    let schema = arrow_schema(&version.definition.fields);
    let max_rows = max_rows.unwrap_or(PAGE_ROWS_MAX).min(PAGE_ROWS_MAX);
    let (mut batches, mut rows, mut bytes) = (Vec::new(), 0, 0);
    'parts: for part in &version.parts {
        if rows == max_rows {
            break;
        }
        for batch in read_part(part, &schema, 0, Some(max_rows - rows))? {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            bytes += batch.get_array_memory_size();
            batches.push(batch);
            if bytes >= PAGE_BYTES_MAX {
                break 'parts;
            }
        }
    }
    let page = concat_batches(&schema, &batches).and_then(as_google_marks_it).map_err(encode_failed)?;
    let (schema, batch) = messages(&page, wanted).map_err(encode_failed)?;
    envelope["arrowSchema"] = json!({"serializedSchema": STANDARD.encode(schema)});
    if rows > 0 {
        envelope["arrowRecordBatch"] = json!({"serializedRecordBatch": STANDARD.encode(batch)});
    }
    envelope["pageRowCount"] = json!(rows.to_string());
    Ok(rows)
}

/// INTERVAL is an Arrow type of its own on Google's side and text on ours.
fn refuse_intervals(fields: &[Field]) -> Outcome<()> {
    for field in fields {
        if field.kind == Kind::Interval {
            return Err(Failure::not_implemented(format!(
                "INTERVAL in Arrow results (column {})",
                field.name
            )));
        }
        refuse_intervals(&field.fields)?;
    }
    Ok(())
}

/// The same columns, with the extension names by which Google says what plain Arrow types do not.
fn as_google_marks_it(page: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = Schema::new(page.schema().fields().iter().map(marked).collect::<Fields>());
    let columns = page
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            // Only metadata differs, at any depth.
            let data = column.to_data().into_builder().data_type(field.data_type().clone());
            let children = remarked(column.to_data().child_data(), field.data_type())?;
            Ok(make_array(data.child_data(children).build()?))
        })
        .collect::<Result<Vec<_>, ArrowError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(page.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
}

fn remarked(children: &[ArrayData], parent: &DataType) -> Result<Vec<ArrayData>, ArrowError> {
    let types: Vec<&DataType> = match parent {
        DataType::List(item) => vec![item.data_type()],
        DataType::Struct(fields) => fields.iter().map(|f| f.data_type()).collect(),
        _ => return Ok(children.to_vec()),
    };
    let pairs = children.iter().zip(types);
    pairs
        .map(|(child, data_type)| {
            let grandchildren = remarked(child.child_data(), data_type)?;
            child.clone().into_builder().data_type(data_type.clone()).child_data(grandchildren).build()
        })
        .collect()
}

fn marked(field: &Arc<ArrowField>) -> ArrowField {
    let marks: &[(&str, &str)] = match Kind::of_field(field) {
        _ if matches!(field.data_type(), DataType::List(_)) => &[],
        Some(Kind::Json) => &[("ARROW:extension:name", "google:sqlType:json")],
        Some(Kind::DateTime) => &[("ARROW:extension:name", "google:sqlType:datetime")],
        Some(Kind::Geography) => &[
            ("ARROW:extension:name", "google:sqlType:geography"),
            ("ARROW:extension:metadata", r#"{"encoding": "WKT"}"#),
        ],
        _ => &[],
    };
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(Arc::new(marked(item))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(marked).collect()),
        other => other.clone(),
    };
    let metadata = marks.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ArrowField::new(field.name(), data_type, true).with_metadata(metadata)
}

/// The encapsulated messages of a schema and of one batch.
fn messages(page: &RecordBatch, wanted: Wanted) -> Result<(Vec<u8>, Vec<u8>), ArrowError> {
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
    let options = options.try_with_compression(wanted.compression)?;
    let generator = IpcDataGenerator::default();
    // No column of a table is a dictionary.
    let mut dictionaries = DictionaryTracker::new(false);
    let schema = Arc::clone(page.schema_ref());
    let encoded = generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut dictionaries, &options);
    let mut schema = Vec::new();
    write_message(&mut schema, encoded, &options)?;
    let mut context = IpcWriteContext::default();
    let (_, encoded) = generator.encode(page, &mut dictionaries, &options, &mut context)?;
    let mut batch = Vec::new();
    write_message(&mut batch, encoded, &options)?;
    Ok((schema, batch))
}

fn encode_failed(error: ArrowError) -> Failure {
    Failure::backend(format!("cannot write the page as Arrow: {error}"))
}
