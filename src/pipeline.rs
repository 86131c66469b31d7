//! The main job: fetch, decode, transform, stage, load; window by window, several at once.
//!
//! A window's chain of journal entries decides what is left to do with it, and nothing else does:
//!
//! | the chain says | next |
//! |---|---|
//! | nothing | fetch, decode, transform, stage, then append the intent |
//! | an intent | run its load jobs, under the generation after the last failed one; append `loaded` |
//! | loaded | ask BigQuery whether it still is; if not, append `failed`, and load again |
//!
//! Whoever finds an intent drives it to its end, whoever wrote it. An append that finds another's
//! entry in its place goes on from that one.

mod assemble;
mod loads;
mod reading;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use tokio::task::JoinSet;

use crate::bigquery::BigQuery;
use crate::config::Pipeline;
use crate::effects::{Door, Effects};
use crate::error::{Error, Kind, Result};
use crate::forecast::{Asked, Forecast};
use crate::guard;
use crate::holdings::{Holdings, Windows};
use crate::ledger;
use crate::load::{self, Destination};
use crate::manifest::{Event, Loaded, Manifest, WindowCounts};
use crate::partition::Window;
use crate::plan::{Plan, Until, rejects_folder, window_folder};
use crate::receipt::{Receipt, WindowReceipt};
use crate::retry::Policy;
use crate::source::Source;
use crate::stage::journal::{Appended, Chain};
use crate::stage::{self, Store, WindowWriter, Written};
use crate::telemetry::Progress;
use crate::transform::Transform;
use reading::Reading;

pub use assemble::{
    Order, World, connect, destination, open_engine, open_query_engine, open_source, open_store,
    stage_options,
};
pub use reading::{Decoded, Records, records};

/// Everything a backfill works with.
#[derive(Debug)]
pub struct Backfill {
    pub pipeline: Pipeline,
    pub plan: Plan,
    pub until: Until,
    /// Windows at work at once.
    pub jobs: usize,
    pub source: Source,
    pub transform: Transform,
    pub store: Store,
    /// Where files are in the making.
    pub scratch: PathBuf,
    pub retry: Policy,
    pub effects: Effects,
    pub progress: Progress,
    /// Where rows go, also when this run only stages them.
    pub destination: Destination,
    /// Only for [`Until::Load`].
    pub bigquery: Option<BigQuery>,
}

impl Backfill {
    /// Runs every window to its end. Windows that fail are in the receipt; an `Err` stops the run.
    pub async fn run(self) -> Result<Receipt> {
        let started = Instant::now();
        let holdings = match self.prepare().await {
            Ok(holdings) => Arc::new(holdings),
            // Weather, and it stands before all windows alike: they are named, and the same command resumes.
            Err(error) if error.kind() == Kind::Failed && !self.plan.windows.is_empty() => {
                let mut receipt = Receipt::new(&self.pipeline, &self.plan, self.until);
                let mut windows = self.plan.windows.iter().copied();
                receipt.failed.extend(windows.next().map(|first| (first, error)));
                receipt.not_tried.extend(windows);
                self.progress.clear();
                receipt.finish(started.elapsed(), self.effects.retries());
                return Ok(receipt);
            }
            Err(error) => return Err(error),
        };
        let job = Arc::new(self);
        let mut waiting = job.plan.windows.clone().into_iter();
        let mut at_work = JoinSet::new();
        let mut receipt = Receipt::new(&job.pipeline, &job.plan, job.until);
        let mut stop = None;
        loop {
            while stop.is_none() && at_work.len() < job.jobs.max(1) {
                let Some(window) = waiting.next() else { break };
                let (job, holdings) = (Arc::clone(&job), Arc::clone(&holdings));
                at_work.spawn(async move { (window, job.window(window, &holdings).await) });
            }
            let Some(ended) = at_work.join_next().await else { break };
            let (window, outcome) = ended.map_err(|e| Error::failed("a window's task died").caused_by(e))?;
            match outcome {
                Ok(done) => {
                    job.progress.window_done();
                    receipt.windows.push(done);
                }
                // The settings are wrong, and no other window will do better.
                Err(error) if error.kind() == Kind::Usage => return Err(error.context(window.to_string())),
                // One bad window does not stop the others, unless they would fail the same way.
                Err(error) => {
                    stop = stop.or(error.is_unreachable().then_some(()));
                    receipt.failed.push((window, error));
                }
            }
        }
        receipt.not_tried.extend(waiting);
        job.progress.clear();
        receipt.finish(started.elapsed(), job.effects.retries());
        Ok(receipt)
    }

    /// What all windows need: the plan in the staging area, the dataset and the table. Says what the
    /// partitions hold by now.
    async fn prepare(&self) -> Result<Holdings> {
        let mut holdings = Holdings::default();
        if self.until == Until::Load {
            let ledger = ledger::read(&self.store, &self.pipeline.name).await?;
            holdings = Holdings::of(&ledger, self.pipeline.epoch, Windows::Loaded);
            guard::refuse(&self.pipeline, &self.plan, &ledger, &holdings)?;
            let asked = Asked { jobs: self.jobs, until: self.until, ..Asked::default() };
            let now_ms = self.effects.clock.unix_millis();
            Forecast::new(&self.pipeline, &self.plan, &ledger, None, asked, now_ms)?.verdict()?;
        }
        if self.until >= Until::Stage {
            self.plan.record(&self.store).await?;
        }
        if let Some(bigquery) = &self.bigquery {
            let Destination { table, columns, .. } = &self.destination;
            bigquery.ensure_dataset(&table.dataset).await?;
            bigquery.ensure_staging_table(table, columns).await?;
        }
        Ok(holdings)
    }

    async fn window(&self, window: Window, holdings: &Holdings) -> Result<WindowReceipt> {
        if self.until == Until::Decode {
            let mut tries = self.retry.tries(&self.effects, Door::Source, window.to_string());
            loop {
                match self.count(window).await {
                    Ok(counts) => return Ok(WindowReceipt::decoded(window, counts)),
                    Err(error) => tries.wait_or(error).await?,
                }
            }
        }
        let folder = window_folder(&self.pipeline.name, &self.plan.run, window);
        let mut chain = Chain::read(&self.store, &self.plan.run, folder.clone()).await?;
        chain.make_durable().await?;
        let done = self.drive(window, &folder, &mut chain, holdings).await;
        if let Err(error) = &done
            && matches!(error.kind(), Kind::Failed | Kind::Mismatch)
        {
            let reason = error.to_string();
            // `status` tells it later. It is worth a try and no more: nothing is decided by it.
            if chain.state().stopped != Some(&reason)
                && let Err(unsaid) = chain.append(Event::Stopped { reason }).await
            {
                tracing::debug!(%window, error = %unsaid, "the reason is not in the journal");
            }
        }
        done
    }

    /// One window to its end, from wherever an earlier attempt left it.
    async fn drive(
        &self,
        window: Window,
        folder: &str,
        chain: &mut Chain,
        holdings: &Holdings,
    ) -> Result<WindowReceipt> {
        let mut tries = self.retry.tries(&self.effects, Door::Source, window.to_string());
        let (mut fetched, mut resumed) = (false, true);
        loop {
            let state = chain.state();
            let Some(manifest) = state.manifest.cloned() else {
                match self.fetch_to_parquet(window, folder).await {
                    Ok((manifest, written)) => {
                        written.publish(&self.store).await?;
                        let WindowCounts { records, staged, .. } = manifest.counts;
                        // The commit point. If somebody else's intent is there, theirs is driven on.
                        if let Appended::Ours = chain.append(Event::Intent(manifest)).await? {
                            (fetched, resumed) = (true, false);
                            tracing::info!(%window, records, staged, "window staged");
                        }
                    }
                    Err(error) => tries.wait_or(error).await?,
                }
                continue;
            };
            let Some(bigquery) = &self.bigquery else {
                return Ok(WindowReceipt::new(&self.pipeline, &manifest, &[], fetched, resumed));
            };
            if let Some(loaded) = state.loaded {
                let gone = match resumed {
                    true => self.first_gone(bigquery, &manifest, loaded, holdings).await?,
                    false => None,
                };
                let Some(Loaded { partition, generation, job_id, .. }) = gone.cloned() else {
                    return Ok(WindowReceipt::new(&self.pipeline, &manifest, loaded, fetched, resumed));
                };
                tracing::warn!(%window, %partition, "loaded earlier and changed since");
                let reason = "superseded: the partition was changed after it had been loaded".to_owned();
                chain.append(Event::Failed { partition, generation, job_id, reason }).await?;
                continue;
            }
            if !fetched {
                self.prove_staged(window, folder, &manifest).await?;
            }
            let loaded = self.load(bigquery, chain, &manifest).await?;
            // If somebody else wrote it first, the next look at the chain finds theirs.
            chain.append(Event::Loaded { partitions: loaded }).await?;
            if resumed {
                tracing::info!(%window, "open intent driven to its end");
                resumed = false;
            }
        }
    }

    /// Fetch, decode, transform: one window's records become Parquet files, still to be published.
    async fn fetch_to_parquet(&self, window: Window, folder: &str) -> Result<(Manifest, Written)> {
        let started_ms = self.effects.clock.unix_millis();
        let Records { input, mut decoding } = self.fetch(window).await?;
        let (mut rows_out, tally) = self.transform.run(input).await?;
        let options = stage_options(&self.pipeline);
        let schema = self.pipeline.columns.arrow();
        let mut writer = WindowWriter::new(schema, self.pipeline.epoch, window, options, &self.scratch)?;
        let mut rows = 0;
        let written: Result<()> = async {
            while let Some(batch) = rows_out.next().await {
                let batch = batch?;
                rows += batch.num_rows() as u64;
                writer.write(&batch)?;
            }
            Ok(())
        }
        .await;
        // The decoder waits while nobody takes its batches: without the stream it knows to end.
        drop(rows_out);
        let decoded = match (decoding.join_next().await, written) {
            // Of two errors one is the cause, and the other only heard of it.
            (Some(Ok(Err(error))), _) if error.kind() != Kind::Interrupted => return Err(error),
            (_, Err(error)) => return Err(error),
            (Some(Ok(Err(_))), Ok(())) => {
                return Err(Error::usage("`stage.sql` did not read all records")
                    .hint("a LIMIT leaves out records; to stage fewer, ask for fewer days"));
            }
            (Some(Ok(Ok(decoded))), Ok(())) => decoded,
            (Some(Err(_)) | None, Ok(())) => return Err(Error::failed("the decoder died")),
        };
        let counts = decoded.account(window, rows, tally.duplicates(), self.pipeline.allow_filter)?;
        let finish = async { writer.finish(&self.store, folder) };
        let mut written = self.effects.pass(Door::Files, || format!("finish {window}"), finish).await?;
        for staged in &mut written.partitions {
            staged.job_id = load::job_id(&self.destination, &window.key(), staged, 0);
        }
        let mut rejects = None;
        if counts.rejects > 0 {
            let name = format!("{}/{}", rejects_folder(&self.pipeline.name, &self.plan.run), window.key());
            let written =
                stage::rejects::write(&self.store, &name, window, &decoded.rejects, counts.rejects).await?;
            rejects = Some(written);
        }
        let (target, partitions) = (self.destination.target(), written.partitions.clone());
        let fetch_ms = Some(self.effects.clock.unix_millis().saturating_sub(started_ms));
        Ok((
            Manifest { window, counts, target, partitions, rejects, fetch_ms, segments: Vec::new() },
            written,
        ))
    }

    /// Proves that what an intent names is there as it was staged, before a job reads it. Files
    /// that are not are fetched again, and put back if they come out as the very same bytes.
    async fn prove_staged(&self, window: Window, folder: &str, manifest: &Manifest) -> Result<()> {
        self.destination.agrees_with(&manifest.target)?;
        let Some(url) = self.store.first_damaged(manifest).await? else { return Ok(()) };
        tracing::warn!(%window, file = url, "staged file is not as it was staged; fetching the window again");
        let mut tries = self.retry.tries(&self.effects, Door::Source, window.to_string());
        let (again, written) = loop {
            match self.fetch_to_parquet(window, folder).await {
                Ok(again) => break again,
                Err(error) => tries.wait_or(error).await?,
            }
        };
        if again.partitions != manifest.partitions {
            return Err(Error::new(Kind::Damaged, format!("staged file `{url}` is not as it was staged"))
                .hint("the source has other records now; `--new-run` stages and loads them instead"));
        }
        written.restore(&self.store).await
    }

    /// Fetches and decodes one window, keeping nothing.
    async fn count(&self, window: Window) -> Result<WindowCounts> {
        let mut records = self.fetch(window).await?;
        while records.input.recv().await.is_some() {}
        Ok(records.end().await?.counts)
    }

    /// Asks the source for a window, and starts to decode what comes.
    async fn fetch(&self, window: Window) -> Result<Records> {
        let body = self.source.open(window).await?;
        let bar = self.progress.window(&window.to_string(), body.records);
        let reading = Reading::new(&self.pipeline, &self.source, window, &body)?;
        Ok(reading.start(body, bar))
    }
}
