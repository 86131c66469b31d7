//! What a table is between two changes: its definition, and the files of every partition.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::disk::{self, OwnedFile};
use super::fields::{Field, Kind, Mode};
use super::names::{JobId, Partition, TableName};
use super::wire::{Failure, Outcome, now_ms};

/// By day: of the partitioning column, or of the load when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Partitioning {
    pub field: Option<String>,
    /// Recorded and shown; partitions are not dropped by age here.
    pub expiration_ms: Option<i64>,
}

/// Everything about a table except where its rows are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Definition {
    pub name: TableName,
    pub fields: Vec<Field>,
    pub partitioning: Option<Partitioning>,
    pub require_filter: bool,
    pub expiration_ms: Option<i64>,
    /// What is only handed back: description, labels, friendlyName, clustering.
    pub rest: Map<String, Value>,
    pub created_ms: i64,
    pub modified_ms: i64,
    /// Differs between two tables that had the same name one after the other.
    pub birth: String,
    pub number: u64,
}

impl Definition {
    pub(super) fn new(name: TableName) -> Self {
        let now = now_ms();
        Definition {
            name,
            fields: Vec::new(),
            partitioning: None,
            require_filter: false,
            expiration_ms: None,
            rest: Map::new(),
            created_ms: now,
            modified_ms: now,
            birth: disk::unique_name(),
            number: 0,
        }
    }

    pub(super) fn etag(&self) -> String {
        format!("{}.{}", &self.birth[..16.min(self.birth.len())], self.number)
    }

    pub(super) fn is_ingestion_partitioned(&self) -> bool {
        self.partitioning.as_ref().is_some_and(|p| p.field.is_none())
    }

    /// The column that rows are partitioned by, if one is.
    pub(super) fn partition_field(&self) -> Option<&Field> {
        let name = self.partitioning.as_ref()?.field.as_ref()?.to_lowercase();
        self.fields.iter().find(|f| f.name.to_lowercase() == name)
    }

    pub(super) fn check_partitioning(&self) -> Outcome<()> {
        let Some(name) = self.partitioning.as_ref().and_then(|p| p.field.as_ref()) else { return Ok(()) };
        let Some(field) = self.partition_field() else {
            return Err(Failure::invalid(format!(
                "The field specified for partitioning cannot be found in the schema: {name}"
            )));
        };
        match (field.kind, field.mode) {
            (_, Mode::Repeated) => {}
            (Kind::Date | Kind::Timestamp, _) => return Ok(()),
            (Kind::DateTime, _) => return Err(Failure::not_implemented("partitioning by a DATETIME column")),
            _ => {}
        }
        Err(Failure::invalid(format!(
            "The field specified for time partitioning can only be of type TIMESTAMP, DATE or DATETIME. The \
             type found is: {}.",
            field.kind.legacy()
        )))
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expiration_ms.is_some_and(|at| at <= now_ms())
    }
}

/// A file of rows of one partition.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub partition: Partition,
    pub rows: u64,
    /// Logical bytes by lower-case column name, as BigQuery counts them.
    pub column_bytes: Map<String, Value>,
    /// When the rows became part of this table's partition.
    pub written_ms: i64,
    pub file: Arc<OwnedFile>,
}

impl Part {
    pub(super) fn new(
        partition: Partition,
        rows: u64,
        column_bytes: Map<String, Value>,
        file: Arc<OwnedFile>,
    ) -> Self {
        Part { partition, rows, column_bytes, written_ms: now_ms(), file }
    }

    /// Tells files apart.
    pub(super) fn file_ptr(&self) -> *const OwnedFile {
        Arc::as_ptr(&self.file)
    }

    pub(super) fn logical_bytes(&self) -> u64 {
        self.column_bytes.values().filter_map(Value::as_u64).sum()
    }
}

/// What a job did to a table, kept until the job's own document says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Commit {
    pub job: JobId,
    pub statistics: Value,
}

/// A table as it was between two changes.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub definition: Definition,
    pub parts: Vec<Part>,
    pub commits: Vec<Commit>,
}

impl Version {
    pub(super) fn empty(definition: Definition) -> Self {
        Version { definition, parts: Vec::new(), commits: Vec::new() }
    }

    /// The parts that an address names, in load order.
    pub(super) fn parts_of(&self, partition: Option<Partition>) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |p| partition.is_none_or(|wanted| p.partition == wanted))
    }
}

/// A part as a document names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PartDocument {
    partition: Partition,
    pub file: String,
    rows: u64,
    column_bytes: Map<String, Value>,
    /// Documents of earlier releases do not say it; the file's own time stands in.
    #[serde(default)]
    written_ms: i64,
}

impl PartDocument {
    pub(super) fn of(part: &Part) -> Self {
        PartDocument {
            partition: part.partition,
            file: part.file.name(),
            rows: part.rows,
            column_bytes: part.column_bytes.clone(),
            written_ms: part.written_ms,
        }
    }

    pub(super) fn open(self, file: Arc<OwnedFile>) -> Part {
        let PartDocument { partition, file: _, rows, column_bytes, written_ms } = self;
        let written_ms = if written_ms > 0 { written_ms } else { file.written_ms().unwrap_or(0) };
        Part { partition, rows, column_bytes, written_ms, file }
    }
}

/// A version on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TableDocument {
    pub definition: Definition,
    pub parts: Vec<PartDocument>,
    pub commits: Vec<Commit>,
}

impl TableDocument {
    pub(super) fn of(version: &Version) -> Self {
        TableDocument {
            definition: version.definition.clone(),
            parts: version.parts.iter().map(PartDocument::of).collect(),
            commits: version.commits.clone(),
        }
    }

    pub(super) fn open(self, file: impl Fn(&str) -> Arc<OwnedFile>) -> Version {
        let TableDocument { definition, parts, commits } = self;
        let open = |part: PartDocument| {
            let file = file(&part.file);
            part.open(file)
        };
        Version { definition, parts: parts.into_iter().map(open).collect(), commits }
    }
}

pub(super) fn not_found(name: &TableName) -> Failure {
    Failure::not_found(format!("Not found: Table {}", name.legacy()))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here leaves a half-made value behind when it panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
