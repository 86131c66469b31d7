//! Datasets and tables: looked at, and created where they are missing.

use std::sync::atomic::Ordering;

use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::dataset::Dataset;
use gcp_bigquery_client::model::field_type::FieldType;
use gcp_bigquery_client::model::table::Table;
use gcp_bigquery_client::model::table_field_schema::TableFieldSchema;
use gcp_bigquery_client::model::table_reference::TableReference;
use gcp_bigquery_client::model::table_schema::TableSchema;
use gcp_bigquery_client::model::time_partitioning::TimePartitioning;
use reqwest::Method;
use serde_json::Value;
use url::Url;

use super::BigQuery;
use super::names::TableId;
use super::wire::Refusal;
use crate::effects::Door;
use crate::error::{Error, Result};
use crate::schema::{ColumnType, Columns, Mode};

impl TableId {
    pub(super) fn reference(&self) -> TableReference {
        TableReference::new(&self.project, &self.dataset, &self.decorated())
    }
}

/// What the product wants to know of a table.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Rows of the table, or of its partition where one was asked for.
    pub rows: u64,
    pub etag: String,
    /// By the service's clock.
    pub last_modified_ms: u64,
    pub partitioned_by_day: bool,
    pub fields: Vec<FieldInfo>,
}

/// A column of a table, as the service has it.
#[derive(Debug, Clone)]
pub struct FieldInfo {
    pub name: String,
    pub kind: String,
    pub is_required: bool,
    /// As `maxLength 50`, where not every value of its type fits.
    pub limit: Option<String>,
}

impl BigQuery {
    /// `None` when there is no such table.
    pub async fn table(&self, id: &TableId) -> Result<Option<TableInfo>> {
        let what = format!("table `{id}`");
        let path = path(id);
        match self.call_until_answered(&what, Method::GET, &path, &[], None).await? {
            Ok(table) => Ok(Some(info(&table))),
            Err(refusal) if refusal.status == 404 => Ok(None),
            Err(refusal) => Err(refusal.into_error(&what)),
        }
    }

    /// Deletes a table, or one partition of it. One that is not there is as good.
    pub async fn delete_table(&self, id: &TableId) -> Result<()> {
        let what = format!("table `{id}`");
        match self.call_until_answered(&what, Method::DELETE, &path(id), &[], None).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.status == 404 => Ok(()),
            Err(refusal) => Err(refusal.into_error(&what)),
        }
    }

    /// Creates the dataset unless it is there.
    pub async fn ensure_dataset(&self, dataset: &str) -> Result<()> {
        let project = self.project();
        let what = format!("dataset `{project}.{dataset}`");
        let got = self.crate_call("get", &what, || self.client.dataset().get(project, dataset)).await?;
        match got {
            Ok(_) => return Ok(()),
            Err(refusal) if refusal.status == 404 => {}
            Err(refusal) => return Err(refusal.into_error(&what)),
        }
        let document = || Dataset::new(project, dataset).location(&self.options.location);
        let created = self.crate_call("create", &what, || self.client.dataset().create(document())).await?;
        match created {
            // 409: somebody else, or our own call whose answer was lost.
            Err(refusal) if refusal.status != 409 => Err(refusal.into_error(&what)),
            _ => {
                tracing::info!(dataset, "dataset created");
                Ok(())
            }
        }
    }

    /// Creates an ingestion-time table with a partition a day and a required filter, unless it is there.
    ///
    /// A table that is there must be partitioned by day and have every column with its type.
    pub async fn ensure_staging_table(&self, id: &TableId, columns: &Columns) -> Result<()> {
        self.ensure_day_table(id, columns, true).await
    }

    /// The same, for readers who may ask for all days at once.
    pub async fn ensure_open_table(&self, id: &TableId, columns: &Columns) -> Result<()> {
        self.ensure_day_table(id, columns, false).await
    }

    async fn ensure_day_table(&self, id: &TableId, columns: &Columns, filter: bool) -> Result<()> {
        if let Some(found) = self.table(id).await? {
            return agree(id, &found, columns);
        }
        let what = format!("table `{id}`");
        let document = || {
            Table::new(&id.project, &id.dataset, &id.table, table_schema(columns))
                .time_partitioning(TimePartitioning::per_day())
                .require_partition_filter(filter)
        };
        let created = self.crate_call("create", &what, || self.client.table().create(document())).await?;
        match created {
            Ok(_) => {
                tracing::info!(table = %id, "table created");
                Ok(())
            }
            Err(refusal) if refusal.status == 409 => match self.table(id).await? {
                Some(found) => agree(id, &found, columns),
                None => Err(Error::failed(format!("{what} exists and does not")).retryable()),
            },
            Err(refusal) => Err(refusal.into_error(&what)),
        }
    }

    /// A call through the crate, repeated on weather.
    async fn crate_call<T, F>(
        &self,
        verb: &str,
        what: &str,
        call: impl Fn() -> F,
    ) -> Result<Result<T, Refusal>>
    where
        F: Future<Output = Result<T, BQError>> + Send,
    {
        let mut tries = self.tries(what);
        loop {
            // The crate's answer travels through the door whole: it may be a refusal.
            let answer = async { Ok(call().await) };
            let name = || format!("{verb} {what}");
            match self.options.effects.pass(Door::BigQuery, name, answer).await {
                Ok(Ok(value)) => {
                    self.was_answered.store(true, Ordering::Relaxed);
                    return Ok(Ok(value));
                }
                Ok(Err(error)) => match self.refusal(error)? {
                    refusal if refusal.is_retryable() => tries.wait_or(refusal.into_error(what)).await?,
                    refusal => return Ok(Err(refusal)),
                },
                Err(lost) => tries.wait_or(lost).await?,
            }
        }
    }
}

pub(super) fn path(id: &TableId) -> String {
    segments(&["projects", &id.project, "datasets", &id.dataset, "tables", &id.decorated()])
}

/// Not by the crate, which writes a space in a path as `+`: that is another name.
pub(super) fn segments(parts: &[&str]) -> String {
    let mut url = Url::parse("http://path/").expect("a constant");
    url.path_segments_mut().expect("http has a path").clear().extend(parts);
    url.path().trim_start_matches('/').to_owned()
}

/// The schema that load jobs and new tables name.
pub(super) fn table_schema(columns: &Columns) -> TableSchema {
    let field = |column: &crate::schema::Column| {
        let kind = match column.kind {
            ColumnType::String => FieldType::String,
            ColumnType::Int64 => FieldType::Integer,
            ColumnType::Float64 => FieldType::Float,
            ColumnType::Bool => FieldType::Boolean,
            ColumnType::Numeric => FieldType::Numeric,
            ColumnType::Date => FieldType::Date,
            ColumnType::Timestamp => FieldType::Timestamp,
        };
        let mut field = TableFieldSchema::new(&column.name, kind);
        field.mode = Some(if column.mode == Mode::Required { "REQUIRED" } else { "NULLABLE" }.into());
        field
    };
    TableSchema::new(columns.iter().map(field).collect())
}

fn info(table: &Value) -> TableInfo {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_str().and_then(|n| n.parse().ok()).unwrap_or(0);
    let partitioning = &table["timePartitioning"];
    let fields = table["schema"]["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    TableInfo {
        rows: number(&table["numRows"]),
        etag: text(&table["etag"]),
        last_modified_ms: number(&table["lastModifiedTime"]),
        partitioned_by_day: partitioning["type"] == "DAY" && partitioning["field"].is_null(),
        fields: fields.iter().map(field_info).collect(),
    }
}

fn field_info(field: &Value) -> FieldInfo {
    let text = |key: &str| field[key].as_str().map(str::to_owned);
    let limit = |key: &str| Some(format!("{key} {}", text(key)?));
    FieldInfo {
        name: text("name").unwrap_or_default(),
        kind: text("type").unwrap_or_default(),
        is_required: field["mode"] == "REQUIRED",
        limit: limit("maxLength").or_else(|| limit("precision")),
    }
}

fn agree(id: &TableId, found: &TableInfo, columns: &Columns) -> Result<()> {
    if !found.partitioned_by_day {
        return Err(Error::usage(format!("table `{id}` is not partitioned by ingestion day"))
            .hint("name another table in `[warehouse]`; it is created when missing"));
    }
    for column in columns.iter() {
        let field = found.fields.iter().find(|field| field.name.eq_ignore_ascii_case(&column.name));
        let legacy = match column.kind {
            ColumnType::Int64 => "INTEGER",
            ColumnType::Float64 => "FLOAT",
            ColumnType::Bool => "BOOLEAN",
            other => other.name(),
        };
        match field {
            Some(field) if field.kind != legacy && field.kind != column.kind.name() => {
                return Err(Error::usage(format!(
                    "table `{id}` has `{}` as {}, the pipeline as {}",
                    column.name,
                    field.kind,
                    column.kind.name()
                )));
            }
            Some(field) if field.is_required && column.mode != Mode::Required => {
                return Err(Error::usage(format!(
                    "table `{id}` has `{}` as REQUIRED, the pipeline as NULLABLE",
                    column.name
                ))
                .hint("set `mode = \"REQUIRED\"` for the column: records without it become rejects"));
            }
            Some(_) => {}
            None => return Err(Error::usage(format!("table `{id}` has no column `{}`", column.name))),
        }
    }
    let is_ours = |field: &&FieldInfo| columns.iter().any(|c| c.name.eq_ignore_ascii_case(&field.name));
    match found.fields.iter().find(|field| field.is_required && !is_ours(field)) {
        Some(field) => Err(Error::usage(format!(
            "table `{id}` has `{}` as REQUIRED, and the pipeline does not have it",
            field.name
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Column;

    /// A table by day with these fields, held against a pipeline that has `id` and, nullable, `name`.
    fn agrees(day: &str, fields: &Value) -> Result<()> {
        let found = info(&json!({"timePartitioning": {"type": day}, "schema": {"fields": fields}}));
        let column = |name: &str, kind, mode| Column { name: name.into(), kind, mode, path: None };
        let id = column("id", ColumnType::Int64, Mode::Required);
        let columns = Columns::new(vec![id, column("name", ColumnType::String, Mode::Nullable)]).unwrap();
        agree(&TableId::new("p", "d", "t"), &found, &columns)
    }

    fn field(name: &str, kind: &str, mode: &str) -> Value {
        json!({"name": name, "type": kind, "mode": mode})
    }

    #[test]
    fn a_table_may_have_more_and_be_laxer_than_the_pipeline() {
        for kind in ["INTEGER", "INT64"] {
            let id = field("ID", kind, "NULLABLE");
            let fields = json!([field("more", "JSON", "NULLABLE"), id, field("name", "STRING", "NULLABLE")]);
            agrees("DAY", &fields).unwrap();
        }
    }

    /// Every load job would fail, and tell of it only after its rows were staged.
    #[test]
    fn a_table_that_cannot_take_the_rows_is_refused_by_the_name_of_what_is_wrong() {
        let id = || field("id", "INTEGER", "REQUIRED");
        let name = || field("name", "STRING", "NULLABLE");
        let cases = [
            ("HOUR", json!([id(), name()]), "is not partitioned by ingestion day"),
            ("DAY", json!([id()]), "has no column `name`"),
            ("DAY", json!([field("id", "STRING", ""), name()]), "has `id` as STRING, the pipeline as INT64"),
            (
                "DAY",
                json!([id(), field("name", "STRING", "REQUIRED")]),
                "has `name` as REQUIRED, the pipeline",
            ),
            (
                "DAY",
                json!([id(), name(), field("key", "DATE", "REQUIRED")]),
                "has `key` as REQUIRED, and the",
            ),
        ];
        for (day, fields, says) in cases {
            let error = agrees(day, &fields).expect_err(says);
            assert!(error.kind() == crate::error::Kind::Usage && error.to_string().contains(says), "{error}");
        }
    }
}
