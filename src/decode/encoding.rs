//! Bodies in other encodings than UTF-8, turned into it on the way to the decoder.
//!
//! A byte order mark says which encoding it is; else the charset of the Content-Type, else the XML
//! declaration, as RFC 7303 has it. What none of them names is UTF-8. Bytes that are wrong in their
//! encoding come out as a byte that is wrong in UTF-8, so that the record they are in is rejected and
//! the next one is not.

use std::borrow::Cow;

use encoding_rs::{DecoderResult, Encoding};

use super::notices::Notice;
use crate::error::{Error, Result};

/// Bytes in which a declaration must end; the longest that makes sense has about 80.
const DECLARATION_BYTES_MAX: usize = 1024;

/// Not in any UTF-8 text.
const WRONG_BYTE: u8 = 0xff;

#[derive(Debug)]
pub(super) struct Input {
    charset: Option<String>,
    state: State,
    /// Bytes of the byte order mark that was taken away, where offsets count it.
    mark: u64,
    by: By,
    notices: Vec<Notice>,
}

#[derive(Debug)]
enum State {
    /// The start of the body, until it is clear what it is.
    Start(Vec<u8>),
    Utf8,
    Other(Converter),
}

/// What named the encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Nothing,
    Mark(&'static str),
    Charset(String),
    Declaration,
    /// `<` in two bytes.
    Pattern,
}

impl Input {
    pub(super) fn new(charset: Option<String>) -> Self {
        Input { charset, state: State::Start(Vec::new()), mark: 0, by: By::Nothing, notices: Vec::new() }
    }

    /// The same bytes as UTF-8, without byte order mark; some may be held back until more have come.
    pub(super) fn push<'a>(&mut self, bytes: &'a [u8], last: bool) -> Result<Cow<'a, [u8]>> {
        match &mut self.state {
            State::Utf8 => Ok(Cow::Borrowed(bytes)),
            State::Other(converter) => Ok(Cow::Owned(converter.convert(bytes, last))),
            State::Start(held) => {
                let start = match std::mem::take(held) {
                    held if held.is_empty() => Cow::Borrowed(bytes),
                    held => Cow::Owned([&held, bytes].concat()),
                };
                match self.recognise(&start, last)? {
                    None => {
                        self.state = State::Start(start.into_owned());
                        Ok(Cow::Borrowed(&[]))
                    }
                    Some((mark, None)) => {
                        self.state = State::Utf8;
                        self.mark = mark as u64;
                        Ok(match start {
                            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[mark..]),
                            Cow::Owned(bytes) => Cow::Owned(bytes[mark..].to_vec()),
                        })
                    }
                    Some((mark, Some(mut converter))) => {
                        let text = converter.convert(&start[mark..], last);
                        self.state = State::Other(converter);
                        Ok(Cow::Owned(text))
                    }
                }
            }
        }
    }

    /// Where the text that `push` gives starts in the body.
    pub(super) fn offset(&self) -> u64 {
        self.mark
    }

    /// Why a record with undecodable bytes is rejected.
    pub(super) fn undecodable(&self) -> &'static str {
        if matches!(self.state, State::Other(_)) { "invalid_encoding" } else { "invalid_utf8" }
    }

    pub(super) fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Takes note of what the declaration says, once it has been read.
    pub(super) fn declared(&mut self, label: &str) -> Result<()> {
        let is_utf16 = label.to_ascii_lowercase().starts_with("utf-16");
        let agrees = match &self.by {
            By::Nothing | By::Declaration => true,
            By::Pattern if !is_utf16 => return Err(mismatch(label)),
            By::Pattern => true,
            By::Mark(name) if is_utf16 => name.starts_with("UTF-16"),
            By::Mark(name) => is_same(name, label),
            By::Charset(name) => is_same(name, label),
        };
        if !agrees {
            self.notices.push(Notice::of_document(format!("encoding_conflict:{label}")));
        }
        Ok(())
    }

    /// The length of the byte order mark, and the converter unless it is UTF-8. `None`: too early to say.
    fn recognise(&mut self, start: &[u8], last: bool) -> Result<Option<(usize, Option<Converter>)>> {
        if start.len() < 4 && !last {
            return Ok(None);
        }
        let utf16 = |name: &'static str| Converter::named(name).map(Some);
        let found = match start {
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err(unsupported("utf-32")),
            [b'<', 0, 0, 0, ..] | [0, 0, 0, b'<', ..] => return Err(unsupported("utf-32")),
            [0x4c, 0x6f, 0xa7, 0x94, ..] => return Err(unsupported("ebcdic")),
            [0xef, 0xbb, 0xbf, ..] => (By::Mark("UTF-8"), 3, None),
            [0xfe, 0xff, ..] => (By::Mark("UTF-16BE"), 2, utf16("utf-16be")?),
            [0xff, 0xfe, ..] => (By::Mark("UTF-16LE"), 2, utf16("utf-16le")?),
            [0, b'<', ..] => (By::Pattern, 0, utf16("utf-16be")?),
            [b'<', 0, ..] => (By::Pattern, 0, utf16("utf-16le")?),
            _ => match &self.charset {
                Some(label) => (By::Charset(label.clone()), 0, Converter::for_label(label)?),
                None => match declared_in(start, last) {
                    Declared::Unclear => return Ok(None),
                    Declared::Nothing => (By::Nothing, 0, None),
                    Declared::Label(label) => (By::Declaration, 0, Converter::for_label(&label)?),
                },
            },
        };
        let (by, mark, converter) = found;
        self.by = by;
        if let Some(converter) = &converter {
            self.notices.push(Notice::of_document(format!("encoding:{}", converter.name)));
        }
        Ok(Some((mark, converter)))
    }
}

fn is_same(one: &str, other: &str) -> bool {
    Encoding::for_label(one.as_bytes()) == Encoding::for_label(other.as_bytes())
}

enum Declared {
    Unclear,
    Nothing,
    Label(String),
}

/// What the declaration at the start says, read no closer than to find it; whether it is in order is
/// seen when it is read as XML.
fn declared_in(start: &[u8], last: bool) -> Declared {
    const OPEN: &[u8] = b"<?xml";
    if !start.starts_with(&OPEN[..OPEN.len().min(start.len())]) {
        return Declared::Nothing;
    }
    let looked_at = &start[..start.len().min(DECLARATION_BYTES_MAX)];
    let Some(end) = memchr::memmem::find(looked_at, b"?>") else {
        let unclear = !last && start.len() < DECLARATION_BYTES_MAX;
        return if unclear { Declared::Unclear } else { Declared::Nothing };
    };
    let declaration = String::from_utf8_lossy(&looked_at[..end]);
    let label = declaration.split_once("encoding").and_then(|(_, rest)| {
        let rest = rest.trim_start().strip_prefix('=')?.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest[1..].split_once(quote).map(|(label, _)| label)
    });
    // What is no name at all is a bad declaration, which is seen when it is read.
    let is_name = |label: &&str| label.starts_with(|c: char| c.is_ascii_alphabetic());
    label.filter(is_name).map_or(Declared::Nothing, |label| Declared::Label(label.to_owned()))
}

fn unsupported(label: &str) -> Error {
    let shown: String = label.chars().filter(|c| !c.is_control()).take(40).collect();
    Error::failed(format!(
        "the body is in the encoding `{shown}`, which is not read (unsupported_encoding:{})",
        shown.to_ascii_lowercase()
    ))
    .hint("UTF-8, UTF-16 and what browsers read are; let the source send one of them")
}

fn mismatch(label: &str) -> Error {
    Error::failed(format!(
        "the body says that it is in `{label}`, which its bytes are not (encoding_mismatch)"
    ))
}

/// A body that is no XML must be UTF-8: JSON is by its standard, and CSV says nothing.
pub(super) fn refuse_utf16(first: u8, second: Option<u8>) -> Result<()> {
    match (first, second) {
        (0xfe | 0xff | 0, _) | (_, Some(0)) => Err(unsupported("utf-16")),
        _ => Ok(()),
    }
}

/// One encoding's bytes into UTF-8, cut anywhere.
struct Converter {
    name: &'static str,
    decoder: encoding_rs::Decoder,
    /// ISO 8859 has control characters where the encoding of that name has Windows' additions.
    keeps_c1: bool,
    ascii: bool,
}

impl std::fmt::Debug for Converter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Converter {{ {} }}", self.name)
    }
}

impl Converter {
    fn named(label: &str) -> Result<Converter> {
        let known = Encoding::for_label_no_replacement(label.as_bytes());
        let encoding =
            known.filter(|e| *e != encoding_rs::X_USER_DEFINED).ok_or_else(|| unsupported(label))?;
        let plain: String = label.trim().to_ascii_lowercase().replace(['-', '_', ':'], "");
        let iso = ["iso8859", "latin", "l1", "l5", "cp819", "ibm819", "csisolatin", "isoir"];
        Ok(Converter {
            name: encoding.name(),
            decoder: encoding.new_decoder_without_bom_handling(),
            keeps_c1: encoding.is_single_byte() && iso.iter().any(|start| plain.starts_with(start)),
            ascii: plain.ends_with("ascii") || plain.starts_with("ansix3.4"),
        })
    }

    /// `None` for UTF-8 itself.
    fn for_label(label: &str) -> Result<Option<Converter>> {
        let converter = Converter::named(label)?;
        match converter.name {
            "UTF-8" => Ok(None),
            // The declaration was read as ASCII, so it cannot be.
            "UTF-16LE" | "UTF-16BE" => Err(mismatch(label)),
            _ => Ok(Some(converter)),
        }
    }

    fn convert(&mut self, bytes: &[u8], last: bool) -> Vec<u8> {
        let mut text = Vec::with_capacity(bytes.len() + bytes.len() / 2 + 16);
        if !self.ascii && !self.keeps_c1 {
            self.decode(bytes, last, &mut text);
            return text;
        }
        // One byte, one character: the runs between the odd ones can be decoded each for itself.
        let odd_end = if self.ascii { 0xff } else { 0x9f };
        let is_odd = |b: &u8| (0x80..=odd_end).contains(b);
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(is_odd) {
            self.decode(&rest[..at], false, &mut text);
            if self.ascii {
                text.push(WRONG_BYTE);
            } else {
                text.extend_from_slice(char::from(rest[at]).encode_utf8(&mut [0; 4]).as_bytes());
            }
            rest = &rest[at + 1..];
        }
        self.decode(rest, last, &mut text);
        text
    }

    fn decode(&mut self, mut bytes: &[u8], last: bool, text: &mut Vec<u8>) {
        let mut piece = [0; 4096];
        loop {
            let (result, read, written) =
                self.decoder.decode_to_utf8_without_replacement(bytes, &mut piece, last);
            text.extend_from_slice(&piece[..written]);
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => text.push(WRONG_BYTE),
            }
        }
    }
}
