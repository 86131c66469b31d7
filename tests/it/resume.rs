//! Running it again, stopping it half way, and the demo.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::context::{Ended, Running, TestContext, judge, python};

#[test]
fn the_same_command_again_finds_everything_done() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "20000", "--days", "2"]);
    let emulator = context.emulator();
    let flows = source.flows();
    let first = context.backfill(Some(&emulator), &flows, 2, &["--until", "stage"]).success();
    assert!(!first.stdout.contains("there already"));
    // What was only staged is loaded from the staged files; the source is not needed any more.
    drop(source);
    let second = context.backfill(Some(&emulator), &flows, 2, &[]).success();
    assert!(second.stdout.contains("20,000 records in ="), "{}", second.stdout);
    let third = context.backfill(Some(&emulator), &flows, 2, &[]).success();
    assert!(third.stdout.contains("2 windows were there already"), "{}", third.stdout);
}

#[test]
fn a_table_that_lost_its_rows_is_noticed_and_loaded_again() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "5000", "--days", "1"]);
    let emulator = context.emulator();
    let flows = source.flows();
    context.backfill(Some(&emulator), &flows, 1, &[]).success();
    python("drop.py", &[&emulator.url, "api2gbq", "LANL.flows_staging"]);
    // The old job's id is taken for good; the next generation loads the same files.
    let again = context.backfill(Some(&emulator), &flows, 1, &[]).success();
    assert!(again.stdout.contains("5,000 records in ="), "{}", again.stdout);
    assert!(again.stderr.contains("changed since"), "{}", again.stderr);
    let quiet = context.backfill(Some(&emulator), &flows, 1, &[]).success();
    assert!(quiet.stdout.contains("1 windows were there already"), "{}", quiet.stdout);
    // Production has its own job ids, and they are taken for good as well.
    let promoted = context.promote(&emulator).success().stdout;
    python("drop.py", &[&emulator.url, "api2gbq", "LANL.flows"]);
    assert_eq!(context.promote(&emulator).success().stdout, promoted);
}

#[test]
fn a_source_that_replaced_these_days_is_put_right_by_the_same_command() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let one = context.source(&["--rows", "3000", "--days", "2", "--seed", "1"]);
    let two = context.source(&["--rows", "3000", "--days", "1", "--seed", "2"]);
    let first = context.backfill(Some(&emulator), &one.flows(), 2, &[]).success();
    let bytes = staged_bytes(&emulator, "20110101");
    // The other source has nothing for day 2: what was there goes.
    context.backfill(Some(&emulator), &two.flows(), 2, &[]).success();
    assert_ne!(staged_bytes(&emulator, "20110101"), bytes);
    assert_eq!(staged_bytes(&emulator, "20110102"), 0);
    let again = context.backfill(Some(&emulator), &one.flows(), 2, &[]).success();
    assert_eq!(staged_bytes(&emulator, "20110101"), bytes);
    let table = |out: &str| out.lines().find(|l| l.starts_with("total")).map(str::to_owned);
    assert_eq!(table(&first.stdout), table(&again.stdout));
}

#[test]
fn staged_files_are_proven_before_they_are_loaded() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "1000", "--days", "1"]);
    let emulator = context.emulator();
    const SAME: [&str; 2] = ["--set", "source.identity=the same"];
    context.backfill(None, &source.flows(), 1, &["--until", "stage", SAME[0], SAME[1]]).success();
    let find =
        std::process::Command::new("find").arg(context.path("stage")).args(["-name", "*.parquet"]).output();
    let file = String::from_utf8(find.expect("find runs").stdout).expect("UTF-8");
    let bytes = std::fs::read(file.trim()).expect("one file");
    std::fs::write(file.trim(), &bytes[..bytes.len() - 1]).expect("written");
    // Another source under the same name: what was staged cannot be had again.
    let other = context.source(&["--rows", "1000", "--days", "1", "--seed", "2"]);
    let refused = context.backfill(Some(&emulator), &other.flows(), 1, &SAME);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("is not as it was staged"), "{}", refused.stderr);
    // The source itself has the same records still, and the file comes back as it was.
    let healed = context.backfill(Some(&emulator), &source.flows(), 1, &SAME);
    assert_eq!(healed.code, 0, "{healed:?}");
    assert_eq!(std::fs::read(file.trim()).expect("it is back"), bytes);
    // The hint's new run has a name, by which it could be resumed.
    let renewed = context.backfill(Some(&emulator), &source.flows(), 1, &["--new-run"]);
    assert_eq!(renewed.code, 0, "{renewed:?}");
    context.promote(&emulator).success();
}

#[test]
fn ctrl_c_ends_in_time_with_130_and_the_same_command_finishes() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "3000000", "--days", "6"]);
    let url = format!("source.url={}", source.flows());
    let arguments = [
        "backfill",
        "flows",
        "--from",
        "1",
        "--to",
        "6",
        "--until",
        "stage",
        "-v",
        "--set",
        &url,
        "--set",
        "stage.url=stage",
    ];
    let mut child =
        context.command(arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
    // The first window that is staged says that the run is under way.
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let staged = lines.by_ref().map_while(Result::ok).find(|line| line.contains("window staged"));
    assert!(staged.is_some());
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let asked = Instant::now();
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert!(said.iter().any(|line| line.contains("resumes: `api2bq backfill flows")), "{said:?}");
    let missing = said.iter().find(|line| line.starts_with("missing: day"));
    assert!(missing.is_some_and(|line| line.ends_with(": interrupted")), "{said:?}");
    let leftovers = std::fs::read_dir(context.path("stage/.scratch")).into_iter().flatten().flatten();
    let leftovers: Vec<_> = leftovers.map(|entry| entry.file_name()).collect();
    assert!(leftovers.is_empty(), "files in the making are taken away: {leftovers:?}");
    let resumed: Ended = context.command(arguments).output().expect("it runs").into();
    let resumed = resumed.success();
    assert!(resumed.stdout.contains("3,000,000 records in ="), "{}", resumed.stdout);
    assert!(resumed.stdout.contains("there already"), "{}", resumed.stdout);
}

#[test]
fn the_demo_runs_and_runs_again() {
    let context = TestContext::new();
    let first = context.run(["demo", "--rows", "30000"]).success();
    assert!(first.stdout.contains("30,000 records in ="), "{}", first.stdout);
    assert!(first.stdout.contains("protocol"), "{}", first.stdout);
    assert!(first.stderr.contains("api2bq backfill flows"), "{}", first.stderr);
    let second = context.run(["demo", "--rows", "30000"]).success();
    assert!(second.stdout.contains("5 windows were there already"), "{}", second.stdout);
    let answer = |out: &str| out.split_once("ORDER BY").map(|(_, rows)| rows.to_owned());
    assert_eq!(answer(&first.stdout), answer(&second.stdout));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let context = TestContext::new();
    let mut child = context.command(["man"]).stdout(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// Bytes of all flows in staging, as Google's client sums them.
fn staged_bytes(emulator: &Running, day: &str) -> i64 {
    let rows = python("rows.py", &[&emulator.url, "api2gbq", &format!("LANL.flows_staging${day}")]).stdout;
    let byte_count =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["byte_count"].as_i64();
    rows.lines().map(|line| byte_count(line).expect("a number")).sum()
}

/// The source changed and changed back while the journal was lost: the first load's job is there
/// and done, with the same id and as many rows, but another load replaced them since.
#[test]
fn an_old_job_is_not_taken_for_todays_when_the_partition_changed_since() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let bytes = ["1", "2", "1"].map(|seed| {
        let source = context.source(&["--rows", "3000", "--days", "1", "--seed", seed]);
        let _ = std::fs::remove_dir_all(context.path("stage"));
        let same = ["--set", "source.identity=the same"];
        context.backfill(Some(&emulator), &source.flows(), 1, &same).success();
        staged_bytes(&emulator, "20110101")
    });
    assert_ne!(bytes[0], bytes[1]);
    assert_eq!(bytes[0], bytes[2]);
}

#[test]
fn a_longer_range_a_new_run_and_another_stage_load_the_same_days_again() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "6000", "--days", "3"]);
    let emulator = context.emulator();
    let flows = source.flows();
    let other_stage = format!("stage.url={}", context.path("other").display());
    for (days, more) in
        [(2, &[][..]), (3, &[]), (3, &["--new-run"]), (1, &["--set", &other_stage]), (3, &["--window", "3d"])]
    {
        let ended = context.backfill(Some(&emulator), &flows, days, more);
        assert_eq!(ended.code, 0, "{days} {more:?}: {ended:?}");
    }
    context.promote(&emulator).success();
}

#[test]
fn two_equal_runs_at_once_give_one_table() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "60000", "--days", "3"]);
    let emulator = context.emulator();
    let flows = source.flows();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let run = || context.backfill(Some(&emulator), &flows, 3, &[]);
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).collect()
    });
    for run in ended {
        assert!(run.success().stdout.contains("60,000 records in ="));
    }
    context.promote(&emulator).success();
    judge(&context, &source, &emulator, 3, &[]);
}

#[test]
fn promoting_days_without_rows_leaves_production_alone() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "3000", "--days", "1"]);
    let emulator = context.emulator();
    context.backfill(Some(&emulator), &source.flows(), 1, &[]).success();
    let before = context.promote(&emulator).success().stdout;
    let mut command = context.command(["promote", "flows", "--as-of", "2012-01-01", "--days", "3"]);
    let refused: Ended =
        command.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs").into();
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("has no rows from 2011-12-30 to 2012-01-01"), "{}", refused.stderr);
    assert_eq!(context.promote(&emulator).success().stdout, before);
}

#[test]
fn promote_reads_the_staging_table_that_is_set() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let other = ["--set", "warehouse.staging_table=other"];
    for (rows, table) in [("2000", &[][..]), ("3000", &other)] {
        let source = context.source(&["--rows", rows, "--days", "1", "--duplicates", "0"]);
        context.backfill(Some(&emulator), &source.flows(), 1, table).success();
    }
    let mut command = context.command(["promote", "flows"].into_iter().chain(other));
    let promoted: Ended =
        command.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs").into();
    assert!(promoted.success().stdout.contains("has 3,000 rows"));
    assert!(context.promote(&emulator).success().stdout.contains("has 2,000 rows"));
}
