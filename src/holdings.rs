//! What each partition holds, as all runs of the journal tell: the load that replaced it last, and what was
//! appended to it since.
//!
//! Loads are put in order by when their jobs ended, by the service's own clock. A day that was replaced
//! by nothing has no job, and neither has what is only staged; the writer's clock stands in for it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::NaiveDate;

use crate::ledger::{Ledger, LedgerWindow, Standing};
use crate::manifest::Event;
use crate::partition::{Partition, Window};

/// Which windows count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Those that are loaded: what the warehouse has.
    Loaded,
    /// Also those that are only staged: what it would have, were they loaded now.
    Staged,
}

/// The loads of each partition of each table, from the one that replaced it last.
#[derive(Debug, Default)]
pub struct Holdings(BTreeMap<String, BTreeMap<Partition, Vec<Load>>>);

/// One window's rows in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    pub run: String,
    pub window: Window,
    /// `None` of a day without records. Of what is only staged, the first job that will load it.
    pub job_id: Option<String>,
    pub rows: u64,
    /// When the job had ended, or what stands in for it.
    pub ended_ms: u64,
    pub appended: bool,
}

impl Holdings {
    pub fn of(ledger: &Ledger, epoch: NaiveDate, windows: Windows) -> Holdings {
        let mut holdings = Holdings::default();
        for run in &ledger.runs {
            for window in &run.windows {
                holdings.add(&run.id, window, epoch, windows);
            }
        }
        for loads in holdings.0.values_mut().flat_map(BTreeMap::values_mut) {
            // Of two at one instant the later one in the ledger is the later one.
            loads.sort_by_key(|load| load.ended_ms);
            let replaced = loads.iter().rposition(|load| !load.appended);
            loads.drain(..replaced.unwrap_or(0));
            // A job that several runs found brought its rows once; it is the last one's.
            let mut jobs = HashSet::new();
            loads.reverse();
            loads.retain(|load| load.job_id.as_ref().is_none_or(|job| jobs.insert(job.clone())));
            loads.reverse();
        }
        holdings
    }

    /// What a partition holds, in the order in which it came. The first may have replaced what was before.
    pub fn of_partition(&self, table: &str, partition: Partition) -> &[Load] {
        self.0.get(table).and_then(|partitions| partitions.get(&partition)).map_or(&[], Vec::as_slice)
    }

    /// The partitions of a table, the first day first. Some may hold nothing any more.
    pub fn of_table(&self, table: &str) -> impl Iterator<Item = (Partition, &[Load])> {
        let partitions = self.0.get(table).into_iter().flatten();
        partitions.map(|(partition, loads)| (*partition, loads.as_slice()))
    }

    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What would go with a partition that is replaced.
    pub fn appended(&self, table: &str, partition: Partition) -> impl Iterator<Item = &Load> {
        self.of_partition(table, partition).iter().filter(|load| load.appended && load.rows > 0)
    }

    fn add(&mut self, run: &str, window: &LedgerWindow, epoch: NaiveDate, windows: Windows) {
        let state = window.state();
        let Some(manifest) = state.manifest else { return };
        // What is only staged has changed nothing, as far as anybody knows.
        let is_counted = state.loaded.is_some() || windows == Windows::Staged;
        if !is_counted || window.standing() == Standing::Damaged {
            return;
        }
        let decides = |event: &Event| match state.loaded {
            Some(_) => matches!(event, Event::Loaded { .. }),
            None => matches!(event, Event::Intent(_)),
        };
        let written = window.entries.iter().rev().find(|entry| decides(&entry.event));
        let written_ms = written.map_or(0, |entry| entry.written_unix_ms);
        let appended = manifest.target.appends();
        let partitions = self.0.entry(manifest.target.table.clone()).or_default();
        let mut put = |partition, job: Option<&str>, rows, ended_ms| {
            let (run, job_id) = (run.to_owned(), job.map(str::to_owned));
            let load = Load { run, window: window.window, job_id, rows, ended_ms, appended };
            partitions.entry(partition).or_default().push(load);
        };
        let mut with_rows = BTreeSet::new();
        for job in state.loaded.unwrap_or_default() {
            with_rows.insert(job.partition);
            put(job.partition, Some(&job.job_id), job.output_rows, job.ended_ms);
        }
        for staged in manifest.partitions.iter().filter(|_| state.loaded.is_none()) {
            with_rows.insert(staged.partition);
            put(staged.partition, Some(&staged.job_id), staged.rows, written_ms);
        }
        let (first, last) = window.window.days();
        for day in first..=last {
            // A day without records was emptied before the entry was written; one that is appended to was not.
            let Ok(partition) = Partition::of_day(epoch, day) else { continue };
            if !appended && !with_rows.contains(&partition) {
                put(partition, None, 0, written_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Run;
    use crate::manifest::{Entry, Loaded, Manifest, Mode, Target, WindowCounts};
    use crate::partition::SECONDS_PER_DAY;

    const TABLE: &str = "p.d.t";

    fn epoch() -> NaiveDate {
        NaiveDate::from_ymd_opt(2011, 1, 1).expect("a date")
    }

    fn partition(day: i64) -> Partition {
        Partition::of_day(epoch(), day).expect("a partition")
    }

    /// A run of one loaded window over `days`; its jobs as (day, id, rows, when they ended).
    fn run(id: &str, mode: Mode, days: (i64, i64), jobs: &[(i64, &str, u64, u64)]) -> Run {
        let window = Window { after: (days.0 - 1) * SECONDS_PER_DAY, before: days.1 * SECONDS_PER_DAY };
        let target = Target {
            table: TABLE.into(),
            location: "US".into(),
            write_disposition: mode.disposition().into(),
        };
        let counts = WindowCounts::default();
        let manifest = Manifest {
            window,
            counts,
            target,
            partitions: vec![],
            rejects: None,
            fetch_ms: None,
            segments: vec![],
        };
        let loaded = |&(day, job_id, output_rows, ended_ms): &(i64, &str, u64, u64)| Loaded {
            partition: partition(day),
            generation: 0,
            job_id: job_id.into(),
            output_rows,
            output_bytes: 0,
            ended_ms,
        };
        let events =
            [Event::Intent(manifest), Event::Loaded { partitions: jobs.iter().map(loaded).collect() }];
        let entry = |(number, event)| Entry {
            run: id.into(),
            number,
            epoch: 1,
            previous: String::new(),
            nonce: String::new(),
            written_unix_ms: jobs.iter().map(|job| job.3).max().unwrap_or(0),
            event,
        };
        let entries = (1..).zip(events).map(entry).collect();
        let windows = vec![LedgerWindow { window, entries, damage: None }];
        Run { id: id.into(), plan: None, damage: None, windows, begun_unix_ms: None, written_unix_ms: 0 }
    }

    #[test]
    fn a_partition_holds_its_last_replacement_and_what_was_appended_since() {
        use Mode::{Append, Replace};
        let runs = vec![
            run("first", Replace, (1, 3), &[(1, "a", 10, 100), (2, "b", 20, 101)]),
            run("before", Append, (1, 1), &[(1, "c", 1, 99)]),
            run("late", Append, (3, 3), &[(2, "d", 2, 200), (3, "e", 3, 201)]),
            // The same job, found by another run: its rows are there once.
            run("again", Append, (3, 3), &[(2, "d", 2, 200)]),
            run("second", Replace, (1, 1), &[(1, "f", 11, 300)]),
        ];
        let holdings = Holdings::of(&Ledger { runs, ..Ledger::default() }, epoch(), Windows::Loaded);
        let of = |day| {
            let loads = holdings.of_partition(TABLE, partition(day)).iter();
            loads.map(|load| (load.run.as_str(), load.rows)).collect::<Vec<_>>()
        };
        assert_eq!(of(1), [("second", 11)]);
        assert_eq!(of(2), [("first", 20), ("again", 2)]);
        // Day 3 was replaced by nothing before.
        assert_eq!(of(3), [("first", 0), ("late", 3)]);
        assert_eq!(of(4), []);
        let appended = |day| holdings.appended(TABLE, partition(day)).map(|load| load.rows).sum::<u64>();
        assert_eq!([1, 2, 3].map(appended), [0, 2, 3]);
    }
}
