//! What one window staged and what became of it: the entries of a window's journal.

use serde::{Deserialize, Serialize};

use crate::partition::{Partition, Window};

/// One numbered, create-only object of a window's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u32,
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
    Failed { partition: Partition, generation: u32, reason: String },
    /// Every partition of the intent is in its table, and the rows were counted there.
    Loaded { partitions: Vec<Loaded> },
}

/// Everything that loading needs to know of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub window: Window,
    pub counts: WindowCounts,
    pub partitions: Vec<StagedPartition>,
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
    /// Bytes decoded, after decompression.
    pub bytes: u64,
}

impl WindowCounts {
    pub fn add_up(&self) -> bool {
        self.records == self.staged + self.duplicates + self.filtered + self.rejects
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
