//! `api2bq table copy`, `rename`, `recover` and `iam`: what is copied, what comes back, and what is never lost.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::proxy::{Act, Proxy};
use crate::table::Session;

/// Rows of the table, in order.
fn rows(session: &Session, table: &str) -> Vec<String> {
    let ended = session.at(&session.emulator.url, &["rows", table, "--format", "ndjson"]).success();
    let mut rows: Vec<String> = ended.stdout.lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

#[test]
fn tables_are_copied_once_they_are_known_to_fit() {
    let mut session = Session::with_flows();
    let all = rows(&session, "LANL.flows_staging").len();
    session.run(&["copy", "LANL.flows_staging", "LANL.copied"]);
    assert_eq!(rows(&session, "LANL.copied").len(), all);
    session.run(&["copy", "LANL.flows_staging", "LANL.copied"]);
    session.run(&["copy", "LANL.flows_staging", "LANL.copied", "--write", "truncate"]);
    session.run(&["copy", "LANL.flows_staging", "LANL.copied", "--write", "append"]);
    session.run(&["copy", "LANL.copied", "LANL.flows_staging", "LANL.both"]);
    assert_eq!(rows(&session, "LANL.both").len(), 3 * all);
    let of_day = |session: &mut Session, table: &str| {
        session.json(&["show", &format!("{table}$20110102")])["table"]["numRows"].clone()
    };
    // A copy of a partitioned table keeps its partitions.
    let day: u64 =
        of_day(&mut session, "LANL.flows_staging").as_str().and_then(|n| n.parse().ok()).expect("rows");
    assert_eq!(of_day(&mut session, "LANL.copied"), json!((2 * day).to_string()));

    let one = |columns: &str| columns.to_owned();
    for (table, columns) in
        [("d.a", one("id:INT64,x:STRING")), ("d.b", one("id:INT64,x:BYTES")), ("d.c", one("id:INT64"))]
    {
        session
            .at(&session.emulator.url, &["create", table, "--schema", &columns, "--create-dataset"])
            .success();
    }
    let far = ["create", "eu.t", "--schema", "id:INT64", "--create-dataset", "--location", "EU"];
    session.at(&session.emulator.url, &far).success();
    session.run(&["copy", "d.a", "d.b", "d.all"]);
    session.run(&["copy", "d.a", "d.c", "--write", "append"]);
    session.run(&["copy", "d.c", "eu.t", "--write", "append"]);
    session.run(&["copy", "d.nothing", "d.all"]);
    session.run(&["copy", "d.a", "nowhere.all"]);
    session.run(&["copy", "d.a", "d.a"]);
    session.run(&["copy", "d.a", "d.b@1700000000000"]);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn a_copy_that_fails_or_whose_answer_is_lost_runs_once_at_most() {
    let session = Session::with_flows();
    let losing = Proxy::start(&session.emulator.url, {
        let lost = AtomicBool::new(false);
        move |_, request| match request.starts_with("POST") && !lost.swap(true, Ordering::SeqCst) {
            true => Act::LoseAnswer,
            false => Act::Pass,
        }
    });
    let ended = session
        .at(&losing.url, &["copy", "LANL.flows_staging", "LANL.copied", "--write", "append"])
        .success();
    let all = rows(&session, "LANL.flows_staging").len();
    assert_eq!(rows(&session, "LANL.copied").len(), all, "{}", ended.stderr);
}

#[test]
fn a_rename_deletes_nothing_that_its_copy_does_not_have() {
    let mut session = Session::with_flows();
    session
        .at(
            &session.emulator.url,
            &["update", "LANL.flows_staging", "--label", "a=b", "--description", "raw"],
        )
        .success();
    let before = rows(&session, "LANL.flows_staging");

    // Somebody changes the table while it is copied: both are kept.
    let upstream = session.emulator.url.clone();
    let meddled = AtomicBool::new(false);
    let racing = Proxy::start(&session.emulator.url, move |_, request| {
        if request.starts_with("POST") && request.contains("/jobs") && !meddled.swap(true, Ordering::SeqCst) {
            Session::somebody_else_changes(
                &upstream,
                "LANL",
                "flows_staging",
                json!({ "friendlyName": "x" }),
            );
        }
        Act::Pass
    });
    session.run_at(&racing.url, &["rename", "LANL.flows_staging", "LANL.kept"]);
    assert!(rows(&session, "LANL.flows_staging") == before, "the rows of {}", "LANL.flows_staging");

    // The same after the last look at it, when only its etag can tell.
    let upstream = session.emulator.url.clone();
    let late = Proxy::start(&session.emulator.url, move |_, request| {
        if request.starts_with("DELETE") {
            let theirs = json!({ "friendlyName": "y" });
            Session::somebody_else_changes(&upstream, "LANL", "flows_staging", theirs);
        }
        Act::Pass
    });
    session.run_at(&late.url, &["rename", "LANL.flows_staging", "LANL.late"]);
    assert!(rows(&session, "LANL.flows_staging") == before, "the rows of {}", "LANL.flows_staging");

    session.run(&["rename", "LANL.flows_staging", "LANL.kept"]);
    session.run(&["rename", "LANL.flows_staging", "LANL.raw"]);
    session.run(&["rename", "LANL.flows_staging", "LANL.raw"]);
    assert!(rows(&session, "LANL.raw") == before, "the rows of {}", "LANL.raw");
    let table = session.json(&["show", "LANL.raw"])["table"].clone();
    assert_eq!((&table["labels"], &table["description"]), (&json!({ "a": "b" }), &json!("raw")));
    assert_eq!(
        (&table["requirePartitionFilter"], &table["timePartitioning"]["type"]),
        (&json!(true), &json!("DAY"))
    );
    insta::assert_snapshot!(session.shown());
}

#[test]
fn a_table_deleted_by_mistake_comes_back_with_its_partitions_filter_and_rows() {
    let mut session = Session::with_flows();
    let settings = ["--description", "raw flows", "--label", "team=net", "--expires-in", "5d"];
    session.at(&session.emulator.url, &[&["update", "LANL.flows_staging"][..], &settings].concat()).success();
    let days = |session: &mut Session, table: &str| -> Vec<Value> {
        let day = |day| session.json(&["show", &format!("{table}$2011010{day}")])["table"]["numRows"].clone();
        [1, 2, 3].map(day).to_vec()
    };
    let (before, per_day) = (rows(&session, "LANL.flows_staging"), days(&mut session, "LANL.flows_staging"));
    session.run(&["recover", "LANL.flows_staging", "--to", "LANL.again"]);
    let deleted = session.at(&session.emulator.url, &["delete", "LANL.flows_staging", "--yes"]).success();
    session.run(&["show", "LANL.flows_staging"]);

    // As the way back that was printed says, and as one finds it without.
    let way_back = deleted.stderr.lines().find_map(|line| line.trim().strip_prefix("api2bq table "));
    let way_back: Vec<&str> = way_back.expect("a command").split(' ').collect();
    session.run(&way_back);
    let ended = session.run(&["recover", "LANL.flows_staging", "--to", "LANL.again"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for table in ["LANL.flows_staging_recovered", "LANL.again"] {
        assert!(rows(&session, table) == before, "the rows of {}", table);
        assert_eq!(days(&mut session, table), per_day, "{table}");
        let back = session.json(&["show", table])["table"].clone();
        assert_eq!(back["timePartitioning"]["type"], "DAY", "{back}");
        assert_eq!(back["requirePartitionFilter"], true, "{back}");
        assert_eq!((&back["description"], &back["labels"]), (&json!("raw flows"), &json!({ "team": "net" })));
        assert!(back["expirationTime"].is_null(), "what came back does not go again by itself");
    }
    session.run(&["recover", "LANL.flows_staging", "--to", "LANL.again"]);
    session.run(&["recover", "LANL.never_there", "--to", "LANL.x"]);
    session.run(&["recover", "LANL.flows_staging", "--at", "1500000000000", "--to", "LANL.x"]);
    session.run(&["recover", "LANL.flows_staging", "--at", "yesterday", "--to", "LANL.x"]);
    session.run(&["recover", "nowhere.t", "--to", "LANL.x"]);
    session.run(&["recover", "LANL.flows_staging", "--to", "LANL.other", "--schema", "id:INT64"]);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn a_lost_partition_comes_back_by_way_of_the_recovered_table() {
    let session = Session::with_flows();
    let before = rows(&session, "LANL.flows_staging");
    let deleted =
        session.at(&session.emulator.url, &["delete", "LANL.flows_staging$20110102", "--yes"]).success();
    assert!(rows(&session, "LANL.flows_staging").len() < before.len());
    let commands = deleted.stderr.lines().filter_map(|line| line.trim().strip_prefix("api2bq table "));
    let mut ran = 0;
    for command in commands {
        let typed: Vec<String> = command.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
        session.at(&session.emulator.url, &typed.iter().map(String::as_str).collect::<Vec<_>>()).success();
        ran += 1;
    }
    assert_eq!(ran, 2, "{}", deleted.stderr);
    assert!(rows(&session, "LANL.flows_staging") == before, "the rows of {}", "LANL.flows_staging");
}

#[test]
fn the_past_of_a_table_that_is_there_is_brought_back_beside_it() {
    let mut session = Session::with_flows();
    let before = rows(&session, "LANL.flows_staging");
    let modified = session.json(&["show", "LANL.flows_staging"])["table"]["lastModifiedTime"].clone();
    let modified = modified.as_str().expect("a time").to_owned();
    session.at(&session.emulator.url, &["delete", "LANL.flows_staging$20110102", "--yes"]).success();
    session.run(&["recover", "LANL.flows_staging", "--at", &modified, "--to", "LANL.before"]);
    session.run(&["recover", &format!("LANL.flows_staging@{modified}"), "--to", "LANL.plain", "--bare"]);
    assert!(rows(&session, "LANL.before") == before, "the rows of {}", "LANL.before");
    assert!(rows(&session, "LANL.plain") == before, "the rows of {}", "LANL.plain");
    session.run(&[
        "recover",
        "LANL.flows_staging",
        "--at",
        &modified,
        "--to",
        "LANL.like",
        "--like",
        "LANL.before",
        "--label",
        "a=b",
    ]);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn access_is_changed_under_the_policys_etag_and_conditions_are_kept() {
    let mut session = Session::new();
    session
        .at(&session.emulator.url, &["create", "d.t", "--schema", "id:INT64", "--create-dataset"])
        .success();
    let viewer = ["--role", "roles/bigquery.dataViewer", "--member", "user:ann@example.com"];
    let iam = |verb: &'static str, grant: &[&'static str]| [&["iam", verb, "d.t"][..], grant].concat();
    session.run(&["iam", "get", "d.t"]);
    session.run(&iam("add", &viewer));
    session.run(&iam("add", &viewer));
    session.run(&iam("add", &["--role", "roles/bigquery.dataViewer", "--member", "group:net@example.com"]));
    session.run(&["iam", "get", "d.t"]);
    session.run(&iam("add", &["--role", "roles/bigquery.dataViewer", "--member", "allUsers"]));
    session.run(&iam(
        "add",
        &["--role", "roles/bigquery.dataViewer", "--member", "allAuthenticatedUsers", "--allow-public"],
    ));
    session
        .run(&iam("remove", &["--role", "roles/bigquery.dataViewer", "--member", "allAuthenticatedUsers"]));
    session.run(&iam("remove", &["--role", "roles/bigquery.dataOwner", "--member", "user:ann@example.com"]));
    session.run(&iam("add", &["--role", "viewer", "--member", "user:ann@example.com"]));
    session.run(&iam("add", &["--role", "roles/bigquery.dataViewer", "--member", "ann@example.com"]));
    session.run(&["iam", "get", "d.nothing"]);

    // Two at once: the second one reads again, and neither is lost.
    let url = session.emulator.url.clone();
    let meddled = AtomicBool::new(false);
    let racing = Proxy::start(&session.emulator.url, move |_, request| {
        if request.contains(":setIamPolicy") && !meddled.swap(true, Ordering::SeqCst) {
            let url = url.clone();
            let other = std::thread::spawn(move || {
                let path = "datasets/d/tables/t";
                let (_, mut policy) =
                    crate::embedded::rest(&url, "POST", &format!("{path}:getIamPolicy"), Some(json!({})));
                if let Some(bindings) = policy["bindings"].as_array_mut() {
                    bindings.push(
                        json!({ "role": "roles/bigquery.dataOwner", "members": ["user:bo@example.com"] }),
                    );
                }
                let body = json!({ "policy": policy });
                crate::embedded::rest(&url, "POST", &format!("{path}:setIamPolicy"), Some(body)).0
            });
            assert_eq!(other.join().expect("no panic"), 200);
        }
        Act::Pass
    });
    session.run_at(
        &racing.url,
        &iam("add", &["--role", "roles/bigquery.dataViewer", "--member", "domain:example.com"]),
    );
    session.run(&["iam", "get", "d.t"]);
    session.run(&iam("remove", &viewer));
    insta::assert_snapshot!(session.shown());
}

#[test]
fn an_interrupted_copy_says_that_it_may_still_happen() {
    let context = crate::context::TestContext::new();
    let data_dir = context.path("wh");
    let data_dir = data_dir.to_str().expect("UTF-8");
    let held = ["emulator", "--data-dir", data_dir, "--fault", "running-polls=1000000@api2bq_copy"];
    let session = Session { emulator: context.server(&held), context, transcript: String::new() };
    let url = session.emulator.url.clone();
    session.at(&url, &["create", "d.t", "--schema", "id:INT64", "--create-dataset"]).success();
    let mut command = session.context.command(["table", "copy", "d.t", "d.u"]);
    command.env("BIGQUERY_EMULATOR_HOST", &url).stderr(std::process::Stdio::piped());
    let copying = command.spawn().expect("it starts");
    while crate::embedded::jobs(&url, "api2bq_copy").is_empty() {
        std::thread::yield_now();
    }
    let pid = copying.id().to_string();
    let killed = std::process::Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.expect("kill runs").success());
    let ended: crate::context::Ended = copying.wait_with_output().expect("it ends").into();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(ended.stderr.contains("BigQuery does not stop a copy job"), "{ended:?}");
    assert!(ended.stderr.contains("`api2bq table show api2gbq.d.u`"), "{ended:?}");
}
