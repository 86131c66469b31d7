//! Resumable sessions on disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::with_job_id;
use crate::emulator::Emulator;
use crate::emulator::disk::{self, OwnedFile, unique_name};
use crate::emulator::names::ProjectId;
use crate::emulator::versions::lock;
use crate::emulator::wire::{Failure, Outcome, now_ms};

/// A week, as Google keeps a session.
const LIFE_MS: i64 = 7 * 24 * 3600 * 1000;
const SESSIONS_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Progress {
    Receiving,
    /// All bytes are here; the job may have been made.
    Submitting,
    Done,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Session {
    id: String,
    pub project: ProjectId,
    /// The body of jobs.insert, its job id included.
    pub job: Map<String, Value>,
    created_ms: i64,
    progress: Progress,
    #[serde(skip)]
    dir: PathBuf,
}

impl Session {
    fn document_path(&self) -> PathBuf {
        self.dir.join(format!("{}.json", self.id))
    }

    pub(super) fn file_path(&self) -> PathBuf {
        self.dir.join(format!("{}.upload", self.id))
    }

    pub(super) fn received(&self) -> Outcome<u64> {
        Ok(std::fs::metadata(self.file_path())?.len())
    }

    /// Notes that the job is about to be made; whether that was noted before.
    pub(super) fn attempt(&mut self) -> Outcome<bool> {
        let again = self.progress == Progress::Submitting;
        self.progress = Progress::Submitting;
        disk::write_document(&self.document_path(), self)?;
        Ok(again)
    }

    pub(super) fn complete(&mut self) -> Outcome<()> {
        self.progress = Progress::Done;
        disk::write_document(&self.document_path(), self)
    }

    /// For a client that asks again because it did not see the answer.
    pub(super) fn finished_job(&self, emulator: &Emulator) -> Outcome<Option<Value>> {
        match self.progress {
            Progress::Done => self.job_resource(emulator).map(Some),
            Progress::Receiving | Progress::Submitting => Ok(None),
        }
    }

    pub(super) fn job_resource(&self, emulator: &Emulator) -> Outcome<Value> {
        let id = self.job["jobReference"]["jobId"].as_str().unwrap_or_default();
        Ok(emulator.jobs.find(&self.project, id)?.document().resource())
    }
}

/// All sessions, and the files of multipart uploads.
#[derive(Debug)]
pub(in crate::emulator) struct Uploads {
    dir: PathBuf,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Uploads {
    /// Deletes what no session needs any more.
    pub(in crate::emulator) fn open(root: &Path) -> std::io::Result<Uploads> {
        let dir = root.join("uploads");
        std::fs::create_dir_all(&dir)?;
        let uploads = Uploads { dir, turns: Mutex::new(HashMap::new()) };
        let sessions = uploads.sweep()?;
        for entry in std::fs::read_dir(&uploads.dir)? {
            let path = entry?.path();
            let wanted = |s: &Session| {
                path == s.document_path() || (path == s.file_path() && s.progress != Progress::Done)
            };
            if !sessions.iter().any(wanted) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(uploads)
    }

    /// Removes expired sessions and answers the others.
    fn sweep(&self) -> std::io::Result<Vec<Session>> {
        let mut sessions = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let Some(session) = disk::read_document::<Session>(&path)? else { continue };
            let session = Session { dir: self.dir.clone(), ..session };
            if session.created_ms + LIFE_MS > now_ms() {
                sessions.push(session);
            } else {
                std::fs::remove_file(session.document_path())?;
                let _ = std::fs::remove_file(session.file_path());
            }
        }
        Ok(sessions)
    }

    /// A file that vanishes when its job is done.
    pub(super) fn draft(&self) -> OwnedFile {
        OwnedFile::draft(self.dir.join(format!("{}.upload", unique_name())))
    }

    pub(super) fn start(&self, project: ProjectId, job: Map<String, Value>) -> Outcome<String> {
        let open = self.sweep()?.iter().filter(|s| s.progress != Progress::Done).count();
        if open >= SESSIONS_MAX {
            return Err(Failure::backend(format!("{SESSIONS_MAX} uploads are open: finish or delete some")));
        }
        let session = Session {
            id: unique_name(),
            project,
            job: with_job_id(job)?,
            created_ms: now_ms(),
            progress: Progress::Receiving,
            dir: self.dir.clone(),
        };
        std::fs::File::create_new(session.file_path())?.sync_all()?;
        disk::write_document(&session.document_path(), &session)?;
        Ok(session.id)
    }

    pub(super) fn open_session(&self, id: &str) -> Outcome<Session> {
        let legal = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let found = match legal {
            true => disk::read_document::<Session>(&self.dir.join(format!("{id}.json")))?,
            false => None,
        };
        let found = found.filter(|session| session.created_ms + LIFE_MS > now_ms());
        let session = found.ok_or_else(|| Failure::not_found("Not found: the upload session"))?;
        Ok(Session { dir: self.dir.clone(), ..session })
    }

    pub(super) fn remove(&self, session: &Session) -> Outcome<()> {
        disk::remove_file(&session.document_path())?;
        let _ = std::fs::remove_file(session.file_path());
        Ok(())
    }

    /// The lock of one session.
    pub(super) fn turn(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.turns);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(id.to_owned()).or_default())
    }
}
