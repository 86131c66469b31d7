//! The stages, each with everything it needs in its hands, to be run as often as one likes.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use futures::{StreamExt, TryStreamExt};

use super::corpus::{Batches, HeldBody, held_bytes};
use super::staged::staged;
use super::task::{Stage, Task};
use crate::bigquery::BigQuery;
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::load::{self, Destination, Outcome};
use crate::manifest::StagedPartition;
use crate::partition::{Partition, SECONDS_PER_DAY, Window};
use crate::pipeline::{
    Backfill, Order, World, connect, destination, open_engine, open_source, open_store, records,
    stage_options,
};
use crate::plan::Until;
use crate::promote;
use crate::source::Source;
use crate::stage::{Store, WindowWriter};
use crate::transform::Transform;

/// What went through a stage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passed {
    /// `None` of a fetch that was not told.
    pub(super) rows: Option<u64>,
    pub(super) bytes: u64,
}

/// A stage that is set up.
#[derive(Debug)]
pub(super) struct Ready {
    pipeline: Pipeline,
    jobs: usize,
    scratch: PathBuf,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Fetch { source: Source, windows: Vec<Window> },
    Decode { source: Source, bodies: Vec<HeldBody> },
    Transform { transform: Transform, input: Vec<Arc<Batches>> },
    Stage { store: Store, input: Vec<Arc<Batches>> },
    Load { bigquery: BigQuery, staged: Vec<StagedPartition> },
    Promote { bigquery: BigQuery, staged: Vec<StagedPartition> },
    Whole { order: Order, bigquery_url: String },
}

impl Ready {
    /// Everything that is not to be measured.
    pub(super) async fn new(task: &Task) -> Result<Ready> {
        let mut pipeline = Pipeline::resolve(&task.pipeline, &task.set)?;
        // Only what is measured on staged files of the user's reads the user's staging area.
        if task.staged_run.is_none() {
            pipeline = pipeline.with_stage_url(&task.scratch.join("staged").to_string_lossy())?;
        }
        let source = || open_source(&pipeline, &Effects::default());
        let work = match task.stage {
            Stage::Fetch => Work::Fetch { source: source()?, windows: task.windows.clone() },
            Stage::Decode => Work::Decode { source: source()?, bodies: bodies(task)? },
            Stage::Transform => {
                let input = decode_all(&pipeline, &source()?, task).await?;
                Work::Transform { transform: transform(&pipeline, task).await?, input }
            }
            Stage::Stage => {
                let transform = transform(&pipeline, task).await?;
                let decoded = decode_all(&pipeline, &source()?, task).await?;
                let mut input = Vec::with_capacity(decoded.len());
                for batches in decoded {
                    let rows = run_sql(&transform, &batches).await?;
                    input.push(Batches::new(batches.window, rows));
                }
                let url = task.scratch.join("stage").to_string_lossy().into_owned();
                let store = open_store(&pipeline.clone().with_stage_url(&url)?, &Effects::default())?;
                Work::Stage { store, input }
            }
            Stage::Load => Work::Load {
                bigquery: open_bigquery(&pipeline, task).await?,
                staged: staged_files(&pipeline, task).await?,
            },
            Stage::Promote => {
                let bigquery = open_bigquery(&pipeline, task).await?;
                let staged = staged_files(&pipeline, task).await?;
                load_all(&bigquery, &destination(&pipeline), &staged, task.jobs).await?;
                Work::Promote { bigquery, staged }
            }
            Stage::Whole => Work::Whole {
                order: Order {
                    range: task.range,
                    window_seconds: SECONDS_PER_DAY,
                    jobs: task.jobs,
                    until: Until::Load,
                    salt: String::new(),
                },
                bigquery_url: embedded(task)?,
            },
        };
        Ok(Ready { pipeline, jobs: task.jobs, scratch: task.scratch.clone(), work })
    }

    /// Bytes of input in memory, which are the bench's and not the stage's.
    pub(super) fn held_bytes(&self) -> u64 {
        match &self.work {
            Work::Decode { bodies, .. } => bodies.iter().map(HeldBody::len).sum(),
            Work::Transform { input, .. } | Work::Stage { input, .. } => {
                held_bytes(input.iter().flat_map(|batches| &batches.batches))
            }
            Work::Fetch { .. } | Work::Load { .. } | Work::Promote { .. } | Work::Whole { .. } => 0,
        }
    }

    /// One run; `number` is one that no run had before.
    pub(super) async fn run(&self, number: u32) -> Result<Passed> {
        match &self.work {
            Work::Fetch { source, windows } => {
                each(self.jobs, windows, |window| fetch(source.clone(), *window)).await
            }
            Work::Decode { source, bodies } => {
                each(self.jobs, bodies, |body| decode(self.pipeline.clone(), source.clone(), body.clone()))
                    .await
            }
            Work::Transform { transform, input } => {
                each(self.jobs, input, |batches| sql(transform.clone(), Arc::clone(batches))).await
            }
            Work::Stage { store, input } => {
                let folder = format!("run-{number}");
                let write = |batches: &Arc<Batches>| {
                    write(self.pipeline.clone(), store.clone(), folder.clone(), Arc::clone(batches))
                };
                each(self.jobs, input, write).await
            }
            Work::Load { bigquery, staged } => {
                let destination = destination(&numbered(&self.pipeline, number));
                load_all(bigquery, &destination, staged, self.jobs).await?;
                Ok(passed(staged))
            }
            Work::Promote { bigquery, staged } => {
                let mut pipeline = self.pipeline.clone();
                pipeline.warehouse.table = numbered(&pipeline, number).warehouse.table;
                promote(&pipeline, bigquery, staged.iter().map(|staged| staged.partition)).await?;
                Ok(passed(staged))
            }
            Work::Whole { order, bigquery_url } => self.whole(order, bigquery_url, number).await,
        }
    }

    /// Takes away what a run has left, so that the disk of a long bench stays small.
    pub(super) fn tidy(&self, number: u32) {
        let left = match &self.work {
            Work::Stage { .. } => self.scratch.join("stage").join(format!("run-{number}")),
            Work::Whole { .. } => self.scratch.join(format!("whole-{number}")),
            _ => return,
        };
        let _ = std::fs::remove_dir_all(left);
    }

    /// What `backfill` and `promote` do, into tables of this run alone: a job of an earlier run with the
    /// same rows would be found done, and nothing would be loaded.
    async fn whole(&self, order: &Order, bigquery_url: &str, number: u32) -> Result<Passed> {
        let url = self.scratch.join(format!("whole-{number}")).to_string_lossy().into_owned();
        let pipeline = numbered(&self.pipeline, number).with_stage_url(&url)?;
        let world = World { bigquery: Some(bigquery_url.to_owned()), ..World::default() };
        let receipt = Backfill::assemble(pipeline.clone(), order, world).await?.run().await?;
        if let Some((window, error)) = receipt.failed.into_iter().next() {
            return Err(error.context(window.to_string()));
        }
        let bigquery = connect(&pipeline, Some(bigquery_url.to_owned()), &Effects::default()).await?;
        let partitions = receipt.windows.iter().flat_map(|window| &window.partitions);
        promote(&pipeline, &bigquery, partitions.map(|loaded| loaded.partition)).await?;
        Ok(Passed { rows: Some(receipt.totals.records), bytes: receipt.totals.bytes })
    }
}

/// The same pipeline into tables that only run `number` has.
fn numbered(pipeline: &Pipeline, number: u32) -> Pipeline {
    let mut pipeline = pipeline.clone();
    for table in [&mut pipeline.warehouse.staging_table, &mut pipeline.warehouse.table] {
        *table = format!("{table}_{number}");
    }
    pipeline
}

/// Does `work` on every item in a task of its own, `jobs` at a time, and adds up what passed.
async fn each<I, F>(jobs: usize, items: &[I], work: impl Fn(&I) -> F) -> Result<Passed>
where
    F: Future<Output = Result<Passed>> + Send + 'static,
{
    let tasks = futures::stream::iter(items.iter().map(|item| {
        let work = work(item);
        async { tokio::spawn(work).await.map_err(|e| Error::failed("a task died").caused_by(e))? }
    }));
    let add = |sum: Passed, passed: Passed| async move {
        let rows = sum.rows.and_then(|rows| Some(rows + passed.rows?));
        Ok(Passed { rows, bytes: sum.bytes + passed.bytes })
    };
    tasks.buffer_unordered(jobs).try_fold(Passed { rows: Some(0), bytes: 0 }, add).await
}

async fn fetch(source: Source, window: Window) -> Result<Passed> {
    let body = source.open(window).await?;
    let bytes = body.stream.try_fold(0, async |sum, bytes| Ok(sum + bytes.len() as u64)).await?;
    Ok(Passed { rows: body.records, bytes })
}

async fn decode(pipeline: Pipeline, source: Source, held: HeldBody) -> Result<Passed> {
    let mut records = records(&pipeline, &source, held.window, held.body())?;
    while records.input.recv().await.transpose()?.is_some() {}
    let counts = records.end().await?.counts;
    Ok(Passed { rows: Some(counts.records), bytes: counts.bytes })
}

async fn sql(transform: Transform, batches: Arc<Batches>) -> Result<Passed> {
    let input = batches.sent();
    let (mut rows, _) = transform.run(input).await?;
    while rows.try_next().await?.is_some() {}
    Ok(passed_through(&batches))
}

async fn write(pipeline: Pipeline, store: Store, folder: String, batches: Arc<Batches>) -> Result<Passed> {
    let (schema, window) = (pipeline.columns.arrow(), batches.window);
    let scratch = store.scratch();
    let mut writer = WindowWriter::new(schema, pipeline.epoch, window, stage_options(&pipeline), &scratch)?;
    for batch in &batches.batches {
        writer.write(batch)?;
    }
    let written = writer.finish(&store, &format!("{folder}/{}", window.key()))?;
    written.publish(&store).await?;
    Ok(passed_through(&batches))
}

async fn load_all(
    bigquery: &BigQuery,
    destination: &Destination,
    staged: &[StagedPartition],
    jobs: usize,
) -> Result<()> {
    bigquery.ensure_dataset(&destination.table.dataset).await?;
    bigquery.ensure_staging_table(&destination.table, &destination.columns).await?;
    let loads = (0..).zip(staged).map(|(at, staged)| async move {
        // Where windows append, jobs are told apart by theirs.
        let window = Window { after: at, before: at + 1 };
        match load::load(bigquery, destination, &window.key(), staged, 0).await? {
            Outcome::Loaded(_) => Ok(()),
            Outcome::Failed(failure) => {
                Err(Error::failed(format!("load job failed: {}: {}", failure.reason, failure.message)))
            }
        }
    });
    futures::stream::iter(loads).buffer_unordered(jobs).try_collect().await
}

/// Promotes all that was loaded, however many days the pipeline itself looks back.
async fn promote(
    pipeline: &Pipeline,
    bigquery: &BigQuery,
    loaded: impl Iterator<Item = Partition>,
) -> Result<()> {
    let days: Vec<i64> = loaded.map(|partition| partition.day(pipeline.epoch)).collect();
    let span = days.iter().max().zip(days.iter().min()).map_or(0, |(last, first)| last - first + 1);
    let days = u32::try_from(span).unwrap_or(u32::MAX).max(pipeline.promote_days);
    promote::promote(pipeline, bigquery, days, None).await?;
    Ok(())
}

fn passed_through(batches: &Batches) -> Passed {
    Passed { rows: Some(batches.rows()), bytes: batches.bytes }
}

fn passed(staged: &[StagedPartition]) -> Passed {
    let bytes = staged.iter().flat_map(|staged| &staged.files).map(|file| file.bytes).sum();
    Passed { rows: Some(staged.iter().map(|staged| staged.rows).sum()), bytes }
}

fn bodies(task: &Task) -> Result<Vec<HeldBody>> {
    task.bodies.iter().map(HeldBody::read).collect()
}

async fn decode_all(pipeline: &Pipeline, source: &Source, task: &Task) -> Result<Vec<Arc<Batches>>> {
    let mut decoded = Vec::with_capacity(task.bodies.len());
    for body in bodies(task)? {
        let mut records = records(pipeline, source, body.window, body.body())?;
        let mut batches = Vec::new();
        while let Some(batch) = records.input.recv().await.transpose()? {
            batches.push(batch);
        }
        records.end().await?;
        decoded.push(Batches::new(body.window, batches));
    }
    Ok(decoded)
}

async fn transform(pipeline: &Pipeline, task: &Task) -> Result<Transform> {
    let spill = task.scratch.join("spill");
    std::fs::create_dir_all(&spill)
        .map_err(|e| Error::failed(format!("cannot create `{}`", spill.display())).caused_by(e))?;
    Transform::new(&open_engine(pipeline, spill)?, &pipeline.stage_sql, &pipeline.columns).await
}

async fn run_sql(transform: &Transform, batches: &Arc<Batches>) -> Result<Vec<RecordBatch>> {
    let (rows, _) = transform.run(batches.sent()).await?;
    rows.try_collect().await
}

fn embedded(task: &Task) -> Result<String> {
    task.bigquery.clone().ok_or_else(|| Error::failed("there is no embedded BigQuery to load into"))
}

async fn open_bigquery(pipeline: &Pipeline, task: &Task) -> Result<BigQuery> {
    connect(pipeline, Some(embedded(task)?), &Effects::default()).await
}

async fn staged_files(pipeline: &Pipeline, task: &Task) -> Result<Vec<StagedPartition>> {
    let run = task.staged_run.as_deref().filter(|run| !run.is_empty());
    Ok(staged(pipeline, run).await?.partitions)
}
