//! Buckets of Google Cloud Storage, opened the same way by whoever reads or writes them.

use std::sync::Arc;
use std::time::Duration;

use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};

use crate::error::{Error, Result};
use crate::location::emulator_url;

/// Requests to a bucket are given up after this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// With STORAGE_EMULATOR_HOST no credentials are sent.
pub fn open(bucket: &str, retry: RetryConfig) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    let mut client = ClientOptions::new().with_timeout(REQUEST_TIMEOUT);
    if let Some(base) = emulator_url("STORAGE_EMULATOR_HOST") {
        let credential = GcpCredential { bearer: String::new() };
        builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(bucket)
            .with_base_url(&base)
            .with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
        // An emulator is never behind a proxy. Naming one is the only way to have the
        // environment's ignored, and excluding all hosts the way not to use that one either.
        client = client.with_allow_http(true).with_proxy_url(&base).with_proxy_excludes("*");
    }
    let objects = builder.with_retry(retry).with_client_options(client).build().map_err(|e| {
        let error = Error::usage(format!("cannot open bucket `{bucket}`"))
            .hint("set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`");
        // What cannot be decoded is quoted in this cause: it may be the key.
        match e.to_string().contains("Unable to decode service account") {
            true => error.context("the credentials file is not one that Google writes"),
            false => error.caused_by(e),
        }
    })?;
    Ok(Arc::new(objects))
}
