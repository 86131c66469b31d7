//! Small query results, read whole: for questions, not for data.

use reqwest::Method;
use serde_json::{Value, json};

use super::BigQuery;
use crate::error::{Error, Result};

/// A result of at most one page.
#[derive(Debug, Clone)]
pub struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

/// A value as the REST API writes it; `None` is NULL.
pub type Cell = Option<String>;

impl BigQuery {
    /// Runs a GoogleSQL query in which bare table names mean tables of `dataset`.
    pub async fn query(&self, dataset: &str, sql: &str) -> Result<Rows> {
        let project = self.project();
        let body = json!({
            "query": sql,
            "useLegacySql": false,
            "location": self.options.location,
            "defaultDataset": { "projectId": project, "datasetId": dataset },
            "formatOptions": { "useInt64Timestamp": true },
            "timeoutMs": 60_000,
        });
        let what = "query";
        let path = format!("projects/{project}/queries");
        let answer = self.call_until_answered(what, Method::POST, &path, &[], Some(&body)).await?;
        let mut answer = answer.map_err(|refusal| refusal.into_error(what))?;
        while answer["jobComplete"] != true {
            let Some(job) = answer["jobReference"]["jobId"].as_str() else {
                return Err(Error::failed("a query neither ended nor got a job id").retryable());
            };
            let path = format!("projects/{project}/queries/{job}");
            let query = [
                ("location", self.options.location.as_str()),
                ("timeoutMs", "60000"),
                ("formatOptions.useInt64Timestamp", "true"),
            ];
            let next = self.call_until_answered(what, Method::GET, &path, &query, None).await?;
            answer = next.map_err(|refusal| refusal.into_error(what))?;
        }
        let fields = answer["schema"]["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
        let columns = fields.iter().map(|f| f["name"].as_str().unwrap_or_default().to_owned()).collect();
        let rows = answer["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let cells = |row: &Value| {
            let cells = row["f"].as_array().map(Vec::as_slice).unwrap_or_default();
            cells.iter().map(|cell| cell["v"].as_str().map(str::to_owned)).collect()
        };
        Ok(Rows { columns, rows: rows.iter().map(cells).collect() })
    }
}
