//! `api2bq table export`: a table into files of Cloud Storage.

use indicatif::{DecimalBytes, HumanCount};
use serde_json::json;

use super::found;
use crate::bigquery::{Address, BigQuery, Running};
use crate::cli::connect::Warehouse;
use crate::cli::output::counted;
use crate::cli::{Format as OutputFormat, Global, interrupted, output};
use crate::error::{Error, Result};
use crate::export::{Compression, Format, Order, Plan};
use crate::telemetry::{Waiting, say};

/// Export a table into Cloud Storage: CSV, NDJSON, Avro or Parquet, free of charge
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The end of the URI says the format (.csv, .ndjson, .avro, .parquet) and, with .gz, the compression.
More than 1 GB need a `*`, for which BigQuery puts 000000000000 and so on. In NDJSON an INT64 is text.
Bucket, size, format and columns are checked before a job is sent. Ctrl-C cancels it.

With --format json: uri, files, rows, bytesRead.

Examples:
  api2bq table export LANL.flows 'gs://bucket/flows-*.parquet' --compression zstd
  api2bq table export 'LANL.flows_staging$20110101' gs://bucket/day.csv.gz --no-header")]
pub(super) struct Args {
    /// `dataset.table`, also with `$partition` behind it
    table: Address,
    /// `gs://bucket/name-*.csv`
    #[arg(value_name = "DEST_URI")]
    uri: String,
    /// The format [default: as the URI ends]
    #[arg(long = "as", value_enum, value_name = "FORMAT")]
    format_as: Option<FormatArg>,
    /// How files are packed [default: gzip where the URI ends with .gz, else not]
    #[arg(long, value_enum)]
    compression: Option<CompressionArg>,
    /// CSV without a first line of names
    #[arg(long)]
    no_header: bool,
    /// What parts the cells of CSV; `tab` for a tab [default: a comma]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<String>,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    Csv,
    Ndjson,
    Avro,
    Parquet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CompressionArg {
    None,
    Gzip,
    Snappy,
    Deflate,
    Zstd,
}

fn delimiter(text: &str) -> Result<String> {
    let text = if ["tab", r"\t"].contains(&text) { "\t" } else { text };
    match text.chars().count() {
        1 => Ok(text.to_owned()),
        _ => Err(Error::usage("one character parts cells; `tab` is a tab")),
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let bigquery = args.warehouse.connect(None).await?;
    let running = Running::default();
    tokio::select! {
        ended = export(args, &bigquery, &running, global) => ended,
        () = interrupted() => Err(running.interrupted().await),
    }
}

async fn export(args: Args, bigquery: &BigQuery, running: &Running, global: &Global) -> Result<()> {
    let table = bigquery.named(&args.table);
    let document = found(bigquery, &table).await?;
    let bigquery = bigquery.at(document.text("location"));
    let uri = args.uri.clone();
    let order = Order {
        table,
        uri: args.uri,
        format: args.format_as.map(|format| match format {
            FormatArg::Csv => Format::Csv,
            FormatArg::Ndjson => Format::Ndjson,
            FormatArg::Avro => Format::Avro,
            FormatArg::Parquet => Format::Parquet,
        }),
        compression: args.compression.map(|compression| match compression {
            CompressionArg::None => Compression::None,
            CompressionArg::Gzip => Compression::Gzip,
            CompressionArg::Snappy => Compression::Snappy,
            CompressionArg::Deflate => Compression::Deflate,
            CompressionArg::Zstd => Compression::Zstd,
        }),
        has_header: !args.no_header,
        delimiter: args.delimiter,
    };
    let plan = Plan::new(&bigquery, order, &document).await?;
    for warning in plan.warnings.iter().filter(|_| !global.quiet) {
        say(&format!("warning: {warning}\n"));
    }
    let rows = HumanCount(plan.rows);
    let extracted = {
        let _waiting = Waiting::new(global.show(), &format!("{rows} rows on their way to `{uri}`"));
        plan.run(&bigquery, running).await?
    };
    match args.format {
        OutputFormat::Json => output::print(&output::json(&json!({
            "uri": uri,
            "files": extracted.files,
            "rows": plan.rows,
            "bytesRead": extracted.bytes_read,
        }))?),
        OutputFormat::Text => {
            let files = counted(extracted.files, "file");
            let bytes = DecimalBytes(document.bytes());
            let rows = counted(plan.rows, "row");
            output::print(&format!(
                "{rows}, {bytes} in BigQuery, as {files}: {}\n",
                names(&uri, extracted.files)
            ))
        }
    }
}

/// The files by their names: BigQuery puts twelve digits for the `*`, and counts from zero.
fn names(uri: &str, files: u64) -> String {
    let name = |number: u64| format!("`{}`", uri.replace('*', &format!("{number:012}")));
    match files {
        0 => format!("`{uri}`"),
        1 => name(0),
        files => format!("{} to {}", name(0), name(files - 1)),
    }
}
