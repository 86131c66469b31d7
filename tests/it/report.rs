//! `status --html`: a run as a page.

use crate::chart::staged;
use crate::context::TestContext;

#[test]
fn a_run_is_a_page_of_its_own_with_its_gaps_rejects_and_settings() {
    let (context, stage) = staged();
    let secret = "source.url=https://ada:canary@api.example/flows?token=canary";
    let status = ["status", "flows", "--set", &stage, "--set", secret, "--html"];
    let ended = context.run(status.iter().chain(&["report.html"])).success();
    assert_eq!((&*ended.stdout, &*ended.stderr), ("", ""));
    let page = std::fs::read_to_string(context.path("report.html")).expect("a page");
    // Seven days staged and none loaded; one record rejected, whose text stays text.
    for text in [
        "<h1>flows: ",
        "28 records in = 27 staged + 0 duplicates + 1 rejects",
        "day 3: 3 rows, staged, not loaded",
        "ms from its request to staged",
        "<b>27</b>rows staged",
        "<b>0</b>rows loaded",
        "&lt;b&gt;x&lt;/b&gt;",
        "https://api.example/flows",
        "<code>limits.memory_mib</code>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    for text in ["canary", "<b>x</b>", "<script", "src=", "href=", "url(", "{{", "}}"] {
        assert!(!page.contains(text), "{text}: {page}");
    }
    assert_eq!(page.matches("class=\"wait\"").count(), 7, "{page}");
    // To stdout it is the same page.
    assert_eq!(context.run(status.iter().chain(&["-"])).success().stdout, page);
    let nothing = context.run(["status", "flows", "--set", "stage.url=nowhere", "--html", "x.html"]);
    assert_eq!(nothing.code, 2, "{nothing:?}");
}

#[test]
fn days_that_were_not_staged_are_gaps_in_the_page() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "300", "--days", "3", "--seed", "7"]);
    // Nobody serves the third day.
    let missing = format!("source.url={}", source.flows());
    let stage = format!("stage.url={}", context.path("stage").display());
    let backfill = ["backfill", "flows", "--from", "1", "--to", "2", "--set", &missing, "--set", &stage];
    context.run(backfill.iter().chain(&["--until", "stage"])).success();
    let entry =
        std::fs::read_dir(context.path("stage/flows/runs")).expect("runs").flatten().next().expect("a run");
    let windows = entry.path().join("w");
    let second = std::fs::read_dir(&windows).expect("windows").flatten().map(|window| window.path()).max();
    std::fs::remove_dir_all(second.expect("a window")).expect("removed");
    let page = context.run(["status", "flows", "--set", &stage, "--html", "-"]).success().stdout;
    assert!(page.contains("1 missing, 1 open of 2 windows"), "{page}");
    assert_eq!(page.matches("<rect class=\"gap\"").count(), 1, "{page}");
    assert!(
        page.contains("<title>day 2: missing: never begun, or stopped before it was staged</title>"),
        "{page}"
    );
}
