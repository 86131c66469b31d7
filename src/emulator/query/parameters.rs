//! Query parameters: typed values that stand in for `@name` and `?`.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{Expr, Value as SqlValue};
use serde_json::{Map, Value};

use super::rewrite::{call, integer_literal, string_literal};
use super::values;
use crate::emulator::wire::{Failure, Outcome, object, text};

#[derive(Debug, Clone, Default)]
pub(in crate::emulator) struct Parameters {
    named: HashMap<String, Parameter>,
    positional: Vec<Parameter>,
}

#[derive(Debug, Clone)]
enum Parameter {
    One(Scalar),
    Array(Vec<Scalar>),
}

#[derive(Debug, Clone)]
struct Scalar {
    kind: String,
    value: Option<String>,
}

impl Parameters {
    pub(super) fn parse(query: &Map<String, Value>) -> Outcome<Self> {
        let mut parameters = Parameters::default();
        let Some(documents) = query.get("queryParameters").and_then(Value::as_array) else {
            return Ok(parameters);
        };
        for document in documents.iter().filter_map(Value::as_object) {
            let parameter = Parameter::parse(document)?;
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

    /// The literal for `@name` or, as `?`, the `position`-th parameter.
    pub(super) fn literal(&self, placeholder: &str, position: &mut usize) -> Outcome<Expr> {
        match self.find(placeholder, position)? {
            Parameter::One(scalar) => scalar.literal(),
            Parameter::Array(_) => Err(Failure::unsupported_sql(format!(
                "the ARRAY parameter {placeholder} outside of IN UNNEST"
            ))),
        }
    }

    /// The elements of an array parameter, for `IN UNNEST(@name)`.
    pub(super) fn elements(&self, placeholder: &str, position: &mut usize) -> Outcome<Vec<Expr>> {
        match self.find(placeholder, position)? {
            Parameter::Array(scalars) => scalars.iter().map(Scalar::literal).collect(),
            Parameter::One(_) => Err(Failure::invalid_query("Values referenced in UNNEST must be arrays")),
        }
    }

    fn find(&self, placeholder: &str, position: &mut usize) -> Outcome<&Parameter> {
        let found = match placeholder.strip_prefix('@') {
            Some(name) => self.named.get(&name.to_lowercase()).ok_or_else(|| format!("'{name}'")),
            None => {
                // Numbered when the text was parsed.
                *position = placeholder.trim_start_matches('?').parse().unwrap_or(0);
                let index = position.wrapping_sub(1);
                self.positional.get(index).ok_or_else(|| format!("at position {position}"))
            }
        };
        found.map_err(|which| Failure::invalid_query(format!("Query parameter {which} not found")))
    }
}

impl Parameter {
    fn parse(document: &Map<String, Value>) -> Outcome<Self> {
        let missing = |what: &str| Failure::invalid(format!("Query parameter without {what}"));
        let kind = object(document, "parameterType").ok_or_else(|| missing("parameterType"))?;
        let name = text(kind, "type").ok_or_else(|| missing("parameterType.type"))?.to_ascii_uppercase();
        let value = object(document, "parameterValue");
        if name != "ARRAY" {
            let value = value.and_then(|v| text(v, "value")).map(str::to_owned);
            return Ok(Parameter::One(Scalar { kind: name, value }));
        }
        let kind = object(kind, "arrayType")
            .and_then(|t| text(t, "type"))
            .ok_or_else(|| missing("parameterType.arrayType"))?
            .to_ascii_uppercase();
        let values = value.and_then(|v| v.get("arrayValues")).and_then(Value::as_array);
        let scalar = |value: &Value| Scalar {
            kind: kind.clone(),
            value: value.get("value").and_then(Value::as_str).map(str::to_owned),
        };
        Ok(Parameter::Array(values.map(|v| v.iter().map(scalar).collect()).unwrap_or_default()))
    }
}

impl Scalar {
    fn literal(&self) -> Outcome<Expr> {
        let kind = self.kind.as_str();
        let target = match kind {
            "STRING" => "string",
            "INT64" | "INTEGER" => "int64",
            "FLOAT64" | "FLOAT" => "float64",
            "BOOL" | "BOOLEAN" => "bool",
            "DATE" => "date",
            "TIMESTAMP" => "timestamp",
            "DATETIME" => "datetime",
            "NUMERIC" => "numeric",
            other => return Err(Failure::unsupported_sql(format!("query parameters of type {other}"))),
        };
        let Some(value) = &self.value else {
            return Ok(call(&format!("bq_cast_{target}"), vec![literal(SqlValue::Null)]));
        };
        let invalid = || Failure::invalid_query(format!("Invalid {kind} value: {value}"));
        Ok(match target {
            "string" => string_literal(value),
            "int64" => integer_literal(values::parse_int(value).ok_or_else(invalid)?),
            "bool" => literal(SqlValue::Boolean(values::parse_bool(value).ok_or_else(invalid)?)),
            "date" => {
                let days = values::parse_date(value).ok_or_else(invalid)?;
                call("bq_date_from_unix_date", vec![integer_literal(days.into())])
            }
            "timestamp" => {
                let micros = values::parse_timestamp(value).ok_or_else(invalid)?;
                call("bq_timestamp_micros", vec![integer_literal(micros)])
            }
            "float64" => {
                values::parse_float(value).ok_or_else(invalid)?;
                call("bq_cast_float64", vec![string_literal(value)])
            }
            _ => call(&format!("bq_cast_{target}"), vec![string_literal(value)]),
        })
    }
}

pub(super) fn literal(value: SqlValue) -> Expr {
    Expr::Value(value.into())
}
