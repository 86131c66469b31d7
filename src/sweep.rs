//! Takes away what failed and killed attempts left in the staging area: mark and sweep.
//!
//! Marked is whatever a chain of any run names, or that of a batch of the gateway which is not loaded yet:
//! staged files and rejects. Swept are staged files, rejects and files in the making that are not marked and older than an age. Journal entries and
//! plans are never touched, whatever their age, nor is anything that is not known to be ours.
//! If any chain or plan cannot be read, nothing is swept.
//!
//! # Is it safe while a backfill runs?
//! A window's files appear before the intent that names them, so a sweep in between would take them
//! for leftovers. The age keeps it from doing so, as long as no window takes longer than that from
//! its first file to its intent, and as long as no attempt publishes the very bytes that an older
//! one left behind. No safety rests on it, for a clock may be wrong: should a sweep take a file from
//! under an intent, the load job fails and names the missing file, the window stops before anything
//! changed in the table, and the next run of the same command fetches it again, puts the same bytes
//! back and loads them (`prove_staged` in `pipeline.rs`). Rejects that went the same way come back
//! with it, or not at all where no file was missing; how many there were stays in the journal.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::ledger::batches::{self, Batch};
use crate::ledger::{self, Ledger};
use crate::plan::{rejects_folder, runs_folder};
use crate::stage::{Listed, Store};

/// What is swept, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftover {
    /// A Parquet file that no intent names.
    Staged,
    /// Rejects of an attempt that came to no intent, or before the one that did.
    Rejects,
    /// A file or folder in the making, of a process that is gone.
    Scratch,
}

#[derive(Debug, Serialize)]
pub struct Swept {
    pub name: String,
    pub kind: Leftover,
    pub bytes: u64,
    pub modified_unix_ms: u64,
}

/// What a sweep did, or would do.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub pipeline: String,
    pub dry_run: bool,
    pub min_age_seconds: u64,
    pub swept: Vec<Swept>,
    pub swept_bytes: u64,
    /// Leftovers that are younger than the age, and may be somebody's work.
    pub kept_young: u64,
    /// Files that the journal names.
    pub marked: u64,
    /// Of the pipeline's gateway, with those whose end is still to come.
    pub batches: u64,
    pub batches_open: u64,
}

/// Sweeps one pipeline's part of the staging area, and the scratch folder that all share.
pub async fn sweep(store: &Store, pipeline: &str, min_age: Duration, dry_run: bool) -> Result<Report> {
    // Listed first, marked after: an intent that is written in between is seen.
    let mut listed = store.walk(&runs_folder(pipeline)).await?;
    listed.extend(store.walk(&batches::folder(pipeline)).await?);
    listed.extend(store.walk(rejects_folder(pipeline, "").trim_end_matches('/')).await?);
    let ledger = ledger::read(store, pipeline).await?;
    ledger.verdict().map_err(|e| e.context("nothing was swept"))?;
    let marked = Marked::by(&ledger, store, pipeline);
    let now = store.effects().clock.unix_millis();
    let min_age_ms = u64::try_from(min_age.as_millis()).unwrap_or(u64::MAX);
    let mut report = Report {
        pipeline: pipeline.to_owned(),
        dry_run,
        min_age_seconds: min_age.as_secs(),
        marked: marked.names.len() as u64,
        batches: (ledger.batches.len() + ledger.num_ended()) as u64,
        batches_open: ledger.batches.iter().filter(|batch| !batch.has_ended()).count() as u64,
        ..Report::default()
    };
    let is_old = |modified: u64| now.saturating_sub(modified) >= min_age_ms;
    for object in listed {
        let Some(kind) = kind_of(&object, pipeline).filter(|_| !marked.has(&object.name)) else { continue };
        if !is_old(object.modified_unix_ms) {
            report.kept_young += 1;
            continue;
        }
        if !dry_run {
            store.remove(&object.name).await?;
        }
        let Listed { name, bytes, modified_unix_ms } = object;
        report.add(Swept { name, kind, bytes, modified_unix_ms });
    }
    // A bucket's files in the making are in the system's own folder, which the system sweeps.
    if store.folder().is_some() {
        sweep_scratch(&store.scratch(), &mut report, is_old)?;
    }
    Ok(report)
}

impl Report {
    fn add(&mut self, swept: Swept) {
        self.swept_bytes += swept.bytes;
        self.swept.push(swept);
    }
}

/// What the journal names.
struct Marked {
    names: HashSet<String>,
    /// Starts of names: rejects of windows whose intent is of a version that did not name them.
    starts: Vec<String>,
}

impl Marked {
    fn by(ledger: &Ledger, store: &Store, pipeline: &str) -> Marked {
        let mut marked = Marked { names: HashSet::new(), starts: Vec::new() };
        let streamed = ledger.batches.iter().filter_map(Batch::streamed);
        let refused = streamed.filter_map(|streamed| store.name_of(&streamed.rejects.as_ref()?.url));
        marked.names.extend(refused.map(str::to_owned));
        // A batch that is loaded needs its files no more, and has removed them unless it was killed over that.
        for manifest in ledger.batches.iter().filter(|batch| !batch.has_ended()).filter_map(Batch::manifest) {
            let files = manifest.partitions.iter().flat_map(|partition| &partition.files);
            marked.names.extend(files.filter_map(|file| store.name_of(&file.url)).map(str::to_owned));
        }
        for run in &ledger.runs {
            for window in &run.windows {
                let Some(manifest) = window.manifest() else { continue };
                let staged = manifest.partitions.iter().flat_map(|partition| &partition.files);
                let files = staged.chain(&manifest.rejects);
                marked.names.extend(files.filter_map(|file| store.name_of(&file.url)).map(str::to_owned));
                if manifest.counts.rejects > 0 && manifest.rejects.is_none() {
                    marked.starts.push(format!(
                        "{}/{}-",
                        rejects_folder(pipeline, &run.id),
                        window.window.key()
                    ));
                }
            }
        }
        marked
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.starts.iter().any(|start| name.starts_with(start.as_str()))
    }
}

/// What an object would be if nothing names it; `None` of everything that is not swept.
fn kind_of(object: &Listed, pipeline: &str) -> Option<Leftover> {
    let parts: Vec<&str> = object.name.strip_prefix(pipeline)?.split('/').collect();
    let ends_in = |name: &str, extension: &str| Path::new(name).extension().is_some_and(|e| e == extension);
    match parts[..] {
        ["", "runs", .., name] if ends_in(name, "part") => Some(Leftover::Scratch),
        ["", "runs", _run, "w", _window, _partition, name] if ends_in(name, "parquet") => {
            Some(Leftover::Staged)
        }
        ["", "gateway", .., name] if ends_in(name, "part") => Some(Leftover::Scratch),
        ["", "gateway", _batch, name] if ends_in(name, "ndjson") => Some(Leftover::Rejects),
        ["", "gateway", _batch, _partition, name] if ends_in(name, "parquet") => Some(Leftover::Staged),
        ["", "rejects", .., name] if ends_in(name, "part") => Some(Leftover::Scratch),
        ["", "rejects", _run, name] if ends_in(name, "ndjson") => Some(Leftover::Rejects),
        _ => None,
    }
}

/// Sweeps what processes that are gone left in the making. All in this folder is ours.
fn sweep_scratch(scratch: &Path, report: &mut Report, is_old: impl Fn(u64) -> bool) -> Result<()> {
    let cannot = |path: &Path, e| Error::failed(format!("cannot sweep `{}`", path.display())).caused_by(e);
    let entries = match std::fs::read_dir(scratch) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| cannot(scratch, e))?,
    };
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    for path in found {
        // What vanishes meanwhile was at work.
        let Ok((bytes, modified_unix_ms)) = size_and_age(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_old(modified_unix_ms) || is_of_a_living_process(&name) {
            report.kept_young += 1;
            continue;
        }
        if !report.dry_run {
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(cannot(&path, error));
                }
                _ => {}
            }
        }
        let name = format!(".scratch/{name}");
        report.add(Swept { name, kind: Leftover::Scratch, bytes, modified_unix_ms });
    }
    Ok(())
}

/// Bytes of a file or of all files below a folder, and when the youngest of them was written.
fn size_and_age(path: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut modified = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    if !metadata.is_dir() {
        return Ok((metadata.len(), modified));
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let (more, younger) = size_and_age(&entry?.path())?;
        bytes += more;
        modified = modified.max(younger);
    }
    Ok((bytes, modified))
}

/// Folders in the making are named after their process. A number that was given away again keeps
/// a folder alive for longer; that of another machine takes nothing away that its age would keep.
fn is_of_a_living_process(name: &str) -> bool {
    let process = name.strip_prefix("api2bq-").and_then(|rest| rest.split('-').next());
    process.is_some_and(|id| id.parse::<u32>().is_ok() && Path::new("/proc").join(id).exists())
}
