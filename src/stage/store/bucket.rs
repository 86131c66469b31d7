//! A bucket of Google Cloud Storage: creates are conditional puts.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig};
use url::Url;

use super::{Created, Listed, weather};
use crate::engine::bucket;
use crate::error::{Error, Result};

#[derive(Debug, Clone)]
pub(super) struct Bucket {
    objects: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
}

impl Bucket {
    /// The bucket, and its URL with a slash at the end.
    pub(super) fn open(url: &Url) -> Result<(Bucket, Url)> {
        let name = url.host_str().unwrap_or_default();
        // Retries are counted and shown in one place, for every door alike: here none are hidden.
        let objects = bucket::open(name, RetryConfig { max_retries: 0, ..RetryConfig::default() })?;
        let prefix = ObjectPath::from_url_path(url.path())
            .map_err(|e| Error::usage(format!("`{url}` is no place in a bucket")).caused_by(e))?;
        let mut url = url.clone();
        url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        Ok((Bucket { objects, prefix }, url))
    }

    pub(super) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.objects.get(&self.object(name)).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(weather)?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(weather(error)),
        }
    }

    pub(super) async fn walk(&self, folder: &str) -> Result<Vec<Listed>> {
        let found: Vec<_> =
            self.objects.list(Some(&self.object(folder))).try_collect().await.map_err(weather)?;
        let name = |path: &ObjectPath| {
            let parts: Vec<_> = path.prefix_match(&self.prefix)?.map(|p| p.as_ref().to_owned()).collect();
            Some(parts.join("/"))
        };
        let listed = |object: object_store::ObjectMeta| {
            let modified = u64::try_from(object.last_modified.timestamp_millis()).unwrap_or(0);
            Some(Listed { name: name(&object.location)?, bytes: object.size, modified_unix_ms: modified })
        };
        Ok(found.into_iter().filter_map(listed).collect())
    }

    pub(super) async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<Created> {
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&self.object(name), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Exists),
            Err(error) => Err(weather(error)),
        }
    }

    pub(super) async fn overwrite(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.objects.put(&self.object(name), PutPayload::from(bytes)).await.map_err(weather)?;
        Ok(())
    }

    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        match self.objects.delete(&self.object(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(weather(error)),
        }
    }

    fn object(&self, name: &str) -> ObjectPath {
        name.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }
}
