//! What a first-time user mistypes or expects, and what is said to it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::context::Ended;
use crate::proxy::{Act, Proxy};
use crate::table::Session;

/// `d.t` in one piece and `d.p` by days.
fn with_tables() -> Session {
    let session = Session::new();
    let sql = "CREATE SCHEMA d; CREATE TABLE d.t AS SELECT 1 AS id, STRUCT(1 AS x, 'y' AS y) AS st";
    session.program_at(&session.emulator.url, &["query", sql, "--quiet"]).success();
    let create = ["create", "d.p", "--schema", "id:INT64", "--partition-by", "day"];
    session.at(&session.emulator.url, &create).success();
    session
}

#[test]
fn an_instant_before_the_table_is_refused_and_leaves_no_empty_table_behind() {
    let mut session = with_tables();
    session.run(&["recover", "d.t", "--at", "1500000000000", "--to", "d.x"]);
    session.run(&["recover", "d.t", "--at", "1500000000000", "--to", "d.x", "--schema", "id:INT64"]);
    session.at(&session.emulator.url, &["delete", "d.t", "--yes"]).success();
    session.run(&["recover", "d.t", "--at", "1h", "--to", "d.x"]);
    session.run(&["recover", "d.t", "--at", "1h", "--to", "d.x", "--schema", "id:INT64"]);
    session.run(&["show", "d.x"]);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn what_is_not_there_is_named_as_what_it_is() {
    let mut session = with_tables();
    session.run(&["show", "nods.x"]);
    session.run(&["rows", "d.nope"]);
    session.run(&["update", "d.nope", "--never"]);
    session.run(&["copy", "d.nope", "d.x"]);
    session.run(&["copy", "d.t", "nods.x"]);
    session.run(&["rename", "nods.x", "d.x"]);
    session.run(&["iam", "get", "d.nope"]);
    session.run(&["list", "nods"]);
    session.run(&["list", "d.t"]);
    // Parts that a table cannot have.
    session.run(&["show", "d.t$20110101"]);
    session.run(&["show", "d.p$2011"]);
    for command in [&["show", "d.t@9995317420000"][..], &["rows", "d.t@9995317420000"]] {
        session.run(command);
    }
    session.run(&["export", "d.t@9995317420000", "gs://b/x.avro"]);
    session.run(&["copy", "d.t@9995317420000", "d.x"]);
    session.type_in(&["query", "SELECT id FROM d.t", "--as-of", "9995317420000"]);
    session.run(&["rows", "d.t", "--columns", "id,ID"]);
    session.run(&["rows", "d.t", "--columns", "st.x,id,st"]);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn scripts_statements_and_destinations_say_what_became_of_them() {
    let mut session = with_tables();
    session.type_in(&["query", "SELECT 1 AS a; SELECT 2 AS b; SELECT 3 AS c"]);
    session.type_in(&["query", "SELECT 1 AS a; SELECT 2 AS b", "--dry-run"]);
    session.type_in(&["query", "SELECT 1 AS a", "--destination", "d.t"]);
    session.type_in(&["query", "DROP TABLE d.p", "--dry-run"]);
    session.type_in(&["query", "DROP TABLE d.p", "--output", "p.csv"]);
    assert!(!session.context.path("p.csv").exists());
    insta::assert_snapshot!(session.shown());
    let json = |arguments: &[&str]| -> Value {
        let ended = session.program_at(&session.emulator.url, arguments).success();
        serde_json::from_str(&ended.stdout).expect("JSON")
    };
    let plan = json(&["query", "SELECT 1 AS a; SELECT 2 AS b", "--dry-run", "--format", "json"]);
    assert_eq!(plan["price"], Value::Null);
    let into = json(&["query", "SELECT 1 AS a", "--destination", "d.new", "--format", "json"]);
    assert_eq!((&into["destination"], &into["rows"]), (&json!("api2gbq.d.new"), &json!(1)));

    // The way back that was printed leads there.
    let dropped = session.program_at(&session.emulator.url, &["query", "DROP TABLE d.new"]).success();
    let back = dropped.stderr.lines().find_map(|line| line.trim().strip_prefix("api2bq "));
    let back: Vec<&str> = back.expect("a command").split(' ').collect();
    let back = session.program_at(&session.emulator.url, &back).success();
    assert!(back.stdout.starts_with("api2gbq.d.new_recovered: 1 row "), "{}", back.stdout);
}

#[test]
fn an_interrupted_reading_promises_nothing() {
    let session = with_tables();
    session.context.write("rows.csv", "old");
    let slow = Proxy::start(&session.emulator.url, |_, request| match request.contains("/data") {
        true => Act::Delay(Duration::from_secs(60)),
        false => Act::Pass,
    });
    let mut command = session.context.command(["table", "rows", "d.t", "--output", "rows.csv"]);
    command.env("BIGQUERY_EMULATOR_HOST", &slow.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    while !slow.seen().iter().any(|seen| seen.contains("/data")) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    let said = "error: interrupted\nhint: this command only reads: nothing was changed, and `rows.csv` is as it was\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (130, said));
    assert_eq!(std::fs::read_to_string(session.context.path("rows.csv")).expect("a file"), "old");
}

#[test]
fn flags_and_values_are_taken_as_they_are_meant_or_refused() {
    let mut session = with_tables();
    session.type_in(&["query", "-- a comment\nSELECT 1 AS n", "--quiet"]).success();
    session.type_in(&["query", "--quite", "SELECT 1 AS n"]);
    session.type_in(&["query", "SELECT 1 AS n", "--limit", "-1"]);
    session.run(&["rows", "d.t", "--limit", "-1"]);
    session.run(&["rows", "d.t", "--format", "text"]).success();
    session.run(&["list", "d", "--format", "table"]).success();
    session.run(&["copy", "d.t", "d.t2"]).success();
    session.run(&["copy", "d.t", "d.t2"]);
    session.run(&["create", "d.x", "--schema", "a:INT64,,b:STRING"]);
    session.run(&["create", "d.x", "--schema", ":INT64"]);
    session.run(&[
        "create",
        "d.x",
        "--schema",
        "a:INT64",
        "--partition-by",
        "day",
        "--partition-expires-in",
        "30d",
    ]);
    session.run(&["update", "d.x", "--expires-in", "999999999d"]);
    session.run(&["update", "d.x", "--expires-at", "1795319820389999"]);
    let grant = ["--role", "roles/bigquery.dataViewer", "--member", "user:ann@example.com"];
    session.run(&[&["iam", "remove", "d.t"][..], &grant].concat());
    session.run(&[&["iam", "remove", "d.t", "--allow-public"][..], &grant].concat());
    insta::assert_snapshot!(session.shown());
}

#[test]
fn a_staging_table_that_is_gone_is_told_once() {
    let session = Session::with_flows();
    session.at(&session.emulator.url, &["rename", "LANL.flows_staging", "LANL.other"]).success();
    let stage = format!("stage.url={}", session.context.path("stage").display());
    let ended = session.program_at(&session.emulator.url, &["verify", "flows", "--set", &stage]);
    assert_eq!(ended.code, 7, "{ended:?}");
    let said: Vec<_> = ended.stdout.lines().filter(|line| line.starts_with("mismatch")).collect();
    let [said] = said[..] else { panic!("{said:?}") };
    assert!(said.ends_with("table `api2gbq.LANL.flows_staging`: expected a table, found none"), "{said}");
}
