//! Where a backfill goes on: the windows after those that are loaded, up to now.
//!
//! All calls are one run, whose plan names no range: each finds the windows that the calls before it
//! began and did not finish, drives those to their end, and adds the new ones. A window that failed
//! holds none of the later ones up, and is tried again by every call until it is done. One that a run with
//! other settings left behind is filled too, unless it is staged: that run has to be resumed.

use chrono::NaiveDate;

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Standing};
use crate::partition::{SECONDS_PER_DAY, Window};
use crate::plan::Plan;

/// Up to where, and in which steps.
#[derive(Debug, Clone, Copy)]
pub struct Since {
    /// Where to begin while nothing is loaded: the second before the first.
    pub begin: Option<i64>,
    /// The last second; `None`: now.
    pub end: Option<i64>,
    pub window_seconds: i64,
}

/// The windows that are left, all of them whole: what comes after the last whole one is for the next call.
pub fn plan(pipeline: &Pipeline, ledger: &Ledger, since: Since, now_ms: u64) -> Result<Plan> {
    let seconds = since.window_seconds.max(1);
    let empty = Plan::continuing(pipeline, since.window_seconds, Vec::new())?;
    // What cannot be read may be loaded.
    ledger.verdict()?;
    let end = since.end.unwrap_or_else(|| now(pipeline.epoch, now_ms));
    let (mut done, mut begun, mut own, mut holes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in &ledger.runs {
        if run.plan.as_ref().is_none_or(|other| other.table != empty.document.table) {
            continue;
        }
        for window in &run.windows {
            let is_done = matches!(window.standing(), Standing::Done | Standing::Empty);
            if run.id == empty.run {
                own.push(window.window);
                if !is_done {
                    begun.push(window.window);
                }
            } else if !is_done && !window.entries.is_empty() {
                holes.push(window.window);
            }
            if is_done {
                done.push(window.window);
            }
        }
    }
    let mark = done.iter().map(|window| window.before).max();
    let Some(start) = own.iter().map(|window| window.after).min().or(mark).or(since.begin) else {
        return Err(Error::usage(format!("nothing of `{}` is loaded yet", pipeline.name))
            .hint("`--from 1` says where to begin; once something is loaded, that is where it goes on"));
    };
    let mut covered: Vec<Window> = done.into_iter().chain(begun.iter().copied()).collect();
    let mut windows = begun;
    let whole_end = end.div_euclid(seconds) * seconds;
    for piece in holes.into_iter().chain([Window { after: start, before: whole_end }]) {
        let new = uncovered(piece, &mut covered, seconds);
        covered.extend(&new);
        windows.extend(new);
    }
    windows.sort_unstable();
    Plan::continuing(pipeline, since.window_seconds, windows)
}

/// The parts of `piece` that nothing covers, cut.
fn uncovered(piece: Window, covered: &mut [Window], seconds: i64) -> Vec<Window> {
    covered.sort_unstable();
    let mut windows = Vec::new();
    let mut at = piece.after;
    for next in covered.iter().filter(|next| next.after < piece.before) {
        cut(at, next.after, seconds, &mut windows);
        at = at.max(next.before);
    }
    cut(at, piece.before, seconds, &mut windows);
    windows
}

/// Cuts at multiples of `seconds`, so that every call cuts at the same places.
fn cut(mut after: i64, end: i64, seconds: i64, windows: &mut Vec<Window>) {
    while after < end {
        let before = ((after.div_euclid(seconds) + 1) * seconds).min(end);
        windows.push(Window { after, before });
        after = before;
    }
}

/// The last second that is over, of a pipeline whose day 1 is `epoch`.
pub fn now(epoch: NaiveDate, now_ms: u64) -> i64 {
    let epoch_day = epoch.signed_duration_since(NaiveDate::default()).num_days();
    i64::try_from(now_ms / 1000).unwrap_or(i64::MAX).saturating_sub(epoch_day * SECONDS_PER_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_the_same_places_wherever_it_begins() {
        let cut = |after, end| {
            let mut windows = Vec::new();
            super::cut(after, end, 100, &mut windows);
            windows.into_iter().map(|w| (w.after, w.before)).collect::<Vec<_>>()
        };
        assert_eq!(cut(0, 300), [(0, 100), (100, 200), (200, 300)]);
        assert_eq!(cut(150, 300), [(150, 200), (200, 300)]);
        assert_eq!(cut(100, 250), [(100, 200), (200, 250)]);
        assert_eq!(cut(300, 300), []);
        assert_eq!(cut(400, 300), []);
    }

    #[test]
    fn what_is_covered_is_left_out_and_holes_are_filled() {
        let window = |(after, before)| Window { after, before };
        let mut covered = [(500, 600), (0, 200), (150, 250)].map(window);
        let left = |piece, covered: &mut [Window]| uncovered(window(piece), covered, 100);
        assert_eq!(
            left((0, 800), &mut covered),
            [(250, 300), (300, 400), (400, 500), (600, 700), (700, 800)].map(window)
        );
        assert_eq!(left((100, 240), &mut covered), []);
        assert_eq!(left((0, 0), &mut covered), []);
        assert_eq!(left((550, 650), &mut covered), [(600, 650)].map(window));
    }

    #[test]
    fn now_is_counted_from_the_pipelines_epoch() {
        let pipeline = Pipeline::resolve("flows", &[]).expect("a pipeline");
        // 2011-01-02 00:00:05 UTC is second 86,405 of a pipeline whose day 1 is 2011-01-01.
        assert_eq!(now(pipeline.epoch, 1_293_926_405_999), 86_405);
    }
}
