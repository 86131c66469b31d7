//! Faults on purpose: what a service does on a bad day, so that a client can prove that it stands it.
//!
//! A fault is armed by `api2bq emulator --fault SPEC` or by a test in the same process, never by a request.
//! It hits the next calls or jobs that it fits, then it is over. Everything is counted in calls rather than
//! in time, so that a test that runs twice sees the same twice.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::Method;
use serde_json::{Value, json};

use super::jobs::JobDocument;
use super::names::JobId;
use super::routes::path_segments;
use super::run::Work;
use super::versions::lock;
use super::wire::Failure;
use crate::error::Error;

/// What is armed. Clones arm the same server. With nothing armed a call pays for one atomic load.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Faults, held jobs and late inserts; most of the time 0.
    at_work: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    armed: Vec<Fault>,
    /// Polls that a job still shows itself as RUNNING for.
    running: BTreeMap<JobId, u32>,
    /// Calls until an insert lands.
    late: Vec<(u32, Late)>,
}

/// One fault, for a number of calls or jobs: `503=3@jobs`, `fail-job=backendError:2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    times: u32,
    /// What `METHOD /path`, or the job's id, must contain.
    scope: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Busy,
    TooMany,
    RateLimit,
    Drop,
    DropAfter,
    DropAfterInsert,
    StorageBusy,
    StorageLost,
    LateInsert { calls: u32 },
    LoseJob,
    RunningPolls { polls: u32 },
    FailJob { reason: String },
    RowCountOff,
}

/// For messages; `--help` explains them.
const NAMES: &str = "503=N, 429=N, rate-limit=N, drop=N, drop-after=N, drop-after-insert=N, late-insert=K:N, lose-job=N, \
                     running-polls=K:N, fail-job=REASON:N, row-count-off=N, storage-503=N, storage-lost=N, \
                     each with `@TEXT` behind it or without";

impl FromStr for Fault {
    type Err = Error;

    /// `name=N`, `name=K:N` or `fail-job=REASON:N`, then `@TEXT`. `:N` may be left out.
    fn from_str(text: &str) -> Result<Fault, Error> {
        let wrong = || Error::usage(format!("`{text}` is no fault; there are {NAMES}"));
        let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(wrong);
        let (what, scope) = text.split_once('@').unwrap_or((text, ""));
        let (name, value) = what.split_once('=').ok_or_else(wrong)?;
        let (first, times) = match value.split_once(':') {
            Some((first, times)) => (first, number(times)?),
            None => (value, 1),
        };
        let plain = match name {
            "503" => Some(Kind::Busy),
            "429" => Some(Kind::TooMany),
            "rate-limit" => Some(Kind::RateLimit),
            "drop" => Some(Kind::Drop),
            "drop-after" => Some(Kind::DropAfter),
            "drop-after-insert" => Some(Kind::DropAfterInsert),
            "lose-job" => Some(Kind::LoseJob),
            "row-count-off" => Some(Kind::RowCountOff),
            "storage-503" => Some(Kind::StorageBusy),
            "storage-lost" => Some(Kind::StorageLost),
            _ => None,
        };
        let is_reason = !first.is_empty() && first.bytes().all(|b| b.is_ascii_alphanumeric());
        let (kind, times) = match (plain, name) {
            (Some(kind), _) => (kind, number(value)?),
            (None, "late-insert") => (Kind::LateInsert { calls: number(first)? }, times),
            (None, "running-polls") => (Kind::RunningPolls { polls: number(first)? }, times),
            (None, "fail-job") if is_reason => (Kind::FailJob { reason: first.to_owned() }, times),
            (None, _) => return Err(wrong()),
        };
        Ok(Fault { kind, times, scope: scope.to_owned() })
    }
}

/// What happens to a call.
#[derive(Debug)]
pub(super) enum Bad {
    Refuse(Failure),
    HangUp,
    /// Done, and nobody is told.
    HangUpAfter,
    /// Done, and somebody is told otherwise.
    RefuseAfter(Failure),
}

/// What happens to a job that is inserted.
#[derive(Debug)]
pub(super) enum Fate {
    Runs(Option<Twist>),
    /// It comes into being so many calls later.
    Late(u32),
    /// It is answered for, and never comes into being.
    Lost,
}

/// What is wrong with a job that runs.
#[derive(Debug)]
pub(super) enum Twist {
    Fails(String),
    RowCountOff,
}

/// An insert that has not arrived yet.
#[derive(Debug)]
pub(super) struct Late {
    pub document: JobDocument,
    pub work: Work,
}

impl Faults {
    /// Adds a fault to those that are armed. Of two that fit a call the one armed first hits it.
    pub fn arm(&self, fault: Fault) {
        self.change(|state| state.armed.push(fault));
    }

    /// Whether every fault has hit as often as it was to.
    pub fn are_spent(&self) -> bool {
        self.0.at_work.load(Ordering::Acquire) == 0
    }

    pub(super) fn on_call(&self, method: &Method, path: &str, is_object: bool) -> Option<Bad> {
        if self.are_spent() {
            return None;
        }
        // As people write it: clients escape what they like.
        let decoded = path_segments(path).map_or_else(|_| path.to_owned(), |s| format!("/{}", s.join("/")));
        let call = format_args!("{method} {decoded}");
        let inserts = method == Method::POST && path.ends_with("/jobs");
        let kind = self.take(call, |kind| match kind {
            Kind::Busy | Kind::TooMany | Kind::RateLimit | Kind::Drop | Kind::DropAfter => !is_object,
            Kind::DropAfterInsert => inserts,
            Kind::StorageBusy => is_object,
            Kind::StorageLost => is_object && method == Method::PUT,
            _ => false,
        })?;
        tracing::debug!(%method, path, ?kind, "fault on purpose");
        let fault = |code, reason: &str| Failure {
            code,
            reason: reason.into(),
            message: "A fault on purpose. Retry.".into(),
            location: None,
            details: Vec::new(),
        };
        Some(match kind {
            Kind::TooMany => Bad::Refuse(fault(429, "rateLimitExceeded")),
            Kind::RateLimit => Bad::Refuse(fault(403, "rateLimitExceeded")),
            Kind::Drop => Bad::HangUp,
            Kind::DropAfter | Kind::DropAfterInsert => Bad::HangUpAfter,
            Kind::StorageLost => Bad::RefuseAfter(fault(503, "backendError")),
            _ => Bad::Refuse(fault(503, "backendError")),
        })
    }

    pub(super) fn on_insert(&self, id: &JobId) -> Fate {
        let held = self.take(format_args!("{id}"), |kind| matches!(kind, Kind::RunningPolls { .. }));
        if let Some(Kind::RunningPolls { polls }) = held {
            self.change(|state| state.running.insert(id.clone(), polls));
        }
        let kind = self.take(format_args!("{id}"), |kind| {
            matches!(kind, Kind::LateInsert { .. } | Kind::LoseJob | Kind::FailJob { .. } | Kind::RowCountOff)
        });
        match kind {
            Some(Kind::LateInsert { calls }) => Fate::Late(calls),
            Some(Kind::LoseJob) => Fate::Lost,
            Some(Kind::FailJob { reason }) => Fate::Runs(Some(Twist::Fails(reason))),
            Some(Kind::RowCountOff) => Fate::Runs(Some(Twist::RowCountOff)),
            _ => Fate::Runs(None),
        }
    }

    pub(super) fn hold(&self, calls: u32, late: Late) {
        self.change(|state| state.late.push((calls, late)));
    }

    /// The inserts whose time has come. To be asked once after every call; the first asking is that of the
    /// insert itself, so that one held for 1 lands after the next call.
    pub(super) fn landing(&self) -> Vec<Late> {
        if self.are_spent() {
            return Vec::new();
        }
        self.change(|state| {
            let (now, later): (Vec<_>, Vec<_>) = state.late.drain(..).partition(|(calls, _)| *calls == 0);
            state.late = later.into_iter().map(|(calls, late)| (calls - 1, late)).collect();
            now.into_iter().map(|(_, late)| late).collect()
        })
    }

    /// Whether a poll is to see the job as RUNNING.
    pub(super) fn shows_running(&self, id: &JobId) -> bool {
        !self.are_spent()
            && self.change(|state| match state.running.get_mut(id) {
                Some(polls) => {
                    *polls -= 1;
                    if *polls == 0 {
                        state.running.remove(id);
                    }
                    true
                }
                None => false,
            })
    }

    /// The same for who is no poll.
    pub(super) fn is_held_running(&self, id: &JobId) -> bool {
        !self.are_spent() && lock(&self.0.state).running.contains_key(id)
    }

    /// The first fault that fits; one time less of it is left.
    fn take(&self, what: fmt::Arguments<'_>, fits: impl Fn(&Kind) -> bool) -> Option<Kind> {
        if self.are_spent() {
            return None;
        }
        let what = what.to_string();
        self.change(|state| {
            let at = state.armed.iter().position(|f| fits(&f.kind) && what.contains(&f.scope))?;
            let kind = state.armed[at].kind.clone();
            state.armed[at].times -= 1;
            if state.armed[at].times == 0 {
                state.armed.remove(at);
            }
            Some(kind)
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.0.state);
        let changed = change(&mut state);
        let at_work = state.armed.len() + state.running.len() + state.late.len();
        self.0.at_work.store(at_work, Ordering::Release);
        changed
    }
}

/// How a job ends that was told to fail. `invalid` says what BigQuery says of a column of the wrong type.
pub(super) fn job_failure(reason: &str, configuration: &Value) -> Failure {
    let load = &configuration["load"];
    let column = load["schema"]["fields"][0]["name"].as_str().unwrap_or("unknown");
    let message = match (reason, load["sourceUris"][0].as_str()) {
        ("invalid", Some(file)) => format!(
            "Error while reading data, error message: Parquet column '{column}' has type BYTE_ARRAY which does \
             not match the target cpp_type INT64. File: {file}"
        ),
        _ => "A fault on purpose. The job had no effect.".to_owned(),
    };
    let code = if reason == "invalid" { 400 } else { 503 };
    Failure { code, reason: reason.to_owned(), message, location: None, details: Vec::new() }
}

pub(super) fn take_a_row_off(statistics: &mut Value) {
    let rows = statistics["load"]["outputRows"].as_str().and_then(|rows| rows.parse::<u64>().ok());
    statistics["load"]["outputRows"] = json!(rows.unwrap_or(0).saturating_sub(1).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_spec_has_a_name_a_number_and_perhaps_a_scope() {
        let busy = Fault { kind: Kind::Busy, times: 3, scope: "jobs".into() };
        assert_eq!(fault("503=3@jobs"), busy);
        let failing = Kind::FailJob { reason: "backendError".into() };
        assert_eq!(fault("fail-job=backendError").times, 1);
        assert_eq!(fault("fail-job=backendError:2"), Fault { kind: failing, times: 2, scope: "".into() });
        assert_eq!(fault("running-polls=5:2@20110101").kind, Kind::RunningPolls { polls: 5 });
        for wrong in [
            "",
            "503",
            "503=",
            "503=0",
            "503=-1",
            "503=1:1",
            "504=1",
            "fail-job=",
            "fail-job=a b",
            "running-polls=x",
            "late-insert=0",
            "late-insert=1:0",
            "storage-503=3 ",
        ] {
            let refused = wrong.parse::<Fault>().expect_err(wrong).to_string();
            assert!(refused.contains("rate-limit=N") && refused.contains("storage-lost=N"), "{refused}");
        }
    }

    #[test]
    fn a_fault_hits_what_it_fits_as_often_as_it_says_and_then_no_more() {
        let faults = Faults::default();
        faults.arm(fault("503=2@POST"));
        faults.arm(fault("storage-lost=1@.json"));
        let call = |method: &Method, path: &str, is_object| faults.on_call(method, path, is_object);
        assert!(call(&Method::GET, "/projects/p/jobs", false).is_none());
        assert!(call(&Method::POST, "/bucket/key", true).is_none());
        for _ in 0..2 {
            let hit = call(&Method::POST, "/projects/p/jobs", false);
            assert!(matches!(&hit, Some(Bad::Refuse(f)) if f.code == 503), "{hit:?}");
        }
        assert!(call(&Method::POST, "/projects/p/jobs", false).is_none());
        assert!(call(&Method::PUT, "/bucket/a.parquet", true).is_none());
        assert!(!faults.are_spent());
        assert!(matches!(call(&Method::PUT, "/bucket/a%2F0001%2Ejson", true), Some(Bad::RefuseAfter(_))));
        assert!(faults.are_spent());
    }

    #[test]
    fn a_job_is_held_running_for_as_many_polls_as_were_asked_for() {
        let faults = Faults::default();
        faults.arm(fault("running-polls=2@one"));
        let (one, two) = (JobId::parse("one").expect("an id"), JobId::parse("two").expect("an id"));
        assert!(matches!(faults.on_insert(&two), Fate::Runs(None)));
        assert!(matches!(faults.on_insert(&one), Fate::Runs(None)));
        assert!(faults.is_held_running(&one) && !faults.is_held_running(&two));
        assert_eq!([(); 3].map(|()| faults.shows_running(&one)), [true, true, false]);
        assert!(faults.are_spent());
    }
}
