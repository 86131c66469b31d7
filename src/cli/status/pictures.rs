//! The pictures of the page, as SVG in its colours.

use std::collections::BTreeMap;

use indicatif::HumanCount;

use super::html::escaped;
use super::{ShownWindow, date_of};
use crate::ledger::{LedgerWindow, Run};
use crate::manifest::Event;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 70.0;
const DAYS_HEIGHT: f64 = 190.0;

/// One column: a day with what all windows of it brought, or lack.
#[derive(Default)]
struct Day {
    /// `None` where no window of it is staged.
    rows: Option<u64>,
    loaded: u64,
    /// Windows, and those that are not there.
    windows: usize,
    gaps: Vec<String>,
}

/// A bar for each day. A day of a window that is not staged is a gap, and looks like one; a day without
/// records is a line.
pub(super) fn days(windows: &[ShownWindow]) -> String {
    let days = by_day(windows);
    if days.is_empty() {
        return "<p>No days.</p>".to_owned();
    }
    let most = days.values().filter_map(|day| day.rows).max().unwrap_or(0).max(1);
    let step = (WIDTH - LEFT) / days.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", DAYS_HEIGHT + 26.0);
    for share in [0.0, 0.5, 1.0] {
        let y = DAYS_HEIGHT - share * (DAYS_HEIGHT - 16.0);
        let rows = HumanCount((share * most as f64) as u64);
        svg += &format!("<line class=\"axis\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/>");
        svg += &format!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{rows}</text>", LEFT - 6.0, y + 4.0);
    }
    let every = (days.len() / 20 + 1).next_power_of_two();
    for (place, (number, day)) in days.iter().enumerate() {
        let (x, wide) = (LEFT + place as f64 * step, (step * 0.84).max(0.5));
        let (class, height) = match day.rows {
            None => ("gap", DAYS_HEIGHT - 16.0),
            Some(rows) => {
                let class = if rows > day.loaded { "wait" } else { "bar" };
                (class, (rows as f64 / most as f64 * (DAYS_HEIGHT - 16.0)).max(1.0))
            }
        };
        svg += &format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{height:.1}\">\
             <title>{}</title></rect>",
            DAYS_HEIGHT - height,
            escaped(&day.said(*number))
        );
        if !day.gaps.is_empty() {
            svg += &format!(
                "<rect class=\"gapmark\" x=\"{x:.1}\" y=\"{}\" width=\"{wide:.1}\" height=\"3\"/>",
                DAYS_HEIGHT - 3.0
            );
        }
        if place % every == 0 {
            let (x, y) = (x + wide / 2.0, DAYS_HEIGHT + 18.0);
            svg += &format!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{number}</text>");
        }
    }
    svg + "</svg><p class=\"soft key\"><span style=\"background:var(--bar)\"></span>loaded\
           <span style=\"background:var(--wait)\"></span>staged, not all of it loaded\
           <span style=\"background:var(--bad)\"></span>gap: not staged, or not readable</p>"
}

impl Day {
    fn said(&self, number: i64) -> String {
        let gaps = match self.gaps.first() {
            Some(first) if self.windows > 1 => {
                format!("; {} of {} windows are not there, the first {first}", self.gaps.len(), self.windows)
            }
            Some(first) => format!(": {first}"),
            None => String::new(),
        };
        let Some(rows) = self.rows else { return format!("day {number}{gaps}") };
        let state = match (rows, self.loaded) {
            (0, _) => "no records".to_owned(),
            (rows, loaded) if rows == loaded => "loaded".to_owned(),
            (_, 0) => "staged, not loaded".to_owned(),
            (_, loaded) => format!("{} of them loaded", HumanCount(loaded)),
        };
        format!("day {number}: {} rows, {state}{gaps}", HumanCount(rows))
    }
}

/// Windows may be shorter than a day, and bring late rows of days before.
fn by_day(windows: &[ShownWindow]) -> BTreeMap<i64, Day> {
    let mut days: BTreeMap<i64, Day> = BTreeMap::new();
    for window in windows {
        for shown in &window.partitions {
            let day = days.entry(shown.day).or_default();
            *day.rows.get_or_insert_default() += shown.rows;
            day.loaded += shown.loaded.unwrap_or(0);
            day.windows += 1;
        }
        if window.partitions.is_empty() {
            let (first, last) = window.window.days();
            for number in first..=last {
                let day = days.entry(number).or_default();
                day.windows += 1;
                let state = window.state.word();
                day.gaps.push(match window.why() {
                    "" => state.to_owned(),
                    why => format!("{state}: {why}"),
                });
            }
        }
    }
    days
}

/// What the journal tells of a window's time, in milliseconds since 1970.
struct Times {
    /// When its reading began; runs before this was written down do not tell.
    reading: Option<u64>,
    staged: Option<u64>,
    loaded: Option<u64>,
    /// Of attempts that ended badly.
    stopped: Vec<u64>,
}

fn times(window: &LedgerWindow) -> Times {
    let mut times = Times { reading: None, staged: None, loaded: None, stopped: Vec::new() };
    for entry in &window.entries {
        match &entry.event {
            Event::Intent(manifest) => {
                let staged = entry.written_unix_ms;
                times.reading = manifest.fetch_ms.map(|took| staged.saturating_sub(took));
                times.staged = Some(staged);
            }
            Event::Loaded { .. } | Event::Streamed(_) => times.loaded = Some(entry.written_unix_ms),
            Event::Failed { .. } | Event::Stopped { .. } => times.stopped.push(entry.written_unix_ms),
        }
    }
    times
}

/// A line for each window: when it was read and staged, and from then until its rows were in.
pub(super) fn timeline(run: &Run) -> String {
    let windows: Vec<(&LedgerWindow, Times)> =
        run.windows.iter().map(|window| (window, times(window))).collect();
    let all = windows.iter().flat_map(|(_, times)| {
        times.stopped.iter().copied().chain(times.reading).chain(times.staged).chain(times.loaded)
    });
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
        if let (Some(reading), Some(staged)) = (times.reading, times.staged) {
            let (took, wide) = (staged.saturating_sub(reading), (x(staged) - x(reading)).max(1.0));
            mark("read", x(reading), wide, format!("{took} ms from its request to staged"));
        }
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
           <span style=\"background:var(--read)\"></span>read\
           <span style=\"background:var(--bar)\"></span>staged\
           <span style=\"background:var(--load)\"></span>until its rows were counted in the table\
           <span style=\"background:var(--bad)\"></span>an attempt that ended badly</p>"
        + &format!("<p class=\"soft\">From the journal, which begins with {begins}.</p>")
}

#[cfg(test)]
mod tests {
    use super::super::ShownDay;
    use super::*;
    use crate::ledger::Standing;
    use crate::partition::{Partition, SECONDS_PER_DAY, Window};

    fn window(after: i64, before: i64, state: Standing, rows: &[(i64, u64, Option<u64>)]) -> ShownWindow {
        let shown = |&(day, rows, loaded): &(i64, u64, Option<u64>)| {
            let partition = Partition::of_day(chrono::NaiveDate::default(), day).expect("a day");
            ShownDay { partition, day, rows, loaded, job_id: None }
        };
        ShownWindow {
            window: Window { after, before },
            state,
            reason: None,
            counts: None,
            entries: 0,
            epoch: None,
            written_unix_ms: None,
            partitions: rows.iter().map(shown).collect(),
        }
    }

    #[test]
    fn windows_of_one_day_are_one_bar() {
        let (day, half) = (SECONDS_PER_DAY, SECONDS_PER_DAY / 2);
        let windows = [
            window(0, half, Standing::Done, &[(1, 5, Some(5))]),
            window(half, day, Standing::Missing, &[]),
            // One row of it is late.
            window(day, day + half, Standing::Open, &[(1, 1, None), (2, 7, None)]),
            window(2 * day, 3 * day, Standing::Empty, &[(3, 0, None)]),
        ];
        let svg = days(&windows);
        let missing = "1 of 3 windows are not there, the first missing: never begun";
        for said in [
            &*format!("<title>day 1: 6 rows, 5 of them loaded; {missing}"),
            "<title>day 2: 7 rows, staged, not loaded</title>",
            "<title>day 3: 0 rows, no records</title>",
        ] {
            assert!(svg.contains(said), "{said}: {svg}");
        }
        assert_eq!((svg.matches("<rect class=\"wait\"").count(), svg.matches("gapmark").count()), (2, 1));
    }
}
