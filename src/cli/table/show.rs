//! `api2bq table show`: what a table is, its columns and its partitions.

use indicatif::{DecimalBytes, HumanCount};
use serde_json::{Value, json};

use super::found;
use super::text::{instant, left_aligned, number, plain, table_name};
use crate::bigquery::{Address, BigQuery, Document};
use crate::cli::connect::Warehouse;
use crate::cli::{Format, output};
use crate::error::Result;
use crate::tables;
use crate::telemetry::say;

/// Show a table: its columns, its partitions with rows and bytes, its times and labels
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Partitions come from INFORMATION_SCHEMA.PARTITIONS: a query, which BigQuery charges with its
minimum of 10 MiB. Where it may not be asked the rest is shown, and that is said on stderr. With
`$20240131` behind the name, rows and bytes are those of that partition; with `@` and
milliseconds the table is shown as it was.

With --format json: table (BigQuery's own document) and partitions (partition_id, total_rows,
total_logical_bytes, last_modified_time), all of them, the newest first.

Examples:
  api2bq table show LANL.flows_staging
  api2bq table show 'LANL.flows_staging$20110101' --partitions 0
  api2bq table show LANL.flows --format json | jq .table.schema.fields")]
pub(super) struct Args {
    /// `dataset.table`, `project.dataset.table` or `project:dataset.table`
    table: Address,
    /// Partitions to list, the newest first; 0 asks for none
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true)]
    partitions: usize,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let bigquery = args.warehouse.connect(None).await?;
    let table = bigquery.named(&args.table);
    let document = found(&bigquery, &table).await?;
    let is_partitioned = tables::partitioning(&document.value).is_some();
    let partitions = match is_partitioned && args.partitions > 0 && table.decorator().is_empty() {
        true => partitions(&bigquery, &table, &document).await,
        false => Vec::new(),
    };
    match args.format {
        Format::Json => {
            output::print(&output::json(&json!({ "table": document.value, "partitions": partitions }))?)
        }
        Format::Text => output::print(&text(&table, &document, &partitions, args.partitions)),
    }
}

/// What cannot be had is said, and does not hide the rest.
async fn partitions(bigquery: &BigQuery, table: &Address, document: &Document) -> Vec<Value> {
    match bigquery.at(document.text("location")).partitions(table).await {
        Ok(partitions) => partitions,
        Err(error) => {
            say(&format!("partitions are not shown: {error}\n"));
            if let Some(hint) = error.hint_text() {
                say(&format!("hint: {hint}\n"));
            }
            Vec::new()
        }
    }
}

fn text(table: &Address, document: &Document, partitions: &[Value], shown: usize) -> String {
    let whole = Address { partition: None, at: None, ..table.clone() };
    let value = &document.value;
    let mut facts = vec![("type", document.text("type").to_owned())];
    facts.extend(origin(value).map(|(name, text)| (name, plain(&text))));
    if document.number("numRows").is_some() {
        facts.push(("rows", HumanCount(document.rows()).to_string()));
        let bytes = document.bytes();
        facts.push(("size", format!("{} ({} bytes)", DecimalBytes(bytes), HumanCount(bytes))));
    }
    if let Some(buffer) = value.get("streamingBuffer") {
        let rows = number(&buffer["estimatedRows"]);
        facts.push(("streaming", format!("about {rows} rows are still in the streaming buffer")));
    }
    if let Some(partitioning) = tables::partitioning(value) {
        let filter = if value["requirePartitionFilter"] == true { ", a filter is required" } else { "" };
        facts.push(("partitioned", format!("{partitioning}{filter}")));
    }
    if let Some(ms) = value["timePartitioning"]["expirationMs"].as_str().and_then(|ms| ms.parse().ok()) {
        facts.push(("partitions expire", format!("after {}", tables::duration_words(ms))));
    }
    if !tables::clustering(value).is_empty() {
        facts.push(("clustered", format!("by {}", tables::clustering(value).join(", "))));
    }
    facts.push(("location", document.text("location").to_owned()));
    facts.push(("created", instant(&value["creationTime"])));
    facts.push(("modified", instant(&value["lastModifiedTime"])));
    facts.push((
        "expires",
        Some(instant(&value["expirationTime"])).filter(|t| !t.is_empty()).unwrap_or("never".into()),
    ));
    for (name, label) in value["labels"].as_object().into_iter().flatten() {
        facts.push(("label", plain(&format!("{name}={}", label.as_str().unwrap_or_default()))));
    }
    if !document.text("description").is_empty() {
        facts.push(("description", plain(document.text("description"))));
    }
    facts.push(("etag", plain(document.etag())));
    facts.push(("access", format!("`api2bq table iam get {}`", table_name(&whole))));
    let lines: Vec<_> = facts.into_iter().map(|(name, fact)| vec![name.to_owned(), fact]).collect();
    let mut text = format!("{table}\n{}", left_aligned(&lines));

    let mut columns = Vec::new();
    add_columns(&value["schema"]["fields"], 0, &mut columns);
    if !columns.is_empty() {
        text += &format!("\ncolumns\n{}", left_aligned(&columns));
    }
    if !partitions.is_empty() {
        text += &format!("\n{} partitions\n", HumanCount(partitions.len() as u64));
        let mut lines = vec![["partition", "rows", "bytes", "modified"].map(str::to_owned).to_vec()];
        lines.extend(partitions.iter().take(shown).map(|partition| {
            let modified = partition["last_modified_time"].as_str().and_then(|us| us.parse::<i64>().ok());
            vec![
                partition["partition_id"].as_str().unwrap_or_default().to_owned(),
                number(&partition["total_rows"]),
                number(&partition["total_logical_bytes"]),
                modified.and_then(|us| tables::time_words(us / 1000)).unwrap_or_default(),
            ]
        }));
        text += &output::aligned(&lines);
        if partitions.len() > shown {
            text += &format!("and {} more: `--partitions {}`\n", partitions.len() - shown, partitions.len());
        }
    }
    text
}

/// What a view asks, or what a snapshot or clone was made of.
fn origin(value: &Value) -> Option<(&'static str, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    for view in ["view", "materializedView"] {
        if let Some(sql) = text(&value[view]["query"]) {
            return Some(("query", sql));
        }
    }
    for (made, name, time) in
        [("snapshotDefinition", "snapshot of", "snapshotTime"), ("cloneDefinition", "clone of", "cloneTime")]
    {
        let base = &value[made]["baseTableReference"];
        if let Some(table) = text(&base["tableId"]) {
            let part = |member: &str| text(&base[member]).unwrap_or_default();
            let at = text(&value[made][time]).unwrap_or_default();
            return Some((name, format!("{}.{}.{table} at {at}", part("projectId"), part("datasetId"))));
        }
    }
    None
}

/// A line for each column; those of a STRUCT are indented below it.
fn add_columns(fields: &Value, depth: usize, lines: &mut Vec<Vec<String>>) {
    for field in fields.as_array().into_iter().flatten() {
        let text = |member: &str| field[member].as_str().unwrap_or_default();
        let mode = Some(text("mode")).filter(|mode| !mode.is_empty()).unwrap_or("NULLABLE");
        lines.push(vec![
            format!("{}{}", "  ".repeat(depth + 1), plain(text("name"))),
            tables::full_type_name(field),
            mode.to_owned(),
            plain(text("description")),
        ]);
        add_columns(&field["fields"], depth + 1, lines);
    }
}
