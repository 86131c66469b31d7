//! What a promote asks of BigQuery: one query over a range of days, and the table that its rows replace.

use chrono::{Days, NaiveDate};

use crate::bigquery::{BigQuery, Parameter, Query, TableId};
use crate::config::Pipeline;
use crate::engine::googlesql::{check_query, key_of};
use crate::error::{Error, Kind, Result};

const PARAMETERS: [&str; 2] = ["first_day", "last_day"];

/// A promote, before anything of it has happened.
#[derive(Debug, Clone)]
pub struct Rebuild {
    pub pipeline: String,
    /// GoogleSQL as it is sent.
    pub sql: String,
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
    pub staging: TableId,
    pub production: TableId,
}

impl Rebuild {
    /// Of the `days` days up to `last_day`. What cannot be right in the SQL is found here.
    pub fn of_days(pipeline: &Pipeline, days: u32, last_day: NaiveDate) -> Result<Rebuild> {
        let warehouse = &pipeline.warehouse;
        let sql = pipeline.promote_sql.replace("{staging_table}", &warehouse.staging_table);
        check_query("promote.sql", &sql, &PARAMETERS)?;
        let back = Days::new(u64::from(days.saturating_sub(1)));
        let first_day = last_day
            .checked_sub_days(back)
            .ok_or_else(|| Error::usage(format!("{days} days before `{last_day}` is no date")))?
            // Nothing is staged before day 1.
            .max(pipeline.epoch.min(last_day));
        Ok(Rebuild {
            pipeline: pipeline.name.clone(),
            sql,
            first_day,
            last_day,
            staging: TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.staging_table),
            production: TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.table),
        })
    }

    /// Up to `as_of`, or to the newest partition that the service has. There must be something to promote.
    pub async fn find(
        pipeline: &Pipeline,
        bigquery: &BigQuery,
        days: u32,
        as_of: Option<NaiveDate>,
    ) -> Result<Rebuild> {
        let last_day = match as_of {
            Some(day) => day,
            None => newest_partition(pipeline, bigquery).await?,
        };
        let rebuild = Rebuild::of_days(pipeline, days, last_day)?;
        if rebuild.rows_between(bigquery).await? == 0 {
            let Rebuild { staging, production, first_day, last_day, .. } = &rebuild;
            return Err(Error::usage(format!("`{staging}` has no rows from {first_day} to {last_day}"))
                .hint(format!("`{production}` is as it was; choose other `--as-of` or `--days`")));
        }
        Ok(rebuild)
    }

    /// The parameters of the query.
    pub fn timestamps(&self) -> Vec<(&'static str, String)> {
        let midnight = |day: NaiveDate| format!("{day} 00:00:00 UTC");
        let days = [self.first_day, self.last_day];
        PARAMETERS.into_iter().zip(days).map(|(name, day)| (name, midnight(day))).collect()
    }

    /// The query for its rows alone: nothing is replaced.
    pub fn query(&self) -> Query {
        self.query_of(self.sql.clone())
    }

    /// Another query that sees the same tables and parameters.
    pub(super) fn query_of(&self, sql: String) -> Query {
        let parameter = |(name, value): (&str, String)| Parameter {
            name: Some(name.to_owned()),
            kind: serde_json::json!({ "type": "TIMESTAMP" }),
            value: serde_json::json!({ "value": value }),
        };
        Query {
            sql,
            default_dataset: Some((Some(self.staging.project.clone()), self.staging.dataset.clone())),
            parameters: self.timestamps().into_iter().map(parameter).collect(),
            ..Query::default()
        }
    }

    /// The columns that name a row of production: those given, or those that the SQL keeps one row of.
    pub fn key(&self, given: &[String]) -> Result<Vec<String>> {
        if !given.is_empty() {
            return Ok(given.to_vec());
        }
        key_of(&self.sql).ok_or_else(|| {
            Error::usage("`promote.sql` does not show which columns name a row").hint(
                "name them with `--key`, or keep one row by QUALIFY ROW_NUMBER() OVER (PARTITION BY …) = 1",
            )
        })
    }

    /// The SQL with all that goes along with it as comments: a text that can be pasted wherever GoogleSQL is.
    pub fn script(&self) -> String {
        let Rebuild { pipeline, sql, staging, production, .. } = self;
        let mut text = format!(
            "-- `promote {pipeline}` sends this as one query job.\n\
             -- Its rows replace `{production}` (WRITE_TRUNCATE, CREATE_IF_NEEDED).\n\
             -- Bare names are tables of `{}.{}` (defaultDataset).\n",
            staging.project, staging.dataset
        );
        for (name, value) in self.timestamps() {
            text += &format!("-- @{name} is TIMESTAMP '{value}'.\n");
        }
        let parameters = self.timestamps().into_iter();
        let parameters = parameters.map(|(name, value)| format!("--parameter='{name}:TIMESTAMP:{value}'"));
        let dataset = format!("--project_id={} --dataset_id={}", staging.project, staging.dataset);
        text += "-- To see its rows and replace nothing, put it into a file:\n";
        text += &format!("--   bq query --use_legacy_sql=false {dataset} \\\n");
        text += &format!("--     {} < FILE\n", parameters.collect::<Vec<_>>().join(" "));
        text += sql.trim_end();
        text.push('\n');
        text
    }

    /// Rows of staging in these days. BigQuery reads no data for it.
    async fn rows_between(&self, bigquery: &BigQuery) -> Result<u64> {
        let Rebuild { first_day, last_day, staging, .. } = self;
        let sql = format!(
            "SELECT COUNT(*) AS n FROM `{}` WHERE _PARTITIONTIME BETWEEN TIMESTAMP '{first_day} 00:00:00 UTC' \
             AND TIMESTAMP '{last_day} 00:00:00 UTC'",
            staging.table
        );
        let answer = bigquery.query(&staging.dataset, &sql).await?;
        let count = answer.rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
        count.ok_or_else(|| Error::failed("BigQuery did not say how many rows are staged"))
    }
}

/// The last day of staging that has rows.
async fn newest_partition(pipeline: &Pipeline, bigquery: &BigQuery) -> Result<NaiveDate> {
    let warehouse = &pipeline.warehouse;
    // Asks only for the pseudo column: BigQuery reads no data for it.
    let sql = format!(
        "SELECT DATE(MAX(_PARTITIONTIME)) AS newest FROM `{}` WHERE _PARTITIONTIME >= TIMESTAMP '0001-01-01 00:00:00 UTC'",
        warehouse.staging_table
    );
    let answer = bigquery.query(&warehouse.dataset, &sql).await?;
    let newest = answer.rows.first().and_then(|row| row.first()?.as_deref());
    let Some(newest) = newest else {
        let staging = TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.staging_table);
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
