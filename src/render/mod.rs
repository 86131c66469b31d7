//! Record batches as people and programs want them: a table on a terminal, CSV in a pipe, files.
//!
//! Every format is written as the batches come, so memory is that of a batch (`parquet`: of a row
//! group, `table`: of a page). Values read the same in all text formats: TIMESTAMP
//! `2024-01-31T23:59:59.500Z`, DATETIME without the `Z`, NUMERIC without zeros at its end, BYTES as
//! base64; what is nested is JSON.

mod cell;
pub mod chart;
mod columnar;
mod delimited;
mod json;
mod table;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};

pub use json::text_objects;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns under a header.
    Table,
    /// RFC 4180 with a header; NULL is nothing, an empty text is `""`.
    Csv,
    /// A header, then texts with `\t`, `\n`, `\r` and `\\` escaped; NULL is `\N`.
    Tsv,
    /// One array of objects.
    Json,
    /// An object a line.
    Ndjson,
    Markdown,
    /// One file, zstd.
    Parquet,
    /// Arrow's IPC stream.
    Arrow,
}

impl Format {
    pub const ALL: [Format; 8] = [
        Format::Table,
        Format::Csv,
        Format::Tsv,
        Format::Json,
        Format::Ndjson,
        Format::Markdown,
        Format::Parquet,
        Format::Arrow,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Markdown => "markdown",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }

    /// True for what would only garble a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::Parquet | Format::Arrow)
    }

    /// The format that the end of a file's name stands for.
    pub fn of_file(name: &str) -> Option<Format> {
        Some(match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            "json" => Format::Json,
            "ndjson" | "jsonl" => Format::Ndjson,
            "md" => Format::Markdown,
            "parquet" => Format::Parquet,
            "arrow" | "arrows" => Format::Arrow,
            _ => return None,
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Format> {
        let found = Format::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
            Error::usage(format!("no format `{text}`; there are {}", names.join(", ")))
        })
    }
}

/// Whether anybody still reads what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    Listening,
    /// The pipe is closed: the reader, say `head -1`, has seen what it wanted.
    Gone,
}

/// Writes batches of one schema in one format.
pub struct Renderer {
    writer: Box<dyn Rows + Send>,
    reader: Reader,
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Renderer {{ reader: {:?} }}", self.reader)
    }
}

/// What a format has to do.
trait Rows {
    fn start(&mut self) -> io::Result<()>;
    fn write(&mut self, batch: &RecordBatch) -> io::Result<()>;
    /// The end of the text or file; the last bytes are handed on.
    fn finish(&mut self) -> io::Result<()>;
}

impl Renderer {
    /// The header, where there is one, is written at once: an empty result has it too.
    pub fn new(format: Format, schema: &SchemaRef, out: Box<dyn Write + Send>) -> Result<Renderer> {
        Renderer::folded(format, schema, out, None)
    }

    /// As [`Renderer::new`], for a terminal of this width: a table that is wider is folded.
    pub fn folded(
        format: Format,
        schema: &SchemaRef,
        out: Box<dyn Write + Send>,
        width: Option<usize>,
    ) -> Result<Renderer> {
        let writer: Box<dyn Rows + Send> = match format {
            Format::Table => Box::new(table::Table::new(schema, out, width)),
            Format::Csv => Box::new(delimited::Delimited::csv(schema, out)),
            Format::Tsv => Box::new(delimited::Delimited::tsv(schema, out)),
            Format::Markdown => Box::new(delimited::Delimited::markdown(schema, out)),
            Format::Json => Box::new(json::Json::array(out)),
            Format::Ndjson => Box::new(json::Json::lines(out)),
            Format::Parquet => Box::new(columnar::Parquet::new(schema, out).map_err(cannot_write)?),
            Format::Arrow => Box::new(columnar::ArrowStream::new(schema, out)),
        };
        let mut renderer = Renderer { writer, reader: Reader::Listening };
        renderer.settle(|writer| writer.start())?;
        Ok(renderer)
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<Reader> {
        self.settle(|writer| writer.write(batch))
    }

    pub fn finish(mut self) -> Result<Reader> {
        self.settle(|writer| writer.finish())
    }

    fn settle(&mut self, step: impl FnOnce(&mut dyn Rows) -> io::Result<()>) -> Result<Reader> {
        if self.reader == Reader::Listening {
            match step(self.writer.as_mut()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.reader = Reader::Gone,
                Err(error) => return Err(cannot_write(error)),
            }
        }
        Ok(self.reader)
    }
}

/// The values of one column as the text formats have them; `None` where there is none.
pub fn texts(field: &Field, values: &ArrayRef) -> Result<Vec<Option<String>>> {
    let column = value::Column::new(field, values).map_err(cannot_write)?;
    let text = |row| {
        let mut text = String::new();
        column.push_text(&mut text, row);
        text
    };
    Ok((0..values.len()).map(|row| (!column.is_null(row)).then(|| text(row))).collect())
}

fn cannot_write(error: io::Error) -> Error {
    Error::failed("cannot write the rows").caused_by(error)
}
