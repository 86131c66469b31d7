//! JSON values in an array, or one after the other: where each starts and ends.

use super::json::{JSON_SYNTAX, Line, Scan};
use super::lines::LineFormat;
use super::passed::Passed;
use super::rows::Rows;
use super::{Options, not_well_formed, over_limit, truncated};
use crate::error::{Error, Result};
use crate::reject::Place;
use crate::schema::Columns;

/// Cuts a JSON array, or values one after the other, into single values.
///
/// A value that is no object is a record all the same, and rejected: where it ends is certain.
#[derive(Debug)]
pub(super) struct JsonSyntax {
    object: Line,
    record_bytes_max: usize,
    layout: Layout,
    inside: Inside,
    scan: Scan,
    /// Bytes of the value that has started but not ended.
    pending: Vec<u8>,
    passed: Passed,
    /// Where the value at hand starts.
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Unknown,
    /// Values one after the other, with or without white space between.
    Sequence,
    ArrayStart,
    ArrayAfterValue,
    ArrayAfterComma,
    ArrayClosed,
}

/// What the byte at hand is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    /// An object, an array or a string, which end by themselves.
    Closed,
    /// A number or a word, which end where something else starts.
    Bare,
}

impl JsonSyntax {
    pub(super) fn new(columns: &Columns, options: &Options) -> Self {
        let passed = Passed::from(0);
        JsonSyntax {
            object: Line::new(columns, options).in_sequence(),
            record_bytes_max: options.record_bytes_max,
            layout: Layout::Unknown,
            inside: Inside::Nothing,
            scan: Scan::default(),
            pending: Vec::new(),
            place: passed.place(),
            passed,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<()> {
        // Up to here `passed` has counted, and here the value at hand starts or goes on.
        let mut start = 0;
        let mut next = 0;
        while next < bytes.len() {
            if self.inside == Inside::Nothing {
                next = self.known(bytes, next, rows)?;
            }
            let i = next;
            let Some(byte) = bytes.get(i).copied() else { break };
            next += 1;
            if self.inside == Inside::Bare && !is_bare(byte) {
                self.end_of_value(&bytes[start..i], rows)?;
                start = i;
            }
            match self.inside {
                Inside::Nothing => {
                    self.passed.pass(&bytes[start..i]);
                    start = i;
                    self.between(byte)?;
                }
                Inside::Closed => {
                    self.scan.step(byte);
                    if self.scan.is_closed() {
                        self.end_of_value(&bytes[start..=i], rows)?;
                        start = i + 1;
                    }
                }
                Inside::Bare => {}
            }
        }
        if self.inside != Inside::Nothing {
            self.pending.extend_from_slice(&bytes[start..]);
        }
        self.passed.pass(&bytes[start..]);
        self.check_length(self.pending.len())
    }

    /// Passes over values that are written as one before, and what separates them; returns where
    /// something else comes. Nothing of that has been counted.
    fn known(&mut self, bytes: &[u8], mut at: usize, rows: &mut Rows) -> Result<usize> {
        use Layout::{ArrayAfterComma, ArrayAfterValue, ArrayStart, Sequence};
        loop {
            match (self.layout, bytes.get(at)) {
                (ArrayAfterValue, Some(b',')) => {
                    self.layout = ArrayAfterComma;
                    at += 1;
                }
                (
                    ArrayStart | ArrayAfterValue | ArrayAfterComma | Sequence,
                    Some(b' ' | b'\t' | b'\r' | b'\n'),
                ) => {
                    at += 1;
                }
                (ArrayStart | ArrayAfterComma | Sequence, Some(b'{')) => {
                    let shown = &bytes[at..bytes.len().min(at.saturating_add(self.record_bytes_max))];
                    let Some(length) = self.object.read_known(shown, rows) else { return Ok(at) };
                    rows.took(length)?;
                    at += length;
                    if self.layout != Sequence {
                        self.layout = ArrayAfterValue;
                    }
                }
                _ => return Ok(at),
            }
        }
    }

    pub(super) fn is_array(&self) -> bool {
        self.layout == Layout::ArrayClosed
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.pending.capacity()
    }

    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<()> {
        let offset = self.passed.offset();
        let in_array =
            matches!(self.layout, Layout::ArrayStart | Layout::ArrayAfterValue | Layout::ArrayAfterComma);
        if in_array {
            return Err(truncated("unclosed_array", "the array is not closed", offset));
        }
        match self.inside {
            Inside::Closed => Err(truncated("truncated", "a value is not closed", offset)),
            Inside::Bare => self.end_of_value(&[], rows),
            Inside::Nothing => Ok(()),
        }
    }

    /// One byte outside of any value, not yet passed.
    fn between(&mut self, byte: u8) -> Result<()> {
        use Layout::{ArrayAfterComma, ArrayAfterValue, ArrayClosed, ArrayStart, Sequence, Unknown};
        self.layout = match (self.layout, byte) {
            (layout, b' ' | b'\t' | b'\r' | b'\n') => layout,
            (Unknown, 0xef) if self.passed.offset() == 0 => Unknown,
            (Unknown, 0xbb) if self.passed.offset() == 1 => Unknown,
            (Unknown, 0xbf) if self.passed.offset() == 2 => Unknown,
            (Unknown, b'[') => ArrayStart,
            (ArrayAfterValue, b',') => ArrayAfterComma,
            (ArrayStart | ArrayAfterValue, b']') => ArrayClosed,
            (Unknown | Sequence, _) if self.open(byte) => Sequence,
            (ArrayStart | ArrayAfterComma, _) if self.open(byte) => ArrayAfterValue,
            _ => return Err(unexpected(byte, self.passed.offset())),
        };
        Ok(())
    }

    /// Starts a value, if `byte` can start one.
    fn open(&mut self, byte: u8) -> bool {
        self.scan = Scan::default();
        self.scan.step(byte);
        self.inside = match byte {
            b'{' | b'[' | b'"' => Inside::Closed,
            _ if is_bare(byte) => Inside::Bare,
            _ => return false,
        };
        self.place = self.passed.place();
        true
    }

    fn check_length(&self, bytes: usize) -> Result<()> {
        if bytes <= self.record_bytes_max {
            return Ok(());
        }
        let words = format!("a value exceeds {} bytes", self.record_bytes_max);
        Err(over_limit("record_too_large", &words, self.place.offset, "limits.record_mib_max"))
    }

    fn end_of_value(&mut self, tail: &[u8], rows: &mut Rows) -> Result<()> {
        self.inside = Inside::Nothing;
        self.passed.pass(tail);
        self.check_length(self.pending.len() + tail.len())?;
        let mut pending = std::mem::take(&mut self.pending);
        let value = if pending.is_empty() {
            tail
        } else {
            pending.extend_from_slice(tail);
            &pending
        };
        rows.begin();
        self.object.read(value, rows);
        // Where a value's brackets are not in order, its end is a guess, and so is the next start.
        if rows.is_spoilt_by(JSON_SYNTAX) {
            return Err(not_well_formed(JSON_SYNTAX, "a value is no JSON", self.place.offset));
        }
        let rows_before = rows.counts().rows;
        rows.end(self.place, value)?;
        if rows.counts().rows > rows_before {
            self.object.learn(value, b"");
        }
        pending.clear();
        self.pending = pending;
        Ok(())
    }
}

/// A byte of a number, `true`, `false` or `null`, or of what is none of them but stands like one.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

fn unexpected(byte: u8, offset: u64) -> Error {
    let shown = char::from(byte).escape_default();
    not_well_formed(JSON_SYNTAX, &format!("`{shown}` where a value should start or end"), offset)
}
