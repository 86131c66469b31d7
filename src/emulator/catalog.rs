//! Projects, datasets and tables: in memory for reading, on disk before any change is answered.

mod document;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use sha2::{Digest, Sha256};

pub(super) use self::document::{DATASET_REST, DatasetDocument, apply_rest};
use super::disk;
use super::history::Folder;
use super::names::{Address, DatasetId, ProjectId, SnapshotTime, TableId, TableName, file_name, hex};
use super::partitions::By;
use super::table::{self, Table};
use super::versions::{self, Commit, Definition, Version, lock};
use super::wire::{Failure, Outcome, integer, now_ms};

const DOCUMENT: &str = "dataset.json";
/// Anonymous results live as long as BigQuery keeps them.
const ANONYMOUS_MS: i64 = 24 * 3600 * 1000;

#[derive(Debug)]
pub(super) struct Dataset {
    dir: PathBuf,
    /// Set when it is deleted, with the tables and the document locked: who still holds it changes nothing.
    gone: AtomicBool,
    document: RwLock<DatasetDocument>,
    tables: RwLock<BTreeMap<TableId, Arc<Table>>>,
    /// By file name; also those of tables that are gone.
    folders: Mutex<BTreeMap<String, Arc<Folder>>>,
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
        // Of a deleted dataset of this name that could not be removed whole.
        disk::folders(&dir.join("tables"))?.iter().try_for_each(|folder| table::forget(folder))?;
        disk::create_dir(&dir)?;
        disk::write_document(&dir.join(DOCUMENT), &document)?;
        for ancestor in [dir.parent(), Some(project.as_path()), project.parent()].into_iter().flatten() {
            disk::sync_dir(ancestor)?;
        }
        let (gone, tables, folders) = (AtomicBool::default(), RwLock::default(), Mutex::default());
        let dataset = Arc::new(Dataset { dir, gone, document: RwLock::new(document), tables, folders });
        datasets.insert(key, Arc::clone(&dataset));
        Ok(dataset)
    }

    /// The dataset with all that is in it, in one step. `before` is told, with the catalog locked, what is about
    /// to go and everything that it knows of jobs; what it writes is on disk before the dataset goes.
    pub(super) fn delete_dataset(
        &self,
        project: &ProjectId,
        id: &DatasetId,
        contents: bool,
        before: impl FnOnce(&DatasetDocument, &[Commit]) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut datasets = write(&self.datasets);
        let key = (project.clone(), id.clone());
        let Some(dataset) = datasets.get(&key).cloned() else {
            return Err(Failure::not_found(format!("Not found: Dataset {project}:{id}")));
        };
        let mut tables = write(&dataset.tables);
        if !contents && !tables.is_empty() {
            return Err(Failure::in_use(format!("Dataset {project}:{id} is still in use")));
        }
        {
            let document = write(&dataset.document);
            let mut commits = document.commits.clone();
            commits.extend(tables.values().flat_map(|table| table.current().commits.clone()));
            before(&document, &commits)?;
            disk::remove_file(&dataset.dir.join(DOCUMENT))?;
            dataset.gone.store(true, Ordering::Release);
        }
        // From here on it is gone, also after a crash. What follows is tidying, which the next start does too.
        datasets.remove(&key);
        let mut tidied = Ok(());
        while let Some((_, table)) = tables.pop_first() {
            tidied = tidied.and(table.delete(now_ms(), |_| Ok(())));
        }
        // The next dataset of this name does not inherit its past.
        let folders = std::mem::take(&mut *lock(&dataset.folders));
        tidied = folders.values().fold(tidied, |tidied, folder| tidied.and(folder.forget()));
        if let Err(failure) = tidied {
            tracing::warn!(dataset = %id, error = failure.message, "cannot remove all of a deleted dataset");
        }
        Ok(())
    }

    /// The temporary tables of scripts that the last process ran; what they know of jobs has been asked for.
    pub(super) fn delete_script_datasets(&self) {
        let mut all: Vec<_> = read(&self.datasets).keys().cloned().collect();
        all.retain(|(_, id)| id.is_of_script());
        for (project, id) in all {
            if let Err(failure) = self.delete_dataset(&project, &id, true, |_, _| Ok(())) {
                tracing::warn!(dataset = %id, error = failure.message, "cannot remove temporary tables");
            }
        }
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

    /// What an address names, also if its table has been deleted since; rows are read and copied from it.
    pub(super) fn version(&self, address: &Address) -> Outcome<Arc<Version>> {
        let name = &address.name;
        let dataset = self.dataset(&name.project, &name.dataset)?;
        let table = dataset.table(&name.table)?.map(|table| table.current());
        match (address.time, table) {
            (None, table) => table.ok_or_else(|| versions::not_found(name)),
            (Some(time), table) => dataset.folder(&name.table).version_at(name, table, time),
        }
    }

    /// A version of a table or one before it, by its number; `None` when it is not kept any more.
    pub(super) fn version_numbered(
        &self,
        version: Arc<Version>,
        number: u64,
    ) -> Outcome<Option<Arc<Version>>> {
        if version.definition.number == number {
            return Ok(Some(version));
        }
        let name = &version.definition.name;
        let dataset = self.dataset(&name.project, &name.dataset)?;
        dataset.folder(&name.table).version_numbered(&version, number)
    }

    /// What a table that exists was at a time (`None`: is now), for queries: those do not see deleted tables.
    pub(super) fn version_at(&self, name: &TableName, ms: Option<i64>) -> Outcome<Arc<Version>> {
        self.table(name)?;
        let time = ms.map(SnapshotTime::At);
        self.version(&Address { name: name.clone(), partition: None, time })
    }

    /// Where a table keeps its files. It exists from here on; without a table in it the next start removes it.
    pub(super) fn table_dir(&self, name: &TableName) -> Outcome<PathBuf> {
        let dataset = self.dataset(&name.project, &name.dataset)?;
        let dir = dataset.folder(&name.table).path().to_owned();
        disk::create_dir(&dir)?;
        Ok(dir)
    }

    /// Removes what is past its time: versions, deleted tables, tables and partitions that expired.
    pub(super) fn sweep(&self) {
        let datasets: Vec<Arc<Dataset>> = read(&self.datasets).values().cloned().collect();
        for dataset in datasets {
            if let Err(failure) = dataset.sweep() {
                tracing::warn!(dataset = %dataset.document().id, error = failure.message, "cannot sweep a dataset");
            }
        }
    }

    /// `before` sees the table, locked, and may refuse; what it writes is on disk before the table goes.
    pub(super) fn delete_table(
        &self,
        name: &TableName,
        before: impl FnOnce(&Version) -> Outcome<()>,
    ) -> Outcome<()> {
        let dataset = self.dataset(&name.project, &name.dataset)?;
        let mut tables = write(&dataset.tables);
        let id = dataset.key(&tables, &name.table).ok_or_else(|| versions::not_found(name))?;
        let Some(table) = tables.get(&id) else { return Err(versions::not_found(name)) };
        table.delete(now_ms(), before)?;
        tables.remove(&id);
        Ok(())
    }

    /// Another name in the same dataset: nobody sees the table under both or under none, and nobody changes it
    /// meanwhile. `make` says what it is under the new name, and has a folder for its files.
    ///
    /// Once the table is on disk under its new name, the move is made: a start that finds it under the old one
    /// too takes that away (see `jobs`).
    pub(super) fn rename_table(
        &self,
        name: &TableName,
        to: &TableName,
        make: impl FnOnce(&Version, &Path) -> Outcome<Version>,
    ) -> Outcome<()> {
        let dataset = self.dataset(&name.project, &name.dataset)?;
        dataset.table(&to.table)?; // an expired table makes room
        let mut tables = write(&dataset.tables);
        let id = dataset.key(&tables, &name.table).ok_or_else(|| versions::not_found(name))?;
        let Some(table) = tables.get(&id).cloned() else { return Err(versions::not_found(name)) };
        if dataset.key(&tables, &to.table).is_some() {
            return Err(Failure::duplicate(format!("Already Exists: Table {}", to.legacy())));
        }
        let folder = dataset.folder(&to.table);
        let tables = &mut *tables;
        table.delete(now_ms(), |version| {
            disk::create_dir(folder.path())?;
            let version = make(version, folder.path())?;
            tables.insert(to.table.clone(), Table::create(Arc::clone(&folder), version)?);
            Ok(())
        })?;
        tables.remove(&id);
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
        let (mut tables, mut folders) = (BTreeMap::new(), BTreeMap::new());
        for path in disk::folders(&dir.join("tables"))? {
            let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let folder = Arc::new(Folder::new(path.clone(), document.window_ms()));
            match Table::open(Arc::clone(&folder))? {
                Some(table) => {
                    let id = table.current().definition.name.table.clone();
                    tables.insert(id, Arc::new(table));
                }
                None if folder.has_history()? => {}
                None => {
                    std::fs::remove_dir_all(path)?;
                    continue;
                }
            }
            folders.insert(file_name, folder);
        }
        let (gone, tables, folders) = (AtomicBool::default(), RwLock::new(tables), Mutex::new(folders));
        Ok(Some(Dataset { dir, gone, document: RwLock::new(document), tables, folders }))
    }

    pub(super) fn document(&self) -> DatasetDocument {
        read(&self.document).clone()
    }

    /// Applies `change` to a copy of the document and keeps it, durably and at once.
    pub(super) fn change(&self, change: impl FnOnce(&mut DatasetDocument) -> Outcome<()>) -> Outcome<()> {
        let mut current = write(&self.document);
        if self.gone.load(Ordering::Acquire) {
            return Err(Failure::not_found(format!("Not found: Dataset {}:{}", current.project, current.id)));
        }
        let mut after = current.clone();
        change(&mut after)?;
        after.number += 1;
        after.modified_ms = now_ms().max(after.modified_ms);
        disk::write_document(&self.dir.join(DOCUMENT), &after)?;
        if let Some(window_ms) = after.window_ms() {
            lock(&self.folders).values().for_each(|folder| folder.set_window(window_ms));
        }
        *current = after;
        Ok(())
    }

    /// Where the tables of one name are and were.
    fn folder(&self, id: &TableId) -> Arc<Folder> {
        // In this order, as in `change`: a window is never changed past a folder that is being made.
        let document = read(&self.document);
        let name = file_name(id.as_str());
        let path = self.dir.join("tables").join(&name);
        let new = || Arc::new(Folder::new(path, document.window_ms()));
        Arc::clone(lock(&self.folders).entry(name).or_insert_with(new))
    }

    fn sweep(&self) -> Outcome<()> {
        let ids: Vec<TableId> = read(&self.tables).keys().cloned().collect();
        for id in &ids {
            self.table(id)?; // takes an expired table away
        }
        let folders: Vec<Arc<Folder>> = lock(&self.folders).values().cloned().collect();
        for folder in folders {
            folder.sweep()?;
        }
        Ok(())
    }

    pub(super) fn tables(&self) -> Vec<Arc<Table>> {
        let tables = read(&self.tables);
        tables.values().filter(|t| !t.current().definition.is_expired()).cloned().collect()
    }

    pub(super) fn table(&self, id: &TableId) -> Outcome<Option<Arc<Table>>> {
        let Some(id) = self.key(&read(&self.tables), id) else { return Ok(None) };
        let Some(table) = read(&self.tables).get(&id).cloned() else { return Ok(None) };
        let version = table.current();
        if !version.definition.is_expired() {
            if version.has_expired_partitions() {
                table.change(|version| {
                    version.drop_expired_partitions();
                    Ok(())
                })?;
            }
            return Ok(Some(table));
        }
        let mut tables = write(&self.tables);
        if tables.get(&id).is_some_and(|t| Arc::ptr_eq(t, &table)) {
            table.delete(table.current().definition.expiration_ms.unwrap_or_else(now_ms), |_| Ok(()))?;
            tables.remove(&id);
        }
        Ok(None)
    }

    /// The id that a table is kept under: the one asked for, or, if case does not matter, one like it.
    fn key(&self, tables: &BTreeMap<TableId, Arc<Table>>, id: &TableId) -> Option<TableId> {
        if tables.contains_key(id) {
            return Some(id.clone());
        }
        if !read(&self.document).is_case_insensitive() {
            return None;
        }
        let wanted = id.as_str().to_lowercase();
        tables.keys().find(|known| known.as_str().to_lowercase() == wanted).cloned()
    }

    /// What new tables get when nothing else is asked for. Where both could, partitions expire and not the table.
    fn apply_defaults(&self, definition: &mut Definition) -> Outcome<()> {
        let document = read(&self.document);
        let default = |name| Ok::<_, Failure>(integer(&document.rest, name)?.filter(|ms| *ms > 0));
        let of_partitions = default("defaultPartitionExpirationMs")?;
        if let Some(partitioning) = &mut definition.partitioning
            && let (By::Time(_), Some(default_ms)) = (partitioning.by, of_partitions)
        {
            partitioning.expiration_ms.get_or_insert(default_ms);
            return Ok(());
        }
        if let (None, Some(default_ms)) = (definition.expiration_ms, default("defaultTableExpirationMs")?) {
            definition.expiration_ms = Some(definition.created_ms.saturating_add(default_ms));
        }
        Ok(())
    }

    fn create_table(&self, mut version: Version) -> Outcome<Arc<Table>> {
        let definition = &mut version.definition;
        let id = definition.name.table.clone();
        self.table(&id)?; // an expired table makes room
        self.apply_defaults(definition)?;
        let mut tables = write(&self.tables);
        if self.gone.load(Ordering::Acquire) {
            let name = &definition.name;
            return Err(Failure::not_found(format!("Not found: Dataset {}:{}", name.project, name.dataset)));
        }
        if self.key(&tables, &id).is_some() {
            let name = definition.name.legacy();
            return Err(Failure::duplicate(format!("Already Exists: Table {name}")));
        }
        disk::create_dir(&self.dir.join("tables"))?;
        let table = Table::create(self.folder(&id), version)?;
        tables.insert(id, Arc::clone(&table));
        Ok(table)
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
