//! `backfill --dry-run`: what a backfill will take, held against BigQuery's limits and then against what it took.

use serde_json::Value;

use crate::context::{Ended, Running, TestContext};

/// `backfill flows` with the stage in the test's folder.
fn backfill(context: &TestContext, emulator: Option<&Running>, arguments: &[&str]) -> Ended {
    let stage = format!("stage.url={}", context.path("stage").display());
    let fixed = ["backfill", "flows", "--from", "1", "--set", &stage];
    let mut command = context.command(fixed.iter().chain(arguments));
    if let Some(emulator) = emulator {
        command.env("BIGQUERY_EMULATOR_HOST", &emulator.url);
    }
    command.output().expect("it runs").into()
}

fn dry_run(context: &TestContext, arguments: &[&str]) -> Value {
    let ended = backfill(context, None, &[&["--dry-run", "--format", "json"], arguments].concat()).success();
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// What a finished run's receipt says in the words of a plan.
fn took(context: &TestContext, emulator: &Running, arguments: &[&str]) -> [u64; 5] {
    let summary = context.path("run.json");
    let more = ["--summary-json", summary.to_str().expect("UTF-8")];
    backfill(context, Some(emulator), &[arguments, &more].concat()).success();
    let receipt: Value =
        serde_json::from_str(&std::fs::read_to_string(summary).expect("written")).expect("JSON");
    let windows = receipt["windows"].as_array().expect("windows");
    let partitions: Vec<&Value> =
        windows.iter().flat_map(|window| window["partitions"].as_array().expect("partitions")).collect();
    let jobs: std::collections::BTreeSet<_> =
        partitions.iter().map(|p| p["job_id"].as_str().expect("a job")).collect();
    let sum = |key: &str| partitions.iter().map(|p| p[key].as_u64().expect("a number")).sum::<u64>();
    [jobs.len() as u64, partitions.len() as u64, sum("staged"), sum("files"), sum("bytes")]
}

fn planned(plan: &Value) -> [u64; 5] {
    ["load_jobs", "partitions", "rows", "files", "file_bytes"]
        .map(|key| plan[key]["value"].as_u64().unwrap_or_else(|| panic!("{key}: {plan:#}")))
}

/// The stated tolerance of what a sample extrapolates.
fn is_near(planned: u64, took: u64) -> bool {
    planned.abs_diff(took) * 4 <= took
}

#[test]
fn a_load_job_per_thousand_records_is_refused_with_its_number_and_what_would_fit() {
    let context = TestContext::new();
    let lanl = ["--to", "58", "--dry-run", "--rows", "129977412"];
    let ended = backfill(&context, None, &[&lanl[..], &["--rows-per-job", "1000"]].concat());
    assert_eq!(ended.code, 2);
    let run = ended.stdout.split('`').nth(1).expect("the run's id").to_owned();
    insta::assert_snapshot!(format!("{}\n{}", ended.stdout.replace(&run, "RUN"), ended.stderr));
    // As many as it says, and not one fewer.
    for (rows_per_job, code) in [("86652", 0), ("86651", 2)] {
        let ended = backfill(&context, None, &[&lanl[..], &["--rows-per-job", rows_per_job]].concat());
        assert_eq!(ended.code, code, "{}", ended.stderr);
    }
    assert!(!context.path("stage").exists(), "a dry run leaves nothing behind");
}

#[test]
fn lanls_days_are_counted_by_a_sample_and_the_run_takes_what_was_planned() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "60000", "--days", "58"]);
    let emulator = context.emulator();
    let url = format!("source.url={}", source.flows());
    let days = ["--to", "58", "--set", &url];
    let plan = dry_run(&context, &[&days[..], &["--sample"]].concat());
    assert!(!context.path("stage").exists(), "a dry run leaves nothing behind");
    for key in ["load_jobs", "partitions"] {
        assert_eq!((&plan[key]["value"], &plan[key]["known"]), (&29.into(), &"counted".into()), "{plan:#}");
    }
    assert_eq!(plan["records"]["value"], 60_000);
    let (planned, took) = (planned(&plan), took(&context, &emulator, &days));
    assert_eq!(planned[..2], took[..2]);
    assert_eq!(planned[3], took[3], "files");
    assert!(is_near(planned[2], took[2]) && is_near(planned[4], took[4]), "{planned:?} {took:?}");

    let done = dry_run(&context, &days);
    assert_eq!((&done["load_jobs"]["value"], &done["requests"]), (&0.into(), &0.into()));
    assert_eq!(done["states"], serde_json::json!({"done": 29, "empty": 29}));
    assert_eq!(done["limits"][0]["used"], 29, "{done:#}");
    let other = dry_run(&context, &[&days[..], &["--set", "warehouse.dataset=other"]].concat());
    assert!(other["fetch_seconds"].is_number() && other["load_seconds"].is_number(), "{other:#}");
}

#[test]
fn what_is_staged_or_was_staged_before_is_forecast_exactly() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "30000", "--days", "28", "--seed", "5"]);
    let emulator = context.emulator();
    let url = format!("source.url={}", source.flows());
    let days = ["--to", "28", "--set", &url];
    let nothing = dry_run(&context, &days);
    assert_eq!(nothing["load_jobs"], serde_json::json!({"value": 28, "known": "at_most"}));
    assert!(nothing["rows"].is_null() && nothing["files"].is_null(), "{nothing:#}");

    backfill(&context, None, &[&days[..], &["--until", "stage"]].concat()).success();
    let staged = dry_run(&context, &days);
    assert_eq!((&staged["requests"], &staged["load_jobs"]["value"]), (&0.into(), &26.into()));
    let took = took(&context, &emulator, &days);
    assert_eq!(planned(&staged), took);

    // Another table is another run; the first one knows what it will take, and how long.
    let other = ["--set", "warehouse.dataset=other"];
    let again = dry_run(&context, &[&days[..], &other].concat());
    assert_eq!(planned(&again), took);
    assert_eq!(again["requests"], 28);
    assert!(again["fetch_seconds"].is_number(), "{again:#}");
    // Staged by one process and loaded by another: nobody saw how long it took.
    assert!(again["load_seconds"].is_null(), "{again:#}");
    assert!(again["storage_usd_per_month"].is_number() && again["promote"]["usd"].is_number(), "{again:#}");
    assert_eq!(again["limits"][0]["used"], 0, "the other table has had no jobs");
    assert_eq!(again["limits"][1]["used"], 26, "its project has");
}

#[test]
fn failed_jobs_count_and_a_plan_beyond_the_rest_of_the_day_is_refused_before_it_starts() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "3000", "--days", "2"]);
    let emulator = context.server(&["emulator", "--data-dir", "wh", "--fault", "fail-job=backendError:2"]);
    let url = format!("source.url={}", source.flows());
    let quick = ["--set", "limits.retry_first_wait_ms=10"];
    backfill(&context, Some(&emulator), &[&["--to", "2", "--set", &*url][..], &quick].concat()).success();

    let long = ["--to", "1500", "--set", &url];
    let plan = backfill(&context, None, &[&long[..], &["--dry-run"]].concat());
    assert_eq!(plan.code, 2, "{}", plan.stdout);
    assert!(plan.stderr.contains("1,500 and 4 before them > 1,500"), "{}", plan.stderr);
    assert!(plan.stderr.contains("`--to 1496` would fit"), "{}", plan.stderr);
    let real = backfill(&context, Some(&emulator), &long);
    assert_eq!((real.code, real.stderr), (2, plan.stderr));
    assert_eq!(dry_run(&context, &["--to", "1496", "--set", &url])["load_jobs"]["value"], 1496);
}
