//! How often the values of a column occur.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::values::{Order, name, numbers};
use super::{Body, Chart, Collect, axis};
use crate::error::{Error, Result};

/// Values that are held, 8 bytes each: the width of the bins is known only when all are there.
const VALUES_MAX: usize = 10_000_000;
/// More bins than these do not fit on a page.
const BINS_MAX: usize = 60;
/// Positive values that lie further apart than this have bins of rising width when even ones are too many.
const RATIO_MIN: f64 = 1000.0;

#[derive(Debug, PartialEq)]
pub(super) struct Bins {
    pub column: String,
    /// From each edge to before the next one.
    pub edges: Vec<f64>,
    /// One less than edges.
    pub counts: Vec<u64>,
    /// Nothing lies between a value and the next whole one.
    pub is_whole: bool,
    /// How the edges were found.
    pub rule: String,
}

pub(super) struct Rows {
    schema: SchemaRef,
    values: Vec<f64>,
    rows_left_out: usize,
}

impl Rows {
    pub(super) fn new(schema: &SchemaRef) -> Result<Rows> {
        let is_number = |field: &arrow::datatypes::FieldRef| Order::of(field.data_type()).is_number();
        if schema.fields().len() != 1 || !schema.fields().iter().all(is_number) {
            return Err(Error::usage("a histogram needs one column, of numbers")
                .hint("SELECT byte_count FROM flows WHERE day = 1"));
        }
        Ok(Rows { schema: schema.clone(), values: Vec::new(), rows_left_out: 0 })
    }
}

impl Collect for Rows {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.values.len() + batch.num_rows() > VALUES_MAX {
            let most = axis::long(VALUES_MAX as f64);
            return Err(Error::usage(format!("a histogram takes {most} values at most"))
                .hint("take fewer of them, for instance those of one day"));
        }
        let values = numbers(self.schema.field(0), batch.column(0))?;
        let before = self.values.len();
        self.values.extend(values.iter().filter(|value| !value.is_nan()));
        self.rows_left_out += before + values.len() - self.values.len();
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Chart> {
        self.values.sort_by(f64::total_cmp);
        let column = name(self.schema.field(0));
        let is_whole = Order::of(self.schema.field(0).data_type()) == Order::Whole;
        let noun = if self.values.len() == 1 { "value" } else { "values" };
        let title = format!("{column}: {} {noun}", axis::long(self.values.len() as f64));
        let mut notes = Vec::new();
        if self.rows_left_out > 0 {
            let rows = axis::long(self.rows_left_out as f64);
            notes.push(format!("rows without a number, left out: {rows}"));
        }
        let body = match Bins::new(column, &self.values, is_whole) {
            Some(bins) => {
                notes.push(bins.rule.clone());
                Body::Bins(bins)
            }
            None => Body::Nothing,
        };
        Ok(Chart { title, body, notes })
    }
}

impl Bins {
    /// Of values that rise. `None` when there are none.
    pub(super) fn new(column: String, values: &[f64], is_whole: bool) -> Option<Bins> {
        let (least, most) = (*values.first()?, *values.last()?);
        let (edges, rule) = edges(values, least, most, is_whole);
        let mut counts = vec![0; edges.len() - 1];
        for value in values {
            let bin = edges.partition_point(|edge| edge <= value).saturating_sub(1);
            counts[bin.min(edges.len() - 2)] += 1;
        }
        Some(Bins { column, edges, counts, is_whole, rule })
    }

    /// What a bin holds: `20 – 30`, the second one not included.
    pub(super) fn label(&self, bin: usize) -> String {
        let (from, to) = (self.edges[bin], self.edges[bin + 1]);
        match self.is_whole && to - from == 1.0 {
            true => axis::long(from),
            false => format!("{} – {}", axis::long(from), axis::long(to)),
        }
    }
}

fn edges(values: &[f64], least: f64, most: f64, is_whole: bool) -> (Vec<f64>, String) {
    let count = values.len() as f64;
    let quartile = |share: f64| values[((count - 1.0) * share) as usize];
    let spread = quartile(0.75) - quartile(0.25);
    // Freedman and Diaconis; where half of all values are one, Sturges.
    let (width, who) = match spread > 0.0 {
        true => (2.0 * spread / count.cbrt(), "Freedman and Diaconis"),
        false => ((most - least) / (1.0 + count.log2()), "Sturges"),
    };
    let width_min = if is_whole { 1.0 } else { 0.0 };
    if width <= 0.0 {
        let step = if is_whole || least == 0.0 { 1.0 } else { axis::nice(least.abs() / 10.0) };
        return even(least, most, step, "one value");
    }
    let step = axis::nice(width).max(width_min);
    if (most - least) / step < BINS_MAX as f64 {
        return even(least, most, step, who);
    }
    if least > 0.0 && most / least >= RATIO_MIN {
        return rising(least, most);
    }
    let step = axis::nice((most - least) / (BINS_MAX - 2) as f64).max(width_min);
    even(least, most, step, &format!("{BINS_MAX} bins at most"))
}

/// Edges at multiples of `step`.
fn even(least: f64, most: f64, step: f64, who: &str) -> (Vec<f64>, String) {
    let first = (least / step).floor();
    let bins = ((most / step).floor() - first) as usize + 1;
    let edges = (0..=bins).map(|number| (first + number as f64) * step).collect();
    (edges, format!("bins of {} ({who})", axis::long(step)))
}

/// Edges at 1, 2 and 5 times the powers of ten.
fn rising(least: f64, most: f64) -> (Vec<f64>, String) {
    let powers = least.log10().floor() as i32..=most.log10().floor() as i32 + 1;
    let all: Vec<f64> =
        powers.flat_map(|power| [1.0, 2.0, 5.0].map(|part| part * 10_f64.powi(power))).collect();
    let first = all.partition_point(|edge| *edge <= least).saturating_sub(1);
    let last = all.partition_point(|edge| *edge <= most).min(all.len() - 1);
    (all[first..=last].to_vec(), "each bin about twice as wide as the one before it".to_owned())
}
