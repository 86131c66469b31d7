use datafusion::arrow::array::{Array, AsArray};
use serde_json::json;

use super::*;
use crate::emulator::encode::{Rows, TimestampFormat};
use crate::emulator::fields::parse_schema;

fn fields(documents: Value) -> Vec<Field> {
    parse_schema(json!({"fields": documents}).as_object().unwrap()).unwrap()
}

fn coerced(fields: &[Field], row: &Value, form: Form) -> Result<Vec<Cell>, Wrong> {
    let defaults = Defaults::of(fields).unwrap();
    Coercer { fields, defaults: &defaults, ignore_unknown: false, form }.row(row.as_object().unwrap())
}

/// What tabledata.list answers after `value` went into a column of this type.
fn round_trip(column: Value, value: Value, form: Form) -> Result<Value, String> {
    let mut column = column;
    column["name"] = json!("x");
    let fields = fields(json!([column]));
    let cells = coerced(&fields, &json!({"x": value}), form).map_err(|e| e.message)?;
    let mut builder = RowsBuilder::new(&fields);
    builder.push(&cells, 0);
    let batch = builder.take().unwrap();
    let mut rows = Rows::new();
    rows.push(&batch, TimestampFormat::Int64);
    let listed: Value = serde_json::from_slice(&rows.finish().concat()).unwrap();
    Ok(listed[0]["f"][0]["v"].clone())
}

#[test]
fn every_kind_at_its_limits_comes_back_as_bigquery_writes_it() {
    let nines = |count: usize| "9".repeat(count);
    let cases = [
        ("INT64", json!("-9223372036854775808"), json!("-9223372036854775808")),
        ("INT64", json!(9_223_372_036_854_775_807_i64), json!("9223372036854775807")),
        ("INT64", json!(3.0), json!("3")),
        ("FLOAT64", json!("-inf"), json!("-Infinity")),
        ("FLOAT64", json!("NaN"), json!("NaN")),
        ("FLOAT64", json!("1.5"), json!("1.5")),
        ("BOOL", json!("FALSE"), json!("false")),
        ("BOOL", json!(true), json!("true")),
        ("STRING", json!(12), json!("12")),
        ("STRING", json!("é\n"), json!("é\n")),
        ("BYTES", json!("DQo=\n"), json!("DQo=")),
        ("BYTES", json!("-_8"), json!("+/8=")),
        ("DATE", json!("0001-01-01"), json!("0001-01-01")),
        ("DATE", json!("9999-12-31"), json!("9999-12-31")),
        ("DATETIME", json!("9999-12-31 23:59:59.999999"), json!("9999-12-31T23:59:59.999999")),
        ("TIME", json!("11:41:43.07616"), json!("11:41:43.076160")),
        ("TIMESTAMP", json!("0001-01-01T00:00:00Z"), json!("-62135596800000000")),
        ("TIMESTAMP", json!("2024/01/02 03:04:05 UTC"), json!("1704164645000000")),
        ("TIMESTAMP", json!(1704164645.5), json!("1704164645500000")),
        ("TIMESTAMP", json!("1704164645"), json!("1704164645000000")),
        (
            "NUMERIC",
            json!("9.9999999999999999999999999999999999999E+28"),
            json!(format!("{}.{}", nines(29), nines(9))),
        ),
        ("NUMERIC", json!("0.0000000005"), json!("0.000000001")),
        ("NUMERIC", json!("-0.0000000004"), json!("0")),
        (
            "BIGNUMERIC",
            json!("-0.00000000000000000000000000000000000001"),
            json!("-0.00000000000000000000000000000000000001"),
        ),
        ("BIGNUMERIC", json!(format!("9.{}E+37", nines(75))), json!(format!("{}.{}", nines(38), nines(38)))),
        ("GEOGRAPHY", json!("POINT(-135.0000 90.0000)"), json!("POINT(-135 90)")),
        ("GEOGRAPHY", json!("polygon ((0 0,1 0,1 1,0 0))"), json!("POLYGON((0 0, 1 0, 1 1, 0 0))")),
        ("INTERVAL", json!("P7Y11M9DT4H15M37.123456S"), json!("7-11 9 4:15:37.123456")),
        ("INTERVAL", json!("P-10000Y0M-3660000DT-87840000H0M0S"), json!("-10000-0 -3660000 -87840000:0:0")),
        ("INTERVAL", json!("1-2 3 4:5:6.5"), json!("1-2 3 4:5:6.500")),
    ];
    for (kind, given, expected) in cases {
        for form in [Form::Load, Form::Insert] {
            let found = round_trip(json!({"type": kind}), given.clone(), form);
            assert_eq!(found, Ok(expected.clone()), "{kind} {given}");
            assert_eq!(round_trip(json!({"type": kind}), Value::Null, form), Ok(Value::Null), "{kind}");
        }
    }
    let range = json!({"type": "RANGE", "rangeElementType": {"type": "DATE"}});
    let open = json!({"start": "2020-01-01", "end": null});
    assert_eq!(round_trip(range.clone(), open, Form::Insert), Ok(json!("[2020-01-01, UNBOUNDED)")));
    let text = json!("[2020-01-01, 2020-02-01)");
    assert_eq!(round_trip(range.clone(), text.clone(), Form::Load), Ok(text));
    assert!(round_trip(range, json!("[2020-02-01, 2020-01-01)"), Form::Load).is_err());
}

#[test]
fn what_is_out_of_range_or_of_another_kind_is_refused() {
    for (kind, given) in [
        ("INT64", json!("9223372036854775808")),
        ("INT64", json!(1.5)),
        ("INT64", json!(true)),
        ("FLOAT64", json!("1e999")),
        ("BOOL", json!("maybe")),
        ("BYTES", json!("!")),
        ("DATE", json!("2023-02-29")),
        ("DATE", json!("10000-01-01")),
        ("TIME", json!("24:00:00")),
        ("TIMESTAMP", json!("2024-01-02T00:00:00.1234567Z")),
        ("TIMESTAMP", json!("9999-12-31 23:59:59-01:00")),
        ("TIMESTAMP", json!("253402300800")),
        ("NUMERIC", json!("1e29")),
        ("NUMERIC", json!("1e2000000000")),
        ("NUMERIC", json!("")),
        ("NUMERIC", json!("1.2.3")),
        ("BIGNUMERIC", json!("1e39")),
        ("GEOGRAPHY", json!("POINT(181 0)")),
        ("GEOGRAPHY", json!("POINT(1 2")),
        ("INTERVAL", json!("P")),
        ("INTERVAL", json!("P10001Y")),
        ("INTERVAL", json!("1-2 3")),
    ] {
        for form in [Form::Load, Form::Insert] {
            let found = round_trip(json!({"type": kind}), given.clone(), form);
            assert!(found.is_err(), "{kind} {given} became {found:?}");
        }
    }
}

#[test]
fn types_with_parameters_hold_their_values_to_them() {
    let text = json!({"type": "STRING", "maxLength": "3"});
    assert_eq!(round_trip(text.clone(), json!("äöü"), Form::Insert), Ok(json!("äöü")));
    let long = round_trip(text, json!("abcd"), Form::Insert).unwrap_err();
    assert_eq!(long, "STRING(3) has maximum length 3 but got a value with length 4.");
    let number = json!({"type": "NUMERIC", "precision": "5", "scale": "2"});
    assert_eq!(round_trip(number.clone(), json!("123.455"), Form::Insert), Ok(json!("123.46")));
    assert!(round_trip(number.clone(), json!("999.995"), Form::Insert).unwrap_err().contains("not in range"));
    let mut even = number;
    even["roundingMode"] = json!("ROUND_HALF_EVEN");
    assert_eq!(round_trip(even, json!("123.445"), Form::Insert), Ok(json!("123.44")));
}

#[test]
fn json_is_taken_as_it_is_from_files_and_as_text_from_inserts() {
    let json_column = json!({"type": "JSON"});
    let load = |value: Value| round_trip(json_column.clone(), value, Form::Load).unwrap();
    assert_eq!(load(json!({"b": [1, 2.5]})), json!("{\"b\":[1,2.5]}"));
    assert_eq!(load(json!([1, 2])), json!("[1,2]"));
    assert_eq!(load(json!("text")), json!("\"text\""));
    let insert = |value: Value| round_trip(json_column.clone(), value, Form::Insert);
    assert_eq!(insert(json!("{\"a\" : 1}")), Ok(json!("{\"a\":1}")));
    assert_eq!(insert(json!({"a": 1})).unwrap_err(), "This field: x is not a record.");
    assert!(insert(json!("text")).is_err());
}

#[test]
fn rows_nest_repeat_and_are_refused_where_they_are_wrong() {
    let fields = fields(json!([
        {"name": "id", "type": "INT64", "mode": "REQUIRED"},
        {"name": "tags", "type": "STRING", "mode": "REPEATED"},
        {"name": "r", "type": "RECORD", "fields": [
            {"name": "n", "type": "INT64"},
            {"name": "m", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "d", "type": "DATE"}]},
        ]},
    ]));
    let row = json!({"ID": 1, "tags": ["a", "b"], "r": {"n": "2", "m": [{"d": "2024-01-02"}, {}]}});
    let cells = coerced(&fields, &row, Form::Load).unwrap();
    let mut builder = RowsBuilder::new(&fields);
    builder.push(&cells, 0);
    builder.push(&coerced(&fields, &json!({"id": 2}), Form::Load).unwrap(), 0);
    let batch = builder.take().unwrap();
    assert_eq!(batch.column(1).as_list::<i32>().value_length(1), 0);
    assert!(batch.column(2).is_null(1));
    let mut rows = Rows::new();
    rows.push(&batch, TimestampFormat::Float);
    let listed: Value = serde_json::from_slice(&rows.finish().concat()).unwrap();
    let record = json!({"f": [{"v": "2"}, {"v": [
        {"v": {"f": [{"v": "2024-01-02"}]}}, {"v": {"f": [{"v": null}]}},
    ]}]});
    assert_eq!(listed[0]["f"][2]["v"], record);

    let wrong = |row: Value, form: Form| {
        let wrong = coerced(&fields, &row, form).unwrap_err();
        (wrong.location, wrong.message)
    };
    for (row, location, message) in [
        (json!({"id": 1, "zzz": 2}), "zzz", "no such field: zzz."),
        (json!({"id": "not-a-number"}), "id", "Cannot convert value to integer (bad value): not-a-number"),
        (json!({}), "id", "Missing required field: id."),
        (json!({"id": 1, "r": {"q": 1}}), "r.q", "no such field: q."),
        (
            json!({"id": 1, "tags": [null]}),
            "tags",
            "Only optional fields can be set to NULL. Field: tags; Value: NULL",
        ),
        (json!({"id": [1]}), "id", "Array specified for non-repeated field: id."),
        (json!({"id": {"a": 1}}), "id", "This field: id is not a record."),
    ] {
        assert_eq!(wrong(row, Form::Insert), (location.to_owned(), message.to_owned()));
    }
    assert_eq!(wrong(json!({"id": 1, "zzz": 2}), Form::Load).1, "No such field: zzz.");
}

#[test]
fn a_missing_column_gets_its_default_and_an_explicit_null_stays() {
    let fields = fields(json!([
        {"name": "a", "type": "INT64", "defaultValueExpression": "-7"},
        {"name": "b", "type": "STRING", "defaultValueExpression": "'x'"},
        {"name": "c", "type": "TIMESTAMP", "defaultValueExpression": "CURRENT_TIMESTAMP()"},
        {"name": "d", "type": "DATE", "defaultValueExpression": "DATE '2024-01-02'"},
        {"name": "e", "type": "STRING", "mode": "REPEATED", "defaultValueExpression": "[]"},
    ]));
    let cells = coerced(&fields, &json!({"b": null}), Form::Insert).unwrap();
    assert_eq!((&cells[0], &cells[1], &cells[3]), (&Cell::Int(-7), &Cell::Null, &Cell::Days(19_724)));
    assert!(matches!(cells[2], Cell::Int(us) if us > 1_700_000_000_000_000));
    let mut unknown = fields;
    unknown[0].rest["defaultValueExpression"] = json!("RAND()");
    assert_eq!(Defaults::of(&unknown).unwrap_err().code, 501);
}

#[test]
fn shapes_come_out_of_well_known_binary() {
    let point = [&[1, 1, 0, 0, 0][..], &1.0_f64.to_le_bytes(), &(-2.5_f64).to_le_bytes()].concat();
    assert_eq!(from_wkb(&point).as_deref(), Some("POINT(1 -2.5)"));
    let multi = [&[0, 0, 0, 0, 4, 0, 0, 0, 2][..], &point, &point].concat();
    assert_eq!(from_wkb(&multi).as_deref(), Some("MULTIPOINT(1 -2.5, 1 -2.5)"));
    let ring = [1.0_f64, 1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 1.0].map(f64::to_be_bytes).concat();
    let polygon = [&[0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 4][..], &ring].concat();
    assert_eq!(from_wkb(&polygon).as_deref(), Some("POLYGON((1 1, 2 1, 2 2, 1 1))"));
    for cut in 0..polygon.len() {
        assert_eq!(from_wkb(&polygon[..cut]), None, "cut at {cut}");
    }
    assert_eq!(from_wkb(&[1, 2, 0, 0, 0, 255, 255, 255, 255]), None);
}
