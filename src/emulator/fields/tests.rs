use serde_json::json;

use super::*;

fn parse(schema: Value) -> Outcome<Vec<Field>> {
    parse_schema(schema.as_object().unwrap())
}

#[test]
fn both_spellings_come_back_as_the_legacy_one() {
    let fields = parse(json!({"fields": [
        {"name": "a", "type": "INT64", "mode": "REQUIRED", "description": "d"},
        {"name": "r", "type": "STRUCT", "mode": "REPEATED", "fields": [{"name": "x", "type": "float"}]},
    ]}))
    .unwrap();
    let expected = json!([
        {"name": "a", "type": "INTEGER", "mode": "REQUIRED", "description": "d"},
        {"name": "r", "type": "RECORD", "mode": "REPEATED",
         "fields": [{"name": "x", "type": "FLOAT", "mode": "NULLABLE"}]},
    ]);
    assert_eq!(documents(&fields), expected);
    let again = fields_of(&arrow_schema(&fields)).unwrap();
    assert_eq!(again[1], fields[1]);
}

#[test]
fn what_cannot_be_kept_is_refused_by_name() {
    assert_eq!(parse(json!({"fields": [{"name": "j", "type": "RANGE"}]})).unwrap_err().code, 400);
    assert_eq!(parse(json!({"fields": [{"name": "j", "type": "TEXT"}]})).unwrap_err().code, 400);
    assert!(parse(json!({"fields": [{"name": "_PARTITIONTIME", "type": "DATE"}]})).is_err());
    let twice = json!({"fields": [{"name": "a", "type": "DATE"}, {"name": "A", "type": "DATE"}]});
    assert!(parse(twice).unwrap_err().message.contains("already exists"));
}

#[test]
fn kinds_that_arrow_lacks_come_back_from_its_metadata() {
    let schema = json!([
        {"name": "j", "type": "JSON", "mode": "NULLABLE"},
        {"name": "g", "type": "GEOGRAPHY", "mode": "REPEATED"},
        {"name": "i", "type": "INTERVAL", "mode": "NULLABLE"},
        {"name": "r", "type": "RANGE", "mode": "NULLABLE", "rangeElementType": {"type": "DATE"}},
        {"name": "s", "type": "RECORD", "mode": "REPEATED", "fields": [
            {"name": "t", "type": "RANGE", "mode": "NULLABLE", "rangeElementType": {"type": "TIMESTAMP"}},
        ]},
    ]);
    let fields = parse(json!({"fields": schema})).unwrap();
    assert_eq!(documents(&fields), schema);
    assert_eq!(fields_of(&arrow_schema(&fields)).unwrap(), fields);
}

#[test]
fn parameters_of_a_type_must_fit_it() {
    let limits = |document: Value| parse(json!({"fields": [document]})).map(|fields| fields[0].limits());
    let text = limits(json!({"name": "a", "type": "STRING", "maxLength": "5"})).unwrap();
    assert_eq!(text.max_length, Some(5));
    let number = limits(json!({"name": "a", "type": "NUMERIC", "precision": "5", "scale": 2})).unwrap();
    assert_eq!((number.precision, number.scale), (Some(5), Some(2)));
    for wrong in [
        json!({"name": "a", "type": "DATE", "maxLength": "5"}),
        json!({"name": "a", "type": "STRING", "maxLength": "0"}),
        json!({"name": "a", "type": "NUMERIC", "precision": "39"}),
        json!({"name": "a", "type": "NUMERIC", "scale": "2"}),
        json!({"name": "a", "type": "NUMERIC", "precision": "2", "scale": "3"}),
        json!({"name": "a", "type": "TIMESTAMP", "timestampPrecision": "12"}),
        json!({"name": "a", "type": "NUMERIC", "roundingMode": "UP"}),
    ] {
        assert_eq!(limits(wrong.clone()).unwrap_err().code, 400, "{wrong}");
    }
}

/// A RECORD in a RECORD, `levels` of them, as a schema.
fn nested(levels: usize, mode: &str) -> Value {
    let leaf = json!({"name": "leaf", "type": "INT64"});
    let wrap = |inner: Value, _| json!({"name": "r", "type": "RECORD", "mode": mode, "fields": [inner]});
    json!({"fields": [(0..levels).fold(leaf, wrap)]})
}

#[test]
fn records_nest_fifteen_deep() {
    for mode in ["NULLABLE", "REPEATED"] {
        let fields = parse(nested(15, mode)).unwrap();
        assert!(fields_of(&arrow_schema(&fields)).is_ok());
        let refused = parse(nested(16, mode)).unwrap_err();
        assert!(refused.message.contains("field r nests RECORDs more than 15 levels"), "{}", refused.message);
        // A table that an earlier release made can still be opened.
        let kept = nested(16, mode)["fields"][0].take();
        let kept: Field = serde_json::from_value(kept).unwrap();
        assert!(fields_of(&arrow_schema(&[kept])).is_err());
    }
}
