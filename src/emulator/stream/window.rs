//! The insertIds of the last minute, by table.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::emulator::versions::lock;

const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(in crate::emulator) struct Windows(Mutex<HashMap<String, Arc<Window>>>);

impl Windows {
    /// Of the table that was born so: one made later under the same name starts afresh.
    pub(super) fn of(&self, birth: &str) -> Arc<Window> {
        let mut windows = lock(&self.0);
        // Tables that nobody streams to any more cost nothing.
        windows.retain(|_, window| Arc::strong_count(window) > 1 || !window.lock().forget_old().is_empty());
        Arc::clone(windows.entry(birth.to_owned()).or_default())
    }
}

#[derive(Debug, Default)]
pub(super) struct Window(Mutex<Ids>);

impl Window {
    pub(super) fn lock(&self) -> MutexGuard<'_, Ids> {
        lock(&self.0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Ids {
    known: HashSet<String>,
    /// The same ids, oldest first.
    ages: VecDeque<(Instant, String)>,
}

impl Ids {
    fn forget_old(&mut self) -> &HashSet<String> {
        while self.ages.front().is_some_and(|(then, _)| then.elapsed() >= WINDOW) {
            if let Some((_, id)) = self.ages.pop_front() {
                self.known.remove(&id);
            }
        }
        &self.known
    }

    /// Which rows are new, in this request too. A row without an id always is.
    pub(super) fn fresh<'a>(&mut self, ids: impl Iterator<Item = Option<&'a str>>) -> Vec<bool> {
        let known = self.forget_old();
        let mut seen = HashSet::new();
        ids.map(|id| id.is_none_or(|id| !known.contains(id) && seen.insert(id))).collect()
    }

    pub(super) fn remember<'a>(&mut self, ids: impl Iterator<Item = &'a str>) {
        let now = Instant::now();
        for id in ids {
            if self.known.insert(id.to_owned()) {
                self.ages.push_back((now, id.to_owned()));
            }
        }
    }
}
