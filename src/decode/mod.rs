//! Push decoders without I/O: bytes in, Arrow record batches and rejects out.
//!
//! Bytes may be cut anywhere; the batches depend on the document alone. A record that is well
//! formed but holds a wrong value becomes a [`Reject`] and decoding goes on. A document that is not
//! well formed, ends early or passes a limit is an error: where the next record starts would be a
//! guess. Only line-based formats have a safe place to go on, the next newline.

mod csv;
mod expected;
mod json;
mod lines;
mod rows;
mod value;
mod xml;

use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::reject::Reject;
use crate::schema::{Columns, Format};

pub use rows::Counts;
use rows::Rows;

/// What a decoder needs to know beside the columns.
#[derive(Debug, Clone)]
pub struct Options {
    /// XML: local names from the root element to the record element.
    pub record_path: Vec<String>,
    /// CSV: the column that takes the record's number instead of a field.
    pub row_number_column: Option<String>,
    /// Rows of a record batch.
    pub batch_rows: usize,
    /// Bytes that one record, tag or comment may have.
    pub record_bytes_max: usize,
    /// Levels of nesting, in a record and above it.
    pub depth_max: usize,
    /// Rejects kept with their bytes; the counter goes on without them.
    pub rejects_kept: usize,
    /// XML: read records of the usual shape by a shortcut. The rows are the same without.
    pub expect_records: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            record_path: vec!["records".into(), "record".into()],
            row_number_column: None,
            batch_rows: 8192,
            record_bytes_max: 16 << 20,
            depth_max: 64,
            rejects_kept: 10_000,
            expect_records: true,
        }
    }
}

/// Decodes one body, from its first byte to its last.
#[derive(Debug)]
pub struct Decoder {
    syntax: Syntax,
    rows: Rows,
}

#[derive(Debug)]
enum Syntax {
    Xml(xml::XmlSyntax),
    Json(json::JsonSyntax),
    Ndjson(lines::LineSyntax<json::Line>),
    Csv(lines::LineSyntax<csv::Line>),
}

impl Decoder {
    pub fn new(format: Format, columns: &Columns, options: &Options) -> Result<Self> {
        let syntax = match format {
            Format::Xml => Syntax::Xml(xml::XmlSyntax::new(columns, options)?),
            Format::Json => Syntax::Json(json::JsonSyntax::new(columns, options)),
            Format::Ndjson => {
                Syntax::Ndjson(lines::LineSyntax::new(json::Line::new(columns, options), options))
            }
            Format::Csv => Syntax::Csv(lines::LineSyntax::new(csv::Line::new(columns, options)?, options)),
        };
        Ok(Decoder { syntax, rows: Rows::new(columns, options) })
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let rows = &mut self.rows;
        match &mut self.syntax {
            Syntax::Xml(xml) => xml.push(bytes, rows),
            Syntax::Json(json) => json.push(bytes, rows),
            Syntax::Ndjson(lines) => lines.push(bytes, rows),
            Syntax::Csv(lines) => lines.push(bytes, rows),
        }
    }

    /// Ends the body: an error unless the document ended with it.
    pub fn finish(&mut self) -> Result<()> {
        let rows = &mut self.rows;
        match &mut self.syntax {
            Syntax::Xml(xml) => xml.finish(rows)?,
            Syntax::Json(json) => json.finish(rows)?,
            Syntax::Ndjson(lines) => lines.finish(rows)?,
            Syntax::Csv(lines) => lines.finish(rows)?,
        }
        self.rows.flush()
    }

    /// True when the document itself says where it ends, as a root element or an array does.
    pub fn has_an_end(&self) -> bool {
        match &self.syntax {
            Syntax::Xml(_) => true,
            Syntax::Json(json) => json.is_array(),
            Syntax::Ndjson(_) | Syntax::Csv(_) => false,
        }
    }

    /// The next finished batch: `batch_rows` rows, or fewer where records are long or end.
    pub fn next_batch(&mut self) -> Option<RecordBatch> {
        self.rows.next_batch()
    }

    /// Rejects since the last call, at most `rejects_kept` over the whole body.
    pub fn take_rejects(&mut self) -> Vec<Reject> {
        self.rows.take_rejects()
    }

    pub fn counts(&self) -> Counts {
        self.rows.counts()
    }
}

/// A body that cannot be decoded further: names what is wrong and the byte where it is.
fn not_well_formed(reason: &str, offset: u64) -> Error {
    Error::failed(format!("the body is not well formed: {reason} at byte {offset}"))
}

/// A body that ended before its document did. The same request may bring all of it.
fn truncated(reason: &str, offset: u64) -> Error {
    Error::failed(format!("the body ended early: {reason} at byte {offset}")).retryable()
}

#[cfg(test)]
mod tests;
