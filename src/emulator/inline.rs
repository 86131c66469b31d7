//! Query results in Arrow: `queryResultsFormat: "ARROW"` of jobs.query sends the first page as one record batch.
//!
//! Schema and batch are IPC messages in base64, as Google's Python client 3.47 reads them. Pages after the
//! first come through the Storage Read API (gRPC), which this server does not have.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use datafusion::arrow::ipc::{CompressionType, MetadataVersion};
use serde_json::{Map, Value, json};

use super::fields::arrow_schema;
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
    let page = concat_batches(&schema, &batches).map_err(encode_failed)?;
    let (schema, batch) = messages(&page, wanted).map_err(encode_failed)?;
    envelope["arrowSchema"] = json!({"serializedSchema": STANDARD.encode(schema)});
    if rows > 0 {
        envelope["arrowRecordBatch"] = json!({"serializedRecordBatch": STANDARD.encode(batch)});
    }
    envelope["pageRowCount"] = json!(rows.to_string());
    Ok(rows)
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
