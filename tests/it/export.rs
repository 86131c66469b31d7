//! `api2bq table export`: files in a bucket, and what is refused before a job is sent.

use std::io::Read;

use serde_json::{Value, json};

use crate::context::Ended;
use crate::table::Session;

/// A request to the Cloud Storage beside the embedded BigQuery.
fn storage(session: &Session, method: &str, path: &str, body: Option<Value>) -> Vec<u8> {
    let url = format!("{}/{path}", session.emulator.url);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut request = reqwest::Client::new().request(method.parse().expect("a method"), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("an answer");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.bytes().await.expect("a body").to_vec()
    })
}

fn object(session: &Session, name: &str) -> Vec<u8> {
    storage(session, "GET", &format!("download/storage/v1/b/flows-out/o/{name}?alt=media"), None)
}

fn with_bucket() -> Session {
    let session = Session::with_flows();
    storage(&session, "POST", "storage/v1/b?project=api2gbq", Some(json!({ "name": "flows-out" })));
    session
}

#[test]
fn a_table_becomes_files_as_the_end_of_the_uri_says() {
    let mut session = with_bucket();
    let table = "LANL.flows_staging$20110101";
    session.run(&["export", table, "gs://flows-out/day.csv"]);
    session.run(&["export", table, "gs://flows-out/day-*.csv.gz", "--no-header", "--delimiter", "tab"]);
    session.run(&["export", table, "gs://flows-out/day.ndjson", "--format", "json"]);
    session.run(&["export", "LANL.flows_staging", "gs://flows-out/all.parquet", "--compression", "zstd"]);
    session.run(&["export", table, "gs://flows-out/day", "--as", "avro", "--compression", "snappy"]);

    let rows: usize =
        session.at(&session.emulator.url, &["rows", table, "--count"]).stdout.trim().parse().expect("n");
    let csv = String::from_utf8(object(&session, "day.csv")).expect("UTF-8");
    assert_eq!(csv.lines().count(), rows + 1);
    assert!(csv.starts_with("id,time,duration,src_comp,src_port,"), "{csv:.100}");
    // The names of BigQuery's files are numbered with twelve digits.
    let packed = object(&session, "day-000000000000.csv.gz");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut text = String::new();
    runtime.block_on(async {
        let mut unpacked = async_compression::tokio::bufread::GzipDecoder::new(&packed[..]);
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut unpacked, &mut bytes).await.expect("gzip");
        (&bytes[..]).read_to_string(&mut text).expect("UTF-8");
    });
    assert_eq!(
        (text.lines().count(), text.contains("duration"), text.matches('\t').count()),
        (rows, false, rows * 9)
    );
    let ndjson = String::from_utf8(object(&session, "day.ndjson")).expect("UTF-8");
    assert_eq!(ndjson.lines().count(), rows);
    assert_eq!(&object(&session, "all.parquet")[..4], b"PAR1");
    assert_eq!(&object(&session, "day")[..4], b"Obj\x01");
    insta::assert_snapshot!(session.shown());
}

#[test]
fn what_cannot_be_exported_is_said_before_a_job_is_sent() {
    let mut session = with_bucket();
    let staging = "LANL.flows_staging";
    session.run(&["export", staging, "gs://flow-out/day.csv"]);
    session.run(&["export", staging, "gs://zzz/day.csv"]);
    session.run(&["export", staging, "flows-out/day.csv"]);
    session.run(&["export", staging, "gs://flows-out/day"]);
    session.run(&["export", staging, "gs://flows-out/day.avro.gz"]);
    session.run(&["export", staging, "gs://flows-out/*/day-*.csv"]);
    session.run(&["export", staging, "gs://flows-out/day.csv", "--delimiter", "::"]);
    session.run(&["export", "LANL.nothing", "gs://flows-out/day.csv"]);
    session.run(&["export", staging, "gs://flows-out/day.parquet", "--delimiter", "tab"]);
    session.run(&["export", staging, "gs://flows-out/day.avro", "--no-header"]);
    session.run(&["export", staging, "gs://flows-out/day.csv.gz", "--compression", "none"]);
    insta::assert_snapshot!(session.shown());
    let jobs = crate::embedded::jobs(&session.emulator.url, "api2bq_export");
    assert!(jobs.is_empty(), "{jobs:?}");
}

#[test]
fn the_bucket_of_an_emulator_is_not_looked_for_at_googles() {
    let session = with_bucket();
    let mut command =
        session.context.command(["table", "export", "LANL.flows_staging", "gs://flows-out/all.avro"]);
    let ended: Ended =
        command.env("BIGQUERY_EMULATOR_HOST", &session.emulator.url).output().expect("it runs").into();
    let ended = ended.success();
    assert!(ended.stderr.contains("is not known: STORAGE_EMULATOR_HOST is not set"), "{}", ended.stderr);
    assert_eq!(&object(&session, "all.avro")[..4], b"Obj\x01");
}
