//! Cloud Storage over a folder: the XML API that object_store speaks and the JSON API of Google's own clients.
//!
//! A bucket is a folder and an object a file in it (see `layout`), so that what jobs write can be looked at and
//! what they are to read can be dropped in. Not here: versions, access control, holds, notifications, and
//! lifecycles; what is asked of them is refused.

mod buckets;
mod draft;
mod json;
mod layout;
mod listing;
mod media;
mod multipart;
mod objects;
mod records;
mod resources;
mod uploads;
mod xml;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use futures::StreamExt;

use super::run::blocking;
use super::wire::{self, Failure, Outcome};

pub(super) use draft::Draft;
pub(super) use layout::Bucket;
pub(super) use objects::Objects;
pub(super) use records::{Attributes, Conditions};

/// What all requests of Cloud Storage share.
#[derive(Debug)]
pub(super) struct Storage {
    pub objects: Arc<Objects>,
    uploads: uploads::Uploads,
}

impl Storage {
    pub(super) fn new(objects: Arc<Objects>) -> Self {
        Storage { objects, uploads: uploads::Uploads::default() }
    }
}

/// Paths of the JSON API. No bucket is called `storage`, as far as the XML API is concerned.
const JSON: [&str; 4] = ["/storage/v1/", "/download/storage/v1/", "/upload/storage/v1/", "/batch/storage/v1"];

fn is_json(path: &str) -> bool {
    JSON.iter().any(|prefix| path.starts_with(prefix))
}

/// Whether a path is Cloud Storage's where BigQuery is served too: it is when no API of BigQuery's starts so.
pub(super) fn is_storage_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default().to_ascii_lowercase();
    let is_bigquery = matches!(
        first.as_str(),
        "" | "bigquery"
            | "projects"
            | "upload"
            | "resumable"
            | "batch"
            | "token"
            | "discovery"
            | "$discovery"
            | "%24discovery"
    );
    is_json(path) || !is_bigquery
}

pub(super) async fn handle(storage: Arc<Storage>, request: Request) -> Response<Body> {
    if is_json(request.uri().path()) {
        let answered = json::answer(&storage, request).await;
        return answered.unwrap_or_else(|failure| wire::response(Err(failure)));
    }
    xml::answer(storage, request).await.unwrap_or_else(|failure| xml::error_response(&failure))
}

pub(super) fn error_response(path: &str, failure: Failure) -> Response<Body> {
    match is_json(path) {
        true => wire::response(Err(failure)),
        false => xml::error_response(&failure),
    }
}

/// Writes a body into a draft, chunk by chunk; a body that breaks off leaves nothing.
async fn receive(mut draft: Draft, body: Body) -> Outcome<Draft> {
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|e| Failure::invalid(format!("the request body broke off: {e}")))?;
        draft = append(draft, chunk).await?;
    }
    Ok(draft)
}

async fn append(mut draft: Draft, bytes: bytes::Bytes) -> Outcome<Draft> {
    blocking(move || {
        draft.append(&bytes)?;
        Ok(draft)
    })
    .await
}

#[cfg(test)]
mod tests;
