//! `api2bq query`: price first, answers, refusals with the place in the SQL, and Ctrl-C.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::context::Ended;
use crate::embedded::rest;
use crate::proxy::{Act, Proxy};
use crate::rows::load;
use crate::table::Session;

fn with_people() -> Session {
    let session = Session::new();
    let fields = json!([
        { "name": "id", "type": "INT64" },
        { "name": "name", "type": "STRING" },
        { "name": "born", "type": "DATE" },
        { "name": "tags", "type": "STRING", "mode": "REPEATED" },
    ]);
    let rows = [
        json!({ "id": 1, "name": "Ada", "born": "1815-12-10", "tags": ["a", "b"] }),
        json!({ "id": 2, "name": "Grace", "born": "1906-12-09" }),
        json!({ "id": 3 }),
    ];
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let file = session.context.write("people.ndjson", lines);
    load(&session, "people", &file, "NEWLINE_DELIMITED_JSON", &fields);
    session
}

fn with_stdin(session: &Session, arguments: &[&str], stdin: &str) -> Ended {
    let mut command = session.context.command(arguments);
    command.env("BIGQUERY_EMULATOR_HOST", &session.emulator.url);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut pipe = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut pipe, stdin.as_bytes()).expect("written");
    drop(pipe);
    child.wait_with_output().expect("it ends").into()
}

#[test]
fn answers_come_with_their_price_and_in_every_format() {
    let mut session = with_people();
    let all = "SELECT * FROM d.people ORDER BY id";
    session.type_in(&["query", all]);
    for format in ["table", "tsv", "json", "ndjson", "markdown"] {
        session.type_in(&["query", all, "--format", format, "--quiet"]);
    }
    session.type_in(&["query", all, "--limit", "1", "--format", "csv"]);
    session.type_in(&["query", "SELECT id FROM d.people WHERE FALSE"]);
    session.type_in(&["query", all, "--output", "people.ndjson.json", "--format", "ndjson"]);
    insta::assert_snapshot!(session.shown());
    let written = std::fs::read_to_string(session.context.path("people.ndjson.json")).expect("a file");
    assert_eq!(written.lines().count(), 3);
}

#[test]
fn a_dry_run_says_what_it_would_read_and_runs_nothing() {
    let mut session = with_people();
    let sql = "SELECT id, name FROM d.people";
    session.type_in(&["query", sql, "--dry-run"]);
    session.type_in(&["query", sql, "--dry-run", "--price-per-tib", "1000"]);
    session.type_in(&["query", sql, "--max-bytes", "1MB"]);
    session.type_in(&["query", sql, "--max-bytes", "lots"]);
    session.type_in(&["query", "SELECT 1 AS one", "--max-bytes", "1"]);
    insta::assert_snapshot!(session.shown());
    let ended = session.type_in(&["query", sql, "--dry-run", "--format", "json"]).success();
    let plan: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&plan["statementType"], &plan["accuracy"]), (&json!("SELECT"), &json!("PRECISE")));
    assert_eq!(
        plan["price"],
        json!({ "bytesBilled": 10 << 20, "usd": 5.9604644775390625e-5, "usdPerTib": 6.25 })
    );
    assert_eq!(plan["schema"][1]["name"], "name");
    // Of all those calls one ran, the one that reads nothing.
    let (_, jobs) = rest(&session.emulator.url, "GET", "jobs", None);
    let queries = jobs["jobs"].as_array().expect("jobs").iter();
    let ran =
        queries.filter(|job| job["jobReference"]["jobId"].as_str().is_some_and(|id| id.contains("_query_")));
    assert_eq!(ran.count(), 1, "{jobs}");
}

#[test]
fn what_bigquery_has_against_a_query_costs_nothing() {
    let session = with_people();
    for (sql, words) in [
        ("SELECT nme FROM d.people", "error: Unrecognized name: nme"),
        ("SELECT id FROM d.nothing", "error: Not found: Table api2gbq:d.nothing"),
        ("SELECT id FROM people", "error: Table \"people\" must be qualified with a dataset"),
        ("SELEC id FROM d.people", "error: Syntax error"),
    ] {
        let ended = session.program_at(&session.emulator.url, &["query", sql]);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
        assert!(ended.stderr.starts_with(words), "{}", ended.stderr);
    }
    let (_, jobs) = rest(&session.emulator.url, "GET", "jobs", None);
    assert!(!jobs.to_string().contains("api2bq_query"), "{jobs}");
}

#[test]
fn the_place_of_a_mistake_is_marked_in_the_query() {
    let session = with_people();
    let refusal = json!({ "error": { "code": 400, "message": "Unrecognized name: nme at [2:7]",
        "errors": [{ "reason": "invalidQuery", "message": "Unrecognized name: nme at [2:7]" }] } });
    let refusing = Proxy::start(&session.emulator.url, move |_, _| {
        let body = refusal.to_string();
        let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n";
        Act::Instead(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    });
    let ended = session.program_at(&refusing.url, &["query", "SELECT id FROM d.people\nWHERE nme = 1"]);
    let expected = "error: Unrecognized name: nme at [2:7]\n2 | WHERE nme = 1\n  |       ^\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (2, expected));
}

#[test]
fn mistakes_in_the_command_are_named() {
    let mut session = with_people();
    session.type_in(&["query", ""]);
    session.type_in(&["query"]);
    session.type_in(&["query", "SELECT 1", "-f", "query.sql"]);
    session.type_in(&["query", "-f", "nowhere.sql"]);
    session.type_in(&["query", "SELECT @x", "--param", "x:TEXT:1"]);
    session.type_in(&["query", "SELECT 1", "--as-of", "1h"]);
    session.type_in(&["query", "SELECT 1 FROM d.people", "--as-of", "yesterday"]);
    session.type_in(&["query", "SELECT 1", "--write", "append"]);
    session.type_in(&["query", "SELECT 1", "--default-dataset", "a b"]);
    session.type_in(&["query", "SELECT 1", "--destination", "nowhere"]);
    session.type_in(&["query", "SELECT 1", "--format", "parquet", "--output", "nowhere/x.parquet"]);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn statements_say_what_they_did() {
    let mut session = with_people();
    for sql in [
        "CREATE TABLE d.t AS SELECT id, name FROM d.people",
        "INSERT INTO d.t (id, name) VALUES (4, 'Edsger'), (5, 'Barbara')",
        "UPDATE d.t SET name = 'Alan' WHERE id = 3",
        "DELETE FROM d.t WHERE id < 3",
        "DROP TABLE d.t",
    ] {
        session.type_in(&["query", sql, "--quiet"]);
    }
    insta::assert_snapshot!(session.shown());
    let delete = ["query", "DELETE FROM d.people WHERE id = 1", "--format", "json", "--quiet"];
    let ended = session.type_in(&delete).success();
    let done: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&done["statementType"], &done["affectedRows"]), (&json!("DELETE"), &json!(1)));
}

#[test]
fn parameters_have_every_kind_of_value() {
    let session = with_people();
    let url = session.emulator.url.clone();
    let first = |sql: &str, parameters: &[&str]| {
        let parameters = parameters.iter().flat_map(|parameter| ["--param", parameter]);
        let arguments: Vec<&str> =
            ["query", sql, "--quiet", "--format", "csv"].into_iter().chain(parameters).collect();
        let ended = session.program_at(&url, &arguments).success();
        ended.stdout.lines().nth(1).unwrap_or_else(|| panic!("no row: {ended:?}")).to_owned()
    };
    let named = "SELECT name FROM d.people WHERE id = @id AND born < @before";
    assert_eq!(first(named, &["id:INT64:1", "before:DATE:1900-01-01"]), "Ada");
    assert_eq!(
        first("SELECT COUNT(*) FROM d.people WHERE id > ? AND id < ?", &[":INT64:1", ":INT64:3"]),
        "1"
    );
    assert_eq!(first("SELECT name FROM d.people WHERE name = @n", &["n::Grace"]), "Grace");
    assert_eq!(
        first("SELECT COUNT(*) FROM d.people WHERE id IN UNNEST(@ids)", &["ids:ARRAY<INT64>:[1, 3]"]),
        "2"
    );
    assert_eq!(first("SELECT @x IS NULL", &["x:INT64:NULL"]), "true");
    assert_eq!(first("SELECT @t", &["t:TIMESTAMP:2024-01-31 12:00:00+00"]), "2024-01-31T12:00:00Z");
}

#[test]
fn a_query_comes_from_a_file_or_stdin_and_finds_bare_names() {
    let session = with_people();
    session.context.write("query.sql", "SELECT COUNT(*) AS n\nFROM people");
    let arguments = ["query", "-f", "query.sql", "--default-dataset", "api2gbq.d", "--quiet"];
    let ended = session.program_at(&session.emulator.url, &arguments).success();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("n\n3\n", ""));
    let ended =
        with_stdin(&session, &["query", "-", "--quiet"], "SELECT MAX(id) AS m FROM d.people").success();
    assert_eq!(ended.stdout, "m\n3\n");
}

#[test]
fn tables_are_read_as_they_were() {
    let session = with_people();
    let url = session.emulator.url.clone();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let before = now.as_millis().to_string();
    session.program_at(&url, &["query", "DELETE FROM d.people WHERE id > 1", "--quiet"]).success();
    let sql =
        "WITH old AS (SELECT id FROM d.people) SELECT COUNT(*) AS n FROM old JOIN d.people AS p USING (id)";
    let count = |more: &[&str]| {
        session
            .program_at(&url, &[&["query", sql, "--quiet", "--format", "csv"], more].concat())
            .success()
            .stdout
    };
    assert_eq!(count(&[]), "n\n1\n");
    assert_eq!(count(&["--as-of", &before]), "n\n3\n");
}

#[test]
fn a_result_goes_into_a_table_as_it_is_told_to() {
    let mut session = with_people();
    let sql = "SELECT id FROM d.people";
    let into = ["query", sql, "--destination", "d.copy"];
    session.type_in(&into).success();
    session.type_in(&into);
    session.type_in(&[&into[..], &["--write", "append"]].concat()).success();
    session.type_in(&[&into[..], &["--write", "truncate"]].concat()).success();
    session.type_in(&["query", sql, "--destination", "d.copy", "--output", "rows.csv"]);
    insta::assert_snapshot!(session.shown());
}

#[test]
fn an_answer_that_is_lost_runs_the_query_once() {
    let session = with_people();
    let lost = std::sync::atomic::AtomicBool::new(false);
    let losing = Proxy::start(&session.emulator.url, move |number, request| {
        // The first POST is the dry run.
        let is_job = request.starts_with("POST") && request.contains("/jobs") && number > 0;
        match is_job && !lost.swap(true, std::sync::atomic::Ordering::SeqCst) {
            true => Act::LoseAnswer,
            false => Act::Pass,
        }
    });
    let arguments = ["query", "SELECT COUNT(*) AS n FROM d.people", "--format", "csv", "--quiet"];
    let ended = session.program_at(&losing.url, &arguments).success();
    assert_eq!(ended.stdout, "n\n3\n");
    let (_, jobs) = rest(&session.emulator.url, "GET", "jobs", None);
    let queries = jobs["jobs"].as_array().expect("jobs").iter();
    let ran =
        queries.filter(|job| job["jobReference"]["jobId"].as_str().is_some_and(|id| id.contains("_query_")));
    assert_eq!(ran.count(), 1, "{jobs}");
}

#[test]
fn ctrl_c_cancels_the_job() {
    let session = with_people();
    // The job's state never gets back, so the query seems to run for ever.
    let pending = json!({ "status": { "state": "RUNNING" } }).to_string();
    let holding = Proxy::start(&session.emulator.url, move |number, request| {
        let is_job = request.contains("/jobs") && number > 0 && !request.contains("/cancel");
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ";
        match is_job {
            true => Act::Instead(format!("{head}{}\r\n\r\n{pending}", pending.len()).into_bytes()),
            false => Act::Pass,
        }
    });
    let mut command = session.context.command(["query", "SELECT COUNT(*) FROM d.people"]);
    command.env("BIGQUERY_EMULATOR_HOST", &holding.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    let started = Instant::now();
    while !holding.seen().iter().any(|seen| seen.starts_with("GET") && seen.contains("/jobs/")) {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", holding.seen());
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    assert_eq!((ended.code, ended.stdout.as_str()), (130, ""), "{ended:?}");
    assert!(ended.stderr.contains("error: interrupted; job `api2bq_query_"), "{}", ended.stderr);
    assert!(holding.seen().iter().any(|seen| seen.starts_with("POST") && seen.contains("/cancel")));
}

/// Behind it a job is found only where it runs, as outside of the US and the EU.
fn needing_locations(session: &Session) -> Proxy {
    let body = json!({ "error": { "code": 404, "message": "Not found: Job",
        "errors": [{ "reason": "notFound", "message": "Not found: Job" }] } });
    Proxy::start(&session.emulator.url, move |_, request| {
        let is_of_job = ["/jobs/", "/queries/"].iter().any(|part| request.contains(part));
        if !is_of_job || request.contains("location=") {
            return Act::Pass;
        }
        let (head, body) = ("HTTP/1.1 404 Not Found\r\nContent-Type: application/json", body.to_string());
        let length = format!("Connection: close\r\nContent-Length: {}", body.len());
        Act::Instead(format!("{head}\r\n{length}\r\n\r\n{body}").into_bytes())
    })
}

#[test]
fn a_job_is_asked_for_and_cancelled_where_it_runs() {
    let context = crate::context::TestContext::new();
    let data_dir = context.path("wh");
    let data_dir = data_dir.to_str().expect("UTF-8");
    let fault =
        ["--fault", "running-polls=3:1@api2bq_query", "--fault", "running-polls=1000000@api2bq_query"];
    let emulator = [&["emulator", "--data-dir", data_dir][..], &fault].concat();
    let session = Session { emulator: context.server(&emulator), context, transcript: String::new() };
    let far = needing_locations(&session);
    let ended = session.program_at(&far.url, &["query", "SELECT 1 AS n", "--quiet"]).success();
    assert_eq!(ended.stdout, "n\n1\n");

    let mut command = session.context.command(["query", "SELECT 2 AS n"]);
    command.env("BIGQUERY_EMULATOR_HOST", &far.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    let started = Instant::now();
    let asked = |seen: &str| seen.starts_with("GET") && seen.contains("/jobs/");
    let before = far.seen().len();
    while !far.seen()[before..].iter().any(|seen| asked(seen)) {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", far.seen());
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(ended.stderr.contains("is cancelled"), "{}", ended.stderr);
    assert!(far.seen().iter().any(|seen| seen.contains("/cancel?location=US")), "{:?}", far.seen());
}
