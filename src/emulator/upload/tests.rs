use axum::http::HeaderMap;
use axum::http::header;

use super::multipart::{boundary, receive};
use super::*;

#[tokio::test]
async fn a_file_comes_out_of_a_multipart_body_however_it_is_cut() {
    let file = b"a\r\n--b\r\nb\0\xff\r\n--bounD";
    let mut body = b"--bound\r\ncontent-type: application/json\r\n\r\n{\"a\": 1}\r\n--bound\r\n\r\n".to_vec();
    // A part with no headers at all begins with an empty line.
    body.truncate(body.len() - 2);
    body.extend_from_slice(b"Content-Type: */*\r\n\r\n");
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--bound--\r\n");
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("multipart/related; boundary=\"bound\""));
    let dir = tempfile::tempdir().unwrap();
    for size in [1, 2, 3, 7, 20, 1000] {
        let chunks: Vec<_> = body.chunks(size).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect();
        let path = dir.path().join(size.to_string());
        let sent = Body::from_stream(futures::stream::iter(chunks));
        let job = receive(&headers, sent, &path).await.unwrap();
        assert_eq!(job["a"], 1);
        assert_eq!(std::fs::read(&path).unwrap(), file, "cut every {size} bytes");
    }
    // As Google's generated client writes it.
    let plain = "--bound\nContent-Type: application/json\n\n{\"a\": 1}\n--bound\nContent-Type: */*\n\nx\r\n\ny\n--bound--";
    let path = dir.path().join("plain");
    assert_eq!(receive(&headers, Body::from(plain), &path).await.unwrap()["a"], 1);
    assert_eq!(std::fs::read(&path).unwrap(), b"x\r\n\ny");
    let cut = Body::from(body[..body.len() - 6].to_vec());
    assert_eq!(receive(&headers, cut, &dir.path().join("x")).await.unwrap_err().code, 400);
}

#[test]
fn boundaries_and_ranges_are_read_in_every_spelling() {
    for (text, expected) in [
        ("multipart/related; boundary=abc", Some("abc")),
        ("multipart/related; boundary=\"==a b==\"", Some("==a b==")),
        ("multipart/related; type=\"x\"; Boundary='===1===' ", Some("===1===")),
        ("multipart/related; boundary=abc; charset=x", Some("abc")),
        ("application/json; boundary=abc", None),
        ("multipart/related; boundary=", None),
    ] {
        assert_eq!(boundary(text).as_deref(), expected, "{text}");
    }
    let range = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(text).unwrap());
        Range::parse(&headers).ok()
    };
    let chunk = |first, length, total| Some(Range::Chunk { first, length: Some(length), total });
    assert_eq!(range("bytes 0-9/20"), chunk(0, 10, Some(20)));
    assert_eq!(range("bytes 10-19/*"), chunk(10, 10, None));
    assert_eq!(range("bytes */20"), Some(Range::Status { total: Some(20) }));
    assert_eq!(range("bytes */*"), Some(Range::Status { total: None }));
    for wrong in
        ["bytes 0-20/20", "bytes 5-2/20", "bytes -5/20", "items 0-1/2", "bytes 0-18446744073709551615/*"]
    {
        assert_eq!(range(wrong), None, "{wrong}");
    }
    assert_eq!(Range::parse(&HeaderMap::new()), Ok(Range::Whole));
}

#[test]
fn only_the_paths_of_jobs_are_uploads() {
    for path in [
        "/upload/bigquery/v2/projects/p/jobs",
        "/upload/projects/p/jobs",
        "/resumable/upload/bigquery/v2/projects/p/jobs",
    ] {
        assert_eq!(project_of(path).as_deref(), Some("p"), "{path}");
    }
    for path in ["/bigquery/v2/projects/p/jobs", "/upload/storage/v1/b/x/o", "/upload/projects/p/datasets"] {
        assert_eq!(project_of(path), None, "{path}");
    }
}
