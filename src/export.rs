//! A table into files of Cloud Storage, with what can be wrong said before a job is sent.

use serde_json::Value;

use crate::bigquery::{
    Address, BigQuery, Bucket, Document, ExtractJob, Extracted, JobFailure, Need, Running, bucket_and_object,
};
use crate::error::{Error, Result};

/// BigQuery writes no more into one file.
const FILE_BYTES_MAX: u64 = 1_000_000_000;
/// Names that are as near as this are taken for a slip of the finger.
const SIMILARITY_MIN: f64 = 0.7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Ndjson,
    Avro,
    Parquet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Deflate,
    Zstd,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Csv => "CSV",
            Format::Ndjson => "NEWLINE_DELIMITED_JSON",
            Format::Avro => "AVRO",
            Format::Parquet => "PARQUET",
        }
    }

    /// What BigQuery can compress it with.
    fn compressions(self) -> &'static [Compression] {
        use Compression::{Deflate, Gzip, None, Snappy, Zstd};
        match self {
            Format::Csv | Format::Ndjson => &[None, Gzip],
            Format::Avro => &[None, Deflate, Snappy],
            Format::Parquet => &[None, Snappy, Gzip, Zstd],
        }
    }
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::None => "NONE",
            Compression::Gzip => "GZIP",
            Compression::Snappy => "SNAPPY",
            Compression::Deflate => "DEFLATE",
            Compression::Zstd => "ZSTD",
        }
    }
}

/// An export as it was asked for.
#[derive(Debug, Clone)]
pub struct Order {
    pub table: Address,
    pub uri: String,
    /// As the URI ends, where nothing is said.
    pub format: Option<Format>,
    pub compression: Option<Compression>,
    /// Of CSV, as the next one.
    pub has_header: bool,
    /// `None`: a comma.
    pub delimiter: Option<String>,
}

/// An order that BigQuery can do, as far as one can know.
#[derive(Debug, Clone)]
pub struct Plan {
    order: Order,
    format: Format,
    compression: Compression,
    /// By the table's metadata.
    pub rows: u64,
    /// What a person should know before it starts.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Checks the order against the table and the bucket.
    pub async fn new(bigquery: &BigQuery, order: Order, table: &Document) -> Result<Plan> {
        let (bucket, object) = bucket_and_object(&order.uri).ok_or_else(|| {
            Error::usage(format!("`{}` is no place in Cloud Storage", order.uri))
                .hint("write `gs://bucket/folder/name-*.csv`")
        })?;
        let by_name = of_name(object);
        let format = order.format.or(by_name.0).ok_or_else(|| {
            Error::usage(format!("`{}` does not say which format is meant", order.uri))
                .hint("end it with `.csv`, `.ndjson`, `.avro` or `.parquet` (and `.gz`), or give `--as`")
        })?;
        check_flags(&order, format, by_name.1)?;
        let compression = order.compression.or(by_name.1).unwrap_or(Compression::None);
        if !format.compressions().contains(&compression) {
            let names: Vec<_> = format.compressions().iter().map(|c| c.name().to_lowercase()).collect();
            return Err(Error::usage(format!(
                "BigQuery writes no {} with {}",
                format.name(),
                compression.name()
            ))
            .hint(format!("`--compression` takes {} here", names.join(", "))));
        }
        check_table(&order.table, table, format)?;
        check_size(&order.uri, object, table.bytes())?;
        let warnings = check_bucket(bigquery, bucket, table.text("location")).await?;
        Ok(Plan { rows: table.rows(), order, format, compression, warnings })
    }

    /// Runs the job to its end.
    pub async fn run(&self, bigquery: &BigQuery, running: &Running) -> Result<Extracted> {
        let id = format!("api2bq_export_{:016x}", fastrand::u64(..));
        let job = ExtractJob {
            id: &id,
            table: &self.order.table,
            uri: &self.order.uri,
            format: self.format.name(),
            compression: self.compression.name(),
            has_header: self.order.has_header,
            delimiter: self.order.delimiter.as_deref().unwrap_or(","),
        };
        let ended = bigquery.extract(&job, running).await?;
        ended.map_err(|JobFailure { reason, message, .. }| {
            let error = Error::failed(format!("export failed: {reason}: {message}"));
            match reason.as_str() {
                "accessDenied" => error.hint(format!(
                    "{}; and the bucket must let it create objects (Storage Object Creator)",
                    Need::EXPORT.hint()
                )),
                _ => error,
            }
        })
    }
}

/// Format and compression that the end of an object's name stands for.
fn of_name(object: &str) -> (Option<Format>, Option<Compression>) {
    let lower = object.to_lowercase();
    let (name, compression) = match lower.strip_suffix(".gz") {
        Some(name) => (name, Some(Compression::Gzip)),
        None => (lower.as_str(), None),
    };
    let format = match name.rsplit_once('.').map(|(_, end)| end) {
        Some("csv" | "tsv" | "txt") => Some(Format::Csv),
        Some("ndjson" | "jsonl" | "json") => Some(Format::Ndjson),
        Some("avro") => Some(Format::Avro),
        Some("parquet") => Some(Format::Parquet),
        _ => None,
    };
    (format, compression)
}

/// What would be passed over in silence is refused.
fn check_flags(order: &Order, format: Format, of_name: Option<Compression>) -> Result<()> {
    let of_csv = [("--no-header", !order.has_header), ("--delimiter", order.delimiter.is_some())];
    if let Some((flag, _)) = of_csv.iter().find(|(_, is_given)| *is_given && format != Format::Csv) {
        return Err(Error::usage(format!("`{flag}` is for CSV, and `{}` is {}", order.uri, format.name())));
    }
    match (of_name, order.compression) {
        (Some(by_name), Some(asked)) if by_name != asked => {
            let asked = asked.name().to_lowercase();
            Err(Error::usage(format!(
                "`{}` ends in .gz, and `--compression {asked}` is something else",
                order.uri
            ))
            .hint("leave one of them out"))
        }
        _ => Ok(()),
    }
}

fn check_table(name: &Address, table: &Document, format: Format) -> Result<()> {
    if let kind @ ("VIEW" | "EXTERNAL" | "MATERIALIZED_VIEW") = table.text("type") {
        return Err(Error::usage(format!("`{name}` is of type {kind}, and only tables are exported"))
            .hint("write it into a table first: `api2bq query 'SELECT …' --destination TABLE`"));
    }
    let fields = table.value["schema"]["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let nested = |field: &&Value| field["mode"] == "REPEATED" || field["fields"].is_array();
    match fields.iter().find(nested) {
        Some(field) if format == Format::Csv => {
            let column = field["name"].as_str().unwrap_or_default();
            Err(Error::usage(format!("CSV has no place for `{column}`, which is nested or repeated"))
                .hint("export as ndjson, avro or parquet"))
        }
        _ => Ok(()),
    }
}

/// One `*` lets BigQuery write as many files as it needs.
fn check_size(uri: &str, object: &str, bytes: u64) -> Result<()> {
    match object.matches('*').count() {
        0 if bytes > FILE_BYTES_MAX => {
            let name = object.rsplit('/').next().unwrap_or(object);
            let folder = uri.strip_suffix(name).unwrap_or(uri);
            let (stem, end) = name.split_at(name.find('.').unwrap_or(name.len()));
            Err(Error::usage(format!(
                "the table has {bytes} bytes, and one file takes {FILE_BYTES_MAX} at most"
            ))
            .hint(format!("let BigQuery write several files: `{folder}{stem}-*{end}`")))
        }
        0 | 1 => Ok(()),
        _ => Err(Error::usage(format!("`{uri}` has more than one `*`"))),
    }
}

async fn check_bucket(bigquery: &BigQuery, bucket: &str, table_location: &str) -> Result<Vec<String>> {
    Ok(match bigquery.bucket(bucket).await? {
        Bucket::There { location } => {
            // A table in the multi-region US may be exported into any bucket.
            let is_near = location.eq_ignore_ascii_case(table_location)
                || table_location.eq_ignore_ascii_case("US")
                || table_location.is_empty();
            if is_near {
                Vec::new()
            } else {
                vec![format!(
                    "bucket `{bucket}` is in {location}, the table in {table_location}: BigQuery may refuse that"
                )]
            }
        }
        Bucket::Missing { others } => {
            let near = |name: &&String| strsim::jaro_winkler(name, bucket) >= SIMILARITY_MIN;
            let mut near: Vec<_> = others.iter().filter(near).collect();
            near.sort_by(|a, b| strsim::jaro_winkler(b, bucket).total_cmp(&strsim::jaro_winkler(a, bucket)));
            let error = Error::usage(format!("there is no bucket `{bucket}`"));
            return Err(match near.first() {
                Some(name) => error.hint(format!("did you mean `gs://{name}/…`?")),
                None => error.hint("a bucket's name stands between `gs://` and the next `/`"),
            });
        }
        Bucket::Unknown(why) => {
            vec![format!("whether bucket `{bucket}` is there and where is not known: {why}")]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_says_format_and_compression() {
        for (name, expected) in [
            ("a/b.csv", (Some(Format::Csv), None)),
            ("b-*.NDJSON.gz", (Some(Format::Ndjson), Some(Compression::Gzip))),
            ("b.parquet", (Some(Format::Parquet), None)),
            ("b", (None, None)),
            ("a.d/b", (None, None)),
        ] {
            assert_eq!(of_name(name), expected, "{name}");
        }
    }

    #[test]
    fn a_large_table_needs_a_star_and_is_told_where() {
        let hint = |uri: &str, object: &str| {
            let error = check_size(uri, object, FILE_BYTES_MAX + 1).expect_err("too large");
            error.hint_text().unwrap_or_default().to_owned()
        };
        assert!(hint("gs://b/x/flows.csv.gz", "x/flows.csv.gz").ends_with("`gs://b/x/flows-*.csv.gz`"));
        assert!(hint("gs://b/flows", "flows").ends_with("`gs://b/flows-*`"));
        assert!(check_size("gs://b/flows-*.csv", "flows-*.csv", u64::MAX).is_ok());
        assert!(check_size("gs://b/flows.csv", "flows.csv", FILE_BYTES_MAX).is_ok());
        assert!(check_size("gs://b/*-*.csv", "*-*.csv", 1).is_err());
    }

    #[test]
    fn places_in_cloud_storage_have_a_bucket_and_an_object() {
        assert_eq!(bucket_and_object("gs://b-1/x/y.csv"), Some(("b-1", "x/y.csv")));
        for wrong in ["s3://b/x", "gs://b", "gs://b/", "gs:///x", "/tmp/x.csv", "gs://u@b/x", "gs://*/x"] {
            assert_eq!(bucket_and_object(wrong), None, "{wrong}");
        }
    }
}
