//! Where rows go, and in which format: the same for every command that prints rows.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use futures::{Stream, TryStreamExt};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::replacing::Target;
use super::{Global, output};
use crate::error::{Error, Result};
use crate::render::{Format, Reader, Renderer};
use crate::telemetry::{Show, Transfer};

/// Bytes that are collected before they go to a pipe or a file.
const BUFFER_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct RowsOutput {
    /// How rows are written; a table that is wider than the terminal is folded [default: as FILE ends,
    /// else `table` on a terminal and `csv` elsewhere]
    #[arg(long, value_name = "FORMAT", value_parser = format_parser())]
    format: Option<Format>,
    /// Write the rows into a file, which appears, or replaces the one that is there, when all of them
    /// are in it; `-` is stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    // `text` is what the other commands call the form for people.
    let value = |format: Format| match format {
        Format::Table => PossibleValue::new(format.name()).alias("text"),
        _ => PossibleValue::new(format.name()),
    };
    let names = PossibleValuesParser::new(Format::ALL.map(value));
    names.try_map(|name| if name == "text" { Ok(Format::Table) } else { name.parse::<Format>() })
}

impl RowsOutput {
    /// As if these were given as `--format` and `--output`.
    pub(super) fn new(format: Option<Format>, output: Option<PathBuf>) -> RowsOutput {
        RowsOutput { format, output }
    }

    pub(super) fn format(&self) -> Format {
        let of_file = || Format::of_file(self.path()?.to_str()?);
        let default = if self.is_for_terminal() { Format::Table } else { Format::Csv };
        self.format.or_else(of_file).unwrap_or(default)
    }

    /// The file, unless the rows go to stdout.
    pub(super) fn path(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    pub(super) fn is_for_terminal(&self) -> bool {
        self.path().is_none() && io::stdout().is_terminal()
    }

    /// Finds out what cannot be written before anything is read, or costs money.
    pub(super) fn check(&self) -> Result<()> {
        let format = self.format();
        if format.is_binary() && self.is_for_terminal() {
            return Err(Error::usage(format!("{format} is nothing for a terminal"))
                .hint(format!("give `--output FILE.{format}`, or a pipe")));
        }
        let Some(path) = self.path() else { return Ok(()) };
        let target = Target::find(path)?;
        if target.is_file() {
            self.check_ending(path)?;
            // Made and taken away again: whether that can be done is not known otherwise.
            target.open()?;
        }
        Ok(())
    }

    /// A name must not promise what is not in the file.
    fn check_ending(&self, path: &Path) -> Result<()> {
        let shown = path.display();
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        if let Some(packed @ ("gz" | "bz2" | "zst" | "xz" | "zip")) = ending.as_deref() {
            let tool = if packed == "gz" { "gzip" } else { packed };
            return Err(Error::usage(format!("`{shown}`: rows are not written as {packed}"))
                .hint(format!("pack them on their way: `--output - | {tool} >{shown}`, or write parquet")));
        }
        if self.format.is_none() && path.to_str().and_then(Format::of_file).is_none() {
            let endings = "`.csv`, `.tsv`, `.json`, `.ndjson`, `.md`, `.parquet` or `.arrow`";
            return Err(Error::usage(format!("`{shown}` does not say which format is meant"))
                .hint(format!("end it with {endings}, or give `--format`")));
        }
        Ok(())
    }

    /// Writes all batches; returns the rows that were written before the reader, if it did, went away.
    pub(super) async fn write(
        &self,
        schema: &SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch>> + Send,
        rows_expected: u64,
        global: &Global,
    ) -> Result<u64> {
        // Rows and bars on one terminal would be mixed up.
        let show = if self.is_for_terminal() { Show::Off } else { global.show() };
        let transfer = Transfer::new(show, rows_expected);
        self.write_counted(schema, batches, &|rows| transfer.add(rows)).await
    }

    /// Writes all batches, and tells `count` how many rows have been written each time.
    pub(super) async fn write_counted(
        &self,
        schema: &SchemaRef,
        batches: impl Stream<Item = Result<RecordBatch>> + Send,
        count: &(dyn Fn(u64) + Sync),
    ) -> Result<u64> {
        let Some(path) = self.path() else {
            let out = Box::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()));
            let width = self.is_for_terminal().then(output::width);
            return render(self.format(), schema, out, width, batches, count).await;
        };
        let target = Target::find(path)?;
        let open = tokio::task::spawn_blocking(move || target.open());
        let (file, replacing) = open.await.map_err(died)??;
        let out = Box::new(BufWriter::with_capacity(BUFFER_BYTES, file));
        let rows = render(self.format(), schema, out, None, batches, count).await?;
        replacing.finish()?;
        Ok(rows)
    }
}

/// Held from before a batch is handed to its thread until what is left of it is written or given back.
static WRITING: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

/// Waits for the batch that a writer which was stopped is still at: nothing is printed in the midst of it.
pub(super) async fn settled() {
    drop(WRITING.lock().await);
}

/// A renderer on its way back. One that nobody waits for writes what it has buffered when it is dropped.
struct Back {
    renderer: Renderer,
    // Behind the renderer, since fields are dropped in this order.
    _writing: OwnedMutexGuard<()>,
}

async fn render(
    format: Format,
    schema: &SchemaRef,
    out: Box<dyn Write + Send>,
    width: Option<usize>,
    batches: impl Stream<Item = Result<RecordBatch>> + Send,
    count: &(dyn Fn(u64) + Sync),
) -> Result<u64> {
    let schema = Arc::clone(schema);
    let mut batches = std::pin::pin!(batches);
    // Whoever cannot read the first row gets no header either.
    let mut next = batches.try_next().await?;
    // A pipe that nobody empties holds up a thread of its own, and Ctrl-C is heard all the same.
    let start = tokio::task::spawn_blocking(move || Renderer::folded(format, &schema, out, width));
    let mut renderer = start.await.map_err(died)??;
    let mut rows = 0;
    while let Some(batch) = next {
        let num_rows = batch.num_rows() as u64;
        let _writing = Arc::clone(&WRITING).lock_owned().await;
        let write = tokio::task::spawn_blocking(move || {
            let mut back = Back { renderer, _writing };
            (back.renderer.write(&batch), back)
        });
        let (written, back) = write.await.map_err(died)?;
        renderer = back.renderer;
        if written? == Reader::Gone {
            return Ok(rows);
        }
        rows += num_rows;
        count(num_rows);
        next = batches.try_next().await?;
    }
    let writing = Arc::clone(&WRITING).lock_owned().await;
    let finish = tokio::task::spawn_blocking(move || (renderer.finish(), writing).0);
    finish.await.map_err(died)??;
    Ok(rows)
}

fn died(error: tokio::task::JoinError) -> Error {
    Error::failed("the writer of rows died").caused_by(error)
}
