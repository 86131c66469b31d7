//! The tokens of a run of bytes, one after the other: quick-xml says where each ends, and what it
//! lets through is checked.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::token::{Limits, Read, Stop, Token, check};

pub(super) struct Tokens<'b> {
    bytes: &'b [u8],
    /// Where the next token starts.
    at: usize,
    reader: Reader<&'b [u8]>,
    /// Where `reader` starts in `bytes`.
    start: usize,
    limits: Limits,
}

/// Where a token ends, as quick-xml splits.
enum Split {
    /// Up to the next `<` or `&`, or to the end: nothing in it needs another look to know that.
    Text(usize),
    Markup(usize),
    /// It is not whole, or not what quick-xml takes for XML.
    Unclear,
}

impl<'b> Tokens<'b> {
    pub(super) fn new(bytes: &'b [u8], limits: Limits) -> Self {
        Tokens { bytes, at: 0, reader: reader(bytes), start: 0, limits }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The token at [`Tokens::at`], where there must be bytes. Its places count from their start.
    pub(super) fn next(&mut self) -> Result<Read<'b>, Stop> {
        let (at, limits) = (self.at, self.limits);
        let split = self.split();
        let read = match split {
            Split::Text(end) => {
                Ok(Read { token: Token::Text(&self.bytes[at..end]), end: end - at, flaw: None })
            }
            Split::Markup(end) => match check(&self.bytes[at..end], limits) {
                Ok(read) if read.end == end - at => Ok(read),
                // quick-xml takes more or less for one token than XML does: XML's word counts.
                _ => check(&self.bytes[at..], limits),
            },
            Split::Unclear => check(&self.bytes[at..], limits),
        };
        let Read { token, end, flaw } = read.map_err(|stop| stop.moved(at))?;
        self.at += end;
        if !matches!(split, Split::Text(end) | Split::Markup(end) if end == self.at) {
            (self.reader, self.start) = (reader(&self.bytes[self.at..]), self.at);
        }
        Ok(Read { token, end: self.at, flaw: flaw.map(|(place, code)| (place + at, code)) })
    }

    fn split(&mut self) -> Split {
        let event = self.reader.read_event();
        let read = usize::try_from(self.reader.buffer_position());
        let end = self.start + read.expect("a slice is shorter than the address space");
        match event {
            // Nothing read: whatever it is, it is not a token.
            Ok(_) if end <= self.at => Split::Unclear,
            Ok(Event::Text(_)) => Split::Text(end),
            Ok(Event::Eof) | Err(_) => Split::Unclear,
            Ok(_) => Split::Markup(end),
        }
    }
}

/// How tags are nested is looked at elsewhere: elements may have been opened in bytes long gone.
fn reader(bytes: &[u8]) -> Reader<&[u8]> {
    let mut reader = Reader::from_reader(bytes);
    reader.config_mut().allow_unmatched_ends = true;
    reader.config_mut().check_end_names = false;
    reader
}
