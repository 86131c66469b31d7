//! The three ways to upload an object: its bytes alone, with metadata before them, or in a resumable session.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;
use futures::StreamExt;
use serde_json::{Map, Value};

use super::{base_url, conditions};
use crate::emulator::run::blocking;
use crate::emulator::storage::media::{crc32c_text, header_text, with_header};
use crate::emulator::storage::multipart::Related;
use crate::emulator::storage::objects::Objects;
use crate::emulator::storage::records::{Attributes, Conditions, ObjectDocument, Record};
use crate::emulator::storage::uploads::Session;
use crate::emulator::storage::{Bucket, Draft, Storage, append, receive, resources};
use crate::emulator::wire::{self, Arguments, Failure, Outcome, Reply, text};

/// The object that an upload is to become.
#[derive(Debug)]
pub(in crate::emulator::storage) struct Wanted {
    bucket: Bucket,
    key: String,
    attributes: Attributes,
    conditions: Conditions,
    crc32c: Option<String>,
    md5: Option<String>,
}

impl Wanted {
    fn parse(bucket: Bucket, arguments: &Arguments, metadata: &Map<String, Value>) -> Outcome<Self> {
        let key = arguments.get("name").or(text(metadata, "name"));
        let key = key.ok_or_else(|| Failure::invalid("Required parameter is missing: name"))?.to_owned();
        let mut attributes = resources::attributes(metadata)?;
        if let Some(encoding) = arguments.get("contentEncoding") {
            attributes.0.insert("contentEncoding".into(), encoding.into());
        }
        let owned = |name: &str| text(metadata, name).map(str::to_owned);
        let (crc32c, md5) = (owned("crc32c"), owned("md5Hash"));
        Ok(Wanted { bucket, key, attributes, conditions: conditions(arguments, "if")?, crc32c, md5 })
    }

    /// What the object says of itself goes before what its request says.
    fn with_content_type(mut self, content_type: Option<&str>) -> Self {
        if let Some(content_type) = content_type.filter(|t| *t != "*/*") {
            self.attributes.0.entry("contentType").or_insert_with(|| content_type.into());
        }
        self
    }

    /// `x-goog-hash: crc32c=…,md5=…`.
    fn with_hashes(mut self, headers: &HeaderMap) -> Self {
        for value in headers.get_all("x-goog-hash").iter().filter_map(|v| v.to_str().ok()) {
            for (name, hash) in value.split(',').filter_map(|pair| pair.trim().split_once('=')) {
                match name {
                    "crc32c" => self.crc32c = Some(hash.to_owned()),
                    "md5" => self.md5 = Some(hash.to_owned()),
                    _ => {}
                }
            }
        }
        self
    }

    fn check_sums(&self, record: &Record) -> Outcome<()> {
        let found = [
            ("CRC32C", &self.crc32c, Some(crc32c_text(record))),
            ("MD5 hash", &self.md5, record.md5.map(|md5| STANDARD.encode(md5))),
        ];
        for (name, wanted, found) in found {
            if let (Some(wanted), Some(found)) = (wanted, found)
                && *wanted != found
            {
                return Err(Failure::invalid(format!(
                    "Provided {name} \"{wanted}\" doesn't match calculated {name} \"{found}\"."
                )));
            }
        }
        Ok(())
    }

    fn store(self, objects: &Objects, draft: Draft) -> Outcome<ObjectDocument> {
        objects.put_as(&self.bucket, &self.key, draft, self.conditions, |record| {
            self.check_sums(record)?;
            record.attributes = self.attributes.clone();
            Ok(())
        })
    }
}

pub(super) async fn answer(
    storage: &Arc<Storage>,
    method: &Method,
    bucket: Bucket,
    arguments: &Arguments,
    headers: &HeaderMap,
    body: Body,
) -> Outcome<Response<Body>> {
    let objects = Arc::clone(&storage.objects);
    if let Some(id) = arguments.get("upload_id") {
        return match *method {
            Method::PUT | Method::POST => resume(storage, id, headers, body).await,
            Method::DELETE => {
                storage.uploads.cancel_session(id);
                let mut response = Response::new(Body::empty());
                *response.status_mut() =
                    StatusCode::from_u16(499).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Ok(response)
            }
            _ => Err(Failure::not_implemented(format!("{method} on an upload"))),
        };
    }
    if method != Method::POST {
        return Err(Failure::not_implemented(format!("{method} on an upload")));
    }
    objects.check_bucket(&bucket)?;
    let base = base_url(headers);
    let (wanted, draft) = match arguments.get("uploadType") {
        Some("media") => {
            let content_type = header_text(headers, "content-type");
            let wanted = Wanted::parse(bucket, arguments, &Map::new())?.with_content_type(content_type);
            (wanted, receive(objects.draft()?, body).await?)
        }
        Some("multipart") => {
            let mut related = Related::open(headers, body).await?;
            let metadata = object_of(&related.metadata)?;
            let media_type = related.media_type.take();
            let wanted =
                Wanted::parse(bucket, arguments, &metadata)?.with_content_type(media_type.as_deref());
            let mut draft = objects.draft()?;
            while let Some(bytes) = related.next().await? {
                draft = append(draft, bytes).await?;
            }
            (wanted, draft)
        }
        Some("resumable") => {
            let sent = wire::read_object(headers, body).await?;
            let content_type = header_text(headers, "x-upload-content-type");
            let name = bucket.as_str().to_owned();
            let wanted = Wanted::parse(bucket, arguments, &sent)?.with_content_type(content_type);
            let id = storage.uploads.start_session(wanted, objects.draft()?);
            let location = format!("{base}/upload/storage/v1/b/{name}/o?uploadType=resumable&upload_id={id}");
            let response = with_header(Response::new(Body::empty()), "location", &location);
            return Ok(with_header(response, "x-guploader-uploadid", &id));
        }
        other => return Err(Failure::invalid(format!("Invalid upload type: {}", other.unwrap_or("none")))),
    };
    let wanted = wanted.with_hashes(headers);
    let document = blocking(move || wanted.store(&objects, draft)).await?;
    Ok(wire::response(Ok(Reply::Json(resources::object(&document, &base)))))
}

fn object_of(metadata: &[u8]) -> Outcome<Map<String, Value>> {
    if metadata.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(metadata) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Failure::invalid("Parse Error: the metadata is not a JSON object")),
    }
}

/// `bytes a-b/total`, `bytes a-b/*`, `bytes */total` and `bytes */*`.
#[derive(Debug, PartialEq)]
struct ContentRange {
    first: Option<u64>,
    total: Option<u64>,
}

fn parse_content_range(headers: &HeaderMap) -> Outcome<ContentRange> {
    // Without the header the request carries all that is left.
    let Some(text) = header_text(headers, "content-range") else {
        return Ok(ContentRange { first: Some(0), total: None });
    };
    let invalid = || Failure::invalid(format!("Invalid Content-Range: {text}"));
    let (range, total) = text.strip_prefix("bytes ").and_then(|t| t.split_once('/')).ok_or_else(invalid)?;
    let total = if total == "*" { None } else { Some(total.parse().map_err(|_| invalid())?) };
    let first = match range.split_once('-') {
        None if range == "*" => None,
        Some((first, _)) => Some(first.parse().map_err(|_| invalid())?),
        None => return Err(invalid()),
    };
    Ok(ContentRange { first, total })
}

/// The next bytes of a session, or the question how far it has come.
async fn resume(
    storage: &Arc<Storage>,
    id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Outcome<Response<Body>> {
    let session = storage.uploads.session(id)?;
    let mut session = session.lock().await;
    let range = parse_content_range(headers)?;
    let base = base_url(headers);
    let done =
        |document: &ObjectDocument| wire::response(Ok(Reply::Json(resources::object(document, &base))));
    // While bytes arrive they are in this request's hands.
    let (wanted, mut draft) = match std::mem::replace(&mut *session, Session::Broken) {
        Session::Open { wanted, draft } => (wanted, draft),
        Session::Done(document) => {
            let response = done(&document);
            *session = Session::Done(document);
            return Ok(response);
        }
        Session::Broken => return Err(Failure::backend("the upload failed: start it again")),
    };
    if let Some(first) = range.first {
        let stored = draft.size();
        let Some(known) = stored.checked_sub(first) else {
            *session = Session::Open { wanted, draft };
            return Err(Failure::invalid(format!("Invalid request: only {stored} bytes have come so far")));
        };
        let ended;
        (draft, ended) = extend(draft, known, body).await?;
        if let Err(failure) = ended {
            *session = Session::Open { wanted, draft };
            return Err(failure);
        }
    }
    let stored = draft.size();
    let total = if headers.contains_key("content-range") { range.total } else { Some(stored) };
    match total {
        Some(total) if total == stored => {
            let objects = Arc::clone(&storage.objects);
            let wanted = wanted.with_hashes(headers);
            let document = blocking(move || wanted.store(&objects, draft)).await?;
            let response = done(&document);
            *session = Session::Done(Box::new(document));
            Ok(response)
        }
        Some(total) if total < stored => Err(Failure::invalid(format!(
            "Invalid request: {stored} bytes have come, more than the {total} announced"
        ))),
        _ => {
            *session = Session::Open { wanted, draft };
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
            Ok(match stored.checked_sub(1) {
                Some(last) => with_header(response, "range", &format!("bytes=0-{last}")),
                None => response,
            })
        }
    }
}

/// Adds a body without its first `known` bytes, which came before. When it breaks off, what has come stays.
async fn extend(mut draft: Draft, mut known: u64, body: Body) -> Outcome<(Draft, Outcome<()>)> {
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let mut chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                return Ok((draft, Err(Failure::invalid(format!("the request body broke off: {error}")))));
            }
        };
        let skipped = usize::try_from(known).unwrap_or(usize::MAX).min(chunk.len());
        known -= skipped as u64;
        chunk.advance(skipped);
        draft = append(draft, chunk).await?;
    }
    Ok((draft, Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_says_where_and_how_many() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-range", text.parse().expect("a header"));
            parse_content_range(&headers)
        };
        assert_eq!(parse("bytes 5-9/10"), Ok(ContentRange { first: Some(5), total: Some(10) }));
        assert_eq!(parse("bytes 5-9/*"), Ok(ContentRange { first: Some(5), total: None }));
        assert_eq!(parse("bytes */10"), Ok(ContentRange { first: None, total: Some(10) }));
        assert_eq!(parse("bytes */*"), Ok(ContentRange { first: None, total: None }));
        for text in ["bytes 5/10", "5-9/10", "bytes x-9/10", "bytes 5-9/x", "bytes 5-9"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
