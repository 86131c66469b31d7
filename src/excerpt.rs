//! The line of SQL that an error points at.

use std::sync::LazyLock;

use regex::Regex;

/// BigQuery names a place as `[line:column]`; the last one is the innermost.
static PLACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[(\d{1,7}):(\d{1,7})\]").expect("a constant"));
/// BigQuery counts a tab as the blanks up to the next column of these.
const TAB_WIDTH: usize = 8;
/// Columns of a long line that are shown before and behind the place.
const AROUND: usize = 60;

/// The line and a caret below the place that `message` names.
pub fn excerpt(sql: &str, message: &str) -> Option<String> {
    let place = PLACE.captures_iter(message).last()?;
    let number: usize = place[1].parse().ok()?;
    let column: usize = place[2].parse().ok()?;
    let line = sql.split('\n').nth(number.checked_sub(1)?)?.trim_end_matches('\r');
    let mut cells: Vec<char> = Vec::new();
    for c in line.chars() {
        match c {
            '\t' => cells.resize((cells.len() / TAB_WIDTH + 1) * TAB_WIDTH, ' '),
            c if c.is_control() => cells.push(' '),
            c => cells.push(c),
        }
    }
    // A place behind the last character is the end of the line.
    let at = column.checked_sub(1)?.min(cells.len());
    let start = at.saturating_sub(AROUND);
    let shown: String = cells.iter().skip(start).take(2 * AROUND).collect();
    let gutter = number.to_string();
    let (blank, caret) = (" ".repeat(gutter.len()), " ".repeat(at - start));
    Some(format!("{gutter} | {}\n{blank} | {caret}^", shown.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_below_the_place_that_is_named() {
        let sql = "SELECT a,\n\tfoo\r\nFROM t";
        let at = |message: &str| excerpt(sql, message);
        assert_eq!(at("Unrecognized name: foo at [2:9]").as_deref(), Some("2 |         foo\n  |         ^"));
        assert_eq!(at("Syntax error: end of script at [3:99]").as_deref(), Some("3 | FROM t\n  |       ^"));
        for nowhere in ["no place", "[0:0]", "[9:1]", "[1:0]", "[99999999999999999999:1]"] {
            assert_eq!(at(nowhere), None, "{nowhere}");
        }
        let long = format!("SELECT {} FROM t", "x".repeat(500));
        assert!(excerpt(&long, "at [1:300]").is_some_and(|text| text.len() < 300));
    }
}
