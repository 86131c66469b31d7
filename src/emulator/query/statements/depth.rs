//! How deep a text's tree would be, told from its tokens: a tree that is too deep must not be made, because
//! walking it, and dropping it, takes a stack as deep.
//!
//! Brackets are counted by the parser. Chains are not: `1 + 1 + 1`, `a OR b OR c`, `SELECT … UNION ALL SELECT …`
//! and `STRUCT<a STRUCT<…` nest a level per link.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::emulator::wire::{Failure, Outcome};

/// Links of the chains that are open at one place of a text, together. BigQuery names no figure; its own
/// planner gives up at some thousands too.
const LINKS_MAX: usize = 2_000;

/// A pair of brackets that is open.
#[derive(Default)]
struct Level {
    /// Of the expression that is being read.
    operators: usize,
    /// Of the SELECTs that were joined by UNION and its kin.
    sets: usize,
}

pub(super) fn check(tokens: &[TokenWithSpan]) -> Outcome<()> {
    let mut levels = vec![Level::default()];
    let mut links = 0;
    for token in tokens {
        let is_outermost = levels.len() == 1;
        let Some(level) = levels.last_mut() else { return Ok(()) };
        match &token.token {
            Token::LParen | Token::LBracket => levels.push(Level::default()),
            Token::RParen | Token::RBracket if !is_outermost => {
                links -= level.operators + level.sets;
                levels.pop();
            }
            // The next item of a list, or the next statement, is a tree of its own.
            Token::Comma => links -= std::mem::take(&mut level.operators),
            Token::SemiColon => {
                levels = vec![Level::default()];
                links = 0;
            }
            Token::Word(word) => match word.keyword {
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => {
                    links -= std::mem::take(&mut level.operators);
                    level.sets += 1;
                    links += 1;
                }
                Keyword::AND | Keyword::OR | Keyword::JOIN | Keyword::NOT => {
                    level.operators += 1;
                    links += 1;
                }
                _ => {}
            },
            token if is_operator(token) => {
                level.operators += 1;
                links += 1;
            }
            _ => {}
        }
        if links > LINKS_MAX {
            return Err(Failure::too_complex());
        }
    }
    Ok(())
}

fn is_operator(token: &Token) -> bool {
    matches!(
        token,
        Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::StringConcat
            | Token::Ampersand
            | Token::Pipe
            | Token::Caret
            | Token::Tilde
            | Token::Period
            | Token::Lt
            | Token::ShiftLeft
            | Token::ShiftRight
    )
}

#[cfg(test)]
mod tests {
    use crate::emulator::query::statements::parse;

    #[test]
    fn long_chains_are_refused_and_long_lists_are_not() {
        let chain = |link: &str, n: usize| format!("SELECT 1{}", link.repeat(n));
        for link in ["+1", " OR x", "||'a'", " UNION ALL SELECT 1, 2", " + f(1, 2)"] {
            let refused = parse(&chain(link, 2_001)).expect_err(link);
            assert_eq!(refused.reason, "resourcesExceeded", "{link}");
        }
        for link in [",1+1", ",x AND y", ",(1+1)", ", f(-1, -1)"] {
            assert!(parse(&chain(link, 2_001)).is_ok(), "{link}");
        }
        let nested = format!("SELECT CAST(NULL AS {} INT64{})", "STRUCT<a ".repeat(2_001), ">".repeat(2_001));
        assert_eq!(parse(&nested).expect_err("nested").reason, "resourcesExceeded");
    }
}
