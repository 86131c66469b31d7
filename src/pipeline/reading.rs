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
use crate::manifest::WindowCounts;
use crate::partition::Window;
use crate::reject::Reject;
use crate::schema::Format;
use crate::source::{Body, Source};
use crate::telemetry::WindowProgress;

/// A decoder for one body, and what its records must satisfy.
pub(super) struct Reading {
    decoder: Decoder,
    window: Window,
    time_index: usize,
    time_column: String,
    has_windows: bool,
}

/// Record batches as they are decoded, and how it ended.
pub(super) struct Records {
    pub(super) input: mpsc::Receiver<Result<RecordBatch>>,
    pub(super) decoding: JoinSet<Result<Decoded>>,
}

/// What a body held, once all of it was read.
pub(super) struct Decoded {
    pub(super) counts: WindowCounts,
    pub(super) rejects: Vec<Reject>,
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
            depth_max: limits.depth_max,
            rejects_kept: limits.rejects_kept,
            expect_records: true,
        };
        Ok(Reading {
            decoder: Decoder::new(format, &pipeline.columns, &options)?,
            window,
            time_index: pipeline.columns.index_of(&pipeline.time_column)?,
            time_column: pipeline.time_column.clone(),
            has_windows: source.has_windows(),
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
        while !ended {
            let before = self.decoder.counts().records;
            let bytes = match body.stream.next().await.transpose()? {
                Some(bytes) => {
                    self.decoder.push(&bytes)?;
                    bytes.len() as u64
                }
                None => {
                    self.decoder.finish()?;
                    ended = true;
                    0
                }
            };
            counts.bytes += bytes;
            bar.add(self.decoder.counts().records - before, bytes);
            rejects.extend(self.decoder.take_rejects());
            while let Some(batch) = self.decoder.next_batch() {
                let rows = batch.num_rows();
                let inside = self.inside(batch)?;
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

    /// The rows inside the window. A source with windows must send no others.
    fn inside(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let times = batch.column(self.time_index).as_primitive::<Int64Type>();
        let (Some(first), Some(last)) = (min(times), max(times)) else { return Ok(batch) };
        if self.window.contains(first) && self.window.contains(last) {
            return Ok(batch);
        }
        if self.has_windows {
            let wrong = if self.window.contains(first) { last } else { first };
            return Err(Error::failed(format!(
                "the source was asked for seconds ({}, {}] and sent a record with `{}` {wrong}",
                self.window.after, self.window.before, self.time_column
            ))
            .hint("check that `source.query` passes `{after}` and `{before}` as the source expects them"));
        }
        let inside: BooleanArray = times.values().iter().map(|t| Some(self.window.contains(*t))).collect();
        filter_record_batch(&batch, &inside)
            .map_err(|e| Error::failed("cannot leave out rows outside of the range").caused_by(e))
    }
}

/// Why one side of the channel ended: the other one did.
fn cancelled() -> Error {
    Error::new(Kind::Interrupted, "cancelled")
}

fn format_of(media_type: Option<&str>) -> Result<Format> {
    let name = media_type.unwrap_or_default();
    let name = name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "application/xml" | "text/xml" => Ok(Format::Xml),
        "application/x-ndjson" | "application/jsonl" | "application/x-jsonlines" => Ok(Format::Ndjson),
        "application/json" => Ok(Format::Json),
        "text/csv" => Ok(Format::Csv),
        other if other.ends_with("+xml") => Ok(Format::Xml),
        _ => Err(Error::failed(format!("cannot tell the format of a body of type `{name}`"))
            .hint("set `source.format` to xml, ndjson, json or csv")),
    }
}
