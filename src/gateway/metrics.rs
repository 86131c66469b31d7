//! What the gateway counts, as Prometheus reads it.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::spool::Commit;

/// Counters of one gateway, since it was started.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub(super) requests: Family<Code, Counter>,
    pub(super) request_seconds: Histogram,
    pub(super) rows_in: Counter,
    pub(super) rows_acknowledged: Counter,
    pub(super) rows_rejected: Counter,
    commits: Histogram,
    committed_records: Counter,
    spool_bytes: Gauge<u64, AtomicU64>,
    rows_loaded: Counter,
    rows_refused: Counter,
    jobs: Family<Outcome, Counter>,
    inserts: Family<Outcome, Counter>,
    out_fails: Gauge<u64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Code {
    pub(super) code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("api2bq_gateway");
        let requests = Family::default();
        registry.register("requests", "Requests for rows to be taken, by status", requests.clone());
        // From a quarter of a millisecond to 8 s.
        let seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let (request_seconds, commits) = (seconds(), seconds());
        let help = "Time from a request's head to its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, request_seconds.clone());
        let help = "Time of the write and the fsync of one commit of the spool";
        registry.register_with_unit("fsync_duration", help, Unit::Seconds, commits.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let rows_in = counter("rows_in", "Rows of well-formed bodies");
        let rows_acknowledged =
            counter("rows_acknowledged", "Rows that are durable, and whose sender was told so");
        let rows_rejected = counter("rows_rejected", "Rows that do not fit the columns");
        let rows_loaded = counter("rows_loaded", "Rows that BigQuery has");
        let rows_refused =
            counter("rows_refused", "Rows that BigQuery will not have, kept among the rejects");
        let committed_records = counter("spool_records", "Bodies written to the spool");
        let jobs = Family::default();
        registry.register("load_jobs", "Load jobs, by how they ended", jobs.clone());
        let inserts = Family::default();
        registry.register("insert_requests", "Requests of streamed rows, by how they ended", inserts.clone());
        let out_fails = Gauge::default();
        let help = "1 while rows wait because the last try to bring some to BigQuery failed";
        registry.register("out_fails", help, out_fails.clone());
        let spool_bytes = Gauge::default();
        let help = "Bytes of the spool that wait to be loaded";
        registry.register_with_unit("backlog", help, Unit::Bytes, spool_bytes.clone());
        Metrics {
            registry,
            requests,
            request_seconds,
            rows_in,
            rows_acknowledged,
            rows_rejected,
            commits,
            committed_records,
            spool_bytes,
            rows_loaded,
            rows_refused,
            jobs,
            inserts,
            out_fails,
        }
    }

    /// Takes note of a commit of the spool.
    pub fn committed(&self, commit: Commit) {
        self.commits.observe(commit.took.as_secs_f64());
        self.committed_records.inc_by(commit.records);
    }

    /// Takes note of how much waits in the spool.
    pub fn spool_has(&self, bytes: u64) {
        self.spool_bytes.set(bytes);
    }

    pub(super) fn loaded(&self, rows: u64) {
        self.rows_loaded.inc_by(rows);
    }

    pub(super) fn job(&self, is_done: bool) {
        let outcome = if is_done { "done" } else { "failed" };
        self.jobs.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn streamed(&self, inserted: u64, refused: u64) {
        self.rows_loaded.inc_by(inserted);
        self.rows_refused.inc_by(refused);
    }

    pub(super) fn insert(&self, is_done: bool) {
        let outcome = if is_done { "done" } else { "failed" };
        self.inserts.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn out_fails(&self, fails: bool) {
        self.out_fails.set(u64::from(fails));
    }

    pub(super) fn answered(&self, code: u16, took: Duration) {
        self.requests.get_or_create(&Code { code }).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// In OpenMetrics' text format.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}
