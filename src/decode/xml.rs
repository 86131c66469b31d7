//! XML, resumable at record boundaries.
//!
//! A record is read from its first byte to its last in one go. When the bytes at hand end inside a
//! record, a tag or a comment, reading goes back to where that started and waits for at least twice
//! as many bytes, so that the work stays linear even if they come one by one. Whatever is read is
//! shown no more bytes than it may have, so that a limit is met at the same byte however they came.
//!
//! Records in the shape that nearly all of them have are read by [`Expected`] beside it; whatever
//! that does not take is read here, so the two agree by construction on what it leaves.

mod chars;
mod outline;
mod prolog;
mod record;
mod token;
mod tokens;

use super::encoding::Input;
use super::expected::Miss;
use super::expected::xml::Expected;
use super::notices::Notice;
use super::passed::Passed;
use super::rows::Rows;
use super::{Options, not_well_formed, over_limit, truncated};
use crate::error::{Error, Result};
use crate::schema::Columns;
use chars::{UNDECODABLE, resolve, whole_part};
pub(super) use chars::{is_space, local, undecodable, wrong_in_text};
use outline::Outline;
use record::{Shape, wrong_text};
use token::{Fault, Limits, Stop, Token, fault, text_of};
use tokens::Tokens;

#[derive(Debug)]
pub(super) struct XmlSyntax {
    input: Input,
    shape: Shape,
    record_bytes_max: usize,
    expected: Option<Expected>,
    /// Bytes not yet behind us; `buffer[0]` is byte `base` of the body.
    buffer: Vec<u8>,
    base: u64,
    /// Bytes the buffer must hold before another try is worth it.
    wanted: usize,
    passed: Option<Passed>,
    outline: Outline,
}

/// The reading of bytes up to a record's end, or of one token outside of records.
struct Step<'s> {
    shape: &'s Shape,
    outline: &'s mut Outline,
    input: &'s mut Input,
    /// Byte of the body at which the step starts, and at which the document starts.
    base: u64,
    document: u64,
    /// The body ends with these bytes.
    complete: bool,
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
            record_bytes_max: options.record_bytes_max,
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
        // One byte over the limit is enough to see that it is passed.
        self.wanted = (left * 2).min(self.record_bytes_max + 1).max(left + 1);
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

impl Step<'_> {
    /// Takes one token, or one whole record, from the start of `bytes`. `None`: they end inside it.
    fn take(&mut self, bytes: &[u8], passed: &Passed, rows: &mut Rows) -> Result<Option<usize>> {
        match self.read(bytes, passed, rows) {
            Ok(done) => done.map(Some),
            Err(Stop::Incomplete) => Ok(None),
            Err(Stop::Fault(fault)) => Err(self.describe(fault)),
        }
    }

    fn read(&mut self, bytes: &[u8], passed: &Passed, rows: &mut Rows) -> Result<Result<usize>, Stop> {
        let mut tokens = Tokens::new(bytes, self.shape.limits);
        let read = tokens.next()?;
        let flaw = read.flaw;
        if let Token::Start { name, attributes, empty } = read.token
            && self.outline.expects(text_of(name))
        {
            rows.begin();
            rows.drift().attributes(attributes);
            if let Some((_, reason)) = flaw {
                rows.spoil(self.reason(reason), None);
            }
            let end = match empty {
                true => read.end,
                false => {
                    let undecodable = self.input.undecodable();
                    self.shape.read(&mut tokens, name, self.complete, undecodable, rows)?
                }
            };
            self.outline.records += 1;
            self.outline.root_seen = true;
            return Ok(rows.end(passed.place(), &bytes[..end]).map(|()| end));
        }
        let end = match read.token {
            Token::Text(text) => self.outside(text, read.end == bytes.len() && !self.complete)?,
            _ => read.end,
        };
        match read.token {
            Token::Start { name, empty, .. } => {
                let name = text_of(name);
                self.outline.open(name, self.shape.depth_max)?;
                if empty {
                    self.outline.close(name)?;
                }
            }
            Token::End(name) => self.outline.close(text_of(name))?,
            Token::CData(_) | Token::Reference(_) if self.outline.open.is_empty() => {
                return Err(self.outline.stray(0));
            }
            Token::Reference(reference) => {
                if let Err(code) = resolve(reference) {
                    return fault(0, code, format!("`&{reference};` is no character"));
                }
            }
            Token::Declaration { encoding } => {
                if self.base != self.document {
                    return fault(0, "bad_declaration", "the XML declaration is not at the start");
                }
                if let Some(label) = encoding
                    && let Err(error) = self.input.declared(label)
                {
                    return Ok(Err(error));
                }
            }
            Token::Doctype => self.outline.doctype()?,
            Token::Text(_) | Token::CData(_) | Token::Aside => {}
        }
        if let Some((at, code)) = flaw {
            return fault(at, code, "a reference or byte that is no character");
        }
        Ok(Ok(end))
    }

    /// Text outside of records: returns how much of it is done with. It is not kept, so it may be
    /// as long as it likes.
    fn outside(&self, text: &[u8], may_go_on: bool) -> Result<usize, Stop> {
        let length = if may_go_on { whole_part(text) } else { text.len() };
        if length == 0 {
            return Err(Stop::Incomplete);
        }
        let text = &text[..length];
        if self.outline.open.is_empty() {
            return match text.iter().position(|b| !is_space(*b)) {
                Some(at) => Err(self.outline.stray(at)),
                None => Ok(length),
            };
        }
        let undecodable = undecodable(text);
        if let Some((at, code)) = wrong_in_text(&text[..undecodable.unwrap_or(length)]) {
            return Err(Stop::Fault(wrong_text(at, code)));
        }
        match undecodable {
            Some(at) => fault(at, UNDECODABLE, "a byte that is no character"),
            None => Ok(length),
        }
    }

    fn reason(&self, flaw: &'static str) -> &'static str {
        if flaw == UNDECODABLE { self.input.undecodable() } else { flaw }
    }

    fn describe(&self, fault: Fault) -> Error {
        let (code, offset) = (self.reason(fault.code), self.base + fault.at as u64);
        match (fault.limit, &self.outline.foreign_root) {
            (Some(setting), _) => over_limit(code, &fault.words, offset, setting),
            (None, Some(name)) => Error::failed(format!(
                "the root element is `{name}`, not `{}`, at byte {offset} ({code}:{name})",
                self.outline.record_path[0]
            ))
            .hint("the source may have sent an error page; or set `source.record_path`"),
            (None, None) => not_well_formed(code, &fault.words, offset),
        }
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
