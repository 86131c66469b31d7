use std::path::{Path, PathBuf};

use async_compression::tokio::bufread::GzipDecoder;
use axum::http::{Method, Request};
use tokio::io::AsyncReadExt;
use tower::ServiceExt;

use super::*;

const STREAM: &str = "/api/v1/stream/flows";

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn given() -> Content {
    Content::Given(Arc::new(read_records(&data("flows_real_rows.csv")).unwrap()))
}

fn generated() -> Content {
    Content::Generated(Flows { rows: 5000, days: 2, duplicates: 0.1, seed: 1 })
}

async fn send(content: Content, method: Method, query: &str, gzip: bool) -> (StatusCode, Response, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(format!("{STREAM}{query}"));
    if gzip {
        request = request.header(header::ACCEPT_ENCODING, "gzip");
    }
    let response = router(content).oneshot(request.body(HttpBody::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, Response::from_parts(parts, HttpBody::empty()), bytes.to_vec())
}

async fn get_text(content: Content, query: &str) -> (StatusCode, Response, String) {
    let (status, response, body) = send(content, Method::GET, query, false).await;
    (status, response, String::from_utf8(body).unwrap())
}

fn header_of<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn the_first_ten_records_come_byte_for_byte_as_from_the_real_source() {
    let expected = std::fs::read_to_string(data("flows_first10.xml")).unwrap();
    let (status, response, body) = get_text(given(), "?scanned_after=0&scanned_before=1&format=xml").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(header_of(&response, "content-type"), "application/xml");
    assert_eq!(header_of(&response, "x-record-count"), "10");
    assert_eq!(body, expected);
    let (.., body) = get_text(given(), "?limit=10").await;
    assert_eq!(body, expected);
}

#[tokio::test]
async fn json_is_one_object_per_line() {
    let (_, response, body) = get_text(given(), "?scanned_before=1&limit=1&format=json").await;
    assert_eq!(header_of(&response, "content-type"), "application/x-ndjson");
    assert_eq!(
        body,
        "{\"id\":1,\"time\":1,\"duration\":0,\"src_comp\":\"C1065\",\"src_port\":\"389\",\
         \"dst_comp\":\"C3799\",\"dst_port\":\"N10451\",\"protocol\":6,\"packet_count\":10,\
         \"byte_count\":5323}\n"
    );
}

#[tokio::test]
async fn a_window_leaves_out_its_start_and_takes_its_end() {
    for (query, count) in [
        ("", 70),
        ("?scanned_after=1", 60),
        ("?scanned_after=766800&scanned_before=766801", 30),
        ("?scanned_after=766801&scanned_before=766802", 30),
        ("?scanned_after=766801&limit=7", 7),
    ] {
        let (_, response, body) = get_text(given(), query).await;
        assert_eq!(body.matches("<record>").count(), count, "{query}");
        assert_eq!(header_of(&response, "x-record-count"), count.to_string(), "{query}");
    }
}

#[tokio::test]
async fn an_empty_window_is_an_empty_element_or_no_line() {
    for content in [given(), generated()] {
        for query in ["?scanned_after=200000&scanned_before=200001", "?scanned_before=0", "?limit=0"] {
            let (status, response, body) = get_text(content.clone(), query).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(header_of(&response, "x-record-count"), "0");
            assert_eq!(body, "<?xml version='1.0' encoding='UTF-8'?><records/>");
            let (.., body) = get_text(content.clone(), &format!("{query}&format=json")).await;
            assert_eq!(body, "");
        }
    }
}

#[tokio::test]
async fn a_wrong_query_is_400_and_one_line_that_names_the_parameter() {
    for (query, message) in [
        ("?format=csv", "`format`: no format `csv`; valid are xml, json\n"),
        ("?scanned_after=x", "`scanned_after`: `x` is not a whole number\n"),
        ("?scanned_before=-1", "`scanned_before`: `-1` is not a whole number\n"),
        ("?limit=", "`limit`: `` is not a whole number\n"),
        ("?limit=1&limit=2", "`limit` is given twice\n"),
        ("?scanned_after=2&scanned_before=1", "`scanned_after` 2 is greater than `scanned_before` 1\n"),
        ("?from=1", "no parameter `from`; valid are scanned_after, scanned_before, limit, format\n"),
        ("?a%0Ab=1", "no parameter `a\\nb`; valid are scanned_after, scanned_before, limit, format\n"),
    ] {
        let (status, _, body) = get_text(generated(), query).await;
        assert_eq!((status, body.as_str()), (StatusCode::BAD_REQUEST, message), "{query}");
    }
}

#[tokio::test]
async fn gzip_comes_only_when_asked_for() {
    let (.., plain) = send(generated(), Method::GET, "", false).await;
    let (_, response, packed) = send(generated(), Method::GET, "", true).await;
    assert_eq!(header_of(&response, "content-encoding"), "gzip");
    assert_eq!(header_of(&response, "x-record-count"), "5000");
    assert!(packed.len() < plain.len() / 4);
    let mut unpacked = Vec::new();
    GzipDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).await.unwrap();
    assert_eq!(unpacked, plain);
}

#[tokio::test]
async fn head_has_the_headers_and_no_body() {
    let (status, response, body) = send(generated(), Method::HEAD, "?format=json", false).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(header_of(&response, "x-record-count"), "5000");
    assert_eq!(header_of(&response, "content-type"), "application/x-ndjson");
    assert!(body.is_empty());
}

#[tokio::test]
async fn serves_over_a_socket() {
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = start(Options { listen, content: generated() }).await.unwrap();
    let get = async |path: &str| {
        reqwest::get(format!("{}{path}", server.url())).await.unwrap().text().await.unwrap()
    };
    assert_eq!(get("/healthz").await, "ok\n");
    assert!(get("/").await.contains(STREAM));
    assert_eq!(get(&format!("{STREAM}?format=json")).await.lines().count(), 5000);
}

#[test]
fn a_file_that_is_not_flows_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let header = "id,time,duration,src_comp,src_port,dst_comp,dst_port,protocol,packet_count,byte_count";
    for (text, message) in [
        ("1,1,0,C1,1,C2,2,6,1,46\n".to_string(), "does not start with the header of flows"),
        (format!("{header}\n1,1,0\n"), "line 2: 3 fields instead of 10"),
        (
            format!("{header}\n1,1,0,C1,1,C2,2,6,1,46\n2,x,0,C1,1,C2,2,6,1,46\n"),
            "line 3: field `time`: `x` is not a whole number",
        ),
    ] {
        let path = folder.path().join("flows.csv");
        std::fs::write(&path, text).unwrap();
        let error = read_records(&path).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[tokio::test]
async fn names_with_markup_in_them_are_escaped() {
    let mut records = read_records(&data("flows_real_rows.csv")).unwrap();
    records.truncate(1);
    records[0].src_comp = "a<b&\"c\"\\".to_string();
    let content = Content::Given(Arc::new(records));
    let (.., xml) = get_text(content.clone(), "").await;
    assert!(xml.contains("<src_comp>a&lt;b&amp;\"c\"\\</src_comp>"), "{xml}");
    let (.., json) = get_text(content, "?format=json").await;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["src_comp"], "a<b&\"c\"\\");
}
