//! Values of BigQuery's documents as people read them.

use indicatif::HumanCount;
use serde_json::Value;

use crate::bigquery::Address;
use crate::tables;

/// Milliseconds since 1970, written as text; empty where there are none.
pub(super) fn instant(value: &Value) -> String {
    let ms = value.as_str().and_then(|ms| ms.parse::<i64>().ok());
    ms.and_then(tables::time_words).unwrap_or_default()
}

/// A 64-bit number, written as text; empty where there is none.
pub(super) fn number(value: &Value) -> String {
    let number = value.as_str().and_then(|n| n.parse().ok()).or(value.as_u64());
    number.map_or_else(String::new, |n| HumanCount(n).to_string())
}

/// A table in a line: `3 columns, partitioned by day of ingestion, a filter is required`.
pub(super) fn described(table: &Value) -> String {
    let num_columns = table["schema"]["fields"].as_array().map_or(0, Vec::len);
    let mut text = format!("{num_columns} column{}", if num_columns == 1 { "" } else { "s" });
    if let Some(partitioning) = tables::partitioning(table) {
        text += &format!(", partitioned {partitioning}");
    }
    let expires_ms = table["timePartitioning"]["expirationMs"].as_str().and_then(|ms| ms.parse().ok());
    if let Some(ms) = expires_ms {
        text += &format!(", partitions expire after {}", tables::duration_words(ms));
    }
    if !tables::clustering(table).is_empty() {
        text += &format!(", clustered by {}", tables::clustering(table).join(", "));
    }
    if table["requirePartitionFilter"] == true {
        text += ", a filter is required";
    }
    let expires = instant(&table["expirationTime"]);
    if !expires.is_empty() {
        text += &format!(", expires {expires}");
    }
    text
}

/// A table's name as it is typed into a shell, decorator included.
pub(super) fn table_name(table: &Address) -> String {
    let name = table.to_string();
    if name.contains([' ', '$']) { format!("'{name}'") } else { name }
}

/// How to get back what was just deleted and was there at `ms`, for stderr.
pub(in crate::cli) fn way_back(table: &Address, ms: u64) -> String {
    let whole = Address { partition: None, ..table.clone() };
    let again = Address { table: format!("{}_recovered", table.table), ..whole.clone() };
    let recover =
        format!("  api2bq table recover {} --at {ms} --to {}\n", table_name(&whole), table_name(&again));
    let then = match &table.partition {
        None => String::new(),
        Some(partition) => {
            let part = |table: &Address| {
                table_name(&Address { partition: Some(partition.clone()), ..table.clone() })
            };
            format!("  api2bq table copy {} {} --write truncate\n", part(&again), part(&whole))
        }
    };
    format!("to get it back, for 7 days or as long as the dataset's time travel window is:\n{recover}{then}")
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
