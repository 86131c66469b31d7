//! Bad days of BigQuery, on both ways out: refused calls, lost answers, and nobody there for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use super::loads::{Site, row};
use crate::embedded::Embedded;
use crate::secrets::{key_file, real_key};

const WAYS: [&[&str]; 2] = [&["--load-every", "1s"], &["--out", "stream", "--load-every", "200ms"]];
/// A round of them.
const FEW_TRIES: [&str; 2] = ["--set", "limits.attempts=3"];

fn once(rows: usize) -> BTreeMap<String, u64> {
    (0..rows).map(|n| (n.to_string(), 1)).collect()
}

/// It was taken for credentials that are refused, and ended the gateway.
#[test]
fn rows_are_taken_while_nobody_gives_tokens_and_that_is_told() {
    let site = Site::new();
    let key = key_file(&real_key(), "http://127.0.0.1:1/token");
    let key = site.context.write("key.json", key);
    let mut command = site.command();
    command.env_remove("BIGQUERY_EMULATOR_HOST").env("GOOGLE_APPLICATION_CREDENTIALS", key);
    let gateway = site.gateway_by(command);
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    site.wait_for_metric("out_fails", 1);
    assert!(site.said().contains("token endpoint cannot be reached"), "{}", site.said());
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    let _gateway = site.gateway();
    assert_eq!(site.wait_for(1).len(), 1);
    assert_eq!(site.metric("out_fails"), 0);
}

#[test]
fn refused_calls_and_lost_answers_are_waited_for_and_each_row_is_there_once() {
    let calls = ["/jobs", "/insertAll"];
    for (way, call) in WAYS.into_iter().zip(calls) {
        let mut site = Site::with(&[way, &FEW_TRIES].concat());
        let bigquery = Embedded::start(&site.context.path("other"), &[]);
        site.embedded = Some(bigquery.url.clone());
        let _gateway = site.gateway();
        assert_eq!(site.post("", &row("0")).expect("an answer").status, 200);
        assert_eq!(site.wait_for(1), once(1), "all is well");
        // For more than one round.
        let storm = ["503=5", "429=5", "rate-limit=2", "drop=1", "drop-after=1"]
            .map(|fault| format!("{fault}@{call}"));
        bigquery.arm(&storm.each_ref().map(String::as_str));
        for n in 1..10 {
            assert_eq!(site.post("", &row(&n.to_string())).expect("an answer").status, 200);
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(site.wait_for(10), once(10), "{call}: {}", site.said());
        assert!(bigquery.faults.are_spent(), "{call}: not all were met: {:?}", bigquery.faults);
        assert!(site.said().contains("rows wait in the spool"), "{call}: one round was not enough");
        site.wait_for_metric("rows_loaded_total", 10);
        assert_eq!((site.metric("rows_loaded_total"), site.metric("out_fails")), (10, 0), "{call}");
    }
}

#[test]
fn rows_are_taken_while_bigquery_is_away_for_longer_than_a_round_of_tries() {
    for way in WAYS {
        let site = Site::with(&[way, &FEW_TRIES].concat());
        let _gateway = site.gateway();
        assert_eq!(site.post("", &row("0")).expect("an answer").status, 200);
        assert_eq!(site.wait_for(1), once(1));
        site.wait_for_metric("rows_loaded_total", 1);
        site.warehouse.lock().expect("no panic").kill();
        for n in 1..4 {
            assert_eq!(site.post("", &row(&n.to_string())).expect("an answer").status, 200);
        }
        site.wait_for_metric("out_fails", 1);
        assert_eq!(site.post("", &row("4")).expect("an answer").status, 200, "while it is away");
        site.warehouse.lock().expect("no panic").restart(&site.context);
        assert_eq!(site.wait_for(5), once(5), "{way:?}: {}", site.said());
    }
}
