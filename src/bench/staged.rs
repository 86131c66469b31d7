//! The staged files of a run, as its journal names them.

use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::ledger::{self, Run};
use crate::manifest::StagedPartition;
use crate::pipeline::open_store;

/// Every partition of one run, in order of time.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) run: String,
    pub(super) partitions: Vec<StagedPartition>,
}

impl Staged {
    /// Of the run whose id starts so, or of the newest whose windows are all staged.
    pub(super) async fn read(pipeline: &Pipeline, run: Option<&str>) -> Result<Staged> {
        let (name, url) = (&pipeline.name, &pipeline.stage.url);
        let store = open_store(pipeline, &Effects::default())?;
        if store.folder().is_none() {
            return Err(Error::usage(format!(
                "`{url}` is a bucket, and a bench reads staged files from a folder"
            ))
            .hint("copy them, and name the folder: `--set stage.url=…`"));
        }
        let ledger = ledger::read(&store, name).await?;
        let found = match run {
            Some(_) => ledger.run(run)?,
            None => ledger.runs.iter().rev().find(|run| is_staged(run)),
        };
        let hint = format!("stage something first: `api2bq backfill {name} --from 1 --to 3 --until stage`");
        let Some(found) = found else {
            return Err(Error::usage(format!("no run of `{name}` is staged in `{url}`")).hint(hint));
        };
        let manifests = found.windows.iter().filter_map(|window| window.manifest());
        let partitions: Vec<StagedPartition> =
            manifests.flat_map(|manifest| manifest.partitions.iter().cloned()).collect();
        if partitions.is_empty() {
            return Err(Error::usage(format!("run `{}` of `{name}` has no staged rows", found.id)).hint(hint));
        }
        Ok(Staged { run: found.id.clone(), partitions })
    }

    pub(super) fn rows(&self) -> u64 {
        self.partitions.iter().map(|staged| staged.rows).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.partitions.iter().flat_map(|staged| &staged.files).map(|file| file.bytes).sum()
    }
}

fn is_staged(run: &Run) -> bool {
    !run.windows.is_empty() && run.windows.iter().all(|window| window.manifest().is_some())
}
