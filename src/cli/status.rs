//! `api2bq status`: runs and windows, and rows per day as a chart.

use std::io::IsTerminal;

use chrono::DateTime;
use indicatif::HumanCount;
use serde::Serialize;

use super::{Format, output};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::Result;
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

Exit code 0 whatever the state, 5 where the journal is damaged (4: where an entry is of another run); the
entry is named and the rest is shown.

With --format json: pipeline, stage, runs (run, range, window_seconds, table, written_unix_ms, windows by
state), run (the one shown: windows with state, reason, counts, entries, epoch, written_unix_ms and
partitions: partition, day, rows, loaded, job_id) and damaged (run, window, error).

Examples:
  api2bq status flows
  api2bq status flows --run 9d65e544 --set stage.url=gs://bucket/x
  api2bq status flows --format json | jq '.run.windows[] | select(.state == \"missing\")'")]
pub(super) struct Args {
    /// A built-in pipeline (`flows`) or the path of a pipeline.toml
    pipeline: String,
    /// The run whose windows are shown, by its id or the start of it [default: the one last written to]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
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
#[derive(Serialize)]
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
    let pipeline = Pipeline::resolve(&args.pipeline, &args.set)?;
    let store = open_store(&pipeline, &Effects::default())?;
    let ledger = ledger::read(&store, &pipeline.name).await?;
    let report = report(&pipeline, &ledger, ledger.run(args.run.as_deref())?)?;
    match args.format {
        Format::Text => output::print(&text(&report))?,
        Format::Json => output::print(&output::json(&report)?)?,
    }
    ledger.verdict()
}

fn report(pipeline: &Pipeline, ledger: &Ledger, shown: Option<&Run>) -> Result<Report> {
    let line = |run: &Run| RunLine {
        run: run.id.clone(),
        range: run.plan.as_ref().map(|plan| plan.range),
        window_seconds: run.plan.as_ref().map(|plan| plan.window_seconds),
        table: run.plan.as_ref().map(|plan| plan.table.clone()),
        written_unix_ms: run.written_unix_ms,
        windows: Tally {
            done: run.num_windows(Standing::Done),
            empty: run.num_windows(Standing::Empty),
            open: run.num_windows(Standing::Open),
            failed: run.num_windows(Standing::Failed),
            missing: run.num_windows(Standing::Missing),
            damaged: run.num_windows(Standing::Damaged),
        },
    };
    let damaged = |(run, window, error): (&Run, Option<Window>, &crate::error::Error)| Damaged {
        run: run.id.clone(),
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
        damaged: ledger.damage().map(damaged).collect(),
    })
}

fn shown_window(pipeline: &Pipeline, window: &LedgerWindow) -> Result<ShownWindow> {
    let (state, last) = (window.state(), window.entries.last());
    let mut partitions = Vec::new();
    if let Some(manifest) = state.manifest {
        let (first, last) = window.window.days();
        for day in first..=last {
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

fn text(report: &Report) -> String {
    let mut text = String::new();
    for damaged in &report.damaged {
        text += &format!("damaged: {}\n", damaged.error);
    }
    if report.runs.is_empty() {
        return text + &format!("`{}` has no runs in `{}` yet\n", report.pipeline, report.stage);
    }
    let mut table = vec![
        ["run", "range", "window", "last written", "done", "empty", "open", "failed", "missing"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for run in &report.runs {
        let Tally { done, empty, open, failed, missing, damaged } = run.windows;
        let windows =
            [done, empty, open, failed, missing + damaged].map(|n| HumanCount(n as u64).to_string());
        let range = run.range.map_or("?".to_owned(), |range| range.to_string());
        let window = run.window_seconds.map_or("?".to_owned(), |s| format!("{}d", s / 86_400));
        let fixed = [run.run.clone(), range, window, date_of(run.written_unix_ms)];
        table.push(fixed.into_iter().chain(windows).collect());
    }
    text += &output::aligned(&table);
    let Some(run) = &report.run else { return text };
    text += &format!("\nwindows of run `{}`\n", run.run);
    let styled = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    text + &chart(&run.windows, width(), styled)
}

fn date_of(unix_ms: u64) -> String {
    let date = i64::try_from(unix_ms).ok().and_then(DateTime::from_timestamp_millis);
    date.map_or_else(String::new, |date| date.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Of the terminal; where there is none, as in a pipe, that of a page.
fn width() -> usize {
    terminal_size::terminal_size().map_or(80, |(terminal_size::Width(width), _)| usize::from(width))
}

/// One line of the chart.
struct Bar {
    cells: Vec<String>,
    state: Standing,
    /// `None` of a line that is no day's.
    rows: Option<u64>,
    remark: String,
}

/// A line a day with its rows as a bar. A day without records is no gap, and does not look like one.
fn chart(windows: &[ShownWindow], width: usize, styled: bool) -> String {
    let bars: Vec<Bar> = windows.iter().flat_map(bars).collect();
    let header = ["day", "partition", "state", "records", "duplicates", "rejects", "staged"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(bars.iter().map(|bar| bar.cells.clone()));
    let table = output::aligned(&table);
    let mut lines = table.lines();
    let most = bars.iter().filter_map(|bar| bar.rows).max().unwrap_or(0);
    let taken = lines.clone().map(|line| line.chars().count()).max().unwrap_or(0);
    let room = width.saturating_sub(taken + 2).clamp(10, 100);
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, bar) in lines.zip(&bars) {
        let (color, plain) = match bar.state {
            _ if !styled => ("", ""),
            Standing::Failed | Standing::Missing | Standing::Damaged => ("\x1b[31m", "\x1b[0m"),
            Standing::Open => ("\x1b[33m", "\x1b[0m"),
            Standing::Done | Standing::Empty => ("", ""),
        };
        let drawn = match bar.rows {
            Some(rows) => drawn(rows, most, room),
            None => bar.remark.clone(),
        };
        text += format!("{color}{line}  {drawn}{plain}").trim_end();
        text.push('\n');
    }
    text
}

/// The lines of one window: one, or one of its own and one for each of its days.
fn bars(window: &ShownWindow) -> Vec<Bar> {
    let count = |n: u64| HumanCount(n).to_string();
    let (first, last) = window.window.days();
    let days = if first == last { first.to_string() } else { format!("{first}-{last}") };
    let counts = match &window.counts {
        Some(c) => [c.records, c.duplicates, c.rejects, c.staged].map(count),
        None => std::array::from_fn(|_| String::new()),
    };
    let reason = match (&window.reason, window.state) {
        (Some(reason), _) => format!("✗ {reason}"),
        (None, Standing::Missing) => "✗ never begun, or stopped before it was staged".to_owned(),
        (None, _) => String::new(),
    };
    let one = match &window.partitions[..] {
        [one] => Some(one),
        _ => None,
    };
    let [records, duplicates, rejects, staged] = counts;
    let partition = one.map_or(String::new(), |one| one.partition.to_string());
    let state = window.state.word().to_owned();
    let mut bars = vec![Bar {
        cells: vec![days, partition, state, records, duplicates, rejects, staged],
        state: window.state,
        rows: one.map(|one| one.rows).filter(|_| reason.is_empty()),
        remark: reason,
    }];
    for day in window.partitions.iter().filter(|_| one.is_none()) {
        let state = if day.rows == 0 { Standing::Empty.word() } else { "" };
        let mut cells = vec![day.day.to_string(), day.partition.to_string(), state.to_owned()];
        cells.extend([String::new(), String::new(), String::new(), count(day.rows)]);
        bars.push(Bar { cells, state: window.state, rows: Some(day.rows), remark: String::new() });
    }
    bars
}

/// `rows` of `most` in eighths of a character; any row at all is seen, and none is a dot.
fn drawn(rows: u64, most: u64, room: usize) -> String {
    if rows == 0 {
        return "·".to_owned();
    }
    let eighths = u128::from(rows) * room as u128 * 8 / u128::from(most.max(1));
    let eighths = usize::try_from(eighths).unwrap_or(room * 8).clamp(1, room * 8);
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{part}", "█".repeat(eighths / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_rows_and_never_invisible() {
        assert_eq!(drawn(100, 100, 10), "██████████");
        assert_eq!(drawn(50, 100, 10), "█████");
        assert_eq!(drawn(56, 100, 10), "█████▌");
        assert_eq!(drawn(1, u64::MAX, 10), "▏");
        assert_eq!(drawn(u64::MAX, u64::MAX, 10), "██████████");
        assert_eq!(drawn(0, 100, 10), "·");
        assert_eq!(drawn(0, 0, 10), "·");
    }
}
