//! `api2bq backfill`: a range of days from the source into their partitions.

mod dry_run;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use chrono::NaiveDate;
use clap::ValueEnum;

use super::{Global, output};
use crate::config::{Pipeline, is_secret};
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::ledger;
use crate::location::{is_url, redacted};
use crate::partition::{Bound, length, parse_length, range, spans};
use crate::pipeline::{Backfill, Order, World};
use crate::plan::{Plan, Until};
use crate::receipt::{Allowed, Receipt};
use crate::since::{self, Since};
use crate::stage::Store;
use crate::telemetry::say;

/// Load a range of days into day partitions; the same command again resumes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Windows of whole days replace their day partitions. With `warehouse.mode = \"append\"` they may be
shorter, and add to them: `promote` then keeps the latest record per key. Called every three hours,
`--since last` loads the whole windows since the last call, and what that one left undone;
`time.late_days` lets records in that come late.

Examples:
  api2bq backfill flows --from 1 --to 3
  api2bq backfill flows --from 2011-01-01 --to 2011-02-27 --jobs 4 --summary-json run.json
  api2bq backfill flows --from 1 --to 58 --set source.url=flows.txt.gz --until stage
  api2bq backfill ./my.toml --from 1 --to 1 --set stage.url=gs://my-bucket/staging
  api2bq backfill flows --from 1 --to 58 --dry-run --sample
  api2bq backfill flows --since last --window 3h --set warehouse.mode=append --set time.late_days=1
  api2bq backfill flows --show-settings")]
pub(super) struct Args {
    /// A built-in pipeline (`flows`) or the path of a pipeline.toml
    pipeline: String,
    /// First day: a day number from 1, a date, or seconds as `0s` (exclusive)
    #[arg(long, value_name = "DAY", required_unless_present_any = ["show_settings", "since"])]
    from: Option<Bound>,
    /// Last day, included: a day number, a date, seconds as `259200s`, or `now`
    #[arg(long, value_name = "DAY", required_unless_present_any = ["show_settings", "since"])]
    to: Option<To>,
    /// Go on after the last window that is loaded, up to --to or now; --from is where to begin while none is
    #[arg(long, value_enum, value_name = "last", conflicts_with = "new_run")]
    since: Option<SinceArg>,
    /// Length of a window: `1d`, or `3h`, `90m` where windows append
    #[arg(long, value_name = "LENGTH", default_value = "1d", value_parser = parse_length)]
    window: i64,
    /// Windows at work at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Stop after this stage
    #[arg(long, value_enum, default_value = "load")]
    until: UntilArg,
    /// Rejected records that still count as complete (exit 0): a number, or a share as `0.5%`
    #[arg(long, value_name = "N|N%", default_value = "0")]
    max_rejects: Allowed,
    /// Write the receipt as JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    summary_json: Option<PathBuf>,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print every resolved setting with its origin, and stop
    #[arg(long)]
    show_settings: bool,
    /// Fetch and load again what an equal earlier run has done; with a name, resume such a run
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    new_run: Option<String>,
    /// Replace days although rows were appended to them: those rows go
    #[arg(long)]
    drop_appended: bool,
    /// Only work out what it would take, and hold it against BigQuery's limits: nothing is changed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    planning: dry_run::Planning,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UntilArg {
    Decode,
    Stage,
    Load,
}

impl From<UntilArg> for Until {
    fn from(until: UntilArg) -> Until {
        match until {
            UntilArg::Decode => Until::Decode,
            UntilArg::Stage => Until::Stage,
            UntilArg::Load => Until::Load,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SinceArg {
    Last,
}

/// The end of a range.
#[derive(Debug, Clone, Copy)]
enum To {
    Now,
    At(Bound),
}

impl std::str::FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<To, String> {
        match text {
            "now" => Ok(To::Now),
            _ => text.parse().map(To::At).map_err(|why: String| format!("{why}, or `now`")),
        }
    }
}

/// What is to be done: a range, or what came since.
enum Ordered {
    Range(Order),
    Since(Since, usize, Until),
}

impl Args {
    fn ordered(&self, epoch: NaiveDate) -> Result<Option<Ordered>> {
        let (jobs, until) = (usize::from(self.jobs), Until::from(self.until));
        if self.since.is_some() {
            // Only the ends count: each is looked at as the one end of a range that has the other.
            let begin = match self.from {
                Some(from) => Some(range(from, far_behind(from), epoch)?.after),
                None => None,
            };
            let end = match self.to {
                Some(To::At(to)) => Some(range(Bound::Seconds(0), to, epoch)?.before),
                Some(To::Now) | None => None,
            };
            return Ok(Some(Ordered::Since(Since { begin, end, window_seconds: self.window }, jobs, until)));
        }
        let (Some(from), Some(to)) = (self.from, self.to) else { return Ok(None) };
        let to = match to {
            To::At(to) => to,
            // The whole windows until now.
            To::Now => {
                let now = since::now(epoch, Effects::default().clock.unix_millis());
                Bound::Seconds(now.div_euclid(self.window) * self.window)
            }
        };
        let salt = self.new_run.clone().map(salt).unwrap_or_default();
        let range = range(from, to, epoch)?;
        Ok(Some(Ordered::Range(Order { range, window_seconds: self.window, jobs, until, salt })))
    }
}

/// An end for a range of which only the start counts.
fn far_behind(from: Bound) -> Bound {
    match from {
        Bound::Seconds(seconds) => Bound::Seconds(seconds.saturating_add(1)),
        day => day,
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let mut pipeline = Pipeline::resolve(&args.pipeline, &args.set)?;
    pipeline.drop_appended = args.drop_appended;
    let ordered = match args.ordered(pipeline.epoch)? {
        Some(ordered) if !args.show_settings => ordered,
        _ => return show_settings(&pipeline),
    };
    if args.dry_run {
        return dry_run::run(&pipeline, &ordered, &args.planning).await;
    }
    // A summary that cannot be written is better found out before the work than after it.
    if let Some(path) = args.summary_json.as_deref().filter(|path| *path != Path::new("-")) {
        write_summary(path, "")?;
    }
    let world = World { show: global.show(), ..World::default() };
    let backfill = match &ordered {
        Ordered::Range(order) => Backfill::assemble(pipeline, order, world).await?,
        Ordered::Since(since, jobs, until) => {
            Backfill::continuing(pipeline, *since, *jobs, *until, world).await?
        }
    };
    if backfill.plan.windows.is_empty() {
        say(&format!("no window of {} has ended since the last one that is loaded\n", length(args.window)));
    }
    let _ = UNDER_WAY.set((backfill.store.clone(), backfill.plan.clone(), backfill.until));
    let receipt = backfill.run().await?;
    let text = output::receipt(&receipt);
    match args.summary_json.as_deref() {
        Some(path) if path == Path::new("-") => {
            say(&text);
            output::print(&format!("{}\n", json(&receipt)?))?;
        }
        Some(path) => {
            write_summary(path, &format!("{}\n", json(&receipt)?))?;
            output::print(&text)?;
        }
        None => output::print(&text)?,
    }
    let missing = receipt.missing();
    // A single one is named by the error that comes last.
    if missing.len() > 1 {
        say(&format!("{}\n", missing.join("\n")));
    }
    receipt.verdict(args.max_rejects, &resume_command())
}

fn show_settings(pipeline: &Pipeline) -> Result<()> {
    let settings = pipeline.settings();
    let key_width = settings.iter().map(|s| s.key.len()).max().unwrap_or(0);
    let value_width = settings.iter().map(|s| s.value.len()).max().unwrap_or(0).min(60);
    let line = |s: &crate::config::Shown| {
        format!("{:key_width$} = {:value_width$}  # {}\n", s.key, s.value, s.origin)
    };
    output::print(&settings.iter().map(line).collect::<String>())
}

fn json(receipt: &Receipt) -> Result<String> {
    serde_json::to_string_pretty(receipt).map_err(|e| Error::failed("cannot write the receipt").caused_by(e))
}

fn write_summary(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)
        .map_err(|e| Error::usage(format!("cannot write `--summary-json` `{}`", path.display())).caused_by(e))
}

/// What this process is at, for whoever interrupts it.
static UNDER_WAY: OnceLock<(Store, Plan, Until)> = OnceLock::new();

/// Nobody who pressed Ctrl-C waits longer to hear what is missing.
const LOOK_BACK_MAX: Duration = Duration::from_secs(2);

/// What an interrupted backfill leaves to do, as the journal tells it.
pub(super) async fn missing() -> Option<String> {
    let (store, plan, until) = UNDER_WAY.get()?;
    if *until == Until::Decode {
        return None;
    }
    let left = tokio::time::timeout(LOOK_BACK_MAX, ledger::left_of(store, plan, *until)).await;
    match left.ok()?.ok()? {
        left if left.is_empty() => None,
        left => Some(format!("missing: {}: interrupted\n", spans(left))),
    }
}

/// The name of the new run, for the command that resumes it.
static NEW_RUN: OnceLock<String> = OnceLock::new();

/// A name that was not used before makes a run of its own.
fn salt(name: String) -> String {
    let name = if name.is_empty() { format!("{:08x}", fastrand::u32(..)) } else { name };
    NEW_RUN.get_or_init(|| name).clone()
}

/// The command as it was typed, so that running it again resumes; but what may be a secret is left out.
pub(super) fn resume_command() -> String {
    let shown = |arg: String| match arg.strip_prefix("--set=") {
        _ if arg == "--new-run" => format!("--new-run={}", NEW_RUN.get().map_or("", String::as_str)),
        Some(pair) => format!("--set={}", shown_pair(pair)),
        None => shown_pair(&arg),
    };
    let quoted = |arg: String| {
        let plain = arg.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
        if plain && !arg.is_empty() { arg } else { format!("'{}'", arg.replace('\'', r"'\''")) }
    };
    let arguments = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    format!("api2bq {}", arguments.map(shown).map(quoted).collect::<Vec<_>>().join(" "))
}

fn shown_pair(arg: &str) -> String {
    match arg.split_once('=') {
        Some((key, url)) if url.contains("://") || (key.ends_with(".url") && is_url(url)) => {
            format!("{key}={}", redacted(url))
        }
        Some((key, value)) if is_secret(key, value) => format!("{key}=…"),
        _ => arg.to_owned(),
    }
}
