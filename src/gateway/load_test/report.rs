//! What a load test found.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use serde::Serialize;

use super::{Options, micros};
use crate::error::{Error, Kind, Result};
use crate::gateway::client::Client;

/// All figures of one test.
#[derive(Debug, Serialize)]
pub struct Report {
    pub pipeline: String,
    pub url: String,
    pub seed: u64,
    /// What was asked for.
    pub requests_per_second_wanted: u32,
    pub seconds_wanted: u32,
    pub rows_per_request: u32,
    pub connections: u32,
    /// Fewer than were asked for when it was interrupted.
    pub requests: u64,
    pub is_interrupted: bool,
    pub requests_accepted: u64,
    pub rows_accepted: u64,
    pub rows_rejected: u64,
    /// Requests that were not accepted: `503 spool_full`, `timed out`, and how many.
    pub failures: BTreeMap<String, u64>,
    /// From the first request to the last answer.
    pub seconds: f64,
    pub requests_per_second: f64,
    pub rows_per_second: f64,
    /// Of the accepted requests, from when each was due.
    pub latency: Milliseconds,
    /// From when a request was due until it had a connection.
    pub sent_after: Milliseconds,
    /// Of that, what this program itself was late.
    pub generator_lag: Milliseconds,
    pub disk: Option<Fsync>,
}

/// A distribution, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Milliseconds {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

/// What one write of 4 KiB and its fdatasync take, one after the other, on a disk that does nothing else.
#[derive(Debug, Serialize)]
pub struct Fsync {
    pub folder: String,
    pub writes: u64,
    pub latency: Milliseconds,
}

/// Beyond this a request was late, and no timer's fault.
const LATE_MS: f64 = 5.0;

impl Report {
    /// `sent`: requests that had left when the test was interrupted, if it was.
    pub(super) fn new(
        options: &Options,
        client: &Client,
        tally: &Tally,
        sent: Option<u64>,
        start: Instant,
        lag: &Histogram<u64>,
        disk: Option<Fsync>,
    ) -> Report {
        let seconds = tally.last.map_or(0.0, |last| last.saturating_duration_since(start).as_secs_f64());
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let requests_accepted = tally.latency.len();
        Report {
            pipeline: options.pipeline.clone(),
            url: client.shown_url().to_owned(),
            seed: options.seed,
            requests_per_second_wanted: options.rate,
            seconds_wanted: options.seconds,
            rows_per_request: options.rows_per_request,
            connections: options.connections,
            requests: sent.unwrap_or_else(|| options.requests()),
            is_interrupted: sent.is_some(),
            requests_accepted,
            rows_accepted: tally.rows_accepted,
            rows_rejected: tally.rows_rejected,
            failures: tally.failures.clone(),
            seconds,
            requests_per_second: per_second(requests_accepted),
            rows_per_second: per_second(tally.rows_accepted),
            latency: Milliseconds::of(&tally.latency),
            sent_after: Milliseconds::of(&tally.sent_after),
            generator_lag: Milliseconds::of(lag),
            disk,
        }
    }

    /// What may be wrong with the figures themselves.
    pub fn warnings(&self) -> Vec<String> {
        let (lag, sent) = (self.generator_lag.p99, self.sent_after.p99);
        let mut warnings = Vec::new();
        if lag > LATE_MS {
            warnings.push(format!(
                "the generator itself fell behind, by {lag:.1} ms at p99: this machine is too busy for the rate, and the latencies have that in them"
            ));
        }
        if sent - lag > LATE_MS {
            warnings.push(format!(
                "requests waited for a free connection, {sent:.1} ms at p99: the gateway is slower than the rate, or `--connections` is too low"
            ));
        }
        warnings
    }

    /// An error, unless every row of every request was accepted.
    pub fn verdict(&self) -> Result<()> {
        let count = |n: u64| HumanCount(n).to_string();
        if self.is_interrupted {
            return Err(Error::new(
                Kind::Interrupted,
                "interrupted; the report is about what was sent by then",
            ));
        }
        if !self.failures.is_empty() {
            let failed = self.failures.values().sum();
            let message = format!("{} of {} requests failed", count(failed), count(self.requests));
            return Err(Error::failed(format!("{message}: {}", self.failed().join(", "))));
        }
        if self.rows_rejected > 0 {
            return Err(Error::failed(format!("{} rows were rejected", count(self.rows_rejected)))
                .hint("compare the pipeline's columns with what `GET /v1/<pipeline>/metadata` says"));
        }
        Ok(())
    }

    /// `12 x 503 spool_full`, the most frequent one first.
    pub fn failed(&self) -> Vec<String> {
        let mut failures: Vec<_> = self.failures.iter().collect();
        failures.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        failures.into_iter().map(|(what, count)| format!("{} x {what}", HumanCount(*count))).collect()
    }
}

impl Milliseconds {
    pub(super) fn of(micros: &Histogram<u64>) -> Milliseconds {
        let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1000.0;
        let max = micros.max() as f64 / 1000.0;
        // A bucket's end may be beyond the longest that was seen.
        let at = |quantile| f64::min(at(quantile), max);
        Milliseconds { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

/// What has been seen so far.
#[derive(Debug)]
pub(super) struct Tally {
    latency: Histogram<u64>,
    sent_after: Histogram<u64>,
    failures: BTreeMap<String, u64>,
    rows_accepted: u64,
    rows_rejected: u64,
    last: Option<Instant>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            latency: latencies(),
            sent_after: latencies(),
            failures: BTreeMap::new(),
            rows_accepted: 0,
            rows_rejected: 0,
            last: None,
        }
    }

    pub(super) fn sent(&mut self, after: Duration) {
        self.sent_after.saturating_record(micros(after));
    }

    pub(super) fn taken(&mut self, accepted: u64, rejected: u64, latency: Duration, ended_at: Instant) {
        self.latency.saturating_record(micros(latency));
        self.rows_accepted += accepted;
        self.rows_rejected += rejected;
        self.last = self.last.max(Some(ended_at));
    }

    pub(super) fn failed(&mut self, what: String, ended_at: Instant) {
        *self.failures.entry(what).or_default() += 1;
        self.last = self.last.max(Some(ended_at));
    }

    /// Of `sent` requests, those that are neither accepted nor failed have had no answer.
    pub(super) fn interrupted(&mut self, sent: u64) {
        let unanswered = sent.saturating_sub(self.latency.len() + self.failures.values().sum::<u64>());
        if unanswered > 0 {
            self.failures.insert("unanswered".to_owned(), unanswered);
        }
    }
}

/// From a microsecond to an hour, in three digits.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in their order")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values_and_never_beyond_the_longest() {
        let mut histogram = latencies();
        (1..=1000).for_each(|n| histogram.saturating_record(n * 1000));
        let found = Milliseconds::of(&histogram);
        for (found, exact) in
            [(found.p50, 500.0), (found.p90, 900.0), (found.p99, 990.0), (found.p999, 999.0)]
        {
            assert!((found - exact).abs() <= exact / 1000.0, "{found} for {exact}");
        }
        assert!(found.max >= 1000.0 && found.max < 1001.0 && found.p999 <= found.max);
        assert_eq!(Milliseconds::of(&latencies()).max, 0.0);
    }
}
