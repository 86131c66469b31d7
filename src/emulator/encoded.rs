//! A Parquet file under construction: its columns are encoded side by side, one row group at a time.

use std::fs::File;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

const ROW_GROUP_ROWS: usize = 256 * 1024;
/// Rows, or bytes of them, that are encoded at once: threads that meet after every few rows wait for each other.
const ENCODED_ROWS: usize = 32 * 1024;
const ENCODED_BYTES: usize = 4 << 20;
/// Values that are worth a second thread; encoding them takes some ten times as long as starting it.
const SHARED_VALUES_MIN: usize = 10_000;
/// More threads would wait for the one that reads.
const THREADS_MAX: usize = 4;

pub(super) struct EncodedFile {
    file: SerializedFileWriter<File>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// Those of each top-level column; empty between two row groups.
    columns: Vec<Vec<ArrowColumnWriter>>,
    /// Of the row group under construction, those that wait among them.
    rows: usize,
    /// Not encoded yet.
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
}

impl EncodedFile {
    pub(super) fn new(file: File, schema: SchemaRef) -> Result<Self> {
        let properties = properties(&schema);
        let writer = ArrowWriter::try_new(file, SchemaRef::clone(&schema), Some(properties))?;
        let (file, factory) = writer.into_serialized_writer()?;
        Ok(EncodedFile {
            file,
            factory,
            schema,
            columns: Vec::new(),
            rows: 0,
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
        })
    }

    /// Takes rows in the types of the file's schema.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < rows.num_rows() {
            let count = (rows.num_rows() - from).min(ROW_GROUP_ROWS - self.rows);
            let taken = rows.slice(from, count);
            from += count;
            self.rows += count;
            self.waiting_rows += count;
            self.waiting_bytes += taken.get_array_memory_size();
            self.waiting.push(taken);
            if self.rows == ROW_GROUP_ROWS {
                self.end_row_group()?;
            } else if self.waiting_rows >= ENCODED_ROWS || self.waiting_bytes >= ENCODED_BYTES {
                self.encode()?;
            }
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<()> {
        if self.columns.is_empty() {
            let mut columns: Vec<_> = self.schema.fields().iter().map(|_| Vec::new()).collect();
            let leaves = self.factory.create_column_writers(self.file.flushed_row_groups().len())?;
            for (leaf, writer) in leaves.into_iter().enumerate() {
                columns[self.file.schema_descr().get_column_root_idx(leaf)].push(writer);
            }
            self.columns = columns;
        }
        let batches = std::mem::take(&mut self.waiting);
        let threads = threads(self.waiting_rows * self.columns.len());
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        let columns = self.schema.fields().iter().zip(&mut self.columns).enumerate();
        side_by_side(threads, columns, |(index, (field, writers))| {
            for batch in &batches {
                let leaves = compute_leaves(field, batch.column(index))?;
                for (writer, leaf) in writers.iter_mut().zip(&leaves) {
                    writer.write(leaf)?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Bytes that wait for the end of their row group.
    pub(super) fn waiting_bytes(&self) -> usize {
        let encoded = self.columns.iter().flatten().map(ArrowColumnWriter::get_estimated_total_bytes);
        self.waiting_bytes + encoded.sum::<usize>()
    }

    /// Writes what waits.
    pub(super) fn end_row_group(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.encode()?;
        let threads = threads(self.rows * self.columns.len());
        let columns = std::mem::take(&mut self.columns);
        self.rows = 0;
        let chunks = side_by_side(threads, columns.into_iter().flatten(), ArrowColumnWriter::close)?;
        let mut row_group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut row_group)?;
        }
        row_group.close()?;
        Ok(())
    }

    /// Makes the file durable and says what it holds.
    pub(super) fn finish(mut self) -> Result<ParquetMetaData> {
        self.end_row_group()?;
        let metadata = self.file.finish()?;
        self.file.inner().sync_all()?;
        Ok(metadata)
    }
}

fn properties(schema: &SchemaRef) -> WriterProperties {
    // zstd 1: half the bytes of snappy at nearly its speed.
    let zstd = ZstdLevel::try_new(1).map(Compression::ZSTD).unwrap_or(Compression::SNAPPY);
    let mut properties =
        WriterProperties::builder().set_compression(zstd).set_writer_version(WriterVersion::PARQUET_2_0);
    if let Some(first) = schema.fields().first().filter(|f| *f.data_type() == DataType::Int64) {
        // Nearly always the key: rising, so differences pack to almost nothing where a dictionary would hold
        // every value once and then be given up.
        let column = ColumnPath::from(first.name().as_str());
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}

/// How many threads encode so many values: one for few, and never more than there are cores.
fn threads(values: usize) -> usize {
    match values < SHARED_VALUES_MIN {
        true => 1,
        false => thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX),
    }
}

/// Does all `items`, each thread the next one that is left; the results are in the order of the items.
fn side_by_side<T: Send, R: Send>(
    threads: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let left = Mutex::new(items.enumerate());
    // A thread that fails is heard when it is joined, whatever it left behind in the lock.
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || -> Result<Vec<(usize, R)>> {
        let mut done = Vec::new();
        while let Some((place, item)) = next() {
            done.push((place, work(item)?));
        }
        Ok(done)
    };
    let mut done = thread::scope(|scope| -> Result<Vec<(usize, R)>> {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut done = run()?;
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(done)
    })?;
    done.sort_unstable_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use datafusion::arrow::array::{ArrayRef, Int64Array, ListArray, StringArray, StructArray};
    use datafusion::arrow::compute::concat_batches;
    use datafusion::arrow::datatypes::{Field, Int64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::errors::ParquetError;

    use super::*;

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + rows));
        let names: ArrayRef = Arc::new(
            (from..from + rows).map(|id| Some(format!("name {}", id % 1000))).collect::<StringArray>(),
        );
        let lists = (from..from + rows).map(|id| (id % 3 > 0).then(|| vec![Some(id); (id % 5) as usize]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists));
        let field =
            |name: &str, column: &ArrayRef| Arc::new(Field::new(name, column.data_type().clone(), true));
        let record: ArrayRef =
            Arc::new(StructArray::from(vec![(field("name", &names), names), (field("ids", &lists), lists)]));
        let tail: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| "x")));
        RecordBatch::try_from_iter_with_nullable([
            ("id", ids, true),
            ("record", record, true),
            ("tail", tail, true),
        ])
        .unwrap()
    }

    #[test]
    fn what_several_threads_encode_comes_back_row_by_row_whatever_the_batches() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let batches = [batch(0, 200_000), batch(200_000, 3), batch(200_003, 99_997)];
        let mut writer = EncodedFile::new(File::create_new(&path).unwrap(), batches[0].schema()).unwrap();
        for batch in &batches {
            writer.write(batch).unwrap();
        }
        assert!(writer.waiting_bytes() > 0);
        let metadata = writer.finish().unwrap();
        let rows: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(rows, [262_144, 37_856]);
        let id = metadata.row_group(0).column(0);
        assert_eq!(id.dictionary_page_offset(), None, "a key needs no dictionary");

        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        let read: Vec<RecordBatch> = reader.build().unwrap().collect::<std::result::Result<_, _>>().unwrap();
        let schema = batches[0].schema();
        assert_eq!(concat_batches(&schema, &read).unwrap(), concat_batches(&schema, &batches).unwrap());
    }

    #[test]
    fn a_file_without_rows_has_no_row_group() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create_new(dir.path().join("a.parquet")).unwrap();
        let mut writer = EncodedFile::new(file, batch(0, 1).schema()).unwrap();
        writer.write(&batch(0, 0)).unwrap();
        writer.end_row_group().unwrap();
        assert_eq!(writer.finish().unwrap().num_row_groups(), 0);
    }

    #[test]
    fn every_item_is_done_once_and_a_failure_of_any_thread_is_told() {
        let done = AtomicUsize::new(0);
        let squares = side_by_side(3, 0..1000_usize, |n| {
            done.fetch_add(1, Ordering::Relaxed);
            Ok(n * n)
        });
        assert_eq!(squares.unwrap(), (0..1000).map(|n| n * n).collect::<Vec<usize>>());
        assert_eq!(done.into_inner(), 1000);
        let broken = side_by_side(3, 0..1000, |n| match n {
            700 => Err(ParquetError::General("broken".into())),
            _ => Ok(n),
        });
        assert!(broken.unwrap_err().to_string().contains("broken"));
    }
}
