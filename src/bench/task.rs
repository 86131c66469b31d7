//! What this process and the child that measures a stage tell each other.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::partition::Window;

/// What is measured; in the order in which a record passes, and then all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Fetch,
    Decode,
    Transform,
    Stage,
    Load,
    Promote,
    /// `backfill`, then `promote`.
    Whole,
}

impl Stage {
    pub const ALL: [Stage; 7] = [
        Stage::Fetch,
        Stage::Decode,
        Stage::Transform,
        Stage::Stage,
        Stage::Load,
        Stage::Promote,
        Stage::Whole,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Fetch => "fetch",
            Stage::Decode => "decode",
            Stage::Transform => "transform",
            Stage::Stage => "stage",
            Stage::Load => "load",
            Stage::Promote => "promote",
            Stage::Whole => "whole",
        }
    }

    /// What its bytes are bytes of.
    pub fn bytes_of(self) -> &'static str {
        match self {
            Stage::Fetch | Stage::Decode | Stage::Whole => "body",
            Stage::Transform | Stage::Stage => "values",
            Stage::Load | Stage::Promote => "parquet",
        }
    }

    /// Takes in bodies that were fetched before, or what comes of them.
    pub fn works_on_bodies(self) -> bool {
        matches!(self, Stage::Decode | Stage::Transform | Stage::Stage)
    }

    pub fn works_on_staged_files(self) -> bool {
        matches!(self, Stage::Load | Stage::Promote)
    }

    pub fn needs_bigquery(self) -> bool {
        matches!(self, Stage::Load | Stage::Promote | Stage::Whole)
    }

    pub fn needs_source(self) -> bool {
        matches!(self, Stage::Fetch | Stage::Whole)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Stage, String> {
        let found = Stage::ALL.into_iter().find(|stage| stage.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Stage::ALL.into_iter().map(Stage::name).collect();
            format!("no stage `{text}`; there are {}", names.join(", "))
        })
    }
}

/// Holds a stage up by so much for every 1,000 rows: `decode=200us/1000rows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    pub stage: Stage,
    pub per_1000_rows: Duration,
}

impl Slow {
    /// The wait after `rows` rows of `stage`; the whole run waits for the part of it that is slow.
    pub fn wait(self, stage: Stage, rows: u64) -> Duration {
        let is_meant = stage == self.stage || stage == Stage::Whole;
        if is_meant { self.per_1000_rows.mul_f64(rows as f64 / 1000.0) } else { Duration::ZERO }
    }
}

impl FromStr for Slow {
    type Err = String;

    fn from_str(text: &str) -> Result<Slow, String> {
        let wrong = || "want a stage and a wait, as `decode=200us/1000rows`".to_owned();
        let (stage, wait) = text.split_once('=').ok_or_else(wrong)?;
        let micros = wait.strip_suffix("us/1000rows").and_then(|micros| micros.parse().ok());
        let per_1000_rows = Duration::from_micros(micros.ok_or_else(wrong)?);
        Ok(Slow { stage: stage.parse()?, per_1000_rows })
    }
}

/// Everything that a child needs to know. On its stdin, since settings may be secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) stage: Stage,
    pub(super) pipeline: String,
    pub(super) set: Vec<String>,
    pub(super) range: Window,
    pub(super) windows: Vec<Window>,
    pub(super) jobs: usize,
    pub(super) runs: u32,
    pub(super) warm_up: u32,
    pub(super) slow: Option<Slow>,
    /// A folder for what is made on the way.
    pub(super) scratch: PathBuf,
    pub(super) bodies: Vec<BodyFile>,
    /// Staged files are those of this run of the pipeline, of its newest where empty; `None`: those that
    /// were staged into the scratch folder.
    pub(super) staged_run: Option<String>,
    /// URL of the embedded BigQuery.
    pub(super) bigquery: Option<String>,
    pub(super) source_pid: Option<u32>,
    pub(super) bigquery_pid: Option<u32>,
}

/// A body as it came, after decompression.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BodyFile {
    pub(super) window: Window,
    pub(super) file: PathBuf,
    pub(super) media_type: Option<String>,
    pub(super) framed: bool,
    pub(super) records: Option<u64>,
    pub(super) bytes: u64,
}

/// A line of the child's stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// A warm-up has ended, and nothing of it counts.
    WarmedUp,
    Sample(Sample),
    Failed {
        message: String,
        hint: Option<String>,
        usage: bool,
    },
}

/// One run of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub seconds: f64,
    /// Time of the anchor, right before.
    pub anchor_seconds: f64,
    /// Rows that the stage took in; of the fetch, what its source says.
    pub rows: Option<u64>,
    /// Bytes that it took in.
    pub bytes: u64,
    pub cpu_seconds: f64,
    /// `None` where the program was built without counters.
    pub allocations: Option<u64>,
    pub allocated_bytes: Option<u64>,
    /// Without the input that the bench itself holds in memory. `None` where the system does not say.
    pub peak_rss_bytes: Option<u64>,
    /// Of the servers that answered: the source, the embedded BigQuery. In steps of 10 ms.
    pub servers_cpu_seconds: Option<f64>,
    /// Highest so far, all servers together.
    pub servers_peak_rss_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_stage_waits_and_so_does_the_whole_run_and_nothing_else() {
        let slow: Slow = "decode=200us/1000rows".parse().expect("a wait");
        assert_eq!(slow.wait(Stage::Decode, 5000), Duration::from_millis(1));
        assert_eq!(slow.wait(Stage::Whole, 5000), Duration::from_millis(1));
        assert_eq!(slow.wait(Stage::Load, 5000), Duration::ZERO);
        for wrong in ["", "decode", "decode=1ms/1000rows", "encode=1us/1000rows", "decode=us/1000rows"] {
            assert!(wrong.parse::<Slow>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_stage_is_found_by_its_name() {
        for stage in Stage::ALL {
            assert_eq!(stage.to_string().parse(), Ok(stage));
            assert_eq!(serde_json::to_value(stage).expect("JSON"), stage.name());
        }
        assert!("all".parse::<Stage>().is_err_and(|e| e.contains("fetch, decode")));
    }
}
