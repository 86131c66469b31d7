//! JSON records of a known shape: flat objects whose strings have no escapes.

use super::{Literal, Miss, Shapes, Template, Value};
use crate::decode::build::Values;
use crate::decode::notices::Spelling;
use crate::decode::rows::Rows;
use crate::decode::value::parse;
use crate::decode::words::{copy_plain, integer, special_in_json};
use crate::schema::{ColumnType, Columns, Mode};

/// Reads records, and learns how they are written.
#[derive(Debug)]
pub(in crate::decode) struct Expected {
    shapes: Shapes<Field>,
    columns: Vec<(String, ColumnType, Mode)>,
}

/// The value of a key.
#[derive(Debug, PartialEq)]
enum Field {
    Column(usize, ColumnType, Mode),
    /// Of a field that is no column.
    Unknown,
}

/// Where a value ends, and how it is spelt.
struct Spelt<'b> {
    end: usize,
    /// `null` is no spelling: every value may be.
    spelling: Option<Spelling>,
    /// Between the quotes of a string.
    text: &'b [u8],
}

impl Expected {
    pub(in crate::decode) fn new(columns: &Columns) -> Self {
        let columns = columns.iter().map(|c| (c.path().to_owned(), c.kind, c.mode)).collect();
        Expected { shapes: Shapes::new(), columns }
    }

    /// Appends the record at the start of `bytes`, if it is as expected, and returns where it ends.
    pub(in crate::decode) fn read(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<usize, Miss> {
        self.shapes.read(bytes, rows)
    }

    /// Takes note of `record`, which is a row, and of the bytes that end it.
    pub(in crate::decode) fn learn(&mut self, record: &[u8], end: &[u8]) {
        let columns = &self.columns;
        self.shapes.learn(|| template(&[record, end].concat(), columns));
    }
}

/// What `record`, which is known to be JSON, has beside its values. `None` unless it is flat and its keys
/// have no escapes.
fn template(record: &[u8], columns: &[(String, ColumnType, Mode)]) -> Option<Template<Field>> {
    let (mut values, mut unknown) = (Vec::new(), Vec::new());
    let mut absent: Vec<usize> = (0..columns.len()).collect();
    // Behind the last value.
    let mut behind = 0;
    loop {
        // A key comes, unless the object ends.
        let mark = behind + record[behind..].iter().position(|b| matches!(b, b'"' | b'}'))?;
        if record[mark] == b'}' {
            return Some(Template { values, end: Literal::new(&record[behind..]), absent, unknown });
        }
        let key = mark + 1;
        let key_end = key + memchr::memchr2(b'"', b'\\', &record[key..])?;
        let name = std::str::from_utf8(&record[key..key_end]).ok().filter(|_| record[key_end] == b'"')?;
        let start = key_end + record[key_end..].iter().position(|b| *b == b':')? + 1;
        let start = start + record[start..].iter().position(|b| !b.is_ascii_whitespace())?;
        let field = match columns.iter().position(|(path, ..)| path == name) {
            Some(column) => {
                absent.retain(|c| *c != column);
                Field::Column(column, columns[column].1, columns[column].2)
            }
            None => {
                unknown.push(name.to_owned());
                Field::Unknown
            }
        };
        values.push((Literal::new(&record[behind..start]), field));
        behind = start + value_length(&record[start..])?;
    }
}

/// The length of the value at the start of `json`, in a record that is known to be JSON.
fn value_length(json: &[u8]) -> Option<usize> {
    match json.first()? {
        b'{' | b'[' => None,
        b'"' => {
            let mut at = 1;
            loop {
                at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
                match json[at] {
                    b'"' => return Some(at + 1),
                    // What is escaped may be a quote.
                    _ => at += 2,
                }
            }
        }
        _ => json.iter().position(|b| matches!(b, b',' | b'}') || b.is_ascii_whitespace()),
    }
}

impl Value for Field {
    #[inline]
    fn read(&self, bytes: &[u8], at: usize, rows: &mut Rows) -> Result<usize, Miss> {
        let Field::Column(column, kind, mode) = *self else { return Ok(value(bytes, at)?.end) };
        // The two that nearly all are; the others follow.
        match (&mut rows.builder(column).values, bytes.get(at)) {
            (Values::Int64(values), Some(b'-' | b'0'..=b'9')) => {
                if let Some((value, end)) = integer(bytes, at)? {
                    if has_leading_zero(&bytes[at..end]) {
                        return Err(Miss::Other);
                    }
                    values.push(value);
                    return known(rows, column, Spelling::Number).map(|()| end);
                }
            }
            (Values::Text(texts), Some(b'"')) => {
                let end = copy_plain(bytes, at + 1, special_in_json, &mut texts.bytes)?;
                if bytes[end] == b'"' {
                    texts.end();
                    return known(rows, column, Spelling::Text).map(|()| end + 1);
                }
                // Not to its end: it is read again, with care.
                texts.drop_open();
            }
            _ => {}
        }
        let Spelt { end, spelling, text } = value(bytes, at)?;
        match spelling {
            None if mode == Mode::Nullable => rows.builder(column).append_null(),
            Some(spelling) if fits(kind, spelling) => {
                known(rows, column, spelling)?;
                let value = parse(kind, text).map_err(|_| Miss::Other)?;
                rows.builder(column).append(value, text);
            }
            _ => return Err(Miss::Other),
        }
        Ok(end)
    }
}

/// Which columns a value may fill that is spelt so, as the careful path has it.
fn fits(kind: ColumnType, spelling: Spelling) -> bool {
    match spelling {
        Spelling::Text => true,
        Spelling::Number => !matches!(kind, ColumnType::Bool | ColumnType::Date | ColumnType::Timestamp),
        Spelling::Bool => kind == ColumnType::Bool,
    }
}

/// A change of spelling is for the careful path to notice.
#[inline]
fn known(rows: &mut Rows, column: usize, spelling: Spelling) -> Result<(), Miss> {
    if rows.drift().is_news(column, spelling) { Err(Miss::Other) } else { Ok(()) }
}

/// Any value but objects and arrays.
fn value(bytes: &[u8], at: usize) -> Result<Spelt<'_>, Miss> {
    let word = |word: &'static [u8], spelling| match bytes.get(at..at + word.len()) {
        None => Err(Miss::Short),
        Some(text) if text == word => Ok(Spelt { end: at + word.len(), spelling, text }),
        Some(_) => Err(Miss::Other),
    };
    match bytes.get(at).ok_or(Miss::Short)? {
        b'"' => {
            let text = string(&bytes[at + 1..])?;
            Ok(Spelt { end: at + text.len() + 2, spelling: Some(Spelling::Text), text })
        }
        b'-' | b'0'..=b'9' => {
            let text = number(&bytes[at..])?;
            Ok(Spelt { end: at + text.len(), spelling: Some(Spelling::Number), text })
        }
        b't' => word(b"true", Some(Spelling::Bool)),
        b'f' => word(b"false", Some(Spelling::Bool)),
        b'n' => word(b"null", None),
        _ => Err(Miss::Other),
    }
}

/// What stands before the closing quote, if it stands for itself.
fn string(bytes: &[u8]) -> Result<&[u8], Miss> {
    let end = memchr::memchr2(b'"', b'\\', bytes).ok_or(Miss::Short)?;
    let text = &bytes[..end];
    let is_plain = bytes[end] == b'"' && !text.iter().any(|b| *b < b' ') && std::str::from_utf8(text).is_ok();
    if is_plain { Ok(text) } else { Err(Miss::Other) }
}

/// The number at the start, by JSON's grammar.
fn number(bytes: &[u8]) -> Result<&[u8], Miss> {
    let is_part = |b: &u8| b.is_ascii_digit() || b"+-.eE".contains(b);
    let text = &bytes[..bytes.iter().position(|b| !is_part(b)).ok_or(Miss::Short)?];
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    let mut right = whole > 0 && !has_leading_zero(rest);
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        right &= digits(fraction) > 0;
        rest = &fraction[digits(fraction)..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
        right &= digits(exponent) > 0;
        rest = &exponent[digits(exponent)..];
    }
    if right && rest.is_empty() { Ok(text) } else { Err(Miss::Other) }
}

/// As in `007`, which JSON does not have.
fn has_leading_zero(number: &[u8]) -> bool {
    matches!(number.strip_prefix(b"-").unwrap_or(number), [b'0', b'0'..=b'9', ..])
}
