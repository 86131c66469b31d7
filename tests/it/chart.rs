//! `sql --chart`: rows as pictures.

use std::process::Stdio;

use crate::context::{Ended, TestContext};

/// Seven days, of which the fourth has a wrong record.
pub fn staged() -> (TestContext, String) {
    let context = TestContext::new();
    let line = |id: u32, day: u32| {
        let protocol = if id == 9 { "<b>x</b>" } else { "6" };
        format!("{id},{},0,C1,1,C2,2,{protocol},1,{}\n", (day - 1) * 86_400 + id * 60, id * 100)
    };
    let lines: String = (1..=28).map(|id| line(id, id.div_ceil(4))).collect();
    context.write("flows.csv", lines);
    let stage = format!("stage.url={}", context.path("stage").display());
    let fixed = ["backfill", "flows", "--from", "1", "--to", "7", "--until", "stage", "--max-rejects", "1"];
    let source = ["--set", "source.url=flows.csv", "--set", "source.row_number_column=", "--set", &stage];
    context.run(fixed.iter().chain(&source)).success();
    (context, stage)
}

fn drawn(context: &TestContext, stage: &str, sql: &str, more: &[&str]) -> Ended {
    let mut command = context.command(["sql", "-c", sql, "--set", stage].iter().chain(more));
    command.stdin(Stdio::null()).output().expect("it runs").into()
}

const PER_DAY: &str = "SELECT day, COUNT(*) AS flows FROM flows GROUP BY day ORDER BY day";

#[test]
fn a_chart_takes_the_place_of_rows_and_a_file_has_them_all_the_same() {
    let (context, stage) = staged();
    let chart =
        drawn(&context, &stage, PER_DAY, &["--chart", "bar", "--output", "rows.csv"]).success().stdout;
    let lines: Vec<&str> = chart.lines().collect();
    assert_eq!(lines[0], "day  flows");
    // As wide as a page, where there is no terminal.
    assert_eq!(lines[1], format!("  1      4  {}", "█".repeat(68)));
    assert_eq!(lines[3], format!("  3      3  {}", "█".repeat(51)));
    assert_eq!(lines.len(), 8, "{chart}");
    let rows = std::fs::read_to_string(context.path("rows.csv")).expect("rows");
    assert!(rows.starts_with("day,flows\n1,4\n2,4\n3,3\n"), "{rows}");

    let hours = "SELECT time / 60 % 4 AS minute, day, COUNT(*) AS flows FROM flows GROUP BY 1, 2";
    let heat = drawn(&context, &stage, hours, &["--chart", "heat"]).success().stdout;
    assert!(heat.starts_with("flows by minute and day\nday\n  1  ████"), "{heat}");
    let line = drawn(&context, &stage, PER_DAY, &["--chart", "line"]).success().stdout;
    assert!(line.starts_with("flows by day\n") && line.contains("4.0 ┤⠉⠉"), "{line}");
    let hist = drawn(&context, &stage, "SELECT byte_count FROM flows", &["--chart", "hist"]).success().stdout;
    assert!(hist.starts_with("byte_count: 27 values\n") && hist.contains("Freedman and Diaconis"), "{hist}");
}

#[test]
fn a_picture_is_written_whole_and_the_same_each_time() {
    let (context, stage) = staged();
    let file = |name: &str| {
        let out = drawn(&context, &stage, PER_DAY, &["--chart", "bar", "--chart-out", name]).success();
        assert_eq!(out.stdout, "");
        std::fs::read(context.path(name)).expect("a picture")
    };
    let png = file("days.png");
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() < 60_000, "{} bytes", png.len());
    assert_eq!(png, file("again.png"));
    let svg = String::from_utf8(file("days.SVG")).expect("text");
    assert!(svg.contains("flows by day") && svg.ends_with("</svg>\n"), "{svg}");
}

#[test]
fn what_a_chart_cannot_be_drawn_from_is_said_before_anything_is_read() {
    let context = TestContext::new();
    let wrong = |sql: &str, more: &[&str]| {
        let ended = drawn(&context, "stage.url=nowhere", sql, more);
        assert_eq!((ended.code, &*ended.stdout), (2, ""), "{ended:?}");
        ended.stderr
    };
    assert!(wrong("SELECT 1", &["--chart", "heat"]).starts_with(
        "error: a heat map needs three columns: one for across, one for down, and numbers\nhint: "
    ));
    assert_eq!(
        wrong("SELECT 1", &["--chart", "hist", "--chart-out", "x.gif"]),
        "error: `x.gif` is no name for a picture\nhint: end it with `.svg` or `.png`\n"
    );
    assert!(
        wrong("SELECT 1", &["--chart", "hist", "--chart-out", "no/x.svg"]).starts_with("error: there is no")
    );
    assert!(wrong("SELECT 1", &["--chart-out", "x.svg"]).contains("--chart <KIND>"));
    assert!(wrong("SELECT 1", &["--chart", "pie"]).contains("bar, line, hist, heat"));
    assert!(!context.path("x.svg").exists());
}
