//! `api2bq promote` before it happens: as SQL, as rows of the staged files, as counts, and both sides compared.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;

use crate::context::{Ended, Running, TestContext};

const HEADER: &str = "id,time,duration,src_comp,src_port,dst_comp,dst_port,protocol,packet_count,byte_count";
const PRODUCTION: &str = "SELECT * FROM LANL.flows";

/// A source with known records, an embedded BigQuery, and what was typed.
struct Scene {
    context: TestContext,
    emulator: Running,
    transcript: String,
}

impl Scene {
    fn new() -> Self {
        let context = TestContext::new();
        let emulator = context.emulator();
        Scene { context, emulator, transcript: String::new() }
    }

    /// Loads the days of `records`, which are id, day and bytes.
    fn backfill(&self, records: &[(u32, u32, u32)], more: &[&str]) {
        let mut csv = format!("{HEADER}\n");
        for (id, day, bytes) in records {
            let time = (day - 1) * 86_400 + id;
            csv += &format!("{id},{time},1,C{id},80,C2,N3,6,2,{bytes}\n");
        }
        let file = self.context.write("records.csv", csv);
        let source = self.context.source(&["--records", file.to_str().expect("UTF-8")]);
        let days = records.iter().map(|(_, day, _)| *day).max().expect("records");
        // Not the address, which is another each time.
        let more = [&["--set", "source.identity=flows"], more].concat();
        self.context.backfill(Some(&self.emulator), &source.flows(), days, &more).success();
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_at(&self.emulator.url, arguments)
    }

    fn run_at(&self, url: &str, arguments: &[&str]) -> Ended {
        let mut command = self.context.command(arguments);
        command.env("BIGQUERY_EMULATOR_HOST", url).stdin(Stdio::null()).output().expect("it runs").into()
    }

    fn promote(&self, more: &[&str]) -> Ended {
        let stage = format!("stage.url={}", self.context.path("stage").display());
        self.run(&[&["promote", "flows", "--set", &stage], more].concat())
    }

    /// As somebody types it, with what comes of it.
    fn type_in(&mut self, more: &[&str]) -> Ended {
        let ended = self.promote(more);
        self.transcript += &format!("$ api2bq promote flows {}\n{}", more.join(" "), ended.stdout);
        for line in ended.stderr.lines() {
            self.transcript += &format!("! {line}\n");
        }
        self.transcript += &format!("= {}\n\n", ended.code);
        ended
    }

    #[track_caller]
    fn json(&self, more: &[&str]) -> Value {
        let ended = self.promote(&[more, &["--format", "json"]].concat()).success();
        serde_json::from_str(&ended.stdout).expect("JSON")
    }

    #[track_caller]
    fn query(&self, sql: &str) -> Vec<String> {
        lines(&self.run(&["query", sql, "--format", "csv", "-q"]).success().stdout)
    }

    /// Bytes by id, of production.
    fn production(&self) -> BTreeMap<String, String> {
        let rows = self.query("SELECT id, byte_count FROM LANL.flows");
        let rows = rows.iter().filter(|row| !row.starts_with("id,"));
        rows.filter_map(|row| row.split_once(',')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    }
}

/// Without their order.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn two_days() -> Vec<(u32, u32, u32)> {
    let first = (1..=10).map(|id| (id, 1, 100 + id));
    // 3 comes again, with other bytes; 4 as it was.
    let second = (11..=15).map(|id| (id, 2, 100 + id)).chain([(3, 2, 999), (4, 2, 104)]);
    first.chain(second).collect()
}

fn three_days() -> Vec<(u32, u32, u32)> {
    let third = (16..=18).map(|id| (id, 3, 100 + id)).chain([(12, 3, 888)]);
    two_days().into_iter().chain(third).collect()
}

#[test]
fn a_dry_run_counts_what_the_promote_then_does() {
    let mut scene = Scene::new();
    scene.backfill(&two_days(), &[]);
    let none = scene.type_in(&["--dry-run"]).success();
    assert!(none.stdout.contains("would be made with 15 rows"), "{}", none.stdout);
    assert_eq!(scene.run(&["table", "show", "LANL.flows"]).code, 2, "nothing was made");
    scene.promote(&[]).success();
    let same = scene.json(&["--dry-run"]);
    assert_eq!((&same["new"], &same["changed"], &same["dropped"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!((&same["same"], &same["rows_before"]), (&15.into(), &15.into()));
    scene.type_in(&["--dry-run"]).success();

    scene.backfill(&three_days(), &[]);
    let days = ["--days", "2"];
    scene.type_in(&[&["--dry-run"], &days[..]].concat()).success();
    let said = scene.json(&[&["--dry-run"], &days[..]].concat());
    let before = scene.production();
    let etag =
        |scene: &Scene| scene.run(&["table", "show", "LANL.flows", "--format", "json"]).success().stdout;
    let untouched = etag(&scene);
    assert_eq!(scene.production().len(), 15, "a dry run changes nothing");
    assert_eq!(etag(&scene), untouched);
    scene.promote(&days).success();
    let after = scene.production();
    let count = |found: usize| Value::from(found);
    let new = after.keys().filter(|id| !before.contains_key(*id)).count();
    let dropped = before.keys().filter(|id| !after.contains_key(*id)).count();
    let changed = after.iter().filter(|(id, bytes)| before.get(*id).is_some_and(|b| b != *bytes)).count();
    assert_eq!((new, changed, dropped), (3, 1, 8));
    assert_eq!(
        (&said["new"], &said["changed"], &said["dropped"]),
        (&count(new), &count(changed), &count(dropped))
    );
    assert_eq!((&said["rows_before"], &said["rows_after"]), (&count(before.len()), &count(after.len())));
    assert_eq!(said["same"], count(after.len() - new - changed));
    assert!(said["own"]["bytes_processed"].as_u64() > said["bytes_processed"].as_u64(), "{said}");
    insta::assert_snapshot!(scene.transcript);
}

#[test]
fn a_dry_run_tells_columns_that_come_and_go() {
    let scene = Scene::new();
    scene.backfill(&two_days(), &[]);
    scene.run(&["query", "CREATE TABLE LANL.flows AS SELECT id, CAST(time AS STRING) AS time, 'x' AS old, duration, \
        src_comp, src_port, dst_comp, dst_port, protocol, packet_count, NULLIF(byte_count, 107) AS byte_count \
        FROM LANL.flows_staging WHERE _PARTITIONTIME = TIMESTAMP '2011-01-01'"]).success();
    let said = scene.json(&["--dry-run"]);
    assert_eq!(said["columns_removed"], serde_json::json!(["old"]));
    assert_eq!(said["columns_retyped"], serde_json::json!(["time"]));
    // 3 has other bytes, and 7 had none; 11 to 15 are new.
    assert_eq!((&said["new"], &said["changed"], &said["dropped"]), (&5.into(), &2.into(), &0.into()));
    let ended = scene.promote(&["--dry-run", "--key", "protocol"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("`protocol` do not name a row"), "{}", ended.stderr);
}

#[test]
fn local_gives_the_rows_that_a_promote_gives() {
    let scene = Scene::new();
    scene.backfill(&three_days(), &[]);
    for days in [&[][..], &["--days", "2"], &["--days", "1", "--as-of", "2011-01-02"]] {
        scene.promote(days).success();
        let stage = format!("stage.url={}", scene.context.path("stage").display());
        let local = [&["promote", "flows", "--local", "--format", "csv", "--set", &stage], days].concat();
        // Nobody listens there.
        let ended = scene.run_at("http://127.0.0.1:1", &local).success();
        assert_eq!(lines(&ended.stdout), scene.query(PRODUCTION), "{days:?}");
    }
    let staged = scene.context.staged("stage");
    scene.promote(&["--local", "--output", "rows.parquet", "-q"]).success();
    let counted = scene.run(&["sql", "-c", "SELECT COUNT(*) AS n, SUM(byte_count) AS b FROM 'rows.parquet'"]);
    let bytes = (1..=18).map(|id| 100 + id).sum::<u32>() - 103 - 112 + 999 + 888;
    assert_eq!(counted.success().stdout, format!("n,b\n18,{bytes}\n"));
    assert_eq!(scene.context.staged("stage"), staged, "staged files are where they were");
}

#[test]
fn of_several_runs_the_last_one_has_the_day() {
    let scene = Scene::new();
    scene.backfill(&two_days(), &[]);
    // The source has fewer records of the first day by now, and other ones.
    scene.backfill(&[(1, 1, 7), (2, 1, 7), (20, 1, 7)], &["--new-run"]);
    let ids = |more: &[&str]| {
        let stdout = scene.promote(&[&["--local", "--format", "csv", "-q"], more].concat()).success().stdout;
        let ids = stdout.lines().skip(1).filter_map(|line| line.split(',').next()?.parse::<u32>().ok());
        let mut ids: Vec<u32> = ids.collect();
        ids.sort_unstable();
        ids
    };
    let second = [3, 4, 11, 12, 13, 14, 15];
    assert_eq!(ids(&[]), [&[1, 2][..], &second, &[20]].concat());
    // What is staged would be loaded next, and what is loaded stays what the two sides are compared by.
    scene.backfill(&[(5, 1, 7)], &["--new-run=later", "--until", "stage"]);
    assert_eq!(ids(&[]), [&second[..2], &[5], &second[2..]].concat());
    let checked = scene.json(&["--check"]);
    assert_eq!((&checked["equal"], &checked["different"]), (&10.into(), &0.into()));
}

#[test]
fn check_finds_what_somebody_changed_in_the_service() {
    let mut scene = Scene::new();
    scene.backfill(&three_days(), &[]);
    scene.promote(&[]).success();
    let before = scene.query(PRODUCTION);
    assert!(scene.type_in(&["--check"]).success().stdout.contains("equal  18"));
    for sql in [
        "UPDATE LANL.flows_staging SET byte_count = 5 WHERE id = 17 AND _PARTITIONTIME = TIMESTAMP '2011-01-03'",
        "DELETE FROM LANL.flows_staging WHERE id = 14 AND _PARTITIONTIME = TIMESTAMP '2011-01-02'",
        "INSERT INTO LANL.flows_staging (_PARTITIONTIME, id, time, duration, src_comp, src_port, dst_comp, dst_port, \
         protocol, packet_count, byte_count) VALUES (TIMESTAMP '2011-01-03', 99, 1, 1, 'C', '1', 'C', '1', 6, 1, 1)",
    ] {
        scene.run(&["query", sql, "-q"]).success();
    }
    let found = scene.type_in(&["--check"]);
    assert_eq!(found.code, 7, "{found:?}");
    let ended = scene.promote(&["--check", "--format", "json", "--examples", "1"]);
    let checked: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let counts = ["equal", "only_service", "only_local", "different"].map(|kind| checked[kind].as_u64());
    assert_eq!((ended.code, counts), (7, [Some(16), Some(1), Some(1), Some(1)]));
    assert_eq!(
        checked["examples"]["different"][0],
        serde_json::json!({ "byte_count": { "service": 5, "local": 117 }, "id": 17 })
    );
    // What differs is outside of these days.
    assert_eq!(scene.promote(&["--check", "--days", "1", "--as-of", "2011-01-01"]).success().code, 0);
    assert_eq!(scene.query(PRODUCTION), before, "a check changes nothing");
    insta::assert_snapshot!(scene.transcript);
}

#[test]
fn the_printed_sql_is_what_a_promote_sends() {
    let mut scene = Scene::new();
    scene.backfill(&three_days(), &[]);
    let stage = format!("stage.url={}", scene.context.path("stage").display());
    let print = ["promote", "flows", "--print-sql", "--set", &stage];
    let known =
        scene.run_at("http://127.0.0.1:1", &[&print[..], &["--as-of", "2011-01-03"]].concat()).success();
    assert_eq!(scene.type_in(&["--print-sql"]).success().stdout, known.stdout);
    let asked = scene.run_at("http://127.0.0.1:1", &[&print[..], &["--set", "limits.attempts=1"]].concat());
    assert_ne!(asked.code, 0, "{asked:?}");

    scene.promote(&["--days", "2"]).success();
    let printed = scene.promote(&["--print-sql", "--days", "2"]).success().stdout;
    scene.context.write("printed.sql", &printed);
    let first = "first_day:TIMESTAMP:2011-01-02 00:00:00 UTC";
    let last = "last_day:TIMESTAMP:2011-01-03 00:00:00 UTC";
    assert!(printed.contains(first) && printed.contains(last), "{printed}");
    let pasted =
        ["query", "-f", "printed.sql", "--default-dataset", "LANL", "--param", first, "--param", last];
    let rows = scene.run(&[&pasted[..], &["--format", "csv", "-q"]].concat()).success().stdout;
    assert_eq!(lines(&rows), scene.query(PRODUCTION));
    insta::assert_snapshot!(scene.transcript);
}

#[test]
fn a_promote_sql_that_cannot_be_right_is_refused_before_anything_runs() {
    let mut scene = Scene::new();
    scene.backfill(&two_days(), &[]);
    let from = "FROM `{staging_table}` WHERE _PARTITIONTIME BETWEEN @first_day AND @last_day";
    let files = [
        ("two.sql", format!("SELECT * {from};\nSELECT 1")),
        ("drop.sql", "DROP TABLE LANL.flows".to_owned()),
        ("parameter.sql", "SELECT *\nFROM `{staging_table}` WHERE _PARTITIONTIME = @day".to_owned()),
        ("name.sql", "SELECT * FROM `{staging}`, {table}".to_owned()),
        ("column.sql", format!("SELECT id,\n  nobody\n{from}")),
        (
            "pivot.sql",
            format!("SELECT * FROM (SELECT id, protocol {from}) PIVOT (COUNT(*) FOR protocol IN (6, 17))"),
        ),
        ("nokey.sql", format!("SELECT id, time {from}")),
    ];
    for (name, sql) in &files {
        scene.context.write(name, sql);
    }
    for (name, mode) in [
        ("two.sql", "--local"),
        ("drop.sql", "--print-sql"),
        ("parameter.sql", "--check"),
        ("name.sql", "--dry-run"),
        ("column.sql", "--local"),
        ("column.sql", "--dry-run"),
        ("pivot.sql", "--local"),
        ("nokey.sql", "--check"),
    ] {
        let set = format!("promote.sql=./{name}");
        let ended = scene.type_in(&[mode, "--set", &set]);
        assert_eq!(ended.code, 2, "{name}: {ended:?}");
    }
    for refused in ["two.sql", "drop.sql", "parameter.sql"] {
        let ended = scene.promote(&["--set", &format!("promote.sql=./{refused}")]);
        assert_eq!(ended.code, 2, "{refused}: {ended:?}");
    }
    assert!(scene.promote(&["--dry-run", "--key", "id", "--set", "promote.sql=./nokey.sql"]).code == 2);
    let ended = scene.type_in(&["--dry-run", "--output", "x.csv"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    insta::assert_snapshot!(scene.transcript);
}

#[test]
fn what_is_not_staged_here_is_said() {
    let mut scene = Scene::new();
    scene.type_in(&["--local"]);
    scene.backfill(&two_days(), &[]);
    scene.type_in(&["--local", "--set", "warehouse.staging_table=other"]);
    scene.type_in(&["--local", "--as-of", "2012-01-01", "--days", "3"]);
    let staged = scene.context.path("stage");
    let mut files = vec![staged];
    let parquet = loop {
        let path = files.pop().expect("a staged file");
        match path.is_dir() {
            true => {
                files.extend(std::fs::read_dir(path).expect("a folder").map(|e| e.expect("an entry").path()))
            }
            false if path.extension().is_some_and(|e| e == "parquet") => break path,
            false => {}
        }
    };
    std::fs::remove_file(&parquet).expect("removed");
    let gone = scene.promote(&["--local"]);
    assert_eq!(gone.code, 5, "{gone:?}");
    assert!(gone.stderr.contains("is gone"), "{}", gone.stderr);
    insta::assert_snapshot!(
        scene.transcript.replace(&scene.context.path("").display().to_string(), "<dir>/")
    );
}

/// Files of a bucket are copied, compared, and taken away again.
#[test]
fn a_stage_in_a_bucket_is_read_too() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "3000", "--days", "2", "--seed", "5"]);
    let folder = |name: &str| context.path(name).to_str().expect("UTF-8").to_owned();
    let storage = context.server(&["emulator", "--data-dir", &folder("gcs")]);
    let beside = [("STORAGE_EMULATOR_HOST", &*storage.url)];
    let warehouse = context.server_with(&["emulator", "--data-dir", &folder("wh")], &beside);
    std::fs::create_dir(context.path("spill")).expect("a folder");
    let set = [
        format!("source.url={}", source.flows()),
        "stage.url=gs://bucket/x".to_owned(),
        format!("limits.spill_dir={}", folder("spill")),
    ];
    let run = |arguments: &[&str], url: &str| -> Ended {
        let mut command = context.command(arguments);
        if arguments[0] != "query" {
            command.args(set.iter().flat_map(|pair| ["--set", pair]));
        }
        command.env("STORAGE_EMULATOR_HOST", &storage.url).env("BIGQUERY_EMULATOR_HOST", url);
        command.output().expect("it runs").into()
    };
    run(&["backfill", "flows", "--from", "1", "--to", "2"], &warehouse.url).success();
    run(&["promote", "flows"], &warehouse.url).success();
    run(&["promote", "flows", "--check"], &warehouse.url).success();
    let local = run(&["promote", "flows", "--local", "--format", "csv"], "http://127.0.0.1:1").success();
    let production = run(&["query", PRODUCTION, "--format", "csv", "-q"], &warehouse.url).success();
    assert_eq!(lines(&local.stdout), lines(&production.stdout));
    let left =
        std::fs::read_dir(context.path("spill")).expect("a folder").map(|e| e.expect("an entry").path());
    let left: Vec<_> = left.collect();
    assert!(left.is_empty(), "{left:?}");
}
