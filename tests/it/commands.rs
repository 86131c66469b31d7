//! `status` and `rejects`, and what a backfill says at its end of what is missing.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::context::{Ended, RawSource, Running, TestContext, answer};

const XML: &str = "Content-Type: application/xml\r\n";

pub fn record(id: u32, time: i64, protocol: &str) -> String {
    format!(
        "<record><id>{id}</id><time>{time}</time><duration>0</duration><src_comp>C1</src_comp>\
         <src_port>1</src_port><dst_comp>C2</dst_comp><dst_port>2</dst_port><protocol>{protocol}</protocol>\
         <packet_count>1</packet_count><byte_count>1</byte_count></record>"
    )
}

pub fn body(records: &[String]) -> Vec<u8> {
    answer("200 OK", XML, &format!("<records>{}</records>", records.concat()))
}

/// A command about the staging area of `context`.
pub fn ask(context: &TestContext, emulator: Option<&Running>, arguments: &[&str]) -> Ended {
    let stage = format!("stage.url={}", context.path("stage").display());
    let mut command = context.command(arguments.iter().copied().chain(["--set", &stage]));
    if let Some(emulator) = emulator {
        command.env("BIGQUERY_EMULATOR_HOST", &emulator.url);
    }
    command.output().expect("it runs").into()
}

pub fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"))
}

/// Files below a folder whose names end so, sorted.
pub fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.display().to_string().ends_with(end) => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Three days: one with records, one without, one that the source does not have.
pub fn half_done(context: &TestContext, emulator: Option<&Running>, more: &[&str]) -> (RawSource, Ended) {
    let days = [body(&[record(1, 1, "6"), record(1, 2, "6"), record(2, 3, "x")]), body(&[])];
    let source = RawSource::start([&days[..], &[answer("404 Not Found", "", "no such day")]].concat());
    let once = [&["--jobs", "1", "--set", "limits.attempts=1", "--max-rejects", "1"], more].concat();
    let staged = context.backfill(None, &source.url, 3, &[&once[..], &["--until", "stage"]].concat());
    if emulator.is_none() {
        return (source, staged);
    }
    let loaded = context.backfill(emulator, &source.url, 3, &once);
    (source, loaded)
}

#[test]
fn status_tells_done_empty_open_and_missing_apart() {
    let context = TestContext::new();
    let none = ask(&context, None, &["status", "flows"]).success();
    assert!(none.stdout.contains("has no runs"), "{}", none.stdout);

    let (_source, staged) = half_done(&context, None, &[]);
    assert_eq!(staged.code, 3, "{staged:?}");
    let status = json(&ask(&context, None, &["status", "flows", "--format", "json"]).success());
    let states = |status: &Value| -> Vec<String> {
        let windows = status["run"]["windows"].as_array().expect("windows");
        windows.iter().map(|w| w["state"].as_str().expect("a state").to_owned()).collect()
    };
    assert_eq!(states(&status), ["open", "open", "missing"]);
    let reason = status["run"]["windows"][2]["reason"].as_str().expect("a reason");
    assert!(reason.contains("404 Not Found (http_404): no such day"), "{reason}");
    // Windows tile the range: nothing overlaps and nothing is left out.
    let windows = status["run"]["windows"].as_array().expect("windows");
    assert!(windows.windows(2).all(|w| w[0]["window"]["before"] == w[1]["window"]["after"]));

    let emulator = context.emulator();
    let (_source, loaded) = half_done(&context, Some(&emulator), &["--new-run=second"]);
    assert_eq!(loaded.code, 3, "{loaded:?}");
    // The newest run is the one that is shown.
    let status = json(&ask(&context, None, &["status", "flows", "--format", "json"]).success());
    assert_eq!(states(&status), ["done", "empty", "missing"]);
    assert_eq!(status["runs"].as_array().map(Vec::len), Some(2));
    let newest = &status["runs"][1];
    assert_eq!(newest["run"], status["run"]["run"]);
    assert_eq!((&newest["windows"]["done"], &newest["windows"]["empty"]), (&1.into(), &1.into()));
    let day = &status["run"]["windows"][0];
    assert_eq!(day["counts"]["records"], 3);
    assert_eq!(day["partitions"][0]["rows"], 1);
    assert_eq!(day["partitions"][0]["loaded"], 1);

    let text = ask(&context, None, &["status", "flows"]).success().stdout;
    let line = |day: &str| {
        let is_of_day = |line: &&str| line.split_whitespace().next() == Some(day);
        text.lines().find(is_of_day).unwrap_or_else(|| panic!("no day {day}: {text}")).to_owned()
    };
    assert!(line("1").contains(" done ") && line("1").ends_with(&"█".repeat(10)), "{text}");
    assert!(line("2").contains(" empty ") && line("2").ends_with("·"), "{text}");
    assert!(
        line("3").contains(" missing ") && line("3").contains("✗ ") && line("3").contains("404"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "no colours in a pipe");
    let older = status["runs"][0]["run"].as_str().expect("an id");
    let asked = ask(&context, None, &["status", "flows", "--run", &older[..6]]).success().stdout;
    assert!(asked.contains(&format!("windows of run `{older}`")), "{asked}");
    assert_eq!(ask(&context, None, &["status", "flows", "--run", "nonsense"]).code, 2);
}

#[test]
fn status_names_a_damaged_entry_and_shows_the_rest() {
    let context = TestContext::new();
    half_done(&context, None, &[]);
    let first = files(&context.path("stage"), "0001.json").remove(0);
    std::fs::write(&first, b"{").expect("written");
    let status = ask(&context, None, &["status", "flows"]);
    assert_eq!(status.code, 5, "{status:?}");
    assert!(status.stderr.contains("0000000000-0000086400/0001.json` is damaged"), "{}", status.stderr);
    for words in ["damaged: journal entry", "open", "missing"] {
        assert!(status.stdout.contains(words), "{words}: {}", status.stdout);
    }
    let status = ask(&context, None, &["status", "flows", "--format", "json"]);
    assert_eq!((status.code, &json(&status)["run"]["windows"][1]["state"]), (5, &"open".into()));

    // An entry that is gone is noticed by those behind it.
    let context = TestContext::new();
    half_done(&context, Some(&context.emulator()), &[]);
    let newest = files(&context.path("stage"), "0002.json").remove(0);
    std::fs::remove_file(newest.with_file_name("0001.json")).expect("removed");
    let status = ask(&context, None, &["status", "flows"]);
    assert_eq!(status.code, 5, "{status:?}");
    assert!(status.stderr.contains("0001.json` is gone, and later ones are there"), "{}", status.stderr);
}

#[test]
fn rejects_are_grouped_by_reason_with_the_exact_count_and_an_example() {
    let context = TestContext::new();
    let long = record(9, 9, &format!("\u{9b}31m{}\n", "x".repeat(500)));
    let without = |id| record(id, 4, "6").replace("<protocol>6</protocol>", "");
    let days = [
        body(&[record(1, 1, "six"), record(2, 2, "6"), record(3, 3, "six"), without(4), without(5)]),
        body(&[record(6, 86_406, "six")]),
    ];
    let source = RawSource::start(days.to_vec());
    let kept = ["--until", "stage", "--jobs", "1", "--set", "limits.rejects_kept=3"];
    let ended = context.backfill(None, &source.url, 2, &kept);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended.stderr.contains("5 records were rejected, 0 are allowed: 83.33 % of 6"),
        "{}",
        ended.stderr
    );
    // What an attempt before the intent has left is no reject of this run.
    let file = files(&context.path("stage"), ".ndjson").remove(0);
    let leftover = std::fs::read_to_string(&file).expect("read").replace("six", "seven");
    std::fs::write(file.with_file_name("0000000000-0000086400-00000000.ndjson"), leftover).expect("written");

    let text = ask(&context, None, &["rejects", "flows"]).success().stdout;
    assert!(text.contains("5 rejects in run"), "{text}");
    assert!(text.contains(", 4 of them kept; 1 are only counted"), "{text}");
    assert!(text.contains("3  not_an_integer:protocol") && text.contains("first: day 1"), "{text}");
    assert!(text.contains("<protocol>six</protocol>") && !text.contains("seven"), "{text}");
    let report = json(&ask(&context, None, &["rejects", "flows", "--format", "json"]).success());
    assert_eq!((&report["rejects"], &report["kept"]), (&5.into(), &4.into()));
    assert_eq!((&report["reasons"][0]["count"], &report["reasons"][0]["offset"]), (&3.into(), &9.into()));
    let lines = ask(&context, None, &["rejects", "flows", "--format", "ndjson"]).success().stdout;
    assert_eq!(lines.lines().count(), 4);
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let second = ask(&context, None, &["rejects", "flows", "--day", "2"]).success().stdout;
    assert!(second.contains("1 rejects in run") && second.contains("first: day 2"), "{second}");

    // A reject may hold anything; the terminal sees one short line of it.
    let context = TestContext::new();
    let source = RawSource::start(vec![body(&[long])]);
    context.backfill(None, &source.url, 1, &["--until", "stage", "--max-rejects", "100%"]);
    let text = ask(&context, None, &["rejects", "flows"]);
    assert!(!text.stdout.contains('\u{9b}'), "{text:?}");
    assert!(text.stdout.lines().all(|line| line.chars().count() < 410), "{text:?}");
    for file in files(&context.path("stage"), ".ndjson") {
        std::fs::write(file, b"{}\n").expect("written");
        assert_eq!(ask(&context, None, &["rejects", "flows"]).code, 5);
    }
}

#[test]
fn a_share_of_rejects_can_be_allowed() {
    let wrong = record(2, 2, "six");
    let source =
        RawSource::start(vec![body(&[record(1, 1, "6"), wrong, record(3, 3, "6"), record(4, 4, "6")])]);
    for (allowed, code) in [("24.9999%", 3), ("25%", 0), ("0", 3), ("1", 0), ("101%", 2), ("x", 2), ("-1", 2)]
    {
        let context = TestContext::new();
        let ended = context.backfill(None, &source.url, 1, &["--until", "stage", "--max-rejects", allowed]);
        assert_eq!(ended.code, code, "{allowed}: {ended:?}");
        if code == 3 {
            let words = format!("1 records were rejected, {allowed} are allowed: 25.00 % of 4");
            assert!(ended.stderr.contains(&words), "{}", ended.stderr);
        }
    }
}

#[test]
fn the_last_lines_name_missing_windows_reason_and_resume_for_one_three_and_a_hundred() {
    let source = RawSource::start(vec![answer("404 Not Found", "", "no such day")]);
    for (days, lines) in [(1, 0), (3, 3), (100, 11)] {
        let context = TestContext::new();
        let ended =
            context.backfill(None, &source.url, days, &["--until", "stage", "--set", "limits.attempts=1"]);
        assert_eq!(ended.code, 3, "{ended:?}");
        let said: Vec<&str> = ended.stderr.lines().collect();
        let missing = said.iter().filter(|line| line.starts_with("missing: ")).count();
        assert_eq!(missing, lines, "{}", ended.stderr);
        let [.., error, hint] = said[..] else { panic!("{said:?}") };
        assert!(error.starts_with("error: incomplete: day 1") && error.contains("404 Not Found"), "{error}");
        assert!(hint.contains("resume with `api2bq backfill flows --from 1 --to"), "{hint}");
        assert_eq!(ended.stderr.contains("missing: 90 more: days 11-100"), days == 100, "{}", ended.stderr);
    }
}
