//! What a bad body comes to, however its bytes are cut. The tables are in `bad_xml.rs`, `bad_json.rs`,
//! `bad_encodings.rs` and `bad_large.rs`.
//!
//! The rule: a record that is well formed, or whose end is certain, but with a wrong value is rejected
//! and the next one is not. What is not well formed, ends early or goes beyond a limit fails the window
//! with the byte where it was noticed. Where the list of bad inputs leaves a choice, the table says what
//! was chosen:
//!
//! | line | choice |
//! |---|---|
//! | X17 | an external DTD is not fetched, and noticed as `doctype_ignored` |
//! | X27, X28 | UTF-16 is read, with or without byte order mark |
//! | X30 | EUC-KR is read, as is all that browsers read; ISO 8859's own control characters stay |
//! | X34 | a broken declaration fails the window; there is no lenient mode |
//! | X38 | the start of a body with another root is shown, without what the request held |
//! | X40 | depth fails the window in XML; in JSON it is a reject, as a value's end is certain there |
//! | X46 | a comment may be as long as a record; then it is `record_too_large` |
//! | X49 | names are compared without prefix |
//! | X50 | there is no `--allow-empty`: a body in which nothing matches fails the window |
//! | X56 | noticed; `source.strict_schema` fails the window |
//! | J10 | in lines a reject, in an array that does not close a failure |
//! | J17 | a text that is an INT64 is taken; `1e3` and `1.0` are none |
//! | J30 | noticed as `type_change:COLUMN`; a text that is no number is a `type_mismatch` |

use api2bq::config::Pipeline;
use api2bq::decode::{Decoder, Notice, Options};
use api2bq::schema::{Columns, Format};
use arrow::array::Array;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// What the list of bad inputs says of a body.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Nothing is rejected.
    Rows(u64),
    /// Rows and the rejects' reasons.
    Rejects(u64, Vec<&'static str>),
    /// The code at the end of the message.
    Fails(&'static str),
}

/// All that is known of a body when it ends, or of its failure.
#[derive(Debug, PartialEq)]
pub struct Seen {
    pub rows: Vec<Vec<Option<String>>>,
    /// Offset, line, column, reason.
    pub rejects: Vec<(u64, u64, u64, String)>,
    pub records: u64,
    pub notices: Vec<Notice>,
    pub error: Option<String>,
}

pub fn decode<'b>(
    format: Format,
    columns: &Columns,
    options: &Options,
    mut pieces: impl Iterator<Item = &'b [u8]>,
) -> Seen {
    let mut decoder = Decoder::new(format, columns, options).expect("a decoder");
    let ended = pieces.try_for_each(|piece| decoder.push(piece)).and_then(|()| decoder.finish());
    let mut seen = Seen { rows: vec![], rejects: vec![], records: 0, notices: vec![], error: None };
    if let Err(error) = ended {
        seen.error = Some(error.to_string());
        return seen;
    }
    while let Some(batch) = decoder.next_batch() {
        let text = |column: &dyn Array, row: usize| {
            let shown = ArrayFormatter::try_new(column, &FormatOptions::default()).expect("a formatter");
            (!column.is_null(row)).then(|| shown.value(row).to_string())
        };
        let rows = 0..batch.num_rows();
        seen.rows.extend(rows.map(|row| batch.columns().iter().map(|c| text(c, row)).collect()));
    }
    let counts = decoder.counts();
    assert_eq!(counts.records, counts.rows + counts.rejects, "records in are rows and rejects");
    assert_eq!(counts.rows, seen.rows.len() as u64);
    let rejects = decoder.take_rejects();
    assert!(rejects.len() as u64 <= counts.rejects);
    seen.rejects =
        rejects.into_iter().map(|r| (r.place.offset, r.place.line, r.place.column, r.reason)).collect();
    seen.records = counts.records;
    seen.notices = decoder.notices();
    seen
}

/// Pieces of the lengths that `lengths` gives over and over.
pub fn cut<'b>(body: &'b [u8], lengths: &'b [usize]) -> impl Iterator<Item = &'b [u8]> {
    let mut rest = body;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let length = rest.len().min(*lengths.next()?);
        let (piece, after) = rest.split_at(length);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Decodes whole, in small pieces and in odd ones; all that is seen must be the same.
pub fn any_way(id: &str, format: Format, columns: &Columns, options: &Options, body: &[u8]) -> Seen {
    let whole = decode(format, columns, options, std::iter::once(body));
    // Byte by byte where that is quick; what is large by design comes as HTTP brings it.
    let small: &[usize] = match body.len() {
        0..20_000 => &[1],
        20_000..2_000_000 => &[7],
        _ => &[65_536],
    };
    let odd: &[usize] = match body.len() {
        0..2_000_000 => &[3, 1, 11, 2, 5, 29, 1, 4, 17],
        _ => &[100_003, 7, 65_537, 1, 999_983],
    };
    for lengths in [small, odd, &[body.len() / 2 + 1]] {
        let pieces = decode(format, columns, options, cut(body, lengths));
        assert_eq!(whole, pieces, "{id}: in pieces of {lengths:?} it comes to something else");
    }
    let careful = Options { expect_records: false, ..options.clone() };
    let seen = decode(format, columns, &careful, std::iter::once(body));
    assert_eq!(whole, seen, "{id}: without the shortcut it comes to something else");
    whole
}

#[track_caller]
pub fn check(id: &str, format: Format, body: &[u8], wanted: &Outcome) -> Seen {
    check_with(id, format, &Options::default(), body, wanted)
}

#[track_caller]
pub fn check_with(id: &str, format: Format, options: &Options, body: &[u8], wanted: &Outcome) -> Seen {
    let seen = any_way(id, format, &flows(), options, body);
    let reasons: Vec<&str> = seen.rejects.iter().map(|r| r.3.as_str()).collect();
    match wanted {
        Outcome::Rows(rows) => {
            assert_eq!(seen.error, None, "{id}");
            assert_eq!((seen.rows.len() as u64, reasons), (*rows, vec![]), "{id}");
        }
        Outcome::Rejects(rows, wanted) => {
            assert_eq!(seen.error, None, "{id}");
            assert_eq!((seen.rows.len() as u64, &reasons), (*rows, wanted), "{id}");
        }
        Outcome::Fails(code) => {
            let error = seen.error.as_deref().unwrap_or_else(|| panic!("{id}: decodes to {seen:?}"));
            assert!(error.ends_with(&format!("({code})")), "{id}: {error}");
        }
    }
    seen
}

pub fn flows() -> Columns {
    Pipeline::resolve("flows", &[]).expect("resolves").columns
}

pub fn src_of(seen: &Seen, row: usize) -> &str {
    seen.rows[row][3].as_deref().expect("src_comp is REQUIRED")
}

/// The record R of the list, with `id`.
pub fn r(id: u32) -> String {
    format!(
        "<record><id>{id}</id><time>1</time><duration>9</duration><src_comp>C1065</src_comp>\
         <src_port>389</src_port><dst_comp>C3799</dst_comp><dst_port>N10451</dst_port>\
         <protocol>6</protocol><packet_count>10</packet_count><byte_count>5323</byte_count></record>"
    )
}

/// R with another `src_comp`.
pub fn with_src(src: &str) -> String {
    r(2).replace("C1065", src)
}

pub fn records(inside: &str) -> Vec<u8> {
    format!("<records>{inside}</records>").into_bytes()
}

pub fn j(id: u32) -> String {
    format!(
        r#"{{"id":{id},"time":1,"duration":9,"src_comp":"C1065","src_port":"389","dst_comp":"C3799","dst_port":"N10451","protocol":6,"packet_count":10,"byte_count":5323}}"#
    )
}
