//! `api2bq verify`: what the journal says, proven again.

use indicatif::{DecimalBytes, HumanCount};

use super::{Format, output};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::Result;
use crate::ledger;
use crate::pipeline::{connect, open_source, open_store};
use crate::verify::{Against, Report, offline_helps, verify};

/// Prove a run again: journal, staged files, counts, and what BigQuery has
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Held against each other: the hashes of the journal's chains; staged files by size, SHA-256, footer and
the rows in them; records in = staged + duplicates + rejects; the rejects that were kept; BigQuery's row
count per partition, and the sums of its columns, computed by a query, with those of the staged files.
Partitions that a later run has loaded are named and left to that run. Unless --run names one, the
batches of the pipeline's gateway are proven too: journal, rows per partition, files of open ones.

Exit code 7 where something differs, 5 where the journal itself is damaged, 3 where all that is there is
right and windows are still to load (with --offline: to stage). Every difference is printed.

With --format json: runs, checked (windows, batches, entries, files, bytes, rows, rejects_files, partitions,
source_counts), mismatches (run, window, partition, file, what, expected, found), unfinished,
not_compared, superseded, damaged, offline, peak_rss_bytes.

Examples:
  api2bq verify flows
  api2bq verify flows --all --offline
  api2bq verify flows --run 9d65e544 --source --format json")]
pub(super) struct Args {
    /// A built-in pipeline (`flows`) or the path of a pipeline.toml
    pipeline: String,
    /// The run to prove, by its id or the start of it [default: the one last written to]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Prove all runs
    #[arg(long, conflicts_with = "run")]
    all: bool,
    /// Leave BigQuery out
    #[arg(long)]
    offline: bool,
    /// Ask the source again how many records each window has; it must send `source.count_header`
    #[arg(long)]
    source: bool,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let pipeline = Pipeline::resolve_to_look(&args.pipeline, &args.set)?;
    let effects = Effects::default();
    let store = open_store(&pipeline, &effects)?;
    let bigquery = match args.offline {
        true => None,
        false => Some(connect(&pipeline, None, &effects).await.map_err(offline_helps)?),
    };
    let source = if args.source { Some(open_source(&pipeline, &effects)?) } else { None };
    let ledger = ledger::read(&store, &pipeline.name).await?;
    let newest = ledger.run(args.run.as_deref())?;
    let runs: Vec<_> = if args.all { ledger.runs.iter().collect() } else { newest.into_iter().collect() };
    let against = Against {
        pipeline: &pipeline,
        store: &store,
        ledger: &ledger,
        // A run that is asked for is asked for alone.
        gateway: args.run.is_none(),
        bigquery: bigquery.as_ref(),
        source: source.as_ref(),
    };
    let report = verify(against, &runs).await?;
    match args.format {
        Format::Text => output::print(&text(&report, args.source))?,
        Format::Json => output::print(&output::json(&report)?)?,
    }
    report.verdict(&ledger)
}

fn text(report: &Report, source_asked: bool) -> String {
    if report.runs.is_empty() && report.damaged.is_empty() && report.checked.batches == 0 {
        return format!("`{}` has no runs here yet\n", report.pipeline);
    }
    let count = |n: u64| HumanCount(n).to_string();
    let checked = &report.checked;
    let mut text = String::new();
    for damaged in &report.damaged {
        text += &format!("damaged     {}\n", damaged.error);
    }
    for mismatch in &report.mismatches {
        text += &format!("mismatch    {mismatch}\n");
    }
    for superseded in &report.superseded {
        text += &format!(
            "superseded  run `{}`, partition `{}`: loaded since by run `{}`\n",
            superseded.run, superseded.partition, superseded.by
        );
    }
    for left in &report.unfinished {
        let state = left.state.word();
        let reason = left.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        text += &format!("{state:<11} run `{}`, {}{reason}\n", left.run, left.window);
    }
    let batches = match checked.batches {
        0 => String::new(),
        n => format!("{} batches of the gateway, ", count(n)),
    };
    text += &format!(
        "journal     {} windows, {batches}{} entries\nstaged      {} files, {}, {} rows\n",
        count(checked.windows),
        count(checked.entries),
        count(checked.files),
        DecimalBytes(checked.bytes),
        count(checked.rows)
    );
    text += &match report.offline {
        true => "BigQuery    left out\n".to_owned(),
        false => format!("BigQuery    {} partitions\n", count(checked.partitions)),
    };
    for table in &report.not_compared {
        text += &format!("not asked   `{table}`, to which rows were streamed\n");
    }
    if source_asked {
        text += &format!("source      {} windows counted\n", count(checked.source_counts));
    }
    let runs: Vec<_> = report.runs.iter().map(|run| format!("`{run}`")).collect();
    let proven = if runs.is_empty() { "gateway".to_owned() } else { format!("run {}", runs.join(", ")) };
    text += &match (report.damaged.len(), report.mismatches.len()) {
        (0, 0) => format!("{proven}: everything agrees\n"),
        (0, mismatches) => format!("{proven}: {mismatches} mismatches\n"),
        (damaged, mismatches) => format!("{proven}: {damaged} damaged, {mismatches} mismatches\n"),
    };
    text
}
