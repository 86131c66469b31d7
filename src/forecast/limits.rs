//! What BigQuery takes in a day, a job and a table: "Quotas and limits" of its documents, May 2026.
//!
//! # Which day?
//! The documents say that daily quotas come back at regular intervals through the day, not all at once
//! at midnight. So what the last 24 hours took counts: that is right whenever a day is said to begin.

use serde::Serialize;

use super::Figure;

/// Into one table. A failed job counts.
pub const LOAD_JOBS_PER_TABLE_AND_DAY: u64 = 1_500;
pub const LOAD_JOBS_PER_PROJECT_AND_DAY: u64 = 100_000;
/// Of a table partitioned by ingestion time, as staging tables are; one partitioned by a column takes
/// 30,000. Each load job changes its partition.
pub const PARTITION_CHANGES_PER_TABLE_AND_DAY: u64 = 11_000;
pub const PARTITIONS_PER_JOB: u64 = 4_000;
pub const PARTITIONS_PER_TABLE: u64 = 10_000;
pub const URIS_PER_JOB: u64 = 10_000;
/// 15 TB, taken for powers of ten: the smaller reading.
pub const BYTES_PER_JOB: u64 = 15_000_000_000_000;

/// Parquet's row groups are read best from this size on ("Loading Parquet data"). Advice, no limit.
pub const ROW_GROUP_BYTES_ADVISED: u64 = 16 << 20;

/// Hours of the past that count against a day's limit.
pub const DAY_MS: u64 = 24 * 3_600_000;

/// One limit held against the plan.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub limit: &'static str,
    pub allowed: u64,
    /// `None` where nothing is known of it.
    pub plan: Option<Figure>,
    /// What the journal knows of the last 24 hours, or of all time where the limit is no daily one.
    pub used: u64,
    pub holds: bool,
    /// The smallest change that would fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

impl Check {
    pub(super) fn new(limit: &'static str, allowed: u64, used: u64, plan: Option<Figure>) -> Check {
        let holds = plan.is_none_or(|plan| plan.value.saturating_add(used) <= allowed);
        Check { limit, allowed, plan, used, holds, instead: None }
    }
}
