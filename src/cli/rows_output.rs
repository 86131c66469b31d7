//! Where rows go, and in which format: the same for every command that prints rows.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use futures::{Stream, TryStreamExt};

use super::Global;
use crate::error::{Error, Result};
use crate::render::{Format, Reader, Renderer};
use crate::telemetry::{Show, Transfer};

/// Bytes that are collected before they go to a pipe or a file.
const BUFFER_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct RowsOutput {
    /// How rows are written [default: as FILE ends, else `table` on a terminal and `csv` elsewhere]
    #[arg(long, value_name = "FORMAT", value_parser = format_parser())]
    format: Option<Format>,
    /// Write the rows into a file, which appears when all of them are in it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    let names = PossibleValuesParser::new(Format::ALL.map(Format::name));
    names.try_map(|name| name.parse::<Format>())
}

impl RowsOutput {
    pub(super) fn format(&self) -> Format {
        let of_file = || Format::of_file(self.output.as_ref()?.to_str()?);
        let default = || match self.output.is_none() && io::stdout().is_terminal() {
            true => Format::Table,
            false => Format::Csv,
        };
        self.format.or_else(of_file).unwrap_or_else(default)
    }

    /// Finds out what cannot be written before anything is read, or costs money.
    pub(super) fn check(&self) -> Result<()> {
        let format = self.format();
        if format.is_binary() && self.output.is_none() && io::stdout().is_terminal() {
            return Err(Error::usage(format!("{format} is nothing for a terminal"))
                .hint(format!("give `--output FILE.{format}`, or a pipe")));
        }
        match self.output.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) if !folder.is_dir() => {
                Err(Error::usage(format!("there is no folder `{}`", folder.display())))
            }
            _ => Ok(()),
        }
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
        let is_shown = self.output.is_none() && io::stdout().is_terminal();
        let transfer = Transfer::new(if is_shown { Show::Off } else { global.show() }, rows_expected);
        let Some(path) = &self.output else {
            let out = Box::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()));
            return render(self.format(), schema, out, batches, &transfer).await;
        };
        let file = Replacing::create(path)?;
        let out = Box::new(BufWriter::with_capacity(BUFFER_BYTES, file.open()?));
        let rows = render(self.format(), schema, out, batches, &transfer).await?;
        file.finish()?;
        Ok(rows)
    }
}

async fn render(
    format: Format,
    schema: &SchemaRef,
    out: Box<dyn Write + Send>,
    batches: impl Stream<Item = Result<RecordBatch>> + Send,
    transfer: &Transfer,
) -> Result<u64> {
    let died = |e: tokio::task::JoinError| Error::failed("the writer of rows died").caused_by(e);
    let schema = Arc::clone(schema);
    let mut batches = std::pin::pin!(batches);
    // Whoever cannot read the first row gets no header either.
    let mut next = batches.try_next().await?;
    // A pipe that nobody empties holds up a thread of its own, and Ctrl-C is heard all the same.
    let start = tokio::task::spawn_blocking(move || Renderer::new(format, &schema, out));
    let mut renderer = start.await.map_err(died)??;
    let mut rows = 0;
    while let Some(batch) = next {
        let count = batch.num_rows() as u64;
        let write = tokio::task::spawn_blocking(move || (renderer.write(&batch), renderer));
        let written;
        (written, renderer) = write.await.map_err(died)?;
        if written? == Reader::Gone {
            return Ok(rows);
        }
        rows += count;
        transfer.add(count);
        next = batches.try_next().await?;
    }
    tokio::task::spawn_blocking(move || renderer.finish()).await.map_err(died)??;
    Ok(rows)
}

/// A file that takes the place of another one once it is whole.
struct Replacing {
    path: PathBuf,
    /// `None` for what cannot be replaced: a pipe or a device.
    part: Option<PathBuf>,
}

impl Replacing {
    fn create(path: &Path) -> Result<Self> {
        let is_special = std::fs::metadata(path).is_ok_and(|found| !found.is_file());
        let Some(name) = path.file_name() else {
            return Err(Error::usage(format!("`{}` is no file", path.display())));
        };
        let mut part = name.to_owned();
        part.push(format!(".{}.part", std::process::id()));
        Ok(Replacing { path: path.to_owned(), part: (!is_special).then(|| path.with_file_name(part)) })
    }

    fn open(&self) -> Result<File> {
        let path = self.part.as_ref().unwrap_or(&self.path);
        File::create(path)
            .map_err(|e| Error::usage(format!("cannot write `{}`", path.display())).caused_by(e))
    }

    fn finish(mut self) -> Result<()> {
        let Some(part) = self.part.take() else { return Ok(()) };
        std::fs::rename(&part, &self.path).map_err(|e| {
            let _ = std::fs::remove_file(&part);
            Error::failed(format!("cannot write `{}`", self.path.display())).caused_by(e)
        })
    }
}

impl Drop for Replacing {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let _ = std::fs::remove_file(part);
        }
    }
}
