//! The load jobs of one staged partition, generation after generation, until its rows are in the table.
//!
//! The id of a job that failed is burnt, and the next generation may load the same files. So each failure
//! is in the journal before another job is sent, and whoever finds the chain later goes on behind it.

use crate::bigquery::BigQuery;
use crate::effects::{Door, Effects};
use crate::error::{Error, Kind, Result};
use crate::load::{self, Destination, Outcome};
use crate::manifest::{Event, Loaded, Mode, StagedPartition};
use crate::retry::Policy;
use crate::stage::journal::Chain;

/// Failed jobs of earlier runs that are passed over for one partition; each is one that some run
/// sent and whose failure no journal tells of.
const FOUND_MAX: u32 = 20;

/// What becomes of a job, for whoever counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// It is sent next, unless who hears of it has an error to tell.
    Next,
    Loaded,
    Failed,
}

/// How partitions are loaded.
#[derive(Debug)]
pub struct Generations<'a> {
    pub bigquery: &'a BigQuery,
    pub destination: &'a Destination,
    /// Where the rows come from, as [`load::job_id`] wants to know it.
    pub origin: String,
    pub retry: Policy,
    pub effects: &'a Effects,
}

impl Generations<'_> {
    /// One partition's load job to its end. A failed one goes into the chain, and the next generation is
    /// tried if another try can help.
    pub async fn load(
        &self,
        chain: &mut Chain,
        staged: &StagedPartition,
        mut hears: impl FnMut(Job) -> Result<()> + Send,
    ) -> Result<Loaded> {
        let Generations { bigquery, destination, origin, .. } = self;
        let partition = staged.partition;
        let mut found = 0;
        let mut tries = self.retry.tries(self.effects, Door::BigQuery, format!("partition `{partition}`"));
        loop {
            let generation = chain.state().generation(partition);
            let job_id = load::job_id(destination, origin, staged, generation);
            hears(Job::Next)?;
            let failure = match load::load(bigquery, destination, origin, staged, generation).await {
                Ok(Outcome::Loaded(done)) => {
                    tracing::info!(%partition, rows = done.output_rows, job_id = done.job_id, "partition loaded");
                    hears(Job::Loaded)?;
                    return Ok(done);
                }
                Ok(Outcome::Failed(failure)) => failure,
                Err(error) => {
                    if error.kind() == Kind::Mismatch && destination.mode == Mode::Replace {
                        // Its job will say the same for ever; the next run loads the files by another.
                        let reason = error.to_string();
                        chain.append(Event::Failed { partition, generation, job_id, reason }).await?;
                    }
                    return Err(error);
                }
            };
            let reason = format!("{}: {}", failure.reason, failure.message);
            let error = Error::failed(format!(
                "load job `{job_id}` of partition `{partition}` failed: {reason}"
            ))
            .hint("nothing was changed in the table; the same command tries again with the staged files");
            chain.append(Event::Failed { partition, generation, job_id, reason }).await?;
            hears(Job::Failed)?;
            // An old failure says nothing about a new try; but where there is always another one,
            // something else is wrong.
            found += u32::from(failure.found);
            if failure.found && found <= FOUND_MAX {
                continue;
            }
            tries.wait_or(if failure.transient { error.retryable() } else { error }).await?;
        }
    }
}
