//! Rows as the API writes them: `{"f":[{"v":"1"},…]}`, every value a text or null.

use std::fmt::Write;

use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// How a client asked for its values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Format {
    /// TIMESTAMP as integer microseconds instead of floating seconds.
    pub int64_timestamps: bool,
}

/// The text of a JSON array of rows, which is cut at a size that BigQuery would cut it at.
#[derive(Debug)]
pub(super) struct Rows {
    text: String,
    pub count: u64,
}

/// 10 MB of JSON, and 100,000 rows, are a page.
const PAGE_BYTES_MAX: usize = 10_000_000;
pub(super) const PAGE_ROWS_MAX: u64 = 100_000;

impl Rows {
    pub(super) fn new() -> Self {
        Rows { text: "[".into(), count: 0 }
    }

    /// Adds rows until the page is full; `false` then.
    pub(super) fn push(&mut self, batch: &RecordBatch, format: Format) -> bool {
        for row in 0..batch.num_rows() {
            if self.count > 0 {
                if self.text.len() >= PAGE_BYTES_MAX {
                    return false;
                }
                self.text.push(',');
            }
            self.text.push_str("{\"f\":[");
            for (index, column) in batch.columns().iter().enumerate() {
                if index > 0 {
                    self.text.push(',');
                }
                self.text.push_str("{\"v\":");
                push_value(&mut self.text, column, row, format);
                self.text.push('}');
            }
            self.text.push_str("]}");
            self.count += 1;
        }
        true
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push(']');
        self.text
    }
}

fn push_value(out: &mut String, column: &ArrayRef, row: usize, format: Format) {
    if let DataType::List(_) = column.data_type() {
        // A REPEATED value is never null, only empty.
        let items = column.as_list::<i32>();
        out.push('[');
        if items.is_valid(row) {
            let items = items.value(row);
            for item in 0..items.len() {
                out.push_str(if item > 0 { ",{\"v\":" } else { "{\"v\":" });
                push_value(out, &items, item, format);
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
        DataType::Struct(_) => {
            out.push_str("{\"f\":[");
            for (index, child) in column.as_struct().columns().iter().enumerate() {
                out.push_str(if index > 0 { ",{\"v\":" } else { "{\"v\":" });
                push_value(out, child, row, format);
                out.push('}');
            }
            out.push_str("]}");
        }
        DataType::Utf8 => push_json(out, column.as_string::<i32>().value(row)),
        DataType::Int64 => {
            let _ = write!(out, "\"{}\"", column.as_primitive::<Int64Type>().value(row));
        }
        DataType::Timestamp(_, Some(_)) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            if format.int64_timestamps {
                let _ = write!(out, "\"{micros}\"");
            } else {
                let _ = write!(out, "\"{}\"", scientific(micros as f64 / 1e6));
            }
        }
        _ => {
            out.push('"');
            out.push_str(&value_text(column, row));
            out.push('"');
        }
    }
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
fn value_text(column: &ArrayRef, row: usize) -> String {
    match column.data_type() {
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
            decimal_text(&column.as_primitive::<Decimal256Type>().value_as_string(row))
        }
        DataType::Binary => base64(column.as_binary::<i32>().value(row)),
        _ => ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default())
            .map(|f| f.value(row).to_string().replace(['"', '\\'], ""))
            .unwrap_or_default(),
    }
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

pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let [a, b, c] =
            [chunk.first(), chunk.get(1), chunk.get(2)].map(|byte| u32::from(byte.copied().unwrap_or(0)));
        let group = (a << 16) | (b << 8) | c;
        for digit in 0..4 {
            if digit <= chunk.len() {
                let index = (group >> (18 - 6 * digit)) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            } else {
                text.push('=');
            }
        }
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
    fn base64_pads() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
