//! Expressions: each kind on the list keeps BigQuery's meaning, the rest is refused by name.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CeilFloorKind, Expr, Interval, Query, TypedString, UnaryOperator, Value,
    ValueWithSpan,
};

use super::likes::Patterns;
use super::literals;
use super::rewrite::{Rewriter, call, integer_literal, refuse_if, string_literal};
use super::syntax::SHIFTS;
use super::visible::{Shape, fields};
use crate::emulator::wire::{Failure, Outcome};

impl Rewriter<'_> {
    pub(super) fn expr(&mut self, expr: Expr) -> Outcome<Expr> {
        self.shaped(expr).map(|(expr, _)| expr)
    }

    /// An expression, and what can be seen of its type.
    pub(super) fn shaped(&mut self, expr: Expr) -> Outcome<(Expr, Shape)> {
        match expr {
            Expr::Identifier(ident) if ident.value.starts_with("@@") => {
                Err(Failure::unsupported_sql(format!("the variable {ident}")))
            }
            Expr::Identifier(ident) if ident.value.starts_with('@') => {
                self.parameters.value(&ident.value, &mut self.positional)
            }
            Expr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) => {
                self.parameters.value(&name, &mut self.positional)
            }
            Expr::Identifier(ident) => self.path(&[ident]),
            Expr::CompoundIdentifier(parts) if parts.first().is_some_and(|p| p.value.starts_with('@')) => {
                let (value, shape) = self.parameters.value(&parts[0].value, &mut self.positional)?;
                Ok(fields(value, shape, &parts[1..]))
            }
            Expr::CompoundIdentifier(parts) => self.path(&parts),
            Expr::CompoundFieldAccess { root, access_chain } => self.access(*root, access_chain),
            Expr::Nested(inner) => {
                let (inner, shape) = self.shaped(*inner)?;
                Ok((Expr::Nested(Box::new(inner)), shape))
            }
            Expr::Struct { values, fields } if fields.is_empty() => self.record(values, true),
            Expr::Tuple(values) => self.record(values, false),
            Expr::Array(array) => self.array(array.elem),
            Expr::Function(function) => self.function(function),
            Expr::Subquery(query) => {
                let (query, output) = self.query(*query)?;
                let [column] = output.columns.as_slice() else {
                    return Err(Failure::invalid_query(
                        "Scalar subquery cannot have more than one column unless using SELECT AS STRUCT to build \
                         STRUCT values",
                    ));
                };
                let shape = column.shape.clone();
                Ok((Expr::Subquery(Box::new(query)), shape))
            }
            Expr::Cast { kind, expr, data_type, array, format } => {
                refuse_if(format.is_some(), "CAST with FORMAT")?;
                refuse_if(array, "CAST to an array")?;
                self.cast(&kind, *expr, &data_type)
            }
            other => self.plain(other).map(|expr| (expr, Shape::Opaque)),
        }
    }

    fn plain(&mut self, expr: Expr) -> Outcome<Expr> {
        Ok(match expr {
            Expr::IsFalse(e) => Expr::IsFalse(self.boxed(e)?),
            Expr::IsNotFalse(e) => Expr::IsNotFalse(self.boxed(e)?),
            Expr::IsTrue(e) => Expr::IsTrue(self.boxed(e)?),
            Expr::IsNotTrue(e) => Expr::IsNotTrue(self.boxed(e)?),
            Expr::IsNull(e) => Expr::IsNull(self.boxed(e)?),
            Expr::IsNotNull(e) => Expr::IsNotNull(self.boxed(e)?),
            Expr::IsDistinctFrom(_, b) | Expr::IsNotDistinctFrom(_, b) if is_junction(&b) => {
                return Err(Failure::unsupported_sql(
                    "AND or OR behind IS DISTINCT FROM; put the comparison into brackets",
                ));
            }
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
                refuse_if(escape_char.is_some(), "ESCAPE")?;
                self.like(*expr, Patterns { negated, quantified: any, patterns: *pattern })?
            }
            Expr::UnaryOp { op, expr } => self.unary(op, *expr)?,
            Expr::Extract { field, syntax: _, expr } => {
                let field = field.to_string().to_ascii_uppercase();
                let (expr, zone) = match *expr {
                    Expr::AtTimeZone { timestamp, time_zone } => (*timestamp, Some(self.expr(*time_zone)?)),
                    other => (other, None),
                };
                let expr = self.expr(expr)?;
                match field.as_str() {
                    "DATE" | "TIME" | "DATETIME" => {
                        let mut args = vec![expr];
                        args.extend(zone);
                        call(&format!("bq_{}", field.to_lowercase()), args)
                    }
                    _ => {
                        let mut args = vec![string_literal(&field), expr];
                        args.extend(zone);
                        call("bq_extract", args)
                    }
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
                call("bq_trim", args)
            }
            Expr::Value(value) => literals::value(value.value)?,
            Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax }) => {
                refuse_if(uses_odbc_syntax, "ODBC literals")?;
                literals::typed(&data_type, &value.value.into_string().unwrap_or_default())?
            }
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
            Expr::Position { expr, r#in } => call("bq_strpos", vec![self.expr(*r#in)?, self.expr(*expr)?]),
            Expr::Interval(_) => {
                return Err(Failure::unsupported_sql("INTERVAL values outside of date arithmetic"));
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

    fn one_column(&mut self, query: Query) -> Outcome<Query> {
        let (query, output) = self.query(query)?;
        if output.columns.len() != 1 {
            return Err(Failure::invalid_query("Subquery of type IN must have only one output column"));
        }
        Ok(query)
    }

    fn binary(&mut self, left: Expr, op: BinaryOperator, right: Expr) -> Outcome<Expr> {
        use BinaryOperator as B;
        if let (B::Plus | B::Minus, Expr::Interval(interval)) = (&op, &right) {
            let (amount, unit) = self.interval(interval.clone())?;
            let name = if op == B::Plus { "bq_plus_interval" } else { "bq_minus_interval" };
            return Ok(call(name, vec![self.expr(left)?, amount, unit]));
        }
        // `a XOR SHIFT.LEFT XOR b`: what `<<` was respelled as.
        if let (B::Xor, Expr::BinaryOp { left: value, op: B::Xor, right: shift }) = (&op, &left)
            && let Expr::Identifier(shift) = shift.as_ref()
            && let Some((_, function)) =
                SHIFTS.iter().find(|(marker, _)| *marker == shift.value && shift.quote_style.is_none())
        {
            return Ok(call(function, vec![self.expr(value.as_ref().clone())?, self.expr(right)?]));
        }
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        let function = match op {
            B::Plus => "bq_add",
            B::Minus => "bq_subtract",
            B::Multiply => "bq_multiply",
            B::Divide => "bq_divide",
            B::StringConcat => "bq_join",
            B::Gt | B::Lt | B::GtEq | B::LtEq | B::Eq | B::NotEq | B::And | B::Or => {
                return Ok(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) });
            }
            B::BitwiseAnd => "bq_bitwise_and",
            B::BitwiseOr => "bq_bitwise_or",
            B::BitwiseXor => "bq_bitwise_xor",
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
            (UnaryOperator::BitwiseNot, expr) => Ok(call("bq_bitwise_not", vec![self.expr(expr)?])),
            (op, _) => Err(Failure::unsupported_sql(format!("the operator {op}"))),
        }
    }

    fn rounded(&mut self, name: &str, expr: Expr, field: &CeilFloorKind) -> Outcome<Expr> {
        use datafusion::sql::sqlparser::ast::DateTimeField;
        refuse_if(
            !matches!(field, CeilFloorKind::DateTimeField(DateTimeField::NoDateTime)),
            "CEIL or FLOOR TO",
        )?;
        Ok(call(&format!("bq_{name}"), vec![self.expr(expr)?]))
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

/// Conditions joined without brackets. sqlparser takes them for the right side of IS DISTINCT FROM, whose
/// operands do not reach so far in BigQuery.
fn is_junction(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
}
