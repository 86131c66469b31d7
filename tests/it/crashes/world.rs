//! What the scenario runs in: a source, an embedded BigQuery, a staging folder for each case, and
//! the invariants that must hold between and after the runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail, ensure};
use api2bq::config::Pipeline;
use api2bq::effects::{Clock, Effects, Watcher};
use api2bq::emulator::{self, Faults};
use api2bq::engine::{self, Engine};
use api2bq::manifest::{Entry, Event, Manifest};
use api2bq::partition::{SECONDS_PER_DAY, Window};
use api2bq::pipeline::{Backfill, Order, World as Outside, connect};
use api2bq::plan::Until;
use api2bq::promote::promote;
use api2bq::receipt::{Allowed, Receipt};
use api2bq::serve::Server;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::reaper::Reaper;

const DAYS: [&str; 3] = ["20110101", "20110102", "20110103"];

/// Records of the source as (id, second of the day, byte_count); no byte_count is a wrong one.
const SENT: [&[(u32, i64, Option<u32>)]; 3] = [
    // 3 comes again, later.
    &[(1, 10, Some(100)), (3, 20, Some(300)), (2, 30, Some(200)), (3, 40, Some(333))],
    &[(4, 10, Some(400)), (5, 20, None), (6, 30, Some(600))],
    &[(7, 1, Some(700)), (8, 86_400, Some(800)), (9, 5, Some(900)), (10, 7, Some(1000)), (11, 7, Some(1100))],
];
/// What must be in the partitions in the end, as (id, byte_count).
const EXPECTED: [&[(u32, u32)]; 3] = [
    &[(1, 100), (2, 200), (3, 333)],
    &[(4, 400), (6, 600)],
    &[(7, 700), (8, 800), (9, 900), (10, 1000), (11, 1100)],
];
/// Where windows append, one record more comes with the third: late, and of the second day.
const LATE: (u32, i64, Option<u32>) = (12, -100, Some(1200));
/// What an older load left in the second day.
const OLD: &[(u32, i64, Option<u32>)] = &[(90, 1, Some(9000)), (91, 2, Some(9100))];

/// What windows do to their partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Replace,
    Append,
}

impl Scenario {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Scenario::Replace => &[],
            Scenario::Append => &["warehouse.mode=append", "time.late_days=1"],
        }
    }

    /// The part of the job id that the first load of the second day has.
    fn failing(self) -> &'static str {
        match self {
            Scenario::Replace => "_20110102_g0_",
            Scenario::Append => "_20110102_0000086400-0000172800_g0_",
        }
    }

    /// What a partition may hold before and while it is loaded: each is one of its states.
    fn states(self, day: usize) -> Vec<Vec<(u32, u32)>> {
        let old: &[(u32, u32)] = if day == 1 { &[(90, 9000), (91, 9100)] } else { &[] };
        match self {
            Scenario::Replace => vec![old.to_vec(), EXPECTED[day].to_vec()],
            // Each load is there as a whole or not at all, and never twice.
            Scenario::Append => {
                let late: &[(u32, u32)] = if day == 1 { &[(12, 1200)] } else { &[] };
                let parts = [&[][..], EXPECTED[day]].into_iter().flat_map(|own| [[own, &[]], [own, late]]);
                let states = parts.map(|parts| [parts.concat(), old.to_vec()].concat());
                let sorted = |mut state: Vec<_>| {
                    state.sort_unstable();
                    state
                };
                states.map(sorted).collect()
            }
        }
    }

    /// What it holds in the end.
    fn end(self, day: usize) -> Vec<(u32, u32)> {
        self.states(day).pop().expect("the last state is the end")
    }
}

/// One worker's servers. They outlive every crash.
pub struct World {
    runtime: Runtime,
    server: Server,
    faults: Faults,
    source: FixedSource,
    folder: tempfile::TempDir,
    old_rows: String,
    http: reqwest::Client,
    cases: u32,
    worker: usize,
    scenario: Scenario,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    Complete,
    Failed(String),
    Crashed,
}

/// One case: a staging folder and a project of its own.
pub struct Stage {
    project: String,
    folder: PathBuf,
    settings: Vec<String>,
    /// Windows with an intent when it was last looked at; each was fetched so often until then.
    intents: Mutex<BTreeMap<String, String>>,
    fetched: Mutex<BTreeMap<i64, u64>>,
}

impl World {
    pub fn start(worker: usize) -> Self {
        World::of(Scenario::Replace, worker)
    }

    pub fn of(scenario: Scenario, worker: usize) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let folder = tempfile::Builder::new().prefix("crashes").tempdir_in(memory()).expect("a folder");
        let faults = Faults::default();
        let server = runtime.block_on(async {
            let engine = Engine::new(engine::Options::default()).expect("an engine");
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let data_dir = folder.path().join("warehouse");
            let options = emulator::Options { listen, data_dir, engine, faults: faults.clone() };
            emulator::start(options).await.expect("an embedded BigQuery")
        });
        let late = [SENT[2], &[LATE]].concat();
        let source = FixedSource::start(match scenario {
            Scenario::Replace => bodies(&SENT),
            Scenario::Append => bodies(&[SENT[0], SENT[1], &late]),
        });
        let mut world = World {
            runtime,
            server,
            faults,
            source,
            folder,
            old_rows: String::new(),
            http: reqwest::Client::new(),
            cases: 0,
            worker,
            scenario,
        };
        world.old_rows = world.stage_old_rows();
        world
    }

    /// The Parquet file of an older load, as its URL.
    fn stage_old_rows(&self) -> String {
        let source = FixedSource::start(bodies(&[&[], OLD, &[]]));
        let settings = settings(&source.url, &self.folder.path().join("old"), "old");
        let range = Window { after: SECONDS_PER_DAY, before: 2 * SECONDS_PER_DAY };
        let order = Order { range, until: Until::Stage, ..order(1) };
        let receipt = self.runtime.block_on(async {
            let pipeline = Pipeline::resolve("flows", &settings)?;
            Backfill::assemble(pipeline, &order, Outside::default()).await?.run().await
        });
        receipt.expect("the old rows are staged");
        let manifest = manifests(&self.folder.path().join("old")).into_iter().next().expect("one window");
        manifest.partitions[0].files[0].url.clone()
    }

    /// A new case: an empty staging folder, and a table whose second day has the old rows.
    pub fn stage(&mut self) -> Result<Stage> {
        self.cases += 1;
        let project = format!("w{}-{:05}", self.worker, self.cases);
        let folder = self.folder.path().join(&project);
        let mut settings = settings(&self.source.url, &folder, &project);
        settings.extend(self.scenario.settings().iter().map(|&set| set.to_owned()));
        let stage = Stage { project, folder, settings, intents: Mutex::default(), fetched: Mutex::default() };
        self.load_old_rows(&stage)?;
        ensure!(self.faults.are_spent(), "a fault of the case before was not met");
        let fault = format!("fail-job=backendError:1@{}", self.scenario.failing());
        self.faults.arm(fault.parse().expect("a fault"));
        *stage.fetched.lock().expect("no panic") = self.source.fetched();
        Ok(stage)
    }

    fn load_old_rows(&self, stage: &Stage) -> Result<()> {
        let columns = Pipeline::resolve("flows", &[])?.columns;
        let field =
            |c: &api2bq::schema::Column| json!({"name": c.name, "type": c.kind.name(), "mode": "REQUIRED"});
        let schema = json!({"fields": columns.iter().map(field).collect::<Vec<_>>()});
        let project = &stage.project;
        let table = |id: &str| json!({"projectId": project, "datasetId": "LANL", "tableId": id});
        self.post(stage, "datasets", json!({"datasetReference": {"datasetId": "LANL"}}))?;
        let partitioning = json!({"type": "DAY"});
        let document = json!({"tableReference": table("flows_staging"), "schema": schema,
            "timePartitioning": partitioning, "requirePartitionFilter": true});
        self.post(stage, "datasets/LANL/tables", document)?;
        let load = json!({"sourceUris": [self.old_rows], "sourceFormat": "PARQUET",
            "destinationTable": table("flows_staging$20110102"), "writeDisposition": "WRITE_TRUNCATE"});
        let job = json!({"jobReference": {"jobId": "old"}, "configuration": {"load": load}});
        self.post(stage, "jobs", job)?;
        for _ in 0..1000 {
            if self.get(stage, "jobs/old")?["status"]["state"] == "DONE" {
                let rows = self.rows(stage, "flows_staging$20110102")?;
                ensure!(rows == [(90, 9000), (91, 9100)], "the old rows are not there: {rows:?}");
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        bail!("the old load does not end")
    }

    /// Runs the command until it ends or the reaper strikes. A crash leaves nothing of it running.
    pub fn run(&self, stage: &Stage, jobs: usize, reaper: &Arc<Reaper>) -> Result<Ended> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // Invariant 6: no decision reads the clock, so any time will do. It moves when somebody waits.
        let clock = Clock::manual(fastrand::u64(..4_000_000_000_000));
        let effects = Effects::watched(Arc::clone(reaper) as Arc<dyn Watcher>, clock);
        let outside = Outside { effects, bigquery: Some(self.server.url()), ..Outside::default() };
        let ended = runtime.block_on(async {
            let run = async {
                let pipeline = Pipeline::resolve("flows", &stage.settings)?;
                let backfill = Backfill::assemble(pipeline, &order(jobs), outside).await?;
                reaper.rename(backfill.plan.run.clone(), "RUN");
                reaper.rename(stage.project.clone(), "PROJECT");
                backfill.run().await
            };
            tokio::select! {
                ended = run => ended.map_or_else(|e| Ended::Failed(e.to_string()), |receipt| verdict(&receipt)),
                () = reaper.died.notified() => Ended::Crashed,
            }
        });
        runtime.shutdown_background();
        Ok(ended)
    }

    /// Promotes until it ends or the reaper strikes.
    pub fn promote(&self, stage: &Stage, reaper: &Arc<Reaper>) -> Result<Ended> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let effects = Effects::watched(Arc::clone(reaper) as Arc<dyn Watcher>, Clock::manual(0));
        reaper.rename(stage.project.clone(), "PROJECT");
        let ended = runtime.block_on(async {
            let run = async {
                let pipeline = Pipeline::resolve("flows", &stage.settings)?;
                let bigquery = connect(&pipeline, Some(self.server.url()), &effects).await?;
                promote(&pipeline, &bigquery, 30, None).await
            };
            tokio::select! {
                ended = run => ended.map_or_else(|e| Ended::Failed(e.to_string()), |_| Ended::Complete),
                () = reaper.died.notified() => Ended::Crashed,
            }
        });
        runtime.shutdown_background();
        let rows = self.rows(stage, "flows").unwrap_or_default();
        let expected: Vec<_> = EXPECTED.concat();
        // Invariant 1, for production: nobody has promoted, or somebody has, wholly.
        let promoted = rows == expected;
        ensure!(promoted || rows.is_empty(), "invariant 1: production holds {rows:?}");
        ensure!(promoted || !matches!(ended, Ended::Complete), "promote said that it was done, and was not");
        Ok(ended)
    }

    fn url(&self, stage: &Stage, path: &str) -> String {
        format!("{}/bigquery/v2/projects/{}/{path}", self.server.url(), stage.project)
    }

    fn post(&self, stage: &Stage, path: &str, body: Value) -> Result<Value> {
        let request = self.http.post(self.url(stage, path)).json(&body);
        self.runtime.block_on(async { Ok(request.send().await?.error_for_status()?.json().await?) })
    }

    fn get(&self, stage: &Stage, path: &str) -> Result<Value> {
        let request = self.http.get(self.url(stage, path));
        self.runtime.block_on(async { Ok(request.send().await?.error_for_status()?.json().await?) })
    }

    /// The rows of a table as (id, byte_count), sorted, as the server's own tabledata.list gives them.
    fn rows(&self, stage: &Stage, table: &str) -> Result<Vec<(u32, u32)>> {
        let answer = self.get(stage, &format!("datasets/LANL/tables/{table}/data"))?;
        let rows = answer["rows"].as_array().cloned().unwrap_or_default();
        let cell = |row: &Value, at: usize| row["f"][at]["v"].as_str().and_then(|v| v.parse().ok());
        let pair = |row: &Value| Some((cell(row, 0)?, cell(row, 9)?));
        let mut rows: Vec<_> = rows.iter().map(|row| pair(row).expect("two numbers")).collect();
        rows.sort_unstable();
        Ok(rows)
    }

    /// Ids of the load jobs that there are, but for the old one.
    fn jobs(&self, stage: &Stage) -> Result<BTreeSet<String>> {
        let answer = self.get(stage, "jobs?maxResults=1000")?;
        let jobs = answer["jobs"].as_array().cloned().unwrap_or_default();
        let id = |job: &Value| job["jobReference"]["jobId"].as_str().map(str::to_owned);
        Ok(jobs.iter().filter_map(id).filter(|id| id != "old").collect())
    }
}

impl Stage {
    /// What holds at every instant, whatever was killed.
    pub fn check_between(&self, world: &World) -> Result<()> {
        // Invariant 1: each partition has its complete old or complete new content.
        for (at, day) in DAYS.iter().enumerate() {
            let rows = world.rows(self, &format!("flows_staging${day}"))?;
            ensure!(world.scenario.states(at).contains(&rows), "invariant 1: {day} holds {rows:?}");
        }
        let chains = chains(&self.folder);
        let manifests = manifests(&self.folder);
        // Invariant 2: no load job without an intent that names it.
        for job in world.jobs(self)? {
            let named = |id: &str| without_generation(id) == without_generation(&job);
            let intended = manifests.iter().flat_map(|m| &m.partitions).any(|staged| named(&staged.job_id));
            ensure!(intended, "invariant 2: job `{job}` has no intent");
        }
        // Invariant 2: an intent is never replaced, and nobody asks the source again once it is there.
        let mut known = self.intents.lock().expect("no panic");
        let mut fetched = self.fetched.lock().expect("no panic");
        let fetched_now = world.source.fetched();
        for (window, entries) in &chains {
            let intents: Vec<_> = entries.iter().filter(|e| matches!(e.event, Event::Intent(_))).collect();
            ensure!(intents.len() <= 1, "invariant 2: window {window} has {} intents", intents.len());
            let Some(intent) = intents.first() else { continue };
            let after: i64 =
                window.split('-').next().and_then(|after| after.parse().ok()).context("a window")?;
            if let Some(nonce) = known.insert(window.clone(), intent.nonce.clone()) {
                ensure!(nonce == intent.nonce, "invariant 2: the intent of {window} was replaced");
                let times = (fetched.get(&after), fetched_now.get(&after));
                ensure!(
                    times.0 == times.1,
                    "invariant 2: {window} was fetched again after its intent: {times:?}"
                );
            }
        }
        *fetched = fetched_now;
        // Invariant 4, for every window that has got so far. The files it names are there, whole.
        for manifest in manifests {
            ensure!(manifest.adds_up(), "invariant 4: {manifest:?}");
            for file in manifest.partitions.iter().flat_map(|staged| &staged.files) {
                let path = file.url.strip_prefix("file://").context("a file URL")?;
                let bytes = std::fs::read(path).with_context(|| format!("`{path}` is named by an intent"))?;
                ensure!(bytes.len() as u64 == file.bytes, "`{path}` has {} bytes", bytes.len());
            }
        }
        Ok(())
    }

    /// What holds once a run has said that it is complete (invariant 8).
    pub fn check_complete(&self, world: &World) -> Result<()> {
        self.check_between(world)?;
        for (at, day) in DAYS.iter().enumerate() {
            let rows = world.rows(self, &format!("flows_staging${day}"))?;
            ensure!(rows == world.scenario.end(at), "invariant 8: {day} holds {rows:?}");
        }
        let late = u64::from(world.scenario == Scenario::Append);
        let manifests = manifests(&self.folder);
        let counts = manifests.iter().map(|m| m.counts).fold((0, 0, 0, 0), |sum, c| {
            (sum.0 + c.records, sum.1 + c.staged, sum.2 + c.duplicates, sum.3 + c.rejects)
        });
        ensure!(
            counts == (12 + late, 10 + late, 1, 1),
            "invariant 4: records, staged, duplicates, rejects are {counts:?}"
        );
        // Invariant 3: the same content has the same files and the same jobs, however often it was tried.
        let jobs = world.jobs(self)?;
        // Where windows append, the late record has a job of its own in the second day.
        let generations = |day: &str| jobs.iter().filter(|id| id.contains(&format!("_{day}_"))).count();
        let found = DAYS.map(generations);
        let expected = [1, 2 + late as usize, 1];
        ensure!(
            found == expected && jobs.len() == expected.iter().sum::<usize>(),
            "invariant 3: these jobs were made: {jobs:?}"
        );
        let files: Vec<_> = walk(&self.folder)
            .into_iter()
            .filter(|f| f.extension().is_some_and(|e| e == "parquet"))
            .collect();
        ensure!(files.len() as u64 == 3 + late, "invariant 3: {} staged files: {files:?}", files.len());
        for (window, entries) in chains(&self.folder) {
            let loaded = entries.iter().filter(|e| matches!(e.event, Event::Loaded { .. })).count();
            ensure!(loaded == 1, "window {window} was loaded {loaded} times");
        }
        ensure!(world.faults.are_spent(), "the job that was to fail did not");
        Ok(())
    }
}

fn verdict(receipt: &Receipt) -> Ended {
    match receipt.verdict(Allowed::Records(1), "the same command") {
        Ok(()) => Ended::Complete,
        Err(error) => Ended::Failed(error.to_string()),
    }
}

fn order(jobs: usize) -> Order {
    let range = Window { after: 0, before: 3 * SECONDS_PER_DAY };
    Order { range, window_seconds: SECONDS_PER_DAY, jobs, until: Until::Load, salt: String::new() }
}

fn settings(source: &str, folder: &std::path::Path, project: &str) -> Vec<String> {
    vec![
        format!("source.url={source}"),
        "source.identity=crashes".into(),
        format!("stage.url={}", folder.display()),
        format!("warehouse.project={project}"),
    ]
}

/// Without a disk under it: thousands of syncs are not what is tested here.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn without_generation(id: &str) -> String {
    match (id.rfind("_g"), id.rfind('_')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &id[..from], &id[to..]),
        _ => id.to_owned(),
    }
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(walk(&path)),
            path => found.push(path),
        }
    }
    found
}

/// The journal as it lies on the disk, by window, read without the product's own chain.
fn chains(folder: &std::path::Path) -> BTreeMap<String, Vec<Entry>> {
    let mut chains: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    let mut files = walk(folder);
    files.sort();
    for file in files {
        let name = |path: &std::path::Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        let is_entry =
            name(&file).len() == "0001.json".len() && file.extension().is_some_and(|e| e == "json");
        if is_entry && name(&file).bytes().next().is_some_and(|b| b.is_ascii_digit()) {
            let entry = serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("an entry");
            chains.entry(name(file.parent().expect("a folder"))).or_default().push(entry);
        }
    }
    chains
}

fn manifests(folder: &std::path::Path) -> Vec<Manifest> {
    let intent = |entry: Entry| match entry.event {
        Event::Intent(manifest) => Some(manifest),
        _ => None,
    };
    chains(folder).into_values().flatten().filter_map(intent).collect()
}

fn bodies(days: &[&[(u32, i64, Option<u32>)]; 3]) -> BTreeMap<i64, String> {
    let mut bodies = BTreeMap::new();
    for (after, records) in (0..).step_by(86_400).zip(days) {
        let record = |(id, second, bytes): &(u32, i64, Option<u32>)| {
            let bytes = bytes.map_or("many".to_owned(), |bytes| bytes.to_string());
            format!(
                "<record><id>{id}</id><time>{}</time><duration>1</duration><src_comp>C1</src_comp><src_port>80</src_port>\
                 <dst_comp>C2</dst_comp><dst_port>443</dst_port><protocol>6</protocol><packet_count>1</packet_count>\
                 <byte_count>{bytes}</byte_count></record>",
                after + second
            )
        };
        let records: String = records.iter().map(record).collect();
        bodies.insert(after, format!("<records>{records}</records>"));
    }
    bodies
}

/// Answers every window with the same bytes each time, and counts how often it was asked.
struct FixedSource {
    url: String,
    asked: Arc<BTreeMap<i64, AtomicU64>>,
}

impl FixedSource {
    fn start(bodies: BTreeMap<i64, String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/flows", listener.local_addr().expect("an address"));
        let asked: Arc<BTreeMap<_, _>> =
            Arc::new(bodies.keys().map(|after| (*after, AtomicU64::new(0))).collect());
        let counters = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    request.push(byte[0]);
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let after = request.split("scanned_after=").nth(1).and_then(|rest| rest.split('&').next());
                let Some((body, asked)) = after
                    .and_then(|after| after.parse().ok())
                    .and_then(|after: i64| Some((bodies.get(&after)?, counters.get(&after)?)))
                else {
                    continue;
                };
                asked.fetch_add(1, Ordering::SeqCst);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        FixedSource { url, asked }
    }

    fn fetched(&self) -> BTreeMap<i64, u64> {
        self.asked.iter().map(|(after, asked)| (*after, asked.load(Ordering::SeqCst))).collect()
    }
}
