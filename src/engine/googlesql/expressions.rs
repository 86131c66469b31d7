//! Operators, literals and names.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, TypedString, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::arithmetic;
use super::build::{binary, call, cast, number, text};
use super::query::Translator;
use super::windows::unsigned;
use super::{Typed, place_of};
use crate::error::{Error, Result};
use crate::schema::ColumnType;

use ColumnType::{Bool, Date, Float64, Int64, String};

impl Translator<'_> {
    pub(super) fn expr(&mut self, expr: Expr) -> Result<Typed> {
        let place = place_of(&expr);
        match expr {
            Expr::Identifier(ident) => self.column(None, &ident),
            Expr::CompoundIdentifier(path) => match path.as_slice() {
                [table, name] => self.column(Some(table), name),
                _ => Err(self.text.unlisted(place, "a name of more than two parts")),
            },
            Expr::Nested(inner) => {
                let inner = self.expr(*inner)?;
                Ok(Typed { expr: Expr::Nested(Box::new(inner.expr)), kind: inner.kind })
            }
            Expr::Value(value) => self.literal(value.value, place),
            Expr::TypedString(TypedString { data_type: DataType::Date, value, uses_odbc_syntax: false }) => {
                let (Value::SingleQuotedString(day) | Value::DoubleQuotedString(day)) = value.value else {
                    return Err(self.text.unlisted(place, "this kind of DATE literal"));
                };
                match day.parse::<chrono::NaiveDate>() {
                    Ok(date) if day.len() == 10 => Ok(Typed::new(cast(text(&date.to_string()), Date), Date)),
                    _ => Err(self.text.refused(
                        place,
                        &format!("`{day}` is no date"),
                        Some("DATE '2011-01-31'"),
                    )),
                }
            }
            Expr::UnaryOp { op, expr } => self.unary(op, *expr, place),
            Expr::BinaryOp { left, op, right } => self.binary(*left, op, *right, place),
            Expr::IsNull(inner) => self.test(*inner, Expr::IsNull),
            Expr::IsNotNull(inner) => self.test(*inner, Expr::IsNotNull),
            Expr::IsTrue(inner) => self.truth(*inner, Expr::IsTrue),
            Expr::IsNotTrue(inner) => self.truth(*inner, Expr::IsNotTrue),
            Expr::IsFalse(inner) => self.truth(*inner, Expr::IsFalse),
            Expr::IsNotFalse(inner) => self.truth(*inner, Expr::IsNotFalse),
            Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right)
                if matches!(*right, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. }) =>
            {
                // The parser takes all that follows for the right side.
                let instead = "put the comparison into brackets: (a IS DISTINCT FROM b) AND c";
                Err(self.text.refused(place, "AND or OR behind IS DISTINCT FROM", Some(instead)))
            }
            Expr::IsDistinctFrom(left, right) => {
                let (left, right) = self.compared(*left, *right, place)?;
                Ok(Typed::new(Expr::IsDistinctFrom(Box::new(left), Box::new(right)), Bool))
            }
            Expr::IsNotDistinctFrom(left, right) => {
                let (left, right) = self.compared(*left, *right, place)?;
                Ok(Typed::new(Expr::IsNotDistinctFrom(Box::new(left), Box::new(right)), Bool))
            }
            Expr::Between { expr, negated, low, high } => {
                let expr = self.expr(*expr)?;
                let (low, high) = (self.expr(*low)?, self.expr(*high)?);
                self.comparable(&expr, &low, place)?;
                self.comparable(&expr, &high, place)?;
                let (expr, low, high) = (Box::new(expr.expr), Box::new(low.expr), Box::new(high.expr));
                Ok(Typed::new(Expr::Between { expr, negated, low, high }, Bool))
            }
            Expr::InList { expr, list, negated } => {
                let expr = self.expr(*expr)?;
                let mut items = Vec::with_capacity(list.len());
                for item in list {
                    let item = self.expr(item)?;
                    self.comparable(&expr, &item, place)?;
                    items.push(item.expr);
                }
                Ok(Typed::new(Expr::InList { expr: Box::new(expr.expr), list: items, negated }, Bool))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                let expr = self.of_type(*expr, String, "LIKE")?;
                let pattern = self.plain_text(&pattern, place, "the pattern of LIKE")?;
                let (expr, pattern) = (Box::new(expr.expr), Box::new(text(&pattern)));
                Ok(Typed::new(Expr::Like { negated, any: false, expr, pattern, escape_char: None }, Bool))
            }
            Expr::Case { case_token, end_token, operand, conditions, else_result } => {
                let operand = operand.map(|operand| self.expr(*operand)).transpose()?;
                let mut results = Vec::new();
                let mut whens = Vec::with_capacity(conditions.len());
                for CaseWhen { condition, result } in conditions {
                    let condition = match &operand {
                        None => self.boolean(condition)?,
                        Some(operand) => {
                            let value = self.expr(condition)?;
                            self.comparable(operand, &value, place)?;
                            value
                        }
                    };
                    let result = self.expr(result)?;
                    whens.push(CaseWhen { condition: condition.expr, result: result.expr.clone() });
                    results.push(result);
                }
                let otherwise = else_result.map(|otherwise| self.expr(*otherwise)).transpose()?;
                results.extend(otherwise.clone());
                let kind = self.common(&results, place, "CASE")?;
                let expr = Expr::Case {
                    case_token,
                    end_token,
                    operand: operand.map(|operand| Box::new(operand.expr)),
                    conditions: whens,
                    else_result: otherwise.map(|otherwise| Box::new(otherwise.expr)),
                };
                Ok(Typed { expr, kind })
            }
            Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None } => {
                self.cast(*expr, &data_type, place)
            }
            Expr::Cast { kind: CastKind::DoubleColon, .. } => {
                Err(self.text.refused(place, "`::` is no operator of BigQuery", Some("write CAST(x AS T)")))
            }
            Expr::Function(function) => self.function(function, place),
            Expr::Substring { expr, substring_from, substring_for, special: true, shorthand } => {
                let name = if shorthand { "SUBSTR" } else { "SUBSTRING" };
                let expr = self.of_type(*expr, String, name)?;
                let mut args = vec![expr.expr];
                let bounds = [(substring_from, 1), (substring_for, 0)];
                for (bound, least) in bounds.into_iter().filter_map(|(bound, least)| Some((bound?, least))) {
                    match &*bound {
                        Expr::Value(value) if matches!(&value.value, Value::Number(n, _) if at_least(n, least)) =>
                        {
                            args.push(number(&value.value.to_string()));
                        }
                        _ => {
                            let what = format!("a place in {name} that may be below {least}");
                            let instead = "a place is a number here, 1 is the first character";
                            return Err(self.text.refused(place, &what, Some(instead)));
                        }
                    }
                }
                Ok(Typed::new(call("substr", args), String))
            }
            Expr::Trim { trim_where: None, trim_what: None, expr, trim_characters: Some(characters) } => {
                let [characters] = characters.as_slice() else {
                    return Err(self.text.unlisted(place, "TRIM of more than two values"));
                };
                let characters = self.plain_text(characters, place, "what TRIM takes away")?;
                let expr = self.of_type(*expr, String, "TRIM")?;
                Ok(Typed::new(call("btrim", vec![expr.expr, text(&characters)]), String))
            }
            Expr::Trim { trim_where: None, trim_what: None, trim_characters: None, .. } => {
                let what = "TRIM(x) takes away white space of any kind in BigQuery, here only blanks";
                Err(self.text.refused(place, what, Some("say what: TRIM(x, ' ')")))
            }
            Expr::Ceil { .. } => Err(self.instead("CEIL", place)),
            Expr::Floor { .. } => Err(self.instead("FLOOR", place)),
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => {
                Err(self.text.unlisted(place, "a query in an expression"))
            }
            Expr::Array(_) | Expr::InUnnest { .. } => Err(self.text.unlisted(place, "an array")),
            other => Err(self.text.unlisted(place, &construct(&other))),
        }
    }

    fn unary(&mut self, op: UnaryOperator, expr: Expr, place: Span) -> Result<Typed> {
        match (op, &expr) {
            (UnaryOperator::Not, _) => {
                let expr = self.boolean(expr)?;
                Ok(Typed::new(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr.expr) }, Bool))
            }
            (UnaryOperator::Minus, Expr::Value(value)) => {
                let Value::Number(digits, false) = &value.value else {
                    return Err(self.text.refused(place, "`-` of what is no number", None));
                };
                let is_whole = format!("-{digits}").parse::<i64>().is_ok();
                let kind = if is_whole { Int64 } else { Float64 };
                let literal = number(digits);
                if kind == Float64 {
                    self.literal(value.value.clone(), place)?;
                }
                Ok(Typed::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(literal) }, kind))
            }
            (UnaryOperator::Minus, _) => {
                let expr = self.of_type(expr, Int64, "`-`")?;
                Ok(Typed::new(call(arithmetic::SUBTRACT, vec![number("0"), expr.expr]), Int64))
            }
            (op, _) => Err(self.text.unlisted(place, &format!("`{op}`"))),
        }
    }

    fn binary(&mut self, left: Expr, op: BinaryOperator, right: Expr, place: Span) -> Result<Typed> {
        use BinaryOperator as B;
        let refused = |what: &str, instead: &str| Err(self.text.refused(place, what, Some(instead)));
        match op {
            B::Plus | B::Minus | B::Multiply => {
                let function = match op {
                    B::Plus => arithmetic::ADD,
                    B::Minus => arithmetic::SUBTRACT,
                    _ => arithmetic::MULTIPLY,
                };
                let name = format!("`{op}`");
                let (left, right) = (self.of_type(left, Int64, &name)?, self.of_type(right, Int64, &name)?);
                Ok(Typed::new(call(function, vec![left.expr, right.expr]), Int64))
            }
            B::Divide => refused(
                "`/` gives a FLOAT64 in BigQuery, and a whole number here",
                "whole numbers are divided by DIV(a, b)",
            ),
            B::Modulo => refused("`%` is no operator of BigQuery", "write MOD(a, b)"),
            B::StringConcat => {
                let (left, right) =
                    (self.of_type(left, String, "`||`")?, self.of_type(right, String, "`||`")?);
                Ok(Typed::new(binary(left.expr, op, right.expr), String))
            }
            B::And | B::Or => {
                let (left, right) = (self.boolean(left)?, self.boolean(right)?);
                Ok(Typed::new(binary(left.expr, op, right.expr), Bool))
            }
            B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq => {
                let (left, right) = self.compared(left, right, place)?;
                Ok(Typed::new(binary(left, op, right), Bool))
            }
            op => Err(self.text.unlisted(place, &format!("`{op}`"))),
        }
    }

    fn test(&mut self, inner: Expr, test: impl Fn(Box<Expr>) -> Expr) -> Result<Typed> {
        Ok(Typed::new(test(Box::new(self.expr(inner)?.expr)), Bool))
    }

    fn truth(&mut self, inner: Expr, test: impl Fn(Box<Expr>) -> Expr) -> Result<Typed> {
        Ok(Typed::new(test(Box::new(self.boolean(inner)?.expr)), Bool))
    }

    fn compared(&mut self, left: Expr, right: Expr, place: Span) -> Result<(Expr, Expr)> {
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        self.comparable(&left, &right, place)?;
        Ok(unsigned(left.expr, right.expr))
    }

    /// The same type on both sides, and one whose values are compared alike.
    pub(super) fn comparable(&self, left: &Typed, right: &Typed, place: Span) -> Result<()> {
        if [left, right].iter().any(|side| side.kind == Some(Float64)) {
            let instead = "NaN and -0.0 are compared in other ways here; the column may be a NUMERIC";
            return Err(self.text.refused(place, "a FLOAT64 is compared", Some(instead)));
        }
        match (left.kind, right.kind) {
            (Some(a), Some(b)) if a != b => {
                let what = format!("{} is compared with {}", a.name(), b.name());
                Err(self.text.refused(place, &what, Some("write the CAST into the SQL, if it is meant")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn boolean(&mut self, expr: Expr) -> Result<Typed> {
        self.of_type(expr, Bool, "a condition")
    }

    pub(super) fn of_type(&mut self, expr: Expr, kind: ColumnType, what: &str) -> Result<Typed> {
        let place = place_of(&expr);
        let typed = self.expr(expr)?;
        match typed.is(kind) {
            true => Ok(typed),
            false => Err(self.wrong_type(place, what, &typed, kind)),
        }
    }

    pub(super) fn wrong_type(&self, place: Span, what: &str, typed: &Typed, kind: ColumnType) -> Error {
        let what = format!("{what} of {}", typed.type_name());
        let instead = format!("{} is known to mean the same here as in BigQuery", kind.name());
        self.text.refused(place, &what, Some(&instead))
    }

    /// The type of values of which one is taken.
    pub(super) fn common(&self, all: &[Typed], place: Span, what: &str) -> Result<Option<ColumnType>> {
        let mut kinds = all.iter().filter_map(|typed| typed.kind);
        let first = kinds.next();
        match kinds.find(|kind| Some(*kind) != first) {
            None => Ok(first),
            Some(other) => {
                let first = first.map_or("NULL", ColumnType::name);
                let what = format!("{what} of {first} and {}", other.name());
                Err(self.text.refused(place, &what, Some("write the CAST into the SQL, if it is meant")))
            }
        }
    }
}

fn at_least(digits: &str, least: i64) -> bool {
    digits.parse::<i64>().is_ok_and(|number| number >= least)
}

/// The first word of what stands there.
fn construct(expr: &Expr) -> std::string::String {
    let text = expr.to_string();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').filter(|end| *end > 0);
    match end {
        Some(end) => text[..end].to_uppercase(),
        None => format!("`{}`", text.chars().take(30).collect::<std::string::String>()),
    }
}
