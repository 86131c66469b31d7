//! What a text of GoogleSQL asks for: its statements, one by one.
//!
//! Queries, DML and functions are parsed by sqlparser. The definition statements are parsed here with its
//! tokens: only what this server does has a place in these structs, so nothing can be taken in and ignored.

mod alter;
mod columns;
mod create;
mod depth;
mod drop;
pub(super) mod options;
mod partition_by;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, ObjectName, Query, visit_expressions, visit_relations};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError, ParserOptions};
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

pub(super) use self::alter::{Alter, AlterColumn, Change};
pub(super) use self::create::{CreateSchema, CreateTable, CreateView, OriginKind};
pub(super) use self::drop::{Drop, DropKind};
pub(super) use self::partition_by::partitioning;
use super::syntax;
use crate::emulator::wire::{Failure, Outcome};

/// As many as BigQuery allows the text of one query to be long, in characters.
const TEXT_CHARACTERS_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone)]
pub(super) enum Statement {
    Select(Box<Query>),
    Insert(Box<ast::Insert>),
    Update(Box<ast::Update>),
    Delete(Box<ast::Delete>),
    Merge(Box<ast::Merge>),
    Truncate(ObjectName),
    CreateTable(Box<CreateTable>),
    CreateView(Box<CreateView>),
    CreateSchema(CreateSchema),
    /// Of a name that lives as long as the text that defines it.
    CreateFunction(Box<ast::CreateFunction>),
    Drop(Drop),
    Alter(Alter),
}

impl Statement {
    /// `statistics.query.statementType`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Statement::Select(_) => "SELECT",
            Statement::Insert(_) => "INSERT",
            Statement::Update(_) => "UPDATE",
            Statement::Delete(_) => "DELETE",
            Statement::Merge(_) => "MERGE",
            Statement::Truncate(_) => "TRUNCATE_TABLE",
            Statement::CreateTable(create) => create.kind(),
            Statement::CreateView(_) => "CREATE_VIEW",
            Statement::CreateSchema(_) => "CREATE_SCHEMA",
            Statement::CreateFunction(_) => "CREATE_FUNCTION",
            Statement::Drop(drop) => drop.kind.statement_type(),
            Statement::Alter(alter) => alter.statement_type(),
        }
    }

    /// The dataset that it makes, changes or drops, as it was written.
    pub(super) fn schema(&self) -> Option<&ObjectName> {
        match self {
            Statement::CreateSchema(create) => Some(&create.name),
            Statement::Drop(drop) if drop.kind == DropKind::Schema => Some(&drop.name),
            Statement::Alter(alter) if alter.is_schema() => Some(&alter.name),
            _ => None,
        }
    }

    /// The table or view that it defines or changes, as it was written.
    pub(super) fn target(&self) -> Option<&ObjectName> {
        match self {
            Statement::Insert(insert) => match &insert.table {
                ast::TableObject::TableName(name) => Some(name),
                _ => None,
            },
            Statement::Update(update) => table_name(&update.table.relation),
            Statement::Delete(delete) => match &delete.from {
                ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from) => {
                    from.first().and_then(|from| table_name(&from.relation))
                }
            },
            Statement::Merge(merge) => table_name(&merge.table),
            Statement::Truncate(name) => Some(name),
            Statement::CreateTable(create) => Some(&create.name),
            Statement::CreateView(create) => Some(&create.name),
            Statement::Drop(drop) if drop.kind != DropKind::Schema => Some(&drop.name),
            Statement::Alter(alter) if !alter.is_schema() => Some(&alter.name),
            _ => None,
        }
    }
}

fn table_name(factor: &ast::TableFactor) -> Option<&ObjectName> {
    match factor {
        ast::TableFactor::Table { name, .. } => Some(name),
        _ => None,
    }
}

impl Statement {
    /// Calls `take` with every expression of a query or of DML.
    pub(super) fn visit_expressions(&self, take: &mut impl FnMut(&Expr) -> ControlFlow<()>) {
        let _ = match self {
            Statement::Select(query) => visit_expressions(query.as_ref(), take),
            Statement::Insert(insert) => visit_expressions(insert.as_ref(), take),
            Statement::Update(update) => visit_expressions(update.as_ref(), take),
            Statement::Delete(delete) => visit_expressions(delete.as_ref(), take),
            Statement::Merge(merge) => visit_expressions(merge.as_ref(), take),
            _ => ControlFlow::Continue(()),
        };
    }

    /// Calls `take` with every name that stands for a table, in their order.
    pub(super) fn visit_tables(&self, take: &mut impl FnMut(&ObjectName)) {
        let mut each = |name: &ObjectName| {
            take(name);
            ControlFlow::<()>::Continue(())
        };
        let _ = match self {
            Statement::Select(query) => visit_relations(query.as_ref(), &mut each),
            Statement::Insert(insert) => visit_relations(insert.as_ref(), &mut each),
            Statement::Update(update) => visit_relations(update.as_ref(), &mut each),
            Statement::Delete(delete) => visit_relations(delete.as_ref(), &mut each),
            Statement::Merge(merge) => visit_relations(merge.as_ref(), &mut each),
            Statement::CreateTable(create) => {
                let _ = each(&create.name);
                create
                    .query
                    .as_ref()
                    .map_or(ControlFlow::Continue(()), |q| visit_relations(q.as_ref(), &mut each))
            }
            other => other.target().map_or(ControlFlow::Continue(()), each),
        };
    }
}

/// A statement and the text that it was read from.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub statement: Statement,
    pub text: String,
}

/// Positional parameters come back numbered (`?1`, `?2`), because statements are taken apart and put together
/// in another order.
pub(super) fn parse(sql: &str) -> Outcome<Vec<Parsed>> {
    if sql.chars().count() > TEXT_CHARACTERS_MAX {
        return Err(Failure::invalid_query(format!(
            "The query is too large. The maximum standard SQL query length is {TEXT_CHARACTERS_MAX} characters"
        )));
    }
    let (mut tokens, mut positional) = (syntax::tokens(sql)?, 0);
    for token in &mut tokens {
        if matches!(&token.token, Token::Placeholder(name) if name == "?") {
            positional += 1;
            token.token = Token::Placeholder(format!("?{positional}"));
        }
    }
    depth::check(&tokens)?;
    let options = ParserOptions::new().with_trailing_commas(true).with_unescape(false);
    let mut parser =
        Parser::new(&BigQueryDialect {}).with_options(options).with_tokens_with_locations(tokens);
    let mut found = Vec::new();
    block(&mut parser, sql, &mut found)?;
    if parser.peek_token().token != Token::EOF {
        let unexpected = parser.peek_token();
        return Err(Failure::invalid_query(format!("Syntax error: Unexpected {unexpected}")));
    }
    if found.is_empty() {
        return Err(Failure::invalid_query("Syntax error: Unexpected end of statement"));
    }
    Ok(found)
}

fn syntax(error: &ParserError) -> Failure {
    syntax::failure(&error.to_string())
}

/// Statements until the text or a block ends.
fn block(parser: &mut Parser, sql: &str, found: &mut Vec<Parsed>) -> Outcome<()> {
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        match parser.peek_token().token {
            Token::EOF => return Ok(()),
            Token::Word(word) if word.keyword == Keyword::END => return Ok(()),
            Token::Word(word) if word.keyword == Keyword::BEGIN => {
                parser.advance_token();
                begin(parser, sql, found)?;
            }
            _ => {
                let start = parser.peek_token().span.start;
                let statement = one(parser, sql)?;
                let end = parser.get_current_token().span.end;
                let text = text_between(sql, start, end).to_owned();
                found.push(Parsed { statement, text });
            }
        }
        match parser.peek_token().token {
            Token::SemiColon | Token::EOF => {}
            _ => {
                let unexpected = parser.peek_token();
                return Err(Failure::invalid_query(format!(
                    "Syntax error: Expected end of input but got {unexpected}{}",
                    unexpected.span.start
                )));
            }
        }
    }
}

/// `BEGIN ... END`, whose statements simply follow one another; transactions are something else.
fn begin(parser: &mut Parser, sql: &str, found: &mut Vec<Parsed>) -> Outcome<()> {
    let transaction = parser.parse_keyword(Keyword::TRANSACTION);
    if transaction || matches!(parser.peek_token().token, Token::SemiColon | Token::EOF) {
        return Err(Failure::unsupported_sql("transactions (BEGIN TRANSACTION)"));
    }
    block(parser, sql, found)?;
    parser.expect_keyword(Keyword::END).map(drop).map_err(|e| syntax(&e))
}

fn one(parser: &mut Parser, sql: &str) -> Outcome<Statement> {
    let Token::Word(word) = parser.peek_token().token else { return other(parser) };
    match word.keyword {
        Keyword::CREATE => create::parse(parser, sql),
        Keyword::ALTER => alter::parse(parser),
        Keyword::DROP => drop::parse(parser),
        _ => match word.value.to_ascii_uppercase().as_str() {
            keyword @ ("DECLARE" | "SET" | "IF" | "LOOP" | "WHILE" | "REPEAT" | "FOR" | "CASE" | "BREAK"
            | "LEAVE" | "CONTINUE" | "ITERATE" | "RETURN" | "RAISE" | "CALL" | "EXECUTE"
            | "COMMIT" | "ROLLBACK" | "ASSERT" | "EXPORT" | "LOAD" | "GRANT" | "REVOKE"
            | "UNDROP" | "EXPLAIN" | "DESCRIBE" | "SHOW" | "GRAPH") => {
                Err(Failure::unsupported_sql(format!("{keyword} statements")))
            }
            _ => other(parser),
        },
    }
}

fn other(parser: &mut Parser) -> Outcome<Statement> {
    let statement = parser.parse_statement().map_err(|e| syntax(&e))?;
    Ok(match statement {
        ast::Statement::Query(query) => Statement::Select(query),
        ast::Statement::Insert(insert) => Statement::Insert(Box::new(insert)),
        ast::Statement::Update(update) => Statement::Update(Box::new(update)),
        ast::Statement::Delete(delete) => Statement::Delete(Box::new(delete)),
        ast::Statement::Merge(merge) => Statement::Merge(Box::new(merge)),
        ast::Statement::Truncate(truncate) => truncated(&truncate)?,
        other => {
            let text = other.to_string();
            let verb = text.split_whitespace().next().unwrap_or_default().to_uppercase();
            return Err(Failure::unsupported_sql(format!("{verb} statements")));
        }
    })
}

fn truncated(truncate: &ast::Truncate) -> Outcome<Statement> {
    let extras = truncate.partitions.is_some()
        || truncate.identity.is_some()
        || truncate.cascade.is_some()
        || truncate.on_cluster.is_some()
        || truncate.if_exists;
    match truncate.table_names.as_slice() {
        [table] if !extras && truncate.table => Ok(Statement::Truncate(table.name.clone())),
        _ => Err(Failure::invalid_query(format!("Syntax error: Unexpected options in {truncate}"))),
    }
}

/// `name = value` pairs of OPTIONS, in their order.
type Options = Vec<(String, Expr)>;

/// `OPTIONS (name = value, ...)`, if it is there.
fn parse_options(parser: &mut Parser) -> Outcome<Options> {
    let options = parser.maybe_parse_options(Keyword::OPTIONS).map_err(|e| syntax(&e))?;
    options
        .unwrap_or_default()
        .into_iter()
        .map(|option| match option {
            ast::SqlOption::KeyValue { key, value } => Ok((key.value.to_lowercase(), value)),
            other => Err(Failure::invalid_query(format!("Syntax error: Unexpected option {other}"))),
        })
        .collect()
}

fn parse_if_exists(parser: &mut Parser) -> bool {
    parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS])
}

fn parse_if_not_exists(parser: &mut Parser) -> bool {
    parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS])
}

fn parse_name(parser: &mut Parser) -> Outcome<ObjectName> {
    parser.parse_object_name(true).map_err(|e| syntax(&e))
}

/// The text from one place to before another; lines and columns count characters from 1.
fn text_between(sql: &str, start: Location, end: Location) -> &str {
    let offset = |place: Location| {
        let (mut line, mut column) = (1, 1);
        for (at, c) in sql.char_indices() {
            if (line, column) >= (place.line, place.column) {
                return at;
            }
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        sql.len()
    };
    sql.get(offset(start)..offset(end)).unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(sql: &str) -> Vec<&'static str> {
        parse(sql).unwrap().iter().map(|p| p.statement.kind()).collect()
    }

    #[test]
    fn a_text_is_split_into_statements_with_their_own_text() {
        let found =
            parse("SELECT 1;\n-- é\nINSERT d.t VALUES (';');;BEGIN TRUNCATE TABLE d.t; SELECT 'é', 2; END;")
                .unwrap();
        let texts: Vec<&str> = found.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(texts, ["SELECT 1", "INSERT d.t VALUES (';')", "TRUNCATE TABLE d.t", "SELECT 'é', 2"]);
        assert_eq!(kinds("MERGE d.t USING d.u ON FALSE WHEN NOT MATCHED THEN INSERT ROW"), ["MERGE"]);
    }

    #[test]
    fn positional_parameters_are_numbered_in_the_order_of_the_text() {
        let found = parse("UPDATE d.t SET a = ? WHERE b = ?; SELECT ?").unwrap();
        let Statement::Update(update) = &found[0].statement else { panic!("{found:?}") };
        assert_eq!(update.to_string(), "UPDATE d.t SET a = ?1 WHERE b = ?2");
        let Statement::Select(query) = &found[1].statement else { panic!("{found:?}") };
        assert_eq!(query.to_string(), "SELECT ?3");
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (sql, word) in [
            ("BEGIN TRANSACTION; SELECT 1; COMMIT TRANSACTION", "transactions"),
            ("DECLARE x INT64; SELECT x", "DECLARE statements"),
            ("IF TRUE THEN SELECT 1; END IF", "IF statements"),
            ("EXECUTE IMMEDIATE 'SELECT 1'", "EXECUTE statements"),
            ("CALL d.p()", "CALL statements"),
            ("CREATE PROCEDURE d.p() BEGIN SELECT 1; END", "CREATE PROCEDURE"),
            ("CREATE MATERIALIZED VIEW d.v AS SELECT 1", "CREATE MATERIALIZED VIEW"),
            ("LOOP SELECT 1; END LOOP", "LOOP statements"),
        ] {
            let failure = parse(sql).unwrap_err();
            assert!(failure.message.contains(word), "{sql}: {}", failure.message);
            assert_eq!(failure.reason, "invalidQuery");
        }
        for sql in ["", ";", "SELECT 1 SELECT 2", "BEGIN SELECT 1", "END", "SELECT", "DROP TABLE"] {
            assert!(parse(sql).unwrap_err().message.contains("Syntax error"), "{sql}");
        }
    }
}
