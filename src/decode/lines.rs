//! Bodies of one record a line. A newline is a safe place to go on after a bad record.

use super::rows::Rows;
use super::{Options, not_well_formed};
use crate::error::Result;

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
}

impl<F: LineFormat> LineSyntax<F> {
    pub(super) fn new(format: F, options: &Options) -> Self {
        LineSyntax { format, record_bytes_max: options.record_bytes_max, pending: Vec::new(), offset: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<()> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
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
            rest = after;
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > self.record_bytes_max {
            let reason = format!("a line exceeds {} bytes", self.record_bytes_max);
            return Err(not_well_formed(&reason, self.offset));
        }
        Ok(())
    }

    /// The last line may lack its newline: the transfer's own framing says that the body is whole.
    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<()> {
        let last = std::mem::take(&mut self.pending);
        self.line(&last, rows)
    }

    fn line(&mut self, line: &[u8], rows: &mut Rows) -> Result<()> {
        let start = self.offset;
        self.offset += line.len() as u64;
        let bom = if start == 0 && line.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let text = line[bom..].strip_suffix(b"\r").unwrap_or(&line[bom..]);
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        rows.begin();
        if text.len() > self.record_bytes_max {
            let reason = format!("a line exceeds {} bytes", self.record_bytes_max);
            return Err(not_well_formed(&reason, start));
        }
        self.format.read(text, rows);
        rows.end(start, text)
    }
}
