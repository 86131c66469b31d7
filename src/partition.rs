//! Source windows and the BigQuery day partitions they fill.
//!
//! A window is `(after, before]` in seconds of source time. Second `s` belongs to day
//! `day0 = (s - 1) div 86400`, so 86400 is the last second of the first day; users see
//! `day = day0 + 1`. The partition of a day is the pipeline's epoch date plus `day0`.

use std::fmt;

use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub const SECONDS_PER_DAY: i64 = 86_400;
/// BigQuery's limit of partitions per table.
const PARTITIONS_MAX: i64 = 10_000;

/// Seconds of source time, `after` exclusive and `before` inclusive, so that windows tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Window {
    pub after: i64,
    pub before: i64,
}

impl Window {
    pub fn contains(self, second: i64) -> bool {
        self.after < second && second <= self.before
    }

    /// Cuts into windows of `seconds`; the last one is shorter when they do not divide evenly.
    pub fn split(self, seconds: i64) -> Vec<Window> {
        let mut windows = Vec::new();
        let mut after = self.after;
        while after < self.before {
            let before = after.saturating_add(seconds).min(self.before);
            windows.push(Window { after, before });
            after = before;
        }
        windows
    }

    /// True when every day it touches lies wholly inside, so that it may replace their partitions.
    pub fn covers_whole_days(self) -> bool {
        self.after.rem_euclid(SECONDS_PER_DAY) == 0 && self.before.rem_euclid(SECONDS_PER_DAY) == 0
    }

    /// First and last 1-based day.
    pub fn days(self) -> (i64, i64) {
        (day_of(self.after.saturating_add(1)), day_of(self.before))
    }

    /// What its records may be of, 1-based: also the days before it that are late by no more than `late`.
    pub fn days_with_late(self, late: i64) -> (i64, i64) {
        let (first, last) = self.days();
        (first.saturating_sub(late), last)
    }

    pub fn overlaps(self, other: Window) -> bool {
        self.after < other.before && other.after < self.before
    }

    /// For a column of a table: `3`, `3-5`, `3 06:00-09:00`.
    pub fn label(self) -> String {
        let (first, last) = self.days();
        match (self.covers_whole_days(), first == last) {
            (true, true) => first.to_string(),
            (true, false) => format!("{first}-{last}"),
            (false, true) => {
                let midnight = (first - 1) * SECONDS_PER_DAY;
                let time = |second: i64| {
                    let (minutes, seconds) = (second / 60, second % 60);
                    let seconds = if seconds == 0 { String::new() } else { format!(":{seconds:02}") };
                    format!("{:02}:{:02}{seconds}", minutes / 60, minutes % 60)
                };
                format!("{first} {}-{}", time(self.after - midnight), time(self.before - midnight))
            }
            (false, false) => format!("{}s-{}s", self.after, self.before),
        }
    }

    /// Name in the staging area: sorts as the windows do, up to 10^10 seconds.
    pub fn key(self) -> String {
        format!("{:010}-{:010}", self.after, self.before)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.days();
        match self.covers_whole_days() {
            true if first == last => write!(f, "day {first}"),
            true => write!(f, "days {first}-{last}"),
            false => write!(f, "seconds ({}, {}]", self.after, self.before),
        }
    }
}

/// Windows in order of time as a person would list them: neighbours together, the end of a long list cut.
pub fn spans(windows: impl IntoIterator<Item = Window>) -> String {
    const SHOWN: usize = 10;
    let mut spans: Vec<(Window, usize)> = Vec::new();
    for window in windows {
        match spans.last_mut() {
            Some((span, windows)) if span.before == window.after => {
                (span.before, *windows) = (window.before, *windows + 1);
            }
            _ => spans.push((window, 1)),
        }
    }
    let left: usize = spans.iter().skip(SHOWN).map(|(_, windows)| windows).sum();
    let shown: Vec<_> = spans.iter().take(SHOWN).map(|(span, _)| span.to_string()).collect();
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// A length of time in its largest whole unit: `1d`, `3h`, `90m`, `45s`.
pub fn length(seconds: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(SECONDS_PER_DAY, "d"), (3600, "h"), (60, "m")];
    let unit = UNITS.iter().find(|(unit, _)| seconds > 0 && seconds % unit == 0);
    unit.map_or_else(|| format!("{seconds}s"), |(unit, letter)| format!("{}{letter}", seconds / unit))
}

/// Seconds of a length as [`length`] writes it.
pub fn parse_length(text: &str) -> Result<i64, String> {
    let seconds = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "d" => SECONDS_PER_DAY,
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        number.parse::<i64>().ok()?.checked_mul(unit).filter(|seconds| *seconds > 0)
    };
    seconds().ok_or_else(|| "want a length, as `1d`, `3h` or `90m`".into())
}

/// 1-based day of a second.
pub fn day_of(second: i64) -> i64 {
    second.saturating_sub(1).div_euclid(SECONDS_PER_DAY) + 1
}

/// A day partition, `YYYYMMDD` after the `$` of a table decorator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(NaiveDate);

impl Partition {
    /// The partition of a 1-based `day` of a pipeline whose day 1 is `epoch`.
    pub fn of_day(epoch: NaiveDate, day: i64) -> Result<Partition> {
        let date = match day.saturating_sub(1) {
            ahead @ 0.. => epoch.checked_add_days(Days::new(ahead.unsigned_abs())),
            behind => epoch.checked_sub_days(Days::new(behind.unsigned_abs())),
        };
        match date {
            // BigQuery's own range of ingestion-time partitions.
            Some(date) if (1..=9999).contains(&chrono::Datelike::year(&date)) => Ok(Partition(date)),
            _ => Err(Error::usage(format!("day {day} after `{epoch}` is no date BigQuery can hold"))),
        }
    }

    pub fn day(self, epoch: NaiveDate) -> i64 {
        self.0.signed_duration_since(epoch).num_days() + 1
    }

    pub fn from_date(date: NaiveDate) -> Partition {
        Partition(date)
    }

    pub fn date(self) -> NaiveDate {
        self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y%m%d"))
    }
}

impl Serialize for Partition {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        // chrono also takes years with a sign or more digits, which are no decorator of BigQuery's.
        if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) || text.starts_with("0000") {
            return Err(serde::de::Error::custom(format!("`{text}` is no YYYYMMDD")));
        }
        NaiveDate::parse_from_str(&text, "%Y%m%d").map(Partition).map_err(serde::de::Error::custom)
    }
}

/// One end of `--from` or `--to`: a day number, a date, or seconds with an `s` behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Day(i64),
    Date(NaiveDate),
    Seconds(i64),
}

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Bound, String> {
        if let Some(seconds) = text.strip_suffix('s').and_then(|s| s.parse().ok()) {
            return Ok(Bound::Seconds(seconds));
        }
        if let Ok(day) = text.parse::<i64>() {
            return if day >= 1 { Ok(Bound::Day(day)) } else { Err("days count from 1".into()) };
        }
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .map(Bound::Date)
            .map_err(|_| "want a day number (`3`), a date (`2011-01-03`) or seconds (`259200s`)".into())
    }
}

/// The window from the start of `from` to the end of `to`; seconds are taken as they are.
pub fn range(from: Bound, to: Bound, epoch: NaiveDate) -> Result<Window> {
    let first_day = |bound| match bound {
        Bound::Day(day) => Ok(day),
        Bound::Date(date) => Ok(Partition(date).day(epoch)),
        Bound::Seconds(seconds) => Err(seconds),
    };
    let seconds = |days: i64| {
        days.checked_mul(SECONDS_PER_DAY).ok_or_else(|| Error::usage(format!("day {days} is out of range")))
    };
    let after = first_day(from).map_or_else(Ok, |day| seconds(day - 1))?;
    let before = first_day(to).map_or_else(Ok, seconds)?;
    if after >= before {
        return Err(Error::usage(format!("the range from second {after} to second {before} is empty"))
            .hint("`--from` is the first day and `--to` the last, both included"));
    }
    let days = before.saturating_sub(after) / SECONDS_PER_DAY;
    if days > PARTITIONS_MAX {
        return Err(Error::usage(format!(
            "{days} days are more than the {PARTITIONS_MAX} partitions of a table"
        ))
        .hint("a plain number is a day; seconds end in `s`, as `259200s`"));
    }
    Partition::of_day(epoch, day_of(before))?;
    if after < 0 {
        return Err(Error::usage(format!("`--from` lies before the pipeline's epoch `{epoch}`"))
            .hint("set `time.epoch` of the pipeline to an earlier date"));
    }
    Ok(Window { after, before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch() -> NaiveDate {
        NaiveDate::from_ymd_opt(2011, 1, 1).expect("a date")
    }

    #[test]
    fn second_86400_is_the_last_of_day_one() {
        assert_eq!((day_of(1), day_of(86_400), day_of(86_401)), (1, 1, 2));
        assert_eq!(day_of(0), 0);
        let partition = Partition::of_day(epoch(), 32).expect("a partition");
        assert_eq!((partition.to_string().as_str(), partition.day(epoch())), ("20110201", 32));
    }

    #[test]
    fn days_are_inclusive_at_both_ends() {
        let window = range(Bound::Day(1), Bound::Day(3), epoch()).expect("a range");
        assert_eq!(window, Window { after: 0, before: 259_200 });
        let days = window.split(SECONDS_PER_DAY);
        assert_eq!(days.len(), 3);
        assert!(days.windows(2).all(|w| w[0].before == w[1].after));
        assert_eq!(days[2].to_string(), "day 3");
        let dates =
            range("2011-01-01".parse().expect("a date"), "2011-01-03".parse().expect("a date"), epoch());
        assert_eq!(dates.expect("a range"), window);
    }

    #[test]
    fn neighbours_are_listed_together_and_a_long_list_is_cut() {
        let day = |day: i64| Window { after: (day - 1) * SECONDS_PER_DAY, before: day * SECONDS_PER_DAY };
        assert_eq!(spans([day(3)]), "day 3");
        assert_eq!(spans([1, 2, 3, 7, 9, 10].map(day)), "days 1-3, day 7, days 9-10");
        let odd = spans((0..50).map(|n| day(2 * n + 1)));
        assert!(odd.starts_with("day 1, day 3, ") && odd.ends_with("day 19 and 40 more"), "{odd}");
    }

    #[test]
    fn lengths_are_read_as_they_are_written() {
        for text in ["1d", "7d", "3h", "90m", "45s", "1h", "86401s"] {
            assert_eq!(length(parse_length(text).expect(text)), text);
        }
        assert_eq!(length(parse_length("24h").expect("a day")), "1d");
        for wrong in ["", "d", "1", "0h", "-1d", "1.5h", "1w", "9223372036854775807d", "1ä", "ä"] {
            assert!(parse_length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn empty_and_backward_ranges_are_refused() {
        assert!(range(Bound::Day(3), Bound::Day(2), epoch()).is_err());
        assert!(range(Bound::Seconds(5), Bound::Seconds(5), epoch()).is_err());
        assert!(range(Bound::Date(NaiveDate::MIN), Bound::Day(2), epoch()).is_err());
        assert!("2026-02-30".parse::<Bound>().is_err());
        // From the fuzzer: the number of days did not fit, and a debug build panicked.
        assert!(range(Bound::Seconds(i64::MIN), Bound::Seconds(5), epoch()).is_err());
        assert!(range(Bound::Seconds(1), Bound::Seconds(i64::MAX), epoch()).is_err());
        assert!("0".parse::<Bound>().is_err());
        assert!(range(Bound::Day(1), Bound::Day(i64::MAX), epoch()).is_err());
        assert!(Partition::of_day(epoch(), 4_000_000).is_err());
    }

    /// Journals can be damaged, and what they say is shown in errors: that must not panic.
    #[test]
    fn any_window_has_a_name_and_only_decorators_are_partitions() {
        let window = Window { after: i64::MIN, before: i64::MAX };
        assert!(window.to_string().starts_with("seconds ("));
        assert!(window.key().len() > 21);
        for text in ["\"20110101\"", "\"99991231\""] {
            assert_eq!(serde_json::to_string(&read(text).expect(text)).expect("text"), text);
        }
        for text in ["\"+20110101\"", "\"120110101\"", "\"00000101\"", "\"2011-1-1\"", "\"20110230\""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    fn read(text: &str) -> serde_json::Result<Partition> {
        serde_json::from_str(text)
    }
}
