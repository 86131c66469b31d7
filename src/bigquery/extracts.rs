//! Extract jobs: a table into files of Cloud Storage; and what is known of the bucket before that.

use reqwest::Method;
use serde_json::{Value, json};

use super::address::Address;
use super::jobs::{Ended, JobFailure};
use super::running::Running;
use super::tables::segments;
use super::wire::Ask;
use super::{BigQuery, GOOGLE};
use crate::error::Result;
use crate::location::emulator_url;

const STORAGE: &str = "https://storage.googleapis.com";

/// A table or partition into files.
#[derive(Debug, Clone)]
pub struct ExtractJob<'a> {
    pub id: &'a str,
    pub table: &'a Address,
    pub uri: &'a str,
    /// CSV, NEWLINE_DELIMITED_JSON, AVRO or PARQUET.
    pub format: &'a str,
    pub compression: &'a str,
    /// Of CSV.
    pub has_header: bool,
    pub delimiter: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    pub files: u64,
    pub bytes_read: u64,
}

/// What Cloud Storage says of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bucket {
    There {
        location: String,
    },
    /// There is none of this name; the project has these.
    Missing {
        others: Vec<String>,
    },
    /// The account may not look at it, and may be allowed to write all the same.
    Unknown(String),
}

impl BigQuery {
    pub async fn extract(
        &self,
        job: &ExtractJob<'_>,
        running: &Running,
    ) -> Result<Result<Extracted, JobFailure>> {
        let table = self.named(job.table);
        let mut extract = json!({
            "sourceTable": {
                "projectId": table.project,
                "datasetId": table.dataset,
                "tableId": format!("{}{}", table.table, table.decorator()),
            },
            "destinationUris": [job.uri],
            "destinationFormat": job.format,
            "compression": job.compression,
        });
        match job.format {
            "CSV" => {
                extract["printHeader"] = job.has_header.into();
                extract["fieldDelimiter"] = job.delimiter.into();
            }
            // Without it a DATE is a number of days that nothing names as such.
            "AVRO" => extract["useAvroLogicalTypes"] = true.into(),
            _ => {}
        }
        let configuration = json!({ "extract": extract });
        let ended = self.run_job(job.id, configuration, &["extract", "destinationUris"], running).await?;
        Ok(ended.map(|Ended { job, .. }| {
            let extract = &job["statistics"]["extract"];
            let number = |value: &Value| value.as_str().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            let files = extract["destinationUriFileCounts"].as_array().map(Vec::as_slice).unwrap_or_default();
            Extracted { files: files.iter().map(number).sum(), bytes_read: number(&extract["inputBytes"]) }
        }))
    }

    /// Looks at a bucket with the credentials at hand, which are those for BigQuery.
    pub async fn bucket(&self, name: &str) -> Result<Bucket> {
        let host = match emulator_url("STORAGE_EMULATOR_HOST") {
            Some(host) => host,
            // An emulator's buckets are not at Google's.
            None if !self.base.starts_with(GOOGLE) => {
                return Ok(Bucket::Unknown("STORAGE_EMULATOR_HOST is not set".into()));
            }
            None => STORAGE.to_owned(),
        };
        let storage = BigQuery { base: format!("{host}/storage/v1"), ..self.clone() };
        let path = segments(&["b", name]);
        match storage.ask("bucket", &Ask::get(&path)).await? {
            Ok(answer) => {
                let location = answer.document["location"].as_str().unwrap_or_default().to_owned();
                Ok(Bucket::There { location })
            }
            Err(refusal) if refusal.status == 404 => Ok(Bucket::Missing { others: storage.buckets().await? }),
            Err(refusal) => Ok(Bucket::Unknown(refusal.message)),
        }
    }

    /// Names of the project's buckets, as far as they may be listed.
    async fn buckets(&self) -> Result<Vec<String>> {
        let query = [("project", self.project()), ("maxResults", "1000"), ("fields", "items/name")];
        let listed = self.call_until_answered("buckets", Method::GET, "b", &query, None).await?;
        let Ok(listed) = listed else { return Ok(Vec::new()) };
        let buckets = listed["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(buckets.iter().filter_map(|bucket| bucket["name"].as_str().map(str::to_owned)).collect())
    }
}

/// Bucket and object of a `gs://` URI.
pub fn bucket_and_object(uri: &str) -> Option<(&str, &str)> {
    let (bucket, object) = uri.strip_prefix("gs://")?.split_once('/')?;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let is_bucket = !bucket.is_empty() && bucket.chars().all(legal);
    (is_bucket && !object.is_empty()).then_some((bucket, object))
}
