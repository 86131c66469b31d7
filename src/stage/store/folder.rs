//! A local folder. A name appears by a hard link to a file that is on the disk already: it is never
//! seen half written, not even after the power went off, and two writers cannot both make it.
//!
//! # Why not object_store's own local store?
//! Version 0.13 syncs nothing: after a crash of the machine an entry may be there and empty.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use url::Url;

use super::{Created, Listed, write_error};
use crate::effects::{Door, Effects};
use crate::error::{Error, Result};

/// Files in the making, and leftovers of a kill. Never part of the staging area's content.
const SCRATCH: &str = ".scratch";

#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    effects: Effects,
}

impl Folder {
    /// The folder, made if it is missing, and its URL with a slash at the end.
    pub(super) fn open(url: &Url, effects: Effects) -> Result<(Folder, Url)> {
        let folder = url.to_file_path().map_err(|()| {
            Error::usage(format!("`{url}` is no local folder")).hint("write `file:///absolute/folder`")
        })?;
        let shown = folder.display().to_string();
        std::fs::create_dir_all(&folder).map_err(|e| write_error(&format!("folder `{shown}`"), e))?;
        let root = folder.canonicalize().map_err(|e| write_error(&format!("folder `{shown}`"), e))?;
        let url = Url::from_directory_path(&root).expect("a canonical path is absolute");
        Ok((Folder { root, effects }, url))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.root.join(SCRATCH)
    }

    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match tokio::fs::read(self.root.join(name)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(Error::failed("the file cannot be read").caused_by(error)),
        }
    }

    pub(super) async fn walk(&self, folder: &str) -> Result<Vec<Listed>> {
        let (root, start) = (self.root.clone(), self.root.join(folder));
        blocking(move || {
            let mut found = Vec::new();
            let mut folders = vec![start];
            while let Some(folder) = folders.pop() {
                let cannot = |e| Error::failed(format!("cannot list `{}`", folder.display())).caused_by(e);
                let entries = match std::fs::read_dir(&folder) {
                    Err(error) if is_absent(&error) => continue,
                    entries => entries.map_err(cannot)?,
                };
                for entry in entries {
                    let entry = entry.map_err(cannot)?;
                    let Ok(metadata) = entry.metadata() else { continue };
                    if metadata.is_dir() {
                        if entry.file_name() != SCRATCH {
                            folders.push(entry.path());
                        }
                        continue;
                    }
                    let path = entry.path();
                    let Some(name) = path.strip_prefix(&root).ok().and_then(Path::to_str) else { continue };
                    let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
                    let modified = modified.and_then(|since| u64::try_from(since.as_millis()).ok());
                    let (bytes, modified_unix_ms) = (metadata.len(), modified.unwrap_or(0));
                    found.push(Listed { name: name.to_owned(), bytes, modified_unix_ms });
                }
            }
            Ok(found)
        })
        .await
    }

    pub(super) async fn create(&self, name: &str, bytes: &[u8]) -> Result<Created> {
        let beside = InTheMaking(self.scratch().join(format!("{:016x}.part", fastrand::u64(..))));
        let content = bytes.to_vec();
        let beside = self
            .step(format!("write {name}"), move || {
                let path = &beside.0;
                std::fs::create_dir_all(path.parent().expect("it is in the scratch folder"))
                    .and_then(|()| File::create_new(path))
                    .and_then(|mut file| file.write_all(&content).and_then(|()| file.sync_all()))
                    .map_err(|e| write_error(&format!("`{}`", path.display()), e))?;
                Ok(beside)
            })
            .await?;
        self.link(&beside.0, name).await
    }

    /// Links a finished file. It is synced first, where another disk needs a copy of it.
    pub(super) async fn publish(&self, name: &str, file: &Path) -> Result<Created> {
        let from = file.to_owned();
        self.step(format!("sync {name}"), move || sync(&from)).await?;
        self.link(file, name).await
    }

    pub(super) async fn restore(&self, name: &str, file: &Path) -> Result<()> {
        let (from, to) = (file.to_owned(), self.root.join(name));
        self.step(format!("replace {name}"), move || {
            let beside = InTheMaking(to.with_extension(format!("{:016x}.part", fastrand::u64(..))));
            let copied = std::fs::copy(&from, &beside.0)
                .and_then(|_| File::open(&beside.0)?.sync_all())
                .and_then(|()| std::fs::rename(&beside.0, &to));
            copied.map_err(|e| write_error(&format!("`{}`", to.display()), e))
        })
        .await?;
        self.make_durable(name).await
    }

    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        match tokio::fs::remove_file(self.root.join(name)).await {
            Err(error) if !is_absent(&error) => {
                Err(Error::failed("the file cannot be removed").caused_by(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the folders in `name`, and then that, as far as they are empty. What stays is in nobody's way.
    pub(super) async fn prune(&self, name: &str) {
        let folder = self.root.join(name);
        let _ = blocking(move || {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(entry.path());
            }
            let _ = std::fs::remove_dir(&folder);
            Ok(())
        })
        .await;
    }

    /// Syncs the file and every folder on the way to it.
    pub(super) async fn make_durable(&self, name: &str) -> Result<()> {
        let (root, mut path) = (self.root.clone(), self.root.join(name));
        self.step(format!("sync way to {name}"), move || {
            loop {
                sync(&path)?;
                if path == root || !path.pop() {
                    return Ok(());
                }
            }
        })
        .await
    }

    async fn link(&self, from: &Path, name: &str) -> Result<Created> {
        let (from, to) = (from.to_owned(), self.root.join(name));
        let created = self.step(format!("link {name}"), move || link(&from, &to)).await?;
        // Also when it was there: whoever made it may not have come this far.
        self.make_durable(name).await?;
        Ok(created)
    }

    /// One step on the file system, off the threads that do the work.
    async fn step<T: Send + 'static>(
        &self,
        what: String,
        step: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.effects.pass(Door::Files, || what, blocking(step)).await
    }
}

/// A file that is to get its name yet. It goes with this, also where the step that writes it ends after
/// whoever asked for it has gone: a step cannot be stopped.
struct InTheMaking(PathBuf);

impl Drop for InTheMaking {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A hard link: atomic, and it fails when the name is taken. A copy beside it where links cannot reach.
fn link(from: &Path, to: &Path) -> Result<Created> {
    let shown = format!("`{}`", to.display());
    let parent = to.parent().expect("a name in a folder has a parent");
    std::fs::create_dir_all(parent).map_err(|e| write_error(&shown, e))?;
    let linked = std::fs::hard_link(from, to).or_else(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            return Err(error);
        }
        let beside = InTheMaking(parent.join(format!(".{:016x}.part", fastrand::u64(..))));
        std::fs::copy(from, &beside.0)
            .and_then(|_| File::open(&beside.0)?.sync_all())
            .and_then(|()| std::fs::hard_link(&beside.0, to))
    });
    match linked {
        Ok(()) => Ok(Created::New),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::Exists),
        Err(error) => Err(write_error(&shown, error)),
    }
}

fn sync(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|e| write_error(&format!("`{}`", path.display()), e))
}

/// Also a file where a folder should be: nothing can be below it.
fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::failed("a file operation died").caused_by(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_nobody_any_more_goes() {
        let stage = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(stage.path()).unwrap();
        let (folder, _) = Folder::open(&url, Effects::default()).unwrap();
        let files_in_the_making = || std::fs::read_dir(folder.scratch()).into_iter().flatten().count();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut creating = Box::pin(folder.create("entry.json", b"{}"));
            assert!(futures::poll!(&mut creating).is_pending());
            while files_in_the_making() == 0 {
                std::thread::yield_now();
            }
        });
        // It waits for the step.
        drop(runtime);
        assert_eq!(files_in_the_making(), 0);
    }
}
