//! The file that `--output` names: replaced once all of it is there, or written as it is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// As many as Linux follows.
const LINKS_MAX: usize = 40;

/// Where bytes go until all of them are there.
#[derive(Debug)]
pub(super) enum Target {
    /// A pipe, a device, or what `/dev/stdout` stands for: nothing can take its place.
    InPlace(PathBuf),
    /// A file that is there, or is to be.
    File(PathBuf),
}

impl Target {
    /// Looks where `path` leads. A link stays; what it points to is written.
    pub(super) fn find(path: &Path) -> Result<Target> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            if path.file_name().is_none() {
                return Err(Error::usage(format!("`{}` is no file", path.display())));
            }
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let real = folder.canonicalize().ok().filter(|folder| folder.is_dir());
            let real =
                real.ok_or_else(|| Error::usage(format!("there is no folder `{}`", folder.display())))?;
            match fs::read_link(&path) {
                // `/dev/stdout`, `/dev/fd/63` and their like stand for what is open already.
                Ok(_) if real == Path::new("/dev") || real.starts_with("/proc") => {
                    return Ok(Target::InPlace(path));
                }
                Ok(target) => path = real.join(target),
                Err(_) => {
                    return match fs::metadata(&path) {
                        Ok(found) if found.is_dir() => {
                            Err(Error::usage(format!("`{}` is a folder", path.display())))
                        }
                        Ok(found) if !found.is_file() => Ok(Target::InPlace(path)),
                        _ => Ok(Target::File(path)),
                    };
                }
            }
        }
        Err(Error::usage(format!("`{}`: too many links", path.display())))
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Target::File(_))
    }

    /// Opens what the bytes go into. A pipe that nobody reads holds this up.
    pub(super) fn open(self) -> Result<(File, Replacing)> {
        match self {
            Target::InPlace(path) => {
                // Whoever opened it said where it begins.
                let file = OpenOptions::new().append(true).open(&path).map_err(|e| cannot_write(&path, e))?;
                Ok((file, Replacing { path, part: None, locked: None }))
            }
            Target::File(path) => {
                let mut part = path.as_os_str().to_owned();
                part.push(".api2bq.part");
                let part = PathBuf::from(part);
                let file = open_part(&part, &path)?;
                let mut replacing = Replacing { part: Some(part), path, locked: None };
                let kept = keep_access(&file, &replacing.path).and_then(|()| file.try_clone());
                replacing.locked = Some(kept.map_err(|e| cannot_write(&replacing.path, e))?);
                Ok((file, replacing))
            }
        }
    }
}

/// A file that takes the place of another one once it is whole.
#[derive(Debug)]
pub(super) struct Replacing {
    path: PathBuf,
    /// Removed unless it took its place.
    part: Option<PathBuf>,
    /// Nobody else writes the part before it has its place.
    locked: Option<File>,
}

impl Replacing {
    pub(super) fn finish(mut self) -> Result<()> {
        let Some(part) = &self.part else { return Ok(()) };
        fs::rename(part, &self.path).map_err(|e| cannot_write(&self.path, e))?;
        self.part = None;
        Ok(())
    }
}

impl Drop for Replacing {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let _ = fs::remove_file(part);
        }
    }
}

/// Opens `FILE.api2bq.part`, which a killed run may have left behind, and which nobody else may be writing.
fn open_part(part: &Path, path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    // Nobody else reads it before it has the access of the file that it replaces.
    #[cfg(unix)]
    if path.exists() {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let beside = |e: io::Error| match e.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => cannot_write(path, e)
            .hint("a new file is made beside it first; `--output - >FILE` writes into the one that is there"),
        _ => cannot_write(path, e),
    };
    loop {
        let file = options.open(part).map_err(beside)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::failed(format!("`{}` is being written by somebody else", path.display())));
            }
            // A file system without locks: the last one to end wins.
            Err(TryLockError::Error(_)) => {}
        }
        // Whoever held the lock may have just renamed it: then it is whole, and not ours.
        if is_at(&file, part) {
            file.set_len(0).map_err(|e| cannot_write(path, e))?;
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |found: io::Result<fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
    place(file.metadata()) == place(fs::metadata(path))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Who may read and write the file that is replaced may so with the new one, and nobody else.
fn keep_access(file: &File, path: &Path) -> io::Result<()> {
    let Ok(old) = fs::metadata(path) else { return Ok(()) };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // Only root can give a file away; another owner's file becomes ours.
        let _ = std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()));
    }
    file.set_permissions(old.permissions())
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    Error::usage(format!("cannot write `{}`", path.display())).caused_by(error)
}
