//! Some sealed segments, loaded together: which they are, and what their rows are as Parquet files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use chrono::NaiveDate;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::error::{Error, Kind, Result};
use crate::gateway::letter::Letter;
use crate::gateway::spool::{Folder, SegmentId, Spool};
use crate::ledger::batches::{self, READS_AT_ONCE, folder};
pub(super) use crate::ledger::batches::{Segments as Batch, run_of};
use crate::ledger::ended;
use crate::manifest::WindowCounts;
use crate::partition::Window;
use crate::schema::{Columns, DAY_COLUMN};
use crate::stage::journal::Chain;
use crate::stage::{self, Store, WindowWriter, Written};

impl Batch {
    /// What was decided for the batch of the first of `sealed`, now or before.
    ///
    /// `looks_back` after a start, and after a segment was set aside: that one may have been the first of
    /// a batch. Only the process that has the spool open comes here, so there is nobody to race with.
    pub(super) async fn decide(
        store: &Store,
        pipeline: &str,
        sealed: &[SegmentId],
        looks_back: bool,
    ) -> Result<Batch> {
        let mut batch = Batch { segments: sealed.iter().map(SegmentId::key).collect() };
        let first = batch.first()?;
        // Most often after an error: no need to look any further.
        let own = decided(store, pipeline, &first).await?;
        if let Some(own) = &own {
            let chain = Chain::read(store, &run_of(&first), format!("{}/{first}", folder(pipeline))).await?;
            if chain.state().manifest.is_some_and(|manifest| own.intended(manifest).contains(&first)) {
                return Ok(own.clone());
            }
        }
        let begun = if looks_back { begun(store, pipeline, sealed).await? } else { HashMap::new() };
        if let Some(key) = begun.get(&first) {
            let gone = || Error::new(Kind::Damaged, format!("batch `{key}` is gone from the journal"));
            return decided(store, pipeline, key).await?.ok_or_else(gone);
        }
        if looks_back {
            // Put away after this gateway has looked for such ones, by another: that writes it down before
            // it removes the batch, so one that was not found above is found here.
            let ended = ended::read(store, pipeline).await?;
            let ended = ended::segments(&ended);
            if let Some(key) = sealed.iter().map(SegmentId::key).find(|key| ended.contains(&**key)) {
                return Err(Error::failed(format!("the batch of segment `{key}` was put away just now")));
            }
        }
        let is_new = own.is_none();
        batch = own.unwrap_or(batch);
        batch.segments.retain(|segment| !begun.contains_key(segment));
        if is_new {
            let bytes = serde_json::to_vec(&batch)
                .map_err(|e| Error::failed("cannot write which segments are loaded").caused_by(e))?;
            // After a lost answer it is read back at the next try.
            store.create(&Batch::name(&format!("{}/{first}", folder(pipeline))), &bytes).await?;
        }
        Ok(batch)
    }

    /// The key of its first segment, which names its folder.
    pub(super) fn first(&self) -> Result<String> {
        let empty = || Error::new(Kind::Damaged, "a batch has no segments");
        self.segments.first().cloned().ok_or_else(empty)
    }
}

/// Those of `segments` that the spool still has.
pub(super) fn still_in(sealed: &[SegmentId], segments: &[String]) -> Vec<SegmentId> {
    sealed.iter().copied().filter(|id| segments.contains(&id.key())).collect()
}

/// What was decided before, durable before anything is done because of it.
async fn decided(store: &Store, pipeline: &str, key: &str) -> Result<Option<Batch>> {
    let folder = format!("{}/{key}", folder(pipeline));
    let found = Batch::read(store, &folder).await?;
    if found.is_some() {
        store.make_durable(&Batch::name(&folder)).await?;
    }
    Ok(found)
}

/// Those of `sealed` that an intent has, by the key of its batch: they are loaded or will be by that one.
///
/// It begins with another segment where that was set aside since, and that one begins anew when somebody has
/// mended it. All batches are looked through: beside those of this gateway are those of others.
pub(super) async fn begun(
    store: &Store,
    pipeline: &str,
    sealed: &[SegmentId],
) -> Result<HashMap<String, String>> {
    let sealed: HashSet<String> = sealed.iter().map(SegmentId::key).collect();
    let of_batch = |key: String| {
        let sealed = &sealed;
        async move {
            let folder = format!("{}/{key}", folder(pipeline));
            let Some(batch) = Batch::read(store, &folder).await? else { return Ok(HashMap::new()) };
            if batch.segments.iter().all(|segment| !sealed.contains(segment)) {
                return Ok(HashMap::new());
            }
            let chain = Chain::read(store, &run_of(&key), folder).await?;
            let intended = chain.state().manifest.map_or(&[][..], |manifest| batch.intended(manifest));
            let waiting = intended.iter().filter(|segment| sealed.contains(*segment));
            Ok::<_, Error>(waiting.map(|segment| (segment.clone(), key.clone())).collect())
        }
    };
    let keys = batches::keys(store, pipeline).await?;
    stream::iter(keys.into_iter().map(of_batch)).buffer_unordered(READS_AT_ONCE).try_concat().await
}

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
    columns: Arc<Columns>,
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
        let (columns, waiting, counts) = (Arc::new(columns.clone()), Vec::new(), WindowCounts::default());
        Ok(Rows { columns, with_day, writer, waiting, num_waiting: 0, counts })
    }

    fn add(&mut self, letter: &Letter) -> Result<()> {
        self.counts.bytes += letter.body.len() as u64;
        let day = letter.head.day();
        let columns = Arc::clone(&self.columns);
        letter.each_batch(&columns, |batch| {
            let rows = batch.num_rows();
            let days: ArrayRef = Arc::new(Int64Array::from(vec![day; rows]));
            let columns = batch.columns().iter().cloned().chain([days]).collect();
            let batch = RecordBatch::try_new(Arc::clone(&self.with_day), columns);
            self.waiting.push(batch.map_err(|e| Error::failed("cannot add a day to rows").caused_by(e))?);
            self.counts.records += rows as u64;
            self.counts.staged += rows as u64;
            self.num_waiting += rows;
            if self.num_waiting >= ROWS_AT_ONCE { self.flush() } else { Ok(()) }
        })
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

    const PIPELINE: &str = "inventory";

    fn segment(number: u64) -> SegmentId {
        SegmentId { number, nonce: u128::from(number) }
    }

    fn store(dir: &tempfile::TempDir) -> Store {
        let url = format!("file://{}", dir.path().display());
        Store::open(&url, Effects::default(), Policy::default()).unwrap()
    }

    async fn decide(store: &Store, sealed: &[SegmentId]) -> Batch {
        Batch::decide(store, PIPELINE, sealed, true).await.unwrap()
    }

    /// An intent of the batch that begins with `first`, with the rows of `segments`.
    async fn intend(store: &Store, first: SegmentId, segments: &[SegmentId]) {
        let folder = format!("{}/{}", folder(PIPELINE), first.key());
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
            segments: segments.iter().map(SegmentId::key).collect(),
        };
        chain.append(Event::Intent(manifest)).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_decided_stays_and_before_its_intent_nothing_was_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let (one, two, three) = (segment(1), segment(2), segment(3));
        let first = decide(&store, &[one, two]).await;
        assert_eq!(decide(&store, &[one, two, three]).await, first);
        // The first one was set aside.
        assert_eq!(decide(&store, &[two]).await.segments, [two.key()]);
    }

    /// Without the look back, rows of the second segment came into the table twice when the first one
    /// was damaged between the load and the deletion of both.
    #[tokio::test]
    async fn a_segment_stays_in_its_batch_when_the_first_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let (one, two, three) = (segment(1), segment(2), segment(3));
        let first = decide(&store, &[one, two]).await;
        intend(&store, one, &[one, two]).await;
        // Those of other gateways are in between, and count from 1 as well.
        for nonce in 100..150 {
            let other = SegmentId { number: 1, nonce };
            decide(&store, &[other]).await;
            intend(&store, other, &[other]).await;
        }
        let found = decide(&store, &[two, three]).await;
        assert_eq!(found, first);
        assert_eq!(still_in(&[two, three], &found.segments), [two]);
    }

    /// Another gateway may put a batch away between a look for such ones and the decision.
    #[tokio::test]
    async fn a_segment_whose_batch_was_put_away_is_in_no_new_batch() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let (one, two) = (segment(1), segment(2));
        let ended = ended::Ended { batches: vec![vec![two.key()]], ..ended::Ended::default() };
        let bytes = serde_json::to_vec(&ended).unwrap();
        store.create(&format!("{PIPELINE}/gateway-ended/00000001.json"), &bytes).await.unwrap();
        let error = Batch::decide(&store, PIPELINE, &[one, two], true).await.unwrap_err();
        assert!(error.to_string().contains("was put away just now"), "{error}");
        assert_eq!(decide(&store, &[one]).await.segments, [one.key()]);
    }

    /// It was taken for loaded, and deleted, as the others of the batch that was decided with it.
    #[tokio::test]
    async fn a_segment_that_was_damaged_before_the_intent_is_loaded_by_itself_once_it_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let (one, two, three) = (segment(1), segment(2), segment(3));
        decide(&store, &[one, two, three]).await;
        intend(&store, one, &[one, three]).await;
        assert_eq!(decide(&store, &[two, three]).await.segments, [two.key()]);
        // The first one of those that were decided, and the others were begun without it.
        let (four, five) = (segment(4), segment(5));
        decide(&store, &[four, five]).await;
        decide(&store, &[five]).await;
        intend(&store, five, &[five]).await;
        assert_eq!(decide(&store, &[four, five]).await.segments, [four.key()]);
    }
}
