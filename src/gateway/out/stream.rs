//! Rows by insertAll: in the table within a second, and at least once.
//!
//! | what is there | next |
//! |---|---|
//! | a sealed segment | send its rows, each under an id of its own, until each has an answer |
//! | answers for all rows of some segments | those that were refused become a file of rejects |
//! | that | append `streamed`: rows = inserted + rejected |
//! | `streamed` | remember the keys of its requests, delete the segments |
//!
//! A kill before `streamed` makes the next start send the same rows under the same ids. BigQuery drops
//! what it has seen under an id within about a minute, as well as it can: nothing is lost, and hardly
//! anything comes twice. Who needs each row once takes the other way.
//!
//! # Why is the journal written only every few seconds?
//! An entry every half second is a hundred thousand objects a day. What waits for one is in the table
//! already.

use std::time::{Duration, Instant};

use chrono::NaiveDate;
use futures::future::join_all;

use super::batch::{begun, run_of};
use super::budget::Budget;
use super::rows::{Answered, Refused, Request, Sending, Split};
use super::{Out, rejects};
use crate::bigquery::{Insert, InsertRow, RowError};
use crate::config::GatewaySettings;
use crate::effects::Door;
use crate::error::{Error, Kind, Result};
use crate::gateway::spool::SegmentId;
use crate::gateway::track::Went;
use crate::ledger::batches::folder;
use crate::manifest::{Event, Streamed};
use crate::partition::Partition;
use crate::stage::journal::{Appended, Chain};

/// Requests at once: each waits for BigQuery most of its time.
const REQUESTS_AT_ONCE: usize = 8;
/// How long answers wait for the journal, and how many segments of them.
const SETTLE_EVERY: Duration = Duration::from_secs(5);
const ANSWERED_MAX: usize = 32;

/// Rows on their way, from one pass to the next.
#[derive(Debug)]
pub(super) struct Stream {
    settings: GatewaySettings,
    is_ready: bool,
    at_work: Option<Sending>,
    answered: Answered,
    /// What is being written into the journal: the same again until that is done.
    settling: Option<Answered>,
    settled: Instant,
}

impl Stream {
    pub(super) fn new(settings: GatewaySettings) -> Stream {
        let (at_work, answered, settling, settled) = (None, Answered::default(), None, Instant::now());
        Stream { settings, is_ready: false, at_work, answered, settling, settled }
    }

    fn has(&self, segment: SegmentId) -> bool {
        let settling = self.settling.iter().flat_map(|answered| &answered.segments);
        self.answered.segments.iter().chain(settling).any(|id| *id == segment)
    }
}

impl Out {
    /// Seals what there is, sends all that is sealed, and from time to time writes down what was answered.
    pub(super) async fn stream_waiting(&mut self, stream: &mut Stream) -> Result<()> {
        let sent = self.send_waiting(stream).await;
        // What was answered by then needs no BigQuery any more.
        if stream.settling.is_some() || stream.settled.elapsed() >= SETTLE_EVERY {
            self.settle(stream).await?;
        }
        sent
    }

    async fn send_waiting(&mut self, stream: &mut Stream) -> Result<()> {
        if !stream.is_ready {
            self.make_table().await?;
            stream.is_ready = true;
        }
        let has_sealed = self.seal().await;
        loop {
            let sealed = self.whole_segments(|id| !stream.has(id)).await?;
            if self.looks_back && self.end_begun(&sealed).await? {
                continue;
            }
            self.looks_back = false;
            if sealed.is_empty() {
                return has_sealed;
            }
            for segment in sealed {
                self.send(stream, segment).await?;
                if stream.answered.segments.len() >= ANSWERED_MAX {
                    self.settle(stream).await?;
                }
            }
        }
    }

    /// Ends a batch that has an intent in the journal, whose rows may be in the table: then they are not
    /// sent as well. True when there was one, or what was left of segments that were streamed.
    async fn end_begun(&mut self, sealed: &[SegmentId]) -> Result<bool> {
        if self.forget_streamed(sealed).await? {
            return Ok(true);
        }
        let Some(first) = sealed.first() else { return Ok(false) };
        let pipeline = &self.destination.pipeline;
        if !begun(&self.store, pipeline, sealed).await?.contains_key(&first.key()) {
            return Ok(false);
        }
        let mut budget = Budget::read(&self.store, pipeline, self.pace.jobs_per_day).await?;
        self.drive(sealed, &mut budget).await?;
        Ok(true)
    }

    /// Lets segments go that the journal says were streamed, if a kill left any. True when it did.
    pub(super) async fn forget_streamed(&mut self, sealed: &[SegmentId]) -> Result<bool> {
        let Some(first) = sealed.first().map(SegmentId::key) else { return Ok(false) };
        let folder = format!("{}/{first}", folder(&self.destination.pipeline));
        let chain = Chain::read(&self.store, &run_of(&first), folder).await?;
        chain.make_durable().await?;
        let Some(streamed) = chain.state().streamed else { return Ok(false) };
        let done = sealed.iter().copied().filter(|id| streamed.segments.contains(&id.key())).collect();
        self.forget(done, Went::Streamed(streamed)).await?;
        Ok(true)
    }

    /// Sends the rows of a segment that have no answer yet.
    async fn send(&mut self, stream: &mut Stream, segment: SegmentId) -> Result<()> {
        let sending = match stream.at_work.take().filter(|sending| sending.segment == segment) {
            Some(sending) => sending,
            None => Sending::read(&self.spool, segment, &self.destination.columns)?,
        };
        let sending = stream.at_work.insert(sending);
        let mut failed = None;
        while failed.is_none() && !sending.waiting.is_empty() {
            let at_once = sending.waiting.len().min(REQUESTS_AT_ONCE);
            let requests = sending.waiting[..at_once].iter();
            let answers = join_all(requests.map(|request| self.insert(&stream.settings, request))).await;
            let requests: Vec<Request> = sending.waiting.drain(..at_once).collect();
            for (request, answer) in requests.into_iter().zip(answers) {
                self.metrics.insert(answer.is_ok());
                match answer {
                    Ok(refused) => sending.answered(request.rows.len(), refused),
                    Err(error) => {
                        sending.waiting.push(request);
                        failed = Some(error);
                    }
                }
            }
        }
        match (failed, stream.at_work.take()) {
            (None, Some(sent)) => {
                self.metrics.streamed(sent.inserted, sent.refused.len() as u64);
                stream.answered.add(sent)
            }
            (None, None) => Ok(()),
            (Some(error), sending) => {
                stream.at_work = sending;
                Err(error)
            }
        }
    }

    /// One request, until each of its rows is in the table or refused for good.
    async fn insert(&self, settings: &GatewaySettings, request: &Request) -> Result<Vec<Refused>> {
        let table = &self.destination.table;
        let table = match settings.template_suffix.is_empty() {
            // Into the day on which they came, as load jobs do.
            true => table.partition(Partition::of_day(NaiveDate::default(), request.day)?),
            // The service takes no day together with a suffix.
            false => table.clone(),
        };
        let mut left: Vec<usize> = (0..request.rows.len()).collect();
        let mut refused = Vec::new();
        let mut tries = self.retry.tries(&self.effects, Door::BigQuery, format!("rows for table `{table}`"));
        loop {
            let row = |at: &usize| {
                let row = &request.rows[*at];
                InsertRow { id: row.insert_id(), json: &row.json }
            };
            let rows: Vec<InsertRow<'_>> = left.iter().map(row).collect();
            let insert = Insert {
                table: &table,
                template_suffix: &settings.template_suffix,
                skip_invalid_rows: settings.skip_invalid_rows,
                ignore_unknown_values: settings.ignore_unknown_values,
                rows: &rows,
            };
            let errors = self.bigquery.insert_all(&insert).await?;
            let Split { again, refused: wrong, waits } = request.split(&left, errors);
            refused.extend(wrong);
            if again.is_empty() {
                return Ok(refused);
            }
            if let Some(why) = waits {
                let message = format!("{} of {} rows were not stored: {why}", again.len(), left.len());
                tries.wait_or(Error::failed(message).retryable()).await?;
            }
            left = again;
        }
    }

    /// Writes down what was answered, and lets its segments go.
    pub(super) async fn settle(&mut self, stream: &mut Stream) -> Result<()> {
        loop {
            let answered = match stream.settling.take() {
                Some(answered) => answered,
                None => std::mem::take(&mut stream.answered),
            };
            let answered = stream.settling.insert(answered);
            if answered.segments.is_empty() {
                (stream.settling, stream.settled) = (None, Instant::now());
                return Ok(());
            }
            let streamed = self.write_down(answered, &stream.settings.template_suffix).await?;
            let segments = answered.segments.clone();
            self.forget(segments, Went::Streamed(&streamed)).await?;
            stream.settling = None;
        }
    }

    /// Appends `streamed`, unless that was done before an error or a stop.
    async fn write_down(&self, answered: &Answered, template_suffix: &str) -> Result<Streamed> {
        let nothing = || Error::failed("there are no segments whose rows were streamed");
        let first = answered.segments.first().map(SegmentId::key).ok_or_else(nothing)?;
        let folder = format!("{}/{first}", folder(&self.destination.pipeline));
        let mut chain = Chain::read(&self.store, &run_of(&first), folder.clone()).await?;
        chain.make_durable().await?;
        if let Some(streamed) = chain.state().streamed {
            return Ok(streamed.clone());
        }
        let (rows, inserted, rejected) = (answered.rows, answered.inserted, answered.refused.len() as u64);
        let streamed = Streamed {
            segments: answered.segments.iter().map(SegmentId::key).collect(),
            table: format!("{}{template_suffix}", self.destination.table),
            rows,
            inserted,
            rejected,
            rejects: rejects::write(&self.store, &folder, &answered.refused).await?,
        };
        if chain.append(Event::Streamed(streamed.clone())).await? == Appended::Theirs {
            let message = format!("somebody else writes to `{folder}` of the staging area");
            return Err(Error::new(Kind::Fenced, message));
        }
        tracing::info!(rows, inserted, rejected, "rows streamed");
        if let Some(Refused { row, error }) = answered.refused.first() {
            // Without BigQuery's message, which has the value in it.
            let RowError { reason, location, .. } = error;
            tracing::warn!(
                rejected,
                first = row.insert_id(),
                field = location,
                reason,
                "BigQuery refuses rows; they are among the rejects"
            );
        }
        Ok(streamed)
    }
}
