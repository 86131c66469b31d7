//! `promote --local`: the rows of production, computed from the staged files.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use indicatif::{DecimalBytes, HumanCount};

use super::{Args, scratch};
use crate::cli::Global;
use crate::cli::output::counted;
use crate::config::Pipeline;
use crate::emulator::local;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::excerpt::excerpt;
use crate::holdings::Windows;
use crate::pipeline::open_engine;
use crate::promote::{Files, Rebuild, staged};
use crate::render::Format;
use crate::schema::Mode;
use crate::telemetry::say;

/// Of a table on a terminal: more are not read by anyone, and scroll the rest away.
const TERMINAL_ROWS_MAX: u64 = 1000;

pub(super) async fn run(args: &Args, pipeline: &Pipeline, days: u32, global: &Global) -> Result<()> {
    args.output.check()?;
    let scratch = scratch(pipeline);
    let staged = staged(pipeline, Windows::Staged).await?;
    let last_day = match args.as_of {
        Some(day) => day,
        None => staged.newest()?,
    };
    let rebuild = Rebuild::of_days(pipeline, days, last_day)?;
    let files = staged.files(rebuild.first_day, rebuild.last_day, &scratch).await?;
    let engine = open_engine(pipeline, scratch.clone())?;
    let answer = answer(pipeline, &rebuild, &files, engine, &scratch).await?;
    let is_cut = args.output.is_for_terminal() && args.output.format() == Format::Table;
    let shown = if is_cut { TERMINAL_ROWS_MAX } else { u64::MAX };
    let rows = AtomicU64::new(0);
    let batches = answer.rows.map(|batch| batch.map(|batch| first(batch, shown, &rows)));
    args.output.write_counted(&answer.schema, batches, &|_| {}).await?;
    let rows = rows.into_inner();
    if !global.quiet {
        if rows > shown {
            say(&format!("the first {} rows are shown; `--output FILE` takes all\n", HumanCount(shown)));
        }
        say(&format!(
            "{}: the latest record per key from {} to {}, of {} in {} ({})\n",
            counted(rows, "row"),
            rebuild.first_day,
            rebuild.last_day,
            counted(files.rows, "staged row"),
            counted(files.num_files() as u64, "file"),
            DecimalBytes(files.bytes)
        ));
    }
    Ok(())
}

/// Starts the query over the files.
pub(super) async fn answer(
    pipeline: &Pipeline,
    rebuild: &Rebuild,
    files: &Files,
    engine: Engine,
    scratch: &Path,
) -> Result<local::Answer> {
    let column = |column: &crate::schema::Column| {
        let mode = if column.mode == Mode::Required { "REQUIRED" } else { "NULLABLE" };
        [column.name.clone(), column.kind.name().to_owned(), mode.to_owned()]
    };
    let question = local::Question {
        sql: rebuild.sql.clone(),
        timestamps: rebuild.timestamps(),
        table: local::Table {
            project: rebuild.staging.project.clone(),
            dataset: rebuild.staging.dataset.clone(),
            table: rebuild.staging.table.clone(),
            columns: pipeline.columns.iter().map(column).collect(),
            days: files.days.clone(),
        },
    };
    local::ask(engine, scratch, question).await.map_err(|error| placed(&error, &rebuild.sql))
}

/// With the line of the SQL that the error is about.
fn placed(error: &Error, sql: &str) -> Error {
    let message = format!("`promote.sql`: {error}");
    let message = match excerpt(sql, &message) {
        Some(line) => format!("{message}\n{line}"),
        None => message,
    };
    let placed = Error::new(error.kind(), message);
    match error.hint_text() {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

/// What is left to show of a batch; all of its rows are counted.
fn first(batch: RecordBatch, shown: u64, rows: &AtomicU64) -> RecordBatch {
    let before = rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
    let left = usize::try_from(shown.saturating_sub(before)).unwrap_or(usize::MAX);
    batch.slice(0, batch.num_rows().min(left))
}
