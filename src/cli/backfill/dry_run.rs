//! `api2bq backfill --dry-run`: what it would take, and whether BigQuery would let it.

use indicatif::{DecimalBytes, HumanCount};

use super::Ordered;
use crate::cli::{Format, output};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::Result;
use crate::forecast::{Asked, Figure, Forecast, Known, STORAGE_USD_PER_GIB_AND_MONTH};
use crate::guard;
use crate::holdings::{Holdings, Windows};
use crate::ledger::{self, Ledger};
use crate::partition::length;
use crate::pipeline::{open_source, open_store};
use crate::plan::{Plan, Until};
use crate::sample;
use crate::since;
use crate::stage::Store;

#[derive(Debug, clap::Args)]
pub(super) struct Planning {
    /// Ask the source for its counts, and read a few windows: sizes, rows and times come from them
    #[arg(long, requires = "dry_run", help_heading = "With --dry-run")]
    sample: bool,
    /// Plan for so many records
    #[arg(long, value_name = "N", requires = "dry_run", help_heading = "With --dry-run")]
    rows: Option<u64>,
    /// Plan as if each load job brought N records: what loading an API page by page would take
    #[arg(
        long,
        value_name = "N",
        requires = "dry_run",
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "With --dry-run"
    )]
    rows_per_job: Option<u64>,
    /// How the plan is printed
    #[arg(long, value_enum, default_value = "text", requires = "dry_run", help_heading = "With --dry-run")]
    format: Format,
}

pub(super) async fn run(pipeline: &Pipeline, ordered: &Ordered, args: &Planning) -> Result<()> {
    let effects = Effects::default();
    let now_ms = effects.clock.unix_millis();
    let has_windows = open_source(pipeline, &effects)?.has_windows();
    let ledger = match Store::is_there(&pipeline.stage.url) {
        true => ledger::read(&open_store(pipeline, &effects)?, &pipeline.name).await?,
        false => Ledger::default(),
    };
    let (plan, jobs, until) = match ordered {
        Ordered::Range(order) => {
            let plan = Plan::new(pipeline, order.range, order.window_seconds, !has_windows, &order.salt)?;
            (plan, order.jobs, order.until)
        }
        Ordered::Since(since, jobs, until) => {
            (since::plan(pipeline, &ledger, *since, now_ms)?, *jobs, *until)
        }
    };
    if until == Until::Load {
        guard::refuse(pipeline, &plan, &ledger, &Holdings::of(&ledger, pipeline.epoch, Windows::Loaded))?;
    }
    let sample = match args.sample {
        true => Some(sample::take(pipeline, &to_fetch(&plan, &ledger), &effects).await?),
        false => None,
    };
    let Planning { rows, rows_per_job, .. } = *args;
    let asked = Asked { jobs, until, rows, rows_per_job };
    let forecast = Forecast::new(pipeline, &plan, &ledger, sample.as_ref(), asked, now_ms)?;
    match args.format {
        Format::Text => output::print(&text(&forecast))?,
        Format::Json => output::print(&output::json(&forecast)?)?,
    }
    forecast.verdict()
}

/// The windows of a plan that its own run has not staged.
fn to_fetch(plan: &Plan, ledger: &Ledger) -> Vec<crate::partition::Window> {
    let own = ledger.runs.iter().find(|run| run.id == plan.run);
    let staged = |window| {
        own.iter().flat_map(|run| &run.windows).any(|w| w.window == window && w.manifest().is_some())
    };
    plan.windows.iter().copied().filter(|window| !staged(*window)).collect()
}

fn text(forecast: &Forecast) -> String {
    let states: Vec<_> = forecast.states.iter().map(|(state, n)| format!("{n} {state}")).collect();
    let windows: usize = forecast.states.values().sum();
    let mut lines = vec![(
        "windows",
        format!(
            "{} of {}, {}: {}",
            HumanCount(windows as u64),
            length(forecast.window_seconds),
            forecast.range,
            states.join(", ")
        ),
    )];
    lines.extend(forecast.basis.iter().map(|basis| ("known by", basis.clone())));
    lines.push((
        "to fetch",
        format!("{}, {}", output::counted(forecast.requests, "request"), counted(forecast.records, "record")),
    ));
    if forecast.until == Until::Load {
        let (jobs, partitions) = (Some(forecast.load_jobs), Some(forecast.partitions));
        lines.push((
            "to load",
            format!(
                "{} into {}, {}",
                counted(jobs, "load job"),
                counted(partitions, "partition"),
                counted(forecast.rows, "row")
            ),
        ));
    }
    let in_table = match forecast.table_bytes {
        Some(_) => format!(", {} in the table", bytes(forecast.table_bytes)),
        None => String::new(),
    };
    lines.push((
        "files",
        format!("{}, {} of Parquet{in_table}", counted(forecast.files, "file"), bytes(forecast.file_bytes)),
    ));
    lines.push((
        "time",
        format!(
            "{} to fetch and stage, {} to load, {} at once",
            seconds(forecast.fetch_seconds),
            seconds(forecast.load_seconds),
            output::counted(forecast.jobs_at_once as u64, "window")
        ),
    ));
    if let Some(usd) = forecast.storage_usd_per_month {
        lines.push((
            "storage",
            format!("about ${usd:.4} a month, at ${STORAGE_USD_PER_GIB_AND_MONTH} per GiB"),
        ));
    }
    if let Some(promote) = &forecast.promote {
        lines.push((
            "promote",
            format!(
                "reads about {} of these rows ({} days), about ${:.6} at ${} per TiB",
                DecimalBytes(promote.bytes),
                promote.days,
                promote.usd,
                promote.usd_per_tib
            ),
        ));
    }
    let mut text = format!(
        "plan of run `{}` of `{}` into `{}`; nothing was changed\n",
        forecast.run, forecast.pipeline, forecast.table
    );
    let mut last = "";
    for (label, line) in lines {
        let shown = if label == last { "" } else { label };
        text += &format!("  {shown:<9} {line}\n");
        last = label;
    }
    text + &limits(forecast) + &forecast.advice.iter().map(|a| format!("advice: {a}\n")).collect::<String>()
}

fn limits(forecast: &Forecast) -> String {
    if forecast.limits.is_empty() {
        return String::new();
    }
    let header = ["limit of BigQuery", "allowed", "used", "plan", ""].map(str::to_owned).to_vec();
    let row = |check: &crate::forecast::limits::Check| {
        let plan = check.plan.map_or("unknown".to_owned(), number);
        let holds = if check.holds { "" } else { "✗" };
        let [allowed, used] = [check.allowed, check.used].map(|n| HumanCount(n).to_string());
        vec![check.limit.to_owned(), allowed, used, plan, holds.to_owned()]
    };
    let table: Vec<_> = [header].into_iter().chain(forecast.limits.iter().map(row)).collect();
    let lines = output::aligned(&table);
    let lines: Vec<_> = lines.lines().map(|line| format!("  {}\n", line.trim_end())).collect();
    format!("\n{}", lines.concat())
}

fn number(figure: Figure) -> String {
    let known = match figure.known {
        Known::Counted => "",
        Known::Estimated => "about ",
        Known::AtMost => "at most ",
    };
    format!("{known}{}", HumanCount(figure.value))
}

fn counted(figure: Option<Figure>, noun: &str) -> String {
    match figure {
        Some(figure) => format!("{} {noun}{}", number(figure), if figure.value == 1 { "" } else { "s" }),
        None => format!("an unknown number of {noun}s"),
    }
}

fn bytes(figure: Option<Figure>) -> String {
    match figure {
        Some(Figure { value, known: Known::Counted }) => DecimalBytes(value).to_string(),
        Some(Figure { value, .. }) => format!("about {}", DecimalBytes(value)),
        None => "an unknown size".to_owned(),
    }
}

fn seconds(seconds: Option<f64>) -> String {
    match seconds {
        Some(seconds) if seconds < 120.0 => format!("about {seconds:.1} s"),
        Some(seconds) => format!("about {:.0} minutes", seconds / 60.0),
        None => "unknown".to_owned(),
    }
}
