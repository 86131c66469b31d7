//! A chart in characters.

use unicode_width::UnicodeWidthStr;

use super::axis::{Axis, long, short, stride};
use super::bars::Bars;
use super::bins::Bins;
use super::cells::Cells;
use super::lines::Lines;
use super::{Body, Chart, bounds};
use crate::error::{Error, Result};

/// Bars and plots are at least so wide, whatever the terminal is.
const ROOM_MIN: usize = 10;
/// Lines of a plot.
const PLOT_HEIGHT: usize = 16;

const PLAIN: &str = "\x1b[0m";
/// Of several series, in their order.
const COLORS: [&str; 6] = ["\x1b[34m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[36m", "\x1b[31m"];
/// The same without colours.
const MARKS: [char; 6] = ['●', '+', '×', '○', '*', '▪'];

pub(super) fn drawn(chart: &Chart, width: usize, styled: bool) -> Result<String> {
    let mut text = match &chart.body {
        Body::Bars(found) => bars(found, width, styled),
        Body::Lines(lines) => format!("{}\n{}", chart.title, plot(lines, width, styled)),
        Body::Bins(found) => format!("{}\n{}", chart.title, bins(found, width)),
        Body::Cells(found) => format!("{}\n{}", chart.title, cells(found, width, styled)?),
        Body::Nothing => format!("{}: nothing to draw\n", chart.title),
    };
    for note in &chart.notes {
        text += &format!("{note}\n");
    }
    Ok(text)
}

/// A share of `room` in eighths of a character; anything above nothing is seen.
pub fn bar(share: f64, room: usize) -> String {
    if share.is_nan() || share <= 0.0 {
        return String::new();
    }
    let eighths = ((share * (room * 8) as f64) as usize).clamp(1, room * 8);
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{part}", "█".repeat(eighths / 8))
}

/// Where a bar begins and ends: what is less than nothing goes to the left of it.
struct Scale {
    /// Characters to the left of nothing.
    zero: usize,
    room: usize,
    span: f64,
}

impl Scale {
    fn new<'v>(values: impl IntoIterator<Item = &'v f64>, room: usize) -> Scale {
        let (least, most) = bounds(values).unwrap_or_default();
        let (least, most) = (least.min(0.0), most.max(0.0));
        let span = if most - least > 0.0 { most - least } else { 1.0 };
        Scale { zero: (-least / span * room as f64).round() as usize, room, span }
    }

    fn bar(&self, value: f64) -> String {
        let share = value / self.span;
        if value.is_nan() {
            return String::new();
        }
        if value < 0.0 {
            let length = ((-share * self.room as f64).round() as usize).clamp(1, self.zero.max(1));
            return format!("{}{}", " ".repeat(self.zero.saturating_sub(length)), "█".repeat(length));
        }
        let right = (self.room - self.zero).max(1);
        let of_right = share * self.room as f64 / right as f64;
        format!("{}{}", " ".repeat(self.zero), bar(of_right.min(1.0), right))
    }
}

fn bars(bars: &Bars, width: usize, styled: bool) -> String {
    let is_one = bars.series.len() == 1;
    let values: Vec<Vec<String>> =
        bars.series.iter().map(|series| series.values.iter().map(|value| long(*value)).collect()).collect();
    let widest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.width()).max().unwrap_or(0);
    let names = bars.series.iter().map(|series| &series.name);
    let by_width = widest(&mut std::iter::once(&bars.by).chain(&bars.labels));
    let name_width = if is_one { 0 } else { widest(&mut names.clone()) + 2 };
    let header = if is_one { bars.series[0].name.clone() } else { String::new() };
    let value_width = widest(&mut std::iter::once(&header).chain(values.iter().flatten()));
    let room = width.saturating_sub(by_width + name_width + value_width + 4).max(ROOM_MIN);
    let scale = Scale::new(bars.series.iter().flat_map(|series| &series.values), room);
    let aligned = |text: &str| match bars.is_ordered {
        true => right(text, by_width),
        false => left(text, by_width),
    };
    let names_blank = " ".repeat(name_width);
    let mut text = format!("{}{names_blank}  {}", aligned(&bars.by), right(&header, value_width));
    text.truncate(text.trim_end().len());
    text.push('\n');
    for (row, label) in bars.labels.iter().enumerate() {
        for (number, series) in bars.series.iter().enumerate() {
            let label = aligned(if number == 0 { label } else { "" });
            let name =
                if is_one { String::new() } else { format!("  {}", left(&series.name, name_width - 2)) };
            let (color, plain) = match styled && !is_one {
                true => (COLORS[number % COLORS.len()], PLAIN),
                false => ("", ""),
            };
            let value = right(&values[number][row], value_width);
            let line = format!("{label}{name}  {value}  {color}{}{plain}", scale.bar(series.values[row]));
            text += line.trim_end();
            text.push('\n');
        }
    }
    text
}

fn bins(bins: &Bins, width: usize) -> String {
    let labels: Vec<String> = (0..bins.counts.len()).map(|bin| bins.label(bin)).collect();
    let counts: Vec<f64> = bins.counts.iter().map(|count| *count as f64).collect();
    let widest = |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| text.width()).max().unwrap_or(0);
    let shown: Vec<String> = counts.iter().map(|count| long(*count)).collect();
    let (label_width, count_width) = (widest(&mut labels.iter()), widest(&mut shown.iter()));
    let scale = Scale::new(&counts, width.saturating_sub(label_width + count_width + 4).max(ROOM_MIN));
    let mut text = String::new();
    for ((label, shown), count) in labels.iter().zip(&shown).zip(&counts) {
        let line =
            format!("{}  {}  {}", right(label, label_width), right(shown, count_width), scale.bar(*count));
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Points as dots of which eight make a character, or, of several series, a mark each.
fn plot(lines: &Lines, width: usize, styled: bool) -> String {
    let Some(span) = bounds(lines.series.iter().flat_map(|series| &series.values)) else {
        return String::new();
    };
    let Some(across) = bounds(&lines.x) else { return String::new() };
    let y = Axis::rounded(span, PLOT_HEIGHT / 3);
    let labels: Vec<(usize, &String)> =
        y.ticks.iter().map(|(place, label)| (line_of(&y, *place, PLOT_HEIGHT), label)).collect();
    let label_width = labels.iter().map(|(_, label)| label.width()).max().unwrap_or(0);
    let room = width.saturating_sub(label_width + 2).max(ROOM_MIN);
    let x = Axis::new(lines.order, across, room / 12);
    let mut cells = vec![vec![(0_u8, usize::MAX); room]; PLOT_HEIGHT];
    for (number, series) in lines.series.iter().enumerate() {
        draw_line(&mut cells, number, &x, &y, &lines.x, &series.values);
    }
    let is_one = lines.series.len() == 1;
    let mut text = String::new();
    for (line, cells) in cells.iter().enumerate() {
        let label = labels.iter().find(|(at, _)| *at == line).map_or("", |(_, label)| label.as_str());
        let mut drawn = format!("{} {}", right(label, label_width), if label.is_empty() { '│' } else { '┤' });
        for (dots, series) in cells {
            match series {
                &usize::MAX => drawn.push(' '),
                _ if is_one => drawn.push(char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' ')),
                series if styled => {
                    let dots = char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' ');
                    drawn += &format!("{}{dots}{PLAIN}", COLORS[series % COLORS.len()]);
                }
                series => drawn.push(MARKS[series % MARKS.len()]),
            }
        }
        text += drawn.trim_end();
        text.push('\n');
    }
    let places: Vec<(usize, &str)> =
        x.ticks.iter().map(|(at, label)| (column_of(&x, *at, room), &**label)).collect();
    let mut rule = vec!['─'; room];
    places.iter().for_each(|(at, _)| rule[*at] = '┬');
    text += &format!("{} └{}\n", " ".repeat(label_width), rule.into_iter().collect::<String>());
    text += &format!("{}{}\n", " ".repeat(label_width + 2), under(&places, room));
    if !is_one {
        let legend = lines.series.iter().enumerate().map(|(number, series)| match styled {
            true => format!("{}──{PLAIN} {}", COLORS[number % COLORS.len()], series.name),
            false => format!("{} {}", MARKS[number % MARKS.len()], series.name),
        });
        text += &format!("{}{}\n", " ".repeat(label_width + 2), legend.collect::<Vec<_>>().join("   "));
    }
    text
}

fn line_of(axis: &Axis, value: f64, height: usize) -> usize {
    ((1.0 - axis.share(value)) * (height - 1) as f64).round() as usize
}

fn column_of(axis: &Axis, value: f64, room: usize) -> usize {
    (axis.share(value) * (room - 1) as f64).round() as usize
}

/// Joins the points of a series; a value that is not there is a gap.
fn draw_line(
    cells: &mut [Vec<(u8, usize)>],
    series: usize,
    x: &Axis,
    y: &Axis,
    places: &[f64],
    values: &[f64],
) {
    let (width, height) = (cells[0].len() * 2, cells.len() * 4);
    let mut set = |column: usize, line: usize| {
        let dot = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]][line % 4][column % 2];
        let cell = &mut cells[line / 4][column / 2];
        *cell = (cell.0 | dot, series);
    };
    let mut last: Option<(usize, usize)> = None;
    for (place, value) in places.iter().zip(values) {
        if value.is_nan() {
            last = None;
            continue;
        }
        let (column, line) = (column_of(x, *place, width), line_of(y, *value, height));
        let (from_column, from_line) = last.unwrap_or((column, line));
        let steps = column.abs_diff(from_column).max(line.abs_diff(from_line)).max(1);
        for step in 0..=steps {
            let between = |from: usize, to: usize| {
                let share = step as f64 / steps as f64;
                (from as f64 + (to as f64 - from as f64) * share).round() as usize
            };
            set(between(from_column, column), between(from_line, line));
        }
        last = Some((column, line));
    }
}

/// Labels in one line, each centred under its place; every second, fifth … one where they would touch.
fn under(labels: &[(usize, &str)], room: usize) -> String {
    let widest = labels.iter().map(|(_, label)| label.width()).max().unwrap_or(0);
    let spacing = match (labels.first(), labels.last()) {
        (Some(first), Some(last)) if labels.len() > 1 => {
            (last.0 - first.0) as f64 / (labels.len() - 1) as f64
        }
        _ => room as f64,
    };
    let (mut text, mut end) = (String::new(), 0);
    for (at, label) in labels.iter().step_by(stride(widest + 1, spacing)) {
        let width = label.width();
        let start = at.saturating_sub(width / 2).min(room.saturating_sub(width));
        if end > 0 && start <= end {
            continue;
        }
        text += &format!("{}{label}", " ".repeat(start - end));
        end = start + width;
    }
    text
}

/// From little to much where there are no colours.
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];
/// From little to much, in the 256 colours that nearly all terminals have.
const HEAT: [u8; 9] = [54, 55, 61, 31, 30, 36, 71, 149, 226];

fn cells(cells: &Cells, width: usize, styled: bool) -> Result<String> {
    let columns = cells.x.labels.len();
    let labels = std::iter::once(&cells.y.name).chain(&cells.y.labels);
    let label_width = labels.map(|label| label.width()).max().unwrap_or(0);
    let room = width.saturating_sub(label_width + 2).max(ROOM_MIN);
    let cell_width = (room / columns).min(4);
    if cell_width == 0 {
        return Err(Error::usage(format!("{columns} cells do not fit side by side into {room} characters"))
            .hint("`--chart-out FILE.png` draws a picture; or exchange the first two columns"));
    }
    let (least, most) = bounds(&cells.values).unwrap_or_default();
    let level = |value: f64, levels: usize| {
        let share = if most > least { (value - least) / (most - least) } else { 1.0 };
        ((share * levels as f64) as usize).min(levels - 1)
    };
    let cell = |value: f64| match (value.is_nan(), styled) {
        (true, _) => " ".repeat(cell_width),
        (false, true) => {
            format!("\x1b[48;5;{}m{}{PLAIN}", HEAT[level(value, HEAT.len())], " ".repeat(cell_width))
        }
        (false, false) => SHADES[level(value, SHADES.len())].to_string().repeat(cell_width),
    };
    let mut text = format!("{}\n", right(&cells.y.name, label_width));
    for (row, label) in cells.y.labels.iter().enumerate() {
        let values = &cells.values[row * columns..(row + 1) * columns];
        let line: String = values.iter().map(|value| cell(*value)).collect();
        text += format!("{}  {line}", right(label, label_width)).trim_end();
        text.push('\n');
    }
    let places = cells.x.labels.iter().enumerate();
    let places: Vec<(usize, &str)> =
        places.map(|(at, label)| (at * cell_width + cell_width / 2, &**label)).collect();
    let labels = under(&places, columns * cell_width);
    let blank = " ".repeat(label_width + 2);
    text += &format!("{blank}{labels}  {}\n", cells.x.name);
    let scale: String = (0..9).map(|level| cell(least + (most - least) * f64::from(level) / 8.0)).collect();
    text += &format!("{blank}{} {scale} {} {}\n", short(least), short(most), cells.value);
    Ok(text)
}

fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(text.width())))
}

fn left(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}
