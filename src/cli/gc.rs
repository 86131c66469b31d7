//! `api2bq gc`: leftovers of failed and killed attempts, out of the staging area.

use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount};

use super::{Format, duration, output};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::Result;
use crate::pipeline::open_store;
use crate::sweep::{Leftover, Report, sweep};

/// Remove staged files and rejects that no journal entry names
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Marked is whatever a journal entry of any run names. Swept are Parquet files, rejects and files in the
making that are not marked and older than --min-age. Journal entries and plans always stay. Where a
journal entry cannot be read, nothing is swept (exit code 5).

The age keeps files of a backfill at work, whose entry is yet to be written; a shorter one is for when
none runs. A file that was swept from under one costs a load job and a second fetch, and no rows. What
lies in a `limits.spill_dir` of its own, or beside a bucket in the system's temporary folder, stays.

Files of a batch of the gateway are marked until it is loaded.

With --format json: swept (name, kind: staged, rejects or scratch, bytes, modified_unix_ms), swept_bytes,
kept_young, marked, batches, batches_open, dry_run, min_age_seconds.

Examples:
  api2bq gc flows --dry-run
  api2bq gc flows --min-age 2d")]
pub(super) struct Args {
    /// A built-in pipeline (`flows`) or the path of a pipeline.toml
    pipeline: String,
    /// Only print what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Leave alone what is younger: `24h`, `2d`, `30m`, `0s`
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = duration)]
    min_age: Duration,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let pipeline = Pipeline::resolve_to_look(&args.pipeline, &args.set)?;
    let store = open_store(&pipeline, &Effects::default())?;
    let report = sweep(&store, &pipeline.name, args.min_age, args.dry_run).await?;
    match args.format {
        Format::Text => output::print(&text(&report)),
        Format::Json => output::print(&output::json(&report)?),
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for swept in &report.swept {
        let kind = match swept.kind {
            Leftover::Staged => "staged",
            Leftover::Rejects => "rejects",
            Leftover::Scratch => "scratch",
        };
        text += &format!("{kind:<8} {:>10}  {}\n", DecimalBytes(swept.bytes).to_string(), swept.name);
    }
    let verb = if report.dry_run { "would be removed" } else { "removed" };
    text += &format!(
        "{} leftovers {verb}, {}; {} are too young; {} files are in the journal\n",
        HumanCount(report.swept.len() as u64),
        DecimalBytes(report.swept_bytes),
        HumanCount(report.kept_young),
        HumanCount(report.marked),
    );
    if report.batches > 0 {
        let ended = report.batches - report.batches_open;
        let open = HumanCount(report.batches_open);
        text += &format!("of the gateway's batches {} are loaded and {open} are open\n", HumanCount(ended));
    }
    text
}
