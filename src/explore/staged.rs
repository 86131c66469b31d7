//! The staged files of a run, as its journal names them.

use crate::config::Pipeline;
use crate::engine::{DayFile, DayFiles};
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Run};
use crate::location::redacted;
use crate::manifest::{StagedFile, StagedPartition};

/// What one run has staged.
#[derive(Debug, Clone)]
pub struct Staged {
    pub run: String,
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
