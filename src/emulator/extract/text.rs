//! Rows as BigQuery extracts them into text: CSV, and JSON with one object a line.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};

use crate::emulator::encode::{TimestampFormat, datetime_text, value_text};
use crate::emulator::fields::{Field, Kind, Mode};

pub(super) fn csv_header(fields: &[Field], delimiter: u8) -> String {
    let mut line = String::new();
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            line.push(char::from(delimiter));
        }
        push_csv(&mut line, &field.name, delimiter);
    }
    line.push('\n');
    line
}

pub(super) fn csv_rows(batch: &RecordBatch, delimiter: u8) -> String {
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (index, column) in batch.columns().iter().enumerate() {
            if index > 0 {
                text.push(char::from(delimiter));
            }
            // A NULL is nothing at all, an empty text a pair of quotes.
            if column.is_valid(row) {
                push_csv(&mut text, &scalar_text(column, row), delimiter);
            }
        }
        text.push('\n');
    }
    text
}

fn push_csv(line: &mut String, value: &str, delimiter: u8) {
    let needs_quotes = |b: u8| b == delimiter || matches!(b, b'"' | b'\n' | b'\r');
    if value.is_empty() || value.bytes().any(needs_quotes) {
        line.push('"');
        line.push_str(&value.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(value);
    }
}

pub(super) fn json_rows(batch: &RecordBatch, fields: &[Field]) -> String {
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        push_object(&mut text, fields, batch.columns(), row);
        text.push('\n');
    }
    text
}

/// NULL is left out; a REPEATED field is always there.
fn push_object(out: &mut String, fields: &[Field], columns: &[ArrayRef], row: usize) {
    out.push('{');
    let mut is_first = true;
    for (field, column) in fields.iter().zip(columns) {
        if column.is_null(row) && field.mode != Mode::Repeated {
            continue;
        }
        if !is_first {
            out.push(',');
        }
        is_first = false;
        push_text(out, &field.name);
        out.push(':');
        if field.mode == Mode::Repeated {
            out.push('[');
            let list = column.as_list::<i32>();
            if list.is_valid(row) {
                let items = list.value(row);
                for item in 0..items.len() {
                    if item > 0 {
                        out.push(',');
                    }
                    push_value(out, field, &items, item);
                }
            }
            out.push(']');
        } else {
            push_value(out, field, column, row);
        }
    }
    out.push('}');
}

fn push_value(out: &mut String, field: &Field, column: &ArrayRef, row: usize) {
    if column.is_null(row) {
        out.push_str("null");
        return;
    }
    match field.kind {
        Kind::Record => push_object(out, &field.fields, column.as_struct().columns(), row),
        Kind::Range(_) => {
            let bounds = column.as_struct();
            for (index, name) in ["{\"start\":", ",\"end\":"].iter().enumerate() {
                out.push_str(name);
                match bounds.column(index) {
                    bound if bound.is_null(row) => out.push_str("null"),
                    bound => push_text(out, &scalar_text(bound, row)),
                }
            }
            out.push('}');
        }
        Kind::Bool => out.push_str(if column.as_boolean().value(row) { "true" } else { "false" }),
        Kind::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            match serde_json::Number::from_f64(value) {
                Some(number) => out.push_str(&number.to_string()),
                None => push_text(out, &scalar_text(column, row)),
            }
        }
        // Its own value, not a text that holds it.
        Kind::Json => out.push_str(&escaped(column.as_string::<i32>().value(row))),
        _ => push_text(out, &scalar_text(column, row)),
    }
}

fn push_text(out: &mut String, text: &str) {
    out.push_str(&escaped(&serde_json::Value::from(text).to_string()));
}

/// As in BigQuery, no text can end a script that it is pasted into. Outside of texts JSON has none of these.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn scalar_text(column: &ArrayRef, row: usize) -> String {
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Timestamp(_, Some(_)) => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            format!("{} UTC", datetime_text(micros, ' '))
        }
        // Only a RANGE is a record here.
        DataType::Struct(_) => {
            let bounds = column.as_struct();
            let bound = |index: usize| match bounds.column(index) {
                bound if bound.is_null(row) => "UNBOUNDED".to_owned(),
                bound => scalar_text(bound, row),
            };
            format!("[{}, {})", bound(0), bound(1))
        }
        _ => value_text(column, row, TimestampFormat::Iso8601),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_tells_an_empty_text_from_null_and_quotes_what_it_must() {
        let mut line = String::new();
        for value in ["", "a", "a,b", "say \"x\"", "two\nlines", "tab\t"] {
            push_csv(&mut line, value, b',');
            line.push('|');
        }
        assert_eq!(line, "\"\"|a|\"a,b\"|\"say \"\"x\"\"\"|\"two\nlines\"|tab\t|");
    }

    #[test]
    fn json_is_safe_inside_of_a_page() {
        let mut out = String::new();
        push_text(&mut out, "</a>&\"\u{1}");
        assert_eq!(out, "\"\\u003c/a\\u003e\\u0026\\\"\\u0001\"");
    }
}
