//! What expressions begin with: names, literals, and a value as one of another type.

use datafusion::sql::sqlparser::ast::{DataType, ExactNumberInfo, Expr, Ident, Value};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::build::{cast, column, number, text};
use super::query::{Clause, Translator};
use super::{Typed, lower, words};
use crate::error::Result;
use crate::schema::ColumnType;

use ColumnType::{Bool, Date, Float64, Int64, Numeric, String};

impl Translator<'_> {
    /// A name: of a column, or where it stands for nothing else, of an item of the SELECT list.
    pub(super) fn column(&self, table: Option<&Ident>, ident: &Ident) -> Result<Typed> {
        let (scope, name) = (&self.scope, lower(ident));
        let wrong = |what: &str, hint: Option<&str>| Err(self.text.refused(ident.span, what, hint));
        if table.is_some_and(|table| lower(table) != scope.table) {
            return wrong(&format!("there is no table `{}`", table.map_or("", |t| &t.value)), None);
        }
        let of_table = scope.columns.iter().find(|(known, _)| *known == name);
        let of_table = of_table.map(|(known, kind)| Typed { expr: column(&scope.table, known), kind: *kind });
        let sees_aliases = matches!(scope.clause, Clause::GroupBy | Clause::Having | Clause::Qualify);
        let alias = scope.aliases.iter().find(|(alias, _)| *alias == name && table.is_none());
        match (of_table, alias.filter(|_| sees_aliases)) {
            (Some(column), Some((_, item))) if item.expr != column.expr => wrong(
                &format!("`{}` is a column and the name of something else", ident.value),
                Some("give the other one a name of its own"),
            ),
            (Some(column), _) => Ok(column),
            (None, Some((_, item))) => Ok(item.clone()),
            (None, None) if alias.is_some() => wrong(
                &format!("`{}` is a name of the SELECT list, which is not known here", ident.value),
                Some("write the expression itself"),
            ),
            (None, None) => {
                let names: Vec<&str> = scope.columns.iter().map(|(name, _)| name.as_str()).collect();
                let near = words::near(&name, &names, "columns");
                wrong(&format!("there is no column `{}`", ident.value), near.as_deref())
            }
        }
    }

    pub(super) fn literal(&self, value: Value, place: Span) -> Result<Typed> {
        match value {
            Value::Number(digits, false) if digits.contains(['.', 'e', 'E']) => match digits.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Typed::new(number(&digits), Float64)),
                _ => Err(self.text.refused(place, &format!("`{digits}` is no FLOAT64"), None)),
            },
            Value::Number(digits, false) => match digits.parse::<i64>() {
                Ok(_) => Ok(Typed::new(number(&digits), Int64)),
                Err(_) => Err(self.text.refused(place, &format!("`{digits}` is no INT64"), None)),
            },
            Value::Boolean(value) => Ok(Typed::new(Expr::value(Value::Boolean(value)), Bool)),
            Value::Null => Ok(Typed { expr: Expr::value(Value::Null), kind: None }),
            Value::SingleQuotedString(_) | Value::DoubleQuotedString(_) => {
                let is_single = matches!(value, Value::SingleQuotedString(_));
                let (Value::SingleQuotedString(raw) | Value::DoubleQuotedString(raw)) = value else {
                    return Err(self.text.unlisted(place, "this literal"));
                };
                if raw.contains('\\')
                    || (is_single && raw.contains('\''))
                    || (!is_single && raw.contains('"'))
                {
                    let instead = "a quote is written between quotes of the other kind: \"it's\"";
                    return Err(self.text.refused(place, "an escape in a text", Some(instead)));
                }
                Ok(Typed::new(text(&raw), String))
            }
            other => Err(self.text.unlisted(place, &format!("the literal {other}"))),
        }
    }

    /// A text that is written out, without escapes.
    pub(super) fn plain_text(&self, expr: &Expr, place: Span, what: &str) -> Result<std::string::String> {
        let Expr::Value(value) = expr else {
            return Err(self.text.refused(
                place,
                &format!("{what} that is no literal"),
                Some("write it out: 'x'"),
            ));
        };
        match self.literal(value.value.clone(), place)?.expr {
            Expr::Value(value) => match value.value {
                Value::SingleQuotedString(text) => Ok(text),
                _ => Err(self.text.refused(place, &format!("{what} that is no STRING"), None)),
            },
            _ => Err(self.text.refused(place, &format!("{what} that is no STRING"), None)),
        }
    }

    pub(super) fn cast(&mut self, expr: Expr, data_type: &DataType, place: Span) -> Result<Typed> {
        let wanted = match data_type {
            DataType::Int64 => Int64,
            DataType::Float64 => Float64,
            DataType::String(None) => String,
            DataType::Bool => Bool,
            DataType::Date => Date,
            DataType::Numeric(ExactNumberInfo::None) => Numeric,
            other => {
                let what = format!("CAST AS {other}");
                let instead = "types are INT64, FLOAT64, NUMERIC, BOOL, STRING and DATE";
                return Err(self.text.refused(place, &what, Some(instead)));
            }
        };
        let typed = self.expr(expr)?;
        match (typed.kind, wanted) {
            (None, _) => {}
            (Some(given), wanted) if given == wanted => {}
            (Some(Int64), String | Float64 | Numeric)
            | (Some(Bool), String | Int64)
            | (Some(Date), String) => {}
            (Some(given), wanted) => {
                let what = format!("CAST of {} AS {}", given.name(), wanted.name());
                let instead = "values are read as what they are by the `type` of the column in pipeline.toml";
                return Err(self.text.refused(place, &what, Some(instead)));
            }
        }
        Ok(Typed::new(cast(typed.expr, wanted), wanted))
    }
}
