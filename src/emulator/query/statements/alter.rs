//! ALTER TABLE, ALTER VIEW, ALTER SCHEMA.

use datafusion::sql::sqlparser::ast::{Expr, ObjectName};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use serde_json::Value;

use super::{
    Options, Statement, columns, parse_if_exists, parse_if_not_exists, parse_name, parse_options, syntax,
};
use crate::emulator::wire::{Failure, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    View,
    Schema,
}

#[derive(Debug, Clone)]
pub(in crate::emulator::query) struct Alter {
    kind: Kind,
    pub if_exists: bool,
    pub name: ObjectName,
    pub changes: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(in crate::emulator::query) enum Change {
    SetOptions(Options),
    AddColumn { if_not_exists: bool, column: Value },
    DropColumn { if_exists: bool, name: String },
    RenameColumn { if_exists: bool, from: String, to: String },
    RenameTo(String),
    AlterColumn { if_exists: bool, name: String, change: Box<AlterColumn> },
}

#[derive(Debug, Clone)]
pub(in crate::emulator::query) enum AlterColumn {
    SetOptions(Options),
    DropNotNull,
    /// A field document without a name.
    SetDataType(Value),
    SetDefault(Box<Expr>),
    DropDefault,
}

impl Alter {
    pub(super) fn statement_type(&self) -> &'static str {
        match self.kind {
            Kind::Table => "ALTER_TABLE",
            Kind::View => "ALTER_VIEW",
            Kind::Schema => "ALTER_SCHEMA",
        }
    }

    pub(in crate::emulator::query) fn is_schema(&self) -> bool {
        self.kind == Kind::Schema
    }

    pub(in crate::emulator::query) fn is_view(&self) -> bool {
        self.kind == Kind::View
    }
}

pub(super) fn parse(parser: &mut Parser) -> Outcome<Statement> {
    keyword(parser, Keyword::ALTER)?;
    let unexpected = || Failure::invalid_query("Syntax error: Unexpected ALTER");
    let Token::Word(word) = parser.next_token().token else { return Err(unexpected()) };
    let kind = match word.value.to_ascii_uppercase().as_str() {
        "TABLE" => Kind::Table,
        "VIEW" => Kind::View,
        "SCHEMA" => Kind::Schema,
        other => return Err(Failure::unsupported_sql(format!("ALTER {other}"))),
    };
    let if_exists = parse_if_exists(parser);
    let name = parse_name(parser)?;
    let mut changes = vec![change(parser, kind)?];
    while parser.consume_token(&Token::Comma) {
        changes.push(change(parser, kind)?);
    }
    let alone = |c: &Change| matches!(c, Change::RenameTo(_) | Change::SetOptions(_));
    if changes.len() > 1 && changes.iter().any(alone) {
        return Err(Failure::invalid_query("ALTER with SET OPTIONS or RENAME TO cannot have other actions"));
    }
    Ok(Statement::Alter(Alter { kind, if_exists, name, changes }))
}

fn change(parser: &mut Parser, kind: Kind) -> Outcome<Change> {
    if parser.parse_keyword(Keyword::SET) {
        return set_options(parser).map(Change::SetOptions);
    }
    if kind != Kind::Table {
        let found = parser.next_token();
        return Err(Failure::unsupported_sql(format!("ALTER VIEW or SCHEMA with {found}")));
    }
    if parser.parse_keyword(Keyword::ADD) {
        if !parser.parse_keyword(Keyword::COLUMN) {
            return Err(Failure::unsupported_sql("ALTER TABLE ADD of anything but columns"));
        }
        let if_not_exists = parse_if_not_exists(parser);
        return Ok(Change::AddColumn { if_not_exists, column: columns::column(parser)? });
    }
    if parser.parse_keyword(Keyword::DROP) {
        if !parser.parse_keyword(Keyword::COLUMN) {
            return Err(Failure::unsupported_sql("ALTER TABLE DROP of anything but columns"));
        }
        let if_exists = parse_if_exists(parser);
        return Ok(Change::DropColumn { if_exists, name: identifier(parser)? });
    }
    if parser.parse_keyword(Keyword::RENAME) {
        if parser.parse_keyword(Keyword::TO) {
            return identifier(parser).map(Change::RenameTo);
        }
        keyword(parser, Keyword::COLUMN)?;
        let if_exists = parse_if_exists(parser);
        let from = identifier(parser)?;
        keyword(parser, Keyword::TO)?;
        return Ok(Change::RenameColumn { if_exists, from, to: identifier(parser)? });
    }
    keyword(parser, Keyword::ALTER)?;
    keyword(parser, Keyword::COLUMN)?;
    let if_exists = parse_if_exists(parser);
    let name = identifier(parser)?;
    let change = if parser.parse_keywords(&[Keyword::DROP, Keyword::NOT, Keyword::NULL]) {
        AlterColumn::DropNotNull
    } else if parser.parse_keywords(&[Keyword::DROP, Keyword::DEFAULT]) {
        AlterColumn::DropDefault
    } else if parser.parse_keywords(&[Keyword::SET, Keyword::DATA, Keyword::TYPE]) {
        AlterColumn::SetDataType(columns::data_type(parser)?)
    } else if parser.parse_keywords(&[Keyword::SET, Keyword::DEFAULT]) {
        AlterColumn::SetDefault(Box::new(parser.parse_expr().map_err(|e| syntax(&e))?))
    } else {
        keyword(parser, Keyword::SET)?;
        AlterColumn::SetOptions(set_options(parser)?)
    };
    Ok(Change::AlterColumn { if_exists, name, change: Box::new(change) })
}

fn set_options(parser: &mut Parser) -> Outcome<Options> {
    match parser.peek_token().token {
        Token::Word(word) if word.keyword == Keyword::OPTIONS => parse_options(parser),
        Token::Word(word) if word.keyword == Keyword::DEFAULT => {
            Err(Failure::unsupported_sql("SET DEFAULT COLLATE"))
        }
        _ => Err(Failure::invalid_query("Syntax error: Expected OPTIONS after SET")),
    }
}

fn keyword(parser: &mut Parser, keyword: Keyword) -> Outcome<()> {
    parser.expect_keyword(keyword).map(drop).map_err(|e| syntax(&e))
}

fn identifier(parser: &mut Parser) -> Outcome<String> {
    parser.parse_identifier().map(|ident| ident.value).map_err(|e| syntax(&e))
}
