//! `api2bq table copy` and `api2bq table rename`.

use clap::ValueEnum;
use indicatif::HumanCount;
use serde_json::json;

use super::text::{table_name, way_back};
use super::unless_interrupted;
use crate::bigquery::{Address, Write};
use crate::cli::connect::Warehouse;
use crate::cli::output::counted;
use crate::cli::{Format, Global, output};
use crate::error::{Error, Result};
use crate::tables;
use crate::telemetry::{Waiting, say};

/// Copy one table, or several of the same columns, into another
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Before anything is sent the columns, partitioning, clustering and location of all sources and of
the destination are compared, and the first difference is named. The job takes effect whole or
not at all; an answer that is lost does not make it run twice. A copy has the rows, columns and
layout; it has not the access policy of its source, and none of its past. A source may be one
partition (`$20240131`) or the table as it was (`@` and milliseconds; see `table recover`).

With --format json: destination, rows, job_id and table (the destination's document).

Examples:
  api2bq table copy LANL.flows LANL.flows_backup
  api2bq table copy d.january d.february d.all --write append
  api2bq table copy 'd.t$20240131' 'd.u$20240131' --write truncate")]
pub(super) struct Args {
    /// The sources, and the destination last
    #[arg(required = true, num_args = 2.., value_name = "TABLE")]
    tables: Vec<Address>,
    /// What happens to rows that the destination has
    #[arg(long, value_enum, default_value = "empty")]
    write: WriteArg,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WriteArg {
    /// They stay
    Append,
    /// They are replaced, with columns and all
    Truncate,
    /// There must be none
    Empty,
}

/// BigQuery's limit for one job.
const SOURCES_MAX: usize = 1200;

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let write = match args.write {
        WriteArg::Append => Write::Append,
        WriteArg::Truncate => Write::Truncate,
        WriteArg::Empty => Write::Empty,
    };
    let bigquery = args.warehouse.connect(None).await?;
    let mut sources: Vec<Address> = args.tables.iter().map(|table| bigquery.named(table)).collect();
    let Some(destination) = sources.pop() else { return Err(Error::usage("there is nothing to copy")) };
    if destination.at.is_some() {
        return Err(Error::usage(format!("nothing can be written into the past: `{destination}`")));
    }
    if sources.len() > SOURCES_MAX {
        return Err(Error::usage(format!(
            "{} sources are more than {SOURCES_MAX}, which one job takes",
            sources.len()
        )));
    }
    let what = format!("copying into {destination}");
    let copying = tables::copy(&bigquery, &sources, &destination, write);
    let left = format!("Look with `api2bq table show {}` before you repeat it", table_name(&destination));
    let showing = Waiting::new(global.show(), &what);
    let copied = unless_interrupted(copying, left).await?;
    drop(showing);
    for remark in &copied.remarks {
        say(&format!("note: {remark}\n"));
    }
    match args.format {
        Format::Text => {
            let count = counted(copied.rows, "row");
            let has = HumanCount(copied.destination.rows());
            output::print(&format!("{destination}: {count} copied, it has {has}\n"))
        }
        Format::Json => output::print(&output::json(&json!({
            "destination": destination.to_string(),
            "rows": copied.rows,
            "job_id": copied.job_id,
            "table": copied.destination.value,
        }))?),
    }
}

/// Rename a table: copy it, prove the copy, delete the original
#[derive(Debug, clap::Args)]
#[command(after_help = "\
BigQuery renames by copying. The original is deleted only when the copy has its rows, columns and
layout and nobody has changed the original since the copy began. Description, labels, expiration
and required filter come along; the access policy and the past (time travel) do not.

Examples:
  api2bq table rename LANL.flows LANL.flows_2011")]
pub(super) struct RenameArgs {
    /// The table
    from: Address,
    /// Its new name, which no table has
    to: Address,
    #[command(flatten)]
    warehouse: Warehouse,
}

pub(super) async fn rename(args: RenameArgs, global: &Global) -> Result<()> {
    let (from, to) = (args.from.whole()?, args.to.whole()?);
    let bigquery = args.warehouse.connect(None).await?;
    let (from, to) = (bigquery.named(&from), bigquery.named(&to));
    let renaming = tables::rename(&bigquery, &from, &to);
    let left = format!("Perhaps there are both {from} and {to} now; compare them before you delete one");
    let what = format!("copying {from}");
    let showing = Waiting::new(global.show(), &what);
    let renamed = unless_interrupted(renaming, left).await?;
    drop(showing);
    say(&format!("note: the access policy of {from} and its past were not carried over\n"));
    if let Some(ms) = renamed.instant_ms {
        say(&way_back(&from, ms));
    }
    output::print(&format!("{from} is {to} now: {}\n", counted(renamed.rows, "row")))
}
