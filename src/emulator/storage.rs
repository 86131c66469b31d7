//! The part of Cloud Storage's XML API that object_store speaks, on the same port as BigQuery.
//!
//! A bucket exists as soon as it is named. So `STORAGE_EMULATOR_HOST` may be this server's own address, for a
//! client that stages files and for the load jobs that read them.

use std::fmt::Write;
use std::io::SeekFrom;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::objects::{Draft, Object, Objects};
use super::routes::path_segments;
use super::run::blocking;
use super::wire::{Arguments, Failure, Outcome};

const GENERATION: &str = "x-goog-generation";
const IF_GENERATION: &str = "x-goog-if-generation-match";
const LIST_KEYS_MAX: usize = 1000;
/// 1 MiB of completion XML names more parts than an upload may have.
const COMPLETION_BYTES_MAX: usize = 1 << 20;

/// Whether a path names a bucket or object, which is everything that no API of BigQuery's starts with.
pub(super) fn is_object_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let first = first.to_ascii_lowercase();
    !matches!(
        first.as_str(),
        "" | "bigquery"
            | "projects"
            | "upload"
            | "resumable"
            | "batch"
            | "token"
            | "$discovery"
            | "%24discovery"
    )
}

pub(super) async fn handle(objects: Arc<Objects>, request: Request) -> Response<Body> {
    answer(objects, request).await.unwrap_or_else(|failure| error_response(&failure))
}

async fn answer(objects: Arc<Objects>, request: Request) -> Outcome<Response<Body>> {
    let (parts, body) = request.into_parts();
    let arguments = Arguments::parse(parts.uri.query());
    let raw = parts.uri.query().unwrap_or_default();
    // Keys may come with their slashes escaped or plain; empty segments of a key are not kept.
    let segments = path_segments(parts.uri.path())?;
    let (bucket, key) = match segments.split_first() {
        Some((bucket, key)) => (bucket.clone(), key.join("/")),
        None => return Err(Failure::invalid("no bucket")),
    };
    let upload = arguments.get("uploadId").map(str::to_owned);
    match (&parts.method, key.is_empty(), upload) {
        (&Method::GET, true, _) => {
            let list = blocking(move || list(&objects, &bucket, &arguments)).await?;
            Ok(xml(list))
        }
        (&Method::GET | &Method::HEAD, false, None) => {
            let object = objects.get(&bucket, &key)?;
            let bodiless = parts.method == Method::HEAD;
            read(&object, &parts.headers, &arguments, bodiless).await
        }
        (&Method::PUT, false, None) if parts.headers.contains_key("x-goog-copy-source") => {
            let source = header_text(&parts.headers, "x-goog-copy-source").unwrap_or_default();
            let source = path_segments(&source)?;
            let condition = if_generation(&parts.headers)?;
            let object = blocking(move || {
                let (from, rest) = source.split_first().ok_or_else(|| Failure::invalid("no copy source"))?;
                let object = objects.get(from, &rest.join("/"))?;
                let mut draft = objects.draft(&bucket)?;
                let mut file = std::fs::File::open(object.file.path())?;
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match std::io::Read::read(&mut file, &mut buffer)? {
                        0 => break,
                        read => draft.write(&buffer[..read])?,
                    }
                }
                objects.put(&bucket, &key, draft, condition)
            })
            .await?;
            let etag = escaped(&object.document.etag());
            let time = rfc3339(object.document.modified_ms);
            let text = format!(
                "<CopyObjectResult><ETag>{etag}</ETag><LastModified>{time}</LastModified></CopyObjectResult>"
            );
            Ok(with_version(xml(text), &object))
        }
        (&Method::PUT, false, None) => {
            let condition = if_generation(&parts.headers)?;
            let draft = receive(&objects, &bucket, body).await?;
            let object = blocking(move || objects.put(&bucket, &key, draft, condition)).await?;
            Ok(with_version(Response::new(Body::empty()), &object))
        }
        (&Method::PUT, false, Some(upload)) => {
            let number = arguments.number("partNumber")?.and_then(|n| u32::try_from(n).ok());
            let number = number.ok_or_else(|| Failure::invalid("no partNumber"))?;
            let part = receive(&objects, &bucket, body).await?;
            let etag = objects.put_part(&upload, number, part)?;
            Ok(with_header(Response::new(Body::empty()), header::ETAG.as_str(), &etag))
        }
        (&Method::POST, false, None) if raw.split('&').any(|a| a == "uploads" || a == "uploads=") => {
            let id = objects.start_upload();
            let (bucket, key) = (escaped(&bucket), escaped(&key));
            Ok(xml(format!(
                "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key>\
                 <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            )))
        }
        (&Method::POST, false, Some(upload)) => {
            let document = axum::body::to_bytes(body, COMPLETION_BYTES_MAX).await;
            let document =
                document.map_err(|e| Failure::invalid(format!("the request body broke off: {e}")))?;
            let numbers = part_numbers(&String::from_utf8_lossy(&document))?;
            let (to_bucket, to_key) = (bucket.clone(), key.clone());
            let object = blocking(move || objects.complete(&to_bucket, &to_key, &upload, &numbers)).await?;
            let (bucket, key, etag) = (escaped(&bucket), escaped(&key), escaped(&object.document.etag()));
            let text = format!(
                "<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{etag}</ETag>\
                 </CompleteMultipartUploadResult>"
            );
            Ok(with_version(xml(text), &object))
        }
        (&Method::DELETE, false, upload) => {
            blocking(move || match upload {
                Some(upload) => objects.abort(&upload),
                None => objects.delete(&bucket, &key),
            })
            .await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        (method, _, _) => Err(Failure::not_implemented(format!("{method} {}", parts.uri.path()))),
    }
}

/// Writes a body into a draft, chunk by chunk; a body that breaks off leaves nothing.
async fn receive(objects: &Arc<Objects>, bucket: &str, body: Body) -> Outcome<Draft> {
    let (store, name) = (Arc::clone(objects), bucket.to_owned());
    let mut draft = blocking(move || store.draft(&name)).await?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| Failure::invalid(format!("the request body broke off: {e}")))?;
        draft = blocking(move || {
            draft.write(&chunk)?;
            Ok(draft)
        })
        .await?;
    }
    Ok(draft)
}

async fn read(
    object: &Object,
    headers: &HeaderMap,
    arguments: &Arguments,
    bodiless: bool,
) -> Outcome<Response<Body>> {
    let document = &object.document;
    let etag = document.etag();
    if arguments.get("generation").is_some_and(|g| g != document.generation.to_string()) {
        return Err(Failure::not_found("No such object generation."));
    }
    let names_it = |list: &str| list.split(',').any(|t| t.trim() == "*" || t.trim() == etag);
    if header_text(headers, "if-match").is_some_and(|list| !names_it(&list)) {
        return Err(Failure::condition_not_met());
    }
    if header_text(headers, "if-none-match").is_some_and(|list| names_it(&list)) {
        let mut response = with_version(Response::new(Body::empty()), object);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let whole = 0..document.size;
    let asked = header_text(headers, "range").map(|r| parse_range(&r, document.size));
    let range = match asked {
        None => whole.clone(),
        Some(Some(range)) => range,
        Some(None) => {
            let mut response = error_response(&Failure::invalid("InvalidRange"));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return Ok(response);
        }
    };
    let length = range.end - range.start;
    let body = if bodiless {
        Body::empty()
    } else {
        let mut file = tokio::fs::File::open(object.file.path()).await?;
        file.seek(SeekFrom::Start(range.start)).await?;
        Body::from_stream(ReaderStream::with_capacity(file.take(length), 1 << 16))
    };
    let mut response = with_version(Response::new(body), object);
    let modified = DateTime::<Utc>::from_timestamp_millis(document.modified_ms).unwrap_or_default();
    response = with_header(response, "content-length", &length.to_string());
    response = with_header(response, "content-type", "application/octet-stream");
    response = with_header(response, "accept-ranges", "bytes");
    response =
        with_header(response, "last-modified", &modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
    if headers.contains_key("range") {
        let last = range.end.saturating_sub(1);
        let text = format!("bytes {}-{last}/{}", range.start, document.size);
        response = with_header(response, "content-range", &text);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// `bytes=a-b`, `bytes=a-` and `bytes=-n`; `None` when nothing of it is there.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.is_empty(), last.is_empty()) {
        (false, false) => first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?.min(size),
        (false, true) => first.parse().ok()?..size,
        (true, false) => size.saturating_sub(last.parse().ok()?)..size,
        (true, true) => return None,
    };
    (range.start < range.end).then_some(range)
}

fn list(objects: &Objects, bucket: &str, arguments: &Arguments) -> Outcome<String> {
    let prefix = arguments.get("prefix").unwrap_or_default();
    let delimiter = arguments.get("delimiter");
    let after = arguments.get("continuation-token").or(arguments.get("start-after")).unwrap_or_default();
    let max = arguments.number("max-keys")?.and_then(|n| usize::try_from(n).ok());
    let max = max.unwrap_or(LIST_KEYS_MAX).clamp(1, LIST_KEYS_MAX);
    let (mut contents, mut folders) = (String::new(), Vec::new());
    let (mut count, mut last, mut more) = (0, String::new(), false);
    for object in objects.list(bucket, prefix, after) {
        let folder = delimiter.and_then(|delimiter| {
            let rest = &object.key[prefix.len()..];
            rest.find(delimiter).map(|at| object.key[..prefix.len() + at + delimiter.len()].to_owned())
        });
        if folder.as_ref().is_some_and(|f| folders.last() == Some(f)) {
            last = object.key;
            continue;
        }
        if count == max {
            more = true;
            break;
        }
        count += 1;
        match folder {
            // A page may have ended inside of this folder: it was named then.
            Some(folder) if after.starts_with(&folder) => count -= 1,
            Some(folder) => folders.push(folder),
            None => {
                let _ = write!(
                    contents,
                    "<Contents><Key>{}</Key><Generation>{}</Generation><LastModified>{}</LastModified>\
                     <ETag>{}</ETag><Size>{}</Size></Contents>",
                    escaped(&object.key),
                    object.generation,
                    rfc3339(object.modified_ms),
                    escaped(&object.etag()),
                    object.size
                );
            }
        }
        last = object.key;
    }
    let mut text = format!(
        "<ListBucketResult><Name>{}</Name><Prefix>{}</Prefix><KeyCount>{count}</KeyCount>\
         <IsTruncated>{more}</IsTruncated>{contents}",
        escaped(bucket),
        escaped(prefix)
    );
    for folder in folders {
        let _ = write!(text, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escaped(&folder));
    }
    if more {
        let _ = write!(text, "<NextContinuationToken>{}</NextContinuationToken>", escaped(&last));
    }
    text.push_str("</ListBucketResult>");
    Ok(text)
}

/// The parts that a CompleteMultipartUpload document names, which has no attributes and no nesting beyond them.
fn part_numbers(document: &str) -> Outcome<Vec<u32>> {
    let numbers = document.split("<PartNumber>").skip(1).map(|rest| {
        let number = rest.split('<').next().and_then(|n| n.trim().parse().ok());
        number.ok_or_else(|| Failure::invalid("MalformedXML"))
    });
    let numbers = numbers.collect::<Outcome<Vec<u32>>>()?;
    let rising = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    if numbers.is_empty() || !rising {
        return Err(Failure::invalid("InvalidPartOrder"));
    }
    Ok(numbers)
}

fn if_generation(headers: &HeaderMap) -> Outcome<Option<i64>> {
    let Some(text) = header_text(headers, IF_GENERATION) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Failure::invalid(format!("Invalid {IF_GENERATION}: {text}")))
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
}

fn with_header(mut response: Response<Body>, name: &str, value: &str) -> Response<Body> {
    if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), header::HeaderValue::from_str(value))
    {
        response.headers_mut().insert(name, value);
    }
    response
}

fn with_version(response: Response<Body>, object: &Object) -> Response<Body> {
    let response = with_header(response, header::ETAG.as_str(), &object.document.etag());
    with_header(response, GENERATION, &object.document.generation.to_string())
}

fn xml(text: String) -> Response<Body> {
    let document = format!("<?xml version='1.0' encoding='UTF-8'?>{text}");
    with_header(Response::new(Body::from(document)), "content-type", "application/xml; charset=UTF-8")
}

pub(super) fn error_response(failure: &Failure) -> Response<Body> {
    let code = match failure.code {
        404 => "NoSuchKey",
        412 => "PreconditionFailed",
        501 => "NotImplemented",
        400 => "InvalidArgument",
        _ => "InternalError",
    };
    let message = escaped(&failure.message);
    let mut response = xml(format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"));
    *response.status_mut() = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn rfc3339(ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms)
        .unwrap_or_default()
        .format("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
