//! tabledata.insertAll: rows without a job, each under an id by which the service drops what comes twice.

use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

use super::BigQuery;
use super::access::Need;
use super::names::TableId;
use super::tables::path;
use super::wire::Ask;
use crate::error::{Error, Result};

/// Rows on their way into a table.
#[derive(Debug)]
pub struct Insert<'a> {
    pub table: &'a TableId,
    /// Rows go to the table of this name behind the table's, made like that one; empty: to the table itself.
    pub template_suffix: &'a str,
    /// Good rows are stored although others are not.
    pub skip_invalid_rows: bool,
    /// Fields that the table has no column for are dropped.
    pub ignore_unknown_values: bool,
    pub rows: &'a [InsertRow<'a>],
}

#[derive(Debug, Clone)]
pub struct InsertRow<'a> {
    /// At most 128 characters. What came under it within about a minute is dropped, as far as that works.
    pub id: String,
    /// An object of texts: as a number of JSON, an INT64 would keep 53 bits.
    pub json: &'a str,
}

/// Why a row was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Its place in the request.
    pub index: usize,
    pub reason: String,
    /// The column, where it is one.
    pub location: String,
    pub message: String,
}

impl RowError {
    /// It was not looked at, because of another row.
    pub fn is_stopped(&self) -> bool {
        self.reason == "stopped"
    }

    /// The same row may be stored later.
    pub fn is_weather(&self) -> bool {
        const REASONS: [&str; 5] =
            ["backendError", "internalError", "rateLimitExceeded", "tableUnavailable", "timeout"];
        REASONS.contains(&self.reason.as_str())
    }
}

impl BigQuery {
    /// Sends the rows, again on weather, and says which of them were not stored, in order. What is not named
    /// there is in the table.
    pub async fn insert_all(&self, insert: &Insert<'_>) -> Result<Vec<RowError>> {
        let what = format!("rows for table `{}{}`", insert.table, insert.template_suffix);
        let path = format!("{}/insertAll", path(insert.table));
        let ask = Ask { body: Some(body(insert)), ..Ask::new(Method::POST, &path) };
        let answer = self.ask(&what, &ask).await?;
        let answer = answer.map_err(|refusal| refusal.into_error_needing(&what, Need::INSERT_ROWS))?;
        let errors = answer.document["insertErrors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut errors: Vec<RowError> = errors.iter().map(row_error).collect();
        errors.sort_by_key(|error| error.index);
        errors.dedup_by_key(|error| error.index);
        if errors.iter().any(|error| error.index >= insert.rows.len()) {
            return Err(Error::failed(format!("{what}: BigQuery names a row that was not sent")));
        }
        Ok(errors)
    }
}

/// Not from a tree of values: rows are texts already.
fn body(insert: &Insert<'_>) -> Bytes {
    let Insert { template_suffix, skip_invalid_rows, ignore_unknown_values, rows, .. } = insert;
    let size = rows.iter().map(|row| row.json.len() + row.id.len() + 32).sum::<usize>();
    let mut body = String::with_capacity(size + 256);
    body.push_str(&format!(
        "{{\"skipInvalidRows\":{skip_invalid_rows},\"ignoreUnknownValues\":{ignore_unknown_values},"
    ));
    if !template_suffix.is_empty() {
        body.push_str(&format!("\"templateSuffix\":{},", Value::from(*template_suffix)));
    }
    body.push_str("\"rows\":[");
    for (index, row) in rows.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        body.push_str(&format!("{comma}{{\"insertId\":{},\"json\":", Value::from(&*row.id)));
        body.push_str(row.json);
        body.push('}');
    }
    body.push_str("]}");
    body.into()
}

/// The first error of a row tells why; more of them, if there are any, are of other columns. A row that is
/// named was not stored, whatever is said of it.
fn row_error(entry: &Value) -> RowError {
    let index = entry["index"].as_u64().and_then(|index| usize::try_from(index).ok());
    let text = |key: &str| entry["errors"][0][key].as_str().unwrap_or_default().to_owned();
    let reason = Some(text("reason")).filter(|reason| !reason.is_empty());
    RowError {
        index: index.unwrap_or(usize::MAX),
        reason: reason.unwrap_or_else(|| "unknown".into()),
        location: text("location"),
        message: text("message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_json_whatever_is_in_it() {
        let table = TableId::new("p", "d", "t");
        let rows = [
            InsertRow { id: "a\"b-0".into(), json: r#"{"n":"9007199254740993"}"# },
            InsertRow { id: "1-1".into(), json: r#"{"n":null}"# },
        ];
        let (template_suffix, skip_invalid_rows, ignore_unknown_values) = ("_x", true, false);
        let insert =
            Insert { table: &table, template_suffix, skip_invalid_rows, ignore_unknown_values, rows: &rows };
        let expected = serde_json::json!({
            "skipInvalidRows": true,
            "ignoreUnknownValues": false,
            "templateSuffix": "_x",
            "rows": [
                {"insertId": "a\"b-0", "json": {"n": "9007199254740993"}},
                {"insertId": "1-1", "json": {"n": null}},
            ],
        });
        assert_eq!(serde_json::from_slice::<Value>(&body(&insert)).unwrap(), expected);
    }

    #[test]
    fn stopped_rows_are_told_from_wrong_ones_and_from_weather() {
        let error = |reason: &str| {
            row_error(&serde_json::json!({"index": 3, "errors": [{"reason": reason, "location": "n"}]}))
        };
        assert_eq!((error("invalid").index, &*error("invalid").location), (3, "n"));
        assert!(error("stopped").is_stopped() && !error("stopped").is_weather());
        assert!(error("backendError").is_weather() && !error("invalid").is_weather());
        let unsaid = row_error(&serde_json::json!({"errors": []}));
        assert_eq!((unsaid.index, &*unsaid.reason), (usize::MAX, "unknown"));
    }
}
