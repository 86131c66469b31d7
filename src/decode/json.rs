//! JSON objects: one a line, in an array, or one after the other.
//!
//! serde_json checks the syntax and finds the fields; their text is read here, so that an integer
//! of 19 digits or a NUMERIC never passes through a float.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::lines::LineFormat;
use super::rows::Rows;
use super::{Options, not_well_formed, truncated};
use crate::error::{Error, Result};
use crate::schema::{ColumnType, Columns};

const JSON_SYNTAX: &str = "json_syntax";

/// One object: sets the fields that are columns, passes over the others.
///
/// Numbers and texts may stand for one another: `"15"` fills an INT64, `27` a STRING. `true` fills
/// only a BOOL; `1.0` and `1e3` are no INT64; objects and arrays fill nothing.
#[derive(Debug)]
pub(super) struct Line {
    fields: Vec<(String, ColumnType)>,
    depth_max: usize,
}

impl Line {
    pub(super) fn new(columns: &Columns, options: &Options) -> Self {
        let fields = columns.iter().map(|c| (c.path().to_owned(), c.kind)).collect();
        Line { fields, depth_max: options.depth_max }
    }
}

impl LineFormat for Line {
    fn read(&mut self, line: &[u8], rows: &mut Rows) {
        if !line.trim_ascii_start().starts_with(b"{") {
            let valid = serde_json::from_slice::<&RawValue>(line).is_ok();
            return rows.spoil(if valid { "not_an_object" } else { JSON_SYNTAX }, None);
        }
        // serde_json skips unknown values without recursion, but a limit is a limit.
        if depth(line) > self.depth_max {
            return rows.spoil("depth", None);
        }
        let mut json = serde_json::Deserializer::from_slice(line);
        let read = Object { fields: &self.fields, rows }.deserialize(&mut json).and_then(|()| json.end());
        if let Err(error) = read {
            let utf8 = std::str::from_utf8(line).is_ok();
            let reason = match error.to_string() {
                _ if !utf8 => "invalid_utf8",
                text if text.contains("surrogate") => "lone_surrogate",
                _ => JSON_SYNTAX,
            };
            rows.spoil(reason, None);
        }
    }
}

fn depth(line: &[u8]) -> usize {
    // Brackets inside strings count here too: enough to see that most records need no closer look.
    let brackets = line.iter().filter(|b| matches!(b, b'{' | b'[')).count();
    if brackets <= 8 {
        return brackets;
    }
    let mut scan = Scan::default();
    let mut deepest = 0;
    for byte in line {
        scan.step(*byte);
        deepest = deepest.max(scan.depth);
    }
    deepest
}

struct Object<'a> {
    fields: &'a [(String, ColumnType)],
    rows: &'a mut Rows,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        // Fields come in the same order nearly always: look where the last one was found plus one.
        let mut guess = 0;
        while let Some(Key(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            let found = match self.fields.get(guess) {
                Some((name, _)) if *name == key => Some(guess),
                _ => self.fields.iter().position(|(name, _)| *name == key),
            };
            let Some(column) = found else { continue };
            guess = column + 1;
            set(self.rows, column, self.fields[column].1, value.get());
        }
        Ok(())
    }
}

fn set(rows: &mut Rows, column: usize, kind: ColumnType, raw: &str) {
    match raw.as_bytes()[0] {
        b'"' => {
            let inner = &raw[1..raw.len() - 1];
            rows.start(column);
            if !inner.contains('\\') {
                return rows.text(column, inner);
            }
            match serde_json::from_str::<String>(raw) {
                Ok(text) => rows.text(column, &text),
                Err(_) => rows.spoil("lone_surrogate", Some(column)),
            }
        }
        b'n' => rows.null(column),
        b't' | b'f' if kind == ColumnType::Bool => {
            rows.start(column);
            rows.text(column, raw);
        }
        b'-' | b'0'..=b'9'
            if !matches!(kind, ColumnType::Bool | ColumnType::Date | ColumnType::Timestamp) =>
        {
            rows.start(column);
            rows.text(column, raw);
        }
        _ => rows.spoil("type_mismatch", Some(column)),
    }
}

/// A key without a copy where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        json.deserialize_str(KeyVisitor)
    }
}

/// Cuts a JSON array, or objects one after the other, into single objects.
#[derive(Debug)]
pub(super) struct JsonSyntax {
    object: Line,
    record_bytes_max: usize,
    layout: Layout,
    scan: Scan,
    /// Bytes of the object that has started but not ended.
    pending: Vec<u8>,
    offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Unknown,
    /// Objects one after the other, with or without white space between.
    Sequence,
    ArrayStart,
    ArrayAfterObject,
    ArrayAfterComma,
    ArrayClosed,
}

/// Follows strings and brackets, byte by byte.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

impl JsonSyntax {
    pub(super) fn new(columns: &Columns, options: &Options) -> Self {
        JsonSyntax {
            object: Line::new(columns, options),
            record_bytes_max: options.record_bytes_max,
            layout: Layout::Unknown,
            scan: Scan::default(),
            pending: Vec::new(),
            offset: 0,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<()> {
        let mut start = 0;
        for (i, byte) in bytes.iter().copied().enumerate() {
            if self.scan.depth == 0 {
                start = i;
                self.between(byte, self.offset + i as u64)?;
                continue;
            }
            self.scan.step(byte);
            if self.scan.depth == 0 {
                self.end_of_object(&bytes[start..=i], self.offset + i as u64 + 1, rows)?;
                start = i + 1;
            }
        }
        if self.scan.depth > 0 {
            self.pending.extend_from_slice(&bytes[start..]);
        }
        self.offset += bytes.len() as u64;
        if self.pending.len() > self.record_bytes_max {
            return Err(self.too_long(self.offset - self.pending.len() as u64));
        }
        Ok(())
    }

    pub(super) fn is_array(&self) -> bool {
        self.layout == Layout::ArrayClosed
    }

    pub(super) fn finish(&mut self, _rows: &mut Rows) -> Result<()> {
        let offset = self.offset;
        match self.layout {
            _ if self.scan.depth > 0 => Err(truncated("an object is not closed", offset)),
            Layout::ArrayStart | Layout::ArrayAfterObject | Layout::ArrayAfterComma => {
                Err(truncated("the array is not closed", offset))
            }
            Layout::Unknown | Layout::Sequence | Layout::ArrayClosed => Ok(()),
        }
    }

    /// One byte outside of any object.
    fn between(&mut self, byte: u8, offset: u64) -> Result<()> {
        use Layout::{ArrayAfterComma, ArrayAfterObject, ArrayClosed, ArrayStart, Sequence, Unknown};
        self.layout = match (self.layout, byte) {
            (layout, b' ' | b'\t' | b'\r' | b'\n') => layout,
            (Unknown, 0xef) if offset == 0 => Unknown,
            (Unknown, 0xbb) if offset == 1 => Unknown,
            (Unknown, 0xbf) if offset == 2 => Unknown,
            (Unknown, b'[') => ArrayStart,
            (Unknown | Sequence, b'{') => self.open(Sequence),
            (ArrayStart | ArrayAfterComma, b'{') => self.open(ArrayAfterObject),
            (ArrayAfterObject, b',') => ArrayAfterComma,
            (ArrayStart | ArrayAfterObject, b']') => ArrayClosed,
            _ => return Err(unexpected(byte, offset)),
        };
        Ok(())
    }

    fn too_long(&self, offset: u64) -> Error {
        not_well_formed(&format!("an object exceeds {} bytes", self.record_bytes_max), offset)
    }

    fn open(&mut self, next: Layout) -> Layout {
        self.scan = Scan { depth: 1, ..Scan::default() };
        next
    }

    fn end_of_object(&mut self, tail: &[u8], end: u64, rows: &mut Rows) -> Result<()> {
        let bytes = self.pending.len() + tail.len();
        let start = end - bytes as u64;
        if bytes > self.record_bytes_max {
            return Err(self.too_long(start));
        }
        let mut pending = std::mem::take(&mut self.pending);
        let object = if pending.is_empty() {
            tail
        } else {
            pending.extend_from_slice(tail);
            &pending
        };
        rows.begin();
        self.object.read(object, rows);
        // Where an object's brackets are not in order, its end is a guess, and so is the next start.
        if rows.is_spoilt_by(JSON_SYNTAX) {
            return Err(not_well_formed("an object is no JSON", start));
        }
        rows.end(start, object)?;
        pending.clear();
        self.pending = pending;
        Ok(())
    }
}

fn unexpected(byte: u8, offset: u64) -> Error {
    let shown = char::from(byte).escape_default();
    not_well_formed(&format!("`{shown}` where an object should start or end"), offset)
}
