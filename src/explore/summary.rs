//! What the columns of a table hold: a row each.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;

use super::Explorer;
use crate::engine::type_name;
use crate::error::{Error, Result};

/// Of columns with more values than these the most frequent ones are not looked for: all would be held.
const DISTINCT_MAX: i64 = 100_000;
/// Values that are named as the most frequent ones.
const TOP_VALUES: usize = 3;

impl Explorer {
    /// Per column of `table`: type, nulls, distinct values (an estimate), least, greatest, quartiles (an
    /// estimate), and the most frequent values.
    pub async fn summarize(&self, table: &str) -> Result<RecordBatch> {
        let from = quoted(table);
        let schema = self.schema_of(table).await?;
        let asked = schema.fields().iter().flat_map(|field| figures(field)).enumerate();
        let asked: Vec<String> = asked.map(|(number, figure)| format!("{figure} AS f{number}")).collect();
        let figures = self.row(&format!("SELECT {} FROM {from}", asked.join(", "))).await?;
        let mut columns: Vec<Vec<Option<String>>> = vec![Vec::new(); FIGURES];
        for of_field in figures.chunks(FIGURES) {
            columns.iter_mut().zip(of_field).for_each(|(column, figure)| column.push(figure.clone()));
        }
        let mut top = Vec::with_capacity(schema.fields().len());
        for (place, field) in schema.fields().iter().enumerate() {
            let distinct = columns[1][place].as_deref().and_then(|count| count.parse::<i64>().ok());
            let is_few = distinct.is_some_and(|distinct| distinct <= DISTINCT_MAX);
            top.push(if is_few { Some(self.top(&from, field.name()).await?) } else { None });
        }
        let names = schema.fields().iter().map(|field| Some(field.name().clone())).collect();
        let types = schema.fields().iter().map(|field| Some(type_name(field.data_type()))).collect();
        let [nulls, distinct, min, p25, p50, p75, max] =
            <[_; FIGURES]>::try_from(columns).map_err(|_| Error::failed("a figure is missing"))?;
        let columns: [(&str, ArrayRef); 10] = [
            ("column", text(names)),
            ("type", text(types)),
            ("nulls", number(&nulls)),
            ("distinct", number(&distinct)),
            ("min", text(min)),
            ("p25", text(p25)),
            ("p50", text(p50)),
            ("p75", text(p75)),
            ("max", text(max)),
            ("top", text(top)),
        ];
        let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns.map(|(_, column)| column).to_vec())
            .map_err(|e| Error::failed("cannot put the summary together").caused_by(e))
    }

    /// The most frequent values with their rows.
    async fn top(&self, from: &str, column: &str) -> Result<String> {
        let name = quoted(column);
        let sql = format!(
            "SELECT CAST({name} AS VARCHAR) AS value, COUNT(*) AS n FROM {from} WHERE {name} IS NOT NULL \
             GROUP BY {name} ORDER BY n DESC, value LIMIT {TOP_VALUES}"
        );
        let batches: Vec<RecordBatch> = self.plan(&sql, None).await?.rows()?.try_collect().await?;
        let mut top = Vec::new();
        for batch in &batches {
            let values = texts(batch.column(0))?;
            let rows = batch.column(1).as_primitive::<Int64Type>();
            top.extend(values.iter().zip(rows).map(|(value, rows)| {
                format!("{} ({})", value.as_deref().unwrap_or_default(), rows.unwrap_or(0))
            }));
        }
        Ok(top.join(", "))
    }

    /// The only row of a query, as texts.
    async fn row(&self, sql: &str) -> Result<Vec<Option<String>>> {
        let batches: Vec<RecordBatch> = self.plan(sql, None).await?.rows()?.try_collect().await?;
        let batch = batches.iter().find(|batch| batch.num_rows() == 1);
        let batch = batch.ok_or_else(|| Error::failed("the summary gave no row"))?;
        batch.columns().iter().map(|column| Ok(texts(column)?.remove(0))).collect()
    }
}

/// Of each column: nulls, distinct, min, p25, p50, p75, max.
const FIGURES: usize = 7;

/// The aggregates of one column; NULL where its type has none.
fn figures(field: &Field) -> [String; FIGURES] {
    let name = quoted(field.name());
    let data_type = field.data_type();
    let is_simple = !data_type.is_nested();
    // Not every type can be counted or ranked as it is; texts and numbers can.
    let distinct = match data_type {
        data_type if data_type.is_integer() => format!("approx_distinct({name})"),
        _ if is_simple => format!("approx_distinct(CAST({name} AS VARCHAR))"),
        _ => "NULL".to_owned(),
    };
    let bound = |function: &str| match is_simple {
        true => format!("CAST({function}({name}) AS VARCHAR)"),
        false => "NULL".to_owned(),
    };
    let ranked = match data_type {
        DataType::Decimal128(..) | DataType::Decimal256(..) => format!("CAST({name} AS DOUBLE)"),
        _ => name.clone(),
    };
    let quantile = |share: f64| match data_type.is_numeric() {
        true => format!("CAST(approx_percentile_cont({share}) WITHIN GROUP (ORDER BY {ranked}) AS VARCHAR)"),
        false => "NULL".to_owned(),
    };
    let nulls = format!("COUNT(*) - COUNT({name})");
    [nulls, distinct, bound("MIN"), quantile(0.25), quantile(0.5), quantile(0.75), bound("MAX")]
}

/// A name as SQL has to have it when it may be anything.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts =
        cast(column, &DataType::Utf8).map_err(|e| Error::failed("a value is no text").caused_by(e))?;
    Ok(texts.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect())
}

fn text(values: Vec<Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn number(values: &[Option<String>]) -> ArrayRef {
    Arc::new(values.iter().map(|value| value.as_ref()?.parse::<i64>().ok()).collect::<Int64Array>())
}
