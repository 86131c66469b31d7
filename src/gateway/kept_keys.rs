//! Idempotency keys of requests whose rows are loaded: the segments go, the keys stay for their time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::letter::{Head, Letter};
use super::spool::{Folder, Log, Mended, Options, Refused, SegmentId, Spool, read};
use crate::effects::Clock;
use crate::error::{Error, Result};

/// A log of its own, in a folder of its own. Its segments go when their keys are too old.
#[derive(Debug)]
pub(super) struct KeptKeys {
    log: Log<Folder>,
    age_max: Duration,
    clock: Clock,
    /// Sealed segments and when the newest request in each came, the oldest first.
    sealed: VecDeque<(SegmentId, u64)>,
    /// When the newest request in the active segment came.
    newest: u64,
}

/// 1 MiB: some thousand keys. 256 MiB hold more keys than are remembered: on the disk they are shorter.
const OPTIONS: Options = Options { segment_bytes: 1 << 20, disk_bytes_max: 256 << 20 };

impl KeptKeys {
    /// Opens the log, with the requests in it whose keys are still remembered.
    pub(super) fn open(
        disk: Folder,
        age_max: Duration,
        clock: Clock,
    ) -> Result<(KeptKeys, Vec<Head>, Vec<Mended>)> {
        let (log, mended) = Log::open(disk.clone(), OPTIONS)?;
        let mut kept = KeptKeys { log, age_max, clock, sealed: VecDeque::new(), newest: 0 };
        let mut heads = Vec::new();
        let sealed: Vec<SegmentId> = kept.log.sealed().map(|sealed| sealed.id).collect();
        for id in sealed {
            let mut newest = 0;
            for (_, bytes) in read(&disk, id)? {
                let head = Letter::parse(&bytes)?.head;
                newest = newest.max(head.unix_ms);
                if !kept.is_old(head.unix_ms) {
                    heads.push(head);
                }
            }
            kept.sealed.push_back((id, newest));
        }
        kept.forget_old()?;
        Ok((kept, heads, mended))
    }

    /// Makes the keys in segments of `spool` durable here, before those go.
    ///
    /// A kill in between leaves a key in both, with one answer.
    pub(super) fn keep(&mut self, spool: &Arc<Spool<Folder>>, segments: &[SegmentId]) -> Result<()> {
        for id in segments {
            for (_, bytes) in spool.read(*id)? {
                let head = Letter::parse(&bytes)?.head;
                if head.key.is_some() && !self.is_old(head.unix_ms) {
                    self.append(head)?;
                }
            }
        }
        self.log.commit().map_err(failed)?;
        self.note_sealed();
        self.forget_old()
    }

    /// Ends a process's work.
    pub(super) fn close(&mut self) {
        self.log.close();
    }

    /// Whether the disk has failed to sync.
    pub(super) fn has_stopped(&self) -> bool {
        self.log.has_stopped()
    }

    fn append(&mut self, head: Head) -> Result<()> {
        self.newest = self.newest.max(head.unix_ms);
        let bytes = Letter { head, body: Vec::new() }.to_bytes()?;
        while let Err(refused) = self.log.append(&bytes) {
            // The oldest keys make room. They are more than the front remembers.
            let Some((oldest, _)) = self.sealed.pop_front().filter(|_| refused == Refused::Full) else {
                return Err(failed(refused));
            };
            self.log.remove(&[oldest])?;
        }
        if self.log.pending_bytes() >= 1 << 20 {
            self.log.commit().map_err(failed)?;
            self.note_sealed();
        }
        Ok(())
    }

    /// Takes note of segments that a commit has ended.
    fn note_sealed(&mut self) {
        let known = self.sealed.back().map_or(0, |(id, _)| id.number);
        let new: Vec<SegmentId> =
            self.log.sealed().map(|sealed| sealed.id).filter(|id| id.number > known).collect();
        self.sealed.extend(new.into_iter().map(|id| (id, self.newest)));
    }

    fn forget_old(&mut self) -> Result<()> {
        while let Some((id, newest)) = self.sealed.front().copied()
            && self.is_old(newest)
        {
            self.log.remove(&[id])?;
            self.sealed.pop_front();
        }
        Ok(())
    }

    fn is_old(&self, unix_ms: u64) -> bool {
        let age = self.clock.unix_millis().saturating_sub(unix_ms);
        u128::from(age) > self.age_max.as_millis()
    }
}

fn failed(refused: Refused) -> Error {
    Error::failed(format!("cannot keep idempotency keys: {refused}"))
}
