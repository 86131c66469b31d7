//! CSV: records split by `split`, their texts into the table's columns.

mod split;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use datafusion::arrow::array::RecordBatch;
use serde_json::{Map, Value, json};

use self::split::{Record, Splitter};
use super::bad_rows::BadRows;
use super::detect::{self, Guess};
use super::read_failed;
use super::spec::{encoding, flag, texts};
use super::text::Encoding;
use crate::emulator::coerce::{Cell, Defaults, RowsBuilder, from_text};
use crate::emulator::fields::{Field, Kind, Mode};
use crate::emulator::files::same_name;
use crate::emulator::wire::{Failure, Outcome, integer, text};

#[derive(Debug, Clone)]
pub(super) struct CsvOptions {
    pub encoding: Encoding,
    /// `None`: to be detected.
    delimiter: Option<u8>,
    quote: Option<u8>,
    /// `None`: whether there is a header is to be detected.
    skip_rows: Option<u64>,
    quoted_newlines: bool,
    jagged_rows: bool,
    ignore_unknown: bool,
    null_markers: Vec<String>,
    keep_control_characters: bool,
    names: Names,
}

/// `columnNameCharacterMap`.
#[derive(Debug, Clone, Copy)]
enum Names {
    Strict,
    V1,
    V2,
}

impl CsvOptions {
    pub(super) fn parse(load: &Map<String, Value>, autodetect: bool) -> Outcome<Self> {
        let delimiter = match text(load, "fieldDelimiter").filter(|d| !d.is_empty()) {
            None => (!autodetect).then_some(b','),
            Some("\\t" | "tab") => Some(b'\t'),
            Some(other) => Some(ascii("fieldDelimiter", other)?),
        };
        let quote = match load.get("quote").and_then(Value::as_str) {
            None => Some(b'"'),
            Some("") => None,
            Some(other) => Some(ascii("quote", other)?),
        };
        let skip_rows = integer(load, "skipLeadingRows")?.map(u64::try_from).transpose();
        let skip_rows = skip_rows.map_err(|_| Failure::invalid("skipLeadingRows must not be negative"))?;
        let mut null_markers = texts(load, "nullMarkers");
        match text(load, "nullMarker") {
            Some(_) if !null_markers.is_empty() => {
                return Err(Failure::invalid("nullMarker and nullMarkers cannot be set at the same time"));
            }
            Some(marker) => null_markers.push(marker.to_owned()),
            None if null_markers.is_empty() => null_markers.push(String::new()),
            None => {}
        }
        let names = match text(load, "columnNameCharacterMap").unwrap_or_default() {
            "STRICT" => Names::Strict,
            "" | "COLUMN_NAME_CHARACTER_MAP_UNSPECIFIED" | "V1" => Names::V1,
            "V2" => Names::V2,
            other => {
                let message = format!("Invalid value for columnNameCharacterMap: {other}");
                return Err(Failure::invalid(message));
            }
        };
        Ok(CsvOptions {
            encoding: encoding(load)?,
            delimiter,
            quote,
            skip_rows: if autodetect { skip_rows } else { skip_rows.or(Some(0)) },
            quoted_newlines: flag(load, "allowQuotedNewlines"),
            jagged_rows: flag(load, "allowJaggedRows"),
            ignore_unknown: flag(load, "ignoreUnknownValues"),
            null_markers,
            keep_control_characters: flag(load, "preserveAsciiControlCharacters"),
            names,
        })
    }

    fn open(&self, path: &Path) -> Outcome<Splitter<BufReader<File>>> {
        let delimiter = match self.delimiter {
            Some(delimiter) => delimiter,
            None => guess_delimiter(path)?,
        };
        let input = BufReader::with_capacity(1 << 18, File::open(path)?);
        Ok(Splitter::new(input, delimiter, self.quote, self.quoted_newlines))
    }

    fn is_null(&self, record: &Record, index: usize, kind: Kind) -> bool {
        let (text, quoted) = (record.text(index), record.is_quoted(index));
        if quoted {
            // A quoted nothing is a text, and no number.
            let default = self.null_markers.iter().any(String::is_empty);
            return text.is_empty() && default && !matches!(kind, Kind::String | Kind::Bytes);
        }
        self.null_markers.iter().any(|marker| marker.as_str() == text)
    }
}

fn ascii(option: &str, given: &str) -> Outcome<u8> {
    match given.as_bytes() {
        [byte] if byte.is_ascii() && !b"\r\n\0".contains(byte) => Ok(*byte),
        _ if given.chars().count() == 1 => {
            Err(Failure::not_implemented(format!("{option} {given:?}: only ASCII characters")))
        }
        _ => Err(Failure::invalid(format!("Invalid value for {option}: {given:?} is not one character"))),
    }
}

/// The one of comma, bar and tab that the first line has most of.
fn guess_delimiter(path: &Path) -> Outcome<u8> {
    let mut start = Vec::new();
    File::open(path)?.take(1 << 16).read_to_end(&mut start)?;
    let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
    let count = |delimiter: &u8| line.iter().filter(|b| *b == delimiter).count();
    // The last of several maxima wins: the comma.
    Ok(b"\t|,".iter().copied().max_by_key(count).unwrap_or(b','))
}

/// `columns` are the file's, in its order; each is one of the table's `fields`.
pub(super) fn rows<'a>(
    path: &Path,
    uri: &'a str,
    options: &'a CsvOptions,
    columns: &[Field],
    fields: &'a [Field],
    bad: &'a mut BadRows,
) -> Outcome<impl Iterator<Item = Outcome<RecordBatch>> + 'a> {
    for field in columns {
        let what = match (field.kind, field.mode) {
            (Kind::Record, _) => "nested schema",
            (_, Mode::Repeated) => "repeated field",
            _ => continue,
        };
        return Err(Failure::invalid(format!("Cannot load CSV data with a {what}. Field: {}", field.name)));
    }
    let places: Vec<usize> =
        columns.iter().filter_map(|c| fields.iter().position(|f| same_name(&f.name, &c.name))).collect();
    let skip_rows = match options.skip_rows {
        Some(count) => count,
        None => u64::from(header(path, uri, options)?.is_some()),
    };
    let mut splitter = options.open(path)?;
    let mut record = Record::default();
    let mut skipped = 0;
    while skipped < skip_rows && splitter.next(&mut record)? {
        skipped += 1;
    }
    let defaults = Defaults::of(fields)?;
    let absent: Vec<Cell> = fields
        .iter()
        .map(|f| match f.mode {
            _ if defaults.has(&f.name) => defaults.cell(&f.name),
            Mode::Repeated => Cell::List(Vec::new()),
            _ => Cell::Null,
        })
        .collect();
    let mut builder = RowsBuilder::new(fields);
    let mut next = move || -> Outcome<Option<RecordBatch>> {
        while splitter.next(&mut record)? {
            if record.is_blank() && places.len() > 1 {
                continue;
            }
            match row(&record, options, fields, &places, &absent) {
                Ok(row) => {
                    builder.push(&row, record.len());
                    bad.good_row();
                }
                Err(message) => bad.bad_row(read_failed(uri, message))?,
            }
            if builder.is_full() {
                return Ok(builder.take());
            }
        }
        Ok(builder.take())
    };
    Ok(std::iter::from_fn(move || next().transpose()))
}

fn row(
    record: &Record,
    options: &CsvOptions,
    fields: &[Field],
    places: &[usize],
    absent: &[Cell],
) -> Result<Vec<Cell>, String> {
    let (position, line) = (record.position, record.line);
    if let Some(error) = record.error {
        return Err(format!(
            "Error detected while parsing row starting at position: {position}. Error: {error}"
        ));
    }
    if !options.keep_control_characters && record.has_zero() {
        return Err(format!(
            "Error detected while parsing row starting at position: {position}. Error: Bad character (ASCII 0) \
             encountered."
        ));
    }
    let count = record.num_fields();
    if count > places.len() && !options.ignore_unknown {
        return Err(format!(
            "Too many values in line. Found {count} column(s) while expected {}.; line_number: {line} \
             byte_offset_to_start_of_line: {position}",
            places.len()
        ));
    }
    if count < places.len() && !options.jagged_rows {
        return Err(format!(
            "CSV table references column position {}, but line contains only {count} columns.; line_number: \
             {line} byte_offset_to_start_of_line: {position}",
            places.len() - 1
        ));
    }
    let mut cells = absent.to_vec();
    for (index, place) in places.iter().enumerate().take(count) {
        let field = &fields[*place];
        cells[*place] = if options.is_null(record, index, field.kind) {
            Cell::Null
        } else {
            let text = record.text(index);
            from_text(field, &text).map_err(|refused| {
                let why = refused.reason.unwrap_or_else(|| "Unable to parse".to_owned());
                format!(
                    "{why}; line_number: {line} byte_offset_to_start_of_line: {position} column_index: {index} \
                     column_name: \"{}\" column_type: {} value: \"{}\"",
                    field.name,
                    field.kind.sql(),
                    refused.value
                )
            })?
        };
    }
    match fields.iter().zip(&cells).find(|(f, cell)| f.mode == Mode::Required && **cell == Cell::Null) {
        Some((field, _)) => Err(format!(
            "Required column value is missing. Column: {}.; line_number: {line} \
             byte_offset_to_start_of_line: {position}",
            field.name
        )),
        None => Ok(cells),
    }
}

/// The names in the first row, if it looks like one: all texts, above a column that holds something else.
fn header(path: &Path, uri: &str, options: &CsvOptions) -> Outcome<Option<Vec<String>>> {
    let mut splitter = options.open(path)?;
    let mut record = Record::default();
    if !splitter.next(&mut record)? {
        return Ok(None);
    }
    check_record(&record, uri)?;
    let names: Vec<String> = (0..record.num_fields()).map(|i| record.text(i).into_owned()).collect();
    let is_text = |text: &String| !text.is_empty() && detect::kind_of_text(text) == Kind::String;
    if !names.iter().all(is_text) {
        return Ok(None);
    }
    let guess = sample(&mut splitter, uri, options, names.len())?;
    let differs = guess.kinds().any(|kind| kind.is_some_and(|kind| kind != Kind::String));
    Ok(differs.then_some(names))
}

fn check_record(record: &Record, uri: &str) -> Outcome<()> {
    match record.error {
        None => Ok(()),
        Some(error) => Err(read_failed(
            uri,
            format!(
                "Error detected while parsing row starting at position: {}. Error: {error}",
                record.position
            ),
        )),
    }
}

/// What the columns hold, by their position.
fn sample(
    splitter: &mut Splitter<BufReader<File>>,
    uri: &str,
    options: &CsvOptions,
    columns: usize,
) -> Outcome<Guess> {
    let mut guess = Guess::default();
    let mut record = Record::default();
    for _ in 0..detect::SAMPLE_ROWS {
        if !splitter.next(&mut record)? {
            break;
        }
        check_record(&record, uri)?;
        if record.is_blank() && columns > 1 {
            continue;
        }
        let mut row = Map::new();
        for index in 0..record.num_fields().max(columns) {
            let known = index < record.num_fields() && !options.is_null(&record, index, Kind::String);
            let value = if known { json!(record.text(index)) } else { Value::Null };
            row.insert(index.to_string(), value);
        }
        guess.add(&Value::Object(row)).map_err(|e| read_failed(uri, e))?;
    }
    Ok(guess)
}

/// The columns: names from the header or made up, types from the first 500 rows.
pub(super) fn detect(path: &Path, uri: &str, options: &CsvOptions, known: &[Field]) -> Outcome<Vec<Field>> {
    let header = match options.skip_rows {
        None => header(path, uri, options)?,
        Some(0) => None,
        Some(count) => {
            // The last of the skipped rows names the columns.
            let mut splitter = options.open(path)?;
            let mut record = Record::default();
            let mut read = 0;
            while read < count && splitter.next(&mut record)? {
                read += 1;
            }
            (read == count).then(|| (0..record.num_fields()).map(|i| record.text(i).into_owned()).collect())
        }
    };
    let mut splitter = options.open(path)?;
    let mut record = Record::default();
    let skipped = options.skip_rows.unwrap_or(u64::from(header.is_some()));
    for _ in 0..skipped {
        splitter.next(&mut record)?;
    }
    let guess = sample(&mut splitter, uri, options, header.as_ref().map_or(0, Vec::len))?;
    let kinds: Vec<Option<Kind>> = guess.kinds().collect();
    let mut fields: Vec<Field> = Vec::new();
    for (index, kind) in kinds.into_iter().enumerate() {
        let name = match header.as_ref().and_then(|names| names.get(index)) {
            Some(name) => options.column_name(name, index)?,
            None => format!("{}_field_{index}", kind.unwrap_or(Kind::String).sql().to_lowercase()),
        };
        if fields.iter().any(|f| same_name(&f.name, &name)) {
            return Err(read_failed(uri, format!("Duplicate column name in the header row: {name}.")));
        }
        let known = known.iter().find(|f| same_name(&f.name, &name)).map(|f| f.kind);
        let kind = kind.or(known).unwrap_or(Kind::String);
        fields.push(Field { name, kind, mode: Mode::Nullable, fields: Vec::new(), rest: Map::new() });
    }
    if fields.is_empty() {
        return Err(Failure::invalid("Schema has no fields. Table: the file has no rows."));
    }
    Ok(fields)
}

impl CsvOptions {
    fn column_name(&self, header: &str, index: usize) -> Outcome<String> {
        let name: String = match self.names {
            Names::Strict => header.to_owned(),
            Names::V1 => header
                .trim()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
                .collect(),
            Names::V2 => header
                .trim()
                .chars()
                .map(|c| if "!\"$()*,./;?@[\\]^`{}~".contains(c) { '_' } else { c })
                .collect(),
        };
        let starts_with_digit = name.starts_with(|c: char| c.is_ascii_digit());
        let name = match (starts_with_digit, self.names, name.is_empty()) {
            (_, _, true) => format!("string_field_{index}"),
            (true, Names::V1, _) => format!("_{name}"),
            _ => name,
        };
        crate::emulator::fields::check_name(&name)?;
        Ok(name)
    }
}
