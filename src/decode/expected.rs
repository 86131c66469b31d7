//! The fast path for XML: records that have just the expected children, in column order.
//!
//! Takes a record only if it is `<record>`, then for each column `<name>text</name>`, then
//! `</record>`, with white space between them, and text of plain ASCII without references. Such a
//! record means the same to every XML parser. Anything else is left untouched for quick-xml: other
//! orders, attributes, comments, references, other characters, wrong values, records cut short.

use std::ops::Range;

use super::rows::Rows;
use crate::error::Result;
use crate::schema::Columns;

#[derive(Debug)]
pub(super) struct Expected {
    record: Tags,
    fields: Vec<Tags>,
    /// Where the texts of the record at hand are.
    texts: Vec<Range<usize>>,
}

#[derive(Debug)]
struct Tags {
    open: Vec<u8>,
    close: Vec<u8>,
}

impl Tags {
    fn new(name: &str) -> Self {
        Tags { open: format!("<{name}>").into_bytes(), close: format!("</{name}>").into_bytes() }
    }
}

impl Expected {
    pub(super) fn new(columns: &Columns, record_path: &[String]) -> Self {
        let record = record_path.last().map_or("", String::as_str);
        Expected {
            record: Tags::new(record),
            fields: columns.iter().map(|c| Tags::new(c.path())).collect(),
            texts: Vec::with_capacity(columns.len()),
        }
    }

    /// Reads records from the start of `bytes` while they are as expected. Returns how many bytes
    /// and records those were.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        record_bytes_max: usize,
        rows: &mut Rows,
    ) -> Result<(usize, u64)> {
        let (mut taken, mut records) = (0, 0);
        loop {
            let start = skip_white_space(bytes, taken);
            let Some(end) = self.record(bytes, start).filter(|end| end - start <= record_bytes_max) else {
                break;
            };
            let texts = &self.texts;
            let text_of = |column: usize| std::str::from_utf8(&bytes[texts[column].clone()]).ok();
            if !rows.whole(end - start, text_of)? {
                break;
            }
            taken = end;
            records += 1;
        }
        Ok((taken, records))
    }

    /// Finds the texts of the record at `at`, and where it ends.
    fn record(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        self.texts.clear();
        let mut at = after(bytes, at, &self.record.open)?;
        for field in &self.fields {
            let start = after(bytes, skip_white_space(bytes, at), &field.open)?;
            let length = bytes[start..].iter().position(|b| !is_plain(*b))?;
            at = after(bytes, start + length, &field.close)?;
            self.texts.push(start..start + length);
        }
        after(bytes, skip_white_space(bytes, at), &self.record.close)
    }
}

/// Where `what` ends, if it stands at `at`.
fn after(bytes: &[u8], at: usize, what: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(what).then_some(at + what.len())
}

fn skip_white_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// Printable ASCII that stands for itself. `>` may be a part of `]]>`, which must not stand in text.
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && !matches!(byte, b'<' | b'&' | b'>')
}
