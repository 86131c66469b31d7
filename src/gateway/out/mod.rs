//! The way out: sealed segments become load jobs that append, each once.
//!
//! | what is there | next |
//! |---|---|
//! | a sealed segment | decide which others are loaded with it: `batch.json` |
//! | that | stage their rows, publish the files, append the intent |
//! | an intent | run its load jobs, under the generation after the last failed one; append `loaded` |
//! | `loaded` | remember the keys of its requests, delete the segments, then the files |
//!
//! Whatever of this was done before a kill is found, and done no second time. A load job that appends
//! cannot be repeated under another id once it may have run; so an id is only given up for one that
//! is known to have failed, which had no effect.

mod batch;
mod budget;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::kept_keys::KeptKeys;
use super::metrics::Metrics;
use super::spool::{Folder, SegmentId, Spool};
use crate::bigquery::{BigQuery, JobFailure, LoadJob, TableId, Write, load_job_id};
use crate::effects::Effects;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Event, Loaded, Manifest, StagedPartition, Target};
use crate::schema::Columns;
use crate::stage::journal::{Appended, Chain};
use crate::stage::{self, Store};
use batch::{Batch, Staged, Staging, run_of};
use budget::Budget;

/// Segments that one load takes: half of the default spool, in a few hundred MiB of files.
const SEGMENTS_MAX: usize = 128;
/// Failed jobs of the same batch that an earlier process sent, one after the other.
const FOUND_MAX: u32 = 20;
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
    pub(super) pipeline: String,
    pub(super) columns: Columns,
    pub(super) table: TableId,
    pub(super) location: String,
    pub(super) spool: Arc<Spool<Folder>>,
    pub(super) keys: KeptKeys,
    pub(super) store: Store,
    pub(super) scratch: PathBuf,
    pub(super) stage: stage::Options,
    pub(super) bigquery: BigQuery,
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
        let mut wait = Duration::ZERO;
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
            wait = match loaded {
                Ok(()) => self.pace.every,
                Err(error) if error.kind() != Kind::Failed => return Err(error),
                Err(error) => {
                    let next = (wait.min(WAIT_MAX / 2) * 2).max(WAIT_FIRST).min(WAIT_MAX);
                    tracing::warn!(%error, retry_in = ?next, "rows wait in the spool");
                    next
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
                self.bigquery.ensure_dataset(&self.table.dataset).await?;
                self.bigquery.ensure_open_table(&self.table, &self.columns).await?;
                let read = Budget::read(&self.store, &self.pipeline, self.pace.jobs_per_day).await?;
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

    /// The batch that starts with the first of `sealed`, to its end from wherever it was left.
    async fn drive(&mut self, sealed: &[SegmentId], budget: &mut Budget) -> Result<()> {
        let batch = Batch::decide(&self.store, &folder(&self.pipeline), sealed, self.looks_back).await?;
        let first = batch.first()?;
        let folder = format!("{}/{first}", folder(&self.pipeline));
        let mut chain = Chain::read(&self.store, &run_of(&first), folder.clone()).await?;
        chain.make_durable().await?;
        let mut is_fresh = false;
        loop {
            let state = chain.state();
            let Some(manifest) = state.manifest.cloned() else {
                let Staged { window, counts, mut written } = self.stage(&batch, sealed, &folder).await?;
                written.publish(&self.store).await?;
                for staged in &mut written.partitions {
                    staged.job_id = self.job_id(&first, staged, 0);
                }
                let (partitions, rejects) = (written.partitions.clone(), None);
                let (target, fetch_ms) = (self.target(), None);
                let manifest = Manifest { window, counts, target, partitions, rejects, fetch_ms };
                if chain.append(Event::Intent(manifest)).await? == Appended::Theirs {
                    let message = format!("somebody else writes to `{folder}` of the staging area");
                    return Err(Error::new(Kind::Fenced, message));
                }
                is_fresh = true;
                continue;
            };
            if state.loaded.is_none() {
                self.agree(&manifest)?;
                if !is_fresh {
                    self.prove_staged(&manifest, &batch, sealed, &folder).await?;
                }
                let loaded = self.load(&first, &mut chain, &manifest, budget).await?;
                chain.append(Event::Loaded { partitions: loaded }).await?;
                self.metrics.loaded(manifest.counts.staged);
                continue;
            }
            // Durable: from here on nothing needs the segments.
            let done: Vec<SegmentId> = batch.of(sealed).collect();
            tokio::task::block_in_place(|| self.keys.keep(&self.spool, &done))?;
            self.spool.remove(done).await?;
            for name in
                manifest.partitions.iter().flat_map(|p| &p.files).filter_map(|f| self.store.name_of(&f.url))
            {
                self.store.remove(name).await?;
            }
            return Ok(());
        }
    }

    async fn stage(&self, batch: &Batch, sealed: &[SegmentId], folder: &str) -> Result<Staged> {
        let segments: Vec<SegmentId> = batch.of(sealed).collect();
        if segments.len() < batch.segments.len() {
            tracing::warn!(folder, "segments that were set aside are not loaded");
        }
        let staging = Staging {
            spool: Arc::clone(&self.spool),
            segments,
            columns: self.columns.clone(),
            options: self.stage,
            scratch: self.scratch.clone(),
            store: self.store.clone(),
            folder: folder.to_owned(),
        };
        let staged = tokio::task::spawn_blocking(move || staging.stage()).await;
        staged.map_err(|e| Error::failed("staging died").caused_by(e))?
    }

    /// What an intent names must be there before a job reads it. The segments still are, and give the
    /// same bytes again.
    async fn prove_staged(
        &self,
        manifest: &Manifest,
        batch: &Batch,
        sealed: &[SegmentId],
        folder: &str,
    ) -> Result<()> {
        let mut is_whole = true;
        for file in manifest.partitions.iter().flat_map(|partition| &partition.files) {
            let outside = || Error::new(Kind::Damaged, format!("`{}` is not in this staging area", file.url));
            let name = self.store.name_of(&file.url).ok_or_else(outside)?;
            is_whole &= self.store.holds(name, file.bytes, &file.sha256).await?;
        }
        if is_whole {
            return Ok(());
        }
        let again = self.stage(batch, sealed, folder).await?.written;
        let files = |staged: &StagedPartition| staged.files.clone();
        if !again.partitions.iter().map(files).eq(manifest.partitions.iter().map(files)) {
            let message = format!("files of `{folder}` are gone, and not all of its segments are there");
            return Err(Error::new(Kind::Damaged, message).hint(
                "restore one of both from a backup: `.damaged` files of the spool, or the staged files",
            ));
        }
        again.restore(&self.store).await
    }

    async fn load(
        &self,
        first: &str,
        chain: &mut Chain,
        manifest: &Manifest,
        budget: &mut Budget,
    ) -> Result<Vec<Loaded>> {
        let mut loaded = Vec::with_capacity(manifest.partitions.len());
        for staged in &manifest.partitions {
            let mut found = 0;
            let done = loop {
                budget.take(&self.effects.clock)?;
                let failure = match self.load_partition(first, chain, staged).await? {
                    Ok(done) => break done,
                    Err(failure) => failure,
                };
                let (partition, generation) = (staged.partition, chain.state().generation(staged.partition));
                let job_id = self.job_id(first, staged, generation);
                let reason = format!("{}: {}", failure.reason, failure.message);
                let error = Error::failed(format!("load job `{job_id}` failed: {reason}"));
                chain.append(Event::Failed { partition, generation, job_id, reason }).await?;
                self.metrics.job(false);
                found += u32::from(failure.found);
                if !failure.found || found > FOUND_MAX {
                    return Err(error);
                }
            };
            self.metrics.job(true);
            tracing::info!(partition = %staged.partition, rows = done.output_rows, job_id = done.job_id, "rows loaded");
            loaded.push(done);
        }
        Ok(loaded)
    }

    /// Runs the job of the next generation, or finds it run.
    async fn load_partition(
        &self,
        first: &str,
        chain: &Chain,
        staged: &StagedPartition,
    ) -> Result<Result<Loaded, JobFailure>> {
        let generation = chain.state().generation(staged.partition);
        let (job_id, destination) =
            (self.job_id(first, staged, generation), self.table.partition(staged.partition));
        let job = LoadJob {
            id: &job_id,
            destination: &destination,
            columns: &self.columns,
            source_uris: staged.files.iter().map(|f| f.url.clone()).collect(),
            write: Write::Append,
        };
        let done = match self.bigquery.load(&job).await? {
            Ok(done) => done,
            Err(failure) => return Ok(Err(failure)),
        };
        if done.output_rows != staged.rows {
            // Some rows are in the table: by another job they would be there twice.
            let message = format!(
                "job `{job_id}` says that it appended {} rows to `{destination}`, {} were staged",
                done.output_rows, staged.rows
            );
            return Err(
                Error::new(Kind::Mismatch, message).hint("compare the table with the staged files by hand")
            );
        }
        Ok(Ok(Loaded {
            partition: staged.partition,
            generation,
            job_id,
            output_rows: done.output_rows,
            output_bytes: done.output_bytes,
            ended_ms: done.ended_ms,
        }))
    }

    /// Rows alone do not make an id: two requests may bring the same ones, and both count.
    fn job_id(&self, first: &str, staged: &StagedPartition, generation: u32) -> String {
        let hash = Sha256::new().chain_update(first).chain_update(&staged.logical_hash).finalize();
        load_job_id(&self.pipeline, &self.table, staged.partition, None, generation, &format!("{hash:x}"))
    }

    fn target(&self) -> Target {
        Target {
            table: self.table.to_string(),
            location: self.location.clone(),
            write_disposition: "WRITE_APPEND".into(),
        }
    }

    fn agree(&self, manifest: &Manifest) -> Result<()> {
        if manifest.target == self.target() {
            return Ok(());
        }
        Err(Error::usage(format!(
            "rows in the spool are being loaded into `{}` in `{}`, not into `{}` in `{}`",
            manifest.target.table, manifest.target.location, self.table, self.location
        ))
        .hint("start the gateway with the table it had, until its spool is empty"))
    }
}

/// The folder of all batches of a pipeline in the staging area.
fn folder(pipeline: &str) -> String {
    format!("{pipeline}/gateway")
}
