//! The shell of `api2bq sql`, typed at through a pseudo-terminal.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use regex::Regex;
use rexpect::session::{Options, PtySession, spawn_with_options};

use crate::context::TestContext;

const PROMPT: &str = "api2bq> ";
const UP: &str = "\x1b[A";

/// A shell that somebody types at.
struct Typed {
    session: PtySession,
}

impl Typed {
    fn new(context: &TestContext, more: &[&str]) -> Self {
        Typed::with(context, more, &[("NO_COLOR", "1")])
    }

    fn with(context: &TestContext, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let stage = format!("stage.url={}", context.path("stage").display());
        let mut command = context.command(["sql", "--set", &stage].iter().chain(more));
        command.env("TERM", "xterm").envs(environment.iter().copied());
        let options = Options::new().timeout_ms(Some(60_000));
        let mut typed = Typed { session: spawn_with_options(command, options).expect("it starts") };
        typed.shows(PROMPT);
        typed
    }

    /// Waits until `text` is on the screen; what came before it, without what moves the cursor.
    #[track_caller]
    fn shows(&mut self, text: &str) -> String {
        // rexpect takes each byte for a character.
        let bytes: String = text.bytes().map(char::from).collect();
        let before = match self.session.exp_string(&bytes) {
            Ok(before) => before,
            Err(error) => panic!("`{text}` is not shown: {error}"),
        };
        let before: Vec<u8> = before.chars().map(|c| u8::try_from(c).expect("a byte")).collect();
        let before = String::from_utf8(before).expect("UTF-8");
        let codes = Regex::new("\r?\x1b\\[[0-9;?]*[A-Za-z]").expect("a regex");
        codes.replace_all(&before, "").into_owned()
    }

    fn keys(&mut self, keys: &str) {
        self.session.send(keys).expect("sent");
        self.session.flush().expect("sent");
    }

    /// Types a line and waits until the shell wants the next one; what it showed in between.
    #[track_caller]
    fn answer(&mut self, line: &str) -> String {
        self.keys(&format!("{line}\r"));
        // First the echo of the line itself.
        self.shows("\r\n");
        self.shows(PROMPT)
    }

    /// Types a line, and waits until its query runs: until then Ctrl-C is a key as any other.
    #[track_caller]
    fn starts(&mut self, line: &str) {
        self.keys(&format!("{line}\r"));
        // The line editor gives the terminal back.
        self.shows("\x1b[?2004l");
    }

    /// Ctrl-C. Keys that come before the next prompt would be dropped as well.
    #[track_caller]
    fn drops_the_line(&mut self) {
        self.keys("\x03");
        self.shows("\r\n");
        self.shows(PROMPT);
    }

    #[track_caller]
    fn leaves(mut self, keys: &str) {
        self.keys(keys);
        self.session.exp_eof().expect("the end");
        // As `Ok(Exited(Pid(…), 0))`: the type has no name outside of rexpect.
        let ended = format!("{:?}", self.session.process().wait());
        assert!(ended.starts_with("Ok(Exited(") && ended.ends_with(", 0))"), "{ended}");
    }
}

fn staged() -> TestContext {
    let context = TestContext::new();
    let source = context.source(&["--rows", "300", "--days", "3", "--seed", "7"]);
    context.backfill(None, &source.flows(), 3, &["--until", "stage"]).success();
    context
}

#[test]
fn statements_run_when_they_end_and_mistakes_do_not_end_the_shell() {
    let context = TestContext::new();
    let mut typed = Typed::new(&context, &[]);
    assert_eq!(typed.answer("SELECT 1 + 1 AS two;"), "two\r\n───\r\n  2\r\n");
    // Over several lines; a semicolon in quotes is no end.
    typed.keys("SELECT ';' AS mark,\r");
    typed.keys("3 AS three -- ; not yet\r");
    typed.keys(";\r");
    typed.shows("mark  three\r\n────  ─────\r\n;         3\r\n");
    typed.shows(PROMPT);
    let shown = typed.answer("SELECT 1 AS a; SELECT nothing; SELECT 2 AS b;");
    assert!(shown.starts_with("a\r\n─\r\n1\r\nerror: "), "{shown}");
    assert!(shown.contains("nothing") && !shown.contains("\r\n2\r\n"), "{shown}");
    assert!(typed.answer(r"\nonsense").starts_with(r"error: there is no command `\nonsense`"));
    assert!(typed.answer("DROP TABLE flows;").starts_with("error: "));
    assert_eq!(typed.answer("SELECT 4 AS still;"), "still\r\n─────\r\n    4\r\n");
    // Ctrl-D.
    typed.leaves("\x04");
}

#[test]
fn tab_completes_keywords_tables_columns_functions_and_commands() {
    let context = staged();
    let mut typed = Typed::new(&context, &[]);
    typed.keys("sel\t COUNT(*) AS n FROM win\t WHERE first_d\t = 2;\r");
    typed.shows("n\r\n─\r\n1\r\n");
    typed.shows(PROMPT);
    typed.keys("SELECT approx_dist\tprotocol) > 0 AS some FROM flows;\r");
    typed.shows("some\r\n────\r\ntrue\r\n");
    typed.shows(PROMPT);
    typed.keys("SELECT COUNT(f.id) AS k FROM flows f WHERE f.byte_c\t < 0;\r");
    typed.shows("k\r\n─\r\n0\r\n");
    typed.shows(PROMPT);
    // Two tables begin so: both are listed.
    typed.keys("SELECT 1 AS one FROM flo\t\t");
    typed.shows("flows");
    typed.shows("flows_rejects");
    // The line is drawn again behind the list.
    typed.shows("SELECT 1 AS one FROM flows");
    typed.drops_the_line();
    typed.keys("\\form\t nd\t");
    typed.shows(r"\format ndjson");
    typed.answer("");
    assert_eq!(typed.answer("SELECT 1 AS a;"), "{\"a\":1}\r\n");
    context.write("people.csv", "id,name\n1,Ada\n");
    typed.keys("SELECT name FROM 'peop\t' WHERE id = 1;\r");
    typed.shows("{\"name\":\"Ada\"}\r\n");
    typed.leaves("exit\r");
}

/// Compute for hours: a join with rows on the way, one that finds nothing, and one by hash.
const ENDLESS: [&str; 3] = [
    "SELECT COUNT(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b \
     WHERE a.value % 7 < b.value % 5;",
    "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b \
     WHERE a.value + b.value < 0;",
    "SELECT SUM(a.value * b.value % 3) FROM generate_series(1, 1000000) a \
     JOIN generate_series(1, 1000000) b ON a.value % 2 = b.value % 2;",
];

#[test]
fn ctrl_c_drops_a_line_and_stops_a_query_but_not_the_shell() {
    let context = TestContext::new();
    let mut typed = Typed::new(&context, &["--progress", "off"]);
    typed.keys("SELECT 'dropped");
    typed.shows("dropped");
    typed.drops_the_line();
    assert_eq!(typed.answer("SELECT 1 AS a;"), "a\r\n─\r\n1\r\n");
    for endless in ENDLESS {
        typed.starts(endless);
        std::thread::sleep(Duration::from_millis(1500));
        let asked = Instant::now();
        typed.keys("\x03");
        typed.shows("interrupted\r\n");
        typed.shows(PROMPT);
        assert!(asked.elapsed() < Duration::from_secs(5), "{endless}: {:?}", asked.elapsed());
        // And what comes next has the threads that it needs.
        let asked = Instant::now();
        let shown = typed.answer("SELECT COUNT(*) AS n FROM generate_series(1, 100000);");
        assert!(shown.ends_with("n\r\n──────\r\n100000\r\n"), "{shown}");
        assert!(asked.elapsed() < Duration::from_secs(20), "{endless}: {:?}", asked.elapsed());
    }
    // Rows that run over the screen do not run over what comes next.
    typed.answer(r"\format csv");
    typed.starts("SELECT a.value AS a FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b;");
    std::thread::sleep(Duration::from_millis(300));
    typed.keys("\x03");
    typed.shows("interrupted\r\n");
    typed.shows(PROMPT);
    assert_eq!(typed.answer("SELECT 1 AS a;"), "a\r\n1\r\n");
    typed.leaves("\\q\r");
}

#[test]
fn what_was_typed_is_there_in_the_next_shell_and_for_nobody_else() {
    let context = TestContext::new();
    let mut typed = Typed::new(&context, &[]);
    typed.answer("SELECT 7 AS lucky;");
    typed.keys("SELECT 8\rAS eight;\r");
    typed.shows("eight\r\n");
    typed.shows(PROMPT);
    typed.leaves("\\q\r");
    let file = context.path(".local/state/api2bq/history");
    let mode = std::fs::metadata(&file).expect("a history").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut typed = Typed::new(&context, &[]);
    typed.keys(&format!("{UP}{UP}{UP}\r"));
    typed.shows("lucky\r\n─────\r\n    7\r\n");
    typed.shows(PROMPT);
    typed.leaves("\x04");

    // Where nothing can be written there is none, and a shell all the same.
    let nowhere = [("NO_COLOR", "1"), ("XDG_STATE_HOME", "/dev/null/nowhere")];
    let mut typed = Typed::with(&context, &[], &nowhere);
    assert_eq!(typed.answer("SELECT 1 AS a;"), "a\r\n─\r\n1\r\n");
    typed.leaves("\x04");
}

#[test]
fn commands_list_tables_and_say_how_and_where_rows_go() {
    let context = staged();
    let mut typed = Typed::new(&context, &[]);
    let tables = typed.answer(r"\d");
    for table in ["flows  ", "flows_rejects  ", "runs  ", "windows  "] {
        assert!(tables.contains(&format!("\r\n{table}")), "{tables}");
    }
    let columns = typed.answer(r"\d flows");
    assert!(columns.contains("\r\nprotocol      INT64\r\n"), "{columns}");
    assert!(typed.answer(r"\d flws").starts_with("error: there is no table `flws`"));

    typed.answer(r"\format csv");
    assert_eq!(typed.answer("SELECT 1 AS a, 'x,y' AS b;"), "a,b\r\n1,\"x,y\"\r\n");
    let refused = typed.answer(r"\format parquet");
    assert!(refused.contains(r"`\o FILE.parquet` first"), "{refused}");
    typed.answer(r"\o out.parquet");
    typed.answer(r"\format");
    assert_eq!(typed.answer("SELECT 5 AS five;"), "");
    typed.answer(r"\o");
    assert_eq!(typed.answer("SELECT * FROM 'out.parquet';"), "five\r\n────\r\n   5\r\n");
    assert!(typed.answer(r"\o nowhere/x.csv").starts_with("error: there is no folder `nowhere`"));

    assert_eq!(typed.answer(r"\timing"), "timing is on\r\n");
    assert!(typed.answer("SELECT 1 AS a;").contains("\r\n1\r\n1 row, 0."));
    typed.answer(r"\timing off");

    typed.answer(r"\chart bar");
    let chart = typed.answer("SELECT day, day * 2 AS n FROM flows GROUP BY day ORDER BY day;");
    assert!(chart.starts_with("day  n\r\n  1  2  ███") && chart.contains("\r\n  3  6  ████"), "{chart}");
    let refused = typed.answer("SELECT 1 AS a;");
    assert!(refused.starts_with("error: a bar chart needs a column of labels"), "{refused}");
    typed.answer(r"\chart off");
    assert_eq!(typed.answer("SELECT 1 AS a;"), "a\r\n─\r\n1\r\n");

    let many = typed.answer("SELECT value FROM generate_series(1, 1200);");
    assert!(many.ends_with("1,000 rows are shown, and there are more; `\\o FILE` writes all of them\r\n"));
    assert!(typed.answer(r"\?").contains(r"\timing [on|off]"));
    typed.leaves("quit\r");
}

#[test]
fn a_table_that_is_wider_than_the_terminal_is_folded() {
    let context = staged();
    let mut typed = Typed::new(&context, &[]);
    let shown = typed.answer("SELECT * FROM flows ORDER BY id LIMIT 2;");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{shown}");
    let headers: Vec<&&str> =
        lines.iter().filter(|line| line.contains("_count") || line.contains("day")).collect();
    assert!(headers.len() == 1 && lines.iter().filter(|line| line.contains("──")).count() == 2, "{shown}");
    typed.leaves("\\q\r");
}

#[test]
fn what_is_typed_is_coloured_unless_that_is_not_wanted() {
    let context = TestContext::new();
    let mut typed = Typed::with(&context, &[], &[]);
    typed.keys("SELECT 'text', 12 -- note");
    typed.shows("\x1b[1;34mSELECT\x1b[0m \x1b[32m'text'\x1b[0m, \x1b[35m12\x1b[0m \x1b[90m-- note\x1b[0m");
    typed.drops_the_line();
    typed.leaves("\x04");
}
