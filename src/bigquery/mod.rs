//! BigQuery over REST: the only door to gcp-bigquery-client.
//!
//! The crate supplies the documents, the authenticator's shape and the calls for datasets and
//! tables. Jobs go through [`wire`] beside it: the crate loses the HTTP status of an answer that
//! is not JSON, and with it the difference between weather and a refusal.

mod access;
mod address;
mod auth;
mod catalog;
mod cells;
mod decode;
mod extracts;
mod fields;
mod iam;
mod inserts;
mod jobs;
mod names;
mod pages;
mod partitions;
mod past;
mod queries;
mod rows;
mod running;
mod tables;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gcp_bigquery_client::Client;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::client_builder::ClientBuilder;

use crate::effects::{Door, Effects};
use crate::error::{Error, Result};
use crate::location::{emulator_url, redacted};
use crate::retry::{Policy, Tries};

pub use access::Need;
pub use address::Address;
pub use catalog::{Change, Document, Listed, Removal};
pub use extracts::{Bucket, ExtractJob, Extracted, bucket_and_object};
pub use fields::{Field, FieldKind, arrow_schema, fields, selected};
pub use inserts::{Insert, InsertRow, RowError};
pub use jobs::{CopyJob, Done, JobFailure, JobResult, LoadJob, QueryJob};
pub use names::{TableId, load_job_id};
pub use pages::Scan;
pub use past::{Then, in_utc};
pub use queries::{Answered, DryRun, Parameter, Query, Write};
pub use rows::{Cell, Rows};
pub use running::Running;
pub use tables::{FieldInfo, TableInfo};

const GOOGLE: &str = "https://bigquery.googleapis.com";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No single REST call takes longer; jobs are polled.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    pub project: String,
    /// Where jobs run, or empty: the service then finds out where their tables are.
    pub location: String,
    pub poll_max: Duration,
    pub retry: Policy,
    pub effects: Effects,
    /// Base URL instead of BIGQUERY_EMULATOR_HOST or Google's own; for servers in this process.
    pub emulator: Option<String>,
}

/// A connection to one project. Cheap to clone.
#[derive(Clone)]
pub struct BigQuery {
    client: Client,
    http: reqwest::Client,
    credentials: Arc<dyn Authenticator>,
    base: String,
    /// By whatever is at `base`, once; all clones know.
    was_answered: Arc<AtomicBool>,
    options: Options,
}

impl std::fmt::Debug for BigQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BigQuery {{ base: {:?}, project: {:?} }}", redacted(&self.base), self.options.project)
    }
}

impl BigQuery {
    /// Connects to the emulator where one is named, else to Google with its default credentials.
    pub async fn connect(options: Options) -> Result<BigQuery> {
        let emulator = options.emulator.clone().or_else(|| emulator_url("BIGQUERY_EMULATOR_HOST"));
        let credentials = match &emulator {
            Some(_) => auth::none(),
            None => auth::application_default().await?,
        };
        let host = emulator.clone().unwrap_or_else(|| GOOGLE.to_owned());
        let base = match host.strip_suffix("/bigquery/v2") {
            Some(_) => host,
            None => format!("{host}/bigquery/v2"),
        };
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("api2bq/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if emulator.is_some() {
            http = http.no_proxy();
        }
        let failed =
            |e: &dyn std::fmt::Display| Error::failed(format!("cannot set up the BigQuery client: {e}"));
        let http = http.build().map_err(|e| failed(&e))?;
        let client = ClientBuilder::new()
            .with_v2_base_url(base.clone())
            .with_client(http.clone())
            .build_from_authenticator(Arc::clone(&credentials))
            .await
            .map_err(|e| failed(&e))?;
        Ok(BigQuery { client, http, credentials, base, was_answered: Arc::default(), options })
    }

    /// Where the service is, for messages.
    pub fn url(&self) -> &str {
        &self.base
    }

    pub fn project(&self) -> &str {
        &self.options.project
    }

    /// Where jobs run; unnamed, the service finds out where their tables are.
    pub fn location(&self) -> Option<&str> {
        Some(self.options.location.as_str()).filter(|location| !location.is_empty())
    }

    /// Starts counting the attempts at `what`.
    fn tries(&self, what: &str) -> Tries {
        self.options.retry.tries(&self.options.effects, Door::BigQuery, what)
    }
}
