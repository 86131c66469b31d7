//! The pictures of the page, as SVG in its colours.

use indicatif::HumanCount;

use super::html::escaped;
use super::{ShownWindow, date_of};
use crate::ledger::{LedgerWindow, Run, Standing};
use crate::manifest::Event;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 70.0;
const DAYS_HEIGHT: f64 = 190.0;

/// One column: a day with its rows, or days of a window that are not there.
struct Day {
    day: i64,
    rows: Option<u64>,
    state: Standing,
    why: String,
}

/// A bar for each day. A day of a window that is not staged is a gap, and looks like one; a day without
/// records is a line.
pub(super) fn days(windows: &[ShownWindow]) -> String {
    let days: Vec<Day> = windows.iter().flat_map(days_of).collect();
    if days.is_empty() {
        return "<p>No days.</p>".to_owned();
    }
    let most = days.iter().filter_map(|day| day.rows).max().unwrap_or(0).max(1);
    let step = (WIDTH - LEFT) / days.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", DAYS_HEIGHT + 26.0);
    for share in [0.0, 0.5, 1.0] {
        let y = DAYS_HEIGHT - share * (DAYS_HEIGHT - 16.0);
        let rows = HumanCount((share * most as f64) as u64);
        svg += &format!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/>");
        svg += &format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{rows}</text>", LEFT - 6.0, y + 4.0);
    }
    let every = (days.len() / 20 + 1).next_power_of_two();
    for (place, day) in days.iter().enumerate() {
        let (x, wide) = (LEFT + place as f64 * step, (step * 0.84).max(0.5));
        let (class, height) = match day.rows {
            None => ("gap", DAYS_HEIGHT - 16.0),
            Some(rows) => ("bar", (rows as f64 / most as f64 * (DAYS_HEIGHT - 16.0)).max(1.0)),
        };
        let said = match day.rows {
            Some(rows) => format!("day {}: {} rows, {}", day.day, HumanCount(rows), day.state.word()),
            None => format!("day {}: {}: {}", day.day, day.state.word(), day.why),
        };
        let class = if class == "bar" && matches!(day.state, Standing::Open | Standing::Failed) {
            "wait"
        } else {
            class
        };
        svg += &format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{height:.1}\">\
             <title>{}</title></rect>",
            DAYS_HEIGHT - height,
            escaped(&said)
        );
        if day.rows.is_none() {
            svg += &format!(
                "<rect class=\"gapmark\" x=\"{x:.1}\" y=\"{}\" width=\"{wide:.1}\" height=\"3\"/>",
                DAYS_HEIGHT - 3.0
            );
        }
        if place % every == 0 {
            let (x, y) = (x + wide / 2.0, DAYS_HEIGHT + 18.0);
            svg += &format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", day.day);
        }
    }
    svg + "</svg><p class=\"soft key\"><span style=\"background:var(--bar)\"></span>loaded\
           <span style=\"background:var(--wait)\"></span>staged, not loaded\
           <span style=\"background:var(--bad)\"></span>gap: not staged, or not readable</p>"
}

fn days_of(window: &ShownWindow) -> Vec<Day> {
    let why = window.why();
    let state = window.state;
    if window.partitions.is_empty() {
        let (first, last) = window.window.days();
        return (first..=last).map(|day| Day { day, rows: None, state, why: why.to_owned() }).collect();
    }
    let day = |day: &super::ShownDay| Day { day: day.day, rows: Some(day.rows), state, why: String::new() };
    window.partitions.iter().map(day).collect()
}

/// What the journal tells of a window's time, in milliseconds since 1970.
struct Times {
    staged: Option<u64>,
    loaded: Option<u64>,
    /// Of attempts that ended badly.
    stopped: Vec<u64>,
}

fn times(window: &LedgerWindow) -> Times {
    let mut times = Times { staged: None, loaded: None, stopped: Vec::new() };
    for entry in &window.entries {
        match &entry.event {
            Event::Intent(_) => times.staged = times.staged.or(Some(entry.written_unix_ms)),
            Event::Loaded { .. } => times.loaded = Some(entry.written_unix_ms),
            Event::Failed { .. } | Event::Stopped { .. } => times.stopped.push(entry.written_unix_ms),
        }
    }
    times
}

/// A line for each window: when it was staged, and from then until its rows were in.
pub(super) fn timeline(run: &Run) -> String {
    let windows: Vec<(&LedgerWindow, Times)> =
        run.windows.iter().map(|window| (window, times(window))).collect();
    let all = windows
        .iter()
        .flat_map(|(_, times)| times.stopped.iter().copied().chain(times.staged).chain(times.loaded));
    let (Some(from), Some(to)) = (all.clone().min(), all.max()) else {
        return "<p>Nothing has been written down yet.</p>".to_owned();
    };
    // A staging area that was copied has the times of its copy.
    let begun = run.begun_unix_ms.filter(|begun| *begun <= from);
    let begins = if begun.is_some() { "the run's plan" } else { "its first entry" };
    let from = begun.unwrap_or(from);
    let span = (to - from).max(1) as f64;
    let x = |at: u64| LEFT + at.saturating_sub(from) as f64 / span * (WIDTH - LEFT - 10.0);
    let line = (600.0 / windows.len() as f64).clamp(2.0, 14.0);
    let height = line * windows.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", height + 26.0);
    svg += &format!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{height}\" y2=\"{height}\"/>");
    let every = (windows.len() / 40 + 1).next_power_of_two();
    for (place, (window, times)) in windows.iter().enumerate() {
        let (y, thick) = (place as f64 * line, line * 0.8);
        let day = window.window.days().0;
        if place % every == 0 {
            svg += &format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{day}</text>",
                LEFT - 6.0,
                y + thick
            );
        }
        let mut mark = |class: &str, at: f64, wide: f64, said: String| {
            svg += &format!(
                "<rect class=\"{class}\" x=\"{at:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{thick:.1}\">\
                 <title>day {day}: {said}</title></rect>"
            );
        };
        if let (Some(staged), Some(loaded)) = (times.staged, times.loaded) {
            let took = loaded.saturating_sub(staged);
            let wide = (x(loaded) - x(staged)).max(1.0);
            mark("load", x(staged), wide, format!("{took} ms from staged to loaded"));
        }
        if let Some(staged) = times.staged {
            mark("staged", x(staged) - 2.0, 4.0, format!("staged {}", date_of(staged)));
        }
        for stopped in &times.stopped {
            mark("gapmark", x(*stopped) - 2.0, 4.0, format!("stopped {}", date_of(*stopped)));
        }
    }
    svg += &format!("<text x=\"{LEFT}\" y=\"{}\">{}</text>", height + 18.0, date_of(from));
    let took = format!("{:.1} s later", (to - from) as f64 / 1000.0);
    svg += &format!("<text x=\"{WIDTH}\" y=\"{}\" text-anchor=\"end\">{took}</text></svg>", height + 18.0);
    svg + "<p class=\"soft key\">A line for each window, named by its first day.\
           <span style=\"background:var(--bar)\"></span>staged\
           <span style=\"background:var(--load)\"></span>until its rows were counted in the table\
           <span style=\"background:var(--bad)\"></span>an attempt that ended badly</p>"
        + &format!(
            "<p class=\"soft\">From the journal, which begins with {begins}. When the reading of a window \
             began is not in it.</p>"
        )
}
