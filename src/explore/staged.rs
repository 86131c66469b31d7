//! The staged files of a run, as its journal names them.

use std::collections::BTreeSet;

use crate::config::Pipeline;
use crate::engine::{DayFile, DayFiles};
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Run};
use crate::location::redacted;
use crate::manifest::{StagedFile, StagedPartition};
use crate::partition::Window;

/// What one run has staged.
#[derive(Debug, Clone)]
pub struct Staged {
    pub run: String,
    /// Windows that are staged, those without rows too; in order of time.
    pub windows: Vec<Window>,
    /// In order of time.
    pub partitions: Vec<StagedPartition>,
    /// Those that were kept, a file for each window that has some.
    pub rejects: Vec<StagedFile>,
}

impl Staged {
    /// Of the run whose id starts so, as far as it is staged; else of the newest that is staged whole.
    pub fn find(ledger: &Ledger, pipeline: &Pipeline, run: Option<&str>) -> Result<Staged> {
        let found = match run {
            Some(_) => ledger.run(run)?,
            None => ledger.runs.iter().rev().find(|run| is_staged(run)),
        };
        let found = found.ok_or_else(|| nothing(ledger, pipeline))?;
        if run.is_none()
            && let Some(newer) = ledger.runs.last().filter(|newest| newest.id != found.id)
        {
            let (staged, all) = progress(newer);
            tracing::warn!(run = found.id, newer = newer.id, staged, all, "a newer run is not staged whole");
        }
        let manifests = || found.windows.iter().filter_map(|window| window.manifest());
        Ok(Staged {
            run: found.id.clone(),
            windows: manifests().map(|manifest| manifest.window).collect(),
            partitions: manifests().flat_map(|manifest| manifest.partitions.iter().cloned()).collect(),
            rejects: manifests().filter_map(|manifest| manifest.rejects.clone()).collect(),
        })
    }

    pub fn rows(&self) -> u64 {
        self.partitions.iter().map(|staged| staged.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.partitions.iter().flat_map(|staged| &staged.files).map(|file| file.bytes).sum()
    }

    /// The days that it says something of: of its windows, and of its rows.
    pub fn covers(&self, pipeline: &Pipeline) -> BTreeSet<i64> {
        let of_windows = self.windows.iter().flat_map(|window| window.days().0..=window.days().1);
        let of_rows = self.partitions.iter().map(|staged| staged.partition.day(pipeline.epoch));
        of_windows.chain(of_rows).collect()
    }

    pub fn days(&self, pipeline: &Pipeline) -> Vec<DayFiles> {
        let file = |file: &StagedFile| DayFile { url: file.url.clone(), rows: file.rows, bytes: file.bytes };
        let day = |staged: &StagedPartition| DayFiles {
            day: staged.partition.day(pipeline.epoch),
            files: staged.files.iter().map(file).collect(),
        };
        self.partitions.iter().map(day).collect()
    }
}

fn is_staged(run: &Run) -> bool {
    let (staged, all) = progress(run);
    all > 0 && staged == all
}

/// Windows that are staged, of all.
fn progress(run: &Run) -> (usize, usize) {
    let staged = run.windows.iter().filter(|window| window.manifest().is_some());
    (staged.count(), run.windows.len())
}

fn nothing(ledger: &Ledger, pipeline: &Pipeline) -> Error {
    let (name, url) = (&pipeline.name, redacted(&pipeline.stage.url));
    let Some(newest) = ledger.runs.last() else {
        return Error::usage(format!("no run of `{name}` is staged in `{url}`")).hint(format!(
            "`api2bq backfill {name} --from 1 --to 3 --until stage` stages something; `--set stage.url=…` \
             looks elsewhere"
        ));
    };
    let (run, (staged, all)) = (&newest.id, progress(newest));
    Error::usage(format!("no run of `{name}` is staged whole: run `{run}` has {staged} of {all} windows"))
        .hint(format!("the same backfill again resumes it; `--as-of {run}` looks at what is there"))
}
