//! Buckets and objects on disk: a bucket is a folder, an object a file in it, replaced whole or not at all.
//!
//! The files are the truth. There is no index to keep in step with them, so that a file which somebody puts
//! into a bucket's folder is an object, and one that is taken away is none.

use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::draft::{Draft, checksums_of};
use super::layout::{self, Bucket, check_key, paths_of};
use super::records::{Attributes, Conditions, ObjectDocument, Record, Sidecar};
use crate::emulator::disk::{self, unique_name};
use crate::emulator::names::file_name;
use crate::emulator::versions::lock;
use crate::emulator::wire::{Failure, Outcome, now_ms};

/// Beside the buckets' folders; no bucket can be called that.
const BESIDE: &str = ".api2bq";

/// An object and its file, which stays readable whatever becomes of the object.
#[derive(Debug)]
pub(in crate::emulator) struct Object {
    pub(super) document: ObjectDocument,
    pub(in crate::emulator) file: File,
}

#[derive(Debug)]
pub(in crate::emulator) struct Objects {
    pub(super) root: PathBuf,
    /// Held while names change, so that what a condition saw is still so when its request is done.
    pub(super) names: Mutex<()>,
}

impl Objects {
    /// Below `root`, which must be no other server's. What was being written when the last one ended goes away.
    pub(in crate::emulator) fn open(root: &Path) -> std::io::Result<Objects> {
        let drafts = root.join(BESIDE).join("drafts");
        if drafts.is_dir() {
            fs::remove_dir_all(&drafts)?;
        }
        for dir in ["drafts", "objects", "buckets"] {
            disk::create_dir(&root.join(BESIDE).join(dir))?;
        }
        disk::sync_dir(root)?;
        Ok(Objects { root: root.to_owned(), names: Mutex::new(()) })
    }

    pub(super) fn beside(&self, what: &str) -> PathBuf {
        self.root.join(BESIDE).join(what)
    }

    pub(super) fn folder(&self, bucket: &Bucket) -> PathBuf {
        self.root.join(bucket.as_str())
    }

    fn sidecar_path(&self, bucket: &Bucket, key: &str) -> PathBuf {
        let folder = self.beside("objects").join(file_name(bucket.as_str()));
        folder.join(format!("{}.json", file_name(key)))
    }

    pub(in crate::emulator) fn draft(&self) -> Outcome<Draft> {
        Ok(Draft::create(self.beside("drafts").join(unique_name()))?)
    }

    /// Makes the draft the object, if the conditions hold; `attributes` are its own, not the old object's.
    pub(in crate::emulator) fn put(
        &self,
        bucket: &Bucket,
        key: &str,
        draft: Draft,
        attributes: Attributes,
        conditions: Conditions,
    ) -> Outcome<ObjectDocument> {
        self.put_as(bucket, key, draft, conditions, |record| {
            record.attributes = attributes;
            Ok(())
        })
    }

    /// As `put`; `describe` says of the object what its bytes do not, or refuses it.
    pub(super) fn put_as(
        &self,
        bucket: &Bucket,
        key: &str,
        draft: Draft,
        conditions: Conditions,
        describe: impl FnOnce(&mut Record) -> Outcome<()>,
    ) -> Outcome<ObjectDocument> {
        check_key(key)?;
        let (file, owned, size, sums) = draft.seal()?;
        let _names = lock(&self.names);
        self.check_bucket(bucket)?;
        let current = self.find(bucket, key)?;
        conditions.check(current.as_ref().map(|(object, _)| &object.document.record))?;
        let before = current.as_ref().map(|(object, _)| object.document.record.clone());
        // Never the same twice for one key, whatever the clock does.
        let earliest = before.as_ref().map_or(0, |r| r.generation + 1);
        let mut record = Record::new((now_ms() * 1000).max(earliest), size, sums);
        describe(&mut record)?;
        set_generation(&file, record.generation)?;
        file.sync_all()?;
        let mut records = vec![record.clone()];
        records.extend(before);
        self.write_sidecar(bucket, key, records)?;
        let path = match current {
            Some((_, path)) => path,
            None => self.make_way(bucket, key)?,
        };
        fs::rename(owned.path(), &path)?;
        owned.keep();
        disk::sync_dir(path.parent().unwrap_or(&self.root))?;
        Ok(ObjectDocument { bucket: bucket.clone(), key: key.to_owned(), record })
    }

    /// The path for a new object, in folders that are there.
    fn make_way(&self, bucket: &Bucket, key: &str) -> Outcome<PathBuf> {
        let [plain, other] = paths_of(key);
        let mut folder = self.folder(bucket);
        for name in plain.parent().into_iter().flat_map(Path::components) {
            let parent = folder.clone();
            folder.push(name);
            if is_file(&folder)? {
                // An object is in the way: it keeps its key under its other name.
                fs::rename(&folder, layout::also_a_folder(&folder))?;
            }
            match fs::create_dir(&folder) {
                Ok(()) => disk::sync_dir(&parent)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        let path = self.folder(bucket).join(plain);
        // An empty folder is none that a key needs.
        let is_free = match fs::remove_dir(&path) {
            Ok(()) => true,
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        };
        Ok(if is_free { path } else { self.folder(bucket).join(other) })
    }

    pub(in crate::emulator) fn get(&self, bucket: &Bucket, key: &str) -> Outcome<Object> {
        check_key(key)?;
        match self.find(bucket, key)? {
            Some((object, _)) => Ok(object),
            None => {
                self.check_bucket(bucket)?;
                Err(not_found(bucket, key))
            }
        }
    }

    /// The object with its path.
    fn find(&self, bucket: &Bucket, key: &str) -> Outcome<Option<(Object, PathBuf)>> {
        for path in paths_of(key) {
            let path = self.folder(bucket).join(path);
            let Some((file, metadata)) = open_file(&path)? else { continue };
            let record = self.record_of(bucket, key, &file, &metadata)?;
            let document = ObjectDocument { bucket: bucket.clone(), key: key.to_owned(), record };
            return Ok(Some((Object { document, file }, path)));
        }
        Ok(None)
    }

    /// From its document, or from the file alone when that came by another way.
    fn record_of(&self, bucket: &Bucket, key: &str, file: &File, metadata: &Metadata) -> Outcome<Record> {
        let generation = generation_of(metadata)?;
        if let Some(record) = self.stored_record(bucket, key, generation, metadata.len())? {
            return Ok(record);
        }
        let sums = checksums_of(file)?;
        std::io::Seek::rewind(&mut &*file)?;
        Ok(Record::new(generation, metadata.len(), sums))
    }

    fn stored_record(
        &self,
        bucket: &Bucket,
        key: &str,
        generation: i64,
        size: u64,
    ) -> Outcome<Option<Record>> {
        let sidecar: Option<Sidecar> = disk::read_document(&self.sidecar_path(bucket, key))?;
        let mut records = sidecar.filter(|s| s.key == key).map(|s| s.records).unwrap_or_default().into_iter();
        Ok(records.find(|r| r.generation == generation && r.size == size))
    }

    fn write_sidecar(&self, bucket: &Bucket, key: &str, records: Vec<Record>) -> Outcome<()> {
        let path = self.sidecar_path(bucket, key);
        let folder = path.parent().unwrap_or(&self.root);
        if !folder.is_dir() {
            disk::create_dir(folder)?;
        }
        disk::write_document(&path, &Sidecar { key: key.to_owned(), records })
    }

    /// The document of a listed object; `None` when it has gone in the meantime.
    pub(super) fn document(&self, bucket: &Bucket, key: &str) -> Outcome<Option<ObjectDocument>> {
        Ok(self.find(bucket, key)?.map(|(object, _)| object.document))
    }

    /// Changes what is known of an object besides its bytes.
    pub(super) fn change(
        &self,
        bucket: &Bucket,
        key: &str,
        generation: Option<i64>,
        conditions: Conditions,
        change: impl FnOnce(&mut Attributes) -> Outcome<()>,
    ) -> Outcome<ObjectDocument> {
        let _names = lock(&self.names);
        let mut document = self.get(bucket, key)?.document;
        check_generation(&document, generation)?;
        let record = &mut document.record;
        conditions.check(Some(record))?;
        change(&mut record.attributes)?;
        record.metageneration += 1;
        record.updated_ms = now_ms().max(record.updated_ms);
        self.write_sidecar(bucket, key, vec![record.clone()])?;
        Ok(document)
    }

    pub(super) fn delete(
        &self,
        bucket: &Bucket,
        key: &str,
        generation: Option<i64>,
        conditions: Conditions,
    ) -> Outcome<()> {
        check_key(key)?;
        let _names = lock(&self.names);
        self.check_bucket(bucket)?;
        let Some((object, path)) = self.find(bucket, key)? else { return Err(not_found(bucket, key)) };
        check_generation(&object.document, generation)?;
        conditions.check(Some(&object.document.record))?;
        disk::remove_file(&path)?;
        match disk::remove_file(&self.sidecar_path(bucket, key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // Folders are there for the sake of files; one that is not empty stays.
        let bucket = self.folder(bucket);
        let mut folder = path.parent();
        while let Some(empty) = folder.filter(|f| *f != bucket)
            && fs::remove_dir(empty).is_ok()
        {
            folder = empty.parent();
        }
        Ok(())
    }
}

pub(super) fn check_generation(document: &ObjectDocument, wanted: Option<i64>) -> Outcome<()> {
    match wanted {
        Some(generation) if generation != document.record.generation => {
            let (bucket, key) = (document.bucket.as_str(), &document.key);
            Err(Failure::not_found(format!("No such object: {bucket}/{key}#{generation}")))
        }
        _ => Ok(()),
    }
}

fn not_found(bucket: &Bucket, key: &str) -> Failure {
    Failure::not_found(format!("No such object: {}/{key}", bucket.as_str()))
}

/// A link leads out of the bucket and is no object.
fn is_file(path: &Path) -> std::io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open_file(path: &Path) -> std::io::Result<Option<(File, Metadata)>> {
    if !is_file(path)? {
        return Ok(None);
    }
    match File::open(path) {
        Ok(file) => {
            let metadata = file.metadata()?;
            Ok(Some((file, metadata)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn generation_of(metadata: &Metadata) -> std::io::Result<i64> {
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    // 0 means that there is no object.
    Ok(i64::try_from(modified.as_micros()).unwrap_or(i64::MAX).max(1))
}

fn set_generation(file: &File, generation: i64) -> std::io::Result<()> {
    let modified: SystemTime = UNIX_EPOCH + Duration::from_micros(generation.unsigned_abs());
    file.set_modified(modified)
}
