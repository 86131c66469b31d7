//! Batches on their way by load jobs that append, each once.
//!
//! | what is there | next |
//! |---|---|
//! | a sealed segment | decide which others are loaded with it: `batch.json` |
//! | that | stage their rows, publish the files, append the intent, which names the segments once more |
//! | an intent | run its load jobs, under the generation after the last failed one; append `loaded` |
//! | `loaded` | remember the keys of its requests, and where those are found; delete the segments, then the files |
//!
//! Whatever of this was done before a kill is found, and done no second time. A load job that appends
//! cannot be repeated under another id once it may have run; so an id is only given up for one that
//! is known to have failed, which had no effect.

use std::sync::Arc;

use super::Out;
use super::batch::{Batch, Staged, Staging, run_of, still_in};
use super::budget::Budget;
use crate::error::{Error, Kind, Result};
use crate::gateway::spool::SegmentId;
use crate::gateway::track::Went;
use crate::generations::{Generations, Job};
use crate::ledger::batches::folder;
use crate::load;
use crate::manifest::{Event, Loaded, Manifest, StagedPartition};
use crate::stage::journal::{Appended, Chain};

impl Out {
    /// The batch that starts with the first of `sealed`, to its end from wherever it was left.
    pub(super) async fn drive(&mut self, sealed: &[SegmentId], budget: &mut Budget) -> Result<()> {
        let pipeline = &self.destination.pipeline;
        let batch = Batch::decide(&self.store, pipeline, sealed, self.looks_back).await?;
        let first = batch.first()?;
        let folder = format!("{}/{first}", folder(pipeline));
        let mut chain = Chain::read(&self.store, &run_of(&first), folder.clone()).await?;
        chain.make_durable().await?;
        let mut is_fresh = false;
        loop {
            let state = chain.state();
            let Some(manifest) = state.manifest.cloned() else {
                let segments = still_in(sealed, &batch.segments);
                if segments.len() < batch.segments.len() {
                    tracing::warn!(folder, "segments that were set aside are not loaded");
                }
                let keys = segments.iter().map(SegmentId::key).collect();
                let Staged { window, counts, mut written } = self.stage(segments, &folder)?;
                written.publish(&self.store).await?;
                for staged in &mut written.partitions {
                    // Rows alone do not make an id: two requests may bring the same ones, and both count.
                    staged.job_id = load::job_id(&self.destination, &first, staged, 0);
                }
                let (partitions, rejects) = (written.partitions.clone(), None);
                let (target, fetch_ms) = (self.destination.target(), None);
                let manifest =
                    Manifest { window, counts, target, partitions, rejects, fetch_ms, segments: keys };
                if chain.append(Event::Intent(manifest)).await? == Appended::Theirs {
                    let message = format!("somebody else writes to `{folder}` of the staging area");
                    return Err(Error::new(Kind::Fenced, message));
                }
                is_fresh = true;
                continue;
            };
            let segments = still_in(sealed, batch.intended(&manifest));
            let Some(loaded) = state.loaded else {
                let other = |error: Error| {
                    error.hint("start the gateway with the table it had, until its spool is empty")
                };
                self.destination.agrees_with(&manifest.target).map_err(other)?;
                if !is_fresh {
                    self.prove_staged(&manifest, segments, &folder).await?;
                }
                let loaded = self.load(first.clone(), &mut chain, &manifest, budget).await?;
                chain.append(Event::Loaded { partitions: loaded }).await?;
                self.metrics.loaded(manifest.counts.staged);
                continue;
            };
            let went = Went::Loaded { table: &manifest.target.table, jobs: loaded };
            self.forget(segments, went).await?;
            for name in
                manifest.partitions.iter().flat_map(|p| &p.files).filter_map(|f| self.store.name_of(&f.url))
            {
                self.store.remove(name).await?;
            }
            return Ok(());
        }
    }

    fn stage(&self, segments: Vec<SegmentId>, folder: &str) -> Result<Staged> {
        let staging = Staging {
            spool: Arc::clone(&self.spool),
            segments,
            columns: self.destination.columns.clone(),
            options: self.stage,
            scratch: self.scratch.clone(),
            store: self.store.clone(),
            folder: folder.to_owned(),
        };
        staging.stage()
    }

    /// What an intent names must be there before a job reads it. The segments still are, and give the
    /// same bytes again.
    async fn prove_staged(&self, manifest: &Manifest, segments: Vec<SegmentId>, folder: &str) -> Result<()> {
        if self.store.first_damaged(manifest).await?.is_none() {
            return Ok(());
        }
        let again = self.stage(segments, folder)?.written;
        let files = |staged: &StagedPartition| staged.files.clone();
        if !again.partitions.iter().map(files).eq(manifest.partitions.iter().map(files)) {
            let message = format!("files of `{folder}` are gone, and not all of its segments are there");
            return Err(Error::new(Kind::Damaged, message).hint(
                "restore one of both from a backup: `.damaged` files of the spool, or the staged files",
            ));
        }
        again.restore(&self.store).await
    }

    /// The load jobs of one intent, as far as today's budget goes.
    async fn load(
        &self,
        first: String,
        chain: &mut Chain,
        manifest: &Manifest,
        budget: &mut Budget,
    ) -> Result<Vec<Loaded>> {
        let generations = Generations {
            bigquery: &self.bigquery,
            destination: &self.destination,
            origin: first,
            retry: self.retry,
            effects: &self.effects,
        };
        let mut hears = |job| {
            match job {
                Job::Next => budget.take(&self.effects.clock)?,
                Job::Loaded => self.metrics.job(true),
                Job::Failed => self.metrics.job(false),
            }
            Ok(())
        };
        let mut loaded = Vec::with_capacity(manifest.partitions.len());
        for staged in &manifest.partitions {
            let done = generations.load(chain, staged, &mut hears).await;
            loaded.push(done.map_err(|error| match error.kind() {
                // Some rows are in the table: by another job they would be there twice.
                Kind::Mismatch => error.hint("compare the table with the staged files by hand"),
                _ => error,
            })?);
        }
        Ok(loaded)
    }
}
