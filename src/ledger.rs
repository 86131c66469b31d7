//! The runs and windows of a pipeline, as the journal tells of them. Reading it changes nothing.

pub mod batches;
pub mod ended;

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::manifest::{Entry, Manifest, WindowState};
use crate::partition::Window;
use crate::plan::{self, Document, Plan, Until, runs_folder, window_folder};
use crate::stage::Store;
use crate::stage::journal::Chain;
use batches::Batch;
use ended::Ended;

/// Everything that was ever begun. What is damaged is named, and hides nothing of the rest.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By when they were last written to, the newest last.
    pub runs: Vec<Run>,
    /// What a gateway of the pipeline loaded, in the order in which it came.
    pub batches: Vec<Batch>,
    /// What it loaded before these.
    pub ended: Vec<Ended>,
}

#[derive(Debug)]
pub struct Run {
    pub id: String,
    /// `None` where it is damaged or gone.
    pub plan: Option<Document>,
    /// What is wrong with the plan.
    pub damage: Option<Error>,
    /// Those of the plan, and any other with a folder in the journal; in order of time.
    pub windows: Vec<LedgerWindow>,
    /// When the newest entry was written, or the plan while there is none. For people.
    pub written_unix_ms: u64,
    /// When the plan was written, by the clock of the staging area. For people.
    pub begun_unix_ms: Option<u64>,
}

#[derive(Debug)]
pub struct LedgerWindow {
    pub window: Window,
    /// None of a damaged chain.
    pub entries: Vec<Entry>,
    /// What is wrong with the chain.
    pub damage: Option<Error>,
}

/// How far a window has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// In its partitions.
    Done,
    /// Done, and there was nothing to load: the source has no records for it.
    Empty,
    /// Staged under an intent that waits for its load jobs.
    Open,
    /// Staged under an intent whose last attempt to load it failed.
    Failed,
    /// Never begun, or stopped before it was staged.
    Missing,
    /// Its journal cannot be read.
    Damaged,
}

impl Standing {
    /// In a word; the same as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Done => "done",
            Standing::Empty => "empty",
            Standing::Open => "open",
            Standing::Failed => "failed",
            Standing::Missing => "missing",
            Standing::Damaged => "damaged",
        }
    }

    /// How far a chain has come.
    pub fn of(entries: &[Entry], damage: Option<&Error>) -> Standing {
        let state = WindowState::of(entries);
        match (state.manifest, state.loaded) {
            _ if damage.is_some() => Standing::Damaged,
            _ if state.streamed.is_some() => Standing::Done,
            (None, _) => Standing::Missing,
            (Some(manifest), Some(_)) if manifest.counts.staged == 0 => Standing::Empty,
            (Some(_), Some(_)) => Standing::Done,
            (Some(_), None) if state.stopped.is_some() => Standing::Failed,
            (Some(_), None) => Standing::Open,
        }
    }
}

impl LedgerWindow {
    pub fn state(&self) -> WindowState<'_> {
        WindowState::of(&self.entries)
    }

    pub fn manifest(&self) -> Option<&Manifest> {
        self.state().manifest
    }

    pub fn standing(&self) -> Standing {
        Standing::of(&self.entries, self.damage.as_ref())
    }

    /// Why it has come no further, where something is known.
    pub fn reason(&self) -> Option<String> {
        match &self.damage {
            Some(damage) => Some(damage.to_string()),
            None => self.state().stopped.map(str::to_owned),
        }
    }
}

impl Run {
    /// Of its plan, or of the windows that were begun where the plan names none.
    pub fn range(&self) -> Option<Window> {
        let plan = self.plan.as_ref()?;
        let ends = self.windows.first().zip(self.windows.last()).filter(|_| plan.continues);
        Some(ends.map_or(plan.range, |(first, last)| Window {
            after: first.window.after,
            before: last.window.before,
        }))
    }

    /// Windows that have come just so far.
    pub fn num_windows(&self, standing: Standing) -> usize {
        self.windows.iter().filter(|window| window.standing() == standing).count()
    }
}

impl Ledger {
    /// The run of this id or of this start of one; the newest when none is asked for.
    pub fn run(&self, id: Option<&str>) -> Result<Option<&Run>> {
        let Some(id) = id else { return Ok(self.runs.last()) };
        let mut matching = self.runs.iter().filter(|run| run.id.starts_with(id));
        match (matching.next(), matching.next()) {
            (Some(run), None) => Ok(Some(run)),
            (Some(_), Some(_)) => Err(Error::usage(format!("several runs start with `{id}`"))
                .hint("`api2bq status` lists them; write more of the id")),
            (None, _) => Err(Error::usage(format!("there is no run `{id}`")).hint(
                "`api2bq status` lists the runs of this staging area; `--set stage.url=…` names another",
            )),
        }
    }

    /// Batches that are in `ended`.
    pub fn num_ended(&self) -> usize {
        self.ended.iter().map(|ended| ended.batches.len()).sum()
    }

    /// Everything that is wrong with plans and chains, by run.
    pub fn damage(&self) -> impl Iterator<Item = (&str, Option<Window>, &Error)> {
        let of_runs = self.runs.iter().flat_map(|run| {
            let id = run.id.as_str();
            let windows = run.windows.iter();
            let windows = windows.filter_map(move |w| Some((id, Some(w.window), w.damage.as_ref()?)));
            run.damage.iter().map(move |damage| (id, None, damage)).chain(windows)
        });
        let batches = self.batches.iter();
        of_runs.chain(batches.filter_map(|batch| Some((batch.run.as_str(), None, batch.damage.as_ref()?))))
    }

    /// The error that a command ends with which has shown what it could.
    pub fn verdict(&self) -> Result<()> {
        let Some((_, _, first)) = self.damage().next() else { return Ok(()) };
        let more = match self.damage().count() {
            1 => String::new(),
            more => format!(" (and {} more)", more - 1),
        };
        let error = Error::new(first.kind(), format!("{first}{more}"));
        Err(match first.hint_text() {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }
}

/// Reads plans and chains of all runs. An error is one of reading, not of what was read.
pub async fn read(store: &Store, pipeline: &str) -> Result<Ledger> {
    let folder = runs_folder(pipeline);
    let mut found: BTreeMap<String, Listing> = BTreeMap::new();
    for object in store.walk(&folder).await? {
        let parts: Vec<&str> = object.name[folder.len()..].trim_start_matches('/').split('/').collect();
        match parts[..] {
            [run, "plan.json"] => {
                found.entry(run.to_owned()).or_default().written_unix_ms = object.modified_unix_ms;
            }
            [run, "w", key, name] => {
                let number: Option<u32> = name.strip_suffix(".json").and_then(|number| number.parse().ok());
                let (Some(window), Some(number)) = (window_of(key), number) else { continue };
                let newest = found.entry(run.to_owned()).or_default().newest.entry(window).or_default();
                *newest = number.max(*newest);
            }
            _ => {}
        }
    }
    let read = found.into_iter().map(|(id, listing)| read_run(store, pipeline, id, listing));
    let mut runs: Vec<Run> = futures::stream::iter(read).buffered(READS_AT_ONCE).try_collect().await?;
    runs.sort_by(|a, b| (a.written_unix_ms, &a.id).cmp(&(b.written_unix_ms, &b.id)));
    let mut batches = batches::read(store, pipeline).await?;
    // Read after them: a gateway that puts some together meanwhile writes that down before it removes them.
    let ended = ended::read(store, pipeline).await?;
    let known = ended::segments(&ended);
    batches.retain(|batch| !known.contains(&*batch.key));
    Ok(Ledger { runs, batches, ended })
}

/// The windows of a plan that a backfill up to `until` has still to do.
pub async fn left_of(store: &Store, plan: &Plan, until: Until) -> Result<Vec<Window>> {
    let mut left = Vec::new();
    for window in &plan.windows {
        let folder = window_folder(&plan.document.pipeline, &plan.run, *window);
        let chain = Chain::read(store, &plan.run, folder).await?;
        let state = chain.state();
        let is_done = if until == Until::Load { state.loaded.is_some() } else { state.manifest.is_some() };
        if !is_done {
            left.push(*window);
        }
    }
    Ok(left)
}

/// What a listing tells of a run.
#[derive(Default)]
struct Listing {
    written_unix_ms: u64,
    /// The highest entry number of each window.
    newest: BTreeMap<Window, u32>,
}

/// Runs read at once, and chains of each: a bucket answers each read in its own time.
const READS_AT_ONCE: usize = 8;

async fn read_run(store: &Store, pipeline: &str, id: String, listing: Listing) -> Result<Run> {
    let (plan, damage) = match plan::read(store, pipeline, &id).await {
        Ok(Some(plan)) => (Some(plan), None),
        Ok(None) => {
            let gone = Error::new(Kind::Damaged, format!("run `{id}` has no plan"));
            (None, Some(gone.hint("restore its `plan.json` from a backup, or move its folder away")))
        }
        Err(error) if is_of_what_was_read(&error) => (None, Some(error)),
        Err(error) => return Err(error),
    };
    let mut newest = listing.newest;
    for window in plan.iter().flat_map(Document::windows) {
        newest.entry(window).or_default();
    }
    let read = |(window, newest)| read_window(store, pipeline, &id, window, newest);
    let windows: Vec<LedgerWindow> =
        futures::stream::iter(newest.into_iter().map(read)).buffered(READS_AT_ONCE).try_collect().await?;
    let entries = windows.iter().filter_map(|window| window.entries.last());
    let written_unix_ms = entries.map(|last| last.written_unix_ms).max().unwrap_or(listing.written_unix_ms);
    let begun_unix_ms = Some(listing.written_unix_ms).filter(|written| *written > 0);
    Ok(Run { id, plan, damage, windows, written_unix_ms, begun_unix_ms })
}

async fn read_window(
    store: &Store,
    pipeline: &str,
    run: &str,
    window: Window,
    newest: u32,
) -> Result<LedgerWindow> {
    if newest == 0 {
        return Ok(LedgerWindow { window, entries: Vec::new(), damage: None });
    }
    let folder = window_folder(pipeline, run, window);
    match Chain::read(store, run, folder.clone()).await {
        // A chain is read up to its first gap. What is behind it was listed, and is not lost from sight.
        Ok(chain) if (chain.entries().len() as u64) < u64::from(newest) => {
            let missing = chain.entries().len() + 1;
            let gap = format!("journal entry `{folder}/{missing:04}.json` is gone, and later ones are there");
            let damage = Error::new(Kind::Damaged, gap)
                .hint("restore it from a backup, or start over with `--new-run`");
            Ok(LedgerWindow { window, entries: Vec::new(), damage: Some(damage) })
        }
        Ok(chain) => Ok(LedgerWindow { window, entries: chain.entries().to_vec(), damage: None }),
        Err(error) if is_of_what_was_read(&error) => {
            Ok(LedgerWindow { window, entries: Vec::new(), damage: Some(error) })
        }
        Err(error) => Err(error),
    }
}

fn is_of_what_was_read(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Fenced)
}

/// The window behind [`Window::key`].
fn window_of(key: &str) -> Option<Window> {
    let (after, before) = key.split_once('-')?;
    let window = Window { after: after.parse().ok()?, before: before.parse().ok()? };
    (window.key() == key).then_some(window)
}
