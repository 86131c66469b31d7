//! What a backfill will do, decided before it starts, and the run that does it.

mod document;

use serde::Serialize;
use serde_json::json;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::manifest::Mode;
use crate::partition::{SECONDS_PER_DAY, Window};
use crate::stage::journal::sha256_hex;
use crate::stage::{Created, Store};
use document::{COLUMNS, MODE};

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
        check_windows(pipeline.mode, window_seconds, &[range])?;
        let document = document(pipeline, range, window_seconds, salt);
        // A source without windows brings everything at once: it is read once for the whole range.
        Plan::of(Document { whole, ..document }, None)
    }

    /// A run that goes on with `windows`, wherever it was before: it is the same run every time.
    pub fn continuing(pipeline: &Pipeline, window_seconds: i64, windows: Vec<Window>) -> Result<Plan> {
        check_windows(pipeline.mode, window_seconds, &windows)?;
        let nothing = Window { after: 0, before: 0 };
        let document = document(pipeline, nothing, window_seconds, "");
        Plan::of(Document { continues: true, ..document }, Some(windows))
    }

    fn of(document: Document, windows: Option<Vec<Window>>) -> Result<Plan> {
        let run = short_hash(&document.to_bytes()?);
        let windows = windows.unwrap_or_else(|| document.windows());
        let ends = windows.first().zip(windows.last());
        let range = ends.map(|(first, last)| Window { after: first.after, before: last.before });
        Ok(Plan { run, range: range.unwrap_or(document.range), windows, document })
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

fn check_windows(mode: Mode, window_seconds: i64, ranges: &[Window]) -> Result<()> {
    if window_seconds <= 0 {
        return Err(Error::usage("`--window` must be longer than nothing"));
    }
    let whole_days = window_seconds % SECONDS_PER_DAY == 0 && ranges.iter().all(|r| r.covers_whole_days());
    if mode == Mode::Replace && !whole_days {
        return Err(Error::usage("windows must cover whole days, since each replaces its day partitions")
            .hint(
                "use `--window 1d` (or 2d, 3d, …) and day numbers or dates for `--from` and `--to`; parts of days \
                 are for `--set warehouse.mode=append`",
            ));
    }
    Ok(())
}

fn document(pipeline: &Pipeline, range: Window, window_seconds: i64, salt: &str) -> Document {
    let source = &pipeline.source;
    let identity = if source.identity.is_empty() { &source.url } else { &source.identity };
    let warehouse = &pipeline.warehouse;
    // Everything that changes which rows end up where; nothing that only changes how fast.
    // Only hashes are kept: a query parameter may be a key.
    let mut settings = vec![
        ("source", json!([identity, &source.query, &source.record_path, &source.row_number_column])),
        ("source.format", json!(pipeline.format.map(|f| f.to_string()))),
        (COLUMNS, json!(&pipeline.columns)),
        ("time", json!([&pipeline.time_column, &pipeline.epoch.to_string()])),
        ("transform.sql", json!(&pipeline.stage_sql)),
        ("stage", json!([pipeline.stage.file_mib_max, pipeline.stage.row_group_rows as u64])),
    ];
    if pipeline.mode == Mode::Append {
        settings.push((MODE, json!(["append", pipeline.late_days])));
    }
    let hashed = settings.into_iter();
    let hashed = hashed.map(|(part, value)| (part.to_owned(), short_hash(value.to_string().as_bytes())));
    Document {
        pipeline: pipeline.name.clone(),
        range,
        window_seconds,
        whole: false,
        continues: false,
        table: format!("{}.{}.{}", warehouse.project, warehouse.dataset, warehouse.staging_table),
        settings: hashed.collect(),
        salt: salt.to_owned(),
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
        assert_ne!(run(&[]), run(&["warehouse.mode=append"]));
    }

    #[test]
    fn what_continues_is_one_run_wherever_it_stands() {
        let pipeline = Pipeline::resolve("flows", &["warehouse.mode=append".to_owned()]).expect("a pipeline");
        let window = |n: i64| Window { after: n * 10_800, before: (n + 1) * 10_800 };
        let plan = |first, last| {
            let windows = (first..=last).map(window).collect();
            Plan::continuing(&pipeline, 10_800, windows).expect("a plan")
        };
        assert_eq!(plan(0, 3).run, plan(7, 8).run);
        assert_eq!(plan(7, 8).range, Window { after: 75_600, before: 97_200 });
        let whole = Plan::new(&pipeline, window(0), 10_800, false, "").expect("parts of days append");
        assert_ne!(plan(0, 0).run, whole.run);
        assert!(Plan::continuing(&pipeline, 0, Vec::new()).is_err());
    }

    #[test]
    fn parts_of_days_are_refused() {
        assert!(plan(&[], Window { after: 0, before: 100 }, SECONDS_PER_DAY).is_err());
        assert!(plan(&[], Window { after: 0, before: SECONDS_PER_DAY }, 3600).is_err());
        assert!(plan(&[], Window { after: 0, before: SECONDS_PER_DAY }, 0).is_err());
    }
}
