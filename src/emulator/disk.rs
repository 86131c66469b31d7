//! Durable files: a document is replaced whole or not at all, and data files live as long as a reader.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::Outcome;

/// Replaces the document at `path`: after a crash it is the old one or the new one.
pub(super) fn write_document(path: &Path, document: &impl Serialize) -> Outcome<()> {
    let text = serde_json::to_vec(document).map_err(std::io::Error::other)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let temporary = dir.join(format!("{}.tmp", unique_name()));
    let mut file = File::create(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(dir)?;
    Ok(())
}

/// `None` when there is no such file.
pub(super) fn read_document<T: DeserializeOwned>(path: &Path) -> std::io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(std::io::Error::other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates `dir` and makes its entry in the parent durable.
pub(super) fn create_dir(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    if let Some(parent) = dir.parent() {
        sync_dir(parent)?;
    }
    Ok(())
}

pub(super) fn remove_file(path: &Path) -> std::io::Result<()> {
    fs::remove_file(path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

pub(super) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Folders below `dir`; none when it does not exist.
pub(super) fn folders(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = entries(dir)?.into_iter();
    Ok(entries.filter(|(_, kind)| kind.is_dir()).map(|(name, _)| dir.join(name)).collect())
}

/// Names of the files in `dir`; none when it does not exist.
pub(super) fn files(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = entries(dir)?.into_iter();
    Ok(entries.filter(|(_, kind)| kind.is_file()).map(|(name, _)| name).collect())
}

fn entries(dir: &Path) -> std::io::Result<Vec<(String, fs::FileType)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries
        .map(|e| e.and_then(|e| Ok((e.file_name().to_string_lossy().into_owned(), e.file_type()?))))
        .collect()
}

/// 128 random bits: a name that no earlier process used either.
pub(super) fn unique_name() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// A file that is deleted when it is no longer wanted and its last reader is gone.
#[derive(Debug)]
pub(super) struct OwnedFile {
    path: PathBuf,
    unwanted: AtomicBool,
    /// Somebody else's: it is never deleted here.
    lent: bool,
}

impl OwnedFile {
    pub(super) fn new(path: PathBuf) -> Self {
        OwnedFile { path, unwanted: AtomicBool::new(false), lent: false }
    }

    /// A file that stays, whatever becomes of the table that reads it.
    pub(super) fn lent(path: PathBuf) -> Self {
        OwnedFile { path, unwanted: AtomicBool::new(false), lent: true }
    }

    /// A file that goes away unless `keep` is called, whatever goes wrong in between.
    pub(super) fn draft(path: PathBuf) -> Self {
        OwnedFile { path, unwanted: AtomicBool::new(true), lent: false }
    }

    /// When the file was written, in milliseconds since 1970.
    pub(super) fn written_ms(&self) -> Option<i64> {
        let written = std::fs::metadata(self.path()).and_then(|m| m.modified()).ok()?;
        i64::try_from(written.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis()).ok()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last component of the path.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(super) fn keep(&self) {
        self.unwanted.store(false, Ordering::Release);
    }

    pub(super) fn discard(&self) {
        self.unwanted.store(true, Ordering::Release);
    }
}

impl Drop for OwnedFile {
    fn drop(&mut self) {
        if self.unwanted.load(Ordering::Acquire) && !self.lent {
            // What cannot be deleted now is unreferenced and goes at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discarded_file_stays_until_its_last_reader_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, b"x").unwrap();
        let file = std::sync::Arc::new(OwnedFile::new(path.clone()));
        let reader = std::sync::Arc::clone(&file);
        file.discard();
        drop(file);
        assert!(path.exists());
        drop(reader);
        assert!(!path.exists());
    }

    #[test]
    fn a_lent_file_stays_when_nobody_wants_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, b"x").unwrap();
        let file = OwnedFile::lent(path.clone());
        file.discard();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_document_comes_back_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.json");
        write_document(&path, &vec![1, 2]).unwrap();
        write_document(&path, &vec![3]).unwrap();
        assert_eq!(read_document::<Vec<i32>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(read_document::<Vec<i32>>(&dir.path().join("none")).unwrap(), None);
    }
}
