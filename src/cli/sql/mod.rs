//! `api2bq sql`: SQL over staged rows, the journal and files, without a network.

mod chart;
mod explain;
mod rows;
mod shell;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures::TryStreamExt;

use super::Global;
use super::rows_output::RowsOutput;
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::explore::Explorer;
use crate::render::chart::Kind;
use crate::telemetry::{Waiting, say};
use chart::Drawing;
use rows::{Showing, scanning, timer};

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
`limits.query_memory_mib`, which is half of the machine's memory by default. On a terminal a table
shows 1,000 rows, unless --limit says otherwise; one that is wider than the terminal is folded: its
columns in parts, ten rows at a time.

On a terminal, without a query, there is a shell. A statement ends with `;`, Tab completes, Ctrl-C
stops the query and not the shell, and `\\?` lists the rest: \\d, \\timing, \\format, \\chart, \\o, \\q.

--chart draws the rows in place of printing them; with --output they are written as well.
  bar   the first column names the bars, columns of numbers behind it are their lengths
  line  the first column (numbers, dates, times) lies across, numbers behind it go up
  hist  how often the numbers of the only column occur
  heat  three columns: across, down, and the number that gives the cell its colour
Bins of a histogram are as wide as Freedman and Diaconis say, or Sturges where half of all values
are one, rounded up to 1, 2 or 5. Where that makes more than 60, and all values are above 0 and lie
far apart, their edges are 1, 2, 5, 10, 20, … Titles and axes are called as the columns are: name
them with AS. At most 500 bars, 500 by 500 cells, 1,000,000 rows of a line, 10,000,000 values.

--explain as JSON (--format json): operator, details, rows, milliseconds (of all threads together),
bytes, spilled_bytes, inputs. Exit code 5 where a staged file is gone or was cut.

Examples:
  api2bq sql -c 'SELECT day, COUNT(*) AS flows FROM flows GROUP BY day ORDER BY day'
  api2bq sql -c 'SELECT * FROM flows WHERE day = 2' --output day2.parquet
  api2bq sql -c \"SELECT f.* FROM flows f JOIN 'hosts.csv' h ON f.src_comp = h.name\"
  api2bq sql -c \"SELECT first_day, state, reason FROM windows WHERE state <> 'done'\"
  api2bq sql --summarize flows
  api2bq sql --chart bar -c 'SELECT day, COUNT(*) AS flows FROM flows GROUP BY day ORDER BY day'
  api2bq sql --chart hist --chart-out bytes.png -c 'SELECT byte_count FROM flows WHERE day = 1'
  api2bq sql --chart heat -c \"SELECT time / 3600 % 24 AS hour, day, COUNT(*) AS flows FROM flows
      GROUP BY 1, 2\"
  api2bq sql -f report.sql --explain=analyze
  echo 'SELECT COUNT(*) FROM flows' | api2bq sql --as-of 9d65e544 --timer")]
pub(super) struct Args {
    /// The query
    #[arg(short, long, value_name = "SQL", conflicts_with_all = ["file", "summarize"])]
    command: Option<String>,
    /// Read the query from a file [default: a shell on a terminal, else stdin]
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
    /// Draw the rows in place of printing them
    #[arg(long, value_name = "KIND", value_parser = chart_parser(), conflicts_with_all = ["explain", "summarize"])]
    chart: Option<Kind>,
    /// Draw the chart as a picture, .svg or .png, into this file
    #[arg(long, value_name = "FILE", requires = "chart")]
    chart_out: Option<PathBuf>,
    #[command(flatten)]
    output: RowsOutput,
}

fn chart_parser() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.map(Kind::name)).try_map(|name| name.parse::<Kind>())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Explain {
    /// The plan alone
    Plan,
    /// The plan, run to its end
    Analyze,
}

impl Args {
    /// Nothing was asked, and somebody is there who can be asked.
    pub(super) fn opens_shell(&self) -> bool {
        let nothing = self.command.is_none() && self.file.is_none() && self.summarize.is_none();
        let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        nothing && self.explain.is_none() && is_terminal
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    args.output.check()?;
    let drawing = args.chart.map(|kind| Drawing::new(kind, args.chart_out.as_deref())).transpose()?;
    let opens_shell = args.opens_shell();
    let text = match opens_shell || args.summarize.is_some() {
        true => String::new(),
        false => text(&args).await?,
    };
    let resolved = args.pipeline.iter().map(|name| Pipeline::resolve(name, &args.set));
    let explorer = Explorer::new(resolved.collect::<Result<_>>()?, args.as_of.clone())?;
    if let Some(table) = &args.summarize {
        return summarize(&args, &explorer, table, global).await;
    }
    if let Some(explain) = args.explain {
        return explained(&args, &explorer, &text, explain, global).await;
    }
    let limit = args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX - 1));
    let more = "`--limit N` shows them";
    let showing = Showing { output: args.output, drawing, limit, more, timer: args.timer };
    match opens_shell {
        true => shell::run(explorer, showing, global).await,
        false => rows::show(&explorer, &text, &showing, global).await,
    }
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
