//! The part of GoogleSQL that means here what it means in BigQuery, as DataFusion's SQL.
//!
//! DataFusion takes more than this, and some of it with another meaning: `/` between integers, `||` beside
//! concat() that skips NULL, NULLs last, integers that wrap around, FLOAT64 compared with its NaN. So there
//! is a list of what is known to be the same, and all else is refused by its name, with the nearest thing to
//! write. What is on the list is spelled out for DataFusion: types, the order of NULLs, tables of columns.
//!
//! # Why not the translation of the embedded server?
//! It is a stand-in, there to be held against this one: two readings of one text can differ in a test.
//! It covers far more than records need, too, and is not made for their speed.

mod arithmetic;
mod build;
mod expressions;
mod functions;
mod key;
mod list;
mod query;
mod values;
mod windows;

use datafusion::sql::parser::Statement as Planned;
use datafusion::sql::sqlparser::ast::{Expr, Ident, Spanned, Statement};
use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError, ParserOptions};
use datafusion::sql::sqlparser::tokenizer::{Span, Token};

use super::words;
use crate::error::{Error, Result};
use crate::schema::ColumnType;

pub(crate) use arithmetic::install;
pub use key::{check_query, key_of};

/// The table that a text is about. It can be read once.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What messages call the text.
    pub file: &'static str,
    pub table: &'static str,
    /// Their names are looked up in lower case, and have to be so in the session too.
    pub columns: Vec<(String, ColumnType)>,
    /// The column that is different in each row: an order that decides between rows has to end with it.
    pub unique: &'static str,
}

impl Subject {
    /// The text as a statement that means the same in a session with [`install`]ed functions. Its columns
    /// are called in lower case.
    pub fn translate(&self, sql: &str) -> Result<Planned> {
        let text = Text { file: self.file, sql };
        let query = text.query(&format!("only one SELECT over `{}` is run", self.table))?;
        let mut translator = query::Translator::new(self, text);
        let translated = translator.result(query)?;
        Ok(Planned::Statement(Box::new(Statement::Query(Box::new(translated)))))
    }
}

/// A text, and how what is wrong with it is told.
#[derive(Debug, Clone, Copy)]
struct Text<'t> {
    file: &'static str,
    sql: &'t str,
}

impl Text<'_> {
    /// The only query of the text; `else_wrong` says what is wrong when it is anything else.
    fn query(&self, else_wrong: &str) -> Result<datafusion::sql::sqlparser::ast::Query> {
        let options = ParserOptions::new().with_trailing_commas(true).with_unescape(false);
        let parser = Parser::new(&BigQueryDialect {}).with_options(options).try_with_sql(self.sql);
        let mut parser = parser.map_err(|e| self.syntax(&e))?;
        let no_query = || Error::usage(format!("`{}` is wrong, {else_wrong}", self.file));
        let first = match &parser.peek_token_ref().token {
            Token::Word(word) => word.value.to_uppercase(),
            Token::LParen => "SELECT".to_owned(),
            _ => String::new(),
        };
        if !["SELECT", "WITH", "FROM"].contains(&first.as_str()) {
            return Err(no_query());
        }
        let query = parser.parse_query().map_err(|e| self.syntax(&e))?;
        while parser.consume_token(&Token::SemiColon) {}
        let next = parser.peek_token();
        match next.token {
            Token::EOF => Ok(*query),
            Token::Word(_) if self.sql.contains(';') => Err(no_query()),
            other => Err(self.refused(next.span, &format!("`{other}` is not expected"), None)),
        }
    }

    fn syntax(&self, error: &ParserError) -> Error {
        Error::usage(format!("`{}` is wrong: {}", self.file, words::syntax_error(error, self.sql)))
    }

    /// `what` is the construct with what is wrong about it, `instead` the nearest thing to write.
    fn refused(&self, at: Span, what: &str, instead: Option<&str>) -> Error {
        let place = (at.start.line > 0).then_some((at.start.line, at.start.column));
        let error =
            Error::usage(format!("`{}` is refused: {}", self.file, words::placed(self.sql, what, place)));
        match instead {
            Some(instead) => error.hint(instead),
            None => error.hint("what may be used is listed in the README, under `Your own source`"),
        }
    }

    /// What is not on the list.
    fn unlisted(&self, at: Span, construct: &str) -> Error {
        self.refused(at, &format!("{construct} is not known to mean the same here as in BigQuery"), None)
    }
}

/// An expression of DataFusion, and its type in GoogleSQL; `None` of a NULL.
#[derive(Debug, Clone)]
struct Typed {
    expr: Expr,
    kind: Option<ColumnType>,
}

impl Typed {
    fn new(expr: Expr, kind: ColumnType) -> Self {
        Typed { expr, kind: Some(kind) }
    }

    fn is(&self, kind: ColumnType) -> bool {
        self.kind.is_none_or(|own| own == kind)
    }

    fn type_name(&self) -> &'static str {
        self.kind.map_or("NULL", ColumnType::name)
    }
}

/// Where an expression begins, as far as the parser says.
fn place_of(expr: &Expr) -> Span {
    expr.span()
}

fn lower(ident: &Ident) -> String {
    ident.value.to_lowercase()
}
