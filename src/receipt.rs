//! What a backfill did, counted: for people at the end of the run, and as JSON.

use std::time::Duration;

use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::config::Pipeline;
use crate::effects::Retries;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Loaded, Manifest, WindowCounts};
use crate::partition::{Partition, Window, spans};
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

    /// The windows that are missing and why, a line each; a long list is cut.
    pub fn missing(&self) -> Vec<String> {
        let shown = self.failed.iter().take(MISSING_SHOWN);
        let mut lines: Vec<_> = shown.map(|(window, error)| format!("missing: {window}: {error}")).collect();
        let rest = self.failed.get(MISSING_SHOWN..).unwrap_or_default();
        if !rest.is_empty() {
            let spans = spans(rest.iter().map(|(window, _)| *window));
            lines.push(format!("missing: {} more: {spans}", rest.len()));
        }
        if !self.not_tried.is_empty() {
            lines.push(format!("missing: {}: not tried", spans(self.not_tried.iter().copied())));
        }
        lines
    }

    /// The error that this run ends with, if it is not complete. `allowed` is what the user allows.
    pub fn verdict(&self, allowed: Allowed, resume: &str) -> Result<()> {
        if self.until >= Until::Stage && !self.totals.add_up() {
            return Err(Error::new(Kind::Mismatch, "the counts of this run do not add up"));
        }
        if !self.failed.is_empty() || !self.not_tried.is_empty() {
            let (window, cause) = match self.failed.first() {
                Some((window, cause)) => (window.to_string(), cause.to_string()),
                None => (spans(self.not_tried.iter().copied()), String::from("not tried")),
            };
            let more = match self.failed.len() + self.not_tried.len() {
                _ if self.failed.is_empty() => String::new(),
                1 => String::new(),
                2 => " (and 1 more window)".to_owned(),
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
        let WindowCounts { records, rejects, .. } = self.totals;
        if !allowed.allows(rejects, records) {
            let share = 100.0 * rejects as f64 / records.max(1) as f64;
            let share = if share < 0.01 { "less than 0.01".to_owned() } else { format!("{share:.2}") };
            let message =
                format!("{rejects} records were rejected, {allowed} are allowed: {share} % of {records}");
            return Err(Error::new(Kind::Incomplete, message).hint(format!(
                "`api2bq rejects {}` shows them; `--max-rejects N` or `N%` allows some",
                self.pipeline
            )));
        }
        Ok(())
    }
}

/// Lines that say why windows are missing. More of them would push the first ones off the screen.
const MISSING_SHOWN: usize = 10;

/// How many rejects a complete run may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    Records(u64),
    /// Of all records, in millionths.
    Share(u32),
}

impl Allowed {
    pub fn allows(self, rejects: u64, records: u64) -> bool {
        match self {
            Allowed::Records(allowed) => rejects <= allowed,
            Allowed::Share(millionths) => {
                u128::from(rejects) * 1_000_000 <= u128::from(millionths) * u128::from(records)
            }
        }
    }
}

impl std::str::FromStr for Allowed {
    type Err = String;

    /// `N`, or `N%` with up to four decimals.
    fn from_str(text: &str) -> Result<Allowed, String> {
        let wrong = || "want a number (`10`) or a share (`0.5%`) of at most 100%".to_owned();
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Allowed::Records).map_err(|_| wrong());
        };
        let (whole, decimals) = percent.split_once('.').unwrap_or((percent, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 4 {
            return Err(wrong());
        }
        let millionths: u32 = format!("{whole}{decimals:0<4}").parse().map_err(|_| wrong())?;
        if millionths > 1_000_000 { Err(wrong()) } else { Ok(Allowed::Share(millionths)) }
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Allowed::Records(allowed) => write!(f, "{allowed}"),
            Allowed::Share(millionths) => {
                let percent = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
                write!(f, "{}%", percent.trim_end_matches('0').trim_end_matches('.'))
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::SECONDS_PER_DAY;

    #[test]
    fn a_share_of_rejects_is_exact() {
        let allowed = |text: &str| text.parse::<Allowed>().expect("a limit");
        for text in ["0", "10", "0%", "1%", "0.5%", "0.0001%", "12.25%", "100%"] {
            assert_eq!(allowed(text).to_string(), text);
        }
        assert_eq!(allowed("1.50%").to_string(), "1.5%");
        for wrong in
            ["", "%", "-1", "-1%", "1.%", ".5%", "0.00001%", "100.0001%", "101%", "1e3%", "1 %", "many"]
        {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
        assert!(allowed("0.1%").allows(1, 1000) && !allowed("0.1%").allows(1, 999));
        assert!(
            allowed("100%").allows(u64::MAX, u64::MAX) && !allowed("99.9999%").allows(u64::MAX, u64::MAX)
        );
        assert!(allowed("0%").allows(0, 0) && !allowed("0%").allows(1, u64::MAX));
        assert!(allowed("3").allows(3, 3) && !allowed("3").allows(4, 1_000_000));
    }

    fn after(failed: usize, not_tried: usize) -> (Vec<String>, Error) {
        let pipeline = Pipeline::resolve("flows", &[]).expect("a pipeline");
        let range = Window { after: 0, before: 200 * SECONDS_PER_DAY };
        let plan = Plan::new(&pipeline, range, SECONDS_PER_DAY, false, "").expect("a plan");
        let mut receipt = Receipt::new(&pipeline, &plan, Until::Load);
        let mut windows = plan.windows.iter().copied();
        let broke = |window| (window, Error::failed("it broke off").hint("look why"));
        receipt.failed = windows.by_ref().take(failed).map(broke).collect();
        receipt.not_tried = windows.take(not_tried).collect();
        let error = receipt.verdict(Allowed::Records(0), "api2bq again").expect_err("not complete");
        (receipt.missing(), error)
    }

    #[test]
    fn what_is_missing_is_named_with_reason_and_resume_however_much_it_is() {
        let (one, error) = after(1, 0);
        assert_eq!(one, ["missing: day 1: it broke off"]);
        assert_eq!(error.to_string(), "incomplete: day 1: it broke off");
        assert_eq!(error.hint_text(), Some("look why; then resume with `api2bq again`"));
        assert_eq!(error.kind(), Kind::Incomplete);

        let (three, error) = after(3, 0);
        assert_eq!(three.len(), 3);
        assert_eq!(error.to_string(), "incomplete: day 1 (and 2 more windows): it broke off");

        let (hundred, error) = after(100, 100);
        assert_eq!(hundred.len(), 12);
        assert_eq!(hundred[10], "missing: 90 more: days 11-100");
        assert_eq!(hundred[11], "missing: days 101-200: not tried");
        assert_eq!(error.to_string(), "incomplete: day 1 (and 199 more windows): it broke off");

        let (untried, error) = after(0, 2);
        assert_eq!(untried, ["missing: days 1-2: not tried"]);
        assert_eq!(error.to_string(), "incomplete: days 1-2: not tried");
    }
}
