//! NEWLINE_DELIMITED_JSON: one object a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use datafusion::arrow::array::RecordBatch;
use serde_json::{Map, Value};

use super::bad_rows::BadRows;
use super::detect::{self, Guess};
use super::read_failed;
use super::spec::{encoding, flag};
use super::text::Encoding;
use crate::emulator::coerce::{Coercer, Defaults, Form, RowsBuilder};
use crate::emulator::fields::Field;
use crate::emulator::wire::{Failure, Outcome, text};

/// 100 MB: BigQuery's limit of a row.
const ROW_BYTES_MAX: u64 = 100 << 20;

#[derive(Debug, Clone)]
pub(super) struct JsonOptions {
    pub encoding: Encoding,
    ignore_unknown: bool,
}

impl JsonOptions {
    pub(super) fn parse(load: &Map<String, Value>) -> Outcome<Self> {
        if let Some(extension) = text(load, "jsonExtension").filter(|e| !e.is_empty()) {
            return Err(Failure::not_implemented(format!("jsonExtension {extension}")));
        }
        Ok(JsonOptions { encoding: encoding(load)?, ignore_unknown: flag(load, "ignoreUnknownValues") })
    }
}

/// Lines with the byte they begin at; empty ones are skipped.
struct Lines<'a> {
    input: BufReader<File>,
    position: u64,
    uri: &'a str,
}

impl<'a> Lines<'a> {
    fn open(path: &Path, uri: &'a str) -> Outcome<Self> {
        Ok(Lines { input: BufReader::with_capacity(1 << 18, File::open(path)?), position: 0, uri })
    }

    fn next(&mut self, line: &mut Vec<u8>) -> Outcome<Option<u64>> {
        loop {
            line.clear();
            let start = self.position;
            let read = self.input.by_ref().take(ROW_BYTES_MAX + 1).read_until(b'\n', line)? as u64;
            if read == 0 {
                return Ok(None);
            }
            if read > ROW_BYTES_MAX {
                let message =
                    format!("Row starting at position {start} is larger than the maximum of 100 MB.");
                return Err(read_failed(self.uri, message));
            }
            self.position += read;
            if start == 0 && line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3);
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(start));
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Map<String, Value>, String> {
    // What is not UTF-8 becomes the replacement character, as BigQuery has it.
    let line = String::from_utf8_lossy(line);
    match serde_json::from_str(&line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Array(_)) => Err("Start of array encountered without start of object.".to_owned()),
        Ok(_) => Err("Value encountered without start of object.".to_owned()),
        Err(error) => Err(format!("Parser error: {error}")),
    }
}

fn row_failed(uri: &str, position: u64, message: &str) -> Failure {
    read_failed(uri, format!("JSON parsing error in row starting at position {position}: {message}"))
}

pub(super) fn rows<'a>(
    path: &Path,
    uri: &'a str,
    options: &'a JsonOptions,
    fields: &'a [Field],
    bad: &'a mut BadRows,
) -> Outcome<impl Iterator<Item = Outcome<RecordBatch>> + 'a> {
    let defaults = Defaults::of(fields)?;
    let mut lines = Lines::open(path, uri)?;
    let mut builder = RowsBuilder::new(fields);
    let mut line = Vec::new();
    let mut next = move || -> Outcome<Option<RecordBatch>> {
        let ignore_unknown = options.ignore_unknown;
        let coercer = Coercer { fields, defaults: &defaults, ignore_unknown, form: Form::Load };
        while let Some(position) = lines.next(&mut line)? {
            let row = parse(&line).and_then(|object| coercer.row(&object).map_err(|e| e.message));
            match row {
                Ok(row) => {
                    builder.push(&row, line.len());
                    bad.good_row();
                }
                Err(message) => bad.bad_row(row_failed(uri, position, &message))?,
            }
            if builder.is_full() {
                return Ok(builder.take());
            }
        }
        Ok(builder.take())
    };
    Ok(std::iter::from_fn(move || next().transpose()))
}

/// The columns of the first 500 rows.
pub(super) fn detect(path: &Path, uri: &str, _options: &JsonOptions, known: &[Field]) -> Outcome<Vec<Field>> {
    let mut lines = Lines::open(path, uri)?;
    let mut guess = Guess::default();
    let mut line = Vec::new();
    for _ in 0..detect::SAMPLE_ROWS {
        let Some(position) = lines.next(&mut line)? else { break };
        let object = parse(&line).map_err(|e| row_failed(uri, position, &e))?;
        guess.add(&Value::Object(object)).map_err(|e| row_failed(uri, position, &e))?;
    }
    let fields = guess.fields(known).map_err(|e| read_failed(uri, e.message))?;
    if fields.is_empty() {
        return Err(Failure::invalid("Schema has no fields. Table: the file has no rows."));
    }
    Ok(fields)
}
