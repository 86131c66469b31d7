//! Collects decoded records: whole ones into Arrow builders, wrong ones into rejects.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::Options;
use super::build::Builder;
use super::notices::{Drift, Notice, Spelling};
use super::value::{Value, parse};
use crate::error::{Error, Result};
use crate::reject::{Place, Reject};
use crate::schema::{Column, Columns, Mode};

/// `records = rows + rejects`, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub records: u64,
    pub rows: u64,
    pub rejects: u64,
}

/// Where a syntax puts the fields of the record it reads.
///
/// A record's values wait in one arena until the record is whole and every value has been checked:
/// a builder never holds half a record.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<Column>,
    schema: SchemaRef,
    builders: Vec<Builder>,
    arena: Vec<u8>,
    spans: Vec<Span>,
    values: Vec<Value>,
    wrong: Option<(&'static str, Option<usize>)>,
    batch_rows: usize,
    rows_in_batch: usize,
    bytes_in_batch: usize,
    batches: VecDeque<RecordBatch>,
    rejects: Vec<Reject>,
    rejects_left: usize,
    reject_bytes_left: usize,
    counts: Counts,
    drift: Drift,
}

/// A batch of long records ends here, whatever its rows: 4 MiB, thirty times the usual batch.
const BATCH_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Span {
    Absent,
    Null,
    Text(Range<usize>),
}

impl Rows {
    pub(super) fn new(columns: &Columns, options: &Options) -> Self {
        let columns: Vec<Column> = columns.iter().cloned().collect();
        let schema = Columns::arrow(&Columns::new(columns.clone()).expect("checked when they were made"));
        Rows {
            builders: columns.iter().map(|c| Builder::new(c.kind, options.batch_rows)).collect(),
            spans: vec![Span::Absent; columns.len()],
            values: Vec::with_capacity(columns.len()),
            drift: Drift::new(columns.len(), options.strict_schema),
            columns,
            schema,
            arena: Vec::new(),
            wrong: None,
            batch_rows: options.batch_rows.max(1),
            rows_in_batch: 0,
            bytes_in_batch: 0,
            batches: VecDeque::new(),
            rejects: Vec::new(),
            rejects_left: options.rejects_kept,
            reject_bytes_left: options.record_bytes_max,
            counts: Counts::default(),
        }
    }

    /// Forgets what was set since the last record ended.
    pub(super) fn begin(&mut self) {
        self.arena.clear();
        self.spans.fill(Span::Absent);
        self.wrong = None;
        self.drift.begin();
    }

    /// What the record holds beside its columns.
    pub(super) fn drift(&mut self) -> &mut Drift {
        &mut self.drift
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        self.drift.notices()
    }

    /// Starts the value of a column; a second one for the same column spoils the record.
    pub(super) fn start(&mut self, column: usize) {
        if self.spans[column] != Span::Absent {
            self.spoil("duplicate_field", Some(column));
        }
        self.spans[column] = Span::Text(self.arena.len()..self.arena.len());
    }

    /// Adds text, which is UTF-8, to the value started last.
    pub(super) fn text(&mut self, column: usize, text: &[u8]) {
        self.arena.extend_from_slice(text);
        if let Span::Text(range) = &mut self.spans[column] {
            range.end = self.arena.len();
        }
    }

    pub(super) fn null(&mut self, column: usize) {
        self.start(column);
        self.spans[column] = Span::Null;
    }

    pub(super) fn is_spoilt_by(&self, reason: &str) -> bool {
        self.wrong.is_some_and(|(wrong, _)| wrong == reason)
    }

    /// Marks the record as a reject; the first reason stays.
    pub(super) fn spoil(&mut self, reason: &'static str, column: Option<usize>) {
        self.wrong.get_or_insert((reason, column));
    }

    /// Marks the record as a reject for a reason that outweighs those found before.
    pub(super) fn overrule(&mut self, reason: &'static str) {
        self.wrong = Some((reason, None));
    }

    /// Ends the record that starts at `place` and came as `raw`: a row if all is right, else a reject.
    pub(super) fn end(&mut self, place: Place, raw: &[u8]) -> Result<()> {
        self.counts.records += 1;
        self.drift.end(&self.columns, self.counts.records, place.offset)?;
        if self.wrong.is_none() {
            self.check();
        }
        if let Some((reason, column)) = self.wrong {
            self.reject(place, reason, column, raw);
            return Ok(());
        }
        for ((builder, value), span) in self.builders.iter_mut().zip(&self.values).zip(&self.spans) {
            let text = match span {
                Span::Text(range) => &self.arena[range.clone()],
                Span::Absent | Span::Null => &[],
            };
            builder.append(*value, text);
        }
        self.count_row(raw.len())
    }

    /// One column, for a record that is read straight into all of them: it appends a value to each, and
    /// then [`Rows::took`] counts it, or [`Rows::undo`] takes back whatever it appended.
    pub(super) fn builder(&mut self, column: usize) -> &mut Builder {
        &mut self.builders[column]
    }

    /// Counts a record of so many bytes that is in the columns already.
    pub(super) fn took(&mut self, bytes: usize) -> Result<()> {
        self.counts.records += 1;
        self.count_row(bytes)
    }

    pub(super) fn undo(&mut self) {
        for builder in &mut self.builders {
            builder.truncate(self.rows_in_batch);
        }
    }

    fn count_row(&mut self, bytes: usize) -> Result<()> {
        self.counts.rows += 1;
        self.rows_in_batch += 1;
        self.bytes_in_batch += bytes;
        let full = self.rows_in_batch == self.batch_rows || self.bytes_in_batch >= BATCH_BYTES;
        if full { self.flush() } else { Ok(()) }
    }

    /// The number of the record being read, from 1.
    pub(super) fn record_number(&self) -> u64 {
        self.counts.records + 1
    }

    /// Finishes the batch in work, if it has rows.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.rows_in_batch == 0 {
            return Ok(());
        }
        let arrays: Result<Vec<_>, _> = self.builders.iter_mut().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows_in_batch));
        let batch = arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options))
            .map_err(|e| Error::failed("cannot build a record batch").caused_by(e))?;
        self.batches.push_back(batch);
        self.rows_in_batch = 0;
        self.bytes_in_batch = 0;
        Ok(())
    }

    pub(super) fn next_batch(&mut self) -> Option<RecordBatch> {
        self.batches.pop_front()
    }

    pub(super) fn take_rejects(&mut self) -> Vec<Reject> {
        std::mem::take(&mut self.rejects)
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    fn check(&mut self) {
        self.values.clear();
        for (i, (column, span)) in self.columns.iter().zip(&self.spans).enumerate() {
            match read(column, span, &self.arena) {
                Ok(value) => self.values.push(value),
                Err(reason) => {
                    // A text that stands for no number is a text where a number should be.
                    let is_text = self.drift.is_spelt(i, Spelling::Text) && reason.starts_with("not_a");
                    self.wrong = Some((if is_text { "type_mismatch" } else { reason }, Some(i)));
                    return;
                }
            }
        }
    }

    fn reject(&mut self, place: Place, reason: &str, column: Option<usize>, raw: &[u8]) {
        self.counts.rejects += 1;
        // All kept rejects together take no more memory than one record may.
        if self.rejects_left == 0 || raw.len() > self.reject_bytes_left {
            return;
        }
        self.rejects_left -= 1;
        self.reject_bytes_left -= raw.len();
        let reason = match column {
            Some(column) => format!("{reason}:{}", self.columns[column].name),
            None => reason.to_owned(),
        };
        let index = self.counts.records - 1;
        self.rejects.push(Reject { index, place, reason, raw: raw.to_vec() });
    }
}

fn read(column: &Column, span: &Span, arena: &[u8]) -> Result<Value, &'static str> {
    match span {
        Span::Text(range) => parse(column.kind, &arena[range.clone()]),
        _ if column.mode == Mode::Nullable => Ok(Value::Null),
        Span::Null => Err("null_in_required"),
        Span::Absent => Err("missing_field"),
    }
}
