//! From text to tokens, put in the order that sqlparser's BigQuery dialect reads.
//!
//! What GoogleSQL writes and sqlparser does not take is spelled in another way that means the same:
//! `ARRAY<T>[…]` and `STRUCT<T>(…)` become casts, `SAFE.F(x)` a function of one name, an alias that stands
//! before `FOR SYSTEM_TIME AS OF` moves behind it. Tokens keep their places, so errors point into the text.

use datafusion::sql::sqlparser::dialect::BigQueryDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use super::literals;
use crate::emulator::wire::{Failure, Outcome};

/// The function that a literal of a RANGE is read as: its type, and its text.
pub(super) const RANGE_LITERAL: &str = "RANGE.LITERAL";

/// The operators that sqlparser's dialect lacks, as the words that they are respelled with and our functions.
/// Nobody else can write them: XOR is no operator of GoogleSQL, and of the right precedence.
pub(super) const SHIFTS: [(&str, &str); 2] =
    [("SHIFT.LEFT", "bq_shift_left"), ("SHIFT.RIGHT", "bq_shift_right")];

/// What the list of patterns of `LIKE ALL` begins with, since sqlparser only knows `LIKE ANY`.
pub(super) const LIKE_ALL: &str = "LIKE.ALL";

/// sqlparser's own limit.
const NESTING_MAX: u32 = 50;

/// The tokens of a text. Literals are unescaped here: BigQuery's escapes are its own.
pub(super) fn tokens(sql: &str) -> Outcome<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(&BigQueryDialect {}, sql).with_unescape(false).tokenize_with_location();
    let tokens = tokens.map_err(|e| failure(&e.to_string()))?;
    respell(tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect())
}

/// sqlparser's words, with the place as BigQuery writes it.
pub(super) fn failure(text: &str) -> Failure {
    let text = text.trim_start_matches("sql parser error: ");
    if let Some(token) = text.strip_prefix("No infix parser for token ") {
        let token = token.split([' ', '(']).next().unwrap_or_default();
        return Failure::invalid_query(format!("Syntax error: Unexpected operator {token}"));
    }
    let text = text.replace(" at Line: ", " at [").replace(", Column: ", ":");
    let text = if text.contains(" at [") { text + "]" } else { text };
    Failure::invalid_query(format!("Syntax error: {text}"))
}

fn respell(tokens: Vec<TokenWithSpan>) -> Outcome<Vec<TokenWithSpan>> {
    let tokens = aliases_behind_system_time(tokens);
    let mut respelled = Vec::with_capacity(tokens.len());
    typed_constructors(&tokens, &mut respelled, 0)?;
    for token in &mut respelled {
        if let Some(text) = literals::text(&token.token)? {
            token.token = Token::SingleQuotedString(text);
        }
    }
    Ok(respelled)
}

fn typed_constructors(tokens: &[TokenWithSpan], out: &mut Vec<TokenWithSpan>, depth: u32) -> Outcome<()> {
    if depth > NESTING_MAX {
        return Err(Failure::invalid_query("Syntax error: the query is nested too deeply"));
    }
    let mut at = 0;
    // Brackets of types that are open, of which `>>` closes two.
    let mut types = 0_usize;
    while let Some(token) = tokens.get(at) {
        let rest = &tokens[at + 1..];
        let like = |text: Token| TokenWithSpan { token: text, span: token.span };
        if let (Some(opening), Some(closing)) = (constructor(&token.token), type_end(rest))
            && rest.get(closing).is_some_and(|t| t.token == opening)
            && let Some(length) = closing_bracket(&rest[closing..])
        {
            // ARRAY<T>[1, 2] is CAST([1, 2] AS ARRAY<T>), STRUCT<T>(1) is CAST(STRUCT(1) AS STRUCT<T>).
            out.push(like(keyword(Keyword::CAST, "CAST")));
            out.push(like(Token::LParen));
            if opening == Token::LParen {
                out.push(token.clone());
            }
            typed_constructors(&rest[closing..closing + length], out, depth + 1)?;
            out.push(like(keyword(Keyword::AS, "AS")));
            out.push(token.clone());
            out.extend_from_slice(&rest[..closing]);
            out.push(like(Token::RParen));
            at += 1 + closing + length;
            continue;
        }
        let opens = |t: Option<&TokenWithSpan>| t.is_some_and(|t| t.token == Token::Lt);
        if TYPES.iter().any(|name| is_word(token, name)) && opens(rest.first()) {
            types += 1;
        }
        match (&token.token, rest) {
            (Token::Gt, _) if types > 0 => {
                types -= 1;
                out.push(token.clone());
                at += 1;
            }
            (Token::ShiftRight, _) if types > 0 => {
                types = types.saturating_sub(2);
                out.push(token.clone());
                at += 1;
            }
            (Token::ShiftLeft | Token::ShiftRight, _) => {
                let (marker, _) = SHIFTS[usize::from(token.token == Token::ShiftRight)];
                let xor = || like(keyword(Keyword::XOR, "XOR"));
                out.extend([xor(), like(keyword(Keyword::NoKeyword, marker)), xor()]);
                at += 1;
            }
            (Token::Word(_), [quantifier, open, ..])
                if is_word(token, "LIKE")
                    && open.token == Token::LParen
                    && (is_word(quantifier, "ALL") || is_word(quantifier, "SOME")) =>
            {
                let any = like(keyword(Keyword::ANY, "ANY"));
                out.extend([token.clone(), any, open.clone()]);
                if is_word(quantifier, "ALL") {
                    out.extend([like(keyword(Keyword::NoKeyword, LIKE_ALL)), like(Token::Comma)]);
                }
                at += 3;
            }
            (Token::Word(word), [dot, name, after, ..])
                if word.value.eq_ignore_ascii_case("SAFE")
                    && dot.token == Token::Period
                    && after.token == Token::LParen
                    && let Token::Word(name) = &name.token =>
            {
                out.push(like(Token::Word(Word {
                    value: format!("SAFE.{}", name.value),
                    quote_style: None,
                    keyword: Keyword::NoKeyword,
                })));
                at += 3;
            }
            // RANGE<T> '[a, b)' is a call that nobody else can write.
            (Token::Word(word), [open, of, close, literal, ..])
                if word.quote_style.is_none()
                    && word.value.eq_ignore_ascii_case("RANGE")
                    && open.token == Token::Lt
                    && close.token == Token::Gt
                    && is_string(&literal.token) =>
            {
                out.push(like(Token::Word(Word {
                    value: RANGE_LITERAL.to_owned(),
                    quote_style: None,
                    keyword: Keyword::NoKeyword,
                })));
                let of = Token::SingleQuotedString(of.token.to_string());
                let call = [Token::LParen, of, Token::Comma, literal.token.clone(), Token::RParen];
                out.extend(call.map(like));
                at += 5;
            }
            (Token::Word(word), [literal, ..])
                if word.quote_style.is_none()
                    && matches!(word.value.to_ascii_lowercase().as_str(), "rb" | "br")
                    && is_string(&literal.token)
                    && literal.span.start == token.span.end =>
            {
                return Err(Failure::unsupported_sql("raw bytes literals (rb'…')"));
            }
            (Token::Word(system), [time, ..])
                if system.value.eq_ignore_ascii_case("SYSTEM")
                    && is_word(time, "TIME")
                    && out.last().is_some_and(|t| is_word(t, "FOR")) =>
            {
                out.push(like(system_time()));
                at += 2;
            }
            _ => {
                out.push(token.clone());
                at += 1;
            }
        }
    }
    Ok(())
}

/// What a type in angle brackets begins with.
const TYPES: [&str; 3] = ["ARRAY", "STRUCT", "RANGE"];

/// The bracket that must follow the type of a typed constructor.
fn constructor(token: &Token) -> Option<Token> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => match word.keyword {
            Keyword::ARRAY => Some(Token::LBracket),
            Keyword::STRUCT => Some(Token::LParen),
            _ => None,
        },
        _ => None,
    }
}

/// How many tokens a type in angle brackets takes: only words, commas and brackets stand in one.
fn type_end(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Lt => depth += 1,
            Token::Gt => depth = depth.checked_sub(1)?,
            Token::ShiftRight => depth = depth.checked_sub(2)?,
            Token::Word(_) | Token::Comma | Token::Number(..) | Token::LParen | Token::RParen
                if depth > 0 => {}
            _ => return None,
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// How many tokens there are from an opening bracket to the one that closes it.
fn closing_bracket(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// `t AS x FOR SYSTEM_TIME AS OF y` as `t FOR SYSTEM_TIME AS OF y AS x`.
fn aliases_behind_system_time(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut at = 0;
    while at + 4 < tokens.len() {
        let spaced = is_word(&tokens[at + 1], "SYSTEM") && is_word(&tokens[at + 2], "TIME");
        let starts = is_word(&tokens[at], "FOR") && (spaced || is_word(&tokens[at + 1], "SYSTEM_TIME"));
        if !starts || at < 2 {
            at += 1;
            continue;
        }
        let is_name = |token: &TokenWithSpan| matches!(token.token, Token::Word(_));
        let explicit = is_word(&tokens[at - 2], "AS");
        let before = &tokens[at - 2];
        let implicit = is_name(before)
            && !["FROM", "JOIN"].iter().any(|word| is_word(before, word))
            && !is_clone(&tokens[..at - 1])
            && is_name(&tokens[at - 1]);
        if !explicit && !implicit {
            at += 1;
            continue;
        }
        let alias = at - if explicit { 2 } else { 1 };
        let end = at + system_time_end(&tokens[at..]);
        let length = at - alias;
        tokens[alias..end].rotate_left(length);
        at = end;
    }
    tokens
}

/// Whether these end in `name CLONE`, behind which a table follows: not in `FROM clone`.
fn is_clone(tokens: &[TokenWithSpan]) -> bool {
    let [.., name, clone] = tokens else { return false };
    let is_name = matches!(name.token, Token::Word(_)) && !is_word(name, "FROM") && !is_word(name, "JOIN");
    is_name && is_word(clone, "CLONE")
}

fn system_time_end(tokens: &[TokenWithSpan]) -> usize {
    const NEXT: [&str; 19] = [
        "WHERE",
        "GROUP",
        "ORDER",
        "JOIN",
        "LEFT",
        "RIGHT",
        "INNER",
        "FULL",
        "CROSS",
        "ON",
        "USING",
        "UNION",
        "LIMIT",
        "HAVING",
        "QUALIFY",
        "WINDOW",
        "EXCEPT",
        "INTERSECT",
        "TABLESAMPLE",
    ];
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth > 0 => depth -= 1,
            Token::RParen | Token::SemiColon | Token::EOF => return at,
            Token::Comma if depth == 0 => return at,
            Token::Word(_) if depth == 0 && NEXT.iter().any(|word| is_word(token, word)) => return at,
            _ => {}
        }
    }
    tokens.len()
}

fn is_word(token: &TokenWithSpan, text: &str) -> bool {
    matches!(&token.token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(text))
}

fn is_string(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
    )
}

fn keyword(keyword: Keyword, text: &str) -> Token {
    Token::Word(Word { value: text.to_owned(), quote_style: None, keyword })
}

fn system_time() -> Token {
    Token::make_keyword("SYSTEM_TIME")
}
