//! Cells to Arrow arrays.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float64Array,
    Int64Array, ListArray, StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{Fields, SchemaRef, i256};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::cells::{Cell, Row};
use super::fields::{Field, FieldKind};
use crate::error::{Error, Result};

/// The rows as a batch of the fields' schema.
pub(super) fn batch(fields: &[Field], schema: &SchemaRef, rows: &[Row<'_>]) -> Result<RecordBatch> {
    if let Some(row) = rows.iter().find(|row| row.cells.len() != fields.len()) {
        let (got, wanted) = (row.cells.len(), fields.len());
        return Err(Error::failed(format!("BigQuery sent a row of {got} values, the schema has {wanted}")));
    }
    let mut columns = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let cells: Vec<_> = rows.iter().map(|row| &row.cells[index].cell).collect();
        columns.push(column(field, &cells)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|e| Error::failed("BigQuery's rows do not fit their schema").caused_by(e))
}

fn column(field: &Field, cells: &[&Cell<'_>]) -> Result<ArrayRef> {
    if !field.repeated {
        return values(field, cells);
    }
    let mut lengths = Vec::with_capacity(cells.len());
    let mut items = Vec::new();
    for cell in cells {
        match cell {
            Cell::Items(held) => {
                lengths.push(held.len());
                items.extend(held.iter().map(|held| &held.cell));
            }
            Cell::Null => lengths.push(0),
            _ => return Err(wrong(field, "an array")),
        }
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    let items = values(field, &items)?;
    ListArray::try_new(field.item(), offsets, items, None)
        .map(|list| Arc::new(list) as ArrayRef)
        .map_err(|e| Error::failed(format!("column `{}`", field.name)).caused_by(e))
}

/// One value a cell, whether the field is REPEATED or not.
fn values(field: &Field, cells: &[&Cell<'_>]) -> Result<ArrayRef> {
    /// Parses every text, and says which one is none.
    fn parsed<'c, T, C: FromIterator<Option<T>>>(
        field: &Field,
        cells: &'c [&Cell<'_>],
        parse: impl Fn(&'c str) -> Option<T>,
    ) -> Result<C> {
        let parse = |cell: &&'c Cell<'_>| match cell {
            Cell::Null => Ok(None),
            Cell::Text(text) => parse(text).map(Some).ok_or_else(|| wrong(field, text)),
            Cell::Items(_) | Cell::Record(_) => Err(wrong(field, "something nested")),
        };
        cells.iter().map(parse).collect()
    }
    let decimal = |e| Error::failed(format!("column `{}`", field.name)).caused_by(e);
    Ok(match &field.kind {
        FieldKind::Int64 => Arc::new(parsed::<i64, Int64Array>(field, cells, |t| t.parse().ok())?),
        FieldKind::Float64 => Arc::new(parsed::<f64, Float64Array>(field, cells, |t| t.parse().ok())?),
        FieldKind::Bool => Arc::new(parsed::<bool, BooleanArray>(field, cells, boolean)?),
        FieldKind::String | FieldKind::Text(_) => Arc::new(parsed::<&str, StringArray>(field, cells, Some)?),
        FieldKind::Range { of_timestamps: false } => {
            Arc::new(parsed::<&str, StringArray>(field, cells, Some)?)
        }
        FieldKind::Range { of_timestamps: true } => {
            Arc::new(parsed::<String, StringArray>(field, cells, range_of_timestamps)?)
        }
        FieldKind::Bytes => {
            let mut builder = BinaryBuilder::new();
            for bytes in parsed::<Vec<u8>, Vec<_>>(field, cells, |t| STANDARD.decode(t).ok())? {
                builder.append_option(bytes);
            }
            Arc::new(builder.finish())
        }
        FieldKind::Date => Arc::new(parsed::<i32, Date32Array>(field, cells, date)?),
        FieldKind::Time => Arc::new(parsed::<i64, Time64MicrosecondArray>(field, cells, time)?),
        FieldKind::DateTime => Arc::new(parsed::<i64, TimestampMicrosecondArray>(field, cells, datetime)?),
        FieldKind::Timestamp => {
            let array = parsed::<i64, TimestampMicrosecondArray>(field, cells, |t| t.parse().ok())?;
            Arc::new(array.with_timezone("UTC"))
        }
        FieldKind::Numeric => {
            let array = parsed::<i128, Decimal128Array>(field, cells, |t| scaled(t, 9)?.parse().ok())?;
            Arc::new(array.with_precision_and_scale(38, 9).map_err(decimal)?)
        }
        FieldKind::BigNumeric => {
            let array =
                parsed::<i256, Decimal256Array>(field, cells, |t| i256::from_string(&scaled(t, 38)?))?;
            Arc::new(array.with_precision_and_scale(76, 38).map_err(decimal)?)
        }
        FieldKind::Record(children) => Arc::new(record(field, children, cells)?),
    })
}

fn record(field: &Field, children: &[Field], cells: &[&Cell<'_>]) -> Result<StructArray> {
    let mut columns = Vec::with_capacity(children.len());
    for (index, child) in children.iter().enumerate() {
        let mut below = Vec::with_capacity(cells.len());
        for cell in cells {
            below.push(match cell {
                Cell::Null => &Cell::Null,
                Cell::Record(held) if held.len() == children.len() => &held[index].cell,
                _ => return Err(wrong(field, "a record of another shape")),
            });
        }
        columns.push(column(child, &below)?);
    }
    let nulls = NullBuffer::from_iter(cells.iter().map(|cell| !matches!(cell, Cell::Null)));
    let fields: Fields = children.iter().map(Field::arrow).collect();
    StructArray::try_new_with_length(fields, columns, Some(nulls), cells.len())
        .map_err(|e| Error::failed(format!("column `{}`", field.name)).caused_by(e))
}

fn wrong(field: &Field, what: &str) -> Error {
    let shown: String = what.chars().take(100).collect();
    Error::failed(format!(
        "BigQuery sent `{shown}` for the column `{}`, which is {:?}",
        field.name, field.kind
    ))
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn date(text: &str) -> Option<i32> {
    let date: NaiveDate = text.parse().ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

fn time(text: &str) -> Option<i64> {
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").ok()?;
    let micros = i64::from(time.nanosecond() / 1000);
    Some(i64::from(time.num_seconds_from_midnight()) * 1_000_000 + micros)
}

fn datetime(text: &str) -> Option<i64> {
    let datetime = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(datetime.and_utc().timestamp_micros())
}

/// `[1704067200000000, UNBOUNDED)` with its times as times.
fn range_of_timestamps(text: &str) -> Option<String> {
    let inside = text.strip_prefix('[')?.strip_suffix(')')?;
    let (from, to) = inside.split_once(", ")?;
    let end = |end: &str| match end.parse() {
        Ok(micros) => {
            let time = DateTime::from_timestamp_micros(micros)?;
            Some(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
        }
        Err(_) => Some(end.to_owned()),
    };
    Some(format!("[{}, {})", end(from)?, end(to)?))
}

/// `-12.5` without its point, as a number of `10^-scale`.
///
/// # Why not `parse_decimal` of arrow-cast?
/// A BIGNUMERIC has up to 77 digits, one more than Arrow's type promises and its 256 bits do hold.
fn scaled(text: &str, scale: usize) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if fraction.len() > scale || !is_number(whole) || !is_number(fraction) || digits.is_empty() {
        return None;
    }
    Some(format!("{sign}{whole}{fraction:0<scale$}"))
}
