//! SQL cut into tokens, as far as a shell needs them: what is a word, what is quoted, where a statement ends.

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, a name, or a function.
    Word,
    Number,
    /// In single quotes: a text, or a file.
    Text,
    /// In double quotes: a name.
    Name,
    Comment,
    Blank,
    /// The end of a statement.
    End,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub kind: Kind,
    pub text: &'t str,
    /// Where it begins.
    pub at: usize,
    /// False of a quote or comment that goes on in the next line.
    pub is_closed: bool,
}

/// All of the text, piece by piece.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (kind, length, is_closed) = first(rest);
        tokens.push(Token { kind, text: &rest[..length], at, is_closed });
        at += length;
    }
    tokens
}

/// The kind of the first token, its length, and whether it is at its end.
fn first(text: &str) -> (Kind, usize, bool) {
    let until = |is_in: fn(char) -> bool| text.find(|c| !is_in(c)).unwrap_or(text.len());
    let Some(c) = text.chars().next() else { return (Kind::Blank, 0, true) };
    match c {
        '\'' | '"' => {
            let kind = if c == '"' { Kind::Name } else { Kind::Text };
            let (length, is_closed) = quoted(text, c);
            (kind, length, is_closed)
        }
        '-' if text.starts_with("--") => match text.find('\n') {
            Some(end) => (Kind::Comment, end, true),
            None => (Kind::Comment, text.len(), false),
        },
        '/' if text.starts_with("/*") => {
            let (length, is_closed) = comment(text);
            (Kind::Comment, length, is_closed)
        }
        ';' => (Kind::End, 1, true),
        c if c.is_whitespace() => (Kind::Blank, until(char::is_whitespace), true),
        c if c.is_ascii_digit() => {
            (Kind::Number, until(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_'), true)
        }
        c if is_of_word(c) => (Kind::Word, until(is_of_word), true),
        c => (Kind::Other, c.len_utf8(), true),
    }
}

pub(super) fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Up to the closing quote; two quotes are one that is meant.
fn quoted(text: &str, quote: char) -> (usize, bool) {
    let mut rest = 1;
    while let Some(end) = text[rest..].find(quote) {
        rest += end + 1;
        if !text[rest..].starts_with(quote) {
            return (rest, true);
        }
        rest += 1;
    }
    (text.len(), false)
}

/// Comments in comments are closed one by one.
fn comment(text: &str) -> (usize, bool) {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        let rest = &text[at..];
        let (Some(close), open) = (rest.find("*/"), rest.find("/*")) else { return (text.len(), false) };
        match open {
            Some(open) if open < close => (at, depth) = (at + open + 2, depth + 1),
            _ => (at, depth) = (at + close + 2, depth - 1),
        }
    }
    (at, true)
}

/// Whether what was typed can be run: a `\` command, nothing at all, or statements up to their `;`.
pub(super) fn is_whole(text: &str) -> bool {
    if text.trim_start().starts_with('\\') || matches!(text.trim(), "" | "exit" | "quit" | "help") {
        return true;
    }
    let tokens = tokens(text);
    let last = tokens.iter().rfind(|token| !matches!(token.kind, Kind::Blank | Kind::Comment));
    last.is_none_or(|last| last.kind == Kind::End)
        && !tokens.iter().any(|t| t.kind == Kind::Comment && opens(t))
}

/// A comment that only `*/` ends.
fn opens(token: &Token<'_>) -> bool {
    !token.is_closed && token.text.starts_with("/*")
}

/// The statements, without those of comments alone.
pub(super) fn statements(text: &str) -> Vec<&str> {
    let (mut statements, mut start, mut is_empty) = (Vec::new(), 0, true);
    for token in tokens(text) {
        match token.kind {
            Kind::End => {
                if !is_empty {
                    statements.push(text[start..token.at].trim());
                }
                (start, is_empty) = (token.at + 1, true);
            }
            Kind::Blank | Kind::Comment => {}
            _ => is_empty = false,
        }
    }
    if !is_empty {
        statements.push(text[start..].trim());
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_at_a_semicolon_that_is_neither_quoted_nor_a_comment() {
        for whole in [
            "",
            "  \n",
            "SELECT 1;",
            "SELECT 1 ; \n",
            "SELECT 1; -- done",
            "SELECT 1; /* done */",
            "SELECT ';' AS a;",
            "SELECT 'it''s; fine';",
            "\\d flows",
            "  \\q",
            "exit",
            "-- only a comment",
            "SELECT 1; SELECT\n2;",
        ] {
            assert!(is_whole(whole), "{whole}");
        }
        for part in [
            "SELECT 1",
            "SELECT 1; SELECT 2",
            "SELECT ';",
            "SELECT 'it''s;",
            "SELECT \"a;",
            "SELECT 1 -- ;",
            "SELECT 1 /* ; /* ; */ ;",
            "/* open",
            "SELECT 1; /* open",
            "exit now",
        ] {
            assert!(!is_whole(part), "{part}");
        }
    }

    #[test]
    fn tokens_are_all_of_the_text_and_statements_lose_only_what_is_no_statement() {
        for text in
            ["SELECT 'ä', \"b\" -- c\nFROM t1;", "/* a /* b */ c */ 1.5e3 + x_1;;", "'open", "--", "é€"]
        {
            let tokens = tokens(text);
            assert_eq!(tokens.iter().map(|token| token.text).collect::<String>(), text);
        }
        let text = "-- first\nSELECT 1;\n;/* none */; SELECT ';' ; ";
        assert_eq!(statements(text), ["-- first\nSELECT 1", "SELECT ';'"]);
    }
}
