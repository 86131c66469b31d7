//! Push decoders without I/O: bytes in, Arrow record batches and rejects out.
//!
//! Bytes may be cut anywhere; the batches depend on the document alone. A record that is well
//! formed but holds a wrong value becomes a [`Reject`] and decoding goes on. A document that is not
//! well formed, ends early or passes a limit is an error: where the next record starts would be a
//! guess. Only line-based formats have a safe place to go on, the next newline.

mod build;
mod csv;
mod encoding;
mod expected;
mod json;
mod lines;
mod notices;
mod passed;
mod rows;
mod sequence;
mod value;
mod words;
mod xml;

use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::reject::Reject;
use crate::schema::{Columns, Format};

pub use notices::Notice;
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
    /// Bytes that one XML tag may have.
    pub tag_bytes_max: usize,
    /// Attributes that one XML tag may have, declarations of namespaces included.
    pub attributes_max: usize,
    /// Levels of nesting, in a record and above it.
    pub depth_max: usize,
    /// Rejects kept with their bytes; the counter goes on without them.
    pub rejects_kept: usize,
    /// A field that is no column ends the body.
    pub strict_schema: bool,
    /// XML: the encoding that the transport names, such as the charset of the Content-Type.
    pub charset: Option<String>,
    /// Read records that are written as one before by a shortcut. All that comes out is the same without
    /// it, which tests rely on.
    pub expect_records: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            record_path: vec!["records".into(), "record".into()],
            row_number_column: None,
            batch_rows: 8192,
            record_bytes_max: 16 << 20,
            tag_bytes_max: 1 << 20,
            attributes_max: 256,
            depth_max: 64,
            rejects_kept: 10_000,
            strict_schema: false,
            charset: None,
            expect_records: true,
        }
    }
}

/// Decodes one body, from its first byte to its last.
#[derive(Debug)]
pub struct Decoder {
    syntax: Syntax,
    rows: Rows,
    first_byte: Option<u8>,
    second_seen: bool,
}

#[derive(Debug)]
enum Syntax {
    Xml(Box<xml::XmlSyntax>),
    Json(Box<sequence::JsonSyntax>),
    Ndjson(lines::LineSyntax<json::Line>),
    Csv(lines::LineSyntax<csv::Line>),
}

impl Decoder {
    pub fn new(format: Format, columns: &Columns, options: &Options) -> Result<Self> {
        let syntax = match format {
            Format::Xml => Syntax::Xml(Box::new(xml::XmlSyntax::new(columns, options)?)),
            Format::Json => Syntax::Json(Box::new(sequence::JsonSyntax::new(columns, options))),
            Format::Ndjson => {
                Syntax::Ndjson(lines::LineSyntax::new(json::Line::new(columns, options), options))
            }
            Format::Csv => Syntax::Csv(lines::LineSyntax::new(csv::Line::new(columns, options)?, options)),
        };
        Ok(Decoder { syntax, rows: Rows::new(columns, options), first_byte: None, second_seen: false })
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if !self.second_seen && !matches!(self.syntax, Syntax::Xml(_)) {
            self.look_at_the_start(bytes)?;
        }
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

    fn look_at_the_start(&mut self, bytes: &[u8]) -> Result<()> {
        for byte in bytes.iter().take(2) {
            let Some(first) = self.first_byte else {
                encoding::refuse_utf16(*byte, None)?;
                self.first_byte = Some(*byte);
                continue;
            };
            self.second_seen = true;
            return encoding::refuse_utf16(first, Some(*byte));
        }
        Ok(())
    }

    /// True as long as nothing has shown that the body is what it should be. Its start may say what it is.
    pub fn may_be_foreign(&self) -> bool {
        match &self.syntax {
            Syntax::Xml(xml) => xml.may_be_foreign(),
            Syntax::Json(_) | Syntax::Ndjson(_) | Syntax::Csv(_) => self.rows.counts().rows == 0,
        }
    }

    /// Bytes kept in memory because what they belong to has not ended, or had not.
    pub fn buffered_bytes(&self) -> usize {
        match &self.syntax {
            Syntax::Xml(xml) => xml.buffered_bytes(),
            Syntax::Json(json) => json.buffered_bytes(),
            Syntax::Ndjson(lines) => lines.buffered_bytes(),
            Syntax::Csv(lines) => lines.buffered_bytes(),
        }
    }

    /// What the body held that is no error, each thing once.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = match &self.syntax {
            Syntax::Xml(xml) => xml.notices(),
            Syntax::Json(_) | Syntax::Ndjson(_) | Syntax::Csv(_) => Vec::new(),
        };
        notices.extend(self.rows.notices());
        notices
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

/// A body that cannot be decoded further: names what is wrong and the byte where it is. The code in
/// parentheses is for programs, and stays.
fn not_well_formed(code: &str, words: &str, offset: u64) -> Error {
    Error::failed(format!("the body is not well formed: {words} at byte {offset} ({code})"))
}

/// A body with something larger than is read.
fn over_limit(code: &str, words: &str, offset: u64, setting: &str) -> Error {
    Error::failed(format!("the body goes beyond a limit: {words} at byte {offset} ({code})"))
        .hint(format!("`{setting}` sets the limit, if the source is right"))
}

/// A body that ended before its document did. The same request may bring all of it.
fn truncated(code: &str, words: &str, offset: u64) -> Error {
    Error::failed(format!("the body ended early: {words} at byte {offset} ({code})")).retryable()
}

#[cfg(test)]
mod tests;
