//! `api2bq table rows`: every type in every format, parts of a table, and a million rows at flat memory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float64Type, Int64Type, Schema,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::ipc::reader::StreamReader;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::embedded::rest;
use crate::table::Session;

/// Loads a file of this machine and waits for the end.
#[track_caller]
pub fn load(session: &Session, table: &str, file: &Path, format: &str, fields: &Value) {
    let url = &session.emulator.url;
    let dataset = json!({ "datasetReference": { "datasetId": "d", "projectId": "api2gbq" } });
    rest(url, "POST", "datasets", Some(dataset));
    let load = json!({
        "destinationTable": { "projectId": "api2gbq", "datasetId": "d", "tableId": table },
        "sourceUris": [format!("file://{}", file.display())],
        "sourceFormat": format,
        "schema": { "fields": fields },
    });
    let job = json!({ "configuration": { "load": load } });
    let (status, mut job) = rest(url, "POST", "jobs", Some(job));
    assert_eq!(status, 200, "{job}");
    let id = job["jobReference"]["jobId"].as_str().expect("an id").to_owned();
    while job["status"]["state"] != "DONE" {
        job = rest(url, "GET", &format!("jobs/{id}"), None).1;
    }
    assert!(job["status"]["errorResult"].is_null(), "{job}");
}

/// A column of every type at its limits, and a row of nothing.
fn with_every_type() -> Session {
    let session = Session::new();
    let fields = json!([
        { "name": "i", "type": "INT64" },
        { "name": "f", "type": "FLOAT64" },
        { "name": "b", "type": "BOOL" },
        { "name": "s", "type": "STRING" },
        { "name": "by", "type": "BYTES" },
        { "name": "d", "type": "DATE" },
        { "name": "dt", "type": "DATETIME" },
        { "name": "t", "type": "TIME" },
        { "name": "ts", "type": "TIMESTAMP" },
        { "name": "n", "type": "NUMERIC" },
        { "name": "bn", "type": "BIGNUMERIC" },
        { "name": "j", "type": "JSON" },
        { "name": "g", "type": "GEOGRAPHY" },
        { "name": "iv", "type": "INTERVAL" },
        { "name": "rg", "type": "RANGE", "rangeElementType": { "type": "TIMESTAMP" } },
        { "name": "tags", "type": "STRING", "mode": "REPEATED" },
        { "name": "r", "type": "RECORD", "fields": [
            { "name": "x", "type": "INT64" },
            { "name": "y", "type": "INT64", "mode": "REPEATED" },
        ] },
    ]);
    let rows = [
        json!({
            "i": "9223372036854775807", "f": 1.5, "b": true, "s": "comma, \"quote\"\nline|\ttab\\",
            "by": "AP8=", "d": "0001-01-01", "dt": "2024-01-31T23:59:59.5", "t": "23:59:59.999999",
            "ts": "2024-01-31 23:59:59.123456 UTC", "n": "-99999999999999999999999999999.999999999",
            "bn": "578960446186580977117854925043439539266.34992332820282019728792003956564819967",
            "j": { "a": [1, null], "b": "é" }, "g": "POINT(1 2)", "iv": "1-2 3 4:5:6",
            "rg": { "start": "2024-01-01 00:00:00 UTC", "end": null },
            "tags": ["a", "b"], "r": { "x": "1", "y": ["1", "2"] },
        }),
        json!({
            "i": "-9223372036854775808", "f": "-Infinity", "b": false, "s": "", "by": "",
            "d": "9999-12-31", "dt": "9999-12-31T23:59:59.999999", "t": "00:00:00",
            "ts": "0001-01-01 00:00:00 UTC", "n": "0.000000001", "bn": "-5", "j": "text", "r": { "y": [] },
        }),
        json!({}),
    ];
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let file = session.context.write("rows.ndjson", lines);
    load(&session, "every", &file, "NEWLINE_DELIMITED_JSON", &fields);
    session
}

#[test]
fn every_type_reads_the_same_in_every_text_format() {
    let mut session = with_every_type();
    for format in ["csv", "tsv", "json", "ndjson", "markdown"] {
        session.run(&["rows", "d.every", "--format", format]).success();
    }
    let table = ["rows", "d.every", "--format", "table", "--columns", "i,f,s,ts,bn,tags,r"];
    session.run(&table).success();
    insta::assert_snapshot!(session.shown());
}

#[test]
fn parquet_and_arrow_files_keep_every_type() {
    let session = with_every_type();
    for name in ["every.parquet", "every.arrow"] {
        session.at(&session.emulator.url, &["rows", "d.every", "--output", name]).success();
        let file = std::fs::File::open(session.context.path(name)).expect("a file");
        let batches: Vec<RecordBatch> = match name.ends_with("parquet") {
            true => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build();
                reader.expect("a reader").map(|batch| batch.expect("rows")).collect()
            }
            false => {
                let reader = StreamReader::try_new(file, None).expect("Arrow");
                reader.map(|batch| batch.expect("rows")).collect()
            }
        };
        let [rows] = &batches[..] else { panic!("{} batches", batches.len()) };
        let column = |name: &str| rows.column_by_name(name).unwrap_or_else(|| panic!("no {name}"));
        let nested = ["tags", "r"];
        assert!(
            rows.schema()
                .fields()
                .iter()
                .all(|f| nested.contains(&&**f.name()) || column(f.name()).is_null(2))
        );
        assert_eq!(column("i").as_primitive::<Int64Type>().values()[..2], [i64::MAX, i64::MIN]);
        assert_eq!(column("f").as_primitive::<Float64Type>().values()[..2], [1.5, f64::NEG_INFINITY]);
        assert_eq!([column("b").as_boolean().value(0), column("b").as_boolean().value(1)], [true, false]);
        assert_eq!(column("s").as_string::<i32>().value(1), "");
        assert_eq!(column("by").as_binary::<i32>().value(0), [0, 255]);
        assert_eq!(column("d").as_primitive::<Date32Type>().values()[..2], [-719_162, 2_932_896]);
        assert_eq!(column("dt").as_primitive::<TimestampMicrosecondType>().value(0), 1_706_745_599_500_000);
        assert_eq!(column("t").as_primitive::<Time64MicrosecondType>().value(0), 86_399_999_999);
        assert_eq!(column("ts").as_primitive::<TimestampMicrosecondType>().value(0), 1_706_745_599_123_456);
        assert_eq!(column("ts").data_type().to_string(), r#"Timestamp(µs, "UTC")"#);
        let numeric = column("n").as_primitive::<Decimal128Type>();
        assert_eq!(numeric.values()[..2], [-99_999_999_999_999_999_999_999_999_999_999_999_999, 1]);
        let big = column("bn").as_primitive::<Decimal256Type>();
        // The largest BIGNUMERIC: all of the 255 bits behind the sign.
        assert_eq!(big.value(0), arrow::datatypes::i256::MAX);
        assert_eq!(column("rg").as_string::<i32>().value(0), "[2024-01-01T00:00:00Z, UNBOUNDED)");
        let schema = rows.schema();
        let json = schema.field_with_name("j").expect("a field");
        assert_eq!(
            json.metadata().get("ARROW:extension:name").map(String::as_str),
            Some("google:sqlType:json")
        );
        assert_eq!(column("tags").as_list::<i32>().value(0).as_string::<i32>().value(1), "b");
        assert_eq!(column("tags").as_list::<i32>().value_length(2), 0);
        let record = column("r").as_struct();
        assert_eq!(record.column(0).as_primitive::<Int64Type>().value(0), 1);
        assert_eq!(record.column(1).as_list::<i32>().value_length(0), 2);
    }
}

#[test]
fn parts_of_a_table_and_what_is_none() {
    let mut session = Session::with_flows();
    session.run(&["rows", "LANL.flows_staging", "--count"]);
    session.run(&["rows", "LANL.flows_staging$20110101", "--count", "--format", "json"]);
    session.run(&["rows", "LANL.flows_staging$20110102", "--limit", "2", "--format", "ndjson"]);
    session.run(&[
        "rows",
        "LANL.flows_staging$20110101",
        "--limit",
        "1",
        "--start",
        "7",
        "--columns",
        "Protocol,id",
    ]);
    session.run(&["rows", "LANL.flows_staging", "--start", "100000"]);
    session.run(&["rows", "LANL.flows_staging", "--limit", "0", "--columns", "id"]);
    session.run(&["rows", "LANL.flows_staging", "--columns", "nothing"]);
    session.run(&["rows", "LANL.flows_staging", "--columns", "id.x"]);
    session.run(&["rows", "LANL.nothing"]);
    session.run(&["rows", "flows"]);
    session.run(&["rows", "LANL.flows_staging", "--output", "nowhere/rows.csv"]);
    session.run(&["rows", "LANL.flows_staging", "--count", "--limit", "1"]);
    session.run(&["rows", "LANL.flows_staging", "--format", "xml"]);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn a_file_appears_only_when_it_is_whole() {
    let session = with_every_type();
    let path = session.context.write("rows.csv", "old");
    // A page that cannot be read is the end, and the old file stays.
    let ended = session.at(&session.emulator.url, &["rows", "d.nothing", "--output", "rows.csv"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "old");
    session
        .at(&session.emulator.url, &["rows", "d.every", "--columns", "b", "--output", "rows.csv"])
        .success();
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "b\ntrue\nfalse\n\n");
    let names = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let left = names.filter(|f| f.as_ref().is_ok_and(|f| f.file_name().to_string_lossy().ends_with(".part")));
    assert_eq!(left.count(), 0);
}

/// A million rows of three columns in `d.many`.
fn with_a_million_rows() -> Session {
    let session = Session::new();
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("square", DataType::Int64, true),
    ]));
    let path = session.context.path("many.parquet");
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), None).expect("a writer");
    for start in (0..1_000_000_i64).step_by(50_000) {
        let ids = || start..start + 50_000;
        let id = Int64Array::from_iter_values(ids());
        let name = StringArray::from_iter_values(ids().map(|id| format!("name of {}", id % 977)));
        let square = Int64Array::from_iter_values(ids().map(|id| id * id));
        let columns = vec![Arc::new(id) as _, Arc::new(name) as _, Arc::new(square) as _];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        writer.write(&batch.expect("a batch")).expect("written");
    }
    writer.close().expect("closed");
    let field = |name: &str, kind: &str| json!({ "name": name, "type": kind });
    let fields = json!([field("id", "INT64"), field("name", "STRING"), field("square", "INT64")]);
    load(&session, "many", &path, "PARQUET", &fields);
    session
}

#[test]
fn a_million_rows_stream_at_flat_memory_and_a_closed_pipe_ends_quietly() {
    let session = with_a_million_rows();
    let rows = |limit: &str| {
        let arguments = ["table", "rows", "d.many", "--limit", limit, "--format", "csv"];
        let mut command = session.context.command(arguments);
        command.env("BIGQUERY_EMULATOR_HOST", &session.emulator.url);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    // The peak is read when the last page is there and is more than a pipe holds: the process still lives.
    let peak_of = |limit: &str| {
        let mut child = rows(limit);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (mut count, mut sum, mut peak) = (0_u64, 0_u64, 0_u64);
        assert_eq!(lines.next().expect("a header").expect("read"), "id,name,square");
        let limit: u64 = limit.parse().expect("a number");
        for line in lines {
            let line = line.expect("UTF-8");
            sum += line.split(',').next().expect("a cell").parse::<u64>().expect("an id");
            count += 1;
            if count + 20_000 == limit {
                let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
                let status = status.unwrap_or_default();
                let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                peak =
                    kilobytes.and_then(|kb| kb.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0);
            }
        }
        assert!(child.wait().expect("it ends").success());
        assert_eq!((count, sum), (limit, limit * (limit - 1) / 2));
        peak
    };
    let (small, large) = (peak_of("200000"), peak_of("1000000"));
    println!("peak of table rows: {small} kB for 200,000 rows, {large} kB for 1,000,000");
    assert!(large < small + 32 * 1024, "{small} kB for 200,000 rows, {large} kB for 1,000,000");

    let mut child = rows("1000000");
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut first).expect("a line");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((first.as_str(), output.status.code()), ("id,name,square\n", Some(0)));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
