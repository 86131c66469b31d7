//! The Parquet files of one partition, and the hash of the rows in them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use super::{Options, write_error};
use crate::error::{Error, Result};
use crate::partition::Partition;

/// Writes one partition, a new file whenever the last one is large enough.
pub(super) struct PartitionWriter {
    partition: Partition,
    schema: SchemaRef,
    options: Options,
    folder: PathBuf,
    writer: Option<ArrowWriter<File>>,
    rows_in_file: u64,
    files: Vec<WrittenFile>,
    hash: LogicalHash,
}

pub(super) struct WrittenFile {
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

pub(super) struct WrittenPartition {
    pub(super) partition: Partition,
    pub(super) rows: u64,
    pub(super) logical_hash: String,
    pub(super) files: Vec<WrittenFile>,
}

impl std::fmt::Debug for PartitionWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PartitionWriter({})", self.partition)
    }
}

impl PartitionWriter {
    pub(super) fn new(
        partition: Partition,
        schema: SchemaRef,
        options: Options,
        folder: PathBuf,
    ) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(|e| write_error(&format!("`{}`", folder.display()), e))?;
        let hash = LogicalHash::new(&schema)?;
        Ok(PartitionWriter {
            partition,
            schema,
            options,
            folder,
            writer: None,
            rows_in_file: 0,
            files: Vec::new(),
            hash,
        })
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.hash.add(rows)?;
        let path = self.path();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let file = File::create_new(&path).map_err(|e| cannot_write(&path, e))?;
                let properties = properties(rows, self.options)?;
                let writer = ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(properties));
                self.writer.insert(writer.map_err(|e| cannot_write(&path, e))?)
            }
        };
        writer.write(rows).map_err(|e| cannot_write(&path, e))?;
        self.rows_in_file += rows.num_rows() as u64;
        let bytes = writer.bytes_written() as u64 + writer.in_progress_size() as u64;
        if bytes >= self.options.file_bytes_max { self.end_file() } else { Ok(()) }
    }

    /// True while a row group is held in memory.
    pub(super) fn is_filling(&self) -> bool {
        self.rows_filling() > 0
    }

    pub(super) fn rows_filling(&self) -> usize {
        self.writer.as_ref().map_or(0, ArrowWriter::in_progress_rows)
    }

    /// Ends the row group, which frees its memory.
    pub(super) fn flush(&mut self) -> Result<()> {
        let path = self.path();
        match &mut self.writer {
            Some(writer) => writer.flush().map_err(|e| cannot_write(&path, e)),
            None => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> Result<WrittenPartition> {
        self.end_file()?;
        Ok(WrittenPartition {
            partition: self.partition,
            rows: self.hash.rows,
            logical_hash: self.hash.finish(),
            files: self.files,
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.parquet", self.files.len()))
    }

    fn end_file(&mut self) -> Result<()> {
        let path = self.path();
        let Some(writer) = self.writer.take() else { return Ok(()) };
        writer.into_inner().map_err(|e| cannot_write(&path, e))?;
        let (bytes, sha256) = sha256_of(&path)?;
        self.files.push(WrittenFile { path, rows: self.rows_in_file, bytes, sha256 });
        self.rows_in_file = 0;
        Ok(())
    }
}

fn cannot_write(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    write_error(&format!("`{}`", path.display()), error)
}

/// `first` tells what the file will hold: its first rows.
fn properties(first: &RecordBatch, options: Options) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(options.zstd_level)
        .map_err(|e| Error::usage("`stage.zstd_level` is out of range").caused_by(e))?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        // Larger pages than the default 20,000 rows: fewer headers, better compression.
        .set_data_page_row_count_limit(100_000)
        .set_created_by(concat!("api2bq ", env!("CARGO_PKG_VERSION")).to_owned());
    for (field, values) in first.schema().fields().iter().zip(first.columns()) {
        // Keys and times: differences pack to almost nothing where a dictionary would hold every value
        // once and then be given up. benches/stage.rs has what it brings.
        if rises(values) {
            let column = ColumnPath::from(field.name().as_str());
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(properties.build())
}

/// Fewer values may rise by chance.
const RISING_VALUES_MIN: usize = 64;

/// Whether the integers follow a trend: rises are ten times as many as falls, of which records that
/// come late or again bring some. In a column without order there are as many of each.
fn rises(values: &ArrayRef) -> bool {
    let integers = match values.data_type() {
        DataType::Int64 => values.as_primitive::<Int64Type>().values(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            values.as_primitive::<TimestampMicrosecondType>().values()
        }
        _ => return false,
    };
    let falls = integers.windows(2).filter(|pair| pair[1] < pair[0]).count();
    let rises = integers.windows(2).filter(|pair| pair[1] > pair[0]).count();
    values.null_count() == 0 && integers.len() >= RISING_VALUES_MIN && rises > falls * 10
}

fn sha256_of(path: &Path) -> Result<(u64, String)> {
    let cannot = |e| Error::failed(format!("cannot read `{}` back", path.display())).caused_by(e);
    let mut file = File::open(path).map_err(cannot)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(cannot)?;
        if read == 0 {
            return Ok((bytes, super::journal::hex(&hasher.finalize())));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Row count and sum of 128-bit row hashes modulo 2^128: independent of order, batches and files.
#[derive(Debug)]
pub(super) struct LogicalHash {
    converter: RowConverter,
    rows: u64,
    sum: u128,
}

impl LogicalHash {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self> {
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = RowConverter::new(fields)
            .map_err(|e| Error::usage("a column's type cannot be hashed").caused_by(e))?;
        Ok(LogicalHash { converter, rows: 0, sum: 0 })
    }

    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = self.converter.convert_columns(batch.columns());
        let rows = rows.map_err(|e| Error::failed("cannot hash staged rows").caused_by(e))?;
        for row in &rows {
            self.sum = self.sum.wrapping_add(twox_hash::XxHash3_128::oneshot(row.data()));
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// 32 hex digits of the hash over count and sum.
    pub(super) fn finish(&self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.rows.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sum.to_le_bytes());
        format!("{:032x}", twox_hash::XxHash3_128::oneshot(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn batch(rows: &[(i64, &str)]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)));
        RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("a batch")
    }

    fn hash(batches: &[RecordBatch]) -> String {
        let mut hash = LogicalHash::new(&batches[0].schema()).expect("a hash");
        batches.iter().for_each(|b| hash.add(b).expect("hashed"));
        hash.finish()
    }

    #[test]
    fn the_logical_hash_ignores_order_and_batches_and_sees_every_value() {
        let one = hash(&[batch(&[(1, "a"), (2, "b"), (3, "c")])]);
        assert_eq!(one, hash(&[batch(&[(3, "c")]), batch(&[(2, "b"), (1, "a")])]));
        assert_ne!(one, hash(&[batch(&[(1, "a"), (2, "b"), (3, "d")])]));
        assert_ne!(one, hash(&[batch(&[(1, "a"), (2, "b")])]));
        assert_ne!(hash(&[batch(&[(1, "a"), (1, "a")])]), hash(&[batch(&[(1, "a")])]));
    }

    #[test]
    fn integers_that_rise_are_written_as_differences() {
        let rising = |values: Vec<i64>| rises(&(Arc::new(Int64Array::from(values)) as ArrayRef));
        assert!(rising((0..100).map(|i| i / 10).collect()));
        let late = |i| if i % 20 == 0 { i - 15 } else { i };
        assert!(rising((0..100).map(late).collect()));
        assert!(!rising((0..100).map(|i| i * 37 % 101).collect()));
        assert!(!rising(vec![7; 100]), "a dictionary of one value is smaller");
        assert!(!rising((0..10).collect()), "too few to tell");

        let folder = tempfile::tempdir().unwrap();
        let rows =
            |value: fn(i64) -> i64| Arc::new(Int64Array::from_iter_values((0..100).map(value))) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("id", rows(|i| i)), ("port", rows(|i| i % 7))]).unwrap();
        let partition = Partition::from_date(chrono::NaiveDate::default());
        let folder = folder.path().to_owned();
        let mut writer = PartitionWriter::new(partition, batch.schema(), Options::default(), folder).unwrap();
        writer.write(&batch).unwrap();
        let written = writer.finish().unwrap();
        let file = File::open(&written.files[0].path).unwrap();
        let metadata = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let has = |column: usize, encoding| {
            metadata.metadata().row_group(0).column(column).encodings().any(|e| e == encoding)
        };
        assert!(has(0, Encoding::DELTA_BINARY_PACKED) && !has(1, Encoding::DELTA_BINARY_PACKED));
        assert!(!has(0, Encoding::RLE_DICTIONARY) && has(1, Encoding::RLE_DICTIONARY));
    }
}
