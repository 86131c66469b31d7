//! `api2bq promote`: production rebuilt from staging, and what that would do.

mod check;
mod forecast;
mod local;

use std::path::PathBuf;

use chrono::NaiveDate;

use super::rows_output::RowsOutput;
use super::{Global, output};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::pipeline::connect;
use crate::promote::{Promoted, Rebuild, promote};
use crate::render::Format;
use crate::telemetry::Waiting;

/// Rebuild production: the latest record per key of the last days of staging
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Days count back from the newest loaded partition, or from --as-of: the source's time need not be today.
The table is replaced in one step; readers see the old rows or the new ones.

promote.sql is GoogleSQL, and it is the same text wherever it runs:
  --print-sql  prints it as BigQuery gets it, with its parameters and destination as comments. The
               newest partition is asked of the service, unless --as-of says the day
  --local      runs it here, on the staged Parquet files, without a network (a stage in a bucket is
               copied here first), by the translation of the embedded server. Of each day the window
               that was loaded last counts, or staged last. --format and --output are those of `sql`
  --check      runs it in the service, over what is loaded, and here, over the staged files of these
               loads, and compares the two results row by row. Exit code 7 where they differ
  --dry-run    says how many keys would be new, changed and dropped in production, and what that
               reads and costs; the question reads both tables, and its own cost is said too
None of these changes anything. --key is by default what promote.sql keeps one row of: the columns
of ROW_NUMBER() OVER (PARTITION BY …) = 1.

With --format json: table, first_day, last_day, rows, bytes_processed, job_id. --check: first_day,
last_day, key, equal, only_service, only_local, different, different_columns (rows by column),
examples, bytes_processed, bytes_billed. --dry-run: table, exists, first_day, last_day, key,
rows_before, rows_after, new, changed, dropped, same, columns_added, columns_removed,
columns_retyped, bytes_processed, price, own (bytes_processed, bytes_billed, usd).

Examples:
  api2bq promote flows --days 30
  api2bq promote flows --dry-run
  api2bq promote flows --days 7 --as-of 2011-01-31 --format json
  api2bq promote flows --local --output production.parquet
  api2bq promote flows --check
  api2bq promote flows --print-sql --as-of 2011-01-31 > promote.sql")]
pub(super) struct Args {
    /// A built-in pipeline (`flows`) or the path of a pipeline.toml
    pipeline: String,
    /// Days of staging to look at [default: the pipeline's `promote.days`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    days: Option<u32>,
    /// The last of these days
    #[arg(long, value_name = "DATE")]
    as_of: Option<NaiveDate>,
    /// Print the SQL that BigQuery gets, and run nothing
    #[arg(long, group = "instead")]
    print_sql: bool,
    /// Give the rows that production would have, computed here from the staged files
    #[arg(long, group = "instead")]
    local: bool,
    /// Compare what the service computes with what is computed here
    #[arg(long, group = "instead")]
    check: bool,
    /// Only say what would change
    #[arg(long, group = "instead")]
    dry_run: bool,
    /// A column that names a row, for --check and --dry-run; may be repeated
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    key: Vec<String>,
    /// Rows of each kind to show, for --check
    #[arg(long, value_name = "N", default_value_t = 5)]
    examples: u16,
    /// US dollars for a TiB, for --dry-run
    #[arg(long, value_name = "USD", default_value_t = 6.25)]
    price_per_tib: f64,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    output: RowsOutput,
}

impl Args {
    pub(super) fn only_reads(&self) -> bool {
        self.print_sql || self.local || self.check || self.dry_run
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let pipeline = Pipeline::resolve(&args.pipeline, &args.set)?;
    if !args.key.is_empty() && !args.check && !args.dry_run {
        return Err(Error::usage("`--key` is for `--check` and `--dry-run`"));
    }
    let days = args.days.unwrap_or(pipeline.promote_days);
    // A mistake in the SQL is found before anybody is asked.
    Rebuild::of_days(&pipeline, days, args.as_of.unwrap_or(pipeline.epoch))?;
    if args.local {
        return local::run(&args, &pipeline, days, global).await;
    }
    if args.output.path().is_some() {
        return Err(Error::usage("`--output` is for rows").hint("rows are given by `--local`"));
    }
    if let (true, Some(last_day)) = (args.print_sql, args.as_of) {
        // Nobody has to be asked.
        return output::print(&Rebuild::of_days(&pipeline, days, last_day)?.script());
    }
    let bigquery =
        connect(&pipeline, None, &Effects::default()).await.map_err(|error| match args.print_sql {
            true => error.hint("with `--as-of DATE` no service is asked"),
            false => error,
        })?;
    if args.print_sql {
        return output::print(&Rebuild::find(&pipeline, &bigquery, days, args.as_of).await?.script());
    }
    if args.check {
        return check::run(&args, &pipeline, &bigquery, days, global).await;
    }
    if args.dry_run {
        return forecast::run(&args, &pipeline, &bigquery, days, global).await;
    }
    let promoted = promote(&pipeline, &bigquery, days, args.as_of).await?;
    match is_json(&args) {
        false => output::print(&sentence(&promoted)),
        true => output::print(&output::json(&promoted)?),
    }
}

pub(super) fn sentence(promoted: &Promoted) -> String {
    format!(
        "{} has {}: the latest record per key from {} to {}\n",
        promoted.table,
        output::counted(promoted.rows, "row"),
        promoted.first_day,
        promoted.last_day
    )
}

fn is_json(args: &Args) -> bool {
    matches!(args.output.format(), Format::Json | Format::Ndjson)
}

fn waiting(global: &Global, what: &str) -> Waiting {
    Waiting::new(global.show(), what)
}

/// Where what does not fit into memory goes.
fn scratch(pipeline: &Pipeline) -> PathBuf {
    match pipeline.limits.spill_dir.as_str() {
        "" => std::env::temp_dir(),
        folder => PathBuf::from(folder),
    }
}
