//! Where load jobs read from: local files and Cloud Storage, one `*` allowed.
//!
//! `gs://` means this server's own buckets, or those at STORAGE_EMULATOR_HOST when that is set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::remote;
use super::run::blocking;
use super::storage::{Bucket, Objects};
use super::wire::{Failure, Outcome};

/// One file to load.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub uri: String,
    /// Set for `file://`.
    pub local: Option<PathBuf>,
}

pub(super) enum Place {
    Local(PathBuf),
    Bucket { bucket: String, key: String },
}

/// Refuses, before a job is made, what could never be read.
pub(super) fn check(uri: &str) -> Outcome<()> {
    parse(uri).map(drop)
}

pub(super) fn parse(uri: &str) -> Outcome<Place> {
    if uri.matches('*').count() > 1 {
        return Err(Failure::invalid(format!("Invalid URI \"{uri}\": only one wildcard is allowed")));
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
pub(super) async fn expand(uri: &str, own: &Arc<Objects>) -> Outcome<Vec<Source>> {
    let wild = uri.contains('*');
    let mut found = Vec::new();
    match parse(uri)? {
        Place::Local(path) if !wild => {
            if !path.is_file() {
                return Err(not_found(uri));
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
            let names = match remote::store(&bucket)? {
                Some(store) => remote::names(&*store, uri, prefix).await?,
                None => {
                    let (own, bucket, prefix) = (Arc::clone(own), Bucket::parse(&bucket)?, prefix.to_owned());
                    blocking(move || own.keys(&bucket, &prefix)).await?
                }
            };
            for name in names.iter().filter(|name| matches(name, prefix, suffix)) {
                found.push(Source { uri: format!("gs://{bucket}/{name}"), local: None });
            }
        }
    }
    if found.is_empty() {
        return Err(not_found(uri));
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
pub(super) async fn download(source: &Source, path: &Path, own: &Arc<Objects>) -> Outcome<()> {
    let Place::Bucket { bucket, key } = parse(&source.uri)? else {
        return Err(Failure::invalid(format!("{} is no object", source.uri)));
    };
    let uri = &source.uri;
    if let Some(store) = remote::store(&bucket)? {
        return remote::download(&*store, uri, &key, path).await;
    }
    let (own, path, missing) = (Arc::clone(own), path.to_owned(), not_found(uri));
    blocking(move || {
        let object = own.get(&Bucket::parse(&bucket)?, &key);
        let object = object.map_err(|e| if e.code == 404 { missing } else { e })?;
        std::io::copy(&mut &object.file, &mut std::fs::File::create(path)?)?;
        Ok(())
    })
    .await
}

fn not_found(uri: &str) -> Failure {
    Failure::not_found(format!("Not found: URI {uri}"))
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
        let own = Arc::new(Objects::open(&dir.path().join("buckets")).unwrap());
        assert_eq!(expand(&format!("{base}/*.parquet"), &own).await.unwrap().len(), 2);
        assert_eq!(expand(&format!("{base}/a*.parquet"), &own).await.unwrap().len(), 1);
        assert_eq!(expand(&format!("{base}/none.parquet"), &own).await.unwrap_err().code, 404);
    }
}
