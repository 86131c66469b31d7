//! `api2bq table delete`: asks first, and says the way back.

use std::io::{self, IsTerminal};

use indicatif::DecimalBytes;
use serde_json::json;

use super::text::{described, table_name, way_back};
use crate::bigquery::{Address, BigQuery, Document, Removal};
use crate::cli::connect::Warehouse;
use crate::cli::output::counted;
use crate::cli::{Format, output};
use crate::error::{Error, Result};
use crate::telemetry::say;

/// How often a table that changes all the time is looked at again with `--yes`.
const LOOKS_MAX: usize = 10;

/// Delete a table, or one partition of it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a terminal the table's name is asked for; elsewhere --yes is needed. A table is deleted only as
it was shown: not if somebody changed it before its name was typed. What was deleted comes
back with `api2bq table recover` within the dataset's time travel window, 7 days unless it was
set shorter; the command with the exact instant, by the service's clock, is printed.

With --format json: table, partition, rows, bytes, deleted (false for --dry-run) and
recover_at_ms.

Examples:
  api2bq table delete LANL.flows_old --dry-run
  api2bq table delete LANL.flows_old --yes
  api2bq table delete 'LANL.flows_staging$20110101'")]
pub(super) struct Args {
    /// `dataset.table`, or with `$20110101` behind it for one partition
    table: Address,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Only say what would go
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<()> {
    if args.table.at.is_some() {
        return Err(Error::usage(format!("the past of a table cannot be deleted: `{}`", args.table)));
    }
    let bigquery = args.warehouse.connect(None).await?;
    let table = bigquery.named(&args.table);
    let (mut found, mut recover_at_ms) = look(&bigquery, &table).await?;
    if args.dry_run {
        if is_missing(&bigquery, &table, &found).await {
            return Err(no_partition(&table));
        }
        return match args.format {
            Format::Text => output::print(&format!("{table} would be deleted: {}\n", contents(&found))),
            Format::Json => report(&table, &found, recover_at_ms, false),
        };
    }
    if !args.yes && !confirm(&args.table, &table, &contents(&found)).await? {
        return match args.format {
            Format::Text => output::print("nothing was deleted: the name was not typed\n"),
            Format::Json => report(&table, &found, recover_at_ms, false),
        };
    }
    // A partition has the etag of its table, which others change for reasons of their own.
    let is_whole = table.partition.is_none();
    let mut looks = 1;
    loop {
        match bigquery.remove_table(&table, is_whole.then(|| found.etag())).await? {
            Removal::Done => break,
            // Whoever did not ask what is there has it deleted as it is now.
            Removal::Lost if args.yes && looks < LOOKS_MAX => {
                (found, recover_at_ms) = look(&bigquery, &table).await?;
                looks += 1;
            }
            Removal::Lost => {
                return Err(Error::failed(format!(
                    "`{table}` was changed by somebody else meanwhile; it is not deleted"
                ))
                .hint(format!("look at it with `api2bq table show {}`", table_name(&table))));
            }
            Removal::NotThere if !is_whole && found.rows() == 0 => return Err(no_partition(&table)),
            Removal::NotThere => {
                return Err(Error::failed(format!("`{table}` was deleted by somebody else meanwhile")));
            }
        }
    }
    let what = contents(&found);
    if found.text("type") == "TABLE" {
        if let Some(ms) = recover_at_ms {
            say(&way_back(&table, ms));
        }
        if found.value.get("streamingBuffer").is_some() {
            say("note: rows that were still in the streaming buffer may not come back\n");
        }
    }
    match args.format {
        Format::Text => output::print(&format!("{table} deleted: {what}\n")),
        Format::Json => report(&table, &found, recover_at_ms, true),
    }
}

/// What is there, and an instant at which it can be brought back as it is.
async fn look(bigquery: &BigQuery, table: &Address) -> Result<(Document, Option<u64>)> {
    let found = super::found(bigquery, table).await?;
    // A partition's own time of change may be that of its data, a little before the table had them.
    let recover_at_ms = match table.partition {
        Some(_) => {
            let whole = Address { partition: None, ..table.clone() };
            super::found(bigquery, &whole).await?.instant_ms()
        }
        None => found.instant_ms(),
    };
    Ok((found, recover_at_ms))
}

/// Whether there is no such partition, as far as the list of them can be had: BigQuery describes one that is not
/// there as an empty one, until it is to be deleted.
async fn is_missing(bigquery: &BigQuery, table: &Address, found: &Document) -> bool {
    let Some(partition) = &table.partition else { return false };
    // Rows that are still in the streaming buffer may belong to a partition that is not listed yet.
    if found.rows() > 0 || found.value.get("streamingBuffer").is_some() {
        return false;
    }
    let whole = Address { partition: None, ..table.clone() };
    let listed = bigquery.at(found.text("location")).partitions(&whole).await;
    listed.is_ok_and(|listed| !listed.iter().any(|found| found["partition_id"] == partition.as_str()))
}

fn no_partition(table: &Address) -> Error {
    let whole = Address { partition: None, ..table.clone() };
    let partition = table.partition.as_deref().unwrap_or_default();
    Error::usage(format!("`{whole}` has no partition `{partition}`"))
        .hint(format!("`api2bq table show {}` lists those that it has", table_name(&whole)))
}

fn contents(found: &Document) -> String {
    match found.number("numRows") {
        Some(rows) => {
            let bytes = DecimalBytes(found.bytes());
            format!("{}, {bytes}, {}", counted(rows, "row"), described(&found.value))
        }
        None => format!("a {}, {}", found.text("type"), described(&found.value)),
    }
}

fn report(table: &Address, found: &Document, recover_at_ms: Option<u64>, deleted: bool) -> Result<()> {
    let whole = Address { partition: None, ..table.clone() };
    output::print(&output::json(&json!({
        "table": whole.to_string(),
        "partition": table.partition,
        "rows": found.number("numRows"),
        "bytes": found.number("numBytes"),
        "deleted": deleted,
        "recover_at_ms": recover_at_ms,
    }))?)
}

/// Asks for the table's name, as short or as long as one likes. Without somebody to ask it is an error.
async fn confirm(typed: &Address, table: &Address, what: &str) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::usage(format!("`{table}` is not deleted: there is nobody to ask"))
            .hint("`--yes` deletes without asking, `--dry-run` says what would go"));
    }
    let name = format!("{}{}", table.table, table.decorator());
    say(&format!("delete {table}: {what}\ntype `{name}` to delete it: "));
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = match answer.await {
        Ok(Ok(answer)) => answer,
        _ => String::new(),
    };
    if !answer.ends_with('\n') {
        // Ctrl-D: the question's line has no end yet.
        say("\n");
    }
    Ok([name, typed.to_string(), table.to_string()].iter().any(|name| name == answer.trim()))
}
