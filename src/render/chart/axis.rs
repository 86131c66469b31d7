//! Axes: from where to where, and which places on them have a label.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime};

use super::values::Order;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Between ticks, in milliseconds, where months are none.
const STEPS: [i64; 24] = [
    1,
    10,
    100,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    5 * DAY,
    10 * DAY,
];
/// Between ticks, in months.
const MONTHS: [u32; 11] = [1, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 6000];

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub from: f64,
    pub to: f64,
    /// Places and labels, in order.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From `least` to `most` in their order, with about `num_ticks` labels.
    pub(super) fn new(order: Order, (least, most): (f64, f64), num_ticks: usize) -> Axis {
        match order {
            Order::Day => Axis::of_times(least, most, num_ticks, DAY),
            Order::Time => Axis::of_times(least, most, num_ticks, 1),
            Order::Whole => Axis::of_numbers(least, most, num_ticks, 1.0),
            Order::Number | Order::None => Axis::of_numbers(least, most, num_ticks, 0.0),
        }
    }

    /// As [`Axis::new`] of numbers, and it begins and ends at a label.
    pub(super) fn rounded((least, most): (f64, f64), num_ticks: usize) -> Axis {
        let (least, most) = apart(least, most);
        let step = step(least, most, num_ticks, 0.0);
        Axis::of_numbers((least / step).floor() * step, (most / step).ceil() * step, num_ticks, 0.0)
    }

    /// How far along the axis a value lies: 0 at its beginning, 1 at its end.
    pub(super) fn share(&self, value: f64) -> f64 {
        // Halves, as the difference of the two ends may not fit.
        ((value / 2.0 - self.from / 2.0) / (self.to / 2.0 - self.from / 2.0)).clamp(0.0, 1.0)
    }

    fn of_numbers(least: f64, most: f64, num_ticks: usize, step_min: f64) -> Axis {
        let (from, to) = apart(least, most);
        let step = step(from, to, num_ticks, step_min);
        let first = (from / step).ceil();
        let count = (to / step - first + 1e-9).floor().max(0.0) as usize;
        let places = (0..=count.min(1000)).map(|number| (first + number as f64) * step);
        let unit = Unit::of(from.abs().max(to.abs()));
        let ticks = places.map(|place| (place, unit.tick(place, step))).collect();
        Axis { from, to, ticks }
    }

    fn of_times(least: f64, most: f64, num_ticks: usize, step_min: i64) -> Axis {
        let (from, to) = if least < most { (least, most) } else { (least - DAY as f64, most + DAY as f64) };
        let room = (to - from) / num_ticks.max(1) as f64;
        let fitting = STEPS.iter().find(|step| **step >= step_min && **step as f64 >= room);
        let (places, pattern) = match fitting {
            Some(step) => (every(*step, from, to), pattern(*step, from, to)),
            None => {
                let months = MONTHS.iter().find(|months| f64::from(**months) * 30.5 * DAY as f64 >= room);
                let months = months.copied().unwrap_or(MONTHS[MONTHS.len() - 1]);
                (every_months(months, from, to), if months < 12 { "%Y-%m" } else { "%Y" })
            }
        };
        let ticks = places.into_iter().map(|place| (place as f64, time(place as f64, pattern))).collect();
        Axis { from, to, ticks }
    }
}

/// Two ends that differ.
fn apart(least: f64, most: f64) -> (f64, f64) {
    match least < most {
        true => (least, most),
        false if least == 0.0 => (0.0, 1.0),
        false => (least - least.abs() / 2.0, most + most.abs() / 2.0),
    }
}

/// 1, 2 or 5 times a power of ten, so that there are about `num_ticks`.
fn step(from: f64, to: f64, num_ticks: usize, step_min: f64) -> f64 {
    let ticks = num_ticks.max(1) as f64;
    nice(to / ticks - from / ticks).max(step_min)
}

/// The least of 1, 2 and 5 times any power of ten that is not less than `value`.
pub(super) fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.abs().max(f64::MIN_POSITIVE).log10().floor());
    let found =
        [1.0, 2.0, 5.0].map(|part| part * power).into_iter().find(|step| *step >= value * (1.0 - 1e-9));
    found.unwrap_or(10.0 * power)
}

fn every(step: i64, from: f64, to: f64) -> Vec<i64> {
    let (first, last) = ((from / step as f64).ceil() as i64, (to / step as f64).floor() as i64);
    (first..=last).map(|number| number.saturating_mul(step)).collect()
}

fn every_months(months: u32, from: f64, to: f64) -> Vec<i64> {
    let Some(date) = DateTime::from_timestamp_millis(from as i64).map(|time| time.date_naive()) else {
        return Vec::new();
    };
    let month = date.month0() / months.min(12) * months.min(12);
    let years = i32::try_from((months / 12).max(1)).unwrap_or(1);
    let mut next = NaiveDate::from_ymd_opt(date.year().div_euclid(years) * years, month + 1, 1);
    let mut places = Vec::new();
    while let Some(date) = next {
        let place = date.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
        if place as f64 > to {
            break;
        }
        if place as f64 >= from {
            places.push(place);
        }
        next = date.checked_add_months(Months::new(months));
    }
    places
}

/// What tells ticks apart, and no more.
fn pattern(step: i64, from: f64, to: f64) -> &'static str {
    let is_one_day = (from / DAY as f64).floor() == (to / DAY as f64).floor();
    match step {
        step if step >= DAY => "%Y-%m-%d",
        step if step >= MINUTE && is_one_day => "%H:%M",
        step if step >= MINUTE => "%m-%d %H:%M",
        step if step >= SECOND => "%H:%M:%S",
        _ => "%H:%M:%S%.3f",
    }
}

/// Milliseconds since 1970 as text; empty where no calendar reaches.
pub(super) fn time(unix_ms: f64, pattern: &str) -> String {
    let time = DateTime::from_timestamp_millis(unix_ms as i64);
    time.map_or_else(String::new, |time| time.format(pattern).to_string())
}

/// The milliseconds of a day.
pub(super) const DAY_MILLISECONDS: f64 = DAY as f64;

/// What large numbers are counted in.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Unit {
    size: f64,
    letter: &'static str,
}

impl Unit {
    fn of(most: f64) -> Unit {
        let units = [(1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")];
        let found = units.into_iter().find(|(size, _)| most >= *size && most < 1e21);
        let (size, letter) = found.unwrap_or((1.0, ""));
        Unit { size: if letter == " k" { 1e3 } else { size }, letter }
    }

    /// With as many decimals as tell it from its neighbour.
    fn tick(self, value: f64, step: f64) -> String {
        let (value, step) = (value / self.size, step / self.size);
        if value == 0.0 {
            return "0".to_owned();
        }
        if !(1e-4..1e9).contains(&value.abs().max(step)) {
            return format!("{value:.1e}");
        }
        let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.decimals$}{}", self.letter)
    }
}

/// With three digits: `1.23 M`.
pub(super) fn short(value: f64) -> String {
    let unit = Unit::of(value.abs());
    let digits = (value / unit.size).abs().max(f64::MIN_POSITIVE).log10().floor();
    let text = unit.tick(value, 10_f64.powf((digits - 2.0).min(0.0)) * unit.size);
    let (number, letter) = text.split_at(text.len() - unit.letter.len());
    match number.contains('.') && !number.contains('e') {
        true => format!("{}{letter}", number.trim_end_matches('0').trim_end_matches('.')),
        false => text,
    }
}

/// Every which label is written of those that lie `spacing` apart, so that none touches the next one.
pub(super) fn stride(widest: usize, spacing: f64) -> usize {
    let fits = |stride: &usize| *stride as f64 * spacing >= widest as f64;
    [1, 2, 5, 10, 20, 50, 100, 200].into_iter().find(fits).unwrap_or(500)
}

/// Whole numbers whole, with commas; others with six digits.
pub(super) fn long(value: f64) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    if value.abs() >= 1e15 || (value != 0.0 && value.abs() < 1e-4) {
        return format!("{value:.5e}");
    }
    let digits = value.abs().max(1.0).log10().floor() as usize + 1;
    let decimals = if value.fract() == 0.0 { 0 } else { 6_usize.saturating_sub(digits) };
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let fraction = fraction.trim_end_matches('0');
    let sign = if value < 0.0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{fraction}") }
}
