//! The way out: what is sealed goes into the table, by load jobs or row by row.

mod batch;
mod budget;
mod ended;
mod loads;
mod rejects;
mod rows;
mod stream;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::kept_keys::KeptKeys;
use super::metrics::Metrics;
use super::spool::{Folder, SegmentId, Spool};
use super::track::{Tracking, Went};
use crate::bigquery::BigQuery;
use crate::config::{GatewaySettings, WayOut};
use crate::effects::Effects;
use crate::error::{Error, Kind, Result};
use crate::load::Destination;
use crate::retry::Policy;
use crate::stage::{self, Store};
use budget::Budget;
pub use rejects::{RefusedRow, refused_rows};
use stream::Stream;

/// Segments that one load takes: half of the default spool, in a few hundred MiB of files.
const SEGMENTS_MAX: usize = 128;
/// Waits after a load that failed: BigQuery may be away for minutes, or a person has to mend something.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// When segments are loaded.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The active segment is sealed each time this has passed, and what is sealed is loaded or streamed.
    pub every: Duration,
    /// Load jobs a day, failed ones included.
    pub jobs_per_day: u64,
}

impl Pace {
    /// 960 loads a day, of the 1,500 that BigQuery takes a table, failed ones included; streamed rows have
    /// no such limit.
    pub fn every(way_out: WayOut) -> Duration {
        match way_out {
            WayOut::Batch => Duration::from_secs(90),
            WayOut::Stream => Duration::from_millis(500),
        }
    }
}

/// Everything that the way out works with. It has a thread of its own, and may keep it busy.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) destination: Destination,
    pub(super) spool: Arc<Spool<Folder>>,
    pub(super) keys: KeptKeys,
    pub(super) store: Store,
    pub(super) scratch: PathBuf,
    pub(super) stage: stage::Options,
    pub(super) bigquery: BigQuery,
    pub(super) retry: Policy,
    pub(super) effects: Effects,
    pub(super) pace: Pace,
    pub(super) settings: GatewaySettings,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tracking: Option<Arc<Tracking>>,
    /// Whether the first segment may belong to a batch whose own first one was set aside.
    pub(super) looks_back: bool,
    /// How long batches stay in the journal once they have ended.
    pub(super) keep: Duration,
    /// When old ones were looked for last.
    pub(super) archived: Option<Instant>,
}

/// A call may be repeated for minutes before it fails: until it is over, the last try has failed too.
async fn tell_of_retries(metrics: &Metrics, effects: &Effects) -> Infallible {
    let before = effects.retries().total();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if effects.retries().total() > before {
            metrics.out_fails(true);
        }
    }
}

/// What a way keeps from one pass to the next.
enum Way {
    /// `None` until the table is there.
    Batch(Option<Budget>),
    Stream(Box<Stream>),
}

impl Out {
    /// Works until told to stop. An error is one that the next try will meet too.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let mut way = match self.settings.way_out()? {
            WayOut::Batch => Way::Batch(None),
            WayOut::Stream => Way::Stream(Box::new(Stream::new(self.settings.clone()))),
        };
        let (mut wait, mut failing) = (Duration::ZERO, Duration::ZERO);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopped.changed() => break,
            }
            let (metrics, effects) = (Arc::clone(&self.metrics), self.effects.clone());
            let passed = tokio::select! {
                passed = self.pass(&mut way) => passed,
                never = tell_of_retries(&metrics, &effects) => match never {},
                // As after a kill: the next start finds what was done.
                _ = stopped.changed() => break,
            };
            metrics.out_fails(passed.is_err());
            failing = match &passed {
                Ok(()) => Duration::ZERO,
                Err(_) => (failing * 2).clamp(WAIT_FIRST, WAIT_MAX),
            };
            wait = match passed {
                Ok(()) => self.pace.every,
                // As for the spool's own segments: what a disk says after a failed sync is worth nothing.
                Err(error) if error.kind() != Kind::Failed || self.keys.has_stopped() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, retry_in = ?failing, "rows wait in the spool");
                    // As at a start: what was done of it is found, however much later the next try comes.
                    self.looks_back = true;
                    failing
                }
            };
        }
        if let Way::Stream(stream) = &mut way
            && let Err(error) = self.settle(stream).await
        {
            tracing::warn!(%error, "rows that were sent are sent again after the next start");
        }
        self.keys.close();
        Ok(())
    }

    async fn pass(&mut self, way: &mut Way) -> Result<()> {
        if self.looks_back {
            self.set_aside_ended().await?;
        }
        match way {
            Way::Batch(budget) => self.load_waiting(budget).await?,
            Way::Stream(stream) => self.stream_waiting(stream).await?,
        }
        self.archive_old().await;
        Ok(())
    }

    /// Seals what there is, and loads all that is sealed.
    async fn load_waiting(&mut self, budget: &mut Option<Budget>) -> Result<()> {
        let budget = match budget {
            Some(budget) if !budget.is_old() => budget,
            other => {
                if other.is_none() {
                    self.make_table().await?;
                    self.refuse_narrow_table().await?;
                }
                let pipeline = &self.destination.pipeline;
                other.insert(Budget::read(&self.store, pipeline, self.pace.jobs_per_day).await?)
            }
        };
        let has_sealed = self.seal().await;
        loop {
            let sealed = self.whole_segments(|_| true).await?;
            if self.looks_back && self.forget_streamed(&sealed).await? {
                continue;
            }
            if sealed.is_empty() {
                self.looks_back = false;
                // On a full disk what is sealed goes first, and makes room.
                return has_sealed;
            }
            self.drive(&sealed, budget).await?;
        }
    }

    /// Before the first row goes out, and not before the first is taken: rows are taken also while BigQuery
    /// is away.
    async fn make_table(&self) -> Result<()> {
        let Destination { table, columns, .. } = &self.destination;
        self.bigquery.ensure_dataset(&table.dataset).await?;
        self.bigquery.ensure_open_table(table, columns).await
    }

    /// A load job takes all of its rows or none: one that does not fit would hold up all behind it.
    async fn refuse_narrow_table(&self) -> Result<()> {
        let Destination { table, columns, .. } = &self.destination;
        let fields = self.bigquery.table(table).await?.map(|found| found.fields).unwrap_or_default();
        let is_ours = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let mut limits = fields.iter().filter(|field| is_ours(&field.name));
        let Some((name, limit)) = limits.find_map(|f| Some((&f.name, f.limit.as_ref()?))) else {
            return Ok(());
        };
        Err(Error::usage(format!(
            "table `{table}` has `{name}` with {limit}, which the columns do not know of"
        ))
        .hint("`--out stream` makes rejects of rows that BigQuery refuses; or take the limit off the column"))
    }

    async fn seal(&self) -> Result<()> {
        self.spool.seal().await.map_err(|refused| Error::failed(refused.to_string()))
    }

    /// The first of the sealed segments that are `wanted`; those that are damaged are set aside.
    async fn whole_segments(&mut self, wanted: impl Fn(SegmentId) -> bool) -> Result<Vec<SegmentId>> {
        let sealed = self.spool.sealed().await.map_err(|refused| Error::failed(refused.to_string()))?;
        let mut whole = Vec::new();
        for id in sealed.iter().map(|sealed| sealed.id).filter(|id| wanted(*id)).take(SEGMENTS_MAX) {
            match self.spool.read(id) {
                Ok(_) => whole.push(id),
                Err(error) if error.kind() == Kind::Damaged => {
                    // Once, here: nothing else will be loaded from it, and everything else will.
                    tracing::error!(%error, segment = id.key(), "rows that were acknowledged are damaged; set aside");
                    self.looks_back = true;
                    self.spool.set_aside(id).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(whole)
    }

    /// Lets segments go whose rows are in the table, which is durable by now: nothing needs them any more.
    /// How they went there is told to whoever asks for their requests.
    async fn forget(&mut self, segments: Vec<SegmentId>, went: Went<'_>) -> Result<()> {
        self.keys.keep(&self.spool, &segments)?;
        if let Some(tracking) = &self.tracking {
            tracking.gone(&self.spool, &segments, &went).await;
        }
        self.spool.remove(segments).await
    }
}
