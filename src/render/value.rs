//! One value as text or JSON.

use std::fmt::Write;
use std::io;

use arrow::array::{Array, ArrayRef, AsArray, Decimal256Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal256Type, DecimalType, Field, Float16Type, Float32Type, Float64Type};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The name under which a field says that its text is JSON, in the words of BigQuery's Storage API.
const EXTENSION: &str = "ARROW:extension:name";
const JSON_EXTENSIONS: [&str; 2] = ["google:sqlType:json", "arrow.json"];

const SECONDS: &str = "%Y-%m-%dT%H:%M:%S%.f";
const SECONDS_UTC: &str = "%Y-%m-%dT%H:%M:%S%.fZ";
const SECONDS_ZONE: &str = "%Y-%m-%dT%H:%M:%S%.f%:z";

/// A column of one batch, ready to write any of its values.
pub(super) struct Column<'a> {
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// Integers and booleans: the same in text and in JSON.
    Literal(ArrayFormatter<'a>),
    Float(Box<dyn Fn(usize) -> f64 + 'a>),
    Float32(&'a ArrayRef),
    /// Fixed point, zeros at the end taken off; a string in JSON, so that no digit is lost.
    Decimal(ArrayFormatter<'a>),
    /// A BIGNUMERIC has up to 77 digits, one more than Arrow's formatter shows.
    BigDecimal(&'a Decimal256Array, i8),
    Text(ArrayFormatter<'a>),
    /// Text that is JSON already.
    Json(ArrayFormatter<'a>),
    Bytes(Box<dyn Fn(usize) -> &'a [u8] + 'a>),
    List(Box<dyn Fn(usize) -> std::ops::Range<usize> + 'a>, Box<Column<'a>>),
    Struct(Vec<(String, Column<'a>)>),
}

/// The columns of a batch with the JSON texts of their names.
pub(super) fn columns(batch: &RecordBatch) -> io::Result<Vec<(String, Column<'_>)>> {
    let fields = batch.schema_ref().fields().iter();
    fields.zip(batch.columns()).map(|(field, array)| named(field, array)).collect()
}

fn named<'a>(field: &Field, array: &'a ArrayRef) -> io::Result<(String, Column<'a>)> {
    Ok((quoted(field.name()), Column::new(field, array)?))
}

/// True for what is written to the right of a table's column.
pub(super) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

impl<'a> Column<'a> {
    pub(super) fn new(field: &Field, array: &'a ArrayRef) -> io::Result<Self> {
        let formatter = |options: &FormatOptions<'a>| {
            ArrayFormatter::try_new(array.as_ref(), options).map_err(io::Error::other)
        };
        let plain = FormatOptions::new()
            .with_datetime_format(Some(SECONDS))
            .with_timestamp_format(Some(SECONDS))
            .with_timestamp_tz_format(Some(SECONDS_ZONE));
        let kind = match array.data_type() {
            data_type if data_type.is_integer() => Kind::Literal(formatter(&plain)?),
            DataType::Boolean => Kind::Literal(formatter(&plain)?),
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>();
                Kind::Float(Box::new(|row| values.value(row)))
            }
            DataType::Float16 => {
                let values = array.as_primitive::<Float16Type>();
                Kind::Float(Box::new(|row| values.value(row).to_f64()))
            }
            DataType::Float32 => Kind::Float32(array),
            DataType::Decimal256(_, scale) => {
                let values = array.as_primitive::<Decimal256Type>();
                Kind::BigDecimal(values, *scale)
            }
            data_type if data_type.is_decimal() => Kind::Decimal(formatter(&plain)?),
            DataType::Timestamp(_, Some(zone)) if matches!(&**zone, "UTC" | "+00:00" | "Z") => {
                Kind::Text(formatter(&plain.with_timestamp_tz_format(Some(SECONDS_UTC)))?)
            }
            DataType::Binary => {
                let values = array.as_binary::<i32>();
                Kind::Bytes(Box::new(|row| values.value(row)))
            }
            DataType::LargeBinary => {
                let values = array.as_binary::<i64>();
                Kind::Bytes(Box::new(|row| values.value(row)))
            }
            DataType::BinaryView => {
                let values = array.as_binary_view();
                Kind::Bytes(Box::new(|row| values.value(row)))
            }
            DataType::FixedSizeBinary(_) => {
                let values = array.as_fixed_size_binary();
                Kind::Bytes(Box::new(|row| values.value(row)))
            }
            DataType::List(item) => {
                let lists = array.as_list::<i32>();
                let offsets = lists.value_offsets();
                // Offsets of an array are checked when it is made: they are never negative.
                let at = move |row: usize| usize::try_from(offsets[row]).unwrap_or(0);
                let range = Box::new(move |row| at(row)..at(row + 1));
                Kind::List(range, Box::new(Column::new(item, lists.values())?))
            }
            DataType::LargeList(item) => {
                let lists = array.as_list::<i64>();
                let offsets = lists.value_offsets();
                let at = move |row: usize| usize::try_from(offsets[row]).unwrap_or(0);
                let range = Box::new(move |row| at(row)..at(row + 1));
                Kind::List(range, Box::new(Column::new(item, lists.values())?))
            }
            DataType::FixedSizeList(item, size) => {
                let size = usize::try_from(*size).unwrap_or(0);
                let range = Box::new(move |row| row * size..(row + 1) * size);
                Kind::List(range, Box::new(Column::new(item, array.as_fixed_size_list().values())?))
            }
            DataType::Struct(fields) => {
                let children = fields.iter().zip(array.as_struct().columns());
                Kind::Struct(children.map(|(field, child)| named(field, child)).collect::<io::Result<_>>()?)
            }
            _ if is_json(field) => Kind::Json(formatter(&plain)?),
            _ => Kind::Text(formatter(&plain)?),
        };
        Ok(Column { nulls: array.logical_nulls(), kind })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The value as text, nothing for NULL. What is nested is JSON.
    pub(super) fn push_text(&self, out: &mut String, row: usize) {
        if self.is_null(row) {
            return;
        }
        match &self.kind {
            Kind::Text(values) | Kind::Json(values) => push(out, values, row),
            Kind::Decimal(values) => push_decimal(out, &values.value(row).to_string()),
            Kind::BigDecimal(values, scale) => {
                push_decimal(out, &Decimal256Type::format_decimal(values.value(row), u8::MAX, *scale));
            }
            Kind::Bytes(values) => STANDARD.encode_string(values(row), out),
            Kind::Float(values) => push_float(out, values(row)),
            Kind::Float32(values) => {
                push_float32(out, values.as_primitive::<Float32Type>().value(row));
            }
            Kind::Literal(_) | Kind::List(..) | Kind::Struct(_) => self.push_json(out, row),
        }
    }

    /// The text as a string of JSON, null for NULL.
    pub(super) fn push_json_text(&self, out: &mut String, row: usize) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        let mut text = String::new();
        self.push_text(&mut text, row);
        push_quoted(out, &text);
    }

    pub(super) fn push_json(&self, out: &mut String, row: usize) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        match &self.kind {
            Kind::Literal(values) => push(out, values, row),
            Kind::Json(values) => {
                let start = out.len();
                push(out, values, row);
                // Between the tokens of a JSON text a line break is a blank; inside of strings there is none.
                if out[start..].contains(['\n', '\r']) {
                    let line = out.split_off(start).replace(['\n', '\r'], " ");
                    out.push_str(&line);
                }
            }
            Kind::Float(values) if values(row).is_finite() => push_float(out, values(row)),
            Kind::Float32(values) if values.as_primitive::<Float32Type>().value(row).is_finite() => {
                push_float32(out, values.as_primitive::<Float32Type>().value(row));
            }
            Kind::Float(_) | Kind::Float32(_) | Kind::Decimal(_) | Kind::BigDecimal(..) | Kind::Bytes(_) => {
                out.push('"');
                self.push_text(out, row);
                out.push('"');
            }
            Kind::Text(values) => {
                let mut text = String::new();
                push(&mut text, values, row);
                push_quoted(out, &text);
            }
            Kind::List(range, items) => {
                out.push('[');
                for (index, item) in range(row).enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    items.push_json(out, item);
                }
                out.push(']');
            }
            Kind::Struct(children) => push_object(out, children, row),
        }
    }
}

/// `{"name":value,…}` of one row.
pub(super) fn push_object(out: &mut String, columns: &[(String, Column<'_>)], row: usize) {
    out.push('{');
    for (index, (name, column)) in columns.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push(':');
        column.push_json(out, row);
    }
    out.push('}');
}

fn is_json(field: &Field) -> bool {
    field.metadata().get(EXTENSION).is_some_and(|name| JSON_EXTENSIONS.contains(&name.as_str()))
}

fn push(out: &mut String, values: &ArrayFormatter<'_>, row: usize) {
    // Writing to a String cannot fail, and the formatter writes its own errors into the text.
    let _ = write!(out, "{}", values.value(row));
}

/// Without zeros at the end of its fraction.
fn push_decimal(out: &mut String, text: &str) {
    out.push_str(match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    });
}

fn push_float(out: &mut String, value: f64) {
    match value {
        value if value == f64::INFINITY => out.push_str("Infinity"),
        value if value == f64::NEG_INFINITY => out.push_str("-Infinity"),
        value => {
            let _ = write!(out, "{value:?}");
        }
    }
}

/// The shortest text that reads back as the same 32 bits, which is shorter than that of the 64.
fn push_float32(out: &mut String, value: f32) {
    match value.is_infinite() {
        true => push_float(out, f64::from(value)),
        false => {
            let _ = write!(out, "{value:?}");
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    push_quoted(&mut out, text);
    out
}

fn push_quoted(out: &mut String, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}
