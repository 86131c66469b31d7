//! `api2bq query`: GoogleSQL in BigQuery, with its price first.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use indicatif::{BinaryBytes, HumanCount};
use serde_json::{Value, json};

use super::connect::Warehouse;
use super::output::counted;
use super::rows_output::RowsOutput;
use super::table::way_back;
use super::{Global, interrupted, output};
use crate::bigquery::{Address, Answered, BigQuery, DryRun, Query, Running, Write, arrow_schema};
use crate::error::{Error, Result};
use crate::query::{self, Price, USD_PER_TIB, parse_bytes};
use crate::render::Format;
use crate::telemetry::{Waiting, say};

/// Run GoogleSQL in BigQuery: what it would read and cost is said first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A dry run comes first, always: a mistake in the query is found there, and costs nothing. Bytes and
price are an estimate, of the on-demand kind: 10 MiB at least for each table; a cached result and a
reservation cost less. --max-bytes is held against it, and sent along: BigQuery then bills no more.

--param name:type:value gives `@name`, :type:value a `?`, name::value a STRING; ARRAY<…> and
STRUCT<…> are written as JSON, and NULL is NULL. --as-of puts FOR SYSTEM_TIME AS OF behind every table.

Statements without rows say what they did; with --format json or ndjson: jobId, statementType,
affectedRows and BigQuery's own statistics. --destination with these: jobId, destination, rows,
bytesProcessed, bytesBilled. --dry-run with json: statementType, bytesProcessed, accuracy, tables,
location, schema, price. Of a script (several statements) the last result is printed; its price is
not known before, and null. In json and ndjson INT64 is a number with all its digits, NUMERIC text.
Ctrl-C cancels the job.

Examples:
  api2bq query 'SELECT protocol, COUNT(*) AS n FROM LANL.flows GROUP BY protocol ORDER BY n DESC'
  api2bq query -f report.sql --param 'day:DATE:2011-01-01' --max-bytes 10GB --output report.parquet
  api2bq query 'SELECT COUNT(*) FROM LANL.flows' --as-of 1h
  api2bq query - --dry-run --format json < report.sql | jq .price.usd")]
pub(super) struct Args {
    /// The query; `-` reads it from stdin
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    sql: Option<String>,
    /// Read the query from a file; `-` is stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A query parameter; may be repeated
    #[arg(long, value_name = "NAME:TYPE:VALUE")]
    param: Vec<String>,
    /// Only say what it would read and cost, and which columns it would give
    #[arg(long)]
    dry_run: bool,
    /// Refuse to run when more would be billed, as in `10GB`
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    max_bytes: Option<u64>,
    /// US dollars for a TiB
    #[arg(long, value_name = "USD", default_value_t = USD_PER_TIB)]
    price_per_tib: f64,
    /// Read all tables as they were then: `1h` ago, or a time
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// Write the result into a table
    #[arg(long, value_name = "TABLE", conflicts_with = "output")]
    destination: Option<Address>,
    /// What happens to the rows that the destination has
    #[arg(long, value_enum, default_value = "empty", requires = "destination")]
    write: WriteArg,
    /// Where bare table names are looked for
    #[arg(long, value_name = "DATASET")]
    default_dataset: Option<String>,
    /// Where the job runs [default: where its tables are]
    #[arg(long, value_name = "LOCATION")]
    location: Option<String>,
    /// Rows to print [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    limit: Option<u64>,
    #[command(flatten)]
    output: RowsOutput,
    #[command(flatten)]
    warehouse: Warehouse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WriteArg {
    /// Add to them
    Append,
    /// Replace them
    Truncate,
    /// There must be none
    Empty,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    args.output.check()?;
    let query = asked(&args)?;
    // An empty location lets the service look where the tables are.
    let location = args.location.as_deref().unwrap_or_default();
    let bigquery = args.warehouse.connect(Some(location)).await?;
    let running = Running::default();
    tokio::select! {
        ended = answer(&args, &query, &bigquery, &running, global) => ended,
        () = interrupted() => Err(running.interrupted().await),
    }
}

fn stdin() -> Result<String> {
    let mut sql = String::new();
    let read = std::io::stdin().read_to_string(&mut sql);
    read.map_err(|e| Error::usage("cannot read the query from stdin").caused_by(e))?;
    Ok(sql)
}

/// The query in BigQuery's terms.
fn asked(args: &Args) -> Result<Query> {
    let sql = match (&args.sql, &args.file) {
        (Some(sql), _) if sql == "-" => stdin()?,
        (None, Some(path)) if path == Path::new("-") => stdin()?,
        (Some(sql), _) => sql.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|e| Error::usage(format!("cannot read `{}`", path.display())).caused_by(e))?,
        (None, None) => String::new(),
    };
    if sql.trim().is_empty() {
        return Err(Error::usage("the query is empty"));
    }
    let sql = match &args.as_of {
        Some(time) => query::as_of(&sql, time)?,
        None => sql,
    };
    let write = match args.write {
        WriteArg::Append => Write::Append,
        WriteArg::Truncate => Write::Truncate,
        WriteArg::Empty => Write::Empty,
    };
    Ok(Query {
        sql,
        default_dataset: args.default_dataset.as_deref().map(super::table::dataset).transpose()?,
        parameters: query::parse_parameters(&args.param)?,
        destination: args.destination.clone().map(|table| (table, write)),
        bytes_billed_max: args.max_bytes,
    })
}

async fn answer(
    args: &Args,
    query: &Query,
    bigquery: &BigQuery,
    running: &Running,
    global: &Global,
) -> Result<()> {
    let planned = query::plan(bigquery, query).await?;
    let price = query::price(&planned, args.price_per_tib);
    if args.dry_run {
        return print_plan(&planned, &price, args.output.format());
    }
    if !global.quiet {
        say(&format!("{}\n", estimate(&planned, &price)));
    }
    if let Some(max) = args.max_bytes.filter(|max| price.bytes_billed > *max) {
        return Err(Error::usage(format!(
            "the query would be billed {} bytes, `--max-bytes` allows {}; nothing was run",
            HumanCount(price.bytes_billed),
            HumanCount(max)
        ))
        .hint("raise `--max-bytes`, or read fewer columns or partitions"));
    }
    // Where it was planned it runs: a job whose answer is lost is then looked for there.
    let there =
        planned.location.as_deref().map_or_else(|| bigquery.clone(), |location| bigquery.at(location));
    let answered = {
        let _waiting = Waiting::new(global.show(), "the query runs");
        query::run(&there, query, running).await?
    };
    if answered.from_cache && !global.quiet {
        say("a cached result: nothing was billed\n");
    }
    tracing::info!(
        job_id = answered.job_id,
        bytes_processed = answered.bytes_processed,
        bytes_billed = answered.bytes_billed,
        "query answered"
    );
    if answered.statements > 0 && !global.quiet {
        let count = counted(answered.statements, "statement");
        let which = if answered.has_rows() { "; the last result is shown" } else { "" };
        say(&format!("a script: {count} ran, {} read{which}\n", BinaryBytes(answered.bytes_processed)));
    }
    if let Some((table, _)) = &query.destination {
        let table = bigquery.named(table);
        let rows = bigquery.document(&table).await?.map_or(0, |document| document.rows());
        return print_destination(&answered, &table, rows, args.output.format());
    }
    if !answered.has_rows() {
        print_statement(&answered, args.output.format())?;
        if let Some(path) = args.output.path() {
            say(&format!("note: `{}` is as it was: there are no rows to write\n", path.display()));
        }
        if let Some((table, ms)) = dropped(&answered).filter(|_| !global.quiet) {
            say(&way_back(&table, ms));
        }
        return Ok(());
    }
    let there = match &answered.location {
        Some(location) => bigquery.at(location),
        None => bigquery.clone(),
    };
    let schema = arrow_schema(&answered.fields);
    let rows = there.query_rows(&answered.job_id, answered.fields.clone(), args.limit);
    let expected = answered.rows.min(args.limit.unwrap_or(u64::MAX));
    let written = args.output.write(&schema, rows, expected, global).await?;
    if written < answered.rows && Some(written) == args.limit && std::io::stdout().is_terminal() {
        say(&format!("{} of {} rows\n", HumanCount(written), HumanCount(answered.rows)));
    }
    Ok(())
}

/// The table that a DROP TABLE took away, and an instant at which it was there.
fn dropped(answered: &Answered) -> Option<(Address, u64)> {
    let statistics = &answered.statistics;
    if answered.statement_type != "DROP_TABLE" || statistics["ddlOperationPerformed"] != "DROP" {
        return None;
    }
    let part = |name: &str| statistics["ddlTargetTable"][name].as_str().map(str::to_owned);
    let (dataset, table) = (part("datasetId")?, part("tableId")?);
    let table = Address { project: part("projectId"), dataset, table, partition: None, at: None };
    Some((table, answered.started_ms?))
}

fn is_script(planned: &DryRun) -> bool {
    planned.statement_type == "SCRIPT"
}

fn estimate(planned: &DryRun, price: &Price) -> String {
    if is_script(planned) {
        return "a script: what it reads is not known before it runs".into();
    }
    let accuracy = match planned.accuracy.as_str() {
        "LOWER_BOUND" => "at least ",
        "UPPER_BOUND" => "at most ",
        _ => "",
    };
    if planned.accuracy == "UNKNOWN" {
        return "what it reads is not known before it runs".into();
    }
    format!(
        "reads {accuracy}{}, {accuracy}${} (estimate, on demand at ${} per TiB)",
        BinaryBytes(planned.bytes_processed),
        dollars(price.usd),
        price.usd_per_tib
    )
}

/// Two digits that say something.
pub(super) fn dollars(usd: f64) -> String {
    match usd {
        usd if usd <= 0.0 => "0".into(),
        usd if usd >= 0.1 => format!("{usd:.2}"),
        usd => {
            let digits = (-usd.log10()).ceil().clamp(0.0, 15.0) as usize + 1;
            format!("{usd:.digits$}")
        }
    }
}

fn print_plan(planned: &DryRun, price: &Price, format: Format) -> Result<()> {
    match format {
        Format::Json | Format::Ndjson => {
            let mut document = serde_json::to_value(planned)
                .map_err(|e| Error::failed("cannot write the plan").caused_by(e))?;
            document["price"] = if is_script(planned) { Value::Null } else { json!(price) };
            output::print(&match format {
                Format::Json => output::json(&document)?,
                _ => format!("{document}\n"),
            })
        }
        _ => {
            let statement = match planned.statement_type.as_str() {
                "" | "SELECT" | "SCRIPT" => String::new(),
                other => format!("{}: ", other.replace('_', " ")),
            };
            output::print(&format!("{statement}{}\n", estimate(planned, price)))
        }
    }
}

fn print_destination(answered: &Answered, table: &Address, rows: u64, format: Format) -> Result<()> {
    let document = json!({
        "jobId": answered.job_id,
        "destination": table.to_string(),
        "rows": rows,
        "bytesProcessed": answered.bytes_processed,
        "bytesBilled": answered.bytes_billed,
    });
    output::print(&match format {
        Format::Json => output::json(&document)?,
        Format::Ndjson => format!("{document}\n"),
        _ => format!("the result is in `{table}`, which has {}\n", counted(rows, "row")),
    })
}

fn print_statement(answered: &Answered, format: Format) -> Result<()> {
    match format {
        Format::Json | Format::Ndjson => {
            let affected =
                answered.statistics["numDmlAffectedRows"].as_str().and_then(|n| n.parse::<u64>().ok());
            let document = json!({
                "jobId": answered.job_id,
                "statementType": answered.statement_type,
                "affectedRows": affected,
                "statistics": answered.statistics,
            });
            output::print(&match format {
                Format::Json => output::json(&document)?,
                _ => format!("{document}\n"),
            })
        }
        _ => output::print(&format!("{}\n", query::sentence(answered))),
    }
}

#[cfg(test)]
mod tests {
    use super::dollars;

    #[test]
    fn small_prices_keep_two_digits_that_say_something() {
        let shown = [0.0, 12.345, 0.25, 0.07, 0.00005960464, 1e-20].map(dollars);
        assert_eq!(shown, ["0", "12.35", "0.25", "0.070", "0.000060", "0.0000000000000000"]);
    }
}
