//! One body read to its end: fetch and decode, checked against the window that was asked for.

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{filter_record_batch, max, min};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::Pipeline;
use crate::decode::{self, Decoder};
use crate::error::{Error, Kind, Result};
use crate::location::Secrets;
use crate::manifest::WindowCounts;
use crate::partition::{SECONDS_PER_DAY, Window};
use crate::reject::Reject;
use crate::schema::Format;
use crate::source::{Body, Source, excerpt};
use crate::telemetry::{Progress, Show, WindowProgress};

/// Of a body that is not what it should be, so much is looked at for the line that is shown of it.
const SHOWN_BYTES: usize = 1000;

/// A decoder for one body, and what its records must satisfy.
pub(super) struct Reading {
    decoder: Decoder,
    window: Window,
    time_index: usize,
    time_column: String,
    has_windows: bool,
    /// A record up to this second is too late for its own day.
    too_late: i64,
    secrets: Secrets,
}

/// Record batches as they are decoded, and how it ended.
#[derive(Debug)]
pub struct Records {
    pub input: mpsc::Receiver<Result<RecordBatch>>,
    pub(super) decoding: JoinSet<Result<Decoded>>,
}

/// What a body held, once all of it was read.
#[derive(Debug)]
pub struct Decoded {
    pub counts: WindowCounts,
    pub(super) rejects: Vec<Reject>,
}

/// Decodes one body as a backfill does. Nobody is shown how far it has come.
pub fn records(pipeline: &Pipeline, source: &Source, window: Window, body: Body) -> Result<Records> {
    let bar = Progress::new(Show::Off, 1).window("", None);
    Ok(Reading::new(pipeline, source, window, &body)?.start(body, bar))
}

impl Records {
    /// How the decoding ended, once all batches were taken.
    pub async fn end(mut self) -> Result<Decoded> {
        drop(self.input);
        let ended = self.decoding.join_next().await;
        ended.and_then(|ended| ended.ok()).ok_or_else(|| Error::failed("the decoder died"))?
    }
}

impl Decoded {
    /// Adds up the window; records that went missing or came from nowhere end the run.
    pub(super) fn account(
        &self,
        window: Window,
        staged: u64,
        duplicates: Option<u64>,
        allow_filter: bool,
    ) -> Result<WindowCounts> {
        let rows = self.counts.records - self.counts.rejects;
        // SQL that removes duplicates in a way of its own cannot be told from SQL that drops rows.
        let duplicates = duplicates.unwrap_or(0);
        let filtered = if allow_filter { rows.saturating_sub(staged + duplicates) } else { 0 };
        let counts = WindowCounts { staged, duplicates, filtered, ..self.counts };
        if counts.add_up() {
            return Ok(counts);
        }
        let WindowCounts { records, rejects, .. } = counts;
        Err(Error::new(
            Kind::Mismatch,
            format!(
                "{window}: {records} records are not {staged} staged + {duplicates} duplicates + {rejects} rejects"
            ),
        )
        .hint(
            "duplicates are counted where `stage.sql` removes them by QUALIFY ROW_NUMBER() = 1; if it leaves \
             out rows on purpose, set `transform.allow_filter = true`",
        ))
    }
}

impl Reading {
    pub(super) fn new(pipeline: &Pipeline, source: &Source, window: Window, body: &Body) -> Result<Reading> {
        let format = match pipeline.format {
            Some(format) => format,
            None => format_of(body.media_type.as_deref())?,
        };
        let (source_settings, limits) = (&pipeline.source, &pipeline.limits);
        let row_number = &source_settings.row_number_column;
        if format == Format::Csv && !row_number.is_empty() && source.has_windows() {
            return Err(Error::usage(
                "CSV lines are numbered from 1 in every window, so their numbers repeat",
            )
            .hint(
                "give all lines in one file without `{day}` in its name, or unset `source.row_number_column`",
            ));
        }
        let options = decode::Options {
            record_path: source_settings.record_path.split('/').map(str::to_owned).collect(),
            row_number_column: (!row_number.is_empty()).then(|| row_number.clone()),
            batch_rows: limits.batch_rows,
            record_bytes_max: limits.record_mib_max << 20,
            tag_bytes_max: limits.tag_kib_max << 10,
            attributes_max: limits.attributes_max,
            depth_max: limits.depth_max,
            strict_schema: source_settings.strict_schema,
            charset: body.media_type.as_deref().and_then(charset_of),
            rejects_kept: limits.rejects_kept,
            expect_records: true,
        };
        Ok(Reading {
            decoder: Decoder::new(format, &pipeline.columns, &options)?,
            window,
            time_index: pipeline.columns.index_of(&pipeline.time_column)?,
            time_column: pipeline.time_column.clone(),
            has_windows: source.has_windows(),
            too_late: too_late(window, pipeline.late_days),
            secrets: source.secrets(),
        })
    }

    /// Decodes in a task of its own, a few batches ahead of whoever takes them.
    pub(super) fn start(self, body: Body, bar: WindowProgress) -> Records {
        let (records, input) = mpsc::channel(4);
        let mut decoding = JoinSet::new();
        decoding.spawn(self.decode(body, records, bar));
        Records { input, decoding }
    }

    /// Decodes the body and sends its batches on. Ends with an error unless the transfer, the
    /// document and, where the source gives one, the record count all say that it was whole.
    async fn decode(
        self,
        body: Body,
        records: mpsc::Sender<Result<RecordBatch>>,
        bar: WindowProgress,
    ) -> Result<Decoded> {
        let ended = self.read_whole(body, &records, bar).await;
        if ended.is_err() {
            // Ends the SQL with an error too: a body that broke off is never taken for a short one.
            let _ = records.send(Err(cancelled())).await;
        }
        ended
    }

    async fn read_whole(
        mut self,
        mut body: Body,
        records: &mpsc::Sender<Result<RecordBatch>>,
        bar: WindowProgress,
    ) -> Result<Decoded> {
        let mut counts = WindowCounts::default();
        let mut rejects = Vec::new();
        let mut ended = false;
        let mut start = Vec::new();
        while !ended {
            let before = self.decoder.counts().records;
            let next = body.stream.next().await.transpose()?;
            let bytes = next.as_ref().map_or(0, |bytes| bytes.len() as u64);
            if let Some(next) = next.as_ref().filter(|_| start.len() < SHOWN_BYTES) {
                start.extend_from_slice(&next[..next.len().min(SHOWN_BYTES - start.len())]);
            }
            let decoded = match &next {
                Some(bytes) => self.decoder.push(bytes),
                None => self.decoder.finish(),
            };
            decoded.map_err(|error| match self.decoder.may_be_foreign() && !start.is_empty() {
                true => error.context(format!("the body starts with `{}`", excerpt(&start, &self.secrets))),
                false => error,
            })?;
            ended = next.is_none();
            counts.bytes += bytes;
            bar.add(self.decoder.counts().records - before, bytes);
            rejects.extend(self.decoder.take_rejects());
            while let Some(batch) = self.decoder.next_batch() {
                let rows = batch.num_rows();
                let inside = self.inside(batch)?;
                counts.late += self.late(&inside);
                counts.outside += (rows - inside.num_rows()) as u64;
                if inside.num_rows() > 0 {
                    records.send(Ok(inside)).await.map_err(|_| cancelled())?;
                }
            }
        }
        if !body.framed && body.records.is_none() && !self.decoder.has_an_end() {
            return Err(Error::failed(
                "nothing says whether the body is whole: it has no length, no end and no count",
            )
            .hint("let the source send Content-Length or chunks, or a count in `source.count_header`"));
        }
        for notice in self.decoder.notices() {
            let (what, first_record, count) = (notice.what.as_str(), notice.first_record, notice.count);
            match notice.is_drift() {
                true => {
                    tracing::warn!(window = %self.window, what, first_record, count, "the source changed")
                }
                false => {
                    tracing::info!(window = %self.window, what, first_record, count, "noticed in the body")
                }
            }
        }
        let decoded = self.decoder.counts();
        if let Some(promised) = body.records.filter(|promised| *promised != decoded.records) {
            let sent = decoded.records;
            return Err(
                Error::failed(format!("the source promised {promised} records and sent {sent}")).retryable()
            );
        }
        counts.records = decoded.records - counts.outside;
        counts.rejects = decoded.rejects;
        bar.doing("sorting out duplicates and writing");
        Ok(Decoded { counts, rejects })
    }

    /// Rows that are older than the window.
    fn late(&self, inside: &RecordBatch) -> u64 {
        let times = inside.column(self.time_index).as_primitive::<Int64Type>();
        let is_none_late = min(times).is_none_or(|first| first > self.window.after);
        if is_none_late {
            0
        } else {
            times.values().iter().filter(|t| **t <= self.window.after).count() as u64
        }
    }

    /// The rows inside the window, and those that are late. A source with windows must send no others.
    fn inside(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let times = batch.column(self.time_index).as_primitive::<Int64Type>();
        let (Some(first), Some(last)) = (min(times), max(times)) else { return Ok(batch) };
        let accepted = match self.has_windows {
            true => Window { after: self.too_late, ..self.window },
            false => self.window,
        };
        if accepted.contains(first) && accepted.contains(last) {
            return Ok(batch);
        }
        if self.has_windows {
            let wrong = if accepted.contains(first) { last } else { first };
            let hint = match wrong > self.window.before {
                true => {
                    "check that `source.query` passes `{after}` and `{before}` as the source expects them"
                }
                false => {
                    "check that `source.query` passes `{after}` and `{before}` as the source expects them; \
                    where records come late, `time.late_days` lets them into their own days"
                }
            };
            return Err(Error::failed(format!(
                "the source was asked for seconds ({}, {}] and sent a record with `{}` {wrong}",
                self.window.after, self.window.before, self.time_column
            ))
            .hint(hint));
        }
        let inside: BooleanArray = times.values().iter().map(|t| Some(self.window.contains(*t))).collect();
        filter_record_batch(&batch, &inside)
            .map_err(|e| Error::failed("cannot leave out rows outside of the range").caused_by(e))
    }
}

/// Without late days, what is before the window is too late; else so many days before that of its start.
fn too_late(window: Window, late_days: i64) -> i64 {
    match late_days {
        0 => window.after,
        days => (window.days().0 - 1).saturating_sub(days).saturating_mul(SECONDS_PER_DAY),
    }
}

/// Why one side of the channel ended: the other one did.
fn cancelled() -> Error {
    Error::new(Kind::Interrupted, "cancelled")
}

/// The charset of a Content-Type.
fn charset_of(media_type: &str) -> Option<String> {
    let parameters = media_type.split(';').skip(1);
    let mut named = parameters.filter_map(|parameter| parameter.trim().split_once('='));
    let (_, charset) = named.find(|(name, _)| name.trim_end().eq_ignore_ascii_case("charset"))?;
    let charset = charset.trim().trim_matches('"');
    (!charset.is_empty()).then(|| charset.to_owned())
}

fn format_of(media_type: Option<&str>) -> Result<Format> {
    let name = media_type.unwrap_or_default();
    let name = name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "application/xml" | "text/xml" => Ok(Format::Xml),
        "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => Ok(Format::Ndjson),
        "application/json" => Ok(Format::Json),
        "text/csv" => Ok(Format::Csv),
        // A login page, most likely: its root element then says so, and its start is shown.
        "text/html" => Ok(Format::Xml),
        other if other.ends_with("+xml") => Ok(Format::Xml),
        _ => Err(Error::failed(format!("cannot tell the format of a body of type `{name}`"))
            .hint("set `source.format` to xml, ndjson, json or csv")),
    }
}
