//! As little of a file system as a spool needs, and the real one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};

/// A folder of files. Names become durable by [`Disk::sync_folder`], and by nothing else.
///
/// # Why a trait?
/// What a power loss leaves behind cannot be had from a real disk. A model of one loses whatever was
/// not synced, thousands of times in a second.
pub trait Disk: Clone + Send + Sync + 'static {
    type File: DiskFile;

    fn list(&self) -> io::Result<Vec<String>>;
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new, empty file; an error where there is one of this name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Replaces a file of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_folder(&self) -> io::Result<()>;
}

/// A file that is only ever written at its end.
pub trait DiskFile: Send + 'static {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Takes back what was appended behind `length`.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Returns once content and length are on the disk. After an error nothing is known of either.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of the file system, which belongs to one process at a time.
#[derive(Debug, Clone)]
pub struct Folder {
    path: Arc<PathBuf>,
    /// Locked as long as any clone lives, and by the kernel not a moment longer.
    _lock: Arc<File>,
}

const LOCK: &str = "lock";

impl Folder {
    /// Opens the folder, made if it is missing, unless another process has it open.
    pub fn open(path: &Path) -> Result<Folder> {
        let shown = path.display();
        let cannot = |e: io::Error| Error::failed(format!("cannot open the spool `{shown}`")).caused_by(e);
        let path = std::path::absolute(path).map_err(cannot)?;
        let mut folder = DirBuilder::new();
        // What people send is nobody else's.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.recursive(true).create(&path).map_err(cannot)?;
        // The entry of each folder is in the one above it.
        for above in path.ancestors().skip(1) {
            match File::open(above).and_then(|folder| folder.sync_all()) {
                // One that may be passed through and not read was not made here.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced.map_err(cannot)?,
            }
        }
        let lock = appended().create(true).open(path.join(LOCK)).map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let owned = Error::new(Kind::Fenced, format!("another process has the spool `{shown}` open"));
                return Err(owned.hint("stop it, or give this one another folder by `--spool`"));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(cannot(error)),
        }
        Ok(Folder { path: Arc::new(path), _lock: Arc::new(lock) })
    }
}

/// A file that nobody else may read.
fn appended() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.append(true);
    options
}

impl Disk for Folder {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&*self.path)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        appended().create_new(true).open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&*self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()?;
        // Somebody has deleted it: nothing that is written there will be found.
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&self.metadata()?) == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was deleted"));
        }
        Ok(())
    }
}
