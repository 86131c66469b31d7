//! A chart as a picture.

mod plots;

use std::sync::OnceLock;

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, register_font};

use super::axis::{Axis, stride};
use super::{Body, Chart, Series};
use crate::error::{Error, Result};

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 700;
const TITLE_SIZE: i32 = 28;
const TEXT_SIZE: i32 = 19;
/// Around everything.
const MARGIN: i32 = 24;

const PAPER: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(34, 34, 34);
const GRAY: RGBColor = RGBColor(100, 106, 112);
const FAINT: RGBColor = RGBColor(225, 228, 232);
/// Of several series, in their order: told apart also by those who do not see red and green.
const COLORS: [RGBColor; 6] = [
    RGBColor(46, 109, 164),
    RGBColor(230, 140, 30),
    RGBColor(0, 140, 110),
    RGBColor(190, 80, 150),
    RGBColor(110, 170, 225),
    RGBColor(190, 60, 40),
];
pub(super) fn svg(chart: &Chart) -> Result<String> {
    let mut text = String::new();
    draw(chart, SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)))?;
    Ok(text)
}

pub(super) fn png(chart: &Chart) -> Result<Vec<u8>> {
    let mut pixels = vec![0; WIDTH as usize * HEIGHT as usize * 3];
    draw(chart, BitMapBackend::with_buffer(&mut pixels, (WIDTH, HEIGHT)))?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&pixels)?;
        writer.finish()
    });
    written.map_err(|e| cannot_draw().caused_by(e))?;
    Ok(file)
}

fn draw<B: DrawingBackend>(chart: &Chart, backend: B) -> Result<()> {
    // The one font that is there on every machine: in this program.
    static FONT: OnceLock<bool> = OnceLock::new();
    let font = epaint_default_fonts::UBUNTU_LIGHT;
    if !FONT.get_or_init(|| register_font("sans-serif", FontStyle::Normal, font).is_ok()) {
        return Err(cannot_draw());
    }
    let page = Page { area: backend.into_drawing_area() };
    page.draw(chart).map_err(|e| cannot_draw().caused_by(e.to_string()))
}

fn cannot_draw() -> Error {
    Error::failed("cannot draw the chart")
}

/// Where the plot is on the page, in pixels.
#[derive(Debug, Clone, Copy)]
struct Plot {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Plot {
    fn x(&self, share: f64) -> i32 {
        self.left + (share * f64::from(self.right - self.left)).round() as i32
    }

    /// Upwards.
    fn y(&self, share: f64) -> i32 {
        self.bottom - (share * f64::from(self.bottom - self.top)).round() as i32
    }
}

struct Page<B: DrawingBackend> {
    area: DrawingArea<B, Shift>,
}

type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

impl<B: DrawingBackend> Page<B> {
    fn draw(&self, chart: &Chart) -> Drawn<B> {
        self.area.fill(&PAPER)?;
        self.text(&chart.title, (MARGIN, MARGIN), (HPos::Left, VPos::Top), TITLE_SIZE, INK)?;
        let plot = Plot {
            left: MARGIN,
            top: MARGIN + 2 * TITLE_SIZE,
            right: WIDTH as i32 - MARGIN,
            bottom: HEIGHT as i32 - MARGIN - if chart.notes.is_empty() { 0 } else { TEXT_SIZE * 3 / 2 },
        };
        if !chart.notes.is_empty() {
            let at = (MARGIN, HEIGHT as i32 - MARGIN);
            let notes = chart.notes.join("; ");
            self.text(&notes, at, (HPos::Left, VPos::Bottom), TEXT_SIZE - 3, GRAY)?;
        }
        match &chart.body {
            Body::Bars(bars) if !bars.is_ordered && bars.labels.len() <= 30 => {
                self.bars_across(bars, plot)?
            }
            Body::Bars(bars) => self.bars(bars, plot)?,
            Body::Lines(lines) => self.lines(lines, plot)?,
            Body::Bins(bins) => self.bins(bins, plot)?,
            Body::Cells(cells) => self.cells(cells, plot)?,
            Body::Nothing => {
                let at = (WIDTH as i32 / 2, HEIGHT as i32 / 2);
                self.text("nothing to draw", at, (HPos::Center, VPos::Center), TEXT_SIZE, INK)?;
            }
        }
        self.area.present()
    }

    fn text(&self, text: &str, at: (i32, i32), (h, v): (HPos, VPos), size: i32, color: RGBColor) -> Drawn<B> {
        let style = TextStyle::from(("sans-serif", size).into_font()).color(&color).pos(Pos::new(h, v));
        self.area.draw(&Text::new(text.to_owned(), at, style))
    }

    fn text_width(&self, text: &str) -> i32 {
        let size = ("sans-serif", TEXT_SIZE).into_font().box_size(text);
        size.map_or(0, |(width, _)| i32::try_from(width).unwrap_or(0))
    }

    fn fill(&self, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Drawn<B> {
        self.area.draw(&Rectangle::new([from, to], color.filled()))
    }

    fn line(&self, points: Vec<(i32, i32)>, style: ShapeStyle) -> Drawn<B> {
        self.area.draw(&PathElement::new(points, style))
    }

    /// The legend, where there is more than one series; what is left of the plot.
    fn legend(&self, series: &[Series], plot: Plot) -> Result<Plot, DrawingAreaErrorKind<B::ErrorType>> {
        if series.len() < 2 {
            return Ok(plot);
        }
        let mut left = plot.left;
        for (number, series) in series.iter().enumerate() {
            let (top, size) = (plot.top - TITLE_SIZE / 2, TEXT_SIZE - 6);
            self.fill((left, top), (left + size, top + size), COLORS[number % COLORS.len()])?;
            let at = (left + size + 8, top + size / 2);
            self.text(&series.name, at, (HPos::Left, VPos::Center), TEXT_SIZE, INK)?;
            left += size + 8 + self.text_width(&series.name) + 28;
        }
        Ok(Plot { top: plot.top + TITLE_SIZE, ..plot })
    }

    /// The axis to the left with its lines; what is left of the plot.
    fn left_axis(&self, y: &Axis, plot: Plot) -> Result<Plot, DrawingAreaErrorKind<B::ErrorType>> {
        let widest = y.ticks.iter().map(|(_, label)| self.text_width(label)).max().unwrap_or(0);
        let plot = Plot { left: plot.left + widest + 10, ..plot };
        for (value, label) in &y.ticks {
            let at = plot.y(y.share(*value));
            self.line(vec![(plot.left, at), (plot.right, at)], FAINT.stroke_width(1))?;
            self.text(label, (plot.left - 10, at), (HPos::Right, VPos::Center), TEXT_SIZE, INK)?;
        }
        Ok(plot)
    }

    /// Labels under places of the plot that are equally far apart, and the name of them all; every second,
    /// fifth … one where they would touch.
    fn bottom_labels(&self, labels: &[(i32, &str)], name: &str, plot: Plot) -> Drawn<B> {
        let widest = labels.iter().map(|(_, label)| self.text_width(label)).max().unwrap_or(0);
        let spacing = match (labels.first(), labels.last()) {
            (Some(first), Some(last)) if labels.len() > 1 => {
                f64::from(last.0 - first.0) / (labels.len() - 1) as f64
            }
            _ => f64::from(WIDTH),
        };
        let every = stride(usize::try_from(widest).unwrap_or(0) + 14, spacing);
        for (at, label) in labels.iter().step_by(every) {
            let middle = (*at).min(WIDTH as i32 - 4 - self.text_width(label) / 2);
            self.line(vec![(*at, plot.bottom), (*at, plot.bottom + 5)], INK.stroke_width(1))?;
            let below = (middle, plot.bottom + 9);
            self.text(label, below, (HPos::Center, VPos::Top), TEXT_SIZE, INK)?;
        }
        let below = ((plot.left + plot.right) / 2, plot.bottom + 9 + TEXT_SIZE * 3 / 2);
        self.text(name, below, (HPos::Center, VPos::Top), TEXT_SIZE, INK)
    }
}
