use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path as Key;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, StaticCredentialProvider,
    UpdateVersion,
};

use super::*;
use crate::emulator::{Faults, Options, start};
use crate::engine::{self, Engine};
use crate::serve::Server;

async fn serve(dir: &Path) -> (Server, impl ObjectStore) {
    let engine = Engine::new(engine::Options::default()).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let server =
        start(Options { listen, data_dir: dir.to_owned(), engine, faults: Faults::default() }).await.unwrap();
    let credential = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
    let store = GoogleCloudStorageBuilder::new()
        .with_bucket_name("my-bucket")
        .with_base_url(&server.url())
        .with_credentials(Arc::new(credential))
        .build()
        .unwrap();
    (server, store)
}

fn mode(mode: PutMode) -> PutOptions {
    PutOptions { mode, ..PutOptions::default() }
}

#[tokio::test]
async fn object_store_finds_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let (server, store) = serve(dir.path()).await;
    let key = Key::from("dir/a=1/b-c.d é.parquet");
    let first = store.put_opts(&key, "hello".into(), mode(PutMode::Create)).await.unwrap();
    let again = store.put_opts(&key, "again".into(), mode(PutMode::Create)).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    let version = UpdateVersion { e_tag: first.e_tag.clone(), version: first.version.clone() };
    let second = store.put_opts(&key, "world".into(), mode(PutMode::Update(version.clone()))).await.unwrap();
    assert_ne!(first.version, second.version);
    let stale = store.put_opts(&key, "stale".into(), mode(PutMode::Update(version))).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "world");
    assert_eq!(store.get_range(&key, 1..3).await.unwrap(), "or");
    let suffix = GetOptions { range: Some(GetRange::Suffix(2)), ..GetOptions::default() };
    assert_eq!(store.get_opts(&key, suffix).await.unwrap().bytes().await.unwrap(), "ld");
    let head = store.head(&key).await.unwrap();
    assert_eq!((head.size, head.e_tag, head.location), (5, second.e_tag, key.clone()));

    for name in ["dir/x", "dir/y/1", "dir/y/2", "dirt"] {
        store.put(&Key::from(name), name.to_owned().into()).await.unwrap();
    }
    let listed: Vec<_> = store.list(Some(&Key::from("dir"))).try_collect().await.unwrap();
    assert_eq!(listed.len(), 4);
    let folder = store.list_with_delimiter(Some(&Key::from("dir"))).await.unwrap();
    assert_eq!(folder.common_prefixes, [Key::from("dir/a=1"), Key::from("dir/y")]);
    assert_eq!(folder.objects[0].location, Key::from("dir/x"));
    store.delete(&Key::from("dir/x")).await.unwrap();
    let missing = store.get(&Key::from("dir/x")).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));

    server.stop().await;
    let (_server, store) = serve(dir.path()).await;
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "world");
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 4);
}

#[tokio::test]
async fn parts_become_one_object_in_their_order_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, store) = serve(dir.path()).await;
    let key = Key::from("big");
    let mut upload = store.put_multipart(&key).await.unwrap();
    let parts: Vec<Bytes> = (0..3u8).map(|n| Bytes::from(vec![n; 5 << 20])).collect();
    let sent: Vec<_> = parts.iter().map(|p| upload.put_part(p.clone().into())).collect();
    futures::future::try_join_all(sent.into_iter().rev()).await.unwrap();
    assert!(store.head(&key).await.is_err(), "nothing is there before the end");
    upload.complete().await.unwrap();
    let whole = store.get(&key).await.unwrap().bytes().await.unwrap();
    assert_eq!(whole, parts.concat());
