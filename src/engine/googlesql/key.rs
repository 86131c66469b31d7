//! What can be said of a query that is BigQuery's alone to understand, such as `promote.sql`.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, SelectItem, SetExpr, Value, WindowType,
};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserOptions};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::{Text, lower};
use crate::error::{Error, Result};

/// Refuses what is no single SELECT, and parameters that nobody gives.
///
/// The parser is not asked: BigQuery knows more than it does, and has the last word on the rest.
pub fn check_query(file: &'static str, sql: &str, parameters: &[&str]) -> Result<()> {
    let text = Text { file, sql };
    let tokens = Tokenizer::new(&BigQueryDialect {}, sql).with_unescape(false).tokenize_with_location();
    let tokens = tokens.map_err(|e| Error::usage(format!("`{file}` is wrong: {e}")))?;
    let mut words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let first = words.clone().find(|token| token.token != Token::LParen);
    let is_query = first.is_some_and(|first| {
        matches!(&first.token, Token::Word(word) if ["SELECT", "WITH", "FROM"].contains(&word.value.to_uppercase().as_str()))
    });
    let hint = "one SELECT; where its rows go is set by `warehouse.table`";
    if !is_query {
        return Err(Error::usage(format!("`{file}` is wrong, it is no SELECT")).hint(hint));
    }
    words.by_ref().find(|token| token.token == Token::SemiColon);
    if let Some(next) = words.find(|token| token.token != Token::SemiColon && token.token != Token::EOF) {
        return Err(text.refused(next.span, "there is a second statement", Some(hint)));
    }
    for token in &tokens {
        let name = match &token.token {
            Token::Placeholder(name) => name.as_str(),
            Token::Word(word) if word.quote_style.is_none() && word.value.starts_with('@') => &word.value,
            Token::LBrace => {
                return Err(text.refused(
                    token.span,
                    "`{` stands for nothing",
                    Some("what is filled in is {staging_table}"),
                ));
            }
            _ => continue,
        };
        if name.starts_with("@@") || parameters.iter().any(|known| name[1..].eq_ignore_ascii_case(known)) {
            continue;
        }
        let known: Vec<String> = parameters.iter().map(|known| format!("`@{known}`")).collect();
        let hint = format!("the parameters are {}", known.join(" and "));
        return Err(text.refused(token.span, &format!("there is no parameter `{name}`"), Some(&hint)));
    }
    Ok(())
}

/// The columns of the result that are different in each of its rows: those by which `ROW_NUMBER() = 1` keeps
/// one row. `None` where that is not to be seen.
pub fn key_of(sql: &str) -> Option<Vec<String>> {
    let options = ParserOptions::new().with_trailing_commas(true).with_unescape(false);
    let mut parser = Parser::new(&BigQueryDialect {}).with_options(options).try_with_sql(sql).ok()?;
    let query = parser.parse_query().ok()?;
    let SetExpr::Select(select) = *query.body else { return None };
    let key = partition_by(select.qualify.as_ref()?)?;
    let name = |expr: &Expr| match expr {
        Expr::Identifier(ident) => Some(lower(ident)),
        _ => None,
    };
    let key: Option<Vec<String>> = key.iter().map(name).collect();
    let key = key.filter(|key| !key.is_empty())?;
    // Each under its own name in the result.
    let is_selected = |column: &String| {
        select.projection.iter().any(|item| match item {
            SelectItem::UnnamedExpr(expr) => name(expr).as_ref() == Some(column),
            SelectItem::ExprWithAlias { expr, alias } => {
                name(expr).as_ref() == Some(column) && lower(alias) == *column
            }
            SelectItem::Wildcard(options) => options.opt_except.is_none() && options.opt_replace.is_none(),
            _ => false,
        })
    };
    key.iter().all(is_selected).then_some(key)
}

/// Of `ROW_NUMBER() OVER (PARTITION BY …) = 1`, alone or one of several conditions.
fn partition_by(condition: &Expr) -> Option<&[Expr]> {
    match condition {
        Expr::Nested(inner) => partition_by(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            partition_by(left).or_else(|| partition_by(right))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
            let (Expr::Function(function), Expr::Value(one)) = (left.as_ref(), right.as_ref()) else {
                return None;
            };
            let Function { name, over: Some(WindowType::WindowSpec(window)), .. } = function else {
                return None;
            };
            let is_first = matches!(&one.value, Value::Number(digits, _) if digits == "1");
            let numbers = name.to_string().eq_ignore_ascii_case("ROW_NUMBER");
            (is_first && numbers).then_some(window.partition_by.as_slice())
        }
        _ => None,
    }
}
