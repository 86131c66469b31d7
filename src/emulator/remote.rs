//! Buckets of another server, which STORAGE_EMULATOR_HOST names.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, StaticCredentialProvider, WriteMultipart};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::wire::{Failure, Outcome};

/// 8 MiB: larger objects are sent in parts of this size.
const PART_BYTES: u64 = 8 << 20;

/// None when this server's own buckets are meant.
pub(super) fn store(bucket: &str) -> Outcome<Option<Arc<dyn ObjectStore>>> {
    let Some(host) = std::env::var("STORAGE_EMULATOR_HOST").ok().filter(|h| !h.is_empty()) else {
        return Ok(None);
    };
    let base = if host.contains("://") { host } else { format!("http://{host}") };
    // skip_signature does not keep object_store 0.13 from asking for a token; an empty static one does.
    let credential = GcpCredential { bearer: String::new() };
    let base = base.trim_end_matches('/');
    // Naming a proxy is the only way to have the environment's ignored; no host goes through this one.
    let direct = ClientOptions::new().with_allow_http(true).with_proxy_url(base).with_proxy_excludes("*");
    let store = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_base_url(base)
        .with_client_options(direct)
        .with_credentials(Arc::new(StaticCredentialProvider::new(credential)))
        .build()
        .map_err(|e| Failure::backend(format!("cannot reach gs://{bucket}: {e}")))?;
    Ok(Some(Arc::new(store)))
}

/// Keys in the folder of `prefix`: object_store lists by whole folders.
pub(super) async fn names(store: &dyn ObjectStore, uri: &str, prefix: &str) -> Outcome<Vec<String>> {
    let folder = prefix.rfind('/').map(|slash| object_store::path::Path::from(&prefix[..slash]));
    let mut listed = store.list(folder.as_ref());
    let mut names = Vec::new();
    while let Some(entry) = listed.next().await {
        names.push(entry.map_err(|e| failed(uri, &e))?.location.to_string());
    }
    Ok(names)
}

/// Copies an object into the file at `path`, chunk by chunk.
pub(super) async fn download(store: &dyn ObjectStore, uri: &str, key: &str, path: &Path) -> Outcome<()> {
    let object = store.get(&location(uri, key)?).await.map_err(|e| failed(uri, &e))?;
    let mut chunks = object.into_stream();
    let mut file = tokio::fs::File::create(path).await?;
    while let Some(chunk) = chunks.next().await {
        file.write_all(&chunk.map_err(|e| failed(uri, &e))?).await?;
    }
    file.flush().await?;
    Ok(())
}

/// Sends a file chunk by chunk; the object is there when all of it is.
pub(super) async fn upload(
    store: &dyn ObjectStore,
    uri: &str,
    key: &str,
    file: std::fs::File,
) -> Outcome<()> {
    let location = location(uri, key)?;
    let mut file = tokio::fs::File::from_std(file);
    if file.metadata().await?.len() <= PART_BYTES {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).await?;
        return store.put(&location, bytes.into()).await.map(drop).map_err(|e| failed(uri, &e));
    }
    let upload = store.put_multipart(&location).await.map_err(|e| failed(uri, &e))?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES as usize);
    let mut chunks = ReaderStream::with_capacity(file, 1 << 16);
    while let Some(chunk) = chunks.next().await {
        upload.wait_for_capacity(2).await.map_err(|e| failed(uri, &e))?;
        upload.put(chunk?);
    }
    upload.finish().await.map(drop).map_err(|e| failed(uri, &e))
}

fn location(uri: &str, key: &str) -> Outcome<object_store::path::Path> {
    object_store::path::Path::parse(key)
        .map_err(|e| Failure::invalid(format!("Invalid Cloud Storage URI \"{uri}\": {e}")))
}

fn failed(uri: &str, error: &object_store::Error) -> Failure {
    match error {
        object_store::Error::NotFound { .. } => Failure::not_found(format!("Not found: URI {uri}")),
        other => Failure::backend(format!("cannot reach {uri}: {other}")),
    }
}
