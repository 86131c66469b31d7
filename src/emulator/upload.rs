//! Load jobs whose file comes with the request: multipart in one, or resumable in chunks of any size.
//!
//! Bytes go straight to disk. A resumable session is a document and a file; how much has come is the length of
//! the file, so that a session survives lost connections and a restart of the server alike.

mod multipart;
mod range;
mod session;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use futures::StreamExt;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;

use self::range::Range;
use self::session::Session;
pub(super) use self::session::Uploads;
use super::Emulator;
use super::disk::OwnedFile;
use super::names::ProjectId;
use super::routes::path_segments;
use super::run::{self, blocking};
use super::wire::{self, Arguments, Failure, Outcome, Reply};

/// 100 GiB: far above what a test uploads, far below what fills a disk unnoticed.
const UPLOAD_BYTES_MAX: u64 = 100 << 30;

/// The project of `/upload/bigquery/v2/projects/p/jobs` and of the spellings that older clients use.
pub(super) fn project_of(path: &str) -> Option<String> {
    let path = path.strip_prefix("/resumable").unwrap_or(path).strip_prefix("/upload")?;
    let path = path.strip_prefix("/bigquery/v2").unwrap_or(path);
    match path_segments(path).ok()?.as_slice() {
        [projects, project, jobs] if projects == "projects" && jobs == "jobs" => Some(project.clone()),
        _ => None,
    }
}

pub(super) async fn handle(emulator: &Arc<Emulator>, project: &str, request: Request) -> Response {
    answer(emulator, project, request).await.unwrap_or_else(|failure| wire::response(Err(failure)))
}

async fn answer(emulator: &Arc<Emulator>, project: &str, request: Request) -> Outcome<Response> {
    let project = ProjectId::parse(project)?;
    let arguments = Arguments::parse(request.uri().query());
    if let Some(id) = arguments.get("upload_id") {
        return resume(emulator, id, request).await;
    }
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return Err(Failure::not_implemented(format!("{} of an upload without an upload_id", parts.method)));
    }
    match arguments.get("uploadType") {
        Some("multipart") => {
            let draft = emulator.uploads.draft();
            let job = multipart::receive(&parts.headers, body, draft.path()).await?;
            let inserted = run::insert(emulator, project, &job, Some(Arc::new(draft))).await;
            Ok(wire::response(inserted))
        }
        Some("resumable") => start(emulator, project, &parts.headers, parts.uri.path(), body).await,
        other => Err(Failure::invalid(format!(
            "Invalid value for uploadType: {}: expected multipart or resumable",
            other.unwrap_or("none")
        ))),
    }
}

async fn start(
    emulator: &Arc<Emulator>,
    project: ProjectId,
    headers: &HeaderMap,
    path: &str,
    body: Body,
) -> Outcome<Response> {
    let job = wire::read_object(headers, body).await?;
    let state = Arc::clone(emulator);
    let id = blocking(move || state.uploads.start(project, job)).await?;
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("localhost");
    let location = format!("http://{host}{path}?uploadType=resumable&upload_id={id}");
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(header::LOCATION, header_value(&location)?);
    response.headers_mut().insert("x-guploader-uploadid", header_value(&id)?);
    Ok(response)
}

/// A chunk, or a question about how much has come.
async fn resume(emulator: &Arc<Emulator>, id: &str, request: Request) -> Outcome<Response> {
    let (parts, body) = request.into_parts();
    let turn = emulator.uploads.turn(id);
    // One request at a time writes to a session; the next waits for it.
    let _turn = turn.lock().await;
    let mut session = emulator.uploads.open_session(id)?;
    match parts.method {
        Method::DELETE => {
            emulator.uploads.remove(&session)?;
            return Ok(wire::response(Ok(Reply::NoContent)));
        }
        Method::PUT | Method::POST => {}
        method => return Err(Failure::not_implemented(format!("{method} of an upload"))),
    }
    if let Some(job) = session.finished_job(emulator)? {
        return Ok(wire::response(Ok(Reply::Json(job))));
    }
    let range = Range::parse(&parts.headers)?;
    let received = session.received()?;
    let total = match range {
        Range::Status { total } => total,
        Range::Chunk { first, total, length } => {
            if first > received {
                return Err(Failure::invalid(format!(
                    "Invalid request. The chunk begins at byte {first}, but only {received} bytes have come."
                )));
            }
            append(&session, body, received - first, length).await?;
            total
        }
        Range::Whole => {
            append(&session, body, received, None).await?;
            Some(session.received()?)
        }
    };
    let received = session.received()?;
    match total {
        Some(total) if received > total => Err(Failure::invalid(format!(
            "Invalid request. {received} bytes have come of an upload of {total}."
        ))),
        Some(total) if received == total => {
            let job = finish(emulator, &mut session).await?;
            Ok(wire::response(Ok(job)))
        }
        _ => incomplete(received),
    }
}

fn incomplete(received: u64) -> Outcome<Response> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Some(last) = received.checked_sub(1) {
        response.headers_mut().insert(header::RANGE, header_value(&format!("bytes=0-{last}"))?);
    }
    Ok(response)
}

/// Adds the body to the session's file, without the bytes that it has already.
async fn append(session: &Session, body: Body, mut skip: u64, length: Option<u64>) -> Outcome<()> {
    let mut file = tokio::fs::OpenOptions::new().append(true).open(session.file_path()).await?;
    let mut size = session.received()?;
    let mut left = length.unwrap_or(u64::MAX);
    let mut chunks = body.into_data_stream();
    let mut broken = None;
    while let Some(chunk) = chunks.next().await {
        let mut chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                broken = Some(Failure::invalid(format!("the upload broke off: {error}")));
                break;
            }
        };
        let came = chunk.len() as u64;
        if came > left {
            broken = Some(Failure::invalid("Invalid request. The chunk is longer than its Content-Range."));
            break;
        }
        left -= came;
        let known = skip.min(came);
        skip -= known;
        let _ = chunk.split_to(usize::try_from(known).unwrap_or(chunk.len()));
        size += chunk.len() as u64;
        if size > UPLOAD_BYTES_MAX {
            broken = Some(Failure::invalid("Invalid request. The upload is larger than 100 GiB."));
            break;
        }
        file.write_all(&chunk).await?;
    }
    // What is confirmed is on the disk.
    file.flush().await?;
    file.sync_data().await?;
    broken.map_or(Ok(()), Err)
}

/// Makes the job; it owns the file from now on.
async fn finish(emulator: &Arc<Emulator>, session: &mut Session) -> Outcome<Reply> {
    let again = session.attempt()?;
    let file = Arc::new(OwnedFile::new(session.file_path()));
    let inserted =
        run::insert(emulator, session.project.clone(), &session.job, Some(Arc::clone(&file))).await;
    match inserted {
        // An earlier request made the job and its answer was lost with the server.
        Err(failure) if again && failure.reason == "duplicate" => {
            file.discard();
            Ok(Reply::Json(session.job_resource(emulator)?))
        }
        Err(failure) => {
            emulator.uploads.remove(session)?;
            Err(failure)
        }
        Ok(reply) => {
            file.discard();
            session.complete()?;
            Ok(reply)
        }
    }
}

fn header_value(text: &str) -> Outcome<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Failure::invalid("the request's Host cannot be answered"))
}

/// The document of the job, with an id in any case: a request that is sent again must mean the same job.
fn with_job_id(mut job: Map<String, Value>) -> Outcome<Map<String, Value>> {
    let reference = job.get("jobReference").and_then(Value::as_object);
    let (id, location) = super::jobs::parse_reference(reference)?;
    let mut reference = json!({"jobId": id.as_str()});
    if let Some(location) = location {
        reference["location"] = json!(location);
    }
    job.insert("jobReference".to_owned(), reference);
    Ok(job)
}
