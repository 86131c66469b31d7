//! What stands before the root element: the XML declaration, a DOCTYPE; and instructions, which look like
//! the first and may stand anywhere.

use super::chars::is_space;
use super::token::{DOCTYPE, Scan, Stop, Token, fault, text_of};

impl<'b> Scan<'b> {
    /// A DOCTYPE that names an external DTD is passed over, and the DTD never fetched; one with
    /// definitions of its own is refused, since entities defined there could expand without end.
    pub(super) fn doctype(&mut self) -> Result<Token<'b>, Stop> {
        self.at = DOCTYPE.len();
        self.space()?;
        self.name()?;
        self.spaces();
        let literals = match self.byte()? {
            b'S' => self.expect(b"SYSTEM").map(|()| 1)?,
            b'P' => self.expect(b"PUBLIC").map(|()| 2)?,
            _ => 0,
        };
        for left in (0..literals).rev() {
            self.space()?;
            let quote = self.byte()?;
            if !matches!(quote, b'"' | b'\'') {
                return fault(self.at, "not_well_formed", "a DOCTYPE's identifier is not in quotes");
            }
            let start = self.at + 1;
            let literal = self.until(start, &[quote])?;
            // Of two literals the first is the public identifier.
            if let Some(wrong) = literal.iter().position(|b| left == 1 && !is_public_id(*b)) {
                return fault(start + wrong, "not_well_formed", "a character that no public identifier has");
            }
        }
        self.spaces();
        if self.byte()? == b'[' {
            let words = "a DOCTYPE with definitions of its own is not accepted";
            return fault(self.at, "dtd_entity_forbidden", words);
        }
        self.expect(b">")?;
        Ok(Token::Doctype)
    }

    fn space(&mut self) -> Result<(), Stop> {
        self.byte()?;
        if self.spaces() { Ok(()) } else { fault(self.at, "not_well_formed", "white space is missing") }
    }

    pub(super) fn instruction(&mut self) -> Result<Token<'b>, Stop> {
        self.at = 2;
        let target = self.name()?;
        let start = self.at;
        if !is_space(self.byte()?) {
            self.expect(b"?>")?;
        } else {
            self.until(start, b"?>")?;
        }
        match target {
            b"xml" => self.declaration(start, self.at - 2),
            _ if target.eq_ignore_ascii_case(b"xml") => {
                fault(0, "bad_declaration", format!("`<?{}` is reserved", text_of(target)))
            }
            _ => Ok(Token::Aside),
        }
    }

    /// The declaration's version, encoding and standalone, in this order; the first must be there.
    fn declaration(&mut self, start: usize, end: usize) -> Result<Token<'b>, Stop> {
        let mut rest = self.bytes[start..end].trim_ascii_end();
        let mut encoding = None;
        for (name, required) in [("version", true), ("encoding", false), ("standalone", false)] {
            match pseudo_attribute(&mut rest, name) {
                Some(value) if is_declarable(name, value) => {
                    if name == "encoding" {
                        encoding = Some(value);
                    }
                }
                None if !required => {}
                Some(_) => return fault(0, "bad_declaration", format!("bad XML declaration: wrong {name}")),
                None => return fault(0, "bad_declaration", format!("bad XML declaration: no {name}")),
            }
        }
        if !rest.is_empty() {
            return fault(0, "bad_declaration", "bad XML declaration");
        }
        Ok(Token::Declaration { encoding })
    }
}

/// XML's PubidChar.
fn is_public_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" \r\n-'()+,./:=?;!*#@$_%".contains(&byte)
}

/// Takes ` name="value"` from the start of `rest`.
fn pseudo_attribute<'b>(rest: &mut &'b [u8], name: &str) -> Option<&'b str> {
    let trimmed = rest.trim_ascii_start();
    let spaced = trimmed.len() < rest.len();
    let value = trimmed.strip_prefix(name.as_bytes()).filter(|_| spaced)?.trim_ascii_start();
    let value = value.strip_prefix(b"=")?.trim_ascii_start();
    let quote = *value.first().filter(|q| matches!(q, b'"' | b'\''))?;
    let end = memchr::memchr(quote, &value[1..])?;
    *rest = &value[end + 2..];
    std::str::from_utf8(&value[1..=end]).ok()
}

fn is_declarable(name: &str, value: &str) -> bool {
    match name {
        "version" => {
            value.strip_prefix("1.").is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()))
        }
        "encoding" => {
            value.starts_with(|c: char| c.is_ascii_alphabetic())
                && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
        _ => matches!(value, "yes" | "no"),
    }
}
