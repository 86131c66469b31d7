//! Staged rows become Parquet files per day, durable in a folder or a bucket, before anything is loaded.

pub mod audit;
pub mod journal;
mod parquet;
pub mod rejects;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::{max, min};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono::NaiveDate;

use crate::error::{Error, Kind, Result};
use crate::manifest::{StagedFile, StagedPartition};
use crate::partition::{Partition, Window};
use crate::schema::DAY_COLUMN;

pub use store::{Created, Listed, Store};

/// How staged files are cut.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A file is ended once it has this many bytes; a load job takes up to 10,000 files.
    pub file_bytes_max: u64,
    /// Rows of a row group. BigQuery likes 16 MiB and more, which 10 short columns reach at about a million.
    pub row_group_rows: usize,
    pub zstd_level: i32,
    /// Days before those of its window that a row may belong to.
    pub late_days: i64,
}

impl Default for Options {
    fn default() -> Self {
        // 128 MiB: few files, and each is uploaded again in seconds when an upload fails.
        Options { file_bytes_max: 128 << 20, row_group_rows: 1 << 20, zstd_level: 1, late_days: 0 }
    }
}

/// Writes the rows of one window into local files, one open file per day.
#[derive(Debug)]
pub struct WindowWriter {
    schema: SchemaRef,
    epoch: NaiveDate,
    window: Window,
    options: Options,
    scratch: tempdir::ScratchDir,
    days: BTreeMap<i64, parquet::PartitionWriter>,
    latest: Option<i64>,
}

/// More days than this keep their row group open only while rows for them keep coming.
const OPEN_ROW_GROUPS_MAX: usize = 2;

impl WindowWriter {
    /// `schema` is that of the staged files: the columns of the pipeline, without the day.
    pub fn new(
        schema: SchemaRef,
        epoch: NaiveDate,
        window: Window,
        options: Options,
        scratch: &Path,
    ) -> Result<Self> {
        let scratch = tempdir::ScratchDir::create(scratch)?;
        Ok(WindowWriter { schema, epoch, window, options, scratch, days: BTreeMap::new(), latest: None })
    }

    /// Takes the next batch: the pipeline's columns, then the day.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let index = batch.schema().index_of(DAY_COLUMN);
        let index = index.map_err(|e| Error::failed("a staged batch has no day").caused_by(e))?;
        let days = batch.column(index).as_primitive::<Int64Type>();
        let columns: Vec<usize> = (0..batch.num_columns()).filter(|i| *i != index).collect();
        let rows = batch.project(&columns).map_err(|e| Error::failed("cannot drop the day").caused_by(e))?;
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), rows.columns().to_vec())
            .map_err(|e| Error::failed("a staged batch does not fit the pipeline's columns").caused_by(e))?;
        if days.null_count() > 0 {
            return Err(Error::failed("`stage.sql` gave a row without a day")
                .hint("the time column must not be NULL; reject such records by `mode = \"REQUIRED\"`"));
        }
        if min(days) == max(days) {
            return if rows.num_rows() == 0 { Ok(()) } else { self.write_day(days.value(0), &rows) };
        }
        // Runs of one day: a window in time order has one cut per midnight.
        let mut start = 0;
        for row in 1..=days.len() {
            if row == days.len() || days.value(row) != days.value(start) {
                self.write_day(days.value(start), &rows.slice(start, row - start))?;
                start = row;
            }
        }
        Ok(())
    }

    fn write_day(&mut self, day: i64, rows: &RecordBatch) -> Result<()> {
        if self.latest.replace(day).is_some_and(|latest| latest != day) {
            let open = self.days.iter_mut().filter(|(other, writer)| **other != day && writer.is_filling());
            let mut open: Vec<_> = open.map(|(_, writer)| writer).collect();
            if open.len() >= OPEN_ROW_GROUPS_MAX {
                // The fullest one frees the most memory and makes the least harm to row group sizes.
                open.sort_by_key(|writer| std::cmp::Reverse(writer.rows_filling()));
                open[0].flush()?;
            }
        }
        if !self.days.contains_key(&day) {
            // Another window's partition would be replaced by a part of its rows.
            let (first, last) = self.window.days_with_late(self.options.late_days);
            if !(first..=last).contains(&day) {
                return Err(Error::usage(format!("`stage.sql` put a row of {} into day {day}", self.window))
                    .hint("`day` must follow from the time column: `DIV(time - 1, 86400) + 1`"));
            }
            let partition = Partition::of_day(self.epoch, day)?;
            let writer = parquet::PartitionWriter::new(
                partition,
                Arc::clone(&self.schema),
                self.options,
                self.scratch.path().join(partition.to_string()),
            )?;
            self.days.insert(day, writer);
        }
        self.days.get_mut(&day).expect("inserted above").write(rows)
    }

    /// Ends all files. They get their names in `folder` of the store, and are not there yet.
    pub fn finish(self, store: &Store, folder: &str) -> Result<Written> {
        let mut partitions = Vec::with_capacity(self.days.len());
        let mut paths = Vec::new();
        for writer in self.days.into_values() {
            let written = writer.finish()?;
            let mut files = Vec::with_capacity(written.files.len());
            for (part, file) in written.files.into_iter().enumerate() {
                // The same rows in another order are other bytes, and other bytes need another name.
                let (hash, bytes) = (&written.logical_hash, &file.sha256[..8]);
                let name = format!("{folder}/{}/{hash}-{bytes}-{part}.parquet", written.partition);
                let url = store.url_of(&name)?;
                files.push(StagedFile { url, rows: file.rows, bytes: file.bytes, sha256: file.sha256 });
                paths.push((name, file.path));
            }
            let (partition, rows, logical_hash) = (written.partition, written.rows, written.logical_hash);
            // Which job will load it is not this stage's to know.
            partitions.push(StagedPartition { partition, rows, logical_hash, job_id: String::new(), files });
        }
        Ok(Written { partitions, paths, _scratch: self.scratch })
    }
}

/// The finished files of one window, still in the making as far as anybody else can see.
#[derive(Debug)]
pub struct Written {
    pub partitions: Vec<StagedPartition>,
    paths: Vec<(String, PathBuf)>,
    _scratch: tempdir::ScratchDir,
}

impl Written {
    /// Publishes all files, create-only. They are durable when this returns.
    pub async fn publish(&self, store: &Store) -> Result<()> {
        for (file, (name, path)) in self.files() {
            store.publish(name, path, file.bytes, &file.sha256).await?;
        }
        Ok(())
    }

    /// Puts files back that are gone or damaged: the journal already names these very bytes.
    pub async fn restore(&self, store: &Store) -> Result<()> {
        for (file, (name, path)) in self.files() {
            if !store.holds(name, file.bytes, &file.sha256).await? {
                tracing::warn!(file = name, "staged file restored");
                store.restore(name, path).await?;
            }
        }
        Ok(())
    }

    fn files(&self) -> impl Iterator<Item = (&StagedFile, &(String, PathBuf))> {
        self.partitions.iter().flat_map(|partition| &partition.files).zip(&self.paths)
    }
}

/// A full disk deserves its own words: it is the one write error that people can mend at once.
fn write_error(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    let text = error.to_string();
    let full = text.contains("No space left") || text.contains("os error 28");
    let failure = Error::new(Kind::Failed, format!("cannot write {what}")).caused_by(error);
    if full {
        failure.hint("free some space, or point `stage.url` and `limits.spill_dir` to a larger disk; the same command resumes")
    } else {
        failure
    }
}

/// A folder for files in the making, removed with everything in it when dropped.
mod tempdir {
    use std::path::{Path, PathBuf};

    use super::write_error;
    use crate::error::Result;

    #[derive(Debug)]
    pub(super) struct ScratchDir(PathBuf);

    impl ScratchDir {
        pub(super) fn create(parent: &Path) -> Result<Self> {
            let path = parent.join(format!("api2bq-{}-{:016x}", std::process::id(), fastrand::u64(..)));
            std::fs::create_dir_all(&path).map_err(|e| write_error(&format!("`{}`", path.display()), e))?;
            Ok(ScratchDir(path))
        }

        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for ScratchDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
