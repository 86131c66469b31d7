//! `api2bq bench`: how fast the stages are here, and which one holds the rest up.

mod chart;
mod sql;
mod text;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Global, output};
use crate::bench::{self, Input, Options, Slow, Stage};
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::partition::{Bound, range};
use crate::telemetry::{Show, say};

/// Measure every stage alone and all together, and name the slowest
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Without PIPELINE the records are generated, the same ones each time, and served by a process
of their own. With PIPELINE they come from its source, which is asked for each window twice,
and once more for every warm-up and run of `fetch` and `whole`. Nothing is loaded into BigQuery:
`load`, `promote` and `whole` have an embedded one, in a process of its own.

Each stage is measured in a process of its own, with `--jobs` windows at once and its input in
memory; temporary files go where TMPDIR says. Beside each run the time of an anchor is taken,
work that is the same in every version, and `--compare` compares time against the anchor, so
that a slow hour of the machine is no slow stage. A stage that got slower is exit code 1.
Allocations are counted by a build with `--features count-allocations`.

Examples:
  api2bq bench
  api2bq bench --rows 5000000 --runs 10 --stages decode,whole --chart-out bench.svg
  api2bq bench --set source.format=ndjson --export-json ndjson.json
  api2bq bench --compare base.json --fail-over 10%
  api2bq bench ./my.toml --from 1 --to 2
  api2bq bench flows --staged --stages load,promote
  api2bq bench sql --file q.sql --concurrency 8"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Sub>,
    /// Take the records of this pipeline's source, and its columns and SQL; else they are generated
    pipeline: Option<String>,
    /// Records to generate, repeats included
    #[arg(long, default_value_t = 300_000, conflicts_with = "pipeline")]
    rows: u64,
    /// Days the generated records are spread over, and windows at work
    #[arg(long, default_value_t = 4, conflicts_with = "pipeline", value_parser = clap::value_parser!(u32).range(1..=1000))]
    days: u32,
    /// First day of the pipeline's source
    #[arg(long, value_name = "DAY", requires_all = ["pipeline", "to"])]
    from: Option<Bound>,
    /// Last day, included
    #[arg(long, value_name = "DAY", requires_all = ["pipeline", "from"])]
    to: Option<Bound>,
    /// Load and promote the staged files of a run of the pipeline, by default the newest, into the embedded BigQuery
    #[arg(long, value_name = "RUN", num_args = 0..=1, require_equals = true, default_missing_value = "",
          requires = "pipeline", conflicts_with_all = ["from", "to"])]
    staged: Option<String>,
    /// Only these, separated by commas: fetch, decode, transform, stage, load, promote, whole
    #[arg(long, value_name = "STAGES", value_delimiter = ',')]
    stages: Vec<Stage>,
    /// Windows at work at once, in every stage
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Measured runs of each stage
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Runs before them that do not count
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    warm_up: u32,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Write all figures, those of each run too, as JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    export_json: Option<PathBuf>,
    /// Write the table as Markdown; `-` is stdout
    #[arg(long, value_name = "FILE")]
    export_md: Option<PathBuf>,
    /// Draw the stages as an SVG picture
    #[arg(long, value_name = "FILE.svg")]
    chart_out: Option<PathBuf>,
    /// Compare with an earlier `--export-json`
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// By how much a stage may be slower than in `--compare`
    #[arg(long, value_name = "N%", default_value = "10%", value_parser = percent)]
    fail_over: f64,
    /// Hold a stage up on purpose: `decode=200us/1000rows`
    #[arg(long, value_name = "STAGE=WAIT", hide = true)]
    slow: Option<Slow>,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Sql(sql::Args),
}

/// `10%` as 0.1.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match number {
        Some(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("want a share, as `10%`".into()),
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let says_progress = global.show() != Show::Off;
    if let Some(Sub::Sql(args)) = args.command {
        return sql::run(args, says_progress).await;
    }
    let (input, defaults) = match (&args.pipeline, args.staged) {
        (None, _) => (Input::Generated { rows: args.rows, days: args.days }, &Stage::ALL[..]),
        (Some(_), Some(run)) => (
            Input::Staged { run: Some(run).filter(|run| !run.is_empty()) },
            &[Stage::Load, Stage::Promote][..],
        ),
        (Some(pipeline), None) => {
            let (Some(from), Some(to)) = (args.from, args.to) else {
                return Err(Error::usage(format!("which days of `{pipeline}`?"))
                    .hint("`--from 1 --to 1`, or `--staged` for what is staged already"));
            };
            let epoch = Pipeline::resolve(pipeline, &args.set)?.epoch;
            (Input::Source { range: range(from, to, epoch)? }, &Stage::ALL[..])
        }
    };
    // Found out before the work, not after it.
    for path in [&args.export_json, &args.export_md, &args.chart_out].into_iter().flatten() {
        write(path, "")?;
    }
    let asked = |stage: &Stage| if args.stages.is_empty() { defaults } else { &args.stages }.contains(stage);
    let options = Options {
        pipeline: args.pipeline.unwrap_or_else(|| "flows".into()),
        set: args.set,
        input,
        stages: Stage::ALL.into_iter().filter(asked).collect(),
        jobs: usize::from(args.jobs),
        runs: args.runs,
        warm_up: args.warm_up,
        slow: args.slow,
        says_progress,
    };
    let report = bench::run(&options).await?;
    let comparison = args.compare.as_deref().map(|base| bench::compare(base, &report)).transpose()?;
    let mut shown = text::report(&report);
    shown += &format!("\n{}", chart::terminal(&report));
    if let (Some(comparison), Some(base)) = (&comparison, &args.compare) {
        shown += &format!("\n{}", text::comparison(comparison, base));
    }
    let mut on_stdout = shown.as_str();
    let is_stdout = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
    if is_stdout(&args.export_json) || is_stdout(&args.export_md) {
        say(&shown);
        on_stdout = "";
    }
    if let Some(path) = &args.export_json {
        write(path, &output::json(&report)?)?;
    }
    if let Some(path) = &args.export_md {
        write(path, &text::markdown(&report))?;
    }
    if let Some(path) = &args.chart_out {
        write(path, &chart::svg(&report))?;
    }
    output::print(on_stdout)?;
    comparison.map_or(Ok(()), |comparison| comparison.verdict(args.fail_over))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if path == Path::new("-") {
        return output::print(text);
    }
    std::fs::write(path, text)
        .map_err(|e| Error::usage(format!("cannot write `{}`", path.display())).caused_by(e))
}

/// Measures one stage for `api2bq bench`: a task on stdin, a line on stdout for each run.
#[derive(Debug, clap::Args)]
pub(super) struct StageArgs {}

pub(super) async fn run_stage() -> Result<()> {
    let mut task = String::new();
    std::io::stdin()
        .read_to_string(&mut task)
        .map_err(|e| Error::failed("cannot read the task from stdin").caused_by(e))?;
    bench::perform(&task, output::print).await
}
