//! What a proof has found, for people and as JSON, and the exit code that follows from it.

use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::ledger::batches::run_of;
use crate::ledger::{Ledger, Standing};
use crate::partition::{Partition, Window};

/// What was proven, and everything that could not be.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub pipeline: String,
    pub runs: Vec<String>,
    /// The warehouse was left out.
    pub offline: bool,
    pub checked: Checked,
    pub mismatches: Vec<Mismatch>,
    /// Windows that are not in their partitions, with the reason where one is known.
    pub unfinished: Vec<Unfinished>,
    /// Tables that rows were streamed to: how many of each day is not in the journal.
    pub not_compared: Vec<String>,
    /// Partitions that another run has loaded since.
    pub superseded: Vec<Superseded>,
    /// Plans and journal entries that cannot be read, of any run.
    pub damaged: Vec<Damaged>,
    pub peak_rss_bytes: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
pub struct Checked {
    pub windows: u64,
    /// Of the pipeline's gateway.
    pub batches: u64,
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
    pub rows: u64,
    pub rejects_files: u64,
    /// Partitions held against the warehouse, empty days included.
    pub partitions: u64,
    /// Windows for which the source gave its count.
    pub source_counts: u64,
}

/// Two sides that should be the same.
#[derive(Debug, Serialize)]
pub struct Mismatch {
    pub run: String,
    pub window: Window,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    pub what: String,
    pub expected: String,
    pub found: String,
}

#[derive(Debug, Serialize)]
pub struct Unfinished {
    pub run: String,
    pub window: Window,
    pub state: Standing,
    pub reason: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Superseded {
    pub run: String,
    pub partition: Partition,
    pub by: String,
}

#[derive(Debug, Serialize)]
pub struct Damaged {
    pub run: String,
    pub window: Option<Window>,
    pub error: String,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mismatch { run, window, partition, file, what, expected, found } = self;
        write!(f, "run `{run}`, {window}")?;
        if let Some(partition) = partition {
            write!(f, ", partition `{partition}`")?;
        }
        if let Some(file) = file {
            write!(f, ", file `{file}`")?;
        }
        write!(f, ": {what}: expected {expected}, found {found}")
    }
}

impl Report {
    /// The error that the command ends with, unless all holds and nothing is left to do.
    pub fn verdict(&self, ledger: &Ledger) -> Result<()> {
        // Without the journal there is nothing to hold anything against.
        ledger.verdict()?;
        if let Some(first) = self.mismatches.first() {
            let more = match self.mismatches.len() {
                1 => String::new(),
                more => format!(" (and {} more)", more - 1),
            };
            let next = match first.run.starts_with("gateway") {
                true => {
                    "compare the table with what was sent: what a gateway has loaded it does not load again"
                }
                false => {
                    "the same backfill loads a changed partition again, and fetches again what is still to load; \
                     with `--new-run` it does both for all"
                }
            };
            return Err(Error::new(Kind::Mismatch, format!("{first}{more}")).hint(next));
        }
        if let Some(Unfinished { run, window, state, .. }) = self.unfinished.first() {
            let more = match self.unfinished.len() {
                1 => String::new(),
                more => format!(" (and {} more windows)", more - 1),
            };
            let state = if *state == Standing::Missing { "not staged" } else { "not loaded" };
            let message = format!("run `{run}` is incomplete: {window}{more} {state}");
            let next = match run.starts_with(&run_of("")) {
                true => "the gateway loads it, once it is started",
                false => "the same backfill resumes",
            };
            return Err(Error::new(Kind::Incomplete, message)
                .hint(format!("what is there is right; {next}, and `api2bq status` shows what is left")));
        }
        Ok(())
    }
}
