//! What the day partitions of the staging table hold, as the journals of all runs tell it.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::error::{Error, Result};
use crate::ledger::{Ledger, LedgerWindow};
use crate::manifest::{Event, Loaded, Manifest, StagedFile};
use crate::partition::Partition;

/// Which windows count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Those that are loaded: what the warehouse has.
    Loaded,
    /// Also those that are only staged: what it would have, were they loaded now.
    Staged,
}

/// The files of each day, the first day first.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pub days: BTreeMap<Partition, Vec<StagedFile>>,
}

/// What one window did to one partition.
struct Step<'l> {
    partition: Partition,
    /// By the service's clock where a job loaded it, else by the writer's.
    at_ms: u64,
    appends: bool,
    files: &'l [StagedFile],
}

impl Content {
    /// A window replaces its days, those without rows too, unless its load jobs append. Of several runs the one
    /// that came last has the day.
    pub fn of(ledger: &Ledger, table: &str, epoch: NaiveDate, windows: Windows) -> Result<Content> {
        // A chain that cannot be read may be the one that has the day.
        ledger.verdict()?;
        let mut steps = Vec::new();
        let mut others = Vec::new();
        for window in ledger.runs.iter().flat_map(|run| &run.windows) {
            let Some(manifest) = window.manifest() else { continue };
            if manifest.target.table == table {
                add_steps(&mut steps, window, manifest, epoch, windows)?;
            } else if !others.contains(&manifest.target.table) {
                others.push(manifest.target.table.clone());
            }
        }
        // Of two at the same time the later one in the ledger.
        steps.sort_by_key(|step| step.at_ms);
        let mut days: BTreeMap<Partition, Vec<StagedFile>> = BTreeMap::new();
        for step in steps {
            let files = days.entry(step.partition).or_default();
            if !step.appends {
                files.clear();
            }
            files.extend_from_slice(step.files);
        }
        days.retain(|_, files| !files.is_empty());
        if days.is_empty() {
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

fn add_steps<'l>(
    steps: &mut Vec<Step<'l>>,
    window: &'l LedgerWindow,
    manifest: &'l Manifest,
    epoch: NaiveDate,
    windows: Windows,
) -> Result<()> {
    let loaded = window.state().loaded;
    if loaded.is_none() && windows == Windows::Loaded {
        return Ok(());
    }
    let decides = |event: &Event| match loaded {
        Some(_) => matches!(event, Event::Loaded { .. }),
        None => matches!(event, Event::Intent(_)),
    };
    let written = window.entries.iter().rev().find(|entry| decides(&entry.event));
    let written_ms = written.map_or(0, |entry| entry.written_unix_ms);
    let at_ms = |partition: Partition| {
        let job = loaded.unwrap_or_default().iter().find(|job: &&Loaded| job.partition == partition);
        job.map_or(written_ms, |job| job.ended_ms)
    };
    let appends = manifest.target.write_disposition == "WRITE_APPEND";
    for staged in &manifest.partitions {
        let partition = staged.partition;
        steps.push(Step { partition, at_ms: at_ms(partition), appends, files: &staged.files });
    }
    if appends {
        return Ok(());
    }
    let (first, last) = manifest.window.days();
    for day in first..=last {
        let partition = Partition::of_day(epoch, day)?;
        if !manifest.partitions.iter().any(|staged| staged.partition == partition) {
            steps.push(Step { partition, at_ms: written_ms, appends, files: &[] });
        }
    }
    Ok(())
}

fn nothing(table: &str, others: &[String], windows: Windows) -> Error {
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
    use crate::ledger::Run;
    use crate::manifest::{Entry, StagedPartition, Target, WindowCounts};
    use crate::partition::{SECONDS_PER_DAY, Window};

    const TABLE: &str = "p.d.staging";

    /// A window with one file in each of `days`, staged at `at` and loaded right after it.
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
            job_id: String::new(),
            files: vec![StagedFile { url: (*url).into(), rows: 1, bytes: 1, sha256: String::new() }],
        };
        let loaded = |(day, _): &(i64, &str)| Loaded {
            partition: partition(*day),
            generation: 0,
            job_id: String::new(),
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
        let run = |window| Run {
            id: "r".into(),
            plan: None,
            damage: None,
            windows: vec![window],
            begun_unix_ms: None,
            written_unix_ms: 0,
        };
        let ledger = Ledger { runs: windows.into_iter().map(run).collect() };
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
        // A later run found only the second day, and other rows in it.
        let again = || window(0, 2 * day, replaces, &[(2, "e")], 30, true);
        assert_eq!(files(vec![again(), whole(), part(true)], Windows::Loaded), listed(&[(2, &["e"])]));
        let nothing = window(0, 2 * day, replaces, &[], 40, true);
        assert_eq!(files(vec![again(), whole(), nothing], Windows::Loaded), listed(&[]));
    }
}
