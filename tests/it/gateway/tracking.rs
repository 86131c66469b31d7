//! What became of requests: asked for over HTTP, by the command, and after kills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use api2bq::gateway::auth::hash_password;
use api2bq::gateway::track::Options;
use serde_json::{Value, json};

use super::loads::{Site, row};
use super::{Answer, Gateway, Settings, ann, authorization};
use crate::context::Ended;

fn settings(trace: bool) -> Settings {
    let user = |name: &str| format!("{name}:{}\n", hash_password(b"secret").expect("a hash"));
    let keep = Duration::from_secs(7 * 86_400);
    let fields = vec!["WH_ID".to_owned(), "Item_id".to_owned()];
    let track = Some(Options { fields, trace, keep, operators: vec!["ann".into()] });
    Settings { users: user("ann") + &user("bob"), track, ..Settings::default() }
}

async fn find(gateway: &Gateway, user: &str, query: &str) -> Answer {
    let headers = authorization(&format!("{user}:secret"));
    gateway.send(&format!("GET /track?{query}"), &headers, b"").await
}

fn instances(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["instances"].as_array().expect("a list").clone()
}

fn ids(instances: &[Value]) -> Vec<String> {
    instances.iter().map(|instance| instance["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_found_by_what_is_in_them_as_they_go_from_state_to_state() {
    let mut gateway = Gateway::start_with(settings(false)).await;
    let body =
        json!([{"WH_ID": "WH1", "Item_id": "15.0"}, {"WH_ID": "WH2"}, {"WH_ID": "WH3", "Item_id": "x"}]);
    let taken = gateway.post("", body.to_string()).await;
    let id = taken.json()["id"].clone();
    let found = instances(&find(&gateway, "ann", "value=WH2").await);
    let expected = json!([{
        "id": id, "time": found[0]["time"], "user": "ann", "state": "accepted", "accepted": 2, "rejected": 1,
        "identifiers": [
            {"field": "WH_ID", "values": ["WH2", "WH1", "WH3"]},
            {"field": "Item_id", "values": ["15", "x"]},
        ],
        "rejects": [{"index": 2, "field": "Item_id", "reason": "type_mismatch"}],
        "table": "p.d.t",
    }]);
    assert_eq!(Value::from(found), expected);
    // As the table shows it, of a rejected row as it was sent, and of no part of a value.
    for (query, times) in [
        ("field=Item_id&value=15", 1),
        ("field=Item_id&value=x", 1),
        ("value=WH", 0),
        ("value=15", 0),
        ("value=WH3&state=accepted&since=1h", 1),
        ("value=WH3&state=sealed", 0),
        (&format!("id={}", id.as_str().expect("an id")), 1),
    ] {
        assert_eq!(instances(&find(&gateway, "ann", query).await).len(), times, "{query}");
    }
    gateway.spool.as_ref().expect("started").seal().await.expect("sealed");
    let more = gateway.post("", r#"{"WH_ID":"WH1"}"#).await.json()["id"].clone();
    let states = |found: &[Value]| {
        found.iter().map(|i| (i["id"].clone(), i["state"].as_str().expect("a word").to_owned())).collect()
    };
    let after: Vec<(Value, String)> = states(&instances(&find(&gateway, "ann", "value=WH1").await));
    assert_eq!(after, [(more.clone(), "accepted".into()), (id.clone(), "sealed".into())], "the newest first");
    gateway.restart().await;
    let after: Vec<(Value, String)> = states(&instances(&find(&gateway, "ann", "value=WH1").await));
    assert_eq!(after, [(more, "sealed".into()), (id, "sealed".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_nothing_was_taken_of_are_found_too_also_by_the_next_process() {
    let mut gateway = Gateway::start_with(settings(false)).await;
    let unfit = gateway.post("", r#"[{"WH_ID":"WH7","Item_id":"many"},7]"#).await;
    assert_eq!(unfit.problem(), "422 no_row_fits");
    let broken = gateway.post("", "{\n  \"WH_ID\": \u{201c}WH1\u{201d}\n}").await;
    assert_eq!(broken.problem(), "400 json_syntax");
    for _ in 0..2 {
        let found = instances(&find(&gateway, "ann", "value=WH7").await);
        assert_eq!((found.len(), &found[0]["state"]), (1, &json!("rejected")));
        assert_eq!((&found[0]["accepted"], &found[0]["rejected"]), (&json!(0), &json!(2)));
        assert_eq!(found[0]["id"], unfit.json()["error"]["id"], "its sender was told");
        let reason = "no_row_fits: none of the 2 rows fits the columns; nothing was stored";
        assert_eq!(found[0]["reason"], reason);
        let found = instances(&find(&gateway, "ann", "state=rejected").await);
        assert_eq!(ids(&found)[0], broken.json()["error"]["id"]);
        let reason = found[0]["reason"].as_str().expect("a text");
        assert!(reason.starts_with("json_syntax: line 2, column 12: "), "{reason}");
        gateway.restart().await;
    }
    let many = gateway.post("", format!("[{{\"WH_ID\":\"WH8\"}}{}]", ",1".repeat(10_001))).await;
    assert_eq!(many.problem(), "422 too_many_rejected");
    let found = instances(&find(&gateway, "ann", "value=WH8").await);
    assert_eq!((&found[0]["accepted"], &found[0]["rejected"]), (&json!(0), &json!(10_002)));
    assert_eq!(found[0]["rejects"].as_array().map(Vec::len), Some(20));
    // They are no rows: nothing of them is in the spool.
    assert_eq!(gateway.letters().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_every_request_once_the_newest_first_while_more_come() {
    let gateway = Gateway::start_with(settings(false)).await;
    let mut sent = Vec::new();
    for n in 0..25 {
        let row = json!({ "WH_ID": format!("WH{}", n % 2) }).to_string();
        let taken = gateway.post("", row).await.json()["id"].as_str().expect("an id").to_owned();
        sent.push(taken);
        if n % 10 == 4 {
            gateway.spool.as_ref().expect("started").seal().await.expect("sealed");
        }
    }
    sent.sort_unstable_by(|a, b| b.cmp(a));
    let (mut found, mut cursor, mut sizes) = (Vec::new(), String::new(), Vec::new());
    loop {
        let answer = find(&gateway, "ann", &format!("limit=10{cursor}")).await;
        let page = ids(&instances(&answer));
        sizes.push(page.len());
        found.extend(page);
        assert_eq!(gateway.post("", r#"{"WH_ID":"late"}"#).await.status, 200);
        let Some(next) = answer.json()["next"].as_str().map(str::to_owned) else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((found, sizes), (sent, vec![10, 10, 5]));
    assert_eq!(instances(&find(&gateway, "ann", "value=WH1&limit=1000").await).len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_what_that_user_sent_and_an_operator_sees_all() {
    let gateway = Gateway::start_with(settings(false)).await;
    let bob = authorization("bob:secret");
    for headers in [ann(), bob] {
        for body in [&br#"{"WH_ID":"WH1"}"#[..], b"[7]"] {
            gateway.send("POST /v1/inventory", &headers, body).await;
        }
    }
    let users = |found: Vec<Value>| found.iter().map(|i| i["user"].to_string()).collect::<BTreeSet<_>>();
    let of_bob = instances(&find(&gateway, "bob", "").await);
    assert_eq!((of_bob.len(), users(of_bob)), (2, BTreeSet::from(["\"bob\"".to_owned()])));
    let of_all = instances(&find(&gateway, "ann", "").await);
    assert_eq!((of_all.len(), users(of_all).len()), (4, 2));
    for headers in ["", "Authorization: Basic eA==\r\n", &authorization("ann:wrong")] {
        let answer = gateway.send("GET /track?value=WH1", headers, b"").await;
        assert_eq!(answer.problem(), "401 unauthorized");
    }
    let untracked = Gateway::start().await;
    assert_eq!(untracked.send("GET /track", &ann(), b"").await.problem(), "404 not_tracked");
    assert_eq!(untracked.send("GET /track", "", b"").await.problem(), "401 unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_named_and_the_document_names_the_right_ones() {
    let gateway = Gateway::start_with(settings(false)).await;
    for (query, parameter) in [
        ("valeu=WH1", "valeu"),
        ("field=WH_ID", "value"),
        ("field=Backlog&value=1", "field"),
        ("state=lost", "state"),
        ("since=1y", "since"),
        ("limit=1e3", "limit"),
        ("cursor=019", "cursor"),
        ("payload=true", "payload"),
    ] {
        let answer = find(&gateway, "ann", query).await;
        assert_eq!(answer.problem(), "400 bad_parameter", "{query}");
        assert_eq!(answer.json()["error"]["parameter"], parameter, "{answer:?}");
    }
    let document = gateway.send("GET /openapi.json", "", b"").await.json();
    let parameters = document["paths"]["/track"]["get"]["parameters"].as_array().expect("a list");
    let names: Vec<_> =
        parameters.iter().map(|parameter| parameter["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["field", "value", "id", "state", "since", "limit", "cursor", "payload"]);
    assert_eq!(document["components"]["schemas"]["Instance"]["required"][0], "id");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_shown_only_where_they_are_kept_and_asked_for() {
    let mut gateway = Gateway::start_with(settings(true)).await;
    let body = r#"{"WH_ID":"WH1","secret":"s3"}"#;
    assert_eq!(gateway.post("", body).await.status, 200);
    assert_eq!(gateway.post("Content-Type: application/x-ndjson\r\n", b"\"\xff\"\n").await.status, 422);
    for _ in 0..2 {
        let found = instances(&find(&gateway, "ann", "payload=true").await);
        assert_eq!((&found[1]["payload"], &found[0]["payload_base64"]), (&json!(body), &json!("Iv8iCg==")));
        assert!(!find(&gateway, "ann", "").await.body.contains("s3"));
        gateway.restart().await;
    }
}

fn page(site: &Site, query: &str) -> Option<Value> {
    site.ask(&format!("GET /track?{query}"), &ann(), "")
        .filter(|answer| answer.status == 200 && answer.body.ends_with('}'))
        .map(|a| a.json())
}

/// Asks until the one request that is found is in this state.
#[track_caller]
fn wait_for(site: &Site, query: &str, state: &str) -> Value {
    let started = Instant::now();
    loop {
        let found = page(site, query).map(|page| page["instances"].clone());
        match &found {
            Some(found) if found[0]["state"] == state => {
                assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
                return found[0].clone();
            }
            _ => {}
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{found:?}; {}", site.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_request_is_followed_until_it_is_loaded_and_found_after_a_kill_and_a_stop() {
    let site = Site::with(&["--load-every", "1s", "--track", "WH_ID,Item_id", "--trace"]);
    site.warehouse.lock().expect("no panic").kill();
    let gateway = site.gateway();
    assert!(site.said().contains("bodies of requests are kept, and may hold secrets"), "{}", site.said());
    let taken = site.post("", &row("a")).expect("an answer").json();
    let accepted = wait_for(&site, "value=a", "accepted");
    assert_eq!(accepted["id"], taken["id"]);
    // The next process writes to a segment of its own.
    assert!(gateway.kill_after(Duration::ZERO));
    let gateway = site.gateway();
    assert_eq!(wait_for(&site, "value=a", "sealed")["id"], taken["id"]);
    site.warehouse.lock().expect("no panic").restart(&site.context);
    let loaded = wait_for(&site, "value=a&payload=true", "loaded");
    assert!(loaded["job_id"].as_str().is_some_and(|id| id.starts_with("api2bq_")), "{loaded}");
    assert_eq!((&loaded["table"], &loaded["payload"]), (&json!("api2gbq.DataLoad.OIC"), &json!(row("a"))));
    assert!(gateway.kill_after(Duration::ZERO));
    let gateway = site.gateway();
    assert_eq!(wait_for(&site, "value=a&payload=true", "loaded"), loaded);
    let stage = format!("stage.url={}", site.context.path("stage").display());
    let of_folder = ["track", "inventory", "a", "--spool", "spool", "--set", &stage, "--format", "json"];
    let beside = site.context.run(of_folder).success();
    let url = format!("http://127.0.0.1:{}", site.port);
    let asks = ["track", "inventory", "a", "--url", &url, "--user", "ann", "--format", "json"];
    let mut asked = site.context.command(asks);
    let asked =
        Ended::from(asked.env("API2BQ_GATEWAY_PASSWORD", "secret").output().expect("it runs")).success();
    let instances =
        |ended: &Ended| serde_json::from_str::<Value>(&ended.stdout).expect("JSON")["instances"].clone();
    assert_eq!(instances(&asked), instances(&beside));
    let wrong = site.context.command(asks).env("API2BQ_GATEWAY_PASSWORD", "x").output().expect("it runs");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let mut no_such = site.context.command(asks.iter().chain(&["--field", "Color"]));
    let no_such = Ended::from(no_such.env("API2BQ_GATEWAY_PASSWORD", "secret").output().expect("it runs"));
    assert!(no_such.code == 2 && no_such.stderr.contains("answered 400: "), "{no_such:?}");
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
    let stopped = site.context.run(of_folder).success();
    assert_eq!(beside.stdout, stopped.stdout);
    let answer: Value = serde_json::from_str(&stopped.stdout).expect("JSON");
    assert_eq!(
        (&answer["instances"][0]["id"], &answer["instances"][0]["state"]),
        (&taken["id"], &json!("loaded"))
    );
}

#[test]
fn a_load_that_bigquery_refuses_shows_its_reason_until_it_is_mended() {
    let site = Site::with(&["--load-every", "1s", "--track", "WH_ID"]);
    site.warehouse
        .lock()
        .expect("no panic")
        .restart_with(&site.context, &["--fault", "fail-job=quotaExceeded:3"]);
    let gateway = site.gateway();
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    let failed = wait_for(&site, "value=a", "failed");
    // What BigQuery says may have a value of somebody else's row in it.
    let of_batch = "quotaExceeded: the load job of this request's batch failed; an operator sees why";
    assert_eq!(failed["reason"], of_batch);
    let stage = format!("stage.url={}", site.context.path("stage").display());
    let of_folder = ["track", "inventory", "a", "--spool", "spool", "--set", &stage, "--format", "json"];
    let whole: Value = serde_json::from_str(&site.context.run(of_folder).success().stdout).expect("JSON");
    let whole = whole["instances"][0]["reason"].as_str().expect("a reason").to_owned();
    assert!(whole.starts_with("quotaExceeded: ") && whole != of_batch, "{whole}");
    // The next process knows it from the journal, before it has tried itself.
    assert!(gateway.kill_after(Duration::ZERO));
    site.warehouse.lock().expect("no panic").kill();
    let _gateway = site.gateway();
    let again = wait_for(&site, "value=a", "failed");
    assert_eq!(again["reason"], failed["reason"]);
    site.warehouse.lock().expect("no panic").restart(&site.context);
    let loaded = wait_for(&site, "value=a", "loaded");
    assert_eq!(loaded["reason"], Value::Null);
    assert_ne!(loaded["job_id"], failed["job_id"], "a failed job's id is burnt");
}

#[test]
fn what_was_streamed_is_loaded_and_what_bigquery_refused_of_it_has_its_reason() {
    let site = Site::with(&["--out", "stream", "--load-every", "200ms", "--track", "WH_ID"]);
    site.make_table();
    let _gateway = site.gateway();
    for body in [r#"[{"WH_ID":"a"},{"WH_ID":"too long"}]"#, r#"{"WH_ID":"also too long"}"#] {
        assert_eq!(site.post("", body).expect("an answer").status, 200);
    }
    let partly = wait_for(&site, "value=a", "loaded");
    assert_eq!((&partly["accepted"], &partly["rejects"][0]["index"]), (&json!(2), &json!(1)), "{partly}");
    assert_eq!(partly["reason"], "invalid: BigQuery refused 1 of 2 rows");
    assert_eq!((&partly["table"], &partly["job_id"]), (&json!("api2gbq.DataLoad.OIC"), &Value::Null));
    let none = wait_for(&site, "value=also+too+long", "failed");
    assert_eq!(none["reason"], "invalid: BigQuery refused 1 of 1 rows");
    let status = site.run("status", &[]).success().stdout;
    assert!(status.contains("loaded with 1 row; 2 rows refused"), "{status}");
    let verified = site.run("verify", &[]).success().stdout;
    assert!(
        verified.contains("not asked   `api2gbq.DataLoad.OIC`, to which rows were streamed\n"),
        "{verified}"
    );
    let swept = site.run("gc", &["--min-age", "0s"]).success().stdout;
    assert!(swept.contains("0 leftovers removed"), "{swept}");
}

#[test]
fn no_request_is_lost_from_sight_by_kills_nor_seen_twice() {
    const KILLS: u32 = 8;
    let site = Site::with(&["--load-every", "1s", "--track", "WH_ID"]);
    let acknowledged = Mutex::new(BTreeMap::new());
    let over = AtomicBool::new(false);
    let looked = std::thread::scope(|scope| {
        let (site, acknowledged, over) = (&site, &acknowledged, &over);
        for client in 0..2 {
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let name = format!("{client}-{number}");
                    match site.post("", &row(&name)).filter(|answer| answer.status == 200) {
                        Some(answer) => {
                            let id = answer.json()["id"].as_str().expect("an id").to_owned();
                            acknowledged.lock().expect("no panic").insert(id, name);
                        }
                        None => std::thread::sleep(Duration::from_millis(20)),
                    }
                }
            });
        }
        // Whatever state it is in, it is in one.
        let looking = scope.spawn(move || {
            let mut looked = 0;
            while !over.load(Ordering::SeqCst) {
                let known: Vec<(String, String)> =
                    acknowledged.lock().expect("no panic").clone().into_iter().collect();
                if let Some((id, name)) = fastrand::choice(&known)
                    && let Some(page) = page(site, &format!("value={name}"))
                {
                    let found = page["instances"].as_array().expect("a list");
                    assert_eq!(ids(found), std::slice::from_ref(id), "{page}; {}", site.said());
                    looked += 1;
                }
            }
            looked
        });
        for _ in 0..KILLS {
            let gateway = site.gateway();
            assert!(gateway.kill_after(Duration::from_millis(fastrand::u64(300..1800))));
        }
        over.store(true, Ordering::SeqCst);
        looking.join().expect("no request was out of sight")
    });
    assert!(looked > 20, "only {looked} looks");
    let acknowledged = acknowledged.into_inner().expect("no panic");
    let _gateway = site.gateway();
    let last = site.post("", &row("last")).expect("an answer").json()["id"].clone();
    wait_for(&site, "value=last", "loaded");
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = page(&site, &format!("limit=100{cursor}")).expect("a page");
        let instances = page["instances"].as_array().expect("a list");
        assert!(instances.iter().all(|instance| instance["state"] == "loaded"), "{page}");
        found.extend(ids(instances));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found[0], last.as_str().expect("an id"));
    let distinct: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(distinct.len(), found.len(), "none twice");
    let lost: Vec<_> = acknowledged.keys().filter(|id| !distinct.contains(*id)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}
