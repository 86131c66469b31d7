//! Production computed twice, by the service from its partitions and here from the staged files, row by row.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use chrono::NaiveDate;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Rebuild;
use crate::bigquery::{BigQuery, Running, arrow_schema};
use crate::engine::{Engine, Joins, Sql, type_name};
use crate::error::{Error, Kind, Result};
use crate::explore::{Compared, Pair, compare};
use crate::query;
use crate::render::{Format, Renderer};

/// Rows that were computed here.
pub struct Rows {
    pub schema: SchemaRef,
    pub rows: BoxStream<'static, Result<RecordBatch>>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize)]
pub struct Checked {
    pub first_day: NaiveDate,
    pub last_day: NaiveDate,
    /// The columns by which rows were matched.
    pub key: Vec<String>,
    pub equal: u64,
    pub only_service: u64,
    pub only_local: u64,
    pub different: u64,
    /// Rows in which a column differs; only of columns where some do.
    pub different_columns: Map<String, Value>,
    /// `only_service`, `only_local`; `different` has the key, and of columns that differ both values.
    pub examples: Map<String, Value>,
    /// What the service has read for its part.
    pub bytes_processed: u64,
    pub bytes_billed: u64,
}

impl Checked {
    pub fn differences(&self) -> u64 {
        self.only_service + self.only_local + self.different
    }

    /// The error that a command ends with which has shown them.
    pub fn verdict(&self) -> Result<()> {
        match self.differences() {
            0 => Ok(()),
            1 => Err(mismatch("1 row differs between the service and the staged files")),
            n => Err(mismatch(&format!("{n} rows differ between the service and the staged files"))),
        }
    }
}

fn mismatch(what: &str) -> Error {
    Error::new(Kind::Mismatch, what).hint(
        "a partition was changed by another than `backfill`, or is not of this staging area: `api2bq verify` tells",
    )
}

/// Runs the query in the service, and compares its rows with `local`. Nothing is changed.
pub async fn check(
    rebuild: &Rebuild,
    bigquery: &BigQuery,
    local: Rows,
    engine: &Engine,
    scratch: &Path,
    key: &[String],
    examples: usize,
) -> Result<Checked> {
    let question = rebuild.query();
    let answered = query::run(bigquery, &question, &Running::default()).await?;
    let there = answered.location.as_deref().map_or_else(|| bigquery.clone(), |place| bigquery.at(place));
    let schema = arrow_schema(&answered.fields);
    same_columns(&schema, &local.schema)?;
    let key = named(key, &schema)?;
    let rows = there.query_rows(&answered.job_id, answered.fields.clone(), None);
    let of_service = Kept::write(scratch, &schema, rows).await?;
    let of_files = Kept::write(scratch, &schema, local.rows).await?;
    // Both may be larger than the memory: they are sorted, which spills.
    let sql = Sql::new(engine, Joins::Sorted);
    let tables = [of_service.name()?, of_files.name()?];
    for table in tables {
        sql.add_file(table).await?;
    }
    let pair = Pair {
        tables,
        called: ["the service's result", "the result of the staged files"],
        both: "results",
        sides: ["service", "local"],
        key: &key,
        examples,
    };
    let Compared { added, removed, changed, same, changed_columns, examples, .. } =
        compare(&sql, &pair).await?;
    let examples =
        [("only_service", examples.removed), ("only_local", examples.added), ("different", examples.changed)];
    Ok(Checked {
        first_day: rebuild.first_day,
        last_day: rebuild.last_day,
        key,
        equal: same,
        only_service: removed,
        only_local: added,
        different: changed,
        different_columns: changed_columns,
        examples: examples.into_iter().map(|(kind, rows)| (kind.to_owned(), Value::from(rows))).collect(),
        bytes_processed: answered.bytes_processed,
        bytes_billed: answered.bytes_billed,
    })
}

/// Columns are compared in their order, as the rows of a table are written.
fn same_columns(service: &SchemaRef, local: &SchemaRef) -> Result<()> {
    let list = |schema: &SchemaRef| -> Vec<String> {
        let column = |field: &arrow::datatypes::Field| {
            format!("{} {}", field.name().to_lowercase(), type_name(field.data_type()))
        };
        schema.fields().iter().map(|field| column(field)).collect()
    };
    let (service, local) = (list(service), list(local));
    match service == local {
        true => Ok(()),
        false => Err(mismatch(&format!(
            "the service gives the columns {}, the staged files {}",
            service.join(", "),
            local.join(", ")
        ))),
    }
}

/// The key as the result has it; names ignore case.
fn named(key: &[String], schema: &SchemaRef) -> Result<Vec<String>> {
    let name = |wanted: &String| {
        let fields = schema.fields().iter();
        let found = fields.map(|f| f.name()).find(|name| name.to_lowercase() == wanted.to_lowercase());
        found.cloned().ok_or_else(|| Error::usage(format!("`promote.sql` gives no column `{wanted}`")))
    };
    key.iter().map(name).collect()
}

/// A result on disk, for as long as it is compared.
#[derive(Debug)]
struct Kept(PathBuf);

impl Kept {
    async fn write(
        scratch: &Path,
        schema: &SchemaRef,
        rows: impl futures::Stream<Item = Result<RecordBatch>>,
    ) -> Result<Kept> {
        let path = scratch.join(format!(".check-{:016x}.parquet", fastrand::u64(..)));
        let file = File::create_new(&path)
            .map_err(|e| Error::failed(format!("cannot write `{}`", path.display())).caused_by(e))?;
        let kept = Kept(path);
        let mut renderer = Renderer::new(Format::Parquet, schema, Box::new(BufWriter::new(file)))?;
        let mut rows = std::pin::pin!(rows);
        while let Some(batch) = rows.try_next().await? {
            // The names of one side for both.
            let batch = RecordBatch::try_new(SchemaRef::clone(schema), batch.columns().to_vec());
            let batch = batch.map_err(|e| Error::failed("a row does not fit its columns").caused_by(e))?;
            tokio::task::block_in_place(|| renderer.write(&batch))?;
        }
        renderer.finish()?;
        Ok(kept)
    }

    fn name(&self) -> Result<&str> {
        let wrong = || Error::usage(format!("`limits.spill_dir` `{}` is no UTF-8", self.0.display()));
        self.0.to_str().ok_or_else(wrong)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // What stays is only untidy.
        let _ = std::fs::remove_file(&self.0);
    }
}
