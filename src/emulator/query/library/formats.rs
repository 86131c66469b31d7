//! FORMAT_DATE, PARSE_TIMESTAMP and their kin: the format elements of GoogleSQL.

use std::fmt::Write;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::array::timezone::Tz;
use datafusion::common::Result;

use super::Function;
use super::calendar::{DAY_US, in_range, naive, to_local, to_utc, week_of_year, zone};
use super::rows::{dates, datetimes, given, texts, times, timestamps};
use crate::emulator::query::values;
use crate::emulator::query::wording::exec_err;

pub(super) fn functions() -> Vec<Function> {
    let f = Function::listed;
    vec![
        f(
            "FORMAT_DATE",
            "STRING, DATE -> STRING | STRING, DATETIME -> STRING | STRING, TIMESTAMP -> STRING",
            formatted,
        ),
        f("FORMAT_DATETIME", "STRING, DATETIME -> STRING | STRING, TIMESTAMP -> STRING", formatted),
        f("FORMAT_TIME", "STRING, TIME -> STRING", formatted),
        f(
            "FORMAT_TIMESTAMP",
            "STRING, TIMESTAMP -> STRING | STRING, TIMESTAMP, STRING -> STRING | STRING, DATETIME -> STRING",
            formatted,
        ),
        f("PARSE_DATE", "STRING, STRING -> DATE", |args, n| {
            dates(args, n, |row| {
                let parsed = parse(given!(row.text(0)), given!(row.text(1)))?;
                Ok(i32::try_from(parsed.us.div_euclid(DAY_US)).ok())
            })
        }),
        f("PARSE_DATETIME", "STRING, STRING -> DATETIME", |args, n| {
            datetimes(args, n, |row| Ok(Some(parse(given!(row.text(0)), given!(row.text(1)))?.us)))
        }),
        f("PARSE_TIME", "STRING, STRING -> TIME", |args, n| {
            times(args, n, |row| {
                Ok(Some(parse(given!(row.text(0)), given!(row.text(1)))?.us.rem_euclid(DAY_US)))
            })
        }),
        f(
            "PARSE_TIMESTAMP",
            "STRING, STRING -> TIMESTAMP | STRING, STRING, STRING -> TIMESTAMP",
            |args, n| {
                timestamps(args, n, |row| {
                    let parsed = parse(given!(row.text(0)), given!(row.text(1)))?;
                    let default = if row.is_given(2) { Some(zone(given!(row.text(2)))?) } else { None };
                    match (parsed.offset_s, default) {
                        (Some(offset), _) => in_range(parsed.us.checked_sub(offset * 1_000_000)).map(Some),
                        (None, Some(zone)) => to_utc(parsed.us, zone).map(Some),
                        (None, None) => Ok(Some(parsed.us)),
                    }
                })
            },
        ),
    ]
}

fn formatted(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    texts(args, n, |row| {
        let (format, us) = (given!(row.text(0)), given!(row.micros(1)));
        let zone = zone(if row.is_given(2) { given!(row.text(2)) } else { "UTC" })?;
        format_time(format, us, zone).map(Some)
    })
}

fn format_time(format: &str, us: i64, zone: Tz) -> Result<String> {
    let local_us = to_local(us, zone)?;
    let (time, offset_s) = (naive(local_us)?, (local_us - us) / 1_000_000);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('E') => match (chars.next(), chars.as_str()) {
                (Some('z'), _) => push_offset(&mut out, offset_s, ":"),
                (Some('Y'), _) => push_element(&mut out, 'Y', &time, offset_s, us)?,
                (Some('4'), rest) if rest.starts_with('Y') => {
                    chars.next();
                    let _ = write!(out, "{:04}", time.year());
                }
                (Some('*'), rest) if rest.starts_with('S') => {
                    chars.next();
                    push_seconds(&mut out, local_us, 6, true);
                }
                (Some(digit @ '0'..='9'), rest) if rest.starts_with('S') => {
                    chars.next();
                    push_seconds(&mut out, local_us, digit.to_digit(10).unwrap_or(0) as usize, false);
                }
                _ => return exec_err!("Invalid format string: {format}"),
            },
            Some(element) => push_element(&mut out, element, &time, offset_s, us)?,
            None => return exec_err!("Invalid format string: {format}"),
        }
    }
    Ok(out)
}

/// Seconds with so many digits behind the point; without the zeros at the end when `short`.
fn push_seconds(out: &mut String, us: i64, digits: usize, short: bool) {
    let _ = write!(out, "{:02}", us.rem_euclid(60_000_000) / 1_000_000);
    let fraction = format!("{:06}000", us.rem_euclid(1_000_000));
    let fraction = &fraction[..digits.min(9)];
    let fraction = if short { fraction.trim_end_matches('0') } else { fraction };
    if !fraction.is_empty() {
        let _ = write!(out, ".{fraction}");
    }
}

fn push_offset(out: &mut String, offset_s: i64, separator: &str) {
    let (sign, minutes) = (if offset_s < 0 { '-' } else { '+' }, offset_s.abs() / 60);
    let _ = write!(out, "{sign}{:02}{separator}{:02}", minutes / 60, minutes % 60);
}

fn push_element(out: &mut String, element: char, time: &NaiveDateTime, offset_s: i64, us: i64) -> Result<()> {
    let (date, hour12) = (time.date(), (time.hour() + 11) % 12 + 1);
    let strftime = |out: &mut String, pattern: &str| {
        let _ = write!(out, "{}", time.format(pattern));
    };
    let _ = match element {
        '%' => write!(out, "%"),
        'n' => writeln!(out),
        't' => write!(out, "\t"),
        // What strftime and BigQuery agree on.
        'A' | 'a' | 'B' | 'b' | 'h' | 'd' | 'H' | 'I' | 'j' | 'M' | 'm' | 'p' | 'S' | 'y' | 'e' | 'k'
        | 'l' | 'D' | 'F' | 'R' | 'T' | 'G' | 'g' | 'V' | 'u' | 'w' | 'C' => {
            strftime(out, &format!("%{element}"));
            Ok(())
        }
        'P' => write!(out, "{}", if time.hour() < 12 { "am" } else { "pm" }),
        'c' => {
            strftime(out, "%a %b %e %H:%M:%S ");
            write!(out, "{}", date.year())
        }
        'x' => write!(out, "{}", time.format("%m/%d/%y")),
        'X' => write!(out, "{}", time.format("%H:%M:%S")),
        'r' => write!(out, "{hour12:02}:{}", time.format("%M:%S %p")),
        'Y' => write!(out, "{}", date.year()),
        'Q' => write!(out, "{}", date.month0() / 3 + 1),
        'J' => {
            let first = NaiveDate::from_isoywd_opt(date.iso_week().year(), 1, chrono::Weekday::Mon);
            write!(out, "{:03}", first.map_or(0, |first| (date - first).num_days() + 1))
        }
        's' => write!(out, "{}", us.div_euclid(1_000_000)),
        'U' => write!(out, "{:02}", week_of_year(date, 0)),
        'W' => write!(out, "{:02}", week_of_year(date, 1)),
        'z' => {
            push_offset(out, offset_s, "");
            Ok(())
        }
        'Z' if offset_s == 0 => write!(out, "UTC"),
        other => return exec_err!("not supported by the embedded server: the format element %{other}"),
    };
    Ok(())
}

/// What a text says: a clock's reading, and its offset from UTC if there is one.
struct Parsed {
    us: i64,
    offset_s: Option<i64>,
}

#[derive(Default)]
struct Parts {
    year: Option<i64>,
    month: i64,
    day: i64,
    day_of_year: Option<i64>,
    hour: i64,
    hour12: Option<i64>,
    is_pm: bool,
    minute: i64,
    second: i64,
    micros: i64,
    epoch_s: Option<i64>,
    offset_s: Option<i64>,
}

fn parse(format: &str, text: &str) -> Result<Parsed> {
    let mut parts = Parts { month: 1, day: 1, ..Parts::default() };
    let rest = match parse_elements(format, text.trim_start(), &mut parts)? {
        Some(rest) => rest.trim_start(),
        None => return exec_err!("Failed to parse input string \"{text}\""),
    };
    if !rest.is_empty() {
        return exec_err!("Illegal non-space trailing data '{rest}' in string \"{text}\"");
    }
    match parts.micros() {
        Some(us) => Ok(Parsed { us: in_range(Some(us))?, offset_s: parts.offset_s }),
        None => exec_err!("Failed to parse input string \"{text}\""),
    }
}

impl Parts {
    fn micros(&self) -> Option<i64> {
        if let Some(seconds) = self.epoch_s {
            return seconds.checked_mul(1_000_000);
        }
        let hour = match self.hour12 {
            Some(hour) => hour % 12 + if self.is_pm { 12 } else { 0 },
            None => self.hour,
        };
        let year = i32::try_from(self.year.unwrap_or(1970)).ok()?;
        let number = |n: i64| u32::try_from(n).ok();
        let date = match self.day_of_year {
            Some(day) => NaiveDate::from_yo_opt(year, number(day)?)?,
            None => NaiveDate::from_ymd_opt(year, number(self.month)?, number(self.day)?)?,
        };
        let clock = ((hour * 60 + self.minute) * 60 + self.second) * 1_000_000 + self.micros;
        Some(i64::from(values::days(date)?) * DAY_US + clock)
    }
}

/// What is left of the text behind the elements; `None` where they do not fit.
fn parse_elements<'a>(format: &str, mut text: &'a str, parts: &mut Parts) -> Result<Option<&'a str>> {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            text = text.trim_start();
            continue;
        }
        if c != '%' {
            match text.strip_prefix(c) {
                Some(rest) => text = rest,
                None => return Ok(None),
            }
            continue;
        }
        let mut element = chars.next().unwrap_or('?');
        let mut fraction = false;
        if element == 'E' {
            element = match chars.next() {
                Some('4') if chars.as_str().starts_with('Y') => chars.next().unwrap_or('Y'),
                Some('*' | '0'..='9') if chars.as_str().starts_with('S') => {
                    fraction = true;
                    chars.next().unwrap_or('S')
                }
                Some('z') => 'z',
                Some('Y') => 'Y',
                _ => return exec_err!("Invalid format string: {format}"),
            };
        }
        // Composites are their elements.
        let composite = match element {
            'F' => Some("%Y-%m-%d"),
            'T' | 'X' => Some("%H:%M:%S"),
            'R' => Some("%H:%M"),
            'D' | 'x' => Some("%m/%d/%y"),
            'r' => Some("%I:%M:%S %p"),
            'c' => Some("%a %b %e %H:%M:%S %Y"),
            _ => None,
        };
        let rest = match composite {
            Some(elements) => parse_elements(elements, text, parts)?,
            None => parse_element(element, text, parts)?,
        };
        text = match rest {
            Some(rest) => rest,
            None => return Ok(None),
        };
        if fraction && let Some(digits) = text.strip_prefix('.') {
            let length = digits.bytes().take_while(u8::is_ascii_digit).count();
            let six: String = digits[..length].chars().chain("000000".chars()).take(6).collect();
            parts.micros = six.parse().unwrap_or(0);
            text = &digits[length..];
        }
    }
    Ok(Some(text))
}

fn parse_element<'a>(element: char, text: &'a str, parts: &mut Parts) -> Result<Option<&'a str>> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let mut number = |digits: usize, low: i64, high: i64, set: &mut dyn FnMut(&mut Parts, i64)| {
        let text = text.trim_start();
        let length = text.bytes().take(digits).take_while(u8::is_ascii_digit).count();
        let value = text[..length].parse::<i64>().ok().filter(|v| (low..=high).contains(v))?;
        set(parts, value);
        Some(&text[length..])
    };
    Ok(match element {
        'Y' => number(4, 1, 9999, &mut |p, v| p.year = Some(v)),
        'y' => number(2, 0, 99, &mut |p, v| p.year = Some(if v < 69 { 2000 + v } else { 1900 + v })),
        'm' => number(2, 1, 12, &mut |p, v| p.month = v),
        'd' | 'e' => number(2, 1, 31, &mut |p, v| p.day = v),
        'j' => number(3, 1, 366, &mut |p, v| p.day_of_year = Some(v)),
        'H' | 'k' => number(2, 0, 23, &mut |p, v| p.hour = v),
        'I' | 'l' => number(2, 1, 12, &mut |p, v| p.hour12 = Some(v)),
        'M' => number(2, 0, 59, &mut |p, v| p.minute = v),
        'S' => number(2, 0, 60, &mut |p, v| p.second = v),
        's' => {
            let length = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'-').count();
            text[..length].parse().ok().map(|seconds| {
                parts.epoch_s = Some(seconds);
                &text[length..]
            })
        }
        'b' | 'B' | 'h' => named(text, &MONTHS).map(|(at, rest)| {
            parts.month = at + 1;
            rest
        }),
        // The day of the week is read and tells nothing.
        'a' | 'A' => named(text, &DAYS).map(|(_, rest)| rest),
        'p' | 'P' => named(text, &["am", "pm"]).map(|(at, rest)| {
            parts.is_pm = at == 1;
            rest
        }),
        'z' | 'Z' => parse_offset(text).map(|(offset, rest)| {
            parts.offset_s = Some(offset);
            rest
        }),
        '%' => text.strip_prefix('%'),
        'n' | 't' => Some(text.trim_start()),
        other => return exec_err!("not supported by the embedded server: the format element %{other}"),
    })
}

/// A name, whole or by its first three letters.
fn named<'a>(text: &'a str, names: &[&str]) -> Option<(i64, &'a str)> {
    for length in [None, Some(3)] {
        for (at, name) in names.iter().enumerate() {
            let name = length.map_or(*name, |length| name.get(..length).unwrap_or(name));
            if let Some(start) = text.get(..name.len())
                && start.eq_ignore_ascii_case(name)
            {
                return Some((i64::try_from(at).ok()?, &text[name.len()..]));
            }
        }
    }
    None
}

/// `+0530`, `+05:30`, `-8`, `Z` and `UTC`.
fn parse_offset(text: &str) -> Option<(i64, &str)> {
    for name in ["UTC", "Z"] {
        if let Some(rest) = text.strip_prefix(name) {
            return Some((0, rest));
        }
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text.strip_prefix(['+', '-'])?;
    let take = |text: &str, max: usize| text.bytes().take(max).take_while(u8::is_ascii_digit).count();
    let length = take(digits, 2);
    let (hours, rest) = digits.split_at(length);
    let behind = rest.strip_prefix(':').unwrap_or(rest);
    let (minutes, rest) = match take(behind, 2) {
        2 => behind.split_at(2),
        _ => ("0", rest),
    };
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours <= 14 && minutes < 60).then_some((sign * (hours * 3600 + minutes * 60), rest))
}
