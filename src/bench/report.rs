//! What a bench found, as it is printed and kept. The fields of the JSON form stay; new ones may come.

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::machine::{Build, Machine};
use super::statistics::Spread;
use super::task::{Sample, Stage, Task};
use super::usage::ANCHOR;
use super::{Input, Options};
use crate::error::{Error, Result};

/// Raised when a field changes its meaning or goes away.
pub(super) const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub format: u32,
    /// When it began, as `2026-11-22T03:00:00Z`.
    pub started: String,
    pub machine: Machine,
    pub build: Build,
    pub work: Work,
    /// What `to_anchor` is measured against.
    pub anchor: String,
    pub stages: Vec<StageReport>,
    /// `None` where only the whole run was measured.
    pub bottleneck: Option<Bottleneck>,
}

/// What was done. Only benches of the same work can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    pub pipeline: String,
    /// `generated`, `source` or `staged`.
    pub input: String,
    /// Records to generate, and over how many days.
    pub rows: Option<u64>,
    pub days: Option<u32>,
    pub windows: usize,
    /// Windows at work at once.
    pub jobs: usize,
    pub runs: u32,
    pub warm_up: u32,
}

impl Work {
    pub(super) fn new(options: &Options, task: &Task) -> Work {
        let (input, rows, days) = match options.input {
            Input::Generated { rows, days } => ("generated", Some(rows), Some(days)),
            Input::Source { .. } => ("source", None, None),
            Input::Staged { .. } => ("staged", None, None),
        };
        Work {
            pipeline: options.pipeline.clone(),
            input: input.to_owned(),
            rows,
            days,
            windows: task.windows.len(),
            jobs: task.jobs,
            runs: task.runs,
            warm_up: task.warm_up,
        }
    }
}

/// One stage over all its runs. Figures without a spread are medians, peaks are the highest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    pub stage: Stage,
    /// Rows that it took in, in each run.
    pub rows: Option<u64>,
    pub bytes: u64,
    /// `body`, `values` (columns in memory) or `parquet`.
    pub bytes_of: String,
    pub seconds: Spread,
    pub rows_per_second: Option<f64>,
    pub bytes_per_second: f64,
    /// Time against the anchor's in the same run: what can be compared between benches.
    pub to_anchor: Spread,
    pub cpu_seconds: f64,
    pub allocations: Option<f64>,
    pub allocated_bytes: Option<f64>,
    pub peak_rss_bytes: Option<u64>,
    /// Of the servers it asked: the source, the embedded BigQuery.
    pub servers_cpu_seconds: Option<f64>,
    pub servers_peak_rss_bytes: Option<u64>,
    pub runs: Vec<Sample>,
}

impl StageReport {
    pub(super) fn new(stage: Stage, runs: Vec<Sample>) -> Result<StageReport> {
        let nothing = || Error::failed("there is no run to tell of");
        let first = runs.first().ok_or_else(nothing)?;
        let (rows, bytes) = (first.rows, first.bytes);
        if let Some(other) = runs.iter().find(|run| (run.rows, run.bytes) != (rows, bytes)) {
            let of =
                |sample: &Sample| format!("{:?} rows and {} bytes", sample.rows.unwrap_or(0), sample.bytes);
            return Err(Error::failed(format!(
                "its runs did not do the same: one took in {}, another {}",
                of(first),
                of(other)
            ))
            .hint("the source's records changed meanwhile; measure when they rest"));
        }
        let spread = |of: fn(&Sample) -> f64| Spread::of(runs.iter().map(of)).ok_or_else(nothing);
        let median =
            |of: fn(&Sample) -> Option<f64>| Spread::of(runs.iter().filter_map(of)).map(|s| s.median);
        let seconds = spread(|run| run.seconds)?;
        Ok(StageReport {
            stage,
            rows,
            bytes,
            bytes_of: stage.bytes_of().to_owned(),
            seconds,
            rows_per_second: rows.map(|rows| rate(rows, seconds.median)),
            bytes_per_second: rate(bytes, seconds.median),
            to_anchor: spread(|run| run.seconds / run.anchor_seconds.max(1e-9))?,
            cpu_seconds: spread(|run| run.cpu_seconds)?.median,
            allocations: median(|run| run.allocations.map(|n| n as f64)),
            allocated_bytes: median(|run| run.allocated_bytes.map(|n| n as f64)),
            peak_rss_bytes: runs.iter().filter_map(|run| run.peak_rss_bytes).max(),
            servers_cpu_seconds: median(|run| run.servers_cpu_seconds),
            servers_peak_rss_bytes: runs.iter().filter_map(|run| run.servers_peak_rss_bytes).max(),
            runs,
        })
    }
}

fn rate(number: u64, seconds: f64) -> f64 {
    number as f64 / seconds.max(1e-9)
}

/// The stage that holds the whole run up: alone, over the same windows and as many at once, it takes longest.
///
/// Stages before `load` overlap in the whole run, so their times do not add up to its time; but none of it
/// can be faster than its slowest stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bottleneck {
    pub stage: Stage,
    pub seconds: f64,
    /// Of the time of the whole run, where that was measured.
    pub share_of_whole: Option<f64>,
}

impl Bottleneck {
    fn of(stages: &[StageReport]) -> Option<Bottleneck> {
        let (wholes, parts): (Vec<_>, Vec<_>) = stages.iter().partition(|of| of.stage == Stage::Whole);
        let slowest = parts.into_iter().max_by(|a, b| a.seconds.median.total_cmp(&b.seconds.median))?;
        let seconds = slowest.seconds.median;
        let share_of_whole = wholes.first().map(|whole| seconds / whole.seconds.median.max(1e-9));
        Some(Bottleneck { stage: slowest.stage, seconds, share_of_whole })
    }
}

impl Report {
    pub(super) fn new(started_unix_ms: u64, work: Work, mut stages: Vec<StageReport>) -> Report {
        // A source that counts nothing sends as many records as are decoded.
        let decoded = stages.iter().find(|of| of.stage == Stage::Decode).and_then(|of| of.rows);
        for fetch in stages.iter_mut().filter(|of| of.stage == Stage::Fetch && of.rows.is_none()) {
            fetch.rows = decoded;
            fetch.rows_per_second = decoded.map(|rows| rate(rows, fetch.seconds.median));
        }
        let started = i64::try_from(started_unix_ms).ok().and_then(DateTime::from_timestamp_millis);
        Report {
            format: FORMAT,
            started: started.map_or_else(String::new, |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string()),
            machine: Machine::this(),
            build: Build::this(),
            work,
            anchor: ANCHOR.to_owned(),
            bottleneck: Bottleneck::of(&stages),
            stages,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn sample(seconds: f64, anchor_seconds: f64) -> Sample {
        Sample {
            seconds,
            anchor_seconds,
            rows: Some(1000),
            bytes: 5000,
            cpu_seconds: seconds,
            allocations: None,
            allocated_bytes: None,
            peak_rss_bytes: Some(1 << 20),
            servers_cpu_seconds: None,
            servers_peak_rss_bytes: None,
        }
    }

    pub(in crate::bench) fn report(stages: &[(Stage, f64)], anchor_seconds: f64) -> Report {
        let stages = stages.iter().map(|(stage, seconds)| {
            StageReport::new(*stage, vec![sample(*seconds, anchor_seconds); 3]).expect("runs")
        });
        let work = Work {
            pipeline: "flows".into(),
            input: "generated".into(),
            rows: Some(1000),
            days: Some(1),
            windows: 1,
            jobs: 2,
            runs: 3,
            warm_up: 1,
        };
        Report::new(0, work, stages.collect())
    }

    #[test]
    fn the_bottleneck_is_the_slowest_part_and_never_the_whole() {
        let stages = [(Stage::Decode, 0.2), (Stage::Load, 0.5), (Stage::Promote, 0.3), (Stage::Whole, 2.0)];
        let bottleneck = report(&stages, 0.01).bottleneck.expect("one");
        assert_eq!((bottleneck.stage, bottleneck.share_of_whole), (Stage::Load, Some(0.25)));
        assert_eq!(report(&stages[3..], 0.01).bottleneck, None);
    }

    #[test]
    fn runs_that_did_not_do_the_same_are_no_figure() {
        let other = Sample { bytes: 5001, ..sample(1.0, 0.1) };
        let error = StageReport::new(Stage::Fetch, vec![sample(1.0, 0.1), other]).expect_err("not the same");
        assert!(error.to_string().contains("5001 bytes"), "{error}");
    }
}
