//! `plan.json`, and where a run keeps what in the staging area.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::short_hash;
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::partition::Window;
use crate::stage::Store;

/// `plan.json`: what a run will do, as it stays in the staging area.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub pipeline: String,
    pub range: Window,
    pub window_seconds: i64,
    /// The source gives everything at once; the whole range is one window.
    pub whole: bool,
    /// It goes on from where it was: `range` is empty, and its windows are those that were begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// `project.dataset.table` of the staging table.
    pub table: String,
    /// Hashes of what decides the rows, by what a person would call it.
    pub settings: BTreeMap<String, String>,
    /// Makes a run of its own out of an otherwise equal one.
    pub salt: String,
}

impl Document {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|e| Error::failed("cannot write the plan").caused_by(e))
    }

    /// Whether the pipeline's columns are still those that the run has staged.
    pub fn has_columns_of(&self, pipeline: &Pipeline) -> bool {
        self.settings.get(COLUMNS) == Some(&short_hash(json!(&pipeline.columns).to_string().as_bytes()))
    }

    /// Whether its windows append.
    pub fn appends(&self) -> bool {
        self.settings.contains_key(MODE)
    }

    /// Whether another run reads the same records.
    pub fn has_source_of(&self, other: &Document) -> bool {
        ["source", "time"].iter().all(|part| self.settings.get(*part) == other.settings.get(*part))
    }

    /// Whether another run's rows have the same columns.
    pub fn has_columns_like(&self, other: &Document) -> bool {
        self.settings.get(COLUMNS) == other.settings.get(COLUMNS)
    }

    /// In order of time, without gaps.
    pub fn windows(&self) -> Vec<Window> {
        if self.whole { vec![self.range] } else { self.range.split(self.window_seconds) }
    }
}

/// The key of the columns' hash in a plan's settings.
pub(super) const COLUMNS: &str = "columns";
/// The key that only runs have that append: the others keep the ids that they had before it.
pub(super) const MODE: &str = "warehouse.mode";

/// The folder of all runs of a pipeline in the staging area.
pub fn runs_folder(pipeline: &str) -> String {
    format!("{pipeline}/runs")
}

/// The folder of one window: its journal entries and staged files.
pub fn window_folder(pipeline: &str, run: &str, window: Window) -> String {
    format!("{}/{run}/w/{}", runs_folder(pipeline), window.key())
}

/// The folder of a run's rejects.
pub fn rejects_folder(pipeline: &str, run: &str) -> String {
    format!("{pipeline}/rejects/{run}")
}

/// The plan of a run, or `None` where there is no such run.
pub async fn read(store: &Store, pipeline: &str, run: &str) -> Result<Option<Document>> {
    let name = format!("{}/{run}/plan.json", runs_folder(pipeline));
    let Some(bytes) = store.read(&name).await? else { return Ok(None) };
    let damaged = |why: &str| {
        Error::new(Kind::Damaged, format!("`{name}` {why}"))
            .hint("restore it from a backup, or move its folder away")
    };
    let document: Document =
        serde_json::from_slice(&bytes).map_err(|e| damaged("is not readable").caused_by(e))?;
    if document.window_seconds <= 0 || document.range.after > document.range.before {
        return Err(damaged("names no windows"));
    }
    Ok(Some(document))
}
