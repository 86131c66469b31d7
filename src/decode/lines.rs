//! Bodies of one record a line. A newline is a safe place to go on after a bad record.

use super::rows::Rows;
use super::{Options, over_limit};
use crate::error::Result;
use crate::reject::Place;

/// What a line holds: sets the record's fields, or spoils it.
pub(super) trait LineFormat {
    fn read(&mut self, line: &[u8], rows: &mut Rows);

    /// Appends the record at the start of `bytes`, if it is written as one before, and returns where it
    /// and what ended that one end.
    fn read_known(&mut self, _bytes: &[u8], _rows: &mut Rows) -> Option<usize> {
        None
    }

    /// Takes note of a line that is a row, and of what ends it.
    fn learn(&mut self, _line: &[u8], _end: &[u8]) {}
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
        if self.pending.is_empty() {
            rest = self.known(rest, rows)?;
        }
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
            rest = self.known(after, rows)?;
        }
        self.pending.extend_from_slice(rest);
        self.check_length(self.pending.len(), self.offset)
    }

    /// Reads lines that are written as one before; returns what comes then.
    fn known<'b>(&mut self, mut bytes: &'b [u8], rows: &mut Rows) -> Result<&'b [u8]> {
        loop {
            // A line of as many bytes as there may be, and its end.
            let shown = &bytes[..bytes.len().min(self.record_bytes_max.saturating_add(1))];
            let Some(length) = self.format.read_known(shown, rows) else { return Ok(bytes) };
            rows.took(without_end(&shown[..length]).len())?;
            self.offset += length as u64;
            self.number += 1;
            bytes = &bytes[length..];
        }
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
        let rows_before = rows.counts().rows;
        rows.end(Place { offset: start + bom as u64, line: self.number, column: 1 }, text)?;
        if rows.counts().rows > rows_before {
            self.format.learn(text, if line.ends_with(b"\r") { b"\r\n" } else { b"\n" });
        }
        Ok(())
    }

    fn check_length(&self, bytes: usize, start: u64) -> Result<()> {
        if bytes <= self.record_bytes_max {
            return Ok(());
        }
        let words = format!("a line exceeds {} bytes", self.record_bytes_max);
        Err(over_limit("record_too_large", &words, start, "limits.record_mib_max"))
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
