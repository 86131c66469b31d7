//! One staged partition becomes one load job that replaces a day partition or adds to it, driven to its end.

use crate::bigquery::{BigQuery, JobFailure, LoadJob, TableId, Write, load_job_id};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Loaded, Mode, StagedPartition, Target};
use crate::partition::Partition;
use crate::schema::Columns;

/// Where the rows of a pipeline go.
#[derive(Debug, Clone)]
pub struct Destination {
    pub pipeline: String,
    pub table: TableId,
    pub location: String,
    pub columns: Columns,
    pub mode: Mode,
}

impl Destination {
    /// As an intent writes it down.
    pub fn target(&self) -> Target {
        Target {
            table: self.table.to_string(),
            location: self.location.clone(),
            write_disposition: self.mode.disposition().into(),
        }
    }

    /// Jobs are looked up where their intent put them; elsewhere they would be sent again.
    pub fn agrees_with(&self, intended: &Target) -> Result<()> {
        let ours = self.target();
        if ours == *intended {
            return Ok(());
        }
        Err(Error::usage(format!(
            "the open intent loads into `{}` in `{}` by {}, this command into `{}` in `{}` by {}",
            intended.table,
            intended.location,
            intended.write_disposition,
            ours.table,
            ours.location,
            ours.write_disposition
        ))
        .hint("resume with the settings that the run was begun with, or start over with `--new-run`"))
    }
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
    origin: &str,
    staged: &StagedPartition,
    generation: u32,
) -> Result<Outcome> {
    let partition = destination.table.partition(staged.partition);
    let job_id = job_id(destination, origin, staged, generation);
    let appends = destination.mode == Mode::Append;
    let job = LoadJob {
        id: &job_id,
        destination: &partition,
        columns: &destination.columns,
        source_uris: staged.files.iter().map(|f| f.url.clone()).collect(),
        write: match destination.mode {
            Mode::Replace => Write::Truncate,
            Mode::Append => Write::Append,
        },
    };
    let done = match bigquery.load(&job).await? {
        Ok(done) => done,
        Err(failure) => return Ok(Outcome::Failed(failure)),
    };
    if done.output_rows != staged.rows && appends {
        // Its rows are in the table, however many: another job would put them there twice.
        let found = done.output_rows;
        return Err(mismatch(&partition, &job_id, found, staged.rows)
            .hint("rows were appended and cannot be told from others; replace the whole day: `--set warehouse.mode=replace --drop-appended`"));
    }
    if done.output_rows != staged.rows && done.adopted {
        // Somebody has been told of it; the rows themselves may be had by another job.
        let message = format!("job `{job_id}` says {} rows, {} were staged", done.output_rows, staged.rows);
        let reason = "row_count_mismatch".into();
        return Ok(Outcome::Failed(JobFailure { reason, message, transient: true, found: true }));
    }
    if done.output_rows != staged.rows {
        return Err(mismatch(&partition, &job_id, done.output_rows, staged.rows));
    }
    // What a job appended it appended once, whatever became of the partition since.
    if done.adopted && !appends {
        // An earlier job of this id may be long past, and the partition replaced or dropped since.
        // Whether it was is asked of the service, by its own clock; loading once more is harmless.
        let intact = is_intact(bigquery, &partition, staged.rows, done.ended_ms).await?;
        if !intact {
            let message = format!("`{partition}` was changed after job `{job_id}` had ended");
            let reason = "superseded".into();
            return Ok(Outcome::Failed(JobFailure { reason, message, transient: true, found: true }));
        }
    }
    Ok(Outcome::Loaded(Loaded {
        partition: staged.partition,
        generation,
        job_id,
        output_rows: done.output_rows,
        output_bytes: done.output_bytes,
        ended_ms: done.ended_ms,
    }))
}

/// True when the partition holds what was loaded: as many rows, and nothing done to them after `ended_ms`.
///
/// Where the service only knows when the whole table changed, this says no too often, and the rows
/// are loaded once more.
pub async fn is_still_there(
    bigquery: &BigQuery,
    destination: &Destination,
    partition: Partition,
    rows: u64,
    ended_ms: u64,
) -> Result<bool> {
    is_intact(bigquery, &destination.table.partition(partition), rows, ended_ms).await
}

/// Rows of a partition.
pub async fn rows(bigquery: &BigQuery, destination: &Destination, partition: Partition) -> Result<u64> {
    let table = bigquery.table(&destination.table.partition(partition)).await?;
    Ok(table.map_or(0, |table| table.rows))
}

/// Empties the partition of a day for which the source has no records.
pub async fn clear(bigquery: &BigQuery, destination: &Destination, partition: Partition) -> Result<()> {
    let partition = destination.table.partition(partition);
    if bigquery.table(&partition).await?.is_some_and(|table| table.rows > 0) {
        tracing::warn!(%partition, "the source has no records for this day any more; its partition is emptied");
        bigquery.delete_table(&partition).await?;
    }
    Ok(())
}

async fn is_intact(bigquery: &BigQuery, partition: &TableId, rows: u64, ended_ms: u64) -> Result<bool> {
    let table = bigquery.table(partition).await?;
    Ok(table.is_some_and(|table| table.rows == rows && table.last_modified_ms <= ended_ms))
}

fn mismatch(partition: &TableId, job_id: &str, found: u64, expected: u64) -> Error {
    Error::new(
        Kind::Mismatch,
        format!("job `{job_id}` says that it loaded {found} rows into `{partition}`, {expected} were staged"),
    )
    .hint("the same command loads the staged files again, by another job")
}

/// The id of the job that loads a staged partition. `origin` names what the rows were staged from: the key
/// of a window, or of a segment. Where they are appended, the same rows from elsewhere are other rows.
pub fn job_id(destination: &Destination, origin: &str, staged: &StagedPartition, generation: u32) -> String {
    let Destination { pipeline, table, mode, .. } = destination;
    let appends = (*mode == Mode::Append).then_some(origin);
    load_job_id(pipeline, table, staged.partition, appends, generation, &staged.logical_hash)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Pipeline;

    /// Once `étudiant` in its two spellings, and two long names with one start, shared their ids: the
    /// second table's load found the first one's job, done.
    #[test]
    fn different_tables_never_share_a_job_id() {
        let columns = Pipeline::resolve("flows", &[]).expect("a pipeline").columns;
        let long = "x".repeat(300);
        let (longer, spaced) = (format!("{long}y"), "x ".repeat(300));
        let names = [
            ("LANL", "flows_staging"),
            ("LANL_flows", "staging"),
            ("LANL", "\u{e9}tudiant"),
            ("LANL", "e\u{301}tudiant"),
            ("LANL", "-tudiant"),
            ("LANL", "_tudiant"),
            ("LANL", "a b"),
            ("LANL", "a-b"),
            ("LANL", "お客様"),
            ("LANL", "お客机"),
            ("LANL", &long),
            ("LANL", &longer),
            ("LANL", &spaced),
            (&long, "a"),
            (&longer, "a"),
        ];
        let staged = StagedPartition {
            partition: Partition::from_date(chrono::NaiveDate::default()),
            rows: 1,
            logical_hash: "0".repeat(32),
            job_id: String::new(),
            files: Vec::new(),
        };
        let id = |(dataset, table): &(&str, &str)| {
            let destination = Destination {
                pipeline: "flows".into(),
                table: TableId::new("p", dataset, table),
                location: "US".into(),
                columns: columns.clone(),
                mode: Mode::Replace,
            };
            job_id(&destination, "0-1", &staged, 0)
        };
        let ids: BTreeSet<String> = names.iter().map(id).collect();
        assert_eq!(ids.len(), names.len(), "{ids:#?}");
        for id in ids {
            assert!(id.len() <= 1024 && id.is_ascii(), "{id}");
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'), "{id}");
        }
    }
}
