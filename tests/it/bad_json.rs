//! Bad JSON bodies, by the ids of the list; `bad_decode.rs` says what was chosen.

use api2bq::decode::Options;
use api2bq::schema::{Column, ColumnType, Columns, Format, Mode};

use crate::bad_decode::Outcome::{Fails, Rejects, Rows};
use crate::bad_decode::{Seen, any_way, check, check_with, j, src_of};

/// J with `what` in the place of the protocol's value.
fn protocol(what: &str) -> String {
    j(2).replace("\"protocol\":6", &format!("\"protocol\":{what}"))
}

fn src(what: &str) -> String {
    j(2).replace("\"C1065\"", what)
}

#[test]
fn json_records() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let unknown = |what: &str| j(2).replace("\"time\"", &format!("\"x\":{what},\"time\""));
    let table: Vec<(&str, String, Option<&'static str>)> = vec![
        ("J11", unknown(&nested(100_000)), Some("depth")),
        ("J11 objects", unknown(&format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100))), Some("depth")),
        ("J11 at the limit", unknown(&nested(63)), None),
        ("J11 brackets in a text are none", src(&format!("\"{}\"", "[".repeat(1000))), None),
        ("J16", protocol("9007199254740993"), None),
        ("J17", protocol("9223372036854775808"), Some("int_overflow:protocol")),
        ("J17 below", protocol("-9223372036854775809"), Some("int_overflow:protocol")),
        ("J17 text", protocol("\"15\""), None),
        ("J17 long text", protocol("\"9223372036854775808\""), Some("int_overflow:protocol")),
        ("J17 exponent", protocol("1e3"), Some("not_an_integer:protocol")),
        ("J17 fraction", protocol("1.0"), Some("not_an_integer:protocol")),
        ("J18", protocol(&"9".repeat(1_000_000)), Some("number_too_long:protocol")),
        (
            "J18 as text",
            protocol(&format!("\"{}\"", "9".repeat(1_000_000))),
            Some("number_too_long:protocol"),
        ),
        ("J18 in a STRING", src(&"9".repeat(1_000_000)), None),
        ("J18 unknown", unknown(&"9".repeat(1_000_000)), None),
        ("J19", src(r#""\ud800""#), Some("lone_surrogate:src_comp")),
        ("J19 low", src(r#""\udc00x""#), Some("lone_surrogate:src_comp")),
        ("J19 two high", src(r#""\ud800\ud800""#), Some("lone_surrogate:src_comp")),
        ("J19 pair", src(r#""\ud83d\ude00""#), None),
        ("J19 NUL is a character", src(r#""\u0000""#), None),
        ("J25", protocol("null"), Some("null_in_required:protocol")),
        ("J25 absent", j(2).replace("\"protocol\":6,", ""), Some("missing_field:protocol")),
        ("J25 no fields", "{}".into(), Some("missing_field:id")),
        ("J26", protocol("true"), Some("type_mismatch:protocol")),
        ("J26 object", src("{}"), Some("type_mismatch:src_comp")),
        ("J26 array", src("[1]"), Some("type_mismatch:src_comp")),
        ("J26 bool", src("false"), Some("type_mismatch:src_comp")),
        ("J26 number in a STRING", src("27"), None),
        ("J27", "42".into(), Some("not_an_object")),
        ("J27 text", "\"x\"".into(), Some("not_an_object")),
        ("J27 text with a brace", "\"{\"".into(), Some("not_an_object")),
        ("J27 null", "null".into(), Some("not_an_object")),
        ("J27 arrays", "[[]]".into(), Some("not_an_object")),
        ("J27 array of records", format!("[{}]", j(2)), Some("not_an_object")),
        ("J30", protocol("\"six\""), Some("type_mismatch:protocol")),
        ("J30 empty", protocol("\"\""), Some("type_mismatch:protocol")),
        ("duplicate key", protocol("6,\"protocol\":6"), Some("duplicate_field:protocol")),
        ("duplicate key by escape", protocol(r#"6,"pr\u006ftocol":6"#), Some("duplicate_field:protocol")),
        ("duplicate key of no column", unknown("1,\"x\":2"), None),
        ("white space", j(2).replace(',', " \t,\r").replace(':', " :\t"), None),
    ];
    let (first, last) = (j(1), j(3));
    for (id, record, reason) in &table {
        let lines = format!("{first}\n{record}\n{last}\n");
        let array = format!("[{first},\n{record}\n, {last}]");
        let sequence = format!("{first} {record}\n{last}");
        for (format, body) in [(Format::Ndjson, lines), (Format::Json, array), (Format::Json, sequence)] {
            // In a sequence an array at the start would be the array of records; here it is not.
            match reason {
                None => check(id, format, body.as_bytes(), &Rows(3)),
                // Only a newline is a safe place to go on behind what is no JSON.
                Some("json_syntax") if format == Format::Json => {
                    check(id, format, body.as_bytes(), &Fails("json_syntax"))
                }
                Some(reason) => check(id, format, body.as_bytes(), &Rejects(2, vec![*reason])),
            };
        }
    }
}

/// Not JSON at all: a line is rejected, anything else fails.
#[test]
fn json_syntax() {
    let good = j(1);
    for (id, wrong) in [
        ("J22", src("\"a\tb\"")),
        ("J22 other", src("\"a\u{1}b\"")),
        ("J08 mark", format!("\u{feff}{good}")),
        ("brackets", src("[}")),
        ("comma", j(1).replace(",\"time\"", ",,\"time\"")),
        ("comma at the end", j(1).replace('}', ",}")),
        ("single quotes", j(1).replace('"', "'")),
        ("leading zero", protocol("06")),
        ("plus", protocol("+6")),
        ("NaN", protocol("NaN")),
        ("hexadecimal", protocol("0x10")),
        ("bare point", protocol("6.")),
        ("wrong escape", src(r#""\x41""#)),
        ("short escape", src(r#""\u12""#)),
        ("comment", j(1).replace('{', "{/* a */")),
        ("two on a line without a break", format!("{good},{good}")),
        ("word", "nonsense".into()),
        ("J10 unclosed", "{\"a\":[".repeat(3)),
    ] {
        let lines = format!("{good}\n{wrong}\n{good}\n");
        check(id, Format::Ndjson, lines.as_bytes(), &Rejects(2, vec!["json_syntax"]));
        let array = format!("[{good},{wrong}]");
        let seen =
            any_way(id, Format::Json, &crate::bad_decode::flows(), &Options::default(), array.as_bytes());
        match id {
            // In an array these are two records.
            "two on a line without a break" => assert_eq!(seen.rows.len(), 3),
            _ => assert!(seen.error.is_some(), "{id}: {seen:?}"),
        }
    }
    let wrong = [
        format!("{good}\n").as_bytes(),
        &j(1).into_bytes().split_last().expect("long").1[..20],
        b"\xc0\xaf\"}\n",
    ]
    .concat();
    check("invalid UTF-8", Format::Ndjson, &wrong, &Rejects(1, vec!["invalid_utf8"]));
}

#[test]
fn json_bodies() {
    let (a, b, c) = (j(1), j(2), j(3));
    let deep = "[".repeat(100_000);
    let closed = format!("{deep}{}", "]".repeat(100_000));
    for (id, format, body, outcome) in [
        ("J01", Format::Ndjson, format!("{a}\n{b}\n{c}"), Rows(3)),
        ("J01 CRLF and empty lines", Format::Ndjson, format!("\r\n{a}\r\n\n \t\n{b}\r\n{c}\r\n\n"), Rows(3)),
        ("J01 empty", Format::Ndjson, String::new(), Rows(0)),
        ("J01 carriage returns only", Format::Ndjson, format!("{a}\r{b}"), Rejects(0, vec!["json_syntax"])),
        ("J03 last line cut", Format::Ndjson, format!("{a}\n{}", &b[..40]), Rejects(1, vec!["json_syntax"])),
        ("J04", Format::Json, format!("[{a},{b}"), Fails("unclosed_array")),
        ("J04 comma", Format::Json, format!("[{a},"), Fails("unclosed_array")),
        ("J04 in a record", Format::Json, format!("[{a},{{\"id\":"), Fails("unclosed_array")),
        ("J04 in a number", Format::Json, format!("[{a}, 4"), Fails("unclosed_array")),
        ("J04 in a sequence", Format::Json, format!("{a}{{\"id\":"), Fails("truncated")),
        ("J04 in a text", Format::Json, "\"abc".into(), Fails("truncated")),
        ("J04 comma before the end", Format::Json, format!("[{a},]"), Fails("json_syntax")),
        ("J04 no comma", Format::Json, format!("[{a} {b}]"), Fails("json_syntax")),
        ("J04 two arrays", Format::Json, format!("[{a}][{b}]"), Fails("json_syntax")),
        ("J04 garbage behind", Format::Json, format!("[{a}]\0"), Fails("json_syntax")),
        ("J04 other bracket", Format::Json, format!("[{a}}}"), Fails("json_syntax")),
        ("J08", Format::Ndjson, format!("\u{feff}{a}\n{b}\n"), Rows(2)),
        ("J08 array", Format::Json, format!("\u{feff}[{a}]"), Rows(1)),
        ("J08 later", Format::Ndjson, format!("{a}\n\u{feff}{b}\n{c}"), Rejects(2, vec!["json_syntax"])),
        ("J08 later in an array", Format::Json, format!("[{a},\u{feff}{b}]"), Fails("json_syntax")),
        ("J10", Format::Json, deep.clone(), Fails("unclosed_array")),
        ("J10 line", Format::Ndjson, format!("{deep}\n{a}"), Rejects(1, vec!["depth"])),
        ("J10 closed line", Format::Ndjson, format!("{closed}\n{a}"), Rejects(1, vec!["depth"])),
        ("J10 closed", Format::Json, closed, Rejects(0, vec!["depth"])),
        ("J27 number", Format::Json, "42".into(), Rejects(0, vec!["not_an_object"])),
        ("J27 text", Format::Json, "\"x\"".into(), Rejects(0, vec!["not_an_object"])),
        ("J27 null", Format::Json, " null\n".into(), Rejects(0, vec!["not_an_object"])),
        ("J27 arrays", Format::Json, "[[]]".into(), Rejects(0, vec!["not_an_object"])),
        ("J27 mixed", Format::Json, format!("[1,{a},\"]\",true]"), Rejects(1, vec!["not_an_object"; 3])),
        ("J27 word", Format::Json, "nonsense".into(), Fails("json_syntax")),
        ("J27 markup", Format::Json, "<html>".into(), Fails("json_syntax")),
        ("UTF-16", Format::Ndjson, "{\0}\0".into(), Fails("unsupported_encoding:utf-16")),
    ] {
        check(id, format, body.as_bytes(), &outcome);
    }
    for (id, body) in
        [("UTF-16 mark", &b"\xff\xfe{\0"[..]), ("UTF-16 big", b"\0{\0}"), ("mark", b"\xfe\xff\0{")]
    {
        for format in [Format::Json, Format::Ndjson, Format::Csv] {
            check(id, format, body, &Fails("unsupported_encoding:utf-16"));
        }
    }
}

/// J15, J16 and J32: numbers are read as they are written.
#[test]
fn json_numbers_are_exact() {
    let column = |name: &str, kind| Column { name: name.into(), kind, mode: Mode::Nullable, path: None };
    let columns = [
        column("i", ColumnType::Int64),
        column("f", ColumnType::Float64),
        column("n", ColumnType::Numeric),
        column("s", ColumnType::String),
    ];
    let columns = Columns::new(columns.to_vec()).expect("legal");
    let read = |field: &str, value: &str| -> Seen {
        let body = format!("{{\"{field}\":{value}}}");
        any_way(value, Format::Ndjson, &columns, &Options::default(), body.as_bytes())
    };
    for (field, value, shown) in [
        ("i", "9007199254740993", "9007199254740993"),
        ("i", "-0", "0"),
        ("i", "\"-9223372036854775808\"", "-9223372036854775808"),
        ("f", "-0", "-0.0"),
        ("f", "-0.0", "-0.0"),
        ("f", "0.1", "0.1"),
        ("f", "1E-7", "1e-7"),
        ("f", "9007199254740993", "9007199254740992.0"),
        ("f", "1e-400", "0.0"),
        ("f", "\"NaN\"", "NaN"),
        ("f", "\"inf\"", "inf"),
        ("n", "-0.0", "0.000000000"),
        ("n", "0.1", "0.100000000"),
        ("n", "1E-7", "0.000000100"),
        ("n", "12345678901234567890123456789.123456789", "12345678901234567890123456789.123456789"),
        ("s", "-0", "-0"),
        ("s", "1E-7", "1E-7"),
        ("s", "0.10", "0.10"),
    ] {
        let seen = read(field, value);
        let index = ["i", "f", "n", "s"].iter().position(|name| *name == field).expect("a column");
        assert_eq!(
            seen.rows,
            [(0..4).map(|i| (i == index).then(|| shown.to_owned())).collect::<Vec<_>>()],
            "{value}"
        );
    }
    for (field, value, reason) in [
        ("f", "1e400", "float_overflow:f"),
        ("f", "-1e400", "float_overflow:f"),
        ("n", "1e400", "numeric_overflow:n"),
        ("n", "1e-400", "numeric_scale:n"),
        ("i", "1e400", "not_an_integer:i"),
        ("f", "\"one\"", "type_mismatch:f"),
        ("f", &format!("0.{}", "1".repeat(1_000_000)), "number_too_long:f"),
        ("n", &"1".repeat(1_000_000), "number_too_long:n"),
    ] {
        assert_eq!(read(field, value).rejects, [(0, 1, 1, reason.to_owned())]);
    }
}

#[test]
fn json_notices_say_what_changed() {
    let lines =
        format!("{}{}\n{}\n", format!("{}\n", j(1)).repeat(100), protocol("\"6\""), protocol("\"17\""));
    let seen = check("J30", Format::Ndjson, lines.as_bytes(), &Rows(102));
    let told: Vec<_> = seen.notices.iter().map(|n| (n.what.as_str(), n.first_record)).collect();
    assert_eq!(told, [("type_change:protocol", 101)]);
    assert_eq!(seen.rows[101][7].as_deref(), Some("17"));

    let flags = j(2).replace("\"time\"", "\"flags\":[1],\"time\"");
    let lines = format!("{}\n{flags}\n{flags}", j(1));
    let seen = check("X56", Format::Ndjson, lines.as_bytes(), &Rows(3));
    assert_eq!((seen.notices[0].what.as_str(), seen.notices[0].count), ("new_field:flags", 2));
    let strict = Options { strict_schema: true, ..Options::default() };
    check_with("X56 strict", Format::Ndjson, &strict, lines.as_bytes(), &Fails("schema_drift"));
    check_with("X56 strict", Format::Json, &strict, lines.as_bytes(), &Fails("schema_drift"));
}

#[test]
fn json_rejects_have_a_place() {
    let wrong = protocol("true");
    let reasons = || vec!["type_mismatch:protocol"; 2];
    let lines = format!("\u{feff}{wrong}\r\n\n{}\n{wrong}", j(1));
    let seen = check("lines", Format::Ndjson, lines.as_bytes(), &Rejects(1, reasons()));
    let at = lines.rfind(&wrong).expect("inside") as u64;
    assert_eq!(seen.rejects.iter().map(|r| (r.0, r.1, r.2)).collect::<Vec<_>>(), [(3, 1, 1), (at, 4, 1)]);
    let array = format!("[\n  {wrong},\n{},\t{wrong}]", j(1).replace(',', ",\n"));
    let seen = check("array", Format::Json, array.as_bytes(), &Rejects(1, reasons()));
    let at = array.rfind(&wrong).expect("inside");
    let line = array[..at].matches('\n').count() as u64 + 1;
    let column = (at - array[..at].rfind('\n').expect("lines")) as u64;
    assert_eq!(
        seen.rejects.iter().map(|r| (r.0, r.1, r.2)).collect::<Vec<_>>(),
        [(4, 2, 3), (at as u64, line, column)]
    );
    assert_eq!(src_of(&seen, 0), "C1065");
}
