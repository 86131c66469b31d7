//! What a table's document says of its layout, in words.

use indicatif::HumanCount;
use serde_json::Value;

/// `1 row`, `1,234 rows`.
pub(super) fn rows_words(rows: u64) -> String {
    format!("{} row{}", HumanCount(rows), if rows == 1 { "" } else { "s" })
}

/// GoogleSQL's name of a type that the REST documents spell in either way.
pub fn type_name(legacy: &str) -> &str {
    match legacy {
        "INTEGER" => "INT64",
        "FLOAT" => "FLOAT64",
        "BOOLEAN" => "BOOL",
        "RECORD" => "STRUCT",
        "DECIMAL" => "NUMERIC",
        "BIGDECIMAL" => "BIGNUMERIC",
        name => name,
    }
}

/// The type of a column with what belongs to it: `NUMERIC(10, 2)`, `STRING(20)`, `RANGE<DATE>`.
pub fn full_type_name(field: &Value) -> String {
    let name = type_name(field["type"].as_str().unwrap_or_default());
    if let Some(element) = field["rangeElementType"]["type"].as_str() {
        return format!("{name}<{}>", type_name(element));
    }
    let parameters = ["maxLength", "precision", "scale"].map(|member| match &field[member] {
        Value::String(number) => Some(number.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    match parameters.into_iter().flatten().collect::<Vec<_>>() {
        none if none.is_empty() => name.to_owned(),
        parameters => format!("{name}({})", parameters.join(", ")),
    }
}

/// `by day of ingestion`, `by month of \`at\``, `by \`id\` from 0 to 100 in steps of 10`; `None` of a table in one
/// piece.
pub fn partitioning(table: &Value) -> Option<String> {
    let time = &table["timePartitioning"];
    if let Some(unit) = time["type"].as_str() {
        let unit = unit.to_ascii_lowercase();
        return Some(match time["field"].as_str() {
            Some(column) => format!("by {unit} of `{column}`"),
            None => format!("by {unit} of ingestion"),
        });
    }
    let range = &table["rangePartitioning"];
    let column = range["field"].as_str()?;
    let bound = |name: &str| match &range["range"][name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (start, end, step) = (bound("start"), bound("end"), bound("interval"));
    Some(format!("by `{column}` from {start} to {end} in steps of {step}"))
}

/// The columns that a table is clustered by, in their order.
pub fn clustering(table: &Value) -> Vec<&str> {
    let columns = table["clustering"]["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    columns.iter().filter_map(Value::as_str).collect()
}
