//! XML by quick-xml, resumable at record boundaries.
//!
//! A record is read from its first byte to its last in one go. When the bytes at hand end inside a
//! record, a tag or a comment, reading goes back to where that started and waits for at least twice
//! as many bytes, so that the work stays linear even if they come one by one.
//!
//! Records in the shape that nearly all of them have are read by [`Expected`] beside it; whatever
//! that does not take is read here, so the two agree by construction on what it leaves.

use quick_xml::Reader;
use quick_xml::errors::{Error as XmlError, IllFormedError, SyntaxError};
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use super::expected::Expected;
use super::rows::Rows;
use super::{Options, not_well_formed, truncated};
use crate::error::{Error, Result};
use crate::schema::Columns;

#[derive(Debug)]
pub(super) struct XmlSyntax {
    fields: Vec<String>,
    record_path: Vec<String>,
    record_bytes_max: usize,
    depth_max: usize,
    expected: Option<Expected>,
    /// Bytes not yet behind us; `buffer[0]` is byte `base` of the body.
    buffer: Vec<u8>,
    base: u64,
    /// Bytes the buffer must hold before another try is worth it.
    wanted: usize,
    place: Place,
}

/// Where in the document the next event is, outside of records.
#[derive(Debug, Default)]
struct Place {
    open: Vec<String>,
    root_seen: bool,
    /// Elements directly where records are expected that were none.
    others: u64,
    records: u64,
}

/// What one step did with the bytes it was given.
enum Step {
    /// So many bytes are done with.
    Taken(usize),
    /// They end inside something.
    Incomplete,
}

impl XmlSyntax {
    pub(super) fn new(columns: &Columns, options: &Options) -> Result<Self> {
        if options.record_path.is_empty() || options.record_path.iter().any(String::is_empty) {
            return Err(Error::usage("`source.record_path` is empty")
                .hint("name the elements from the root to the record: `records/record`"));
        }
        Ok(XmlSyntax {
            expected: options.expect_records.then(|| Expected::new(columns, &options.record_path)),
            fields: columns.iter().map(|c| c.path().to_owned()).collect(),
            record_path: options.record_path.clone(),
            record_bytes_max: options.record_bytes_max,
            depth_max: options.depth_max,
            buffer: Vec::new(),
            base: 0,
            wanted: 0,
            place: Place::default(),
        })
    }

    pub(super) fn push(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < self.wanted {
            return Ok(());
        }
        self.read(rows, false)
    }

    pub(super) fn finish(&mut self, rows: &mut Rows) -> Result<()> {
        self.read(rows, true)?;
        let end = self.base + self.buffer.len() as u64;
        if !self.place.root_seen {
            return Err(truncated("there is no root element", end));
        }
        if let Some(name) = self.place.open.last() {
            return Err(truncated(&format!("`</{name}>` is missing"), end));
        }
        if self.place.records == 0 && self.place.others > 0 {
            return Err(Error::failed(format!(
                "no record matched the path `{}` among {} elements",
                self.record_path.join("/"),
                self.place.others
            ))
            .hint("set `source.record_path` to the names from the root element to the record"));
        }
        Ok(())
    }

    /// Reads as far as the buffer goes; `last` says that no more will come.
    fn read(&mut self, rows: &mut Rows, last: bool) -> Result<()> {
        if self.base == 0 {
            if self.buffer.len() < BYTE_ORDER_MARK.len() && !last {
                return Ok(());
            }
            refuse_utf16(&self.buffer)?;
        }
        let mut at = 0;
        while at < self.buffer.len() {
            if let Some(expected) = &mut self.expected
                && self.place.open == self.record_path[..self.record_path.len() - 1]
            {
                let (bytes, records) = expected.read(&self.buffer[at..], self.record_bytes_max, rows)?;
                self.place.records += records;
                at += bytes;
            }
            match self.step(at, rows, last)? {
                Step::Taken(bytes) => at += bytes,
                Step::Incomplete => break,
            }
        }
        self.buffer.drain(..at);
        self.base += at as u64;
        if self.buffer.len() > self.record_bytes_max {
            return Err(too_long(self.record_bytes_max, self.base));
        }
        self.wanted = self.buffer.len() * 2;
        Ok(())
    }

    /// Reads events from `at` on, up to the end of the next record at most.
    fn step(&mut self, at: usize, rows: &mut Rows, last: bool) -> Result<Step> {
        let bytes = &self.buffer[at..];
        let mut events = Events::new(bytes);
        let mut done = events.start;
        loop {
            let base = self.base + (at + done) as u64;
            let event = match events.next() {
                Ok(event) => event,
                Err(error) => {
                    let cut = !last && cut_short(&error, done, &events);
                    return if cut { Ok(taken(done)) } else { Err(describe(&error, base, last)) };
                }
            };
            let record = match &event {
                Event::Start(tag) if self.place.expects_record(tag, &self.record_path) => {
                    rows.begin();
                    let record = Record { fields: &self.fields, depth_max: self.depth_max, base, last };
                    if !record.read(&mut events, rows)? {
                        return Ok(taken(done));
                    }
                    true
                }
                Event::Empty(tag) if self.place.expects_record(tag, &self.record_path) => {
                    rows.begin();
                    true
                }
                _ => false,
            };
            let end = events.position();
            // Text between records may be as long as it likes: it is not kept.
            if end - done > self.record_bytes_max && !matches!(event, Event::Text(_)) {
                return Err(too_long(self.record_bytes_max, base));
            }
            if record {
                self.place.records += 1;
                rows.end(base, &bytes[done..end])?;
                return Ok(Step::Taken(end));
            }
            match event {
                Event::Eof => return Ok(taken(done)),
                Event::Start(tag) => self.place.open(&tag, base, self.depth_max, &self.record_path)?,
                Event::Empty(tag) => {
                    self.place.open(&tag, base, self.depth_max, &self.record_path)?;
                    self.place.open.pop();
                }
                Event::End(tag) => self.place.close(tag.local_name().as_ref(), base)?,
                Event::Text(text) if self.place.open.is_empty() && !text.trim().is_empty() => {
                    return Err(not_well_formed("text outside of the root element", base));
                }
                Event::CData(_) | Event::GeneralRef(_) if self.place.open.is_empty() => {
                    return Err(not_well_formed("text outside of the root element", base));
                }
                Event::Decl(declaration) => check_declaration(&declaration, base)?,
                Event::DocType(doctype) => check_doctype(&doctype, base)?,
                Event::Text(_)
                | Event::CData(_)
                | Event::GeneralRef(_)
                | Event::Comment(_)
                | Event::PI(_) => {}
            }
            done = end;
        }
    }
}

fn taken(bytes: usize) -> Step {
    if bytes == 0 { Step::Incomplete } else { Step::Taken(bytes) }
}

fn too_long(bytes_max: usize, offset: u64) -> Error {
    not_well_formed(&format!("a record, tag or comment exceeds {bytes_max} bytes"), offset)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// quick-xml over the bytes at hand, able to go on after text that is no UTF-8.
struct Events<'b> {
    reader: Reader<&'b [u8]>,
    bytes: &'b [u8],
    /// Where `reader` starts in `bytes`.
    start: usize,
}

impl<'b> Events<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        // quick-xml would take a mark away itself, and count none of its bytes.
        let start = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut reader = Reader::from_reader(&bytes[start..]);
        // Elements above the records were opened by an earlier reader; `Place` checks their names.
        reader.config_mut().allow_unmatched_ends = true;
        Events { reader, bytes, start }
    }

    fn next(&mut self) -> std::result::Result<Event<'b>, XmlError> {
        self.reader.read_event()
    }

    fn position(&self) -> usize {
        let read = usize::try_from(self.reader.buffer_position());
        self.start + read.expect("a slice is shorter than the address space")
    }

    /// Takes up the tokens after an error that quick-xml itself stops at.
    fn go_on(&mut self) {
        let at = self.position();
        let rest = Events::new(&self.bytes[at..]);
        *self = Events { reader: rest.reader, bytes: self.bytes, start: at + rest.start };
    }
}

impl Place {
    fn expects_record(&self, tag: &BytesStart<'_>, path: &[String]) -> bool {
        let (last, above) = path.split_last().expect("checked when made");
        self.open == above && tag.local_name().as_ref() == last
    }

    fn open(&mut self, tag: &BytesStart<'_>, offset: u64, depth_max: usize, path: &[String]) -> Result<()> {
        let name = tag.local_name();
        let name: &str = name.as_ref();
        if self.open.is_empty() {
            if self.root_seen {
                return Err(not_well_formed("a second root element", offset));
            }
            self.root_seen = true;
            if path[0] != name {
                return Err(Error::failed(format!(
                    "the root element is `{name}`, not `{}`, at byte {offset}",
                    path[0]
                ))
                .hint("the source may have sent an error page; or set `source.record_path`"));
            }
        } else {
            self.others += 1;
        }
        if self.open.len() == depth_max {
            return Err(not_well_formed(&format!("nesting exceeds {depth_max} levels"), offset));
        }
        self.open.push(name.to_owned());
        Ok(())
    }

    fn close(&mut self, name: &str, offset: u64) -> Result<()> {
        match self.open.pop() {
            Some(open) if open == name => Ok(()),
            Some(open) => Err(not_well_formed(&format!("`</{name}>` closes `<{open}>`"), offset)),
            None => Err(not_well_formed(&format!("`</{name}>` closes nothing"), offset)),
        }
    }
}

/// Reads one record after its start tag.
struct Record<'a> {
    fields: &'a [String],
    depth_max: usize,
    base: u64,
    last: bool,
}

impl Record<'_> {
    /// False when the bytes end before the record does.
    fn read(&self, events: &mut Events<'_>, rows: &mut Rows) -> Result<bool> {
        let mut depth = 0;
        let mut field = None;
        // Fields come in the same order nearly always: look where the last one was found plus one.
        let mut guess = 0;
        loop {
            let before = events.position();
            let event = match events.next() {
                Ok(event) => event,
                Err(error) => {
                    if !self.last && cut_short(&error, before, events) {
                        return Ok(false);
                    }
                    // Text that is no UTF-8 ends at the next tag, so the tokeniser is in step.
                    if matches!(error, XmlError::Encoding(_)) && events.bytes.get(before) != Some(&b'<') {
                        rows.spoil("invalid_utf8", field);
                        events.go_on();
                        continue;
                    }
                    return Err(describe(&error, self.base, self.last));
                }
            };
            match event {
                Event::Start(tag) => {
                    if depth == 0 {
                        field = self.find(tag.local_name().as_ref(), &mut guess);
                        if let Some(column) = field {
                            rows.start(column);
                        }
                    } else if let Some(column) = field {
                        rows.spoil("nested_element", Some(column));
                    }
                    depth += 1;
                    if depth > self.depth_max {
                        let reason = format!("nesting exceeds {} levels", self.depth_max);
                        return Err(not_well_formed(&reason, self.base));
                    }
                }
                Event::Empty(tag) if depth == 0 => {
                    if let Some(column) = self.find(tag.local_name().as_ref(), &mut guess) {
                        rows.start(column);
                    }
                }
                Event::End(_) if depth == 0 => return Ok(true),
                Event::End(_) => {
                    depth -= 1;
                    if depth == 0 {
                        field = None;
                    }
                }
                Event::Text(text) => {
                    check_characters(&text, self.base)?;
                    if let Some(column) = field {
                        match text.contains('\r') {
                            false => rows.text(column, &text),
                            true => rows.text(column, &text.xml10_content()),
                        }
                    }
                }
                Event::CData(text) => {
                    check_characters(&text, self.base)?;
                    if let Some(column) = field {
                        rows.text(column, &text.xml10_content());
                    }
                }
                Event::GeneralRef(reference) => match resolve(&reference) {
                    Ok(text) => {
                        if let Some(column) = field {
                            rows.text(column, text.encode_utf8(&mut [0; 4]));
                        }
                    }
                    Err(reason) => rows.spoil(reason, field),
                },
                Event::DocType(_) | Event::Decl(_) => {
                    return Err(not_well_formed("a declaration inside a record", self.base));
                }
                Event::Eof if self.last => {
                    return Err(truncated("a record is not closed", self.base));
                }
                Event::Eof => return Ok(false),
                Event::Empty(_) | Event::Comment(_) | Event::PI(_) => {}
            }
        }
    }

    fn find(&self, name: &str, guess: &mut usize) -> Option<usize> {
        if self.fields.get(*guess).is_some_and(|f| f == name) {
            *guess += 1;
            return Some(*guess - 1);
        }
        let found = self.fields.iter().position(|f| f == name)?;
        *guess = found + 1;
        Some(found)
    }
}

/// XML has no control characters but tab and the ends of lines, not even in CDATA.
fn check_characters(text: &str, offset: u64) -> Result<()> {
    let illegal = text.bytes().any(|b| b < b' ' && !matches!(b, b'\t' | b'\n' | b'\r'));
    if illegal { Err(not_well_formed("an illegal character", offset)) } else { Ok(()) }
}

/// The character behind `&…;`, or the reject's reason.
fn resolve(reference: &BytesRef<'_>) -> Result<char, &'static str> {
    if reference.is_char_ref() {
        let char = match reference.resolve_char_ref() {
            Ok(Some(char)) => char,
            _ => return Err("illegal_char_ref"),
        };
        let legal = matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        return if legal { Ok(char) } else { Err("illegal_char") };
    }
    match &**reference {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err("undefined_entity"),
    }
}

/// True when more bytes may turn the error into an event: the bytes end inside what starts at `from`.
fn cut_short(error: &XmlError, from: usize, events: &Events<'_>) -> bool {
    match error {
        // `<!` and at most eight bytes of what may become `<![CDATA[` or `<!DOCTYPE`.
        XmlError::Syntax(SyntaxError::InvalidBangMarkup) => events.bytes.len() - from < 10,
        XmlError::Syntax(_) => true,
        XmlError::IllFormed(IllFormedError::UnclosedReference) | XmlError::Encoding(_) => {
            events.position() == events.bytes.len()
        }
        _ => false,
    }
}

fn describe(error: &XmlError, offset: u64, last: bool) -> Error {
    match error {
        XmlError::Syntax(SyntaxError::InvalidBangMarkup) => not_well_formed(&error.to_string(), offset),
        XmlError::Syntax(_) if last => truncated(&error.to_string(), offset),
        _ => not_well_formed(&error.to_string(), offset),
    }
}

fn refuse_utf16(start: &[u8]) -> Result<()> {
    let utf16 = matches!(start, [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [0, b'<', ..] | [b'<', 0, ..]);
    if utf16 { Err(Error::failed("the body is UTF-16; only UTF-8 is read")) } else { Ok(()) }
}

fn check_declaration(declaration: &BytesDecl<'_>, offset: u64) -> Result<()> {
    if let Err(error) = declaration.version() {
        return Err(not_well_formed(&format!("bad XML declaration: {error}"), offset));
    }
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii") => {
            Ok(())
        }
        Some(Ok(name)) => Err(Error::failed(format!("encoding `{name}` is not read; only UTF-8 is"))),
        Some(Err(error)) => Err(not_well_formed(&format!("bad XML declaration: {error}"), offset)),
    }
}

/// A DOCTYPE that names an external DTD is skipped and never fetched; one with definitions of its
/// own is refused, since entities defined there could expand without end.
fn check_doctype(doctype: &str, offset: u64) -> Result<()> {
    if doctype.contains('[') {
        return Err(not_well_formed("a DOCTYPE with definitions of its own is not accepted", offset));
    }
    tracing::info!(offset, "doctype ignored");
    Ok(())
}
