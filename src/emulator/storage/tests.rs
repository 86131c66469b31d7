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

    let mut upload = store.put_multipart(&Key::from("none")).await.unwrap();
    upload.put_part("x".into()).await.unwrap();
    upload.abort().await.unwrap();
    assert!(store.head(&Key::from("none")).await.is_err());
}

/// A completion that named a part too many once took all the others away.
#[test]
fn an_upload_that_cannot_be_completed_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    let uploads = uploads::Uploads::default();
    let bucket = Bucket::parse("bucket").unwrap();
    objects.ensure_bucket(&bucket).unwrap();
    let upload = uploads.start_parts(records::Attributes::default());
    let send = |number: u32, content: &[u8]| {
        let mut part = objects.draft().unwrap();
        part.append(content).unwrap();
        uploads.put_part(&upload, number, part).unwrap();
    };
    let complete = |numbers: &[u32], generation: Option<i64>| {
        let conditions = records::Conditions { generation, ..records::Conditions::default() };
        uploads.complete(&objects, &upload, numbers, |draft, attributes| {
            objects.put(&bucket, "key", draft, attributes, conditions)
        })
    };
    send(1, b"one ");
    assert_eq!(complete(&[1, 2], None).unwrap_err().message, "InvalidPart");
    send(2, b"two");
    assert_eq!(complete(&[1, 2], Some(7)).unwrap_err().code, 412);
    complete(&[1, 2], Some(0)).unwrap();
    assert_eq!(std::fs::read(dir.path().join("bucket/key")).unwrap(), b"one two");
    assert_eq!(complete(&[1, 2], None).unwrap_err().code, 404);
}

fn put(objects: &Objects, key: &str, content: &[u8], content_type: &str) -> records::ObjectDocument {
    let bucket = Bucket::parse("bucket").unwrap();
    objects.ensure_bucket(&bucket).unwrap();
    let mut draft = objects.draft().unwrap();
    draft.append(content).unwrap();
    let describe = |record: &mut records::Record| {
        record.attributes.0.insert("contentType".into(), content_type.into());
        Ok(())
    };
    objects.put_as(&bucket, key, draft, records::Conditions::default(), describe).unwrap()
}

#[test]
fn a_crash_between_what_is_said_of_an_object_and_its_bytes_leaves_the_old_object() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::parse("bucket").unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    let old = put(&objects, "a/b", b"old", "text/old");
    let path = dir.path().join("bucket/a/b");
    let saved = dir.path().join("saved");
    // The bytes are the last thing that is replaced: put back, they are as if they had not been.
    std::fs::hard_link(&path, &saved).unwrap();
    let new = put(&objects, "a/b", b"new", "text/new");
    assert!(new.record.generation > old.record.generation);
    std::fs::rename(&saved, &path).unwrap();
    let found = Objects::open(dir.path()).unwrap().get(&bucket, "a/b").unwrap().document;
    assert_eq!(found.record.generation, old.record.generation);
    assert_eq!(found.record.attributes.content_type(), "text/old");
}

#[test]
fn a_file_that_somebody_drops_in_is_an_object_and_one_that_is_edited_another() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::parse("bucket").unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    put(&objects, "in/a", b"one", "text/one");
    std::fs::write(dir.path().join("bucket/in/dropped 1.csv"), b"x").unwrap();
    assert_eq!(objects.keys(&bucket, "in/").unwrap(), ["in/a", "in/dropped 1.csv"]);
    let dropped = objects.get(&bucket, "in/dropped 1.csv").unwrap().document;
    assert_eq!((dropped.size(), dropped.record.attributes.content_type()), (1, "application/octet-stream"));
    std::fs::write(dir.path().join("bucket/in/a"), b"edited").unwrap();
    let edited = objects.get(&bucket, "in/a").unwrap().document;
    assert_eq!((edited.size(), edited.record.metageneration), (6, 1));
    std::fs::remove_file(dir.path().join("bucket/in/a")).unwrap();
    assert_eq!(objects.get(&bucket, "in/a").unwrap_err().code, 404);
}

#[cfg(unix)]
#[test]
fn nothing_outside_of_a_bucket_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::parse("bucket").unwrap();
    let objects = Objects::open(&dir.path().join("root")).unwrap();
    put(&objects, "../../escaped", b"x", "text/plain");
    assert_eq!(objects.keys(&bucket, "").unwrap(), ["../../escaped"]);
    assert!(!dir.path().join("escaped").exists());
    std::fs::write(dir.path().join("secret"), b"s").unwrap();
    std::os::unix::fs::symlink(dir.path().join("secret"), dir.path().join("root/bucket/link")).unwrap();
    assert_eq!(objects.get(&bucket, "link").unwrap_err().code, 404);
}
