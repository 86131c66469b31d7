//! What the journal knows of jobs that count against today's limits.

use std::collections::{BTreeSet, HashSet};

use super::limits::DAY_MS;
use crate::ledger::Ledger;
use crate::manifest::{Event, WindowState};
use crate::partition::Partition;
use crate::plan::Plan;

/// Only what this staging area's journal of this pipeline knows, its gateway's batches with it: others may
/// have used up more.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// Load jobs into the plan's table within the last 24 hours, failed ones included.
    pub(super) by_table: u64,
    /// Those into any table of its project.
    pub(super) by_project: u64,
    /// Partitions of the plan's table, of all time.
    pub(super) partitions: BTreeSet<Partition>,
}

impl Used {
    pub(super) fn of(plan: &Plan, ledger: &Ledger, now_ms: u64) -> Used {
        let table = &plan.document.table;
        let project = |table: &str| table.rsplitn(3, '.').nth(2).map(str::to_owned);
        let is_young = |ms: u64| ms.saturating_add(DAY_MS) > now_ms;
        let mut used = Used::default();
        let of_ended = ledger.ended.iter().flat_map(|ended| &ended.rows).filter(|rows| rows.table == *table);
        used.partitions.extend(of_ended.map(|rows| rows.partition));
        // A job that several runs found is one job.
        let mut jobs: HashSet<&str> = HashSet::new();
        let windows =
            ledger.runs.iter().flat_map(|run| run.windows.iter().map(move |w| (&run.id, &w.entries)));
        let batches = ledger.batches.iter().map(|batch| (&batch.run, &batch.entries));
        for (run, entries) in windows.chain(batches) {
            let state = WindowState::of(entries);
            let Some(manifest) = state.manifest else { continue };
            let is_ours = manifest.target.table == *table;
            let mut young = Vec::new();
            for entry in entries {
                match &entry.event {
                    Event::Loaded { partitions } => {
                        let ended = partitions.iter().filter(|loaded| is_young(loaded.ended_ms));
                        young.extend(ended.map(|loaded| &*loaded.job_id));
                        used.partitions.extend(partitions.iter().filter(|_| is_ours).map(|l| l.partition));
                    }
                    Event::Failed { job_id, .. } if is_young(entry.written_unix_ms) => young.push(job_id),
                    // Its jobs may have been sent. Those of the plan itself are what it will send.
                    Event::Intent(manifest) if state.loaded.is_none() && *run != plan.run => {
                        let sent = is_young(entry.written_unix_ms);
                        young.extend(manifest.partitions.iter().filter(|_| sent).map(|p| &*p.job_id));
                    }
                    _ => {}
                }
            }
            let new = young.into_iter().filter(|job| jobs.insert(job)).count() as u64;
            used.by_table += if is_ours { new } else { 0 };
            used.by_project += if project(&manifest.target.table) == project(table) { new } else { 0 };
        }
        used
    }
}
