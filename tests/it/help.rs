//! `--help` of every command, as it reads.

use crate::context::TestContext;

#[test]
fn every_commands_help_reads_as_reviewed() {
    let context = TestContext::new();
    let mut pages = context.run(["--help"]).success().stdout;
    for command in [
        "demo",
        "backfill",
        "status",
        "verify",
        "rejects",
        "gc",
        "promote",
        "sql",
        "diff",
        "query",
        "table",
        "table create",
        "table show",
        "table list",
        "table rows",
        "table export",
        "table update",
        "table copy",
        "table rename",
        "table delete",
        "table recover",
        "table iam",
        "table iam get",
        "table iam add",
        "table iam remove",
        "source",
        "emulator",
        "gateway",
        "gateway passwd",
        "track",
        "load-test",
        "bench",
        "bench sql",
        "completions",
        "man",
    ] {
        let words = command.split(' ').chain(["--help"]);
        let page = context.run(words).success().stdout;
        assert!(page.contains("Example"), "{command} --help has no example");
        pages += &format!("\n════ api2bq {command} --help\n{page}");
    }
    insta::assert_snapshot!(pages);
}

#[test]
fn settings_are_shown_with_their_origins() {
    let context = TestContext::new();
    let mut command = context.command([
        "backfill",
        "flows",
        "--show-settings",
        "--set",
        "stage.url=gs://bucket/x",
        "--set",
        "source.url=https://user:canary@api.example/v1?token=canary",
    ]);
    let output = command.env("API2BQ_LIMITS_MEMORY_MIB", "64").env("GOOGLE_CLOUD_PROJECT", "mine").output();
    let shown = String::from_utf8(output.expect("it runs").stdout).expect("UTF-8");
    assert!(!shown.contains("canary"));
    insta::assert_snapshot!(shown);
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let context = TestContext::new();
    assert!(context.run(["completions", "bash"]).success().stdout.contains("_api2bq()"));
    assert!(context.run(["man", "backfill"]).success().stdout.contains(".TH"));
    assert_eq!(context.run(["man", "nonsense"]).code, 2);
}
