//! Batches: requests for documents, one after the other, in one body.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::{Map, Value};

use super::{base_url, document};
use crate::emulator::routes::path_segments;
use crate::emulator::run::blocking;
use crate::emulator::storage::media::with_header;
use crate::emulator::storage::multipart::{Part, boundary, parts};
use crate::emulator::storage::{Storage, objects::Objects};
use crate::emulator::wire::{self, Arguments, Failure, Outcome, Reply};

const CALLS_MAX: usize = 100;
const BODY_BYTES_MAX: usize = 10 << 20;
const BOUNDARY: &str = "batch_of_the_embedded_server";

pub(super) async fn answer(
    storage: &Arc<Storage>,
    headers: &HeaderMap,
    body: Body,
) -> Outcome<Response<Body>> {
    let boundary = boundary(headers)?;
    let base = base_url(headers);
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
    let body = body.map_err(|e| Failure::invalid(format!("the batch cannot be read: {e}")))?;
    let objects = Arc::clone(&storage.objects);
    let answered = blocking(move || {
        let calls = parts(&body, &boundary);
        if calls.len() > CALLS_MAX {
            return Err(Failure::invalid("The batch request contains more than 100 calls"));
        }
        let mut answers = String::new();
        for call in calls {
            let part = Part::parse(call)?;
            let (code, text) = match run(&objects, part.content, &base) {
                Ok(Reply::Json(document)) => (200, document.to_string()),
                Ok(Reply::NoContent) => (204, String::new()),
                Ok(_) => return Err(Failure::not_implemented("this call in a batch")),
                Err(failure) => (failure.code, wire::error_document(&failure).to_string()),
            };
            let reason = StatusCode::from_u16(code).ok().and_then(|c| c.canonical_reason()).unwrap_or("-");
            let id = part.header("content-id").unwrap_or_default().trim_start_matches('<');
            let _ = write!(
                answers,
                "--{BOUNDARY}\r\nContent-Type: application/http\r\nContent-ID: <response-{id}\r\n\r\n\
                 HTTP/1.1 {code} {reason}\r\nContent-Type: application/json; charset=UTF-8\r\n\
                 Content-Length: {}\r\n\r\n{text}\r\n",
                text.len()
            );
        }
        let _ = write!(answers, "--{BOUNDARY}--\r\n");
        Ok(answers)
    });
    let content_type = format!("multipart/mixed; boundary={BOUNDARY}");
    Ok(with_header(Response::new(Body::from(answered.await?)), "content-type", &content_type))
}

/// `DELETE /storage/v1/b/x/o/y HTTP/1.1`, headers and a document.
fn run(objects: &Objects, call: &[u8], base: &str) -> Outcome<Reply> {
    let damaged = || Failure::invalid("a call of the batch is no HTTP request");
    let line_end = memchr::memchr(b'\n', call).ok_or_else(damaged)?;
    let (line, rest) = call.split_at(line_end + 1);
    let line = std::str::from_utf8(line).map_err(|_| damaged())?;
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| damaged())?;
    let uri: Uri = target.parse().map_err(|_| damaged())?;
    let sent = match Part::parse(rest)?.content {
        content if content.iter().all(u8::is_ascii_whitespace) => Map::new(),
        content => match serde_json::from_slice(content) {
            Ok(Value::Object(sent)) => sent,
            _ => return Err(damaged()),
        },
    };
    document(objects, &method, &path_segments(uri.path())?, &Arguments::parse(uri.query()), &sent, base)
}
