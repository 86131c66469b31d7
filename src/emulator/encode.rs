//! Rows as the API writes them: `{"f":[{"v":"1"},…]}`, every value a text or null.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, DecimalType, Field, Fields, Float64Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, i256,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::fields::Kind;
use super::wire::{Failure, Outcome};

/// How a client asked for its values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum TimestampFormat {
    /// Seconds, as a floating point number.
    #[default]
    Float,
    /// Microseconds.
    Int64,
    Iso8601,
}

impl TimestampFormat {
    /// From `useInt64Timestamp` and `timestampOutputFormat`, of which only one may be set.
    pub(super) fn of(use_int64: bool, format: Option<&str>) -> Outcome<Self> {
        let named = match format {
            None | Some("TIMESTAMP_OUTPUT_FORMAT_UNSPECIFIED") => None,
            Some("FLOAT64") => Some(TimestampFormat::Float),
            Some("INT64") => Some(TimestampFormat::Int64),
            Some("ISO8601_STRING") => Some(TimestampFormat::Iso8601),
            Some(other) => {
                let message = format!("Invalid value for formatOptions.timestampOutputFormat: {other}");
                return Err(Failure::invalid(message));
            }
        };
        match (use_int64, named) {
            (true, Some(TimestampFormat::Float | TimestampFormat::Iso8601)) => Err(Failure::invalid(
                "formatOptions.useInt64Timestamp and formatOptions.timestampOutputFormat contradict each other",
            )),
            (true, _) => Ok(TimestampFormat::Int64),
            (false, named) => Ok(named.unwrap_or_default()),
        }
    }
}

/// The text of a JSON array of rows, which is cut at a size that BigQuery would cut it at.
///
/// It is kept in pieces of one size: a text that grows to 10 MB is copied again and again, and leaves holes
/// in the allocator that the next page does not fit into.
#[derive(Debug)]
pub(super) struct Rows {
    pieces: Vec<Bytes>,
    text: String,
    bytes: usize,
    pub count: u64,
}

/// 10 MB of JSON, and 100,000 rows, are a page.
const PAGE_BYTES_MAX: usize = 10_000_000;
const PIECE_BYTES: usize = 64 << 10;
pub(super) const PAGE_ROWS_MAX: u64 = 100_000;

impl Rows {
    pub(super) fn new() -> Self {
        Rows { pieces: Vec::new(), text: "[".into(), bytes: 0, count: 0 }
    }

    /// Adds rows until the page is full; `false` then.
    pub(super) fn push(&mut self, batch: &RecordBatch, format: TimestampFormat) -> bool {
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            if self.count > 0 {
                if self.bytes + self.text.len() >= PAGE_BYTES_MAX {
                    return false;
                }
                self.text.push(',');
                if self.text.len() >= PIECE_BYTES {
                    self.cut();
                }
            }
            self.text.push_str("{\"f\":");
            push_cells(&mut self.text, schema.fields(), batch.columns(), row, format);
            self.text.push('}');
            self.count += 1;
        }
        true
    }

    /// The array, in pieces.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.text.push(']');
        self.cut();
        self.pieces
    }

    fn cut(&mut self) {
        self.bytes += self.text.len();
        // A row may be larger than a piece.
        self.pieces.push(Bytes::copy_from_slice(self.text.as_bytes()));
        self.text.clear();
    }
}

fn push_cells(out: &mut String, fields: &Fields, columns: &[ArrayRef], row: usize, format: TimestampFormat) {
    out.push('[');
    for (index, (field, column)) in fields.iter().zip(columns).enumerate() {
        out.push_str(if index > 0 { ",{\"v\":" } else { "{\"v\":" });
        push_value(out, field, column, row, format);
        out.push('}');
    }
    out.push(']');
}

fn push_value(out: &mut String, field: &Field, column: &ArrayRef, row: usize, format: TimestampFormat) {
    if let DataType::List(item_field) = column.data_type() {
        // A REPEATED value is never null, only empty.
        let items = column.as_list::<i32>();
        out.push('[');
        if items.is_valid(row) {
            let items = items.value(row);
            for item in 0..items.len() {
                out.push_str(if item > 0 { ",{\"v\":" } else { "{\"v\":" });
                push_value(out, item_field, &items, item, format);
                out.push('}');
            }
        }
        out.push(']');
        return;
    }
    if column.is_null(row) {
        out.push_str("null");
        return;
    }
    match column.data_type() {
        DataType::Struct(fields) => {
            let record = column.as_struct();
            if let Some(Kind::Range(_)) = Kind::of_field(field) {
                let _ = write!(out, "\"{}\"", range_text(record, row, format));
            } else {
                out.push_str("{\"f\":");
                push_cells(out, fields, record.columns(), row, format);
                out.push('}');
            }
        }
        DataType::Utf8 => push_json(out, column.as_string::<i32>().value(row)),
        DataType::Int64 => {
            let _ = write!(out, "\"{}\"", column.as_primitive::<Int64Type>().value(row));
        }
        _ => {
            out.push('"');
            out.push_str(&value_text(column, row, format));
            out.push('"');
        }
    }
}

/// `[a, b)`, without a bound `UNBOUNDED`.
fn range_text(range: &StructArray, row: usize, format: TimestampFormat) -> String {
    let bounds: Vec<String> = range
        .columns()
        .iter()
        .map(|bound| match bound.is_null(row) {
            true => "UNBOUNDED".to_owned(),
            false => value_text(bound, row, format),
        })
        .collect();
    format!("[{})", bounds.join(", "))
}

fn push_json(out: &mut String, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// The value as text, for the types whose text needs no JSON escapes.
pub(super) fn value_text(column: &ArrayRef, row: usize, format: TimestampFormat) -> String {
    match column.data_type() {
        DataType::Timestamp(_, Some(_)) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            match format {
                TimestampFormat::Float => scientific(micros as f64 / 1e6),
                TimestampFormat::Int64 => micros.to_string(),
                TimestampFormat::Iso8601 => format!("{}Z", datetime_text(micros, 'T')),
            }
        }
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Float64 => float_text(column.as_primitive::<Float64Type>().value(row)),
        DataType::Date32 => date_text(column.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(_, None) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            datetime_text(micros, 'T')
        }
        DataType::Time64(_) => {
            let micros = column.as_primitive::<Time64MicrosecondType>().value(row);
            datetime_text(micros, 'T')[11..].to_owned()
        }
        DataType::Decimal128(..) => {
            decimal_text(&column.as_primitive::<Decimal128Type>().value_as_string(row))
        }
        DataType::Decimal256(..) => {
            let values = column.as_primitive::<Decimal256Type>();
            bignumeric_text(values.value(row), values.scale())
        }
        DataType::Binary => STANDARD.encode(column.as_binary::<i32>().value(row)),
        _ => ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())
            .map(|f| f.value(row).to_string().replace(['"', '\\'], ""))
            .unwrap_or_default(),
    }
}

/// A BIGNUMERIC has up to 77 digits, one more than Arrow's own text of it shows.
pub(super) fn bignumeric_text(value: i256, scale: i8) -> String {
    decimal_text(&Decimal256Type::format_decimal(value, u8::MAX, scale))
}

pub(super) fn decimal_text(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// FLOAT64 as the API writes it.
fn float_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        format!("{value:?}")
    } else {
        scientific(value)
    }
}

/// `1.704164645123456E9`; zero is `0.0`.
fn scientific(value: f64) -> String {
    if value == 0.0 {
        return "0.0".into();
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}

pub(super) fn date_of(days: i32) -> Option<NaiveDate> {
    // 719,163 days lie between the year 1 and 1970.
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(719_163)?)
}

pub(super) fn date_text(days: i32) -> String {
    date_of(days)
        .map_or_else(|| format!("day {days}"), |d| format!("{:04}-{:02}-{:02}", d.year(), d.month(), d.day()))
}

/// `2024-01-02T03:04:05` with as many as six digits of a second, none when they are zero.
pub(super) fn datetime_text(micros: i64, separator: char) -> String {
    let Some(time) = DateTime::from_timestamp_micros(micros) else { return format!("{micros} us") };
    let (date, clock) = (time.date_naive(), time.time());
    let mut text = format!(
        "{:04}-{:02}-{:02}{separator}{:02}:{:02}:{:02}",
        date.year(),
        date.month(),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    let fraction = micros.rem_euclid(1_000_000);
    if fraction != 0 {
        let _ = write!(text, ".{fraction:06}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_bigquery_writes_them() {
        assert_eq!(scientific(1_704_164_645.123_456), "1.704164645123456E9");
        assert_eq!(scientific(1e9), "1.0E9");
        assert_eq!(float_text(1.5), "1.5");
        assert_eq!(float_text(3.0), "3.0");
        assert_eq!(float_text(1e20), "1.0E20");
        assert_eq!(float_text(f64::NEG_INFINITY), "-Infinity");
        assert_eq!(decimal_text("123.456000000"), "123.456");
        assert_eq!(decimal_text("100.000000000"), "100");
        assert_eq!(decimal_text("100"), "100");
    }

    #[test]
    fn times_have_six_digits_or_none() {
        assert_eq!(datetime_text(1_704_164_645_000_000, 'T'), "2024-01-02T03:04:05");
        assert_eq!(datetime_text(1_704_164_645_000_120, ' '), "2024-01-02 03:04:05.000120");
        assert_eq!(datetime_text(-1, 'T'), "1969-12-31T23:59:59.999999");
        assert_eq!(date_text(0), "1970-01-01");
        assert_eq!(date_text(19_724), "2024-01-02");
    }

    #[test]
    fn only_one_way_to_write_timestamps_may_be_asked_for() {
        use TimestampFormat::{Float, Int64, Iso8601};
        assert_eq!(TimestampFormat::of(false, None), Ok(Float));
        assert_eq!(TimestampFormat::of(true, Some("INT64")), Ok(Int64));
        assert_eq!(TimestampFormat::of(false, Some("ISO8601_STRING")), Ok(Iso8601));
        assert!(TimestampFormat::of(true, Some("ISO8601_STRING")).is_err());
        assert!(TimestampFormat::of(false, Some("iso")).is_err());
    }
}
