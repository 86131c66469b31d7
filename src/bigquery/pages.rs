//! Rows of tables and of query results as record batches, page by page.
//!
//! A page is at most 10 MB or 100,000 rows, and one is held at a time.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::stream::{self, try_unfold};
use futures::{Stream, TryStreamExt};

use super::BigQuery;
use super::access::Need;
use super::address::Address;
use super::cells::Page;
use super::decode::batch;
use super::fields::{Field, arrow_schema};
use super::tables::segments;
use crate::error::{Error, Result};

/// BigQuery gives no more at once.
const PAGE_ROWS_MAX: u64 = 100_000;
const BATCH_ROWS: usize = 8192;

/// Which rows of a table, and which of their columns.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// What `selectedFields` takes: `a,r.x`. All where it is empty.
    pub columns: String,
    /// Rows that are passed over.
    pub start: u64,
    pub limit: Option<u64>,
}

/// Pages that are still to come.
struct Pages {
    bigquery: BigQuery,
    what: String,
    path: String,
    /// Asked of every page.
    query: Vec<(&'static str, String)>,
    /// Asked of the first one.
    start: u64,
    fields: Vec<Field>,
    schema: SchemaRef,
    left: u64,
    /// All rows there are, as the first page said, against those that came.
    total: Option<u64>,
    seen: u64,
    token: Option<String>,
    is_over: bool,
}

impl BigQuery {
    /// The rows of a table, a partition or the table as it was. `fields` are those that `scan` selects.
    pub fn table_rows(
        &self,
        table: &Address,
        fields: Vec<Field>,
        scan: &Scan,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send + use<> {
        let table = self.named(table);
        let mut pages = Pages::new(
            self,
            format!("rows of table `{table}`"),
            format!("{}/data", self.path_of(&table)),
            fields,
        );
        if !scan.columns.is_empty() {
            pages.query.push(("selectedFields", scan.columns.clone()));
        }
        (pages.start, pages.seen) = (scan.start, scan.start);
        pages.stream(scan.limit)
    }

    /// The rows of a query that has ended.
    pub fn query_rows(
        &self,
        job: &str,
        fields: Vec<Field>,
        limit: Option<u64>,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send + use<> {
        let path = segments(&["projects", self.project(), "queries", job]);
        let mut pages = Pages::new(self, format!("results of job `{job}`"), path, fields);
        pages.query.extend(self.location().map(|location| ("location", location.to_owned())));
        pages.stream(limit)
    }
}

impl Pages {
    fn new(bigquery: &BigQuery, what: String, path: String, fields: Vec<Field>) -> Self {
        Pages {
            bigquery: bigquery.clone(),
            what,
            path,
            query: vec![("formatOptions.useInt64Timestamp", "true".to_owned())],
            start: 0,
            schema: arrow_schema(&fields),
            fields,
            left: u64::MAX,
            total: None,
            seen: 0,
            token: None,
            is_over: false,
        }
    }

    fn stream(mut self, limit: Option<u64>) -> impl Stream<Item = Result<RecordBatch>> + Send + use<> {
        self.left = limit.unwrap_or(u64::MAX);
        let pages = try_unfold(self, |mut pages| async move {
            let batches = pages.next().await?;
            Ok::<_, Error>(batches.map(|batches| (stream::iter(batches.into_iter().map(Ok)), pages)))
        });
        pages.try_flatten()
    }

    async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if self.is_over || self.left == 0 {
            return Ok(None);
        }
        let bytes = self.fetch().await?;
        let unreadable = |e: serde_json::Error| {
            Error::failed(format!("{}: a page cannot be read", self.what)).caused_by(e)
        };
        let page: Page<'_> = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if page.job_complete == Some(false) {
            return Err(Error::failed(format!("{}: the job has not ended", self.what)));
        }
        let total = page.total_rows.as_deref().and_then(|rows| rows.parse().ok());
        self.total = self.total.or(total);
        // One page more than was asked for is no reason to show it.
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(page.rows.len());
        let mut batches = Vec::with_capacity(wanted.div_ceil(BATCH_ROWS));
        for rows in page.rows[..wanted].chunks(BATCH_ROWS) {
            batches.push(batch(&self.fields, &self.schema, rows).map_err(|e| e.context(self.what.clone()))?);
        }
        self.seen += wanted as u64;
        self.left -= wanted as u64;
        self.token = page.page_token;
        self.is_over = self.token.is_none();
        let missing = self.total.unwrap_or(0).saturating_sub(self.seen);
        if self.is_over && self.left > 0 && missing > 0 {
            let message = format!("{}: {missing} rows fewer than there were at the start", self.what);
            return Err(Error::failed(message).hint("the table was changed meanwhile; read it again"));
        }
        Ok(Some(batches))
    }

    async fn fetch(&self) -> Result<Bytes> {
        let rows = self.left.min(PAGE_ROWS_MAX).to_string();
        let start = self.start.to_string();
        let mut query: Vec<(&str, &str)> = self.query.iter().map(|(key, value)| (*key, &**value)).collect();
        query.push(("maxResults", &rows));
        match &self.token {
            Some(token) => query.push(("pageToken", token)),
            None if self.start > 0 => query.push(("startIndex", &start)),
            None => {}
        }
        let answer = self.bigquery.read(&self.what, &self.path, &query).await?;
        answer.map_err(|refusal| refusal.into_error_needing(&self.what, Need::GET_DATA))
    }
}
