//! DROP TABLE, DROP SNAPSHOT TABLE, DROP VIEW, DROP SCHEMA.

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::{Statement, parse_if_exists, parse_name, syntax};
use crate::emulator::wire::{Failure, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::emulator::query) enum DropKind {
    Table,
    Snapshot,
    View,
    Schema,
}

impl DropKind {
    pub(in crate::emulator::query) fn statement_type(self) -> &'static str {
        match self {
            DropKind::Table => "DROP_TABLE",
            DropKind::Snapshot => "DROP_SNAPSHOT_TABLE",
            DropKind::View => "DROP_VIEW",
            DropKind::Schema => "DROP_SCHEMA",
        }
    }
}

#[derive(Debug, Clone)]
pub(in crate::emulator::query) struct Drop {
    pub kind: DropKind,
    pub if_exists: bool,
    pub name: ObjectName,
    /// With all that is in it.
    pub cascade: bool,
}

pub(super) fn parse(parser: &mut Parser) -> Outcome<Statement> {
    parser.expect_keyword(Keyword::DROP).map_err(|e| syntax(&e))?;
    let unexpected = || Failure::invalid_query("Syntax error: Unexpected DROP");
    let Token::Word(word) = parser.next_token().token else { return Err(unexpected()) };
    let kind = match word.value.to_ascii_uppercase().as_str() {
        "TABLE" => DropKind::Table,
        "SNAPSHOT" => {
            parser.expect_keyword(Keyword::TABLE).map_err(|e| syntax(&e))?;
            DropKind::Snapshot
        }
        "VIEW" => DropKind::View,
        "SCHEMA" => DropKind::Schema,
        other => return Err(Failure::unsupported_sql(format!("DROP {other}"))),
    };
    let if_exists = parse_if_exists(parser);
    let name = parse_name(parser)?;
    let cascade = kind == DropKind::Schema
        && parser.parse_one_of_keywords(&[Keyword::CASCADE, Keyword::RESTRICT]) == Some(Keyword::CASCADE);
    Ok(Statement::Drop(Drop { kind, if_exists, name, cascade }))
}
