//! GoogleSQL over files where they are: what the server makes of a query, without the server.
//!
//! Tables exist as long as the answer does, and read their files in place; nothing is copied, listened to or
//! changed. Everything behind the names is the server's own: parser, translation, functions, pseudo columns.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parquet::file::metadata::ParquetMetaDataReader;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::Emulator;
use super::catalog::DatasetDocument;
use super::disk::{OwnedFile, unique_name};
use super::faults::Faults;
use super::fields::{arrow_schema, parse_schema};
use super::files::column_bytes;
use super::names::{DatasetId, ProjectId, TableId, TableName};
use super::partitions::{Granularity, Partition, Partitioning};
use super::query::{self, Piece, QuerySpec};
use super::versions::{Definition, Part, Version};
use super::wire::{Failure, Outcome};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Where the dataset is; nobody asks.
const LOCATION: &str = "US";

/// A table that is partitioned by the day of ingestion.
#[derive(Debug, Clone)]
pub struct Table {
    pub project: String,
    pub dataset: String,
    pub table: String,
    /// Name, type and mode of each, in BigQuery's words.
    pub columns: Vec<[String; 3]>,
    /// Parquet files with these columns.
    pub days: Vec<(NaiveDate, Vec<PathBuf>)>,
}

/// One SELECT.
#[derive(Debug, Clone)]
pub struct Question {
    pub sql: String,
    /// Named TIMESTAMP parameters.
    pub timestamps: Vec<(&'static str, String)>,
    /// Bare names mean tables of its dataset.
    pub table: Table,
}

pub struct Answer {
    pub schema: SchemaRef,
    /// Logical bytes of what is read, as BigQuery would count them.
    pub bytes: u64,
    /// The query ends when these are dropped.
    pub rows: BoxStream<'static, Result<RecordBatch>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Starts the query. `scratch` is a folder for what describes the table meanwhile.
pub async fn ask(engine: Engine, scratch: &Path, question: Question) -> Result<Answer> {
    let folder = Folder(scratch.join(format!(".local-{}", unique_name())));
    let Question { sql, timestamps, table } = question;
    let spec = spec(&sql, &timestamps, &table).map_err(told)?;
    let opened = tokio::task::spawn_blocking(move || open(engine, folder, &table)).await;
    let (emulator, folder) = opened.map_err(|e| Error::failed("cannot set up the table").caused_by(e))??;
    let (sender, mut pieces) = mpsc::channel(2);
    let state = Arc::clone(&emulator);
    tokio::spawn(async move {
        if let Err(failure) = query::answer(&state, spec, LOCATION, sender.clone()).await {
            // Whoever has gone away does not want to know.
            let _ = sender.send(Err(failure)).await;
        }
    });
    let (fields, bytes) = match pieces.recv().await {
        Some(Ok(Piece::Columns { fields, bytes })) => (fields, bytes),
        Some(Err(failure)) => return Err(told(failure)),
        Some(Ok(Piece::Rows(_))) | None => return Err(Error::failed("the query died")),
    };
    // The folder is taken away after the last of what reads in it.
    let rows = stream::unfold((pieces, emulator, folder), |(mut pieces, emulator, folder)| async {
        let piece = match pieces.recv().await? {
            Ok(Piece::Rows(batch)) => Ok(batch),
            Ok(Piece::Columns { .. }) => Err(Error::failed("the answer begins twice")),
            Err(failure) => Err(told(failure)),
        };
        Some((piece, (pieces, emulator, folder)))
    });
    Ok(Answer { schema: arrow_schema(&fields), bytes, rows: rows.boxed() })
}

fn spec(sql: &str, timestamps: &[(&str, String)], table: &Table) -> Outcome<QuerySpec> {
    let parameter = |(name, value): &(&str, String)| json!({ "name": name, "parameterType": { "type": "TIMESTAMP" }, "parameterValue": { "value": value } });
    let parameters: Vec<Value> = timestamps.iter().map(parameter).collect();
    let request = json!({
        "query": sql,
        "useLegacySql": false,
        "parameterMode": "NAMED",
        "queryParameters": parameters,
        "defaultDataset": { "projectId": table.project, "datasetId": table.dataset },
    });
    let empty = Map::new();
    QuerySpec::parse(request.as_object().unwrap_or(&empty), &ProjectId::parse(&table.project)?)
}

fn open(engine: Engine, folder: Folder, table: &Table) -> Result<(Arc<Emulator>, Folder)> {
    let emulator = Emulator::open(folder.0.clone(), &folder.0.join("buckets"), engine, Faults::default())?;
    let version = version(table)?;
    let name = &version.definition.name;
    let dataset = DatasetDocument::new(name.project.clone(), name.dataset.clone(), LOCATION.to_owned());
    emulator.catalog.insert_dataset(dataset).map_err(told)?;
    emulator.catalog.create_table(version).map_err(told)?;
    Ok((Arc::new(emulator), folder))
}

/// The table, with files that stay whatever becomes of it.
fn version(table: &Table) -> Result<Version> {
    let mut definition = Definition::new(TableName {
        project: ProjectId::parse(&table.project).map_err(told)?,
        dataset: DatasetId::parse(&table.dataset).map_err(told)?,
        table: TableId::parse(&table.table).map_err(told)?,
    });
    let field = |[name, kind, mode]: &[String; 3]| json!({ "name": name, "type": kind, "mode": mode });
    let fields: Vec<Value> = table.columns.iter().map(field).collect();
    let schema = Map::from_iter([("fields".to_owned(), Value::from(fields))]);
    definition.fields = parse_schema(&schema).map_err(told)?;
    definition.partitioning = Some(Partitioning::of_ingestion(Granularity::Day));
    let mut parts = Vec::new();
    for (day, files) in &table.days {
        let partition = Partition::from_decorator(&day.format("%Y%m%d").to_string()).map_err(told)?;
        for path in files {
            parts.extend(part(partition, path)?);
        }
    }
    Ok(Version::new(definition, parts, Vec::new()))
}

fn part(partition: Partition, path: &Path) -> Result<Option<Part>> {
    let damaged = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Kind::Damaged, format!("staged file `{}` cannot be read", path.display()))
            .caused_by(cause)
            .hint("`api2bq verify` names all files that are wrong; the same backfill again puts them back")
    };
    let file = std::fs::File::open(path).map_err(|e| damaged(e.into()))?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|e| damaged(e.into()))?;
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    let file = Arc::new(OwnedFile::lent(path.to_owned()));
    Ok((rows > 0).then(|| Part::new(partition, rows, column_bytes(&metadata), file)))
}

/// What is wrong with a query is the user's to mend; the rest is not.
fn told(failure: Failure) -> Error {
    let kind = if matches!(failure.code, 400 | 404 | 501) { Kind::Usage } else { Kind::Failed };
    Error::new(kind, failure.message)
}

/// Taken away with all that is in it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A server's own documents and nothing else; a folder that stays is only untidy.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
