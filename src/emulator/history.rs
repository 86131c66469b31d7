//! What a table was: for as long as the dataset's time travel window, every version and every deleted table.
//!
//! A folder holds all tables of one name, one after the other, told apart by their `birth`. Beside the document
//! of the present one, `history/` has
//! - `<birth>.<number>.undo.json` for every change: what leads from version `number + 1` back to `number`. Its
//!   size is that of the change, not of the table;
//! - `<birth>.<number>.<deleted ms>.<window ms>.grave.json` for every deleted table: its last document, renamed.
//!
//! An undo is written before the change it belongs to; one that a crash left without a change is recognised by
//! its number and written over by the next change. Nothing here is read before somebody asks for the past.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use serde::{Deserialize, Serialize};

use super::disk::{self, OwnedFile};
use super::names::{SnapshotTime, TableName};
use super::versions::{Definition, Part, PartDocument, TableDocument, Version, lock, not_found};
use super::wire::{Failure, Outcome, now_ms};

pub(super) const FOLDER: &str = "history";
/// The table's access policy, see `iam`.
pub(super) const POLICY: &str = "policy.json";

/// Where the tables of one name keep their files.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// How long the past can be read; `None` where nothing is kept of it.
    window_ms: Option<AtomicI64>,
    /// One object per file, whoever reads it: the last reader deletes what is no longer wanted.
    files: Mutex<BTreeMap<String, Weak<OwnedFile>>>,
    /// Files of an earlier process that the present table does not name. History may, or nobody.
    suspects: Mutex<Vec<String>>,
    /// Held while the past is read or forgotten.
    past: Mutex<()>,
    /// Birth and number of the table that exists.
    present: Mutex<Option<(String, u64)>>,
    policy: Mutex<()>,
}

/// What leads back from a version to the one before it.
#[derive(Debug, Serialize, Deserialize)]
struct Undo {
    /// When the version before was replaced.
    until_ms: i64,
    modified_ms: i64,
    /// Only when more of it changed than the two numbers.
    definition: Option<Definition>,
    added: Vec<String>,
    /// With the place of each in the version before.
    removed: Vec<(usize, PartDocument)>,
}

impl Undo {
    fn between(before: &Version, after: &Version) -> Undo {
        let files = |version: &Version| -> HashSet<_> { version.parts.iter().map(Part::file_ptr).collect() };
        let (old, new) = (files(before), files(after));
        let kept_before = before.parts.iter().map(Part::file_ptr).filter(|file| new.contains(file));
        let kept_after = after.parts.iter().map(Part::file_ptr).filter(|file| old.contains(file));
        // Places say where removed parts were only while those that stay keep their order.
        let ordered = kept_before.eq(kept_after);
        let added = after.parts.iter().filter(|p| !ordered || !old.contains(&p.file_ptr()));
        let removed =
            before.parts.iter().enumerate().filter(|(_, p)| !ordered || !new.contains(&p.file_ptr()));
        let mut numbers_only = before.definition.clone();
        numbers_only.number = after.definition.number;
        numbers_only.modified_ms = after.definition.modified_ms;
        let changed = numbers_only != after.definition;
        Undo {
            until_ms: after.definition.modified_ms,
            modified_ms: before.definition.modified_ms,
            definition: changed.then(|| before.definition.clone()),
            added: added.map(|p| p.file.name()).collect(),
            removed: removed.map(|(place, p)| (place, PartDocument::of(p))).collect(),
        }
    }

    fn apply(self, document: &mut TableDocument, number: u64) {
        let added: BTreeSet<String> = self.added.into_iter().collect();
        document.parts.retain(|part| !added.contains(&part.file));
        for (place, part) in self.removed {
            let place = place.min(document.parts.len());
            document.parts.insert(place, part);
        }
        if let Some(definition) = self.definition {
            document.definition = definition;
        }
        document.definition.number = number;
        document.definition.modified_ms = self.modified_ms;
    }

    /// Files that no later version has.
    fn lost(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().map(|(_, part)| part.file.as_str()).filter(|f| !self.added.iter().any(|a| a == f))
    }
}

/// What the name of a file in `history/` says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Record {
    Undo { birth: String, number: u64 },
    Grave { birth: String, number: u64, deleted_ms: i64, window_ms: i64 },
}

impl Record {
    fn parse(name: &str) -> Option<Record> {
        match name.split('.').collect::<Vec<_>>().as_slice() {
            [birth, number, "undo", "json"] => {
                Some(Record::Undo { birth: (*birth).to_owned(), number: number.parse().ok()? })
            }
            [birth, number, deleted, window, "grave", "json"] => Some(Record::Grave {
                birth: (*birth).to_owned(),
                number: number.parse().ok()?,
                deleted_ms: deleted.parse().ok()?,
                window_ms: window.parse().ok()?,
            }),
            _ => None,
        }
    }

    fn file_name(&self) -> String {
        match self {
            Record::Undo { birth, number } => format!("{birth}.{number}.undo.json"),
            Record::Grave { birth, number, deleted_ms, window_ms } => {
                format!("{birth}.{number}.{deleted_ms}.{window_ms}.grave.json")
            }
        }
    }

    fn birth(&self) -> &str {
        match self {
            Record::Undo { birth, .. } | Record::Grave { birth, .. } => birth,
        }
    }
}

impl Folder {
    /// `window_ms` is `None` for a folder that keeps nothing of the past.
    pub(super) fn new(path: PathBuf, window_ms: Option<i64>) -> Self {
        Folder {
            path,
            window_ms: window_ms.map(AtomicI64::new),
            files: Mutex::default(),
            suspects: Mutex::default(),
            past: Mutex::default(),
            present: Mutex::default(),
            policy: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keeps_history(&self) -> bool {
        self.window_ms.is_some()
    }

    /// Held while the policy is read, compared and replaced.
    pub(super) fn lock_policy(&self) -> MutexGuard<'_, ()> {
        lock(&self.policy)
    }

    /// Whether a deleted table or an older version is kept here.
    pub(super) fn has_history(&self) -> std::io::Result<bool> {
        Ok(!self.records()?.is_empty())
    }

    pub(super) fn set_window(&self, window_ms: i64) {
        if let Some(window) = &self.window_ms {
            window.store(window_ms, Ordering::Release);
        }
    }

    fn window(&self) -> i64 {
        self.window_ms.as_ref().map_or(0, |window| window.load(Ordering::Acquire))
    }

    /// The object of a file that is in this folder.
    pub(super) fn file(&self, name: &str) -> Arc<OwnedFile> {
        let mut files = lock(&self.files);
        if let Some(file) = files.get(name).and_then(Weak::upgrade) {
            return file;
        }
        let file = Arc::new(OwnedFile::new(self.path.join(name)));
        files.insert(name.to_owned(), Arc::downgrade(&file));
        file
    }

    /// Makes a new file known.
    pub(super) fn adopt(&self, file: &Arc<OwnedFile>) {
        lock(&self.files).entry(file.name()).or_insert_with(|| Arc::downgrade(file));
    }

    /// Deletes what nobody named when the folder was opened: now when there is no history, else at the first
    /// sweep, because telling what history names takes reading all of it.
    pub(super) fn suspect_all_but(&self, mut wanted: Vec<&str>) -> std::io::Result<()> {
        wanted.extend([FOLDER, POLICY]);
        wanted.sort_unstable();
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if wanted.binary_search(&name.as_str()).is_err() {
                found.push(name);
            }
        }
        if !found.is_empty() && self.has_history()? {
            *lock(&self.suspects) = found;
            return Ok(());
        }
        found.iter().try_for_each(|name| std::fs::remove_file(self.path.join(name)))
    }

    /// Keeps how to get from `after`, which is about to be written, back to `before`.
    pub(super) fn remember(&self, before: &Version, after: &Version) -> Outcome<()> {
        if !self.keeps_history() {
            return Ok(());
        }
        self.create()?;
        let definition = &before.definition;
        if definition.birth != after.definition.birth {
            self.remove_graves_of(&definition.birth)?;
            let grave = self.grave(definition, after.definition.created_ms);
            return disk::write_document(&self.record_path(&grave), &TableDocument::of(before));
        }
        let undo = Record::Undo { birth: definition.birth.clone(), number: definition.number };
        disk::write_document(&self.record_path(&undo), &Undo::between(before, after))
    }

    /// Keeps the document of a table that is deleted, by moving it.
    pub(super) fn bury(&self, document: &Path, definition: &Definition, at_ms: i64) -> Outcome<()> {
        self.create()?;
        self.remove_graves_of(&definition.birth)?;
        std::fs::rename(document, self.record_path(&self.grave(definition, at_ms)))?;
        disk::sync_dir(&self.path.join(FOLDER))?;
        disk::sync_dir(&self.path)?;
        Ok(())
    }

    /// A replacement that broke off after its first step leaves the grave of a table that lives.
    pub(super) fn remove_graves_of(&self, birth: &str) -> std::io::Result<()> {
        let records = self.records()?;
        let mut graves = records.iter().filter(|r| matches!(r, Record::Grave { .. }) && r.birth() == birth);
        graves.try_for_each(|grave| disk::remove_file(&self.record_path(grave)))
    }

    fn grave(&self, definition: &Definition, deleted_ms: i64) -> Record {
        let deleted_ms = deleted_ms.max(definition.modified_ms);
        let (birth, number) = (definition.birth.clone(), definition.number);
        Record::Grave { birth, number, deleted_ms, window_ms: self.window() }
    }

    fn create(&self) -> std::io::Result<()> {
        let dir = self.path.join(FOLDER);
        if dir.is_dir() { Ok(()) } else { disk::create_dir(&dir) }
    }

    fn record_path(&self, record: &Record) -> PathBuf {
        self.path.join(FOLDER).join(record.file_name())
    }

    fn records(&self) -> std::io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for name in disk::files(&self.path.join(FOLDER))? {
            records.extend(Record::parse(&name));
        }
        Ok(records)
    }

    /// The version that was current at a time, of `current` or of a table of this name before it.
    pub(super) fn version_at(
        &self,
        name: &TableName,
        current: Option<Arc<Version>>,
        time: SnapshotTime,
    ) -> Outcome<Arc<Version>> {
        let _past = lock(&self.past);
        let now = now_ms();
        let wanted = match time.milliseconds() {
            Some(ms) => ms,
            None => self.oldest(current.as_deref(), now)?,
        };
        let too_early = |bound: i64| {
            Failure::invalid(format!(
                "Invalid snapshot time {wanted} for table {}@{wanted}. Cannot read before {bound}",
                name.legacy()
            ))
        };
        if wanted > now {
            return Err(Failure::invalid(format!(
                "Invalid snapshot time {wanted} for table {}@{wanted}. Cannot read after {now}",
                name.legacy()
            )));
        }
        match current {
            Some(current) if current.definition.created_ms <= wanted => {
                if current.definition.modified_ms <= wanted {
                    return Ok(current);
                }
                let horizon = now - self.window();
                if wanted < horizon {
                    return Err(too_early(horizon));
                }
                let document = self.rewind(TableDocument::of(&current), wanted)?;
                self.open_past(document, wanted, too_early)
            }
            current => {
                let Some((grave, window_ms)) = self.grave_at(wanted, now)? else {
                    let created = current.map(|version| version.definition.created_ms);
                    return Err(created.map_or_else(|| not_found(name), too_early));
                };
                if wanted < now - window_ms {
                    return Err(too_early(now - window_ms));
                }
                if wanted < grave.definition.created_ms {
                    return Err(too_early(grave.definition.created_ms));
                }
                let document = self.rewind(grave, wanted)?;
                self.open_past(document, wanted, too_early)
            }
        }
    }

    /// What `version` was when it had another number; `None` when that is not kept any more.
    pub(super) fn version_numbered(&self, version: &Version, number: u64) -> Outcome<Option<Arc<Version>>> {
        let _past = lock(&self.past);
        let mut document = TableDocument::of(version);
        document.commits.clear();
        while document.definition.number > number {
            if !self.undo(&mut document)? {
                return Ok(None);
            }
        }
        let is_it = document.definition.number == number;
        Ok(is_it.then(|| Arc::new(document.open(|name| self.file(name)))))
    }

    fn open_past(
        &self,
        document: TableDocument,
        wanted: i64,
        too_early: impl Fn(i64) -> Failure,
    ) -> Outcome<Arc<Version>> {
        // What was forgotten under a shorter window stays forgotten when the window grows.
        if document.definition.modified_ms > wanted {
            return Err(too_early(document.definition.modified_ms));
        }
        Ok(Arc::new(document.open(|name| self.file(name))))
    }

    /// The earliest time that `version_at` can answer for the present table, or else the last one deleted.
    fn oldest(&self, current: Option<&Version>, now: i64) -> Outcome<i64> {
        let (document, window) = match current {
            Some(version) => (TableDocument::of(version), self.window()),
            None => match self.graves(now)?.pop() {
                Some((record, window_ms)) => (self.read(&record)?, window_ms),
                None => return Ok(now),
            },
        };
        let earliest = document.definition.created_ms.max(now - window);
        Ok(self.rewind(document, earliest)?.definition.modified_ms.max(earliest))
    }

    /// The table that was deleted next after `wanted`.
    fn grave_at(&self, wanted: i64, now: i64) -> Outcome<Option<(TableDocument, i64)>> {
        let mut graves = self.graves(now)?;
        graves.retain(
            |(record, _)| matches!(record, Record::Grave { deleted_ms, .. } if *deleted_ms >= wanted),
        );
        let Some((record, window_ms)) = graves.into_iter().next() else { return Ok(None) };
        Ok(Some((self.read(&record)?, window_ms)))
    }

    /// The deleted tables that can still be brought back, in the order of their deletion.
    fn graves(&self, now: i64) -> Outcome<Vec<(Record, i64)>> {
        let mut graves: Vec<(i64, Record, i64)> = Vec::new();
        for record in self.records()? {
            if let Record::Grave { deleted_ms, window_ms, .. } = record
                && now - deleted_ms <= window_ms
            {
                graves.push((deleted_ms, record, window_ms));
            }
        }
        graves.sort_unstable();
        Ok(graves.into_iter().map(|(_, record, window_ms)| (record, window_ms)).collect())
    }

    fn read(&self, record: &Record) -> Outcome<TableDocument> {
        let document = disk::read_document(&self.record_path(record))?;
        document.ok_or_else(|| Failure::backend("a document of a deleted table has gone"))
    }

    /// Undoes changes until the version is the one that was current at `wanted`, or none is known before it.
    fn rewind(&self, mut document: TableDocument, wanted: i64) -> Outcome<TableDocument> {
        document.commits.clear();
        while document.definition.modified_ms > wanted && self.undo(&mut document)? {}
        Ok(document)
    }

    /// One change; `false` when what it was is not known.
    fn undo(&self, document: &mut TableDocument) -> Outcome<bool> {
        let Some(number) = document.definition.number.checked_sub(1) else { return Ok(false) };
        let record = Record::Undo { birth: document.definition.birth.clone(), number };
        let Some(undo) = disk::read_document::<Undo>(&self.record_path(&record))? else { return Ok(false) };
        undo.apply(document, number);
        Ok(true)
    }

    /// Says which version is on disk: after it is, and after the table is buried.
    pub(super) fn set_present(&self, definition: Option<&Definition>) {
        *lock(&self.present) = definition.map(|d| (d.birth.clone(), d.number));
    }

    /// Forgets what can no longer be asked for.
    pub(super) fn sweep(&self) -> Outcome<()> {
        let _past = lock(&self.past);
        lock(&self.files).retain(|_, file| file.strong_count() > 0);
        // In this order: whose undo is found here is either present then or has a grave afterwards.
        let mut undos = self.records()?;
        undos.retain(|record| matches!(record, Record::Undo { .. }));
        let present = lock(&self.present).clone();
        let now = now_ms();
        // Which undos are true, and how long they are kept.
        let mut known: BTreeMap<String, (u64, i64)> = BTreeMap::new();
        for record in self.records()? {
            let Record::Grave { birth, number, deleted_ms, window_ms } = &record else { continue };
            if present.as_ref().is_some_and(|(living, _)| living == birth) {
                continue; // it is being replaced just now
            }
            if now - deleted_ms <= *window_ms {
                known.insert(birth.clone(), (*number, *window_ms));
                continue;
            }
            let document = self.read(&record)?;
            disk::remove_file(&self.record_path(&record))?;
            self.discard(document.parts.iter().map(|part| part.file.as_str()));
        }
        if let Some((birth, number)) = present {
            known.insert(birth, (number, self.window()));
        }
        undos.sort_unstable(); // by birth, then from the oldest on
        let mut reached: Option<&str> = None;
        for record in &undos {
            let Record::Undo { birth, number } = record else { continue };
            if reached == Some(birth) {
                continue; // an older one stays, so this one does
            }
            let Some(undo) = disk::read_document::<Undo>(&self.record_path(record))? else { continue };
            if let Some((current, window_ms)) = known.get(birth)
                && (number >= current || undo.until_ms > now - window_ms)
            {
                reached = Some(birth);
                continue;
            }
            disk::remove_file(&self.record_path(record))?;
            self.discard(undo.lost());
        }
        self.delete_orphans()
    }

    /// Deletes the files of an earlier process that neither the present nor the past names.
    fn delete_orphans(&self) -> Outcome<()> {
        let mut suspects: BTreeSet<String> = std::mem::take(&mut *lock(&self.suspects)).into_iter().collect();
        if suspects.is_empty() {
            return Ok(());
        }
        for record in self.records()? {
            match record {
                Record::Undo { .. } => {
                    if let Some(undo) = disk::read_document::<Undo>(&self.record_path(&record))? {
                        for (_, part) in &undo.removed {
                            suspects.remove(&part.file);
                        }
                    }
                }
                Record::Grave { .. } => {
                    let document = self.read(&record)?;
                    for part in &document.parts {
                        suspects.remove(&part.file);
                    }
                }
            }
        }
        self.discard(suspects.iter().map(String::as_str));
        Ok(())
    }

    /// Forgets everything, with the dataset that it belonged to.
    pub(super) fn forget(&self) -> Outcome<()> {
        let _past = lock(&self.past);
        for record in self.records()? {
            match record {
                Record::Undo { .. } => {
                    if let Some(undo) = disk::read_document::<Undo>(&self.record_path(&record))? {
                        self.discard(undo.lost());
                    }
                }
                Record::Grave { .. } => {
                    let document = self.read(&record)?;
                    self.discard(document.parts.iter().map(|part| part.file.as_str()));
                }
            }
            std::fs::remove_file(self.record_path(&record))?;
        }
        Ok(())
    }

    fn discard<'a>(&self, names: impl Iterator<Item = &'a str>) {
        names.for_each(|name| self.file(name).discard());
    }
}

#[cfg(test)]
mod tests;
