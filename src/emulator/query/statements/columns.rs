//! Columns and types as CREATE TABLE and ALTER TABLE write them, as BigQuery's field documents.

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use serde_json::{Map, Value, json};

use super::{options, parse_options, syntax};
use crate::emulator::fields::DEPTH_MAX;
use crate::emulator::wire::{Failure, Outcome};

type Document = Map<String, Value>;

/// `name TYPE [COLLATE ..] [DEFAULT ..] [NOT NULL] [OPTIONS(..)]`.
pub(super) fn column(parser: &mut Parser) -> Outcome<Value> {
    let name = parser.parse_identifier().map_err(|e| syntax(&e))?.value;
    Types { parser, open: 0 }.field(Some(name), 0).map(Value::Object)
}

/// A type alone.
pub(super) fn data_type(parser: &mut Parser) -> Outcome<Value> {
    Types { parser, open: 0 }.typed(0).map(Value::Object)
}

/// Reads types; `>>` closes two of them at once.
struct Types<'a, 'b> {
    parser: &'a mut Parser<'b>,
    /// Angles that the last token closed and nobody has taken yet.
    open: usize,
}

impl Types<'_, '_> {
    fn field(&mut self, name: Option<String>, depth: usize) -> Outcome<Document> {
        let mut document = Document::new();
        if let Some(name) = name {
            document.insert("name".into(), name.into());
        }
        document.extend(self.typed(depth)?);
        // After `>>` the constraints that follow are not this field's.
        while self.open == 0 {
            if self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
                if document.get("mode").is_some() {
                    return Err(Failure::invalid_query("NOT NULL constraint is not supported for arrays"));
                }
                document.insert("mode".into(), "REQUIRED".into());
            } else if self.parser.parse_keyword(Keyword::DEFAULT) {
                let default = self.parser.parse_expr().map_err(|e| syntax(&e))?;
                let default = match default {
                    // The parser takes the column's own NOT NULL for a part of the expression.
                    Expr::IsNotNull(value) if !self.ends_with_is_not_null() => {
                        document.insert("mode".into(), "REQUIRED".into());
                        *value
                    }
                    other => other,
                };
                document.insert("defaultValueExpression".into(), default.to_string().into());
            } else if self.parser.parse_keyword(Keyword::COLLATE) {
                let collation = self.parser.parse_literal_string().map_err(|e| syntax(&e))?;
                if !collation.is_empty() {
                    return Err(Failure::unsupported_sql(format!("COLLATE '{collation}'")));
                }
            } else if self.at(Keyword::OPTIONS) {
                for (name, value) in parse_options(self.parser)? {
                    options::apply_column(&mut document, &name, &value)?;
                }
            } else if self.at(Keyword::PRIMARY) || self.at(Keyword::REFERENCES) {
                return Err(Failure::unsupported_sql("PRIMARY KEY and FOREIGN KEY"));
            } else {
                break;
            }
        }
        Ok(document)
    }

    fn at(&self, keyword: Keyword) -> bool {
        matches!(self.parser.peek_token().token, Token::Word(word) if word.keyword == keyword)
    }

    fn ends_with_is_not_null(&self) -> bool {
        let read = (0..self.parser.index()).rev().map(|index| &self.parser.token_at(index).token);
        let third = read.filter(|token| !matches!(token, Token::Whitespace(_))).nth(2);
        matches!(third, Some(Token::Word(word)) if word.keyword == Keyword::IS)
    }

    fn typed(&mut self, depth: usize) -> Outcome<Document> {
        if depth > DEPTH_MAX {
            return Err(Failure::invalid_query(format!(
                "STRUCTs are nested more than {DEPTH_MAX} levels deep"
            )));
        }
        let name = self.parser.parse_identifier().map_err(|e| syntax(&e))?.value.to_ascii_uppercase();
        let mut document = Document::new();
        match name.as_str() {
            "ARRAY" => {
                self.expect(&Token::Lt)?;
                if self.at(Keyword::ARRAY) {
                    return Err(Failure::invalid_query("Cannot construct array with element type ARRAY"));
                }
                document = self.field(None, depth)?;
                self.close()?;
                document.insert("mode".into(), "REPEATED".into());
            }
            "STRUCT" => {
                self.expect(&Token::Lt)?;
                let mut fields = Vec::new();
                while !self.at_close() {
                    let name = self.parser.parse_identifier().map_err(|e| syntax(&e))?.value;
                    fields.push(Value::Object(self.field(Some(name), depth + 1)?));
                    if self.open > 0 || !self.parser.consume_token(&Token::Comma) {
                        break;
                    }
                }
                self.close()?;
                document.insert("type".into(), "RECORD".into());
                document.insert("fields".into(), fields.into());
            }
            "RANGE" => {
                self.expect(&Token::Lt)?;
                let element = self.typed(depth + 1)?;
                self.close()?;
                document.insert("type".into(), "RANGE".into());
                document.insert("rangeElementType".into(), json!({"type": element.get("type")}));
            }
            _ => {
                document.insert("type".into(), canonical(&name).into());
                self.parameters(canonical(&name), &mut document)?;
            }
        }
        Ok(document)
    }

    /// `STRING(10)`, `NUMERIC(38, 9)`.
    fn parameters(&mut self, name: &str, document: &mut Document) -> Outcome<()> {
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(());
        }
        let number = |parser: &mut Parser| parser.parse_literal_uint();
        let numbers = self.parser.parse_comma_separated(number).map_err(|e| syntax(&e))?;
        self.expect(&Token::RParen)?;
        let members = match name {
            "STRING" | "BYTES" => ["maxLength", ""],
            "NUMERIC" | "BIGNUMERIC" => ["precision", "scale"],
            _ => return Err(Failure::invalid_query(format!("{name} does not support type parameters"))),
        };
        for (index, number) in numbers.iter().enumerate() {
            let Some(member) = members.get(index).filter(|m| !m.is_empty()) else {
                return Err(Failure::invalid_query(format!("{name} type has too many type parameters")));
            };
            document.insert((*member).to_owned(), number.to_string().into());
        }
        Ok(())
    }

    fn expect(&mut self, token: &Token) -> Outcome<()> {
        self.parser.expect_token(token).map(drop).map_err(|e| syntax(&e))
    }

    fn at_close(&self) -> bool {
        self.open > 0 || matches!(self.parser.peek_token().token, Token::Gt | Token::ShiftRight)
    }

    fn close(&mut self) -> Outcome<()> {
        if self.open > 0 {
            self.open -= 1;
            return Ok(());
        }
        if self.parser.consume_token(&Token::ShiftRight) {
            self.open += 1;
            return Ok(());
        }
        self.expect(&Token::Gt)
    }
}

/// The names that the API has no other spelling of.
fn canonical(name: &str) -> &str {
    match name {
        "INT" | "SMALLINT" | "INTEGER" | "BIGINT" | "TINYINT" | "BYTEINT" => "INT64",
        "DECIMAL" => "NUMERIC",
        "BIGDECIMAL" => "BIGNUMERIC",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::BigQueryDialect;

    use super::*;

    fn read(sql: &str) -> Outcome<Value> {
        column(&mut Parser::new(&BigQueryDialect {}).try_with_sql(sql).unwrap())
    }

    #[test]
    fn columns_become_field_documents() {
        let found = read(
            "s STRUCT<x INT64 NOT NULL OPTIONS(description='q'), y ARRAY<STRUCT<z STRING(10), w NUMERIC(9,2)>>>",
        );
        let expected = json!({"name": "s", "type": "RECORD", "fields": [
            {"name": "x", "type": "INT64", "mode": "REQUIRED", "description": "q"},
            {"name": "y", "type": "RECORD", "mode": "REPEATED", "fields": [
                {"name": "z", "type": "STRING", "maxLength": "10"},
                {"name": "w", "type": "NUMERIC", "precision": "9", "scale": "2"},
            ]},
        ]});
        assert_eq!(found, Ok(expected));
        let found = read("a STRING DEFAULT 'x' NOT NULL").unwrap();
        assert_eq!((&found["defaultValueExpression"], &found["mode"]), (&json!("'x'"), &json!("REQUIRED")));
        assert_eq!(read("r RANGE<DATE>").unwrap()["rangeElementType"], json!({"type": "DATE"}));
    }

    #[test]
    fn wrong_types_are_refused() {
        for sql in [
            "a ARRAY<ARRAY<INT64>>",
            "a INT64(3)",
            "a STRING(1,2)",
            "a STRUCT<x INT64",
            "a ARRAY<INT64> NOT NULL",
        ] {
            assert!(read(sql).is_err(), "{sql}");
        }
        for (open, close) in [("STRUCT<x ", ">"), ("ARRAY<STRUCT<x ", ">>")] {
            let nested = |levels: usize| format!("a {}INT64{}", open.repeat(levels), close.repeat(levels));
            assert!(read(&nested(15)).is_ok(), "{open}");
            assert!(read(&nested(16)).unwrap_err().message.contains("15 levels deep"), "{open}");
        }
        assert!(read(&format!("a {}", "ARRAY<".repeat(100_000))).is_err());
    }
}
