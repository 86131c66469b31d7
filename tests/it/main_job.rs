//! The main job end to end, as separate processes, judged by Google's client and a Python oracle.

use std::path::Path;

use serde_json::Value;

use crate::context::{RawSource, TestContext, judge, python};

const REAL_ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/flows_real_rows.csv");
const FIRST10: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/flows_first10.xml");

/// Runs source, emulator, backfill and promote, then lets oracle and judge compare.
fn judged(rows: u32, days: u32, more: &[&str], by_query: bool) -> (Value, Value) {
    let context = TestContext::new();
    let (rows, to) = (rows.to_string(), days.to_string());
    let source = context.source(&["--rows", &rows, "--days", &to, "--duplicates", "0.03", "--seed", "7"]);
    let emulator = context.emulator();
    let summary = context.path("run.json");
    let mut arguments = vec!["--summary-json", summary.to_str().expect("UTF-8")];
    arguments.extend_from_slice(more);
    context.backfill(Some(&emulator), &source.flows(), days, &arguments).success();
    context.promote(&emulator).success();

    let more = if by_query { &["--by-query"][..] } else { &[] };
    let (oracle, verdict) = judge(&context, &source, &emulator, days, more);
    let verdict: Value = serde_json::from_str(&verdict).expect("JSON");
    assert_eq!(verdict["as_expected"], true);
    assert_eq!(verdict["without_filter"]["reason"], "invalidQuery");
    let summary = std::fs::read_to_string(summary).expect("the summary is written");
    let oracle = serde_json::from_str(&oracle).expect("JSON");
    (serde_json::from_str(&summary).expect("JSON"), oracle)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Invariant 4, per window and against a count by somebody else.
fn accounts_for_every_record(summary: &Value, oracle: &Value, rows: u64) {
    let mut records = 0;
    for (window, day) in
        summary["windows"].as_array().expect("windows").iter().zip(oracle["days"].as_array().expect("days"))
    {
        let counts = &window["counts"];
        assert_eq!(counts["records"], day["records"]);
        assert_eq!(counts["staged"], day["distinct_ids"]);
        assert_eq!(counts["duplicates"], day["duplicates"]);
        let parts = ["staged", "duplicates", "rejects", "filtered"].map(|part| number(&counts[part]));
        assert_eq!(number(&counts["records"]), parts.iter().sum::<u64>());
        assert_eq!(window["partitions"][0]["loaded"], counts["staged"]);
        records += number(&counts["records"]);
    }
    assert_eq!(records, rows);
    assert_eq!(summary["loaded"], summary["totals"]["staged"]);
}

#[test]
fn a_million_records_arrive_as_an_independent_count_says() {
    let (summary, oracle) = judged(1_000_000, 3, &[], true);
    accounts_for_every_record(&summary, &oracle, 1_000_000);
}

#[test]
fn every_row_of_a_hundred_thousand_is_the_latest_of_its_id() {
    let (summary, oracle) = judged(100_000, 4, &["--set", "source.format=ndjson", "--jobs", "3"], false);
    accounts_for_every_record(&summary, &oracle, 100_000);
}

#[test]
fn a_window_of_several_days_fills_several_partitions() {
    let (summary, oracle) = judged(30_000, 3, &["--window", "2d"], false);
    let windows = summary["windows"].as_array().expect("windows");
    assert_eq!(windows.len(), 2);
    assert_eq!(windows[0]["partitions"].as_array().expect("partitions").len(), 2);
    assert_eq!(windows[0]["partitions"][1]["loaded"], oracle["days"][1]["distinct_ids"]);
}

/// Rows of the CSV file as Google's client must give them.
fn csv_rows(path: &str, at_most: usize) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("in the repository");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let value = |name: &str, text: &str| match name {
        "src_comp" | "src_port" | "dst_comp" | "dst_port" => Value::from(text),
        _ => Value::from(text.parse::<i64>().expect("a number")),
    };
    let row =
        |line: &str| names.iter().zip(line.split(',')).map(|(n, t)| ((*n).to_owned(), value(n, t))).collect();
    lines.take(at_most).map(row).collect()
}

fn table(emulator: &crate::context::Running, name: &str) -> Vec<Value> {
    let rows = python("rows.py", &[&emulator.url, "api2gbq", &format!("LANL.{name}")]);
    rows.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_seeds_file_gives_ten_rows_with_every_value() {
    let context = TestContext::new();
    let emulator = context.emulator();
    context.backfill(Some(&emulator), FIRST10, 1, &[]).success();
    assert_eq!(table(&emulator, "flows_staging$20110101"), csv_rows(REAL_ROWS, 10));
}

#[test]
fn seventy_real_rows_are_the_same_table_from_xml_and_ndjson() {
    let tables = ["xml", "ndjson"].map(|format| {
        let context = TestContext::new();
        let source = context.source(&["--records", REAL_ROWS]);
        let emulator = context.emulator();
        let format = format!("source.format={format}");
        context.backfill(Some(&emulator), &source.flows(), 58, &["--set", &format]).success();
        context.promote(&emulator).success();
        table(&emulator, "flows")
    });
    assert_eq!(tables[0], csv_rows(REAL_ROWS, usize::MAX));
    assert_eq!(tables[0], tables[1]);
}

#[test]
fn every_format_packing_and_transport_stages_the_same_rows() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "20000", "--days", "2", "--seed", "3"]);
    let stage = |url: &str, name: &str, more: &[&str]| {
        let to = format!("stage.url={}", context.path(name).display());
        let mut arguments = vec!["--until", "stage", "--set", &to];
        arguments.extend_from_slice(more);
        context.backfill(None, url, 2, &arguments).success();
        context.staged(name)
    };
    let want = stage(&source.flows(), "xml", &[]);
    assert_eq!(want.len(), 2);
    assert_eq!(stage(&source.flows(), "ndjson", &["--set", "source.format=ndjson"]), want);
    assert_eq!(stage(&source.flows(), "gzip", &["--set", "source.gzip=on"]), want);
    assert_eq!(stage(&source.flows(), "small", &["--set", "limits.batch_rows=100", "--jobs", "1"]), want);

    let fetch = |format: &str| {
        let url = format!("{}?scanned_before=172800&format={format}", source.flows());
        python("fetch.py", &[&url, context.path(&format!("flows.{format}")).to_str().expect("UTF-8")]);
    };
    fetch("xml");
    fetch("json");
    let lines = std::fs::read_to_string(context.path("flows.json")).expect("fetched");
    context.write("flows.ndjson", &lines);
    let array = format!("[{}]", lines.trim_end().replace('\n', ","));
    context.write("flows.json", array);
    for name in ["flows.xml", "flows.ndjson", "flows.json"] {
        let path = context.path(name);
        let path = path.to_str().expect("UTF-8");
        assert_eq!(stage(path, &format!("file-{name}"), &[]), want, "{name}");
        python("pack.py", &[path]);
        for packing in ["gz", "bz2"] {
            let packed = format!("{path}.{packing}");
            assert_eq!(stage(&packed, &format!("{name}-{packing}"), &[]), want, "{packed}");
        }
    }
    // Two gzip members one after the other, as servers send that compress piece by piece.
    let mut packed =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Encoding: gzip\r\n".to_vec();
    let body = std::fs::read(context.path("flows.ndjson.gz")).expect("packed above");
    packed.extend(format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).into_bytes());
    packed.extend(body);
    let members = RawSource::start(vec![packed]);
    assert_eq!(stage(&members.url, "members", &["--window", "2d", "--set", "source.gzip=on"]), want);

    // LANL's own form: nine columns without a header, the id is the number of the line.
    let ids_in_order = context.source(&["--rows", "5000", "--days", "2", "--duplicates", "0"]);
    let want = stage(&ids_in_order.flows(), "ordered", &[]);
    let url = format!("{}?format=json", ids_in_order.flows());
    let txt = context.path("flows.txt.gz");
    python("lanl.py", &[&url, txt.to_str().expect("UTF-8")]);
    assert_eq!(stage(txt.to_str().expect("UTF-8"), "lanl", &[]), want);
}

#[test]
fn zst_files_are_read() {
    let context = TestContext::new();
    // Ten records as one zstd frame, packed by `zstd -19`; Python 3 has no zstd of its own.
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows_first10.xml.zst");
    let plain = context.backfill(None, FIRST10, 1, &["--until", "stage"]).success();
    assert!(plain.stdout.contains("10 records in = 10 staged"), "{}", plain.stdout);
    let want = context.staged("stage");
    let to = format!("stage.url={}", context.path("zst").display());
    context.backfill(None, packed.to_str().expect("UTF-8"), 1, &["--until", "stage", "--set", &to]).success();
    assert_eq!(context.staged("zst"), want);
}

#[test]
fn a_bucket_stages_and_loads_as_a_folder_does() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "20000", "--days", "2", "--seed", "3"]);
    let folder_stage = format!("stage.url={}", context.path("folder").display());
    context.backfill(None, &source.flows(), 2, &["--until", "stage", "--set", &folder_stage]).success();

    // One process is bucket and BigQuery; it fetches what it loads over HTTP, as the real one does.
    let bucket = context.server(&["emulator", "--data-dir", "bucket"]);
    let warehouse =
        context.server_with(&["emulator", "--data-dir", "wh"], &[("STORAGE_EMULATOR_HOST", &bucket.url)]);
    let url = format!("source.url={}", source.flows());
    let arguments = [
        "backfill",
        "flows",
        "--from",
        "1",
        "--to",
        "2",
        "--set",
        &url,
        "--set",
        "stage.url=gs://staging/deep/er",
    ];
    for again in [false, true] {
        let mut command = context.command(arguments);
        command.env("STORAGE_EMULATOR_HOST", &bucket.url).env("BIGQUERY_EMULATOR_HOST", &warehouse.url);
        let ended: crate::context::Ended = command.output().expect("it runs").into();
        let ended = ended.success();
        assert!(ended.stdout.contains("20,000 records in ="), "{}", ended.stdout);
        assert_eq!(ended.stdout.contains("2 windows were there already"), again);
    }
    context.promote(&warehouse).success();
    judge(&context, &source, &warehouse, 2, &[]);
}
