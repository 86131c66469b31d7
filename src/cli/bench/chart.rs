//! The stages as a waterfall: each begins where the one before ends, and the whole run lies below them.
//!
//! What the whole is shorter than all of them is what overlapping saves.

use super::text::{build, machine, seconds};
use crate::bench::{Report, Stage, StageReport};
use crate::cli::output;

/// One bar, in seconds.
#[derive(Debug, PartialEq)]
struct Bar {
    stage: Stage,
    from: f64,
    to: f64,
    is_slowest: bool,
}

fn bars(report: &Report) -> Vec<Bar> {
    let slowest = report.bottleneck.as_ref().map(|found| found.stage);
    let mut at = 0.0;
    let mut bar = |of: &StageReport| {
        let from = if of.stage == Stage::Whole { 0.0 } else { at };
        let to = from + of.seconds.median;
        at = to;
        Bar { stage: of.stage, from, to, is_slowest: slowest == Some(of.stage) }
    };
    report.stages.iter().map(&mut bar).collect()
}

fn longest(bars: &[Bar]) -> f64 {
    bars.iter().map(|bar| bar.to).fold(1e-9, f64::max)
}

/// As wide as the terminal, or as a page.
pub(super) fn terminal(report: &Report) -> String {
    drawn(&bars(report), output::width().saturating_sub(20).clamp(20, 100), output::is_styled())
}

fn drawn(bars: &[Bar], room: usize, styled: bool) -> String {
    let scale = room as f64 / longest(bars);
    let mut text = String::new();
    for bar in bars {
        let from = ((bar.from * scale) as usize).min(room - 1);
        // A stage that takes no time worth drawing is still one.
        let length = (((bar.to - bar.from) * scale).round() as usize).clamp(1, room - from);
        let (color, plain) = if styled && bar.is_slowest { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let (mark, rest) = (if bar.is_slowest { " ←" } else { "" }, room - from - length);
        let (before, blocks, after) = (" ".repeat(from), "█".repeat(length), " ".repeat(rest));
        let time = format!("{} s", seconds(bar.to - bar.from));
        text += &format!("{:>9}  {before}{color}{blocks}{plain}{after}  {time}{mark}\n", bar.stage.name());
    }
    text
}

/// A picture that needs nothing else: no fonts, no scripts, no style sheets.
pub(super) fn svg(report: &Report) -> String {
    const LEFT: f64 = 90.0;
    const ROOM: f64 = 590.0;
    const LINE: f64 = 28.0;
    const TOP: f64 = 34.0;
    let bars = bars(report);
    let scale = ROOM / longest(&bars);
    let bottom = TOP + LINE * bars.len() as f64;
    let height = bottom + 50.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 840 {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>api2bq bench</title>\n\
         <rect width=\"840\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"20\" font-weight=\"bold\">stages alone, one after the other, and the whole run</text>\n"
    );
    for (number, bar) in bars.iter().enumerate() {
        let y = TOP + LINE * number as f64;
        let color = match bar.stage {
            _ if bar.is_slowest => "#c0392b",
            Stage::Whole => "#7f8c8d",
            _ => "#2e6da4",
        };
        let (x, width) = (LEFT + bar.from * scale, ((bar.to - bar.from) * scale).max(1.0));
        let middle = y + 15.0;
        text += &format!("<text x=\"12\" y=\"{middle}\">{}</text>\n", bar.stage.name());
        text += &format!(
            "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" rx=\"2\" fill=\"{color}\"/>\n"
        );
        let note = if bar.is_slowest { ", the slowest" } else { "" };
        text += &format!(
            "<text x=\"{:.1}\" y=\"{middle}\">{} s{note}</text>\n",
            x + width + 6.0,
            seconds(bar.to - bar.from)
        );
    }
    for (number, line) in [machine(&report.machine), build(&report.build)].iter().enumerate() {
        let y = bottom + 20.0 + 16.0 * number as f64;
        let line = escaped(line);
        text += &format!("<text x=\"12\" y=\"{y}\" font-size=\"11\" fill=\"#555555\">{line}</text>\n");
    }
    text + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_follow_one_another_and_fit() {
        let bar = |stage, from, to, is_slowest| Bar { stage, from, to, is_slowest };
        let bars = [
            bar(Stage::Fetch, 0.0, 1.0, false),
            bar(Stage::Decode, 1.0, 3.0, true),
            bar(Stage::Stage, 3.0, 3.0001, false),
            bar(Stage::Whole, 0.0, 4.0, false),
        ];
        let text = drawn(&bars, 8, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "    fetch  ██        1.00 s");
        assert_eq!(lines[1], "   decode    ████    2.00 s ←");
        assert_eq!(lines[2], "    stage        █   0.000 s");
        assert_eq!(lines[3], "    whole  ████████  4.00 s");
        assert!(drawn(&bars, 8, true).contains("\x1b[31m████\x1b[0m"));
    }
}
