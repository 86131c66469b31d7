//! OPTIONS(...): GoogleSQL's names for what table, column and dataset documents say, in both directions.

use datafusion::sql::sqlparser::ast::{Expr, UnaryOperator, Value as SqlValue};
use serde_json::{Map, Value, json};

use crate::emulator::query::values;
use crate::emulator::wire::{Failure, Outcome};

type Document = Map<String, Value>;

/// A literal as JSON: text, number, truth value, NULL, or an array or tuple of them.
pub(in crate::emulator::query) fn constant(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Value(value) => match &value.value {
            SqlValue::Null => Some(Value::Null),
            SqlValue::Boolean(value) => Some(json!(value)),
            SqlValue::Number(text, _) => {
                let float = || values::parse_float(text).map(|f| json!(f));
                values::parse_int(text).map(|n| json!(n)).or_else(float)
            }
            other => other.clone().into_string().map(Value::String),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match constant(expr)? {
            Value::Number(n) => n.as_i64().map(|n| json!(-n)).or_else(|| n.as_f64().map(|f| json!(-f))),
            _ => None,
        },
        Expr::Nested(expr) => constant(expr),
        Expr::Array(array) => array.elem.iter().map(constant).collect::<Option<Vec<_>>>().map(Value::Array),
        Expr::Tuple(values) | Expr::Struct { values, fields: _ } => {
            values.iter().map(constant).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Expr::TypedString(typed) if typed.data_type.to_string().eq_ignore_ascii_case("TIMESTAMP") => {
            let text = typed.value.value.clone().into_string()?;
            // Milliseconds, as documents have them.
            values::parse_timestamp(&text).map(|micros| json!(micros.div_euclid(1000)))
        }
        _ => None,
    }
}

pub(in crate::emulator::query) fn apply_column(
    document: &mut Document,
    name: &str,
    value: &Expr,
) -> Outcome<()> {
    match (name, constant(value)) {
        ("description", Some(value @ (Value::String(_) | Value::Null))) => {
            document.insert("description".into(), value);
            Ok(())
        }
        ("description", _) => Err(wrong_type("description", "STRING")),
        ("rounding_mode" | "data_policies" | "policy_tags", _) => {
            Err(Failure::unsupported_sql(format!("the column option {name}")))
        }
        _ => Err(unknown(name)),
    }
}

/// Adds an option of a table or view to a table document; an option that is NULL becomes an explicit null.
///
/// `value` is the constant, with a TIMESTAMP in milliseconds.
pub(in crate::emulator::query) fn apply_table(body: &mut Document, name: &str, value: Value) -> Outcome<()> {
    let (member, value) = match (name, value) {
        ("description", value @ (Value::String(_) | Value::Null)) => ("description", value),
        ("friendly_name", value @ (Value::String(_) | Value::Null)) => ("friendlyName", value),
        ("labels", value) => ("labels", labels(value)?),
        ("expiration_timestamp", Value::Null) => ("expirationTime", Value::Null),
        ("expiration_timestamp", Value::Number(ms)) => ("expirationTime", json!(ms.to_string())),
        ("require_partition_filter", value @ Value::Bool(_)) => ("requirePartitionFilter", value),
        ("require_partition_filter", Value::Null) => ("requirePartitionFilter", json!(false)),
        ("partition_expiration_days", Value::Null) => ("partitionExpirationMs", Value::Null),
        ("partition_expiration_days", value) => ("partitionExpirationMs", milliseconds(name, &value)?),
        ("description" | "friendly_name", _) => return Err(wrong_type(name, "STRING")),
        ("expiration_timestamp", _) => return Err(wrong_type(name, "TIMESTAMP")),
        ("require_partition_filter", _) => return Err(wrong_type(name, "BOOL")),
        (
            "kms_key_name"
            | "default_rounding_mode"
            | "enable_change_history"
            | "max_staleness"
            | "enable_fine_grained_mutations"
            | "storage_uri"
            | "file_format"
            | "table_format"
            | "tags"
            | "privacy_policy"
            | "enable_refresh"
            | "refresh_interval_minutes",
            _,
        ) => return Err(Failure::unsupported_sql(format!("the option {name}"))),
        _ => return Err(unknown(name)),
    };
    body.insert(member.to_owned(), value);
    Ok(())
}

pub(in crate::emulator::query) fn apply_dataset(
    body: &mut Document,
    name: &str,
    value: Value,
) -> Outcome<()> {
    let (member, value) = match (name, value) {
        ("description", value @ (Value::String(_) | Value::Null)) => ("description", value),
        ("friendly_name", value @ (Value::String(_) | Value::Null)) => ("friendlyName", value),
        ("location", value @ Value::String(_)) => ("location", value),
        ("labels", value) => ("labels", labels(value)?),
        ("default_table_expiration_days", Value::Null) => ("defaultTableExpirationMs", Value::Null),
        ("default_table_expiration_days", value) => ("defaultTableExpirationMs", milliseconds(name, &value)?),
        ("default_partition_expiration_days", Value::Null) => ("defaultPartitionExpirationMs", Value::Null),
        ("default_partition_expiration_days", value) => {
            ("defaultPartitionExpirationMs", milliseconds(name, &value)?)
        }
        ("max_time_travel_hours", Value::Number(hours)) => ("maxTimeTravelHours", json!(hours.to_string())),
        ("storage_billing_model", value @ Value::String(_)) => ("storageBillingModel", value),
        (
            "description" | "friendly_name" | "location" | "max_time_travel_hours" | "storage_billing_model",
            _,
        ) => return Err(wrong_type(name, "another type")),
        (
            "default_kms_key_name"
            | "default_rounding_mode"
            | "is_case_insensitive"
            | "failover_reservation"
            | "is_primary"
            | "primary_replica"
            | "tags",
            _,
        ) => return Err(Failure::unsupported_sql(format!("the option {name}"))),
        _ => return Err(unknown(name)),
    };
    body.insert(member.to_owned(), value);
    Ok(())
}

fn unknown(name: &str) -> Failure {
    Failure::invalid_query(format!("Unknown option: {name}"))
}

fn wrong_type(name: &str, wanted: &str) -> Failure {
    Failure::invalid_query(format!("Option {name} value has a wrong type; expected {wanted}"))
}

fn milliseconds(name: &str, days: &Value) -> Outcome<Value> {
    let ms = days.as_f64().map(|days| (days * 86_400_000.0).round()).filter(|ms| (1.0..9e15).contains(ms));
    ms.map(|ms| json!(format!("{ms:.0}"))).ok_or_else(|| wrong_type(name, "a positive FLOAT64"))
}

fn labels(value: Value) -> Outcome<Value> {
    let pairs = match value {
        Value::Null => return Ok(Value::Null),
        Value::Array(pairs) => pairs,
        _ => return Err(wrong_type("labels", "ARRAY<STRUCT<STRING, STRING>>")),
    };
    let mut labels = Map::new();
    for pair in &pairs {
        match pair.as_array().map(Vec::as_slice) {
            Some([Value::String(key), Value::String(value)]) => {
                if labels.insert(key.clone(), json!(value)).is_some() {
                    return Err(Failure::invalid_query(format!("Duplicate label key: {key}")));
                }
            }
            _ => return Err(wrong_type("labels", "ARRAY<STRUCT<STRING, STRING>>")),
        }
    }
    Ok(Value::Object(labels))
}

/// The options of a table or dataset document, as INFORMATION_SCHEMA shows them: name, type and literal.
pub(in crate::emulator::query) fn shown(document: &Value) -> Vec<(&'static str, &'static str, String)> {
    let text = |member: &str| document.get(member).and_then(Value::as_str);
    let number = |member: &str| text(member).and_then(|t| t.parse::<i64>().ok());
    let days = |ms: i64| float_literal(ms as f64 / 86_400_000.0);
    let mut found = Vec::new();
    if let Some(ms) = number("defaultPartitionExpirationMs") {
        found.push(("default_partition_expiration_days", "FLOAT64", days(ms)));
    }
    if let Some(ms) = number("defaultTableExpirationMs") {
        found.push(("default_table_expiration_days", "FLOAT64", days(ms)));
    }
    if let Some(value) = text("description") {
        found.push(("description", "STRING", string_literal(value)));
    }
    if let Some(ms) = number("expirationTime") {
        let at = values::timestamp_literal(ms);
        found.push(("expiration_timestamp", "TIMESTAMP", format!("TIMESTAMP {}", string_literal(&at))));
    }
    if let Some(value) = text("friendlyName") {
        found.push(("friendly_name", "STRING", string_literal(value)));
    }
    if let Some(labels) = document.get("labels").and_then(Value::as_object).filter(|l| !l.is_empty()) {
        let label = |(key, value): (&String, &Value)| {
            let value = string_literal(value.as_str().unwrap_or_default());
            format!("STRUCT({}, {value})", string_literal(key))
        };
        let list: Vec<String> = labels.iter().map(label).collect();
        found.push(("labels", "ARRAY<STRUCT<STRING, STRING>>", format!("[{}]", list.join(", "))));
    }
    if let Some(hours) = number("maxTimeTravelHours") {
        found.push(("max_time_travel_hours", "INT64", hours.to_string()));
    }
    let expiration = document.get("timePartitioning").and_then(|p| p.get("expirationMs"));
    if let Some(ms) = expiration.and_then(Value::as_str).and_then(|t| t.parse::<i64>().ok()) {
        found.push(("partition_expiration_days", "FLOAT64", days(ms)));
    }
    if document.get("requirePartitionFilter").and_then(Value::as_bool) == Some(true) {
        found.push(("require_partition_filter", "BOOL", "true".to_owned()));
    }
    found
}

/// A GoogleSQL literal in double quotes.
pub(in crate::emulator::query) fn string_literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for c in text.chars() {
        match c {
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            c => literal.push(c),
        }
    }
    literal.push('"');
    literal
}

fn float_literal(value: f64) -> String {
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::BigQueryDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn apply(name: &str, value: &str) -> Outcome<Document> {
        let mut parser = Parser::new(&BigQueryDialect {}).try_with_sql(value).unwrap();
        let mut body = Document::new();
        apply_table(&mut body, name, constant(&parser.parse_expr().unwrap()).unwrap())?;
        Ok(body)
    }

    #[test]
    fn options_go_into_documents_and_come_back_as_literals() {
        let mut body = apply("labels", "[('a', 'b'), STRUCT('c', '')]").unwrap();
        body.extend(apply("description", "'say \"hi\"'").unwrap());
        body.extend(apply("expiration_timestamp", "TIMESTAMP '2030-01-02 03:04:05 UTC'").unwrap());
        assert_eq!(body["labels"], json!({"a": "b", "c": ""}));
        let shown = shown(&Value::Object(body));
        assert_eq!(shown[0], ("description", "STRING", r#""say \"hi\"""#.to_owned()));
        assert_eq!(shown[1].2, r#"TIMESTAMP "2030-01-02T03:04:05.000Z""#);
        assert_eq!(shown[2].2, r#"[STRUCT("a", "b"), STRUCT("c", "")]"#);
        assert_eq!(apply("partition_expiration_days", "1.5").unwrap()["partitionExpirationMs"], "129600000");
    }

    #[test]
    fn options_that_nobody_knows_or_that_are_wrong_are_refused() {
        assert_eq!(apply("colour", "'red'").unwrap_err().message, "Unknown option: colour");
        for (name, value) in [
            ("labels", "'a'"),
            ("labels", "[('a', 1)]"),
            ("require_partition_filter", "1"),
            ("partition_expiration_days", "-1"),
            ("description", "5"),
            ("kms_key_name", "'k'"),
        ] {
            assert!(apply(name, value).is_err(), "{name}");
        }
    }
}
