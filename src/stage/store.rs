//! The staging area: a local folder or a bucket. Everything in it is created once and never changed.
//!
//! # Why not rename or copy?
//! object_store 0.13's copy on Google Cloud Storage overwrites where it should not and refuses where
//! it should overwrite; a put that only creates is right on both kinds of store.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, StaticCredentialProvider};
use url::Url;

use super::write_error;
use crate::error::{Error, Kind, Result};
use crate::location::emulator_url;

/// Outcome of a create-only write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    New,
    /// Something was there already, and still is.
    Exists,
}

/// A place to stage into. Names are relative to its URL, with `/` between parts.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    url: Url,
    /// The folder, when local: its writes are made durable here, object_store 0.13 does not.
    folder: Option<PathBuf>,
}

impl Store {
    /// Opens `file:///folder` or `gs://bucket/prefix`. With STORAGE_EMULATOR_HOST no credentials are sent.
    pub fn open(url: &str) -> Result<Store> {
        let parsed = Url::parse(url).map_err(|e| {
            Error::usage(format!("`stage.url` is no URL: `{url}`"))
                .caused_by(e)
                .hint("write `file:///absolute/folder` or `gs://bucket/prefix`")
        })?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(Error::usage(format!("`stage.url` has a `?` or `#`: `{url}`"))
                .hint("write them as `%3F` and `%23`, or give a path instead of a URL"));
        }
        match parsed.scheme() {
            "file" => Store::open_folder(&parsed),
            "gs" => Store::open_bucket(&parsed),
            other => Err(Error::usage(format!("`stage.url` has the scheme `{other}`"))
                .hint("stage into `file:///absolute/folder` or `gs://bucket/prefix`")),
        }
    }

    fn open_folder(url: &Url) -> Result<Store> {
        let folder = url.to_file_path().map_err(|()| {
            Error::usage(format!("`{url}` is no local folder")).hint("write `file:///absolute/folder`")
        })?;
        let shown = folder.display().to_string();
        std::fs::create_dir_all(&folder).map_err(|e| write_error(&format!("folder `{shown}`"), e))?;
        let cannot = |e| Error::usage(format!("cannot stage into `{shown}`")).caused_by(e);
        let objects = LocalFileSystem::new_with_prefix(&folder).map_err(cannot)?;
        let folder = folder.canonicalize().map_err(|e| write_error(&format!("folder `{shown}`"), e))?;
        let url = Url::from_directory_path(&folder).expect("a canonical path is absolute");
        Ok(Store { objects: Arc::new(objects), prefix: ObjectPath::default(), url, folder: Some(folder) })
    }

    fn open_bucket(url: &Url) -> Result<Store> {
        let bucket = url.host_str().unwrap_or_default();
        let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
        if let Some(base) = emulator_url("STORAGE_EMULATOR_HOST") {
            let credential = GcpCredential { bearer: String::new() };
            builder = GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                .with_base_url(&base)
                .with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        }
        let objects = builder.build().map_err(|e| {
            Error::usage(format!("cannot open bucket `{bucket}`"))
                .caused_by(e)
                .hint("set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`")
        })?;
        let prefix = ObjectPath::from_url_path(url.path())
            .map_err(|e| Error::usage(format!("`{url}` is no place in a bucket")).caused_by(e))?;
        let mut url = url.clone();
        url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        Ok(Store { objects: Arc::new(objects), prefix, url, folder: None })
    }

    /// The local folder, for stores that have one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The URL by which BigQuery or a person finds `name`.
    pub fn url_of(&self, name: &str) -> Result<String> {
        let url =
            self.url.join(name).map_err(|e| Error::failed(format!("`{name}` is no name")).caused_by(e))?;
        Ok(url.to_string())
    }

    /// The bytes of `name`, or `None` if it is not there.
    pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.objects.get(&self.object(name)).await {
            Ok(found) => {
                let bytes = found.bytes().await.map_err(|e| self.cannot("read", name, e))?;
                Ok(Some(bytes.to_vec()))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.cannot("read", name, error)),
        }
    }

    /// Names directly in `folder`, sorted; none if there is no such folder.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.object(folder);
        let listed = self.objects.list(Some(&prefix)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|e| self.cannot("list", folder, e))?;
        let mut names: Vec<String> = listed
            .into_iter()
            .filter_map(|o| Some(o.location.prefix_match(&prefix)?.next()?.as_ref().to_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Stores a small object unless its name is taken. Durable when this returns.
    pub async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<Created> {
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&self.object(name), PutPayload::from(bytes), options).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) => return Ok(Created::Exists),
            Err(error) => return Err(self.cannot("write", name, error)),
        }
        self.make_durable(name)?;
        Ok(Created::New)
    }

    /// Puts one finished file into the store, once. A file of the same name must have the same bytes.
    pub async fn publish(&self, name: &str, file: &Path, bytes: u64, sha256: &str) -> Result<()> {
        let created = match &self.folder {
            Some(folder) => link(file, &folder.join(name))?,
            None => {
                let content = tokio::fs::read(file).await;
                let content = content.map_err(|e| self.cannot("read", &file.display().to_string(), e))?;
                self.create(name, content).await?
            }
        };
        if created == Created::Exists {
            let found = self.read(name).await?.unwrap_or_default();
            if found.len() as u64 != bytes || super::journal::sha256_hex(&found) != sha256 {
                return Err(Error::new(Kind::Damaged, format!("staged file `{name}` holds other bytes"))
                    .hint("it was not written by this pipeline and version; move it away and run again"));
            }
        }
        if self.folder.is_some() {
            self.make_durable(name)?;
        }
        Ok(())
    }

    /// Proves that the file at `url`, which [`Store::publish`] stored, still has its bytes.
    pub async fn check(&self, url: &str, bytes: u64, sha256: &str) -> Result<()> {
        let damaged = |what: &str| {
            Error::new(Kind::Damaged, format!("staged file `{url}` {what}"))
                .hint("it was not loaded; `--new-run` fetches and stages again")
        };
        let name =
            url.strip_prefix(self.url.as_str()).ok_or_else(|| damaged("is not in this staging area"))?;
        let found = self.read(name).await?.ok_or_else(|| damaged("is not there any more"))?;
        if found.len() as u64 != bytes || super::journal::sha256_hex(&found) != sha256 {
            return Err(damaged("is not as it was staged"));
        }
        Ok(())
    }

    /// Syncs what a create of unknown outcome may have left in the page cache.
    pub fn make_sure(&self, name: &str) -> Result<()> {
        self.make_durable(name)
    }

    fn object(&self, name: &str) -> ObjectPath {
        name.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Syncs the file and every folder on the way to it.
    fn make_durable(&self, name: &str) -> Result<()> {
        let Some(root) = &self.folder else { return Ok(()) };
        let mut path = root.join(name);
        loop {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|e| write_error(&format!("`{}`", path.display()), e))?;
            if path == *root || !path.pop() {
                return Ok(());
            }
        }
    }

    fn cannot(
        &self,
        verb: &str,
        name: &str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        write_error(&format!("or read the staging area `{}`", self.url), error)
            .context(format!("{verb} `{name}`"))
    }
}

/// A hard link: atomic, and it fails when the name is taken. A copy beside it where links cannot reach.
fn link(from: &Path, to: &Path) -> Result<Created> {
    let shown = format!("`{}`", to.display());
    let parent = to.parent().expect("a name in a folder has a parent");
    std::fs::create_dir_all(parent).map_err(|e| write_error(&shown, e))?;
    let linked = std::fs::hard_link(from, to).or_else(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return Err(error);
        }
        let beside = parent.join(format!(".{:016x}.part", fastrand::u64(..)));
        let copied = std::fs::copy(from, &beside)
            .and_then(|_| File::open(&beside)?.sync_all())
            .and_then(|()| std::fs::hard_link(&beside, to));
        let _ = std::fs::remove_file(&beside);
        copied
    });
    match linked {
        Ok(()) => Ok(Created::New),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Created::Exists),
        Err(error) => Err(write_error(&shown, error)),
    }
}
