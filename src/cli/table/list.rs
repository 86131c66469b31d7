//! `api2bq table list`: the tables of a dataset, page by page.

use futures::stream::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::dataset;
use super::text::{instant, left_aligned, number};
use crate::bigquery::{Address, BigQuery};
use crate::cli::connect::Warehouse;
use crate::cli::{Format, output};
use crate::error::{Error, Kind, Result};
use crate::tables;

/// List the tables of a dataset
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Printed as pages of 1,000 arrive. Rows are not in BigQuery's lists: --rows asks for each table,
eight at once; of a view there is no count.

With --format json: a line for each table, BigQuery's own list entry, with numRows and numBytes
for --rows.

Examples:
  api2bq table list LANL
  api2bq table list api2gbq.LANL --rows
  api2bq table list LANL --format json | jq -r .tableReference.tableId")]
pub(super) struct Args {
    /// `dataset`, `project.dataset` or `project:dataset`
    dataset: String,
    /// Rows and bytes too, by a call for each table
    #[arg(long)]
    rows: bool,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Calls at once for `--rows`.
const AT_ONCE: usize = 8;

pub(super) async fn run(args: Args) -> Result<()> {
    let bigquery = args.warehouse.connect(None).await?;
    let (project, dataset) = dataset(&args.dataset)?;
    let project = project.unwrap_or_else(|| bigquery.project().to_owned());
    let mut token = None;
    let mut first = true;
    loop {
        let page = match bigquery.list_tables(&project, &dataset, token.as_deref()).await {
            Err(error) if first && error.kind() == Kind::Usage => {
                return Err(no_dataset(&bigquery, &args.dataset, error).await);
            }
            page => page?,
        };
        let tables: Vec<Value> = match args.rows {
            false => page.tables,
            true => {
                let counted = page.tables.into_iter().map(|table| counted(&bigquery, table));
                futures::stream::iter(counted).buffered(AT_ONCE).try_collect().await?
            }
        };
        match args.format {
            Format::Json => {
                output::print(&tables.iter().map(|table| format!("{table}\n")).collect::<String>())?;
            }
            Format::Text => output::print(&text(&tables, args.rows, first))?,
        }
        first = false;
        token = page.next;
        if token.is_none() {
            return Ok(());
        }
    }
}

/// What was named instead of a dataset, if that is known.
async fn no_dataset(bigquery: &BigQuery, text: &str, error: Error) -> Error {
    let table = text.parse::<Address>().ok();
    let found = match &table {
        Some(table) => bigquery.document(table).await.ok().flatten(),
        None => None,
    };
    match (table, found) {
        (Some(table), Some(_)) => Error::usage(format!("`{text}` is a table")).hint(format!(
            "`api2bq table show {text}` shows it, `api2bq table list {}` lists its dataset",
            table.dataset
        )),
        _ => error.hint("`--project` names another project"),
    }
}

async fn counted(bigquery: &BigQuery, mut listed: Value) -> Result<Value> {
    let part = |name: &str| listed["tableReference"][name].as_str().unwrap_or_default().to_owned();
    let table = Address {
        project: Some(part("projectId")),
        dataset: part("datasetId"),
        table: part("tableId"),
        partition: None,
        at: None,
    };
    // One that was deleted since the list was made has no rows to tell of.
    if let Some(document) = bigquery.document(&table).await? {
        for member in ["numRows", "numBytes"] {
            if let Some(count) = document.value.get(member) {
                listed[member] = count.clone();
            }
        }
    }
    Ok(json!(listed))
}

fn text(tables: &[Value], rows: bool, header: bool) -> String {
    let mut lines = Vec::new();
    if header {
        let mut names = vec!["table", "type", "partitioned", "clustered", "created", "expires"];
        names.extend(rows.then_some(["rows", "bytes"]).into_iter().flatten());
        lines.push(names.into_iter().map(str::to_owned).collect());
    }
    for table in tables {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut line = vec![
            text(&table["tableReference"]["tableId"]),
            text(&table["type"]),
            tables::partitioning(table).unwrap_or_default(),
            tables::clustering(table).join(", "),
            instant(&table["creationTime"]),
            instant(&table["expirationTime"]),
        ];
        if rows {
            line.extend([number(&table["numRows"]), number(&table["numBytes"])]);
        }
        lines.push(line);
    }
    left_aligned(&lines)
}
