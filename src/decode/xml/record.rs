//! Reads one record after its start tag: its children are fields, their text is their value.

use std::borrow::Cow;

use super::chars::{UNDECODABLE, local, resolve, wrong_in_text};
use super::token::{Fault, Limits, Stop, Token, text_of};
use super::tokens::Tokens;
use crate::decode::rows::Rows;

/// What stays the same from record to record.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) fields: Vec<String>,
    pub(super) depth_max: usize,
    pub(super) limits: Limits,
}

impl Shape {
    /// Reads up to the record's end tag `</name>`; returns where that ends. `complete` says that the
    /// body ends with these bytes.
    pub(super) fn read(
        &self,
        tokens: &mut Tokens<'_>,
        name: &[u8],
        complete: bool,
        undecodable: &'static str,
        rows: &mut Rows,
    ) -> Result<usize, Stop> {
        let reason = |flaw: &'static str| if flaw == UNDECODABLE { undecodable } else { flaw };
        let mut open: Vec<&[u8]> = Vec::new();
        let mut field = None;
        // Fields come in the same order nearly always: look where the last one was found plus one.
        let mut guess = 0;
        while !tokens.is_at_end() {
            let at = tokens.at();
            let read = tokens.next()?;
            if let Some((_, flaw)) = read.flaw {
                rows.spoil(reason(flaw), field);
            }
            match read.token {
                Token::Start { name, attributes, empty } => {
                    rows.drift().attributes(attributes);
                    if open.is_empty() {
                        field = self.find(local(name), &mut guess);
                        match field {
                            Some(column) => rows.start(column),
                            None => rows.drift().unknown(text_of(local(name))),
                        }
                    } else if let Some(column) = field {
                        rows.spoil("nested_element", Some(column));
                    }
                    if open.len() == self.depth_max {
                        return Err(Stop::Fault(too_deep(at, self.depth_max)));
                    }
                    if !empty {
                        match tokens.plain_field(name) {
                            None => open.push(name),
                            Some(text) => {
                                if let Some(column) = field {
                                    rows.text(column, text);
                                }
                                field = field.filter(|_| !open.is_empty());
                            }
                        }
                    } else if open.is_empty() {
                        field = None;
                    }
                }
                Token::End(found) => match open.pop() {
                    Some(wanted) if wanted != found => {
                        return Err(Stop::Fault(mismatch(at, text_of(found), text_of(wanted))));
                    }
                    Some(_) if open.is_empty() => field = None,
                    Some(_) => {}
                    None if found != name => {
                        return Err(Stop::Fault(mismatch(at, text_of(found), text_of(name))));
                    }
                    None => return Ok(read.end),
                },
                // It may go on, and the record ends behind it in any case.
                Token::Text(_) if tokens.is_at_end() && !complete => return Err(Stop::Incomplete),
                Token::Text(text) => {
                    if let Some((place, code)) = wrong_in_text(text) {
                        return Err(Stop::Fault(wrong_text(at + place, code)));
                    }
                    if let Some(flaw) = value(text, field, rows) {
                        rows.spoil(reason(flaw), field);
                    }
                }
                Token::CData(text) => {
                    value(text, field, rows);
                }
                Token::Reference(reference) => match resolve(reference) {
                    Ok(char) => {
                        if let Some(column) = field {
                            rows.text(column, char.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                    }
                    Err(reason) => rows.spoil(reason, field),
                },
                Token::Declaration { .. } | Token::Doctype => {
                    let words = "a declaration inside a record".to_owned();
                    return Err(Stop::Fault(Fault { at, code: "not_well_formed", words, limit: None }));
                }
                Token::Aside => {}
            }
        }
        Err(Stop::Incomplete)
    }

    fn find(&self, name: &[u8], guess: &mut usize) -> Option<usize> {
        if self.fields.get(*guess).is_some_and(|f| f.as_bytes() == name) {
            *guess += 1;
            return Some(*guess - 1);
        }
        let found = self.fields.iter().position(|f| f.as_bytes() == name)?;
        *guess = found + 1;
        Some(found)
    }
}

/// Adds text to the field's value, with the ends of lines as XML wants them; says if it cannot.
fn value(text: &[u8], field: Option<usize>, rows: &mut Rows) -> Option<&'static str> {
    let Ok(text) = std::str::from_utf8(text) else { return Some(UNDECODABLE) };
    if let Some(column) = field {
        let text = match text.contains('\r') {
            true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
            false => Cow::Borrowed(text),
        };
        rows.text(column, text.as_bytes());
    }
    None
}

pub(super) fn wrong_text(at: usize, code: &'static str) -> Fault {
    let words =
        if code == "illegal_char" { "an illegal character" } else { "`]]>` outside of a CDATA section" };
    Fault { at, code, words: words.to_owned(), limit: None }
}

pub(super) fn mismatch(at: usize, found: &str, wanted: &str) -> Fault {
    let words = format!("`</{found}>` closes `<{wanted}>`");
    Fault { at, code: "not_well_formed", words, limit: None }
}

pub(super) fn too_deep(at: usize, depth_max: usize) -> Fault {
    let words = format!("nesting exceeds {depth_max} levels");
    Fault { at, code: "depth", words, limit: Some("limits.depth_max") }
}
