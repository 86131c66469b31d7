//! The batches of a pipeline's gateway, as the journal tells of them. Reading them changes nothing.
//!
//! They lie beside the runs of backfills, in `<pipeline>/gateway/<batch>/`: `batch.json` names the
//! segments of the spool that are loaded together, and a chain of entries says how far that has come.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::{Standing, is_of_what_was_read};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Entry, Manifest, Streamed, WindowState};
use crate::partition::Partition;
use crate::stage::Store;
use crate::stage::journal::Chain;

/// The segments of one load, as they stand in `batch.json`, which is written before anything else.
///
/// Its folder is named by the first of them. So whoever finds that segment again, finds what became
/// of all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segments {
    /// Keys of segments, in their order.
    pub segments: Vec<String>,
}

/// One batch, as far as it has come.
#[derive(Debug)]
pub struct Batch {
    /// The key of its first segment, which names its folder.
    pub key: String,
    /// The run that its entries name.
    pub run: String,
    /// None of a damaged chain.
    pub entries: Vec<Entry>,
    pub damage: Option<Error>,
    /// When its newest object was written, by the clock of the staging area.
    pub written_unix_ms: u64,
}

/// The folder of all batches of a pipeline in the staging area.
pub fn folder(pipeline: &str) -> String {
    format!("{pipeline}/gateway")
}

/// The run that journal entries of a batch name.
pub fn run_of(key: &str) -> String {
    format!("gateway-{key}")
}

impl Segments {
    /// Those that were decided for the batch in `folder`.
    pub async fn read(store: &Store, folder: &str) -> Result<Option<Segments>> {
        let name = Segments::name(folder);
        let Some(bytes) = store.read(&name).await? else { return Ok(None) };
        let damaged = |e| Error::new(Kind::Damaged, format!("`{name}` is not readable")).caused_by(e);
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    pub fn name(folder: &str) -> String {
        format!("{folder}/batch.json")
    }

    /// Those that an intent has: one may have been damaged by then. Old intents do not say, and have all.
    pub fn intended<'a>(&'a self, manifest: &'a Manifest) -> &'a [String] {
        if manifest.segments.is_empty() { &self.segments } else { &manifest.segments }
    }
}

impl Batch {
    pub fn state(&self) -> WindowState<'_> {
        WindowState::of(&self.entries)
    }

    pub fn manifest(&self) -> Option<&Manifest> {
        self.state().manifest
    }

    pub fn standing(&self) -> Standing {
        Standing::of(&self.entries, self.damage.as_ref())
    }

    /// Nothing is left to do for it.
    pub fn has_ended(&self) -> bool {
        matches!(self.standing(), Standing::Done | Standing::Empty)
    }

    /// Rows that it brought to the table, or will bring.
    pub fn rows(&self) -> u64 {
        let state = self.state();
        let loaded = state.manifest.map_or(0, |manifest| manifest.counts.staged);
        loaded + state.streamed.map_or(0, |streamed| streamed.inserted)
    }

    /// What became of its rows, where they went without a load job.
    pub fn streamed(&self) -> Option<&Streamed> {
        self.state().streamed
    }

    /// Rows that it brought, by table and day.
    pub(super) fn brought(&self) -> impl Iterator<Item = (String, Partition, u64)> {
        let (manifest, loaded) = (self.manifest(), self.state().loaded.unwrap_or_default());
        let table = manifest.map_or_else(String::new, |manifest| manifest.target.table.clone());
        loaded.iter().map(move |load| (table.clone(), load.partition, load.output_rows))
    }

    /// Why it has come no further, where something is known.
    pub fn reason(&self) -> Option<String> {
        match &self.damage {
            Some(damage) => Some(damage.to_string()),
            None => self.state().stopped.map(str::to_owned),
        }
    }
}

/// Chains read at once: a bucket answers each read in its own time.
pub const READS_AT_ONCE: usize = 16;

/// A batch's folder, as a listing tells of it.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) key: String,
    /// When its newest object was written.
    pub(super) written_unix_ms: u64,
    /// All objects in it.
    pub(super) names: Vec<String>,
}

/// The folders of batches, in the order of their segments.
pub(super) async fn list(store: &Store, pipeline: &str) -> Result<Vec<Listed>> {
    let folder = folder(pipeline);
    let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
    for object in store.walk(&folder).await? {
        let Some((key, _)) = object.name[folder.len()..].trim_start_matches('/').split_once('/') else {
            continue;
        };
        let key = key.to_owned();
        let empty = Listed { key: key.clone(), written_unix_ms: 0, names: Vec::new() };
        let batch = listed.entry(key).or_insert(empty);
        batch.written_unix_ms = object.modified_unix_ms.max(batch.written_unix_ms);
        batch.names.push(object.name);
    }
    Ok(listed.into_values().collect())
}

/// The keys of all batches by load jobs, in the order of their segments. What was streamed has none.
pub async fn keys(store: &Store, pipeline: &str) -> Result<Vec<String>> {
    let mut listed = list(store, pipeline).await?;
    listed.retain(|batch| batch.names.iter().any(|name| name.ends_with("/batch.json")));
    Ok(listed.into_iter().map(|batch| batch.key).collect())
}

/// Reads the chains of all batches, in the order of their segments. An error is one of reading, not of what
/// was read.
pub(super) async fn read(store: &Store, pipeline: &str) -> Result<Vec<Batch>> {
    let listed = list(store, pipeline).await?;
    let read = listed.into_iter().map(|listed| async move { read_one(store, pipeline, &listed).await });
    futures::stream::iter(read).buffered(READS_AT_ONCE).try_collect().await
}

/// Reads the chain of one.
pub(super) async fn read_one(store: &Store, pipeline: &str, listed: &Listed) -> Result<Batch> {
    let (key, written_unix_ms) = (listed.key.clone(), listed.written_unix_ms);
    let run = run_of(&key);
    let (entries, damage) = match Chain::read(store, &run, format!("{}/{key}", folder(pipeline))).await {
        Ok(chain) => (chain.entries().to_vec(), None),
        Err(error) if is_of_what_was_read(&error) => (Vec::new(), Some(error)),
        Err(error) => return Err(error),
    };
    Ok(Batch { key, run, entries, damage, written_unix_ms })
}
