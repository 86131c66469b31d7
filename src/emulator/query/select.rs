//! SELECT statements put together from parts.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Ident, Parens, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, TableWithJoins,
    Value, Values,
};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::parameters::literal;
use super::rewrite::quoted;
use crate::emulator::wire::{Failure, Outcome};

/// The name of the `index`-th column of a query that is read by position.
pub(super) fn position_name(index: usize) -> String {
    format!("c{index}")
}

/// `SELECT items AS c0, c1, ... FROM from WHERE selection`.
pub(super) fn select(items: Vec<Expr>, from: Vec<TableWithJoins>, selection: Option<Expr>) -> Outcome<Query> {
    let named = |(index, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::new(position_name(index)) };
    let mut query = parse_query("SELECT 1")?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items.into_iter().enumerate().map(named).collect();
        select.from = from;
        select.selection = selection;
    }
    Ok(query)
}

/// Rows of values that need no rewriting any more.
pub(super) fn values(rows: Vec<Vec<Expr>>) -> Outcome<Query> {
    let mut query = parse_query("SELECT 1")?;
    let rows = rows.into_iter().map(Parens::with_empty_span).collect();
    *query.body = SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows });
    Ok(query)
}

/// The rows of all queries; `None` of no query.
pub(super) fn union_all(queries: Vec<Query>) -> Option<Query> {
    // Halves instead of a chain: a deep tree would overflow the stack.
    let mut level = queries;
    while level.len() > 1 {
        let mut above = Vec::with_capacity(level.len().div_ceil(2));
        let mut pairs = level.into_iter();
        while let Some(mut left) = pairs.next() {
            if let Some(right) = pairs.next() {
                *left.body = SetExpr::SetOperation {
                    op: SetOperator::Union,
                    set_quantifier: SetQuantifier::All,
                    left: left.body.clone(),
                    right: right.body,
                };
            }
            above.push(left);
        }
        level = above;
    }
    level.pop()
}

/// A query of this server's own making.
pub(super) fn parse_query(sql: &str) -> Outcome<Query> {
    let parsed =
        Parser::new(&BigQueryDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_query());
    parsed.map(|query| *query).map_err(|e| Failure::invalid_query(format!("Syntax error: {e}")))
}

/// `alias.name`.
pub(super) fn column(alias: &str, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![quoted(alias), quoted(name)])
}

pub(super) fn number(value: usize) -> Expr {
    literal(Value::Number(value.to_string(), false))
}

pub(super) fn null() -> Expr {
    literal(Value::Null)
}

/// `CASE WHEN condition THEN result ... END`; NULL without any branch.
pub(super) fn case(branches: Vec<(Expr, Expr)>) -> Expr {
    if branches.is_empty() {
        return null();
    }
    let when = |(condition, result)| CaseWhen { condition, result };
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: branches.into_iter().map(when).collect(),
        else_result: None,
    }
}
