//! The newest requests that fit a question, in memory that does not grow with what is looked through.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::instance::{Instance, State, Tracked, ms_of};
use super::open::Open;
use super::shelf::{CLOCK_SLACK_MS, Shelf};
use crate::error::Result;
use crate::gateway::letter::Letter;
use crate::gateway::spool::{self, Peeked};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// A tracked column, and the value that it has in one of the rows.
    pub identifier: Option<(String, String)>,
    pub id: Option<String>,
    pub state: Option<State>,
    /// Only what this user sent.
    pub user: Option<String>,
    /// Nothing that came before.
    pub since_ms: Option<u64>,
    /// Only this one and what came before: where the next page starts.
    pub from: Option<String>,
    pub limit: usize,
    /// With bodies, where they are kept.
    pub payload: bool,
}

/// An answer, the newest request first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub instances: Vec<Instance>,
    /// Where the next page starts. `None`: this is the last one.
    pub next: Option<String>,
    /// Files that could not be read to their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// Bytes of a page; one request is on it however large it is.
const PAGE_BYTES_MAX: usize = 32 << 20;

impl Question {
    /// Whether this may be on a page, as far as its id tells.
    fn wants_id(&self, id: &str) -> bool {
        self.id.as_deref().is_none_or(|asked| asked == id)
            && self.from.as_deref().is_none_or(|from| id <= from)
            && self.since_ms.is_none_or(|since| ms_of(id).is_none_or(|came| came >= since))
    }

    fn wants(&self, instance: &Instance) -> bool {
        self.state.is_none_or(|state| state == instance.state)
            && self.user.as_ref().is_none_or(|user| *user == instance.user)
            && self.identifier.as_ref().is_none_or(|(field, value)| instance.has(field, value))
    }

    /// Whether a file may have something, whose requests came between these times.
    fn wants_times(&self, first_ms: u64, last_ms: u64) -> bool {
        let of_id = |id: &Option<String>| id.as_deref().and_then(ms_of);
        self.since_ms.is_none_or(|since| last_ms >= since)
            && of_id(&self.from).is_none_or(|from| first_ms <= from)
            && of_id(&self.id).is_none_or(|asked| (first_ms..=last_ms).contains(&asked))
    }
}

/// The newest that were found so far.
struct Newest<'q> {
    question: &'q Question,
    found: BTreeMap<String, Instance>,
    bytes: usize,
    /// The newest one that there was no room for. Older ones need not be looked for.
    floor: Option<String>,
}

impl Newest<'_> {
    fn wants_id(&self, id: &str) -> bool {
        self.floor.as_deref().is_none_or(|floor| id > floor) && self.question.wants_id(id)
    }

    fn wants_times(&self, first_ms: u64, last_ms: u64) -> bool {
        let floor = self.floor.as_deref().and_then(ms_of);
        floor.is_none_or(|floor| last_ms >= floor) && self.question.wants_times(first_ms, last_ms)
    }

    /// Of one request that is met twice the later one counts: it has come further.
    fn take(&mut self, instance: Instance) {
        if !self.wants_id(&instance.id) {
            return;
        }
        if let Some(before) = self.found.remove(&instance.id) {
            self.bytes -= before.weight();
        }
        if !self.question.wants(&instance) {
            return;
        }
        let asked = self.question.identifier.as_ref().map(|(_, value)| value.as_str());
        let instance = instance.shortened(asked, self.question.payload);
        self.bytes += instance.weight();
        self.found.insert(instance.id.clone(), instance);
        while self.found.len() > self.question.limit || (self.bytes > PAGE_BYTES_MAX && self.found.len() > 1)
        {
            let Some((id, oldest)) = self.found.pop_first() else { return };
            self.bytes -= oldest.weight();
            self.floor = Some(id);
        }
    }
}

/// Where requests are looked for.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) spool: PathBuf,
    /// The folder of files that outlive segments.
    pub(super) shelves: PathBuf,
    pub(super) tracked: Tracked,
    pub(super) table: String,
    /// Whether bodies in the spool are shown.
    pub(super) shows_spool: bool,
}

impl Places {
    /// Looks through everything that may have an answer. `open` is what the journal says of the oldest
    /// sealed segments.
    pub(super) fn search(&self, question: &Question, open: &Open) -> Result<Page> {
        let mut newest = Newest { question, found: BTreeMap::new(), bytes: 0, floor: None };
        let mut unreadable = Vec::new();
        let mut note = |name: String, read: Result<()>| {
            if let Err(error) = read {
                tracing::warn!(%error, "requests cannot be shown");
                unreadable.push(name);
            }
        };
        // The spool first: a segment that is gone by then has its requests on a shelf.
        for segment in spool::peek(&self.spool)?.iter().rev() {
            if newest.wants_times(0, segment.modified_unix_ms.saturating_add(CLOCK_SLACK_MS)) {
                note(segment.name(), self.segment(segment, open, &mut newest));
            }
        }
        for shelf in Shelf::list(&self.shelves)?.into_iter().rev() {
            if newest.wants_times(shelf.first_ms, shelf.last_ms) {
                note(shelf.name(), self.shelf(&shelf, &mut newest));
            }
        }
        let Newest { found, floor: next, .. } = newest;
        Ok(Page { instances: found.into_values().rev().collect(), next, unreadable })
    }

    fn segment(&self, segment: &Peeked, open: &Open, newest: &mut Newest<'_>) -> Result<()> {
        let id = segment.id()?;
        for record in segment.records()?.iter().rev() {
            // What is no letter is found by whoever loads it.
            let Ok(Letter { head, body }) = Letter::parse(record) else { continue };
            let is_theirs = newest.question.user.as_ref().is_none_or(|user| *user == head.user);
            if !is_theirs || !newest.wants_id(&head.id) {
                continue;
            }
            let stands = open.stands(segment.place, id, &head);
            if newest.question.state.is_some_and(|state| state != stands.state) {
                continue;
            }
            let mut instance = self.tracked.instance(&head, &body, stands.state);
            instance.table = Some(self.table.clone());
            (instance.job_id, instance.reason) = (stands.job_id, stands.reason);
            // BigQuery's words may have a value of another sender's row in them.
            if newest.question.user.is_some() && instance.job_id.is_some() {
                instance.reason = instance.reason.as_deref().map(without_values);
            }
            if newest.question.payload && self.shows_spool {
                instance = instance.with_payload(&body);
            }
            newest.take(instance);
        }
        Ok(())
    }

    fn shelf(&self, shelf: &Shelf, newest: &mut Newest<'_>) -> Result<()> {
        // What is in none of its texts is in no request of a line. JSON writes it in one way.
        let part = newest
            .question
            .identifier
            .as_ref()
            .map(|(_, value)| serde_json::Value::from(value.as_str()).to_string());
        let finder = part.as_ref().map(|part| memchr::memmem::Finder::new(part.as_bytes()));
        shelf.lines(|line| {
            let has_value = finder.as_ref().is_none_or(|finder| finder.find(line).is_some());
            if !has_value || !id_of(line).is_none_or(|id| newest.wants_id(id)) {
                return;
            }
            // The end of a file that a power loss has cut.
            if let Ok(instance) = serde_json::from_slice(line) {
                newest.take(instance);
            }
        })
    }
}

/// Of BigQuery's words only the first, which is one of its reasons.
fn without_values(reason: &str) -> String {
    let word = reason.split(':').next().unwrap_or_default();
    format!("{word}: the load job of this request's batch failed; an operator sees why")
}

/// The id at the start of a line.
fn id_of(line: &[u8]) -> Option<&str> {
    let rest = line.strip_prefix(b"{\"id\":\"")?;
    let end = memchr::memchr(b'"', rest)?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(ms: u64, state: State) -> Instance {
        let id = format!("{ms:011x}{ms:016x}");
        let text = |text: &str| text.to_owned();
        Instance {
            id,
            time: String::new(),
            user: text("ann"),
            state,
            accepted: 1,
            rejected: 0,
            identifiers: Vec::new(),
            rejects: Vec::new(),
            table: None,
            job_id: None,
            reason: None,
            payload: None,
            payload_base64: None,
        }
    }

    /// What is on the page, and where the next one starts.
    fn newest(question: &Question, given: impl IntoIterator<Item = Instance>) -> (Vec<u64>, Option<u64>) {
        let mut newest = Newest { question, found: BTreeMap::new(), bytes: 0, floor: None };
        given.into_iter().for_each(|instance| newest.take(instance));
        let next = newest.floor.as_deref().and_then(ms_of);
        (newest.found.keys().rev().filter_map(|id| ms_of(id)).collect(), next)
    }

    #[test]
    fn pages_have_the_newest_in_any_order_of_finding_and_go_on_where_they_ended() {
        let question = Question { limit: 3, ..Question::default() };
        let given = [5, 9, 1, 7, 3, 8].map(|ms| instance(ms, State::Loaded));
        assert_eq!(newest(&question, given.clone()), (vec![9, 8, 7], Some(5)));
        let question = Question { from: Some(instance(5, State::Loaded).id), ..question };
        assert_eq!(newest(&question, given.clone()), (vec![5, 3, 1], None));
        let question = Question { since_ms: Some(3), ..question };
        assert_eq!(newest(&question, given), (vec![5, 3], None));
    }

    #[test]
    fn a_request_that_is_met_twice_is_what_it_was_met_as_last() {
        let question = Question { limit: 3, ..Question::default() };
        let twice = || [State::Sealed, State::Loaded].map(|state| instance(5, state));
        assert_eq!(newest(&question, twice()), (vec![5], None));
        let sealed = Question { state: Some(State::Sealed), ..question };
        assert_eq!(newest(&sealed, twice()), (vec![], None), "it was loaded meanwhile");
    }

    #[test]
    fn a_page_is_bounded_in_bytes_and_loses_nothing_by_it() {
        let question = Question { limit: 100, payload: true, ..Question::default() };
        let large =
            |ms| Instance { payload: Some("x".repeat(PAGE_BYTES_MAX / 3)), ..instance(ms, State::Loaded) };
        assert_eq!(newest(&question, (1..=5).map(large)), (vec![5, 4], Some(3)));
        let huge = Instance { payload: Some("x".repeat(PAGE_BYTES_MAX + 1)), ..instance(9, State::Loaded) };
        assert_eq!(newest(&question, [huge]), (vec![9], None));
        let without = Question { payload: false, ..question };
        assert_eq!(newest(&without, (1..=5).map(large)).0.len(), 5);
    }
}
