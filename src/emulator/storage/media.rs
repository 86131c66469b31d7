//! The bytes of an object: ranges, conditions and the headers that go with them, the same in both APIs.

use std::io::SeekFrom;
use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::objects::Object;
use super::records::{ObjectDocument, Record};
use crate::emulator::wire::{Failure, Outcome};

const READ_BYTES: usize = 1 << 16;

pub(super) async fn read(object: Object, headers: &HeaderMap, bodiless: bool) -> Outcome<Response<Body>> {
    let Object { document, file } = object;
    let etag = document.etag();
    let names_it = |list: &str| list.split(',').any(|t| t.trim() == "*" || t.trim() == etag);
    if header_text(headers, "if-match").is_some_and(|list| !names_it(list)) {
        return Err(Failure::condition_not_met());
    }
    if header_text(headers, "if-none-match").is_some_and(names_it) {
        let mut response = with_version(Response::new(Body::empty()), &document);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let size = document.size();
    let range = match header_text(headers, "range").map(|text| parse_range(text, size)) {
        None | Some(Asked::Whole) => None,
        Some(Asked::Part(range)) => Some(range),
        Some(Asked::Nothing) => {
            // Google's client needs the header to tell an object without bytes from a mistake.
            let nothing = with_header(Response::default(), "content-range", &format!("bytes */{size}"));
            let mut response = with_version(nothing, &document);
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return Ok(response);
        }
    };
    let Range { start, end } = range.clone().unwrap_or(0..size);
    let body = if bodiless {
        Body::empty()
    } else {
        let mut file = tokio::fs::File::from_std(file);
        file.seek(SeekFrom::Start(start)).await?;
        Body::from_stream(ReaderStream::with_capacity(file.take(end - start), READ_BYTES))
    };
    let mut response = described(Response::new(body), &document);
    response = with_header(response, "content-length", &(end - start).to_string());
    if range.is_some() {
        let text = format!("bytes {start}-{}/{size}", end.saturating_sub(1));
        response = with_header(response, "content-range", &text);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

fn described(response: Response<Body>, document: &ObjectDocument) -> Response<Body> {
    let record = &document.record;
    let mut response = with_version(response, document);
    for (member, name) in [
        ("contentEncoding", "content-encoding"),
        ("contentDisposition", "content-disposition"),
        ("contentLanguage", "content-language"),
        ("cacheControl", "cache-control"),
    ] {
        if let Some(value) = record.attributes.text(member) {
            response = with_header(response, name, value);
        }
    }
    let modified = DateTime::<Utc>::from_timestamp_millis(record.updated_ms).unwrap_or_default();
    let modified = modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    response = with_header(response, "last-modified", &modified);
    response = with_header(response, "content-type", record.attributes.content_type());
    response = with_header(response, "x-goog-hash", &hashes(record));
    response = with_header(response, "x-goog-stored-content-length", &record.size.to_string());
    with_header(response, "accept-ranges", "bytes")
}

fn hashes(record: &Record) -> String {
    let crc32c = crc32c_text(record);
    record.md5.map_or_else(
        || format!("crc32c={crc32c}"),
        |md5| format!("crc32c={crc32c},md5={}", STANDARD.encode(md5)),
    )
}

pub(super) fn crc32c_text(record: &Record) -> String {
    STANDARD.encode(record.crc32c.to_be_bytes())
}

#[derive(Debug, PartialEq)]
enum Asked {
    /// Also for what is no range: the standard has it ignored.
    Whole,
    Part(Range<u64>),
    /// Nothing of it is there.
    Nothing,
}

/// `bytes=a-b`, `bytes=a-` and `bytes=-n`.
fn parse_range(text: &str, size: u64) -> Asked {
    let parsed = || {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        Some(match (first.is_empty(), last.is_empty()) {
            (false, false) => {
                let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
                if first > last {
                    return None;
                }
                first..last.saturating_add(1).min(size)
            }
            (false, true) => first.parse().ok()?..size,
            (true, false) => size.saturating_sub(last.parse().ok()?)..size,
            (true, true) => return None,
        })
    };
    match parsed() {
        None => Asked::Whole,
        Some(range) if range.start < range.end => Asked::Part(range),
        Some(_) => Asked::Nothing,
    }
}

pub(super) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

pub(super) fn with_header(mut response: Response<Body>, name: &str, value: &str) -> Response<Body> {
    if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), header::HeaderValue::from_str(value))
    {
        response.headers_mut().insert(name, value);
    }
    response
}

pub(super) fn with_version(response: Response<Body>, document: &ObjectDocument) -> Response<Body> {
    let response = with_header(response, header::ETAG.as_str(), &document.etag());
    let response = with_header(response, "x-goog-generation", &document.record.generation.to_string());
    with_header(response, "x-goog-metageneration", &document.record.metageneration.to_string())
}

pub(super) fn rfc3339(ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms)
        .unwrap_or_default()
        .format("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        assert_eq!(parse_range("bytes=0-1", 5), Asked::Part(0..2));
        assert_eq!(parse_range("bytes=3-99", 5), Asked::Part(3..5));
        assert_eq!(parse_range("bytes=2-", 5), Asked::Part(2..5));
        assert_eq!(parse_range("bytes=-2", 5), Asked::Part(3..5));
        for text in ["bytes=5-9", "bytes=-0", "bytes=7-"] {
            assert_eq!(parse_range(text, 5), Asked::Nothing, "{text}");
        }
        for text in ["bytes=3-1", "bytes=-", "items=0-1", "bytes=0-1,3-4"] {
            assert_eq!(parse_range(text, 5), Asked::Whole, "{text}");
        }
    }
}
