//! The four kinds of charts, drawn.

use plotters::backend::DrawingBackend;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor};

use super::{COLORS, Drawn, FAINT, INK, Page, Plot, TEXT_SIZE};
use crate::render::chart::axis::{Axis, long, short};
use crate::render::chart::bars::Bars;
use crate::render::chart::bins::Bins;
use crate::render::chart::cells::{Cells, Side};
use crate::render::chart::lines::Lines;
use crate::render::chart::values::Order;
use crate::render::chart::{Series, bounds};

/// From little to much: dark to bright, the same for everybody's eyes.
const HEAT: [RGBColor; 5] = [
    RGBColor(68, 1, 84),
    RGBColor(59, 82, 139),
    RGBColor(33, 145, 140),
    RGBColor(94, 201, 98),
    RGBColor(253, 231, 37),
];

impl<B: DrawingBackend> Page<B> {
    /// Upright bars, one beside the other.
    pub(super) fn bars(&self, bars: &Bars, plot: Plot) -> Drawn<B> {
        let plot = Plot { bottom: plot.bottom - 3 * TEXT_SIZE, ..self.legend(&bars.series, plot)? };
        let y = Axis::rounded(with_zero(&bars.series), 6);
        let plot = self.left_axis(&y, plot)?;
        let count = bars.labels.len() as f64;
        let zero = plot.y(y.share(0.0));
        for (number, series) in bars.series.iter().enumerate() {
            let share = 1.0 / bars.series.len() as f64;
            for (row, value) in series.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
                // A tenth of the room on each side stays free.
                let inside = |part: f64| plot.x((row as f64 + 0.1 + 0.8 * part) / count);
                let (from, to) = (inside(number as f64 * share), inside((number + 1) as f64 * share));
                let to = to.max(from + 1);
                self.fill((from, plot.y(y.share(*value))), (to, zero), COLORS[number % COLORS.len()])?;
            }
        }
        self.line(vec![(plot.left, zero), (plot.right, zero)], INK.stroke_width(1))?;
        let labels: Vec<(i32, &str)> = (bars.labels.iter().enumerate())
            .map(|(row, label)| (plot.x((row as f64 + 0.5) / count), label.as_str()))
            .collect();
        self.bottom_labels(&labels, &bars.by, plot)
    }

    /// Bars of named things, one below the other, so that each name can be read.
    pub(super) fn bars_across(&self, bars: &Bars, plot: Plot) -> Drawn<B> {
        let plot = self.legend(&bars.series, plot)?;
        let widest = bars.labels.iter().map(|label| self.text_width(label)).max().unwrap_or(0);
        let plot = Plot {
            left: plot.left + widest + 10,
            bottom: plot.bottom - TEXT_SIZE * 3 / 2,
            right: plot.right - 30,
            ..plot
        };
        let x = Axis::rounded(with_zero(&bars.series), 8);
        for (value, label) in &x.ticks {
            let at = plot.x(x.share(*value));
            self.line(vec![(at, plot.top), (at, plot.bottom)], FAINT.stroke_width(1))?;
            self.text(label, (at, plot.bottom + 9), (HPos::Center, VPos::Top), TEXT_SIZE, INK)?;
        }
        let height = f64::from(plot.bottom - plot.top) / bars.labels.len() as f64;
        let zero = plot.x(x.share(0.0));
        for (row, label) in bars.labels.iter().enumerate() {
            let at = |part: f64| plot.top + ((row as f64 + part) * height).round() as i32;
            self.text(label, (plot.left - 10, at(0.5)), (HPos::Right, VPos::Center), TEXT_SIZE, INK)?;
            for (number, series) in bars.series.iter().enumerate() {
                if series.values[row].is_nan() {
                    continue;
                }
                let part = |number: usize| 0.15 + 0.7 * number as f64 / bars.series.len() as f64;
                let (from, to) = (at(part(number)), at(part(number + 1)));
                let end = plot.x(x.share(series.values[row]));
                self.fill((zero, from), (end, to), COLORS[number % COLORS.len()])?;
            }
        }
        self.line(vec![(zero, plot.top), (zero, plot.bottom)], INK.stroke_width(1))
    }

    pub(super) fn lines(&self, lines: &Lines, plot: Plot) -> Drawn<B> {
        let values = lines.series.iter().flat_map(|series| &series.values);
        let (Some(span), Some(across)) = (bounds(values), bounds(&lines.x)) else { return Ok(()) };
        let plot = Plot { bottom: plot.bottom - 3 * TEXT_SIZE, ..self.legend(&lines.series, plot)? };
        let y = Axis::rounded(span, 6);
        let plot = self.left_axis(&y, plot)?;
        let x = Axis::new(lines.order, across, 8);
        for (number, series) in lines.series.iter().enumerate() {
            let style = COLORS[number % COLORS.len()].stroke_width(2);
            let points = lines.x.iter().zip(&series.values);
            let points: Vec<_> = points
                .map(|(at, value)| (!value.is_nan()).then(|| (plot.x(x.share(*at)), plot.y(y.share(*value)))))
                .collect();
            for part in points.split(Option::is_none) {
                match thinned(part.iter().flatten().copied()) {
                    part if part.len() > 1 => self.line(part, style)?,
                    part => {
                        for (x, y) in part {
                            self.fill((x - 2, y - 2), (x + 2, y + 2), COLORS[number % COLORS.len()])?;
                        }
                    }
                }
            }
        }
        self.line(vec![(plot.left, plot.bottom), (plot.right, plot.bottom)], INK.stroke_width(1))?;
        let labels: Vec<(i32, &str)> =
            x.ticks.iter().map(|(at, label)| (plot.x(x.share(*at)), label.as_str())).collect();
        self.bottom_labels(&labels, &lines.by, plot)
    }

    /// Bars that touch, each as wide as its bin; where bins get wider and wider, all the same.
    pub(super) fn bins(&self, bins: &Bins, plot: Plot) -> Drawn<B> {
        let plot = Plot { bottom: plot.bottom - 3 * TEXT_SIZE, ..plot };
        let counts: Vec<f64> = bins.counts.iter().map(|count| *count as f64).collect();
        let y = Axis::rounded((0.0, counts.iter().copied().fold(1.0, f64::max)), 6);
        let plot = self.left_axis(&y, plot)?;
        let edge = |number: usize| plot.x(number as f64 / counts.len() as f64);
        for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let top = plot.y(y.share(*count)).min(plot.bottom - 1);
            self.fill((edge(bin), top), (edge(bin + 1) - 2, plot.bottom), COLORS[0])?;
        }
        self.line(vec![(plot.left, plot.bottom), (plot.right, plot.bottom)], INK.stroke_width(1))?;
        let named: Vec<String> = bins.edges.iter().map(|edge| short(*edge)).collect();
        let labels: Vec<(i32, &str)> =
            named.iter().enumerate().map(|(number, label)| (edge(number), label.as_str())).collect();
        self.bottom_labels(&labels, &bins.column, plot)
    }

    pub(super) fn cells(&self, cells: &Cells, plot: Plot) -> Drawn<B> {
        let (least, most) = bounds(&cells.values).unwrap_or_default();
        let plot = self.heat_scale(&cells.value, least, most, plot)?;
        let plot = Plot { bottom: plot.bottom - 3 * TEXT_SIZE, top: plot.top + TEXT_SIZE, ..plot };
        let plot = self.left_labels(&cells.y, plot)?;
        let (columns, rows) = (cells.x.labels.len(), cells.y.labels.len());
        let left = |column: usize| plot.x(column as f64 / columns as f64);
        let top = |row: usize| plot.y(1.0 - row as f64 / rows as f64);
        // Between cells that are large enough a line stays free.
        let gap = if left(1) - left(0) > 6 && top(1) - top(0) > 6 { 2 } else { 1 };
        for (cell, value) in cells.values.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
            let (row, column) = (cell / columns, cell % columns);
            let share = if most > least { (value - least) / (most - least) } else { 1.0 };
            let (from, to) = ((left(column), top(row)), (left(column + 1) - gap, top(row + 1) - gap));
            self.fill(from, (to.0.max(from.0), to.1.max(from.1)), heat(share))?;
        }
        let middle = |column: usize| i32::midpoint(left(column), left(column + 1));
        let labels = cells.x.labels.iter().enumerate();
        let labels: Vec<(i32, &str)> = labels.map(|(column, label)| (middle(column), &**label)).collect();
        self.bottom_labels(&labels, &cells.x.name, plot)
    }

    fn left_labels(&self, side: &Side, plot: Plot) -> Result<Plot, DrawingAreaErrorKind<B::ErrorType>> {
        let labels = side.labels.iter().chain([&side.name]);
        let widest = labels.map(|label| self.text_width(label)).max().unwrap_or(0);
        let plot = Plot { left: plot.left + widest + 10, ..plot };
        let above = (plot.left - 10, plot.top - 4);
        self.text(&side.name, above, (HPos::Right, VPos::Bottom), TEXT_SIZE, INK)?;
        let height = f64::from(plot.bottom - plot.top) / side.labels.len() as f64;
        // Every one, or every second, third … one.
        let every = (f64::from(TEXT_SIZE) / height).ceil().max(1.0) as usize;
        for (row, label) in side.labels.iter().enumerate().step_by(every) {
            let at = plot.top + ((row as f64 + 0.5) * height).round() as i32;
            self.text(label, (plot.left - 10, at), (HPos::Right, VPos::Center), TEXT_SIZE, INK)?;
        }
        Ok(plot)
    }

    /// What the colours mean, to the right; what is left of the plot.
    fn heat_scale(
        &self,
        name: &str,
        least: f64,
        most: f64,
        plot: Plot,
    ) -> Result<Plot, DrawingAreaErrorKind<B::ErrorType>> {
        const STEPS: i32 = 100;
        let axis = Axis::new(Order::Number, (least, most), 5);
        let ticks: &[(f64, String)] = if least < most { &axis.ticks } else { &[(most, long(most))] };
        let widest =
            ticks.iter().map(|(_, label)| self.text_width(label)).chain([self.text_width(name)]).max();
        let left = plot.right - 36 - widest.unwrap_or(0);
        let scale = Plot {
            left,
            right: left + 22,
            top: plot.top + 2 * TEXT_SIZE,
            bottom: plot.bottom - 3 * TEXT_SIZE,
        };
        self.text(name, (left, plot.top + TEXT_SIZE), (HPos::Left, VPos::Center), TEXT_SIZE, INK)?;
        for step in 0..STEPS {
            let at = |step: i32| scale.y(f64::from(step) / f64::from(STEPS));
            let color = heat((f64::from(step) + 0.5) / f64::from(STEPS));
            self.fill((scale.left, at(step + 1)), (scale.right, at(step)), color)?;
        }
        for (value, label) in ticks {
            let at = scale.y(if least < most { axis.share(*value) } else { 1.0 });
            self.line(vec![(scale.right, at), (scale.right + 5, at)], INK.stroke_width(1))?;
            self.text(label, (scale.right + 10, at), (HPos::Left, VPos::Center), TEXT_SIZE, INK)?;
        }
        Ok(Plot { right: left - 24, ..plot })
    }
}

/// Bars begin at nothing, so that their lengths can be compared.
fn with_zero(series: &[Series]) -> (f64, f64) {
    let (least, most) = bounds(series.iter().flat_map(|series| &series.values)).unwrap_or_default();
    (least.min(0.0), most.max(0.0))
}

/// Of all points above each other the first, the least, the greatest and the last: the same picture from fewer.
fn thinned(points: impl Iterator<Item = (i32, i32)>) -> Vec<(i32, i32)> {
    let mut kept: Vec<(i32, i32)> = Vec::new();
    let mut column: Option<(i32, [i32; 4])> = None;
    let mut settle = |column: Option<(i32, [i32; 4])>| {
        let Some((x, heights)) = column else { return };
        for y in heights {
            if kept.last() != Some(&(x, y)) {
                kept.push((x, y));
            }
        }
    };
    for (x, y) in points {
        column = match column {
            Some((at, [first, least, most, _])) if at == x => {
                Some((x, [first, least.min(y), most.max(y), y]))
            }
            before => {
                settle(before);
                Some((x, [y; 4]))
            }
        };
    }
    settle(column);
    kept
}

fn heat(share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (HEAT.len() - 1) as f64;
    let below = (place.floor() as usize).min(HEAT.len() - 2);
    let part = place - below as f64;
    let mixed = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
    let (RGBColor(r, g, b), RGBColor(to_r, to_g, to_b)) = (HEAT[below], HEAT[below + 1]);
    RGBColor(mixed(r, to_r), mixed(g, to_g), mixed(b, to_b))
}
