//! What a backfill will do, decided before it starts, and the run that does it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::partition::{SECONDS_PER_DAY, Window};
use crate::stage::journal::{Chain, sha256_hex};
use crate::stage::{Created, Store};

/// The last stage that a backfill does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Count records and rejects, keep nothing.
    Decode,
    /// Staged files and the intent to load them.
    Stage,
    Load,
}

/// The windows of a backfill, under the id of its run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Hash of all that decides the rows: the same backfill started twice meets itself.
    pub run: String,
    pub range: Window,
    pub windows: Vec<Window>,
    pub document: Document,
}

/// `plan.json`: what a run will do, as it stays in the staging area.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub pipeline: String,
    pub range: Window,
    pub window_seconds: i64,
    /// The source gives everything at once; the whole range is one window.
    pub whole: bool,
    /// `project.dataset.table` of the staging table.
    pub table: String,
    /// Hashes of what decides the rows, by what a person would call it.
    pub settings: BTreeMap<String, String>,
    /// Makes a run of its own out of an otherwise equal one.
    pub salt: String,
}

impl Document {
    fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|e| Error::failed("cannot write the plan").caused_by(e))
    }

    /// Whether the pipeline's columns are still those that the run has staged.
    pub fn has_columns_of(&self, pipeline: &Pipeline) -> bool {
        self.settings.get(COLUMNS) == Some(&short_hash(json!(&pipeline.columns).to_string().as_bytes()))
    }

    /// In order of time, without gaps.
    pub fn windows(&self) -> Vec<Window> {
        if self.whole { vec![self.range] } else { self.range.split(self.window_seconds) }
    }
}

/// The key of the columns' hash in a plan's settings.
const COLUMNS: &str = "columns";

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

impl Plan {
    /// Cuts `range` into windows. `salt` makes a run of its own out of an otherwise equal one.
    pub fn new(
        pipeline: &Pipeline,
        range: Window,
        window_seconds: i64,
        whole: bool,
        salt: &str,
    ) -> Result<Plan> {
        if window_seconds <= 0 {
            return Err(Error::usage("`--window` must be longer than nothing"));
        }
        if window_seconds % SECONDS_PER_DAY != 0 || !range.covers_whole_days() {
            return Err(Error::usage(
                "windows must cover whole days, since each replaces its day partitions",
            )
            .hint("use `--window 1d` (or 2d, 3d, …) and day numbers or dates for `--from` and `--to`"));
        }
        let source = &pipeline.source;
        let identity = if source.identity.is_empty() { &source.url } else { &source.identity };
        let warehouse = &pipeline.warehouse;
        // Everything that changes which rows end up where; nothing that only changes how fast.
        // Only hashes are kept: a query parameter may be a key.
        let settings = [
            ("source", json!([identity, &source.query, &source.record_path, &source.row_number_column])),
            ("source.format", json!(pipeline.format.map(|f| f.to_string()))),
            (COLUMNS, json!(&pipeline.columns)),
            ("time", json!([&pipeline.time_column, &pipeline.epoch.to_string()])),
            ("transform.sql", json!(&pipeline.stage_sql)),
            ("stage", json!([pipeline.stage.file_mib_max, pipeline.stage.row_group_rows as u64])),
        ];
        let hashed =
            settings.map(|(part, value)| (part.to_owned(), short_hash(value.to_string().as_bytes())));
        let document = Document {
            pipeline: pipeline.name.clone(),
            range,
            window_seconds,
            // A source without windows brings everything at once: it is read once for the whole range.
            whole,
            table: format!("{}.{}.{}", warehouse.project, warehouse.dataset, warehouse.staging_table),
            settings: hashed.into(),
            salt: salt.to_owned(),
        };
        let run = short_hash(&document.to_bytes()?);
        Ok(Plan { run, range, windows: document.windows(), document })
    }

    /// Writes `plan.json`, or finds that it is there and the same.
    pub async fn record(&self, store: &Store) -> Result<()> {
        let name = format!("{}/{}/plan.json", runs_folder(&self.document.pipeline), self.run);
        let document = self.document.to_bytes()?;
        if store.create(&name, &document).await? == Created::Exists
            && store.read(&name).await?.as_deref() != Some(&document)
        {
            return Err(Error::new(Kind::Damaged, format!("`{name}` is not the plan it should be"))
                .hint("start over with `--new-run`"));
        }
        Ok(())
    }

    /// Refuses to start where another run of these days was begun with other settings and has not
    /// come to its end: that is no resuming, and would leave the other run's staged rows unloaded.
    ///
    /// A guard against mistakes, not a part of the protocol: it may read dates.
    pub async fn refuse_to_abandon_another(&self, store: &Store) -> Result<()> {
        let pipeline = &self.document.pipeline;
        let runs = store.list(&runs_folder(pipeline)).await?;
        if !self.document.salt.is_empty() || runs.contains(&self.run) {
            return Ok(());
        }
        let mut newest_whole = 0;
        let mut begun = Vec::new();
        for run in runs {
            let Some(other) = read(store, pipeline, &run).await? else { continue };
            let overlaps = other.range.after < self.range.before && self.range.after < other.range.before;
            if !overlaps || other.table != self.document.table {
                continue;
            }
            let (mut newest, mut open) = (None, None);
            for window in other.windows() {
                let chain = Chain::read(store, &run, window_folder(pipeline, &run, window)).await?;
                let intended = chain.state().manifest.is_some();
                let last = chain.entries().last().filter(|_| intended).map(|last| last.written_unix_ms);
                newest = newest.max(last);
                open = open.or(chain.state().loaded.is_none().then_some(window));
            }
            match (newest, open) {
                (Some(newest), None) => newest_whole = newest.max(newest_whole),
                (Some(newest), Some(window)) if self.is_changed_since(&other) => {
                    begun.push((newest, self.would_abandon(&run, &other, window)));
                }
                _ => {}
            }
        }
        // Who has since loaded these days by another run has left the older one behind on purpose.
        match begun.into_iter().find(|(newest, _)| *newest > newest_whole) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn is_changed_since(&self, other: &Document) -> bool {
        let Document { range, window_seconds, settings, .. } = &self.document;
        *settings != other.settings || (*range == other.range && *window_seconds != other.window_seconds)
    }

    fn would_abandon(&self, run: &str, other: &Document, window: Window) -> Error {
        let differs = |(part, hash): &(&String, &String)| other.settings.get(*part) != Some(*hash);
        let mut parts: Vec<_> =
            self.document.settings.iter().filter(differs).map(|(part, _)| format!("`{part}`")).collect();
        if parts.is_empty() {
            parts.push("`--window`".to_owned());
        }
        let parts = parts.join(", ");
        Error::usage(format!("the plan hash differs: run `{run}` of these days was begun with another {parts}, and {window} is not loaded"))
            .hint("resume it with the settings it was begun with, or leave it behind by `--new-run`")
    }
}

/// 16 hex digits: enough to tell the runs of one staging area apart.
fn short_hash(bytes: &[u8]) -> String {
    sha256_hex(bytes)[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(set: &[&str], range: Window, window_seconds: i64) -> Result<Plan> {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        let pipeline = Pipeline::resolve("flows", &set).expect("a pipeline");
        Plan::new(&pipeline, range, window_seconds, false, "")
    }

    #[test]
    fn the_same_backfill_is_the_same_run_and_any_change_of_meaning_is_another() {
        let range = Window { after: 0, before: 3 * SECONDS_PER_DAY };
        let run = |set: &[&str]| plan(set, range, SECONDS_PER_DAY).expect("a plan").run;
        assert_eq!(run(&[]), run(&[]));
        assert_eq!(run(&[]), run(&["limits.memory_mib=64", "source.gzip=off"]));
        assert_ne!(run(&[]), run(&["warehouse.dataset=other"]));
        assert_ne!(run(&[]), run(&["source.query.limit=5"]));
    }

    #[test]
    fn parts_of_days_are_refused() {
        assert!(plan(&[], Window { after: 0, before: 100 }, SECONDS_PER_DAY).is_err());
        assert!(plan(&[], Window { after: 0, before: SECONDS_PER_DAY }, 3600).is_err());
        assert!(plan(&[], Window { after: 0, before: SECONDS_PER_DAY }, 0).is_err());
    }
}
