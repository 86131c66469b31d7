//! Bytes into records and fields. A field knows whether it was quoted: `""` is a text, nothing is NULL.

use std::borrow::Cow;
use std::io::BufRead;

use crate::emulator::wire::{Failure, Outcome};

/// 100 MB: BigQuery's limit of a row.
const RECORD_BYTES_MAX: usize = 100 << 20;

/// One record; the buffers are used again for the next.
#[derive(Debug, Default)]
pub(super) struct Record {
    bytes: Vec<u8>,
    /// Where each field ends in `bytes`, and whether it was quoted.
    ends: Vec<(usize, bool)>,
    /// The byte it begins at, and the line, from 1.
    pub position: u64,
    pub line: u64,
    /// Why it is no record.
    pub error: Option<&'static str>,
}

impl Record {
    pub(super) fn num_fields(&self) -> usize {
        self.ends.len()
    }

    /// What is not UTF-8 becomes the replacement character, as BigQuery has it.
    pub(super) fn text(&self, index: usize) -> Cow<'_, str> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before].0);
        String::from_utf8_lossy(&self.bytes[start..self.ends[index].0])
    }

    pub(super) fn is_quoted(&self, index: usize) -> bool {
        self.ends[index].1
    }

    pub(super) fn is_blank(&self) -> bool {
        self.error.is_none() && self.bytes.is_empty() && matches!(self.ends.as_slice(), [(_, false)])
    }

    pub(super) fn has_zero(&self) -> bool {
        self.bytes.contains(&0)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote within quotes: the end, or the first half of a doubled one.
    QuoteSeen,
    /// The record is broken; its rest is skipped to the end of the line.
    Skipping,
}

#[derive(Debug)]
pub(super) struct Splitter<R> {
    input: R,
    delimiter: u8,
    quote: Option<u8>,
    quoted_newlines: bool,
    position: u64,
    line: u64,
}

impl<R: BufRead> Splitter<R> {
    pub(super) fn new(input: R, delimiter: u8, quote: Option<u8>, quoted_newlines: bool) -> Self {
        Splitter { input, delimiter, quote, quoted_newlines, position: 0, line: 1 }
    }

    fn peek(&mut self) -> Outcome<Option<u8>> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    fn advance(&mut self) {
        self.input.consume(1);
        self.position += 1;
    }

    /// `false` at the end of the file.
    pub(super) fn next(&mut self, record: &mut Record) -> Outcome<bool> {
        if self.position == 0 && self.input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.input.consume(3);
            self.position = 3;
        }
        record.bytes.clear();
        record.ends.clear();
        (record.position, record.line, record.error) = (self.position, self.line, None);
        if self.peek()?.is_none() {
            return Ok(false);
        }
        let mut state = State::FieldStart;
        let mut quoted = false;
        while let Some(byte) = self.peek()? {
            if record.bytes.len() > RECORD_BYTES_MAX {
                return Err(Failure::invalid(format!(
                    "Error while reading data, error message: Row starting at position {} is larger than the \
                     maximum of 100 MB.",
                    record.position
                )));
            }
            self.advance();
            let is_end = matches!(byte, b'\n' | b'\r');
            let is_pair = byte == b'\r' && self.peek()? == Some(b'\n');
            if is_pair {
                self.advance();
            }
            self.line += u64::from(is_end);
            let is_quote = Some(byte) == self.quote;
            match state {
                State::Quoted if is_end && self.quoted_newlines => {
                    record.bytes.extend_from_slice(if is_pair {
                        b"\r\n"
                    } else {
                        std::slice::from_ref(&byte)
                    });
                }
                State::Quoted if is_end => {
                    record.error = Some("Missing close quote character (\").");
                    record.ends.push((record.bytes.len(), true));
                    return Ok(true);
                }
                State::Skipping if is_end => return Ok(true),
                _ if is_end => {
                    record.ends.push((record.bytes.len(), quoted));
                    return Ok(true);
                }
                State::Skipping => {}
                State::FieldStart if is_quote => (state, quoted) = (State::Quoted, true),
                State::Quoted if is_quote => state = State::QuoteSeen,
                State::QuoteSeen if is_quote => {
                    record.bytes.push(byte);
                    state = State::Quoted;
                }
                State::Quoted => record.bytes.push(byte),
                _ if byte == self.delimiter => {
                    record.ends.push((record.bytes.len(), quoted));
                    (state, quoted) = (State::FieldStart, false);
                }
                State::QuoteSeen => {
                    record.error = Some("Data between close quote character (\") and field separator.");
                    record.ends.push((record.bytes.len(), true));
                    state = State::Skipping;
                }
                State::FieldStart | State::Plain => {
                    record.bytes.push(byte);
                    state = State::Plain;
                }
            }
        }
        if state == State::Quoted {
            record.error = Some("Missing close quote character (\").");
        }
        if state != State::Skipping {
            record.ends.push((record.bytes.len(), quoted));
        }
        Ok(true)
    }
}
