//! `verify`: what holds, what does not, and whose it is.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::commands::{ask, body, files, half_done, json, record};
use crate::context::{Ended, RawSource, TestContext, python};

#[test]
fn verify_proves_a_whole_run_and_names_what_is_left() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let source = context.source(&["--rows", "9000", "--days", "2"]);
    // The third day has no records: its partition must have no rows.
    context.backfill(Some(&emulator), &source.flows(), 3, &[]).success();
    let url = format!("source.url={}", source.flows());
    let proof =
        ask(&context, Some(&emulator), &["verify", "flows", "--source", "--format", "json", "--set", &url]);
    let report = json(&proof.success());
    let checked = &report["checked"];
    for (what, n) in [("windows", 3), ("entries", 6), ("files", 2), ("partitions", 3), ("source_counts", 3)] {
        assert_eq!(checked[what], n, "{what}: {report}");
    }
    assert!(checked["rows"].as_u64().is_some_and(|rows| rows > 8000), "{report}");
    let text = ask(&context, Some(&emulator), &["verify", "flows"]).success().stdout;
    assert!(text.contains("everything agrees"), "{text}");
    assert!(ask(&context, None, &["verify", "flows", "--offline"]).success().stdout.contains("left out"));
    let unreachable = ask(&context, None, &["verify", "flows"]);
    assert_eq!(unreachable.code, 2, "{unreachable:?}");
    assert!(unreachable.stderr.contains("`--offline` leaves BigQuery out"), "{}", unreachable.stderr);

    // A source that counts otherwise now is found out by asking it.
    let other = context.source(&["--rows", "9001", "--days", "2"]);
    let url = format!("source.url={}", other.flows());
    let asked = ask(&context, None, &["verify", "flows", "--offline", "--source", "--set", &url]);
    assert_eq!(asked.code, 7, "{asked:?}");
    assert!(asked.stdout.contains("records at the source: expected"), "{}", asked.stdout);

    let context = TestContext::new();
    half_done(&context, None, &[]);
    let proof = ask(&context, Some(&emulator), &["verify", "flows"]);
    assert_eq!(proof.code, 3, "{proof:?}");
    assert!(
        proof.stderr.contains("is incomplete: day 1 (and 2 more windows) not loaded"),
        "{}",
        proof.stderr
    );
    let proof = ask(&context, None, &["verify", "flows", "--offline"]);
    assert_eq!(proof.code, 3, "{proof:?}");
    assert!(proof.stderr.contains("is incomplete: day 3 not staged"), "{}", proof.stderr);
    assert!(proof.stdout.contains("404"), "{}", proof.stdout);
}

#[test]
fn verify_names_every_damage_and_mismatch() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let source = RawSource::start(vec![
        body(&[record(1, 1, "6"), record(2, 2, "six")]),
        body(&[record(3, 86_401, "6")]),
        body(&[record(4, 172_801, "6")]),
    ]);
    let order = ["--jobs", "1", "--max-rejects", "1"];
    context.backfill(Some(&emulator), &source.url, 3, &order).success();
    ask(&context, Some(&emulator), &["verify", "flows"]).success();
    let stage = context.path("stage");
    let parquet = files(&stage, ".parquet");
    let rejects = files(&stage, ".ndjson").remove(0);
    let whole: Vec<_> = parquet.iter().chain([&rejects]).map(|f| std::fs::read(f).expect("read")).collect();
    let mut flipped = whole[0].clone();
    flipped[10] ^= 1;
    std::fs::write(&parquet[0], flipped).expect("written");
    std::fs::write(&parquet[1], &whole[1][1..]).expect("written");
    std::fs::remove_file(&parquet[2]).expect("removed");
    std::fs::write(&rejects, b"{}\n").expect("written");
    let proof = ask(&context, Some(&emulator), &["verify", "flows", "--format", "json"]);
    assert_eq!(proof.code, 7, "{proof:?}");
    let report = json(&proof);
    let mismatches = report["mismatches"].as_array().expect("mismatches");
    let named: Vec<_> =
        mismatches.iter().map(|m| (m["what"].as_str().expect("what"), m["file"].is_string())).collect();
    let expected = [("SHA-256", true), ("size in bytes", true), ("size in bytes", true), ("file", true)];
    assert_eq!(named, expected, "{report}");
    assert!(
        proof.stderr.contains("SHA-256: expected") && proof.stderr.contains("(and 3 more)"),
        "{}",
        proof.stderr
    );
    let text = ask(&context, Some(&emulator), &["verify", "flows"]).stdout;
    assert_eq!(text.lines().filter(|line| line.starts_with("mismatch ")).count(), 4, "{text}");
    for (file, bytes) in parquet.iter().chain([&rejects]).zip(&whole) {
        std::fs::write(file, bytes).expect("written");
    }
    ask(&context, Some(&emulator), &["verify", "flows"]).success();

    // The table is gone.
    python("drop.py", &[&emulator.url, "api2gbq", "LANL.flows_staging"]);
    let proof = ask(&context, Some(&emulator), &["verify", "flows"]);
    assert_eq!(proof.code, 7, "{proof:?}");
    let gone = proof.stdout.matches(": expected a table, found none").count();
    assert_eq!(gone, 1, "said once, not for each of its partitions: {}", proof.stdout);

    // The journal itself.
    let entry = files(&stage, "0001.json").remove(0);
    let text = std::fs::read_to_string(&entry).expect("read");
    std::fs::write(&entry, text.replacen("\"records\": 2", "\"records\": 3", 1)).expect("written");
    let proof = ask(&context, Some(&emulator), &["verify", "flows"]);
    assert_eq!(proof.code, 5, "{proof:?}");
    assert!(proof.stdout.contains("damaged     journal entry"), "{}", proof.stdout);
    assert!(
        proof.stdout.contains(": expected a table, found none"),
        "the rest is proven all the same: {}",
        proof.stdout
    );
}

/// As many rows, and others: only the sums can tell.
#[test]
fn verify_tells_other_rows_from_ours_by_their_sums_and_leaves_them_to_the_run_that_loaded_them() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let load = |seed: &str, stage: &str| {
        let source = context.source(&["--rows", "1000", "--days", "1", "--duplicates", "0", "--seed", seed]);
        let stage = format!("stage.url={}", context.path(stage).display());
        let named = ["--new-run", "--set", "source.identity=x", "--set", &stage];
        context.backfill(Some(&emulator), &source.flows(), 1, &named).success();
    };
    load("1", "stage");
    load("2", "elsewhere");
    let proof = ask(&context, Some(&emulator), &["verify", "flows"]);
    assert_eq!(proof.code, 7, "{proof:?}");
    assert!(proof.stdout.contains("sum of column `byte_count`: expected"), "{}", proof.stdout);
    assert!(!proof.stdout.contains("rows in BigQuery:"), "{}", proof.stdout);

    load("3", "stage");
    ask(&context, Some(&emulator), &["verify", "flows"]).success();
    let status = json(&ask(&context, None, &["status", "flows", "--format", "json"]).success());
    let run = |at: usize| status["runs"][at]["run"].as_str().expect("an id").to_owned();
    let older = ask(&context, Some(&emulator), &["verify", "flows", "--run", &run(0)]).success();
    let words = format!("partition `20110101`: loaded since by run `{}`", run(1));
    assert!(older.stdout.contains(&words), "{}", older.stdout);
    let all = ask(&context, Some(&emulator), &["verify", "flows", "--all", "--format", "json"]).success();
    assert_eq!(json(&all)["runs"].as_array().map(Vec::len), Some(2));
    assert_eq!(json(&all)["checked"]["partitions"], 1);
}

#[test]
fn a_bucket_is_listed_proven_and_swept_as_a_folder_is() {
    let context = TestContext::new();
    let bucket = context.server(&["emulator", "--data-dir", "bucket"]);
    let warehouse =
        context.server_with(&["emulator", "--data-dir", "wh"], &[("STORAGE_EMULATOR_HOST", &bucket.url)]);
    let source = RawSource::start(vec![body(&[record(1, 1, "6"), record(2, 2, "six")])]);
    let url = format!("source.url={}", source.url);
    let run = |arguments: &[&str]| -> Ended {
        let fixed = ["--set", "stage.url=gs://bucket/x", "--set", &url];
        let mut command = context.command(arguments.iter().copied().chain(fixed));
        command.env("STORAGE_EMULATOR_HOST", &bucket.url).env("BIGQUERY_EMULATOR_HOST", &warehouse.url);
        command.output().expect("it runs").into()
    };
    run(&["backfill", "flows", "--from", "1", "--to", "1", "--max-rejects", "50%"]).success();
    let leftover = "/bucket/x/flows/rejects/0000000000000000/0000000000-0000086400-00000000.ndjson";
    let host = bucket.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).expect("the bucket listens");
    let put = format!(
        "PUT {leftover} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    stream.write_all(put.as_bytes()).expect("sent");
    let mut stored = String::new();
    stream.read_to_string(&mut stored).expect("answered");
    assert!(stored.starts_with("HTTP/1.1 200"), "{stored}");

    assert!(run(&["status", "flows"]).success().stdout.contains(" done "));
    assert_eq!(json(&run(&["rejects", "flows", "--format", "json"]).success())["kept"], 1);
    let swept = run(&["gc", "flows", "--min-age", "0s"]).success().stdout;
    assert!(swept.contains("1 leftovers removed") && swept.contains("2 files are in the journal"), "{swept}");
    let proof = json(&run(&["verify", "flows", "--source", "--format", "json"]).success());
    let checked = &proof["checked"];
    assert_eq!((&checked["files"], &checked["rejects_files"]), (&2.into(), &1.into()), "{proof}");
}
