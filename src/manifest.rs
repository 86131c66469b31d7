//! What one window staged and what became of it: the entries of a window's journal.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::partition::{Partition, Window};

/// One numbered, create-only object of a window's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The run whose chain this is.
    pub run: String,
    /// From 1, without gaps.
    pub number: u32,
    /// Which process wrote it, counted from 1: one more than all before, when it first writes here.
    pub epoch: u32,
    /// SHA-256 of the previous entry's bytes, empty in the first.
    pub previous: String,
    /// Random: two writers of the same number can tell whose entry was stored.
    pub nonce: String,
    /// For people; nothing is decided by it.
    pub written_unix_ms: u64,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The window's files are durable and their load jobs may start. The commit point.
    Intent(Manifest),
    /// The job of one partition failed for good; the next generation may load the same files.
    Failed { partition: Partition, generation: u32, job_id: String, reason: String },
    /// Every partition of the intent is in its table, and the rows were counted there.
    Loaded { partitions: Vec<Loaded> },
    /// An attempt at the window ended here. For people: nothing is decided by it.
    Stopped { reason: String },
    /// Rows of the gateway that went without a load job: each of them has its answer.
    Streamed(Streamed),
}

impl Entry {
    /// Reads an entry as it was stored. It says nothing of its place in a chain.
    pub fn parse(bytes: &[u8]) -> Result<Entry> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::new(Kind::Damaged, "it is not readable").caused_by(e))
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
            .map_err(|e| Error::failed("cannot write a journal entry").caused_by(e))
    }

    /// Checks that this is the entry of `run` that comes after `chain`, whose last one hashes to `previous`.
    pub fn follows(&self, run: &str, chain: &[Entry], previous: &str) -> Result<()> {
        let damaged = |why: &str| Err(Error::new(Kind::Damaged, why));
        if self.run != run {
            return Err(Error::new(
                Kind::Fenced,
                format!("it was written by run `{}`, not `{run}`", self.run),
            ));
        }
        if usize::try_from(self.number).ok() != chain.len().checked_add(1) || self.previous != previous {
            return damaged("it does not follow the entry before it");
        }
        if self.epoch < chain.last().map_or(1, |before| before.epoch) {
            return damaged("its epoch is older than that of the entry before it");
        }
        let intended = chain.iter().any(|entry| matches!(entry.event, Event::Intent(_)));
        match &self.event {
            Event::Intent(_) if intended => damaged("it is a second intent"),
            Event::Intent(manifest) if !manifest.adds_up() => damaged("its counts do not add up"),
            Event::Failed { .. } | Event::Loaded { .. } if !intended => {
                damaged("it tells of a load that nothing before it intends")
            }
            Event::Streamed(_) if !chain.is_empty() => damaged("its rows are those of a load"),
            Event::Streamed(streamed) if !streamed.adds_up() => damaged("its counts do not add up"),
            _ => Ok(()),
        }
    }
}

/// What the entries of a chain say together.
#[derive(Debug, Clone, Default)]
pub struct WindowState<'c> {
    /// The files that were staged, and will be loaded.
    pub manifest: Option<&'c Manifest>,
    /// Set while nothing is known that undid it.
    pub loaded: Option<&'c [Loaded]>,
    /// Why the last attempt ended, unless it ended well.
    pub stopped: Option<&'c str>,
    /// Set where rows went without a load job.
    pub streamed: Option<&'c Streamed>,
    /// The failed jobs, in order.
    pub failures: Vec<(Partition, u32)>,
}

impl<'c> WindowState<'c> {
    pub fn of(entries: &'c [Entry]) -> Self {
        let mut state = WindowState::default();
        for entry in entries {
            state.stopped = None;
            match &entry.event {
                // The first one counts; a chain has no second.
                Event::Intent(manifest) => state.manifest = state.manifest.or(Some(manifest)),
                Event::Failed { partition, generation, reason, .. } => {
                    state.failures.push((*partition, *generation));
                    state.stopped = Some(reason);
                    // What was loaded was found changed since; it has to be loaded again.
                    state.loaded = None;
                }
                Event::Loaded { partitions } => state.loaded = Some(partitions),
                Event::Stopped { reason } => state.stopped = Some(reason),
                Event::Streamed(streamed) => state.streamed = Some(streamed),
            }
        }
        state
    }

    /// The generation of a partition's next job: ids of failed jobs are burnt.
    pub fn generation(&self, of: Partition) -> u32 {
        let failed = self.failures.iter().filter(|(partition, _)| *partition == of);
        failed.map(|(_, generation)| generation.saturating_add(1)).max().unwrap_or(0)
    }
}

/// Everything that loading needs to know of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub window: Window,
    pub counts: WindowCounts,
    pub target: Target,
    pub partitions: Vec<StagedPartition>,
    /// The rejects that were kept, a line each. Other files beside it are of attempts before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<StagedFile>,
    /// How long the attempt took from the first request to the last file. For forecasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch_ms: Option<u64>,
    /// Of a gateway's batch: the segments whose rows it has. One that was damaged may be missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
}

/// What a load job does with the rows that are in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are replaced: the job brings whole days.
    Replace,
    /// They stay: the job brings a part of a day, or what came late.
    Append,
}

impl Mode {
    /// In BigQuery's words, as intents have it.
    pub fn disposition(self) -> &'static str {
        match self {
            Mode::Replace => "WRITE_TRUNCATE",
            Mode::Append => "WRITE_APPEND",
        }
    }
}

/// What the load jobs of a manifest will write to, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `project.dataset.table`; each partition is `$YYYYMMDD` of it.
    pub table: String,
    pub location: String,
    pub write_disposition: String,
}

impl Target {
    pub fn appends(&self) -> bool {
        self.write_disposition == Mode::Append.disposition()
    }
}

impl Manifest {
    /// Invariant 4, and every staged row in a file.
    pub fn adds_up(&self) -> bool {
        let sum = |rows: &mut dyn Iterator<Item = u64>| rows.map(u128::from).sum::<u128>();
        let files = |staged: &StagedPartition| sum(&mut staged.files.iter().map(|file| file.rows));
        self.counts.add_up()
            && sum(&mut self.partitions.iter().map(|staged| staged.rows)) == u128::from(self.counts.staged)
            && self.partitions.iter().all(|staged| files(staged) == u128::from(staged.rows))
    }
}

/// `records = staged + duplicates + filtered + rejects`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCounts {
    /// Records of the window that the source sent.
    pub records: u64,
    /// Rows in staged files.
    pub staged: u64,
    /// Records that a later version of the same key in the same day replaced.
    pub duplicates: u64,
    /// Rows that the pipeline's own SQL leaves out; only where `transform.allow_filter` is set.
    pub filtered: u64,
    /// Records with a wrong value.
    pub rejects: u64,
    /// Records outside of the range, passed over. Only whole files have such.
    pub outside: u64,
    /// Of `records`, those that are older than the window. They are in the partitions of their own days.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late: u64,
    /// Bytes decoded, after decompression.
    pub bytes: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl WindowCounts {
    pub fn add_up(&self) -> bool {
        // In 128 bits: the numbers may come from a damaged journal, whose sum need not fit.
        let parts = [self.staged, self.duplicates, self.filtered, self.rejects];
        u128::from(self.records) == parts.into_iter().map(u128::from).sum()
    }
}

impl std::ops::AddAssign for WindowCounts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.staged += other.staged;
        self.duplicates += other.duplicates;
        self.filtered += other.filtered;
        self.rejects += other.rejects;
        self.outside += other.outside;
        self.late += other.late;
        self.bytes += other.bytes;
    }
}

/// The files of one day, and the load job that will bring them in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedPartition {
    pub partition: Partition,
    pub rows: u64,
    /// Row count and sum of row hashes: the same rows in any order and layout give the same.
    pub logical_hash: String,
    /// Id of the first load job, of generation 0. Later ones have another generation in it.
    pub job_id: String,
    pub files: Vec<StagedFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// `gs://…` or `file://…`, as the load job names it.
    pub url: String,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
}

/// What became of rows that were sent to a table one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streamed {
    /// Keys of the segments that they were in.
    pub segments: Vec<String>,
    /// `project.dataset.table`, with the suffix of a table that is made like it.
    pub table: String,
    /// Rows whose senders were told that they are accepted.
    pub rows: u64,
    /// Rows that BigQuery said it has.
    pub inserted: u64,
    /// Rows that BigQuery will not have, each a line of the file.
    pub rejected: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejects: Option<StagedFile>,
}

impl Streamed {
    /// Every row has one answer, and those that were refused are kept.
    pub fn adds_up(&self) -> bool {
        let kept = self.rejects.as_ref().map_or(0, |file| file.rows);
        u128::from(self.rows) == u128::from(self.inserted) + u128::from(self.rejected)
            && kept == self.rejected
    }
}

/// What BigQuery said of a load job that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    pub partition: Partition,
    pub generation: u32,
    pub job_id: String,
    pub output_rows: u64,
    pub output_bytes: u64,
    /// When the job ended, in milliseconds by the service's clock.
    pub ended_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamed_row_has_one_answer_and_a_refused_one_is_kept() {
        let file = |rows| StagedFile { url: String::new(), rows, bytes: 0, sha256: String::new() };
        let streamed = |rows, inserted, rejected, rejects| {
            let (segments, table) = (vec!["1".into()], "p.d.t".into());
            Streamed { segments, table, rows, inserted, rejected, rejects }
        };
        assert!(streamed(3, 3, 0, None).adds_up() && streamed(3, 2, 1, Some(file(1))).adds_up());
        assert!(!streamed(3, 2, 1, None).adds_up() && !streamed(3, 2, 0, None).adds_up());
        let entry = |number, event| Entry {
            run: "r".into(),
            number,
            epoch: 1,
            previous: String::new(),
            nonce: String::new(),
            written_unix_ms: 0,
            event,
        };
        let lost = entry(1, Event::Streamed(streamed(3, 2, 0, None)));
        assert_eq!(lost.follows("r", &[], "").expect_err("a row is missing").kind(), Kind::Damaged);
        let whole = entry(1, Event::Streamed(streamed(3, 3, 0, None)));
        whole.follows("r", &[], "").expect("it adds up");
        assert!(entry(2, whole.event.clone()).follows("r", &[whole], "").is_err(), "once");
    }

    #[test]
    fn counts_that_do_not_fit_do_not_add_up() {
        let counts = WindowCounts { records: 3, staged: 1, duplicates: 1, rejects: 1, ..Default::default() };
        assert!(counts.add_up());
        // In 64 bits the sum would come round to 3 again.
        let wrong = WindowCounts { staged: u64::MAX, duplicates: 3, ..counts };
        assert!(!wrong.add_up());
    }
}
