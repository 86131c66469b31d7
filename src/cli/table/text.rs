//! Values of BigQuery's documents as people read them.

use chrono::DateTime;
use indicatif::HumanCount;
use serde_json::Value;

/// Milliseconds since 1970, written as text; empty where there are none.
pub(super) fn instant(value: &Value) -> String {
    let ms = value.as_str().and_then(|ms| ms.parse::<i64>().ok());
    ms.and_then(date).unwrap_or_default()
}

pub(super) fn date(ms: i64) -> Option<String> {
    DateTime::from_timestamp_millis(ms).map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A 64-bit number, written as text; empty where there is none.
pub(super) fn number(value: &Value) -> String {
    let number = value.as_str().and_then(|n| n.parse().ok()).or(value.as_u64());
    number.map_or_else(String::new, |n| HumanCount(n).to_string())
}

/// What others wrote, in one line, and without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns to the left, as wide as their widest cell.
pub(super) fn left_aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        lines.iter().filter_map(|line| line.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
