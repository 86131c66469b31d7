//! What a promote would change in production, asked of the service and changing nothing.

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::Value;

use super::Rebuild;
use crate::bigquery::{Answered, BigQuery, Running};
use crate::error::{Error, Result};
use crate::query::{self, Price};

#[derive(Debug, Serialize)]
pub struct Forecast {
    pub table: String,
    /// Whether there is a table to replace.
    pub exists: bool,
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
    /// The columns that name a row.
    pub key: Vec<String>,
    /// Of production as it is.
    pub rows_before: u64,
    pub rows_after: u64,
    /// Rows whose key production does not have.
    pub new: u64,
    pub changed: u64,
    /// Rows of production whose key was not seen in these days.
    pub dropped: u64,
    pub same: u64,
    pub columns_added: Vec<String>,
    pub columns_removed: Vec<String>,
    /// Columns that would have another type. They are not compared.
    pub columns_retyped: Vec<String>,
    /// Of the promote itself.
    pub bytes_processed: u64,
    pub price: Price,
    pub own: OwnCost,
}

/// What it took to find out.
#[derive(Debug, Serialize)]
pub struct OwnCost {
    pub bytes_processed: u64,
    pub bytes_billed: u64,
    pub usd: f64,
}

/// A column of a result, in the words of the API.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    name: String,
    kind: String,
    repeated: bool,
}

/// Asks what `rebuild` would do.
pub async fn forecast(
    rebuild: &Rebuild,
    bigquery: &BigQuery,
    key: &[String],
    usd_per_tib: f64,
) -> Result<Forecast> {
    let planned = query::plan(bigquery, &rebuild.query()).await?;
    let price = query::price(&planned, usd_per_tib);
    let new = columns(&planned.schema);
    for name in key {
        if !new.iter().any(|column| column.name.to_lowercase() == name.to_lowercase()) {
            return Err(Error::usage(format!("`promote.sql` gives no column `{name}`")));
        }
    }
    let exists = bigquery.table(&rebuild.production).await?.is_some();
    let old = match exists {
        true => columns(&query::plan(bigquery, &rebuild.query_of(all_of(rebuild))).await?.schema),
        false => Vec::new(),
    };
    let lacks_key = key.iter().find(|name| !old.iter().any(|c| c.name.to_lowercase() == name.to_lowercase()));
    if let (true, Some(name)) = (exists, lacks_key) {
        return Err(Error::usage(format!("`{}` has no column `{name}`", rebuild.production))
            .hint("its rows cannot be matched with the new ones; name other columns with `--key`"));
    }
    let find = |columns: &[Column], wanted: &Column| {
        columns.iter().find(|c| c.name.to_lowercase() == wanted.name.to_lowercase()).cloned()
    };
    let names = |columns: Vec<&Column>| columns.into_iter().map(|column| column.name.clone()).collect();
    let retyped = |column: &&Column| find(&old, column).is_some_and(|o| !o.is_like(column));
    let columns_retyped: Vec<String> = names(new.iter().filter(retyped).collect());
    let is_of_key =
        |column: &Column| key.iter().any(|name| name.to_lowercase() == column.name.to_lowercase());
    let compared: Vec<&Column> =
        new.iter().filter(|c| !is_of_key(c) && find(&old, c).is_some_and(|o| o.is_like(c))).collect();
    let sql = question(rebuild, key, &compared, exists);
    let asked = rebuild.query_of(sql);
    let answered = query::run(bigquery, &asked, &Running::default()).await?;
    let counts = counts(bigquery, &answered).await?;
    let [rows_after, rows_before, new_rows, dropped, changed, repeated] = counts;
    if repeated > 0 {
        return Err(Error::usage(format!(
            "{repeated} keys have several rows: {} do not name a row",
            key.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
        ))
        .hint("name more columns, with `--key` for each"));
    }
    Ok(Forecast {
        table: rebuild.production.to_string(),
        exists,
        first_day: rebuild.first_day,
        last_day: rebuild.last_day,
        key: key.to_vec(),
        rows_before,
        rows_after,
        new: new_rows,
        changed,
        dropped,
        same: rows_after - new_rows - changed,
        columns_added: if exists {
            names(new.iter().filter(|c| find(&old, c).is_none()).collect())
        } else {
            Vec::new()
        },
        columns_removed: names(old.iter().filter(|c| find(&new, c).is_none()).collect()),
        columns_retyped,
        bytes_processed: planned.bytes_processed,
        price,
        own: OwnCost {
            bytes_processed: answered.bytes_processed,
            bytes_billed: answered.bytes_billed,
            usd: answered.bytes_billed as f64 / (1_u64 << 40) as f64 * usd_per_tib,
        },
    })
}

fn all_of(rebuild: &Rebuild) -> String {
    format!("SELECT * FROM `{}`", rebuild.production)
}

/// Both sides under one another, grouped by key: so NULL is a key too, and nothing has to be held in memory.
///
/// # Why not a FULL JOIN?
/// It matches no NULLs, makes many rows of a repeated key, and holds one side in memory.
fn question(rebuild: &Rebuild, key: &[String], compared: &[&Column], exists: bool) -> String {
    let keys: Vec<String> = key.iter().map(|name| format!("`{name}`")).collect();
    let values = compared.iter().map(|column| column.value());
    let values: Vec<String> = values.enumerate().map(|(n, value)| format!("{value} AS __v{n}")).collect();
    let side = |is_new: bool, from: &str| {
        let mut columns = keys.clone();
        columns.push(format!("{is_new} AS __new"));
        columns.extend(values.iter().cloned());
        format!("SELECT {} FROM {from}", columns.join(", "))
    };
    let sql = rebuild.sql.trim_end().trim_end_matches(';');
    let mut both = side(true, &format!("(\n{sql}\n) AS rebuilt"));
    if exists {
        both += &format!("\nUNION ALL\n{}", side(false, &format!("`{}`", rebuild.production)));
    }
    let differs = (0..compared.len())
        .map(|n| format!("COUNT(__v{n}) = 1 OR IFNULL(MIN(__v{n}) <> MAX(__v{n}), FALSE)"));
    let differs = differs.collect::<Vec<_>>().join(" OR ");
    let differs = if differs.is_empty() { "FALSE".to_owned() } else { differs };
    format!(
        "SELECT SUM(news), SUM(olds), COUNTIF(olds = 0), COUNTIF(news = 0), \
         COUNTIF(news = 1 AND olds = 1 AND differs), COUNTIF(news > 1 OR olds > 1)\nFROM (\n\
         SELECT COUNTIF(__new) AS news, COUNTIF(NOT __new) AS olds, {differs} AS differs\n\
         FROM (\n{both}\n)\nGROUP BY {}\n)",
        keys.join(", ")
    )
}

async fn counts(bigquery: &BigQuery, answered: &Answered) -> Result<[u64; 6]> {
    use arrow::array::AsArray;
    use futures::TryStreamExt;
    let there = answered.location.as_deref().map_or_else(|| bigquery.clone(), |place| bigquery.at(place));
    let rows = there.query_rows(&answered.job_id, answered.fields.clone(), None);
    let batches: Vec<arrow::record_batch::RecordBatch> = rows.try_collect().await?;
    let none = || Error::failed("BigQuery did not say what would change");
    let batch = batches.first().filter(|batch| batch.num_rows() == 1).ok_or_else(none)?;
    let mut counts = [0; 6];
    for (count, column) in counts.iter_mut().zip(batch.columns()) {
        let column = column.as_primitive_opt::<arrow::datatypes::Int64Type>().ok_or_else(none)?;
        // A sum of nothing is NULL.
        *count = u64::try_from(column.iter().next().flatten().unwrap_or(0)).map_err(|_| none())?;
    }
    Ok(counts)
}

fn columns(schema: &Value) -> Vec<Column> {
    let text = |field: &Value, member: &str| field[member].as_str().unwrap_or_default().to_owned();
    let column = |field: &Value| Column {
        name: text(field, "name"),
        kind: text(field, "type").to_uppercase(),
        repeated: text(field, "mode") == "REPEATED",
    };
    schema.as_array().map(|fields| fields.iter().map(column).collect()).unwrap_or_default()
}

impl Column {
    fn is_like(&self, other: &Column) -> bool {
        self.kind == other.kind && self.repeated == other.repeated
    }

    /// Something that is the same when the column is, and of which there is a least and a greatest.
    fn value(&self) -> String {
        let name = &self.name;
        match self.kind.as_str() {
            _ if self.repeated => format!("TO_JSON_STRING(`{name}`)"),
            "INTEGER" | "INT64" | "STRING" | "DATE" | "DATETIME" | "TIME" | "TIMESTAMP" | "NUMERIC"
            | "BIGNUMERIC" => format!("`{name}`"),
            "BOOLEAN" | "BOOL" => format!("CAST(`{name}` AS INT64)"),
            // NaN is not equal to itself, and a JSON null is no NULL.
            _ => format!("IF(`{name}` IS NULL, NULL, TO_JSON_STRING(`{name}`))"),
        }
    }
}
