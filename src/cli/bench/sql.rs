//! `api2bq bench sql`: queries over staged rows, timed.

use std::path::PathBuf;

use indicatif::{BinaryBytes, DecimalBytes, HumanCount};

use super::text::{build, machine, seconds};
use super::write;
use crate::bench::sql::{self, Latency, Options, Report, Round};
use crate::cli::output;
use crate::error::{Error, Result};
use crate::telemetry::say;

/// Time queries over the staged rows of a pipeline, one after the other and many at once
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The table has the pipeline's name: the staged rows of its newest run that is staged, with the
pipeline's columns and `day`, the 1-based number of their day. Each query is read to its end.

Examples:
  echo 'SELECT protocol, COUNT(*) FROM flows GROUP BY protocol;
        SELECT MAX(byte_count) FROM flows WHERE day = 2' > q.sql
  api2bq bench sql --file q.sql
  api2bq bench sql --file q.sql --concurrency 16 --runs 50 --export-json sql.json")]
pub(super) struct Args {
    /// Whose staged rows
    #[arg(default_value = "flows")]
    pipeline: String,
    /// Queries separated by `;`; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Start of the id of a run; else the newest that is staged
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Queries at once, in the second round
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Measured runs of each query; at once, of each query by everyone
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Runs before them that do not count; there is always one
    #[arg(long, value_name = "N", default_value_t = 1)]
    warm_up: u32,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write all figures as JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    export_json: Option<PathBuf>,
}

pub(super) async fn run(args: Args, says_progress: bool) -> Result<()> {
    let text = if args.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(&args.file)
    };
    let sql =
        text.map_err(|e| Error::usage(format!("cannot read `{}`", args.file.display())).caused_by(e))?;
    if let Some(path) = &args.export_json {
        write(path, "")?;
    }
    let options = Options {
        pipeline: args.pipeline,
        set: args.set,
        run: args.run,
        sql,
        concurrency: usize::from(args.concurrency),
        runs: args.runs,
        warm_up: args.warm_up,
    };
    if says_progress {
        say(&format!("{} runs alone, then {} at once\n", options.runs, options.concurrency));
    }
    let report = sql::run(&options).await?;
    match &args.export_json {
        Some(path) if path.as_os_str() == "-" => {
            say(&shown(&report));
            write(path, &output::json(&report)?)
        }
        Some(path) => {
            write(path, &output::json(&report)?)?;
            output::print(&shown(&report))
        }
        None => output::print(&shown(&report)),
    }
}

fn shown(report: &Report) -> String {
    let header = ["query", "rows", "at once", "p50", "p95", "p99", "min", "max"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    for (number, query) in report.queries.iter().enumerate() {
        let line = |first: [String; 2], at_once: usize, of: &Latency| {
            let times = [of.p50, of.p95, of.p99, of.min, of.max].map(seconds);
            first.into_iter().chain([at_once.to_string()]).chain(times).collect::<Vec<_>>()
        };
        let first = [(number + 1).to_string(), HumanCount(query.rows).to_string()];
        table.push(line(first, 1, &query.serial));
        table.push(line([String::new(), String::new()], report.concurrency, &query.concurrent));
    }
    let mut text = format!("{}\n{}; ", machine(&report.machine), build(&report.build));
    text += &format!(
        "`{}`, run `{}`: {} staged rows, {} of Parquet; {} runs; seconds\n\n",
        report.pipeline,
        report.run,
        HumanCount(report.rows),
        DecimalBytes(report.bytes),
        report.runs
    );
    text += &output::aligned(&table);
    text.push('\n');
    for (number, query) in report.queries.iter().enumerate() {
        text += &format!("{}: {}\n", number + 1, one_line(&query.sql));
    }
    let round = |name: &str, of: &Round| {
        format!(
            "{name}: {:.1} queries/s, {} s, {} CPU s\n",
            of.queries_per_second,
            seconds(of.seconds),
            seconds(of.cpu_seconds)
        )
    };
    text += &round("\none at a time", &report.serial);
    text += &round(&format!("{} at once", report.concurrency), &report.concurrent);
    let peak = report.peak_rss_bytes.map_or("unknown".into(), |bytes| BinaryBytes(bytes).to_string());
    text + &format!("peak memory {peak}\n")
}

/// The query without its line breaks, cut where it gets long.
fn one_line(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(90) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
