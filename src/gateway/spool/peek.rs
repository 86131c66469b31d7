//! A look at a spool that somebody else may be writing to. Changes nothing, and waits for nobody.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::log::number_of;
use super::segment::{self, HEAD_BYTES, SegmentId};
use crate::error::{Error, Result};

/// What has become of a segment, as its file's name and its neighbours tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The newest one: it gets more records, or did when its gateway stopped.
    Active,
    Sealed,
    /// Damaged, and loaded no more.
    SetAside,
}

/// A segment's file.
#[derive(Debug, Clone)]
pub struct Peeked {
    pub place: Place,
    pub bytes: u64,
    /// When it last got a record.
    pub modified_unix_ms: u64,
    number: u64,
    path: PathBuf,
}

/// The segments of a spool, the oldest first; none where there is no spool.
pub fn peek(folder: &Path) -> Result<Vec<Peeked>> {
    let cannot = |e| Error::failed(format!("cannot look into the spool `{}`", folder.display())).caused_by(e);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(cannot)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name();
        let place = match name.to_str().and_then(number_of) {
            Some((number, "seg")) => (number, Place::Sealed),
            Some((number, "damaged")) => (number, Place::SetAside),
            _ => continue,
        };
        // What is gone by now was loaded.
        let Ok(metadata) = entry.metadata() else { continue };
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_unix_ms = modified.and_then(|at| u64::try_from(at.as_millis()).ok()).unwrap_or(0);
        let ((number, place), bytes, path) = (place, metadata.len(), entry.path());
        found.push(Peeked { place, bytes, modified_unix_ms, number, path });
    }
    found.sort_unstable_by_key(|segment| segment.number);
    if let Some(newest) = found.iter_mut().rev().find(|segment| segment.place == Place::Sealed) {
        newest.place = Place::Active;
    }
    Ok(found)
}

impl Peeked {
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether anything comes behind its head.
    pub fn has_records(&self) -> bool {
        self.bytes > HEAD_BYTES as u64
    }

    /// Its id, without its records. `None`: it is gone, or its head is damaged.
    pub fn id(&self) -> Result<Option<SegmentId>> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let read =
            File::open(&self.path).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
        match read {
            Ok(_) => Ok(segment::read(&head, self.number).id),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.cannot(error)),
        }
    }

    /// Its records up to where it ends, or is damaged. A segment that is gone has none.
    pub fn records(&self) -> Result<Vec<Vec<u8>>> {
        let bytes = match std::fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(|e| self.cannot(e))?,
        };
        let found = segment::read(&bytes, self.number);
        Ok(found.records.into_iter().map(|record| bytes[record.payload].to_vec()).collect())
    }

    fn cannot(&self, error: std::io::Error) -> Error {
        Error::failed(format!("cannot read segment `{}` of the spool", self.path.display())).caused_by(error)
    }
}
