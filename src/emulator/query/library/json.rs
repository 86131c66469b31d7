//! JSON: paths into texts, and values written as JSON.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, TimestampMicrosecondType,
};
use datafusion::common::Result;
use serde_json::Value;

use super::Function;
use super::printf::plain_text;
use super::rows::{bools, floats, given, ints, text_lists, texts};
use crate::emulator::encode::datetime_text;
use crate::emulator::fields::Kind;
use crate::emulator::query::values;
use crate::emulator::query::wording::exec_err;

const PATH: &str = "STRING -> STRING | STRING, STRING -> STRING";
const PATH_TO_ARRAY: &str = "STRING -> ARRAY<STRING> | STRING, STRING -> ARRAY<STRING>";

pub(super) fn functions() -> Vec<Function> {
    let f = |name, signatures, compute| Function::listed(name, signatures, compute).taking_json();
    vec![
        f("JSON_VALUE", PATH, |args, n| found(args, n, scalar_text)),
        f("JSON_EXTRACT_SCALAR", PATH, |args, n| found(args, n, scalar_text)),
        f("JSON_QUERY", PATH, |args, n| found(args, n, |value| Some(value.to_string()))),
        f("JSON_EXTRACT", PATH, |args, n| found(args, n, |value| Some(value.to_string()))),
        f("JSON_VALUE_ARRAY", PATH_TO_ARRAY, |args, n| found_items(args, n, scalar_text)),
        f("JSON_EXTRACT_STRING_ARRAY", PATH_TO_ARRAY, |args, n| found_items(args, n, scalar_text)),
        f("JSON_QUERY_ARRAY", PATH_TO_ARRAY, |args, n| found_items(args, n, |v| Some(v.to_string()))),
        f("JSON_EXTRACT_ARRAY", PATH_TO_ARRAY, |args, n| found_items(args, n, |v| Some(v.to_string()))),
        Function::listed("PARSE_JSON", "STRING -> STRING", parse_json).of_kind(Kind::Json),
        Function::generic("TO_JSON", |given| Ok((given.to_vec(), DataType::Utf8)), to_json)
            .seeing(to_json_of)
            .of_kind(Kind::Json),
        Function::literal("TO_JSON_STRING", |_, _| Ok(Field::new("json", DataType::Utf8, true)), to_json)
            .seeing(to_json_of),
        f("JSON_TYPE", "STRING -> STRING", |args, n| {
            texts(args, n, |row| {
                Ok(Some(
                    match parsed(given!(row.text(0)))? {
                        Value::Null => "null",
                        Value::Bool(_) => "boolean",
                        Value::Number(_) => "number",
                        Value::String(_) => "string",
                        Value::Array(_) => "array",
                        Value::Object(_) => "object",
                    }
                    .to_owned(),
                ))
            })
        }),
        f("BOOL", "STRING -> BOOL", |args, n| {
            bools(args, n, |row| match parsed(given!(row.text(0)))? {
                Value::Bool(value) => Ok(Some(value)),
                _ => exec_err!("The provided JSON input is not a boolean"),
            })
        }),
        f("INT64", "STRING -> INT64", |args, n| {
            ints(args, n, |row| match parsed(given!(row.text(0)))?.as_i64() {
                Some(value) => Ok(Some(value)),
                None => exec_err!("The provided JSON input is not an integer"),
            })
        }),
        f("FLOAT64", "STRING -> FLOAT64", |args, n| {
            floats(args, n, |row| match parsed(given!(row.text(0)))?.as_f64() {
                Some(value) => Ok(Some(value)),
                None => exec_err!("The provided JSON input is not a number"),
            })
        }),
    ]
}

fn parsed(text: &str) -> Result<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) => exec_err!("syntax error while parsing value: {error}"),
    }
}

fn parse_json(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    texts(args, n, |row| Ok(Some(parsed(given!(row.text(0)))?.to_string())))
}

/// What lies at a path of the document; NULL where the text is no JSON or nothing lies there.
fn found(args: &[ArrayRef], n: usize, shown: fn(&Value) -> Option<String>) -> Result<ArrayRef> {
    texts(args, n, |row| {
        let text = given!(row.text(0));
        let path = if row.is_given(1) { given!(row.text(1)) } else { "$" };
        let steps = steps(path)?;
        let Ok(document) = serde_json::from_str::<Value>(text) else { return Ok(None) };
        Ok(walk(&document, &steps).and_then(shown))
    })
}

fn found_items(args: &[ArrayRef], n: usize, shown: fn(&Value) -> Option<String>) -> Result<ArrayRef> {
    text_lists(args, n, |row| {
        let text = given!(row.text(0));
        let path = if row.is_given(1) { given!(row.text(1)) } else { "$" };
        let steps = steps(path)?;
        let Ok(document) = serde_json::from_str::<Value>(text) else { return Ok(None) };
        Ok(match walk(&document, &steps) {
            Some(Value::Array(items)) => items.iter().map(shown).collect(),
            _ => None,
        })
    })
}

/// A member by its name, or an item by its place; NULL where there is none.
pub(super) fn part(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let by_name = args[1].data_type() == &DataType::Utf8;
    texts(args, n, |row| {
        let (text, step) = match by_name {
            true => (given!(row.text(0)), Step::Key(given!(row.text(1)).to_owned())),
            false => {
                let Ok(at) = usize::try_from(given!(row.int(1))) else { return Ok(None) };
                (given!(row.text(0)), Step::Item(at))
            }
        };
        Ok(walk(&parsed(text)?, &[step]).map(Value::to_string))
    })
}

/// The text of a scalar without its quotes; nothing for objects, arrays and null.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

enum Step {
    Key(String),
    Item(usize),
}

fn walk<'a>(value: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.as_object()?.get(key),
        Step::Item(at) => value.as_array()?.get(*at),
    })
}

/// `$.a.b[0]`, `$['a.b']`, `$."a.b"`.
fn steps(path: &str) -> Result<Vec<Step>> {
    let invalid = || exec_err!("Invalid JSON path: {path}");
    let Some(mut rest) = path.trim().strip_prefix('$') else { return invalid() };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, behind) = if let Some(name) = rest.strip_prefix(".\"") {
            let Some((name, behind)) = name.split_once('"') else { return invalid() };
            (Step::Key(name.to_owned()), behind)
        } else if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 {
                return invalid();
            }
            (Step::Key(name[..end].to_owned()), &name[end..])
        } else if let Some(inside) = rest.strip_prefix('[') {
            let Some((inside, behind)) = inside.split_once(']') else { return invalid() };
            let inside = inside.trim();
            let name = inside.strip_prefix(['\'', '"']).and_then(|n| n.strip_suffix(['\'', '"']));
            match (name, inside.parse()) {
                (Some(name), _) => (Step::Key(name.to_owned()), behind),
                (None, Ok(at)) => (Step::Item(at), behind),
                _ => return invalid(),
            }
        } else {
            return invalid();
        };
        steps.push(step);
        rest = behind;
    }
    Ok(steps)
}

fn to_json(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let field = Field::new("value", args[0].data_type().clone(), true);
    to_json_of(args, &[field.into()], n)
}

fn to_json_of(args: &[ArrayRef], fields: &[FieldRef], n: usize) -> Result<ArrayRef> {
    let one = |row: usize| {
        let mut text = String::new();
        push_json(&mut text, &fields[0], &args[0], row);
        Some(text)
    };
    let all: datafusion::arrow::array::StringArray = (0..n).map(one).collect();
    Ok(std::sync::Arc::new(all))
}

/// Whole numbers beyond 2^53 are texts in JSON.
const SAFE_INTEGER: i64 = 1 << 53;

fn push_json(out: &mut String, field: &Field, array: &ArrayRef, row: usize) {
    if array.is_null(row) {
        return out.push_str("null");
    }
    match array.data_type() {
        DataType::Null => out.push_str("null"),
        DataType::List(item) => {
            out.push('[');
            let items = array.as_list::<i32>().value(row);
            for at in 0..items.len() {
                if at > 0 {
                    out.push(',');
                }
                push_json(out, item, &items, at);
            }
            out.push(']');
        }
        DataType::Struct(fields) => {
            out.push('{');
            for (at, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                if at > 0 {
                    out.push(',');
                }
                // A field without a name has the empty one.
                let name = if super::nested::is_anonymous(field.name()) { "" } else { field.name().as_str() };
                out.push_str(&Value::from(name).to_string());
                out.push(':');
                push_json(out, field, column, row);
            }
            out.push('}');
        }
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int64 => {
            let value = array.as_primitive::<Int64Type>().value(row);
            match (-SAFE_INTEGER..=SAFE_INTEGER).contains(&value) {
                true => out.push_str(&value.to_string()),
                false => out.push_str(&format!("\"{value}\"")),
            }
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            match value.is_finite() {
                true => out.push_str(&values::float_text(value)),
                false if value.is_nan() => out.push_str("\"NaN\""),
                false => out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
            }
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => out.push_str(&plain_text(array, row)),
        DataType::Timestamp(_, zone) => {
            let text = datetime_text(array.as_primitive::<TimestampMicrosecondType>().value(row), 'T');
            let text = values::short_fraction(text);
            out.push_str(&format!("\"{text}{}\"", if zone.is_some() { "Z" } else { "" }));
        }
        DataType::Utf8 if Kind::of_field(field) == Some(Kind::Json) => {
            out.push_str(array.as_string::<i32>().value(row));
        }
        DataType::Binary => {
            use base64::Engine;
            let bytes = array.as_binary::<i32>().value(row);
            out.push_str(&format!("\"{}\"", base64::prelude::BASE64_STANDARD.encode(bytes)));
        }
        _ => out.push_str(&Value::from(plain_text(array, row)).to_string()),
    }
}
