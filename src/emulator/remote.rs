//! Buckets of another server, which STORAGE_EMULATOR_HOST names.

use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, StaticCredentialProvider};
use tokio::io::AsyncWriteExt;

use super::wire::{Failure, Outcome};

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
