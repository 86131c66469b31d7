//! Bad configuration and command lines, by the ids of the list of bad inputs: what is refused is refused
//! with exit code 2, by name, before anything is fetched or made.
//!
//! Where a line has no place in this product, the rule that stands for it is pinned instead:
//! - C04: a pipeline is TOML, which has no aliases; YAML is a syntax error.
//! - C06: a window that does not divide a day is refused; a range that the windows do not divide ends
//!   in a shorter one, of whole days as well.
//! - C07: windows are cut from the range and never listed, so they cannot overlap or leave gaps.
//! - C11: two spellings of one word are two tables.
//! - C15: there is no flag for a password; what was typed behind an unknown one is not repeated.
//! - C23: a process without files, memory or output ends with an error, and the same command resumes.
//! - C26: nothing on this machine is asked for through a proxy, nor is any emulator.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::context::{Ended, RawSource, TestContext, answer};

const ONE: &str = "<records><record><id>1</id><time>1</time><duration>0</duration><src_comp>C1</src_comp>\
    <src_port>1</src_port><dst_comp>C2</dst_comp><dst_port>2</dst_port><protocol>6</protocol>\
    <packet_count>1</packet_count><byte_count>1</byte_count></record></records>";

fn source() -> RawSource {
    RawSource::start(vec![answer("200 OK", "Content-Type: application/xml\r\n", ONE)])
}

const COLUMN: &str = "[[columns]]\nname = \"time\"\ntype = \"INT64\"\nmode = \"REQUIRED\"\n";

fn pipeline_toml(more: &str) -> String {
    format!(
        "name = \"mine\"\n[source]\nurl = \"http://127.0.0.1:1/x\"\n[time]\ncolumn = \"time\"\n\
         epoch = \"2011-01-01\"\n[warehouse]\ndataset = \"d\"\nstaging_table = \"s\"\ntable = \"t\"\n{more}{COLUMN}"
    )
}

/// Refused with exit code 2 in no time, for a reason that `words` are part of.
#[track_caller]
fn refused(id: &str, ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, 2, "{id}: {ended:?}");
    for words in words {
        assert!(ended.stderr.contains(words), "{id}: no `{words}` in\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{id}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{id}");
}

#[test]
fn bad_pipeline_files_are_refused_by_name_and_reason() {
    let context = TestContext::new();
    let huge = std::fs::File::create(context.path("huge.toml")).expect("made");
    huge.set_len(1 << 30).expect("a sparse file");
    std::fs::create_dir(context.path("folder.toml")).expect("made");
    let bomb: String = (0..10).map(|n| format!("a{n}: &a{n} [*a{0},*a{0},*a{0}]\n", n.max(1) - 1)).collect();
    let line_7 =
        "name = \"mine\"\n[source]\nurl = \"x\"\n[time]\ncolumn = \"time\"\nepoch = \"2011-01-01\"\n= 3\n";
    let typo = pipeline_toml("").replace("staging_table = ", "staging_tabel = ");
    let top_typo = format!("tabel = \"x\"\n{}", pipeline_toml(""));
    let files: [(&str, &str, Vec<u8>, &[&str]); 8] = [
        ("C01", "empty.toml", Vec::new(), &["`./empty.toml`", "is no pipeline name"]),
        ("C01", "bytes.toml", vec![0xff, 0xfe, 0], &["`./bytes.toml`", "valid UTF-8"]),
        ("C02", "syntax.toml", line_7.into(), &["`./syntax.toml` line 7"]),
        (
            "C03",
            "typo.toml",
            typo.into(),
            &["unknown key `warehouse.staging_tabel`", "did you mean `warehouse.staging_table`"],
        ),
        ("C03", "top.toml", top_typo.into(), &["unknown key `tabel`", "did you mean `warehouse.table`"]),
        ("C04", "bomb.yaml", bomb.into(), &["`./bomb.yaml` line 1"]),
        (
            "C13",
            "time.toml",
            pipeline_toml("").replace("INT64", "STRING").into(),
            &["must be a REQUIRED INT64"],
        ),
        (
            "C09",
            "name.toml",
            pipeline_toml("").replace("\"mine\"", "\"a/../b\"").into(),
            &["is no pipeline name"],
        ),
    ];
    for (_, name, content, _) in &files {
        context.write(name, content);
    }
    for sql in ["stage.sql", "promote.sql"] {
        context.write(sql, "SELECT 1");
    }
    let by_name = files.iter().map(|(id, name, _, words)| (*id, format!("./{name}"), *words));
    let others: [(&str, String, &[&str]); 4] = [
        ("C01", "./folder.toml".into(), &["`./folder.toml` is a folder"]),
        ("C01", "./huge.toml".into(), &["`./huge.toml` has more than 1048576 bytes"]),
        // It has no length, and no end.
        ("C01", "/dev/zero".into(), &["`/dev/zero` has more than 1048576 bytes"]),
        ("C01", "./nowhere.toml".into(), &["`./nowhere.toml`", "No such file"]),
    ];
    for (id, path, words) in by_name.chain(others) {
        let started = Instant::now();
        // 1 GiB could not be read under this limit.
        let script = "ulimit -v 2000000; exec \"$0\" backfill \"$1\" --from 1 --to 1";
        let mut command = Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_api2bq"), &path]).current_dir(context.path(""));
        let ended: Ended = command.output().expect("bash runs").into();
        refused(&format!("{id} {path}"), &ended, words);
        assert!(started.elapsed() < Duration::from_secs(10), "{id} {path}");
    }
    assert!(!context.path("api2bq-data").exists(), "nothing was made");
}

#[test]
fn bad_ranges_windows_and_tables_are_refused_before_anything_is_fetched() {
    let source = source();
    let context = TestContext::new();
    let (url, stage) =
        (format!("source.url={}", source.url), format!("stage.url={}", context.path("s").display()));
    let long = format!("warehouse.staging_table={}", "x".repeat(1025));
    let table = |name: &str| vec!["--set".to_owned(), format!("warehouse.staging_table={name}")];
    let typed = |arguments: &[&str]| arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<String>, &str)> = vec![
        ("C06", typed(&["--from", "2026-02-30"]), "invalid value '2026-02-30'"),
        ("C06", typed(&["--from", "3"]), "is empty"),
        ("C06", typed(&["--window", "0d"]), "want a length"),
        ("C06", typed(&["--window=-1d"]), "want a length"),
        ("C06", typed(&["--window", "36h"]), "windows must cover whole days"),
        ("C06", typed(&["--window", "0.7d"]), "want a length"),
        ("C06", typed(&["--window", "106751991167301d"]), "want a length"),
        ("C09", table("flows`'"), "is no table name"),
        ("C09", table("a/../b"), "is no table name"),
        ("C09", table(""), "is no table name"),
        ("C09", table("   "), "is no table name"),
        ("C09", table("t$20110101"), "is no table name"),
        ("C09", table("t\nu"), "is no table name"),
        ("C09", typed(&["--set", &long]), "is no table name"),
        ("C09", table("flows"), "are the same table"),
        ("C15", typed(&["--password", "canary"]), "unexpected argument '--password'"),
        ("C15", typed(&["--password=canary"]), "unexpected argument '--password'"),
    ];
    for (id, more, words) in cases {
        let fixed = ["backfill", "flows", "--from", "1", "--to", "2", "--set", &url, "--set", &stage];
        // A flag that is given again is an error of its own.
        let fixed = if more[0] == "--from" { [&fixed[..2], &fixed[4..]].concat() } else { fixed.to_vec() };
        let ended: Ended = context
            .command(fixed.into_iter().chain(more.iter().map(String::as_str)))
            .output()
            .expect("it runs")
            .into();
        refused(&format!("{id} {more:?}"), &ended, &[words]);
        assert!(!ended.stderr.contains("canary"), "{id}: {}", ended.stderr);
        assert!(ended.stderr.len() < 2000, "{id}: {}", ended.stderr);
    }
    assert_eq!(source.requests(), 0);
    assert!(!context.path("s").exists(), "nothing was made");
}

#[test]
fn sql_that_is_no_select_over_records_or_gives_other_columns_is_refused_before_any_fetch() {
    let source = source();
    let context = TestContext::new();
    let rest =
        "duration, src_comp, src_port, dst_comp, dst_port, protocol, packet_count, byte_count, 1 AS day";
    let cases = [
        ("C12", "DROP TABLE records".to_owned(), "only one SELECT"),
        ("C12", "COPY records TO 'out.parquet'".to_owned(), "only one SELECT"),
        ("C12", "CREATE EXTERNAL TABLE p STORED AS CSV LOCATION '/etc/passwd'".to_owned(), "only one SELECT"),
        ("C12", "SELECT 1; DROP TABLE records".to_owned(), "only one SELECT"),
        ("C12", "INSERT INTO records SELECT * FROM records".to_owned(), "only one SELECT"),
        ("C12", "SET datafusion.execution.batch_size = 1".to_owned(), "only one SELECT"),
        ("C12", "SELECT * FROM '/etc/passwd'".to_owned(), "stage.sql"),
        ("C13", format!("SELECT time, {rest} FROM records"), "gives no column `id`"),
        (
            "C13",
            format!("SELECT CAST(id AS STRING) AS id, time, {rest} FROM records"),
            "gives `id` as STRING",
        ),
    ];
    for (id, sql, words) in cases {
        context.write("bad.sql", &sql);
        let ended =
            context.backfill(None, &source.url, 1, &["--until", "stage", "--set", "transform.sql=./bad.sql"]);
        refused(&format!("{id} {sql}"), &ended, &[words]);
    }
    assert_eq!(source.requests(), 0);
    assert_eq!(context.staged("stage"), [""; 0]);
    assert!(!context.path("out.parquet").exists());
}

/// C10, C11. The two spellings look the same, and once a load of the second would have found the first
/// one's job under its id.
#[test]
fn names_of_the_world_are_tables_of_their_own_in_either_spelling() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let (composed, decomposed) = ("\u{e9}tudiant", "e\u{301}tudiant");
    let long = "ग्राहक ".repeat(50) + "x";
    // Equal rows: equal logical hashes, so that only the tables tell the jobs apart.
    let source = source();
    let tables = [composed, decomposed, "table-01", "00_お客様", "ग्राहक", "a b", "a-b", &long];
    for table in tables {
        let named = format!("warehouse.staging_table={table}");
        let arguments = ["--new-run", "--set", &named];
        let ended = context.backfill(Some(&emulator), &source.url, 1, &arguments);
        assert_eq!(ended.code, 0, "{table}: {ended:?}");
    }
    for table in tables {
        let production = format!("warehouse.table=from {}", if table == long { "long" } else { table });
        let named = format!("warehouse.staging_table={table}");
        let mut command = context.command(["promote", "flows", "--set", &named, "--set", &production]);
        let ended: Ended =
            command.env("BIGQUERY_EMULATOR_HOST", &emulator.url).output().expect("it runs").into();
        assert!(ended.stdout.contains("has 1 row:"), "{table}: {ended:?}");
    }
    let mut folders = vec![context.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let name = entry.file_name();
            assert!(name.len() <= 255 && name.to_str().is_some_and(|name| name.is_ascii()), "{name:?}");
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
    }
}

/// C21.
#[test]
fn resuming_with_other_settings_is_refused_unless_it_is_meant() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let source = context.source(&["--rows", "2000", "--days", "2"]);
    let load = |more: &[&str]| context.backfill(Some(&emulator), &source.flows(), 2, more);
    context.backfill(None, &source.flows(), 2, &["--until", "stage"]).success();
    let sql =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/flows/stage.sql")).expect("read");
    context.write("mine.sql", format!("-- mine\n{sql}"));
    let cases: [(&[&str], &str); 4] = [
        (&["--set", "transform.sql=./mine.sql"], "`transform.sql`"),
        (&["--window", "2d"], "`--window`"),
        (&["--set", "source.record_path=a/b"], "`source`"),
        (&["--set", "time.epoch=2012-01-01"], "`time`"),
    ];
    for (more, words) in cases {
        let ended = load(more);
        refused(&format!("C21 {more:?}"), &ended, &["the plan hash differs", words, "--new-run"]);
    }
    // Staging abandons nothing, and neither does a run that says it is another.
    let mine = ["--set", "transform.sql=./mine.sql"];
    context.backfill(None, &source.flows(), 2, &[&mine[..], &["--until", "stage"]].concat()).success();
    load(&["--set", "transform.sql=./mine.sql", "--new-run"]).success();
    // Since the newer run has loaded these days, the older one is left behind for good.
    load(&["--window", "2d"]).success();
    load(&[]).success();
}

/// C23.
#[test]
fn a_process_that_lacks_files_memory_or_output_loses_nothing() {
    let source = TestContext::new();
    let source_server = source.source(&["--rows", "20000", "--days", "2"]);
    let url = format!("source.url={}", source_server.flows());
    // The program's own file is most of what it takes, and grows.
    let program_kib = std::fs::metadata(env!("CARGO_BIN_EXE_api2bq")).expect("it is there").len() / 1024;
    let little = format!("ulimit -v {};", program_kib + 32_000);
    for limits in
        ["ulimit -n 16;", &little, "ulimit -v 700000;", "exec <&-;", "exec >&-;", "exec <&- >&- 2>&-;"]
    {
        let context = TestContext::new();
        let script = format!("{limits} exec \"$0\" \"$@\"");
        let arguments = ["backfill", "flows", "--from", "1", "--to", "2", "--until", "stage", "--set", &url];
        let more = ["--set", "stage.url=stage", "--set", "limits.attempts=1"];
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_api2bq")]).args(arguments).args(more);
        let limited: Ended = command.current_dir(context.path("")).output().expect("bash runs").into();
        let said_why = limited.code == 0 || !limited.stderr.is_empty() || limits.contains("2>&-");
        assert!(said_why, "{limits} {limited:?}");
        assert!(!limited.stderr.contains("panicked"), "{limits} {limited:?}");
        let again: Ended = context.command(arguments.iter().chain(&more)).output().expect("it runs").into();
        let again = again.success();
        assert!(again.stdout.contains("20,000 records in ="), "{limits} {again:?}");
    }
}

/// C23. Each thread takes 2 MiB of addresses, so that some of these limits allow one and not the next. There
/// was a program that waited for the one, which waited for work.
#[test]
fn a_process_that_gets_only_some_of_its_threads_ends() {
    let context = TestContext::new();
    let program_kib = std::fs::metadata(env!("CARGO_BIN_EXE_api2bq")).expect("it is there").len() / 1024;
    let mut without_threads = 0;
    for more_kib in (0..200_000).step_by(1024) {
        let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", program_kib / 2 + more_kib);
        let mut command = Command::new("timeout");
        command.args(["20", "bash", "-c", &script, env!("CARGO_BIN_EXE_api2bq"), "sql", "-c", "SELECT 1"]);
        let ended: Ended = command.current_dir(context.path("")).output().expect("it runs").into();
        assert_ne!(ended.code, 124, "it hangs with {more_kib} KiB: {ended:?}");
        if ended.stderr.contains("the system gives it no threads") {
            // A thread that was there already may ask for memory meanwhile, and Rust aborts where there is none.
            let is_aborted = ended.stderr.contains("memory allocation of ");
            assert!(ended.code == 1 || is_aborted, "{ended:?}");
            without_threads += 1;
        }
    }
    assert!(without_threads > 1, "the limits were too generous to prove anything");
}

/// C23: `| head -1`.
#[test]
fn a_reader_that_goes_away_does_not_stop_a_run() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "20000", "--days", "2"]);
    let url = format!("source.url={}", source.flows());
    let arguments = [
        "backfill",
        "flows",
        "--from",
        "1",
        "--to",
        "2",
        "--until",
        "stage",
        "--set",
        &url,
        "--set",
        "stage.url=stage",
    ];
    let mut child = context.command(arguments).stdout(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let again: Ended = context.command(arguments).output().expect("it runs").into();
    assert!(again.success().stdout.contains("2 windows were there already"));
}

/// C26: source, warehouse and bucket are all on this machine.
#[test]
fn a_proxy_of_the_environment_never_comes_between_this_machine_and_itself() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "2000", "--days", "1"]);
    let bucket = context.server(&["emulator", "--data-dir", "bucket"]);
    let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let mut environment = proxies.map(|name| (name, "http://127.0.0.1:1")).to_vec();
    environment.push(("STORAGE_EMULATOR_HOST", &bucket.url));
    let warehouse = context.server_with(&["emulator", "--data-dir", "wh"], &environment);
    let url = format!("source.url={}", source.flows());
    let arguments =
        ["backfill", "flows", "--from", "1", "--to", "1", "--set", &url, "--set", "stage.url=gs://bucket/x"];
    let mut command = context.command(arguments.into_iter().chain(["--set", "limits.attempts=1"]));
    command.envs(environment.iter().copied()).env("BIGQUERY_EMULATOR_HOST", &warehouse.url);
    let ended: Ended = command.output().expect("it runs").into();
    assert!(ended.success().stdout.contains("2,000 records in ="));
}
