//! Literals: BigQuery's escapes, numbers, and the texts of typed ones.

use datafusion::sql::sqlparser::ast::{DataType, Expr, Value};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::parameters::{literal, typed_value};
use super::rewrite::{call, integer_literal, string_literal};
use super::types;
use crate::emulator::wire::{Failure, Outcome};

/// The function that gives the bytes of a literal.
pub(super) const BYTES_LITERAL: &str = "bq_from_hex";

pub(super) fn value(value: Value) -> Outcome<Expr> {
    match value {
        Value::Number(text, false) => {
            let is_float = text.contains(['.', 'e', 'E']);
            if !is_float && text.parse::<i64>().is_err() {
                return Err(Failure::invalid_query(format!("Invalid integer literal: {text}")));
            }
            Ok(literal(Value::Number(text, false)))
        }
        Value::HexStringLiteral(digits) => match i64::from_str_radix(&digits, 16) {
            Ok(number) => Ok(integer_literal(number)),
            Err(_) => Err(Failure::invalid_query(format!("Invalid integer literal: 0x{digits}"))),
        },
        Value::Boolean(_) | Value::Null => Ok(literal(value)),
        Value::SingleQuotedByteStringLiteral(text) | Value::DoubleQuotedByteStringLiteral(text) => {
            bytes(&text, true)
        }
        Value::TripleSingleQuotedByteStringLiteral(text)
        | Value::TripleDoubleQuotedByteStringLiteral(text) => bytes(&text, false),
        Value::SingleQuotedString(text) => Ok(string_literal(&text)),
        other => Err(Failure::unsupported_sql(format!("the literal {other}"))),
    }
}

/// What a literal of a text says; `None` of other tokens.
pub(super) fn text(token: &Token) -> Outcome<Option<String>> {
    let (raw, single) = match token {
        Token::SingleQuotedRawStringLiteral(text)
        | Token::DoubleQuotedRawStringLiteral(text)
        | Token::TripleSingleQuotedRawStringLiteral(text)
        | Token::TripleDoubleQuotedRawStringLiteral(text) => return Ok(Some(text.clone())),
        Token::SingleQuotedString(text) => {
            if text.replace("\\'", "").contains("''") {
                return Err(Failure::invalid_query(
                    "Syntax error: concatenated string literals need to be separated by whitespace or comments",
                ));
            }
            (text, true)
        }
        Token::DoubleQuotedString(text) => (text, true),
        Token::TripleSingleQuotedString(text) | Token::TripleDoubleQuotedString(text) => (text, false),
        _ => return Ok(None),
    };
    String::from_utf8(unescaped(raw, single, false)?)
        .map(Some)
        .map_err(|_| Failure::invalid_query("Syntax error: Invalid string literal: it is no UTF-8"))
}

fn bytes(raw: &str, single: bool) -> Outcome<Expr> {
    use std::fmt::Write;
    let bytes = unescaped(raw, single, true)?;
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Ok(call(BYTES_LITERAL, vec![string_literal(&hex)]))
}

fn unescaped(raw: &str, single_line: bool, is_bytes: bool) -> Outcome<Vec<u8>> {
    let illegal =
        |what: &str| Failure::invalid_query(format!("Syntax error: Illegal escape sequence: \\{what}"));
    let mut out = Vec::with_capacity(raw.len());
    let mut chars = raw.chars();
    let push = |out: &mut Vec<u8>, c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    while let Some(c) = chars.next() {
        if single_line && matches!(c, '\n' | '\r') {
            return Err(Failure::invalid_query("Syntax error: Unclosed string literal"));
        }
        if c != '\\' {
            push(&mut out, c);
            continue;
        }
        let Some(escape) = chars.next() else { return Err(illegal("")) };
        let mut code = |digits: usize, radix: u32, first: Option<char>| {
            let text: String = first.into_iter().chain(chars.by_ref().take(digits)).collect();
            let whole = text.chars().count() == digits + usize::from(first.is_some());
            u32::from_str_radix(&text, radix)
                .ok()
                .filter(|_| whole)
                .ok_or_else(|| illegal(&format!("{escape}{text}")))
        };
        match escape {
            'a' => push(&mut out, '\u{7}'),
            'b' => push(&mut out, '\u{8}'),
            'f' => push(&mut out, '\u{c}'),
            'n' => push(&mut out, '\n'),
            'r' => push(&mut out, '\r'),
            't' => push(&mut out, '\t'),
            'v' => push(&mut out, '\u{b}'),
            '\\' | '?' | '"' | '\'' | '`' | '\n' => push(&mut out, escape),
            'x' | 'X' | '0'..='3' => {
                let number = match escape {
                    'x' | 'X' => code(2, 16, None)?,
                    digit => code(2, 8, Some(digit))?,
                };
                match (u8::try_from(number), char::from_u32(number)) {
                    (Ok(byte), _) if is_bytes => out.push(byte),
                    (_, Some(c)) => push(&mut out, c),
                    _ => return Err(illegal(&escape.to_string())),
                }
            }
            'u' | 'U' if !is_bytes => {
                let number = code(if escape == 'u' { 4 } else { 8 }, 16, None)?;
                push(&mut out, char::from_u32(number).ok_or_else(|| illegal(&format!("{escape}")))?);
            }
            other => return Err(illegal(&other.to_string())),
        }
    }
    Ok(out)
}

/// `DATE '2024-01-01'` and its kin.
pub(super) fn typed(data_type: &DataType, text: &str) -> Outcome<Expr> {
    let Some(kind) = types::kind(data_type) else {
        return Err(Failure::unsupported_sql(format!("{data_type} literals")));
    };
    let invalid = || Failure::invalid_query(format!("Invalid {} literal: \"{text}\"", kind.sql()));
    typed_value(kind, text)
        .map_err(|failure| if failure.reason == "invalidQuery" { invalid() } else { failure })
}
