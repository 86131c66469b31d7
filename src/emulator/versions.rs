//! What a table is between two changes: its definition, and the files of every partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::disk::{self, OwnedFile};
use super::fields::{Field, Kind, Mode};
use super::names::{JobId, ProjectId, TableName};
use super::partitions::{By, Granularity, Partition, Partitioning};
use super::wire::{Failure, Outcome, now_ms};

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

    /// What the partitions of a table that is partitioned by the time of the load are.
    pub(super) fn ingestion_granularity(&self) -> Option<Granularity> {
        match self.partitioning.as_ref()? {
            Partitioning { by: By::Time(granularity), field: None, .. } => Some(*granularity),
            _ => None,
        }
    }

    /// The column that rows are partitioned by, if one is.
    pub(super) fn partition_field(&self) -> Option<&Field> {
        let name = self.partitioning.as_ref()?.field.as_ref()?.to_lowercase();
        self.fields.iter().find(|f| f.name.to_lowercase() == name)
    }

    /// `type`, as the table's document shows it.
    pub(super) fn kind(&self) -> &'static str {
        match self.view() {
            Some(_) => "VIEW",
            None if self.rest.contains_key("snapshotDefinition") => "SNAPSHOT",
            None => "TABLE",
        }
    }

    pub(super) fn check_partitioning(&self) -> Outcome<()> {
        let Some(name) = self.partitioning.as_ref().and_then(|p| p.field.as_ref()) else { return Ok(()) };
        let Some(field) = self.partition_field() else {
            return Err(Failure::invalid(format!(
                "The field specified for partitioning cannot be found in the schema: {name}"
            )));
        };
        let by = self.partitioning.as_ref().map(|p| p.by).unwrap_or_default();
        let (division, types) = match (by, field.kind) {
            _ if field.mode == Mode::Repeated => ("", "no REPEATED field"),
            (By::Range { .. }, Kind::Int64) | (By::Time(_), Kind::Timestamp | Kind::DateTime) => {
                return Ok(());
            }
            (By::Time(granularity), Kind::Date) if granularity != Granularity::Hour => return Ok(()),
            (By::Range { .. }, _) => ("range ", "INTEGER"),
            (By::Time(Granularity::Hour), _) => ("hourly ", "TIMESTAMP or DATETIME"),
            (By::Time(_), _) => ("time ", "TIMESTAMP, DATE or DATETIME"),
        };
        Err(Failure::invalid(format!(
            "The field specified for {division}partitioning can only be of type {types}. The type found is: {}.",
            field.kind.legacy()
        )))
    }

    /// The GoogleSQL text of a view.
    pub(super) fn view(&self) -> Option<&str> {
        self.rest.get("view")?.get("query")?.as_str()
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

/// What is known about one partition of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionSummary {
    pub partition: Partition,
    pub rows: u64,
    pub bytes: u64,
    pub created_ms: i64,
    pub modified_ms: i64,
}

/// What a job did to a table or dataset, kept there until the job's own document says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Commit {
    /// The job's. Documents of earlier releases do not say it; their jobs are done since the next start.
    #[serde(default)]
    pub project: Option<ProjectId>,
    pub job: JobId,
    pub statistics: Value,
}

/// A table as it was between two changes.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub definition: Definition,
    pub parts: Vec<Part>,
    pub commits: Vec<Commit>,
    /// The numbers of the versions in which rows of a partition were last changed or taken away, and not only
    /// added. It matters to statements that run, so it ends with the process.
    pub mutated: BTreeMap<Partition, u64>,
}

impl Version {
    pub(super) fn new(definition: Definition, parts: Vec<Part>, commits: Vec<Commit>) -> Self {
        Version { definition, parts, commits, mutated: BTreeMap::new() }
    }

    pub(super) fn empty(definition: Definition) -> Self {
        Version::new(definition, Vec::new(), Vec::new())
    }

    /// Notes, in a change that is being made, that it does more to these partitions than to add rows.
    pub(super) fn mutate(&mut self, partitions: impl IntoIterator<Item = Partition>) {
        let number = self.definition.number + 1;
        self.mutated.extend(partitions.into_iter().map(|partition| (partition, number)));
    }

    /// Takes away the rows of a partition, or all.
    pub(super) fn take_rows(&mut self, partition: Option<Partition>) {
        let taken: BTreeSet<Partition> = self.parts_of(partition).map(|part| part.partition).collect();
        self.parts.retain(|part| !taken.contains(&part.partition));
        self.mutate(taken);
    }

    /// Whether that was done to one of them since the table was as it was `then`.
    pub(super) fn is_mutated(&self, partitions: &BTreeSet<Partition>, then: &Version) -> bool {
        let number = |partition| self.mutated.get(partition).copied().unwrap_or(0);
        partitions.iter().any(|partition| number(partition) > then.definition.number)
    }

    /// The partition that a decorator of this table names.
    pub(super) fn resolve(&self, partition: Option<Partition>) -> Outcome<Option<Partition>> {
        let Some(partition) = partition else { return Ok(None) };
        let Some(partitioning) = &self.definition.partitioning else {
            let name = self.definition.name.legacy();
            return Err(Failure::invalid(format!(
                "Cannot read partition information from table {name}: it is not partitioned"
            )));
        };
        partitioning.resolve(partition).map(Some)
    }

    /// Every partition that has rows or had them loaded, in order.
    pub(super) fn partitions(&self) -> Vec<PartitionSummary> {
        let mut found: BTreeMap<Partition, PartitionSummary> = BTreeMap::new();
        for part in &self.parts {
            let (partition, written_ms) = (part.partition, part.written_ms);
            let new =
                PartitionSummary { partition, rows: 0, bytes: 0, created_ms: written_ms, modified_ms: 0 };
            let summary = found.entry(partition).or_insert(new);
            summary.rows += part.rows;
            summary.bytes += part.logical_bytes();
            summary.created_ms = summary.created_ms.min(written_ms);
            summary.modified_ms = summary.modified_ms.max(written_ms);
        }
        found.into_values().collect()
    }

    /// Whether a partition is past its time.
    pub(super) fn has_expired_partitions(&self) -> bool {
        let partitioning = self.definition.partitioning.as_ref().filter(|p| p.expiration_ms.is_some());
        let now = now_ms();
        partitioning.is_some_and(|by| self.parts.iter().any(|part| by.is_expired(part.partition, now)))
    }

    pub(super) fn drop_expired_partitions(&mut self) {
        let now = now_ms();
        if let Some(partitioning) = &self.definition.partitioning {
            self.parts.retain(|part| !partitioning.is_expired(part.partition, now));
        }
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
        Version::new(definition, parts.into_iter().map(open).collect(), commits)
    }
}

pub(super) fn not_found(name: &TableName) -> Failure {
    Failure::not_found(format!("Not found: Table {}", name.legacy()))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here leaves a half-made value behind when it panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
