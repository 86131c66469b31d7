//! `api2bq rejects`: why records were rejected, with examples.

mod gateway;

use std::collections::BTreeMap;

use clap::ValueEnum;
use indicatif::HumanCount;
use serde::Serialize;
use serde_json::Value;

use super::output;
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Kind, Result};
use crate::ledger::{self, LedgerWindow, Run};
use crate::manifest::StagedFile;
use crate::partition::{Bound, Window, range};
use crate::pipeline::open_store;
use crate::stage::Store;
use crate::stage::journal::sha256_hex;

/// Show rejected records: by reason, or one by one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Counted are the windows whose files are staged; what earlier attempts at a window rejected is left out.
Of each window the first `limits.rejects_kept` are kept with their bytes; all are counted.

With --format json: run, rejects (all of them), kept, reasons (reason, count, window, offset, line,
example). With --format ndjson every kept reject, as it is in the staging area: after, before, offset,
line and column where they exist, reason, raw, or raw_base64 where it is no UTF-8.

With --gateway, or where there is neither a source nor a run, the rows that BigQuery refused to
`api2bq gateway --out stream`. As ndjson each has id (of the request), index (in its body), field,
reason, message and raw (the row as it was sent).

Examples:
  api2bq rejects flows
  api2bq rejects inventory
  api2bq rejects flows --day 3 --format ndjson | jq -r .raw")]
pub(super) struct Args {
    /// A built-in pipeline (`flows`, `inventory`) or the path of a pipeline.toml
    pipeline: String,
    /// The run, by its id or the start of it [default: the one last written to]
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only the window of this day: a day number or a date
    #[arg(long, value_name = "DAY")]
    day: Option<Bound>,
    /// Rows of the gateway that BigQuery refused
    #[arg(long, conflicts_with_all = ["run", "day"])]
    gateway: bool,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Ndjson,
}

/// The rejects of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    run: String,
    /// All of them.
    pub rejects: u64,
    /// Those with their bytes.
    pub kept: u64,
    pub reasons: Vec<Reason>,
}

/// All kept rejects of one reason. Where and example are those of the first.
#[derive(Debug, Serialize)]
pub(super) struct Reason {
    pub reason: String,
    pub count: u64,
    pub window: Window,
    offset: Option<u64>,
    line: Option<u64>,
    pub example: String,
}

/// Characters of an example: a record of ten columns is whole, and a page of text is not.
const EXAMPLE_LENGTH: usize = 400;

pub(super) async fn run(args: Args) -> Result<()> {
    let pipeline = match (args.gateway, args.day) {
        (true, _) => Pipeline::resolve_for_gateway(&args.pipeline, &args.set)?,
        (false, None) => Pipeline::resolve_to_look(&args.pipeline, &args.set)?,
        // Days are counted from the epoch, which only a source has.
        (false, Some(_)) => Pipeline::resolve(&args.pipeline, &args.set)?,
    };
    let store = open_store(&pipeline, &Effects::default())?;
    if args.gateway {
        return gateway::run(&store, &pipeline.name, args.format).await;
    }
    let ledger = ledger::read(&store, &pipeline.name).await?;
    // With neither a source nor a run there are no rows but the gateway's.
    if pipeline.source.url.is_empty() && ledger.runs.is_empty() {
        return gateway::run(&store, &pipeline.name, args.format).await;
    }
    let Some(run) = ledger.run(args.run.as_deref())? else {
        return output::print(&match args.format {
            Format::Text => format!("`{}` has no runs here yet\n", pipeline.name),
            Format::Json => output::json(&Report::default())?,
            Format::Ndjson => String::new(),
        });
    };
    let asked = args.day.map(|day| range(day, day, pipeline.epoch)).transpose()?;
    let (report, wrong) = match args.format {
        Format::Ndjson => (None, print_lines(&store, run, asked).await?),
        Format::Text | Format::Json => {
            let (report, wrong) = of_run(&store, run, asked).await?;
            (Some(report), wrong)
        }
    };
    match (&report, args.format) {
        (Some(report), Format::Text) => output::print(&text(report))?,
        (Some(report), _) => output::print(&output::json(report)?)?,
        (None, _) => {}
    }
    match wrong {
        Some(error) if error.kind() != Kind::Damaged => Err(error),
        wrong => ledger.verdict().and(wrong.map_or(Ok(()), Err)),
    }
}

/// The windows that lie in what was asked for.
fn windows_of(run: &Run, asked: Option<Window>) -> impl Iterator<Item = &LedgerWindow> {
    run.windows.iter().filter(move |w| {
        asked.is_none_or(|asked| w.window.after < asked.before && asked.after < w.window.before)
    })
}

/// Rejects by reason, the most frequent one first. Files that cannot be read hide nothing of the others: the
/// first error is handed back beside them.
pub(super) async fn of_run(
    store: &Store,
    run: &Run,
    asked: Option<Window>,
) -> Result<(Report, Option<Error>)> {
    let mut report = Report { run: run.id.clone(), ..Report::default() };
    let (mut by_reason, mut wrong) = (BTreeMap::new(), None);
    for window in windows_of(run, asked) {
        let Some(manifest) = window.manifest() else { continue };
        report.rejects += manifest.counts.rejects;
        let Some(file) = &manifest.rejects else { continue };
        match lines_of(store, file).await {
            Ok(lines) => report.kept += group(&lines, window.window, &mut by_reason)?,
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    report.reasons = by_reason.into_values().collect();
    report.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    Ok((report, wrong))
}

/// Every kept reject as it is; the first error beside them.
async fn print_lines(store: &Store, run: &Run, asked: Option<Window>) -> Result<Option<Error>> {
    let mut wrong = None;
    for file in windows_of(run, asked).filter_map(|window| window.manifest()?.rejects.as_ref()) {
        match lines_of(store, file).await {
            Ok(lines) => output::print(&lines)?,
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    Ok(wrong)
}

/// The kept rejects of one window, just as they were kept.
async fn lines_of(store: &Store, file: &StagedFile) -> Result<String> {
    let damaged = |why: &str| {
        Error::new(Kind::Damaged, format!("rejects `{}` {why}", file.url))
            .hint("their number is right all the same; `--new-run` writes them again")
    };
    let name = store.name_of(&file.url).ok_or_else(|| damaged("are not in this staging area"))?;
    let bytes = store.read(name).await?.ok_or_else(|| damaged("are gone"))?;
    if sha256_hex(&bytes) != file.sha256 {
        return Err(damaged("are not as they were written"));
    }
    String::from_utf8(bytes).map_err(|_| damaged("are no text"))
}

/// Adds the lines of one window to their reasons, and says how many there were.
fn group(lines: &str, window: Window, by_reason: &mut BTreeMap<String, Reason>) -> Result<u64> {
    let mut kept = 0;
    for line in lines.lines() {
        let reject: Value = serde_json::from_str(line)
            .map_err(|e| Error::failed("a line of the rejects is no JSON").caused_by(e))?;
        kept += 1;
        let reason = reject["reason"].as_str().unwrap_or_default();
        if let Some(known) = by_reason.get_mut(reason) {
            known.count += 1;
            continue;
        }
        let raw = reject["raw"].as_str().or(reject["raw_base64"].as_str()).unwrap_or_default();
        let first = Reason {
            reason: reason.to_owned(),
            count: 1,
            window,
            offset: reject["offset"].as_u64(),
            line: reject["line"].as_u64(),
            example: on_one_line(raw),
        };
        by_reason.insert(reason.to_owned(), first);
    }
    Ok(kept)
}

/// Without line breaks, and without what would move a terminal's cursor or colour it.
fn on_one_line(raw: &str) -> String {
    let spaced = raw.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let words: Vec<_> = spaced.split_whitespace().collect();
    let line = words.join(" ");
    let mut shown: String = line.chars().take(EXAMPLE_LENGTH).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    shown
}

fn text(report: &Report) -> String {
    let count = |n: u64| HumanCount(n).to_string();
    let mut text = String::new();
    let width = report.reasons.iter().map(|r| count(r.count).len()).max().unwrap_or(0);
    for reason in &report.reasons {
        let place = match (reason.line, reason.offset) {
            (Some(line), Some(offset)) => format!(", line {line}, byte {offset}"),
            (None, Some(offset)) => format!(", byte {offset}"),
            (Some(line), None) => format!(", line {line}"),
            (None, None) => String::new(),
        };
        text += &format!(
            "{:>width$}  {}\n{:width$}  first: {}{place}\n{:width$}  {}\n",
            count(reason.count),
            on_one_line(&reason.reason),
            "",
            reason.window,
            "",
            reason.example
        );
    }
    let kept = match report.rejects.saturating_sub(report.kept) {
        0 => String::new(),
        more => format!(", {} of them kept; {} are only counted", count(report.kept), count(more)),
    };
    text + &format!("{} rejects in run `{}`{kept}\n", count(report.rejects), report.run)
}
