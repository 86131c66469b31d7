//! What a backfill will do, decided before it starts, and the run that does it.

mod document;

use serde::Serialize;
use serde_json::json;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::partition::{SECONDS_PER_DAY, Window};
use crate::stage::journal::sha256_hex;
use crate::stage::{Created, Store};
use document::COLUMNS;

pub use document::{Document, read, rejects_folder, runs_folder, window_folder};

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
