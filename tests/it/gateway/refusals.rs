//! What is refused, and that nothing of it is stored: the gateway's lines of the bad inputs.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use api2bq::gateway::Limits;
use api2bq::gateway::auth::Ration;
use serde_json::json;

use super::{Gateway, ROW, Settings, ann, authorization, connect, parse};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_of_what_is_refused() {
    let gateway = Gateway::start_with(Settings {
        limits: Limits {
            body_bytes_max: 10_000,
            body_timeout: Duration::from_millis(600),
            ..Limits::default()
        },
        ..Settings::default()
    })
    .await;
    let answer = gateway.post("", "{\n  \"WH_ID\": \u{201c}WH1\u{201d}\n}").await;
    assert_eq!(answer.problem(), "400 json_syntax");
    assert_eq!((&answer.json()["error"]["line"], &answer.json()["error"]["column"]), (&json!(2), &json!(12)));

    let answer = gateway.post("", "[{\"Item_id\":1},7]").await;
    assert_eq!(answer.problem(), "422 no_row_fits");
    assert_eq!(answer.json()["error"]["rejected"][1], json!({"index": 1, "reason": "not_an_object"}));

    let zeros = {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&vec![b' '; 1 << 20]).expect("packed");
        packed.finish().expect("packed")
    };
    assert!(zeros.len() < 10_000);
    let long = format!("Idempotency-Key: {}\r\n", "k".repeat(256));
    let cases: [(&str, &[u8], &str); 13] = [
        ("", b"", "400 no_rows"),
        ("", b"[]", "400 no_rows"),
        ("", b"\xff", "400 json_syntax"),
        ("Content-Type: text/plain\r\n", b"{}", "415 content_type"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", b"{}", "415 content_type"),
        ("Content-Type: application/json; charset=utf-16\r\n", b"{}", "415 content_type"),
        ("Content-Encoding: br\r\n", b"{}", "415 content_encoding"),
        ("Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", b"{}", "415 content_encoding"),
        ("Content-Encoding: gzip\r\n", b"{}", "400 bad_gzip"),
        ("Content-Encoding: gzip\r\n", &zeros[..zeros.len() - 4], "413 body_too_large"),
        ("", &[b' '; 10_001], "413 body_too_large"),
        (&long, b"{}", "400 invalid_key"),
        ("Idempotency-Key: a\r\nIdempotency-Key: b\r\n", b"{}", "400 invalid_key"),
    ];
    for (headers, body, expected) in cases {
        let answer = gateway.post(headers, body).await;
        assert_eq!(answer.problem(), expected, "{headers} {answer:?}");
    }
    // G36, G30: other methods, other paths, names that are paths elsewhere.
    let paths = [
        ("GET /v1/inventory", "405 method_not_allowed"),
        ("TRACE /v1/inventory", "405 method_not_allowed"),
        ("DELETE /v1/inventory", "405 method_not_allowed"),
        ("GET /stream", "404 not_found"),
        ("POST //v1/inventory", "404 not_found"),
        ("POST /v1/inventory/../admin", "404 not_found"),
        ("POST /v1/..", "400 invalid_name"),
        ("POST /v1/a%2Fb", "400 invalid_name"),
        ("POST /v1/..%2f..%2fetc%2fx", "400 invalid_name"),
        ("POST /v1/a%5Cb", "400 invalid_name"),
        ("POST /v1/a%00b", "400 invalid_name"),
        ("POST /v1/flows%60;DROP", "400 invalid_name"),
        ("POST /v1/other", "404 no_such_pipeline"),
    ];
    for (path, expected) in paths {
        let answer = gateway.send(path, &ann(), ROW.as_bytes()).await;
        assert_eq!(answer.problem(), expected, "{path} {answer:?}");
    }
    assert_ne!(gateway.send("CONNECT localhost:1", &ann(), b"").await.status, 200);
    assert_eq!(gateway.letters().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_password_nothing_is_read() {
    let gateway = Gateway::start().await;
    let wrong = [
        String::new(),
        "Authorization: Basic !!!notbase64\r\n".into(),
        "Authorization: Bearer x\r\n".into(),
        authorization("ann:wrong"),
        authorization("bob:secret"),
    ];
    for headers in wrong {
        let answer = gateway.send("POST /v1/inventory", &headers, ROW.as_bytes()).await;
        assert_eq!(answer.problem(), "401 unauthorized", "{headers}");
        assert!(answer.head.contains("www-authenticate: basic"), "{answer:?}");
        // G33: nobody is asked to send a body that is not wanted.
        let head = format!(
            "POST /v1/inventory HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\nExpect: 100-continue\r\n{headers}\r\n"
        );
        let answer = gateway.raw(head).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    // G03: the scheme is in any case.
    let lower = ann().replace("Basic", "basic");
    assert_eq!(gateway.send("POST /v1/inventory", &lower, ROW.as_bytes()).await.status, 200);
    // A page of another origin, and a name that somebody else made ours.
    let foreign = format!("{}Origin: http://evil.example\r\n", ann());
    assert_eq!(gateway.send("POST /v1/inventory", &foreign, ROW.as_bytes()).await.status, 403);
    for (host, status) in [("evil.example", 403), ("gateway.example", 200)] {
        let head = format!("POST /v1/inventory HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let raw = gateway.raw(format!("{head}Content-Length: 30\r\n{}\r\n{ROW}", ann())).await;
        assert_eq!(parse(&raw).status, status, "{host}");
    }
    assert_eq!(gateway.letters().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_run_out() {
    let ration = Ration { burst: 2, every: Duration::from_secs(60) };
    let gateway = Gateway::start_with(Settings { ration, ..Settings::default() }).await;
    let wrong = authorization("ann:guess");
    for expected in ["401 unauthorized", "401 unauthorized", "429 too_many_failures"] {
        let answer = gateway.send("POST /v1/inventory", &wrong, ROW.as_bytes()).await;
        assert_eq!(answer.problem(), expected);
        assert_eq!(answer.head.contains("\r\nretry-after: "), answer.status == 429, "{answer:?}");
    }
}

/// A kilobyte in gzip was answered with megabytes, which were stored and remembered too.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_more_wrong_rows_than_are_told_of_is_not_taken() {
    let gateway = Gateway::start().await;
    let with_wrong = async |wrong: usize| gateway.post("", format!("[{ROW}{}]", ",1".repeat(wrong))).await;
    let many = with_wrong(10_001).await;
    assert_eq!(many.problem(), "422 too_many_rejected");
    assert_eq!(many.json()["error"]["rejected"].as_array().map(Vec::len), Some(10_000));
    assert_eq!(gateway.letters().await, []);
    let few = with_wrong(10_000).await;
    assert_eq!((few.status, &few.json()["accepted"]), (200, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_proxies_read_in_two_ways_are_refused() {
    let gateway = Gateway::start().await;
    let fixed = format!("Host: localhost\r\nConnection: close\r\n{}", ann());
    let chunked = format!("{:x}\r\n{ROW}\r\n0\r\n\r\n", ROW.len());
    let refused = [
        // Two ways to say where the body ends.
        format!(
            "POST /v1/inventory HTTP/1.1\r\n{fixed}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunked}"
        ),
        format!(
            "POST /v1/inventory HTTP/1.1\r\n{fixed}Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"
        ),
        format!(
            "POST /v1/inventory HTTP/1.1\r\n{fixed}Host: evil.example\r\nContent-Length: 30\r\n\r\n{ROW}"
        ),
        // G14
        format!(
            "POST /v1/inventory HTTP/1.1\r\n{fixed}Content-Length: 30\r\nContent-Length: 31\r\n\r\n{ROW} "
        ),
        format!("POST /v1/inventory HTTP/1.1\r\n{fixed}Content-Length: +30\r\n\r\n{ROW}"),
        format!("POST /v1/inventory HTTP/1.1\r\n{fixed}Content-Length: 30, 30\r\n\r\n{ROW}"),
        format!("POST /v1/inventory HTTP/1.1\r\n{fixed}Content-Length: 0x1e\r\n\r\n{ROW}"),
        format!("POST /v1/inventory HTTP/1.1\r\n{fixed}Transfer-Encoding: gzip\r\n\r\n{ROW}"),
        // G16
        format!("POST /v1/inventory HTTP/1.1\n{fixed}Content-Length: 30\r\n\r\n{ROW}"),
        format!("POST /v1/inventory HTTP/1.1\r\n{fixed}X: a\0b\r\nContent-Length: 30\r\n\r\n{ROW}"),
        format!("POST /v1/inventory HTTP/1.1\r\n{fixed}X : a\r\nContent-Length: 30\r\n\r\n{ROW}"),
        format!("POST /v1/inventory HTTP/1.1\r\n{fixed}X: a\r\n b\r\nContent-Length: 30\r\n\r\n{ROW}"),
    ];
    // Too long to be looked at.
    let long = format!("X: {}\r\n", "x".repeat(9000)).repeat(8);
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 4";
    let long = format!("POST /v1/inventory HTTP/1.1\r\n{fixed}{long}{both}\r\n\r\n{chunked}");
    for request in refused.into_iter().chain([long]) {
        let answer = gateway.raw(request.clone()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request}\n{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "the connection is closed: {answer}");
    }
    assert_eq!(gateway.letters().await, []);
    let fine = format!("POST /v1/inventory HTTP/1.1\r\n{fixed}Transfer-Encoding: chunked\r\n\r\n{chunked}");
    assert_eq!(parse(&gateway.raw(fine).await).status, 200);
    // What comes behind a chunked body is not looked at, so nothing may.
    let chunked = format!(
        "POST /v1/inventory HTTP/1.1\r\nHost: localhost\r\n{}Transfer-Encoding: chunked\r\n\r\n{chunked}",
        ann()
    );
    let answer = gateway.raw(format!("{chunked}GET /healthz HTTP/1.1\nHost: localhost\n\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\r\nconnection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_are_cut_off_and_do_not_stop_others() {
    let limits = Limits { body_timeout: Duration::from_millis(1500), ..Limits::default() };
    let settings = Settings { limits, connections_max: 16, ..Settings::default() };
    let gateway = Gateway::start_with(settings).await;
    let head =
        format!("POST /v1/inventory HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 30\r\n\r\n{{", ann());
    // G18: the body does not come.
    let started = Instant::now();
    let answer = parse(&gateway.raw(head.clone()).await);
    assert_eq!(answer.problem(), "408 body_timeout");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // More of them than there are connections, all the time.
    let addr = gateway.addr;
    let slow: Vec<TcpStream> = (0..100)
        .map(|n| {
            let mut stream = connect(addr);
            let part = if n % 2 == 0 { head.as_bytes() } else { &head.as_bytes()[..20] };
            stream.write_all(part).expect("sent");
            stream
        })
        .collect();
    let started = Instant::now();
    assert_eq!(gateway.post("", ROW).await.status, 200);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    drop(slow);
}
