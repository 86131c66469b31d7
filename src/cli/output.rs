//! What is printed: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use indicatif::{BinaryBytes, DecimalBytes, HumanCount};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::{Global, LogFormat};
use crate::bigquery::Rows;
use crate::effects::Retries;
use crate::error::{Error, Result};
use crate::manifest::WindowCounts;
use crate::plan::Until;
use crate::receipt::Receipt;
use crate::telemetry::LogLines;

/// Prints to stdout. A reader that has gone away (`| head -1`) has seen what it wanted.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::failed("cannot write to stdout").caused_by(error))
        }
        _ => Ok(()),
    }
}

/// Of the terminal; where there is none, as in a pipe, that of a page.
pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(80, |(terminal_size::Width(width), _)| usize::from(width))
}

/// Whether stdout is a terminal that wants colours.
pub(super) fn is_styled() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints the error and its hint as the last lines on stderr.
pub(super) fn fail(error: &Error) -> ExitCode {
    tell(error);
    ExitCode::from(error.kind().exit_code())
}

/// Prints the error and its hint on stderr.
pub(super) fn tell(error: &Error) {
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (red, cyan, plain) = if color { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}error:{plain} {error}\n");
    if let Some(hint) = error.hint_text() {
        text.push_str(&format!("{cyan}hint:{plain} {hint}\n"));
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

pub(super) fn start_log(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "warn,api2bq=info",
        (false, 2) => "info,api2bq=debug",
        (false, _) => "debug,api2bq=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| LogLines).with_target(false);
    // A second start, in tests, changes nothing.
    let _ = match global.log_format {
        LogFormat::Text => log.with_ansi(color).without_time().try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}

/// The receipt for people.
pub(super) fn receipt(receipt: &Receipt) -> String {
    let totals = &receipt.totals;
    let count = |n: u64| HumanCount(n).to_string();
    let mut table = vec![
        ["", "day", "partition", "records", "duplicates", "rejects", "staged", "loaded"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for window in &receipt.windows {
        let mark = if window.resumed { "=" } else { "" };
        let counts = &window.counts;
        let days = window.window.label();
        let loaded =
            |partition: &crate::receipt::PartitionReceipt| partition.loaded.map_or("-".into(), count);
        let one = match &window.partitions[..] {
            [one] => Some(one),
            _ => None,
        };
        table.push(vec![
            mark.into(),
            days,
            one.map_or(String::new(), |p| p.partition.to_string()),
            count(counts.records),
            count(counts.duplicates),
            count(counts.rejects),
            count(counts.staged),
            one.map_or(if window.partitions.is_empty() { "-".into() } else { String::new() }, loaded),
        ]);
        for partition in window.partitions.iter().filter(|_| one.is_none()) {
            table.push(vec![
                String::new(),
                partition.day.to_string(),
                partition.partition.to_string(),
                String::new(),
                String::new(),
                String::new(),
                count(partition.staged),
                loaded(partition),
            ]);
        }
    }
    table.push(vec![
        String::new(),
        "total".into(),
        String::new(),
        count(totals.records),
        count(totals.duplicates),
        count(totals.rejects),
        count(totals.staged),
        count(receipt.loaded),
    ]);
    let mut text = aligned(&table);
    if receipt.until == Until::Decode {
        text = format!("{} records decoded, {} rejects\n", count(totals.records), count(totals.rejects));
    } else {
        text.push_str(&equation(totals));
    }
    if totals.outside > 0 {
        text.push_str(&format!("{} records outside of the range passed over\n", count(totals.outside)));
    }
    if totals.late > 0 {
        text.push_str(&format!("{} of them late, in the partitions of their own days\n", count(totals.late)));
    }
    if receipt.retries.total() > 0 {
        let Retries { source, store, bigquery } = receipt.retries;
        text.push_str(&format!("retries: {source} source, {store} staging area, {bigquery} BigQuery\n"));
    }
    let resumed = receipt.windows.iter().filter(|w| w.resumed).count();
    if resumed > 0 {
        text.push_str(&format!(
            "= {resumed} windows were there already, from an earlier run of this command\n"
        ));
    }
    let rates = match receipt.rows_per_second {
        rate if rate > 0.0 => format!(
            ", {} records/s, {}/s decoded",
            count(receipt.rows_per_second as u64),
            DecimalBytes(receipt.bytes_per_second as u64)
        ),
        _ => String::new(),
    };
    text.push_str(&format!(
        "{:.1} s{rates}, {} of Parquet, peak memory {}\n",
        receipt.seconds,
        DecimalBytes(receipt.staged_bytes),
        receipt.peak_rss_bytes.map_or("unknown".into(), |bytes| BinaryBytes(bytes).to_string()),
    ));
    text
}

/// Invariant 4, as a sentence.
fn equation(totals: &WindowCounts) -> String {
    let count = |n: u64| HumanCount(n).to_string();
    format!(
        "{} records in = {} staged + {} duplicates + {} rejects{}\n",
        count(totals.records),
        count(totals.staged),
        count(totals.duplicates),
        count(totals.rejects),
        if totals.filtered > 0 { format!(" + {} filtered", count(totals.filtered)) } else { String::new() },
    )
}

/// A result as JSON.
pub(super) fn json(result: &impl Serialize) -> Result<String> {
    let json = serde_json::to_string_pretty(result);
    json.map(|json| json + "\n").map_err(|e| Error::failed("cannot write the result").caused_by(e))
}

/// `1 row`, `1,234 rows`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// Query results as an aligned table with a header.
pub(super) fn rows(rows: &Rows) -> String {
    let mut table = vec![rows.columns.clone()];
    for row in &rows.rows {
        table.push(row.iter().map(|cell| cell.clone().unwrap_or_else(|| "NULL".into())).collect());
    }
    aligned(&table)
}

/// Columns to the right, as wide as their widest cell; a first column without any content is left out.
pub(super) fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |c: usize| table.iter().map(|row| row[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .filter(|(_, width)| **width > 0)
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        text.push_str(&cells.join("  "));
        text.push('\n');
    }
    text
}
