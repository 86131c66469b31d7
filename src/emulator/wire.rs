//! What goes over the wire: replies, errors, query arguments and request bodies.

use std::convert::Infallible;
use std::iter;

use axum::body::{Body, Bytes};
use axum::http::{Extensions, HeaderMap, StatusCode, Version, header};
use axum::response::Response;
use futures::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;

pub(super) use super::failure::{Failure, Outcome};
use crate::serve::HangUp;

/// 16 MiB of JSON, counted after decompression: more than any job, table or query document needs.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// What a request to insertAll may be, counted after decompression.
const ROWS_BYTES_MAX: u64 = 10 << 20;

/// A client that is still sending does not read why it is refused, so that much is taken and thrown away.
const REFUSED_BYTES_MAX: u64 = 128 << 20;

const COMPRESSED_BYTES_MIN: usize = 1024;

/// What a handler answers.
#[derive(Debug)]
pub(super) enum Reply {
    Json(Value),
    /// A document and the text of its `rows` array in pieces, which is never held as a tree.
    Rows(Value, Vec<Bytes>),
    NoContent,
    /// No answer: the connection is closed.
    HangUp,
}

pub(super) fn response(outcome: Outcome<Reply>) -> Response {
    match outcome {
        Ok(Reply::Json(value)) => whole(200, value.to_string()),
        Ok(Reply::Rows(envelope, rows)) => {
            let mut text = envelope.to_string();
            let closing = text.pop();
            debug_assert_eq!(closing, Some('}'), "an envelope is an object");
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str("\"rows\":");
            let bytes = text.len() + rows.iter().map(Bytes::len).sum::<usize>() + 1;
            let ends = (Bytes::from(text), Bytes::from_static(b"}"));
            let pieces = iter::once(ends.0).chain(rows).chain(iter::once(ends.1));
            // Each piece is freed when it is sent.
            let body = Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>)));
            let mut response = respond(200, bytes, body);
            response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
            response
        }
        Ok(Reply::NoContent) => whole(204, String::new()),
        Ok(Reply::HangUp) => hang_up(),
        Err(failure) => refused(&failure),
    }
}

pub(super) fn hang_up() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(HangUp);
    response
}

fn refused(failure: &Failure) -> Response {
    whole(failure.code, error_document(failure).to_string())
}

pub(super) fn error_document(failure: &Failure) -> Value {
    let status = match failure.code {
        400 | 413 => "INVALID_ARGUMENT",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 if failure.reason == "aborted" => "ABORTED",
        409 => "ALREADY_EXISTS",
        412 => "FAILED_PRECONDITION",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    let mut entry = failure.proto();
    entry["domain"] = json!("global");
    json!({"error": {
        "code": failure.code, "message": failure.message, "errors": [entry], "status": status,
    }})
}

/// In a response's extensions: it may be compressed. Objects of Cloud Storage go as they are.
#[derive(Debug, Clone, Copy)]
struct Compressible;

pub(super) fn is_compressible(_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions) -> bool {
    extensions.get::<Compressible>().is_some()
}

fn whole(code: u16, body: String) -> Response {
    respond(code, body.len(), Body::from(body))
}

fn respond(code: u16, bytes: usize, body: Body) -> Response {
    // Below this compressing costs more than it saves.
    let is_compressible = bytes >= COMPRESSED_BYTES_MIN;
    let mut response = Response::new(body);
    if is_compressible {
        response.extensions_mut().insert(Compressible);
    }
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if code != 204 {
        let json = header::HeaderValue::from_static("application/json; charset=UTF-8");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    response
}

/// Query arguments. Those that this server has no use for (`alt`, `prettyPrint`) are ignored.
#[derive(Debug, Default)]
pub(super) struct Arguments(Vec<(String, String)>);

impl Arguments {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Arguments(pairs.into_owned().collect())
    }

    pub(super) fn of(pairs: impl Iterator<Item = (&'static str, String)>) -> Self {
        Arguments(pairs.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// The values of an argument that may be given more than once.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v.eq_ignore_ascii_case("true") || v == "1")
    }

    pub(super) fn number(&self, name: &str) -> Outcome<Option<u64>> {
        self.parsed(name)
    }

    pub(super) fn integer(&self, name: &str) -> Outcome<Option<i64>> {
        self.parsed(name)
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> Outcome<Option<T>> {
        let parse =
            |v: &str| v.parse().map_err(|_| Failure::invalid(format!("Invalid value for {name}: {v}")));
        self.get(name).map(parse).transpose()
    }
}

/// The JSON object of a request; an empty body is an empty object.
pub(super) async fn read_object(headers: &HeaderMap, body: Body) -> Outcome<Map<String, Value>> {
    parse_object(&read_body(headers, body).await?)
}

/// The JSON object of a request to insertAll.
pub(super) async fn read_rows(headers: &HeaderMap, body: Body) -> Outcome<Map<String, Value>> {
    let bytes = read_body(headers, body).await?;
    if bytes.len() as u64 > ROWS_BYTES_MAX {
        return Err(Failure::payload_size(ROWS_BYTES_MAX));
    }
    parse_object(&bytes)
}

fn parse_object(bytes: &[u8]) -> Outcome<Map<String, Value>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::invalid("Parse Error: the request body is not a JSON object")),
        Err(error) => Err(Failure::invalid(format!("Parse Error: {error}"))),
    }
}

async fn read_body(headers: &HeaderMap, body: Body) -> Outcome<Bytes> {
    let (mut raw, mut sent) = (Vec::new(), 0);
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| Failure::invalid(format!("the request body broke off: {e}")))?;
        sent += chunk.len() as u64;
        if sent <= BODY_BYTES_MAX {
            raw.extend_from_slice(&chunk);
        } else if sent > REFUSED_BYTES_MAX {
            break;
        }
    }
    if sent > BODY_BYTES_MAX {
        return Err(Failure::request_too_large());
    }
    // Some clients say only in the bytes themselves that they are packed; no JSON begins like that.
    let gzip = headers.get(header::CONTENT_ENCODING).is_some_and(|v| v.as_bytes() == b"gzip")
        || raw.starts_with(&[0x1f, 0x8b]);
    if !gzip {
        return Ok(raw.into());
    }
    let decoder = async_compression::tokio::bufread::GzipDecoder::new(raw.as_slice());
    let mut plain = Vec::new();
    let taken = decoder.take(BODY_BYTES_MAX + 1).read_to_end(&mut plain).await;
    taken.map_err(|e| Failure::invalid(format!("the gzip request body is damaged: {e}")))?;
    if plain.len() as u64 > BODY_BYTES_MAX {
        return Err(Failure::request_too_large());
    }
    Ok(plain.into())
}

/// A text member, or `None` when it is absent or null.
pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

pub(super) fn object<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    object.get(name).and_then(Value::as_object)
}

/// A number that may come as JSON number or, as 64-bit values do, as text.
pub(super) fn integer(object: &Map<String, Value>, name: &str) -> Outcome<Option<i64>> {
    object.get(name).map_or(Ok(None), |value| integer_of(value, name))
}

/// `name` is what the value is called when it is no number.
pub(super) fn integer_of(value: &Value, name: &str) -> Outcome<Option<i64>> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_i64().or_else(|| value.as_str().and_then(|t| t.parse().ok()));
    number.map(Some).ok_or_else(|| Failure::invalid(format!("Invalid value for {name}: {value}")))
}

pub(super) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_decoded_and_empty_ones_are_absent() {
        let arguments = Arguments::parse(Some("a=x%20y&maxResults=5&pageToken=&deleteContents=True"));
        assert_eq!(arguments.get("a"), Some("x y"));
        assert_eq!(arguments.number("maxResults"), Ok(Some(5)));
        assert_eq!(arguments.get("pageToken"), None);
        assert!(arguments.flag("deleteContents"));
        assert!(Arguments::parse(Some("maxResults=x")).number("maxResults").is_err());
    }
}
