//! The start of a body as people may see it: one line, short, and without what the request had in it.

use crate::location::Secrets;

const SHOWN_CHARS: usize = 200;
/// A word with digits of this length is a token of some kind, not a word.
const TOKEN_CHARS: usize = 24;

/// What `bytes` start with, for a message.
pub fn excerpt(bytes: &[u8], secrets: &Secrets) -> String {
    let text = secrets.taken_out_of(&String::from_utf8_lossy(bytes));
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.map(without_tokens).collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN_CHARS).collect()
}

/// Replaces runs of letters and digits that are too long and too mixed to be words.
fn without_tokens(word: &str) -> String {
    let mut shown = String::new();
    let is_token_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+');
    for piece in word.split_inclusive(|c: char| !is_token_char(c)) {
        let end = piece.trim_end_matches(|c: char| !is_token_char(c)).len();
        let is_token = end >= TOKEN_CHARS && piece[..end].contains(|c: char| c.is_ascii_digit());
        shown += if is_token { "…" } else { &piece[..end] };
        shown += &piece[end..];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_request_held_is_not_shown_when_it_comes_back() {
        let mut secrets = Secrets::default();
        secrets.add_header("Basic dXNlcjpjYW5hcnkx");
        secrets.add("canary2");
        let body = b"<html>\n<p>canary1 canary2\tdXNlcjpjYW5hcnkx\0 {after} fine</p>";
        assert_eq!(excerpt(body, &secrets), "<html> <p>… … … {after} fine</p>");
        assert!(!format!("{secrets:?}").contains("canary"));
    }

    #[test]
    fn long_tokens_are_left_out_and_the_rest_is_one_short_line() {
        let secrets = Secrets::default();
        let session = "<a href='/x;id=0123456789abcdef0123456789abcdef'>in</a>\r\n";
        assert_eq!(excerpt(session.as_bytes(), &secrets), "<a href='/x;id=…'>in</a>");
        assert_eq!(excerpt("word ".repeat(100).as_bytes(), &secrets).chars().count(), 200);
        assert_eq!(excerpt(b"\xff\xfe<", &secrets), "\u{fffd}\u{fffd}<");
    }
}
