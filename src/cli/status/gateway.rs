//! What a pipeline's gateway has loaded, and what waits.

use std::path::Path;

use indicatif::{DecimalBytes, HumanCount};
use serde::Serialize;

use super::{Tally, date_of};
use crate::cli::output;
use crate::error::{Error, Result};
use crate::gateway::spool::{Place, peek};
use crate::ledger::batches::Batch;
use crate::ledger::ended::Ended;
use crate::ledger::{Ledger, Standing};
use crate::manifest::Event;

#[derive(Serialize)]
pub(super) struct Shown {
    /// By state.
    batches: Tally,
    /// Loaded before these, and put together.
    batches_ended: usize,
    rows_loaded: u64,
    /// Of batches that are staged and not loaded yet.
    rows_open: u64,
    /// Rows that were streamed, and BigQuery would not have: `rejects --gateway` shows them.
    rows_refused: u64,
    /// Load jobs that failed, whatever became of their batch.
    jobs_failed: u64,
    written_unix_ms: Option<u64>,
    /// Why the last load failed, until it has not.
    reason: Option<String>,
    spool: Option<Spool>,
}

/// Rows that were acknowledged and are in no batch yet, or in an open one.
#[derive(Serialize)]
struct Spool {
    segments: u64,
    bytes: u64,
    set_aside: u64,
}

impl Shown {
    pub(super) fn of(ledger: &Ledger, spool: Option<&Path>) -> Result<Option<Shown>> {
        let batches = &ledger.batches;
        if batches.is_empty() && ledger.ended.is_empty() && spool.is_none() {
            return Ok(None);
        }
        let rows = |ended: bool| {
            let batches = batches.iter().filter(|batch| batch.has_ended() == ended);
            batches.map(Batch::rows).sum::<u64>()
        };
        let entries = batches.iter().flat_map(|batch| &batch.entries);
        let open = batches.iter().rev().filter(|batch| !batch.has_ended());
        Ok(Some(Shown {
            batches: Tally::of(batches.iter().map(Batch::standing)),
            batches_ended: ledger.num_ended(),
            rows_loaded: rows(true) + ledger.ended.iter().map(Ended::num_rows).sum::<u64>(),
            rows_open: rows(false),
            rows_refused: batches.iter().filter_map(Batch::streamed).map(|streamed| streamed.rejected).sum(),
            jobs_failed: entries.filter(|entry| matches!(entry.event, Event::Failed { .. })).count() as u64,
            written_unix_ms: batches.iter().map(|batch| batch.written_unix_ms).max(),
            reason: open.filter_map(Batch::reason).next(),
            spool: spool.map(Spool::of).transpose()?,
        }))
    }

    pub(super) fn text(&self) -> String {
        let Tally { done, empty, open, failed, missing, damaged } = self.batches;
        let loaded = match done + empty + self.batches_ended {
            1 => "1 batch".to_owned(),
            n => format!("{} batches", HumanCount(n as u64)),
        };
        let mut text = format!("gateway: {loaded} loaded with {}", output::counted(self.rows_loaded, "row"));
        for (n, word) in [(open, "open"), (failed, "failed"), (missing, "begun"), (damaged, "damaged")] {
            if n > 0 {
                text += &format!(", {} {word}", HumanCount(n as u64));
            }
        }
        if self.rows_open > 0 {
            text += &format!("; {} to be loaded", output::counted(self.rows_open, "row"));
        }
        if self.rows_refused > 0 {
            text += &format!("; {} refused", output::counted(self.rows_refused, "row"));
        }
        if let Some(written) = self.written_unix_ms {
            text += &format!("; last written {}", date_of(written));
        }
        text.push('\n');
        if let Some(reason) = &self.reason {
            text += &format!("  ✗ {reason}\n");
        }
        if let Some(Spool { segments, bytes, set_aside }) = &self.spool {
            let waiting = output::counted(*segments, "segment");
            text += &format!("  in the spool: {waiting}, {}", DecimalBytes(*bytes));
            if *set_aside > 0 {
                text += &format!("; {} damaged and set aside", HumanCount(*set_aside));
            }
            text.push('\n');
        }
        text
    }
}

impl Spool {
    fn of(folder: &Path) -> Result<Spool> {
        if !folder.is_dir() {
            return Err(Error::usage(format!("there is no spool at `{}`", folder.display()))
                .hint("`api2bq gateway --spool` makes one"));
        }
        let segments = peek(folder)?;
        let set_aside = segments.iter().filter(|segment| segment.place == Place::SetAside).count() as u64;
        let waiting = segments.iter().filter(|s| s.place != Place::SetAside && s.has_records());
        let (segments, bytes) = waiting.fold((0, 0), |(n, bytes), segment| (n + 1, bytes + segment.bytes));
        Ok(Spool { segments, bytes, set_aside })
    }
}

impl Tally {
    pub(super) fn of(standings: impl Iterator<Item = Standing> + Clone) -> Tally {
        let count = |standing| standings.clone().filter(|other| *other == standing).count();
        Tally {
            done: count(Standing::Done),
            empty: count(Standing::Empty),
            open: count(Standing::Open),
            failed: count(Standing::Failed),
            missing: count(Standing::Missing),
            damaged: count(Standing::Damaged),
        }
    }
}
