//! `api2bq status`: runs and windows, and rows per day as a chart; a run as a page.

mod gateway;
mod html;
mod pictures;
mod text;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use serde::Serialize;

use super::replacing::Target;
use super::{Format, output, rejects};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::ledger::{self, Ledger, LedgerWindow, Run, Standing};
use crate::location::redacted;
use crate::manifest::WindowCounts;
use crate::partition::{Partition, Window};
use crate::pipeline::open_store;

/// Show runs and windows: what is loaded, what is left, rows per day
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A window is `done`; `empty`: done, and the source has no records for it; `open`: staged, with an intent
to load it; `failed`: staged, and the last try to load it failed; `missing`: never begun, or stopped
before it was staged, with the reason where one is known; `damaged`: its journal cannot be read.

Of a gateway: batches by state, rows loaded and to be loaded, why the last load failed; with --spool
what waits in its spool.

Exit code 0 whatever the state, 5 where the journal is damaged (4: where an entry is of another run); the
entry is named and the rest is shown.

--html writes the run as a page in place of that: counts, rows per day with the gaps, when
windows were staged and loaded, rejects by reason with an example, settings. It needs no network,
and holds neither secrets of the settings nor scripts.

With --format json: pipeline, stage, runs (run, range, window_seconds, table, written_unix_ms, windows by
state), run (the one shown: windows with state, reason, counts, entries, epoch, written_unix_ms and
partitions: partition, day, rows, loaded, job_id), gateway (batches by state,
batches_ended, rows_loaded, rows_open, rows_refused, jobs_failed, written_unix_ms, reason, spool: segments, bytes,
set_aside) and damaged (run, window, error).

Examples:
  api2bq status flows
  api2bq status flows --run 9d65e544 --set stage.url=gs://bucket/x
  api2bq status flows --html report.html
  api2bq status inventory --spool ./spool
  api2bq status flows --format json | jq '.run.windows[] | select(.state == \"missing\")'")]
pub(super) struct Args {
    /// A built-in pipeline (`flows`) or the path of a pipeline.toml
    pipeline: String,
    /// The run whose windows are shown, by its id or the start of it [default: the one last written to]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// The spool of the pipeline's gateway, to show what waits in it
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Write the run as a page into this file; `-` is stdout
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    html: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    pipeline: String,
    /// The staging area, without secrets.
    stage: String,
    /// The newest last.
    runs: Vec<RunLine>,
    /// The one whose windows are shown.
    run: Option<ShownRun>,
    /// `None`: no gateway has loaded anything for the pipeline.
    gateway: Option<gateway::Shown>,
    damaged: Vec<Damaged>,
}

#[derive(Serialize)]
struct RunLine {
    run: String,
    range: Option<Window>,
    window_seconds: Option<i64>,
    table: Option<String>,
    written_unix_ms: u64,
    windows: Tally,
}

/// Windows by state.
#[derive(Clone, Copy, Serialize)]
struct Tally {
    done: usize,
    empty: usize,
    open: usize,
    failed: usize,
    missing: usize,
    damaged: usize,
}

#[derive(Serialize)]
struct ShownRun {
    run: String,
    windows: Vec<ShownWindow>,
}

#[derive(Serialize)]
struct ShownWindow {
    window: Window,
    state: Standing,
    reason: Option<String>,
    /// Of staged windows.
    counts: Option<WindowCounts>,
    entries: usize,
    /// Which writer wrote last.
    epoch: Option<u32>,
    written_unix_ms: Option<u64>,
    /// Every day of a staged window, also those without records.
    partitions: Vec<ShownDay>,
}

impl ShownWindow {
    /// Why it has come no further, where something is known.
    fn why(&self) -> &str {
        match (&self.reason, self.state) {
            (Some(reason), _) => reason,
            (None, Standing::Missing) => "never begun, or stopped before it was staged",
            (None, _) => "",
        }
    }
}

#[derive(Serialize)]
struct ShownDay {
    partition: Partition,
    day: i64,
    rows: u64,
    loaded: Option<u64>,
    job_id: Option<String>,
}

#[derive(Serialize)]
struct Damaged {
    run: String,
    window: Option<Window>,
    error: String,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let pipeline = Pipeline::resolve_to_look(&args.pipeline, &args.set)?;
    let store = open_store(&pipeline, &Effects::default())?;
    // Found out before the work, not after it.
    if let Some(path) = args.html.as_deref().filter(|path| *path != Path::new("-")) {
        Target::find(path)?;
    }
    let ledger = ledger::read(&store, &pipeline.name).await?;
    let run = ledger.run(args.run.as_deref())?;
    let report = report(&pipeline, &ledger, run, args.spool.as_deref())?;
    if let Some(path) = &args.html {
        let (Some(run), Some(shown)) = (run, &report.run) else {
            let (name, stage) = (&report.pipeline, &report.stage);
            return Err(Error::usage(format!("`{name}` has no runs in `{stage}` yet")));
        };
        let (rejects, wrong) = rejects::of_run(&store, run, None).await?;
        write_page(path, &html::page(&pipeline, run, shown, &rejects))?;
        return ledger.verdict().and(wrong.map_or(Ok(()), Err));
    }
    match args.format {
        Format::Text => output::print(&text::report(&report))?,
        Format::Json => output::print(&output::json(&report)?)?,
    }
    ledger.verdict()
}

fn write_page(path: &Path, page: &str) -> Result<()> {
    if path == Path::new("-") {
        return output::print(page);
    }
    let (mut file, replacing) = Target::find(path)?.open()?;
    let written = file.write_all(page.as_bytes());
    written.map_err(|e| Error::failed(format!("cannot write `{}`", path.display())).caused_by(e))?;
    replacing.finish()
}

fn report(pipeline: &Pipeline, ledger: &Ledger, shown: Option<&Run>, spool: Option<&Path>) -> Result<Report> {
    let line = |run: &Run| RunLine {
        run: run.id.clone(),
        range: run.range(),
        window_seconds: run.plan.as_ref().map(|plan| plan.window_seconds),
        table: run.plan.as_ref().map(|plan| plan.table.clone()),
        written_unix_ms: run.written_unix_ms,
        windows: Tally::of(run.windows.iter().map(LedgerWindow::standing)),
    };
    let damaged = |(run, window, error): (&str, Option<Window>, &Error)| Damaged {
        run: run.to_owned(),
        window,
        error: error.to_string(),
    };
    let run = match shown {
        Some(run) => {
            let windows = run.windows.iter().map(|w| shown_window(pipeline, w)).collect::<Result<_>>()?;
            Some(ShownRun { run: run.id.clone(), windows })
        }
        None => None,
    };
    Ok(Report {
        pipeline: pipeline.name.clone(),
        stage: redacted(&pipeline.stage.url),
        runs: ledger.runs.iter().map(line).collect(),
        run,
        gateway: gateway::Shown::of(ledger, spool)?,
        damaged: ledger.damage().map(damaged).collect(),
    })
}

fn shown_window(pipeline: &Pipeline, window: &LedgerWindow) -> Result<ShownWindow> {
    let (state, last) = (window.state(), window.entries.last());
    let mut partitions = Vec::new();
    if let Some(manifest) = state.manifest {
        // Rows that came late are in partitions of days before the window's.
        let mut days: BTreeSet<i64> =
            manifest.partitions.iter().map(|staged| staged.partition.day(pipeline.epoch)).collect();
        let (first, last) = window.window.days();
        days.extend(first..=last);
        for day in days {
            let partition = Partition::of_day(pipeline.epoch, day)?;
            let staged = manifest.partitions.iter().find(|staged| staged.partition == partition);
            let loaded = state.loaded.unwrap_or_default().iter().find(|l| l.partition == partition);
            partitions.push(ShownDay {
                partition,
                day,
                rows: staged.map_or(0, |staged| staged.rows),
                loaded: loaded.map(|loaded| loaded.output_rows),
                job_id: loaded.map(|loaded| loaded.job_id.clone()),
            });
        }
    }
    Ok(ShownWindow {
        window: window.window,
        state: window.standing(),
        reason: window.reason(),
        counts: state.manifest.map(|manifest| manifest.counts),
        entries: window.entries.len(),
        epoch: last.map(|last| last.epoch),
        written_unix_ms: last.map(|last| last.written_unix_ms),
        partitions,
    })
}

fn date_of(unix_ms: u64) -> String {
    let date = i64::try_from(unix_ms).ok().and_then(DateTime::from_timestamp_millis);
    date.map_or_else(String::new, |date| date.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}
