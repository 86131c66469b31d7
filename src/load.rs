//! One staged partition becomes one load job that replaces a day partition, driven to its end.

use crate::bigquery::{BigQuery, JobFailure, LoadJob, TableId};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Loaded, StagedPartition};
use crate::schema::Columns;

/// Where the rows of a pipeline go.
#[derive(Debug, Clone)]
pub struct Destination {
    pub pipeline: String,
    pub table: TableId,
    pub columns: Columns,
}

/// How a load job ended.
#[derive(Debug)]
pub enum Outcome {
    Loaded(Loaded),
    /// Its id is burnt; the same files may be loaded under the next generation.
    Failed(JobFailure),
}

/// Runs the load job of `generation`, or finds it run, and counts the rows on the other side.
pub async fn load(
    bigquery: &BigQuery,
    destination: &Destination,
    staged: &StagedPartition,
    generation: u32,
) -> Result<Outcome> {
    let partition = destination.table.partition(staged.partition);
    let job_id = job_id(destination, staged, generation);
    let job = LoadJob {
        id: &job_id,
        destination: &partition,
        columns: &destination.columns,
        source_uris: staged.files.iter().map(|f| f.url.clone()).collect(),
    };
    let done = match bigquery.load(&job).await? {
        Ok(done) => done,
        Err(failure) => return Ok(Outcome::Failed(failure)),
    };
    if done.output_rows != staged.rows {
        return Err(mismatch(&partition, &job_id, done.output_rows, staged.rows));
    }
    if done.adopted {
        // An earlier job of this id may be long past, and the partition replaced or dropped since.
        // Whether it was is asked of the service, by its own clock; loading once more is harmless.
        let table = bigquery.table(&partition).await?;
        let intact =
            table.as_ref().is_some_and(|t| t.rows == staged.rows && t.last_modified_ms <= done.ended_ms);
        if !intact {
            let message = format!("`{partition}` was changed after job `{job_id}` had ended");
            return Ok(Outcome::Failed(JobFailure { reason: "superseded".into(), message, transient: true }));
        }
    }
    Ok(Outcome::Loaded(Loaded {
        partition: staged.partition,
        generation,
        job_id,
        output_rows: done.output_rows,
        output_bytes: done.output_bytes,
    }))
}

/// Proves that what an earlier run loaded is still there.
pub async fn check(bigquery: &BigQuery, destination: &Destination, loaded: &Loaded) -> Result<()> {
    let partition = destination.table.partition(loaded.partition);
    let rows = rows_in(bigquery, &partition).await?;
    if rows == loaded.output_rows {
        Ok(())
    } else {
        Err(mismatch(&partition, &loaded.job_id, rows, loaded.output_rows))
    }
}

async fn rows_in(bigquery: &BigQuery, partition: &TableId) -> Result<u64> {
    Ok(bigquery.table(partition).await?.map_or(0, |table| table.rows))
}

fn mismatch(partition: &TableId, job_id: &str, found: u64, expected: u64) -> Error {
    Error::new(
        Kind::Mismatch,
        format!("`{partition}` has {found} rows, job `{job_id}` should have loaded {expected}"),
    )
    .hint("something else changed the table; `--new-run` loads it again from the source")
}

/// `api2bq_<pipeline>_<table>_<partition>_g<generation>_<20 hex of the logical hash>`.
///
/// The generation makes a failed id replaceable; the hash keeps different content apart.
fn job_id(destination: &Destination, staged: &StagedPartition, generation: u32) -> String {
    let table = &destination.table;
    // Job ids take letters, digits, `_` and `-`; project and dataset keep equal tables apart.
    let safe = |name: &str| -> String {
        name.chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
            .take(200)
            .collect()
    };
    format!(
        "api2bq_{}_{}_{}_{}_g{generation}_{}",
        destination.pipeline,
        safe(&table.dataset),
        safe(&table.table),
        staged.partition,
        &staged.logical_hash[..20]
    )
}
