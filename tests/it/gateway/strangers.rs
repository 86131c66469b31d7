//! The gateway as others meet it: a script that knows nothing of it, and tools for OpenAPI documents.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Gateway;
use super::loads::Site;
use crate::context::{TestContext, python};

#[test]
fn a_script_of_requests_sends_stock_by_the_url_of_the_reference_case() {
    let site = Site::new();
    let _gateway = site.gateway();
    let url = format!("http://127.0.0.1:{}/ic/api/integration/v1/flows/rest/INVENTORY/1.0/stream", site.port);
    let said = python("seed_inventory.py", &[&url, "ann", "secret", "50"]).stdout;
    let answers: Vec<(&str, Value)> = said
        .lines()
        .map(|line| line.split_once(' ').expect("a status"))
        .map(|(status, body)| (status, serde_json::from_str(body).expect("JSON")))
        .collect();
    let (sample, answers) = answers.split_last().expect("answers");
    assert_eq!(answers.len(), 50);
    for (status, body) in answers {
        assert_eq!((*status, &body["response"], &body["accepted"]), ("200", &json!("Submitted"), &json!(1)));
    }
    // A curly quote: where it is, and nothing of it stored.
    let error = &sample.1["error"];
    assert_eq!((sample.0, &error["reason"]), ("400", &json!("json_syntax")));
    assert_eq!((&error["line"], &error["column"]), (&json!(1), &json!(96)), "{error}");
    assert!(
        error["message"].as_str().is_some_and(|said| said.contains("`”` is no quote of JSON")),
        "{error}"
    );
    let table = loop {
        let table = site.table();
        if table.values().sum::<u64>() >= 50 {
            break table;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let count = |table: &BTreeMap<String, u64>| table.values().sum::<u64>();
    assert_eq!((count(&table), table.len()), (50, 7), "{table:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_is_one_by_the_specification() {
    let gateway = Gateway::start().await;
    let document = gateway.send("GET /openapi.json", "", b"").await;
    let context = TestContext::new();
    let path = context.write("openapi.json", &document.body);
    let said = tokio::task::spawn_blocking(move || {
        python("openapi_valid.py", &[path.to_str().expect("UTF-8")]).stdout
    });
    assert_eq!(
        said.await.expect("no panic").trim(),
        "valid OpenAPI 3.1.0, its example a Row, a broken one not"
    );
}
