//! Queries of users: tried dry, run under an id of ours, cancelled.

use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::BigQuery;
use super::access::Need;
use super::address::Address;
use super::fields::{Field, fields};
use super::jobs::{Ended, JobFailure};
use super::running::Running;
use super::tables::segments;
use super::wire::Refusal;
use crate::error::{Error, Result};

/// A query as it was asked.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub sql: String,
    /// Where bare table names are looked for: its project, where one is named, and its name.
    pub default_dataset: Option<(Option<String>, String)>,
    pub parameters: Vec<Parameter>,
    pub destination: Option<(Address, Write)>,
    /// The query fails rather than that more bytes are billed.
    pub bytes_billed_max: Option<u64>,
}

/// A query parameter in the words of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// None of them has one, or all have.
    pub name: Option<String>,
    pub kind: Value,
    pub value: Value,
}

/// What happens to the rows that the destination has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Append,
    Truncate,
    /// There must be none.
    Empty,
}

impl Write {
    pub(super) fn disposition(self) -> &'static str {
        match self {
            Write::Append => "WRITE_APPEND",
            Write::Truncate => "WRITE_TRUNCATE",
            Write::Empty => "WRITE_EMPTY",
        }
    }
}

/// What a dry run says.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    pub statement_type: String,
    pub bytes_processed: u64,
    /// PRECISE, LOWER_BOUND, UPPER_BOUND or UNKNOWN.
    pub accuracy: String,
    /// `project.dataset.table` of each.
    pub tables: Vec<String>,
    /// Where it would run.
    pub location: Option<String>,
    /// Columns of the result.
    pub schema: Value,
}

/// What a query that has ended did.
#[derive(Debug, Clone)]
pub struct Answered {
    pub job_id: String,
    pub location: Option<String>,
    pub statement_type: String,
    /// Those of a script that ran; none where there is only one.
    pub statements: u64,
    /// When it began, in milliseconds by the service's clock.
    pub started_ms: Option<u64>,
    pub bytes_processed: u64,
    pub bytes_billed: u64,
    pub from_cache: bool,
    /// Columns of the result; a statement without a result has none.
    pub fields: Vec<Field>,
    pub rows: u64,
    /// `statistics.query`, for what is only shown.
    pub statistics: Value,
}

impl Answered {
    /// A SELECT, or a script that ends with one. CREATE TABLE AS has columns too, and no rows to show.
    pub fn has_rows(&self) -> bool {
        let is_statement = ["ddlOperationPerformed", "numDmlAffectedRows"];
        !self.fields.is_empty() && is_statement.iter().all(|member| self.statistics[*member].is_null())
    }
}

impl Query {
    fn configuration(&self, project: &str) -> Value {
        let mut query = json!({ "query": self.sql, "useLegacySql": false });
        if let Some((named, dataset)) = &self.default_dataset {
            let project = named.as_deref().unwrap_or(project);
            query["defaultDataset"] = json!({ "projectId": project, "datasetId": dataset });
        }
        if let Some(first) = self.parameters.first() {
            let mode = if first.name.is_some() { "NAMED" } else { "POSITIONAL" };
            query["parameterMode"] = mode.into();
            query["queryParameters"] = self.parameters.iter().map(Parameter::document).collect();
        }
        if let Some((table, write)) = &self.destination {
            query["destinationTable"] = json!({
                "projectId": table.project.as_deref().unwrap_or(project),
                "datasetId": table.dataset,
                "tableId": format!("{}{}", table.table, table.decorator()),
            });
            query["createDisposition"] = "CREATE_IF_NEEDED".into();
            query["writeDisposition"] = write.disposition().into();
        }
        if let Some(bytes) = self.bytes_billed_max {
            query["maximumBytesBilled"] = bytes.to_string().into();
        }
        json!({ "query": query })
    }
}

impl Parameter {
    fn document(&self) -> Value {
        let mut document = Map::new();
        if let Some(name) = &self.name {
            document.insert("name".into(), name.clone().into());
        }
        document.insert("parameterType".into(), self.kind.clone());
        document.insert("parameterValue".into(), self.value.clone());
        Value::Object(document)
    }
}

impl BigQuery {
    /// Plans a query and runs nothing. `Err` in `Ok` is what BigQuery says against it.
    pub async fn dry_run(&self, query: &Query) -> Result<Result<DryRun, JobFailure>> {
        let mut configuration = query.configuration(self.project());
        configuration["dryRun"] = true.into();
        // A limit is for what runs; that the dry run would break it is said in our own words.
        if let Some(query) = configuration["query"].as_object_mut() {
            query.shift_remove("maximumBytesBilled");
        }
        let mut body = json!({ "configuration": configuration });
        if let Some(location) = self.location() {
            body["jobReference"] = json!({ "projectId": self.project(), "location": location });
        }
        let path = segments(&["projects", self.project(), "jobs"]);
        let what = "dry run";
        let job = match self.call_until_answered(what, Method::POST, &path, &[], Some(&body)).await? {
            Ok(job) => job,
            Err(refusal) => return refused(refusal, what).map(Err),
        };
        let statistics = &job["statistics"];
        let query = &statistics["query"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let bytes = [&query["totalBytesProcessed"], &statistics["totalBytesProcessed"]];
        let tables = query["referencedTables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let table = |table: &Value| {
            let part = |key: &str| table[key].as_str().unwrap_or_default();
            format!("{}.{}.{}", part("projectId"), part("datasetId"), part("tableId"))
        };
        Ok(Ok(DryRun {
            statement_type: text(&query["statementType"]),
            bytes_processed: bytes.into_iter().find_map(number).unwrap_or(0),
            accuracy: text(&query["totalBytesProcessedAccuracy"]),
            tables: tables.iter().map(table).collect(),
            location: job["jobReference"]["location"].as_str().map(str::to_owned),
            schema: query["schema"]["fields"].clone(),
        }))
    }

    /// Runs a query to its end. Its rows are read by [`BigQuery::query_rows`].
    pub async fn run_query(
        &self,
        id: &str,
        query: &Query,
        running: &Running,
    ) -> Result<Result<Answered, JobFailure>> {
        let configuration = query.configuration(self.project());
        let job = match self.run_job(id, configuration, &["query", "query"], running).await? {
            Ok(Ended { job, .. }) => job,
            Err(failure) => return Ok(Err(failure)),
        };
        let location = job["jobReference"]["location"].as_str().map(str::to_owned);
        let of_job = &job["statistics"];
        let statistics = of_job["query"].clone();
        // Where it ran is where it is asked for.
        let there = location.as_deref().map_or_else(|| self.clone(), |location| self.at(location));
        let results = there.first_results(id).await?;
        Ok(Ok(Answered {
            job_id: id.to_owned(),
            location,
            statement_type: statistics["statementType"].as_str().unwrap_or_default().to_owned(),
            statements: number(&of_job["numChildJobs"]).unwrap_or(0),
            started_ms: number(&of_job["startTime"]),
            bytes_processed: number(&statistics["totalBytesProcessed"]).unwrap_or(0),
            bytes_billed: number(&statistics["totalBytesBilled"]).unwrap_or(0),
            from_cache: statistics["cacheHit"] == true,
            fields: fields(&results["schema"])?,
            rows: number(&results["totalRows"]).unwrap_or(0),
            statistics,
        }))
    }

    /// Schema and number of rows of a query that has ended.
    async fn first_results(&self, id: &str) -> Result<Value> {
        let path = segments(&["projects", self.project(), "queries", id]);
        let mut query = vec![("maxResults", "0"), ("timeoutMs", "10000")];
        query.extend(self.location().map(|location| ("location", location)));
        let what = format!("results of job `{id}`");
        let answer = self.call_until_answered(&what, Method::GET, &path, &query, None).await?;
        answer.map_err(|refusal| refusal.into_error_needing(&what, Need::GET_DATA))
    }

    /// Asks for the end of a job. It may end well all the same.
    pub async fn cancel(&self, id: &str) -> Result<()> {
        let path = format!("{}/cancel", segments(&["projects", self.project(), "jobs", id]));
        let query: Vec<_> = self.location().map(|location| ("location", location)).into_iter().collect();
        let what = format!("job `{id}`");
        match self.call(Method::POST, &path, &query, None).await? {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.into_error(&what)),
        }
    }
}

/// What BigQuery has against the query itself is an answer; the rest is an error.
fn refused(refusal: Refusal, what: &str) -> Result<JobFailure> {
    match refusal.status {
        400 | 404 | 501 => {
            let Refusal { reason, message, .. } = refusal;
            Ok(JobFailure { reason, message, transient: false, found: false })
        }
        _ => Err::<JobFailure, Error>(refusal.into_error_needing(what, Need::RUN_JOB)),
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_str().and_then(|n| n.parse().ok())
}
