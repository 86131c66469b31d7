//! `--out stream`: rows within a second, what BigQuery refuses, and what a kill makes of both.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::loads::{Site, killed_under_load, row};
use crate::context::Ended;
use crate::embedded::{Embedded, jobs, rest};

const STREAM: [&str; 4] = ["--out", "stream", "--load-every", "200ms"];
fn site(more: &[&str]) -> Site {
    Site::with(&[&STREAM, more].concat())
}

fn once(ids: &[&str]) -> BTreeMap<String, u64> {
    ids.iter().map(|&id| (id.to_owned(), 1)).collect()
}

impl Site {
    /// The table, with shorter texts than the pipeline's columns know of.
    pub fn make_table(&self) {
        let url = self.warehouse.lock().expect("no panic").url();
        rest(&url, "POST", "datasets", Some(json!({"datasetReference": {"datasetId": "DataLoad"}})));
        let number = |name: &str| json!({"name": name, "type": "NUMERIC"});
        let text = |name: &str| json!({"name": name, "type": "STRING", "maxLength": "5"});
        let document = json!({
            "tableReference": {"tableId": "OIC"},
            "timePartitioning": {"type": "DAY"},
            "schema": {"fields": [
                text("WH_ID"), text("Item_Name"), number("Item_id"), number("Quantity_Available"),
                number("Quantity_Requested"), text("Backlog"),
            ]},
        });
        assert_eq!(rest(&url, "POST", "datasets/DataLoad/tables", Some(document)).0, 200);
    }

    /// The `streamed` entries of the journal.
    fn streamed(&self) -> Vec<Value> {
        let batches = std::fs::read_dir(self.context.path("stage/inventory/gateway"));
        let entry = |batch: std::fs::DirEntry| {
            let bytes = std::fs::read(batch.path().join("0001.json")).ok()?;
            serde_json::from_slice(&bytes).ok().filter(|entry: &Value| entry["event"] == "streamed")
        };
        batches.into_iter().flatten().flatten().filter_map(entry).collect()
    }

    /// Segments in the spool that have records.
    fn segments(&self) -> usize {
        let files = std::fs::read_dir(self.context.path("spool")).expect("a folder").flatten();
        let has_records = |file: &std::fs::DirEntry| {
            file.path().extension().is_some_and(|e| e == "seg") && file.metadata().is_ok_and(|m| m.len() > 36)
        };
        files.filter(has_records).count()
    }
}

/// Whatever BigQuery is told to do with the good rows of a request that has bad ones, the end is the same.
#[test]
fn rows_that_bigquery_refuses_are_among_the_rejects_and_the_others_in_the_table() {
    for skip in ["false", "true"] {
        let setting = format!("gateway.skip_invalid_rows={skip}");
        let site = site(&["--set", &setting]);
        site.make_table();
        let gateway = site.gateway();
        let body = r#"[{"WH_ID":"a"},{"Item_id":"many"},{"WH_ID":"too long","Item_id":7},{"WH_ID":"b"}]"#;
        let answer = site.post("", body).expect("an answer").json();
        assert_eq!((&answer["accepted"], &answer["rejected"][0]["index"]), (&json!(3), &json!(1)));
        assert_eq!(site.wait_for(2), once(&["a", "b"]));
        site.wait_for_metric("rows_refused_total", 1);
        let counted =
            ["rows_acknowledged_total", "rows_loaded_total", "rows_refused_total", "rows_rejected_total"];
        assert_eq!(counted.map(|name| site.metric(name)), [3, 2, 1, 1], "3 acknowledged = 2 + 1");

        // Written down also when the gateway is stopped before it was time.
        gateway.signal("-TERM");
        assert!(gateway.end().success(), "{}", site.said());
        assert_eq!(site.segments(), 0, "all rows have a durable answer");
        let streamed = site.streamed();
        let counts =
            |name: &str| streamed.iter().map(|entry| entry[name].as_u64().expect("a count")).sum::<u64>();
        assert_eq!(["rows", "inserted", "rejected"].map(counts), [3, 2, 1]);

        let rejects = |format: &str| {
            let ended = site.program(&["rejects", "inventory", "--gateway", "--format", format]).output();
            String::from_utf8(ended.expect("it runs").stdout).expect("UTF-8")
        };
        let lines = rejects("ndjson");
        let line: Value = serde_json::from_str(lines.trim_end()).expect("one line");
        assert_eq!((&line["id"], &line["index"]), (&answer["id"], &json!(2)), "as its sender knows it");
        assert_eq!((&line["field"], &line["reason"]), (&json!("WH_ID"), &json!("invalid")));
        let raw: Value = serde_json::from_str(line["raw"].as_str().expect("a text")).expect("JSON");
        assert_eq!((&raw["WH_ID"], &raw["Item_id"]), (&json!("too long"), &json!("7")));
        let text = rejects("text");
        // It has no source: there are no others.
        assert_eq!(site.run("rejects", &[]).success().stdout, text);
        assert!(text.contains("invalid:WH_ID") && text.contains("row 2 of request"), "{text}");
        assert!(text.ends_with("1 rows of the gateway were refused by BigQuery\n"), "{text}");
        assert!(site.said().contains("BigQuery refuses rows") && !site.said().contains("too long"));
    }
}

#[test]
fn a_suffix_leads_to_a_table_that_is_made_like_the_first() {
    let site = site(&["--set", "gateway.template_suffix=_2026"]);
    let _gateway = site.gateway();
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    site.wait_for_metric("rows_loaded_total", 1);
    assert_eq!(site.table_of("OIC_2026"), once(&["a"]));
    assert_eq!(site.table_of("OIC"), once(&[]));
    // Load jobs have no such thing.
    let mut batch = site.program(&["gateway", "inventory", "--auth-file", "users.txt", "--out", "batch"]);
    let ended = batch.args(["--set", "gateway.template_suffix=_x"]).output().expect("it runs");
    assert_eq!(ended.status.code(), Some(2));
}

#[test]
fn rows_wait_while_the_table_is_gone_and_the_reason_is_told() {
    let site = site(&[]);
    let _gateway = site.gateway();
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    assert_eq!(site.wait_for(1), once(&["a"]));
    site.query("DROP TABLE DataLoad.OIC");
    assert_eq!(site.post("", &row("b")).expect("an answer").status, 200);
    site.wait_for_metric("out_fails", 1);
    assert!(site.said().contains("rows wait in the spool") && site.said().contains("notFound"));
    assert!(site.segments() > 0);
    site.make_table();
    assert_eq!(site.wait_for(1), once(&["b"]));
    assert_eq!(site.metric("rows_refused_total"), 0);
}

/// A warehouse that remembers insertIds drops what is sent again after a kill.
#[test]
fn a_gateway_killed_while_it_streams_loses_no_acknowledged_row_and_its_ids_keep_each_single() {
    let twice = killed_under_load(&site(&[]), 6, u64::MAX);
    assert!(twice.is_empty(), "{twice:?}");
}

/// One that is killed too remembers none: then rows may be there twice, as is promised.
#[test]
fn no_acknowledged_row_is_lost_when_the_warehouse_is_killed_too() {
    killed_under_load(&site(&[]), 4, 2);
}

#[test]
fn rows_of_an_intent_are_loaded_by_its_job_also_when_the_gateway_streams_by_now() {
    let mut site = site(&[]);
    let streaming = std::mem::replace(&mut site.more, vec!["--load-every".into(), "1s".into()]);
    let bigquery = Embedded::start(&site.context.path("other"), &["503=1000@/jobs"]);
    site.embedded = Some(bigquery.url.clone());
    let gateway = site.gateway();
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    let started = std::time::Instant::now();
    let has_intent = || {
        let batches = std::fs::read_dir(site.context.path("stage/inventory/gateway"));
        batches.into_iter().flatten().flatten().any(|batch| batch.path().join("0001.json").exists())
    };
    while !has_intent() {
        assert!(started.elapsed() < Duration::from_secs(60), "{}", site.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(gateway.kill_after(Duration::ZERO));
    drop(bigquery);

    // The same tables, and no more faults.
    let bigquery = Embedded::start(&site.context.path("other"), &[]);
    (site.embedded, site.more) = (Some(bigquery.url.clone()), streaming);
    let _gateway = site.gateway();
    assert_eq!(site.post("", &row("b")).expect("an answer").status, 200);
    assert_eq!(site.wait_for(2), once(&["a", "b"]));
    assert_eq!(jobs(&bigquery.url, "inventory").len(), 1, "`a` went by its job");
    site.wait_for_metric("rows_loaded_total", 2);
}

/// A power loss may bring a segment back whose removal was not on the disk yet.
#[test]
fn rows_that_were_streamed_are_not_loaded_again_when_their_segment_comes_back() {
    let mut site = site(&[]);
    let gateway = site.gateway();
    let spool = site.context.path("spool");
    let files = || std::fs::read_dir(&spool).expect("a folder").flatten().map(|file| file.path());
    let active = files().find(|file| file.extension().is_some_and(|e| e == "seg")).expect("a segment");
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    std::fs::copy(&active, site.context.path("copy")).expect("durable, so it is there");
    assert_eq!(site.wait_for(1), once(&["a"]));
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    assert!(!active.exists());
    std::fs::copy(site.context.path("copy"), &active).expect("it is back");

    site.more = vec!["--load-every".into(), "1s".into()];
    let _gateway = site.gateway();
    assert_eq!(site.post("", &row("b")).expect("an answer").status, 200);
    assert_eq!(site.wait_for(2), once(&["a", "b"]));
    assert!(!active.exists());
}

/// A load job takes all of its rows or none: by it one row would hold up all behind it.
#[test]
fn a_table_that_is_narrower_than_the_columns_is_not_loaded_in_batches() {
    let site = Site::new();
    site.make_table();
    let ended: Ended = site.command().output().expect("it runs").into();
    assert_eq!(ended.code, 2, "{ended:?}");
    for said in ["`WH_ID` with maxLength 5", "`--out stream` makes rejects"] {
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
}
