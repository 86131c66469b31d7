//! One token, and what XML 1.0 asks of it: all of well-formedness but how tags are nested.
//!
//! What is wrong is found at the same byte however the bytes came; if they end inside the token, it is
//! read again when there are more.
//!
//! # Why not quick-xml?
//! It checks little: attributes, names, comments, characters and references that are wrong pass through
//! it. Once all of that is looked at here the ends of tokens are known too, and to have it find them as
//! well took half of the time. The tests hold the two against each other.

use super::chars::{
    UNDECODABLE, continues_name, illegal, is_name, is_space, resolve, starts_name, undecodable,
};

/// What one tag may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) tag_bytes_max: usize,
    pub(super) attributes_max: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token<'b> {
    /// Up to the next `<` or `&`, or to the end of the bytes. Not yet checked.
    Text(&'b [u8]),
    CData(&'b [u8]),
    /// What stands between `&` and `;`.
    Reference(&'b str),
    /// `attributes` leaves declarations of namespaces out.
    Start {
        name: &'b [u8],
        attributes: u64,
        empty: bool,
    },
    End(&'b [u8]),
    Declaration {
        encoding: Option<&'b str>,
    },
    Doctype,
    /// A comment or a processing instruction.
    Aside,
}

#[derive(Debug)]
pub(super) struct Read<'b> {
    pub(super) token: Token<'b>,
    /// Bytes it takes.
    pub(super) end: usize,
    /// What is wrong in it although its end is certain: a record with it is rejected.
    pub(super) flaw: Option<(usize, &'static str)>,
}

#[derive(Debug)]
pub(super) enum Stop {
    /// The bytes end inside the token.
    Incomplete,
    Fault(Fault),
}

/// What ends the body: where in the bytes, the code, and the words.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) code: &'static str,
    pub(super) words: String,
    /// The setting that allows more, if it is a limit.
    pub(super) limit: Option<&'static str>,
}

impl Stop {
    /// The same, seen from `by` bytes further ahead.
    pub(super) fn moved(self, by: usize) -> Stop {
        match self {
            Stop::Fault(fault) => Stop::Fault(Fault { at: fault.at + by, ..fault }),
            Stop::Incomplete => Stop::Incomplete,
        }
    }
}

pub(super) fn fault<T>(at: usize, code: &'static str, words: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fault(Fault { at, code, words: words.into(), limit: None }))
}

fn over<T>(at: usize, code: &'static str, words: String, limit: &'static str) -> Result<T, Stop> {
    Err(Stop::Fault(Fault { at, code, words, limit: Some(limit) }))
}

const CDATA: &[u8] = b"<![CDATA[";
pub(super) const DOCTYPE: &[u8] = b"<!DOCTYPE";
const COMMENT: &[u8] = b"<!--";

/// Reads the token at the start of `bytes`, which must not be empty.
pub(super) fn check(bytes: &[u8], limits: Limits) -> Result<Read<'_>, Stop> {
    let mut scan = Scan { bytes, at: 0, flaw: None };
    let token = match bytes {
        [b'&', ..] => Token::Reference(scan.reference()?),
        [b'<'] => return Err(Stop::Incomplete),
        [b'<', b'!', ..] => scan.bang()?,
        [b'<', b'?', ..] => scan.instruction()?,
        [b'<', b'/', ..] => {
            scan.at = 2;
            let name = scan.name()?;
            scan.spaces();
            scan.expect(b">")?;
            Token::End(name)
        }
        [b'<', ..] => {
            scan.bytes = &bytes[..bytes.len().min(limits.tag_bytes_max)];
            match scan.start_tag(limits.attributes_max) {
                Err(Stop::Incomplete) if bytes.len() > limits.tag_bytes_max => {
                    let words = format!("a tag exceeds {} bytes", limits.tag_bytes_max);
                    return over(0, "tag_too_large", words, "limits.tag_kib_max");
                }
                token => token?,
            }
        }
        _ => {
            scan.at = memchr::memchr2(b'<', b'&', bytes).unwrap_or(bytes.len());
            Token::Text(&bytes[..scan.at])
        }
    };
    Ok(Read { token, end: scan.at, flaw: scan.flaw })
}

/// Steps through one token.
pub(super) struct Scan<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) at: usize,
    flaw: Option<(usize, &'static str)>,
}

impl<'b> Scan<'b> {
    pub(super) fn byte(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    pub(super) fn spaces(&mut self) -> bool {
        let start = self.at;
        while self.byte().is_ok_and(is_space) {
            self.at += 1;
        }
        self.at > start
    }

    /// `what` must come next.
    pub(super) fn expect(&mut self, what: &[u8]) -> Result<(), Stop> {
        for wanted in what {
            if self.byte()? != *wanted {
                return fault(self.at, "not_well_formed", format!("`{}` is missing", what.escape_ascii()));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn flaw(&mut self, at: usize, reason: &'static str) {
        self.flaw.get_or_insert((at, reason));
    }

    /// A name as bytes, which are UTF-8: most are only compared.
    pub(super) fn name(&mut self) -> Result<&'b [u8], Stop> {
        let start = self.at;
        loop {
            // Most names are plain, and then a byte is a character.
            let c = match self.byte()? {
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    self.at += 1;
                    continue;
                }
                byte if byte.is_ascii() => char::from(byte),
                _ => self.char()?,
            };
            let fits = if self.at == start { starts_name(c) } else { continues_name(c) };
            if !fits {
                break;
            }
            self.at += c.len_utf8();
        }
        if self.at == start {
            return fault(start, "not_well_formed", "a name is missing");
        }
        Ok(&self.bytes[start..self.at])
    }

    fn char(&self) -> Result<char, Stop> {
        let next = &self.bytes[self.at..self.bytes.len().min(self.at + 4)];
        let valid = match std::str::from_utf8(next) {
            Ok(text) => text,
            Err(e) if e.valid_up_to() > 0 => {
                std::str::from_utf8(&next[..e.valid_up_to()]).expect("that far it is valid")
            }
            Err(e) if e.error_len().is_none() => return Err(Stop::Incomplete),
            Err(_) => return fault(self.at, UNDECODABLE, "a byte that is no character in a name or tag"),
        };
        Ok(valid.chars().next().expect("it is not empty"))
    }

    /// `&…;` from the `&` on.
    fn reference(&mut self) -> Result<&'b str, Stop> {
        let start = self.at + 1;
        let rest = &self.bytes[start..];
        let end = memchr::memchr3(b';', b'<', b'&', rest).ok_or(Stop::Incomplete)?;
        let what =
            std::str::from_utf8(&rest[..end]).ok().filter(|name| name.starts_with('#') || is_name(name));
        match what {
            Some(what) if rest[end] == b';' => {
                self.at = start + end + 1;
                Ok(what)
            }
            _ => fault(start - 1, "not_well_formed", "`&` that starts no reference"),
        }
    }

    fn start_tag(&mut self, attributes_max: usize) -> Result<Token<'b>, Stop> {
        self.at = 1;
        let name = self.name()?;
        let (mut seen, mut namespaces): (Vec<&[u8]>, u64) = (Vec::new(), 0);
        loop {
            let spaced = self.spaces();
            match self.byte()? {
                b'>' => {
                    self.at += 1;
                    return Ok(start(name, seen.len(), namespaces, false));
                }
                b'/' => {
                    self.expect(b"/>")?;
                    return Ok(start(name, seen.len(), namespaces, true));
                }
                _ if !spaced => return fault(self.at, "not_well_formed", "white space is missing in a tag"),
                _ => {}
            }
            let at = self.at;
            let attribute = self.name()?;
            let is_namespace = attribute == b"xmlns" || attribute.starts_with(b"xmlns:");
            namespaces += u64::from(is_namespace);
            if seen.len() == attributes_max {
                let (code, what) = match is_namespace {
                    true => ("too_many_namespaces", "declarations of namespaces"),
                    false => ("too_many_attributes", "attributes"),
                };
                return over(
                    at,
                    code,
                    format!("a tag has over {attributes_max} {what}"),
                    "limits.attributes_max",
                );
            }
            if seen.contains(&attribute) {
                let words = format!("the attribute `{}` comes twice", text_of(attribute));
                return fault(at, "not_well_formed", words);
            }
            seen.push(attribute);
            self.spaces();
            self.expect(b"=")?;
            self.spaces();
            self.attribute_value()?;
        }
    }

    fn attribute_value(&mut self) -> Result<(), Stop> {
        let quote = self.byte()?;
        if !matches!(quote, b'"' | b'\'') {
            return fault(self.at, "not_well_formed", "an attribute's value is not in quotes");
        }
        let start = self.at + 1;
        self.at = start;
        loop {
            let rest = &self.bytes[self.at..];
            self.at += memchr::memchr3(quote, b'<', b'&', rest).ok_or(Stop::Incomplete)?;
            match self.byte()? {
                b'<' => return fault(self.at, "not_well_formed", "`<` in an attribute's value"),
                b'&' => {
                    let at = self.at;
                    if let Err(reason) = resolve(self.reference()?) {
                        self.flaw(at, reason);
                    }
                }
                _ => break,
            }
        }
        self.check(start, self.at)?;
        self.at += 1;
        Ok(())
    }

    /// Characters of what may hold any.
    fn check(&mut self, start: usize, end: usize) -> Result<(), Stop> {
        let inside = &self.bytes[start..end];
        if let Some(at) = illegal(inside) {
            return fault(start + at, "illegal_char", "an illegal character");
        }
        if let Some(at) = undecodable(inside) {
            self.flaw(start + at, UNDECODABLE);
        }
        Ok(())
    }

    /// Up to and with `end`, from `start` on; what was before it is checked.
    pub(super) fn until(&mut self, start: usize, end: &[u8]) -> Result<&'b [u8], Stop> {
        let rest = self.bytes.get(start..).ok_or(Stop::Incomplete)?;
        let length = memchr::memmem::find(rest, end).ok_or(Stop::Incomplete)?;
        self.check(start, start + length)?;
        self.at = start + length + end.len();
        Ok(&rest[..length])
    }

    fn bang(&mut self) -> Result<Token<'b>, Stop> {
        let begins = |what: &[u8]| what.starts_with(&self.bytes[..what.len().min(self.bytes.len())]);
        let whole = |what: &[u8]| if self.bytes.len() < what.len() { Err(Stop::Incomplete) } else { Ok(()) };
        if begins(COMMENT) {
            whole(COMMENT)?;
            // `--` may stand in a comment only where it ends.
            self.until(COMMENT.len(), b"--")?;
            if self.byte()? != b'>' {
                return fault(self.at - 2, "not_well_formed", "`--` inside a comment");
            }
            self.at += 1;
            return Ok(Token::Aside);
        }
        if begins(CDATA) {
            whole(CDATA)?;
            return Ok(Token::CData(self.until(CDATA.len(), b"]]>")?));
        }
        if begins(DOCTYPE) {
            whole(DOCTYPE)?;
            return self.doctype();
        }
        fault(0, "not_well_formed", "`<!` that starts no comment, CDATA section or DOCTYPE")
    }
}

/// A name that was read here.
pub(super) fn text_of(name: &[u8]) -> &str {
    std::str::from_utf8(name).expect("names are read character by character")
}

fn start(name: &[u8], all: usize, namespaces: u64, empty: bool) -> Token<'_> {
    Token::Start { name, attributes: all as u64 - namespaces, empty }
}
