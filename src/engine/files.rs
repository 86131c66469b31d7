//! Parquet files of some days as one table, asked by SELECTs.

use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::lit;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use arrow::record_batch::RecordBatch;

use super::Engine;
use crate::error::{Error, Result};
use crate::schema::DAY_COLUMN;

/// The files of one day.
#[derive(Debug, Clone)]
pub struct DayFiles {
    /// 1-based.
    pub day: i64,
    pub urls: Vec<String>,
}

/// A table that can be asked by many at once. Cheap to clone.
#[derive(Clone)]
pub struct Table(SessionContext);

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Table")
    }
}

impl Table {
    /// The files under `name`, with the column `day` behind their own. A query that names days reads only
    /// the files of those: to the planner the day of a file is a constant.
    pub async fn of_days(engine: &Engine, name: &str, days: &[DayFiles]) -> Result<Table> {
        let context = engine.session();
        let wrong = |e: DataFusionError| {
            Error::failed(format!("cannot read the staged files of `{name}`")).caused_by(e.strip_backtrace())
        };
        let mut all = None;
        for DayFiles { day, urls } in days {
            let rows =
                context.read_parquet(urls.clone(), ParquetReadOptions::default()).await.map_err(wrong)?;
            let rows = rows.with_column(DAY_COLUMN, lit(*day)).map_err(wrong)?;
            all = Some(match all {
                None => rows,
                Some(before) => rows.union(before).map_err(wrong)?,
            });
        }
        let all = all.ok_or_else(|| Error::usage(format!("`{name}` has no staged files")))?;
        context.register_table(name, all.into_view()).map_err(wrong)?;
        Ok(Table(context))
    }

    /// Runs one SELECT.
    pub async fn select(&self, sql: &str) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let only_select =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let wrong = |e: DataFusionError| {
            Error::usage("the query is wrong").caused_by(e.strip_backtrace()).hint("only SELECT is run")
        };
        let frame = self.0.sql_with_options(sql, only_select).await.map_err(wrong)?;
        let rows = frame.execute_stream().await.map_err(wrong)?;
        Ok(rows.map_err(|e| Error::failed("the query failed").caused_by(e.strip_backtrace())).boxed())
    }
}
