//! The staged files behind the day partitions of a table.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;

use crate::error::{Error, Result};
use crate::holdings::{Holdings, Load, Windows};
use crate::ledger::Ledger;
use crate::manifest::{Manifest, StagedFile};
use crate::partition::{Partition, Window};

/// The files of each day, the first day first.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pub days: BTreeMap<Partition, Vec<StagedFile>>,
}

impl Content {
    /// Of several runs that replaced a day the last one has it; what was appended since lies on top.
    pub fn of(ledger: &Ledger, table: &str, epoch: NaiveDate, windows: Windows) -> Result<Content> {
        // A chain that cannot be read may be the one that has the day.
        ledger.verdict()?;
        let holdings = Holdings::of(ledger, epoch, windows);
        let manifests = manifests(ledger);
        let files = |partition: Partition, load: &Load| {
            let manifest = manifests.get(&(load.run.as_str(), load.window));
            let staged = manifest.into_iter().flat_map(|manifest| &manifest.partitions);
            let files =
                staged.filter(|staged| staged.partition == partition).flat_map(|staged| &staged.files);
            files.cloned().collect::<Vec<_>>()
        };
        let days = holdings.of_table(table).map(|(partition, loads)| {
            (partition, loads.iter().flat_map(|load| files(partition, load)).collect::<Vec<_>>())
        });
        let days: BTreeMap<_, _> = days.filter(|(_, files)| !files.is_empty()).collect();
        if days.is_empty() {
            let others: Vec<&str> = holdings.tables().filter(|other| *other != table).collect();
            return Err(nothing(table, &others, windows));
        }
        Ok(Content { days })
    }

    /// The same days and no others.
    pub fn between(mut self, first: NaiveDate, last: NaiveDate) -> Content {
        self.days.retain(|partition, _| (first..=last).contains(&partition.date()));
        self
    }

    pub fn newest(&self) -> Option<NaiveDate> {
        self.days.keys().next_back().map(|partition| partition.date())
    }

    pub fn files(&self) -> impl Iterator<Item = &StagedFile> {
        self.days.values().flatten()
    }
}

fn manifests(ledger: &Ledger) -> HashMap<(&str, Window), &Manifest> {
    let windows = ledger.runs.iter().flat_map(|run| run.windows.iter().map(|w| (run.id.as_str(), w)));
    windows.filter_map(|(run, window)| Some(((run, window.window), window.manifest()?))).collect()
}

fn nothing(table: &str, others: &[&str], windows: Windows) -> Error {
    let done = if windows == Windows::Loaded { "loaded" } else { "staged" };
    let error = Error::usage(format!("no rows of `{table}` are {done} in this staging area"));
    match others {
        [] => error.hint("`api2bq status` lists what is there; `--set stage.url=…` looks elsewhere"),
        others => error.hint(format!(
            "there are rows of `{}`; `warehouse.project`, `warehouse.dataset` and `warehouse.staging_table` choose",
            others.join("`, `")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{LedgerWindow, Run};
    use crate::manifest::{Entry, Event, Loaded, StagedPartition, Target, WindowCounts};
    use crate::partition::SECONDS_PER_DAY;

    const TABLE: &str = "p.d.staging";

    /// A window with one file in each of `days`, staged at `at` and loaded right after it. Files are named as jobs.
    fn window(
        after: i64,
        before: i64,
        mode: &str,
        days: &[(i64, &str)],
        at: u64,
        is_loaded: bool,
    ) -> LedgerWindow {
        let window = Window { after, before };
        let partition = |day| Partition::of_day(NaiveDate::default(), day).expect("a date");
        let staged = |(day, url): &(i64, &str)| StagedPartition {
            partition: partition(*day),
            rows: 1,
            logical_hash: String::new(),
            job_id: (*url).into(),
            files: vec![StagedFile { url: (*url).into(), rows: 1, bytes: 1, sha256: String::new() }],
        };
        let loaded = |(day, url): &(i64, &str)| Loaded {
            partition: partition(*day),
            generation: 0,
            job_id: (*url).into(),
            output_rows: 1,
            output_bytes: 1,
            ended_ms: at + 1,
        };
        let manifest = Manifest {
            window,
            counts: WindowCounts::default(),
            target: Target { table: TABLE.into(), location: "US".into(), write_disposition: mode.into() },
            partitions: days.iter().map(staged).collect(),
            rejects: None,
            fetch_ms: None,
            segments: Vec::new(),
        };
        let mut events = vec![Event::Intent(manifest)];
        if is_loaded {
            events.push(Event::Loaded { partitions: days.iter().map(loaded).collect() });
        }
        let entry = |(number, event)| Entry {
            run: "r".into(),
            number,
            epoch: 1,
            previous: String::new(),
            nonce: String::new(),
            written_unix_ms: at + u64::from(number) - 1,
            event,
        };
        LedgerWindow { window, entries: (1..).zip(events).map(entry).collect(), damage: None }
    }

    fn files(windows: Vec<LedgerWindow>, which: Windows) -> Vec<(i64, Vec<String>)> {
        let run = |(number, window): (usize, LedgerWindow)| Run {
            id: number.to_string(),
            plan: None,
            damage: None,
            windows: vec![window],
            begun_unix_ms: None,
            written_unix_ms: 0,
        };
        let ledger = Ledger { runs: windows.into_iter().enumerate().map(run).collect(), ..Ledger::default() };
        let Ok(content) = Content::of(&ledger, TABLE, NaiveDate::default(), which) else { return Vec::new() };
        let urls = |files: Vec<StagedFile>| files.into_iter().map(|file| file.url).collect();
        let day = |partition: Partition| partition.day(NaiveDate::default());
        content.days.into_iter().map(|(partition, files)| (day(partition), urls(files))).collect()
    }

    #[test]
    fn windows_replace_days_and_appends_add_to_them() {
        let day = SECONDS_PER_DAY;
        let (replaces, appends) = ("WRITE_TRUNCATE", "WRITE_APPEND");
        let whole = || window(0, 2 * day, replaces, &[(1, "a"), (2, "b")], 10, true);
        // Part of the second day, and a late row of the first.
        let part = |is_loaded| window(day, day + 10_800, appends, &[(1, "c"), (2, "d")], 20, is_loaded);
        let listed = |list: &[(i64, &[&str])]| -> Vec<(i64, Vec<String>)> {
            list.iter()
                .map(|(day, urls)| (*day, urls.iter().map(|url| (*url).to_owned()).collect()))
                .collect()
        };
        let both = listed(&[(1, &["a", "c"]), (2, &["b", "d"])]);
        assert_eq!(files(vec![whole(), part(true)], Windows::Loaded), both);
        // Whatever their order in the ledger.
        assert_eq!(files(vec![part(true), whole()], Windows::Loaded), both);
        assert_eq!(files(vec![whole(), part(false)], Windows::Loaded), listed(&[(1, &["a"]), (2, &["b"])]));
        assert_eq!(files(vec![whole(), part(false)], Windows::Staged), both);
        // What another run appended by the same jobs is there once.
        assert_eq!(files(vec![whole(), part(true), part(true)], Windows::Staged), both);
        assert_eq!(files(vec![whole(), part(true), part(false)], Windows::Staged), both);
        // A later run found only the second day, and other rows in it.
        let again = || window(0, 2 * day, replaces, &[(2, "e")], 30, true);
        assert_eq!(files(vec![again(), whole(), part(true)], Windows::Loaded), listed(&[(2, &["e"])]));
        let nothing = window(0, 2 * day, replaces, &[], 40, true);
        assert_eq!(files(vec![again(), whole(), nothing], Windows::Loaded), listed(&[]));
    }
}
