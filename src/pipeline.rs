//! The main job: fetch, decode, transform, stage, load; window by window, several at once.

mod reading;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bigquery::BigQuery;
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::load::{self, Destination, Outcome};
use crate::manifest::{Event, Loaded, Manifest, WindowCounts};
use crate::partition::{Partition, Window};
use crate::plan::{Plan, Until};
use crate::receipt::{Receipt, WindowReceipt};
use crate::retry::Policy;
use crate::source::Source;
use crate::stage::journal::{Appended, Chain};
use crate::stage::{self, Store, WindowWriter};
use crate::telemetry::Progress;
use crate::transform::Transform;
use reading::Reading;

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
    pub progress: Progress,
    /// Only for [`Until::Load`].
    pub warehouse: Option<(BigQuery, Destination)>,
}

impl Backfill {
    /// Runs every window to its end. Windows that fail are in the receipt; an `Err` stops the run.
    pub async fn run(self) -> Result<Receipt> {
        let started = Instant::now();
        if self.until >= Until::Stage {
            self.plan.record(&self.pipeline, &self.store).await?;
        }
        if let Some((bigquery, destination)) = &self.warehouse {
            bigquery.ensure_dataset(&destination.table.dataset).await?;
            bigquery.ensure_staging_table(&destination.table, &destination.columns).await?;
        }
        let job = Arc::new(self);
        let mut waiting = job.plan.windows.clone().into_iter();
        let mut at_work = JoinSet::new();
        let mut receipt = Receipt::new(&job.pipeline, &job.plan, job.until);
        let mut stop = None;
        loop {
            while stop.is_none() && at_work.len() < job.jobs.max(1) {
                let Some(window) = waiting.next() else { break };
                let job = Arc::clone(&job);
                at_work.spawn(async move { (window, job.window(window).await) });
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
        receipt.finish(started.elapsed());
        Ok(receipt)
    }

    /// One window to its end, from wherever an earlier attempt left it.
    async fn window(&self, window: Window) -> Result<WindowReceipt> {
        if self.until == Until::Decode {
            let mut tries = self.retry.tries(window.to_string());
            loop {
                match self.count(window).await {
                    Ok(counts) => return Ok(WindowReceipt::decoded(window, counts)),
                    Err(error) => tries.wait_or(error).await?,
                }
            }
        }
        let folder = self.plan.window_folder(&self.pipeline, window);
        let mut chain = Chain::read(&self.store, folder.clone()).await?;
        let mut tries = self.retry.tries(window.to_string());
        let (mut fetched, mut resumed) = (false, true);
        loop {
            let state = State::of(&chain);
            let Some(manifest) = state.manifest else {
                let manifest = match self.stage(window, &folder).await {
                    Ok(manifest) => manifest,
                    Err(error) => {
                        tries.wait_or(error).await?;
                        continue;
                    }
                };
                // The commit point. If somebody else's entry is there, theirs is what will be loaded.
                if let Appended::Ours = chain.append(Event::Intent(manifest)).await? {
                    (fetched, resumed) = (true, false);
                }
                continue;
            };
            if self.warehouse.is_none() {
                return Ok(WindowReceipt::new(&self.pipeline, manifest, &[], fetched, resumed));
            }
            if let Some(loaded) = state.loaded {
                if resumed && let Some(gone) = self.first_gone(manifest, loaded).await? {
                    tracing::warn!(%window, partition = %gone.partition, "loaded earlier and changed since");
                    let reason = "superseded: the partition was changed after it had been loaded".to_owned();
                    let (partition, generation) = (gone.partition, gone.generation);
                    chain.append(Event::Failed { partition, generation, reason }).await?;
                    continue;
                }
                return Ok(WindowReceipt::new(&self.pipeline, manifest, loaded, fetched, resumed));
            }
            let manifest = manifest.clone();
            if !fetched {
                self.check_staged(&manifest).await?;
            }
            let loaded = self.load(&mut chain, &manifest).await?;
            // If somebody else wrote it first, the next look at the chain finds theirs.
            chain.append(Event::Loaded { partitions: loaded }).await?;
            if resumed {
                tracing::info!(%window, "open intent driven to its end");
                resumed = false;
            }
        }
    }

    /// Fetch, decode, transform, stage: one window's records become durable files.
    async fn stage(&self, window: Window, folder: &str) -> Result<Manifest> {
        let body = self.source.open(window).await?;
        let bar = self.progress.window(&window.to_string(), body.records);
        let (records, input) = mpsc::channel(4);
        let mut decoding = JoinSet::new();
        let reading = Reading::new(&self.pipeline, &self.source, window, &body)?;
        decoding.spawn(reading.decode(body, records, bar));
        let (mut rows_out, tally) = self.transform.run(input).await?;
        let options = stage::Options {
            file_bytes_max: self.pipeline.stage.file_mib_max << 20,
            row_group_rows: self.pipeline.stage.row_group_rows,
            zstd_level: self.pipeline.stage.zstd_level,
        };
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
        let counts = self.account(window, decoded.counts, rows, tally.duplicates())?;
        let partitions = writer.publish(&self.store, folder).await?;
        if !decoded.rejects.is_empty() {
            let name = format!("{}/rejects/{}/{}", self.pipeline.name, self.plan.run, window.key());
            stage::rejects::write(&self.store, &name, window, &decoded.rejects).await?;
        }
        let staged: u64 = partitions.iter().map(|p| p.rows).sum();
        tracing::info!(%window, records = counts.records, staged, "window staged");
        Ok(Manifest { window, counts, partitions })
    }

    /// The first partition of a loaded window that is not as it was loaded. Days without records
    /// have nothing to lose; what came into them since is taken out on the way.
    async fn first_gone<'l>(&self, manifest: &Manifest, loaded: &'l [Loaded]) -> Result<Option<&'l Loaded>> {
        let (bigquery, destination) = self.warehouse.as_ref().expect("only called with a warehouse");
        for partition in loaded {
            if !load::is_still_there(bigquery, destination, partition).await? {
                return Ok(Some(partition));
            }
        }
        self.clear_days_without_records(manifest).await?;
        Ok(None)
    }

    /// Replaces the days of a window for which there are no rows by nothing.
    async fn clear_days_without_records(&self, manifest: &Manifest) -> Result<()> {
        let (bigquery, destination) = self.warehouse.as_ref().expect("only called with a warehouse");
        let (first, last) = manifest.window.days();
        for day in first..=last {
            let partition = Partition::of_day(self.pipeline.epoch, day)?;
            if !manifest.partitions.iter().any(|staged| staged.partition == partition) {
                load::clear(bigquery, destination, partition).await?;
            }
        }
        Ok(())
    }

    /// Proves that files of an earlier run are what was staged, before a job reads them.
    async fn check_staged(&self, manifest: &Manifest) -> Result<()> {
        for file in manifest.partitions.iter().flat_map(|partition| &partition.files) {
            self.store.check(&file.url, file.bytes, &file.sha256).await?;
        }
        Ok(())
    }

    /// The load jobs of one intent. Failures go into the chain, and the next generation is tried.
    async fn load(&self, chain: &mut Chain, manifest: &Manifest) -> Result<Vec<Loaded>> {
        let (bigquery, destination) = self.warehouse.as_ref().expect("only called with a warehouse");
        self.clear_days_without_records(manifest).await?;
        let mut loaded = Vec::with_capacity(manifest.partitions.len());
        for staged in &manifest.partitions {
            let mut tries = 0;
            loop {
                let generation = State::of(chain).failures(staged.partition);
                let failure = match load::load(bigquery, destination, staged, generation).await? {
                    Outcome::Loaded(done) => {
                        let rows = done.output_rows;
                        tracing::info!(partition = %staged.partition, rows, job_id = done.job_id, "partition loaded");
                        loaded.push(done);
                        break;
                    }
                    Outcome::Failed(failure) => failure,
                };
                tries += 1;
                let reason = format!("{}: {}", failure.reason, failure.message);
                chain
                    .append(Event::Failed { partition: staged.partition, generation, reason: reason.clone() })
                    .await?;
                if !failure.transient || tries >= self.retry.attempts {
                    return Err(Error::failed(format!("load job of partition `{}` failed: {reason}", staged.partition))
                        .hint("nothing was changed in the table; the same command tries again with the staged files"));
                }
                tracing::warn!(partition = %staged.partition, generation, reason, "load job failed, trying the next generation");
            }
        }
        Ok(loaded)
    }

    /// Fetches and decodes one window, keeping nothing.
    async fn count(&self, window: Window) -> Result<WindowCounts> {
        let body = self.source.open(window).await?;
        let bar = self.progress.window(&window.to_string(), body.records);
        let (records, mut input) = mpsc::channel(4);
        let mut decoding = JoinSet::new();
        let reading = Reading::new(&self.pipeline, &self.source, window, &body)?;
        decoding.spawn(reading.decode(body, records, bar));
        while input.recv().await.is_some() {}
        match decoding.join_next().await {
            Some(Ok(decoded)) => Ok(decoded?.counts),
            _ => Err(Error::failed("the decoder died")),
        }
    }

    /// Adds up the window; records that went missing or came from nowhere end the run.
    fn account(
        &self,
        window: Window,
        decoded: WindowCounts,
        staged: u64,
        duplicates: Option<u64>,
    ) -> Result<WindowCounts> {
        let rows = decoded.records - decoded.rejects;
        // SQL that removes duplicates in a way of its own cannot be told from SQL that drops rows.
        let duplicates = duplicates.unwrap_or(0);
        let filtered = match self.pipeline.allow_filter {
            true => rows.saturating_sub(staged + duplicates),
            false => 0,
        };
        let counts = WindowCounts { staged, duplicates, filtered, ..decoded };
        if counts.add_up() {
            return Ok(counts);
        }
        let WindowCounts { records, rejects, .. } = counts;
        Err(Error::new(
            Kind::Mismatch,
            format!(
                "{window}: {records} records are not {staged} staged + {duplicates} duplicates + {rejects} rejects"
            ),
        )
        .hint(
            "duplicates are counted where `stage.sql` removes them by QUALIFY ROW_NUMBER() = 1; if it leaves \
             out rows on purpose, set `transform.allow_filter = true`",
        ))
    }
}

/// What a chain says of its window.
struct State<'a> {
    manifest: Option<&'a Manifest>,
    loaded: Option<&'a [Loaded]>,
    chain: &'a Chain,
}

impl<'a> State<'a> {
    fn of(chain: &'a Chain) -> Self {
        let mut state = State { manifest: None, loaded: None, chain };
        for entry in chain.entries() {
            match &entry.event {
                Event::Intent(manifest) => state.manifest = state.manifest.or(Some(manifest)),
                Event::Loaded { partitions } => state.loaded = Some(partitions),
                // What was loaded was found changed since; it has to be loaded again.
                Event::Failed { .. } => state.loaded = None,
            }
        }
        state
    }

    /// How many jobs of a partition have failed: the generation of the next.
    fn failures(&self, of: Partition) -> u32 {
        let failed = |event: &Event| matches!(event, Event::Failed { partition, .. } if *partition == of);
        let count = self.chain.entries().iter().filter(|entry| failed(&entry.event)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}
