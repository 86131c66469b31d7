//! Objects of the Cloud Storage side: durable files with a generation each, replaced whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::disk::{self, OwnedFile, unique_name};
use super::names::file_name;
use super::versions::lock;
use super::wire::{Failure, Outcome, now_ms};

/// What is known of an object besides its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ObjectDocument {
    pub bucket: String,
    pub key: String,
    pub size: u64,
    pub generation: i64,
    pub modified_ms: i64,
    /// The name of the file with the bytes, beside the document.
    file: String,
}

impl ObjectDocument {
    pub(super) fn etag(&self) -> String {
        format!("\"{:x}\"", self.generation)
    }
}

/// An object and its file, which stays as long as somebody reads it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub document: ObjectDocument,
    pub file: Arc<OwnedFile>,
}

type Key = (String, String);

/// Bytes that arrive, in a file that vanishes unless it becomes an object.
#[derive(Debug)]
pub(super) struct Draft {
    file: File,
    owned: OwnedFile,
    size: u64,
}

impl Draft {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Objects {
    root: PathBuf,
    objects: Mutex<BTreeMap<Key, Object>>,
    /// Parts of uploads that are not complete; a restart forgets them, as an abort would.
    uploads: Mutex<HashMap<String, BTreeMap<u32, Draft>>>,
}

impl Objects {
    pub(super) fn open(root: &Path) -> std::io::Result<Objects> {
        let root = root.join("storage");
        let mut objects = BTreeMap::new();
        for dir in disk::folders(&root)? {
            let mut wanted = Vec::new();
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(&dir)? {
                let path = entry?.path();
                if path.extension().is_some_and(|e| e == "json")
                    && let Some(document) = disk::read_document::<ObjectDocument>(&path)?
                {
                    wanted.push(dir.join(&document.file));
                    let file = Arc::new(OwnedFile::new(dir.join(&document.file)));
                    let key = (document.bucket.clone(), document.key.clone());
                    objects.insert(key, Object { document, file });
                } else {
                    paths.push(path);
                }
            }
            wanted.sort_unstable();
            for path in paths.into_iter().filter(|p| wanted.binary_search(p).is_err()) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(Objects { root, objects: Mutex::new(objects), uploads: Mutex::new(HashMap::new()) })
    }

    fn dir(&self, bucket: &str) -> PathBuf {
        self.root.join(file_name(bucket))
    }

    pub(super) fn draft(&self, bucket: &str) -> Outcome<Draft> {
        let dir = self.dir(bucket);
        disk::create_dir(&dir)?;
        disk::sync_dir(&self.root)?;
        let owned = OwnedFile::draft(dir.join(format!("{}.bin", unique_name())));
        let file = File::create_new(owned.path())?;
        Ok(Draft { file, owned, size: 0 })
    }

    /// Makes the draft the object; `if_generation` 0 means that there must be none yet.
    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        draft: Draft,
        if_generation: Option<i64>,
    ) -> Outcome<Object> {
        draft.file.sync_all()?;
        let mut objects = lock(&self.objects);
        let id = (bucket.to_owned(), key.to_owned());
        let current = objects.get(&id).map(|o| o.document.generation);
        if if_generation.is_some_and(|wanted| wanted != current.unwrap_or(0)) {
            return Err(Failure::condition_not_met());
        }
        let now = now_ms();
        let path = draft.owned.path();
        let document = ObjectDocument {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            size: draft.size,
            // Microseconds, as in Cloud Storage, and never the same twice for one key.
            generation: (now * 1000).max(current.unwrap_or(0) + 1),
            modified_ms: now,
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        draft.owned.keep();
        disk::write_document(&self.document_path(bucket, key), &document)?;
        let object = Object { document, file: Arc::new(draft.owned) };
        if let Some(old) = objects.insert(id, object.clone()) {
            old.file.discard();
        }
        Ok(object)
    }

    fn document_path(&self, bucket: &str, key: &str) -> PathBuf {
        self.dir(bucket).join(format!("{}.json", file_name(key)))
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Outcome<Object> {
        let found = lock(&self.objects).get(&(bucket.to_owned(), key.to_owned())).cloned();
        found.ok_or_else(|| Failure::not_found("The specified key does not exist."))
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> Outcome<()> {
        let mut objects = lock(&self.objects);
        let id = (bucket.to_owned(), key.to_owned());
        if !objects.contains_key(&id) {
            return Err(Failure::not_found("The specified key does not exist."));
        }
        disk::remove_file(&self.document_path(bucket, key))?;
        if let Some(old) = objects.remove(&id) {
            old.file.discard();
        }
        Ok(())
    }

    /// Objects of a bucket whose keys start with `prefix` and come after `after`, in order of key.
    pub(super) fn list(&self, bucket: &str, prefix: &str, after: &str) -> Vec<ObjectDocument> {
        let objects = lock(&self.objects);
        let from = (bucket.to_owned(), prefix.max(after).to_owned());
        objects
            .range(from..)
            .take_while(|((b, k), _)| b == bucket && (k.starts_with(prefix) || k.as_str() < prefix))
            .filter(|((_, k), _)| k.starts_with(prefix) && k.as_str() > after)
            .map(|(_, object)| object.document.clone())
            .collect()
    }

    pub(super) fn start_upload(&self) -> String {
        let id = unique_name();
        lock(&self.uploads).insert(id.clone(), BTreeMap::new());
        id
    }

    /// Keeps a part; a part sent again replaces the earlier one.
    pub(super) fn put_part(&self, upload: &str, number: u32, part: Draft) -> Outcome<String> {
        let mut uploads = lock(&self.uploads);
        let parts = uploads.get_mut(upload).ok_or_else(no_upload)?;
        let etag = format!("\"{number}-{}\"", part.size);
        parts.insert(number, part);
        Ok(etag)
    }

    /// Joins the named parts into one object.
    pub(super) fn complete(&self, bucket: &str, key: &str, upload: &str, numbers: &[u32]) -> Outcome<Object> {
        let mut parts = lock(&self.uploads).remove(upload).ok_or_else(no_upload)?;
        let mut whole = self.draft(bucket)?;
        for number in numbers {
            let part = parts.remove(number).ok_or_else(|| Failure::invalid("InvalidPart"))?;
            let mut source = File::open(part.owned.path())?;
            whole.size += std::io::copy(&mut source, &mut whole.file)?;
        }
        self.put(bucket, key, whole, None)
    }

    pub(super) fn abort(&self, upload: &str) -> Outcome<()> {
        lock(&self.uploads).remove(upload).map(drop).ok_or_else(no_upload)
    }
}

fn no_upload() -> Failure {
    Failure::not_found("The specified upload does not exist.")
}
