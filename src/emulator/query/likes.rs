//! LIKE: of one pattern or several, on texts and on bytes.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};

use super::literals::BYTES_LITERAL;
use super::rewrite::{Rewriter, call, refuse_if};
use super::syntax::LIKE_ALL;
use crate::emulator::wire::{Failure, Outcome};

/// What follows LIKE.
pub(super) struct Patterns {
    pub negated: bool,
    /// `LIKE ANY (…)`, or `LIKE ALL (…)` when the first in the brackets says so.
    pub quantified: bool,
    pub patterns: Expr,
}

impl Rewriter<'_> {
    pub(super) fn like(&mut self, text: Expr, like: Patterns) -> Outcome<Expr> {
        let Patterns { negated, quantified, patterns } = like;
        let text = self.expr(text)?;
        if !quantified {
            return self.like_one(text, negated, patterns);
        }
        refuse_if(negated, "NOT LIKE ANY and NOT LIKE ALL: write NOT (x LIKE ANY (…))")?;
        let mut patterns = match patterns {
            Expr::Tuple(list) => list,
            Expr::Nested(one) => vec![*one],
            _ => {
                return Err(Failure::unsupported_sql("LIKE ANY and LIKE ALL of what is no list of patterns"));
            }
        };
        let all = matches!(patterns.first(), Some(Expr::Identifier(first))
            if first.value == LIKE_ALL && first.quote_style.is_none());
        let op = if all { BinaryOperator::And } else { BinaryOperator::Or };
        let each = patterns.drain(usize::from(all)..).map(|one| self.like_one(text.clone(), false, one));
        let each = each.collect::<Outcome<Vec<_>>>()?;
        let joined = each.into_iter().reduce(|left, right| Expr::BinaryOp {
            left: Box::new(left),
            op: op.clone(),
            right: Box::new(right),
        });
        joined
            .map(|expr| Expr::Nested(Box::new(expr)))
            .ok_or_else(|| Failure::invalid_query("Syntax error: LIKE ANY and LIKE ALL need a pattern"))
    }

    fn like_one(&mut self, text: Expr, negated: bool, pattern: Expr) -> Outcome<Expr> {
        let pattern = match self.expr(pattern)? {
            // DataFusion has no LIKE on bytes.
            Expr::Function(bytes) if bytes.name.to_string() == BYTES_LITERAL => {
                let found = call("bq_like_bytes", vec![text, Expr::Function(bytes)]);
                return Ok(match negated {
                    true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(found) },
                    false => found,
                });
            }
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(pattern) if ends_in_escape(pattern.as_bytes()) => {
                    return Err(Failure::invalid_query("LIKE pattern ends with a backslash"));
                }
                _ => Expr::Value(value),
            },
            // What a pattern of the data ends in is seen when it is met.
            other => call("bq_like_pattern", vec![other]),
        };
        let (expr, pattern) = (Box::new(text), Box::new(pattern));
        Ok(Expr::Like { negated, any: false, expr, pattern, escape_char: None })
    }
}

/// Whether the last character escapes nothing.
pub(super) fn ends_in_escape(pattern: &[u8]) -> bool {
    pattern.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}
