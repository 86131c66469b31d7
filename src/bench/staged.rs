//! Staged files that are measured: they must be on this machine, and not be none.

use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::explore::Staged;
use crate::ledger;
use crate::pipeline::open_store;

/// Of the run whose id starts so, or of the newest whose windows are all staged.
pub(super) async fn staged(pipeline: &Pipeline, run: Option<&str>) -> Result<Staged> {
    let (name, url) = (&pipeline.name, &pipeline.stage.url);
    let store = open_store(pipeline, &Effects::default())?;
    if store.folder().is_none() {
        return Err(Error::usage(format!(
            "`{url}` is a bucket, and a bench reads staged files from a folder"
        ))
        .hint("copy them, and name the folder: `--set stage.url=…`"));
    }
    let staged = Staged::find(&ledger::read(&store, name).await?, pipeline, run)?;
    if staged.partitions.is_empty() {
        return Err(Error::usage(format!("run `{}` of `{name}` has no staged rows", staged.run)));
    }
    Ok(staged)
}
