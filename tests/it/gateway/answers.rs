//! What is taken, what is told of it, and what the gateway says of itself.

use std::io::{Read, Write};

use api2bq::gateway::spool;
use serde_json::{Value, json};

use super::{Gateway, ROW, Settings, ann, connect};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_in_the_spool_and_what_is_not_is_told_by_row() {
    let gateway = Gateway::start().await;
    let answer = gateway.post("Content-Type: application/json\r\n", ROW).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.json(), json!({"response": "Submitted", "accepted": 1, "rejected": [], "id": id}));

    // G20: 500 rows, one of them wrong.
    let rows: Vec<Value> = (0..500)
        .map(|n| if n == 250 { json!({"Item_id": "many"}) } else { json!({"WH_ID": n, "x": n}) })
        .collect();
    let answer = gateway.post("", json!(rows).to_string()).await;
    let told = answer.json();
    assert_eq!((answer.status, &told["accepted"]), (200, &json!(499)));
    assert_eq!(told["rejected"], json!([{"index": 250, "field": "WH_ID", "reason": "missing_field"}]));
    assert_eq!(told["ignored_fields"], json!(["x"]));

    let lines = format!("{ROW}\n{{\"WH_ID\":\n{ROW}\n");
    let told = gateway.post("Content-Type: application/x-ndjson; charset=utf-8\r\n", &lines).await.json();
    assert_eq!(told["accepted"], 2);
    assert_eq!(told["rejected"], json!([{"index": 1, "reason": "json_syntax"}]));

    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(ROW.as_bytes()).expect("packed");
    let packed = packed.finish().expect("packed");
    let answer = gateway.post("Content-Encoding: gzip\r\n", packed).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let path = "POST /ic/api/integration/v1/flows/rest/INVENTORY/1.0/stream";
    assert_eq!(gateway.send(path, &ann(), ROW.as_bytes()).await.status, 200);

    let letters = gateway.letters().await;
    let accepted: Vec<u64> = letters.iter().map(|letter| letter.head.accepted).collect();
    assert_eq!(accepted, [1, 499, 2, 1, 1]);
    assert_eq!((letters[0].head.id.as_str(), &letters[0].body[..]), (&*id, ROW.as_bytes()));
    assert_eq!(letters[3].body, ROW.as_bytes(), "unpacked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_on_one_connection_are_answered_in_their_order() {
    let gateway = Gateway::start().await;
    let mut all = String::new();
    for number in 0..1000 {
        let row = json!({ "WH_ID": "a\r\n\r\nb\n", "Item_id": number }).to_string();
        let (auth, close) = (ann(), if number == 999 { "Connection: close\r\n" } else { "" });
        let length = row.len() + 2;
        all += &format!(
            "POST /v1/inventory HTTP/1.1\r\nHost: localhost\r\n{close}{auth}Content-Length: {length}\r\n\r\n{row}\n\n"
        );
    }
    let addr = gateway.addr;
    let answers = tokio::task::spawn_blocking(move || {
        let mut stream = connect(addr);
        let mut reader = stream.try_clone().expect("a second handle");
        let reading = std::thread::spawn(move || {
            let mut answers = String::new();
            reader.read_to_string(&mut answers).expect("answers");
            answers
        });
        stream.write_all(all.as_bytes()).expect("sent");
        reading.join().expect("no panic")
    });
    let answers = answers.await.expect("no panic");
    let ids: Vec<&str> = answers.split("\"id\":\"").skip(1).map(|rest| &rest[..27]).collect();
    assert_eq!((answers.matches("HTTP/1.1 200 OK").count(), ids.len()), (1000, 1000));
    let letters = gateway.letters().await;
    let stored: Vec<&str> = letters.iter().map(|letter| &*letter.head.id).collect();
    assert_eq!(stored, ids, "one after the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_stored_once_also_by_the_next_process() {
    let mut gateway = Gateway::start().await;
    let key = "Idempotency-Key: k1\r\n";
    let first = gateway.post(key, ROW).await;
    assert_eq!(first.status, 200);
    let again = gateway.post(key, ROW).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "the same answer");
    let other = r#"{"WH_ID":"WH2"}"#;
    assert_eq!(gateway.post(key, other).await.problem(), "409 key_reused");
    // A request that was refused leaves its key free.
    assert_eq!(gateway.post("Idempotency-Key: k2\r\n", "{").await.status, 400);
    let rejected = gateway.post("Idempotency-Key: k2\r\n", format!("[{ROW},7]")).await;
    assert_eq!(rejected.status, 200);

    gateway.restart().await;
    assert_eq!(gateway.post(key, ROW).await.body, first.body);
    assert_eq!(gateway.post("Idempotency-Key: k2\r\n", format!("[{ROW},7]")).await.body, rejected.body);
    assert_eq!(gateway.post(key, other).await.problem(), "409 key_reused");
    assert_eq!(gateway.letters().await.len(), 2);

    let (one, two) =
        (gateway.post("Idempotency-Key: k3\r\n", ROW), gateway.post("Idempotency-Key: k3\r\n", ROW));
    let (one, two) = tokio::join!(one, two);
    assert_eq!((one.status, &one.body), (200, &two.body), "at the same time");
    assert_eq!(gateway.letters().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_answers_503_and_loses_nothing() {
    let settings = Settings {
        spool: spool::Options { disk_bytes_max: 3000, segment_bytes: 1000 },
        ..Settings::default()
    };
    let gateway = Gateway::start_with(settings).await;
    let mut taken = 0;
    let refused = loop {
        match gateway.post("", ROW).await {
            answer if answer.status == 200 => taken += 1,
            answer => break answer,
        }
    };
    assert_eq!(refused.problem(), "503 spool_full");
    assert!(refused.head.contains("\r\nretry-after: "), "{refused:?}");
    assert_eq!(gateway.letters().await.len(), taken);
    let spool = gateway.spool.as_ref().expect("started");
    let oldest = spool.sealed().await.expect("listed")[0];
    spool.remove(vec![oldest.id]).await.expect("removed");
    assert_eq!(gateway.post("", ROW).await.status, 200, "without a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_describes_itself() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.post("", ROW).await.status, 200);
    let metadata = gateway.send("GET /v1/inventory/metadata", &ann(), b"").await.json();
    assert_eq!(
        metadata["fields"][1],
        json!({"name": "Item_id", "column": "Item_id", "type": "NUMERIC", "mode": "NULLABLE"})
    );
    assert_eq!(gateway.send("GET /v1/inventory/metadata", "", b"").await.status, 401);
    let example = metadata["example"].to_string();
    assert_eq!(gateway.post("", &example).await.status, 200, "the example is a row");
    let document = gateway.send("GET /openapi.json", "", b"").await.json();
    assert_eq!(document["components"]["schemas"]["Row"]["required"], json!(["WH_ID"]));
    let paths = document["paths"].as_object().expect("paths");
    let takers: Vec<_> = paths.iter().filter(|(_, methods)| methods["post"].is_object()).collect();
    assert_eq!(takers.len(), 2, "{paths:?}");
    for (path, _) in takers {
        assert_eq!(
            gateway.send(&format!("POST {path}"), &ann(), example.as_bytes()).await.status,
            200,
            "{path}"
        );
    }
    let page = gateway.send("GET /", "", b"").await;
    assert!(page.body.contains("<code>Item_id</code>") && !page.body.contains("<script"), "{page:?}");
    for (path, part) in [("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "rows_acknowledged_total 4")]
    {
        let answer = gateway.send(&format!("GET {path}"), "", b"").await;
        assert!(answer.status == 200 && answer.body.contains(part), "{answer:?}");
    }
}
