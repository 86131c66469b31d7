//! Dates, timestamps and numbers as GoogleSQL reads and prints them.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use crate::emulator::encode::{date_text, datetime_text};

const EPOCH_DAYS_CE: i32 = 719_163;

/// `2024-1-5` and `2024-01-05`: days since 1970-01-01.
pub(in crate::emulator) fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.trim().splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || !(1..=2).contains(&month.len()) || !(1..=2).contains(&day.len()) {
        return None;
    }
    days(NaiveDate::from_ymd_opt(digits(year)?.try_into().ok()?, digits(month)?, digits(day)?)?)
}

pub(super) fn days(date: NaiveDate) -> Option<i32> {
    use chrono::Datelike;
    (1..=9999).contains(&date.year()).then(|| date.num_days_from_ce() - EPOCH_DAYS_CE)
}

/// A timestamp with an offset, `Z` or `UTC`, or without any and then in UTC: microseconds since 1970.
pub(in crate::emulator) fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    let (local, offset_s) = split_zone(text)?;
    let local_us = parse_datetime(local)?;
    local_us.checked_sub(offset_s * 1_000_000)
}

/// `2024-01-05`, `2024-01-05 01:02:03.456` or with a `T`: microseconds as if it were UTC.
pub(in crate::emulator) fn parse_datetime(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = match text.find([' ', 'T', 't']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let date_us = i64::from(parse_date(date)?) * 86_400_000_000;
    let time_us = match time {
        None => 0,
        Some(time) => {
            let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
            let parts: Vec<&str> = clock.split(':').collect();
            let [hour, minute, second] = parts.as_slice() else { return None };
            let clock = NaiveTime::from_hms_opt(digits(hour)?, digits(minute)?, digits(second)?)?;
            if fraction.len() > 6 || (time.contains('.') && fraction.is_empty()) {
                return None;
            }
            let micros = if fraction.is_empty() {
                0
            } else {
                digits(fraction)? * 10_u32.pow(6 - fraction.len() as u32)
            };
            let since_midnight = clock.signed_duration_since(NaiveTime::MIN).num_microseconds()?;
            since_midnight + i64::from(micros)
        }
    };
    date_us.checked_add(time_us)
}

fn split_zone(text: &str) -> Option<(&str, i64)> {
    for suffix in ["Z", "z", " UTC", "UTC"] {
        if let Some(local) = text.strip_suffix(suffix) {
            return Some((local.trim_end(), 0));
        }
    }
    // A sign after the date starts an offset; the date itself has two dashes.
    let Some(at) = text.rfind(['+', '-']).filter(|at| *at > 9 && text[..*at].contains(':')) else {
        return Some((text, 0));
    };
    let (hours, minutes) = match text[at + 1..].split_once(':') {
        Some((hours, minutes)) => (digits(hours)?, digits(minutes)?),
        None => (digits(&text[at + 1..])?, 0),
    };
    if hours > 14 || minutes > 59 {
        return None;
    }
    let seconds = i64::from(hours * 3600 + minutes * 60);
    Some((text[..at].trim_end(), if text.as_bytes()[at] == b'-' { -seconds } else { seconds }))
}

fn digits(text: &str) -> Option<u32> {
    (!text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

pub(super) fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let value = i64::try_from(u64::from_str_radix(hex, 16).ok()?).ok()?;
        return Some(if negative { -value } else { value });
    }
    rest.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(in crate::emulator) fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.to_ascii_lowercase().trim_start_matches('+') {
        "inf" | "infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        _ => text.parse().ok().filter(|v: &f64| v.is_finite()),
    }
}

pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// `CAST(x AS STRING)` of a TIMESTAMP: `2024-01-05 01:02:03.456+00`.
pub(super) fn timestamp_text(micros: i64) -> String {
    format!("{}+00", short_fraction(datetime_text(micros, ' ')))
}

/// In a literal of INFORMATION_SCHEMA, from milliseconds: `2024-01-05T01:02:03.456Z`.
pub(super) fn timestamp_literal(ms: i64) -> String {
    let micros = ms.saturating_mul(1000);
    let text = datetime_text(micros.div_euclid(1_000_000).saturating_mul(1_000_000), 'T');
    format!("{text}.{:03}Z", ms.rem_euclid(1000))
}

pub(super) fn cast_datetime_text(micros: i64) -> String {
    short_fraction(datetime_text(micros, ' '))
}

/// Milliseconds are printed with three digits, not six.
pub(super) fn short_fraction(text: String) -> String {
    match text.strip_suffix("000") {
        Some(short) if text.contains('.') => short.to_owned(),
        _ => text,
    }
}

pub(super) fn cast_date_text(days: i32) -> String {
    date_text(days)
}

/// `01:02:03.456`: microseconds since midnight, or within a day.
pub(super) fn time_text(micros: i64) -> String {
    short_fraction(datetime_text(micros.rem_euclid(86_400_000_000), ' ')).split_off(11)
}

/// `1:2:3.5`: microseconds since midnight.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    parse_datetime(&format!("1970-01-01 {}", text.trim()))
}

/// A FLOAT64's text as a literal that is no INT64.
pub(super) fn float_literal(text: &str) -> String {
    match text {
        "nan" | "inf" | "-inf" => format!("CAST(\"{text}\" AS FLOAT64)"),
        text if text.contains(['.', 'e']) => text.to_owned(),
        text => format!("{text}.0"),
    }
}

/// `CAST(x AS STRING)` of a FLOAT64: `1`, `1.5`, `1e+20`, `inf`.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    // C's %.15g, and %.17g where 15 digits do not bring the value back.
    let precision = if digits <= 15 { 15 } else { 17 };
    if (-4..precision).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// Adds calendar months; the day is cut to the last of the month.
pub(super) fn add_months(date: NaiveDate, months: i64) -> Option<NaiveDate> {
    let count = chrono::Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months >= 0 { date.checked_add_months(count) } else { date.checked_sub_months(count) }
}

pub(super) fn datetime_of(micros: i64) -> Option<NaiveDateTime> {
    chrono::DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_in_every_spelling() {
        for text in [
            "2024-01-02 03:04:05",
            "2024-1-2T3:04:05Z",
            "2024-01-02 03:04:05 UTC",
            "2024-01-02 05:04:05+02",
            "2024-01-01 22:34:05-04:30",
            "2024-01-02 03:04:05.000000+00:00",
        ] {
            assert_eq!(parse_timestamp(text), Some(1_704_164_645_000_000), "{text}");
        }
        assert_eq!(parse_timestamp("2024-01-02"), Some(1_704_153_600_000_000));
        for text in
            ["", "2024", "2024-13-01", "2023-02-29", "2024-01-02 25:00:00", "2024-01-02 03:04:05 Mars"]
        {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn casts_print_as_bigquery_does() {
        assert_eq!(timestamp_text(1_793_491_200_000_000), "2026-11-01 00:00:00+00");
        assert_eq!(timestamp_text(1_704_164_645_123_000), "2024-01-02 03:04:05.123+00");
        assert_eq!(timestamp_text(1_704_164_645_123_456), "2024-01-02 03:04:05.123456+00");
        for (value, text) in [(1.0, "1"), (1.5, "1.5"), (1e20, "1e+20"), (1e-5, "1e-05"), (0.1, "0.1")] {
            assert_eq!(float_text(value), text);
        }
        assert_eq!(parse_int("0x1F"), Some(31));
        assert_eq!(parse_int("1.5"), None);
    }
}
