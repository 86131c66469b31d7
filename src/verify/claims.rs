//! Which run a partition is of now: the last one that loaded it, of all that the journal knows.

use std::collections::HashMap;

use chrono::NaiveDate;

use crate::ledger::{Ledger, LedgerWindow};
use crate::manifest::Event;
use crate::partition::{Partition, Window};

/// The newest claim on each partition of each table.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<(String, Partition), Claim>);

#[derive(Debug)]
struct Claim {
    run: String,
    window: Window,
    /// By the service's clock where a job loaded it, else by the writer's.
    at_ms: u64,
}

impl Claims {
    pub(super) fn of(ledger: &Ledger, epoch: NaiveDate) -> Claims {
        let mut claims = Claims::default();
        for run in &ledger.runs {
            for window in &run.windows {
                claims.add(&run.id, window, epoch);
            }
        }
        claims
    }

    /// The run that has loaded this partition since `window` of `run` did.
    pub(super) fn since(&self, run: &str, window: Window, table: &str, partition: Partition) -> Option<&str> {
        let newest = self.0.get(&(table.to_owned(), partition))?;
        let is_ours = newest.run == run && newest.window == window;
        (!is_ours).then_some(newest.run.as_str())
    }

    fn add(&mut self, run: &str, window: &LedgerWindow, epoch: NaiveDate) {
        let state = window.state();
        // What is only staged has replaced nothing, as far as anybody knows.
        let (Some(manifest), Some(partitions)) = (state.manifest, state.loaded) else { return };
        let mut entries = window.entries.iter().rev();
        let loaded = entries.find(|entry| matches!(entry.event, Event::Loaded { .. }));
        let written = loaded.map_or(0, |entry| entry.written_unix_ms);
        let (first_day, last_day) = window.window.days();
        for day in first_day..=last_day {
            let Ok(partition) = Partition::of_day(epoch, day) else { continue };
            // A day without records has no job; it was emptied before the entry was written.
            let job = partitions.iter().find(|loaded| loaded.partition == partition);
            let at_ms = job.map_or(written, |job| job.ended_ms);
            // Of two that found the same job done, the later one in the ledger.
            let key = (manifest.target.table.clone(), partition);
            if self.0.get(&key).is_none_or(|newest| newest.at_ms <= at_ms) {
                self.0.insert(key, Claim { run: run.to_owned(), window: window.window, at_ms });
            }
        }
    }
}
