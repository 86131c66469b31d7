//! `api2bq promote`: production rebuilt from staging.

use chrono::NaiveDate;

use super::{Format, output};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::Result;
use crate::pipeline::connect;
use crate::promote::{Promoted, promote};

/// Rebuild production: the latest record per key of the last days of staging
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Days count back from the newest loaded partition, or from --as-of: the source's time need not be today.
The table is replaced in one step; readers see the old rows or the new ones.

Examples:
  api2bq promote flows --days 30
  api2bq promote flows --days 7 --as-of 2011-01-31 --format json")]
pub(super) struct Args {
    /// A built-in pipeline (`flows`) or the path of a pipeline.toml
    pipeline: String,
    /// Days of staging to look at [default: the pipeline's `promote.days`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    days: Option<u32>,
    /// The last of these days
    #[arg(long, value_name = "DATE")]
    as_of: Option<NaiveDate>,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let pipeline = Pipeline::resolve(&args.pipeline, &args.set)?;
    let bigquery = connect(&pipeline, None, &Effects::default()).await?;
    let days = args.days.unwrap_or(pipeline.promote_days);
    let promoted = promote(&pipeline, &bigquery, days, args.as_of).await?;
    match args.format {
        Format::Text => output::print(&sentence(&promoted)),
        Format::Json => output::print(&output::json(&promoted)?),
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
