//! Runs and windows for a terminal.

use indicatif::HumanCount;

use super::{Report, ShownWindow, Tally, date_of};
use crate::cli::output;
use crate::ledger::Standing;
use crate::partition::length;
use crate::render::chart::bar;

pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    for damaged in &report.damaged {
        text += &format!("damaged: {}\n", damaged.error);
    }
    if let Some(gateway) = &report.gateway {
        text += &gateway.text();
        if report.runs.is_empty() {
            return text;
        }
        text.push('\n');
    }
    if report.runs.is_empty() {
        return text + &format!("`{}` has no runs in `{}` yet\n", report.pipeline, report.stage);
    }
    let mut table = vec![
        ["run", "range", "window", "last written", "done", "empty", "open", "failed", "missing"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for run in &report.runs {
        let Tally { done, empty, open, failed, missing, damaged } = run.windows;
        let windows =
            [done, empty, open, failed, missing + damaged].map(|n| HumanCount(n as u64).to_string());
        let range = run.range.map_or("?".to_owned(), |range| range.to_string());
        let window = run.window_seconds.map_or("?".to_owned(), length);
        let fixed = [run.run.clone(), range, window, date_of(run.written_unix_ms)];
        table.push(fixed.into_iter().chain(windows).collect());
    }
    text += &output::aligned(&table);
    let Some(run) = &report.run else { return text };
    text += &format!("\nwindows of run `{}`\n", run.run);
    text + &chart(&run.windows, output::width(), output::is_styled())
}

/// One line of the chart.
struct Bar {
    cells: Vec<String>,
    state: Standing,
    /// `None` of a line that is no day's.
    rows: Option<u64>,
    remark: String,
}

/// A line a day with its rows as a bar. A day without records is no gap, and does not look like one.
fn chart(windows: &[ShownWindow], width: usize, styled: bool) -> String {
    let bars: Vec<Bar> = windows.iter().flat_map(bars).collect();
    let header = ["day", "partition", "state", "records", "duplicates", "rejects", "staged"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    table.extend(bars.iter().map(|bar| bar.cells.clone()));
    let table = output::aligned(&table);
    let mut lines = table.lines();
    let most = bars.iter().filter_map(|bar| bar.rows).max().unwrap_or(0);
    let taken = lines.clone().map(|line| line.chars().count()).max().unwrap_or(0);
    let room = width.saturating_sub(taken + 2).clamp(10, 100);
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, bar) in lines.zip(&bars) {
        let (color, plain) = match bar.state {
            _ if !styled => ("", ""),
            Standing::Failed | Standing::Missing | Standing::Damaged => ("\x1b[31m", "\x1b[0m"),
            Standing::Open => ("\x1b[33m", "\x1b[0m"),
            Standing::Done | Standing::Empty => ("", ""),
        };
        let drawn = match bar.rows {
            Some(rows) => drawn(rows, most, room),
            None => bar.remark.clone(),
        };
        text += format!("{color}{line}  {drawn}{plain}").trim_end();
        text.push('\n');
    }
    text
}

/// The lines of one window: one, or one of its own and one for each of its days.
fn bars(window: &ShownWindow) -> Vec<Bar> {
    let count = |n: u64| HumanCount(n).to_string();
    let days = window.window.label();
    let counts = match &window.counts {
        Some(c) => [c.records, c.duplicates, c.rejects, c.staged].map(count),
        None => std::array::from_fn(|_| String::new()),
    };
    let reason = match window.why() {
        "" => String::new(),
        why => format!("✗ {why}"),
    };
    let one = match &window.partitions[..] {
        [one] => Some(one),
        _ => None,
    };
    let [records, duplicates, rejects, staged] = counts;
    let partition = one.map_or(String::new(), |one| one.partition.to_string());
    let state = window.state.word().to_owned();
    let mut bars = vec![Bar {
        cells: vec![days, partition, state, records, duplicates, rejects, staged],
        state: window.state,
        rows: one.map(|one| one.rows).filter(|_| reason.is_empty()),
        remark: reason,
    }];
    for day in window.partitions.iter().filter(|_| one.is_none()) {
        let state = if day.rows == 0 { Standing::Empty.word() } else { "" };
        let mut cells = vec![day.day.to_string(), day.partition.to_string(), state.to_owned()];
        cells.extend([String::new(), String::new(), String::new(), count(day.rows)]);
        bars.push(Bar { cells, state: window.state, rows: Some(day.rows), remark: String::new() });
    }
    bars
}

/// `rows` of `most`; any row at all is seen, and none is a dot.
fn drawn(rows: u64, most: u64, room: usize) -> String {
    match rows {
        0 => "·".to_owned(),
        rows => bar(rows as f64 / most.max(1) as f64, room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_rows_and_never_invisible() {
        assert_eq!(drawn(100, 100, 10), "██████████");
        assert_eq!(drawn(50, 100, 10), "█████");
        assert_eq!(drawn(56, 100, 10), "█████▌");
        assert_eq!(drawn(1, u64::MAX, 10), "▏");
        assert_eq!(drawn(u64::MAX, u64::MAX, 10), "██████████");
        assert_eq!(drawn(0, 100, 10), "·");
        assert_eq!(drawn(0, 0, 10), "·");
    }
}
