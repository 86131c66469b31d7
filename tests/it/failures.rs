//! What goes wrong, what is said then, and the exit code.

use std::fmt::Write as _;

use crate::context::{Ended, RawSource, TestContext, answer};

const ONE: &str = "<record><id>1</id><time>1</time><duration>0</duration><src_comp>C1</src_comp>\
    <src_port>1</src_port><dst_comp>C2</dst_comp><dst_port>2</dst_port><protocol>6</protocol>\
    <packet_count>1</packet_count><byte_count>1</byte_count></record>";

const LINE: &str = r#"{"id":1,"time":1,"duration":0,"src_comp":"C1","src_port":"1","dst_comp":"C2","dst_port":"2","protocol":6,"packet_count":1,"byte_count":1}"#;

const XML: &str = "Content-Type: application/xml\r\n";

fn records(inside: &str) -> String {
    format!("<records>{inside}</records>")
}

fn stage(url: &str, more: &[&str]) -> (TestContext, Ended) {
    let context = TestContext::new();
    let arguments = [&["--until", "stage", "--set", "limits.attempts=1"], more].concat();
    let ended = context.backfill(None, url, 1, &arguments);
    (context, ended)
}

/// Exit code and stderr, with what changes from run to run taken out.
fn report(name: &str, context: &TestContext, ended: &Ended, report: &mut String) {
    let folder = context.path("").display().to_string();
    let said = ended.stderr.replace(folder.trim_end_matches('/'), "DIR");
    let said: Vec<String> = said
        .lines()
        .map(|line| match line.find("127.0.0.1:") {
            Some(at) => {
                let port = line[at + 10..].chars().take_while(char::is_ascii_digit).count();
                format!("{}127.0.0.1:PORT{}", &line[..at], &line[at + 10 + port..])
            }
            None => line.to_owned(),
        })
        .collect();
    writeln!(report, "── {name}: exit {}\n{}\n", ended.code, said.join("\n")).expect("a string takes all");
}

#[test]
fn mistakes_are_named_with_the_next_step() {
    let mut all = String::new();
    let mut add = |name: &str, arguments: &[&str], environment: &[(&str, &str)]| {
        let context = TestContext::new();
        context.write("stage.sql", "SELECT id FROM records");
        context.write("drop.sql", "DROP TABLE records");
        let mut command = context.command(arguments);
        let ended: Ended = command.envs(environment.iter().copied()).output().expect("it runs").into();
        report(name, &context, &ended, &mut all);
    };
    let run = ["backfill", "flows", "--from", "1", "--to", "1", "--set"];
    let with = |last: &'static str| [&run[..], &[last]].concat();
    add("unknown pipeline", &["backfill", "flow", "--from", "1", "--to", "1"], &[]);
    add("no such file", &["backfill", "./mine.toml", "--from", "1", "--to", "1"], &[]);
    add("wrong key", &with("stage.ulr=x"), &[]);
    add("wrong value", &with("limits.attempts=many"), &[]);
    add("backward range", &["backfill", "flows", "--from", "3", "--to", "1"], &[]);
    add("no such day", &["backfill", "flows", "--from", "2011-02-30", "--to", "1"], &[]);
    add("part of a day", &["backfill", "flows", "--from", "0s", "--to", "100s"], &[]);
    add(
        "no credentials",
        &with("stage.url=stage"),
        &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")],
    );
    add(
        "no emulator",
        &[&with("stage.url=stage")[..], &["--set", "limits.attempts=1"]].concat(),
        &[("BIGQUERY_EMULATOR_HOST", "127.0.0.1:1")],
    );
    add(
        "SQL without a column",
        &[&with("transform.sql=./stage.sql")[..], &["--until", "stage"]].concat(),
        &[],
    );
    add("SQL that drops", &[&with("transform.sql=./drop.sql")[..], &["--until", "stage"]].concat(), &[]);
    add(
        "unreachable source",
        &[
            &with("source.url=http://127.0.0.1:1/flows")[..],
            &["--until", "stage", "--set", "limits.attempts=1"],
        ]
        .concat(),
        &[],
    );
    add(
        "unwritable summary",
        &[&with("stage.url=stage")[..], &["--summary-json", "/nowhere/x.json"]].concat(),
        &[],
    );
    add("days without end", &["backfill", "flows", "--from", "1", "--to", "1293840000"], &[]);
    add("no such source file", &[&with("source.url=nowhere.xml")[..], &["--until", "stage"]].concat(), &[]);
    add("stage is no place", &[&with("stage.url=ftp://x/y")[..], &["--until", "stage"]].concat(), &[]);
    insta::assert_snapshot!(all);
}

#[test]
fn bodies_that_cannot_be_trusted_fail_the_window() {
    let mut all = String::new();
    let chunked = |body: &str, end: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n{end}", body.len()).into_bytes()
    };
    let cut = format!("HTTP/1.1 200 OK\r\n{XML}Content-Length: 100000\r\n\r\n{}", records(ONE)).into_bytes();
    let other_window = ONE.replace("<time>1<", "<time>86401<");
    for (name, bytes) in [
        ("whole document, transfer cut off", chunked(&records(ONE), "")),
        ("whole transfer, document cut off", chunked(&format!("<records>{ONE}"), "0\r\n\r\n")),
        ("shorter than its length", cut),
        ("login page", answer("200 OK", "Content-Type: text/html\r\n", "<html><body>log in</body></html>")),
        ("login page as XML", answer("200 OK", XML, "<html><body>log in</body></html>")),
        (
            "lines, and nothing says where they end",
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n{LINE}\n"
            )
            .into_bytes(),
        ),
        ("not found", answer("404 Not Found", "", "no such stream")),
        ("no content", answer("204 No Content", "", "")),
        ("forbidden", answer("403 Forbidden", "", "")),
        ("outside of the window", answer("200 OK", XML, &records(&other_window))),
        (
            "fewer records than promised",
            answer("200 OK", &format!("{XML}x-record-count: 2\r\n"), &records(ONE)),
        ),
        ("gzip that is none", answer("200 OK", &format!("{XML}Content-Encoding: gzip\r\n"), &records(ONE))),
        ("an encoding nobody asked for", answer("200 OK", &format!("{XML}Content-Encoding: br\r\n"), "x")),
        ("redirect elsewhere", answer("302 Found", "Location: http://127.0.0.1:1/metadata\r\n", "")),
    ] {
        let source = RawSource::start(vec![bytes]);
        let (context, ended) = stage(&source.url, &["--set", "source.gzip=on"]);
        assert_eq!(ended.code, 3, "{name}: {ended:?}");
        assert_eq!(context.staged("stage"), [""; 0], "{name}: nothing may be staged");
        report(name, &context, &ended, &mut all);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn weather_is_waited_for_and_retry_after_is_honoured() {
    let busy = answer("503 Service Unavailable", "Retry-After: 1\r\n", "busy");
    let good = answer("200 OK", XML, &records(ONE));
    let source = RawSource::start(vec![busy.clone(), busy, good]);
    let started = std::time::Instant::now();
    let (_context, ended) = stage(&source.url, &["--set", "limits.attempts=3"]);
    ended.success();
    assert_eq!(source.requests(), 3);
    assert!(started.elapsed().as_secs() >= 2, "twice a second was asked for");
}

#[test]
fn a_body_that_breaks_off_is_fetched_again_from_its_start() {
    let half = format!("HTTP/1.1 200 OK\r\n{XML}Content-Length: 100000\r\n\r\n<records>{ONE}").into_bytes();
    let source = RawSource::start(vec![half, answer("200 OK", XML, &records(ONE))]);
    let (_context, ended) = stage(&source.url, &["--set", "limits.attempts=2"]);
    let ended = ended.success();
    assert!(ended.stdout.contains("1 records in = 1 staged + 0 duplicates + 0 rejects"), "{}", ended.stdout);
}

#[test]
fn rejects_are_kept_with_place_and_reason_and_decide_the_exit_code() {
    let wrong = ONE.replace("<protocol>6<", "<protocol>six<");
    let body = records(&format!("{ONE}{wrong}"));
    let source = RawSource::start(vec![answer("200 OK", XML, &body)]);
    let (context, ended) = stage(&source.url, &[]);
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.contains("1 records were rejected, 0 are allowed"), "{}", ended.stderr);
    assert!(ended.stdout.contains("2 records in = 1 staged + 0 duplicates + 1 rejects"), "{}", ended.stdout);
    let run = std::fs::read_dir(context.path("stage/flows/rejects")).expect("rejects").flatten().next();
    let file =
        std::fs::read_dir(run.expect("a run").path()).expect("files").flatten().next().expect("a file");
    let line: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file.path()).expect("readable")).expect("JSON");
    assert_eq!(line["offset"], body.find(&wrong).expect("inside"));
    assert_eq!(
        (line["reason"].as_str(), line["raw"].as_str()),
        (Some("not_an_integer:protocol"), Some(&*wrong))
    );

    let (_context, ended) = stage(&source.url, &["--max-rejects", "1"]);
    ended.success();
}

#[test]
fn sql_that_leaves_out_rows_must_say_so() {
    let context = TestContext::new();
    let columns =
        "id, time, duration, src_comp, src_port, dst_comp, dst_port, protocol, packet_count, byte_count";
    context.write("few.sql", format!("SELECT {columns}, 1 AS day FROM records WHERE id < 0"));
    let source = RawSource::start(vec![answer("200 OK", XML, &records(ONE))]);
    let filter = ["--until", "stage", "--set", "transform.sql=./few.sql"];
    // Without a QUALIFY the program cannot tell a filter from a removal of duplicates.
    let plain = context.backfill(None, &source.url, 1, &filter);
    assert_eq!(plain.code, 7, "{plain:?}");
    assert!(plain.stderr.contains("transform.allow_filter"), "{}", plain.stderr);
    let allowed = context.backfill(
        None,
        &source.url,
        1,
        &[&filter[..], &["--set", "transform.allow_filter=true"]].concat(),
    );
    assert!(allowed.success().stdout.contains("+ 1 filtered"));
}

#[test]
fn a_disk_that_takes_no_more_is_named_and_nothing_is_left_half_done() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "50000", "--days", "1"]);
    let url = format!("source.url={}", source.flows());
    // A limit on file size stands in for a full disk: both refuse a write half way.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\"";
    let arguments = ["backfill", "flows", "--from", "1", "--to", "1", "--until", "stage", "--set", &url];
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_api2bq")]).args(arguments);
    command.args(["--set", "stage.url=stage"]).current_dir(context.path(""));
    let ended: Ended = command.output().expect("bash runs").into();
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("cannot write"), "{}", ended.stderr);
    assert!(ended.stderr.contains("File too large"), "{}", ended.stderr);
    assert!(ended.stderr.contains("resume with"), "{}", ended.stderr);
    assert_eq!(context.staged("stage"), [""; 0]);
}

#[test]
fn sql_that_moves_rows_to_other_days_is_refused() {
    let context = TestContext::new();
    let columns =
        "id, time, duration, src_comp, src_port, dst_comp, dst_port, protocol, packet_count, byte_count";
    let source = RawSource::start(vec![answer("200 OK", XML, &records(ONE))]);
    for (day, words) in
        [("2", "put a row of day 1 into day 2"), ("1.5", "gives `day` as FLOAT64, not as INT64")]
    {
        context.write("day.sql", format!("SELECT {columns}, {day} AS day FROM records"));
        let ended =
            context.backfill(None, &source.url, 1, &["--until", "stage", "--set", "transform.sql=./day.sql"]);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
}

#[test]
fn decoding_alone_counts_and_keeps_nothing() {
    let source = RawSource::start(vec![answer("200 OK", XML, &records(ONE))]);
    let context = TestContext::new();
    let ended = context.backfill(None, &source.url, 1, &["--until", "decode"]).success();
    assert!(ended.stdout.contains("1 records decoded, 0 rejects"), "{}", ended.stdout);
    assert_eq!(context.staged("stage"), [""; 0]);
}

#[test]
fn table_names_with_spaces_and_letters_of_the_world() {
    let source = RawSource::start(vec![answer("200 OK", XML, &records(ONE))]);
    let context = TestContext::new();
    let emulator = context.emulator();
    let tables = ["--set", "warehouse.staging_table=my ünï flows", "--set", "warehouse.table=00_お客様"];
    for _ in 0..2 {
        context.backfill(Some(&emulator), &source.url, 1, &tables).success();
    }
}

/// Lines are numbered from 1 in every window: as ids they would make other days' rows one.
#[test]
fn line_numbers_are_no_ids_where_there_are_several_windows() {
    let context = TestContext::new();
    context.write("flows-1.txt", "1,0,C1,1,C2,2,6,1,1\n");
    let per_day = context.path("flows-{day}.txt");
    let ended = context.backfill(None, per_day.to_str().expect("UTF-8"), 1, &["--until", "stage"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("numbered from 1 in every window"), "{}", ended.stderr);
}

#[test]
fn without_any_credentials_nothing_is_fetched() {
    let source = RawSource::start(vec![answer("200 OK", XML, &records(ONE))]);
    let context = TestContext::new();
    let ended = context.backfill(None, &source.url, 1, &[]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{}", ended.stderr);
    assert_eq!(source.requests(), 0);
}
