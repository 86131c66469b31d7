//! The calendar of GoogleSQL: date parts, truncation, differences and formats, in UTC.

use std::sync::Arc;

use chrono::{Datelike, NaiveDate, Timelike};
use datafusion::arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};

use super::casts;
use super::functions::{dates, dates_of, ints, micros, texts};
use super::values;
use crate::emulator::encode::date_of;
use crate::emulator::fields::Kind;

pub(super) const DAY_US: i64 = 86_400_000_000;

/// BigQuery's timestamps lie between the years 1 and 9999.
pub(super) fn in_range(us: Option<i64>) -> Result<Option<i64>> {
    match us.filter(|us| (-62_135_596_800_000_000..=253_402_300_799_999_999).contains(us)) {
        Some(us) => Ok(Some(us)),
        None => exec_err!("Timestamp overflow"),
    }
}

pub(super) fn day_in_range(date: Option<NaiveDate>) -> Result<Option<i32>> {
    match date.and_then(values::days) {
        Some(day) => Ok(Some(day)),
        None => exec_err!("Date overflow"),
    }
}

pub(super) fn date(args: &[ArrayRef]) -> Result<ArrayRef> {
    let [one] = args else {
        let rows = ints(&args[0]).iter().zip(ints(&args[1])).zip(ints(&args[2]));
        return dates_of(rows.map(|((y, m), d)| {
            let (Some(y), Some(m), Some(d)) = (y, m, d) else { return Ok(None) };
            let number = |n: i64| u32::try_from(n).ok();
            day_in_range(
                i32::try_from(y)
                    .ok()
                    .zip(number(m).zip(number(d)))
                    .and_then(|(y, (m, d))| NaiveDate::from_ymd_opt(y, m, d)),
            )
        }));
    };
    casts::cast(one, Kind::Date, false)
}

pub(super) fn unit_us(unit: &str) -> Option<i64> {
    Some(match unit {
        "MICROSECOND" => 1,
        "MILLISECOND" => 1_000,
        "SECOND" => 1_000_000,
        "MINUTE" => 60_000_000,
        "HOUR" => 3_600_000_000,
        "DAY" => DAY_US,
        _ => return None,
    })
}

pub(super) fn shift_date(day: i32, n: Option<i64>, unit: &str) -> Result<Option<i32>> {
    let shifted = n.and_then(|n| {
        let date = date_of(day)?;
        match unit {
            "DAY" | "WEEK" => {
                let days = n.checked_mul(if unit == "WEEK" { 7 } else { 1 })?.checked_add(day.into())?;
                date_of(i32::try_from(days).ok()?)
            }
            "MONTH" => values::add_months(date, n),
            "QUARTER" => values::add_months(date, n.checked_mul(3)?),
            "YEAR" => values::add_months(date, n.checked_mul(12)?),
            _ => None,
        }
    });
    if !matches!(unit, "DAY" | "WEEK" | "MONTH" | "QUARTER" | "YEAR") {
        return exec_err!("DATE_ADD and DATE_SUB do not support the {unit} date part");
    }
    day_in_range(shifted)
}

pub(super) fn trunc_date(date: Option<NaiveDate>, unit: &str) -> Result<Option<i32>> {
    let Some(date) = date else { return exec_err!("Date overflow") };
    let back = |days: u32| date - chrono::Days::new(days.into());
    let cut = match unit {
        "WEEK" => Some(back(date.weekday().num_days_from_sunday())),
        "ISOWEEK" => Some(back(date.weekday().num_days_from_monday())),
        "MONTH" => date.with_day(1),
        "QUARTER" => NaiveDate::from_ymd_opt(date.year(), (date.month0() / 3) * 3 + 1, 1),
        "YEAR" => NaiveDate::from_ymd_opt(date.year(), 1, 1),
        _ => return exec_err!("A truncation to {unit} is not supported"),
    };
    day_in_range(cut)
}

/// Counts the boundaries between two days, not whole units.
pub(super) fn date_diff(a: i32, b: i32, unit: &str) -> Result<Option<i64>> {
    let (Some(first), Some(second)) = (date_of(a), date_of(b)) else { return exec_err!("Date overflow") };
    let months = |d: NaiveDate| i64::from(d.year()) * 12 + i64::from(d.month0());
    let week = |unit: &str, d: NaiveDate| trunc_date(Some(d), unit).map(|d| i64::from(d.unwrap_or_default()));
    Ok(Some(match unit {
        "DAY" => i64::from(a) - i64::from(b),
        "WEEK" | "ISOWEEK" => (week(unit, first)? - week(unit, second)?) / 7,
        "MONTH" => months(first) - months(second),
        "QUARTER" => months(first).div_euclid(3) - months(second).div_euclid(3),
        "YEAR" => i64::from(first.year()) - i64::from(second.year()),
        _ => return exec_err!("DATE_DIFF does not support the {unit} date part"),
    }))
}

pub(super) fn extract(units: &ArrayRef, times: &ArrayRef) -> Result<ArrayRef> {
    let is_date = times.data_type() == &DataType::Date32;
    let one = |row: usize| -> Result<Option<i64>> {
        if units.is_null(row) || times.is_null(row) {
            return Ok(None);
        }
        let unit = texts(units).value(row);
        let us = match is_date {
            true => i64::from(dates(times).value(row)) * DAY_US,
            false => micros(times).value(row),
        };
        let Some(time) = values::datetime_of(us) else { return exec_err!("Timestamp overflow") };
        let value = match unit {
            "YEAR" => time.year().into(),
            "QUARTER" => i64::from(time.month0() / 3 + 1),
            "MONTH" => time.month().into(),
            "DAY" => time.day().into(),
            "DAYOFWEEK" => i64::from(time.weekday().num_days_from_sunday()) + 1,
            "DAYOFYEAR" => time.ordinal().into(),
            "ISOWEEK" => time.iso_week().week().into(),
            "ISOYEAR" => time.iso_week().year().into(),
            "HOUR" if !is_date => time.hour().into(),
            "MINUTE" if !is_date => time.minute().into(),
            "SECOND" if !is_date => time.second().into(),
            "MILLISECOND" if !is_date => us.rem_euclid(1_000_000) / 1000,
            "MICROSECOND" if !is_date => us.rem_euclid(1_000_000),
            _ => return exec_err!("EXTRACT of {unit} is not supported by the embedded server"),
        };
        Ok(Some(value))
    };
    Ok(Arc::new((0..times.len()).map(one).collect::<Result<Int64Array>>()?))
}

/// The conversions that strftime and BigQuery agree on.
pub(super) fn format(formats: &ArrayRef, times: &ArrayRef, kind: Kind) -> Result<ArrayRef> {
    let one = |row: usize| -> Result<Option<String>> {
        if formats.is_null(row) || times.is_null(row) {
            return Ok(None);
        }
        let format = texts(formats).value(row);
        let conversions = format.split('%').skip(1);
        let known = "YmdHMSFTjybBaAuUeIp";
        if conversions.into_iter().any(|c| !c.starts_with(|c: char| known.contains(c))) {
            return exec_err!("not supported by the embedded server: the format string {format}");
        }
        let us = match kind {
            Kind::Date => i64::from(dates(times).value(row)) * DAY_US,
            _ => micros(times).value(row),
        };
        let Some(time) = values::datetime_of(us) else { return exec_err!("Timestamp overflow") };
        Ok(Some(time.format(format).to_string()))
    };
    Ok(Arc::new((0..times.len()).map(one).collect::<Result<StringArray>>()?))
}
