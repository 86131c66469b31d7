//! Rows on disk: one Parquet file per partition and write, read back in the table's own types.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, UInt64Array,
    new_null_array,
};
use datafusion::arrow::compute::{self, CastOptions};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, FieldRef, Fields, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Type;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value};

use super::disk::{OwnedFile, unique_name};
use super::encoded::EncodedFile;
use super::partitions::{By, Partition};
use super::versions::Part;
use super::wire::{Failure, Outcome};

/// 64 MiB for the row groups under construction of all partitions that one job writes.
const BUFFERED_BYTES_MAX: usize = 64 << 20;
/// As many partitions as one BigQuery job may change.
const PARTITIONS_PER_JOB_MAX: usize = 4000;
const READ_BATCH_ROWS: usize = 8192;

/// How the partition of a row is found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// The same for all rows.
    Fixed(Partition),
    /// By the column of this index. One beyond the table's own columns is not stored.
    Column(usize, By),
    /// By the column of this index, and it must be this one.
    Only(usize, By, Partition),
}

/// Splits rows by partition and writes them, with flat memory.
pub(super) struct RowsWriter {
    dir: PathBuf,
    schema: SchemaRef,
    rule: Rule,
    writers: BTreeMap<Partition, (EncodedFile, OwnedFile, u64)>,
}

impl RowsWriter {
    /// Files go to `dir`, which must exist.
    pub(super) fn new(dir: &Path, schema: SchemaRef, rule: Rule) -> Self {
        RowsWriter { dir: dir.to_owned(), schema, rule, writers: BTreeMap::new() }
    }

    /// Takes rows whose schema is already the table's.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Outcome<()> {
        match self.rule {
            Rule::Fixed(partition) => self.append(partition, batch)?,
            Rule::Column(index, by) => {
                for (partition, rows) in split(batch, index, by)? {
                    self.append(partition, &rows)?;
                }
            }
            Rule::Only(index, by, wanted) => {
                for (partition, rows) in split(batch, index, by)? {
                    if partition != wanted {
                        return Err(Failure::invalid(format!(
                            "Some rows belong to different partitions rather than destination partition {wanted}"
                        )));
                    }
                    self.append(partition, &rows)?;
                }
            }
        }
        let buffered: usize = self.writers.values().map(|(w, _, _)| w.waiting_bytes()).sum();
        if buffered > BUFFERED_BYTES_MAX {
            for (writer, _, _) in self.writers.values_mut() {
                writer.end_row_group().map_err(write_failed)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, partition: Partition, rows: &RecordBatch) -> Outcome<()> {
        if !self.writers.contains_key(&partition) {
            if self.writers.len() == PARTITIONS_PER_JOB_MAX {
                return Err(Failure::invalid(format!(
                    "Too many partitions produced by query, allowed {PARTITIONS_PER_JOB_MAX}"
                )));
            }
            let draft = OwnedFile::draft(self.dir.join(format!("{}.parquet", unique_name())));
            let file = File::create_new(draft.path())?;
            let writer = EncodedFile::new(file, Arc::clone(&self.schema)).map_err(write_failed)?;
            self.writers.insert(partition, (writer, draft, 0));
        }
        let Some((writer, _, count)) = self.writers.get_mut(&partition) else { return Ok(()) };
        let stored: Vec<usize> = (0..self.schema.fields().len()).collect();
        let rows = &rows.project(&stored).map_err(|e| write_failed(e.into()))?;
        writer.write(rows).map_err(write_failed)?;
        *count += rows.num_rows() as u64;
        Ok(())
    }

    /// Makes the files durable. They vanish again unless a table version takes them.
    pub(super) fn finish(self) -> Outcome<Vec<Part>> {
        let mut parts = Vec::with_capacity(self.writers.len());
        for (partition, (writer, draft, rows)) in self.writers {
            let metadata = writer.finish().map_err(write_failed)?;
            let column_bytes = column_bytes(&metadata);
            parts.push(Part::new(partition, rows, column_bytes, Arc::new(draft)));
        }
        Ok(parts)
    }
}

fn write_failed(error: parquet::errors::ParquetError) -> Failure {
    Failure::backend(format!("cannot write a file of the embedded server: {error}"))
}

/// BigQuery's logical bytes of each top-level column: 8 for a number, 2 + length for a text, nothing for NULL.
pub(super) fn column_bytes(metadata: &ParquetMetaData) -> Map<String, Value> {
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for chunk in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let nulls = chunk.statistics().and_then(|s| s.null_count_opt()).unwrap_or(0);
        let values = u64::try_from(chunk.num_values()).unwrap_or(0).saturating_sub(nulls);
        let bytes = match chunk.column_type() {
            Type::BOOLEAN => values,
            Type::BYTE_ARRAY => {
                let text = chunk.unencoded_byte_array_data_bytes().unwrap_or(chunk.uncompressed_size());
                u64::try_from(text).unwrap_or(0) + 2 * values
            }
            Type::FIXED_LEN_BYTE_ARRAY => 16 * values,
            Type::INT32 | Type::INT64 | Type::INT96 | Type::FLOAT | Type::DOUBLE => 8 * values,
        };
        let column = chunk.column_path().parts().first().map(|c| c.to_lowercase()).unwrap_or_default();
        *totals.entry(column).or_default() += bytes;
    }
    totals.into_iter().map(|(column, bytes)| (column, Value::from(bytes))).collect()
}

/// The rows of `batch` by partition, each in their order.
fn split(batch: &RecordBatch, index: usize, by: By) -> Outcome<Vec<(Partition, RecordBatch)>> {
    let partitions = partitions_of(batch.column(index), by)?;
    let Some(first) = partitions.first() else { return Ok(Vec::new()) };
    if partitions.iter().all(|partition| partition == first) {
        return Ok(vec![(*first, batch.clone())]);
    }
    let mut rows: BTreeMap<Partition, Vec<u64>> = BTreeMap::new();
    for (row, partition) in (0..).zip(&partitions) {
        rows.entry(*partition).or_default().push(row);
    }
    let taken = rows.into_iter().map(|(partition, rows)| {
        let rows = compute::take_record_batch(batch, &UInt64Array::from(rows));
        Ok((partition, rows.map_err(|e| Failure::backend(e.to_string()))?))
    });
    taken.collect()
}

fn partitions_of(column: &ArrayRef, by: By) -> Outcome<Vec<Partition>> {
    const DAY_US: i64 = 86_400_000_000;
    let of_time = |us: Option<i64>| us.map_or(Partition::Null, |us| by.of_time(us));
    match column.data_type() {
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().iter();
            Ok(days.map(|day| of_time(day.map(|day| i64::from(day) * DAY_US))).collect())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(column.as_primitive::<TimestampMicrosecondType>().iter().map(of_time).collect())
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().iter();
            Ok(values.map(|value| value.map_or(Partition::Null, |value| by.of_integer(value))).collect())
        }
        other => Err(Failure::not_implemented(format!("partitioning by a column of type {other}"))),
    }
}

/// Reads some rows of a part, as the columns of `schema`, which are found by name whatever their case.
pub(super) fn read_part(part: &Part, schema: &SchemaRef, offset: u64, limit: Option<u64>) -> Outcome<Reader> {
    let failed = |e: &dyn std::fmt::Display| {
        Failure::backend(format!("cannot read `{}`: {e}", part.file.path().display()))
    };
    let file = File::open(part.file.path()).map_err(|e| failed(&e))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(&e))?;
    let names = places(schema.fields().iter().map(|f| f.name().as_str()));
    let wanted: Vec<usize> = builder
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, stored)| names.contains_key(&stored.name().to_lowercase()))
        .map(|(index, _)| index)
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let mut builder = builder.with_projection(mask).with_batch_size(READ_BATCH_ROWS);
    if offset > 0 {
        builder = builder.with_offset(usize::try_from(offset).unwrap_or(usize::MAX));
    }
    if let Some(limit) = limit {
        builder = builder.with_limit(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let reader = builder.build().map_err(|e| failed(&e))?;
    Ok(Reader { _file: Arc::clone(&part.file), reader, schema: Arc::clone(schema) })
}

/// Record batches of a part; keeps its file from being deleted.
pub(super) struct Reader {
    _file: Arc<OwnedFile>,
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
}

impl Iterator for Reader {
    type Item = Outcome<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(match batch {
            Ok(batch) => conform(&batch, &self.schema)
                .map_err(|e| Failure::backend(format!("stored rows do not fit their table: {e}"))),
            Err(error) => Err(Failure::backend(format!("cannot read stored rows: {error}"))),
        })
    }
}

/// The same rows in the types and order of `schema`; a column that is missing is NULL.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let stored = batch.schema();
    let columns = conform_columns(stored.fields(), batch.columns(), schema.fields(), batch.num_rows())?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// Columns or nested fields, found by their names.
fn conform_columns(
    stored: &Fields,
    columns: &[ArrayRef],
    wanted: &Fields,
    rows: usize,
) -> Result<Vec<ArrayRef>, ArrowError> {
    let places = places(stored.iter().map(|f| f.name().as_str()));
    let column = |field: &FieldRef| match places.get(&field.name().to_lowercase()) {
        None => Ok(new_null_array(field.data_type(), rows)),
        Some(index) => conform_column(&columns[*index], field.data_type()),
    };
    wanted.iter().map(column).collect()
}

fn conform_column(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    match (column.data_type(), wanted) {
        (stored, wanted) if stored == wanted => Ok(Arc::clone(column)),
        // By name where all names are known, as a field may have been added to the record since the rows were
        // written; a STRUCT of a query with other names, or none, is cast by position.
        (DataType::Struct(stored), DataType::Struct(wanted))
            if stored.iter().all(|f| wanted.iter().any(|w| same_name(f.name(), w.name()))) =>
        {
            let record = column.as_struct();
            let fields = conform_columns(stored, record.columns(), wanted, record.len())?;
            Ok(Arc::new(StructArray::try_new(wanted.clone(), fields, record.nulls().cloned())?))
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = column.as_list::<i32>();
            let values = conform_column(list.values(), item.data_type())?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?))
        }
        _ => {
            // A value that does not fit is an error, never a NULL.
            let options = CastOptions { safe: false, ..CastOptions::default() };
            compute::cast_with_options(column, wanted, &options)
        }
    }
}

pub(super) fn same_name(a: &str, b: &str) -> bool {
    match a.is_ascii() && b.is_ascii() {
        true => a.eq_ignore_ascii_case(b),
        false => a == b || a.to_lowercase() == b.to_lowercase(),
    }
}

/// Where each name is, in lower case: tables have thousands of columns, too many to look through for each.
pub(super) fn places<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<String, usize> {
    let mut places = HashMap::new();
    for (place, name) in names.enumerate() {
        places.entry(name.to_lowercase()).or_insert(place);
    }
    places
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::emulator::fields::timestamp_type;

    #[test]
    fn rows_go_to_the_day_of_their_column_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let schema = Arc::new(Schema::new(vec![
            Field::new("Id", DataType::Int64, true),
            Field::new("ts", timestamp_type(), true),
        ]));
        let ids = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
        let ts = TimestampMicrosecondArray::from(vec![Some(0), Some(-1), None, Some(86_399_999_999)]);
        let batch =
            RecordBatch::try_new(Arc::clone(&schema), vec![ids, Arc::new(ts.with_timezone("UTC"))]).unwrap();
        let mut writer = RowsWriter::new(dir.path(), schema, Rule::Column(1, By::default()));
        writer.write(&batch).unwrap();
        let parts = writer.finish().unwrap();
        let found: Vec<_> = parts.iter().map(|p| (p.partition.to_string(), p.rows)).collect();
        assert_eq!(found, [("19691231".into(), 1), ("19700101".into(), 2), ("__NULL__".into(), 1)]);
        assert_eq!(parts[1].logical_bytes(), 32);
        assert_eq!(parts[2].column_bytes["ts"], 0);

        let only_id = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("new", DataType::Utf8, true),
        ]));
        let rows: Vec<_> =
            read_part(&parts[1], &only_id, 1, None).unwrap().collect::<Outcome<Vec<_>>>().unwrap();
        let ids = rows[0].column(0).as_primitive::<datafusion::arrow::datatypes::Int64Type>();
        assert_eq!((ids.value(0), rows[0].column(1).null_count()), (4, 1));
        drop(parts);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "drafts vanish");
    }
}
