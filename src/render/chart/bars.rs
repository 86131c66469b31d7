//! A bar for each row.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::values::{Order, measures, name, names, numbers};
use super::{Body, Chart, Collect, Series, axis, titled};
use crate::error::{Error, Result};

/// More bars than these are neither read by anyone nor wide enough to be seen.
const BARS_MAX: usize = 500;

#[derive(Debug)]
pub(super) struct Bars {
    /// The first column: how it is called, and its values.
    pub by: String,
    pub labels: Vec<String>,
    /// Labels that lie on an axis, and need not all be written to be understood.
    pub is_ordered: bool,
    pub series: Vec<Series>,
}

pub(super) struct Rows {
    schema: SchemaRef,
    measures: Vec<usize>,
    bars: Bars,
    rows_left_out: usize,
}

impl Rows {
    pub(super) fn new(schema: &SchemaRef) -> Result<Rows> {
        let measures = measures(schema, 1);
        let first = schema.fields().first().filter(|_| !measures.is_empty());
        let first = first.ok_or_else(|| {
            Error::usage("a bar chart needs a column of labels, and one or more columns of numbers after it")
                .hint("SELECT day, COUNT(*) AS flows FROM flows GROUP BY day ORDER BY day")
        })?;
        let series = |place: &usize| Series { name: name(schema.field(*place)), values: Vec::new() };
        let bars = Bars {
            by: name(first),
            labels: Vec::new(),
            is_ordered: Order::of(first.data_type()) != Order::None,
            series: measures.iter().map(series).collect(),
        };
        Ok(Rows { schema: schema.clone(), measures, bars, rows_left_out: 0 })
    }
}

impl Collect for Rows {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let room = BARS_MAX - self.bars.labels.len();
        let taken = batch.num_rows().min(room);
        self.rows_left_out += batch.num_rows() - taken;
        let batch = batch.slice(0, taken);
        self.bars.labels.extend(names(self.schema.field(0), batch.column(0))?);
        for (series, place) in self.bars.series.iter_mut().zip(&self.measures) {
            series.values.extend(numbers(self.schema.field(*place), batch.column(*place))?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Chart> {
        let title = titled(&self.bars.series, &self.bars.by);
        let mut notes = Vec::new();
        if self.rows_left_out > 0 {
            let more = axis::long(self.rows_left_out as f64);
            notes.push(format!("the first {BARS_MAX} rows are drawn, {more} more are not"));
        }
        let body = if self.bars.labels.is_empty() { Body::Nothing } else { Body::Bars(self.bars) };
        Ok(Chart { title, body, notes })
    }
}
