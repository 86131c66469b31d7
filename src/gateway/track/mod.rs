//! Tracking: an operator asks what became of the request with a certain identifier.
//!
//! | a request that | is found in | as |
//! |---|---|---|
//! | waits in the spool | its segment | accepted, sealed; failed as the journal says |
//! | is loaded | a file that is written before its segment goes | loaded |
//! | had no row that fits | a file that is written before it is answered | rejected |
//!
//! So nothing is done when a request is taken, not even a second sync; what it is about is read from its
//! body when somebody asks, and once more when its batch has ended. A question reads files, and keeps a
//! page in memory. One request is on at least one of the places at every instant, whatever is killed.
//!
//! # What if the disk is too full for these files?
//! Rows never wait for them: then a batch ends without, its requests are no longer found, and the log says so.
//!
//! # Who sees what?
//! Who sends rows is no operator of others. A user sees what that user sent, and who is named
//! `--operator` sees all.

mod answer;
mod instance;
mod open;
mod search;
mod shelf;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::letter::{Head, Letter};
use super::out::RefusedRow;
use super::spool::{Folder, SegmentId, Spool};
use crate::effects::Clock;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Loaded, Streamed};
use crate::schema::Columns;
use crate::stage::Store;
use open::Open;
use search::Places;
use shelf::{Draft, RejectedLog, Shelf};

pub use answer::{Answer, PARAMETERS, question};
pub(super) use instance::new_id;
pub use instance::{Identifier, Instance, State};
pub use search::{Page, Question};

/// How requests are tracked.
#[derive(Debug, Clone)]
pub struct Options {
    /// One to three columns; the first is the primary identifier.
    pub fields: Vec<String>,
    /// Bodies are kept, and shown to whoever may see the request.
    pub trace: bool,
    /// How long requests are found after they came.
    pub keep: Duration,
    /// Users who see what others sent.
    pub operators: Vec<String>,
}

/// What a gateway is asked about its requests, and what it writes for that.
#[derive(Debug)]
pub struct Tracking {
    pipeline: String,
    places: Places,
    store: Store,
    trace: bool,
    keep: Duration,
    operators: Vec<String>,
    clock: Clock,
    rejected: Mutex<RejectedLog>,
    /// Questions that are looked up at once: each reads as fast as it can.
    turns: Arc<Semaphore>,
}

/// How rows came into the table, as the journal has it.
#[derive(Debug)]
pub(super) enum Went<'w> {
    /// By load jobs, one for each day.
    Loaded { table: &'w str, jobs: &'w [Loaded] },
    /// One by one.
    Streamed(&'w Streamed),
}

/// In the folder of a spool.
const FOLDER: &str = "track";
const TURNS: usize = 2;

impl Tracking {
    /// For the gateway whose spool is `spool`, and locked by this process.
    pub fn open(
        options: Options,
        spool: &Path,
        store: Store,
        pipeline: &str,
        columns: &Columns,
        table: String,
    ) -> Result<Tracking> {
        let tracked = instance::Tracked::new(columns, &options.fields)?;
        let shelves = spool.join(FOLDER);
        shelf::open(&shelves, &options.fields)?;
        let Options { trace, keep, operators, .. } = options;
        let clock = store.effects().clock.clone();
        let rejected = Mutex::new(RejectedLog::new(&shelves));
        if trace {
            let folder = shelves.display();
            tracing::warn!(%folder, ?keep, "bodies of requests are kept, and may hold secrets");
        }
        let places = Places { spool: spool.to_owned(), shelves, tracked, table, shows_spool: trace };
        let (pipeline, turns) = (pipeline.to_owned(), Arc::new(Semaphore::new(TURNS)));
        let tracking = Tracking { pipeline, places, store, trace, keep, operators, clock, rejected, turns };
        tracking.forget_old();
        Ok(tracking)
    }

    /// Takes note of a request that nothing was stored of: none of its `rows` rows, also of those that fit.
    pub(super) async fn rejected(self: &Arc<Self>, head: Head, body: Vec<u8>, rows: u64, reason: String) {
        let this = Arc::clone(self);
        let write = move || {
            let mut instance = this.places.tracked.instance(&head, &body, State::Rejected).because(reason);
            instance.rejected = rows;
            if this.trace {
                instance = instance.with_payload(&body);
            }
            let written = this.rejected.lock().unwrap_or_else(PoisonError::into_inner).add(&instance);
            if let Err(error) = written {
                tracing::warn!(%error, id = head.id, "a rejected request will not be found");
            }
        };
        // A panic of it has been told by the panic itself.
        let _ = tokio::task::spawn_blocking(write).await;
    }

    /// Takes note of all requests in `segments`, whose rows are in the table and which are about to go. May be
    /// done again.
    pub(super) async fn gone(&self, spool: &Spool<Folder>, segments: &[SegmentId], went: &Went<'_>) {
        let refused = self.refused(went).await;
        let shelved = match refused {
            Ok(refused) => self.shelve(spool, segments, went, &refused),
            Err(error) => Err(error),
        };
        if let Err(error) = shelved {
            tracing::error!(%error, "requests of loaded rows will not be found");
        }
        self.forget_old();
    }

    /// The rows that BigQuery would not have, by request.
    async fn refused(&self, went: &Went<'_>) -> Result<HashMap<String, Vec<RefusedRow>>> {
        let mut refused: HashMap<String, Vec<RefusedRow>> = HashMap::new();
        let Went::Streamed(Streamed { rejects: Some(file), .. }) = went else { return Ok(refused) };
        let name = self.store.name_of(&file.url).unwrap_or_default();
        let damaged = || Error::new(Kind::Damaged, format!("`{name}` is not readable"));
        let lines = self.store.read(name).await?.ok_or_else(damaged)?;
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row: RefusedRow = serde_json::from_slice(line).map_err(|e| damaged().caused_by(e))?;
            refused.entry(row.id.clone()).or_default().push(row);
        }
        Ok(refused)
    }

    fn shelve(
        &self,
        spool: &Spool<Folder>,
        segments: &[SegmentId],
        went: &Went<'_>,
        refused: &HashMap<String, Vec<RefusedRow>>,
    ) -> Result<()> {
        let Some(key) = segments.first().map(SegmentId::key) else { return Ok(()) };
        let Some(mut draft) = Draft::start(&self.places.shelves, &key)? else { return Ok(()) };
        for id in segments {
            for (_, bytes) in spool.read(*id)? {
                let Letter { head, body } = Letter::parse(&bytes)?;
                let mut instance = self.places.tracked.instance(&head, &body, State::Loaded);
                let table = match went {
                    Went::Loaded { table, jobs } => {
                        let job = jobs.iter().find(|job| Some(job.partition) == open::day_of(&head));
                        instance.job_id = job.map(|job| job.job_id.clone());
                        *table
                    }
                    Went::Streamed(streamed) => streamed.table.as_str(),
                };
                instance.table = Some(table.to_owned());
                if let Some(rows) = refused.get(&head.id) {
                    instance = instance.refused(rows);
                }
                draft.add(&if self.trace { instance.with_payload(&body) } else { instance })?;
            }
        }
        draft.finish(&key)
    }

    /// Deletes what is older than it is kept for.
    fn forget_old(&self) {
        let keep_ms = u64::try_from(self.keep.as_millis()).unwrap_or(u64::MAX);
        let now = self.clock.unix_millis();
        let forget = || {
            for shelf in Shelf::list(&self.places.shelves)? {
                if shelf.last_ms.saturating_add(keep_ms) < now {
                    shelf.remove()?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = forget() {
            tracing::warn!(%error, "old requests stay");
        }
    }
}

/// Where requests of a gateway are looked for by somebody who may read its folder, whether it is at work or
/// not.
#[derive(Debug)]
pub struct Folders {
    places: Places,
    store: Store,
    pipeline: String,
}

impl Folders {
    pub fn open(
        spool: PathBuf,
        store: Store,
        pipeline: &str,
        columns: &Columns,
        table: String,
    ) -> Result<Folders> {
        let shelves = spool.join(FOLDER);
        let Some(fields) = shelf::fields(&shelves)? else {
            let shown = spool.display();
            return Err(Error::usage(format!("no gateway has tracked requests in `{shown}`"))
                .hint("`api2bq gateway --track COLUMN --spool FOLDER` does"));
        };
        let tracked = instance::Tracked::new(columns, &fields)?;
        let places = Places { spool, shelves, tracked, table, shows_spool: false };
        Ok(Folders { places, store, pipeline: pipeline.to_owned() })
    }

    pub async fn find(&self, question: &Question) -> Result<Answer> {
        let open = Open::read(&self.store, &self.pipeline, &self.places.spool).await?;
        let page = tokio::task::block_in_place(|| self.places.search(question, &open))?;
        Ok(Answer { pipeline: self.pipeline.clone(), fields: self.fields(), trace: None, page })
    }

    pub fn fields(&self) -> Vec<String> {
        self.places.tracked.fields()
    }
}
