//! Where extracted files go: buckets of this server or of another one, and local folders.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::place;
use crate::emulator::disk::{self, OwnedFile, unique_name};
use crate::emulator::remote;
use crate::emulator::run::blocking;
use crate::emulator::sources::Place;
use crate::emulator::storage::{Attributes, Bucket, Conditions, Draft, Objects};
use crate::emulator::wire::{Failure, Outcome};

/// Before any row is read: the place must be there.
pub(super) async fn check(uri: &str, own: &Arc<Objects>) -> Outcome<()> {
    match place(uri)? {
        Place::Local(path) => match path.parent() {
            Some(folder) if folder.is_dir() => Ok(()),
            _ => Err(Failure::not_found(format!("Not found: the folder of {uri}"))),
        },
        Place::Bucket { bucket, .. } => match remote::store(&bucket)? {
            // Another server says so when it is written to.
            Some(_) => Ok(()),
            None => {
                let own = Arc::clone(own);
                blocking(move || {
                    own.check_bucket(&Bucket::parse(&bucket)?)
                        .map_err(|_| Failure::not_found(format!("Not found: bucket {bucket}")))
                })
                .await
            }
        },
    }
}

pub(super) async fn store(uri: &str, draft: Draft, own: &Arc<Objects>) -> Outcome<()> {
    match place(uri)? {
        Place::Local(path) => blocking(move || put_file(&draft, &path)).await,
        Place::Bucket { bucket, key } => match remote::store(&bucket)? {
            Some(store) => remote::upload(&*store, uri, &key, draft.reopen()?).await,
            None => {
                let own = Arc::clone(own);
                blocking(move || {
                    let (attributes, conditions) = (Attributes::default(), Conditions::default());
                    own.put(&Bucket::parse(&bucket)?, &key, draft, attributes, conditions).map(drop)
                })
                .await
            }
        },
    }
}

fn put_file(draft: &Draft, path: &Path) -> Outcome<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let copy = OwnedFile::draft(folder.join(format!(".{}.tmp", unique_name())));
    let mut file = File::create_new(copy.path())?;
    std::io::copy(&mut draft.reopen()?, &mut file)?;
    file.sync_all()?;
    std::fs::rename(copy.path(), path)?;
    copy.keep();
    disk::sync_dir(folder)?;
    Ok(())
}
