//! Buckets: folders with a document beside them, or without one when somebody made the folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::layout::Bucket;
use super::objects::Objects;
use super::records::BucketDocument;
use crate::emulator::disk;
use crate::emulator::names::file_name;
use crate::emulator::versions::lock;
use crate::emulator::wire::{Failure, Outcome, now_ms};

impl Objects {
    fn bucket_path(&self, bucket: &Bucket) -> PathBuf {
        self.beside("buckets").join(format!("{}.json", file_name(bucket.as_str())))
    }

    pub(in crate::emulator) fn check_bucket(&self, bucket: &Bucket) -> Outcome<()> {
        match self.folder(bucket).is_dir() {
            true => Ok(()),
            false => Err(Failure::not_found("The specified bucket does not exist.")),
        }
    }

    pub(super) fn bucket(&self, bucket: &Bucket) -> Outcome<BucketDocument> {
        self.check_bucket(bucket)?;
        if let Some(document) = disk::read_document(&self.bucket_path(bucket))? {
            return Ok(document);
        }
        let mut document = BucketDocument::new(bucket, "US");
        let modified = fs::metadata(self.folder(bucket))?.modified()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        document.created_ms = i64::try_from(since.as_millis()).unwrap_or_default();
        document.updated_ms = document.created_ms;
        document.birth = format!("{:016x}", since.as_micros());
        Ok(document)
    }

    pub(super) fn buckets(&self) -> Outcome<Vec<Bucket>> {
        let folders = disk::folders(&self.root)?;
        let names = folders.iter().filter_map(|f| Bucket::parse(f.file_name()?.to_str()?).ok());
        let mut found: Vec<Bucket> = names.collect();
        found.sort();
        Ok(found)
    }

    pub(super) fn insert_bucket(&self, bucket: &Bucket, document: &BucketDocument) -> Outcome<()> {
        let _names = lock(&self.names);
        if self.folder(bucket).is_dir() {
            let message =
                "Your previous request to create the named bucket succeeded and you already own it.";
            return Err(Failure { reason: "conflict".into(), ..Failure::duplicate(message) });
        }
        disk::write_document(&self.bucket_path(bucket), document)?;
        disk::create_dir(&self.folder(bucket))?;
        Ok(())
    }

    /// For clients of the XML API, which cannot make buckets here: one exists as soon as it is written to.
    pub(super) fn ensure_bucket(&self, bucket: &Bucket) -> Outcome<()> {
        match self.insert_bucket(bucket, &BucketDocument::new(bucket, "US")) {
            Err(failure) if failure.code != 409 => Err(failure),
            _ => Ok(()),
        }
    }

    pub(super) fn change_bucket(
        &self,
        bucket: &Bucket,
        change: impl FnOnce(&mut BucketDocument) -> Outcome<()>,
    ) -> Outcome<BucketDocument> {
        let _names = lock(&self.names);
        let mut document = self.bucket(bucket)?;
        change(&mut document)?;
        document.metageneration += 1;
        document.updated_ms = now_ms().max(document.updated_ms);
        disk::write_document(&self.bucket_path(bucket), &document)?;
        Ok(document)
    }

    pub(super) fn delete_bucket(
        &self,
        bucket: &Bucket,
        check: impl FnOnce(&BucketDocument) -> Outcome<()>,
    ) -> Outcome<()> {
        let _names = lock(&self.names);
        check(&self.bucket(bucket)?)?;
        if !remove_empty(&self.folder(bucket))? {
            let message = "The bucket you tried to delete is not empty.";
            return Err(Failure { reason: "conflict".into(), ..Failure::duplicate(message) });
        }
        disk::sync_dir(&self.root)?;
        match disk::remove_file(&self.bucket_path(bucket)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // What is known of objects that are no more.
        match fs::remove_dir_all(self.beside("objects").join(file_name(bucket.as_str()))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Deletes a folder that holds nothing but empty folders; false when it holds more.
fn remove_empty(dir: &Path) -> std::io::Result<bool> {
    let mut is_empty = true;
    for folder in disk::folders(dir)? {
        is_empty &= remove_empty(&folder)?;
    }
    if !is_empty {
        return Ok(false);
    }
    match fs::remove_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(error),
    }
}
