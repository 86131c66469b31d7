//! Windows that append: a day of staging holds what several of them brought.

use crate::context::{Running, TestContext};

fn query(context: &TestContext, emulator: &Running, sql: &str) -> String {
    let mut command = context.command(["query", "--format", "csv", sql]);
    let output = command.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs");
    crate::context::Ended::from(output).success().stdout
}

/// Once only the partition decided, and of two rows in one day whichever was read first stayed.
#[test]
fn of_equally_late_records_promote_keeps_the_same_one_in_whatever_order_they_came() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let pipeline = ["--from-pipeline", "flows", "--create-dataset"];
    let row = |time: u32, bytes: u32, comp: &str| {
        format!("(TIMESTAMP '2011-01-01', 1, {time}, 1, '{comp}', '80', 'C2', '443', 6, 1, {bytes})")
    };
    let rows = [row(4, 900, "C1"), row(5, 100, "C1"), row(5, 200, "C1"), row(5, 200, "C3")];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let set = format!("warehouse.dataset=d{}", order[0]);
        let table = format!("d{}.flows_staging", order[0]);
        let mut create = context.command(["table", "create", &table].into_iter().chain(pipeline));
        create.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs");
        for at in order {
            let columns = "_PARTITIONTIME, id, time, duration, src_comp, src_port, dst_comp, dst_port, protocol, \
                           packet_count, byte_count";
            query(&context, &emulator, &format!("INSERT INTO {table} ({columns}) VALUES {}", rows[at]));
        }
        let mut promote = context.command(["promote", "flows", "--set", &set]);
        let promoted = promote.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs");
        crate::context::Ended::from(promoted).success();
        let sql = format!("SELECT time, byte_count, src_comp FROM d{}.flows", order[0]);
        assert_eq!(query(&context, &emulator, &sql), "time,byte_count,src_comp\n5,200,C3\n", "{order:?}");
    }
}

/// Any command over a source and a stage of the test's.
fn run(
    context: &TestContext,
    emulator: &Running,
    source: &Running,
    arguments: &[&str],
) -> crate::context::Ended {
    let set =
        [format!("source.url={}", source.flows()), format!("stage.url={}", context.path("stage").display())];
    let mut command = context.command(arguments);
    command.args(set.iter().flat_map(|pair| ["--set", pair]));
    command.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs").into()
}

fn rows(context: &TestContext, emulator: &Running, day: u32) -> u64 {
    let sql = format!(
        "SELECT COUNT(*) FROM LANL.flows_staging WHERE _PARTITIONTIME = TIMESTAMP '2011-01-{day:02}'"
    );
    query(context, emulator, &sql).lines().nth(1).and_then(|n| n.parse().ok()).expect("a count")
}

const APPEND: [&str; 4] = ["--set", "warehouse.mode=append", "--window", "3h"];

#[test]
fn whole_days_and_parts_of_days_follow_one_another_and_are_not_mixed_by_mistake() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "6000", "--days", "5", "--seed", "3"]);
    let emulator = context.emulator();
    let backfill =
        |arguments: &[&str]| run(&context, &emulator, &source, &[&["backfill", "flows"], arguments].concat());
    let refused = |arguments: &[&str], why: &str| {
        let ended = backfill(arguments);
        assert!(ended.code == 2 && ended.stderr.contains(why), "{}: {}", ended.code, ended.stderr);
    };
    refused(&["--since", "last", "--to", "2"], "nothing of `flows` is loaded yet");
    refused(&["--from", "1", "--to", "2", "--window", "3h"], "windows must cover whole days");
    refused(&["--from", "1", "--to", "2", "--set", "time.late_days=1"], "`time.late_days` needs");
    backfill(&["--from", "1", "--to", "2"]).success();
    let third = backfill(&["--since", "last", "--to", "3"]).success();
    assert!(third.stdout.contains("20110103") && !third.stdout.contains("20110102"), "{}", third.stdout);
    let nothing = backfill(&["--since", "last", "--to", "3"]).success();
    assert!(nothing.stderr.contains("no window of 1d has ended since"), "{}", nothing.stderr);

    // From here on in parts of days. The second call stops in the middle of the day, the third goes on.
    let since = |to: &'static str| [&["--since", "last", "--to", to][..], &APPEND].concat();
    let half = backfill(&since("302000s")).success();
    assert!(half.stdout.contains("4 06:00-09:00") && !half.stdout.contains("4 09:00"), "{}", half.stdout);
    let rest = backfill(&since("4")).success();
    assert!(rest.stdout.contains("4 21:00-24:00") && !rest.stdout.contains("4 06:00"), "{}", rest.stdout);
    let by_parts = rows(&context, &emulator, 4);
    assert!(by_parts > 1000, "{by_parts} rows");
    let status = run(&context, &emulator, &source, &["status", "flows"]).success().stdout;
    assert!(status.contains("4 21:00-24:00") && status.contains("  3h  "), "{status}");

    // What was loaded stays where it is, whoever asks again.
    let first = backfill(&["--from", "1", "--to", "2"]).success();
    assert!(first.stdout.contains("2 windows were there already"), "{}", first.stdout);
    refused(&[&["--from", "4", "--to", "4"][..], &APPEND].concat(), "would be appended to what run");
    refused(&[&["--from", "2", "--to", "2"][..], &APPEND].concat(), "would be appended to what run");
    refused(&["--from", "4", "--to", "4"], "would lose");
    assert_eq!(rows(&context, &emulator, 4), by_parts);
    let verify = || run(&context, &emulator, &source, &["verify", "flows", "--all"]);
    verify().success();

    // Rows that somebody took are noticed by all sides, and never appended again.
    query(
        &context,
        &emulator,
        "DELETE FROM LANL.flows_staging WHERE _PARTITIONTIME = TIMESTAMP '2011-01-04' AND id > 3000",
    );
    let verified = verify();
    assert!(verified.code == 7 && verified.stderr.contains("of all windows"), "{}", verified.stderr);
    let taken = rows(&context, &emulator, 4);
    assert!(taken < by_parts);
    let again = backfill(&since("5"));
    assert_eq!(again.code, 0, "the next day knows nothing of it: {}", again.stderr);
    assert_eq!(rows(&context, &emulator, 4), taken);

    // Replacing the day is the way out, when it is said.
    backfill(&["--from", "4", "--to", "4", "--drop-appended"]).success();
    let whole = rows(&context, &emulator, 4);
    assert!(whole <= by_parts && whole > taken, "{whole} rows of {by_parts}: repeats of a day are gone");
    verify().success();
}

#[test]
fn appended_rows_that_are_gone_end_the_same_command_with_7() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "2000", "--days", "1", "--seed", "3"]);
    let emulator = context.emulator();
    let arguments = [&["backfill", "flows", "--from", "1", "--to", "1"][..], &APPEND].concat();
    run(&context, &emulator, &source, &arguments).success();
    let again = run(&context, &emulator, &source, &arguments).success();
    assert!(again.stdout.contains("8 windows were there already"), "{}", again.stdout);
    query(
        &context,
        &emulator,
        "DELETE FROM LANL.flows_staging WHERE _PARTITIONTIME = TIMESTAMP '2011-01-01' AND id = 7",
    );
    let gone = run(&context, &emulator, &source, &arguments);
    assert_eq!(gone.code, 7, "{}", gone.stderr);
    assert!(gone.stderr.contains("has fewer than the"), "{}", gone.stderr);
}

#[test]
fn what_another_run_has_staged_is_loaded_by_that_run_first() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "2000", "--days", "2", "--seed", "3"]);
    let emulator = context.emulator();
    let one = [&["backfill", "flows", "--from", "1", "--to", "1"][..], &APPEND].concat();
    run(&context, &emulator, &source, &[&one[..], &["--until", "stage"]].concat()).success();
    let longer = [&["backfill", "flows", "--from", "1", "--to", "2"][..], &APPEND].concat();
    let since = [&["backfill", "flows", "--since", "last", "--to", "2"][..], &APPEND].concat();
    let whole = ["backfill", "flows", "--from", "1", "--to", "1"];
    for (arguments, why) in [
        (&longer[..], "which is staged and not loaded"),
        (&[&since[..], &["--from", "1"]].concat(), "which is staged and not loaded"),
        (&whole, "the plan hash differs"),
    ] {
        let ended = run(&context, &emulator, &source, arguments);
        assert!(ended.code == 2 && ended.stderr.contains(why), "{arguments:?}: {}", ended.stderr);
    }
    run(&context, &emulator, &source, &one).success();
    let rest = run(&context, &emulator, &source, &since).success();
    assert!(rest.stdout.contains("20110102") && !rest.stdout.contains("20110101"), "{}", rest.stdout);
    run(&context, &emulator, &source, &["verify", "flows", "--all"]).success();
}

/// A plan of parts of days names the length that would fit.
#[test]
fn too_many_parts_of_days_are_refused_with_the_length_that_fits() {
    let context = TestContext::new();
    let plan =
        ["backfill", "flows", "--from", "1", "--to", "58", "--dry-run", "--set", "warehouse.mode=append"];
    let minutes = context.run(plan.iter().chain(&["--window", "10m"]));
    assert_eq!(minutes.code, 2);
    assert!(
        minutes.stderr.contains("8,352 > 1,500") && minutes.stderr.contains("`--window 1h` would fit"),
        "{}",
        minutes.stderr
    );
    context.run(plan.iter().chain(&["--window", "1h"])).success();
}
