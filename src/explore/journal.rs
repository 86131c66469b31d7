//! The journal as two tables: `runs`, a row a run, and `windows`, a row a window of any run.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::record_batch::RecordBatch;

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, LedgerWindow, Run, Standing};
use crate::manifest::{Manifest, StagedFile, WindowCounts};
use crate::partition::Window;

/// A pipeline and what its journal says.
pub(super) type Journal<'j> = (&'j Pipeline, &'j Ledger);

type Count = fn(&WindowCounts) -> u64;

/// Counts of a window, by the name of their column.
const COUNTS: [(&str, Count); 6] = [
    ("records", |counts| counts.records),
    ("staged", |counts| counts.staged),
    ("duplicates", |counts| counts.duplicates),
    ("filtered", |counts| counts.filtered),
    ("rejects", |counts| counts.rejects),
    ("outside", |counts| counts.outside),
];

const STANDINGS: [Standing; 6] =
    [Standing::Done, Standing::Empty, Standing::Open, Standing::Failed, Standing::Missing, Standing::Damaged];

type Columns = Vec<(&'static str, ArrayRef)>;

pub(super) fn runs(journals: &[Journal<'_>]) -> Result<RecordBatch> {
    let rows: Vec<(&Pipeline, &Run)> = all_runs(journals).collect();
    let runs = || rows.iter().map(|(_, run)| *run);
    let range = |run: &Run| run.range().map(Window::days);
    let mut columns: Columns = vec![
        ("pipeline", texts(rows.iter().map(|(pipeline, _)| Some(pipeline.name.clone())))),
        ("run", texts(runs().map(|run| Some(run.id.clone())))),
        ("first_day", numbers(runs().map(|run| range(run).map(|(first, _)| first)))),
        ("last_day", numbers(runs().map(|run| range(run).map(|(_, last)| last)))),
        ("destination", texts(runs().map(|run| Some(run.plan.as_ref()?.table.clone())))),
        ("written", times(runs().map(|run| Some(run.written_unix_ms)))),
        ("windows", counts(runs().map(|run| Some(run.windows.len() as u64)))),
    ];
    for standing in STANDINGS {
        let of_run = runs().map(|run| Some(run.num_windows(standing) as u64));
        columns.push((standing.word(), counts(of_run)));
    }
    for (name, part) in COUNTS {
        let of_window = |window: &LedgerWindow| window.manifest().map_or(0, |found| part(&found.counts));
        columns.push((name, counts(runs().map(|run| Some(run.windows.iter().map(of_window).sum())))));
    }
    table(columns)
}

pub(super) fn windows(journals: &[Journal<'_>]) -> Result<RecordBatch> {
    let of_run = |(pipeline, run)| move |window| (pipeline, run, window);
    let rows: Vec<(&Pipeline, &Run, &LedgerWindow)> =
        all_runs(journals).flat_map(|of| of.1.windows.iter().map(of_run(of))).collect();
    let windows = || rows.iter().map(|(_, _, window)| *window);
    let manifests = || windows().map(LedgerWindow::manifest);
    let files = |part: fn(&StagedFile) -> u64| {
        let of_manifest = move |manifest: &Manifest| {
            manifest.partitions.iter().flat_map(|staged| &staged.files).map(part).sum::<u64>()
        };
        counts(manifests().map(|manifest| manifest.map(of_manifest)))
    };
    let loaded = |window: &LedgerWindow| {
        window.state().loaded.map(|loaded| loaded.iter().map(|partition| partition.output_rows).sum())
    };
    let written = |window: &LedgerWindow| window.entries.last().map(|last| last.written_unix_ms);
    let mut columns: Columns = vec![
        ("pipeline", texts(rows.iter().map(|(pipeline, _, _)| Some(pipeline.name.clone())))),
        ("run", texts(rows.iter().map(|(_, run, _)| Some(run.id.clone())))),
        ("first_day", numbers(windows().map(|window| Some(window.window.days().0)))),
        ("last_day", numbers(windows().map(|window| Some(window.window.days().1)))),
        ("state", texts(windows().map(|window| Some(window.standing().word().to_owned())))),
        ("reason", texts(windows().map(LedgerWindow::reason))),
    ];
    for (name, part) in COUNTS {
        columns.push((name, counts(manifests().map(|manifest| manifest.map(|found| part(&found.counts))))));
    }
    columns.extend([
        ("loaded", counts(windows().map(loaded))),
        ("files", files(|_| 1)),
        ("file_bytes", files(|file| file.bytes)),
        ("entries", counts(windows().map(|window| Some(window.entries.len() as u64)))),
        ("written", times(windows().map(written))),
    ]);
    table(columns)
}

fn all_runs<'j>(journals: &[Journal<'j>]) -> impl Iterator<Item = (&'j Pipeline, &'j Run)> {
    journals.iter().flat_map(|(pipeline, ledger)| ledger.runs.iter().map(|run| (*pipeline, run)))
}

fn texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn numbers(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

/// Those of a damaged journal may be of any size.
fn counts(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    numbers(values.map(|count| count.map(|count| i64::try_from(count).unwrap_or(i64::MAX))))
}

fn times(unix_ms: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    let signed = unix_ms.map(|time| time.and_then(|time| i64::try_from(time).ok()));
    Arc::new(signed.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

fn table(columns: Columns) -> Result<RecordBatch> {
    let nullable = columns.into_iter().map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(nullable)
        .map_err(|e| Error::failed("cannot make a table of the journal").caused_by(e))
}
