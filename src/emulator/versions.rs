//! One table: a chain of versions, each a document that names the files of every partition.
//!
//! A change writes its new files first, then replaces the document in one step. Readers hold the version that
//! they started with, and its files stay until the last of them is gone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::disk::{self, OwnedFile};
use super::fields::{Field, Kind, Mode};
use super::names::{JobId, Partition, TableName};
use super::wire::{Failure, Outcome, now_ms};

pub(super) const DOCUMENT: &str = "table.json";

/// By day: of the partitioning column, or of the load when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Partitioning {
    pub field: Option<String>,
    /// Recorded and shown; partitions are not dropped by age here.
    pub expiration_ms: Option<i64>,
}

/// Everything about a table except where its rows are.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    pub file: Arc<OwnedFile>,
}

impl Part {
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

#[derive(Serialize, Deserialize)]
struct PartDocument {
    partition: Partition,
    file: String,
    rows: u64,
    column_bytes: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct TableDocument {
    definition: Definition,
    parts: Vec<PartDocument>,
    commits: Vec<Commit>,
}

/// A table that exists.
#[derive(Debug)]
pub(super) struct Table {
    pub dir: PathBuf,
    current: RwLock<Arc<Version>>,
    /// Held while a change is made; `true` once the table is deleted.
    deleted: Mutex<bool>,
}

impl Table {
    /// Makes a new table durable, with the rows it may already have.
    pub(super) fn create(dir: PathBuf, version: Version) -> Outcome<Arc<Table>> {
        disk::create_dir(&dir)?;
        for part in &version.parts {
            part.file.keep();
        }
        write_version(&dir, &version)?;
        Ok(Arc::new(Table { dir, current: RwLock::new(Arc::new(version)), deleted: Mutex::new(false) }))
    }

    /// Reads a table from its folder and deletes the files that no version names; `None` without a document.
    pub(super) fn open(dir: PathBuf) -> std::io::Result<Option<Table>> {
        let Some(document) = disk::read_document::<TableDocument>(&dir.join(DOCUMENT))? else {
            return Ok(None);
        };
        let mut parts = Vec::with_capacity(document.parts.len());
        let mut wanted = vec![DOCUMENT.to_owned()];
        for part in document.parts {
            let file = Arc::new(OwnedFile::new(dir.join(&part.file)));
            let PartDocument { partition, file: name, rows, column_bytes } = part;
            parts.push(Part { partition, rows, column_bytes, file });
            wanted.push(name);
        }
        wanted.sort_unstable();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if wanted.binary_search(&name).is_err() {
                std::fs::remove_file(entry.path())?;
            }
        }
        let version = Version { definition: document.definition, parts, commits: document.commits };
        let current = RwLock::new(Arc::new(version));
        Ok(Some(Table { dir, current, deleted: Mutex::new(false) }))
    }

    pub(super) fn current(&self) -> Arc<Version> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies `change` to a copy of the current version and makes it the current one, durably and at once.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Version) -> Outcome<T>) -> Outcome<T> {
        let deleted = lock(&self.deleted);
        let before = self.current();
        if *deleted {
            return Err(not_found(&before.definition.name));
        }
        let mut after = Version::clone(&before);
        let answer = change(&mut after)?;
        after.definition.number += 1;
        after.definition.modified_ms = now_ms().max(before.definition.modified_ms);
        // New files are kept from here on even if the write fails: it may have failed after the rename, and a
        // document that names missing files is worse than files that no document names (the next start
        // deletes those).
        for part in &after.parts {
            part.file.keep();
        }
        write_version(&self.dir, &after)?;
        let after = Arc::new(after);
        for part in &before.parts {
            if !after.parts.iter().any(|kept| Arc::ptr_eq(&kept.file, &part.file)) {
                part.file.discard();
            }
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(answer)
    }

    /// Takes the table away; readers that started before finish.
    pub(super) fn delete(&self) -> Outcome<()> {
        let mut deleted = lock(&self.deleted);
        if *deleted {
            return Err(not_found(&self.current().definition.name));
        }
        disk::remove_file(&self.dir.join(DOCUMENT))?;
        *deleted = true;
        for part in &self.current().parts {
            part.file.discard();
        }
        Ok(())
    }
}

pub(super) fn not_found(name: &TableName) -> Failure {
    Failure::not_found(format!("Not found: Table {}", name.legacy()))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here leaves a half-made value behind when it panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_version(dir: &Path, version: &Version) -> Outcome<()> {
    let part = |part: &Part| PartDocument {
        partition: part.partition,
        file: part.file.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        rows: part.rows,
        column_bytes: part.column_bytes.clone(),
    };
    let document = TableDocument {
        definition: version.definition.clone(),
        parts: version.parts.iter().map(part).collect(),
        commits: version.commits.clone(),
    };
    disk::write_document(&dir.join(DOCUMENT), &document)
}
