//! Bodies of one record a line. A newline is a safe place to go on after a bad record.

use super::rows::Rows;
use super::{Options, over_limit};
use crate::error::Result;
use crate::reject::Place;

/// What a line holds: sets the record's fields, or spoils it.
pub(super) trait LineFormat {
    fn read(&mut self, line: &[u8], rows: &mut Rows);
}

#[derive(Debug)]
pub(super) struct LineSyntax<F> {
    format: F,
    record_bytes_max: usize,
    /// The start of a line whose end has not come yet.
    pending: Vec<u8>,
    /// Byte of the body at which the next line starts.
    offset: u64,
    /// The number of that line, from 1.
    number: u64,
}

impl<F: LineFormat> LineSyntax<F> {
    pub(super) fn new(format: F, options: &Options) -> Self {
        LineSyntax {
            format,
            record_bytes_max: options.record_bytes_max,
            pending: Vec::new(),
            offset: 0,
            number: 1,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<()> {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.pending.is_empty() {
                self.line(line, rows)?;
            } else {
                let mut whole = std::mem::take(&mut self.pending);
                whole.extend_from_slice(line);
                self.line(&whole, rows)?;
                whole.clear();
                self.pending = whole;
            }
            self.offset += 1;
            self.number += 1;
            rest = after;
        }
        self.pending.extend_from_slice(rest);
        self.check_length(self.pending.len(), self.offset)
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.pending.capacity()
    }

    /// The last line may lack its newline: the transfer's own framing says that the body is whole.
    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<()> {
        let last = std::mem::take(&mut self.pending);
        self.line(&last, rows)
    }

    fn line(&mut self, line: &[u8], rows: &mut Rows) -> Result<()> {
        let start = self.offset;
        self.check_length(line.len(), start)?;
        self.offset += line.len() as u64;
        let bom = if start == 0 && line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let text = line[bom..].strip_suffix(b"\r").unwrap_or(&line[bom..]);
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        rows.begin();
        self.format.read(text, rows);
        rows.end(Place { offset: start + bom as u64, line: self.number, column: 1 }, text)
    }

    fn check_length(&self, bytes: usize, start: u64) -> Result<()> {
        if bytes <= self.record_bytes_max {
            return Ok(());
        }
        let words = format!("a line exceeds {} bytes", self.record_bytes_max);
        Err(over_limit("record_too_large", &words, start, "limits.record_mib_max"))
    }
}
