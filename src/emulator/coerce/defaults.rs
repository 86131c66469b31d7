//! `defaultValueExpression`: what a column gets when a row does not mention it.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, UnaryOperator, Value as SqlValue};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::{Cell, from_text};
use crate::emulator::encode::{date_text, datetime_text};
use crate::emulator::fields::{Field, Mode};
use crate::emulator::wire::{Failure, Outcome};

/// The values of one job or request: `CURRENT_TIMESTAMP` is the same in all of its rows.
#[derive(Debug, Default)]
pub(in crate::emulator) struct Defaults(HashMap<String, Cell>);

impl Defaults {
    pub(in crate::emulator) fn of(fields: &[Field]) -> Outcome<Self> {
        let now_us = chrono::Utc::now().timestamp_micros();
        let mut cells = HashMap::new();
        for field in fields {
            if let Some(expression) = field.default_expression() {
                cells.insert(field.name.clone(), evaluate(field, expression, now_us)?);
            }
        }
        Ok(Defaults(cells))
    }

    pub(in crate::emulator) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(in crate::emulator) fn cell(&self, name: &str) -> Cell {
        self.0.get(name).cloned().unwrap_or(Cell::Null)
    }
}

fn evaluate(field: &Field, expression: &str, now_us: i64) -> Outcome<Cell> {
    let unsupported = || {
        Failure::not_implemented(format!(
            "the default `{expression}` of column {} (literals and CURRENT_* functions are evaluated)",
            field.name
        ))
    };
    let parsed = Parser::new(&BigQueryDialect {})
        .try_with_sql(expression)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|_| unsupported())?;
    if field.mode == Mode::Repeated {
        return match parsed {
            Expr::Array(array) if array.elem.is_empty() => Ok(Cell::List(Vec::new())),
            _ => Err(unsupported()),
        };
    }
    let Some(text) = text_of(&parsed, now_us).ok_or_else(unsupported)? else { return Ok(Cell::Null) };
    from_text(field, &text).map_err(|_| unsupported())
}

/// The value as a text, `Some(None)` for NULL.
fn text_of(expression: &Expr, now_us: i64) -> Option<Option<String>> {
    Some(Some(match expression {
        Expr::Nested(inner) => return text_of(inner, now_us),
        Expr::Value(value) => match &value.value {
            SqlValue::Null => return Some(None),
            SqlValue::Boolean(flag) => flag.to_string(),
            SqlValue::Number(number, _) => number.clone(),
            SqlValue::SingleQuotedString(text) | SqlValue::DoubleQuotedString(text) => text.clone(),
            _ => return None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                SqlValue::Number(number, _) => format!("-{number}"),
                _ => return None,
            },
            _ => return None,
        },
        // DATE '2024-01-02', NUMERIC '1.5', JSON '{}'
        Expr::TypedString(typed) => match &typed.value.value {
            SqlValue::SingleQuotedString(text) | SqlValue::DoubleQuotedString(text) => text.clone(),
            _ => return None,
        },
        Expr::Function(function) => {
            let empty = match &function.args {
                FunctionArguments::None => true,
                FunctionArguments::List(list) => list.args.is_empty(),
                FunctionArguments::Subquery(_) => false,
            };
            if !empty {
                return None;
            }
            current(&function.name.to_string(), now_us)?
        }
        Expr::Identifier(name) => current(&name.value, now_us)?,
        _ => return None,
    }))
}

fn current(function: &str, now_us: i64) -> Option<String> {
    let now = datetime_text(now_us, ' ');
    Some(match function.to_ascii_uppercase().as_str() {
        "CURRENT_TIMESTAMP" | "CURRENT_DATETIME" => now,
        "CURRENT_DATE" => date_text(i32::try_from(now_us.div_euclid(86_400_000_000)).ok()?),
        "CURRENT_TIME" => now.get(11..)?.to_owned(),
        _ => return None,
    })
}
