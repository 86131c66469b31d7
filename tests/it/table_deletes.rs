//! `api2bq table delete`: what is asked and printed before it, and races that are lost.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::context::Ended;
use crate::embedded::rest;
use crate::proxy::{Act, Proxy};
use crate::table::Session;

#[test]
fn nothing_is_deleted_without_being_asked_and_the_way_back_is_printed() {
    let mut session = Session::with_flows();
    session.run(&["show", "LANL.flows_staging$20110102"]);
    session.run(&["delete", "LANL.flows_staging"]);
    session.run(&["delete", "LANL.flows_staging", "--dry-run"]);
    session.run(&["delete", "LANL.nothing", "--yes"]);
    session.run(&["delete", "LANL.flows_staging@1700000000000", "--yes"]);
    session.run(&["delete", "LANL.flows_staging$19990101", "--yes"]);
    session.run(&["delete", "LANL.flows_staging$19990101", "--dry-run"]);
    session.run(&["delete", "LANL.flows_staging$20110102", "--dry-run"]);
    let before = session.json(&["show", "LANL.flows_staging"])["table"].clone();
    session.run(&["delete", "LANL.flows_staging$20110102", "--yes"]);
    session.run(&["show", "LANL.flows_staging$20110102"]);
    let now = session.json(&["show", "LANL.flows_staging"])["table"].clone();
    assert!(now["numRows"].as_str() < before["numRows"].as_str(), "{now}");

    // An answer that is lost does not make it fail.
    let losing = Proxy::start(&session.emulator.url, {
        let lost = std::sync::atomic::AtomicBool::new(false);
        move |_, request| match request.starts_with("DELETE")
            && !lost.swap(true, std::sync::atomic::Ordering::SeqCst)
        {
            true => Act::LoseAnswer,
            false => Act::Pass,
        }
    });
    let report =
        session.at(&losing.url, &["delete", "LANL.flows_staging", "--yes", "--format", "json"]).success();
    let report: Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert_eq!((&report["deleted"], &report["partition"]), (&json!(true), &Value::Null));
    let modified: u64 = now["lastModifiedTime"].as_str().and_then(|ms| ms.parse().ok()).expect("a time");
    assert!(report["recover_at_ms"].as_u64().is_some_and(|ms| ms >= modified), "{report}");
    session.run(&["show", "LANL.flows_staging"]);
    insta::assert_snapshot!(session.shown());
}

/// Somebody else adds rows between the showing of a table and its deletion, the first time it is tried.
#[test]
fn what_is_deleted_is_what_was_shown() {
    let session = Session::new();
    let url = session.emulator.url.clone();
    session.at(&url, &["create", "d.t", "--schema", "id:INT64", "--create-dataset"]).success();
    let racing = |how_often: usize| {
        let (url, left) = (url.clone(), std::sync::atomic::AtomicUsize::new(how_often));
        Proxy::start(&session.emulator.url, move |_, request| {
            let one_less = |left: usize| left.checked_sub(1);
            let order = std::sync::atomic::Ordering::SeqCst;
            if request.starts_with("DELETE") && left.fetch_update(order, order, one_less).is_ok() {
                let url = url.clone();
                let rows = json!({ "rows": [{ "json": { "id": 1 } }] });
                let path = "datasets/d/tables/t/insertAll";
                let added = std::thread::spawn(move || rest(&url, "POST", path, Some(rows)).0);
                assert_eq!(added.join().expect("no panic"), 200);
            }
            Act::Pass
        })
    };
    let ended = typed_on_a_terminal("t", &racing(1).url);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stdout.contains("changed by somebody else meanwhile; it is not deleted"), "{ended:?}");
    // Whoever does not look has it deleted as it is by then, and is told how that was.
    let once = racing(1);
    let ended = session.at(&once.url, &["delete", "d.t", "--yes", "--format", "json"]).success();
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&report["rows"], &report["deleted"]), (&json!(2), &json!(true)));
    assert_eq!(once.seen().iter().filter(|seen| seen.starts_with("DELETE")).count(), 2);
}

#[test]
fn on_a_terminal_the_name_must_be_typed() {
    let session = Session::new();
    for (typed, is_deleted) in [("yes", false), ("", false), ("t", true), ("api2gbq.d.t", true)] {
        session
            .at(
                &session.emulator.url,
                &["create", "d.t", "--schema", "id:INT64", "--create-dataset", "--if-not-exists"],
            )
            .success();
        let ended = typed_on_a_terminal(typed, &session.emulator.url);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.stdout.contains("type `t` to delete it"), "{ended:?}");
        assert_eq!(ended.stdout.contains("api2gbq.d.t deleted"), is_deleted, "{ended:?}");
        assert_eq!(ended.stdout.contains("nothing was deleted"), !is_deleted, "{ended:?}");
    }
}

/// `api2bq table delete d.t`, and what is typed when it asks.
fn typed_on_a_terminal(typed: &str, url: &str) -> Ended {
    // Python's pty gives the program a terminal, and types.
    let script = "import os, pty, sys\n\
            typed = [sys.argv[1].encode() + b'\\n']\n\
            def read(fd):\n    data = os.read(fd, 1024)\n    return data\n\
            def feed(fd):\n    return typed.pop() if typed else b''\n\
            code = pty.spawn(sys.argv[2:], read, lambda fd: feed(fd))\n\
            sys.exit(os.waitstatus_to_exitcode(code))\n";
    let program = env!("CARGO_BIN_EXE_api2bq");
    let mut command = std::process::Command::new("python3");
    command.args(["-c", script, typed, program, "table", "delete", "d.t"]).env("BIGQUERY_EMULATOR_HOST", url);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
    use std::io::Write as _;
    child.stdin.take().expect("piped").write_all(b"go\n").expect("written");
    child.wait_with_output().expect("it ends").into()
}
