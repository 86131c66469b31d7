//! What other commands make of a gateway's part of the staging area.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use api2bq::config::Pipeline;
use api2bq::effects::Effects;
use api2bq::ledger;
use api2bq::pipeline::{connect, open_store};
use api2bq::verify::{Against, verify};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::loads::{Site, row};
use crate::context::Ended;

fn document(ended: Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e} in {ended:?}"))
}

/// Asks `status` until it says so.
#[track_caller]
fn wait_for_status(site: &Site, fits: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let status = document(site.run("status", &["--format", "json", "--spool", "spool"]));
        if fits(&status["gateway"]) {
            return status["gateway"].clone();
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{status}; {}", site.said());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The folder of the first batch, and of the day in it.
fn batch_folder(site: &Site) -> PathBuf {
    let folder = site.context.path("stage").join("inventory/gateway");
    let first = std::fs::read_dir(folder).expect("batches").next().expect("one").expect("an entry");
    first.path()
}

#[test]
fn status_verify_and_gc_know_batches_that_are_loaded() {
    let site = Site::new();
    let gateway = site.gateway();
    let rows = format!("[{},{}]", row("a"), row("b"));
    assert_eq!(site.post("", &rows).expect("an answer").status, 200);
    let status =
        wait_for_status(&site, |gateway| gateway["rows_loaded"] == 2 && gateway["spool"]["segments"] == 0);
    assert_eq!((&status["batches"]["done"], &status["reason"]), (&json!(1), &Value::Null));
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    let text = site.run("status", &["--spool", "spool"]).success().stdout;
    assert!(text.starts_with("gateway: 1 batch loaded with 2 rows; last written "), "{text}");
    let verified = document(site.run("verify", &["--format", "json"]).success());
    assert_eq!((&verified["checked"]["batches"], &verified["checked"]["partitions"]), (&json!(1), &json!(1)));

    // A batch that was killed between `loaded` and the removal of its files.
    let left = batch_folder(&site).join("20260101");
    std::fs::create_dir_all(&left).expect("made");
    std::fs::write(left.join("left.parquet"), "x").expect("written");
    let swept = document(site.run("gc", &["--min-age", "0s", "--format", "json"]).success());
    let names: Vec<_> =
        swept["swept"].as_array().expect("a list").iter().map(|s| s["name"].to_string()).collect();
    assert!(matches!(&names[..], [one] if one.ends_with("left.parquet\"")), "{names:?}");
    assert_eq!((&swept["batches"], &swept["batches_open"]), (&json!(1), &json!(0)));

    // A row that went behind everybody's back.
    let mut query = site.context.command(["query", "DELETE FROM DataLoad.OIC WHERE WH_ID = 'a'"]);
    query.env("BIGQUERY_EMULATOR_HOST", site.warehouse.lock().expect("no panic").url());
    assert!(query.output().expect("it runs").status.success());
    let verified = site.run("verify", &[]);
    assert_eq!(verified.code, 7, "{verified:?}");
    assert!(
        verified.stdout.contains("rows in BigQuery, of all batches: expected 2, found 1"),
        "{verified:?}"
    );
}

#[test]
fn what_a_gateway_loads_while_it_is_verified_is_no_mismatch() {
    let site = Site::new();
    let gateway = site.gateway();
    let load = |id: &str, rows: u64| {
        assert_eq!(site.post("", &row(id)).expect("an answer").status, 200);
        wait_for_status(&site, |gateway| gateway["rows_loaded"] == rows);
    };
    load("a", 1);
    let stage = format!("stage.url={}", site.context.path("stage").display());
    let pipeline = Pipeline::resolve_to_look("inventory", &[stage]).expect("a pipeline");
    let (effects, runtime) = (Effects::default(), Runtime::new().expect("a runtime"));
    let store = open_store(&pipeline, &effects).expect("a store");
    let before = runtime.block_on(ledger::read(&store, "inventory")).expect("a ledger");
    load("b", 2);
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    let url = Some(site.warehouse.lock().expect("no panic").url());
    let bigquery = runtime.block_on(connect(&pipeline, url, &effects)).expect("a client");
    let against = Against {
        pipeline: &pipeline,
        store: &store,
        ledger: &before,
        gateway: true,
        bigquery: Some(&bigquery),
        source: None,
    };
    let mismatches = || {
        let report = runtime.block_on(verify(against, &[])).expect("a report");
        report.mismatches.into_iter().map(|m| (m.expected, m.found)).collect::<Vec<_>>()
    };
    assert_eq!(mismatches(), []);
    site.query("DELETE FROM DataLoad.OIC WHERE true");
    assert_eq!(mismatches(), [("2".to_owned(), "0".to_owned())]);
}

#[test]
fn a_batch_that_fails_is_shown_kept_by_gc_and_loaded_once_it_can_be() {
    let site = Site::new();
    let faults = ["--fault", "fail-job=quotaExceeded:2"];
    site.warehouse.lock().expect("no panic").restart_with(&site.context, &faults);
    let gateway = site.gateway();
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    let failed = wait_for_status(&site, |gateway| gateway["batches"]["failed"] == 1);
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    assert!(failed["reason"].as_str().is_some_and(|why| why.starts_with("quotaExceeded")), "{failed}");
    assert_eq!((&failed["rows_open"], &failed["spool"]["segments"]), (&json!(1), &json!(1)));
    let text = site.run("status", &[]).success().stdout;
    assert!(text.contains("1 failed; 1 row to be loaded") && text.contains("✗ quotaExceeded"), "{text}");
    let swept = document(site.run("gc", &["--min-age", "0s", "--format", "json"]).success());
    // A stop may come while an entry is being written.
    let is_scratch = |file: &Value| file["kind"] == "scratch";
    assert!(swept["swept"].as_array().expect("a list").iter().all(is_scratch), "{swept}");
    assert_eq!(swept["marked"], 1, "{swept}");
    let verified = site.run("verify", &[]);
    assert_eq!(verified.code, 3, "{verified:?}");

    site.warehouse.lock().expect("no panic").restart(&site.context);
    let _gateway = site.gateway();
    assert_eq!(site.wait_for(1).into_values().collect::<Vec<_>>(), [1]);
    wait_for_status(&site, |gateway| gateway["batches"]["done"] == 1);
    site.run("verify", &[]).success();
}

#[test]
fn a_pipeline_that_is_backfilled_too_counts_the_gateways_jobs_and_keeps_its_tables_apart() {
    let site = Site::of("flows", &["--load-every", "1s"]);
    let gateway = site.gateway();
    let flow = json!({
        "id": 1, "time": 5, "duration": 0, "src_comp": "a", "src_port": "1", "dst_comp": "b", "dst_port": "2",
        "protocol": 6, "packet_count": 1, "byte_count": 1,
    });
    let taken = site.post("", &flow.to_string()).expect("an answer");
    assert_eq!(taken.status, 200, "{taken:?}");
    wait_for_status(&site, |gateway| gateway["rows_loaded"] == 1);
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());

    let stage = format!("stage.url={}", site.context.path("stage").display());
    // Into the same table, so that both count.
    let tables = ["--set", "warehouse.staging_table=flows", "--set", "warehouse.table=flows_latest"];
    let range = [&["--from", "1", "--to", "2", "--format", "json"][..], &tables].concat();
    let plan = document(site.run("backfill --dry-run", &range).success());
    let limits = plan["limits"].as_array().expect("limits");
    let used =
        |what: &str| limits.iter().find(|limit| limit["limit"] == what).map(|limit| limit["used"].clone());
    assert_eq!(used("load jobs per table and day"), Some(json!(1)), "{plan}");
    assert_eq!(used("load jobs per project and day"), Some(json!(1)), "{plan}");

    let source = site.context.source(&["--rows", "2000", "--days", "2", "--seed", "3"]);
    let url = format!("source.url={}", source.flows());
    site.run("backfill", &["--from", "1", "--to", "2", "--set", &url]).success();
    let sql = "SELECT COUNT(*) FROM runs, windows WHERE runs.run = windows.run";
    let counted =
        site.context.run(["sql", "-c", sql, "--pipeline", "flows", "--set", &stage, "--format", "csv"]);
    assert_eq!(counted.success().stdout.lines().nth(1), Some("2"));
    let status = site.run("status", &[]).success().stdout;
    assert!(
        status.contains("gateway: 1 batch loaded with 1 row") && status.contains("windows of run"),
        "{status}"
    );
    site.run("verify", &[]).success();
}

#[test]
fn what_cannot_work_is_refused_at_the_start_and_a_spool_that_is_not_there_is_not_empty() {
    let site = Site::new();
    let cases: [(&[&str], &str); 4] = [
        (&["--jobs-per-day", "0"], "0 is not in 1..=1500"),
        (&["--jobs-per-day", "1501"], "1501 is not in 1..=1500"),
        (&["--keep", "0s"], "`--keep` must be longer than nothing"),
        (&["--track", "WH_ID", "--operator", "zed"], "`--operator zed` is no user of `users.txt`"),
    ];
    for (more, expected) in cases {
        let ended: Ended = site.command().args(more).output().expect("it runs").into();
        assert!(ended.code == 2 && ended.stderr.contains(expected), "{more:?}: {ended:?}");
    }
    let ended = site.run("status", &["--spool", "nowhere"]);
    assert!(ended.code == 2 && ended.stderr.contains("there is no spool at `nowhere`"), "{ended:?}");
}
