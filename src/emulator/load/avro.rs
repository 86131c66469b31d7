//! Avro: a container file is written again as Parquet, in BigQuery's types, and loaded as that.

mod container;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use arrow_avro::reader::ReaderBuilder;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
};
use datafusion::arrow::compute::{self, CastOptions};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema, TimeUnit};
use datafusion::arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::parquet::{self as columns, ParquetOptions};
use super::spec::flag;
use super::{damaged, read_failed};
use crate::emulator::destination::Target;
use crate::emulator::fields::{Field, Kind, Mode, timestamp_type};
use crate::emulator::sources::Source;
use crate::emulator::versions::Part;
use crate::emulator::wire::{Failure, Outcome};

const BATCH_ROWS: usize = 8192;
/// How BigQuery says of a text or record in an Avro file which of its own types it is.
const SQL_TYPE: &str = "sqlType";

/// What `configuration.load` says about Avro.
#[derive(Debug, Clone)]
pub(super) struct AvroOptions {
    /// Whether a date is a DATE, as opposed to the INTEGER that holds it.
    logical_types: bool,
    columns: ParquetOptions,
}

impl AvroOptions {
    pub(super) fn parse(load: &Map<String, Value>) -> Outcome<Self> {
        let columns = ParquetOptions::parse(load)?.with_lists();
        Ok(AvroOptions { logical_types: flag(load, "useAvroLogicalTypes"), columns })
    }
}

/// Writes the rows of the Avro file at `path` as Parquet.
pub(super) fn convert(path: &Path, uri: &str, options: &AvroOptions, to: &Path) -> Outcome<()> {
    let open = || {
        let file = File::open(path);
        let file = file.map_err(|e| Failure::not_found(format!("Not found: URI {uri}: {e}")))?;
        Ok::<_, Failure>(BufReader::with_capacity(1 << 16, file))
    };
    let rows_said = container::count_rows(open()?).map_err(|e| match e.code {
        400 => read_failed(uri, e.message),
        _ => e,
    })?;
    let mut reader = ReaderBuilder::new()
        .with_batch_size(BATCH_ROWS)
        .build(open()?)
        .map_err(|e| damaged(uri, "Avro", e))?;
    let avro = reader.schema();
    let plain = avro.fields().iter().map(|f| plain_field(f, options.logical_types));
    let schema = Arc::new(Schema::new(plain.collect::<Outcome<Vec<_>>>()?));
    let mut writer =
        ArrowWriter::try_new(File::create(to)?, Arc::clone(&schema), None).map_err(write_failed)?;
    let mut rows_read = 0;
    while let Some(batch) = reader.next().transpose().map_err(|e| damaged(uri, "Avro", e))? {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| plain_column(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| damaged(uri, "Avro", e))?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &rows)
            .map_err(|e| damaged(uri, "Avro", e))?;
        rows_read += batch.num_rows() as u64;
        writer.write(&batch).map_err(write_failed)?;
    }
    if rows_read != rows_said {
        return Err(read_failed(uri, format!("{rows_read} rows found where the file has {rows_said}")));
    }
    writer.close().map_err(write_failed)?;
    Ok(())
}

fn write_failed(error: ::parquet::errors::ParquetError) -> Failure {
    Failure::backend(format!("cannot write the rows of an Avro file: {error}"))
}

/// The columns of a converted file. What is no union with null is REQUIRED.
pub(super) fn fields_of(path: &Path, uri: &str, options: &AvroOptions) -> Outcome<Vec<Field>> {
    let mut found = columns::fields_of(path, uri, &options.columns)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?);
    let builder = builder.map_err(|e| damaged(uri, "Avro", e))?;
    set_modes(&mut found, builder.schema().fields());
    set_kinds(&mut found, builder.schema().fields());
    Ok(found)
}

/// Types that Avro does not have are told by what the schema says of a text or of a record.
fn set_kinds(found: &mut [Field], columns: &Fields) {
    for (field, column) in found.iter_mut().zip(columns) {
        let item = match column.data_type() {
            DataType::List(item) => item.as_ref(),
            _ => column.as_ref(),
        };
        let named = item.metadata().get(SQL_TYPE).or_else(|| column.metadata().get(SQL_TYPE));
        let kind = named.and_then(|name| Kind::parse(name.trim_matches('"')));
        match (item.data_type(), kind) {
            (DataType::Utf8, Some(kind @ (Kind::Json | Kind::Geography | Kind::Interval))) => {
                field.kind = kind;
            }
            (bounds, Some(kind @ Kind::Range(_))) if kind.arrow_type().as_ref() == Some(bounds) => {
                field.kind = kind;
                field.fields = Vec::new();
            }
            (DataType::Struct(children), _) => set_kinds(&mut field.fields, children),
            _ => {}
        }
    }
}

fn set_modes(found: &mut [Field], columns: &Fields) {
    for (field, column) in found.iter_mut().zip(columns) {
        if field.mode == Mode::Nullable && !column.is_nullable() {
            field.mode = Mode::Required;
        }
        let one = match column.data_type() {
            DataType::List(item) => item.data_type(),
            other => other,
        };
        if let DataType::Struct(children) = one {
            set_modes(&mut field.fields, children);
        }
    }
}

/// The rows of a converted file, as parts of the table.
pub(super) fn take_file(
    source: &Source,
    path: &Path,
    target: &Target,
    options: &AvroOptions,
    cancelled: &impl Fn() -> bool,
) -> Outcome<Vec<Part>> {
    let taken = columns::take_file(source, path, target, &options.columns, cancelled);
    taken.map_err(|e| Failure { message: e.message.replace("Parquet", "Avro"), ..e })
}

fn plain_field(field: &ArrowField, logical_types: bool) -> Outcome<ArrowField> {
    let inner = |field: &ArrowField| plain_field(field, logical_types);
    let logical_name = field.metadata().get("logicalType").map(|name| name.trim_matches('"'));
    let data_type = match field.data_type() {
        DataType::Utf8 if logical_types && logical_name == Some("datetime") => {
            DataType::Timestamp(TimeUnit::Microsecond, None)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) if logical_types => {
            return Err(Failure::not_implemented(format!(
                "Avro timestamps in nanoseconds (column {})",
                field.name()
            )));
        }
        DataType::Timestamp(..) | DataType::Time64(_) if !logical_types => DataType::Int64,
        DataType::Date32 | DataType::Time32(_) if !logical_types => DataType::Int32,
        DataType::Timestamp(_, Some(_)) => timestamp_type(),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        // An enum, and a text that is a UUID.
        DataType::Dictionary(..) => DataType::Utf8,
        DataType::FixedSizeBinary(16) if logical_name == Some("uuid") => DataType::Utf8,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::List(item) => DataType::List(Arc::new(inner(item)?)),
        DataType::Map(entries, _) => {
            let DataType::Struct(entry) = entries.data_type() else { return Err(unsupported(field)) };
            let entry = entry.iter().map(|f| inner(f)).collect::<Outcome<Fields>>()?;
            DataType::List(Arc::new(ArrowField::new("item", DataType::Struct(entry), false)))
        }
        DataType::Struct(children) => {
            DataType::Struct(children.iter().map(|c| inner(c)).collect::<Outcome<Fields>>()?)
        }
        DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => field.data_type().clone(),
        _ => return Err(unsupported(field)),
    };
    let sql_type = field.metadata().get_key_value(SQL_TYPE).map(|(key, name)| (key.clone(), name.clone()));
    let plain = ArrowField::new(field.name(), data_type, field.is_nullable());
    Ok(plain.with_metadata(sql_type.into_iter().collect()))
}

fn unsupported(field: &ArrowField) -> Failure {
    Failure::not_implemented(format!("Avro column {} of type {}", field.name(), field.data_type()))
}

fn plain_column(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    match (column.data_type(), wanted) {
        (found, wanted) if found == wanted => Ok(Arc::clone(column)),
        (DataType::FixedSizeBinary(16), DataType::Utf8) => Ok(Arc::new(uuids(column))),
        (DataType::List(_), DataType::List(item)) => {
            let list = column.as_list::<i32>();
            let values = plain_column(list.values(), item.data_type())?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
        }
        (DataType::Map(..), DataType::List(item)) => {
            let map = column.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let values = plain_column(&entries, item.data_type())?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let record = column.as_struct();
            let children = record.columns().iter().zip(fields);
            let children = children.map(|(child, field)| plain_column(child, field.data_type()));
            let children = children.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), children, record.nulls().cloned())?))
        }
        (_, wanted) => {
            // A value that does not fit is an error, never a NULL.
            let options = CastOptions { safe: false, ..CastOptions::default() };
            compute::cast_with_options(column, wanted, &options)
        }
    }
}

/// `8-4-4-4-12`, as they were in the file.
fn uuids(column: &ArrayRef) -> StringArray {
    let text = |bytes: &[u8]| {
        let mut text = String::with_capacity(36);
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        text
    };
    column.as_fixed_size_binary().iter().map(|value| value.map(text)).collect()
}
