//! Columns of a table: as people write them, as BigQuery takes them, and where two tables differ.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::words::{full_type_name, type_name};
use crate::error::{Error, Result};
use crate::schema::Columns;

const TYPES: [&str; 16] = [
    "STRING",
    "BYTES",
    "INT64",
    "FLOAT64",
    "NUMERIC",
    "BIGNUMERIC",
    "BOOL",
    "TIMESTAMP",
    "DATE",
    "TIME",
    "DATETIME",
    "GEOGRAPHY",
    "JSON",
    "INTERVAL",
    "RANGE",
    "STRUCT",
];
const MODES: [&str; 3] = ["NULLABLE", "REQUIRED", "REPEATED"];
/// What BigQuery's TableFieldSchema has, as of 2026.
const MEMBERS: [&str; 15] = [
    "name",
    "type",
    "mode",
    "description",
    "fields",
    "maxLength",
    "precision",
    "scale",
    "policyTags",
    "defaultValueExpression",
    "collation",
    "roundingMode",
    "rangeElementType",
    "dataPolicies",
    "timestampPrecision",
];
/// Letters, marks, numbers, connectors and dashes of any script, spaces, and what flexible names add.
static NAME: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[\p{L}\p{M}\p{N}\p{Pc}\p{Pd}\p{Zs}&%=+:'<>#|]+\z").expect("a constant"));
const NAME_CHARS_MAX: usize = 300;
const RESERVED: [&str; 9] = [
    "_TABLE_",
    "_FILE_",
    "_PARTITION",
    "_ROW_TIMESTAMP",
    "__ROOT__",
    "_COLIDENTIFIER",
    "_CHANGE_SEQUENCE_NUMBER",
    "_CHANGE_TYPE",
    "_CHANGE_TIMESTAMP",
];
const COLUMNS_MAX: usize = 10_000;
const DEPTH_MAX: usize = 15;

/// `id:INT64:REQUIRED,name:STRING`, as fields of a table's document.
pub fn parse_inline(text: &str) -> Result<Value> {
    let mut fields = Vec::new();
    for column in split_outside_parentheses(text) {
        let wrong = |why: &str| {
            Error::usage(format!("`{column}` in `--schema` {why}"))
                .hint("write `name:TYPE` or `name:TYPE:MODE`, commas between; STRUCTs need --schema-file")
        };
        let mut parts = column.split(':').map(str::trim);
        if column.trim().is_empty() {
            return Err(Error::usage("there is a comma too many in `--schema`, or nothing at all"));
        }
        let name = parts.next().filter(|name| !name.is_empty()).ok_or_else(|| wrong("has no name"))?;
        let kind = parts.next().filter(|kind| !kind.is_empty()).ok_or_else(|| wrong("has no type"))?;
        let mode = parts.next().unwrap_or("NULLABLE");
        if parts.next().is_some() {
            return Err(wrong("has more than a name, a type and a mode"));
        }
        let mut field = json!({ "name": name });
        let (kind, parameters) = match kind.split_once('(') {
            Some((kind, rest)) => {
                let inner = rest.strip_suffix(')').ok_or_else(|| wrong("has no closing parenthesis"))?;
                (kind.trim(), inner.split(',').map(str::trim).collect())
            }
            None => (kind, Vec::new()),
        };
        field["type"] = json!(kind.to_ascii_uppercase());
        field["mode"] = json!(mode.to_ascii_uppercase());
        if parameters.iter().any(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
            return Err(wrong("has a parameter that is no number"));
        }
        match (type_name(&kind.to_ascii_uppercase()), &parameters[..]) {
            (_, []) => {}
            ("STRING" | "BYTES", [length]) => field["maxLength"] = json!(length),
            ("NUMERIC" | "BIGNUMERIC", [precision]) => field["precision"] = json!(precision),
            ("NUMERIC" | "BIGNUMERIC", [precision, scale]) => {
                field["precision"] = json!(precision);
                field["scale"] = json!(scale);
            }
            _ => return Err(wrong("has parameters that its type does not take")),
        }
        fields.push(field);
    }
    let fields = Value::from(fields);
    check(&fields)?;
    Ok(fields)
}

/// A schema file as `bq` reads and writes it: an array of fields, or a document that has one.
pub fn parse_file(text: &str) -> Result<Value> {
    let document: Value =
        serde_json::from_str(text).map_err(|e| Error::usage("the schema file is no JSON").caused_by(e))?;
    let places = [&document, &document["fields"], &document["schema"]["fields"]];
    let fields = places.into_iter().find(|place| place.is_array()).ok_or_else(|| {
        Error::usage("the schema file has no columns")
            .hint("write `[{\"name\": \"id\", \"type\": \"INT64\", \"mode\": \"REQUIRED\"}]`")
    })?;
    check(fields)?;
    Ok(fields.clone())
}

/// The columns of a pipeline.
pub(super) fn of_columns(columns: &Columns) -> Value {
    let mode = |mode| if mode == crate::schema::Mode::Required { "REQUIRED" } else { "NULLABLE" };
    let field =
        |c: &crate::schema::Column| json!({ "name": c.name, "type": c.kind.name(), "mode": mode(c.mode) });
    columns.iter().map(field).collect()
}

/// BigQuery's rules, so that a mistake is named before anything is done.
fn check(fields: &Value) -> Result<()> {
    let mut num_columns = 0;
    check_level(fields, "", 1, &mut num_columns)?;
    if num_columns > COLUMNS_MAX {
        return Err(Error::usage(format!("{num_columns} columns are more than BigQuery's {COLUMNS_MAX}")));
    }
    Ok(())
}

fn check_level(fields: &Value, above: &str, depth: usize, num_columns: &mut usize) -> Result<()> {
    let fields = fields.as_array().map(Vec::as_slice).unwrap_or_default();
    if fields.is_empty() {
        return Err(Error::usage(match above {
            "" => "the schema has no columns".to_owned(),
            above => format!("the STRUCT `{}` has no fields", above.trim_end_matches('.')),
        }));
    }
    if depth > DEPTH_MAX {
        return Err(Error::usage(format!("the schema is more than {DEPTH_MAX} levels deep")));
    }
    *num_columns += fields.len();
    let mut seen = std::collections::HashSet::new();
    for field in fields {
        let text = |member: &str| field[member].as_str().unwrap_or_default();
        let name = text("name");
        check_name(name)?;
        let path = format!("{above}{name}");
        let wrong = |why: String| Err(Error::usage(format!("column `{path}`: {why}")));
        if !seen.insert(name.to_lowercase()) {
            return wrong("it is there twice; case makes no difference".into());
        }
        if let Some(unknown) =
            field.as_object().into_iter().flatten().map(|(m, _)| m).find(|m| !MEMBERS.contains(&m.as_str()))
        {
            return wrong(format!("BigQuery's fields have no member `{unknown}`"));
        }
        let kind = text("type").to_ascii_uppercase();
        let kind = type_name(&kind);
        if !TYPES.contains(&kind) {
            return wrong(format!("`{}` is no type; there are {}", text("type"), TYPES.join(", ")));
        }
        let mode =
            if field["mode"].is_null() { "NULLABLE".into() } else { text("mode").to_ascii_uppercase() };
        if !MODES.contains(&mode.as_str()) {
            return wrong(format!("`{}` is no mode; there are {}", text("mode"), MODES.join(", ")));
        }
        if kind == "RANGE" && !field["rangeElementType"]["type"].is_string() {
            return wrong("a RANGE needs `rangeElementType`".into());
        }
        match (kind == "STRUCT", field["fields"].is_null()) {
            (true, _) => check_level(&field["fields"], &format!("{path}."), depth + 1, num_columns)?,
            (false, true) => {}
            (false, false) => return wrong(format!("a {kind} has no fields of its own")),
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    if !NAME.is_match(name) || name.chars().count() > NAME_CHARS_MAX {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(Error::usage(format!("`{shown}` is no column name")).hint(
            "letters, marks and numbers of any script, `_`, `-`, spaces and & % = + : ' < > # |, at most 300",
        ));
    }
    let upper = name.to_ascii_uppercase();
    match RESERVED.iter().find(|reserved| upper.starts_with(**reserved)) {
        Some(reserved) => Err(Error::usage(format!(
            "column name `{name}`: BigQuery keeps names that start with `{reserved}`"
        ))),
        None => Ok(()),
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// The first difference between the columns of two tables, in words; their order counts, as it does for copies.
pub(super) fn difference(one: &Value, other: &Value) -> Option<String> {
    level_difference(one, other, "")
}

fn level_difference(one: &Value, other: &Value, above: &str) -> Option<String> {
    let list = |fields: &Value| fields.as_array().cloned().unwrap_or_default();
    let (one, other) = (list(one), list(other));
    for (left, right) in one.iter().zip(&other) {
        let name = |field: &Value| field["name"].as_str().unwrap_or_default().to_owned();
        let path = format!("{above}{}", name(left));
        if !name(left).eq_ignore_ascii_case(&name(right)) {
            return Some(format!("column `{path}` here is `{above}{}` there", name(right)));
        }
        let types = [left, right].map(full_type_name);
        if types[0] != types[1] {
            return Some(format!("column `{path}` is {} here and {} there", types[0], types[1]));
        }
        let modes = [left, right].map(|field| field["mode"].as_str().unwrap_or("NULLABLE"));
        if modes[0] != modes[1] {
            return Some(format!("column `{path}` is {} here and {} there", modes[0], modes[1]));
        }
        let below = level_difference(&left["fields"], &right["fields"], &format!("{path}."));
        if below.is_some() {
            return below;
        }
    }
    let extra = |longer: &[Value], from: usize| longer[from]["name"].as_str().unwrap_or_default().to_owned();
    match one.len().cmp(&other.len()) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => {
            Some(format!("column `{above}{}` is only here", extra(&one, other.len())))
        }
        std::cmp::Ordering::Less => {
            Some(format!("column `{above}{}` is only there", extra(&other, one.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_columns_have_types_modes_and_parameters() {
        let fields =
            parse_inline("id:int64:required, price:NUMERIC(10, 2), name:STRING(20)").expect("columns");
        assert_eq!(
            fields,
            json!([
                { "name": "id", "type": "INT64", "mode": "REQUIRED" },
                { "name": "price", "type": "NUMERIC", "mode": "NULLABLE", "precision": "10", "scale": "2" },
                { "name": "name", "type": "STRING", "mode": "NULLABLE", "maxLength": "20" },
            ])
        );
    }

    #[test]
    fn what_bigquery_would_refuse_is_refused_with_its_column() {
        for (schema, words) in [
            ("", "nothing at all"),
            (":STRING", "has no name"),
            ("id", "has no type"),
            ("id:INT64:REQUIRED:x", "more than a name"),
            ("id:INT", "`INT` is no type"),
            ("id:INT64:NOT NULL", "is no mode"),
            ("id:INT64,ID:STRING", "twice"),
            ("id:INT64(5)", "does not take"),
            ("id:STRING(x)", "no number"),
            ("id:STRING(5", "closing parenthesis"),
            ("s:STRUCT", "has no fields"),
            ("_partitiontime:TIMESTAMP", "`_PARTITION`"),
            ("_File_x:STRING", "`_FILE_`"),
            ("a.b:STRING", "no column name"),
        ] {
            let error = parse_inline(schema).expect_err(schema).to_string();
            assert!(error.contains(words), "{schema}: {error}");
        }
        assert!(parse_inline(&format!("{}:STRING", "é".repeat(300))).is_ok());
        assert!(parse_inline(&format!("{}:STRING", "é".repeat(301))).is_err());
        assert!(parse_inline("größe in %:FLOAT64,お客様:STRING").is_ok());
    }

    #[test]
    fn a_schema_file_is_an_array_or_a_document_with_one() {
        let fields =
            json!([{ "name": "a", "type": "RECORD", "fields": [{ "name": "b", "type": "INTEGER" }] }]);
        for text in [fields.to_string(), json!({ "schema": { "fields": fields } }).to_string()] {
            assert_eq!(parse_file(&text).expect("a schema"), fields);
        }
        for (text, words) in [
            ("{", "no JSON"),
            ("{}", "no columns"),
            (r#"[{"name": "a", "type": "STRING", "nullable": true}]"#, "no member `nullable`"),
            (r#"[{"name": "a", "type": "STRUCT", "fields": [{"name": "b", "type": "X"}]}]"#, "`a.b`"),
            (
                r#"[{"name": "a", "type": "STRING", "fields": [{"name": "b", "type": "STRING"}]}]"#,
                "no fields of its own",
            ),
        ] {
            let error = parse_file(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        let schema = |text: &str| parse_inline(text).expect("columns");
        let of = |one: &str, other: &str| difference(&schema(one), &schema(other));
        assert_eq!(of("a:INT64,b:STRING", "A:INTEGER,b:STRING:NULLABLE"), None);
        assert_eq!(of("a:INT64", "a:STRING").expect("one"), "column `a` is INT64 here and STRING there");
        assert_eq!(
            of("a:INT64", "a:INT64:REQUIRED").expect("one"),
            "column `a` is NULLABLE here and REQUIRED there"
        );
        assert_eq!(of("a:INT64,b:INT64", "a:INT64").expect("one"), "column `b` is only here");
        assert_eq!(of("a:INT64", "a:INT64,b:INT64").expect("one"), "column `b` is only there");
        assert_eq!(of("a:INT64,b:INT64", "b:INT64,a:INT64").expect("one"), "column `a` here is `b` there");
        assert_eq!(
            of("a:STRING(5)", "a:STRING").expect("one"),
            "column `a` is STRING(5) here and STRING there"
        );
    }
}
