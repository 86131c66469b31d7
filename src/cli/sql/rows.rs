//! One query, and what becomes of its rows: they are written, or a chart is drawn from them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use indicatif::HumanCount;

use super::chart::Drawing;
use crate::cli::Global;
use crate::cli::output::counted;
use crate::cli::rows_output::RowsOutput;
use crate::engine::{self, Query};
use crate::error::Result;
use crate::explore::Explorer;
use crate::render::Format;
use crate::render::chart::Collector;
use crate::telemetry::{Scanning, Show, say};

/// Of a table on a terminal: more are not read by anyone, and scroll the rest away.
const TERMINAL_ROWS_MAX: usize = 1000;

/// How a result is shown.
#[derive(Debug, Clone)]
pub(super) struct Showing {
    pub output: RowsOutput,
    /// Drawn in place of the rows, unless those go into a file.
    pub drawing: Option<Drawing>,
    /// Rows that are asked for at most.
    pub limit: Option<usize>,
    /// What shows more rows than are shown by themselves.
    pub more: &'static str,
    pub timer: bool,
}

impl Showing {
    fn limit(&self) -> Option<usize> {
        let is_read = self.output.is_for_terminal() && self.output.format() == Format::Table;
        let default = (is_read && self.drawing.is_none()).then_some(TERMINAL_ROWS_MAX);
        self.limit.or(default)
    }
}

/// Plans the query, runs it, and shows what comes of it.
pub(super) async fn show(explorer: &Explorer, sql: &str, showing: &Showing, global: &Global) -> Result<()> {
    let started = Instant::now();
    let limit = showing.limit();
    // One more, to know whether there are more.
    let query = explorer.plan(sql, limit.map(|limit| limit + 1)).await?;
    let planned = started.elapsed();
    let cut = AtomicBool::new(false);
    let rows = first(query.rows()?, limit, &cut);
    let written = match &showing.drawing {
        Some(drawing) => draw(drawing, &showing.output, &query, rows, global).await?,
        None => write(&showing.output, &query, rows, global).await?,
    };
    if cut.into_inner() && showing.limit.is_none() && !global.quiet {
        say(&format!("{} rows are shown, and there are more; {}\n", HumanCount(written), showing.more));
    }
    if showing.timer {
        say(&timer(written, planned, started.elapsed()));
    }
    Ok(())
}

type Rows<'r> = BoxStream<'r, Result<RecordBatch>>;

/// The first `limit` rows; nothing behind them is asked for, and `cut` is set when there is more.
fn first<'r>(rows: Rows<'static>, limit: Option<usize>, cut: &'r AtomicBool) -> Rows<'r> {
    let Some(limit) = limit else { return rows };
    let some = rows.scan(limit, |left, batch| {
        let batch = batch.map(|batch| {
            let taken = batch.num_rows().min(*left);
            cut.fetch_or(taken < batch.num_rows(), Ordering::Relaxed);
            *left -= taken;
            batch.slice(0, taken)
        });
        std::future::ready(Some(batch))
    });
    some.boxed()
}

async fn write(output: &RowsOutput, query: &Query, rows: Rows<'_>, global: &Global) -> Result<u64> {
    let (schema, mut rows) = written_as(output, query, rows);
    let mut scanning = Some(scanning(query, global.show()));
    if output.is_for_terminal() {
        // Rows and bars on one terminal would be mixed up.
        rows = rows.inspect(move |_| drop(scanning.take())).boxed();
        return output.write_counted(&schema, rows, &|_| {}).await;
    }
    output.write_counted(&schema, rows, &|_| {}).await
}

/// Texts as files of other programs have them, where the format is one of those.
fn written_as<'r>(output: &RowsOutput, query: &Query, rows: Rows<'r>) -> (SchemaRef, Rows<'r>) {
    if !output.format().is_binary() {
        return (query.schema(), rows);
    }
    let schema = query.plain_schema();
    let plain = schema.clone();
    let rows = rows.and_then(move |batch| std::future::ready(engine::plain(&batch, &plain)));
    (schema, rows.boxed())
}

async fn draw(
    drawing: &Drawing,
    output: &RowsOutput,
    query: &Query,
    rows: Rows<'_>,
    global: &Global,
) -> Result<u64> {
    let mut collector = Collector::new(drawing.kind, &query.schema())?;
    let mut count = 0;
    {
        let _scanning = scanning(query, global.show());
        let mut rows = rows.map(|batch| {
            let batch = batch?;
            collector.push(&batch)?;
            count += batch.num_rows() as u64;
            Ok(batch)
        });
        if output.path().is_some() {
            let (schema, rows) = written_as(output, query, rows.boxed());
            output.write_counted(&schema, rows, &|_| {}).await?;
        } else {
            while rows.try_next().await?.is_some() {}
        }
    }
    drawing.draw(&collector.finish()?).await?;
    Ok(count)
}

pub(super) fn scanning(query: &Query, show: Show) -> Scanning {
    let query = query.clone();
    Scanning::new(show, move || {
        let read = query.scanned();
        (read.rows, read.bytes)
    })
}

pub(super) fn timer(rows: u64, planned: Duration, all: Duration) -> String {
    let (all, planned) = (all.as_secs_f64(), planned.as_secs_f64());
    format!("{}, {all:.3} s, {planned:.3} of them to plan\n", counted(rows, "row"))
}
