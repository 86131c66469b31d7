//! A JSON object: one record, whatever it came in.
//!
//! serde_json checks the syntax and finds the fields; their text is read here, so that an integer
//! of 19 digits or a NUMERIC never passes through a float.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Options;
use super::expected::json::Expected;
use super::lines::LineFormat;
use super::notices::Spelling;
use super::rows::Rows;
use crate::schema::{ColumnType, Columns};

pub(super) const JSON_SYNTAX: &str = "json_syntax";

/// One object: sets the fields that are columns, passes over the others.
///
/// Numbers and texts may stand for one another: `"15"` fills an INT64, `27` a STRING. `true` fills
/// only a BOOL; `1.0` and `1e3` are no INT64; objects and arrays fill nothing.
#[derive(Debug)]
pub(super) struct Line {
    fields: Vec<(String, ColumnType)>,
    depth_max: usize,
    /// The next one starts behind a newline, whatever this one is.
    is_line: bool,
    expected: Option<Expected>,
}

impl Line {
    pub(super) fn new(columns: &Columns, options: &Options) -> Self {
        let fields = columns.iter().map(|c| (c.path().to_owned(), c.kind)).collect();
        let expected = options.expect_records.then(|| Expected::new(columns));
        Line { fields, depth_max: options.depth_max, is_line: true, expected }
    }

    /// One of several values that nothing but their own brackets separates.
    pub(super) fn in_sequence(self) -> Self {
        Line { is_line: false, ..self }
    }
}

impl LineFormat for Line {
    fn read_known(&mut self, bytes: &[u8], rows: &mut Rows) -> Option<usize> {
        self.expected.as_mut()?.read(bytes, rows).ok()
    }

    fn learn(&mut self, line: &[u8], end: &[u8]) {
        if let Some(expected) = &mut self.expected {
            expected.learn(line, end);
        }
    }

    fn read(&mut self, line: &[u8], rows: &mut Rows) {
        let is_object = line.trim_ascii_start().starts_with(b"{");
        // serde_json skips unknown values without recursion, but a limit is a limit.
        if is_deeper(line, self.depth_max) {
            // In an array its brackets must be in order all the same, or the next value starts anywhere.
            let valid = self.is_line || is_json(line);
            return rows.spoil(if valid { "depth" } else { JSON_SYNTAX }, None);
        }
        if !is_object {
            return rows.spoil(if is_json(line) { "not_an_object" } else { JSON_SYNTAX }, None);
        }
        let mut json = serde_json::Deserializer::from_slice(line);
        let read = Object { fields: &self.fields, rows }.deserialize(&mut json).and_then(|()| json.end());
        if let Err(error) = read {
            // The first error ended the reading. Whether the brackets behind it are in order is what
            // decides if the next value can be found, whatever else was wrong before.
            let is_utf8 = std::str::from_utf8(line).is_ok();
            if !is_json(line) && (is_utf8 || !self.is_line) {
                return rows.overrule(JSON_SYNTAX);
            }
            let surrogate = is_utf8 && error.to_string().contains("surrogate");
            rows.spoil(if surrogate { "lone_surrogate" } else { "invalid_utf8" }, None);
        }
    }
}

/// JSON by its grammar alone: it may hold bytes that are no text, and halves of characters.
fn is_json(line: &[u8]) -> bool {
    serde_json::from_str::<&RawValue>(&String::from_utf8_lossy(line)).is_ok()
}

fn is_deeper(line: &[u8], depth_max: usize) -> bool {
    // Brackets inside strings count here too: enough to see that most records need no closer look.
    if line.iter().filter(|b| matches!(b, b'{' | b'[')).count() <= depth_max {
        return false;
    }
    let mut scan = Scan::default();
    line.iter().any(|byte| {
        scan.step(*byte);
        scan.depth > depth_max
    })
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
            let Some(column) = found else {
                self.rows.drift().unknown(&key);
                continue;
            };
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
            rows.drift().spelling(column, Spelling::Text);
            if !inner.contains('\\') {
                return rows.text(column, inner.as_bytes());
            }
            match serde_json::from_str::<String>(raw) {
                Ok(text) => rows.text(column, text.as_bytes()),
                Err(_) => rows.spoil("lone_surrogate", Some(column)),
            }
        }
        b'n' => rows.null(column),
        b't' | b'f' if kind == ColumnType::Bool => {
            rows.start(column);
            rows.drift().spelling(column, Spelling::Bool);
            rows.text(column, raw.as_bytes());
        }
        b'-' | b'0'..=b'9'
            if !matches!(kind, ColumnType::Bool | ColumnType::Date | ColumnType::Timestamp) =>
        {
            rows.start(column);
            rows.drift().spelling(column, Spelling::Number);
            rows.text(column, raw.as_bytes());
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

/// Follows strings and brackets, byte by byte.
#[derive(Debug, Default)]
pub(super) struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    pub(super) fn step(&mut self, byte: u8) {
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

    pub(super) fn is_closed(&self) -> bool {
        self.depth == 0 && !self.in_string
    }
}
