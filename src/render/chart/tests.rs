use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::record_batch::RecordBatch;

use super::axis::{Axis, long, short};
use super::bins::Bins;
use super::values::Order;
use super::{Chart, Collector, Kind};
use crate::error::Result;

fn ints(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

fn floats(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Float64Array>())
}

fn names(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn drawn(kind: Kind, columns: &[(&str, ArrayRef)]) -> Result<Chart> {
    let nullable = columns.iter().map(|(name, column)| (*name, column.clone(), true));
    let batch = RecordBatch::try_from_iter_with_nullable(nullable).expect("columns of one length");
    let mut collector = Collector::new(kind, &batch.schema())?;
    collector.push(&batch)?;
    collector.finish()
}

fn terminal(kind: Kind, columns: &[(&str, ArrayRef)]) -> String {
    drawn(kind, columns).and_then(|chart| chart.terminal(40, false)).expect("a chart")
}

fn wrong(kind: Kind, columns: &[(&str, ArrayRef)]) -> String {
    drawn(kind, columns).expect_err("no such chart").to_string()
}

#[test]
fn bars_are_as_long_as_their_numbers_and_those_below_nothing_go_left() {
    let text = terminal(
        Kind::Bar,
        &[
            ("who", names(&["Ada", "Grace", "Edsger", "Niklaus"])),
            ("gain", floats([Some(20.0), Some(-10.0), None, Some(f64::NAN)])),
        ],
    );
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "who      gain");
    assert_eq!(lines[1], format!("Ada        20  {}{}▋", " ".repeat(8), "█".repeat(16)));
    assert_eq!(lines[2], format!("Grace     -10  {}", "█".repeat(8)));
    assert_eq!(lines[3], "Edsger      –");
    assert_eq!(lines[4], "Niklaus     –");
    assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
}

#[test]
fn more_bars_than_anyone_reads_are_counted_and_not_drawn() {
    let text = terminal(Kind::Bar, &[("n", ints(0..10_000)), ("m", ints(0..10_000))]);
    assert_eq!(text.lines().count(), 1 + 500 + 1);
    assert!(text.ends_with("the first 500 rows are drawn, 9,500 more are not\n"));
}

#[test]
fn a_line_goes_from_the_first_row_to_the_last_in_their_order_and_has_gaps() {
    let hour = 3_600_000;
    let time: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![3 * hour, hour, 0, 4 * hour]));
    let text = terminal(Kind::Line, &[("at", time), ("n", floats([None, Some(10.0), Some(0.0), Some(5.0)]))]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "n by at");
    assert!(lines[1].starts_with("10 ┤ ") && lines[16].starts_with(" 0 ┤⡜"), "{text}");
    // Nothing between 01:00 and 04:00, as 03:00 has no number.
    let middle = lines[1..17].iter().map(|line| line.chars().skip(4 + 12).take(18).collect::<String>());
    assert!(middle.collect::<String>().trim().is_empty(), "{text}");
    assert!(lines[18].contains("00:00") && lines[18].contains("04:00"), "{text}");
}

#[test]
fn bins_follow_the_rule_they_are_said_to() {
    let bins = |values: &[f64], is_whole| Bins::new("x".to_owned(), values, is_whole).expect("values");
    // Quartiles 24 and 74 of 100 values: 2 * 50 / 4.64 = 21.5, and the next round number is 50.
    let hundred: Vec<f64> = (0..100).map(f64::from).collect();
    let found = bins(&hundred, true);
    assert_eq!((&found.edges[..], &found.counts[..]), (&[0.0, 50.0, 100.0][..], &[50, 50][..]));
    assert_eq!(found.rule, "bins of 50 (Freedman and Diaconis)");
    // Three of four are one value.
    let mut same = vec![7.0; 30];
    same.extend([8.0, 9.0, 10.0]);
    let found = bins(&same, true);
    assert_eq!(found.rule, "bins of 1 (Sturges)");
    assert_eq!(found.counts, [30, 1, 1, 1]);
    assert_eq!(found.label(0), "7");
    // From 40 to ten millions, most of them small.
    let mut far: Vec<f64> = (40..140).map(f64::from).collect();
    far.push(1e7);
    let found = bins(&far, true);
    assert_eq!((found.edges[0], found.edges[1], found.edges[2]), (20.0, 50.0, 100.0));
    assert_eq!((found.counts[0], found.counts[1], *found.counts.last().expect("bins")), (10, 50, 1));
    assert_eq!(found.rule, "each bin about twice as wide as the one before it");
    // The same with a zero cannot rise by a factor.
    far.insert(0, 0.0);
    let found = bins(&far, true);
    assert!(found.counts.len() <= 60 && found.rule.ends_with("(60 bins at most)"), "{found:?}");
    for (values, is_whole) in [(vec![5.0], true), (vec![-0.25; 3], false), (vec![0.0], false)] {
        let found = bins(&values, is_whole);
        assert_eq!(found.counts, [values.len() as u64], "{found:?}");
    }
    let all = [&hundred[..], &far[..]].concat();
    for values in [&hundred, &same, &far, &{
        let mut all = all;
        all.sort_by(f64::total_cmp);
        all
    }] {
        let found = bins(values, false);
        assert_eq!(found.counts.iter().sum::<u64>(), values.len() as u64);
    }
}

#[test]
fn a_heat_map_has_a_place_for_hours_that_no_row_has() {
    let columns = [("hour", ints([0, 3, 1])), ("day", ints([2, 1, 1])), ("n", ints([8, 1, 4]))];
    let text = terminal(Kind::Heat, &columns);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["n by hour and day", "day", "  1      ▒▒▒▒    ····", "  2  ████"]);
    assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3", "hour"]);
    assert!(lines[5].trim().starts_with("1 ····") && lines[5].ends_with("8 n"), "{text}");
    let twice = [("x", names(&["a", "a"])), ("y", names(&["b", "b"])), ("n", ints([1, 2]))];
    assert_eq!(wrong(Kind::Heat, &twice), "two rows have `x` a and `y` b");
    let wide = [("x", ints(0..60)), ("y", ints((0..60).map(|_| 1))), ("n", ints(0..60))];
    let error = drawn(Kind::Heat, &wide).and_then(|chart| chart.terminal(40, false)).expect_err("too wide");
    assert_eq!(error.to_string(), "60 cells do not fit side by side into 37 characters");
    let many = [("x", ints((0..501).map(|n| n * 7))), ("y", ints(0..501)), ("n", ints(0..501))];
    assert!(wrong(Kind::Heat, &many).ends_with("and there are 501 values of `x`"));
}

#[test]
fn a_chart_says_which_columns_it_needs() {
    let (n, s) = (("n", ints([1])), ("s", names(&["a"])));
    assert!(
        wrong(Kind::Bar, std::slice::from_ref(&n)).starts_with("a bar chart needs a column of labels, and")
    );
    assert!(wrong(Kind::Bar, &[n.clone(), s.clone()]).starts_with("a bar chart needs"));
    assert!(wrong(Kind::Line, &[s.clone(), n.clone()]).starts_with("a line chart needs a first column of"));
    assert!(wrong(Kind::Hist, std::slice::from_ref(&s)).starts_with("a histogram needs one column"));
    assert!(wrong(Kind::Hist, &[n.clone(), n.clone()]).starts_with("a histogram needs one column"));
    assert!(wrong(Kind::Heat, &[n, s]).starts_with("a heat map needs three columns"));
}

#[test]
fn whatever_the_rows_are_there_is_a_picture() {
    let none = || floats([None, Some(f64::INFINITY), Some(f64::NAN)]);
    let cases: [(Kind, Vec<(&str, ArrayRef)>); 9] = [
        (Kind::Bar, vec![("x", ints([])), ("y", ints([]))]),
        (Kind::Bar, vec![("x", ints([1])), ("y", ints([0]))]),
        (Kind::Bar, vec![("x", names(&["a\u{1b}[31m", "<b>&"])), ("y", ints([i64::MIN, i64::MAX]))]),
        (Kind::Line, vec![("x", ints([1])), ("y", ints([7]))]),
        (Kind::Line, vec![("x", ints([1, 2, 3])), ("y", none()), ("z", none())]),
        (
            Kind::Line,
            vec![("x", floats([Some(-1e300), Some(1e300)])), ("y", floats([Some(-1e308), Some(1e308)]))],
        ),
        (Kind::Hist, vec![("x", none())]),
        (Kind::Hist, vec![("x", floats([Some(1e-300), Some(1e300), Some(-1e300)]))]),
        (Kind::Heat, vec![("x", ints([1])), ("y", ints([1])), ("n", ints([1]))]),
    ];
    for (kind, columns) in cases {
        let chart = drawn(kind, &columns).expect("a chart");
        for styled in [false, true] {
            let text = chart.terminal(20, styled).expect("drawn");
            assert!(!text.contains("\x1b[31m") || styled, "{text}");
        }
        let svg = chart.svg().expect("an SVG");
        assert!(svg.starts_with("<svg ") && !svg.contains("<b>"), "{svg}");
        let png = chart.png().expect("a PNG");
        let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().expect("a readable PNG");
        assert_eq!(reader.info().size(), (1200, 700));
    }
}

#[test]
fn a_picture_has_the_bars_of_its_numbers() {
    let chart = drawn(Kind::Bar, &[("day", ints(1..=2)), ("flows", ints([100, 50]))]).expect("a chart");
    let svg = chart.svg().expect("an SVG");
    for text in ["flows by day", "100", "20", ">\n1\n<", ">\n2\n<"] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
    let height = |bar: &str| -> f64 {
        let start = bar.find("height=\"").expect("a height") + 8;
        bar[start..].split('"').next().expect("a number").parse().expect("a number")
    };
    let bars: Vec<f64> = svg.lines().filter(|line| line.contains("#2E6DA4")).map(height).collect();
    assert_eq!(bars.len(), 2, "{svg}");
    assert!((bars[0] / bars[1] - 2.0).abs() < 0.02, "{bars:?}");
}

#[test]
fn ticks_are_round_and_readable() {
    let labels = |axis: Axis| axis.ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>();
    assert_eq!(labels(Axis::rounded((0.0, 1_150_000.0), 3)), ["0", "0.5 M", "1.0 M", "1.5 M"]);
    assert_eq!(labels(Axis::new(Order::Whole, (1.0, 3.0), 8)), ["1", "2", "3"]);
    let (day, hour) = (86_400_000.0, 3_600_000.0);
    assert_eq!(
        labels(Axis::new(Order::Day, (0.0, 3.0 * day), 4)),
        ["1970-01-01", "1970-01-02", "1970-01-03", "1970-01-04"]
    );
    assert_eq!(labels(Axis::new(Order::Time, (0.0, 2.0 * hour), 3)), ["00:00", "01:00", "02:00"]);
    assert_eq!(
        labels(Axis::new(Order::Day, (0.0, 364.0 * day), 4)),
        ["1970-01", "1970-04", "1970-07", "1970-10"]
    );
    assert_eq!(
        labels(Axis::new(Order::Day, (0.0, 36_500.0 * day), 5)),
        ["1980", "2000", "2020", "2040", "2060"]
    );
    assert_eq!(
        [0.0, 999.0, 12_345.0, 1.5e6, 0.25, 2e7].map(short),
        ["0", "999", "12.3 k", "1.5 M", "0.25", "20 M"]
    );
    assert_eq!(
        [1_234_567.0, -0.5, 1e20, 1234.5678].map(long),
        ["1,234,567", "-0.5", "1.00000e20", "1,234.57"]
    );
}
