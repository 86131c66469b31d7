//! A cell for each row, as bright as its number is large.

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::values::{Order, name, names, numbers};
use super::{Body, Chart, Collect, axis};
use crate::error::{Error, Result};

/// Cells side by side, and one below the other: more are smaller than can be seen.
const SIDE_MAX: usize = 500;

#[derive(Debug)]
pub(super) struct Cells {
    pub x: Side,
    pub y: Side,
    /// What the numbers are called.
    pub value: String,
    /// Row by row; NaN where there is none.
    pub values: Vec<f64>,
}

#[derive(Debug)]
pub(super) struct Side {
    pub name: String,
    pub labels: Vec<String>,
}

pub(super) struct Rows {
    schema: SchemaRef,
    sides: [Places; 2],
    values: Vec<f64>,
    rows_left_out: usize,
}

/// One side of each row, as it came.
struct Places {
    order: Order,
    numbers: Vec<f64>,
    names: Vec<String>,
}

impl Rows {
    pub(super) fn new(schema: &SchemaRef) -> Result<Rows> {
        let is_number = |place: usize| Order::of(schema.field(place).data_type()).is_number();
        if schema.fields().len() != 3 || !is_number(2) {
            return Err(Error::usage(
                "a heat map needs three columns: one for across, one for down, and numbers",
            )
            .hint("SELECT time / 3600 % 24 AS hour, day, COUNT(*) AS flows FROM flows GROUP BY 1, 2"));
        }
        let places = |place: usize| {
            let order = Order::of(schema.field(place).data_type());
            Places { order, numbers: Vec::new(), names: Vec::new() }
        };
        let sides = [places(0), places(1)];
        Ok(Rows { schema: schema.clone(), sides, values: Vec::new(), rows_left_out: 0 })
    }
}

impl Collect for Rows {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.values.len() + batch.num_rows() > SIDE_MAX * SIDE_MAX {
            return Err(too_many("", "more rows than that"));
        }
        for (place, side) in self.sides.iter_mut().enumerate() {
            let (field, array) = (self.schema.field(place), batch.column(place));
            match side.order {
                Order::None => side.names.extend(names(field, array)?),
                _ => side.numbers.extend(numbers(field, array)?),
            }
        }
        self.values.extend(numbers(self.schema.field(2), batch.column(2))?);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Chart> {
        let [x, y, value] = [0, 1, 2].map(|place| name(self.schema.field(place)));
        let title = format!("{value} by {x} and {y}");
        let (across, columns) = self.sides[0].laid_out(&x)?;
        let (down, rows) = self.sides[1].laid_out(&y)?;
        let mut values = vec![f64::NAN; across.len() * down.len()];
        let mut is_taken = vec![false; values.len()];
        for ((column, row), value) in columns.iter().zip(&rows).zip(&self.values) {
            let (Some(column), Some(row)) = (column, row) else {
                self.rows_left_out += 1;
                continue;
            };
            let cell = row * across.len() + column;
            if std::mem::replace(&mut is_taken[cell], true) {
                let (x_is, y_is) = (&across[*column], &down[*row]);
                return Err(Error::usage(format!("two rows have `{x}` {x_is} and `{y}` {y_is}"))
                    .hint("a heat map has one number for each of them: GROUP BY both"));
            }
            values[cell] = *value;
        }
        let mut notes = Vec::new();
        if self.rows_left_out > 0 {
            let rows = axis::long(self.rows_left_out as f64);
            notes.push(format!("rows left out, as `{x}` or `{y}` is no number: {rows}"));
        }
        let side = |name, labels| Side { name, labels };
        let body = match values.iter().all(|value| value.is_nan()) {
            true => Body::Nothing,
            false => Body::Cells(Cells { x: side(x, across), y: side(y, down), value, values }),
        };
        Ok(Chart { title, body, notes })
    }
}

impl Places {
    /// The labels of the side, and where on it each row lies.
    fn laid_out(&self, name: &str) -> Result<(Vec<String>, Vec<Option<usize>>)> {
        if self.order == Order::None {
            let mut places = HashMap::new();
            let mut labels: Vec<String> = Vec::new();
            let mut place = |name: &String| {
                *places.entry(name.clone()).or_insert_with(|| {
                    labels.push(name.clone());
                    labels.len() - 1
                })
            };
            let rows = self.names.iter().map(|name| Some(place(name))).collect();
            fits(name, labels.len())?;
            return Ok((labels, rows));
        }
        let mut values: Vec<f64> = self.numbers.iter().copied().filter(|value| !value.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        fits(name, values.len())?;
        let values = self.with_gaps(values);
        let place = |value: &f64| values.binary_search_by(|other| other.total_cmp(value)).ok();
        let rows = self.numbers.iter().map(place).collect();
        Ok((values.iter().map(|value| self.label(*value, &values)).collect(), rows))
    }

    /// Days and whole numbers that no row has are there too, and empty, as far as there is room for them.
    fn with_gaps(&self, values: Vec<f64>) -> Vec<f64> {
        let step = match self.order {
            Order::Whole => 1.0,
            Order::Day => axis::DAY_MILLISECONDS,
            _ => return values,
        };
        let (Some(first), Some(last)) = (values.first(), values.last()) else { return values };
        let count = (last - first) / step + 1.0;
        if count > SIDE_MAX as f64 {
            return values;
        }
        (0..count as usize).map(|number| first + number as f64 * step).collect()
    }

    fn label(&self, value: f64, all: &[f64]) -> String {
        let are_days = || all.iter().all(|value| value % axis::DAY_MILLISECONDS == 0.0);
        match self.order {
            Order::Day => axis::time(value, "%Y-%m-%d"),
            Order::Time if are_days() => axis::time(value, "%Y-%m-%d"),
            Order::Time => axis::time(value, "%Y-%m-%d %H:%M"),
            Order::Whole => format!("{value:.0}"),
            _ => axis::long(value),
        }
    }
}

fn fits(name: &str, count: usize) -> Result<()> {
    match count <= SIDE_MAX {
        true => Ok(()),
        false => Err(too_many(name, &axis::long(count as f64))),
    }
}

fn too_many(name: &str, count: &str) -> Error {
    let of = if name.is_empty() { String::new() } else { format!(" values of `{name}`") };
    Error::usage(format!("a heat map has room for {SIDE_MAX} by {SIDE_MAX} cells, and there are {count}{of}"))
        .hint("group them, for instance by `time / 3600`")
}
