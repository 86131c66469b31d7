//! Query parameters as `bq` takes them: `name:type:value`.

use serde_json::{Map, Value, json};

use crate::bigquery::Parameter;
use crate::error::{Error, Result};

/// Reads all of them; either each has a name, or none.
pub fn parse_parameters(texts: &[String]) -> Result<Vec<Parameter>> {
    let parameters = texts.iter().map(|text| parse_parameter(text)).collect::<Result<Vec<_>>>()?;
    let named = parameters.iter().filter(|parameter| parameter.name.is_some()).count();
    if named != 0 && named != parameters.len() {
        return Err(Error::usage("some parameters have a name and some have none")
            .hint("name all of them for `@name`, or none for `?`"));
    }
    for (index, parameter) in parameters.iter().enumerate() {
        let same = |other: &Parameter| match (&other.name, &parameter.name) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        };
        if parameters[..index].iter().any(same) {
            let name = parameter.name.as_deref().unwrap_or_default();
            return Err(Error::usage(format!("parameter `{name}` is there twice")));
        }
    }
    Ok(parameters)
}

/// `min:INT64:5`; without a name it is positional, without a type a STRING.
fn parse_parameter(text: &str) -> Result<Parameter> {
    let wrong = |why: &str| {
        Error::usage(format!("`--param {text}`: {why}"))
            .hint("write `name:type:value`, `:type:value` for a `?`, and no type for a STRING: `name::value`")
    };
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(kind), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong("it has no type and value"));
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(legal) {
        return Err(wrong("a name has letters, digits and `_`"));
    }
    let kind = parse_type(kind.trim()).map_err(|why| wrong(&why))?;
    let value = match (&kind, value) {
        (_, "NULL") => json!({ "value": null }),
        (Type::Scalar(_), value) => json!({ "value": value }),
        (Type::Range(_), value) => range(value).map_err(|why| wrong(&why))?,
        (kind, value) => {
            let value = serde_json::from_str(value).map_err(|_| wrong("the value is no JSON"))?;
            kind.value(&value).map_err(|why| wrong(&why))?
        }
    };
    let name = Some(name.to_owned()).filter(|name| !name.is_empty());
    Ok(Parameter { name, kind: kind.document(), value })
}

#[derive(Debug, Clone, PartialEq)]
enum Type {
    Scalar(String),
    Array(Box<Type>),
    Struct(Vec<(String, Type)>),
    Range(String),
}

const SCALARS: [&str; 14] = [
    "STRING",
    "INT64",
    "FLOAT64",
    "BOOL",
    "BYTES",
    "DATE",
    "DATETIME",
    "TIME",
    "TIMESTAMP",
    "NUMERIC",
    "BIGNUMERIC",
    "JSON",
    "GEOGRAPHY",
    "INTERVAL",
];
/// No value is that deep.
const DEPTH_MAX: usize = 15;

fn parse_type(text: &str) -> Result<Type, String> {
    parse_type_at(text, 0)
}

fn parse_type_at(text: &str, depth: usize) -> Result<Type, String> {
    if depth > DEPTH_MAX {
        return Err("the type is too deep".into());
    }
    let upper = text.to_ascii_uppercase();
    // ASCII letters keep their places when they become upper case.
    let inside = |start: &str| {
        upper
            .strip_prefix(start)
            .filter(|rest| rest.ends_with('>'))
            .and_then(|_| text.get(start.len()..text.len() - 1))
    };
    if let Some(item) = inside("ARRAY<") {
        return match parse_type_at(item.trim(), depth + 1)? {
            Type::Array(_) => Err("BigQuery has no ARRAY of ARRAYs".into()),
            item => Ok(Type::Array(Box::new(item))),
        };
    }
    if let Some(fields) = inside("STRUCT<") {
        let field = |field: &str| {
            let (name, kind) =
                field.trim().split_once(char::is_whitespace).ok_or("a STRUCT has `name TYPE` fields")?;
            Ok((name.to_owned(), parse_type_at(kind.trim(), depth + 1)?))
        };
        return split(fields).into_iter().map(field).collect::<Result<_, String>>().map(Type::Struct);
    }
    if let Some(of) = inside("RANGE<") {
        let of = of.trim().to_ascii_uppercase();
        return match of.as_str() {
            "DATE" | "DATETIME" | "TIMESTAMP" => Ok(Type::Range(of)),
            _ => Err(format!("there is no RANGE of `{of}`")),
        };
    }
    let name = match upper.as_str() {
        "" => "STRING",
        "INTEGER" | "INT" => "INT64",
        "FLOAT" => "FLOAT64",
        "BOOLEAN" => "BOOL",
        "DECIMAL" => "NUMERIC",
        "BIGDECIMAL" => "BIGNUMERIC",
        other => other,
    };
    match SCALARS.contains(&name) {
        true => Ok(Type::Scalar(name.to_owned())),
        false => Err(format!("`{text}` is no type")),
    }
}

/// At the commas outside of `<>`.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

impl Type {
    fn document(&self) -> Value {
        match self {
            Type::Scalar(name) => json!({ "type": name }),
            Type::Array(item) => json!({ "type": "ARRAY", "arrayType": item.document() }),
            Type::Range(of) => json!({ "type": "RANGE", "rangeElementType": { "type": of } }),
            Type::Struct(fields) => {
                let field = |(name, kind): &(String, Type)| json!({ "name": name, "type": kind.document() });
                json!({ "type": "STRUCT", "structTypes": fields.iter().map(field).collect::<Vec<_>>() })
            }
        }
    }

    /// A JSON value in the words of the API, where every scalar is a text.
    fn value(&self, value: &Value) -> Result<Value, String> {
        match (self, value) {
            (_, Value::Null) => Ok(json!({ "value": null })),
            (Type::Scalar(name), value) if name == "JSON" => Ok(json!({ "value": value.to_string() })),
            (Type::Scalar(_), Value::String(text)) => Ok(json!({ "value": text })),
            (Type::Scalar(_), Value::Number(_) | Value::Bool(_)) => Ok(json!({ "value": value.to_string() })),
            (Type::Range(_), Value::String(text)) => range(text),
            (Type::Array(item), Value::Array(values)) => {
                let values = values.iter().map(|value| item.value(value)).collect::<Result<Vec<_>, _>>()?;
                Ok(json!({ "arrayValues": values }))
            }
            (Type::Struct(fields), Value::Object(members)) => {
                if let Some(unknown) = members.keys().find(|key| !fields.iter().any(|(name, _)| name == *key))
                {
                    return Err(format!("the STRUCT has no field `{unknown}`"));
                }
                let mut values = Map::new();
                for (name, kind) in fields {
                    values.insert(name.clone(), kind.value(members.get(name).unwrap_or(&Value::Null))?);
                }
                Ok(json!({ "structValues": values }))
            }
            (kind, value) => {
                Err(format!("`{value}` is no {}", kind.document()["type"].as_str().unwrap_or_default()))
            }
        }
    }
}

/// `[2024-01-01, UNBOUNDED)`.
fn range(text: &str) -> Result<Value, String> {
    let wrong = || format!("`{text}` is no RANGE; `[2024-01-01, UNBOUNDED)` is one");
    let inside = text.trim().strip_prefix('[').and_then(|t| t.strip_suffix(')')).ok_or_else(wrong)?;
    let (start, end) = inside.split_once(',').ok_or_else(wrong)?;
    let bound = |bound: &str| match bound.trim() {
        unbounded if ["UNBOUNDED", "NULL"].contains(&unbounded.to_ascii_uppercase().as_str()) => Value::Null,
        bound => bound.into(),
    };
    Ok(json!({ "rangeValue": { "start": { "value": bound(start) }, "end": { "value": bound(end) } } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Parameter {
        parse_parameter(text).expect(text)
    }

    #[test]
    fn scalars_have_a_name_a_type_and_a_value_with_colons_in_it() {
        let min = parse("min:INT64:5");
        assert_eq!(
            (min.name.as_deref(), min.kind, min.value),
            (Some("min"), json!({"type": "INT64"}), json!({"value": "5"}))
        );
        let at = parse("at:timestamp:2024-01-01 00:00:00+00:00");
        assert_eq!(at.value, json!({"value": "2024-01-01 00:00:00+00:00"}));
        assert_eq!((parse("::x").name, parse("::x").kind), (None, json!({"type": "STRING"})));
        assert_eq!(parse("n:INTEGER:NULL").value, json!({"value": null}));
    }

    #[test]
    fn arrays_structs_and_ranges_are_nested_documents() {
        let ids = parse("ids:ARRAY<INT64>:[1, 9223372036854775807, null]");
        assert_eq!(ids.kind, json!({"type": "ARRAY", "arrayType": {"type": "INT64"}}));
        let values =
            json!({"arrayValues": [{"value": "1"}, {"value": "9223372036854775807"}, {"value": null}]});
        assert_eq!(ids.value, values);
        let p = parse(r#"p:STRUCT<x INT64, tags ARRAY<STRUCT<a STRING>>>:{"x": 1, "tags": [{"a": "b"}]}"#);
        assert_eq!(p.kind["structTypes"][1]["type"]["arrayType"]["structTypes"][0]["name"], "a");
        assert_eq!(p.value["structValues"]["tags"]["arrayValues"][0]["structValues"]["a"]["value"], "b");
        let r = parse("r:RANGE<DATE>:[2024-01-01, UNBOUNDED)");
        assert_eq!(
            r.value,
            json!({"rangeValue": {"start": {"value": "2024-01-01"}, "end": {"value": null}}})
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (texts, why) in [
            (&["x"][..], "no type and value"),
            (&["a-b:INT64:1"], "a name has letters"),
            (&["x:INT:1", ":INT64:1"], "some have none"),
            (&["x:INT64:1", "X:INT64:2"], "twice"),
            (&["x:TEXT:1"], "`TEXT` is no type"),
            (&["x:ARRAY<ARRAY<INT64>>:[]"], "no ARRAY of ARRAYs"),
            (&["x:ARRAY<INT64>:1,2"], "no JSON"),
            (&["x:ARRAY<INT64>:{}"], "is no ARRAY"),
            (&[r#"x:STRUCT<a INT64>:{"b": 1}"#], "no field `b`"),
            (&["x:RANGE<INT64>:[1, 2)"], "no RANGE of"),
            (&["x:RANGE<DATE>:1"], "is no RANGE"),
        ] {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            let said = parse_parameters(&texts).expect_err(why).to_string();
            assert!(said.contains(why), "{said}");
        }
        let deep = format!("x:{}INT64{}:1", "STRUCT<a ".repeat(99), ">".repeat(99));
        assert!(parse_parameters(&[deep]).is_err());
    }
}
