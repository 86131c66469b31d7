//! A look at the source before a backfill: its own counts of the windows, and a few windows in part.
//!
//! Nothing is staged: the files of a sample are made in the system's temporary folder, measured and
//! removed.

use std::time::Instant;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;

use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::forecast::Sample;
use crate::partition::Window;
use crate::pipeline::{open_engine, open_source, records, stage_options};
use crate::source::Source;
use crate::stage::{Store, WindowWriter};
use crate::transform::Transform;

/// Windows that are read: of the start, the middle and the end.
const WINDOWS_READ: usize = 3;
/// Records of each: enough for sizes and rates, and a second's work.
const RECORDS_READ: u64 = 200_000;
/// Windows that the source is asked about at once.
const COUNTS_AT_ONCE: usize = 4;

/// Asks the source for the counts of all `windows`, where it sends any, and reads a few of them.
pub async fn take(pipeline: &Pipeline, windows: &[Window], effects: &Effects) -> Result<Sample> {
    let source = open_source(pipeline, effects)?;
    let scratch = std::env::temp_dir();
    let engine = open_engine(pipeline, scratch.clone())?;
    let transform = Transform::new(&engine, &pipeline.stage_sql, &pipeline.columns).await?;
    let mut sample = Sample::default();
    if source.has_windows() && !pipeline.source.count_header.is_empty() {
        // The body is left where it is: its head says how many records it has.
        let count = async |window| Ok::<_, Error>((window, source.open(window).await?.records));
        let asked = futures::stream::iter(windows.iter().copied().map(count));
        let counts: Vec<_> = asked.buffered(COUNTS_AT_ONCE).try_collect().await?;
        sample.counts = counts.into_iter().filter_map(|(window, count)| Some((window, count?))).collect();
    }
    let has_records = |window: &&Window| sample.counts.get(window).is_none_or(|count| *count > 0);
    let candidates: Vec<Window> = windows.iter().filter(has_records).copied().collect();
    let last = candidates.len().saturating_sub(1);
    let mut chosen: Vec<usize> = (0..WINDOWS_READ).map(|n| n * last / (WINDOWS_READ - 1)).collect();
    chosen.dedup();
    for window in chosen.into_iter().filter_map(|at| candidates.get(at)) {
        read(&mut sample, pipeline, &source, &transform, *window).await?;
    }
    Ok(sample)
}

/// The first records of one window, through transform and stage as a backfill would.
async fn read(
    sample: &mut Sample,
    pipeline: &Pipeline,
    source: &Source,
    transform: &Transform,
    window: Window,
) -> Result<()> {
    let scratch = std::env::temp_dir();
    let started = Instant::now();
    let body = source.open(window).await?;
    let mut decoded = records(pipeline, source, window, body)?;
    let (taken, input) = mpsc::channel(4);
    let (mut rows_out, _) = transform.run(input).await?;
    let (schema, options) = (pipeline.columns.arrow(), stage_options(pipeline));
    let mut writer = WindowWriter::new(schema, pipeline.epoch, window, options, &scratch)?;
    let feed = async move {
        let mut num_records = 0;
        while num_records < RECORDS_READ {
            let Some(batch) = decoded.input.recv().await else {
                return Ok((num_records, decoded.end().await.map(|_| true)?));
            };
            num_records += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            if taken.send(batch).await.is_err() {
                break;
            }
        }
        Ok::<_, Error>((num_records, false))
    };
    let write = async {
        let (mut rows, mut table_bytes) = (0, 0);
        while let Some(batch) = rows_out.next().await {
            let batch = batch?;
            rows += batch.num_rows() as u64;
            // The day is no column of the table.
            let columns = pipeline.columns.iter().filter_map(|column| batch.column_by_name(&column.name));
            table_bytes += columns.map(|column| column_bytes(column)).sum::<u64>();
            writer.write(&batch)?;
        }
        Ok::<_, Error>((rows, table_bytes))
    };
    let (fed, written) = tokio::join!(feed, write);
    let ((num_records, is_whole), (rows, table_bytes)) = (fed?, written?);
    // Only names need a place, and nothing is published there.
    let place =
        Store::open(&format!("file://{}", scratch.display()), Effects::default(), pipeline.limits.retry())?;
    let written = writer.finish(&place, "sample")?;
    sample.read += 1;
    if is_whole {
        sample.whole.insert(window, num_records);
    }
    sample.records += num_records;
    sample.rows += rows;
    sample.table_bytes += table_bytes;
    let files = written.partitions.iter().flat_map(|staged| &staged.files);
    sample.file_bytes += files.map(|file| file.bytes).sum::<u64>();
    sample.ms += u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    Ok(())
}

/// As BigQuery counts them: "Data size calculation" of its price list. NULL is nothing.
fn column_bytes(column: &dyn Array) -> u64 {
    let values = (column.len() - column.null_count()) as u64;
    match column.data_type() {
        DataType::Utf8 => {
            let text: usize = column.as_string::<i32>().iter().flatten().map(str::len).sum();
            2 * values + text as u64
        }
        DataType::Boolean => values,
        DataType::Decimal128(..) => 16 * values,
        _ => 8 * values,
    }
}
