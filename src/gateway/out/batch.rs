//! Some sealed segments, loaded together: which they are, and what their rows are as Parquet files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono::NaiveDate;

use crate::error::{Error, Kind, Result};
use crate::gateway::letter::Letter;
use crate::gateway::spool::{Folder, SegmentId, Spool};
pub(super) use crate::ledger::batches::{Segments as Batch, run_of};
use crate::manifest::WindowCounts;
use crate::partition::Window;
use crate::schema::{Columns, DAY_COLUMN};
use crate::stage::journal::Chain;
use crate::stage::{self, Store, WindowWriter, Written};

impl Batch {
    /// What was decided for the batch of the first of `sealed`, now or before. `folder` has all batches.
    ///
    /// `looks_back` after a start, and after a segment was set aside: that one may have been the first of
    /// a batch. Only the process that has the spool open comes here, so there is nobody to race with.
    pub(super) async fn decide(
        store: &Store,
        folder: &str,
        sealed: &[SegmentId],
        looks_back: bool,
    ) -> Result<Batch> {
        let batch = Batch { segments: sealed.iter().map(SegmentId::key).collect() };
        let first = batch.first()?;
        if let Some(found) = Batch::find(store, folder, &first, looks_back).await? {
            return Ok(found);
        }
        let bytes = serde_json::to_vec(&batch)
            .map_err(|e| Error::failed("cannot write which segments are loaded").caused_by(e))?;
        // After a lost answer it is read back at the next try.
        store.create(&Batch::name(&format!("{folder}/{first}")), &bytes).await?;
        Ok(batch)
    }

    /// What was decided before for the batch of `first`.
    pub(super) async fn find(
        store: &Store,
        folder: &str,
        first: &String,
        looks_back: bool,
    ) -> Result<Option<Batch>> {
        if let Some(found) = decided(store, &format!("{folder}/{first}")).await? {
            return Ok(Some(found));
        }
        // The first one of its batch may have been set aside after an intent was written: what that names
        // is loaded or will be, with this segment's rows.
        let mut others = if looks_back { store.list(folder).await? } else { Vec::new() };
        others.retain(|other| other < first);
        others.sort_unstable();
        for other in others.iter().rev().take(BATCHES_BACK) {
            let folder = format!("{folder}/{other}");
            let Some(found) = decided(store, &folder).await? else { continue };
            if found.segments.contains(first)
                && Chain::read(store, &run_of(other), folder).await?.state().manifest.is_some()
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The key of its first segment, which names its folder.
    pub(super) fn first(&self) -> Result<String> {
        let empty = || Error::new(Kind::Damaged, "a batch has no segments");
        self.segments.first().cloned().ok_or_else(empty)
    }

    /// Those of its segments that the spool still has.
    pub(super) fn of<'s>(&'s self, sealed: &'s [SegmentId]) -> impl Iterator<Item = SegmentId> + 's {
        sealed.iter().copied().filter(|id| self.segments.contains(&id.key()))
    }
}

/// What was decided before, durable before anything is done because of it.
async fn decided(store: &Store, folder: &str) -> Result<Option<Batch>> {
    let found = Batch::read(store, folder).await?;
    if found.is_some() {
        store.make_durable(&Batch::name(folder)).await?;
    }
    Ok(found)
}

/// Batches that are looked through for a segment: the one before it ended just before it, however many
/// batches there were.
const BATCHES_BACK: usize = 4;

/// Everything that staging needs.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) spool: Arc<Spool<Folder>>,
    pub(super) segments: Vec<SegmentId>,
    pub(super) columns: Columns,
    pub(super) options: stage::Options,
    pub(super) scratch: PathBuf,
    pub(super) store: Store,
    pub(super) folder: String,
}

/// Segments as files, still to be published.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) window: Window,
    pub(super) counts: WindowCounts,
    pub(super) written: Written,
}

/// Rows that are put together before they are written: letters of one row make batches of one.
const ROWS_AT_ONCE: usize = 8192;

impl Staging {
    /// Reads the segments twice, which costs less than to keep them: for their times, and their rows.
    ///
    /// The same segments give the same files, however often this is done.
    pub(super) fn stage(self) -> Result<Staged> {
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        self.each_letter(|letter| {
            let second = letter.head.second();
            (first, last) = (first.min(second), last.max(second));
            Ok(())
        })?;
        // Seconds of days are counted from 1.
        let window = Window { after: first, before: last + 1 };
        let mut rows = Rows::new(&self.columns, window, self.options, &self.scratch)?;
        self.each_letter(|letter| rows.add(&letter))?;
        let (counts, writer) = rows.finish()?;
        Ok(Staged { window, counts, written: writer.finish(&self.store, &self.folder)? })
    }

    fn each_letter(&self, mut take: impl FnMut(Letter) -> Result<()>) -> Result<()> {
        for id in &self.segments {
            for (_, bytes) in self.spool.read(*id)? {
                take(Letter::parse(&bytes)?)?;
            }
        }
        Ok(())
    }
}

/// Rows on their way into files, by the day on which they came.
struct Rows {
    columns: Columns,
    with_day: SchemaRef,
    writer: WindowWriter,
    waiting: Vec<RecordBatch>,
    num_waiting: usize,
    counts: WindowCounts,
}

impl Rows {
    fn new(columns: &Columns, window: Window, options: stage::Options, scratch: &Path) -> Result<Rows> {
        let schema = columns.arrow();
        let day = Arc::new(Field::new(DAY_COLUMN, DataType::Int64, false));
        let fields = schema.fields().iter().cloned().chain([day]);
        let with_day = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        // Day 1 is that of second 0.
        let writer = WindowWriter::new(schema, NaiveDate::default(), window, options, scratch)?;
        let (columns, waiting, counts) = (columns.clone(), Vec::new(), WindowCounts::default());
        Ok(Rows { columns, with_day, writer, waiting, num_waiting: 0, counts })
    }

    fn add(&mut self, letter: &Letter) -> Result<()> {
        let batches = letter.rows(&self.columns)?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        self.counts.records += rows as u64;
        self.counts.staged += rows as u64;
        self.counts.bytes += letter.body.len() as u64;
        let day = letter.head.day();
        for batch in batches {
            let days: ArrayRef = Arc::new(Int64Array::from(vec![day; batch.num_rows()]));
            let columns = batch.columns().iter().cloned().chain([days]).collect();
            let batch = RecordBatch::try_new(Arc::clone(&self.with_day), columns);
            self.waiting.push(batch.map_err(|e| Error::failed("cannot add a day to rows").caused_by(e))?);
        }
        self.num_waiting += rows;
        if self.num_waiting >= ROWS_AT_ONCE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let together = concat_batches(&self.with_day, &self.waiting);
        self.waiting.clear();
        self.num_waiting = 0;
        self.writer.write(&together.map_err(|e| Error::failed("cannot put rows together").caused_by(e))?)
    }

    fn finish(mut self) -> Result<(WindowCounts, WindowWriter)> {
        self.flush()?;
        Ok((self.counts, self.writer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use crate::manifest::{Event, Manifest, Target};
    use crate::retry::Policy;

    const FOLDER: &str = "inventory/gateway";

    fn segment(number: u64) -> SegmentId {
        SegmentId { number, nonce: u128::from(number) }
    }

    async fn intend(store: &Store, first: SegmentId) {
        let folder = format!("{FOLDER}/{}", first.key());
        let mut chain = Chain::read(store, &run_of(&first.key()), folder).await.unwrap();
        let target =
            Target { table: "t".into(), location: "US".into(), write_disposition: "WRITE_APPEND".into() };
        let manifest = Manifest {
            window: Window { after: 0, before: 1 },
            counts: WindowCounts::default(),
            target,
            partitions: Vec::new(),
            rejects: None,
            fetch_ms: None,
        };
        chain.append(Event::Intent(manifest)).await.unwrap();
    }

    /// Without the look back, rows of the second segment came into the table twice when the first one
    /// was damaged between the load and the deletion of both.
    #[tokio::test]
    async fn a_segment_stays_in_its_batch_when_the_first_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        let retry = Policy {
            attempts: 1,
            first_wait: std::time::Duration::ZERO,
            wait_max: std::time::Duration::ZERO,
            retry_after_max: std::time::Duration::ZERO,
            retries_max: 0,
        };
        let store = Store::open(&url, Effects::default(), retry).unwrap();
        let (one, two, three) = (segment(1), segment(2), segment(3));
        let decide = async |sealed: &[SegmentId]| Batch::decide(&store, FOLDER, sealed, true).await.unwrap();
        let first = decide(&[one, two]).await;
        assert_eq!(decide(&[one, two, three]).await, first, "what was decided stays");
        // Before its intent nothing was loaded, and what is left may go by itself.
        let alone = decide(&[two]).await;
        assert_eq!(alone.segments, [two.key()]);

        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        let store = Store::open(&url, Effects::default(), retry).unwrap();
        let first = Batch::decide(&store, FOLDER, &[one, two], true).await.unwrap();
        intend(&store, one).await;
        let found = Batch::decide(&store, FOLDER, &[two, three], true).await.unwrap();
        assert_eq!(found, first);
        assert_eq!(found.of(&[two, three]).collect::<Vec<_>>(), [two]);
    }
}
