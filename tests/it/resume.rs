//! Running it again, stopping it half way, and the demo.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::context::{Ended, TestContext};

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
    crate::context::python("drop.py", &[&emulator.url, "api2gbq", "LANL.flows_staging"]);
    let again = context.backfill(Some(&emulator), &flows, 1, &[]);
    assert_eq!(again.code, 7, "{again:?}");
    assert!(again.stderr.contains("has 0 rows"), "{}", again.stderr);
    // The old job's id is taken for good; the next generation loads the same files.
    let renewed = context.backfill(Some(&emulator), &flows, 1, &["--new-run"]).success();
    assert!(renewed.stdout.contains("5,000 records in ="), "{}", renewed.stdout);
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
    assert!(said.iter().any(|line| line.contains("the same command resumes")), "{said:?}");
    let leftovers = std::fs::read_dir(context.path("stage/.scratch")).into_iter().flatten().count();
    assert_eq!(leftovers, 0, "files in the making are taken away");
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
