//! Rows as a chart: in characters, or as a picture that needs no font and no program of its viewer's.
//!
//! Titles, axes and legends say what the columns are called: `AS` names them.

mod axis;
mod bars;
mod bins;
mod cells;
mod lines;
mod picture;
mod terminal;
mod values;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};

pub use terminal::bar;

/// What rows are drawn as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bar for each row and column of numbers; the first column names the rows.
    Bar,
    /// A line for each column of numbers over the first column.
    Line,
    /// How often the values of the only column of numbers occur.
    Hist,
    /// A cell for each row: its place across, its place down, and how bright it is.
    Heat,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Bar, Kind::Line, Kind::Hist, Kind::Heat];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Bar => "bar",
            Kind::Line => "line",
            Kind::Hist => "hist",
            Kind::Heat => "heat",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Kind> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
            Error::usage(format!("no chart `{text}`; there are {}", names.join(", ")))
        })
    }
}

/// Takes the rows that a chart is drawn from.
pub struct Collector {
    rows: Box<dyn Collect + Send>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

/// What a kind of chart has to do.
trait Collect {
    fn push(&mut self, batch: &RecordBatch) -> Result<()>;
    fn finish(self: Box<Self>) -> Result<Chart>;
}

impl Collector {
    /// Rows of `schema` as a chart of `kind`; an error where its columns are not those of such a chart.
    pub fn new(kind: Kind, schema: &SchemaRef) -> Result<Collector> {
        let rows: Box<dyn Collect + Send> = match kind {
            Kind::Bar => Box::new(bars::Rows::new(schema)?),
            Kind::Line => Box::new(lines::Rows::new(schema)?),
            Kind::Hist => Box::new(bins::Rows::new(schema)?),
            Kind::Heat => Box::new(cells::Rows::new(schema)?),
        };
        Ok(Collector { rows })
    }

    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows.push(batch)
    }

    pub fn finish(self) -> Result<Chart> {
        self.rows.finish()
    }
}

/// A chart that can be drawn.
#[derive(Debug)]
pub struct Chart {
    title: String,
    body: Body,
    /// What is not to be seen in it.
    notes: Vec<String>,
}

#[derive(Debug)]
enum Body {
    Bars(bars::Bars),
    Lines(lines::Lines),
    Bins(bins::Bins),
    Cells(cells::Cells),
    /// There was nothing to draw.
    Nothing,
}

impl Chart {
    /// In characters, `width` of them at most; `styled` with colours.
    pub fn terminal(&self, width: usize, styled: bool) -> Result<String> {
        terminal::drawn(self, width, styled)
    }

    pub fn svg(&self) -> Result<String> {
        picture::svg(self)
    }

    pub fn png(&self) -> Result<Vec<u8>> {
        picture::png(self)
    }
}

/// A column of numbers.
#[derive(Debug, Clone, PartialEq)]
struct Series {
    name: String,
    /// NaN where there is none.
    values: Vec<f64>,
}

/// Least and greatest of all numbers; `None` when there are none.
fn bounds<'v>(values: impl IntoIterator<Item = &'v f64>) -> Option<(f64, f64)> {
    let numbers = values.into_iter().copied().filter(|value| value.is_finite());
    numbers.fold(None, |bounds, value| match bounds {
        None => Some((value, value)),
        Some((least, most)) => Some((value.min(least), value.max(most))),
    })
}

/// `a, b by x`
fn titled(series: &[Series], by: &str) -> String {
    let names: Vec<_> = series.iter().map(|series| series.name.as_str()).collect();
    format!("{} by {by}", names.join(", "))
}
