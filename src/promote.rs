//! Production rebuilt from staging: the latest record per key of the last days, in one atomic step.

use chrono::{Days, NaiveDate};
use serde::Serialize;

use crate::bigquery::{BigQuery, QueryJob, TableId};
use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::stage::journal::sha256_hex;

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
    let warehouse = &pipeline.warehouse;
    let staging = TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.staging_table);
    let production = TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.table);
    let Some(staged) = bigquery.table(&staging).await? else {
        return Err(Error::usage(format!("there is no table `{staging}`"))
            .hint(format!("load something first: `api2bq backfill {} --from 1 --to 3`", pipeline.name)));
    };
    let last_day = match as_of {
        Some(day) => day,
        None => newest_partition(bigquery, pipeline, &staging).await?,
    };
    let back = Days::new(u64::from(days.saturating_sub(1)));
    let first_day = last_day
        .checked_sub_days(back)
        .ok_or_else(|| Error::usage(format!("{days} days before `{last_day}` is no date")))?
        // Nothing is staged before day 1.
        .max(pipeline.epoch.min(last_day));
    // The same SQL over the same staging into the same production is the same job; any change in
    // one of them is another. An equal job that is sent twice, after a lost answer, runs once.
    let before = bigquery.table(&production).await?;
    let before = before.map(|table| (table.etag, table.last_modified_ms));
    let identity = format!(
        "{}\n{staging}\n{production}\n{first_day}\n{last_day}\n{:?}\n{before:?}",
        pipeline.promote_sql,
        (&staged.etag, &staged.last_modified_ms)
    );
    if rows_between(bigquery, pipeline, first_day, last_day).await? == 0 {
        return Err(Error::usage(format!("`{staging}` has no rows from {first_day} to {last_day}"))
            .hint(format!("`{production}` is as it was; choose other `--as-of` or `--days`")));
    }
    let midnight = |day: NaiveDate| format!("{day} 00:00:00 UTC");
    let sql = pipeline.promote_sql.replace("{staging_table}", &warehouse.staging_table);
    let mut generation = 0;
    let (job_id, done) = loop {
        let hash = sha256_hex(identity.as_bytes());
        let partition = last_day.format("%Y%m%d");
        let job_id = format!("api2bq_{}_promote_{partition}_g{generation}_{}", pipeline.name, &hash[..20]);
        let job = QueryJob {
            id: &job_id,
            sql: &sql,
            dataset: &warehouse.dataset,
            destination: &production,
            timestamps: vec![("first_day", midnight(first_day)), ("last_day", midnight(last_day))],
        };
        match bigquery.query_into(&job).await? {
            // An equal job of an earlier time counts only while its table is as it left it.
            Ok(done) if done.adopted && !is_as_left(bigquery, &production, done.ended_ms).await? => {
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
    let rows = bigquery.table(&production).await?.map_or(0, |table| table.rows);
    tracing::info!(table = %production, rows, %first_day, %last_day, "table promoted");
    Ok(Promoted {
        table: production.to_string(),
        first_day,
        last_day,
        rows,
        bytes_processed: done.bytes_processed,
        job_id,
    })
}

async fn is_as_left(bigquery: &BigQuery, table: &TableId, ended_ms: u64) -> Result<bool> {
    Ok(bigquery.table(table).await?.is_some_and(|table| table.last_modified_ms <= ended_ms))
}

/// Rows of staging in these days. BigQuery reads no data for it.
async fn rows_between(
    bigquery: &BigQuery,
    pipeline: &Pipeline,
    first_day: NaiveDate,
    last_day: NaiveDate,
) -> Result<u64> {
    let sql = format!(
        "SELECT COUNT(*) AS n FROM `{}` WHERE _PARTITIONTIME BETWEEN TIMESTAMP '{first_day} 00:00:00 UTC' \
         AND TIMESTAMP '{last_day} 00:00:00 UTC'",
        pipeline.warehouse.staging_table
    );
    let answer = bigquery.query(&pipeline.warehouse.dataset, &sql).await?;
    let count = answer.rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
    count.ok_or_else(|| Error::failed("BigQuery did not say how many rows are staged"))
}

async fn newest_partition(bigquery: &BigQuery, pipeline: &Pipeline, staging: &TableId) -> Result<NaiveDate> {
    // Asks only for the pseudo column: BigQuery reads no data for it.
    let sql = format!(
        "SELECT DATE(MAX(_PARTITIONTIME)) AS newest FROM `{}` WHERE _PARTITIONTIME >= TIMESTAMP '0001-01-01 00:00:00 UTC'",
        staging.table
    );
    let answer = bigquery.query(&pipeline.warehouse.dataset, &sql).await?;
    let newest = answer.rows.first().and_then(|row| row.first()?.as_deref());
    let Some(newest) = newest else {
        return Err(Error::usage(format!("`{staging}` has no partitions yet"))
            .hint(format!("load something first: `api2bq backfill {} --from 1 --to 3`", pipeline.name)));
    };
    newest.parse().map_err(|_| {
        Error::new(
            Kind::Failed,
            format!("BigQuery names `{newest}` as the newest partition, which is no date"),
        )
    })
}
