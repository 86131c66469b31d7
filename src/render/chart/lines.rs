//! Numbers over numbers or times.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::values::{Order, measures, name, numbers};
use super::{Body, Chart, Collect, Series, axis, bounds, titled};
use crate::error::{Error, Result};

/// Rows that are held, 8 bytes for each column.
const POINTS_MAX: usize = 1_000_000;

#[derive(Debug)]
pub(super) struct Lines {
    pub by: String,
    pub order: Order,
    /// Rising.
    pub x: Vec<f64>,
    pub series: Vec<Series>,
}

pub(super) struct Rows {
    schema: SchemaRef,
    measures: Vec<usize>,
    lines: Lines,
    rows_left_out: usize,
}

impl Rows {
    pub(super) fn new(schema: &SchemaRef) -> Result<Rows> {
        let wanted = || {
            Error::usage(
                "a line chart needs a first column of numbers, dates or times, and columns of numbers after it",
            )
            .hint("SELECT time, SUM(byte_count) AS bytes FROM flows GROUP BY time")
        };
        let measures = measures(schema, 1);
        let first = schema.fields().first().filter(|_| !measures.is_empty()).ok_or_else(wanted)?;
        let order = Order::of(first.data_type());
        if order == Order::None {
            return Err(wanted());
        }
        let series = |place: &usize| Series { name: name(schema.field(*place)), values: Vec::new() };
        let series = measures.iter().map(series).collect();
        let lines = Lines { by: name(first), order, x: Vec::new(), series };
        Ok(Rows { schema: schema.clone(), measures, lines, rows_left_out: 0 })
    }
}

impl Collect for Rows {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.lines.x.len() + batch.num_rows() > POINTS_MAX {
            let most = axis::long(POINTS_MAX as f64);
            return Err(Error::usage(format!("a line chart takes {most} rows at most"))
                .hint("group them, for instance by `time / 3600`"));
        }
        let x = numbers(self.schema.field(0), batch.column(0))?;
        let is_placed = |row: &usize| !x[*row].is_nan();
        let placed: Vec<usize> = (0..x.len()).filter(is_placed).collect();
        self.rows_left_out += x.len() - placed.len();
        self.lines.x.extend(placed.iter().map(|row| x[*row]));
        for (series, place) in self.lines.series.iter_mut().zip(&self.measures) {
            let values = numbers(self.schema.field(*place), batch.column(*place))?;
            series.values.extend(placed.iter().map(|row| values[*row]));
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Chart> {
        let mut lines = self.lines;
        let mut rows: Vec<usize> = (0..lines.x.len()).collect();
        rows.sort_by(|a, b| lines.x[*a].total_cmp(&lines.x[*b]));
        let sorted = |values: &[f64]| rows.iter().map(|row| values[*row]).collect();
        lines.x = sorted(&lines.x);
        for series in &mut lines.series {
            series.values = sorted(&series.values);
        }
        let title = titled(&lines.series, &lines.by);
        let mut notes = Vec::new();
        if self.rows_left_out > 0 {
            let rows = axis::long(self.rows_left_out as f64);
            notes.push(format!("rows left out, as `{}` is no number: {rows}", lines.by));
        }
        let is_empty = bounds(lines.series.iter().flat_map(|series| &series.values)).is_none();
        let body = if is_empty { Body::Nothing } else { Body::Lines(lines) };
        Ok(Chart { title, body, notes })
    }
}
