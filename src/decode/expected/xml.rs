//! XML records of a known shape: flat, without attributes, comments and references.

use super::{Literal, Miss, Shapes, Template, Value};
use crate::decode::build::Values;
use crate::decode::rows::Rows;
use crate::decode::value::parse;
use crate::decode::words::{copy_plain, integer, special_in_xml};
use crate::decode::xml::{is_space, local, undecodable, wrong_in_text};
use crate::error::Result as CrateResult;
use crate::schema::{ColumnType, Columns};

/// Reads records, and learns how they are written.
#[derive(Debug)]
pub(in crate::decode) struct Expected {
    shapes: Shapes<Text>,
    columns: Vec<(String, ColumnType)>,
}

/// The text of an element.
#[derive(Debug, PartialEq)]
enum Text {
    Column(usize, ColumnType),
    /// Of a field that is no column.
    Unknown,
}

impl Expected {
    pub(in crate::decode) fn new(columns: &Columns) -> Self {
        let columns = columns.iter().map(|c| (c.path().to_owned(), c.kind)).collect();
        Expected { shapes: Shapes::new(), columns }
    }

    /// Reads records from the start of `bytes` while they are as expected. Returns how many bytes and
    /// records those were, and what came then.
    pub(in crate::decode) fn read(
        &mut self,
        bytes: &[u8],
        record_bytes_max: usize,
        rows: &mut Rows,
    ) -> CrateResult<(usize, u64, Miss)> {
        let (mut taken, mut records) = (0, 0);
        loop {
            let spaces = bytes[taken..].iter().position(|b| !is_space(*b)).unwrap_or(0);
            let rest = &bytes[taken + spaces..];
            match self.shapes.read(&rest[..rest.len().min(record_bytes_max)], rows) {
                Ok(length) => {
                    rows.took(length)?;
                    taken += spaces + length;
                    records += 1;
                }
                Err(miss) => return Ok((taken, records, miss)),
            }
        }
    }

    /// Takes note of `record`, which is a row.
    pub(in crate::decode) fn learn(&mut self, record: &[u8]) {
        let columns = &self.columns;
        self.shapes.learn(|| template(record, columns));
    }
}

/// What `record`, which is known to be well formed, has beside its values. `None` unless it is flat.
fn template(record: &[u8], columns: &[(String, ColumnType)]) -> Option<Template<Text>> {
    let (_, mut at) = open_tag(record, 0)?;
    let (mut values, mut unknown) = (Vec::new(), Vec::new());
    let mut absent: Vec<usize> = (0..columns.len()).collect();
    // Behind the last value.
    let mut behind = 0;
    loop {
        at += record[at..].iter().position(|b| !is_space(*b))?;
        if record[at..].starts_with(b"</") {
            return Some(Template { values, end: Literal::new(&record[behind..]), absent, unknown });
        }
        let (name, start) = open_tag(record, at)?;
        let value = match columns.iter().position(|(path, _)| path == name) {
            Some(column) => {
                absent.retain(|c| *c != column);
                Text::Column(column, columns[column].1)
            }
            None => {
                unknown.push(name.to_owned());
                Text::Unknown
            }
        };
        values.push((Literal::new(&record[behind..start]), value));
        behind = start + memchr::memchr(b'<', &record[start..])?;
        if !record[behind..].starts_with(b"</") {
            return None;
        }
        at = behind + memchr::memchr(b'>', &record[behind..])? + 1;
    }
}

/// The local name of the start tag at `at`, and where the tag ends. `None` for a tag with more than a
/// name, and for what is no tag.
fn open_tag(record: &[u8], at: usize) -> Option<(&str, usize)> {
    let name = record[at..].strip_prefix(b"<")?;
    let end = name.iter().position(|b| matches!(b, b'>' | b'/' | b'!' | b'?') || is_space(*b))?;
    let name = std::str::from_utf8(local(&name[..end])).ok()?;
    (record[at + 1 + end] == b'>').then_some((name, at + end + 2))
}

impl Value for Text {
    #[inline]
    fn read(&self, bytes: &[u8], at: usize, rows: &mut Rows) -> Result<usize, Miss> {
        let Text::Column(column, kind) = *self else { return Ok(at + any_text(bytes, at)?.len()) };
        let column = rows.builder(column);
        match &mut column.values {
            Values::Int64(values) => {
                if let Some((value, end)) = integer(bytes, at)? {
                    values.push(value);
                    return Ok(end);
                }
            }
            Values::Text(texts) => {
                let end = copy_plain(bytes, at, special_in_xml, &mut texts.bytes)?;
                if bytes[end] == b'<' {
                    texts.end();
                    return Ok(end);
                }
                // Not to its end: it is read again, with care.
                texts.drop_open();
            }
            _ => {}
        }
        let text = any_text(bytes, at)?;
        column.append(parse(kind, text).map_err(|_| Miss::Other)?, text);
        Ok(at + text.len())
    }
}

/// The text at `at` up to the next tag, where it needs no change.
fn any_text(bytes: &[u8], at: usize) -> Result<&[u8], Miss> {
    let rest = bytes.get(at..).ok_or(Miss::Short)?;
    let end = memchr::memchr3(b'<', b'&', b'\r', rest).ok_or(Miss::Short)?;
    let text = &rest[..end];
    if rest[end] != b'<' || undecodable(text).is_some() || wrong_in_text(text).is_some() {
        return Err(Miss::Other);
    }
    Ok(text)
}
