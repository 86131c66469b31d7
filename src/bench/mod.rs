//! How fast the stages are on this machine, each alone and all together, and which one holds the rest up.
//!
//! ```text
//! this process                      one child per stage              servers, processes of their own
//! fetch the bodies once, stage  ──► task on stdin: set up, then  ──► source (generated records),
//! them once, start servers,         warm-ups and runs; a line of     embedded BigQuery, new per stage
//! collect lines, compute        ◄── JSON on stdout for each run
//! ```
//!
//! A stage has a process of its own so that CPU time, allocations and the peak of memory are its own.
//! What a stage takes in is in the child's memory before the clock starts. Before each run the child times
//! a piece of work that no change of this program makes faster or slower, the anchor; what is compared
//! from one bench to the next is time against the anchor of the same run, since machines are noisy.
//!
//! # Why not only the micro benches in `benches/`?
//! They need a checkout and a compiler, and know one pipeline; this measures the program that people have,
//! with their columns, their SQL and their source. They time parts that are no stage, beside other libraries.

mod child;
mod compare;
mod corpus;
mod machine;
mod processes;
mod ready;
mod report;
pub mod sql;
mod staged;
mod statistics;
mod task;
mod usage;

use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::partition::{SECONDS_PER_DAY, Window};
use crate::pipeline::{Backfill, Order, World, open_source};
use crate::plan::{Plan, Until};
use crate::telemetry::say;
use corpus::Scratch;
use processes::Server;
use task::Task;

pub use child::perform;
pub use compare::{Change, Comparison, compare};
pub use machine::{Build, Machine};
pub use report::{Bottleneck, Report, StageReport, Work};
pub use statistics::Spread;
pub use task::{Sample, Slow, Stage};

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// A built-in pipeline or the path of a pipeline.toml.
    pub pipeline: String,
    pub set: Vec<String>,
    pub input: Input,
    /// In the order of [`Stage::ALL`].
    pub stages: Vec<Stage>,
    /// Windows at work at once, in every stage.
    pub jobs: usize,
    pub runs: u32,
    pub warm_up: u32,
    /// Holds one stage up on purpose, so that tests know which one is the slowest.
    pub slow: Option<Slow>,
    pub says_progress: bool,
}

/// Where records come from.
#[derive(Debug, Clone)]
pub enum Input {
    /// From the demo's generator: the same numbers give the same bytes.
    Generated { rows: u64, days: u32 },
    /// From the pipeline's own source.
    Source { range: Window },
    /// From the staged files of a run of the pipeline, the newest when `None`; only what comes after staging.
    Staged { run: Option<String> },
}

/// Share of generated records that repeat an earlier id, as in the demo.
const DUPLICATES: &str = "0.03";
const SEED: &str = "1";

/// Measures every stage that is asked for, one after the other.
pub async fn run(options: &Options) -> Result<Report> {
    if options.runs == 0 {
        return Err(Error::usage("without a run there is nothing to measure"));
    }
    let started_unix_ms = Effects::default().clock.unix_millis();
    let scratch = Scratch::create()?;
    let tell = |text: &str| {
        if options.says_progress {
            say(text);
        }
    };
    let mut set = options.set.clone();
    let mut source = None;
    let range = match &options.input {
        Input::Generated { rows, days } => {
            let (rows, days_text) = (rows.to_string(), days.to_string());
            let arguments = ["source", "--rows", &rows, "--days", &days_text];
            let more = ["--duplicates", DUPLICATES, "--seed", SEED];
            let server = source.insert(Server::start(&[&arguments[..], &more].concat())?);
            set.push(format!("source.url={}/api/v1/stream/flows", server.url));
            Window { after: 0, before: i64::from(*days) * SECONDS_PER_DAY }
        }
        Input::Source { range } => *range,
        Input::Staged { .. } => Window { after: 0, before: SECONDS_PER_DAY },
    };
    let mut task = Task {
        stage: Stage::Fetch,
        pipeline: options.pipeline.clone(),
        set,
        range,
        windows: Vec::new(),
        jobs: options.jobs.max(1),
        runs: options.runs,
        warm_up: options.warm_up,
        slow: options.slow,
        scratch: scratch.path().to_owned(),
        bodies: Vec::new(),
        staged_run: None,
        bigquery: None,
        source_pid: source.as_ref().map(Server::pid),
        bigquery_pid: None,
    };
    if let Input::Staged { run } = &options.input {
        if let Some(stage) = options.stages.iter().find(|stage| !stage.works_on_staged_files()) {
            return Err(Error::usage(format!("staged files are behind the stage `{stage}`"))
                .hint("measure `load` and `promote` on them: `--stages load,promote`"));
        }
        task.staged_run = Some(run.clone().unwrap_or_default());
    } else {
        prepare(&mut task, options, &tell).await?;
    }
    let mut stages = Vec::new();
    for stage in &options.stages {
        tell(&format!("{stage}: {} warm-up, {} runs\n", options.warm_up, options.runs));
        let mut warehouse = None;
        if stage.needs_bigquery() {
            let folder = scratch.path().join(format!("warehouse-{stage}"));
            let folder = folder.to_string_lossy().into_owned();
            let server = warehouse.insert(Server::start(&["emulator", "--data-dir", &folder])?);
            (task.bigquery, task.bigquery_pid) = (Some(server.url.clone()), Some(server.pid()));
        }
        let task = Task { stage: *stage, ..task.clone() };
        let samples = processes::measure(&task).await.map_err(|e| e.context(format!("stage `{stage}`")))?;
        stages.push(StageReport::new(*stage, samples)?);
    }
    let work = Work::new(options, &task);
    Ok(Report::new(started_unix_ms, work, stages))
}

/// Fetches the bodies, and stages what is to be loaded, from the pipeline's source into the scratch folder.
async fn prepare(task: &mut Task, options: &Options, tell: &impl Fn(&str)) -> Result<()> {
    let pipeline = Pipeline::resolve(&task.pipeline, &task.set)?;
    let source = open_source(&pipeline, &Effects::default())?;
    let plan = Plan::new(&pipeline, task.range, SECONDS_PER_DAY, !source.has_windows(), "")?;
    task.windows = plan.windows;
    if options.stages.iter().any(|stage| stage.works_on_bodies()) {
        tell(&format!("fetching {} windows once\n", task.windows.len()));
        task.bodies = corpus::fetch(&source, &task.windows, &task.scratch).await?;
    }
    if options.stages.iter().any(|stage| stage.works_on_staged_files()) {
        tell("staging them once\n");
        let url = task.scratch.join("staged").to_string_lossy().into_owned();
        let order = Order {
            range: task.range,
            window_seconds: SECONDS_PER_DAY,
            jobs: task.jobs,
            until: Until::Stage,
            salt: String::new(),
        };
        let pipeline = pipeline.with_stage_url(&url)?;
        let receipt = Backfill::assemble(pipeline, &order, World::default()).await?.run().await?;
        if let Some((window, error)) = receipt.failed.into_iter().next() {
            return Err(error.context(window.to_string()));
        }
    }
    Ok(())
}
