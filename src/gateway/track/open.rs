//! What the journal says of segments that are not loaded yet.

use std::collections::HashSet;
use std::path::Path;

use chrono::NaiveDate;

use super::instance::State;
use crate::error::Result;
use crate::gateway::letter::Head;
use crate::gateway::spool::{self, Place, SegmentId};
use crate::ledger::Standing;
use crate::ledger::batches::{Segments, folder, run_of};
use crate::manifest::Event;
use crate::partition::{Partition, SECONDS_PER_DAY};
use crate::stage::Store;
use crate::stage::journal::Chain;

/// The batch that is being loaded, or will be next: that of the oldest sealed segment.
#[derive(Debug, Default)]
pub(super) struct Open {
    segments: HashSet<String>,
    /// `None`: there is no such batch yet.
    standing: Option<Standing>,
    /// What was sent for each day: its job, and why that failed.
    jobs: Vec<(Partition, String, Option<String>)>,
}

/// What is known of one request in the spool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stands {
    pub(super) state: State,
    pub(super) job_id: Option<String>,
    pub(super) reason: Option<String>,
}

impl Open {
    /// Asks the journal, unless nothing is sealed. What a gateway was killed over is known from the start.
    pub(super) async fn read(store: &Store, pipeline: &str, spool: &Path) -> Result<Open> {
        let mut sealed = spool::peek(spool)?.into_iter().filter(|segment| segment.place == Place::Sealed);
        let Some(oldest) = sealed.next() else { return Ok(Open::default()) };
        let Some(key) = oldest.id()?.map(|id| id.key()) else { return Ok(Open::default()) };
        let folder = format!("{}/{key}", folder(pipeline));
        let Some(decided) = Segments::read(store, &folder).await? else { return Ok(Open::default()) };
        let chain = Chain::read(store, &run_of(&key), folder).await?;
        let mut jobs = Vec::new();
        for entry in chain.entries() {
            match &entry.event {
                Event::Intent(manifest) => {
                    let staged = manifest.partitions.iter();
                    jobs.extend(staged.map(|staged| (staged.partition, staged.job_id.clone(), None)));
                }
                Event::Failed { partition, job_id, reason, .. } => {
                    jobs.push((*partition, job_id.clone(), Some(reason.clone())));
                }
                Event::Loaded { partitions } => {
                    jobs.extend(partitions.iter().map(|job| (job.partition, job.job_id.clone(), None)));
                }
                Event::Stopped { .. } | Event::Streamed(_) => {}
            }
        }
        let standing = Some(Standing::of(chain.entries(), None));
        let segments = chain.state().manifest.map_or(&decided.segments[..], |m| decided.intended(m));
        Ok(Open { segments: segments.iter().cloned().collect(), standing, jobs })
    }

    /// How far a request has come that is in a segment.
    pub(super) fn stands(&self, place: Place, segment: Option<SegmentId>, head: &Head) -> Stands {
        let stands = |state| Stands { state, job_id: None, reason: None };
        match place {
            Place::Active => return stands(State::Accepted),
            Place::SetAside => {
                let reason =
                    "its segment was damaged on the disk and is set aside; nothing more is loaded from it";
                return Stands { reason: Some(reason.to_owned()), ..stands(State::Failed) };
            }
            Place::Sealed => {}
        }
        if segment.is_none_or(|id| !self.segments.contains(&id.key())) {
            return stands(State::Sealed);
        }
        let day = day_of(head);
        let last = self.jobs.iter().rev().find(|(partition, ..)| Some(*partition) == day);
        let Some((_, job_id, reason)) = last else { return stands(State::Sealed) };
        let state = match self.standing {
            // Its segments are about to go.
            Some(Standing::Done | Standing::Empty) => State::Loaded,
            // Of a batch of two days one may have failed; the other one waits with it.
            Some(Standing::Failed) if reason.is_some() => State::Failed,
            _ => State::Sealed,
        };
        Stands { state, job_id: Some(job_id.clone()), reason: reason.clone() }
    }
}

/// The partition that the rows of a request go to: the day on which it came.
pub(super) fn day_of(head: &Head) -> Option<Partition> {
    let day = i64::try_from(head.unix_ms / 1000).ok()?.div_euclid(SECONDS_PER_DAY) + 1;
    Partition::of_day(NaiveDate::default(), day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_the_open_batch_stands_as_its_day_does_and_others_wait() {
        let day = |unix_ms| {
            let head = serde_json::json!({
                "id": "", "pipeline": "", "unix_ms": unix_ms, "user": "", "is_lines": false, "accepted": 1,
            });
            serde_json::from_value::<Head>(head).unwrap()
        };
        let (monday, tuesday) = (day(86_400_000 - 1), day(86_400_000));
        let job = |head: &Head, id: &str, why: Option<&str>| {
            (day_of(head).unwrap(), id.to_owned(), why.map(str::to_owned))
        };
        let segment = SegmentId { number: 1, nonce: 1 };
        let mut open = Open {
            segments: HashSet::from([segment.key()]),
            standing: Some(Standing::Failed),
            jobs: vec![
                job(&monday, "m0", None),
                job(&tuesday, "t0", None),
                job(&tuesday, "t0", Some("quota")),
            ],
        };
        let stands = |open: &Open, place, segment, head| {
            let Stands { state, job_id, reason } = open.stands(place, segment, head);
            (state, job_id, reason)
        };
        let text = |text: &str| Some(text.to_owned());
        let failed = (State::Failed, text("t0"), text("quota"));
        assert_eq!(stands(&open, Place::Sealed, Some(segment), &tuesday), failed);
        assert_eq!(stands(&open, Place::Sealed, Some(segment), &monday), (State::Sealed, text("m0"), None));
        let other = SegmentId { number: 2, nonce: 1 };
        assert_eq!(stands(&open, Place::Sealed, Some(other), &tuesday), (State::Sealed, None, None));
        assert_eq!(stands(&open, Place::Active, Some(other), &tuesday), (State::Accepted, None, None));
        assert_eq!(stands(&open, Place::SetAside, None, &tuesday).0, State::Failed);
        open.jobs.push(job(&tuesday, "t1", None));
        open.standing = Some(Standing::Done);
        let loaded = (State::Loaded, text("t1"), None);
        assert_eq!(stands(&open, Place::Sealed, Some(segment), &tuesday), loaded, "before its segment goes");
    }
}
