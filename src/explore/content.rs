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
