//! XML, resumable at record boundaries.
//!
//! A record is read from its first byte to its last in one go. When the bytes at hand end inside a
//! record, a tag or a comment, reading goes back to where that started and waits for at least twice
//! as many bytes, so that the work stays linear even if they come one by one. Whatever is read is
//! shown no more bytes than it may have, so that a limit is met at the same byte however they came.
//!
//! Records written as one before are read by [`Expected`]; whatever that does not take is read here.

mod chars;
mod outline;
mod prolog;
mod record;
mod step;
mod token;
mod tokens;

use super::encoding::Input;
use super::expected::Miss;
use super::expected::xml::Expected;
use super::notices::Notice;
use super::passed::Passed;
use super::rows::Rows;
use super::{Options, over_limit, truncated};
use crate::error::{Error, Result};
use crate::schema::Columns;
pub(super) use chars::{is_space, local, undecodable, wrong_in_text};
use outline::Outline;
use record::Shape;
use step::Step;
use token::Limits;

#[derive(Debug)]
pub(super) struct XmlSyntax {
    input: Input,
    shape: Shape,
    record_bytes_max: usize,
    expected: Option<Expected>,
    /// What the last piece left, because it does not end there.
    buffer: Vec<u8>,
    /// Byte of the body up to which all is read.
    base: u64,
    /// Bytes the buffer must hold before another try is worth it.
    wanted: usize,
    passed: Option<Passed>,
    outline: Outline,
}

impl XmlSyntax {
    pub(super) fn new(columns: &Columns, options: &Options) -> Result<Self> {
        if options.record_path.is_empty() || options.record_path.iter().any(String::is_empty) {
            return Err(Error::usage("`source.record_path` is empty")
                .hint("name the elements from the root to the record: `records/record`"));
        }
        let limits = Limits { tag_bytes_max: options.tag_bytes_max, attributes_max: options.attributes_max };
        Ok(XmlSyntax {
            input: Input::new(options.charset.clone()),
            shape: Shape {
                fields: columns.iter().map(|c| c.path().to_owned()).collect(),
                depth_max: options.depth_max,
                limits,
            },
            record_bytes_max: options.record_bytes_max.max(1),
            // Where the root itself is the record there is only one.
            expected: (options.expect_records && options.record_path.len() > 1)
                .then(|| Expected::new(columns)),
            buffer: Vec::new(),
            base: 0,
            wanted: 0,
            passed: None,
            outline: Outline::new(options.record_path.clone()),
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<()> {
        let text = self.input.push(bytes, false)?;
        let mut text = &text[..];
        // What the last piece left is read together with as little of this one as it takes; the rest of
        // this one is read where it lies.
        while !self.buffer.is_empty() {
            let left = self.buffer.len();
            let more = text.len().min(self.wanted - left);
            self.buffer.extend_from_slice(&text[..more]);
            if self.buffer.len() < self.wanted {
                return Ok(());
            }
            let taken = self.read_buffer(rows, false)?;
            if taken < left {
                self.buffer.drain(..taken);
                self.wait();
                text = &text[more..];
            } else {
                self.buffer.clear();
                text = &text[taken - left..];
            }
        }
        let taken = self.read(text, rows, false)?;
        self.buffer.extend_from_slice(&text[taken..]);
        self.wait();
        Ok(())
    }

    /// Sets how many bytes the buffer must have for another try.
    fn wait(&mut self) {
        let left = self.buffer.len();
        // One byte over the limit is enough to see that it is passed; so many are never left.
        self.wanted = (left * 2).min(self.record_bytes_max.saturating_add(1));
    }

    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<()> {
        let text = self.input.push(&[], true)?;
        self.buffer.extend_from_slice(&text);
        self.read_buffer(rows, true)?;
        let outline = &self.outline;
        if !outline.root_seen {
            return Err(truncated("no_root", "there is no root element", self.base));
        }
        if let Some(name) = outline.open.last() {
            return Err(truncated("unclosed_root", &format!("`</{name}>` is missing"), self.base));
        }
        if outline.records == 0 && outline.others > 0 {
            return Err(Error::failed(format!(
                "no record matched the path `{}` among {} elements (no_records_matched)",
                outline.record_path.join("/"),
                outline.others
            ))
            .hint("set `source.record_path` to the names from the root element to the record"));
        }
        Ok(())
    }

    /// True until the root element has come that the path names: the body may be anything.
    pub(super) fn may_be_foreign(&self) -> bool {
        !self.outline.root_seen
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        self.input.notices().iter().chain(&self.outline.notices).cloned().collect()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    fn read_buffer(&mut self, rows: &mut Rows, last: bool) -> Result<usize> {
        let buffer = std::mem::take(&mut self.buffer);
        let taken = self.read(&buffer, rows, last);
        self.buffer = buffer;
        taken
    }

    /// Reads as far as the bytes go, and returns how many are done with; `last` says that no more will come.
    fn read(&mut self, bytes: &[u8], rows: &mut Rows, last: bool) -> Result<usize> {
        // Until the encoding is known nothing has come; then it is known where the text starts.
        if self.passed.is_none() {
            if bytes.is_empty() {
                return Ok(0);
            }
            self.base = self.input.offset();
            self.passed = Some(Passed::from(self.base));
        }
        let document = self.input.offset();
        let passed = self.passed.as_mut().expect("set above");
        // `passed` has counted up to `counted`.
        let (mut at, mut counted) = (0, 0);
        while at < bytes.len() {
            if let Some(expected) = &mut self.expected
                && self.outline.expects_records()
            {
                let (taken, records, miss) = expected.read(&bytes[at..], self.record_bytes_max, rows)?;
                self.outline.records += records;
                at += taken;
                // A record that has just not come whole. One beyond the limit never will.
                if miss == Miss::Short && !last && bytes.len() - at < self.record_bytes_max {
                    break;
                }
            }
            let rest = &bytes[at..];
            let shown = &rest[..rest.len().min(self.record_bytes_max)];
            if shown.is_empty() {
                break;
            }
            let base = self.base + at as u64;
            let mut step = Step {
                shape: &self.shape,
                outline: &mut self.outline,
                input: &mut self.input,
                base,
                document,
                complete: last && shown.len() == rest.len(),
            };
            passed.pass(&bytes[counted..at]);
            counted = at;
            let rows_before = rows.counts().rows;
            match step.take(shown, passed, rows)? {
                Some(taken) => {
                    if let Some(expected) = &mut self.expected
                        && rows.counts().rows > rows_before
                    {
                        expected.learn(&shown[..taken]);
                    }
                    at += taken;
                }
                None if shown.len() < rest.len() => {
                    let words = format!("a record, comment or the like exceeds {} bytes", shown.len());
                    return Err(over_limit("record_too_large", &words, base, "limits.record_mib_max"));
                }
                None if last => return Err(cut_off(shown, base)),
                None => break,
            }
        }
        passed.pass(&bytes[counted..at]);
        self.base += at as u64;
        Ok(at)
    }
}

/// What the body ended in.
fn cut_off(bytes: &[u8], offset: u64) -> Error {
    match bytes {
        [b'<', b'!', b'-', ..] => truncated("unterminated_comment", "a comment is not closed", offset),
        [b'<', ..] => truncated("truncated", "a record or tag is not closed", offset),
        _ => truncated("truncated", "a reference is not closed", offset),
    }
}
