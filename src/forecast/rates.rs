//! What a record comes to: rows, bytes and time, as the journal or a sample tells.

use serde::Serialize;

use super::figure::Figure;
use super::sample::Sample;
use crate::ledger::{Ledger, LedgerWindow};
use crate::manifest::Event;
use crate::plan::Plan;

/// `None` where neither tells.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Rates {
    pub(super) rows_per_record: f64,
    pub(super) file_bytes_per_row: Option<f64>,
    /// As BigQuery counts the bytes of a table.
    pub(super) table_bytes_per_row: Option<f64>,
    /// From the first request to the last file.
    fetch_ms_per_record: Option<f64>,
    load_ms_per_job: Option<f64>,
}

/// Two sums, one of which goes by the other.
#[derive(Default)]
struct Ratio(f64, f64);

impl Ratio {
    fn add(&mut self, part: u64, whole: u64) {
        self.0 += part as f64;
        self.1 += whole as f64;
    }

    fn get(&self) -> Option<f64> {
        (self.1 > 0.0).then(|| self.0 / self.1)
    }
}

impl Rates {
    /// A sample is newer than the journal, which alone knows of load jobs.
    pub(super) fn of(plan: &Plan, ledger: &Ledger, sample: Option<&Sample>) -> Rates {
        let [mut rows, mut files, mut table, mut fetch, mut load]: [Ratio; 5] = Default::default();
        let is_alike = |run: &&crate::ledger::Run| {
            run.plan.as_ref().is_some_and(|other| other.has_columns_like(&plan.document))
        };
        for window in ledger.runs.iter().filter(is_alike).flat_map(|run| &run.windows) {
            let state = window.state();
            let Some(manifest) = state.manifest else { continue };
            rows.add(manifest.counts.staged, manifest.counts.records);
            for staged in &manifest.partitions {
                files.add(staged.files.iter().map(|file| file.bytes).sum(), staged.rows);
            }
            if let Some(ms) = manifest.fetch_ms.filter(|_| manifest.counts.records > 0) {
                fetch.add(ms, manifest.counts.records);
            }
            for loaded in state.loaded.unwrap_or_default() {
                table.add(loaded.output_bytes, loaded.output_rows);
            }
            if let Some(ms) = load_ms(window) {
                load.add(ms, manifest.partitions.len() as u64);
            }
        }
        if let Some(sample) = sample.filter(|sample| sample.records > 0) {
            rows = Ratio(sample.rows as f64, sample.records as f64);
            fetch = Ratio(sample.ms as f64, sample.records as f64);
            files = Ratio(sample.file_bytes as f64, sample.rows as f64);
            table = Ratio(sample.table_bytes as f64, sample.rows as f64);
        }
        Rates {
            rows_per_record: rows.get().unwrap_or(1.0),
            file_bytes_per_row: files.get(),
            table_bytes_per_row: table.get(),
            fetch_ms_per_record: fetch.get(),
            load_ms_per_job: load.get(),
        }
    }

    /// Seconds of fetching and staging so many records, `at_once` windows at a time.
    pub(super) fn fetch_seconds(&self, records: Option<Figure>, at_once: u64) -> Option<f64> {
        Some(records?.value as f64 * self.fetch_ms_per_record? / 1000.0 / at_once as f64)
    }

    /// Seconds of so many load jobs, `at_once` at a time.
    pub(super) fn load_seconds(&self, jobs: Figure, at_once: u64) -> Option<f64> {
        Some(jobs.value as f64 * self.load_ms_per_job? / 1000.0 / at_once as f64)
    }
}

/// From intent to loaded, where nothing came between.
fn load_ms(window: &LedgerWindow) -> Option<u64> {
    let intent = window.entries.iter().position(|entry| matches!(entry.event, Event::Intent(_)))?;
    let (intent, next) = (&window.entries[intent], window.entries.get(intent + 1)?);
    let is_at_once = matches!(next.event, Event::Loaded { .. }) && intent.epoch == next.epoch;
    is_at_once.then(|| next.written_unix_ms.saturating_sub(intent.written_unix_ms))
}
