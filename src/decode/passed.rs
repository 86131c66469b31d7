//! Counts the lines that have passed, so that a reject can say where it was.

use crate::reject::Place;

#[derive(Debug)]
pub(super) struct Passed {
    offset: u64,
    line: u64,
    /// Where the line at hand starts.
    line_start: u64,
}

impl Passed {
    /// Starts at byte `offset`, behind a byte order mark for example.
    pub(super) fn from(offset: u64) -> Self {
        Passed { offset, line: 1, line_start: offset }
    }

    pub(super) fn pass(&mut self, bytes: &[u8]) {
        if let Some(last) = memchr::memrchr(b'\n', bytes) {
            self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
            self.line_start = self.offset + last as u64 + 1;
        }
        self.offset += bytes.len() as u64;
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn place(&self) -> Place {
        Place { offset: self.offset, line: self.line, column: self.offset - self.line_start + 1 }
    }
}
