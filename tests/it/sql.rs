//! `api2bq sql`: tables of pipelines, journal and files, what is opened for them, formats and mistakes.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::Value;

use crate::context::{Ended, TestContext};

/// What was typed and what came of it.
struct Asked {
    context: TestContext,
    transcript: String,
}

impl Asked {
    /// Three days of flows, staged.
    fn new() -> Self {
        let context = TestContext::new();
        let source = context.source(&["--rows", "300", "--days", "3", "--seed", "7"]);
        context.backfill(None, &source.flows(), 3, &["--until", "stage"]).success();
        Asked { context, transcript: String::new() }
    }

    fn nothing() -> Self {
        Asked { context: TestContext::new(), transcript: String::new() }
    }

    fn stage(&self) -> String {
        format!("stage.url={}", self.context.path("stage").display())
    }

    fn sql(&self, sql: &str, more: &[&str]) -> Ended {
        let stage = self.stage();
        let fixed = ["sql", "-c", sql, "--set", &stage];
        let mut command = self.context.command(fixed.iter().chain(more));
        command.stdin(Stdio::null()).output().expect("it runs").into()
    }

    /// Runs it and writes it down.
    fn ask(&mut self, sql: &str, more: &[&str]) -> Ended {
        let ended = self.sql(sql, more);
        let more: String = more.iter().map(|word| format!(" {word}")).collect();
        self.transcript += &format!("$ api2bq sql -c '{sql}'{more}\n{}", ended.stdout);
        for line in ended.stderr.lines() {
            self.transcript += &format!("! {line}\n");
        }
        self.transcript += &format!("= {}\n\n", ended.code);
        ended
    }

    /// Without what differs from run to run.
    fn shown(&self) -> String {
        let text = self.transcript.replace(&self.context.path("").display().to_string(), "<dir>/");
        let text = Regex::new("[0-9a-f]{16}").expect("a regex").replace_all(&text, "<id>").into_owned();
        let file = Regex::new(r#"-[0-9a-f]{8}-0\.parquet|"file_bytes":\d+"#).expect("a regex");
        let text = file.replace_all(&text, "<file>").into_owned();
        let time = Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").expect("a regex");
        time.replace_all(&text, "<time>").into_owned()
    }

    /// The staged files of a day, by its partition.
    fn files(&self, partition: &str) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.context.path("stage"), &mut found);
        found.retain(|path| {
            path.extension().is_some_and(|e| e == "parquet") && path.display().to_string().contains(partition)
        });
        assert!(!found.is_empty(), "no files of {partition}");
        found
    }
}

fn stdout(ended: Ended) -> String {
    ended.success().stdout
}

#[test]
fn tables_of_a_pipeline_and_its_journal_are_there_by_themselves() {
    let mut asked = Asked::new();
    asked.ask("SELECT day, COUNT(*) AS flows, MAX(id) AS last FROM flows GROUP BY day ORDER BY day", &[]);
    asked.ask("SELECT * FROM flows WHERE day = 2 ORDER BY id LIMIT 2", &["--format", "table"]);
    asked.ask("SELECT COUNT(*) AS n FROM flows_rejects", &[]);
    asked.ask("SELECT * FROM runs", &["--format", "json"]);
    asked.ask("SELECT * FROM windows ORDER BY first_day LIMIT 1", &["--format", "json"]);
    insta::assert_snapshot!(asked.shown());
}

#[test]
fn a_query_that_names_days_opens_only_their_files() {
    let asked = Asked::new();
    let whole = stdout(asked.sql("SELECT COUNT(*) FROM flows WHERE day IN (1, 3)", &[]));
    // What is no Parquet any more, and as long as it was, fails whoever opens it.
    for file in asked.files("20110102") {
        let length = std::fs::metadata(&file).expect("a file").len();
        std::fs::write(&file, vec![0; usize::try_from(length).expect("small")]).expect("written");
    }
    for sql in [
        "SELECT COUNT(*) FROM flows WHERE day IN (1, 3)",
        "SELECT COUNT(*) FROM flows WHERE day <> 2 AND time >= 0",
        "SELECT COUNT(*) FROM flows f WHERE f.day % 2 = 1",
        "SELECT COUNT(*) FROM (SELECT * FROM flows WHERE day = 1 UNION ALL SELECT * FROM flows WHERE day = 3)",
        "SELECT COUNT(*) FROM flows JOIN (SELECT MAX(first_day) AS d FROM windows) ON day = d OR day = 1 \
         WHERE day BETWEEN 3 AND 9 OR day = 1",
    ] {
        assert_eq!(stdout(asked.sql(sql, &[])).lines().nth(1), whole.lines().nth(1), "{sql}");
    }
    let ended = asked.sql("SELECT SUM(id) FROM flows", &[]);
    assert_eq!(ended.code, 1, "{ended:?}");
}

#[test]
fn a_staged_file_that_is_gone_or_was_cut_is_named() {
    let mut asked = Asked::new();
    let file = asked.files("20110103").remove(0);
    let bytes = std::fs::read(&file).expect("a file");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("written");
    let ended = asked.sql("SELECT COUNT(*) FROM flows", &[]);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("has") && ended.stderr.contains("of the journal"), "{ended:?}");
    std::fs::remove_file(&file).expect("removed");
    asked.ask("SELECT COUNT(*) FROM flows", &[]);
    insta::assert_snapshot!(asked.shown());
    assert_eq!(asked.sql("SELECT COUNT(*) FROM flows WHERE day = 1", &[]).code, 0);
}

#[test]
fn an_earlier_run_is_looked_at_by_its_id() {
    let asked = Asked::new();
    let first = stdout(asked.sql("SELECT run FROM runs", &["--format", "ndjson"]));
    let first: Value = serde_json::from_str(&first).expect("JSON");
    let first = first["run"].as_str().expect("an id");
    let source = asked.context.source(&["--rows", "300", "--days", "3", "--seed", "8"]);
    asked.context.backfill(None, &source.flows(), 2, &["--until", "stage", "--new-run"]).success();
    let days = "SELECT COUNT(DISTINCT day) AS n FROM flows";
    assert_eq!(stdout(asked.sql(days, &[])), "n\n2\n");
    assert_eq!(stdout(asked.sql(days, &["--as-of", &first[..6]])), "n\n3\n");
    let ended = asked.sql(days, &["--as-of", "nope"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.starts_with("error: there is no run `nope`\nhint: "), "{ended:?}");
}

#[test]
fn rejects_are_a_table() {
    let context = TestContext::new();
    let lines = "1,1,0,C1,1,C2,2,x,1,1\n2,2,0,C1,1,C2,2,6,1,1\n";
    context.write("flows.csv", lines);
    let stage = format!("stage.url={}", context.path("stage").display());
    let backfill = ["backfill", "flows", "--from", "1", "--to", "1", "--until", "stage"];
    let set = ["--set", "source.url=flows.csv", "--set", "source.row_number_column=", "--set", &stage];
    context.run([&backfill[..], &set, &["--max-rejects", "1"]].concat()).success();
    let sql = "SELECT line, reason, raw FROM flows_rejects";
    let ended = context.run(["sql", "-c", sql, "--set", &stage, "--format", "ndjson"]).success();
    let reject: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&reject["line"], &reject["raw"]), (&1.into(), &"1,1,0,C1,1,C2,2,x,1,1".into()), "{ended:?}");
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).expect("packed");
    encoder.finish().expect("packed")
}

#[test]
fn files_are_tables_by_their_path_or_url() {
    let mut asked = Asked::nothing();
    let csv = "\u{feff}id,name\n1,Ada\n2,\"Grace, H.\"\n3,\n";
    asked.context.write("people.csv", csv);
    asked.context.write("people.csv.gz", packed(csv));
    asked.context.write("sub.tsv", "id\tborn\n1\t1815-12-10\n2\t1906-12-09\n");
    let lines = "{\"id\":1,\"tags\":[\"a\",\"b\"]}\n{\"id\":2,\"half\":0.5}\n";
    asked.context.write("tags.ndjson", lines);
    asked.context.write("tags.jsonl.gz", packed(lines));
    let url = format!("file://{}", asked.context.path("people.csv.gz").display());
    asked.ask("SELECT * FROM \"people.csv\"", &["--format", "json"]);
    asked.ask(&format!("SELECT COUNT(*) AS n, SUM(id) AS ids FROM ''{url}''").replace("''", "'"), &[]);
    asked.ask("SELECT p.id, born, tags, half FROM './people.csv' p JOIN 'sub.tsv' USING (id) JOIN 'tags.jsonl.gz' t ON t.id = p.id ORDER BY 1", &["--format", "ndjson"]);
    asked.ask("SELECT * FROM 'people.csv'", &["--output", "people.parquet"]);
    asked.ask("SELECT name FROM 'people.parquet' WHERE id = 2", &[]);
    insta::assert_snapshot!(asked.shown());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let mut asked = Asked::nothing();
    asked.context.write("a.csv", "id,name\n1,Ada\n");
    asked.context.write("broken.csv", "id,name\n1,Ada\n2,Grace,H\n");
    asked.context.write("list.json", "[{\"id\":1}]");
    asked.context.write("empty.csv", "");
    asked.context.write("no.parquet", "this is no Parquet file at all");
    asked.context.write("cut.csv.gz", &packed("id\n1\n2\n")[..15]);
    for file in
        ["b.csv", "broken.csv", "list.json", "empty.csv", "no.parquet", "cut.csv.gz", "a.xlsx/x", "./a"]
    {
        asked.ask(&format!("SELECT * FROM '{file}'"), &[]);
    }
    let ended = asked.ask("SELECT * FROM 'https://user:secret@example.com/a.csv'", &[]);
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
    asked.ask("SELECT nme FROM 'a.csv'", &[]);
    insta::assert_snapshot!(asked.shown());
}

#[test]
fn buckets_are_read_like_folders() {
    let context = TestContext::new();
    let bucket = context.path("buckets/bkt");
    std::fs::create_dir_all(&bucket).expect("a folder");
    std::fs::write(bucket.join("people.csv.gz"), packed("id\n1\n2\n")).expect("written");
    let folders = [context.path("wh"), context.path("buckets")].map(|path| path.display().to_string());
    let emulator = context.server(&["emulator", "--data-dir", &folders[0], "--gcs-dir", &folders[1]]);
    let ask = |sql: &str, more: &[&str]| -> Ended {
        let mut command = context.command(["sql", "-c", sql].iter().chain(more));
        command.env("STORAGE_EMULATOR_HOST", &emulator.url).output().expect("it runs").into()
    };
    assert_eq!(ask("SELECT SUM(id) AS s FROM 'gs://bkt/people.csv.gz'", &[]).success().stdout, "s\n3\n");
    let ended = ask("SELECT * FROM 'gs://bkt/nothing.csv'", &[]);
    assert_eq!((ended.code, &*ended.stderr), (2, "error: there is no file `gs://bkt/nothing.csv`\n"));
    // A staging area in a bucket is one too.
    let source = context.source(&["--rows", "30", "--days", "2", "--seed", "7"]);
    let source = format!("source.url={}", source.flows());
    let stage = ["--set", "stage.url=gs://bkt/stage"];
    let backfill = ["backfill", "flows", "--from", "1", "--to", "2", "--until", "stage", "--set", &source];
    let mut command = context.command(backfill.iter().chain(&stage));
    let staged: Ended = command.env("STORAGE_EMULATOR_HOST", &emulator.url).output().expect("it runs").into();
    staged.success();
    let ended = ask("SELECT COUNT(*) > 5 AS some, MAX(day) AS last FROM flows WHERE day = 2", &stage);
    assert_eq!(ended.success().stdout, "some,last\ntrue,2\n");
}

#[test]
fn mistakes_have_a_place_and_a_next_step() {
    let mut asked = Asked::new();
    for sql in [
        "SELEC 1",
        "SELECT 1 FROM",
        "SELECT 'open",
        "",
        "SELECT 1; SELECT 2",
        "DROP TABLE flows",
        "EXPLAIN SELECT 1",
        "DESCRIBE flows",
        "SELECT *\nFROM flws",
        "SELECT * FROM zebra",
        "SELECT * FROM d.flows",
        "SELECT * FROM flows.csv",
        "SELECT id,\n\tprotcol\nFROM flows",
        "SELECT f.nothing_like_it FROM flows f",
        "SELECT id, COUNT(*) FROM flows",
        "SELECT SUM(src_comp) FROM flows",
        "SELECT nofunction(id) FROM flows",
        "SELECT 1 / 0",
        "SELECT CAST('x' AS BIGINT)",
        "SELECT * FROM flows WHERE src_comp + 1 = DATE '2020-01-01'",
        "INSERT INTO flows VALUES (1)",
        "COPY (SELECT 1) TO 'x.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'x.csv'",
        "SET datafusion.execution.batch_size = 1",
    ] {
        asked.ask(sql, &[]);
    }
    let shown = asked.shown();
    insta::assert_snapshot!(shown);
    let said: String = shown.lines().filter(|line| line.starts_with("! ")).collect();
    for word in ["DataFusion", "Arrow", "Utf8", "Int64", "Exec", "Schema error", "os error"] {
        assert!(!said.contains(word), "{word}");
    }
}

#[test]
fn what_is_not_staged_is_said_with_the_next_step() {
    let mut asked = Asked::nothing();
    asked.ask("SELECT * FROM flows", &[]);
    asked.ask("SELECT COUNT(*) AS n FROM runs", &[]);
    insta::assert_snapshot!(asked.shown());
    // Nothing that was not asked for is opened, or made.
    assert!(Asked::nothing().context.run(["sql", "-c", "SELECT 1"]).success().stdout.contains('1'));
    let untouched = TestContext::new();
    untouched.run(["sql", "-c", "SELECT 1"]).success();
    assert_eq!(std::fs::read_dir(untouched.path("")).expect("a folder").count(), 0);
}

#[test]
fn queries_come_from_a_file_or_stdin() {
    let context = TestContext::new();
    context.write("q.sql", "-- a comment\nSELECT 2 AS two;\n");
    assert_eq!(stdout(context.run(["sql", "-f", "q.sql"])), "two\n2\n");
    let mut child = context
        .command(["sql"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(b"SELECT 3 AS three").expect("written");
    assert_eq!(stdout(child.wait_with_output().expect("it ends").into()), "three\n3\n");
    let ended = context.run(["sql", "-f", "gone.sql"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.starts_with("error: cannot read `gone.sql`"), "{ended:?}");
}

#[test]
fn rows_are_written_in_every_format_and_cut_at_a_limit() {
    let mut asked = Asked::nothing();
    let sql = "SELECT * FROM (VALUES (1, 'a|b', NULL), (2, '', 0.5)) t (id, name, share)";
    for format in ["table", "csv", "tsv", "json", "ndjson", "markdown"] {
        asked.ask(sql, &["--format", format]);
    }
    asked.ask(sql, &["--limit", "1"]);
    asked.ask(sql, &["--output", "rows.arrow"]);
    asked.ask("SELECT 1 AS a WHERE FALSE", &[]);
    asked.ask("SELECT 1 + 1, COUNT(*), MAX(2.5)", &[]);
    insta::assert_snapshot!(asked.shown());
    assert!(std::fs::read(asked.context.path("rows.arrow")).expect("a file").len() > 100);
    let timed = asked.sql("SELECT 1", &["--timer"]);
    assert!(
        timed.stderr.starts_with("1 row, 0.") && timed.stderr.ends_with(" of them to plan\n"),
        "{timed:?}"
    );
}

#[test]
fn a_plan_is_a_tree_and_with_analyze_it_has_rows_and_times() {
    let mut asked = Asked::new();
    let sql =
        "SELECT protocol, COUNT(*) AS n FROM flows WHERE day = 2 AND id > 0 GROUP BY protocol ORDER BY n";
    asked.ask(sql, &["--explain"]);
    insta::assert_snapshot!(asked.shown());
    let ran = stdout(asked.sql(sql, &["--explain=analyze"]));
    assert!(Regex::new(r"scan +\d+ rows +\d+\.\d ms  .*read").expect("a regex").is_match(&ran), "{ran}");
    let json = stdout(asked.sql(sql, &["--explain=analyze", "--format", "json"]));
    let mut operator: Value = serde_json::from_str(&json).expect("JSON");
    let groups = operator["rows"].as_u64().expect("rows");
    assert!((1..10).contains(&groups), "{json}");
    while let Some(input) = operator["inputs"].get(0) {
        operator = input.clone();
    }
    assert_eq!(operator["operator"], "scan", "{json}");
    assert!(operator["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{json}");
}

/// A backfill leaves room for others beside it, `sql` has half of the machine unless it is told otherwise.
#[test]
fn a_sort_goes_to_the_disk_only_where_memory_is_little() {
    let asked = Asked::nothing();
    let sql = "SELECT value, value % 1000 AS part FROM generate_series(1, 3000000) ORDER BY part, value";
    let spilled = |more: &[&str]| {
        let json = stdout(asked.sql(sql, &[&["--explain=analyze", "--format", "json"], more].concat()));
        let mut waiting = vec![serde_json::from_str::<Value>(&json).expect("JSON")];
        let mut bytes = 0;
        while let Some(operator) = waiting.pop() {
            bytes += operator["spilled_bytes"].as_u64().unwrap_or(0);
            waiting.extend(operator["inputs"].as_array().into_iter().flatten().cloned());
        }
        bytes
    };
    // Less than two sorts and their merges want, which take 10 MiB each, and more than these.
    assert!(spilled(&["--set", "limits.query_memory_mib=48"]) > 0);
    assert_eq!(spilled(&["--set", "limits.memory_mib=48"]), 0, "that one is of backfills");
}

/// Rows without end, so long as somebody reads them.
const ENDLESS: &str =
    "SELECT a.value AS a, b.value AS b FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

#[test]
fn a_reader_that_goes_away_and_an_interrupt_end_a_long_query() {
    let context = TestContext::new();
    let start = || {
        let mut command = context.command(["sql", "-c", ENDLESS, "--progress", "off"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let mut child = start();
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "a,b\n");
    drop(reader);
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    assert_eq!((ended.code, &*ended.stderr), (0, ""));

    let mut child = start();
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    reader.read_line(&mut line).expect("a line");
    let drained = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let asked = Instant::now();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("read");
    let code = child.wait().expect("it ends").code();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(code, Some(130), "{stderr}");
    assert!(stderr.starts_with("error: interrupted\nhint: this command only reads"), "{stderr}");
    drained.join().expect("no panic").expect("read");
}

/// It gave up no thread for hours, and whatever else waited for one waited as long: Ctrl-C too.
#[test]
fn an_interrupt_ends_a_join_that_never_pauses() {
    let context = TestContext::new();
    let sql = "SELECT COUNT(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b \
               WHERE a.value + b.value < 0";
    let mut command = context.command(["sql", "-c", sql, "--progress", "off"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    std::thread::sleep(Duration::from_secs(2));
    let asked = Instant::now();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let ended: Ended = child.wait_with_output().expect("it ends").into();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!((ended.code, &*ended.stdout), (130, ""), "{ended:?}");
}

#[test]
fn millions_of_rows_pass_in_flat_memory() {
    let context = TestContext::new();
    let peak = |rows: u32| {
        let sql = format!("SELECT value, value * 2 AS twice FROM generate_series(1, {rows})");
        let mut child =
            context.command(["sql", "-c", &sql]).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut reader = BufReader::new(child.stdout.take().expect("piped"));
        let status = format!("/proc/{}/status", child.id());
        let (mut line, mut lines, mut peak) = (String::new(), 0, 0);
        while reader.read_line(&mut line).expect("a line") > 0 {
            lines += 1;
            line.clear();
            // Not at the end: what is in the pipe yet may be the last of a process that is gone.
            if lines % 50_000 == 0 && lines < rows {
                let status = std::fs::read_to_string(&status).expect("it runs");
                let high = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
                peak = high.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("kB");
            }
        }
        assert!(child.wait().expect("it ends").success());
        assert_eq!(lines, rows + 1);
        peak
    };
    let (few, many) = (peak(100_000), peak(2_000_000));
    assert!(many < few + 30_000, "{few} kB for 100,000 rows, {many} kB for 2,000,000");
}

#[test]
fn a_summary_has_a_row_for_each_column() {
    let mut asked = Asked::nothing();
    let mut csv = String::from("id,kind,share\n");
    for id in 1..=100 {
        let kind = if id % 10 == 0 {
            ""
        } else if id % 3 == 0 {
            "b"
        } else {
            "a"
        };
        csv += &format!("{id},{kind},{}\n", f64::from(id) / 8.0);
    }
    asked.context.write("some.csv", csv);
    asked.context.write("nested.ndjson", "{\"tags\":[1],\"day\":\"2011-01-01\"}\n{\"day\":null}\n");
    let summarize = |asked: &mut Asked, table: &str, format: &str| {
        let arguments = ["sql", "--summarize", table, "--format", format];
        let ended = asked.context.run(arguments);
        asked.transcript += &format!("$ api2bq {}\n{}{}", arguments.join(" "), ended.stdout, ended.stderr);
    };
    summarize(&mut asked, "some.csv", "table");
    summarize(&mut asked, "some.csv", "ndjson");
    summarize(&mut asked, "nested.ndjson", "ndjson");
    summarize(&mut asked, "flws", "table");
    insta::assert_snapshot!(asked.transcript);
}

#[test]
fn two_runs_are_compared_row_by_row() {
    let context = TestContext::new();
    let stage = format!("stage.url={}", context.path("stage").display());
    let backfill = |lines: &str, from: &str, to: &str| {
        context.write("flows.csv", lines);
        let fixed = ["backfill", "flows", "--from", from, "--to", to, "--until", "stage", "--new-run"];
        let set = ["--set", "source.url=flows.csv", "--set", "source.row_number_column=", "--set", &stage];
        context.run([&fixed[..], &set].concat()).success();
        let last = "SELECT run FROM runs ORDER BY written DESC LIMIT 1";
        let ended = context.run(["sql", "-c", last, "--set", &stage, "--format", "tsv"]).success();
        ended.stdout.lines().nth(1).expect("a run").to_owned()
    };
    let line = |id: u32, time: u32, protocol: u32| format!("{id},{time},0,C1,1,C2,2,{protocol},1,1\n");
    let first =
        backfill(&[line(1, 5, 6), line(2, 6, 6), line(3, 90_000, 6), line(4, 90_001, 1)].concat(), "1", "2");
    // 2 has another protocol, 3 is gone, 5 is new, and 4 has moved to another day.
    let second = backfill(&[line(1, 5, 6), line(2, 6, 17), line(4, 7, 1), line(5, 8, 1)].concat(), "1", "2");
    let diff = |more: &[&str]| context.run([&["diff", &first, &second, "--set", &stage], more].concat());
    let shown = |text: &str| text.replace(&first, "<first>").replace(&second, "<second>");
    insta::assert_snapshot!(shown(&stdout(diff(&["--key", "id"]))));
    let json: Value =
        serde_json::from_str(&stdout(diff(&["--key", "id", "--format", "json"]))).expect("JSON");
    let counts = ["added", "removed", "changed", "same"].map(|kind| json[kind].as_u64().expect("a count"));
    assert_eq!(counts, [2, 2, 1, 1], "{json}");
    assert_eq!(json["changed_columns"], serde_json::json!({ "protocol": 1 }));
    assert_eq!(json["examples"]["changed"][0]["protocol"], serde_json::json!({ "before": 6, "after": 17 }));
    assert_eq!(json["examples"]["removed"][0]["id"], 3);
    // Rows of a day that only one of them has are neither added nor removed.
    let [part, other] =
        ["1", "2"].map(|day| backfill(&[line(1, 5, 6), line(3, 90_000, 6)].concat(), day, day));
    let ended = context.run(["diff", &part, &first, "--key", "id", "--set", &stage, "--format", "json"]);
    let json: Value = serde_json::from_str(&stdout(ended)).expect("JSON");
    assert_eq!([&json["days"], &json["days_only_after"]], [&serde_json::json!([1]), &serde_json::json!([2])]);
    let counts = ["added", "removed", "changed", "same"].map(|kind| json[kind].as_u64().expect("a count"));
    assert_eq!(counts, [1, 0, 0, 1], "{json}");
    let ended = context.run(["diff", &part, &other, "--key", "id", "--set", &stage]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("have no day in common: there are day 1 and day 2"), "{ended:?}");

    // What does not fit is sorted on the disk.
    let many = Asked::nothing();
    let source = many.context.source(&["--rows", "200000", "--days", "1", "--seed", "7"]);
    many.context.backfill(None, &source.flows(), 1, &["--until", "stage"]).success();
    let run = stdout(many.sql("SELECT run FROM runs", &["--format", "tsv"]));
    let run = run.lines().nth(1).expect("a run");
    let little = ["--key", "id", "--set", &many.stage(), "--set", "limits.memory_mib=48"];
    let ended = many.context.run([&["diff", run, run], &little[..]].concat()).success();
    assert!(ended.stdout.contains("changed        0\n"), "{ended:?}");

    let same = context.run(["diff", &first, &first, "--key", "id", "--set", &stage]).success();
    assert!(same.stdout.contains("  added  0\n") && !same.stdout.contains("\n+ "), "{same:?}");
    for (key, words) in [
        ("protocol", "error: several rows of run `<first>` have the same `protocol` and `day`\n"),
        ("nme", "error: `--key nme`: not both runs have such a column\n"),
    ] {
        let ended = diff(&["--key", key]);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(shown(&ended.stderr).starts_with(words), "{ended:?}");
    }
}

#[test]
fn a_terminal_shows_a_table_of_a_thousand_rows_and_says_that_there_are_more() {
    let context = TestContext::new();
    let sql = "SELECT value FROM generate_series(1, 1200)";
    let in_terminal = |more: &[&str]| {
        let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        let mut command = std::process::Command::new("python3");
        command.args(["-c", spawn, env!("CARGO_BIN_EXE_api2bq"), "sql", "-c", sql]).args(more);
        let ended: Ended =
            command.current_dir(context.path("")).stdin(Stdio::null()).output().expect("it runs").into();
        ended.success().stdout.replace('\r', "")
    };
    let shown = in_terminal(&[]);
    assert!(shown.starts_with("value\n─────\n    1\n"), "{shown}");
    let said = "1,000 rows are shown, and there are more; `--limit N` shows them\n";
    assert!(shown.ends_with(&format!("\n 1000\n{said}")), "{shown}");
    assert!(in_terminal(&["--limit", "1200"]).ends_with("\n 1200\n"));
    assert!(in_terminal(&["--format", "csv"]).ends_with("\n1200\n"));
}
