//! `api2bq bench`: the form of what it says, never the figures.

use std::path::Path;

use serde_json::{Value, json};

use crate::context::{Ended, TestContext};

/// Temporary files go below the test's folder, where the test looks for what is left of them.
fn bench(context: &TestContext, arguments: &[&str]) -> Ended {
    std::fs::create_dir_all(context.path("tmp")).expect("a folder");
    let mut command = context.command(["bench"].iter().chain(arguments));
    // A BigQuery that must not be asked: what is measured is loaded into an embedded one.
    command.env("TMPDIR", context.path("tmp")).env("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1");
    command.output().expect("it runs").into()
}

fn report(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("it was written");
    serde_json::from_str(&text).expect("JSON")
}

/// Numbers as `N`, runs of bars and spaces as one, the machine not at all.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = if number == 0 { "MACHINE" } else { line };
        let mut last = ' ';
        for c in line.chars() {
            let c = if c.is_ascii_digit() || (last == 'N' && ",.".contains(c)) { 'N' } else { c };
            if !(c == last && "N█ -─".contains(c)) {
                masked.push(c);
            }
            last = c;
        }
        masked = masked.trim_end().to_owned() + "\n";
    }
    masked
}

/// The same document with numbers as 0 and texts of the machine as `…`; of a list only the first.
fn form(value: &Value, key: &str) -> Value {
    match value {
        Value::Number(_) if key != "format" => json!(0),
        Value::String(_) if ["cpu", "os", "arch", "started", "version", "profile", "run"].contains(&key) => {
            json!("…")
        }
        Value::Array(items) if key == "runs" => items.iter().take(1).map(|item| form(item, "")).collect(),
        Value::Array(items) => items.iter().map(|item| form(item, "")).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), form(value, key))).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_stage_is_measured_and_told_in_a_table_in_markdown_as_json_and_as_a_picture() {
    let context = TestContext::new();
    let files = ["--export-json", "b.json", "--export-md", "b.md", "--chart-out", "b.svg"];
    let few = ["--rows", "3000", "--days", "2", "--runs", "2", "--warm-up", "1", "--progress", "off"];
    let ended = bench(&context, &[&few[..], &files].concat()).success();
    assert_eq!(ended.stderr, "");
    let json = report(&context.path("b.json"));
    // Which stage is the slowest, and so its name, is the machine's affair.
    let slowest = json["bottleneck"]["stage"].as_str().expect("a name").to_owned();
    let text = masked(&ended.stdout).replace(&format!("bottleneck: {slowest},"), "bottleneck: STAGE,");
    let text = text.replace(" ←", "");
    let markdown = std::fs::read_to_string(context.path("b.md")).expect("it was written");
    let markdown = masked(&markdown).replace(&format!("bottleneck: {slowest},"), "bottleneck: STAGE,");
    insta::assert_snapshot!("bench_as_text_and_markdown", format!("{text}\n════ as Markdown\n{markdown}"));

    let stages = json["stages"].as_array().expect("a list");
    let rows = |name: &str| {
        let found = stages.iter().find(|stage| stage["stage"] == name);
        found.unwrap_or_else(|| panic!("no {name}"))["rows"].as_u64().expect("a number")
    };
    // Nobody is fast by skipping some.
    for name in ["fetch", "decode", "transform", "whole"] {
        assert_eq!(rows(name), 3000, "{name}");
    }
    assert_eq!((rows("stage"), rows("load")), (rows("promote"), rows("promote")));
    assert!(rows("stage") < 3000, "some records repeat an earlier id");
    for stage in stages {
        let runs = stage["runs"].as_array().expect("a list");
        assert_eq!(runs.len(), 2);
        let is_measured =
            |run: &Value| run["seconds"].as_f64() > Some(0.0) && run["cpu_seconds"].as_f64() > Some(0.0);
        assert!(runs.iter().all(is_measured), "{stage}");
        let counted = stage["allocations"].as_f64();
        assert_eq!(counted.is_some(), cfg!(feature = "count-allocations"));
        assert!(counted.is_none_or(|number| number > 100.0), "{counted:?}");
    }
    let mut form = form(&json, "");
    form["bottleneck"]["stage"] = "STAGE".into();
    let (stages, allocations) = (form["stages"].as_array_mut().expect("a list"), &json!("0 or null"));
    for stage in stages.iter_mut() {
        for counted in ["allocations", "allocated_bytes"] {
            stage[counted] = allocations.clone();
            stage["runs"][0][counted] = allocations.clone();
        }
    }
    form["build"]["counts_allocations"] = "true or false".into();
    // One of those without servers, one with; the others have the same fields.
    let fields: Vec<String> = stages_fields(&form);
    assert!(fields.windows(2).all(|pair| pair[0] == pair[1]), "{fields:?}");
    form["stages"] = json!([form["stages"][1], form["stages"][6]]);
    insta::assert_snapshot!("bench_as_json", serde_json::to_string_pretty(&form).expect("JSON"));

    let svg = std::fs::read_to_string(context.path("b.svg")).expect("it was written");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    // One bar each, and the ground they stand on.
    assert_eq!(svg.matches("<rect ").count(), 8);
    assert_eq!(svg.matches(", the slowest</text>").count(), 1);
    let left = std::fs::read_dir(context.path("tmp")).expect("a folder").count();
    assert_eq!(left, 0, "temporary files are left");
}

fn stages_fields(form: &Value) -> Vec<String> {
    let fields =
        |stage: &Value| stage.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    form["stages"].as_array().expect("a list").iter().map(fields).collect()
}

/// A wait that is many times what anything else takes for so few rows.
const SECONDS_MORE: &str = "2000000us/1000rows";
const FEW: [&str; 8] = ["--rows", "1000", "--days", "1", "--warm-up", "0", "--progress", "off"];

#[test]
fn a_stage_that_is_slowed_is_named_as_the_bottleneck() {
    let context = TestContext::new();
    for slowed in ["decode", "stage"] {
        let slow = format!("{slowed}={SECONDS_MORE}");
        let file = format!("{slowed}.json");
        let more =
            ["--stages", "decode,transform,stage", "--runs", "1", "--slow", &slow, "--export-json", &file];
        let ended = bench(&context, &[&FEW[..], &more].concat()).success();
        assert!(ended.stdout.contains(&format!("bottleneck: {slowed}, ")), "{}", ended.stdout);
        let bar = ended.stdout.lines().find(|line| line.ends_with(" ←")).expect("one is marked");
        assert!(bar.trim_start().starts_with(slowed), "{bar}");
        assert_eq!(report(&context.path(&file))["bottleneck"]["stage"], slowed);
    }
}

#[test]
fn a_comparison_names_the_stage_that_got_slower_and_only_compares_what_is_alike() {
    let context = TestContext::new();
    let stages = ["--stages", "decode,transform", "--runs", "3"];
    bench(&context, &[&FEW[..], &stages, &["--export-json", "base.json"]].concat()).success();
    let compare = ["--compare", "base.json", "--fail-over"];
    let slow = ["--slow", &format!("transform={SECONDS_MORE}")];
    let slower = bench(&context, &[&FEW[..], &stages, &compare, &["900%"], &slow].concat());
    assert_eq!(slower.code, 1, "{slower:?}");
    assert!(slower.stderr.contains("error: slower than the base: `transform` takes "), "{}", slower.stderr);
    assert!(!slower.stderr.contains("`decode`"), "{}", slower.stderr);
    let table = slower.stdout.split("against `base.json`").nth(1).expect("a comparison");
    assert!(table.contains("decode") && table.contains("transform"), "{table}");

    let mut base = report(&context.path("base.json"));
    base["format"] = 2.into();
    context.write("future.json", base.to_string());
    context.write("other.json", "[]");
    for (arguments, said) in [
        (
            ["--compare", "future.json", "--rows", "1000"],
            "`future.json` has format 2, and this version reads 1",
        ),
        (["--compare", "other.json", "--rows", "1000"], "`other.json` is no report of a bench"),
        (["--compare", "none.json", "--rows", "1000"], "cannot read `none.json`"),
        (["--compare", "base.json", "--rows", "999"], "cannot be compared: it is of other work"),
    ] {
        let more =
            ["--days", "1", "--warm-up", "0", "--runs", "1", "--progress", "off", "--stages", "decode"];
        let refused = bench(&context, &[&arguments[..], &more].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}

#[test]
fn a_pipelines_own_source_and_staged_files_are_measured_and_its_rows_are_asked() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "2000", "--days", "2"]);
    let stage = format!("stage.url={}", context.path("stage").display());
    let none = bench(&context, &["flows", "--staged", "--set", &stage, "--progress", "off"]);
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("stage `load`: no run of `flows` is staged"), "{}", none.stderr);

    context.backfill(None, &source.flows(), 2, &["--until", "stage"]).success();
    let before = context.staged("stage");
    let url = format!("source.url={}", source.flows());
    let own = [
        "flows",
        "--from",
        "1",
        "--to",
        "2",
        "--set",
        &url,
        "--set",
        &stage,
        "--runs",
        "1",
        "--progress",
        "off",
    ];
    let json = ["--stages", "fetch,stage,whole", "--export-json", "-"];
    let ended = bench(&context, &[&own[..], &json].concat()).success();
    let measured: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout, the table on stderr");
    assert!(ended.stderr.contains("bottleneck: "), "{}", ended.stderr);
    let rows: Vec<&Value> =
        measured["stages"].as_array().expect("a list").iter().map(|of| &of["rows"]).collect();
    assert_eq!((rows[0], rows[2]), (&2000.into(), &2000.into()));
    assert_eq!(measured["work"]["input"], "source");

    let staged = ["flows", "--staged", "--set", &stage, "--runs", "1", "--progress", "off"];
    let ended = bench(&context, &[&staged[..], &["--export-json", "staged.json"]].concat()).success();
    let json = report(&context.path("staged.json"));
    let staged_rows = &json["stages"][0]["rows"];
    assert_eq!(json["stages"].as_array().map(Vec::len), Some(2), "{}", ended.stdout);
    assert_eq!((staged_rows, &json["stages"][1]["rows"]), (rows[1], rows[1]));
    let refused = bench(&context, &[&staged[..], &["--stages", "decode"]].concat());
    assert!(refused.stderr.contains("staged files are behind the stage `decode`"), "{}", refused.stderr);
    // All of it left the user's staging area alone.
    assert_eq!(context.staged("stage"), before);

    let queries = "SELECT COUNT(*) AS n FROM flows; -- all\nSELECT id FROM flows WHERE day = 2 LIMIT 5;";
    context.write("q.sql", queries);
    let ask =
        ["sql", "--set", &stage, "--file", "q.sql", "--runs", "3", "--concurrency", "2", "--progress", "off"];
    let asked = bench(&context, &[&ask[..], &["--export-json", "sql.json"]].concat()).success();
    let json = report(&context.path("sql.json"));
    assert_eq!((&json["rows"], &json["queries"][0]["rows"]), (staged_rows, &1.into()));
    assert_eq!(json["queries"][1]["rows"], 5);
    let run = json["run"].as_str().expect("an id");
    insta::assert_snapshot!("bench_sql_as_text", masked(&asked.stdout.replace(run, "RUN")));
    let form = serde_json::to_string_pretty(&form(&json, "")).expect("JSON");
    insta::assert_snapshot!("bench_sql_as_json", form.replace("true", "BOOL").replace("false", "BOOL"));

    for (query, said) in [
        ("SELECT nothing FROM flows", "query 1: there is no column `nothing` at [1:8]"),
        ("SELECT 1; DROP TABLE flows", "query 2: `DROP`: only one SELECT is run"),
        (" ;", "there is no query in the file"),
    ] {
        context.write("wrong.sql", query);
        let wrong = bench(&context, &["sql", "--set", &stage, "--file", "wrong.sql", "--progress", "off"]);
        assert_eq!(wrong.code, 2, "{wrong:?}");
        assert!(wrong.stderr.contains(said), "{}", wrong.stderr);
        assert!(!wrong.stderr.to_lowercase().contains("datafusion"), "{}", wrong.stderr);
    }
}
