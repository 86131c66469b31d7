//! Uploads in pieces: the XML API's parts and the JSON API's resumable sessions. A restart forgets them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::draft::Draft;
use super::json::Wanted;
use super::objects::Objects;
use super::records::{Attributes, ObjectDocument};
use crate::emulator::disk::unique_name;
use crate::emulator::versions::lock;
use crate::emulator::wire::{Failure, Outcome};

/// Of each kind; when one more is started the oldest is given up.
const OPEN_MAX: usize = 1000;

/// A resumable upload: what has come of it, or what became of it.
#[derive(Debug)]
pub(super) enum Session {
    Open {
        wanted: Box<Wanted>,
        draft: Draft,
    },
    Done(Box<ObjectDocument>),
    /// Its bytes were lost with the request that carried them.
    Broken,
}

type Shared = Arc<tokio::sync::Mutex<Session>>;

#[derive(Debug, Default)]
struct Parts {
    attributes: Attributes,
    drafts: BTreeMap<u32, Draft>,
}

impl Parts {
    fn join(&self, objects: &Objects, numbers: &[u32]) -> Outcome<Draft> {
        let part = |number| self.drafts.get(number).ok_or_else(|| Failure::invalid("InvalidPart"));
        let named = numbers.iter().map(part).collect::<Outcome<Vec<_>>>()?;
        let mut whole = objects.draft()?;
        named.into_iter().try_for_each(|part| whole.append_draft(part))?;
        Ok(whole)
    }
}

#[derive(Debug, Default)]
pub(super) struct Uploads {
    parts: Mutex<VecDeque<(String, Parts)>>,
    sessions: Mutex<VecDeque<(String, Shared)>>,
}

fn add<T>(open: &mut VecDeque<(String, T)>, started: T) -> String {
    while open.len() >= OPEN_MAX {
        open.pop_front();
    }
    let id = unique_name();
    open.push_back((id.clone(), started));
    id
}

impl Uploads {
    pub(super) fn start_session(&self, wanted: Wanted, draft: Draft) -> String {
        let session = Session::Open { wanted: Box::new(wanted), draft };
        add(&mut lock(&self.sessions), Arc::new(tokio::sync::Mutex::new(session)))
    }

    pub(super) fn session(&self, id: &str) -> Outcome<Shared> {
        let sessions = lock(&self.sessions);
        let found = sessions.iter().find(|(known, _)| known == id);
        found.map(|(_, session)| Arc::clone(session)).ok_or_else(no_upload)
    }

    pub(super) fn cancel_session(&self, id: &str) {
        lock(&self.sessions).retain(|(known, _)| known != id);
    }

    pub(super) fn start_parts(&self, attributes: Attributes) -> String {
        add(&mut lock(&self.parts), Parts { attributes, drafts: BTreeMap::new() })
    }

    /// Keeps a part; a part sent again replaces the earlier one.
    pub(super) fn put_part(&self, upload: &str, number: u32, part: Draft) -> Outcome<String> {
        let mut open = lock(&self.parts);
        let (_, parts) = open.iter_mut().find(|(known, _)| known == upload).ok_or_else(no_upload)?;
        let etag = format!("\"{number}-{}\"", part.size());
        parts.drafts.insert(number, part);
        Ok(etag)
    }

    /// Joins the named parts into one draft and makes that an object by `put`. An upload that this fails for goes
    /// on: the part that is missing can still be sent.
    pub(super) fn complete<T>(
        &self,
        objects: &Objects,
        upload: &str,
        numbers: &[u32],
        put: impl FnOnce(Draft, Attributes) -> Outcome<T>,
    ) -> Outcome<T> {
        // Nobody else completes it meanwhile.
        let parts = self.take_parts(upload)?;
        let done = parts.join(objects, numbers).and_then(|whole| put(whole, parts.attributes.clone()));
        if done.is_err() {
            lock(&self.parts).push_back((upload.to_owned(), parts));
        }
        done
    }

    pub(super) fn abort_parts(&self, upload: &str) -> Outcome<()> {
        self.take_parts(upload).map(drop)
    }

    fn take_parts(&self, upload: &str) -> Outcome<Parts> {
        let mut open = lock(&self.parts);
        let index = open.iter().position(|(known, _)| known == upload);
        index.and_then(|index| open.remove(index)).map(|(_, parts)| parts).ok_or_else(no_upload)
    }
}

fn no_upload() -> Failure {
    Failure::not_found("The specified upload does not exist.")
}
