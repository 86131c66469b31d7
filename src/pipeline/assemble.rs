//! The stages put together from a pipeline's settings.

use std::path::PathBuf;
use std::time::Duration;

use super::Backfill;
use crate::bigquery::{self, BigQuery, TableId};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::ledger;
use crate::load::Destination;
use crate::machine;
use crate::partition::Window;
use crate::plan::{Plan, Until};
use crate::schema::Format;
use crate::since::{self, Since};
use crate::source::{self, Headers, Source, Timeouts};
use crate::stage::{self, Store};
use crate::telemetry::{Progress, Show};
use crate::transform::Transform;

/// A backfill as it was ordered.
#[derive(Debug, Clone)]
pub struct Order {
    pub range: Window,
    pub window_seconds: i64,
    /// Windows at work at once.
    pub jobs: usize,
    pub until: Until,
    /// Empty, or the name of a run of its own.
    pub salt: String,
}

/// What a run is told of the world, beside its settings.
#[derive(Debug, Clone)]
pub struct World {
    pub effects: Effects,
    /// Base URL of a BigQuery in this process; else the environment says which to use.
    pub bigquery: Option<String>,
    pub show: Show,
}

impl Default for World {
    fn default() -> Self {
        World { effects: Effects::default(), bigquery: None, show: Show::Off }
    }
}

impl Backfill {
    /// Opens everything that the order needs. Nothing outside is changed yet but for folders.
    pub async fn assemble(pipeline: Pipeline, order: &Order, world: World) -> Result<Backfill> {
        let whole = !open_source(&pipeline, &world.effects)?.has_windows();
        let plan = Plan::new(&pipeline, order.range, order.window_seconds, whole, &order.salt)?;
        Backfill::of_plan(pipeline, plan, order.jobs, order.until, world).await
    }

    /// Opens everything that going on after the last loaded window needs, as [`Backfill::assemble`] does.
    pub async fn continuing(
        pipeline: Pipeline,
        since: Since,
        jobs: usize,
        until: Until,
        world: World,
    ) -> Result<Backfill> {
        let ledger = ledger::read(&open_store(&pipeline, &world.effects)?, &pipeline.name).await?;
        let plan = since::plan(&pipeline, &ledger, since, world.effects.clock.unix_millis())?;
        Backfill::of_plan(pipeline, plan, jobs, until, world).await
    }

    /// Opens everything that is needed to carry out a plan.
    pub async fn of_plan(
        pipeline: Pipeline,
        plan: Plan,
        jobs: usize,
        until: Until,
        world: World,
    ) -> Result<Backfill> {
        let World { effects, bigquery, show } = world;
        let retry = pipeline.limits.retry();
        let source = open_source(&pipeline, &effects)?;
        if plan.document.continues && !source.has_windows() {
            return Err(Error::usage("the source gives everything at once, and has no newest window")
                .hint("name the range: `--from` and `--to`"));
        }
        let store = open_store(&pipeline, &effects)?;
        let scratch = match pipeline.limits.spill_dir.as_str() {
            "" => store.scratch(),
            folder => PathBuf::from(folder),
        };
        // Here, so that two runs that start at once do not meet in it.
        std::fs::create_dir_all(&scratch)
            .map_err(|e| Error::failed(format!("cannot create `{}`", scratch.display())).caused_by(e))?;
        let engine = open_engine(&pipeline, scratch.clone())?;
        let transform = Transform::new(&engine, &pipeline.stage_sql, &pipeline.columns).await?;
        let bigquery = match until {
            Until::Load => Some(connect(&pipeline, bigquery, &effects).await?),
            Until::Decode | Until::Stage => None,
        };
        let progress = Progress::new(show, plan.windows.len());
        let destination = destination(&pipeline);
        Ok(Backfill {
            pipeline,
            plan,
            until,
            jobs,
            source,
            transform,
            store,
            scratch,
            retry,
            effects,
            progress,
            destination,
            bigquery,
        })
    }
}

pub fn open_source(pipeline: &Pipeline, effects: &Effects) -> Result<Source> {
    let settings = &pipeline.source;
    // The flows API knows `xml` and `json`, and sends lines when asked for the latter.
    let format = match pipeline.format {
        None | Some(Format::Xml) => "xml",
        Some(Format::Csv) => "csv",
        Some(Format::Json | Format::Ndjson) => "json",
    };
    let value = |value: &toml::Value| value.as_str().unwrap_or_default().replace("{format}", format);
    Source::new(source::Options {
        url: settings.url.clone(),
        query: settings.query.iter().map(|(key, v)| (key.clone(), value(v))).collect(),
        headers: Headers(pipeline.headers()?),
        gzip: pipeline.gzip,
        count_header: Some(settings.count_header.clone()).filter(|name| !name.is_empty()),
        timeouts: Timeouts {
            connect: Duration::from_secs(settings.connect_timeout_seconds),
            headers: Duration::from_secs(settings.headers_timeout_seconds),
            idle: Duration::from_secs(settings.idle_timeout_seconds),
            idle_bytes_min: settings.idle_bytes_min,
        },
        limits: source::Limits {
            bytes_max: pipeline.limits.body_mib_max << 20,
            ratio_max: pipeline.limits.unpack_ratio_max,
        },
        effects: effects.clone(),
    })
}

/// The engine under the pipeline's limits; what does not fit spills to `scratch`.
pub fn open_engine(pipeline: &Pipeline, scratch: PathBuf) -> Result<Engine> {
    engine_within(pipeline, pipeline.limits.memory_mib << 20, scratch)
}

/// The same for queries that people wait for: a backfill runs beside others, `sql` has the machine.
pub fn open_query_engine(pipeline: &Pipeline, scratch: PathBuf) -> Result<Engine> {
    let limits = &pipeline.limits;
    let half = || machine::memory_bytes().and_then(|bytes| usize::try_from(bytes / 2).ok());
    let memory_bytes = match limits.query_memory_mib {
        0 => half().unwrap_or(0).max(limits.memory_mib << 20),
        mib => mib << 20,
    };
    engine_within(pipeline, memory_bytes, scratch)
}

fn engine_within(pipeline: &Pipeline, memory_bytes: usize, scratch: PathBuf) -> Result<Engine> {
    Engine::new(engine::Options {
        memory_bytes,
        spill_dir: Some(scratch),
        batch_rows: pipeline.limits.batch_rows,
        ..engine::Options::default()
    })
}

/// How the pipeline's staged files are cut.
pub fn stage_options(pipeline: &Pipeline) -> stage::Options {
    stage::Options {
        file_bytes_max: pipeline.stage.file_mib_max << 20,
        row_group_rows: pipeline.stage.row_group_rows,
        zstd_level: pipeline.stage.zstd_level,
        late_days: pipeline.late_days,
    }
}

pub fn open_store(pipeline: &Pipeline, effects: &Effects) -> Result<Store> {
    Store::open(&pipeline.stage.url, effects.clone(), pipeline.limits.retry())
}

/// A client for the pipeline's project; `url` is that of a server in this process.
pub async fn connect(pipeline: &Pipeline, url: Option<String>, effects: &Effects) -> Result<BigQuery> {
    BigQuery::connect(bigquery::Options {
        project: pipeline.warehouse.project.clone(),
        location: pipeline.warehouse.location.clone(),
        poll_max: Duration::from_secs(pipeline.warehouse.poll_seconds_max.max(1)),
        retry: pipeline.limits.retry(),
        effects: effects.clone(),
        emulator: url,
    })
    .await
}

/// Where the pipeline's rows are loaded.
pub fn destination(pipeline: &Pipeline) -> Destination {
    let warehouse = &pipeline.warehouse;
    Destination {
        pipeline: pipeline.name.clone(),
        table: TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.staging_table),
        location: warehouse.location.clone(),
        columns: pipeline.columns.clone(),
        mode: pipeline.mode,
    }
}
