//! Load and query jobs with ids of our own: inserted once however often they are sent, then polled.

use std::time::Duration;

use gcp_bigquery_client::model::dataset_reference::DatasetReference;
use gcp_bigquery_client::model::job_configuration::JobConfiguration;
use gcp_bigquery_client::model::job_configuration_load::JobConfigurationLoad;
use gcp_bigquery_client::model::job_configuration_query::JobConfigurationQuery;
use gcp_bigquery_client::model::job_configuration_table_copy::JobConfigurationTableCopy;
use gcp_bigquery_client::model::query_parameter::QueryParameter;
use gcp_bigquery_client::model::query_parameter_type::QueryParameterType;
use gcp_bigquery_client::model::query_parameter_value::QueryParameterValue;
use reqwest::Method;
use serde_json::{Value, json};

use super::BigQuery;
use super::address::Address;
use super::names::TableId;
use super::queries::Write;
use super::running::Running;
use super::tables::table_schema;
use crate::error::{Error, Kind, Result};
use crate::schema::Columns;

/// Brings the rows of Parquet files into one partition.
#[derive(Debug)]
pub struct LoadJob<'a> {
    pub id: &'a str,
    pub destination: &'a TableId,
    pub columns: &'a Columns,
    pub source_uris: Vec<String>,
    pub write: Write,
}

/// Replaces a table by the rows of a query.
#[derive(Debug)]
pub struct QueryJob<'a> {
    pub id: &'a str,
    pub sql: &'a str,
    /// Bare table names mean tables of this dataset.
    pub dataset: &'a str,
    pub destination: &'a TableId,
    /// Named TIMESTAMP parameters.
    pub timestamps: Vec<(&'a str, String)>,
}

/// Puts the rows of tables into one table.
#[derive(Debug)]
pub struct CopyJob<'a> {
    pub id: &'a str,
    pub sources: &'a [Address],
    pub destination: &'a Address,
    pub write: Write,
}

/// A job that ended well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    pub output_rows: u64,
    /// Of a copy job, where the service says.
    pub copied_rows: Option<u64>,
    pub output_bytes: u64,
    pub bytes_processed: u64,
    /// When it ended, in milliseconds by the service's clock.
    pub ended_ms: u64,
    /// The job was there before this call: an earlier attempt or another run sent it.
    pub adopted: bool,
}

/// A job that ended badly. Its id can never be used again.
#[derive(Debug, Clone)]
pub struct JobFailure {
    pub reason: String,
    pub message: String,
    /// The same content may succeed under a new id: the service had a bad moment.
    pub transient: bool,
    /// The failure is an old one: the job was there before this call.
    pub found: bool,
}

/// The document of a job that ended well.
pub(super) struct Ended {
    pub(super) job: Value,
    pub(super) adopted: bool,
}

pub type JobResult = Result<Done, JobFailure>;

impl BigQuery {
    /// Runs a load job to its end, whether this call started it or an earlier one did.
    pub async fn load(&self, load: &LoadJob<'_>) -> Result<JobResult> {
        let configuration = JobConfigurationLoad {
            destination_table: Some(load.destination.reference()),
            schema: Some(table_schema(load.columns)),
            source_uris: Some(load.source_uris.clone()),
            source_format: Some("PARQUET".into()),
            create_disposition: Some("CREATE_NEVER".into()),
            write_disposition: Some(load.write.disposition().into()),
            ..Default::default()
        };
        let configuration = JobConfiguration { load: Some(configuration), ..Default::default() };
        self.run(load.id, configuration, &["load", "destinationTable"]).await
    }

    /// Runs a query job with a destination to its end, as [`BigQuery::load`] does.
    pub async fn query_into(&self, query: &QueryJob<'_>) -> Result<JobResult> {
        let parameter = |(name, value): &(&str, String)| QueryParameter {
            name: Some((*name).to_owned()),
            parameter_type: Some(QueryParameterType { r#type: "TIMESTAMP".into(), ..Default::default() }),
            parameter_value: Some(QueryParameterValue { value: Some(value.clone()), ..Default::default() }),
        };
        let configuration = JobConfigurationQuery {
            query: query.sql.to_owned(),
            use_legacy_sql: Some(false),
            default_dataset: Some(DatasetReference {
                dataset_id: query.dataset.to_owned(),
                project_id: self.project().to_owned(),
            }),
            destination_table: Some(query.destination.reference()),
            create_disposition: Some("CREATE_IF_NEEDED".into()),
            write_disposition: Some("WRITE_TRUNCATE".into()),
            parameter_mode: Some("NAMED".into()),
            query_parameters: Some(query.timestamps.iter().map(parameter).collect()),
            ..Default::default()
        };
        let configuration = JobConfiguration { query: Some(configuration), ..Default::default() };
        self.run(query.id, configuration, &["query", "destinationTable"]).await
    }

    /// Runs a copy job to its end, as [`BigQuery::load`] does.
    pub async fn copy(&self, copy: &CopyJob<'_>) -> Result<JobResult> {
        let configuration = JobConfigurationTableCopy {
            source_tables: Some(copy.sources.iter().map(|source| self.reference(source)).collect()),
            destination_table: Some(self.reference(copy.destination)),
            create_disposition: Some("CREATE_IF_NEEDED".into()),
            write_disposition: Some(copy.write.disposition().into()),
            ..Default::default()
        };
        let configuration = JobConfiguration { copy: Some(configuration), ..Default::default() };
        self.run(copy.id, configuration, &["copy", "destinationTable"]).await
    }

    async fn run(&self, id: &str, configuration: JobConfiguration, identity: &[&str]) -> Result<JobResult> {
        let configuration = serde_json::to_value(&configuration)
            .map_err(|e| Error::failed("cannot write a job document").caused_by(e))?;
        Ok(match self.run_job(id, configuration, identity, &Running::default()).await? {
            Ok(Ended { job, adopted }) => Ok(Done { adopted, ..done(&job) }),
            Err(failure) => Err(failure),
        })
    }

    /// Inserts and polls. `identity` leads to the part of the configuration that an adopted job must
    /// share; that its content is ours too is in the id. Source files may be others with the same rows.
    /// As long as it runs, `running` can cancel it.
    pub(super) async fn run_job(
        &self,
        id: &str,
        configuration: Value,
        identity: &[&str],
        running: &Running,
    ) -> Result<Result<Ended, JobFailure>> {
        running.during(self, id, self.insert_and_poll(id, configuration, identity, running)).await
    }

    async fn insert_and_poll(
        &self,
        id: &str,
        configuration: Value,
        identity: &[&str],
        running: &Running,
    ) -> Result<Result<Ended, JobFailure>> {
        let mut reference = json!({ "jobId": id, "projectId": self.project() });
        if let Some(location) = self.location() {
            reference["location"] = location.into();
        }
        let document = json!({ "configuration": configuration, "jobReference": reference });
        let what = format!("job `{id}`");
        // Every answer but a plain refusal leads to the same question: is the job there? A lost
        // answer may mean it is, a 409 says so without saying how it ended, and one that cannot be
        // found later has to be sent again, under the same id.
        let mut tries = self.tries(&what);
        let mut adopted = false;
        let job = 'sent: loop {
            let mut job = match self.insert_or_find(id, &what, &document).await {
                Ok(Ok((job, found))) => {
                    adopted |= found;
                    job
                }
                Ok(Err(failure)) => return Ok(Err(failure)),
                Err(error) => {
                    tries.wait_or(error).await?;
                    continue;
                }
            };
            // A job outside of the US and the EU is found only where it runs, which its answer says.
            let there = match job["jobReference"]["location"].as_str() {
                Some(location) => self.at(location),
                None => self.clone(),
            };
            running.is_at(&there);
            let mut wait = Duration::from_millis(20);
            loop {
                if job["status"]["state"] == "DONE" {
                    break 'sent job;
                }
                self.options.effects.sleep(wait).await;
                // An eighth of a job's time at most is waited for nothing, and a second takes 17 of the 100
                // calls that the service allows.
                wait = (wait * 9 / 8).min(self.options.poll_max);
                match there.get_job(id, &what).await? {
                    Some(looked_up) => job = looked_up,
                    None => {
                        let vanished = Error::failed(format!("{what} was there and cannot be found"));
                        tries.wait_or(vanished.retryable()).await?;
                        continue 'sent;
                    }
                }
            }
        };
        if adopted {
            let part =
                |job: &Value| identity.iter().fold(job["configuration"].clone(), |v, key| v[*key].clone());
            if part(&job) != part(&document) {
                return Err(Error::new(Kind::Fenced, format!("{what} is there with another configuration"))
                    .hint("another program uses this id; start over with `--new-run`"));
            }
        }
        Ok(match failure(&job) {
            Some(failure) => Err(JobFailure { found: adopted, ..failure }),
            None => Ok(Ended { job, adopted }),
        })
    }

    /// Sends the job, or finds that it is there. The flag says which.
    async fn insert_or_find(
        &self,
        id: &str,
        what: &str,
        document: &Value,
    ) -> Result<Result<(Value, bool), JobFailure>> {
        let path = format!("projects/{}/jobs", self.project());
        let refusal = match self.call(Method::POST, &path, &[], Some(document)).await? {
            Ok(job) => return Ok(Ok((job, false))),
            Err(refusal) => refusal,
        };
        if refusal.status != 409 && !refusal.is_retryable() {
            if refusal.status == 400 || refusal.status == 404 {
                // The request itself is refused: no job was made, and none will be by sending it again.
                let JobRefused { reason, message } = JobRefused::from(&refusal);
                return Ok(Err(JobFailure { reason, message, transient: false, found: false }));
            }
            return Err(refusal.into_error(what));
        }
        match self.get_job(id, what).await? {
            Some(job) => Ok(Ok((job, true))),
            // 409 and yet not found: the service has not settled. Either way the same id is sent again.
            None if refusal.status == 409 => {
                Err(Error::failed(format!("{what} is there and cannot be found")).retryable())
            }
            None => Err(refusal.into_error(what)),
        }
    }

    async fn get_job(&self, id: &str, what: &str) -> Result<Option<Value>> {
        let path = format!("projects/{}/jobs/{id}", self.project());
        let query: Vec<_> = self.location().map(|location| ("location", location)).into_iter().collect();
        match self.call_until_answered(what, Method::GET, &path, &query, None).await? {
            Ok(job) => Ok(Some(job)),
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) => Err(refusal.into_error(what)),
        }
    }
}

struct JobRefused {
    reason: String,
    message: String,
}

impl From<&super::wire::Refusal> for JobRefused {
    fn from(refusal: &super::wire::Refusal) -> Self {
        JobRefused { reason: refusal.reason.clone(), message: refusal.message.clone() }
    }
}

/// Only `errorResult` means failure: `errors` alone holds warnings, and DONE alone says nothing.
fn failure(job: &Value) -> Option<JobFailure> {
    let failure = &job["status"]["errorResult"];
    if !failure.is_object() {
        return None;
    }
    let text = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
    let reason = text("reason");
    let transient = matches!(
        reason.as_str(),
        "backendError"
            | "internalError"
            | "rateLimitExceeded"
            | "jobBackendError"
            | "jobInternalError"
            | "jobRateLimitExceeded"
            | "tableUnavailable"
    );
    Some(JobFailure { reason, message: text("message"), transient, found: false })
}

fn done(job: &Value) -> Done {
    let statistics = &job["statistics"];
    let number = |value: &Value| value.as_str().and_then(|n| n.parse().ok()).unwrap_or(0);
    Done {
        output_rows: number(&statistics["load"]["outputRows"]),
        copied_rows: statistics["copy"]["copiedRows"].as_str().and_then(|n| n.parse().ok()),
        output_bytes: number(&statistics["load"]["outputBytes"]),
        bytes_processed: number(&statistics["query"]["totalBytesProcessed"]),
        ended_ms: number(&statistics["endTime"]),
        adopted: false,
    }
}
