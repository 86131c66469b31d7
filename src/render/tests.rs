//! What Arrow has beyond BigQuery's types: this renderer is for any batch.

use std::io;
use std::sync::{Arc, Mutex};

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    LargeStringArray, NullArray, StringArray, StringViewArray, TimestampMicrosecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;

use super::*;

/// Bytes that outlive their writer.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn text(format: Format, batches: &[RecordBatch]) -> String {
    let out = Shared::default();
    let mut renderer = Renderer::new(format, &batches[0].schema(), Box::new(out.clone())).unwrap();
    for batch in batches {
        renderer.write(batch).unwrap();
    }
    assert_eq!(renderer.finish().unwrap(), Reader::Listening);
    String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

#[test]
fn types_that_bigquery_does_not_have_are_written_too() {
    let words: DictionaryArray<Int32Type> = vec![Some("x"), None].into_iter().collect();
    let rows = batch(vec![
        ("u", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("f", Arc::new(Float32Array::from(vec![0.1, f32::INFINITY]))),
        ("v", Arc::new(StringViewArray::from(vec!["a\"b", "c"]))),
        ("l", Arc::new(LargeStringArray::from(vec!["é", ""]))),
        ("w", Arc::new(words)),
        ("n", Arc::new(NullArray::new(2))),
        ("ns", Arc::new(TimestampNanosecondArray::from(vec![1, 1_000_000_000]).with_timezone("+00:00"))),
        ("zone", Arc::new(TimestampNanosecondArray::from(vec![0, 0]).with_timezone("+02:00"))),
    ]);
    let expected = concat!(
        r#"{"u":18446744073709551615,"f":0.1,"v":"a\"b","l":"é","w":"x","n":null,"#,
        r#""ns":"1970-01-01T00:00:00.000000001Z","zone":"1970-01-01T02:00:00+02:00"}"#,
        "\n",
        r#"{"u":null,"f":"Infinity","v":"c","l":"","w":null,"n":null,"#,
        r#""ns":"1970-01-01T00:00:01Z","zone":"1970-01-01T02:00:00+02:00"}"#,
        "\n"
    );
    assert_eq!(text(Format::Ndjson, &[rows]), expected);
}

/// insertAll takes numbers of JSON for 64-bit floats.
#[test]
fn objects_of_texts_keep_every_digit() {
    let rows = batch(vec![
        ("i", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("f", Arc::new(Float64Array::from(vec![0.1, f64::NEG_INFINITY]))),
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![1, 0]).with_timezone("UTC"))),
        ("s", Arc::new(StringArray::from(vec!["a\"\n", ""]))),
    ]);
    let expected = [
        r#"{"i":"9223372036854775807","f":"0.1","b":"true","t":"1970-01-01T00:00:00.000001Z","s":"a\"\n"}"#,
        r#"{"i":null,"f":"-Infinity","b":"false","t":"1970-01-01T00:00:00Z","s":""}"#,
    ];
    assert_eq!(text_objects(&rows).unwrap(), expected);
}

#[test]
fn nothing_is_written_as_nothing_and_never_as_no_document() {
    let empty = batch(vec![("a b", Arc::new(Int32Array::from(Vec::<i32>::new())))]);
    let expected = ["a b\n───\n", "a b\n", "a b\n", "[]\n", "", "| a b |\n| ---: |\n"];
    let formats = [Format::Table, Format::Csv, Format::Tsv, Format::Json, Format::Ndjson, Format::Markdown];
    assert_eq!(formats.map(|format| text(format, std::slice::from_ref(&empty))), expected);
}

#[test]
fn a_table_aligns_wide_characters_cuts_long_cells_and_shows_what_would_move_the_cursor() {
    let long = "x".repeat(150);
    let rows = batch(vec![
        ("text", Arc::new(StringArray::from(vec!["東京", "\u{1b}[31m", &long]))),
        ("n", Arc::new(Int32Array::from(vec![1, 22, 333]))),
    ]);
    let shown = text(Format::Table, &[rows]);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[2].starts_with("東京 ") && lines[2].ends_with("    1"), "{shown}");
    assert!(lines[3].starts_with(r"\u{1b}[31m "), "{shown}");
    assert!(lines[4].starts_with(&format!("{}…  333", "x".repeat(100))), "{shown}");
}

/// What people read in a terminal must not work it.
#[test]
fn markdown_shows_what_would_move_the_cursor() {
    let rows =
        batch(vec![("\u{1b}c", Arc::new(StringArray::from(vec!["\u{1b}]0;x\u{7}\tz\u{9b}1m\r\nb|"])))]);
    let shown = text(Format::Markdown, &[rows]);
    let expected = "| \\u{1b}c |\n| --- |\n| \\u{1b}]0;x\\u{7}\\tz\\u{9b}1m<br>b\\| |\n";
    assert_eq!(shown, expected);
}

#[test]
fn a_table_that_grows_wider_on_a_later_page_says_its_header_again() {
    let page = |cell: &str| batch(vec![("s", Arc::new(StringArray::from(vec![cell; 500])))]);
    let shown = text(Format::Table, &[page("a"), page("b"), page("wider")]);
    assert_eq!(shown.lines().filter(|line| *line == "s").count(), 2);
    assert_eq!(shown.lines().count(), 2 + 1000 + 1 + 2 + 500);
}

#[test]
fn a_reader_that_has_gone_is_no_error_in_any_format() {
    let numbers: Vec<i32> = (0..100_000).collect();
    let rows = batch(vec![("n", Arc::new(Int32Array::from(numbers)))]);
    for format in Format::ALL {
        let mut renderer = Renderer::new(format, &rows.schema(), Box::new(Closed)).unwrap();
        renderer.write(&rows).unwrap();
        assert_eq!(renderer.finish().unwrap(), Reader::Gone, "{format}");
    }
}

#[test]
fn formats_are_known_by_name_and_by_the_end_of_a_file() {
    for format in Format::ALL {
        assert_eq!(format.name().parse::<Format>().unwrap(), format);
    }
    assert_eq!(Format::of_file("a.b.PARQUET"), Some(Format::Parquet));
    assert_eq!([Format::of_file("csv"), Format::of_file("a.xyz")], [None, None]);
    assert!("xml".parse::<Format>().is_err());
}

#[test]
fn a_table_that_is_wider_than_the_terminal_is_folded_beside_its_first_column() {
    let rows = batch(vec![
        ("id", Arc::new(Int64Array::from_iter_values(1..=12)) as ArrayRef),
        ("name", Arc::new(StringArray::from_iter_values((1..=12).map(|n| "n".repeat(n)))) as ArrayRef),
        ("note", Arc::new(StringArray::from_iter_values((1..=12).map(|_| "x".repeat(40)))) as ArrayRef),
        ("n", Arc::new(Int64Array::from_iter_values(1..=12)) as ArrayRef),
    ]);
    let out = Shared::default();
    let mut renderer =
        Renderer::folded(Format::Table, &rows.schema(), Box::new(out.clone()), Some(30)).unwrap();
    renderer.write(&rows).unwrap();
    renderer.finish().unwrap();
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 30), "{text}");
    let headers = lines.iter().zip(&lines[1..]).filter(|(_, rule)| rule.contains('─'));
    let headers: Vec<&str> = headers.map(|(header, _)| *header).collect();
    // Ten rows, then the other two. What is as wide as the terminal stands alone.
    let parts = ["id  name", "note", "id   n"];
    assert_eq!(headers, [parts, parts].concat(), "{text}");
    assert_eq!(lines[2..12][9], "10  nnnnnnnnnn", "{text}");
    assert!(lines[15].starts_with("xxx") && lines[15].ends_with('…'), "{text}");
    assert_eq!(*lines.last().expect("rows"), "12  12", "{text}");
}
