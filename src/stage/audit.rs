//! Reads staged files back: the rows in them counted, hashed and summed, to be held against the journal
//! and against the warehouse.
//!
//! The sums are such that a query can give the same, exactly and in any order of rows. A FLOAT64 has
//! none, since its sum depends on the order, and a NUMERIC has none, since its sum need not fit.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::parquet::LogicalHash;
use crate::error::{Error, Kind, Result};
use crate::schema::ColumnType;

/// The files of one partition, read one after the other.
#[derive(Debug, Default)]
pub struct Audit {
    /// Rows as the files' footers count them.
    pub footer_rows: u64,
    /// Rows read.
    pub rows: u64,
    /// In the order of the files' columns; none before the first file.
    pub columns: Vec<ColumnSum>,
    /// The schema of the first file, and the hash of all rows so far.
    hash: Option<(SchemaRef, LogicalHash)>,
}

/// What a column has in all rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnSum {
    pub name: String,
    pub kind: ColumnType,
    /// Values that are not NULL.
    pub values: u64,
    /// Of INT64 the numbers, of STRING the lengths in characters, of BOOL how many are true, of
    /// TIMESTAMP the microseconds and of DATE the days since 1970.
    pub sum: Option<i128>,
}

impl Audit {
    /// Reads one file through. An error says how it is no file of ours.
    pub fn add_file(&mut self, bytes: Vec<u8>) -> Result<()> {
        let length = bytes.len() as u64;
        // Parquet's own schema says it all, and the reader of Arrow's copy in the footer panics on damage.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let unreadable = |e: &dyn std::fmt::Display| damaged(format!("it cannot be read: {e}"));
        let file = ParquetRecordBatchReaderBuilder::try_new_with_options(Bytes::from(bytes), options)
            .map_err(|e| unreadable(&e))?;
        let promised = u64::try_from(file.metadata().file_metadata().num_rows())
            .map_err(|_| damaged("its footer counts less than no rows"))?;
        self.footer_rows = self.footer_rows.saturating_add(promised);
        if !has_its_columns_inside(file.metadata(), length) {
            return Err(damaged("it cannot be read: its footer names places outside of it"));
        }
        let schema = file.schema().clone();
        if self.hash.is_none() {
            self.columns = schema.fields().iter().map(|field| column(field)).collect::<Result<_>>()?;
            self.hash = Some((schema.clone(), LogicalHash::new(&schema)?));
        }
        if self.hash.as_ref().is_some_and(|(first, _)| *first != schema) {
            return Err(damaged("it has other columns than the file before it"));
        }
        for batch in file.build().map_err(|e| unreadable(&e))? {
            self.add(&batch.map_err(|e| unreadable(&e))?)?;
        }
        Ok(())
    }

    /// Adds what others found in files of the same columns. False where theirs are not the same.
    pub fn add_audit(&mut self, other: &Audit) -> bool {
        if self.rows == 0 && self.columns.is_empty() {
            self.columns.clone_from(&other.columns);
            (self.rows, self.footer_rows) = (other.rows, other.footer_rows);
            return true;
        }
        let names =
            |audit: &Audit| audit.columns.iter().map(|c| (c.name.clone(), c.kind)).collect::<Vec<_>>();
        if names(self) != names(other) {
            return false;
        }
        self.rows += other.rows;
        self.footer_rows += other.footer_rows;
        for (ours, theirs) in self.columns.iter_mut().zip(&other.columns) {
            ours.values += theirs.values;
            ours.sum = ours.sum.zip(theirs.sum).map(|(ours, theirs)| ours.saturating_add(theirs));
        }
        true
    }

    /// As the journal names it; that of no rows without a file.
    pub fn logical_hash(&self) -> Option<String> {
        self.hash.as_ref().map(|(_, hash)| hash.finish())
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let (_, hash) = self.hash.as_mut().expect("set by the first file");
        hash.add(batch)?;
        self.rows += batch.num_rows() as u64;
        for (column, values) in self.columns.iter_mut().zip(batch.columns()) {
            column.values += (values.len() - values.null_count()) as u64;
            if let Some(sum) = &mut column.sum {
                *sum = sum.saturating_add(sum_of(column.kind, values));
            }
        }
        Ok(())
    }
}

/// The reader takes places and lengths from the footer, and panics at those below zero.
fn has_its_columns_inside(footer: &ParquetMetaData, length: u64) -> bool {
    footer.row_groups().iter().flat_map(RowGroupMetaData::columns).all(|column| {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let (start, size) = (u64::try_from(start), u64::try_from(column.compressed_size()));
        let is_inside = |start: u64, size: u64| start.checked_add(size).is_some_and(|end| end <= length);
        matches!((start, size), (Ok(start), Ok(size)) if is_inside(start, size))
    })
}

fn sum_of(kind: ColumnType, values: &dyn Array) -> i128 {
    match kind {
        ColumnType::Int64 => values.as_primitive::<Int64Type>().iter().flatten().map(i128::from).sum(),
        ColumnType::String => {
            values.as_string::<i32>().iter().flatten().map(|text| text.chars().count() as i128).sum()
        }
        ColumnType::Bool => values.as_boolean().iter().flatten().map(i128::from).sum(),
        ColumnType::Timestamp => {
            values.as_primitive::<TimestampMicrosecondType>().iter().flatten().map(i128::from).sum()
        }
        ColumnType::Date => values.as_primitive::<Date32Type>().iter().flatten().map(i128::from).sum(),
        ColumnType::Float64 | ColumnType::Numeric => 0,
    }
}

/// The column of a field, as [`ColumnType::arrow`] makes fields of columns.
fn column(field: &arrow::datatypes::Field) -> Result<ColumnSum> {
    let kind = match field.data_type() {
        DataType::Int64 => ColumnType::Int64,
        DataType::Utf8 => ColumnType::String,
        DataType::Boolean => ColumnType::Bool,
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => ColumnType::Timestamp,
        DataType::Date32 => ColumnType::Date,
        DataType::Float64 => ColumnType::Float64,
        DataType::Decimal128(38, 9) => ColumnType::Numeric,
        other => return Err(damaged(format!("its column `{}` has the type {other}", field.name()))),
    };
    let has_sum = !matches!(kind, ColumnType::Float64 | ColumnType::Numeric);
    Ok(ColumnSum { name: field.name().clone(), kind, values: 0, sum: has_sum.then_some(0) })
}

fn damaged(why: impl Into<String>) -> Error {
    Error::new(Kind::Damaged, why)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::schema::{Column, Columns, Mode};

    fn columns() -> Columns {
        let column = |(name, kind): (&str, ColumnType)| Column {
            name: name.into(),
            kind,
            mode: Mode::Nullable,
            path: None,
        };
        let all = [
            ("i", ColumnType::Int64),
            ("s", ColumnType::String),
            ("b", ColumnType::Bool),
            ("t", ColumnType::Timestamp),
            ("d", ColumnType::Date),
            ("f", ColumnType::Float64),
            ("n", ColumnType::Numeric),
        ];
        Columns::new(all.map(column).to_vec()).expect("columns")
    }

    fn file(rows: &[Option<i64>]) -> Vec<u8> {
        let schema = columns().arrow();
        let cast = |kind: &DataType| -> arrow::array::ArrayRef {
            let numbers: arrow::array::Int64Array = rows.iter().copied().collect();
            match kind {
                DataType::Utf8 => {
                    let text = |n: Option<i64>| n.map(|n| "ü".repeat(usize::try_from(n % 5).unwrap_or(0)));
                    Arc::new(rows.iter().copied().map(text).collect::<arrow::array::StringArray>())
                }
                DataType::Date32 => {
                    let days = |n: Option<i64>| n.and_then(|n| i32::try_from(n % 100).ok());
                    Arc::new(rows.iter().copied().map(days).collect::<arrow::array::Date32Array>())
                }
                DataType::Boolean => {
                    let odd = |n: Option<i64>| n.map(|n| n % 2 != 0);
                    Arc::new(rows.iter().copied().map(odd).collect::<arrow::array::BooleanArray>())
                }
                DataType::Decimal128(..) => {
                    arrow::compute::cast(&numbers.unary::<_, Int64Type>(|n| n % 7), kind)
                        .expect("small numbers fit")
                }
                kind => arrow::compute::cast(&numbers, kind).expect("a number of any type"),
            }
        };
        let arrays = schema.fields().iter().map(|field| cast(field.data_type())).collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("a batch");
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.into_inner().expect("finished")
    }

    #[test]
    fn every_type_is_counted_and_summed_without_overflow() {
        let mut audit = Audit::default();
        audit.add_file(file(&[Some(i64::MAX), None, Some(i64::MAX)])).expect("a file");
        audit.add_file(file(&[Some(3)])).expect("another");
        assert_eq!((audit.rows, audit.footer_rows), (4, 4));
        assert!(audit.columns.iter().all(|column| column.values == 3), "{:?}", audit.columns);
        let sums: Vec<_> = audit.columns.iter().map(|column| column.sum).collect();
        let two = 2 * i128::from(i64::MAX);
        assert_eq!(
            sums,
            [Some(two + 3), Some(2 * 2 + 3), Some(3), Some(two + 3), Some(7 + 7 + 3), None, None]
        );
    }

    #[test]
    fn the_hash_is_that_of_the_rows_however_they_are_spread_over_files() {
        let hash = |files: &[&[Option<i64>]]| {
            let mut audit = Audit::default();
            files.iter().for_each(|rows| audit.add_file(file(rows)).expect("a file"));
            audit.logical_hash()
        };
        let one = hash(&[&[Some(1), None, Some(2)]]);
        assert_eq!(one, hash(&[&[Some(2)], &[Some(1), None]]));
        assert_ne!(one, hash(&[&[Some(1), None, Some(3)]]));
    }

    #[test]
    fn what_is_no_parquet_is_an_error() {
        let good = file(&[Some(1)]);
        for bytes in [&good[..good.len() - 1], &good[..8], b"", b"PAR1"] {
            let error = Audit::default().add_file(bytes.to_vec()).expect_err("no file");
            assert!(error.to_string().contains("cannot be read"), "{error}");
        }
    }
}
