//! Projects, datasets and tables: in memory for reading, on disk before any change is answered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::disk;
use super::names::{DatasetId, ProjectId, TableId, TableName, file_name, hex};
use super::versions::{self, Definition, Table, Version};
use super::wire::{Failure, Outcome, integer, now_ms};

const DOCUMENT: &str = "dataset.json";
/// Anonymous results live as long as BigQuery keeps them.
const ANONYMOUS_MS: i64 = 24 * 3600 * 1000;

/// A dataset's own words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DatasetDocument {
    pub project: ProjectId,
    pub id: DatasetId,
    pub location: String,
    pub rest: Map<String, Value>,
    pub created_ms: i64,
    pub modified_ms: i64,
    pub birth: String,
    pub number: u64,
}

impl DatasetDocument {
    pub(super) fn new(project: ProjectId, id: DatasetId, location: String) -> Self {
        let (now, birth) = (now_ms(), disk::unique_name());
        let rest = Map::new();
        DatasetDocument { project, id, location, rest, created_ms: now, modified_ms: now, birth, number: 0 }
    }

    pub(super) fn etag(&self) -> String {
        format!("{}.{}", &self.birth[..16.min(self.birth.len())], self.number)
    }

    /// Anonymous results are kept in datasets that are not listed.
    pub(super) fn is_hidden(&self) -> bool {
        self.id.as_str().starts_with('_')
    }
}

#[derive(Debug)]
pub(super) struct Dataset {
    dir: PathBuf,
    document: RwLock<DatasetDocument>,
    tables: RwLock<BTreeMap<TableId, Arc<Table>>>,
}

type Datasets = BTreeMap<(ProjectId, DatasetId), Arc<Dataset>>;

#[derive(Debug)]
pub(super) struct Catalog {
    root: PathBuf,
    datasets: RwLock<Datasets>,
}

impl Catalog {
    /// Reads everything below `root` and deletes what a crash left half done.
    pub(super) fn open(root: &Path) -> std::io::Result<Catalog> {
        let mut datasets = Datasets::new();
        for project in disk::folders(&root.join("projects"))? {
            for dir in disk::folders(&project.join("datasets"))? {
                match Dataset::open(dir.clone())? {
                    Some(dataset) => {
                        let document = dataset.document();
                        datasets.insert((document.project, document.id), Arc::new(dataset));
                    }
                    None => std::fs::remove_dir_all(dir)?,
                }
            }
        }
        Ok(Catalog { root: root.to_owned(), datasets: RwLock::new(datasets) })
    }

    pub(super) fn projects(&self) -> Vec<ProjectId> {
        let mut projects: Vec<_> = read(&self.datasets).keys().map(|(p, _)| p.clone()).collect();
        projects.dedup();
        projects
    }

    pub(super) fn datasets(&self, project: &ProjectId) -> Vec<Arc<Dataset>> {
        let datasets = read(&self.datasets);
        datasets.iter().filter(|((p, _), _)| p == project).map(|(_, d)| Arc::clone(d)).collect()
    }

    pub(super) fn dataset(&self, project: &ProjectId, id: &DatasetId) -> Outcome<Arc<Dataset>> {
        let found = read(&self.datasets).get(&(project.clone(), id.clone())).cloned();
        found.ok_or_else(|| Failure::not_found(format!("Not found: Dataset {project}:{id}")))
    }

    pub(super) fn insert_dataset(&self, document: DatasetDocument) -> Outcome<Arc<Dataset>> {
        let mut datasets = write(&self.datasets);
        let key = (document.project.clone(), document.id.clone());
        if datasets.contains_key(&key) {
            return Err(Failure::duplicate(format!("Already Exists: Dataset {}:{}", key.0, key.1)));
        }
        let project = self.root.join("projects").join(file_name(key.0.as_str()));
        let dir = project.join("datasets").join(file_name(key.1.as_str()));
        disk::create_dir(&dir)?;
        disk::write_document(&dir.join(DOCUMENT), &document)?;
        for ancestor in [dir.parent(), Some(project.as_path()), project.parent()].into_iter().flatten() {
            disk::sync_dir(ancestor)?;
        }
        let dataset =
            Arc::new(Dataset { dir, document: RwLock::new(document), tables: RwLock::new(BTreeMap::new()) });
        datasets.insert(key, Arc::clone(&dataset));
        Ok(dataset)
    }

    pub(super) fn delete_dataset(&self, project: &ProjectId, id: &DatasetId, contents: bool) -> Outcome<()> {
        let mut datasets = write(&self.datasets);
        let key = (project.clone(), id.clone());
        let Some(dataset) = datasets.get(&key) else {
            return Err(Failure::not_found(format!("Not found: Dataset {project}:{id}")));
        };
        let mut tables = write(&dataset.tables);
        if !contents && !tables.is_empty() {
            return Err(Failure::in_use(format!("Dataset {project}:{id} is still in use")));
        }
        while let Some((_, table)) = tables.pop_first() {
            table.delete()?;
        }
        disk::remove_file(&dataset.dir.join(DOCUMENT))?;
        drop(tables);
        datasets.remove(&key);
        Ok(())
    }

    /// A table that exists and has not expired.
    pub(super) fn table(&self, name: &TableName) -> Outcome<Arc<Table>> {
        let dataset = self.dataset(&name.project, &name.dataset)?;
        dataset.table(&name.table)?.ok_or_else(|| versions::not_found(name))
    }

    pub(super) fn create_table(&self, version: Version) -> Outcome<Arc<Table>> {
        let name = version.definition.name.clone();
        self.dataset(&name.project, &name.dataset)?.create_table(version)
    }

    /// Where a table keeps its files. It exists from here on; without a table in it the next start removes it.
    pub(super) fn table_dir(&self, name: &TableName) -> Outcome<PathBuf> {
        let dataset = self.dataset(&name.project, &name.dataset)?;
        let dir = dataset.dir.join("tables").join(file_name(name.table.as_str()));
        disk::create_dir(&dir)?;
        Ok(dir)
    }

    pub(super) fn delete_table(&self, name: &TableName) -> Outcome<()> {
        let dataset = self.dataset(&name.project, &name.dataset)?;
        let mut tables = write(&dataset.tables);
        let Some(table) = tables.get(&name.table) else { return Err(versions::not_found(name)) };
        table.delete()?;
        tables.remove(&name.table);
        Ok(())
    }

    /// A new name for a result that was asked for without a destination.
    pub(super) fn anonymous_table(&self, project: &ProjectId, location: &str) -> Outcome<Definition> {
        let hash = hex(&Sha256::digest(format!("{project} {location}").as_bytes()));
        let id = DatasetId::parse(&format!("_{}", &hash[..40]))?;
        if self.dataset(project, &id).is_err() {
            let document = DatasetDocument::new(project.clone(), id.clone(), location.to_owned());
            match self.insert_dataset(document) {
                Err(failure) if failure.code != 409 => return Err(failure),
                _ => {}
            }
        }
        let table = TableId::parse(&format!("anon{}", disk::unique_name()))?;
        let mut definition = Definition::new(TableName { project: project.clone(), dataset: id, table });
        definition.expiration_ms = Some(now_ms() + ANONYMOUS_MS);
        Ok(definition)
    }
}

impl Dataset {
    fn open(dir: PathBuf) -> std::io::Result<Option<Dataset>> {
        let Some(document) = disk::read_document::<DatasetDocument>(&dir.join(DOCUMENT))? else {
            return Ok(None);
        };
        let mut tables = BTreeMap::new();
        for folder in disk::folders(&dir.join("tables"))? {
            match Table::open(folder.clone())? {
                Some(table) if !table.current().definition.is_expired() => {
                    let id = table.current().definition.name.table.clone();
                    tables.insert(id, Arc::new(table));
                }
                Some(_) | None => std::fs::remove_dir_all(folder)?,
            }
        }
        Ok(Some(Dataset { dir, document: RwLock::new(document), tables: RwLock::new(tables) }))
    }

    pub(super) fn document(&self) -> DatasetDocument {
        read(&self.document).clone()
    }

    /// Applies `change` to a copy of the document and keeps it, durably and at once.
    pub(super) fn change(&self, change: impl FnOnce(&mut DatasetDocument) -> Outcome<()>) -> Outcome<()> {
        let mut current = write(&self.document);
        let mut after = current.clone();
        change(&mut after)?;
        after.number += 1;
        after.modified_ms = now_ms().max(after.modified_ms);
        disk::write_document(&self.dir.join(DOCUMENT), &after)?;
        *current = after;
        Ok(())
    }

    pub(super) fn tables(&self) -> Vec<Arc<Table>> {
        let tables = read(&self.tables);
        tables.values().filter(|t| !t.current().definition.is_expired()).cloned().collect()
    }

    pub(super) fn table(&self, id: &TableId) -> Outcome<Option<Arc<Table>>> {
        let Some(table) = read(&self.tables).get(id).cloned() else { return Ok(None) };
        if !table.current().definition.is_expired() {
            return Ok(Some(table));
        }
        let mut tables = write(&self.tables);
        if tables.get(id).is_some_and(|t| Arc::ptr_eq(t, &table)) {
            table.delete()?;
            tables.remove(id);
        }
        Ok(None)
    }

    fn create_table(&self, mut version: Version) -> Outcome<Arc<Table>> {
        let definition = &mut version.definition;
        let id = definition.name.table.clone();
        self.table(&id)?; // an expired table makes room
        let default_ms = integer(&read(&self.document).rest, "defaultTableExpirationMs")?;
        if let (None, Some(default_ms)) = (definition.expiration_ms, default_ms) {
            definition.expiration_ms = Some(definition.created_ms + default_ms);
        }
        let mut tables = write(&self.tables);
        if tables.contains_key(&id) {
            let name = definition.name.legacy();
            return Err(Failure::duplicate(format!("Already Exists: Table {name}")));
        }
        let parent = self.dir.join("tables");
        disk::create_dir(&parent)?;
        let table = Table::create(parent.join(file_name(id.as_str())), version)?;
        tables.insert(id, Arc::clone(&table));
        Ok(table)
    }
}

/// The members of a dataset document that a client may set and that are only handed back.
pub(super) const DATASET_REST: [&str; 9] = [
    "friendlyName",
    "description",
    "labels",
    "access",
    "defaultTableExpirationMs",
    "defaultPartitionExpirationMs",
    "maxTimeTravelHours",
    "storageBillingModel",
    "isCaseInsensitive",
];

/// Sets, or with an explicit null clears, the given members.
pub(super) fn apply_rest(rest: &mut Map<String, Value>, sent: &Map<String, Value>, members: &[&str]) {
    for member in members {
        match sent.get(*member) {
            None => {}
            Some(Value::Null) => drop(rest.shift_remove(*member)),
            Some(value) => drop(rest.insert((*member).to_owned(), value.clone())),
        }
    }
}

impl DatasetDocument {
    pub(super) fn resource(&self) -> Value {
        let (project, id) = (self.project.as_str(), self.id.as_str());
        let mut resource = json!({
            "kind": "bigquery#dataset",
            "etag": self.etag(),
            "id": format!("{project}:{id}"),
            "selfLink": format!("https://bigquery.googleapis.com/bigquery/v2/projects/{project}/datasets/{id}"),
            "datasetReference": {"projectId": project, "datasetId": id},
            "creationTime": self.created_ms.to_string(),
            "lastModifiedTime": self.modified_ms.to_string(),
            "location": self.location,
            "type": "DEFAULT",
            "access": [],
        });
        for (name, value) in &self.rest {
            resource[name] = value.clone();
        }
        resource
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
