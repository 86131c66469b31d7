//! The way out: sealed segments become load jobs that append, each once.

mod batch;
mod budget;
mod loads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::kept_keys::KeptKeys;
use super::metrics::Metrics;
use super::spool::{Folder, SegmentId, Spool};
use crate::bigquery::BigQuery;
use crate::effects::Effects;
use crate::error::{Error, Kind, Result};
use crate::load::Destination;
use crate::retry::Policy;
use crate::stage::{self, Store};
use budget::Budget;

/// Segments that one load takes: half of the default spool, in a few hundred MiB of files.
const SEGMENTS_MAX: usize = 128;
/// Waits after a load that failed: BigQuery may be away for minutes, or a person has to mend something.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(300);

/// When segments are loaded.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The active segment is sealed each time this has passed, and what is sealed is loaded.
    pub every: Duration,
    /// Load jobs a day, failed ones included.
    pub jobs_per_day: u64,
}

impl Default for Pace {
    fn default() -> Self {
        // 960 loads a day; BigQuery takes 1,500 a table, and failed ones count.
        Pace { every: Duration::from_secs(90), jobs_per_day: 1400 }
    }
}

/// Everything that the way out works with.
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
    pub(super) metrics: Arc<Metrics>,
    /// Whether the first segment may belong to a batch whose own first one was set aside.
    pub(super) looks_back: bool,
}

impl Out {
    /// Loads until told to stop. An error is one that the next try will meet too.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let mut budget = None;
        let (mut wait, mut failing) = (Duration::ZERO, Duration::ZERO);
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopped.changed() => return Ok(()),
            }
            let loaded = tokio::select! {
                loaded = self.load_waiting(&mut budget) => loaded,
                // As after a kill: the next start finds what was done.
                _ = stopped.changed() => return Ok(()),
            };
            failing = match &loaded {
                Ok(()) => Duration::ZERO,
                Err(_) => (failing * 2).clamp(WAIT_FIRST, WAIT_MAX),
            };
            wait = match loaded {
                Ok(()) => self.pace.every,
                Err(error) if error.kind() != Kind::Failed => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, retry_in = ?failing, "rows wait in the spool");
                    failing
                }
            };
        }
    }

    /// Seals what there is, and loads all that is sealed. Before the first load the table is made, if it
    /// is not there: rows are taken also while BigQuery is away.
    async fn load_waiting(&mut self, budget: &mut Option<Budget>) -> Result<()> {
        let budget = match budget {
            Some(budget) => budget,
            None => {
                let Destination { pipeline, table, columns, .. } = &self.destination;
                self.bigquery.ensure_dataset(&table.dataset).await?;
                self.bigquery.ensure_open_table(table, columns).await?;
                let read = Budget::read(&self.store, pipeline, self.pace.jobs_per_day).await?;
                budget.insert(read)
            }
        };
        self.spool.seal(1).await.map_err(|refused| Error::failed(refused.to_string()))?;
        loop {
            let sealed = self.spool.sealed().await.map_err(|refused| Error::failed(refused.to_string()))?;
            let mut ids = Vec::new();
            for sealed in sealed.iter().take(SEGMENTS_MAX) {
                // Files of 16 MiB: other tasks go on elsewhere.
                match tokio::task::block_in_place(|| self.spool.read(sealed.id)) {
                    Ok(_) => ids.push(sealed.id),
                    Err(error) if error.kind() == Kind::Damaged => {
                        // Once, here: nothing else will be loaded from it, and everything else will.
                        tracing::error!(%error, segment = sealed.id.key(), "rows that were acknowledged are damaged; set aside");
                        self.looks_back = true;
                        self.spool.set_aside(sealed.id).await?;
                    }
                    Err(error) => return Err(error),
                }
            }
            let sealed = ids;
            if sealed.is_empty() {
                self.looks_back = false;
                return Ok(());
            }
            self.drive(&sealed, budget).await?;
        }
    }

    /// Lets segments go whose rows are in the table, which is durable by now: nothing needs them any more.
    async fn forget(&mut self, segments: Vec<SegmentId>) -> Result<()> {
        tokio::task::block_in_place(|| self.keys.keep(&self.spool, &segments))?;
        self.spool.remove(segments).await
    }
}

/// The folder of all batches of a pipeline in the staging area.
fn folder(pipeline: &str) -> String {
    format!("{pipeline}/gateway")
}
