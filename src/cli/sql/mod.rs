//! `api2bq sql`: SQL over staged rows, the journal and files, without a network.

mod explain;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use indicatif::HumanCount;

use super::Global;
use super::output::counted;
use super::rows_output::RowsOutput;
use crate::config::Pipeline;
use crate::engine::{self, Query};
use crate::error::{Error, Result};
use crate::explore::Explorer;
use crate::render::Format;
use crate::telemetry::{Scanning, Show, Waiting, say};

/// Run SQL over staged rows, the journal and files: in this process, without a network
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Tables are there by themselves. For a pipeline `flows`:
  flows          staged rows of the newest run that is staged whole, with `day`; a query that
                 names days opens only the files of those
  flows_rejects  its rejected records, as far as they are kept
  runs, windows  the journal: what was begun, how far it has come, rows and bytes
A file is named in quotes, as a path, file://… or gs://…: .parquet, .csv and .tsv with a header,
.ndjson, .jsonl and .json with an object a line; text also with .gz.

--summarize gives for each column: column, type, nulls, distinct and the quartiles p25, p50, p75
(estimates), min, max, and the three most frequent values with their rows (top), unless there are
more than 100,000 different ones. \"flows@RUN\", in double quotes, is the table of another run.

The SQL is DataFusion's, much like PostgreSQL's; one SELECT a call. It spills to disk beyond
`limits.memory_mib`. On a terminal a table shows 1,000 rows, unless --limit says otherwise.
--explain as JSON (--format json): operator, details, rows, milliseconds (of all threads together),
bytes, spilled_bytes, inputs. Exit code 5 where a staged file is gone or was cut.

Examples:
  api2bq sql -c 'SELECT day, COUNT(*) AS flows FROM flows GROUP BY day ORDER BY day'
  api2bq sql -c 'SELECT * FROM flows WHERE day = 2' --output day2.parquet
  api2bq sql -c \"SELECT f.* FROM flows f JOIN 'hosts.csv' h ON f.src_comp = h.name\"
  api2bq sql -c \"SELECT first_day, state, reason FROM windows WHERE state <> 'done'\"
  api2bq sql --summarize flows
  api2bq sql -f report.sql --explain=analyze
  echo 'SELECT COUNT(*) FROM flows' | api2bq sql --as-of 9d65e544 --timer")]
pub(super) struct Args {
    /// The query
    #[arg(short, long, value_name = "SQL", conflicts_with_all = ["file", "summarize"])]
    command: Option<String>,
    /// Read the query from a file [default: stdin]
    #[arg(short, long, value_name = "FILE", conflicts_with = "summarize")]
    file: Option<PathBuf>,
    /// In place of a query: what the columns of a table or file hold, a row each
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["explain", "limit"])]
    summarize: Option<String>,
    /// Whose tables: a built-in pipeline (`flows`) or the path of a pipeline.toml; may be repeated
    #[arg(long, value_name = "PIPELINE", default_value = "flows")]
    pipeline: Vec<String>,
    /// Override a key of the pipelines
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Look at the staged rows of this run, by its id or the start of it, also if it is not whole
    #[arg(long, value_name = "RUN")]
    as_of: Option<String>,
    /// Rows to print [default: 1000 as a table on a terminal, else all]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Say how long it took
    #[arg(long)]
    timer: bool,
    /// Show how the query would be run; with `=analyze` run it, and show rows and time of each operator
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "plan"
    )]
    explain: Option<Explain>,
    #[command(flatten)]
    output: RowsOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Explain {
    /// The plan alone
    Plan,
    /// The plan, run to its end
    Analyze,
}

/// Of a table on a terminal: more are not read by anyone, and scroll the rest away.
const TERMINAL_ROWS_MAX: usize = 1000;

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    args.output.check()?;
    let text = match &args.summarize {
        Some(_) => String::new(),
        None => text(&args).await?,
    };
    let resolved = args.pipeline.iter().map(|name| Pipeline::resolve(name, &args.set));
    let explorer = Explorer::new(resolved.collect::<Result<_>>()?, args.as_of.clone())?;
    let started = Instant::now();
    if let Some(table) = &args.summarize {
        return summarize(&args, &explorer, table, global).await;
    }
    if let Some(explain) = args.explain {
        return explained(&args, &explorer, &text, explain, global).await;
    }
    let limit = limit(&args);
    // One more, to know whether there are more.
    let query = explorer.plan(&text, limit.map(|limit| limit + 1)).await?;
    let planned = started.elapsed();
    let cut = AtomicBool::new(false);
    let written = write(&args.output, &query, limit, &cut, global).await?;
    if cut.into_inner() && args.limit.is_none() && !global.quiet {
        say(&format!("{} rows are shown, and there are more; `--limit N` shows them\n", HumanCount(written)));
    }
    if args.timer {
        say(&timer(written, planned, started.elapsed()));
    }
    Ok(())
}

fn limit(args: &Args) -> Option<usize> {
    let is_read = args.output.is_for_terminal() && args.output.format() == Format::Table;
    let default = is_read.then_some(TERMINAL_ROWS_MAX);
    args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX - 1)).or(default)
}

async fn text(args: &Args) -> Result<String> {
    let text = match (&args.command, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) if path != Path::new("-") => std::fs::read_to_string(path)
            .map_err(|e| Error::usage(format!("cannot read `{}`", path.display())).caused_by(e))?,
        (None, None) if std::io::stdin().is_terminal() => {
            return Err(Error::usage("there is no query")
                .hint("write it behind `-c`, into a file behind `-f`, or to stdin"));
        }
        _ => {
            // Ctrl-C is heard all the same.
            let read = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
            let read = read.await.map_err(|e| Error::failed("the reader of stdin died").caused_by(e))?;
            read.map_err(|e| Error::usage("cannot read the query from stdin").caused_by(e))?
        }
    };
    match text.trim().is_empty() {
        true => Err(Error::usage("the query is empty")),
        false => Ok(text),
    }
}

/// Runs the query, and writes its first `limit` rows; `cut` is set when it gave more.
async fn write(
    output: &RowsOutput,
    query: &Query,
    limit: Option<usize>,
    cut: &AtomicBool,
    global: &Global,
) -> Result<u64> {
    let mut rows = first(query.rows()?, limit, cut);
    let mut schema = query.schema();
    if output.format().is_binary() {
        schema = query.plain_schema();
        let plain = schema.clone();
        rows = rows.and_then(move |batch| std::future::ready(engine::plain(&batch, &plain))).boxed();
    }
    let mut scanning = Some(scanning(query, global.show()));
    if output.is_for_terminal() {
        // Rows and bars on one terminal would be mixed up.
        rows = rows.inspect(move |_| drop(scanning.take())).boxed();
        return output.write_counted(&schema, rows, &|_| {}).await;
    }
    output.write_counted(&schema, rows, &|_| {}).await
}

fn scanning(query: &Query, show: Show) -> Scanning {
    let query = query.clone();
    Scanning::new(show, move || {
        let read = query.scanned();
        (read.rows, read.bytes)
    })
}

/// The first `limit` rows; nothing behind them is asked for.
fn first<'r>(
    rows: BoxStream<'static, Result<RecordBatch>>,
    limit: Option<usize>,
    cut: &'r AtomicBool,
) -> BoxStream<'r, Result<RecordBatch>> {
    let Some(limit) = limit else { return rows };
    let some = rows.scan(limit, |left, batch| {
        let batch = batch.map(|batch| {
            let taken = batch.num_rows().min(*left);
            cut.fetch_or(taken < batch.num_rows(), Ordering::Relaxed);
            *left -= taken;
            batch.slice(0, taken)
        });
        std::future::ready(Some(batch))
    });
    some.boxed()
}

async fn summarize(args: &Args, explorer: &Explorer, table: &str, global: &Global) -> Result<()> {
    let started = Instant::now();
    let summary = {
        let _waiting = Waiting::new(global.show(), "reading");
        explorer.summarize(table).await?
    };
    let (schema, columns) = (summary.schema(), summary.num_rows() as u64);
    args.output.write_counted(&schema, futures::stream::iter([Ok(summary)]), &|_| {}).await?;
    if args.timer {
        say(&timer(columns, Duration::ZERO, started.elapsed()));
    }
    Ok(())
}

async fn explained(
    args: &Args,
    explorer: &Explorer,
    text: &str,
    explain: Explain,
    global: &Global,
) -> Result<()> {
    let started = Instant::now();
    let query = explorer.plan(text, args.limit.and_then(|limit| usize::try_from(limit).ok())).await?;
    let planned = started.elapsed();
    let mut written = 0;
    if explain == Explain::Analyze {
        let _scanning = scanning(&query, global.show());
        let rows = query.rows()?;
        written = rows.try_fold(0, async |sum, batch| Ok(sum + batch.num_rows() as u64)).await?;
    }
    explain::print(&query.operators(), explain == Explain::Analyze, args.output.format())?;
    if args.timer {
        say(&timer(written, planned, started.elapsed()));
    }
    Ok(())
}

fn timer(rows: u64, planned: Duration, all: Duration) -> String {
    let (all, planned) = (all.as_secs_f64(), planned.as_secs_f64());
    format!("{}, {all:.3} s, {planned:.3} of them to plan\n", counted(rows, "row"))
}
