//! What a backfill did, counted: for people at the end of the run, and as JSON.

use std::time::Duration;

use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::config::Pipeline;
use crate::effects::Retries;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Loaded, Manifest, WindowCounts};
use crate::partition::{Partition, Window};
use crate::plan::{Plan, Until};
use crate::telemetry::peak_rss_bytes;

/// The whole run. `records = staged + duplicates + filtered + rejects`.
#[derive(Debug, Serialize)]
pub struct Receipt {
    pub pipeline: String,
    pub run: String,
    /// The last stage that was done.
    pub until: Until,
    pub range: Window,
    /// All windows together.
    pub totals: WindowCounts,
    /// Rows that BigQuery says it loaded.
    pub loaded: u64,
    /// Bytes of staged Parquet files.
    pub staged_bytes: u64,
    pub windows: Vec<WindowReceipt>,
    #[serde(serialize_with = "failures")]
    pub failed: Vec<(Window, Error)>,
    pub not_tried: Vec<Window>,
    pub seconds: f64,
    /// Of what this run fetched itself.
    pub rows_per_second: f64,
    pub bytes_per_second: f64,
    pub peak_rss_bytes: Option<u64>,
    /// Repeats after errors that may have been weather.
    pub retries: Retries,
}

#[derive(Debug, Serialize)]
pub struct WindowReceipt {
    pub window: Window,
    pub counts: WindowCounts,
    /// Fetched by this run, not by an earlier one of the same command.
    pub fetched: bool,
    /// Nothing was left to do.
    pub resumed: bool,
    pub partitions: Vec<PartitionReceipt>,
}

#[derive(Debug, Serialize)]
pub struct PartitionReceipt {
    pub partition: Partition,
    /// 1-based day.
    pub day: i64,
    pub staged: u64,
    pub loaded: Option<u64>,
    pub files: usize,
    pub bytes: u64,
    pub job_id: Option<String>,
}

impl WindowReceipt {
    pub(crate) fn decoded(window: Window, counts: WindowCounts) -> Self {
        WindowReceipt { window, counts, fetched: true, resumed: false, partitions: Vec::new() }
    }

    pub(crate) fn new(
        pipeline: &Pipeline,
        manifest: &Manifest,
        loaded: &[Loaded],
        fetched: bool,
        resumed: bool,
    ) -> Self {
        let partitions = manifest.partitions.iter().map(|staged| {
            let loaded = loaded.iter().find(|l| l.partition == staged.partition);
            PartitionReceipt {
                partition: staged.partition,
                day: staged.partition.day(pipeline.epoch),
                staged: staged.rows,
                loaded: loaded.map(|l| l.output_rows),
                files: staged.files.len(),
                bytes: staged.files.iter().map(|f| f.bytes).sum(),
                job_id: loaded.map(|l| l.job_id.clone()),
            }
        });
        let partitions = partitions.collect();
        WindowReceipt { window: manifest.window, counts: manifest.counts, fetched, resumed, partitions }
    }
}

impl Receipt {
    pub(crate) fn new(pipeline: &Pipeline, plan: &Plan, until: Until) -> Self {
        Receipt {
            pipeline: pipeline.name.clone(),
            run: plan.run.clone(),
            until,
            range: plan.range,
            totals: WindowCounts::default(),
            loaded: 0,
            staged_bytes: 0,
            windows: Vec::new(),
            failed: Vec::new(),
            not_tried: Vec::new(),
            seconds: 0.0,
            rows_per_second: 0.0,
            bytes_per_second: 0.0,
            peak_rss_bytes: None,
            retries: Retries::default(),
        }
    }

    pub(crate) fn finish(&mut self, elapsed: Duration, retries: Retries) {
        self.retries = retries;
        self.windows.sort_by_key(|w| w.window);
        self.failed.sort_by_key(|(window, _)| *window);
        let (mut fresh_records, mut fresh_bytes) = (0, 0);
        for window in &self.windows {
            self.totals += window.counts;
            if window.fetched {
                fresh_records += window.counts.records;
                fresh_bytes += window.counts.bytes;
            }
            for partition in &window.partitions {
                self.loaded += partition.loaded.unwrap_or(0);
                self.staged_bytes += partition.bytes;
            }
        }
        self.seconds = elapsed.as_secs_f64();
        self.rows_per_second = fresh_records as f64 / self.seconds.max(1e-9);
        self.bytes_per_second = fresh_bytes as f64 / self.seconds.max(1e-9);
        self.peak_rss_bytes = peak_rss_bytes();
    }

    /// The error that this run ends with, if it is not complete. `rejects_max` is what the user allows.
    pub fn verdict(&self, rejects_max: u64, resume: &str) -> Result<()> {
        if self.until >= Until::Stage && !self.totals.add_up() {
            return Err(Error::new(Kind::Mismatch, "the counts of this run do not add up"));
        }
        if !self.failed.is_empty() || !self.not_tried.is_empty() {
            let (window, cause) = match self.failed.first() {
                Some((window, cause)) => (window.to_string(), cause.to_string()),
                None => (String::from("a window"), String::from("was not tried")),
            };
            let more = match self.failed.len() + self.not_tried.len() {
                1 => String::new(),
                more => format!(" (and {} more windows)", more - 1),
            };
            let hint = match self.failed.first().and_then(|(_, error)| error.hint_text()) {
                Some(hint) => format!("{hint}; then resume with `{resume}`"),
                None => format!("resume with `{resume}`"),
            };
            let message = format!("incomplete: {window}{more}: {cause}");
            // Damage and mismatches need another look than windows that only did not make it.
            let worst = [Kind::Mismatch, Kind::Damaged, Kind::Fenced];
            let kind = worst.into_iter().find(|kind| self.failed.iter().any(|(_, e)| e.kind() == *kind));
            return Err(Error::new(kind.unwrap_or(Kind::Incomplete), message).hint(hint));
        }
        if self.totals.rejects > rejects_max {
            let message = format!("{} records were rejected, {rejects_max} are allowed", self.totals.rejects);
            return Err(Error::new(Kind::Incomplete, message).hint(format!(
                "they are in `{}/rejects/{}/` of the staging area; `--max-rejects N` allows some",
                self.pipeline, self.run
            )));
        }
        Ok(())
    }
}

/// A failed window as JSON: where, what, and nothing that was not meant for people.
struct Failure<'a>(&'a Window, &'a Error);

impl Serialize for Failure<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut failure = s.serialize_struct("Failure", 2)?;
        failure.serialize_field("window", self.0)?;
        failure.serialize_field("error", &self.1.to_string())?;
        failure.end()
    }
}

fn failures<S: serde::Serializer>(failed: &[(Window, Error)], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(failed.iter().map(|(window, error)| Failure(window, error)))
}
