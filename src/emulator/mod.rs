//! The embedded BigQuery-compatible server: REST v2, GoogleSQL and Cloud Storage over local files.
//!
//! Covered: projects, datasets and tables with their past (`table@ms`, undelete) and their policies; uploads, and
//! load jobs from Parquet, Avro, JSON and CSV; insertAll; tabledata.list; copy, snapshot, clone and extract jobs;
//! query jobs and jobs.query in a subset of GoogleSQL that means here what it means in BigQuery: SELECT, DML,
//! MERGE, DDL, scripts without variables, INFORMATION_SCHEMA. Everything else is refused in BigQuery's own error
//! shape: 501 `notImplemented` for methods and options, 400 `invalidQuery` for SQL. Nothing is accepted and then
//! ignored when that would change a result. The README has the table of what is covered and what is not.
//!
//! What goes wrong on a bad day it does on purpose, when `--fault` says so at the start (see `faults`).
//!
//! Beside it, on the same port or one of its own, Cloud Storage over a folder (see `storage`).
//!
//! It reads BigQuery's documents and shares no code with this crate's client, so that a test that runs one
//! against the other can fail.

mod catalog;
mod coerce;
mod copy;
mod datasets;
mod destination;
mod discovery;
mod disk;
mod elements;
mod encode;
mod encoded;
mod extract;
mod failure;
mod faults;
mod fields;
mod files;
mod history;
mod iam;
mod idempotence;
mod inline;
mod jobs;
mod load;
pub mod local;
mod names;
mod partial;
mod partitions;
mod query;
mod remote;
mod routes;
mod rows;
mod run;
mod sources;
mod storage;
mod stream;
mod table;
mod tables;
mod upload;
mod versions;
mod wire;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::serve::Server;

pub use faults::{Fault, Faults};

/// What expires is out of sight at its time; this is how soon its files go.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Where the server listens and what it works with.
#[derive(Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Holds every dataset, table and job; made when it does not exist.
    pub data_dir: PathBuf,
    pub engine: Engine,
    /// What goes wrong on purpose. No request can reach it: it is armed here or in this process.
    pub faults: Faults,
}

/// Where Cloud Storage is served and kept.
#[derive(Debug, Default)]
pub struct StorageOptions {
    /// None: only where BigQuery is, told apart by the path.
    pub listen: Option<SocketAddr>,
    /// Holds a folder for each bucket; None: the folder `buckets` of the data folder.
    pub dir: Option<PathBuf>,
}

/// What is being served.
#[derive(Debug)]
pub struct Servers {
    pub bigquery: Server,
    /// When it has an address of its own.
    pub storage: Option<Server>,
}

/// Starts the server. What an earlier process left half done is settled first.
pub async fn start(options: Options) -> Result<Server> {
    Ok(start_with_storage(options, StorageOptions::default()).await?.bigquery)
}

/// As `start`, with Cloud Storage at a place of its own.
pub async fn start_with_storage(options: Options, storage: StorageOptions) -> Result<Servers> {
    let Options { listen, data_dir, engine, faults } = options;
    let shown = data_dir.display().to_string();
    let buckets_dir = storage.dir.unwrap_or_else(|| data_dir.join("buckets"));
    let opened =
        tokio::task::spawn_blocking(move || Emulator::open(data_dir, &buckets_dir, engine, faults)).await;
    let emulator = match opened {
        Ok(opened) => opened.map_err(|e| e.context("embedded BigQuery"))?,
        Err(error) => return Err(Error::failed(format!("cannot open `{shown}`")).caused_by(error)),
    };
    let emulator = Arc::new(emulator);
    tokio::spawn(sweep_regularly(Arc::downgrade(&emulator.catalog), Arc::downgrade(&emulator.jobs)));
    let bigquery = Server::start(listen, routes::router(Arc::clone(&emulator))).await?;
    let storage = match storage.listen {
        Some(listen) => Some(Server::start(listen, routes::storage_router(emulator)).await?),
        None => None,
    };
    Ok(Servers { bigquery, storage })
}

/// Until the server is gone.
async fn sweep_regularly(catalog: Weak<catalog::Catalog>, jobs: Weak<jobs::Jobs>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let (Some(catalog), Some(jobs)) = (catalog.upgrade(), jobs.upgrade()) else { return };
        let sweep = move || {
            catalog.sweep();
            jobs.sweep();
        };
        let swept = tokio::task::spawn_blocking(sweep).await;
        if let Err(error) = swept {
            tracing::warn!(%error, "sweeping died");
        }
    }
}

/// What all requests share.
#[derive(Debug)]
struct Emulator {
    catalog: Arc<catalog::Catalog>,
    jobs: Arc<jobs::Jobs>,
    storage: Arc<storage::Storage>,
    engine: Engine,
    faults: Faults,
    uploads: upload::Uploads,
    windows: stream::Windows,
    /// Two files at a time decode and copy; the rest wait as PENDING.
    load_slots: Semaphore,
    query_slots: Semaphore,
    query_threads: query::QueryThreads,
    /// Locked as long as the process lives.
    _locks: [File; 2],
}

impl Emulator {
    fn open(data_dir: PathBuf, buckets_dir: &Path, engine: Engine, faults: Faults) -> Result<Emulator> {
        let locks = [lock_dir(&data_dir, "lock")?, lock_dir(buckets_dir, ".lock")?];
        let shown = data_dir.display();
        let failed = |e: std::io::Error| Error::failed(format!("cannot open `{shown}`")).caused_by(e);
        let catalog = Arc::new(catalog::Catalog::open(&data_dir).map_err(failed)?);
        let jobs = Arc::new(jobs::Jobs::open(&data_dir, &catalog).map_err(failed)?);
        catalog.delete_script_datasets();
        let uploads = upload::Uploads::open(&data_dir).map_err(failed)?;
        let shown = buckets_dir.display();
        let failed = |e: std::io::Error| Error::failed(format!("cannot open `{shown}`")).caused_by(e);
        let objects = Arc::new(storage::Objects::open(buckets_dir).map_err(failed)?);
        let storage = Arc::new(storage::Storage::new(objects));
        let started = query::QueryThreads::start();
        let query_threads =
            started.map_err(|e| Error::failed("cannot start the threads of queries").caused_by(e))?;
        let (load_slots, query_slots) = (Semaphore::new(2), Semaphore::new(4));
        Ok(Emulator {
            catalog,
            jobs,
            storage,
            engine,
            faults,
            uploads,
            windows: stream::Windows::default(),
            load_slots,
            query_slots,
            query_threads,
            _locks: locks,
        })
    }
}

/// Makes the folder and claims it for this process, as long as the file is open.
fn lock_dir(dir: &Path, name: &str) -> Result<File> {
    let shown = dir.display();
    let failed = |e: std::io::Error| Error::failed(format!("cannot open `{shown}`")).caused_by(e);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let lock = File::create(dir.join(name)).map_err(failed)?;
    // A server that was just stopped in this process may still be finishing a request.
    let mut patience = 20;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(std::fs::TryLockError::WouldBlock) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::usage(format!("`{shown}` is in use by another process"))
                    .hint("stop that one or choose another data folder"));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}
