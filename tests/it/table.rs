//! `api2bq table`: every subcommand as its users see it, its refusals, and races that are lost.

use std::process::Stdio;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Value, json};

use crate::context::{Ended, Running, TestContext};
use crate::embedded::rest;
use crate::proxy::{Act, Proxy};

/// What was typed and what came of it, one command after the other.
pub struct Session {
    pub context: TestContext,
    pub emulator: Running,
    pub transcript: String,
}

impl Session {
    pub fn new() -> Self {
        let context = TestContext::new();
        let emulator = context.emulator();
        Session { context, emulator, transcript: String::new() }
    }

    /// Three days of flows in `LANL.flows_staging`.
    pub fn with_flows() -> Self {
        let session = Session::new();
        let source = session.context.source(&["--rows", "300", "--days", "3", "--seed", "7"]);
        session.context.backfill(Some(&session.emulator), &source.flows(), 3, &[]).success();
        session
    }

    pub fn at(&self, url: &str, arguments: &[&str]) -> Ended {
        self.program_at(url, &[&["table"], arguments].concat())
    }

    pub fn program_at(&self, url: &str, arguments: &[&str]) -> Ended {
        let mut command = self.context.command(arguments);
        command.env("BIGQUERY_EMULATOR_HOST", url).env("STORAGE_EMULATOR_HOST", url);
        command.stdin(Stdio::null()).output().expect("it runs").into()
    }

    /// Runs it and writes it down.
    pub fn run(&mut self, arguments: &[&str]) -> Ended {
        let url = self.emulator.url.clone();
        self.run_at(&url, arguments)
    }

    pub fn run_at(&mut self, url: &str, arguments: &[&str]) -> Ended {
        self.type_at(url, &[&["table"], arguments].concat())
    }

    /// Any command of the program.
    pub fn type_in(&mut self, arguments: &[&str]) -> Ended {
        let url = self.emulator.url.clone();
        self.type_at(&url, arguments)
    }

    pub fn type_at(&mut self, url: &str, arguments: &[&str]) -> Ended {
        let ended = self.program_at(url, arguments);
        let typed: Vec<String> = arguments
            .iter()
            .map(|a| if a.contains([' ', '$']) || a.is_empty() { format!("'{a}'") } else { (*a).to_owned() })
            .collect();
        self.transcript += &format!("$ api2bq {}\n{}", typed.join(" "), ended.stdout);
        for line in ended.stderr.lines() {
            self.transcript += &format!("! {line}\n");
        }
        self.transcript += &format!("= {}\n\n", ended.code);
        ended
    }

    pub fn json(&mut self, arguments: &[&str]) -> Value {
        let ended = self.at(&self.emulator.url, &[arguments, &["--format", "json"]].concat()).success();
        serde_json::from_str(&ended.stdout).expect("JSON")
    }

    /// `PATCH`es the table behind the program's back.
    pub fn somebody_else_changes(url: &str, dataset: &str, table: &str, patch: Value) {
        let (url, path) = (url.to_owned(), format!("datasets/{dataset}/tables/{table}"));
        // Not on the thread of a proxy, which has a runtime of its own.
        let changed = std::thread::spawn(move || rest(&url, "PATCH", &path, Some(patch)).0);
        assert_eq!(changed.join().expect("no panic"), 200);
    }

    /// The transcript without what differs from run to run.
    pub fn shown(&self) -> String {
        static VOLATILE: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
        let volatile = VOLATILE.get_or_init(|| {
            let rules = [
                (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[time]"),
                (r"\b1[78]\d{11}\b", "[ms]"),
                (r"etag( +)\S+", "etag$1[etag]"),
                (r"api2bq_[a-z]+_[0-9a-f]{16,32}", "[job]"),
                (r"[0-9.,]+ k?B \([0-9,]+ bytes\)", "[size]"),
                (r"rows, [0-9.]+ k?B", "rows, [size]"),
                (r"(bytesRead.: )\d+", "$1[bytes]"),
            ];
            rules.map(|(rule, shown)| (Regex::new(rule).expect("a rule"), shown)).to_vec()
        });
        volatile
            .iter()
            .fold(self.transcript.clone(), |text, (rule, shown)| rule.replace_all(&text, *shown).into_owned())
    }
}

#[test]
fn tables_are_created_as_defined_shown_and_listed() {
    let mut session = Session::new();
    let columns = "id:INT64:REQUIRED,at:TIMESTAMP,price:NUMERIC(10,2),tags:STRING:REPEATED";
    let layout = ["--partition-by", "day:at", "--cluster-by", "id", "--require-partition-filter"];
    let create = [&["create", "d.events", "--schema", columns][..], &layout].concat();
    session.run(&create);
    let all = [
        "--partition-expires-in",
        "30d",
        "--expires-in",
        "5d",
        "--description",
        "what happened",
        "--label",
        "team=net",
    ];
    session.run(&[&create[..], &all, &["--create-dataset", "--location", "EU"]].concat());
    session.run(&create);
    session.run(&[&create[..], &["--if-not-exists"]].concat());
    session.run(&["create", "d.events", "--schema", columns, "--partition-by", "day", "--if-not-exists"]);
    session.run(&["create", "d.events", "--schema", "id:INT64", "--if-not-exists"]);
    session.run(&[&create[..], &["--if-not-exists", "--label", "team=other"]].concat());
    session.run(&["create", "d.other", "--schema", "id:INT64", "--create-dataset", "--location", "US"]);
    session.run(&["show", "d.events", "--partitions", "0"]);
    session.run(&["show", "d.nothing"]);

    let fields = json!([
        { "name": "id", "type": "INTEGER" },
        { "name": "where", "type": "RECORD", "fields": [
            { "name": "street", "type": "STRING", "maxLength": "20", "description": "with number" },
            { "name": "flats", "type": "RECORD", "mode": "REPEATED", "fields": [{ "name": "floor", "type": "INT64" }] },
        ] },
    ]);
    let file = session.context.write("schema.json", fields.to_string());
    let file = file.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    session.run(&["create", "d.Straße 9", "--schema-file", &file]);
    session.run(&["show", "api2gbq:d.Straße 9"]);
    session.run(&["create", "d.staging", "--from-pipeline", "flows"]);
    session.run(&["list", "d"]);
    session.run(&["list", "api2gbq.d", "--rows"]);
    session.run(&["list", "nowhere"]);

    session.run(&["create", "d.x"]);
    session.run(&["create", "d.x", "--schema", "id:INT64,ID:STRING"]);
    session.run(&["create", "d.x", "--schema", "_PARTITIONTIME:TIMESTAMP"]);
    session.run(&["create", "d.x", "--schema", "id:INT64", "--partition-by", "day:id"]);
    session.run(&["create", "d.x", "--schema", "id:INT64", "--require-partition-filter"]);
    session.run(&["create", "d.x", "--schema", "id:INT64", "--label", "Team=net"]);
    session.run(&["create", "d.x$20240101", "--schema", "id:INT64"]);
    session.run(&["create", "d.x", "--schema", "id:INT64", "--expires-in", "soon"]);
    session.run(&["create", "d.x", "--schema", "id:INT64", "--expires-at", "2001-01-01"]);
    session.run(&["create", "d.x", "--schema-file", "nowhere.json"]);
    insta::assert_snapshot!(session.shown());

    let shown = session.json(&["show", "d.events"]);
    assert_eq!(shown["table"]["timePartitioning"]["expirationMs"], "2592000000");
    assert_eq!(shown["table"]["schema"]["fields"][2]["precision"], "10");
    let ms =
        |member: &str| shown["table"][member].as_str().and_then(|ms| ms.parse::<u64>().ok()).expect(member);
    let lives = ms("expirationTime") - ms("creationTime");
    assert!((431_998_000..=432_001_000).contains(&lives), "five days, by the server's clock: {lives}");
    let lines = session.at(&session.emulator.url, &["list", "d", "--format", "json"]).success().stdout;
    let names: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(names.len(), 3);
    assert_eq!(names[0]["tableReference"]["tableId"], "Straße 9");
}

#[test]
fn settings_change_under_the_etag_and_a_lost_race_is_told() {
    let mut session = Session::new();
    let create =
        ["create", "d.t", "--schema", "id:INT64", "--create-dataset", "--label", "a=1", "--label", "b=2"];
    session.at(&session.emulator.url, &create).success();
    session.run(&["update", "d.t", "--description", "flows", "--label", "c=3", "--remove-label", "a"]);
    session.run(&["update", "d.t", "--description", "flows", "--label", "c=3", "--remove-label", "a"]);
    let labels = session.json(&["show", "d.t"])["table"]["labels"].clone();
    assert_eq!(labels, json!({ "b": "2", "c": "3" }));
    session.run(&["update", "d.t", "--expires-at", "2020-01-01"]);
    session.run(&["update", "d.t", "--expires-at", "2100-01-01"]);
    session.run(&["update", "d.t", "--never", "--description", ""]);
    session.run(&["update", "d.t", "--require-partition-filter", "true"]);
    session.run(&["update", "d.t"]);
    session.run(&["update", "d.t", "--label", "a=1", "--remove-label", "a"]);
    session.run(&["update", "d.nothing", "--never"]);
    session.run(&["update", "d.t", "--label", "c=4", "--etag", "of-yesterday"]);

    // Somebody else comes between the reading and the writing.
    let upstream = session.emulator.url.clone();
    let racing = Proxy::start(&session.emulator.url, move |_, request| {
        if request.starts_with("PATCH") {
            Session::somebody_else_changes(&upstream, "d", "t", json!({ "description": "theirs" }));
        }
        Act::Pass
    });
    session.run_at(&racing.url, &["update", "d.t", "--description", "ours"]);
    assert_eq!(session.json(&["show", "d.t"])["table"]["description"], "theirs");

    // The answer to the change is lost: it was made, and is not taken for a lost race.
    let losing = Proxy::start(&session.emulator.url, {
        let lost = std::sync::atomic::AtomicBool::new(false);
        move |_, request| match request.starts_with("PATCH")
            && !lost.swap(true, std::sync::atomic::Ordering::SeqCst)
        {
            true => Act::LoseAnswer,
            false => Act::Pass,
        }
    });
    let ended = session.at(&losing.url, &["update", "d.t", "--description", "ours"]).success();
    assert_eq!(ended.stdout, "api2gbq.d.t changed: description \"ours\"\n");
    assert_eq!(losing.seen().iter().filter(|seen| seen.starts_with("PATCH")).count(), 2);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn a_refusal_names_the_permission_that_is_missing() {
    let error = json!({ "error": { "code": 403, "message": "Access Denied: no", "errors": [{ "reason": "accessDenied", "message": "no" }] } });
    let body = error.to_string();
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let denying = Proxy::alone(move |_, _| Act::Instead(answer.clone().into_bytes()));
    let mut session = Session::new();
    let grant = ["--role", "roles/bigquery.dataViewer", "--member", "user:a@b.c"];
    session.run_at(&denying.url, &["show", "d.t"]);
    session.run_at(&denying.url, &["list", "d"]);
    session.run_at(&denying.url, &["create", "d.t", "--schema", "id:INT64"]);
    session.run_at(&denying.url, &["create", "d.t", "--schema", "id:INT64", "--create-dataset"]);
    session.run_at(&denying.url, &["delete", "d.t", "--yes"]);
    session.run_at(&denying.url, &[&["iam", "add", "d.t"][..], &grant].concat());
    insta::assert_snapshot!(session.shown());
}

#[test]
fn an_answer_that_is_lost_does_not_make_a_created_table_another_ones() {
    let session = Session::new();
    session
        .at(&session.emulator.url, &["create", "d.t", "--schema", "id:INT64", "--create-dataset"])
        .success();
    let losing = Proxy::start(&session.emulator.url, {
        let lost = std::sync::atomic::AtomicBool::new(false);
        move |_, request| {
            let is_first =
                request.starts_with("POST") && !lost.swap(true, std::sync::atomic::Ordering::SeqCst);
            if is_first { Act::LoseAnswer } else { Act::Pass }
        }
    });
    let ended = session.at(&losing.url, &["create", "d.u", "--schema", "id:INT64"]).success();
    assert_eq!(ended.stdout, "api2gbq.d.u created: 1 column\n");
    assert_eq!(losing.seen().iter().filter(|seen| seen.starts_with("POST")).count(), 2);
}

#[test]
fn a_long_list_is_printed_page_by_page() {
    let page = |name: &str, next: Option<&str>| {
        let table = json!({ "type": "TABLE", "tableReference": { "projectId": "p", "datasetId": "d", "tableId": name } });
        let body = json!({ "tables": [table], "nextPageToken": next }).to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length";
        Act::Instead(format!("{head}: {}\r\n\r\n{body}", body.len()).into_bytes())
    };
    let pages = Proxy::alone(move |_, request| match request.contains("pageToken=two") {
        true => page("second", None),
        false => page("first", Some("two")),
    });
    let session = Session::new();
    let listed = session.at(&pages.url, &["list", "p.d"]).success().stdout;
    let names: Vec<_> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["table", "first", "second"]);
    assert_eq!(pages.seen().len(), 2);
}

#[test]
fn partitions_are_shown_with_rows_and_bytes_the_newest_first() {
    let answer = |body: &Value| {
        let body = body.to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length";
        format!("{head}: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let table = answer(&json!({
        "type": "TABLE", "numRows": "1234567", "numBytes": "89012345", "location": "EU", "etag": "x",
        "creationTime": "1767225600000", "lastModifiedTime": "1767225600000",
        "timePartitioning": { "type": "DAY" }, "schema": { "fields": [{ "name": "id", "type": "INTEGER" }] },
        "streamingBuffer": { "estimatedRows": "7" },
    }));
    let fields = ["partition_id", "total_rows", "total_logical_bytes", "last_modified_time"];
    let row = |cells: [&str; 4]| json!({ "f": cells.map(|v| json!({ "v": v })) });
    let partitions = answer(&json!({
        "jobComplete": true, "totalRows": "3",
        "schema": { "fields": fields.map(|name| json!({ "name": name, "type": "STRING" })) },
        "rows": [
            row(["__UNPARTITIONED__", "7", "70", "1767225600000000"]),
            row(["20260102", "1234000", "89000000", "1767225600000000"]),
            row(["20260101", "560", "12275", "1767225600000000"]),
        ],
    }));
    let scripted = Proxy::alone(move |_, request| match request.starts_with("POST") {
        true => Act::Instead(partitions.clone()),
        false => Act::Instead(table.clone()),
    });
    let mut session = Session::new();
    session.run_at(&scripted.url, &["show", "p.d.t"]);
    session.run_at(&scripted.url, &["show", "p.d.t", "--partitions", "2"]);
    insta::assert_snapshot!(session.shown());
    let shown = session.at(&scripted.url, &["show", "p.d.t", "--format", "json"]).success().stdout;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(shown["partitions"][1]["total_rows"], "1234000");
}
