//! Every three hours for ten days, and once more weeks later: `--since last`, then promote. Records come
//! late and again, two runs are killed by `kill -9` and for one the source is down; production ends as a count
//! by somebody else says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api2bq::config::Pipeline;
use api2bq::effects::Effects;
use api2bq::emulator::{self, Faults};
use api2bq::engine::{self, Engine};
use api2bq::ledger;
use api2bq::pipeline::{Backfill, World, connect, open_store};
use api2bq::plan::Until;
use api2bq::promote::promote;
use api2bq::receipt::{Allowed, Receipt};
use api2bq::serve::Server;
use api2bq::since::Since;
use api2bq::verify::{Against, verify};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::context::TestContext;
use crate::process::Process;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const STEP: i64 = 3 * HOUR;
/// 2011-01-01, the pipeline's epoch.
const EPOCH_MS: u64 = 1_293_840_000_000;

/// A record, and the second at which the source has it.
#[derive(Debug, Clone, Copy)]
struct Sent {
    arrives: i64,
    id: u32,
    time: i64,
    bytes: u32,
}

/// Ten days of records: new ones, repeats that have grown, late ones, and some that are sent twice.
fn ten_days() -> Vec<Sent> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut sent: Vec<Sent> = Vec::new();
    let mut arrives = 30;
    while arrives <= 10 * DAY {
        let bytes = random.u32(100..10_000);
        let new = Sent { arrives, id: sent.len() as u32 + 1, time: arrives, bytes };
        let before = sent.get(random.usize(..sent.len().max(1))).copied().unwrap_or(new);
        let late = (arrives - random.i64(0..20 * HOUR)).max(1);
        sent.push(match random.u32(..100) {
            // Seen again, now or some hours ago: what is late must not win over what is newer.
            0..15 => Sent { id: before.id, ..new },
            15..25 => Sent { id: before.id, time: late, ..new },
            25..35 => Sent { time: late, ..new },
            // The very same once more, as long as it is not too late for its day.
            35..40 if before.time > arrives - 20 * HOUR => Sent { arrives, ..before },
            _ => new,
        });
        arrives += random.i64(60..40 * 60);
    }
    sent
}

/// The latest record per id of the 30 days up to the newest, as (time, bytes).
fn oracle(sent: &[Sent]) -> BTreeMap<u32, (i64, u32)> {
    let newest = sent.iter().map(|record| (record.time - 1) / DAY).max().expect("records");
    let mut latest: BTreeMap<u32, (i64, u32)> = BTreeMap::new();
    for record in sent.iter().filter(|record| (record.time - 1) / DAY > newest - 30) {
        let found = (record.time, record.bytes);
        let best = latest.entry(record.id).or_insert(found);
        *best = found.max(*best);
    }
    latest
}

/// Answers a window with what arrives in it.
#[derive(Clone)]
struct Source {
    url: String,
    sent: Arc<Mutex<Vec<Sent>>>,
    is_down: Arc<AtomicBool>,
    /// Whether it stops half way through an answer, until its reader is gone.
    stops_half_way: Arc<AtomicBool>,
    has_stopped: Arc<AtomicBool>,
}

impl Source {
    fn start(sent: Vec<Sent>) -> Source {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/flows", listener.local_addr().expect("an address"));
        let sent = Arc::new(Mutex::new(sent));
        let [is_down, stops_half_way, has_stopped] = Default::default();
        let source = Source { url, sent, is_down, stops_half_way, has_stopped };
        let Source { sent, is_down, stops_half_way, has_stopped, .. } = source.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    request.push(byte[0]);
                }
                if is_down.load(Ordering::SeqCst) {
                    continue;
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let bound = |name: &str| -> i64 {
                    let value = request.split(&format!("{name}=")).nth(1).expect("it is asked for");
                    value.split(['&', ' ']).next().and_then(|n| n.parse().ok()).expect("a number")
                };
                let window = bound("scanned_after") + 1..=bound("scanned_before");
                let sent = sent.lock().expect("no panic");
                let body: String =
                    sent.iter().filter(|record| window.contains(&record.arrives)).map(xml).collect();
                let body = format!("<records>{body}</records>");
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n", body.len());
                let (half, rest) = body.split_at(body.len() / 2);
                let _ = stream.write_all(half.as_bytes());
                if stops_half_way.load(Ordering::SeqCst) {
                    has_stopped.store(true, Ordering::SeqCst);
                    let _ = stream.read(&mut byte);
                    continue;
                }
                let _ = stream.write_all(rest.as_bytes());
            }
        });
        source
    }
}

fn xml(Sent { id, time, bytes, .. }: &Sent) -> String {
    format!(
        "<record><id>{id}</id><time>{time}</time><duration>1</duration><src_comp>C1</src_comp><src_port>80</src_port>\
         <dst_comp>C2</dst_comp><dst_port>443</dst_port><protocol>6</protocol><packet_count>1</packet_count>\
         <byte_count>{bytes}</byte_count></record>"
    )
}

struct Place {
    runtime: Runtime,
    server: Server,
    faults: Faults,
    source: Source,
    settings: Vec<String>,
    context: TestContext,
}

impl Place {
    fn new() -> Place {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (context, faults) = (TestContext::new(), Faults::default());
        let server = runtime.block_on(async {
            let engine = Engine::new(engine::Options::default()).expect("an engine");
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let data_dir = context.path("warehouse");
            let options = emulator::Options { listen, data_dir, engine, faults: faults.clone() };
            emulator::start(options).await.expect("an embedded BigQuery")
        });
        let source = Source::start(ten_days());
        let settings = vec![
            format!("source.url={}", source.url),
            format!("stage.url={}", context.path("stage").display()),
            "warehouse.mode=append".into(),
            "time.late_days=1".into(),
        ];
        Place { runtime, server, faults, source, settings, context }
    }

    fn pipeline(&self) -> Pipeline {
        Pipeline::resolve("flows", &self.settings).expect("a pipeline")
    }

    /// What a scheduler starts at this second of the pipeline's time.
    fn tick(&self, second: i64) -> Receipt {
        let effects = Effects::pretending(EPOCH_MS + second as u64 * 1000);
        let world = World { effects, bigquery: Some(self.server.url()), ..World::default() };
        let since = Since { begin: Some(0), end: None, window_seconds: STEP };
        self.runtime
            .block_on(async {
                let run = Backfill::continuing(self.pipeline(), since, 2, Until::Load, world).await?;
                run.run().await
            })
            .expect("it starts")
    }

    /// The same as a process, killed by `kill -9` as soon as it has come as far as `is_far_enough` says.
    fn killed_tick(&self, second: i64, is_far_enough: impl Fn() -> bool) {
        let to = format!("{second}s");
        let fixed = ["backfill", "flows", "--since", "last", "--from", "0s", "--to", &to, "--window", "3h"];
        let mut command = self.context.command(fixed);
        command.args(self.settings.iter().flat_map(|setting| ["--set", setting]));
        command.env("BIGQUERY_EMULATOR_HOST", self.server.url());
        let said = self.context.path("killed.txt");
        let mut process = Process::start(command, said.clone());
        let started = Instant::now();
        while !is_far_enough() {
            let said = || std::fs::read_to_string(&said).unwrap_or_default();
            assert!(process.is_alive() && started.elapsed() < Duration::from_secs(60), "{}", said());
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(process.kill_after(Duration::ZERO), "it was killed");
    }

    /// Jobs that the warehouse was ever sent.
    fn num_jobs(&self) -> usize {
        let url = format!("{}/bigquery/v2/projects/api2gbq/jobs?maxResults=1000", self.server.url());
        let jobs: Value =
            self.runtime.block_on(async { reqwest::get(url).await?.json().await }).expect("jobs");
        jobs["jobs"].as_array().expect("jobs").len()
    }

    fn promote(&self) {
        let promoted = self.runtime.block_on(async {
            let bigquery = connect(&self.pipeline(), Some(self.server.url()), &Effects::default()).await?;
            promote(&self.pipeline(), &bigquery, 30, None).await
        });
        promoted.expect("promoted");
    }

    /// Production as (id, time, byte_count).
    fn production(&self) -> BTreeMap<u32, (i64, u32)> {
        let url = format!(
            "{}/bigquery/v2/projects/api2gbq/datasets/LANL/tables/flows/data?maxResults=100000",
            self.server.url()
        );
        let answer: Value =
            self.runtime.block_on(async { reqwest::get(url).await?.json().await }).expect("rows");
        let rows = answer["rows"].as_array().expect("rows");
        let cell = |row: &Value, at: usize| -> i64 {
            row["f"][at]["v"].as_str().and_then(|v| v.parse().ok()).expect("a number")
        };
        let found: BTreeMap<u32, (i64, u32)> =
            rows.iter().map(|row| (cell(row, 0) as u32, (cell(row, 1), cell(row, 9) as u32))).collect();
        assert_eq!(found.len(), rows.len(), "an id is there once");
        found
    }
}

#[test]
fn ten_days_of_three_hours_end_as_an_independent_count_says() {
    let place = Place::new();
    let sent = place.source.sent.lock().expect("no panic").clone();
    let late = sent.iter().filter(|record| record.time <= (record.arrives - 1) / STEP * STEP).count() as u64;
    let (mut records, mut counted_late, mut open) = (0, 0, 0);
    for step in 1..=80 {
        let second = step * STEP + 300;
        // The first kill: a load job is sent, and its end has not been heard of. The second: half of an answer is
        // read.
        if step == 21 {
            let before = place.num_jobs();
            place.faults.arm("running-polls=100".parse().expect("a fault"));
            place.killed_tick(second, || place.num_jobs() > before);
        }
        if step == 50 {
            place.source.stops_half_way.store(true, Ordering::SeqCst);
            place.killed_tick(second, || place.source.has_stopped.load(Ordering::SeqCst));
            place.source.stops_half_way.store(false, Ordering::SeqCst);
        }
        if [21, 50].contains(&step) {
            open += 1;
            continue;
        }
        place.source.is_down.store(step == 61, Ordering::SeqCst);
        let receipt = place.tick(second);
        if step == 61 {
            assert_eq!((receipt.failed.len(), receipt.windows.len()), (1, 0), "the source is down");
            open += 1;
            continue;
        }
        receipt
            .verdict(Allowed::Records(0), "the same command")
            .unwrap_or_else(|e| panic!("step {step}: {e}"));
        assert_eq!(receipt.windows.len(), 1 + open, "step {step} does what is left and what is new");
        open = 0;
        records += receipt.totals.records;
        counted_late += receipt.totals.late;
        if step % 8 == 0 {
            place.promote();
            let so_far: Vec<_> =
                sent.iter().filter(|record| record.arrives <= step * STEP).copied().collect();
            assert_eq!(place.production(), oracle(&so_far), "after {step} steps");
        }
    }
    assert_eq!(records, sent.len() as u64, "every record came once");
    assert_eq!(counted_late, late);
    assert!(late > 20, "{late} records came late");

    // Nothing is new: nothing is done.
    let again = place.tick(80 * STEP + 301);
    assert!(again.windows.is_empty() && again.failed.is_empty());

    // Three weeks without a record, and one day later what was not seen for 30 days is gone.
    let back = Sent { arrives: 33 * DAY - 5, id: 1, time: 33 * DAY - 5, bytes: 5 };
    place.source.sent.lock().expect("no panic").push(back);
    let caught_up = place.tick(33 * DAY + 1);
    caught_up.verdict(Allowed::Records(0), "the same command").expect("complete");
    assert_eq!(caught_up.windows.len(), 23 * 8);
    place.promote();
    let all: Vec<Sent> = place.source.sent.lock().expect("no panic").clone();
    let (production, ids) = (place.production(), all.iter().map(|record| record.id).collect::<BTreeSet<_>>());
    assert_eq!(production, oracle(&all));
    assert!(production.len() < ids.len(), "keys drop out: {} of {}", production.len(), ids.len());

    // Journal, files and every partition of staging agree, windows that share a day included.
    let proof = place.runtime.block_on(async {
        let (pipeline, effects) = (place.pipeline(), Effects::default());
        let store = open_store(&pipeline, &effects)?;
        let ledger = ledger::read(&store, &pipeline.name).await?;
        let bigquery = connect(&pipeline, Some(place.server.url()), &effects).await?;
        let against = Against {
            pipeline: &pipeline,
            store: &store,
            ledger: &ledger,
            gateway: false,
            bigquery: Some(&bigquery),
            source: None,
        };
        assert_eq!(ledger.runs.len(), 1, "all calls are one run");
        verify(against, &ledger.runs.iter().collect::<Vec<_>>()).await
    });
    let proof = proof.expect("everything can be asked");
    assert!(proof.mismatches.is_empty() && proof.unfinished.is_empty(), "{:?}", proof.mismatches);
    let days: BTreeSet<i64> = all.iter().map(|record| (record.time - 1) / DAY).collect();
    assert_eq!(proof.checked.partitions, days.len() as u64);
}
