//! `api2bq load-test`: how fast a gateway answers, and whether it does.

use std::path::PathBuf;

use indicatif::HumanCount;

use super::access::AccessArgs;
use super::{Format, Global, interrupted, output};
use crate::error::Result;
use crate::gateway::load_test::{self, Milliseconds, Options, Report};
use crate::telemetry::{Transfer, say};

/// Send rows to a gateway at a fixed rate, and measure how long it takes to answer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Requests leave when they are due, whatever has become of those before them, and a latency counts
from when its request was due: a gateway that stands still for a second shows as a second for all
who would have asked in it. What leaves late since no connection was free, or since this machine
was busy, is told. Requests go to the gateway and nowhere else; the rows they bring are real, and
are loaded into the table of its pipeline.

For `inventory` the rows are stock: WH_ID from WH1 to WH7, five items, Item_id from 100 to 110,
quantities from 1000 to 5000; for any other pipeline they are whatever fits the columns that the
gateway tells of. The same --seed makes the same rows.

With --spool the disk is measured first, by writes of 4 KiB with an fdatasync behind each: no
gateway on it answers faster than that. Certificates are checked against the system's roots;
SSL_CERT_FILE names others.

Exit code 1 if any request failed or any row was rejected. After Ctrl-C the report is about what was
sent by then, and the exit code is 130.

Examples:
  api2bq load-test inventory --user ann --rate 5000 --seconds 60 --seed 1
  api2bq load-test inventory --user ann --rate 200 --rows-per-request 500 --spool ./spool
  pass show gateway/ann | api2bq load-test orders --user ann --url https://gw.example.com")]
pub(super) struct Args {
    /// The pipeline that the gateway serves
    pipeline: String,
    #[command(flatten)]
    access: AccessArgs,
    /// Requests a second
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long requests are due
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=604_800))]
    seconds: u32,
    /// Rows in each request: one is an object, more are an array
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rows_per_request: u32,
    /// Connections at once; more than that are never open
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Makes other rows of the same kind
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure the disk of this folder first: give the gateway's spool, on its machine
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let options = Options {
        pipeline: args.pipeline,
        access: args.access.access()?,
        rate: args.rate,
        seconds: args.seconds,
        rows_per_request: args.rows_per_request,
        connections: args.connections,
        seed: args.seed,
        spool: args.spool,
    };
    let progress = Transfer::new(global.show(), options.rows());
    let report = load_test::run(&options, interrupted(), move |rows| progress.add(rows)).await?;
    match args.format {
        Format::Text => output::print(&text(&report))?,
        Format::Json => output::print(&output::json(&report)?)?,
    }
    for warning in report.warnings() {
        say(&format!("warning: {warning}\n"));
    }
    report.verdict()
}

fn text(report: &Report) -> String {
    let count = |n: u64| HumanCount(n).to_string();
    let mut lines = vec![
        format!(
            "`{}` at {}: {} requests/s of {} for {} s, {} connections, seed {}",
            report.pipeline,
            report.url,
            count(report.requests_per_second_wanted.into()),
            output::counted(report.rows_per_request.into(), "row"),
            report.seconds_wanted,
            report.connections,
            report.seed,
        ),
        format!(
            "accepted   {} of {} requests, {}{}",
            count(report.requests_accepted),
            count(report.requests),
            output::counted(report.rows_accepted, "row"),
            match report.rows_rejected {
                0 => String::new(),
                rejected => format!(", {} rejected", count(rejected)),
            },
        ),
        format!(
            "rate       {} requests/s, {} rows/s, in {:.1} s",
            count(report.requests_per_second.round() as u64),
            count(report.rows_per_second.round() as u64),
            report.seconds,
        ),
        format!("latency    {}", percentiles(report.latency)),
        format!("sent late  {}", percentiles(report.sent_after)),
    ];
    if let Some(disk) = &report.disk {
        lines.push(format!("disk       {}", percentiles(disk.latency)));
        lines.push(format!(
            "           {} writes of 4 KiB with fdatasync in `{}`, before the test",
            disk.writes, disk.folder
        ));
    }
    if !report.failures.is_empty() {
        lines.push(format!("failed     {}", report.failed().join(", ")));
    }
    lines.join("\n") + "\n"
}

fn percentiles(of: Milliseconds) -> String {
    format!(
        "p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} ms",
        of.p50, of.p90, of.p99, of.p999, of.max
    )
}
