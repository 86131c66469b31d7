//! Expressions: each kind on the list keeps BigQuery's meaning, the rest is refused by name.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType, ExactNumberInfo, Expr, Interval,
    TypedString, UnaryOperator, Value, ValueWithSpan,
};

use super::parameters::literal;
use super::rewrite::{Rewriter, call, integer_literal, lower, quoted, refuse_if, string_literal};
use super::values;
use crate::emulator::wire::{Failure, Outcome};

impl Rewriter<'_> {
    pub(super) fn expr(&mut self, expr: Expr) -> Outcome<Expr> {
        Ok(match expr {
            Expr::Identifier(ident) if ident.value.starts_with("@@") => {
                return Err(Failure::unsupported_sql(format!("the variable {ident}")));
            }
            Expr::Identifier(ident) if ident.value.starts_with('@') => {
                self.parameters.literal(&ident.value, &mut self.positional)?
            }
            Expr::Identifier(ident) => {
                let name = lower(&ident);
                match self.merged.last().and_then(|merged| merged.get(&name.value)) {
                    Some(alias) => Expr::CompoundIdentifier(vec![quoted(alias), name]),
                    None => Expr::Identifier(name),
                }
            }
            Expr::CompoundIdentifier(parts) => Expr::CompoundIdentifier(parts.iter().map(lower).collect()),
            Expr::IsFalse(e) => Expr::IsFalse(self.boxed(e)?),
            Expr::IsNotFalse(e) => Expr::IsNotFalse(self.boxed(e)?),
            Expr::IsTrue(e) => Expr::IsTrue(self.boxed(e)?),
            Expr::IsNotTrue(e) => Expr::IsNotTrue(self.boxed(e)?),
            Expr::IsNull(e) => Expr::IsNull(self.boxed(e)?),
            Expr::IsNotNull(e) => Expr::IsNotNull(self.boxed(e)?),
            Expr::IsDistinctFrom(a, b) => Expr::IsDistinctFrom(self.boxed(a)?, self.boxed(b)?),
            Expr::IsNotDistinctFrom(a, b) => Expr::IsNotDistinctFrom(self.boxed(a)?, self.boxed(b)?),
            Expr::InList { expr, list, negated } => {
                Expr::InList { expr: self.boxed(expr)?, list: self.exprs(list)?, negated }
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let subquery = Box::new(self.one_column(*subquery)?);
                Expr::InSubquery { expr: self.boxed(expr)?, subquery, negated }
            }
            Expr::InUnnest { expr, array_expr, negated } => self.in_unnest(*expr, *array_expr, negated)?,
            Expr::Between { expr, negated, low, high } => Expr::Between {
                expr: self.boxed(expr)?,
                negated,
                low: self.boxed(low)?,
                high: self.boxed(high)?,
            },
            Expr::BinaryOp { left, op, right } => self.binary(*left, op, *right)?,
            Expr::Like { negated, any, expr, pattern, escape_char } => {
                refuse_if(any, "LIKE ANY")?;
                refuse_if(escape_char.is_some(), "ESCAPE")?;
                let (expr, pattern) = (self.boxed(expr)?, self.boxed(pattern)?);
                Expr::Like { negated, any: false, expr, pattern, escape_char: None }
            }
            Expr::UnaryOp { op, expr } => self.unary(op, *expr)?,
            Expr::Cast { kind, expr, data_type, array, format } => {
                refuse_if(format.is_some(), "CAST with FORMAT")?;
                refuse_if(array, "CAST to an array")?;
                let safe = match kind {
                    CastKind::Cast => "",
                    CastKind::SafeCast => "safe_",
                    CastKind::TryCast => return Err(Failure::unsupported_sql("TRY_CAST")),
                    CastKind::DoubleColon => return Err(Failure::unsupported_sql("the operator ::")),
                };
                let name = format!("bq_{safe}cast_{}", cast_target(&data_type)?);
                call(&name, vec![self.expr(*expr)?])
            }
            Expr::Extract { field, syntax: _, expr } => {
                let field = field.to_string().to_ascii_uppercase();
                match field.as_str() {
                    "DATE" => call("bq_date", vec![self.expr(*expr)?]),
                    _ => call("bq_extract", vec![string_literal(&field), self.expr(*expr)?]),
                }
            }
            Expr::Ceil { expr, field } => self.rounded("ceil", *expr, &field)?,
            Expr::Floor { expr, field } => self.rounded("floor", *expr, &field)?,
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                let mut args = vec![self.expr(*expr)?];
                for arg in [substring_from, substring_for].into_iter().flatten() {
                    args.push(self.expr(*arg)?);
                }
                call("bq_substr", args)
            }
            Expr::Trim { trim_where, trim_what, expr, trim_characters } => {
                refuse_if(trim_where.is_some() || trim_what.is_some(), "TRIM with FROM")?;
                let mut args = vec![self.expr(*expr)?];
                args.extend(self.exprs(trim_characters.unwrap_or_default())?);
                call("btrim", args)
            }
            Expr::Nested(e) => Expr::Nested(self.boxed(e)?),
            Expr::Value(value) => self.value(value.value)?,
            Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax }) => {
                refuse_if(uses_odbc_syntax, "ODBC literals")?;
                let Value::SingleQuotedString(text) = plain_string(value.value)? else {
                    return Err(Failure::unsupported_sql("this literal"));
                };
                typed_literal(&data_type, &text)?
            }
            Expr::Function(function) => self.function(function)?,
            Expr::Case { case_token, end_token, operand, conditions, else_result } => {
                let operand = operand.map(|e| self.boxed(e)).transpose()?;
                let mut rewritten = Vec::with_capacity(conditions.len());
                for CaseWhen { condition, result } in conditions {
                    let (condition, result) = (self.expr(condition)?, self.expr(result)?);
                    rewritten.push(CaseWhen { condition, result });
                }
                let else_result = else_result.map(|e| self.boxed(e)).transpose()?;
                Expr::Case { case_token, end_token, operand, conditions: rewritten, else_result }
            }
            Expr::Exists { subquery, negated } => {
                Expr::Exists { subquery: Box::new(self.query(*subquery)?.0), negated }
            }
            Expr::Subquery(query) => Expr::Subquery(Box::new(self.one_column(*query)?)),
            Expr::Interval(_) => {
                return Err(Failure::unsupported_sql("INTERVAL values outside of date arithmetic"));
            }
            Expr::Struct { .. } => return Err(Failure::unsupported_sql("STRUCT")),
            Expr::Array(_) => return Err(Failure::unsupported_sql("ARRAY literals")),
            Expr::Tuple(_) => return Err(Failure::unsupported_sql("tuples")),
            Expr::CompoundFieldAccess { .. } => {
                return Err(Failure::unsupported_sql("array or field access"));
            }
            Expr::AtTimeZone { .. } => return Err(Failure::unsupported_sql("AT TIME ZONE")),
            other => {
                let text: String = other.to_string().chars().take(100).collect();
                return Err(Failure::unsupported_sql(format!("the expression {text}")));
            }
        })
    }

    fn boxed(&mut self, expr: Box<Expr>) -> Outcome<Box<Expr>> {
        self.expr(*expr).map(Box::new)
    }

    fn one_column(
        &mut self,
        query: datafusion::sql::sqlparser::ast::Query,
    ) -> Outcome<datafusion::sql::sqlparser::ast::Query> {
        let (query, columns) = self.query(query)?;
        if columns.len() != 1 {
            return Err(Failure::invalid_query(
                "Scalar subquery cannot have more than one column unless using SELECT AS STRUCT to build STRUCT \
                 values",
            ));
        }
        Ok(query)
    }

    fn in_unnest(&mut self, expr: Expr, array: Expr, negated: bool) -> Outcome<Expr> {
        let name = match array {
            Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => name,
            Expr::Identifier(ident) if ident.value.starts_with('@') => ident.value,
            _ => return Err(Failure::unsupported_sql("IN UNNEST of an expression")),
        };
        let expr = Box::new(self.expr(expr)?);
        let list = self.parameters.elements(&name, &mut self.positional)?;
        if list.is_empty() {
            return Ok(literal(Value::Boolean(negated)));
        }
        Ok(Expr::InList { expr, list, negated })
    }

    fn binary(&mut self, left: Expr, op: BinaryOperator, right: Expr) -> Outcome<Expr> {
        use BinaryOperator as B;
        if let (B::Plus | B::Minus, Expr::Interval(interval)) = (&op, &right) {
            let (amount, unit) = self.interval(interval.clone())?;
            let name = if op == B::Plus { "bq_timestamp_add" } else { "bq_timestamp_sub" };
            return Ok(call(name, vec![self.expr(left)?, amount, unit]));
        }
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        let function = match op {
            B::Plus => "bq_add",
            B::Minus => "bq_subtract",
            B::Multiply => "bq_multiply",
            B::Divide => "bq_divide",
            B::Gt | B::Lt | B::GtEq | B::LtEq | B::Eq | B::NotEq | B::And | B::Or | B::StringConcat => {
                return Ok(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) });
            }
            other => return Err(Failure::unsupported_sql(format!("the operator {other}"))),
        };
        Ok(call(function, vec![left, right]))
    }

    fn unary(&mut self, op: UnaryOperator, expr: Expr) -> Outcome<Expr> {
        match (op, expr) {
            // The smallest INT64 is a literal only together with its sign.
            (UnaryOperator::Minus, Expr::Value(value)) if matches!(&value.value, Value::Number(n, _) if n == "9223372036854775808") => {
                Ok(integer_literal(i64::MIN))
            }
            (op @ (UnaryOperator::Minus | UnaryOperator::Plus | UnaryOperator::Not), expr) => {
                let simple = matches!(expr, Expr::Value(_));
                let expr = self.expr(expr)?;
                if op == UnaryOperator::Minus && !simple {
                    return Ok(call("bq_subtract", vec![integer_literal(0), expr]));
                }
                Ok(Expr::UnaryOp { op, expr: Box::new(expr) })
            }
            (op, _) => Err(Failure::unsupported_sql(format!("the operator {op}"))),
        }
    }

    fn rounded(&mut self, name: &str, expr: Expr, field: &CeilFloorKind) -> Outcome<Expr> {
        use datafusion::sql::sqlparser::ast::DateTimeField;
        refuse_if(
            !matches!(field, CeilFloorKind::DateTimeField(DateTimeField::NoDateTime)),
            "CEIL or FLOOR TO",
        )?;
        Ok(call(name, vec![call("bq_float", vec![self.expr(expr)?])]))
    }

    fn value(&mut self, value: Value) -> Outcome<Expr> {
        match value {
            Value::Number(text, false) => {
                let is_float = text.contains(['.', 'e', 'E']);
                if !is_float && text.parse::<i64>().is_err() {
                    return Err(Failure::invalid_query(format!("Invalid integer literal: {text}")));
                }
                Ok(literal(Value::Number(text, false)))
            }
            Value::Boolean(_) | Value::Null => Ok(literal(value)),
            Value::Placeholder(name) => self.parameters.literal(&name, &mut self.positional),
            other => plain_string(other).map(literal),
        }
    }

    /// The amount and the unit of an interval, both as arguments.
    pub(super) fn interval(&mut self, interval: Interval) -> Outcome<(Expr, Expr)> {
        let Interval { value, leading_field, leading_precision, last_field, fractional_seconds_precision } =
            interval;
        let extras =
            leading_precision.is_some() || last_field.is_some() || fractional_seconds_precision.is_some();
        let unit = leading_field.filter(|_| !extras);
        let Some(unit) = unit else { return Err(Failure::unsupported_sql("this form of INTERVAL")) };
        let amount = self.expr(*value)?;
        Ok((amount, string_literal(&unit.to_string().to_ascii_uppercase())))
    }
}

fn plain_string(value: Value) -> Outcome<Value> {
    match value {
        Value::SingleQuotedString(text)
        | Value::DoubleQuotedString(text)
        | Value::TripleSingleQuotedString(text)
        | Value::TripleDoubleQuotedString(text)
        | Value::SingleQuotedRawStringLiteral(text)
        | Value::DoubleQuotedRawStringLiteral(text)
        | Value::TripleSingleQuotedRawStringLiteral(text)
        | Value::TripleDoubleQuotedRawStringLiteral(text) => Ok(Value::SingleQuotedString(text)),
        other => Err(Failure::unsupported_sql(format!("the literal {other}"))),
    }
}

/// The suffix of our cast function for a type.
fn cast_target(data_type: &DataType) -> Outcome<&'static str> {
    Ok(match data_type {
        DataType::Int64 | DataType::Int(None) | DataType::Integer(None) | DataType::BigInt(None) => "int64",
        DataType::Float64 => "float64",
        DataType::String(None) => "string",
        DataType::Bytes(None) => "bytes",
        DataType::Bool | DataType::Boolean => "bool",
        DataType::Numeric(ExactNumberInfo::None) => "numeric",
        DataType::BigNumeric(ExactNumberInfo::None) => "bignumeric",
        DataType::Date => "date",
        DataType::Datetime(None) => "datetime",
        DataType::Timestamp(None, _) => "timestamp",
        other => return Err(Failure::unsupported_sql(format!("CAST to {other}"))),
    })
}

fn typed_literal(data_type: &DataType, text: &str) -> Outcome<Expr> {
    let invalid = |name: &str| Failure::invalid_query(format!("Invalid {name} literal: \"{text}\""));
    Ok(match data_type {
        DataType::Date => {
            let days = values::parse_date(text).ok_or_else(|| invalid("DATE"))?;
            call("bq_date_from_unix_date", vec![integer_literal(days.into())])
        }
        DataType::Timestamp(None, _) => {
            let micros = values::parse_timestamp(text).ok_or_else(|| invalid("TIMESTAMP"))?;
            call("bq_timestamp_micros", vec![integer_literal(micros)])
        }
        DataType::Datetime(None) => call("bq_cast_datetime", vec![string_literal(text)]),
        DataType::Numeric(ExactNumberInfo::None) => call("bq_cast_numeric", vec![string_literal(text)]),
        other => return Err(Failure::unsupported_sql(format!("{other} literals"))),
    })
}
