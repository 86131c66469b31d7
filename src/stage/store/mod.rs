//! The staging area: a local folder or a bucket. Everything in it is created once and never changed.
//!
//! # Why not rename or copy?
//! object_store 0.13's copy on Google Cloud Storage overwrites where it should not and refuses where
//! it should overwrite; a put that only creates is right on both kinds of store.

mod bucket;
mod folder;

use std::path::{Path, PathBuf};

use url::Url;

use super::journal::sha256_hex;
use super::write_error;
use crate::effects::{Door, Effects};
use crate::error::{Error, Kind, Result};
use crate::manifest::Manifest;
use crate::retry::Policy;
use bucket::Bucket;
use folder::Folder;

/// Outcome of a create-only write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    New,
    /// Something was there already, and still is.
    Exists,
}

/// What a listing says of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative to the store's URL.
    pub name: String,
    pub bytes: u64,
    /// By the clock of whatever keeps the object. For people, and for leaving young ones alone.
    pub modified_unix_ms: u64,
}

/// A place to stage into. Names are relative to its URL, with `/` between parts.
#[derive(Debug, Clone)]
pub struct Store {
    place: Place,
    url: Url,
    effects: Effects,
    retry: Policy,
}

#[derive(Debug, Clone)]
enum Place {
    Folder(Folder),
    Bucket(Bucket),
}

impl Store {
    /// Opens `file:///folder` or `gs://bucket/prefix`. With STORAGE_EMULATOR_HOST no credentials are sent.
    pub fn open(url: &str, effects: Effects, retry: Policy) -> Result<Store> {
        let parsed = Url::parse(url).map_err(|e| {
            Error::usage(format!("`stage.url` is no URL: `{url}`"))
                .caused_by(e)
                .hint("write `file:///absolute/folder` or `gs://bucket/prefix`")
        })?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(Error::usage(format!("`stage.url` has a `?` or `#`: `{url}`"))
                .hint("write them as `%3F` and `%23`, or give a path instead of a URL"));
        }
        let (place, url) = match parsed.scheme() {
            "file" => {
                let (folder, url) = Folder::open(&parsed, effects.clone())?;
                (Place::Folder(folder), url)
            }
            "gs" => {
                let (bucket, url) = Bucket::open(&parsed)?;
                (Place::Bucket(bucket), url)
            }
            other => {
                return Err(Error::usage(format!("`stage.url` has the scheme `{other}`"))
                    .hint("stage into `file:///absolute/folder` or `gs://bucket/prefix`"));
            }
        };
        Ok(Store { place, url, effects, retry })
    }

    /// Whether there can be anything: a folder is made by whoever opens it, and whoever only looks need not.
    pub fn is_there(url: &str) -> bool {
        let folder = Url::parse(url).ok().filter(|url| url.scheme() == "file");
        folder.and_then(|url| url.to_file_path().ok()).is_none_or(|folder| folder.is_dir())
    }

    pub fn effects(&self) -> &Effects {
        &self.effects
    }

    /// The local folder, for stores that have one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(folder) => Some(folder.root()),
            Place::Bucket(_) => None,
        }
    }

    /// Where files are in the making: beside the stage where that is a folder, since a file moves
    /// into place by a link, or in the system's folder for temporary files.
    pub fn scratch(&self) -> PathBuf {
        match &self.place {
            Place::Folder(folder) => folder.scratch(),
            Place::Bucket(_) => std::env::temp_dir(),
        }
    }

    /// The URL by which BigQuery or a person finds `name`.
    pub fn url_of(&self, name: &str) -> Result<String> {
        let url =
            self.url.join(name).map_err(|e| Error::failed(format!("`{name}` is no name")).caused_by(e))?;
        Ok(url.to_string())
    }

    /// The name behind a URL that [`Store::url_of`] gave.
    pub fn name_of<'u>(&self, url: &'u str) -> Option<&'u str> {
        url.strip_prefix(self.url.as_str())
    }

    /// The bytes of `name`, or `None` if it is not there.
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut tries = self.tries(name);
        loop {
            let read = async {
                match &self.place {
                    Place::Folder(folder) => folder.read(name).await,
                    Place::Bucket(bucket) => bucket.read(name).await,
                }
            };
            match self.effects.pass(Door::Store, || format!("read {name}"), read).await {
                Ok(found) => return Ok(found),
                Err(error) => tries.wait_or(self.cannot("read", name, error)).await?,
            }
        }
    }

    /// Everything below `folder`, sorted by name; nothing if there is no such folder.
    pub async fn walk(&self, folder: &str) -> Result<Vec<Listed>> {
        let mut tries = self.tries(folder);
        loop {
            let listed = async {
                match &self.place {
                    Place::Folder(place) => place.walk(folder).await,
                    Place::Bucket(bucket) => bucket.walk(folder).await,
                }
            };
            match self.effects.pass(Door::Store, || format!("list {folder}"), listed).await {
                Ok(mut found) => {
                    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                    return Ok(found);
                }
                Err(error) => tries.wait_or(self.cannot("list", folder, error)).await?,
            }
        }
    }

    /// Names directly in `folder`, sorted; none if there is no such folder.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let found = self.walk(folder).await?;
        let inside = |listed: &Listed| {
            let rest = listed.name.strip_prefix(folder)?.trim_start_matches('/');
            Some(rest.split('/').next()?.to_owned())
        };
        let mut names: Vec<String> = found.iter().filter_map(inside).collect();
        names.dedup();
        Ok(names)
    }

    /// Stores a small object unless its name is taken. Durable when this returns.
    ///
    /// `Exists` may mean our own bytes: a create that was stored and whose answer was lost is
    /// repeated. Whoever needs to know reads them back.
    pub async fn create(&self, name: &str, bytes: &[u8]) -> Result<Created> {
        let mut tries = self.tries(name);
        loop {
            let create = async {
                match &self.place {
                    Place::Folder(folder) => folder.create(name, bytes).await,
                    Place::Bucket(bucket) => bucket.create(name, bytes.to_vec()).await,
                }
            };
            match self.effects.pass(Door::Store, || format!("create {name}"), create).await {
                Ok(created) => return Ok(created),
                Err(error) => tries.wait_or(self.cannot("write", name, error)).await?,
            }
        }
    }

    /// Puts one finished file into the store, once. A file of the same name must have the same bytes.
    pub async fn publish(&self, name: &str, file: &Path, bytes: u64, sha256: &str) -> Result<()> {
        let mut tries = self.tries(name);
        let created = loop {
            let publish = async {
                match &self.place {
                    Place::Folder(folder) => folder.publish(name, file).await,
                    Place::Bucket(bucket) => bucket.create(name, self.content(file).await?).await,
                }
            };
            match self.effects.pass(Door::Store, || format!("publish {name}"), publish).await {
                Ok(created) => break created,
                Err(error) => tries.wait_or(self.cannot("write", name, error)).await?,
            }
        };
        if created == Created::Exists && !self.holds(name, bytes, sha256).await? {
            return Err(Error::new(Kind::Damaged, format!("staged file `{name}` holds other bytes"))
                .hint("it was not written by this pipeline and version; move it away and run again"));
        }
        Ok(())
    }

    /// Puts a file in the place of one that was damaged. Only for bytes that the journal names.
    pub async fn restore(&self, name: &str, file: &Path) -> Result<()> {
        let restore = async {
            match &self.place {
                Place::Folder(folder) => folder.restore(name, file).await,
                Place::Bucket(bucket) => bucket.overwrite(name, self.content(file).await?).await,
            }
        };
        let restored = self.effects.pass(Door::Store, || format!("restore {name}"), restore).await;
        restored.map_err(|e| self.cannot("restore", name, e))
    }

    /// True when `name` is there with just these bytes.
    pub async fn holds(&self, name: &str, bytes: u64, sha256: &str) -> Result<bool> {
        let found = self.read(name).await?;
        Ok(found.is_some_and(|found| found.len() as u64 == bytes && sha256_hex(&found) == sha256))
    }

    /// The first file of an intent that is not there as it was staged.
    pub async fn first_damaged<'m>(&self, manifest: &'m Manifest) -> Result<Option<&'m str>> {
        for file in manifest.partitions.iter().flat_map(|partition| &partition.files) {
            let outside = || Error::new(Kind::Damaged, format!("`{}` is not in this staging area", file.url));
            let name = self.name_of(&file.url).ok_or_else(outside)?;
            if !self.holds(name, file.bytes, &file.sha256).await? {
                return Ok(Some(&file.url));
            }
        }
        Ok(None)
    }

    /// Takes an object away. One that is not there is as good.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let remove = async {
            match &self.place {
                Place::Folder(folder) => folder.remove(name).await,
                Place::Bucket(bucket) => bucket.remove(name).await,
            }
        };
        let removed = self.effects.pass(Door::Store, || format!("remove {name}"), remove).await;
        removed.map_err(|e| self.cannot("remove", name, e))
    }

    /// Takes folders away that nothing is in any more. A bucket has none.
    pub async fn prune(&self, name: &str) {
        if let Place::Folder(folder) = &self.place {
            folder.prune(name).await;
        }
    }

    /// Makes sure that an object whose create had an unknown outcome is on the disk.
    pub async fn make_durable(&self, name: &str) -> Result<()> {
        match &self.place {
            Place::Folder(folder) => folder.make_durable(name).await,
            // An object that can be read is durable.
            Place::Bucket(_) => Ok(()),
        }
    }

    async fn content(&self, file: &Path) -> Result<Vec<u8>> {
        let read = tokio::fs::read(file).await;
        read.map_err(|e| Error::failed(format!("cannot read `{}`", file.display())).caused_by(e))
    }

    fn tries(&self, name: &str) -> crate::retry::Tries {
        self.retry.tries(&self.effects, Door::Store, format!("staging area: `{name}`"))
    }

    fn cannot(&self, verb: &str, name: &str, error: Error) -> Error {
        error.context(format!("cannot {verb} `{name}` in the staging area `{}`", self.url))
    }
}

/// The answer to a request that a bucket did not take, as an error that may be retried.
fn weather(error: object_store::Error) -> Error {
    use object_store::Error as E;
    let is_final = matches!(
        error,
        E::NotFound { .. }
            | E::AlreadyExists { .. }
            | E::Precondition { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::UnknownConfigurationKey { .. }
    );
    let failure = Error::failed("Cloud Storage did not do it").caused_by(error);
    if is_final {
        failure.hint("the account needs the role Storage Object User for the bucket")
    } else {
        failure.retryable()
    }
}
