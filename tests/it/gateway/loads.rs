//! From the answer to the table: the program as a process, killed and stopped, and the embedded BigQuery.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Answer, authorization, parse};
use crate::context::{Ended, TestContext};
use crate::kills::setting;
use crate::process::{Process, Warehouse, free_port};

/// The program's gateway on a port that stays its own, and a warehouse behind it.
pub struct Site {
    pub context: TestContext,
    pub warehouse: Mutex<Warehouse>,
    /// Another one, in place of that.
    pub embedded: Option<String>,
    pub port: u16,
    pub pipeline: &'static str,
    pub more: Vec<String>,
}

impl Site {
    pub fn new() -> Site {
        Site::with(&["--load-every", "1s"])
    }

    /// `more` are arguments of the gateway.
    pub fn with(more: &[&str]) -> Site {
        Site::of("inventory", more)
    }

    pub fn of(pipeline: &'static str, more: &[&str]) -> Site {
        let context = TestContext::new();
        let mut passwd = context.command(["gateway", "passwd", "--auth-file", "users.txt", "ann"]);
        let mut passwd = passwd.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        passwd.stdin.take().expect("piped").write_all(b"secret\n").expect("written");
        assert!(passwd.wait().expect("it ends").success());
        let warehouse = Mutex::new(Warehouse::start(&context));
        let more = more.iter().map(|&argument| argument.to_owned()).collect();
        Site { context, warehouse, embedded: None, port: free_port(), pipeline, more }
    }

    pub fn command(&self) -> Command {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut command =
            self.program(&["gateway", self.pipeline, "--auth-file", "users.txt", "--spool", "spool"]);
        command.args(["--listen", &listen, "--set", "limits.retry_first_wait_ms=50"]).args(&self.more);
        command
    }

    /// Any command of the program, with the warehouse and the staging area of the gateway.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.context.command(arguments);
        let url = self.embedded.clone();
        let url = url.unwrap_or_else(|| self.warehouse.lock().expect("no panic").url());
        command.env("BIGQUERY_EMULATOR_HOST", url).env("API2BQ_STAGE_URL", self.context.path("stage"));
        command
    }

    /// Runs a statement in the warehouse.
    #[track_caller]
    pub fn query(&self, sql: &str) {
        let ended = self.program(&["query", sql]).output().expect("it runs");
        assert!(ended.status.success(), "{sql}: {}", String::from_utf8_lossy(&ended.stderr));
    }

    /// A number of `/metrics`, which is 0 until it is there.
    pub fn metric(&self, name: &str) -> u64 {
        let answer = self.ask("GET /metrics", "", "").expect("an answer");
        let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok();
        answer.body.lines().filter_map(|line| of(line.strip_prefix("api2bq_gateway_")?)).sum()
    }

    /// Waits until a number of `/metrics` is at least so high.
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, least: u64) {
        let started = Instant::now();
        while self.metric(name) < least {
            assert!(started.elapsed() < Duration::from_secs(60), "{name}: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts a gateway; back when it takes connections.
    pub fn gateway(&self) -> Process {
        self.gateway_by(self.command())
    }

    /// The same, by a command that ends in that of [`Site::command`].
    pub fn gateway_by(&self, command: Command) -> Process {
        let mut process = Process::start(command, self.context.path("gateway.txt"));
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(process.is_alive() && started.elapsed() < Duration::from_secs(60), "{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.context.path("gateway.txt")).unwrap_or_default()
    }

    /// `None`: no whole answer came.
    pub fn post(&self, headers: &str, body: &str) -> Option<Answer> {
        let headers = format!("{}{headers}", authorization("ann:secret"));
        self.ask(&format!("POST /v1/{}", self.pipeline), &headers, body)
            .filter(|answer| answer.body.ends_with('}'))
    }

    pub fn ask(&self, method_path: &str, headers: &str, body: &str) -> Option<Answer> {
        let head = format!(
            "{method_path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(parse(&answer))
    }

    /// One of the program's other commands, for the same pipeline.
    pub fn run(&self, words: &str, more: &[&str]) -> Ended {
        let words: Vec<&str> = words.split(' ').chain([self.pipeline]).chain(more.iter().copied()).collect();
        self.program(&words).output().expect("it runs").into()
    }

    /// How often each WH_ID is in the table.
    pub fn table(&self) -> BTreeMap<String, u64> {
        self.table_of("OIC")
    }

    pub fn table_of(&self, name: &str) -> BTreeMap<String, u64> {
        let sql = format!("SELECT WH_ID, COUNT(*) AS n FROM DataLoad.{name} GROUP BY 1 ORDER BY 1");
        let ended = self.program(&["query", &sql, "--format", "csv"]).output();
        let text = String::from_utf8(ended.expect("it runs").stdout).expect("UTF-8");
        let row =
            |line: &str| line.split_once(',').map(|(id, n)| (id.to_owned(), n.parse().expect("a count")));
        text.lines().skip(1).filter_map(row).collect()
    }

    /// Waits until the table has so many rows, equal ones counted each.
    #[track_caller]
    pub fn wait_for(&self, rows: u64) -> BTreeMap<String, u64> {
        let started = Instant::now();
        loop {
            let table = self.table();
            let there: u64 = table.values().sum();
            if there >= rows {
                return table;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{there} of {rows} rows; {}", self.said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

pub fn row(id: &str) -> String {
    format!("{{\"WH_ID\":\"{id}\",\"Item_id\":\"15\",\"Backlog\":27}}")
}

#[test]
fn rows_are_loaded_and_keys_outlive_their_segments_and_a_stop() {
    let site = Site::new();
    let gateway = site.gateway();
    let first = site.post("Idempotency-Key: k\r\n", &row("a")).expect("an answer");
    assert_eq!(first.status, 200, "{first:?}");
    // Equal rows of two requests are two rows.
    for _ in 0..2 {
        assert_eq!(site.post("", &row("b")).expect("an answer").status, 200);
    }
    let expected = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert_eq!(site.wait_for(3), expected);
    assert_eq!(site.post("", &row("b")).expect("an answer").status, 200);
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());

    let gateway = site.gateway();
    let again = site.post("Idempotency-Key: k\r\n", &row("a")).expect("an answer");
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(site.post("Idempotency-Key: k\r\n", &row("c")).expect("an answer").status, 409);
    assert_eq!(site.post("", &row("d")).expect("an answer").status, 200);
    let expected = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 3), ("d".to_owned(), 1)]);
    assert_eq!(site.wait_for(5), expected, "the last `b` came before the stop and is loaded after it");
    drop(gateway);
}

#[test]
fn rows_are_taken_while_bigquery_is_away_and_loaded_when_it_is_back() {
    let site = Site::new();
    site.warehouse.lock().expect("no panic").kill();
    let _gateway = site.gateway();
    for n in 0..5 {
        assert_eq!(site.post("", &row(&n.to_string())).expect("an answer").status, 200);
        std::thread::sleep(Duration::from_millis(300));
    }
    site.warehouse.lock().expect("no panic").restart(&site.context);
    let table = site.wait_for(5);
    assert!(table.len() == 5 && table.values().all(|n| *n == 1), "{table:?}");
}

/// A gateway that was stopped with row `a` in its spool, and BigQuery away.
fn with_a_row_waiting() -> Site {
    let site = Site::new();
    site.warehouse.lock().expect("no panic").kill();
    let gateway = site.gateway();
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    site
}

/// They were loaded into the other pipeline's table, without a value.
#[test]
fn rows_of_another_pipeline_are_not_loaded() {
    let site = with_a_row_waiting();
    let other = "name = \"other\"\n[warehouse]\ndataset = \"d\"\ntable = \"t\"\n[[columns]]\nname = \"x\"\ntype = \"STRING\"\n";
    site.context.write("other.toml", other);
    let ended: Ended = site
        .program(&[
            "gateway",
            "other.toml",
            "--auth-file",
            "users.txt",
            "--spool",
            "spool",
            "--listen",
            "127.0.0.1:0",
        ])
        .output()
        .expect("it runs")
        .into();
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("the spool has rows of the pipeline `inventory`"), "{ended:?}");
    site.warehouse.lock().expect("no panic").restart(&site.context);
    let _gateway = site.gateway();
    assert_eq!(site.wait_for(1).into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn two_gateways_never_share_a_spool() {
    let site = Site::new();
    let _gateway = site.gateway();
    let mut second = site.command();
    second.args(["--set", "warehouse.location=EU"]);
    let ended = second.output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(4), "{said}");
    assert!(said.contains("another process has the spool"), "{said}");
}

#[test]
fn a_gateway_killed_under_load_loads_each_acknowledged_row_once_and_no_other_twice() {
    let twice = killed_under_load(&Site::new(), 20, 5);
    assert!(twice.is_empty(), "{twice:?}");
}

/// Their segments count from 1 each, and their batches lie side by side in one journal.
#[test]
fn two_gateways_of_one_table_and_staging_area_do_not_disturb_each_other() {
    let one = Site::new();
    let mut other = Site::with(&["--load-every", "700ms", "--set"]);
    other.more.push(format!("stage.url={}", one.context.path("stage").display()));
    other.embedded = Some(one.warehouse.lock().expect("no panic").url());
    let twice = std::thread::scope(|scope| {
        [&one, &other]
            .map(|site| scope.spawn(|| killed_under_load(site, 6, u64::MAX)))
            .map(|thread| thread.join().expect("no panic"))
    });
    assert!(twice.iter().all(Vec::is_empty), "{twice:?}");
    one.run("verify", &[]).success();
}

/// Kills the gateway under load, and the warehouse too every so many times. Then each acknowledged row
/// must be in the table. Gives the rows that are there more than once.
pub fn killed_under_load(site: &Site, kills: u64, warehouse_every: u64) -> Vec<(String, u64)> {
    let kills = setting("API2BQ_KILLS").unwrap_or(kills);
    let (acknowledged, sent) = (Mutex::new(BTreeSet::new()), AtomicU64::new(0));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (acknowledged, sent, over) = (&acknowledged, &sent, &over);
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let id = format!("{}-{client}-{number}", site.port);
                    sent.fetch_add(1, Ordering::SeqCst);
                    // Half of them send again until they are answered, under a key; the others give up.
                    let key = format!("Idempotency-Key: {id}\r\n");
                    let headers = if client % 2 == 0 { &*key } else { "" };
                    loop {
                        match site.post(headers, &row(&id)) {
                            Some(answer) if answer.status == 200 => {
                                acknowledged.lock().expect("no panic").insert(id);
                                break;
                            }
                            _ => std::thread::sleep(Duration::from_millis(20)),
                        }
                        if headers.is_empty() || over.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                }
            });
        }
        for kill in 0..kills {
            let gateway = site.gateway();
            let wait = Duration::from_millis(fastrand::u64(200..2000));
            if kill % warehouse_every == warehouse_every - 1 {
                std::thread::sleep(wait / 2);
                site.warehouse.lock().expect("no panic").restart(&site.context);
            }
            assert!(gateway.kill_after(wait), "it was killed, and did not end");
        }
        over.store(true, Ordering::SeqCst);
    });
    let acknowledged = acknowledged.into_inner().expect("no panic");
    let least = 10 * kills;
    assert!(acknowledged.len() as u64 > least, "only {} rows were acknowledged", acknowledged.len());
    let gateway = site.gateway();
    // The last one shows when everything before it is there.
    let last = format!("{}-last", site.port);
    assert_eq!(site.post("", &row(&last)).expect("an answer").status, 200);
    let started = Instant::now();
    let table = loop {
        let mut table = site.table();
        if table.contains_key(&last) {
            // Another gateway may write to it too.
            table.retain(|id, _| id.split_once('-').is_some_and(|(port, _)| port == site.port.to_string()));
            break table;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "{}", site.said());
        std::thread::sleep(Duration::from_millis(200));
    };
    let lost: Vec<_> = acknowledged.iter().filter(|id| !table.contains_key(*id)).collect();
    assert!(lost.is_empty(), "lost {lost:?}; {}", site.said());
    assert!(table.len() as u64 <= sent.load(Ordering::SeqCst) + 1);
    drop(gateway);
    table.into_iter().filter(|(_, times)| *times > 1).collect()
}

/// The journal knows batches of long ago only by their segments, which stay for ever. Without them the
/// segment would be loaded by a job that BigQuery forgets after half a year.
#[test]
fn a_spool_from_an_old_backup_is_not_loaded_again() {
    let site = with_a_row_waiting();
    let spool = site.context.path("spool");
    let files = || -> BTreeSet<String> {
        let entries = std::fs::read_dir(&spool).expect("a folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let backup: Vec<(String, Vec<u8>)> = files()
        .into_iter()
        .filter(|name| name.ends_with(".seg"))
        .map(|name| (name.clone(), std::fs::read(spool.join(name)).expect("readable")))
        .collect();
    site.warehouse.lock().expect("no panic").restart(&site.context);
    let gateway = site.gateway();
    site.wait_for(1);
    while files().iter().any(|name| backup.iter().any(|(old, _)| old == name)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());

    let journal = site.context.path("stage").join("inventory/gateway");
    let mut batches = Vec::new();
    for batch in std::fs::read_dir(&journal).expect("batches").flatten() {
        let decided = std::fs::read(batch.path().join("batch.json")).expect("readable");
        let decided: serde_json::Value = serde_json::from_slice(&decided).expect("JSON");
        batches.push(decided["segments"].clone());
    }
    std::fs::remove_dir_all(&journal).expect("removed");
    let ended = site.context.path("stage").join("inventory/gateway-ended");
    std::fs::create_dir_all(&ended).expect("made");
    let together = serde_json::json!({ "batches": batches, "rows": [] }).to_string();
    std::fs::write(ended.join("x.json"), together).expect("written");
    for (name, bytes) in &backup {
        std::fs::write(spool.join(name), bytes).expect("restored");
    }
    let _gateway = site.gateway();
    assert_eq!(site.post("", &row("b")).expect("an answer").status, 200);
    assert_eq!(site.wait_for(2), BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1)]));
    assert!(site.said().contains("a segment came back whose batch ended long ago"), "{}", site.said());
    assert_eq!(files().iter().filter(|name| name.ends_with(".loaded")).count(), 1, "{:?}", files());
    let journal: Vec<_> = std::fs::read_dir(&journal).expect("batches").flatten().collect();
    assert_eq!(journal.len(), 1, "only the new row was loaded");
}
