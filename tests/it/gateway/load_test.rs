//! `api2bq load-test`: that it counts what it should, also against servers that stand still or refuse.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use api2bq::gateway::client::{Access, Password};
use api2bq::gateway::load_test::{self, Options, Report};
use api2bq::gateway::spool;
use api2bq::serve::Server;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::loads::Site;
use super::{Gateway, Settings};
use crate::context::Ended;

fn options(url: &str) -> Options {
    Options {
        pipeline: "inventory".into(),
        access: Access {
            url: url.parse().expect("a URL"),
            user: "ann".into(),
            password: Password("secret".into()),
        },
        rate: 100,
        seconds: 2,
        rows_per_request: 1,
        connections: 8,
        seed: 1,
        spool: None,
    }
}

async fn run(options: &Options) -> Report {
    load_test::run(options, std::future::pending(), |_| {}).await.expect("a report")
}

/// A server that answers request number n as it is told to.
async fn server<F, A>(answer: F) -> Server
where
    F: Fn(u64) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = axum::response::Response> + Send,
{
    let fields = json!([{"name": "WH_ID", "type": "STRING"}]);
    let metadata = json!({"pipeline": "inventory", "fields": fields});
    let number = Arc::new(AtomicU64::new(0));
    let router = Router::new()
        .route("/v1/inventory/metadata", get(async move || Json(metadata)))
        .route("/v1/inventory", post(async move || answer(number.fetch_add(1, Ordering::SeqCst)).await));
    Server::start("127.0.0.1:0".parse().expect("an address"), router).await.expect("it listens")
}

fn submitted() -> axum::response::Response {
    Json(json!({"response": "Submitted", "accepted": 1, "rejected": [], "id": "1"})).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_in_which_the_server_stands_still_is_a_second_for_all_who_were_due_in_it() {
    let start = Instant::now();
    let stands_still = Duration::from_millis(500)..Duration::from_millis(1500);
    let server = server(move |_| {
        let stands_still = stands_still.clone();
        async move {
            let since = start.elapsed();
            if stands_still.contains(&since) {
                tokio::time::sleep(stands_still.end - since).await;
            }
            submitted()
        }
    })
    .await;
    let report = run(&options(&server.url())).await;
    assert_eq!((report.requests_accepted, &report.failures), (200, &[].into()));
    assert!(report.verdict().is_ok());
    // About half of all requests were due while it stood, 10 ms after one another, though only eight
    // connections could wait in it: a sender in a closed loop would have seen eight that took long.
    assert!((700.0..1500.0).contains(&report.latency.p90), "{report:?}");
    assert!(
        report.latency.p50 < report.latency.p90 && report.latency.max >= report.latency.p999,
        "{report:?}"
    );
    assert!(report.sent_after.p90 > 500.0, "they waited for a connection: {report:?}");
    assert!(report.warnings().iter().any(|w| w.contains("waited for a free connection")), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_is_counted_under_its_name() {
    let full = json!({"error": {"status": 503, "reason": "spool_full", "message": "full"}});
    let server = server(move |number| {
        let full = full.clone();
        async move {
            match number {
                0..3 => (StatusCode::SERVICE_UNAVAILABLE, Json(full)).into_response(),
                3 => (StatusCode::BAD_GATEWAY, "a proxy's page").into_response(),
                4 => "no JSON".into_response(),
                5 => {
                    let mut response = submitted();
                    response.extensions_mut().insert(api2bq::serve::HangUp);
                    response
                }
                _ => submitted(),
            }
        }
    })
    .await;
    let report = run(&options(&server.url())).await;
    let failures: Vec<(&str, u64)> = report.failures.iter().map(|(what, n)| (&**what, *n)).collect();
    let expected = [("502", 1), ("503 spool_full", 3), ("connection lost", 1), ("not understood", 1)];
    assert_eq!(failures, expected);
    assert_eq!((report.requests_accepted, report.rows_accepted), (194, 194));
    let verdict = report.verdict().expect_err("failed").to_string();
    assert!(verdict.starts_with("6 of 200 requests failed: 3 x 503 spool_full, 1 x "), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_that_of_the_whole_test_also_when_its_end_fails() {
    let server = server(async |number| match number {
        0..50 => submitted(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    })
    .await;
    let report = run(&options(&server.url())).await;
    assert_eq!(report.requests_accepted, 50);
    assert!(report.seconds > 1.9 && report.requests_per_second < 27.0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_gateway_fails_the_test_and_has_what_it_accepted() {
    let settings = Settings {
        spool: spool::Options { disk_bytes_max: 20_000, segment_bytes: 5000 },
        ..Settings::default()
    };
    let gateway = Gateway::start_with(settings).await;
    let report = run(&options(&format!("http://{}", gateway.addr))).await;
    let refused = report.failures.get("503 spool_full").copied().unwrap_or_default();
    assert_eq!(report.requests_accepted + refused, 200, "{report:?}");
    assert!(refused > 0 && report.requests_accepted > 10, "{report:?}");
    assert!(report.verdict().is_err());
    assert_eq!(gateway.letters().await.len() as u64, report.requests_accepted);
}

fn load_test(site: &Site, more: &[&str]) -> Command {
    let url = format!("http://127.0.0.1:{}", site.port);
    let mut command = site.context.command(["load-test", "inventory", "--user", "ann"]);
    // A flag given twice is an error, so that the test's own URL comes last, if at all.
    if !more.contains(&"--url") {
        command.args(["--url", &url]);
    }
    command.args(more).env("API2BQ_GATEWAY_PASSWORD", "secret");
    command
}

#[test]
fn what_the_command_says_was_accepted_is_in_the_table() {
    let site = Site::new();
    let _gateway = site.gateway();
    let more =
        ["--rate", "50", "--seconds", "2", "--rows-per-request", "20", "--spool", ".", "--format", "json"];
    let ended: Ended = load_test(&site, &more).output().expect("it runs").into();
    let report: Value = serde_json::from_str(&ended.success().stdout).expect("JSON");
    let counts =
        ["requests", "requests_accepted", "rows_accepted", "rows_rejected"].map(|name| &report[name]);
    assert_eq!(counts, [&json!(100), &json!(100), &json!(2000), &json!(0)], "{report}");
    assert!(report["disk"]["latency"]["p99"].as_f64() > Some(0.0), "{report}");
    assert!(report["latency"]["p50"].as_f64() <= report["latency"]["p99.9"].as_f64(), "{report}");
    let started = Instant::now();
    loop {
        let table = site.table();
        let rows: u64 = table.values().sum();
        if rows == 2000 {
            assert_eq!(table.keys().collect::<Vec<_>>(), ["WH1", "WH2", "WH3", "WH4", "WH5", "WH6", "WH7"]);
            break;
        }
        assert!(rows < 2000 && started.elapsed() < Duration::from_secs(60), "{rows} rows; {}", site.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended: Ended =
        load_test(&site, &["--rate", "20", "--seconds", "1"]).output().expect("it runs").into();
    let ended = ended.success();
    assert!(ended.stdout.contains("accepted   20 of 20 requests, 20 rows\n"), "{}", ended.stdout);
    assert!(ended.stderr.is_empty() || ended.stderr.starts_with("warning:"), "{}", ended.stderr);
}

#[test]
fn what_cannot_work_is_told_before_the_first_request_and_shows_no_password() {
    let site = Site::new();
    let _gateway = site.gateway();
    let wrong = |more: &[&str], password: &str| {
        let mut command = load_test(&site, more);
        let ended: Ended = command.env("API2BQ_GATEWAY_PASSWORD", password).output().expect("it runs").into();
        assert!(!ended.stderr.contains("hunter2") && ended.stdout.is_empty(), "{ended:?}");
        (ended.code, ended.stderr)
    };
    let cases: [(&[&str], &str, i32, &str); 6] = [
        (&[], "hunter2", 2, "does not know user `ann` with this password"),
        (&[], "", 2, "the password is empty"),
        (&["--url", "http://127.0.0.1:1"], "hunter2", 1, "no answer of a gateway at `http://127.0.0.1:1`"),
        (&["--url", "http://ann:hunter2@127.0.0.1:1"], "x", 2, "there are credentials in the URL"),
        (&["--url", "hunter2"], "x", 2, "`--url` is not a URL"),
        (&["--spool", "nowhere"], "secret", 2, "cannot measure the disk at `nowhere`"),
    ];
    for (more, password, code, expected) in cases {
        let (ended, said) = wrong(more, password);
        assert!(ended == code && said.contains(expected), "{more:?}: {ended} {said}");
    }
    let mut other = site.context.command(["load-test", "orders", "--user", "ann", "--url"]);
    other.arg(format!("http://127.0.0.1:{}", site.port)).env("API2BQ_GATEWAY_PASSWORD", "secret");
    let ended: Ended = other.output().expect("it runs").into();
    assert!(ended.code == 2 && ended.stderr.contains("there is no pipeline `orders` here"), "{ended:?}");
}

#[test]
fn an_interrupted_test_reports_what_was_sent_by_then() {
    let site = Site::new();
    let _gateway = site.gateway();
    let mut test = load_test(&site, &["--rate", "200", "--seconds", "600", "--format", "json"]);
    let test = test.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    site.wait_for_metric("rows_acknowledged_total", 100);
    let sent = Command::new("kill").args(["-INT", &test.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let ended = Ended::from(test.wait_with_output().expect("it ends"));
    assert_eq!(ended.code, 130, "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let count = |name: &str| report[name].as_u64().expect("a count");
    assert!((100..60_000).contains(&count("requests")), "{report}");
    assert_eq!(count("requests"), count("requests_accepted"), "{report}");
    assert_eq!(report["is_interrupted"], true);
    assert!(ended.stderr.contains("interrupted; the report is about what was sent by then"), "{ended:?}");
}
