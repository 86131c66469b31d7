//! Production rebuilt from staging: the latest record per key of the last days, in one atomic step.
//!
//! What it would do is said before it does it: as SQL, as rows of the staged files, as counts. All of
//! these begin with the same [`Rebuild`].

mod check;
mod forecast;
mod rebuild;
mod staged;

use chrono::NaiveDate;
use serde::Serialize;

use crate::bigquery::{BigQuery, QueryJob, TableId};
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::stage::journal::sha256_hex;

pub use check::{Checked, Rows, check};
pub use forecast::{Forecast, OwnCost, forecast};
pub use rebuild::Rebuild;
pub use staged::{Files, Staged, staged};

/// Failed jobs of one and the same promote, after which something is wrong for good.
const GENERATIONS_MAX: u32 = 20;

/// What a promote did.
#[derive(Debug, Serialize)]
pub struct Promoted {
    pub table: String,
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
    pub rows: u64,
    pub bytes_processed: u64,
    pub job_id: String,
}

/// Rebuilds production from the `days` days up to `as_of`, or up to the newest loaded partition.
pub async fn promote(
    pipeline: &Pipeline,
    bigquery: &BigQuery,
    days: u32,
    as_of: Option<NaiveDate>,
) -> Result<Promoted> {
    let staging = staging(pipeline, bigquery).await?;
    let rebuild = Rebuild::find(pipeline, bigquery, days, as_of).await?;
    let Rebuild { first_day, last_day, production, .. } = &rebuild;
    // The same SQL over the same staging into the same production is the same job; any change in
    // one of them is another. An equal job that is sent twice, after a lost answer, runs once.
    let before = bigquery.table(production).await?;
    let before = before.map(|table| (table.etag, table.last_modified_ms));
    let identity = format!(
        "{}\n{}\n{production}\n{first_day}\n{last_day}\n{:?}\n{before:?}",
        pipeline.promote_sql, rebuild.staging, staging
    );
    let mut generation = 0;
    let (job_id, done) = loop {
        let hash = sha256_hex(identity.as_bytes());
        let partition = last_day.format("%Y%m%d");
        let job_id = format!("api2bq_{}_promote_{partition}_g{generation}_{}", pipeline.name, &hash[..20]);
        let job = QueryJob {
            id: &job_id,
            sql: &rebuild.sql,
            dataset: &rebuild.staging.dataset,
            destination: production,
            timestamps: rebuild.timestamps(),
        };
        match bigquery.query_into(&job).await? {
            // An equal job of an earlier time counts only while its table is as it left it.
            Ok(done) if done.adopted && !is_as_left(bigquery, production, done.ended_ms).await? => {
                generation += 1
            }
            Ok(done) => break (job_id, done),
            // A failed id is burnt: what failed is tried again under the next.
            Err(failure) if (failure.transient || failure.found) && generation < GENERATIONS_MAX => {
                tracing::warn!(job_id, reason = failure.reason, "promote failed, trying the next generation");
                generation += 1;
            }
            Err(failure) => {
                return Err(Error::failed(format!(
                    "promote failed: {}: {}",
                    failure.reason, failure.message
                ))
                .hint(format!("`{production}` is as it was; promote again once the cause is gone")));
            }
        }
    };
    let rows = bigquery.table(production).await?.map_or(0, |table| table.rows);
    tracing::info!(table = %production, rows, %first_day, %last_day, "table promoted");
    Ok(Promoted {
        table: production.to_string(),
        first_day: *first_day,
        last_day: *last_day,
        rows,
        bytes_processed: done.bytes_processed,
        job_id,
    })
}

/// What tells one state of the staging table from another. There must be one.
async fn staging(pipeline: &Pipeline, bigquery: &BigQuery) -> Result<(String, u64)> {
    let warehouse = &pipeline.warehouse;
    let staging = TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.staging_table);
    match bigquery.table(&staging).await? {
        Some(table) => Ok((table.etag, table.last_modified_ms)),
        None => Err(Error::usage(format!("there is no table `{staging}`"))
            .hint(format!("load something first: `api2bq backfill {} --from 1 --to 3`", pipeline.name))),
    }
}

async fn is_as_left(bigquery: &BigQuery, table: &TableId, ended_ms: u64) -> Result<bool> {
    Ok(bigquery.table(table).await?.is_some_and(|table| table.last_modified_ms <= ended_ms))
}
