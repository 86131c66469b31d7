//! Batches that ended long ago, many in one object, so that a gateway's journal does not grow by some objects
//! with each of its loads.
//!
//! # What stays for ever, and why?
//! Which segments were loaded, in some fifty bytes each, and how many rows of each day. A spool may come
//! back, from a backup or with a disk that was thought lost, and no clock says when that is over. Who does not
//! know its segments would load them again.
//!
//! # Is it safe to be killed here?
//! An object is durable before anything that it stands for is removed, and whoever reads batches passes over
//! those that an object has. What a kill leaves of them is removed the next time.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::batches::{self, READS_AT_ONCE, Segments};
use crate::error::{Error, Kind, Result};
use crate::partition::Partition;
use crate::stage::Store;

/// What is kept of many batches.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The segments of each, the one that names it first.
    pub batches: Vec<Vec<String>>,
    pub rows: Vec<Rows>,
    /// Rows that they streamed, by table. Of which day is not known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streamed: BTreeMap<String, u64>,
}

/// Rows that they brought to one day of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    pub table: String,
    pub partition: Partition,
    pub rows: u64,
}

impl Ended {
    /// All that they brought.
    pub fn num_rows(&self) -> u64 {
        self.rows.iter().map(|day| day.rows).chain(self.streamed.values().copied()).sum()
    }
}

/// Fewer are not worth an object: it is looked at for ever.
const BATCHES_MIN: usize = 100;
/// And more would make one that is too large to be read at once.
const BATCHES_MAX: usize = 2000;

fn folder(pipeline: &str) -> String {
    format!("{pipeline}/gateway-ended")
}

/// The objects of a pipeline, which are numbered: of two gateways that add one at once, one comes first.
async fn names(store: &Store, pipeline: &str) -> Result<Vec<String>> {
    let objects = store.walk(&folder(pipeline)).await?.into_iter().map(|object| object.name);
    Ok(objects.filter(|name| name.ends_with(".json")).collect())
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.rsplit('/').next()?.parse().ok()
}

/// All of a pipeline.
pub async fn read(store: &Store, pipeline: &str) -> Result<Vec<Ended>> {
    let names = names(store, pipeline).await?;
    let read = |name: String| async move {
        let damaged = || {
            let error = Error::new(Kind::Damaged, format!("`{name}` is not readable"));
            error.hint("restore it from a backup: it says which segments of a gateway were loaded long ago")
        };
        let bytes = store.read(&name).await?.ok_or_else(damaged)?;
        serde_json::from_slice(&bytes).map_err(|e| damaged().caused_by(e))
    };
    futures::stream::iter(names.into_iter().map(read)).buffered(READS_AT_ONCE).try_collect().await
}

/// The segments of all of them.
pub fn segments(ended: &[Ended]) -> HashSet<&str> {
    ended.iter().flat_map(|ended| &ended.batches).flatten().map(String::as_str).collect()
}

/// Puts batches together that were loaded and last written to before `before_ms`, none of whose segments is
/// `waiting` in the spool. Returns how many.
pub async fn archive(
    store: &Store,
    pipeline: &str,
    before_ms: u64,
    waiting: &HashSet<String>,
) -> Result<usize> {
    // The number is known before what the others have: whoever adds to them takes it.
    let numbers = names(store, pipeline).await?;
    let next = numbers.iter().filter_map(|name| number_of(name)).max().map_or(1, |newest| newest + 1);
    let ended = read(store, pipeline).await?;
    let known = segments(&ended);
    let (mut remove, mut old) = (Vec::new(), Vec::new());
    for listed in batches::list(store, pipeline).await? {
        match listed.written_unix_ms < before_ms && !waiting.contains(&listed.key) {
            _ if known.contains(&*listed.key) => remove.push(listed),
            true => old.push(listed),
            false => {}
        }
    }
    let (mut together, mut rows) = (Ended::default(), BTreeMap::new());
    for listed in old.into_iter().take(BATCHES_MAX) {
        let folder = format!("{}/{}", batches::folder(pipeline), listed.key);
        let batch = batches::read_one(store, pipeline, &listed).await?;
        let segments = match batch.streamed() {
            // Rows that were refused are nowhere else.
            Some(streamed) if streamed.rejects.is_some() => continue,
            Some(streamed) => streamed.segments.clone(),
            None => match (Segments::read(store, &folder).await?, batch.manifest()) {
                (Some(decided), Some(manifest)) => decided.intended(manifest).to_vec(),
                _ => continue,
            },
        };
        let is_theirs = segments.first() == Some(&listed.key);
        if !batch.has_ended() || !is_theirs || segments.iter().any(|key| waiting.contains(key)) {
            continue;
        }
        for (table, partition, of_day) in batch.brought() {
            *rows.entry((table, partition)).or_default() += of_day;
        }
        if let Some(streamed) = batch.streamed() {
            *together.streamed.entry(streamed.table.clone()).or_default() += streamed.inserted;
        }
        together.batches.push(segments);
        remove.push(listed);
    }
    let num_batches = together.batches.len();
    if num_batches < BATCHES_MIN {
        let gone: BTreeSet<_> = together.batches.iter().filter_map(|segments| segments.first()).collect();
        remove.retain(|listed| !gone.contains(&listed.key));
    } else {
        let row = |((table, partition), rows)| Rows { table, partition, rows };
        together.rows = rows.into_iter().map(row).collect();
        let bytes = serde_json::to_vec(&together)
            .map_err(|e| Error::failed("cannot put batches together").caused_by(e))?;
        let name = format!("{}/{:08}.json", folder(pipeline), next);
        store.create(&name, &bytes).await?;
        if store.read(&name).await?.as_ref() != Some(&bytes) {
            // Another gateway has put some together meanwhile, maybe these: each may be in one object only,
            // or its rows count twice.
            return Ok(0);
        }
    }
    let names: Vec<String> = remove.iter().flat_map(|listed| listed.names.clone()).collect();
    let removed = names.into_iter().map(|name| async move { store.remove(&name).await });
    futures::stream::iter(removed).buffered(READS_AT_ONCE).try_collect::<()>().await?;
    for listed in &remove {
        store.prune(&format!("{}/{}", batches::folder(pipeline), listed.key)).await;
    }
    Ok(if num_batches < BATCHES_MIN { 0 } else { num_batches })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use crate::ledger::{self, Standing};
    use crate::manifest::{Event, Loaded, Manifest, StagedFile, StagedPartition, Target, WindowCounts};
    use crate::partition::Window;
    use crate::retry::Policy;
    use crate::stage::journal::Chain;

    const PIPELINE: &str = "inventory";

    fn store(dir: &tempfile::TempDir) -> Store {
        let url = format!("file://{}", dir.path().display());
        Store::open(&url, Effects::default(), Policy::default()).unwrap()
    }

    fn key(number: u32) -> String {
        format!("{number:016x}-{:032x}", number * 7)
    }

    fn day() -> Partition {
        Partition::of_day(chrono::NaiveDate::default(), 20_000).unwrap()
    }

    /// A batch of two segments and one row. The second one of batch 8 was damaged when it was staged.
    async fn begin(store: &Store, number: u32, is_loaded: bool) {
        let key = key(number);
        let folder = format!("{}/{key}", batches::folder(PIPELINE));
        let segments = Segments { segments: vec![key.clone(), format!("{key}-b")] };
        store.create(&Segments::name(&folder), &serde_json::to_vec(&segments).unwrap()).await.unwrap();
        let mut chain = Chain::read(store, &batches::run_of(&key), folder).await.unwrap();
        let target =
            Target { table: "p.d.t".into(), location: "US".into(), write_disposition: "WRITE_APPEND".into() };
        let file = StagedFile { url: String::new(), rows: 1, bytes: 1, sha256: String::new() };
        let (partition, rows) = (day(), 1);
        let staged = StagedPartition {
            partition,
            rows,
            logical_hash: String::new(),
            job_id: String::new(),
            files: vec![file],
        };
        let counts = WindowCounts { records: 1, staged: 1, ..WindowCounts::default() };
        let window = Window { after: 0, before: 1 };
        let manifest = Manifest {
            window,
            counts,
            target,
            partitions: vec![staged],
            rejects: None,
            fetch_ms: None,
            segments: segments.segments.into_iter().take(if number == 8 { 1 } else { 2 }).collect(),
        };
        chain.append(Event::Intent(manifest)).await.unwrap();
        if is_loaded {
            let (generation, job_id) = (0, key);
            let loaded =
                Loaded { partition, generation, job_id, output_rows: 1, output_bytes: 1, ended_ms: 1 };
            chain.append(Event::Loaded { partitions: vec![loaded] }).await.unwrap();
        }
    }

    async fn names(store: &Store) -> Vec<String> {
        let listed = store.walk(&batches::folder(PIPELINE)).await.unwrap();
        listed.into_iter().map(|object| object.name).collect()
    }

    #[tokio::test]
    async fn old_batches_are_put_together_and_their_segments_known_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let count = u32::try_from(BATCHES_MIN).unwrap();
        for number in 0..count + 2 {
            begin(&store, number, number != 3).await;
        }
        // One is open, and one has a segment in the spool still.
        let waiting = HashSet::from([format!("{}-b", key(5))]);
        assert_eq!(archive(&store, PIPELINE, 0, &waiting).await.unwrap(), 0, "they are young");
        let before = names(&store).await;
        assert_eq!(archive(&store, PIPELINE, u64::MAX, &waiting).await.unwrap(), BATCHES_MIN);
        let ledger = ledger::read(&store, PIPELINE).await.unwrap();
        let left: Vec<_> = ledger.batches.iter().map(|batch| (batch.key.clone(), batch.standing())).collect();
        assert_eq!(left, [(key(3), Standing::Open), (key(5), Standing::Done)]);
        assert_eq!(ledger.num_ended(), BATCHES_MIN);
        let rows = vec![Rows { table: "p.d.t".into(), partition: day(), rows: BATCHES_MIN as u64 }];
        assert_eq!(ledger.ended[0].rows, rows);
        let known = segments(&ledger.ended);
        assert!(
            known.contains(&*key(0))
                && known.contains(&*format!("{}-b", key(7)))
                && !known.contains(&*key(3))
                && !known.contains(&*format!("{}-b", key(8)))
        );
        let folders = std::fs::read_dir(dir.path().join(batches::folder(PIPELINE))).unwrap().count();
        assert_eq!(folders, 2, "empty ones go too");
        let again = archive(&store, PIPELINE, u64::MAX, &HashSet::new()).await.unwrap();
        assert_eq!((again, names(&store).await.len()), (0, 5), "one more is not worth an object");
        assert!(before.len() > 300);
    }

    #[tokio::test]
    async fn what_a_kill_leaves_of_batches_that_are_put_together_is_passed_over_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        for number in 0..3 {
            begin(&store, number, true).await;
        }
        let ended = Ended {
            batches: (0..3).map(|n| vec![key(n), format!("{}-b", key(n))]).collect(),
            ..Ended::default()
        };
        let name = format!("{}/00000001.json", folder(PIPELINE));
        store.create(&name, &serde_json::to_vec(&ended).unwrap()).await.unwrap();
        // The intent of the first is gone, and of the second what it was loaded by: neither is begun, or open.
        for (number, entry) in [(0, 1), (1, 2)] {
            store
                .remove(&format!("{}/{}/{entry:04}.json", batches::folder(PIPELINE), key(number)))
                .await
                .unwrap();
        }
        let ledger = ledger::read(&store, PIPELINE).await.unwrap();
        assert_eq!((ledger.batches.len(), ledger.num_ended(), ledger.damage().count()), (0, 3, 0));
        assert_eq!(archive(&store, PIPELINE, u64::MAX, &HashSet::new()).await.unwrap(), 0);
        assert_eq!(names(&store).await, Vec::<String>::new());
    }

    /// Each of them under a name of its own made rows count twice.
    #[tokio::test]
    async fn two_gateways_at_once_put_each_batch_into_one_object() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let count = u32::try_from(BATCHES_MIN).unwrap() + 20;
        for number in 0..count {
            begin(&store, number, true).await;
        }
        // So that the one has others to put together than the other.
        let waiting = HashSet::from([key(5)]);
        let none = HashSet::new();
        let both = tokio::join!(
            archive(&store, PIPELINE, u64::MAX, &waiting),
            archive(&store, PIPELINE, u64::MAX, &none),
        );
        let together = both.0.unwrap() + both.1.unwrap();
        let ended = read(&store, PIPELINE).await.unwrap();
        let batches: Vec<_> = ended.iter().flat_map(|ended| &ended.batches).collect();
        assert_eq!((together, segments(&ended).len()), (batches.len(), batches.len() * 2 - 1));
        assert_eq!(ended.iter().map(Ended::num_rows).sum::<u64>(), batches.len() as u64);
        let ledger = ledger::read(&store, PIPELINE).await.unwrap();
        assert_eq!(ledger.batches.len() + batches.len(), count as usize);
    }
}
