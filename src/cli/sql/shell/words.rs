//! What Tab completes, and what is a keyword.

use super::command;
use super::tokens::{Kind, is_of_word, tokens};
use crate::render::Format;
use crate::render::chart;

/// Of SELECTs: those that are typed, not all there are.
const KEYWORDS: [&str; 95] = [
    "ALL",
    "AND",
    "ANTI",
    "ANY",
    "AS",
    "ASC",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "CASE",
    "CAST",
    "CROSS",
    "CURRENT",
    "DATE",
    "DECIMAL",
    "DESC",
    "DISTINCT",
    "DOUBLE",
    "ELSE",
    "END",
    "ESCAPE",
    "EXCEPT",
    "EXCLUDE",
    "EXISTS",
    "EXTRACT",
    "FALSE",
    "FILTER",
    "FIRST",
    "FOLLOWING",
    "FROM",
    "FULL",
    "GROUP",
    "GROUPING",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INT",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "JOIN",
    "LAST",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NATURAL",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRECEDING",
    "QUALIFY",
    "RANGE",
    "RECURSIVE",
    "REPLACE",
    "RIGHT",
    "ROLLUP",
    "ROW",
    "ROWS",
    "SELECT",
    "SEMI",
    "SETS",
    "SIMILAR",
    "SOME",
    "TABLE",
    "THEN",
    "TIME",
    "TIMESTAMP",
    "TO",
    "TRUE",
    "UNBOUNDED",
    "UNION",
    "UNNEST",
    "USING",
    "VALUES",
    "VARCHAR",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
    "CUBE",
    "INTEGER",
    "FLOAT",
    "TRY_CAST",
    "ARRAY",
];

pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// What the text before the cursor asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Wanted<'t> {
    /// The rest of a `\` command or of its argument.
    Of(Vec<&'static str>, &'t str),
    /// A path: in quotes, or behind `\o`.
    File,
    /// A table, as behind FROM.
    Table(&'t str),
    /// A column, as behind `f.`.
    Column(&'t str),
    Anything(&'t str),
    Nothing,
}

/// What could be typed on at the end of `before`.
pub(super) fn wanted(before: &str) -> Wanted<'_> {
    let line = before.trim_start();
    if line.starts_with('\\') {
        return match line.split_once(char::is_whitespace) {
            None => Wanted::Of(command::NAMES.to_vec(), line),
            Some((r"\d", argument)) => Wanted::Table(argument.trim_start()),
            Some((r"\o", _)) => Wanted::File,
            Some((r"\timing", argument)) => Wanted::Of(vec!["off", "on"], argument.trim_start()),
            Some((r"\format", argument)) => {
                Wanted::Of(Format::ALL.map(Format::name).to_vec(), argument.trim_start())
            }
            Some((r"\chart", argument)) => {
                let kinds = chart::Kind::ALL.map(chart::Kind::name).into_iter();
                Wanted::Of(kinds.chain(["off"]).collect(), argument.trim_start())
            }
            Some(_) => Wanted::Nothing,
        };
    }
    let tokens = tokens(before);
    match tokens.last() {
        Some(last) if !last.is_closed && last.kind == Kind::Text => return Wanted::File,
        Some(last) if !last.is_closed || last.kind == Kind::Number => return Wanted::Nothing,
        _ => {}
    }
    let start = before
        .rfind(|c| !is_of_word(c))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let word = &before[start..];
    if before[..start].ends_with('.') {
        return Wanted::Column(word);
    }
    let mut earlier = tokens.iter().rev().filter(|token| token.at < start);
    let behind = earlier.find(|token| !matches!(token.kind, Kind::Blank | Kind::Comment));
    let opens = |word: &str| word.eq_ignore_ascii_case("FROM") || word.eq_ignore_ascii_case("JOIN");
    match behind.is_some_and(|token| opens(token.text)) {
        true => Wanted::Table(word),
        false => Wanted::Anything(word),
    }
}

/// The tables and files that the text names, of those that are `known`.
pub(super) fn named_tables(text: &str, known: &[String]) -> Vec<String> {
    let mut named: Vec<String> = Vec::new();
    let mut is_behind_from = false;
    for token in tokens(text) {
        let name = match token.kind {
            Kind::Blank | Kind::Comment => continue,
            Kind::Word => known.iter().find(|table| table.eq_ignore_ascii_case(token.text)).cloned(),
            Kind::Text | Kind::Name if token.is_closed && is_behind_from => {
                Some(token.text[1..token.text.len() - 1].to_owned())
            }
            _ => None,
        };
        is_behind_from = ["FROM", "JOIN"].iter().any(|word| word.eq_ignore_ascii_case(token.text));
        named.extend(name.filter(|name| !named.contains(name)));
    }
    named
}

/// Those that begin as `word` does, in any case; keywords in the case in which it was begun.
pub(super) fn beginning_so<'c>(
    word: &str,
    names: impl IntoIterator<Item = &'c str>,
    with_keywords: bool,
) -> Vec<String> {
    let begins = |name: &str| name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let is_lower = word.chars().any(char::is_lowercase);
    let cased = |keyword: &&str| if is_lower { keyword.to_lowercase() } else { (*keyword).to_owned() };
    let keywords = KEYWORDS.iter().filter(|_| with_keywords).map(cased);
    let mut found: Vec<String> =
        names.into_iter().map(str::to_owned).chain(keywords).filter(|name| begins(name)).collect();
    found.sort_by_key(|name| name.to_lowercase());
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_before_the_cursor_says_what_is_wanted() {
        assert_eq!(wanted("SEL"), Wanted::Anything("SEL"));
        assert_eq!(wanted("SELECT * FROM fl"), Wanted::Table("fl"));
        assert_eq!(wanted("SELECT * FROM\n  "), Wanted::Table(""));
        assert_eq!(wanted("SELECT * FROM flows f JOIN /* x */ wi"), Wanted::Table("wi"));
        assert_eq!(wanted("SELECT f.pro"), Wanted::Column("pro"));
        assert_eq!(wanted("SELECT * FROM 'data/fl"), Wanted::File);
        assert_eq!(wanted("SELECT \"fl"), Wanted::Nothing);
        assert_eq!(wanted("SELECT 1 -- se"), Wanted::Nothing);
        assert_eq!(wanted("SELECT 12"), Wanted::Nothing);
        assert_eq!(wanted("SELECT sum(ä"), Wanted::Anything("ä"));
        assert_eq!(wanted(r"\d fl"), Wanted::Table("fl"));
        assert_eq!(wanted(r"\o out/"), Wanted::File);
        assert_eq!(wanted(r"\timing o"), Wanted::Of(vec!["off", "on"], "o"));
        assert_eq!(wanted(r"\fo"), Wanted::Of(command::NAMES.to_vec(), r"\fo"));
    }

    #[test]
    fn names_and_keywords_are_found_in_any_case() {
        let names = ["flows", "FLOOR", "src_comp", "ärger"];
        assert_eq!(beginning_so("fl", names, true), ["float", "FLOOR", "flows"]);
        assert_eq!(beginning_so("FL", names, true), ["FLOAT", "FLOOR", "flows"]);
        assert_eq!(beginning_so("wher", names, true), ["where"]);
        assert_eq!(beginning_so("är", names, false), ["ärger"]);
        assert_eq!(beginning_so("a", ["ä"], false), [""; 0]);
    }

    #[test]
    fn tables_are_found_wherever_they_are_named() {
        let known = ["flows".to_owned(), "windows".to_owned()];
        let text = "SELECT 'windows', x FROM Flows f JOIN 'a b.csv' USING (id) -- windows\nWHERE 'flows' = x";
        assert_eq!(named_tables(text, &known), ["flows", "a b.csv"]);
    }

    #[test]
    fn keywords_are_known() {
        assert!(is_keyword("select") && is_keyword("TRY_CAST") && !is_keyword("flows"));
    }
}
