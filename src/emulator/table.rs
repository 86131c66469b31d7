//! A table that exists: its current version, and how that is replaced.
//!
//! A change writes its new files first, then what undoes it (see `history`), then replaces the document in one
//! step. Readers hold the version that they started with, and its files stay until the last of them is gone.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::disk;
use super::history::{self, Folder};
use super::versions::{Part, TableDocument, Version, lock, not_found};
use super::wire::{Failure, Outcome, now_ms};

const DOCUMENT: &str = "table.json";

#[derive(Debug)]
pub(super) struct Table {
    folder: Arc<Folder>,
    current: RwLock<Arc<Version>>,
    /// Held while a change is made; `true` once the table is deleted.
    deleted: Mutex<bool>,
}

impl Table {
    /// Makes a new table durable, with the rows it may already have.
    pub(super) fn create(folder: Arc<Folder>, version: Version) -> Outcome<Arc<Table>> {
        disk::create_dir(folder.path())?;
        let table = Table { folder, current: RwLock::new(Arc::new(version)), deleted: Mutex::new(false) };
        table.write(&table.current())?;
        Ok(Arc::new(table))
    }

    /// Reads the table that its folder holds now, if it holds one.
    pub(super) fn open(folder: Arc<Folder>) -> std::io::Result<Option<Table>> {
        let document = disk::read_document::<TableDocument>(&folder.path().join(DOCUMENT))?;
        let mut wanted = vec![DOCUMENT];
        wanted.extend(document.iter().flat_map(|d| &d.parts).map(|part| part.file.as_str()));
        folder.suspect_all_but(wanted)?;
        let Some(document) = document else { return Ok(None) };
        folder.remove_graves_of(&document.definition.birth)?;
        folder.set_present(Some(&document.definition));
        let current = document.open(|name| folder.file(name));
        Ok(Some(Table { folder, current: RwLock::new(Arc::new(current)), deleted: Mutex::new(false) }))
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn current(&self) -> Arc<Version> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies `change` to a copy of the current version and makes it the current one, durably and at once.
    ///
    /// A change that gives the definition another `birth` makes another table of the same name.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Version) -> Outcome<T>) -> Outcome<T> {
        let deleted = lock(&self.deleted);
        let before = self.current();
        if *deleted {
            return Err(not_found(&before.definition.name));
        }
        let mut after = Version::clone(&before);
        let answer = change(&mut after)?;
        if before.definition.kind() == "SNAPSHOT"
            && !before.parts.iter().map(Part::file_ptr).eq(after.parts.iter().map(Part::file_ptr))
        {
            let name = before.definition.name.legacy();
            return Err(Failure::invalid(format!(
                "{name} is not allowed for this operation because it is currently a SNAPSHOT."
            )));
        }
        after.definition.number += 1;
        after.definition.modified_ms = now_ms().max(before.definition.modified_ms);
        self.folder.remember(&before, &after)?;
        self.write(&after)?;
        let after = Arc::new(after);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        if !self.folder.keeps_history() {
            discard_all_but(&before, &after);
        }
        Ok(answer)
    }

    /// Takes the table away as of `at_ms`; readers that started before finish, and it can be brought back.
    /// Nobody changes it from when `before` sees it until it is gone.
    pub(super) fn delete(&self, at_ms: i64, before: impl FnOnce(&Version) -> Outcome<()>) -> Outcome<()> {
        let mut deleted = lock(&self.deleted);
        let current = self.current();
        if *deleted {
            return Err(not_found(&current.definition.name));
        }
        before(&current)?;
        let document = self.folder.path().join(DOCUMENT);
        if self.folder.keeps_history() {
            self.folder.bury(&document, &current.definition, at_ms)?;
        } else {
            disk::remove_file(&document)?;
            current.parts.iter().for_each(|part| part.file.discard());
        }
        self.folder.set_present(None);
        *deleted = true;
        Ok(())
    }

    fn write(&self, version: &Version) -> Outcome<()> {
        // New files are kept from here on even if the write fails: it may have failed after the rename, and a
        // document that names missing files is worse than files that no document names (the next start
        // deletes those).
        for part in &version.parts {
            part.file.keep();
            self.folder.adopt(&part.file);
        }
        disk::write_document(&self.folder.path().join(DOCUMENT), &TableDocument::of(version))?;
        self.folder.set_present(Some(&version.definition));
        Ok(())
    }
}

/// Leaves nothing in a folder that says that a table is there or was. Readers may still have files of it.
pub(super) fn forget(folder: &Path) -> std::io::Result<()> {
    if folder.join(DOCUMENT).exists() {
        disk::remove_file(&folder.join(DOCUMENT))?;
    }
    match std::fs::remove_dir_all(folder.join(history::FOLDER)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn discard_all_but(before: &Version, after: &Version) {
    let kept: HashSet<_> = after.parts.iter().map(Part::file_ptr).collect();
    for part in before.parts.iter().filter(|part| !kept.contains(&part.file_ptr())) {
        part.file.discard();
    }
}
