//! One step through a document: a token outside of records, or a whole record.

use super::chars::{UNDECODABLE, is_space, resolve, undecodable, whole_part, wrong_in_text};
use super::outline::Outline;
use super::record::{Shape, wrong_text};
use super::token::{Fault, Stop, Token, fault, text_of};
use super::tokens::Tokens;
use crate::decode::encoding::Input;
use crate::decode::passed::Passed;
use crate::decode::rows::Rows;
use crate::decode::{not_well_formed, over_limit};
use crate::error::{Error, Result};

pub(super) struct Step<'s> {
    pub(super) shape: &'s Shape,
    pub(super) outline: &'s mut Outline,
    pub(super) input: &'s mut Input,
    /// Byte of the body at which the step starts, and at which the document starts.
    pub(super) base: u64,
    pub(super) document: u64,
    /// The body ends with these bytes.
    pub(super) complete: bool,
}

impl Step<'_> {
    /// Takes one token, or one whole record, from the start of `bytes`. `None`: they end inside it.
    pub(super) fn take(&mut self, bytes: &[u8], passed: &Passed, rows: &mut Rows) -> Result<Option<usize>> {
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
