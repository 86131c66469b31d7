//! The tokens of a run of bytes, one after the other.

use super::token::{Limits, Read, Stop, check};
use crate::decode::words::plain_xml;

pub(super) struct Tokens<'b> {
    bytes: &'b [u8],
    /// Where the next token starts.
    at: usize,
    limits: Limits,
}

impl<'b> Tokens<'b> {
    pub(super) fn new(bytes: &'b [u8], limits: Limits) -> Self {
        Tokens { bytes, at: 0, limits }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The token at [`Tokens::at`], where there must be bytes. Its places count from their start.
    pub(super) fn next(&mut self) -> Result<Read<'b>, Stop> {
        let at = self.at;
        let read = check(&self.bytes[at..], self.limits).map_err(|stop| stop.moved(at))?;
        self.at += read.end;
        Ok(Read { token: read.token, end: self.at, flaw: read.flaw.map(|(place, code)| (place + at, code)) })
    }

    /// Takes text that stands for itself and the end tag `</name>` behind it, if that is what comes: two
    /// tokens at once, which is what most fields are.
    pub(super) fn plain_field(&mut self, name: &[u8]) -> Option<&'b [u8]> {
        let end = plain_xml(self.bytes, self.at)?;
        let tag = self.bytes[end..].strip_prefix(b"</")?;
        if !tag.starts_with(name) || tag.get(name.len()) != Some(&b'>') {
            return None;
        }
        let text = &self.bytes[self.at..end];
        self.at = end + name.len() + 3;
        Some(text)
    }
}
