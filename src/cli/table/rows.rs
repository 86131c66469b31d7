//! `api2bq table rows`: the rows of a table, without a query.

use serde_json::json;

use super::found;
use crate::bigquery::{Address, Document, Field, Scan, arrow_schema, fields, selected};
use crate::cli::connect::Warehouse;
use crate::cli::rows_output::RowsOutput;
use crate::cli::{Global, ONLY_READS, output};
use crate::error::{Error, Result};
use crate::render::Format;
use crate::telemetry::say;

/// Print rows: all of them or the first, as they are stored, free of charge
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows are listed (tabledata.list), not queried: that costs nothing, and their order is BigQuery's own.
`$20240131` behind the name takes one partition, `@1704067200000` the table as it was at that time.

In all text formats TIMESTAMP reads 2024-01-31T23:59:59Z, with three or six digits of a second
where it has them; BYTES are base64, and what is nested is JSON. In csv NULL is nothing and an
empty text is \"\", in tsv NULL is \\N. In json and ndjson INT64 is a number with all its digits,
and NUMERIC is text. parquet and arrow keep the types.

Examples:
  api2bq table rows LANL.flows --limit 10
  api2bq table rows LANL.flows --count
  api2bq table rows 'LANL.flows_staging$20110101' --columns id,protocol --format ndjson
  api2bq table rows LANL.flows --output flows.parquet")]
pub(super) struct Args {
    /// `dataset.table`, also with `$partition` or `@milliseconds` behind it
    table: Address,
    /// Rows to print [default: all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    limit: Option<u64>,
    /// Rows to pass over first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    start: u64,
    /// Columns to print, in this order; `a.b` is the field `b` in `a`, fields of one column keep theirs
    #[arg(long, value_name = "A,B.C", value_delimiter = ',')]
    columns: Vec<String>,
    /// Print how many rows there are instead; nothing is read for it
    #[arg(long, conflicts_with_all = ["limit", "start", "columns", "output"])]
    count: bool,
    #[command(flatten)]
    output: RowsOutput,
    #[command(flatten)]
    warehouse: Warehouse,
}

impl Args {
    pub(super) fn interrupted_hint(&self) -> String {
        match self.output.path() {
            Some(path) => format!("{ONLY_READS}, and `{}` is as it was", path.display()),
            None => ONLY_READS.to_owned(),
        }
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    args.output.check()?;
    let columns: Vec<&str> = args.columns.iter().map(|column| column.trim()).collect();
    once_each(&columns)?;
    let bigquery = args.warehouse.connect(None).await?;
    let table = bigquery.named(&args.table);
    let document = found(&bigquery, &table).await?;
    has_rows(&table, &document)?;
    if args.count {
        return count(&document, args.output.format());
    }
    let fields = fields(&document.value["schema"])?;
    let fields = match columns.is_empty() {
        true => fields,
        false => selected(&fields, &columns.iter().map(|c| c.split('.').collect()).collect::<Vec<_>>())?,
    };
    let order = order(&fields, &columns);
    let scan = Scan { columns: columns.join(","), start: args.start, limit: args.limit };
    let schema = arrow_schema(&fields);
    let rows = bigquery.table_rows(&table, fields, &scan);
    let in_order = |e| Error::failed("cannot put the columns in order").caused_by(e);
    let schema = std::sync::Arc::new(schema.project(&order).map_err(in_order)?);
    let rows = futures::TryStreamExt::and_then(rows, |batch| {
        std::future::ready(batch.project(&order).map_err(in_order))
    });
    let expected = document.rows().saturating_sub(args.start).min(args.limit.unwrap_or(u64::MAX));
    args.output.write(&schema, rows, expected, global).await?;
    Ok(())
}

fn has_rows(table: &Address, document: &Document) -> Result<()> {
    match document.text("type") {
        kind @ ("VIEW" | "EXTERNAL") => {
            let kind = kind.to_lowercase();
            Err(Error::usage(format!("`{table}` is of type {kind} and has no rows of its own"))
                .hint(format!("query it: `api2bq query 'SELECT * FROM `{table}`'`")))
        }
        _ => Ok(()),
    }
}

fn count(document: &Document, format: Format) -> Result<()> {
    let rows = document.rows();
    if let Some(more) = document.value["streamingBuffer"]["estimatedRows"].as_str() {
        say(&format!("about {more} more are still in the streaming buffer\n"));
    }
    match format {
        Format::Json | Format::Ndjson => output::print(&format!("{}\n", json!({ "rows": rows }))),
        _ => output::print(&format!("{rows}\n")),
    }
}

/// BigQuery gives a column once, however often it is asked for.
fn once_each(columns: &[&str]) -> Result<()> {
    for (index, column) in columns.iter().enumerate() {
        for before in &columns[..index] {
            let (a, b) = (format!("{}.", before.to_lowercase()), format!("{}.", column.to_lowercase()));
            if a == b {
                return Err(Error::usage(format!("column `{column}` is named twice")));
            }
            if a.starts_with(&b) || b.starts_with(&a) {
                return Err(Error::usage(format!("columns `{before}` and `{column}`: one is in the other")));
            }
        }
    }
    Ok(())
}

/// BigQuery answers in the order of the table; this is the order that was asked for.
fn order(fields: &[Field], columns: &[&str]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..fields.len()).collect();
    let place = |index: &usize| {
        let name = fields[*index].name.to_lowercase();
        columns.iter().position(|c| c.split('.').next().is_some_and(|first| first.to_lowercase() == name))
    };
    order.sort_by_key(place);
    order
}
