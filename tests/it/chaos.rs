//! A proxy that cuts, resets, delays and forgets, between the program and its source, store and BigQuery.
//! Every run ends complete, or with the list of windows that are missing, after a bounded number of
//! requests; and the same command once more, undisturbed, completes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::compare::Compare;
use crate::context::{Ended, Running, TestContext};
use crate::process::at_once;
use crate::proxy::{Act, Proxy, bad_gateway};

const RECORD: &str = "<record><id>1</id><time>1</time><duration>0</duration><src_comp>C1</src_comp>\
    <src_port>1</src_port><dst_comp>C2</dst_comp><dst_port>2</dst_port><protocol>6</protocol>\
    <packet_count>1</packet_count><byte_count>1</byte_count></record>";
const LINE: &str = r#"{"id":1,"time":1,"duration":0,"src_comp":"C1","src_port":"1","dst_comp":"C2","dst_port":"2","protocol":6,"packet_count":1,"byte_count":1}"#;

/// Source and warehouse in good health; what disturbs them comes between.
struct Ground {
    context: TestContext,
    source: Running,
    storage: Running,
    bigquery: Running,
    compare: Mutex<Compare>,
}

/// Where one run finds everything, and the names of its own.
struct Route<'a> {
    name: &'a str,
    source_url: &'a str,
    storage_url: &'a str,
    bigquery_url: &'a str,
    attempts: u32,
}

impl Ground {
    fn new() -> Self {
        let context = TestContext::new();
        let source = context.source(&["--rows", "600", "--days", "2", "--duplicates", "0.03", "--seed", "7"]);
        let folder = |name: &str| context.path(name).to_str().expect("UTF-8").to_owned();
        let storage = context.server(&["emulator", "--data-dir", &folder("gcs")]);
        let beside = [("STORAGE_EMULATOR_HOST", &*storage.url)];
        let bigquery = context.server_with(&["emulator", "--data-dir", &folder("bq")], &beside);
        let compare = Mutex::new(Compare::with(&source.url, 2));
        Ground { context, source, storage, bigquery, compare }
    }

    fn route<'a>(&'a self, name: &'a str, attempts: u32) -> Route<'a> {
        let (storage_url, bigquery_url) = (&self.storage.url, &self.bigquery.url);
        Route { name, source_url: &self.source.url, storage_url, bigquery_url, attempts }
    }

    /// Two days, one after the other, into a dataset and a stage of its own. The source keeps its identity however
    /// it is reached, so that the same run goes on.
    fn backfill(&self, route: &Route<'_>, more: &[&str]) -> Ended {
        let set = [
            format!("source.url={}/api/v1/stream/flows", route.source_url),
            "source.identity=the same".to_owned(),
            format!("stage.url=gs://bucket/{}", route.name),
            format!("warehouse.dataset={}", route.name),
            format!("limits.attempts={}", route.attempts),
        ];
        let mut command =
            self.context.command(["backfill", "flows", "--from", "1", "--to", "2", "--jobs", "1"]);
        command.args(set.iter().flat_map(|pair| ["--set", pair])).args(["-q", "--summary-json"]);
        command.arg(self.context.path(&format!("{}.json", route.name))).args(more);
        command
            .env("STORAGE_EMULATOR_HOST", route.storage_url)
            .env("BIGQUERY_EMULATOR_HOST", route.bigquery_url);
        command.env("API2BQ_LIMITS_RETRY_FIRST_WAIT_MS", "20").output().expect("it runs").into()
    }

    /// The days that the receipt of the last run of a name lists as failed or not tried.
    fn missing(&self, name: &str) -> Vec<u64> {
        let text = std::fs::read_to_string(self.context.path(&format!("{name}.json"))).expect("a summary");
        let receipt: Value = serde_json::from_str(&text).expect("JSON");
        let list = |member: &str| receipt[member].as_array().expect("a list").clone();
        let failed = list("failed").into_iter().map(|failed| failed["window"].clone());
        let windows = failed.chain(list("not_tried"));
        windows.map(|window| window["before"].as_u64().expect("a number") / 86_400).collect()
    }

    #[track_caller]
    fn completes_undisturbed(&self, name: &str) {
        let again = self.backfill(&self.route(name, 1), &[]);
        assert_eq!(again.code, 0, "{name}: {again:?}");
        self.compare.lock().expect("no panic before").staging(&self.bigquery.url, name);
    }
}

fn acts() -> [(&'static str, Act); 7] {
    [
        ("reset", Act::Reset),
        ("cut_request", Act::CutRequest(60)),
        ("lose_answer", Act::LoseAnswer),
        ("reset_answer", Act::ResetAnswer),
        ("cut_answer", Act::CutAnswer(50)),
        ("cut_last", Act::CutAnswer(99)),
        ("bad_gateway", bad_gateway()),
    ]
}

/// A proxy that does `act` to request `number` and lets all others pass.
fn disturb(upstream: &str, number: usize, act: Act) -> Proxy {
    Proxy::start(upstream, move |n, _| if n == number { act.clone() } else { Act::Pass })
}

/// Every byte of a small body, as one chunk and as many, XML and lines. The last byte of the framing is
/// all that makes a body whole; `Content-Length` bodies have no such byte but the last of the document.
#[test]
fn a_body_that_is_cut_at_any_byte_is_never_taken_for_a_short_one() {
    let xml = format!("<records>{RECORD}</records>");
    let head = |kind: &str, framing: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\nConnection: close\r\n\r\n")
    };
    let chunked = |body: &str, step: usize| {
        let chunks = body
            .as_bytes()
            .chunks(step)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).expect("ASCII")));
        format!("{}0\r\n\r\n", chunks.collect::<String>())
    };
    let length = |body: &str| format!("Content-Length: {}", body.len());
    let lines = format!("{LINE}\n");
    let (xml_type, line_type) = ("application/xml", "application/x-ndjson");
    let chunks = "Transfer-Encoding: chunked";
    let bodies = [
        (head(xml_type, &length(&xml)), xml.clone()),
        (head(xml_type, chunks), chunked(&xml, 100)),
        (head(line_type, &length(&lines)), lines.clone()),
        (head(line_type, chunks), chunked(&lines, 60)),
    ];
    // `/<body>/<cut>`; the answer is cut there, however often it is asked for.
    let answers: Vec<Vec<u8>> =
        bodies.iter().map(|(head, body)| format!("{head}{body}").into_bytes()).collect();
    let served = answers.clone();
    let source = Proxy::alone(move |_, line| {
        let mut path = line.split(['/', '?']).skip(1).map(|part| part.parse::<usize>().expect("a number"));
        let (body, cut) = (path.next().expect("a body"), path.next().expect("a cut"));
        Act::Instead(served[body][..cut].to_vec())
    });
    let context = TestContext::new();
    let run = |body: usize, cut: usize| {
        let url = format!("source.url={}/{body}/{cut}", source.url);
        let stage = context.path(&format!("stage-{body}-{cut}"));
        let set = [url, format!("stage.url={}", stage.display()), "limits.attempts=1".to_owned()];
        let arguments = ["backfill", "flows", "--from", "1", "--to", "1", "--until", "stage", "-q"];
        let mut command = context.command(arguments);
        for pair in set {
            command.args(["--set", &pair]);
        }
        let ended: Ended = command.output().expect("it runs").into();
        (ended, context.staged(&format!("stage-{body}-{cut}")))
    };
    let mut cases = Vec::new();
    let mut whole = Vec::new();
    for (body, answer) in answers.iter().enumerate() {
        let (ended, staged) = run(body, answer.len());
        assert_eq!((ended.code, staged.len()), (0, 1), "{ended:?}");
        whole.push(staged);
        let head = bodies[body].0.len();
        // In the head a few places are enough: hyper reads it whole or not at all.
        cases.extend([0, 1, head / 2, head - 1].map(|cut| (body, cut)));
        cases.extend((head..answer.len()).map(|cut| (body, cut)));
    }
    let before = source.seen().len();
    at_once(&cases, |_, (body, cut)| {
        let (ended, staged) = run(*body, *cut);
        assert_eq!(ended.code, 3, "body {body} cut at {cut}: {ended:?}");
        assert!(ended.stderr.contains("day 1") && ended.stderr.contains("resume with"), "{}", ended.stderr);
        assert!(staged.is_empty(), "body {body} cut at {cut}: {staged:?}");
    });
    assert_eq!(source.seen().len() - before, cases.len(), "one attempt each");
    // All four say the same, so they stage the same.
    assert!(whole.iter().all(|staged| *staged == whole[0]), "{whole:?}");
}

/// One call of one run at a time: first with attempts to spare, then without.
fn every_call_disturbed(
    ground: &Ground,
    kind: &str,
    upstream: &str,
    through: impl for<'a> Fn(&mut Route<'a>, &'a str) + Sync,
    day_of: impl Fn(&[String], usize) -> Option<u64> + Sync,
) {
    let calm = Proxy::start(upstream, |_, _| Act::Pass);
    let name = format!("{kind}_calm");
    let mut route = ground.route(&name, 1);
    through(&mut route, &calm.url);
    let ended = ground.backfill(&route, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let calls = calm.seen();
    assert!(!calls.is_empty());
    let mut cases = Vec::new();
    for number in 0..calls.len() {
        for (what, act) in acts() {
            cases.extend([1, 3].map(|attempts| (number, what, act.clone(), attempts)));
        }
    }
    at_once(&cases, |_, (number, what, act, attempts)| {
        let name = format!("{kind}_{number}_{what}_{attempts}");
        let case = format!("{name}: {}", calls[*number]);
        let proxy = disturb(upstream, *number, act.clone());
        let mut route = ground.route(&name, *attempts);
        through(&mut route, &proxy.url);
        let ended = ground.backfill(&route, &[]);
        // At most: the call again, what was lost looked for, and the other polls of jobs that take longer.
        let seen = proxy.seen();
        assert!(seen.len() <= calls.len() + 12, "{case}: {} requests: {seen:#?}", seen.len());
        match (ended.code, day_of(&seen, *number)) {
            (0, _) => {}
            (3, day) => {
                let missing = ground.missing(&name);
                assert!(day.is_none_or(|day| missing == [day]), "{case}: {missing:?}: {}", ended.stderr);
                assert!(!missing.is_empty() && ended.stderr.contains("resume with"), "{case}: {ended:?}");
                assert_eq!(*attempts, 1, "{case}: {ended:?}");
            }
            _ => panic!("{case}: {ended:?}"),
        }
        ground.completes_undisturbed(&name);
    });
}

#[test]
fn every_call_of_bigquery_may_be_cut_reset_or_lose_its_answer() {
    let ground = Ground::new();
    // The first load job is day 1's; what comes before it makes dataset and table.
    let day_of = |calls: &[String], number: usize| {
        let inserts =
            calls.iter().take(number + 1).filter(|call| call.starts_with("POST") && call.ends_with("/jobs"));
        Some(inserts.count() as u64).filter(|day| *day > 0)
    };
    every_call_disturbed(
        &ground,
        "bigquery",
        &ground.bigquery.url,
        |route, url| route.bigquery_url = url,
        day_of,
    );
}

#[test]
fn every_call_of_the_store_may_be_cut_reset_or_lose_its_answer() {
    let ground = Ground::new();
    let day_of = |calls: &[String], number: usize| {
        let call = calls.get(number).map_or("", String::as_str);
        let day = |seconds: &str| call.contains(&format!("w%2F{seconds}"));
        [("0000000000", 1), ("0000086400", 2)].into_iter().find(|(key, _)| day(key)).map(|(_, day)| day)
    };
    every_call_disturbed(&ground, "store", &ground.storage.url, |route, url| route.storage_url = url, day_of);
}

#[test]
fn every_call_of_the_source_may_be_cut_reset_or_lose_its_answer() {
    let ground = Ground::new();
    let day_of = |_: &[String], number: usize| Some(number as u64 + 1);
    every_call_disturbed(&ground, "source", &ground.source.url, |route, url| route.source_url = url, day_of);
}

#[test]
fn slow_answers_are_waited_for_and_dead_ones_are_given_up() {
    let ground = Ground::new();
    let slow = |upstream: &str| Proxy::start(upstream, |_, _| Act::Delay(Duration::from_millis(150)));
    let (source, storage, bigquery) =
        (slow(&ground.source.url), slow(&ground.storage.url), slow(&ground.bigquery.url));
    let mut route = ground.route("slow", 1);
    (route.source_url, route.storage_url, route.bigquery_url) = (&source.url, &storage.url, &bigquery.url);
    let ended = ground.backfill(&route, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    ground.compare.lock().expect("no panic before").staging(&ground.bigquery.url, "slow");

    let dead = Proxy::start(&ground.source.url, |n, _| match n {
        0 => Act::Delay(Duration::from_secs(3600)),
        _ => Act::Pass,
    });
    let mut route = ground.route("dead", 1);
    route.source_url = &dead.url;
    let ended = ground.backfill(&route, &["--set", "source.headers_timeout_seconds=1"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert_eq!(ground.missing("dead"), [1]);
    assert!(ended.stderr.contains("sent no answer in 1 s"), "{}", ended.stderr);
    ground.completes_undisturbed("dead");
}

/// Everything at once, by a seed. `API2BQ_CHAOS` rounds, `API2BQ_SEED` to see one again.
#[test]
fn chaos_on_every_side_ends_and_the_next_calm_run_completes() {
    let ground = Ground::new();
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let (rounds, seed) = (number("API2BQ_CHAOS").unwrap_or(12), number("API2BQ_SEED").unwrap_or(20261121));
    println!("{rounds} rounds, API2BQ_SEED={seed}");
    let ends = Mutex::new(std::collections::BTreeMap::<i32, usize>::new());
    let numbers: Vec<u64> = (0..rounds).collect();
    at_once(&numbers, |_, round| {
        // Which call is hit how follows from the seed alone, whatever the order of the calls is.
        let chaos = |upstream: &str, salt: u64| {
            let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed ^ (round * 3 + salt) << 20)));
            Proxy::start(upstream, move |_, _| {
                let mut random = random.lock().expect("no panic");
                let acts = acts();
                match random.u32(..100) {
                    0..20 => acts[random.usize(..acts.len())].1.clone(),
                    20..30 => Act::Delay(Duration::from_millis(random.u64(..50))),
                    _ => Act::Pass,
                }
            })
        };
        let source = chaos(&ground.source.url, 0);
        let storage = chaos(&ground.storage.url, 1);
        let bigquery = chaos(&ground.bigquery.url, 2);
        let name = format!("chaos_{round}");
        let mut route = ground.route(&name, 3);
        (route.source_url, route.storage_url, route.bigquery_url) =
            (&source.url, &storage.url, &bigquery.url);
        let ended = ground.backfill(&route, &[]);
        let steps = [&source, &storage, &bigquery].map(|proxy| proxy.seen().len());
        assert!(steps.iter().sum::<usize>() < 200, "round {round}: {steps:?}");
        match ended.code {
            0 => {}
            3 => {
                let missing = ground.missing(&name);
                assert!(
                    !missing.is_empty() && ended.stderr.contains("resume with"),
                    "round {round}: {ended:?}"
                );
            }
            _ => panic!("round {round}: {ended:?}"),
        }
        *ends.lock().expect("no panic").entry(ended.code).or_default() += 1;
        ground.completes_undisturbed(&name);
    });
    println!("exit codes of the disturbed runs: {}", json!(*ends.lock().expect("no panic")));
}
