//! Where rows go: files that are replaced whole and stay what they were, pipes, and names that promise
//! what is not in them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use crate::context::Ended;
use crate::table::Session;

const ROWS: &str = "n\n1\n";

fn with_one() -> Session {
    let session = Session::new();
    let create = ["query", "CREATE SCHEMA d; CREATE TABLE d.one AS SELECT 1 AS n", "--quiet"];
    session.program_at(&session.emulator.url, &create).success();
    session
}

#[track_caller]
fn write(session: &Session, output: &str) -> Ended {
    session.at(&session.emulator.url, &["rows", "d.one", "--format", "csv", "--output", output]).success()
}

#[test]
fn a_link_stays_and_the_file_it_names_is_replaced() {
    let session = with_one();
    let path = |name: &str| session.context.path(name);
    let read = |name: &str| fs::read_to_string(path(name)).expect(name);
    fs::create_dir(path("far")).expect("a folder");
    session.context.write("far/there.csv", "old");
    // One link to another, and one to a file that is still to come.
    symlink("far/there.csv", path("inner.csv")).expect("a link");
    symlink("inner.csv", path("outer.csv")).expect("a link");
    symlink("far/new.csv", path("ahead.csv")).expect("a link");
    write(&session, "outer.csv");
    write(&session, "ahead.csv");
    assert_eq!([read("far/there.csv"), read("far/new.csv")], [ROWS, ROWS]);
    for link in ["inner.csv", "outer.csv", "ahead.csv"] {
        assert!(fs::symlink_metadata(path(link)).expect(link).is_symlink(), "{link}");
    }
}

#[test]
fn what_is_no_file_is_written_as_it_is() {
    let session = with_one();
    // Not `/dev/stdout` itself: this test once turned it into a file.
    let stdout = session.context.path("stdout");
    symlink("/dev/stdout", &stdout).expect("a link");
    assert_eq!(write(&session, "stdout").stdout, ROWS);
    assert!(fs::symlink_metadata(&stdout).expect("a link").is_symlink());
    assert_eq!(write(&session, "-").stdout, ROWS);
    assert!(!session.context.path("-").exists());

    // What the shell appends to is not emptied first.
    let log = session.context.write("log.txt", "before\n");
    let mut command =
        session.context.command(["table", "rows", "d.one", "--format", "csv", "--output", "stdout"]);
    let appending = fs::OpenOptions::new().append(true).open(&log).expect("a file");
    command.env("BIGQUERY_EMULATOR_HOST", &session.emulator.url).stdout(appending);
    assert!(command.status().expect("it runs").success());
    assert_eq!(fs::read_to_string(&log).expect("a file"), format!("before\n{ROWS}"));

    let pipe = session.context.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut text = String::new();
            fs::File::open(pipe).and_then(|mut pipe| pipe.read_to_string(&mut text)).expect("read");
            text
        }
    });
    write(&session, "pipe");
    assert_eq!(reader.join().expect("no panic"), ROWS);
}

#[test]
fn a_replaced_file_keeps_its_mode_and_what_a_killed_run_left_is_used_up() {
    let session = with_one();
    let secret = session.context.write("secret.csv", "old");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("a mode");
    let left = session.context.write("secret.csv.api2bq.part", "a longer text of a run that was killed");
    write(&session, "secret.csv");
    assert_eq!(fs::read_to_string(&secret).expect("a file"), ROWS);
    assert_eq!(fs::metadata(&secret).expect("a file").permissions().mode() & 0o7777, 0o600);
    assert!(!left.exists());

    // While one writes it the other one is told, and takes nothing away from it.
    let held = fs::File::create(&left).expect("a file");
    held.lock().expect("a lock");
    let ended = session.at(&session.emulator.url, &["rows", "d.one", "--output", "secret.csv"]);
    let said = "error: `secret.csv` is being written by somebody else\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (1, said));
    assert!(left.exists());
}

#[test]
fn a_name_promises_nothing_that_is_not_in_the_file() {
    let mut session = with_one();
    for output in ["one.xlsx", "one", "one.csv.gz", "."] {
        session.run(&["rows", "d.one", "--output", output]);
        assert!(!session.context.path(output).is_file(), "{output}");
    }
    session.run(&["rows", "d.one", "--output", "one.parquet.gz", "--format", "parquet"]);
    session.type_in(&["query", "SELECT 1 AS n", "--output", "one.xlsx"]);
    // The name is the user's, not that of the file that is made first.
    let long = format!("{}.csv", "n".repeat(250));
    let ended = session.at(&session.emulator.url, &["rows", "d.one", "--output", &long]);
    assert_eq!((ended.code, ended.stderr.contains(".part")), (2, false), "{}", ended.stderr);
    insta::assert_snapshot!(session.shown());
    let jobs = crate::embedded::jobs(&session.emulator.url, "api2bq_query");
    assert_eq!(jobs.len(), 1, "only the one that made the table: {jobs:?}");
}

#[test]
fn nothing_listens_or_something_else_does_and_that_is_said_at_once() {
    let session = Session::new();
    let source = session.context.source(&["--rows", "10"]);
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let hint = "hint: is BIGQUERY_EMULATOR_HOST right, and `api2bq emulator` running?\n";
    let commands: [&[&str]; 4] = [
        &["table", "list", "LANL"],
        &["table", "show", "LANL.flows"],
        &["table", "rows", "LANL.flows"],
        &["query", "SELECT 1"],
    ];
    for command in commands {
        let started = std::time::Instant::now();
        let ended = session.program_at(&nobody, command);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(
            ended.stderr.ends_with(&format!(": nothing listens at `{nobody}`\n{hint}")),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 2, "{}", ended.stderr);
        let ended = session.program_at(&source.url, command);
        let said = format!(
            ": what answers at `{}` is not BigQuery, or does not know this call: HTTP 404",
            source.url
        );
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(&said) && ended.stderr.ends_with(hint), "{}", ended.stderr);
        assert!(started.elapsed().as_secs() < 10, "{command:?} took {:?}", started.elapsed());
    }
}

#[test]
fn columns_are_read_from_stdin() {
    let session = with_one();
    let file = session.context.write("columns.json", r#"[{ "name": "id", "type": "INT64" }]"#);
    let mut command = session.context.command(["table", "create", "d.typed", "--schema-file", "-"]);
    command.env("BIGQUERY_EMULATOR_HOST", &session.emulator.url).stdin(fs::File::open(file).expect("a file"));
    let ended: Ended = command.output().expect("it runs").into();
    assert_eq!(ended.success().stdout, "api2gbq.d.typed created: 1 column\n");
}

#[test]
fn a_query_is_read_from_stdin_by_either_name() {
    let session = with_one();
    for arguments in [&["query", "-"][..], &["query", "-f", "-"]] {
        let mut command = session.context.command([arguments, &["--quiet"]].concat());
        command.env("BIGQUERY_EMULATOR_HOST", &session.emulator.url);
        let file = session.context.write("query.sql", "SELECT n FROM d.one");
        command.stdin(fs::File::open(file).expect("a file")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended: Ended = command.output().expect("it runs").into();
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ROWS), "{ended:?}");
    }
}
