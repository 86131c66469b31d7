//! The fast path against the careful one: whatever comes, however it is cut, both must say the same.

use arrow::compute::concat_batches;
use proptest::prelude::*;

use super::*;
use crate::decode::notices::Spelling;
use crate::decode::{Counts, Decoder, Notice, Options};
use crate::reject::Reject;
use crate::schema::{Column, ColumnType, Columns, Format, Mode};

/// Every type; the first two must be there.
const COLUMNS: [(&str, ColumnType); 8] = [
    ("id", ColumnType::Int64),
    ("name", ColumnType::String),
    ("note", ColumnType::String),
    ("ratio", ColumnType::Float64),
    ("ok", ColumnType::Bool),
    ("price", ColumnType::Numeric),
    ("on_day", ColumnType::Date),
    ("at", ColumnType::Timestamp),
];

fn columns() -> Columns {
    let column = |(i, (name, kind)): (usize, &(&str, ColumnType))| Column {
        name: (*name).into(),
        kind: *kind,
        mode: if i < 2 { Mode::Required } else { Mode::Nullable },
        path: None,
    };
    Columns::new(COLUMNS.iter().enumerate().map(column).collect()).expect("legal columns")
}

/// All that can be seen of a body, an error included.
#[derive(Debug, PartialEq)]
struct Seen {
    error: Option<String>,
    batches: Vec<usize>,
    rows: arrow::record_batch::RecordBatch,
    rejects: Vec<Reject>,
    counts: Counts,
    notices: Vec<Notice>,
}

fn decode(format: Format, body: &[u8], cuts: &[usize], options: &Options) -> Seen {
    let mut decoder = Decoder::new(format, &columns(), options).expect("legal options");
    let mut read = || {
        let mut at = 0;
        for cut in cuts.iter().copied().chain([body.len()]) {
            decoder.push(&body[at..cut])?;
            at = cut;
        }
        decoder.finish()
    };
    let error = read().err().map(|e| e.to_string());
    let batches: Vec<_> = std::iter::from_fn(|| decoder.next_batch()).collect();
    Seen {
        error,
        batches: batches.iter().map(|batch| batch.num_rows()).collect(),
        rows: concat_batches(&columns().arrow(), &batches).expect("one schema"),
        rejects: decoder.take_rejects(),
        counts: decoder.counts(),
        notices: decoder.notices(),
    }
}

/// Texts for each column: four that are plain, then others.
const TEXTS: [[&str; 8]; 8] = [
    ["1", "-7", "12345678", "123456789012345", "9223372036854775807", "+5", "007", "x"],
    ["C1", "a longer name", "N10451", "", "é", "a\\\\b", "&amp;", "a&b"],
    ["z", "12345678", "x y", "]]", "]]&gt;", "\r\n", "\u{1}", "\\\"q\\\""],
    ["1.5", "-1e3", "0", "-0.0", "1e400", "", "1.", "NaN"],
    ["true", "false", "true", "false", "yes", "", "1", "null"],
    ["1.25", "-3", "123456789.5", "0.000000001", "1e2", "0.0000000001", ".5", "--1"],
    ["2011-01-31", "1999-12-31", "2000-02-29", "2024-01-01", "2011-1-1", "", "2023-02-29", "0000-01-01"],
    [
        "2011-01-31T00:00:00Z",
        "2011-01-31T00:00:00.5Z",
        "2011-01-31T01:00:00+01:00",
        "1970-01-01T00:00:00Z",
        "now",
        "",
        "2011-01-31",
        "2011-13-31T00:00:00Z",
    ],
];

/// One record: which way it is written, and which text each column has.
#[derive(Debug, Clone)]
struct Record {
    style: usize,
    texts: Vec<usize>,
}

/// Mostly of one style and plain, so that shapes are learned before something else comes.
fn record() -> impl Strategy<Value = Record> {
    let text = prop_oneof![40 => 0usize..4, 1 => 4usize..8];
    let style = prop_oneof![8 => Just(0usize), 4 => 1usize..4, 1 => 4usize..7];
    (style, prop::collection::vec(text, 8)).prop_map(|(style, texts)| Record { style, texts })
}

impl Record {
    fn fields(&self) -> Vec<(usize, &'static str, &'static str)> {
        let all = || (0..COLUMNS.len()).map(|c| (c, COLUMNS[c].0, TEXTS[c][self.texts[c]]));
        match self.style {
            1 => all().filter(|(c, ..)| *c != 3 && *c != 5).chain([(8, "extra", "more")]).collect(),
            2 => all().rev().collect(),
            3 => all().take(2).collect(),
            _ => all().collect(),
        }
    }

    fn xml(&self) -> String {
        let space = ["", "\n  ", "", " ", "", "<!-- c -->", "\t"][self.style];
        let (open, close) = match self.style {
            2 => ("<x:record>", "</x:record>"),
            4 => ("<record a='1'>", "</record >"),
            _ => ("<record>", "</record>"),
        };
        let field = |(_, name, text): (usize, &str, &str)| match (self.style, text) {
            (6, "") => format!("{space}<{name}/>"),
            (6, _) => format!("{space}<{name}><![CDATA[{text}]]></{name}>"),
            _ => format!("{space}<{name}>{text}</{name}>"),
        };
        format!("{open}{}{space}{close}\n", self.fields().into_iter().map(field).collect::<String>())
    }

    fn json(&self) -> String {
        let space = if self.style == 1 { " " } else { "" };
        let bare = |column: usize| matches!(column, 0 | 3 | 4 | 5) && self.style != 2;
        let value = |(column, name, text): (usize, &str, &str)| match (self.style, text) {
            (3, "") | (4, "z") => format!("\"{name}\":null"),
            (3, "N10451") => format!("\"{name}\":10451"),
            (5, _) if column == 2 => format!("\"{name}\":{{\"deep\":[1]}}"),
            _ if bare(column) => format!("{space}\"{name}\"{space}:{space}{text}"),
            _ => format!("{space}\"{name}\":{space}\"{text}\""),
        };
        format!("{{{}{space}}}", self.fields().into_iter().map(value).collect::<Vec<_>>().join(","))
    }

    fn length(&self, format: Format) -> usize {
        if format == Format::Xml { self.xml().trim_end().len() } else { self.json().len() }
    }
}

fn body(format: Format, records: &[Record]) -> Vec<u8> {
    let all = |write: fn(&Record) -> String, between: &str| {
        records.iter().map(write).collect::<Vec<_>>().join(between)
    };
    match format {
        Format::Xml => format!("<?xml version='1.0'?><records>{}</records>", all(Record::xml, "")),
        Format::Ndjson => all(Record::json, "\n"),
        _ => format!("[{}]\n", all(Record::json, ",\n")),
    }
    .into_bytes()
}

/// A byte is put in, taken out or replaced.
fn edit(body: &mut Vec<u8>, (at, how, byte): (usize, u8, u8)) {
    let at = at % body.len();
    match how {
        0 => body.insert(at, byte),
        1 => drop(body.remove(at)),
        _ => body[at] = byte,
    }
}

fn edits() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    let byte = prop::sample::select(b"<>/&;\"\\{}[],: \n\r\t0-+x\x01\x7f\xc3\xff".to_vec());
    prop::collection::vec((any::<usize>(), 0u8..3, byte), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn both_paths_say_the_same_however_the_bytes_are_cut(
        records in prop::collection::vec(record(), 0..14),
        edits in edits(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        batch_rows in 1usize..9,
        // As long as one of the records, or nearly.
        limit in prop::option::weighted(0.3, (any::<prop::sample::Index>(), 0usize..4)),
        strict_schema in prop::bool::weighted(0.1),
    ) {
        for format in [Format::Xml, Format::Ndjson, Format::Json] {
            let mut body = body(format, &records);
            if !body.is_empty() {
                edits.iter().for_each(|change| edit(&mut body, *change));
            }
            let record_bytes_max = match limit {
                Some((one, more)) if !records.is_empty() => one.get(&records).length(format) + more - 2,
                _ => 1000,
            };
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
            cuts.sort_unstable();
            let fast = Options { batch_rows, record_bytes_max, strict_schema, ..Options::default() };
            let careful = Options { expect_records: false, ..fast.clone() };
            let wanted = decode(format, &body, &[], &careful);
            for (cuts, options) in [(&[][..], &fast), (&cuts, &fast), (&cuts, &careful)] {
                let seen = decode(format, &body, cuts, options);
                prop_assert_eq!(&wanted, &seen, "{}\ncut at {:?}", body.escape_ascii(), cuts);
            }
        }
    }
}

/// Of what use is a fast path that is never taken?
#[test]
fn records_of_a_shape_seen_before_are_not_read_with_care() {
    let record = |style| Record { style, texts: vec![0; 8] };
    let mut rows = Rows::new(&columns(), &Options::default());
    let mut expected = xml::Expected::new(&columns());
    for style in 0..4 {
        expected.learn(record(style).xml().trim_end().as_bytes());
    }
    let mut known = |styles: &[usize]| {
        // More bytes than a record has are looked at.
        let xml = styles.iter().map(|style| record(*style).xml()).collect::<String>() + &" ".repeat(40);
        expected.read(xml.as_bytes(), 1000, &mut rows).expect("a batch").1
    };
    assert_eq!(known(&[0, 1, 2, 3, 2, 0]), 6);
    assert_eq!(known(&[0, 4, 0]), 1);

    let mut rows = Rows::new(&columns(), &Options::default());
    let mut expected = json::Expected::new(&columns());
    for column in [0, 3, 5] {
        rows.drift().spelling(column, Spelling::Number);
    }
    for column in [1, 2, 6, 7] {
        rows.drift().spelling(column, Spelling::Text);
    }
    rows.drift().spelling(4, Spelling::Bool);
    let all: Vec<_> = columns().iter().cloned().collect();
    rows.drift().end(&all, 1, 0).expect("no drift");
    for style in [0, 1, 3] {
        expected.learn(record(style).json().as_bytes(), b"\n");
    }
    for (style, is_known) in [(0, true), (1, true), (2, false), (3, true), (4, true), (5, false)] {
        let line = format!("{}\n{}", record(style).json(), " ".repeat(40));
        assert_eq!(expected.read(line.as_bytes(), &mut rows).is_ok(), is_known, "style {style}");
    }
}

#[test]
fn a_known_shape_hides_no_change_of_type_and_no_null() {
    for (column, first, then) in
        [(1, "27", "\"x\""), (1, "\"x\"", "27"), (0, "\"1\"", "1"), (0, "1", "\"1\"")]
    {
        let line = |value: &str| match column {
            0 => format!("{{\"id\":{value},\"name\":\"x\"}}\n"),
            _ => format!("{{\"id\":1,\"name\":{value}}}\n"),
        };
        let lines = [first, first, first, then, "null", first, then, "7"].map(line).concat();
        let fast = decode(Format::Ndjson, lines.as_bytes(), &[], &Options::default());
        let name = COLUMNS[column].0;
        let change = Notice { what: format!("type_change:{name}"), first_record: 4, count: 1 };
        assert_eq!(fast.notices, [change]);
        assert_eq!((fast.rejects.len(), &fast.rejects[0].reason), (1, &format!("null_in_required:{name}")));
        let careful = Options { expect_records: false, ..Options::default() };
        assert_eq!(fast, decode(Format::Ndjson, lines.as_bytes(), &[], &careful));
    }
}

/// A record that seems to be of a known shape and never ends is not waited for.
#[test]
fn an_endless_record_of_a_known_shape_meets_the_limit() {
    let endless = Record { style: 3, texts: vec![0; 8] };
    for format in [Format::Xml, Format::Ndjson, Format::Json] {
        let options = Options { record_bytes_max: 1000, ..Options::default() };
        let mut decoder = Decoder::new(format, &columns(), &options).expect("legal options");
        let mut body = body(format, &[endless.clone(), endless.clone(), endless.clone()]);
        let last_name = body.windows(2).rposition(|pair| pair == b"C1").expect("a name");
        body.truncate(last_name);
        decoder.push(&body).expect("a start");
        let mut pieces = (0..100).map(|_| decoder.push(&[b'x'; 100]).map(|()| decoder.buffered_bytes()));
        let error = pieces.find_map(|piece| match piece {
            Ok(bytes) => {
                assert!(bytes < 4000, "{bytes} bytes are kept");
                None
            }
            Err(error) => Some(error.to_string()),
        });
        assert!(error.expect("an error").contains("record_too_large"), "{format}");
        assert_eq!(decoder.counts().rows, 2);
    }
}

/// A batch of long records ends at 4 MiB, and what ends a line is not of the record.
#[test]
fn batches_of_long_records_end_at_the_same_row_on_both_paths() {
    let name = "x".repeat((1 << 20) - r#"{"id":1,"name":""}"#.len() - 1);
    let lines = format!("{{\"id\":1,\"name\":\"{name}\"}}\r\n").repeat(9);
    let careful = Options { expect_records: false, ..Options::default() };
    let fast = decode(Format::Ndjson, lines.as_bytes(), &[], &Options::default());
    assert_eq!(fast.batches, [5, 4]);
    assert_eq!(fast, decode(Format::Ndjson, lines.as_bytes(), &[], &careful));
}

/// Many shapes, none of which comes again, are not worth the learning; then all records have one.
#[test]
fn learning_pauses_and_goes_on() {
    let columns = columns();
    let mut expected = xml::Expected::new(&columns);
    let mut rows = Rows::new(&columns, &Options::default());
    let record = |spaces: usize| format!("<record>{}<id>1</id><name>x</name></record>", " ".repeat(spaces));
    for spaces in 0..30 {
        expected.learn(record(spaces).as_bytes());
    }
    let xml = record(1) + &" ".repeat(40);
    let mut read_with_care = 0;
    while expected.read(xml.as_bytes(), 1000, &mut rows).expect("a batch").1 == 0 {
        read_with_care += 1;
        assert!(read_with_care <= PAUSE_MAX + 1, "no pause is longer");
        expected.learn(record(1).as_bytes());
    }
    assert!(read_with_care > MISSES_MAX, "it paused");
}
