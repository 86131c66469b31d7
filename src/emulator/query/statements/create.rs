//! CREATE TABLE, CREATE SNAPSHOT TABLE, CREATE VIEW, CREATE SCHEMA.

use datafusion::sql::sqlparser::ast::{self, Expr, ObjectName, Query};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use serde_json::Value;

use super::{
    Options, Statement, columns, parse_if_not_exists, parse_name, parse_options, syntax, text_between,
};
use crate::emulator::wire::{Failure, Outcome};

#[derive(Debug, Clone)]
pub(in crate::emulator::query) struct CreateTable {
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub temporary: bool,
    pub snapshot: bool,
    pub name: ObjectName,
    /// Field documents; `None` without a column list.
    pub columns: Option<Vec<Value>>,
    pub origin: Option<Origin>,
    pub partition_by: Option<Expr>,
    pub cluster_by: Vec<String>,
    pub options: Options,
    pub query: Option<Box<Query>>,
}

impl CreateTable {
    pub(super) fn kind(&self) -> &'static str {
        match (self.snapshot, &self.query) {
            (true, _) => "CREATE_SNAPSHOT_TABLE",
            (false, Some(_)) => "CREATE_TABLE_AS_SELECT",
            (false, None) => "CREATE_TABLE",
        }
    }
}

/// The table that a new one is made from.
#[derive(Debug, Clone)]
pub(in crate::emulator::query) struct Origin {
    pub kind: OriginKind,
    pub name: ObjectName,
    /// FOR SYSTEM_TIME AS OF.
    pub at: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::emulator::query) enum OriginKind {
    Like,
    Copy,
    Clone,
}

#[derive(Debug, Clone)]
pub(in crate::emulator::query) struct CreateView {
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub name: ObjectName,
    /// Names, and documents with what else is said about the columns.
    pub columns: Vec<(String, Value)>,
    pub options: Options,
    pub query: Box<Query>,
    /// As it was written.
    pub text: String,
}

#[derive(Debug, Clone)]
pub(in crate::emulator::query) struct CreateSchema {
    pub if_not_exists: bool,
    pub name: ObjectName,
    pub options: Options,
}

pub(super) fn parse(parser: &mut Parser, sql: &str) -> Outcome<Statement> {
    if is_temporary_function(parser) {
        return function(parser);
    }
    let expect =
        |parser: &mut Parser, keyword| parser.expect_keyword(keyword).map(drop).map_err(|e| syntax(&e));
    expect(parser, Keyword::CREATE)?;
    let or_replace = parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
    let temporary = parser.parse_one_of_keywords(&[Keyword::TEMP, Keyword::TEMPORARY]).is_some();
    let Token::Word(word) = parser.next_token().token else {
        return Err(Failure::invalid_query("Syntax error: Unexpected CREATE"));
    };
    match (word.value.to_ascii_uppercase().as_str(), temporary) {
        ("TABLE", _) => table(parser, or_replace, temporary, false),
        ("SNAPSHOT", false) => {
            expect(parser, Keyword::TABLE)?;
            table(parser, or_replace, false, true)
        }
        ("VIEW", false) => view(parser, sql, or_replace),
        ("SCHEMA", false) if !or_replace => schema(parser),
        (what, _) => Err(Failure::unsupported_sql(format!(
            "CREATE {}{what}{}",
            if temporary { "TEMP " } else { "" },
            if what == "MATERIALIZED" { " VIEW" } else { "" }
        ))),
    }
}

/// `CREATE [OR REPLACE] TEMP FUNCTION`, which sqlparser reads.
fn is_temporary_function(parser: &Parser) -> bool {
    let mut words = (1..5).map_while(|n| match parser.peek_nth_token(n).token {
        Token::Word(word) => Some(word.keyword),
        _ => None,
    });
    let temporary = words.find(|word| !matches!(word, Keyword::OR | Keyword::REPLACE));
    matches!(temporary, Some(Keyword::TEMP | Keyword::TEMPORARY)) && words.next() == Some(Keyword::FUNCTION)
}

fn table(parser: &mut Parser, or_replace: bool, temporary: bool, snapshot: bool) -> Outcome<Statement> {
    let if_not_exists = parse_if_not_exists(parser);
    if or_replace && if_not_exists {
        return Err(Failure::invalid_query("CREATE TABLE cannot have both OR REPLACE and IF NOT EXISTS"));
    }
    let name = parse_name(parser)?;
    let columns = column_list(parser)?;
    let origin = origin(parser)?;
    if parser.parse_keywords(&[Keyword::DEFAULT, Keyword::COLLATE]) {
        return Err(Failure::unsupported_sql("DEFAULT COLLATE"));
    }
    let partition_by = match parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        true => Some(parser.parse_expr().map_err(|e| syntax(&e))?),
        false => None,
    };
    let cluster_by = match parser.parse_keywords(&[Keyword::CLUSTER, Keyword::BY]) {
        true => {
            let names = parser.parse_comma_separated(Parser::parse_identifier).map_err(|e| syntax(&e))?;
            names.into_iter().map(|n| n.value).collect()
        }
        false => Vec::new(),
    };
    let options = parse_options(parser)?;
    let query = match parser.parse_keyword(Keyword::AS) {
        true => Some(parser.parse_query().map_err(|e| syntax(&e))?),
        false => None,
    };
    if snapshot && origin.as_ref().is_none_or(|o| o.kind != OriginKind::Clone) {
        return Err(Failure::invalid_query("Syntax error: Expected keyword CLONE"));
    }
    let from_rows = origin.as_ref().is_some_and(|o| o.kind != OriginKind::Like);
    if from_rows && (columns.is_some() || query.is_some() || partition_by.is_some() || !cluster_by.is_empty())
    {
        return Err(Failure::invalid_query(
            "Syntax error: a table that is copied or cloned has the columns, rows and partitions of its source",
        ));
    }
    if columns.is_none() && origin.is_none() && query.is_none() {
        return Err(Failure::invalid_query(format!("No column definitions in CREATE TABLE {name}")));
    }
    Ok(Statement::CreateTable(Box::new(CreateTable {
        or_replace,
        if_not_exists,
        temporary,
        snapshot,
        name,
        columns,
        origin,
        partition_by,
        cluster_by,
        options,
        query,
    })))
}

fn column_list(parser: &mut Parser) -> Outcome<Option<Vec<Value>>> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(None);
    }
    let mut columns = Vec::new();
    loop {
        if let Token::Word(word) = parser.peek_token().token
            && word.quote_style.is_none()
            && matches!(word.keyword, Keyword::PRIMARY | Keyword::CONSTRAINT | Keyword::FOREIGN)
        {
            return Err(Failure::unsupported_sql("PRIMARY KEY and FOREIGN KEY"));
        }
        columns.push(columns::column(parser)?);
        let comma = parser.consume_token(&Token::Comma);
        // A comma may also stand after the last column.
        if parser.consume_token(&Token::RParen) {
            return Ok(Some(columns));
        }
        if !comma {
            parser.expect_token(&Token::RParen).map_err(|e| syntax(&e))?;
        }
    }
}

fn origin(parser: &mut Parser) -> Outcome<Option<Origin>> {
    let kind = match parser.parse_one_of_keywords(&[Keyword::LIKE, Keyword::COPY, Keyword::CLONE]) {
        Some(Keyword::LIKE) => OriginKind::Like,
        Some(Keyword::COPY) => OriginKind::Copy,
        Some(_) => OriginKind::Clone,
        None => return Ok(None),
    };
    let name = parse_name(parser)?;
    let at = match parser.parse_keyword(Keyword::FOR) {
        false => None,
        true => {
            let named = matches!(
                parser.next_token().token,
                Token::Word(word) if word.value.eq_ignore_ascii_case("SYSTEM_TIME")
            );
            if !named || !parser.parse_keywords(&[Keyword::AS, Keyword::OF]) || kind != OriginKind::Clone {
                return Err(Failure::invalid_query("Syntax error: Expected FOR SYSTEM_TIME AS OF"));
            }
            Some(parser.parse_expr().map_err(|e| syntax(&e))?)
        }
    };
    Ok(Some(Origin { kind, name, at }))
}

fn view(parser: &mut Parser, sql: &str, or_replace: bool) -> Outcome<Statement> {
    let if_not_exists = parse_if_not_exists(parser);
    if or_replace && if_not_exists {
        return Err(Failure::invalid_query("CREATE VIEW cannot have both OR REPLACE and IF NOT EXISTS"));
    }
    let name = parse_name(parser)?;
    let mut columns = Vec::new();
    if parser.consume_token(&Token::LParen) {
        loop {
            let column = parser.parse_identifier().map_err(|e| syntax(&e))?.value;
            let mut document = serde_json::Map::new();
            for (option, value) in parse_options(parser)? {
                super::options::apply_column(&mut document, &option, &value)?;
            }
            columns.push((column, Value::Object(document)));
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen).map_err(|e| syntax(&e))?;
    }
    let options = parse_options(parser)?;
    parser.expect_keyword(Keyword::AS).map_err(|e| syntax(&e))?;
    let start = parser.peek_token().span.start;
    let query = parser.parse_query().map_err(|e| syntax(&e))?;
    let text = text_between(sql, start, parser.get_current_token().span.end).to_owned();
    let view = CreateView { or_replace, if_not_exists, name, columns, options, query, text };
    Ok(Statement::CreateView(Box::new(view)))
}

fn schema(parser: &mut Parser) -> Outcome<Statement> {
    let if_not_exists = parse_if_not_exists(parser);
    let name = parse_name(parser)?;
    if parser.parse_keywords(&[Keyword::DEFAULT, Keyword::COLLATE]) {
        return Err(Failure::unsupported_sql("DEFAULT COLLATE"));
    }
    let options = parse_options(parser)?;
    Ok(Statement::CreateSchema(CreateSchema { if_not_exists, name, options }))
}

fn function(parser: &mut Parser) -> Outcome<Statement> {
    match parser.parse_statement().map_err(|e| syntax(&e))? {
        ast::Statement::CreateFunction(function) => Ok(Statement::CreateFunction(Box::new(function))),
        _ => Err(Failure::invalid_query("Syntax error: Unexpected CREATE")),
    }
}
