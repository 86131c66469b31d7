//! Query parameters: typed values that stand in for `@name` and `?`.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{Expr, Value as SqlValue};
use serde_json::{Map, Value};

use super::rewrite::{call, integer_literal, string_literal};
use super::types::cast_suffix;
use super::values;
use super::visible::{Column, Shape};
use crate::emulator::fields::{Kind, RangeOf};
use crate::emulator::wire::{Failure, Outcome, object, text};

#[derive(Debug, Clone, Default)]
pub(in crate::emulator) struct Parameters {
    named: HashMap<String, Parameter>,
    positional: Vec<Parameter>,
    /// Those of a dry run that nobody declared, as they stand in the text: what is tried in their place.
    undeclared: HashMap<String, Stand>,
}

/// What stands in place of a parameter whose type is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stand {
    /// NULL, which goes with everything.
    Untyped,
    /// NULL of this kind.
    Of(Kind),
    /// DataFusion's placeholder, which takes the type of what it is compared with.
    Open,
}

/// The name that DataFusion knows the open placeholder by.
pub(super) const OPEN: &str = "$1";

#[derive(Debug, Clone)]
struct Parameter {
    of: Type,
    value: Map<String, Value>,
}

#[derive(Debug, Clone)]
enum Type {
    Scalar(Kind),
    Array(Box<Type>),
    Struct(Vec<(String, Type)>),
}

impl Parameters {
    pub(super) fn parse(query: &Map<String, Value>) -> Outcome<Self> {
        let mut parameters = Parameters::default();
        let Some(documents) = query.get("queryParameters").and_then(Value::as_array) else {
            return Ok(parameters);
        };
        for document in documents.iter().filter_map(Value::as_object) {
            let of = object(document, "parameterType")
                .ok_or_else(|| Failure::invalid("Query parameter without parameterType"))?;
            let of = Type::parse(of, 0)?;
            let value = object(document, "parameterValue").cloned().unwrap_or_default();
            let parameter = Parameter { of, value };
            match text(document, "name").filter(|n| !n.is_empty()) {
                Some(name) => drop(parameters.named.insert(name.to_lowercase(), parameter)),
                None => parameters.positional.push(parameter),
            }
        }
        if !parameters.named.is_empty() && !parameters.positional.is_empty() {
            return Err(Failure::invalid("Named and positional query parameters cannot be mixed"));
        }
        Ok(parameters)
    }

    /// The same, and something for those that it lacks.
    pub(super) fn with(&self, undeclared: HashMap<String, Stand>) -> Self {
        Parameters { undeclared, ..self.clone() }
    }

    /// Whether there is a value for what stands so in the text.
    pub(super) fn has(&self, placeholder: &str) -> bool {
        self.value(placeholder, &mut 0).is_ok()
    }

    /// The value of `@name` or, as `?`, of the parameter at `position`.
    pub(super) fn value(&self, placeholder: &str, position: &mut usize) -> Outcome<(Expr, Shape)> {
        let found = match placeholder.strip_prefix('@') {
            Some(name) => self.named.get(&name.to_lowercase()).ok_or_else(|| format!("'{name}'")),
            None => {
                // Numbered when the text was parsed.
                *position = placeholder.trim_start_matches('?').parse().unwrap_or(0);
                let index = position.wrapping_sub(1);
                self.positional.get(index).ok_or_else(|| format!("at position {position}"))
            }
        };
        if let (Err(_), Some(stand)) = (&found, self.undeclared.get(&placeholder.to_lowercase())) {
            let expr = match *stand {
                Stand::Untyped => literal(SqlValue::Null),
                Stand::Of(kind) => scalar(kind, None)?,
                Stand::Open => literal(SqlValue::Placeholder(OPEN.to_owned())),
            };
            return Ok((expr, Shape::Opaque));
        }
        let found =
            found.map_err(|which| Failure::invalid_query(format!("Query parameter {which} not found")))?;
        Ok((found.of.value(&found.value)?, found.of.shape()))
    }
}

/// Types nest as deep as BigQuery's structs.
const NESTING_MAX: u32 = 15;

impl Type {
    fn parse(document: &Map<String, Value>, depth: u32) -> Outcome<Self> {
        let missing = |what: &str| Failure::invalid(format!("Query parameter without {what}"));
        if depth > NESTING_MAX {
            return Err(Failure::invalid("Query parameter type is nested too deeply"));
        }
        let name = text(document, "type").ok_or_else(|| missing("parameterType.type"))?.to_ascii_uppercase();
        Ok(match name.as_str() {
            "ARRAY" => {
                let item = object(document, "arrayType").ok_or_else(|| missing("parameterType.arrayType"))?;
                Type::Array(Box::new(Type::parse(item, depth + 1)?))
            }
            "STRUCT" | "RECORD" => {
                let fields = document.get("structTypes").and_then(Value::as_array);
                let fields = fields.ok_or_else(|| missing("parameterType.structTypes"))?;
                let mut parsed = Vec::with_capacity(fields.len());
                for (at, field) in fields.iter().filter_map(Value::as_object).enumerate() {
                    let of = object(field, "type").ok_or_else(|| missing("a type in structTypes"))?;
                    let name = text(field, "name").filter(|n| !n.is_empty());
                    let name = name.map_or_else(|| format!("_field_{}", at + 1), str::to_owned);
                    parsed.push((name, Type::parse(of, depth + 1)?));
                }
                Type::Struct(parsed)
            }
            "RANGE" => {
                let of = object(document, "rangeElementType").and_then(|of| text(of, "type"));
                let of = of.ok_or_else(|| missing("parameterType.rangeElementType"))?;
                let kind = Kind::parse(&format!("RANGE<{of}>"));
                Type::Scalar(kind.ok_or_else(|| Failure::invalid(format!("Invalid rangeElementType: {of}")))?)
            }
            other => match Kind::parse(other) {
                Some(kind) => Type::Scalar(kind),
                None => return Err(Failure::invalid(format!("Invalid query parameter type: {other}"))),
            },
        })
    }

    fn shape(&self) -> Shape {
        match self {
            Type::Scalar(_) => Shape::Opaque,
            Type::Array(item) => Shape::Array(Box::new(item.shape())),
            Type::Struct(fields) => {
                let column = |(name, of): &(String, Type)| Column { name: name.clone(), shape: of.shape() };
                Shape::Struct(fields.iter().map(column).collect())
            }
        }
    }

    fn value(&self, value: &Map<String, Value>) -> Outcome<Expr> {
        match self {
            Type::Scalar(Kind::Range(of)) => {
                let range = object(value, "rangeValue").cloned().unwrap_or_default();
                let bound = |name: &str| {
                    let bound = object(&range, name).cloned().unwrap_or_default();
                    scalar(of.kind(), text(&bound, "value").filter(|v| *v != "UNBOUNDED" && *v != "NULL"))
                };
                Ok(call(range_function(*of), vec![bound("start")?, bound("end")?]))
            }
            Type::Scalar(kind) => match value.get("value") {
                None | Some(Value::Null) => scalar(*kind, None),
                Some(Value::String(text)) => scalar(*kind, Some(text)),
                // Google's client sends a FLOAT64 as a number.
                Some(plain @ (Value::Number(_) | Value::Bool(_))) => scalar(*kind, Some(&plain.to_string())),
                Some(other) => Err(Failure::invalid(format!("Invalid query parameter value: {other}"))),
            },
            Type::Array(item) => {
                let values = value.get("arrayValues").and_then(Value::as_array);
                let mut items: Vec<Expr> = Vec::new();
                for value in values.into_iter().flatten().filter_map(Value::as_object) {
                    items.push(item.value(value)?);
                }
                if items.is_empty() {
                    // An empty array has the type of its elements too.
                    return Ok(call(
                        "bq_head",
                        vec![call("bq_array", vec![item.value(&Map::new())?]), integer_literal(0)],
                    ));
                }
                Ok(call("bq_array", items))
            }
            Type::Struct(fields) => {
                let values = object(value, "structValues").cloned().unwrap_or_default();
                let mut args = Vec::with_capacity(fields.len() * 2);
                for (name, of) in fields {
                    let value = object(&values, name).cloned().unwrap_or_default();
                    args.extend([string_literal(name), of.value(&value)?]);
                }
                Ok(call("bq_struct", args))
            }
        }
    }
}

/// The values of parameters are texts in the API, whatever a client sent, and that is how they come back.
pub(in crate::emulator) fn parameters_as_text(query: &mut Value) {
    let Some(parameters) = query.get_mut("queryParameters").and_then(Value::as_array_mut) else { return };
    parameters.iter_mut().filter_map(|p| p.get_mut("parameterValue")).for_each(value_as_text);
}

fn value_as_text(value: &mut Value) {
    let Some(value) = value.as_object_mut() else { return };
    if let Some(plain @ (Value::Number(_) | Value::Bool(_))) = value.get_mut("value") {
        *plain = Value::from(plain.to_string());
    }
    if let Some(items) = value.get_mut("arrayValues").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(value_as_text);
    }
    if let Some(fields) = value.get_mut("structValues").and_then(Value::as_object_mut) {
        fields.values_mut().for_each(value_as_text);
    }
    if let Some(bounds) = value.get_mut("rangeValue").and_then(Value::as_object_mut) {
        bounds.values_mut().for_each(value_as_text);
    }
}

pub(super) fn range_function(of: RangeOf) -> &'static str {
    match of {
        RangeOf::Date => "bq_range_date",
        RangeOf::DateTime => "bq_range_datetime",
        RangeOf::Timestamp => "bq_range_timestamp",
    }
}

pub(super) fn scalar(kind: Kind, value: Option<&str>) -> Outcome<Expr> {
    match (value, cast_suffix(kind)) {
        (Some(value), _) => typed_value(kind, value),
        (None, Some(suffix)) => Ok(call(&format!("bq_cast_{suffix}"), vec![literal(SqlValue::Null)])),
        (None, None) => Ok(call(tagged(kind)?, vec![literal(SqlValue::Null)])),
    }
}

/// What makes a value of the kinds that are texts underneath.
fn tagged(kind: Kind) -> Outcome<&'static str> {
    match kind {
        Kind::Json => Ok("bq_parse_json"),
        Kind::Geography => Ok("bq_as_geography"),
        Kind::Interval => Ok("bq_as_interval"),
        other => Err(Failure::unsupported_sql(format!("values of type {}", other.sql()))),
    }
}

/// A value of which BigQuery knows the type and gives the text: of a parameter, or a literal.
pub(super) fn typed_value(kind: Kind, value: &str) -> Outcome<Expr> {
    let invalid = || Failure::invalid_query(format!("Invalid {} value: {value}", kind.sql()));
    Ok(match kind {
        Kind::String => string_literal(value),
        Kind::Int64 => integer_literal(values::parse_int(value).ok_or_else(invalid)?),
        Kind::Bool => literal(SqlValue::Boolean(values::parse_bool(value).ok_or_else(invalid)?)),
        Kind::Date => {
            let days = values::parse_date(value).ok_or_else(invalid)?;
            call("bq_date_from_unix_date", vec![integer_literal(days.into())])
        }
        Kind::Timestamp => {
            let micros = values::parse_timestamp(value).ok_or_else(invalid)?;
            call("bq_timestamp_micros", vec![integer_literal(micros)])
        }
        Kind::Float64 => {
            values::parse_float(value).ok_or_else(invalid)?;
            call("bq_cast_float64", vec![string_literal(value)])
        }
        Kind::Bytes => call("bq_from_base64", vec![string_literal(value)]),
        Kind::DateTime => {
            values::parse_datetime(value).ok_or_else(invalid)?;
            call("bq_cast_datetime", vec![string_literal(value)])
        }
        Kind::Time => {
            values::parse_time(value).ok_or_else(invalid)?;
            call("bq_cast_time", vec![string_literal(value)])
        }
        Kind::Numeric => call("bq_cast_numeric", vec![string_literal(value)]),
        Kind::BigNumeric => call("bq_cast_bignumeric", vec![string_literal(value)]),
        other => call(tagged(other)?, vec![string_literal(value)]),
    })
}

pub(super) fn literal(value: SqlValue) -> Expr {
    Expr::Value(value.into())
}
