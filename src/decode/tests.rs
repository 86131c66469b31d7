use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::schema::{Column, ColumnType, Mode};

const FIRST10: &[u8] = include_bytes!("../../tests/data/flows_first10.xml");

fn columns() -> Columns {
    let required = |name: &str, kind| Column { name: name.into(), kind, mode: Mode::Required, path: None };
    let note = Column {
        name: "note".into(),
        kind: ColumnType::String,
        mode: Mode::Nullable,
        path: Some("n".into()),
    };
    Columns::new(vec![required("id", ColumnType::Int64), required("name", ColumnType::String), note])
        .expect("legal columns")
}

/// A whole body's rows, rejects as `offset reason`, and counts.
#[derive(Debug, PartialEq)]
struct Decoded {
    rows: Vec<(i64, String, Option<String>)>,
    rejects: Vec<String>,
    /// Rows of each record batch.
    batches: Vec<usize>,
    counts: Counts,
}

fn decode_cut(format: Format, body: &[u8], cuts: &[usize], batch_rows: usize) -> Result<Decoded> {
    decode_with(format, body, cuts, Options { batch_rows, record_bytes_max: 4096, ..Options::default() })
}

fn decode_with(format: Format, body: &[u8], cuts: &[usize], options: Options) -> Result<Decoded> {
    let mut decoder = Decoder::new(format, &columns(), &options)?;
    let mut at = 0;
    for cut in cuts.iter().map(|cut| cut % (body.len() + 1)).chain([body.len()]) {
        if cut > at {
            decoder.push(&body[at..cut])?;
            at = cut;
        }
    }
    decoder.finish()?;
    let (mut rows, mut batches) = (Vec::new(), Vec::new());
    while let Some(batch) = decoder.next_batch() {
        batches.push(batch.num_rows());
        let (ids, names) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        let notes = batch.column(2).as_string::<i32>();
        let text = |i: usize| notes.iter().nth(i).flatten().map(str::to_owned);
        rows.extend((0..batch.num_rows()).map(|i| (ids.value(i), names.value(i).to_owned(), text(i))));
    }
    let counts = decoder.counts();
    assert_eq!(counts.records, counts.rows + counts.rejects);
    assert_eq!(counts.rows, rows.len() as u64);
    let rejects = decoder.take_rejects();
    for reject in rejects.iter().filter(|r| !r.raw.is_empty()) {
        let start = usize::try_from(reject.place.offset).expect("small");
        assert_eq!(&body[start..start + reject.raw.len()], reject.raw, "the offset leads to the raw bytes");
    }
    let rejects = rejects.into_iter().map(|r| format!("{} {}", r.place.offset, r.reason)).collect();
    Ok(Decoded { rows, batches, rejects, counts })
}

/// Decodes whole, byte by byte and in odd pieces; all must agree, in errors too.
fn decode(format: Format, body: impl AsRef<[u8]>) -> Result<Decoded> {
    let body = body.as_ref();
    let whole = decode_cut(format, body, &[], 8192);
    let careful = Options { expect_records: false, record_bytes_max: 4096, ..Options::default() };
    match (&whole, decode_with(format, body, &[], careful)) {
        (Ok(whole), Ok(careful)) => assert_eq!(*whole, careful, "the fast path reads something else"),
        (Err(whole), Err(careful)) => assert_eq!(whole.to_string(), careful.to_string()),
        (whole, careful) => panic!("fast: {whole:?}, careful: {careful:?}"),
    }
    let bytes: Vec<usize> = (0..body.len()).collect();
    let thirds: Vec<usize> = (0..body.len()).step_by(3).collect();
    for cuts in [bytes, thirds] {
        match (&whole, decode_cut(format, body, &cuts, 8192)) {
            (Ok(whole), Ok(cut)) => assert_eq!(*whole, cut),
            (Err(whole), Err(cut)) => assert_eq!(whole.to_string(), cut.to_string()),
            (whole, cut) => panic!("whole: {whole:?}, cut: {cut:?}"),
        }
    }
    whole
}

fn xml(records: &str) -> Result<Decoded> {
    decode(Format::Xml, format!("<?xml version='1.0' encoding='UTF-8'?><records>{records}</records>"))
}

fn ids(decoded: Result<Decoded>) -> Vec<i64> {
    decoded.expect("decodes").rows.into_iter().map(|row| row.0).collect()
}

/// Reasons of the rejects, without offsets.
fn reasons(decoded: Result<Decoded>) -> Vec<String> {
    let rejects = decoded.expect("decodes").rejects;
    rejects.into_iter().map(|r| r.split_once(' ').expect("offset and reason").1.to_owned()).collect()
}

fn failure(decoded: Result<Decoded>) -> String {
    decoded.expect_err("fails").to_string()
}

#[test]
fn the_seeds_ten_records_come_out_with_every_value() {
    let pipeline = crate::config::Pipeline::resolve("flows", &[]).expect("resolves");
    let mut decoder = Decoder::new(Format::Xml, &pipeline.columns, &Options::default()).expect("a decoder");
    FIRST10.chunks(7).for_each(|chunk| decoder.push(chunk).expect("decodes"));
    decoder.finish().expect("whole");
    let batch = decoder.next_batch().expect("one batch");
    let text = String::from_utf8_lossy(FIRST10);
    let records: Vec<&str> = text.split("<record>").skip(1).collect();
    assert_eq!((batch.num_rows(), records.len()), (10, 10));
    for (c, field) in batch.schema().fields().iter().enumerate() {
        let shown = arrow::util::display::ArrayFormatter::try_new(batch.column(c), &Default::default())
            .expect("a formatter");
        for (r, record) in records.iter().enumerate() {
            let (open, close) = (format!("<{}>", field.name()), format!("</{}>", field.name()));
            let value =
                record.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).expect("a field").0;
            assert_eq!(shown.value(r).to_string(), value, "{} of record {r}", field.name());
        }
    }
}

#[test]
fn values_in_every_xml_spelling() {
    let decoded = xml(
        "<record><name>a&amp;b&#x41;<![CDATA[<c>&]]></name><!-- <record></record> --><id>1</id></record>\
         <record x='1'><id>2</id><name/><n>t</n><more><deep>z</deep></more></record>",
    );
    let rows = decoded.expect("decodes").rows;
    assert_eq!(rows[0], (1, "a&bA<c>&".into(), None));
    assert_eq!(rows[1], (2, String::new(), Some("t".into())));
    let namespaced = decode(
        Format::Xml,
        "<ns:records xmlns:ns='u'><ns:record><ns:id>3</ns:id><ns:name>x</ns:name></ns:record></ns:records>",
    );
    assert_eq!(ids(namespaced), [3]);
    assert_eq!(ids(xml("<record>\r\n<id>4</id><name>'; DROP TABLE flows; --</name></record>\r\n")), [4]);
}

#[test]
fn an_empty_window_is_no_error_and_a_body_without_records_is_one() {
    assert_eq!(ids(decode(Format::Xml, "<records/>")), [0i64; 0]);
    assert_eq!(ids(decode(Format::Xml, "<?xml version='1.0'?><records></records>\n")), [0i64; 0]);
    assert!(
        failure(decode(Format::Xml, "<records><other/><other/></records>")).contains("no record matched")
    );
    assert!(
        failure(decode(Format::Xml, "<html><body>login</body></html>")).contains("root element is `html`")
    );
    assert!(failure(decode(Format::Xml, "")).contains("no root element"));
    assert!(failure(decode(Format::Xml, "{}")).contains("(not_xml)"));
}

#[test]
fn xml_records_with_wrong_values_are_rejected_and_the_next_ones_are_not() {
    let good = "<record><id>9</id><name>x</name></record>";
    for (record, reason) in [
        ("<record><id>x</id><name>y</name></record>", "not_an_integer:id"),
        ("<record><id>9223372036854775808</id><name>y</name></record>", "int_overflow:id"),
        ("<record><id>1</id></record>", "missing_field:name"),
        ("<record/>", "missing_field:id"),
        ("<record><id>1</id><id>2</id><name>y</name></record>", "duplicate_field:id"),
        ("<record><id>1</id><name>&nbsp;</name></record>", "undefined_entity:name"),
        ("<record><id>1</id><name>&#0;</name></record>", "illegal_char:name"),
        ("<record><id>1</id><name>&#x1;</name></record>", "illegal_char:name"),
        ("<record><id>1</id><name>&#xD800;</name></record>", "illegal_char_ref:name"),
        ("<record><id>1</id><name>a<b>c</b></name></record>", "nested_element:name"),
    ] {
        let decoded = xml(&format!("{good}{record}{good}")).expect("decodes");
        assert_eq!(decoded.rows.len(), 2, "{record}");
        assert_eq!(decoded.rejects, [format!("{} {reason}", 38 + 9 + good.len())], "{record}");
    }
    let mut bytes = b"<records><record><id>1</id><name>\xc0\xaf</name></record>".to_vec();
    bytes.extend_from_slice(good.as_bytes());
    bytes.extend_from_slice(b"</records>");
    assert_eq!(reasons(decode(Format::Xml, bytes)), ["invalid_utf8:name"]);
}

#[test]
fn xml_that_is_not_well_formed_fails_with_its_place() {
    let good = "<record><id>9</id><name>x</name></record>";
    for (body, words) in [
        (format!("<records>{good}"), "ended early: `</records>` is missing"),
        (format!("<records>{good}<record><id>1</id>"), "ended early"),
        (format!("<records>{good}</records>\0\0"), "outside of the root"),
        (format!("<records>{good}</records><records/>"), "second root"),
        (format!("<records>{good}</wrong>"), "closes `<records>`"),
        ("<records><record><id>1</name></record></records>".into(), "not well formed"),
        ("<records><!-- never closed".into(), "ended early"),
        (
            "<records><record><id>1</id><name><![CDATA[\0]]></name></record></records>".into(),
            "illegal character",
        ),
        ("<records><record><id>1</id><name>\u{1}</name></record></records>".into(), "illegal character"),
        ("<records><record><id>1 & 2</id></record></records>".into(), "not well formed"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><records/>".into(), "DOCTYPE"),
        ("<?xml verion='1.0'?><records/>".into(), "declaration"),
        ("<?xml version='1.0' encoding='UTF-7'?><records/>".into(), "unsupported_encoding:utf-7"),
        (format!("<records>{}</records>", "<a>".repeat(70)), "nesting exceeds 64"),
        (format!("<records><record>{}</record></records>", "<a>".repeat(70)), "nesting exceeds 64"),
        (format!("<records><!--{}--></records>", "x".repeat(5000)), "exceeds 4096 bytes"),
        (format!("<records><record><id>{}</id></record></records>", "1".repeat(5000)), "exceeds 4096 bytes"),
    ] {
        let said = match decode_cut(Format::Xml, body.as_bytes(), &(0..body.len()).collect::<Vec<_>>(), 8192)
        {
            Err(error) => error.to_string(),
            Ok(decoded) => panic!("{body} decodes to {decoded:?}"),
        };
        assert!(said.contains(words), "{body}: {said}");
    }
    let external = "<!DOCTYPE records SYSTEM 'https://127.0.0.1:9/x.dtd'><records/>";
    assert_eq!(ids(decode(Format::Xml, external)), [0i64; 0]);
    assert!(failure(decode(Format::Xml, b"\xff\xfe<\0r\0")).contains("(truncated)"));
}

#[test]
fn json_in_lines_arrays_and_sequences() {
    let (a, b) =
        (r#"{"id":1,"name":"a","n":null,"other":[{"x":1}]}"#, r#"{ "name" : "\u00e9\"b", "id": "2" }"#);
    let rows = |format, body: String| decode(format, body).expect("decodes").rows;
    let want = vec![(1, "a".to_owned(), None), (2, "é\"b".to_owned(), None)];
    assert_eq!(rows(Format::Ndjson, format!("{a}\n{b}")), want);
    assert_eq!(rows(Format::Ndjson, format!("\u{feff}{a}\r\n\n{b}\n")), want);
    assert_eq!(rows(Format::Json, format!("[{a},\n {b}]\n")), want);
    assert_eq!(rows(Format::Json, format!("{a}{b}")), want);
    assert_eq!(rows(Format::Json, format!("\u{feff} {a}\n\n{b}\n")), want);
    assert_eq!(rows(Format::Json, "[]".into()), vec![]);
    assert_eq!(rows(Format::Ndjson, String::new()), vec![]);
}

#[test]
fn json_records_with_wrong_values_are_rejected_and_the_next_ones_are_not() {
    let good = r#"{"id":9,"name":"x"}"#;
    let deep = format!(r#"{{"id":1,"name":"y","o":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    for (record, reason) in [
        (r#"{"id":1.0,"name":"y"}"#, "not_an_integer:id"),
        (r#"{"id":1e3,"name":"y"}"#, "not_an_integer:id"),
        (r#"{"id":9223372036854775808,"name":"y"}"#, "int_overflow:id"),
        (r#"{"id":true,"name":"y"}"#, "type_mismatch:id"),
        (r#"{"id":1,"name":{}}"#, "type_mismatch:name"),
        (r#"{"id":null,"name":"y"}"#, "null_in_required:id"),
        (r#"{"name":"y"}"#, "missing_field:id"),
        (r#"{"id":1,"id":1,"name":"y"}"#, "duplicate_field:id"),
        (r#"{"id":1,"name":"\ud800"}"#, "lone_surrogate:name"),
        (deep.as_str(), "depth"),
    ] {
        for format in [Format::Ndjson, Format::Json] {
            let decoded = decode(format, format!("{good}\n{record}\n{good}\n")).expect("decodes");
            assert_eq!(decoded.rows.len(), 2, "{record}");
            assert_eq!(decoded.rejects, [format!("{} {reason}", good.len() + 1)], "{record}");
        }
    }
    assert_eq!(ids(decode(Format::Ndjson, r#"{"id":9007199254740993,"name":27}"#)), [9_007_199_254_740_993]);
    for line in [r#"{"id":1,"name":"y"} x"#, r#"{"id":1,"#, "{\"id\":1,\"name\":\"a\tb\"}", "nonsense"] {
        assert_eq!(reasons(decode(Format::Ndjson, format!("{line}\n{good}\n"))), ["json_syntax"], "{line}");
    }
    for line in ["42", r#""x""#, "null", "[[]]"] {
        assert_eq!(reasons(decode(Format::Ndjson, format!("{line}\n{good}\n"))), ["not_an_object"], "{line}");
    }
}

#[test]
fn json_that_ends_early_or_goes_astray_fails() {
    let good = r#"{"id":9,"name":"x"}"#;
    assert!(failure(decode(Format::Json, format!("[{good}"))).contains("the array is not closed"));
    assert!(failure(decode(Format::Json, format!("[{good},]"))).contains("`]` where"));
    assert!(failure(decode(Format::Json, format!("[{good}]{good}"))).contains("`{` where"));
    assert!(failure(decode(Format::Json, format!("{good}{{\"id\":"))).contains("a value is not closed"));
    assert!(failure(decode(Format::Json, "nonsense")).contains("no JSON at byte 0 (json_syntax)"));
    let long = format!(r#"{{"id":1,"name":"{}"}}"#, "x".repeat(5000));
    assert!(failure(decode(Format::Json, &long)).contains("exceeds 4096 bytes"));
    assert!(failure(decode(Format::Ndjson, &long)).contains("exceeds 4096 bytes"));
}

#[test]
fn brackets_in_texts_are_not_depth() {
    let options = Options { depth_max: 2, ..Options::default() };
    let lines = "{\"id\":1,\"name\":\"[[{{\",\"x\":[1],\"y\":[2]}\n{\"id\":2,\"name\":\"\",\"x\":[[1]]}\n";
    for expect_records in [true, false] {
        let options = Options { expect_records, ..options.clone() };
        let decoded = decode_with(Format::Ndjson, lines.as_bytes(), &[], options).expect("decodes");
        assert_eq!((decoded.rows.len(), &decoded.rejects[..]), (1, &["39 depth".to_owned()][..]));
    }
}

/// From the comparison with Python's json: the first thing wrong was a value, so that the syntax behind it
/// was never looked at, and the next object was looked for wherever the brackets seemed to end.
#[test]
fn a_wrong_value_does_not_hide_wrong_syntax() {
    let good = r#"{"id":9,"name":"x"}"#;
    for bad in [
        &br#"{"id":true,"name":"x",,}"#[..],
        br#"{"id":1,"id":2 []}"#,
        br#"{"id":1,"name":"\ud800" "x"}"#,
        b"{\"id\":1,\"name\":\"\xe3\",\"more\":tru}",
    ] {
        let array = [b"[", good.as_bytes(), b",", bad, b",", good.as_bytes(), b"]"].concat();
        assert!(
            failure(decode(Format::Json, &array)).contains("a value is no JSON"),
            "{}",
            bad.escape_ascii()
        );
        let lines = [bad, b"\n", good.as_bytes()].concat();
        let reason = if bad.is_ascii() { "json_syntax" } else { "invalid_utf8" };
        assert_eq!(reasons(decode(Format::Ndjson, &lines)), [reason], "{}", bad.escape_ascii());
    }
    // Bytes that are no text, in an object that is one: the next is where it should be.
    let array = [b"[{\"id\":1,\"name\":\"\xe3\"},", good.as_bytes(), b"]"].concat();
    assert_eq!(reasons(decode(Format::Json, &array)), ["invalid_utf8"]);
}

/// From the comparison with expat, which refuses them.
#[test]
fn a_public_identifier_has_few_characters() {
    let doctype = |id: &str| format!("<!DOCTYPE records PUBLIC \"{id}\" '<é>.dtd'><records/>");
    assert_eq!(ids(decode(Format::Xml, doctype("-//A//B 1.0//EN"))), [0i64; 0]);
    for id in ["a<b", "a>b", "é", "a&b", "a\tb"] {
        assert!(failure(decode(Format::Xml, doctype(id))).contains("public identifier"), "{id}");
    }
}

#[test]
fn csv_lines_with_and_without_row_numbers() {
    let rows = decode(Format::Csv, "1,a,x\n2,b,\r\n").expect("decodes").rows;
    assert_eq!(rows, [(1, "a".to_owned(), Some("x".to_owned())), (2, "b".to_owned(), Some(String::new()))]);
    assert_eq!(
        reasons(decode(Format::Csv, "1,a\n1,a,b,c\n1,\"a\",b\n")),
        ["missing_field:note", "too_many_fields", "quoted_field"]
    );
    let options = Options { row_number_column: Some("id".into()), ..Options::default() };
    let mut decoder = Decoder::new(Format::Csv, &columns(), &options).expect("a decoder");
    decoder.push(b"a,x\nb,y").and_then(|()| decoder.finish()).expect("decodes");
    let batch = decoder.next_batch().expect("a batch");
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 2]);
}

#[test]
fn batches_are_full_but_for_the_last() {
    let body: String = (0..25).map(|i| format!("{{\"id\":{i},\"name\":\"x\"}}\n")).collect();
    let options = Options { batch_rows: 10, ..Options::default() };
    let mut decoder = Decoder::new(Format::Ndjson, &columns(), &options).expect("a decoder");
    decoder.push(body.as_bytes()).and_then(|()| decoder.finish()).expect("decodes");
    let batches: Vec<_> = std::iter::from_fn(|| decoder.next_batch()).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(concat_batches(&batches[0].schema(), &batches).expect("one schema").num_rows(), 25);
}

/// Text offsets of a batch are 32 bits wide, and memory is to stay flat: long records end it early.
#[test]
fn a_batch_of_long_records_ends_early() {
    let long = "x".repeat(1 << 20);
    let body: String = (0..10).map(|i| format!("{{\"id\":{i},\"name\":\"{long}\"}}\n")).collect();
    let mut decoder = Decoder::new(Format::Ndjson, &columns(), &Options::default()).expect("a decoder");
    decoder.push(body.as_bytes()).and_then(|()| decoder.finish()).expect("decodes");
    let batches: Vec<_> = std::iter::from_fn(|| decoder.next_batch()).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [4, 4, 2]);
}

/// quick-xml takes a byte order mark away without counting its bytes.
#[test]
fn a_byte_order_mark_shifts_nothing() {
    let record = "<record><id>x</id></record>";
    let decoded = decode(Format::Xml, format!("\u{feff}<records>{record}\u{feff}{record}</records>"));
    assert_eq!(
        decoded.expect("decodes").rejects,
        ["12 not_an_integer:id".to_owned(), format!("{} not_an_integer:id", 12 + record.len() + 3)]
    );
    assert_eq!(ids(decode(Format::Xml, "\u{feff}<records/>")), [0i64; 0]);
    assert_eq!(ids(decode(Format::Xml, "\u{feff}<?xml version='1.0'?><records/>")), [0i64; 0]);
}

/// The bracket that is missing would take in the next records.
#[test]
fn an_object_without_order_ends_an_array_and_not_the_lines() {
    let wrong = r#"{"id":1,"name":"a","x":[}"#;
    let good = r#"{"id":2,"name":"b"}"#;
    assert!(
        failure(decode(Format::Json, format!("[{wrong},{good},{{\"a\":1]}},{good}]")))
            .contains("no JSON at byte 1")
    );
    assert_eq!(ids(decode(Format::Ndjson, format!("{wrong}\n{good}\n"))), [2]);
}

#[test]
fn rejects_are_counted_beyond_those_kept() {
    let options = Options { rejects_kept: 3, ..Options::default() };
    let mut decoder = Decoder::new(Format::Xml, &columns(), &options).expect("a decoder");
    let body = format!("<records>{}</records>", "<record/>".repeat(100));
    decoder.push(body.as_bytes()).and_then(|()| decoder.finish()).expect("decodes");
    assert_eq!((decoder.take_rejects().len(), decoder.counts().rejects), (3, 100));
}

/// A field's text as XML may hold it, and a record around it; some records are wrong.
fn any_record() -> impl Strategy<Value = (i64, String, bool)> {
    (any::<i64>(), "[a-zA-Z0-9é<>&\"'\\\\ \t]{0,12}", prop::bool::weighted(0.1))
}

fn xml_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A byte sequence near the shape that the fast path takes: tags, texts and what may stand between.
fn near_records() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<record>",
        "</record>",
        "<id>1</id>",
        "<id>22</id>",
        "<id>x</id>",
        "<name>a b</name>",
        "<name>&lt;</name>",
        "<name>é</name>",
        "<n>z</n>",
        "<n/>",
        "\n",
        " ",
        "<!-- c -->",
        "<id a='1'>3</id>",
        "<name>a",
        "</name>",
        "<record><id>7</id><name>q</name><n>w</n></record>",
        "<record>\n <id>8</id> <name></name><n>]]></n>\r\n</record>",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| format!("<records>{}</records>", pieces.concat()))
}

/// Records with everything that XML has, and some that it has not.
fn any_xml() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec![
        "a",
        " ",
        "\r\n",
        "&lt;",
        "&#65;",
        "&#x20AC;",
        "é",
        "]]",
        "]",
        ">",
        "<![CDATA[b]]>",
        "<![CDATA[]]]]>",
        "<!-- c -->",
        "<!--->-->",
        "<?d e?>",
        "&nbsp;",
        "&",
        "<!-- - -- -->",
        "<",
        "</",
        "\u{1}",
        "]]>",
    ]);
    let attributes =
        prop::sample::select(vec!["", " a='1'", " b=\"<\"", " c", " d='>'", "\n", " e='1' e='2'"]);
    let value = prop::collection::vec(text, 0..4).prop_map(|pieces| pieces.concat());
    let record = (any::<i32>(), value, attributes)
        .prop_map(|(id, value, a)| format!("<record{a}><id>{id}</id><name{a}>{value}</name></record>"));
    prop::collection::vec(record, 0..3).prop_map(|records| format!("<records>{}</records>", records.concat()))
}

/// The reference: rows as quick-xml reads them.
fn by_quick_xml(body: &str) -> Result<Vec<(i64, String, Option<String>)>, quick_xml::Error> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(body);
    reader.config_mut().check_comments = true;
    let (mut rows, mut field, mut texts) = (Vec::new(), None, [String::new(), String::new()]);
    loop {
        let text = match reader.read_event()? {
            Event::Eof => return Ok(rows),
            Event::Start(tag) => {
                for attribute in tag.attributes() {
                    attribute?;
                }
                let name = tag.name();
                field = ["id", "name"].iter().position(|field| *field == name.as_ref());
                if name.as_ref() == "record" {
                    texts = Default::default();
                }
                continue;
            }
            Event::End(tag) => {
                field = None;
                if tag.name().as_ref() == "record" {
                    let [id, name] = std::mem::take(&mut texts);
                    rows.push((id.parse().unwrap_or_default(), name, None));
                }
                continue;
            }
            Event::Text(text) => text.xml10_content().into_owned(),
            Event::CData(text) => text.xml10_content().into_owned(),
            Event::GeneralRef(reference) => match reference.resolve_char_ref()? {
                Some(char) => char.to_string(),
                None => match &*reference {
                    "lt" => "<".to_owned(),
                    other => format!("&{other};"),
                },
            },
            _ => continue,
        };
        if let Some(field) = field {
            texts[field] += &text;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_and_batch_size_decodes_to_the_same_rows(
        records in prop::collection::vec(any_record(), 0..40),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
        batch_rows in 1usize..50,
    ) {
        let mut cuts = cuts;
        let mut xml = String::from("<records>");
        let mut lines = String::new();
        let mut array = String::from("[");
        for (i, (id, name, wrong)) in records.iter().enumerate() {
            let id = if *wrong { format!("x{id}") } else { id.to_string() };
            xml += &format!("<record><id>{id}</id><name>{}</name></record>\n", xml_text(name));
            let object = serde_json::json!({ "name": name, "id": id }).to_string();
            lines += &format!("{object}\n");
            array += &format!("{}{object}", if i > 0 { "," } else { "" });
        }
        xml += "</records>";
        array += "]";
        let want: Vec<_> = records.iter().filter(|r| !r.2).map(|r| (r.0, r.1.clone(), None)).collect();
        for (format, body) in [(Format::Xml, &xml), (Format::Ndjson, &lines), (Format::Json, &array)] {
            cuts.iter_mut().for_each(|cut| *cut %= body.len() + 1);
            cuts.sort_unstable();
            let whole = decode_cut(format, body.as_bytes(), &[], batch_rows).expect("decodes");
            let cut = decode_cut(format, body.as_bytes(), &cuts, batch_rows).expect("decodes");
            prop_assert_eq!(&whole.rows, &want);
            prop_assert_eq!(whole, cut);
        }
    }

    #[test]
    fn the_fast_path_and_the_careful_one_read_the_same(body in near_records(), cut in any::<usize>()) {
        let careful = Options { expect_records: false, ..Options::default() };
        let careful = decode_with(Format::Xml, body.as_bytes(), &[], careful).ok();
        let fast = decode_with(Format::Xml, body.as_bytes(), &[], Options::default()).ok();
        let fast_cut = decode_with(Format::Xml, body.as_bytes(), &[cut], Options::default()).ok();
        prop_assert_eq!(&careful, &fast);
        prop_assert_eq!(careful, fast_cut);
    }

    #[test]
    fn what_is_read_of_xml_is_what_quick_xml_reads(body in any_xml(), cut in any::<usize>()) {
        let ours = decode_with(Format::Xml, body.as_bytes(), &[cut], Options::default());
        let theirs = by_quick_xml(&body);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) if ours.rejects.is_empty() => prop_assert_eq!(ours.rows, theirs),
            // We check more than it does, and never less.
            (Ok(ours), Err(_)) => prop_assert!(!ours.rejects.is_empty(), "{} is taken", body),
            (Ok(_) | Err(_), _) => {}
        }
    }

    #[test]
    fn garbage_never_panics(body in prop::collection::vec(prop::sample::select(
        b"<>/&;!-[]{}\":,=?x1 \n\xc3\xa9recordis".to_vec()), 0..300), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        for format in [Format::Xml, Format::Ndjson, Format::Json, Format::Csv] {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
            cuts.sort_unstable();
            let whole = decode_cut(format, &body, &[], 8192).ok();
            let cut = decode_cut(format, &body, &cuts, 8192).ok();
            prop_assert_eq!(whole, cut);
        }
    }
}
