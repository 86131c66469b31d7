//! Where load jobs read from: local files and Cloud Storage, one `*` allowed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, StaticCredentialProvider};
use tokio::io::AsyncWriteExt;
use url::Url;

use super::wire::{Failure, Outcome};

/// One file to load.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub uri: String,
    /// Set for `file://`.
    pub local: Option<PathBuf>,
}

enum Place {
    Local(PathBuf),
    Bucket { bucket: String, key: String },
}

/// Refuses, before a job is made, what could never be read.
pub(super) fn check(uri: &str) -> Outcome<()> {
    parse(uri).map(drop)
}

fn parse(uri: &str) -> Outcome<Place> {
    if uri.matches('*').count() > 1 {
        return Err(Failure::invalid(format!("Invalid source URI \"{uri}\": only one wildcard is allowed")));
    }
    if let Some(rest) = uri.strip_prefix("gs://") {
        return match rest.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() && !bucket.contains('*') => {
                Ok(Place::Bucket { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(Failure::invalid(format!("Invalid Cloud Storage URI \"{uri}\""))),
        };
    }
    if uri.starts_with("file://") {
        let path = Url::parse(uri).ok().and_then(|u| u.to_file_path().ok());
        return path.map(Place::Local).ok_or_else(|| {
            Failure::invalid(format!("Invalid file URI \"{uri}\": expected file:///absolute/path"))
        });
    }
    Err(Failure::invalid(format!("Source URI must be a Google Cloud Storage location or file://: {uri}")))
}

/// The files that a URI names; BigQuery refuses a URI that names none.
pub(super) async fn expand(uri: &str) -> Outcome<Vec<Source>> {
    let wild = uri.contains('*');
    let missing = || Failure::not_found(format!("Not found: URI {uri}"));
    let mut found = Vec::new();
    match parse(uri)? {
        Place::Local(path) if !wild => {
            if !path.is_file() {
                return Err(missing());
            }
            found.push(Source { uri: uri.to_owned(), local: Some(path) });
        }
        Place::Bucket { .. } if !wild => found.push(Source { uri: uri.to_owned(), local: None }),
        Place::Local(pattern) => {
            let pattern = pattern.to_string_lossy().into_owned();
            let (prefix, suffix) = pattern.split_once('*').unwrap_or((&pattern, ""));
            let base = prefix.rfind('/').map_or("/", |slash| &prefix[..=slash]);
            for path in files_below(Path::new(base)) {
                let text = path.to_string_lossy().into_owned();
                if matches(&text, prefix, suffix)
                    && let Ok(url) = Url::from_file_path(&path)
                {
                    found.push(Source { uri: url.to_string(), local: Some(path) });
                }
            }
        }
        Place::Bucket { bucket, key } => {
            let (prefix, suffix) = key.split_once('*').unwrap_or((&key, ""));
            let store = bucket_store(&bucket)?;
            // object_store lists by whole folders; the rest of the prefix is compared here.
            let folder = prefix.rfind('/').map(|slash| object_store::path::Path::from(&prefix[..slash]));
            let mut listed = store.list(folder.as_ref());
            while let Some(entry) = listed.next().await {
                let entry = entry.map_err(|e| storage_failed(uri, &e))?;
                let name = entry.location.to_string();
                if matches(&name, prefix, suffix) {
                    found.push(Source { uri: format!("gs://{bucket}/{name}"), local: None });
                }
            }
        }
    }
    if found.is_empty() {
        return Err(missing());
    }
    Ok(found)
}

fn matches(name: &str, prefix: &str, suffix: &str) -> bool {
    name.len() >= prefix.len() + suffix.len() && name.starts_with(prefix) && name.ends_with(suffix)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(_) => files.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    files
}

/// Copies an object into the file at `path`, chunk by chunk.
pub(super) async fn download(source: &Source, path: &Path) -> Outcome<()> {
    let Place::Bucket { bucket, key } = parse(&source.uri)? else {
        return Err(Failure::invalid(format!("{} is no object", source.uri)));
    };
    let store = bucket_store(&bucket)?;
    let location = object_store::path::Path::parse(&key)
        .map_err(|e| Failure::invalid(format!("Invalid Cloud Storage URI \"{}\": {e}", source.uri)))?;
    let object = store.get(&location).await.map_err(|e| storage_failed(&source.uri, &e))?;
    let mut chunks = object.into_stream();
    let mut file = tokio::fs::File::create(path).await?;
    while let Some(chunk) = chunks.next().await {
        file.write_all(&chunk.map_err(|e| storage_failed(&source.uri, &e))?).await?;
    }
    file.flush().await?;
    Ok(())
}

fn storage_failed(uri: &str, error: &object_store::Error) -> Failure {
    match error {
        object_store::Error::NotFound { .. } => Failure::not_found(format!("Not found: URI {uri}")),
        other => Failure::backend(format!("cannot read {uri}: {other}")),
    }
}

fn bucket_store(bucket: &str) -> Outcome<Arc<dyn ObjectStore>> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    if let Some(host) = std::env::var("STORAGE_EMULATOR_HOST").ok().filter(|h| !h.is_empty()) {
        let base = if host.contains("://") { host } else { format!("http://{host}") };
        // skip_signature does not keep object_store 0.13 from asking for a token; an empty static one does.
        let credential = GcpCredential { bearer: String::new() };
        let base = base.trim_end_matches('/');
        // Naming a proxy is the only way to have the environment's ignored; no host goes through this one.
        let direct = ClientOptions::new().with_allow_http(true).with_proxy_url(base).with_proxy_excludes("*");
        builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(bucket)
            .with_base_url(base)
            .with_client_options(direct)
            .with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    }
    let store = builder.build().map_err(|e| Failure::backend(format!("cannot reach gs://{bucket}: {e}")))?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_and_buckets_with_one_wildcard_are_sources() {
        for uri in ["gs://b/k", "gs://b/dir/*", "gs://b/a*z.parquet", "file:///tmp/x.parquet"] {
            assert!(check(uri).is_ok(), "{uri}");
        }
        for uri in ["gs://b", "gs:///k", "gs://b*/k", "gs://b/*/*", "http://x/y", "/tmp/x", "file://host/x"] {
            assert_eq!(check(uri).unwrap_err().code, 400, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_wildcard_reaches_into_folders_and_a_missing_file_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["a1.parquet", "sub/a2.parquet", "a3.txt"] {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        let base = Url::from_file_path(dir.path()).unwrap();
        assert_eq!(expand(&format!("{base}/*.parquet")).await.unwrap().len(), 2);
        assert_eq!(expand(&format!("{base}/a*.parquet")).await.unwrap().len(), 1);
        assert_eq!(expand(&format!("{base}/none.parquet")).await.unwrap_err().code, 404);
    }
}
