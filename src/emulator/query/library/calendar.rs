//! DATE, DATETIME, TIME and TIMESTAMP: shifted, cut, compared, taken apart and put together.

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeZone, Timelike};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Result;

use super::Function;
use super::rows::{Row, dates, datetimes, given, ints, texts, times, timestamps};
use crate::emulator::encode::date_of;
use crate::emulator::query::values;
use crate::emulator::query::wording::exec_err;

pub(super) const DAY_US: i64 = 86_400_000_000;
/// What LAST_DAY(date) means.
pub(in crate::emulator::query) const LAST_DAY_DEFAULT: &str = "MONTH";

const SHIFTED: &str = "DATE, INT64, STRING -> DATE | DATETIME, INT64, STRING -> DATETIME | \
                       TIMESTAMP, INT64, STRING -> TIMESTAMP";
const SHIFTED_DATETIME: &str = "DATETIME, INT64, STRING -> DATETIME | TIMESTAMP, INT64, STRING -> TIMESTAMP";
const SHIFTED_TIMESTAMP: &str = "TIMESTAMP, INT64, STRING -> TIMESTAMP | DATETIME, INT64, STRING -> DATETIME";
const CUT: &str = "DATE, STRING -> DATE | DATETIME, STRING -> DATETIME | TIMESTAMP, STRING -> TIMESTAMP | \
                   TIMESTAMP, STRING, STRING -> TIMESTAMP";
const CUT_DATETIME: &str = "DATETIME, STRING -> DATETIME | TIMESTAMP, STRING -> TIMESTAMP | \
                            TIMESTAMP, STRING, STRING -> TIMESTAMP";
const CUT_TIMESTAMP: &str = "TIMESTAMP, STRING -> TIMESTAMP | TIMESTAMP, STRING, STRING -> TIMESTAMP | \
                             DATETIME, STRING -> DATETIME";

pub(super) fn functions() -> Vec<Function> {
    let f = Function::listed;
    vec![
        f("DATE_ADD", SHIFTED, |args, n| shifted(args, n, 1)),
        f("DATE_SUB", SHIFTED, |args, n| shifted(args, n, -1)),
        f("DATETIME_ADD", SHIFTED_DATETIME, |args, n| shifted(args, n, 1)),
        f("DATETIME_SUB", SHIFTED_DATETIME, |args, n| shifted(args, n, -1)),
        f("TIMESTAMP_ADD", SHIFTED_TIMESTAMP, |args, n| shifted(args, n, 1)),
        f("TIMESTAMP_SUB", SHIFTED_TIMESTAMP, |args, n| shifted(args, n, -1)),
        f("TIME_ADD", "TIME, INT64, STRING -> TIME", |args, n| shifted_time(args, n, 1)),
        f("TIME_SUB", "TIME, INT64, STRING -> TIME", |args, n| shifted_time(args, n, -1)),
        // `x + INTERVAL …`: a DATE becomes a DATETIME, so that hours may be added to it.
        f(
            "plus_interval",
            "DATETIME, INT64, STRING -> DATETIME | TIMESTAMP, INT64, STRING -> TIMESTAMP",
            |args, n| shifted(args, n, 1),
        ),
        f(
            "minus_interval",
            "DATETIME, INT64, STRING -> DATETIME | TIMESTAMP, INT64, STRING -> TIMESTAMP",
            |args, n| shifted(args, n, -1),
        ),
        f("DATE_TRUNC", CUT, truncated),
        f("DATETIME_TRUNC", CUT_DATETIME, truncated),
        f("TIMESTAMP_TRUNC", CUT_TIMESTAMP, truncated),
        f("TIME_TRUNC", "TIME, STRING -> TIME", |args, n| {
            times(args, n, |row| {
                let (us, unit) = (given!(row.micros(0)), given!(row.text(1)));
                let length = time_unit("TIME_TRUNC", unit)?;
                Ok(Some(us - us % length))
            })
        }),
        f(
            "DATE_DIFF",
            "DATE, DATE, STRING -> INT64 | DATETIME, DATETIME, STRING -> INT64 | TIMESTAMP, TIMESTAMP, STRING -> INT64",
            difference,
        ),
        f(
            "DATETIME_DIFF",
            "DATETIME, DATETIME, STRING -> INT64 | TIMESTAMP, TIMESTAMP, STRING -> INT64",
            difference,
        ),
        f(
            "TIMESTAMP_DIFF",
            "TIMESTAMP, TIMESTAMP, STRING -> INT64 | DATETIME, DATETIME, STRING -> INT64",
            difference,
        ),
        f("TIME_DIFF", "TIME, TIME, STRING -> INT64", |args, n| {
            ints(args, n, |row| {
                let length = time_unit("TIME_DIFF", given!(row.text(2)))?;
                Ok(Some(given!(row.micros(0)) / length - given!(row.micros(1)) / length))
            })
        }),
        f(
            "EXTRACT",
            "STRING, TIMESTAMP -> INT64 | STRING, TIMESTAMP, STRING -> INT64 | STRING, DATETIME -> INT64 | \
             STRING, DATE -> INT64 | STRING, TIME -> INT64",
            extract,
        ),
        f("LAST_DAY", "DATE, STRING -> DATE | DATETIME, STRING -> DATE", |args, n| {
            dates(args, n, |row| {
                let (us, unit) = (given!(row.micros(0)), given!(row.text(1)));
                let first = truncate_date(naive(us)?.date(), unit)?;
                let next = shift_date(
                    first,
                    1,
                    if unit.starts_with("WEEK") || unit == "ISOWEEK" { "WEEK" } else { unit },
                );
                day(next.and_then(|d| d.pred_opt())).map(Some)
            })
        }),
        f(
            "DATE",
            "TIMESTAMP -> DATE | TIMESTAMP, STRING -> DATE | DATETIME -> DATE | DATE -> DATE | \
             INT64, INT64, INT64 -> DATE",
            |args, n| {
                dates(args, n, |row| match args.len() {
                    3 => {
                        let parts = (given!(row.int(0)), given!(row.int(1)), given!(row.int(2)));
                        day(ymd(parts)).map(Some)
                    }
                    _ => day(Some(naive(given!(local(row, 0, 1)?))?.date())).map(Some),
                })
            },
        ),
        f(
            "DATETIME",
            "TIMESTAMP -> DATETIME | TIMESTAMP, STRING -> DATETIME | DATE -> DATETIME | DATE, TIME -> DATETIME | \
             DATETIME -> DATETIME | INT64, INT64, INT64, INT64, INT64, INT64 -> DATETIME",
            |args, n| {
                let with_time = args.get(1).is_some_and(|a| matches!(a.data_type(), DataType::Time64(_)));
                datetimes(args, n, |row| match args.len() {
                    6 => {
                        let date = ymd((given!(row.int(0)), given!(row.int(1)), given!(row.int(2))));
                        let time = hms((given!(row.int(3)), given!(row.int(4)), given!(row.int(5))))?;
                        Ok(Some(i64::from(day(date)?) * DAY_US + time))
                    }
                    2 if with_time => Ok(Some(given!(row.micros(0)) + given!(row.micros(1)))),
                    _ => local(row, 0, 1),
                })
            },
        ),
        f(
            "TIME",
            "TIMESTAMP -> TIME | TIMESTAMP, STRING -> TIME | DATETIME -> TIME | TIME -> TIME | \
             INT64, INT64, INT64 -> TIME",
            |args, n| {
                times(args, n, |row| match args.len() {
                    3 => hms((given!(row.int(0)), given!(row.int(1)), given!(row.int(2)))).map(Some),
                    _ => Ok(local(row, 0, 1)?.map(|us| us.rem_euclid(DAY_US))),
                })
            },
        ),
        f(
            "TIMESTAMP",
            "STRING -> TIMESTAMP | STRING, STRING -> TIMESTAMP | DATETIME -> TIMESTAMP | \
             DATETIME, STRING -> TIMESTAMP | TIMESTAMP -> TIMESTAMP",
            |args, n| {
                let is_text = args.first().is_some_and(|a| a.data_type() == &DataType::Utf8);
                timestamps(args, n, |row| {
                    let zone = if row.is_given(1) { Some(zone(given!(row.text(1)))?) } else { None };
                    if !is_text {
                        let us = given!(row.micros(0));
                        return zone.map_or(Ok(us), |zone| to_utc(us, zone)).map(Some);
                    }
                    let text = given!(row.text(0));
                    match (values::parse_timestamp(text), zone) {
                        (None, _) => exec_err!("Invalid timestamp: '{text}'"),
                        (Some(us), None) => Ok(Some(us)),
                        (Some(_), Some(zone)) => match values::parse_datetime(text) {
                            Some(us) => to_utc(us, zone).map(Some),
                            None => exec_err!("Invalid timestamp: '{text}' has a time zone of its own"),
                        },
                    }
                })
            },
        ),
        f(
            "STRING",
            "TIMESTAMP -> STRING | TIMESTAMP, STRING -> STRING | DATETIME -> STRING | DATE -> STRING | TIME -> STRING",
            |args, n| {
                texts(args, n, |row| {
                    Ok(Some(match args.first().map(|a| a.data_type()) {
                        Some(DataType::Date32) => values::cast_date_text(given!(row.date(0))),
                        Some(DataType::Time64(_)) => values::time_text(given!(row.micros(0))),
                        Some(DataType::Timestamp(_, None)) => {
                            values::cast_datetime_text(given!(row.micros(0)))
                        }
                        _ if row.is_given(1) => {
                            zoned_text(given!(row.micros(0)), zone(given!(row.text(1)))?)?
                        }
                        _ => values::timestamp_text(given!(row.micros(0))),
                    }))
                })
            },
        ),
        f("TIMESTAMP_SECONDS", "INT64 -> TIMESTAMP", |args, n| from_epoch(args, n, 1_000_000)),
        f("TIMESTAMP_MILLIS", "INT64 -> TIMESTAMP", |args, n| from_epoch(args, n, 1_000)),
        f("TIMESTAMP_MICROS", "INT64 -> TIMESTAMP", |args, n| from_epoch(args, n, 1)),
        f("UNIX_SECONDS", "TIMESTAMP -> INT64", |args, n| to_epoch(args, n, 1_000_000)),
        f("UNIX_MILLIS", "TIMESTAMP -> INT64", |args, n| to_epoch(args, n, 1_000)),
        f("UNIX_MICROS", "TIMESTAMP -> INT64", |args, n| to_epoch(args, n, 1)),
        f("UNIX_DATE", "DATE -> INT64", |args, n| ints(args, n, |row| Ok(row.date(0).map(i64::from)))),
        f("DATE_FROM_UNIX_DATE", "INT64 -> DATE", |args, n| {
            dates(args, n, |row| day(i32::try_from(given!(row.int(0))).ok().and_then(date_of)).map(Some))
        }),
    ]
}

fn from_epoch(args: &[ArrayRef], n: usize, unit: i64) -> Result<ArrayRef> {
    timestamps(args, n, |row| in_range(given!(row.int(0)).checked_mul(unit)).map(Some))
}

fn to_epoch(args: &[ArrayRef], n: usize, unit: i64) -> Result<ArrayRef> {
    ints(args, n, |row| Ok(row.micros(0).map(|us| us.div_euclid(unit))))
}

/// BigQuery's timestamps lie between the years 1 and 9999.
pub(super) fn in_range(us: Option<i64>) -> Result<i64> {
    match us.filter(|us| (-62_135_596_800_000_000..=253_402_300_799_999_999).contains(us)) {
        Some(us) => Ok(us),
        None => exec_err!("Timestamp is out of the supported range 0001-01-01 to 9999-12-31"),
    }
}

fn day(date: Option<NaiveDate>) -> Result<i32> {
    match date.and_then(values::days) {
        Some(day) => Ok(day),
        None => exec_err!("Date is out of the supported range 0001-01-01 to 9999-12-31"),
    }
}

fn ymd((year, month, day): (i64, i64, i64)) -> Option<NaiveDate> {
    let number = |n: i64| u32::try_from(n).ok();
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, number(month)?, number(day)?)
}

fn hms((hour, minute, second): (i64, i64, i64)) -> Result<i64> {
    if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..60).contains(&second) {
        return exec_err!("Input calculates to invalid time: {hour:02}:{minute:02}:{second:02}");
    }
    Ok(((hour * 60 + minute) * 60 + second) * 1_000_000)
}

pub(super) fn naive(us: i64) -> Result<NaiveDateTime> {
    match values::datetime_of(us) {
        Some(time) => Ok(time),
        None => exec_err!("Timestamp overflow"),
    }
}

/// A name of the tz database, or an offset such as `+05:30` and `-8`.
pub(super) fn zone(name: &str) -> Result<Tz> {
    let offset = name.strip_prefix("UTC").filter(|rest| rest.starts_with(['+', '-'])).unwrap_or(name);
    let padded = match offset.strip_prefix(['+', '-']) {
        Some(digits) => {
            let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "00"));
            format!("{}{hours:0>2}:{minutes}", &offset[..1])
        }
        None if matches!(name, "Z" | "z") => "UTC".into(),
        None => name.to_owned(),
    };
    match padded.parse() {
        Ok(zone) => Ok(zone),
        Err(_) => exec_err!("Invalid time zone: {name}"),
    }
}

/// The clock's reading in a zone, as if it were UTC.
pub(super) fn to_local(us: i64, zone: Tz) -> Result<i64> {
    use chrono::Offset;
    let offset = zone.offset_from_utc_datetime(&naive(us)?).fix().local_minus_utc();
    Ok(us + i64::from(offset) * 1_000_000)
}

/// The instant at which a clock in the zone shows this: the first of two, and behind a gap what it should show.
pub(super) fn to_utc(us: i64, zone: Tz) -> Result<i64> {
    use chrono::{LocalResult, Offset};
    let local = naive(us)?;
    let offset = match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => offset.fix(),
        LocalResult::None => {
            match zone.offset_from_local_datetime(&(local - chrono::TimeDelta::days(1))).earliest() {
                Some(offset) => offset.fix(),
                None => return exec_err!("Timestamp overflow"),
            }
        }
    };
    in_range(us.checked_sub(i64::from(offset.local_minus_utc()) * 1_000_000))
}

/// `at` as the clock of the zone that the argument `zone_at` names shows it.
fn local(row: Row<'_>, at: usize, zone_at: usize) -> Result<Option<i64>> {
    let us = given!(row.micros(at));
    if !row.is_given(zone_at) {
        return Ok(Some(us));
    }
    to_local(us, zone(given!(row.text(zone_at)))?).map(Some)
}

/// `2024-01-05 01:02:03+02`, with minutes where the offset has some.
pub(super) fn zoned_text(us: i64, zone: Tz) -> Result<String> {
    let local = to_local(us, zone)?;
    let minutes = (local - us) / 60_000_000;
    let sign = if minutes < 0 { '-' } else { '+' };
    let (hours, minutes) = (minutes.abs() / 60, minutes.abs() % 60);
    let text = values::cast_datetime_text(local);
    Ok(if minutes == 0 {
        format!("{text}{sign}{hours:02}")
    } else {
        format!("{text}{sign}{hours:02}:{minutes:02}")
    })
}

/// Microseconds of the units that are of one length.
fn unit_us(unit: &str) -> Option<i64> {
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

fn time_unit(name: &str, unit: &str) -> Result<i64> {
    match unit_us(unit).filter(|us| *us < DAY_US) {
        Some(us) => Ok(us),
        None => exec_err!("{name} does not support the {unit} date part"),
    }
}

fn shift_date(date: NaiveDate, n: i64, unit: &str) -> Option<NaiveDate> {
    match unit {
        "DAY" => date.checked_add_signed(chrono::TimeDelta::try_days(n)?),
        "WEEK" => date.checked_add_signed(chrono::TimeDelta::try_days(n.checked_mul(7)?)?),
        "MONTH" => values::add_months(date, n),
        "QUARTER" => values::add_months(date, n.checked_mul(3)?),
        "YEAR" => values::add_months(date, n.checked_mul(12)?),
        "ISOYEAR" => NaiveDate::from_isoywd_opt(
            date.iso_week().year().checked_add(i32::try_from(n).ok()?)?,
            1,
            chrono::Weekday::Mon,
        ),
        _ => None,
    }
}

pub(in crate::emulator::query) fn shift_day(date: i32, n: i64, unit: &str) -> Result<i32> {
    if !matches!(unit, "DAY" | "WEEK" | "MONTH" | "QUARTER" | "YEAR") {
        return exec_err!("Date arithmetic does not support the {unit} date part here");
    }
    day(date_of(date).and_then(|date| shift_date(date, n, unit)))
}

pub(super) fn shift_instant(us: i64, n: i64, unit: &str) -> Result<i64> {
    match unit_us(unit) {
        Some(length) => in_range(n.checked_mul(length).and_then(|shift| us.checked_add(shift))),
        None => exec_err!("Timestamp arithmetic does not support the {unit} date part"),
    }
}

fn shifted(args: &[ArrayRef], n: usize, sign: i64) -> Result<ArrayRef> {
    let data_type = args[0].data_type().clone();
    let amount = |row: Row<'_>| row.int(1).map(|n| n.saturating_mul(sign));
    match data_type {
        DataType::Date32 => dates(args, n, |row| {
            let (date, n, unit) = (given!(row.date(0)), given!(amount(row)), given!(row.text(2)));
            shift_day(date, n, unit).map(Some)
        }),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let is_timestamp = zone.is_some();
            let shift = |row: Row<'_>| {
                let (us, n, unit) = (given!(row.micros(0)), given!(amount(row)), given!(row.text(2)));
                if is_timestamp || unit_us(unit).is_some() {
                    return shift_instant(us, n, unit).map(Some);
                }
                let date = shift_day(day(Some(naive(us)?.date()))?, n, unit)?;
                Ok(Some(i64::from(date) * DAY_US + us.rem_euclid(DAY_US)))
            };
            if is_timestamp { timestamps(args, n, shift) } else { datetimes(args, n, shift) }
        }
        other => exec_err!("no date arithmetic on {other}"),
    }
}

fn shifted_time(args: &[ArrayRef], n: usize, sign: i64) -> Result<ArrayRef> {
    times(args, n, |row| {
        let (us, n) = (given!(row.micros(0)), given!(row.int(1)));
        let length = time_unit("TIME_ADD", given!(row.text(2)))?;
        // The clock goes round.
        let shift = (i128::from(n) * i128::from(length * sign)).rem_euclid(i128::from(DAY_US));
        Ok(i64::try_from(shift).ok().map(|shift| (us + shift).rem_euclid(DAY_US)))
    })
}

/// The first day of the week, month, … that a day is in.
fn truncate_date(date: NaiveDate, unit: &str) -> Result<NaiveDate> {
    let back = |days: u32| date.checked_sub_days(chrono::Days::new(days.into()));
    let first = match unit {
        "DAY" => Some(date),
        "ISOWEEK" => back(date.weekday().num_days_from_monday()),
        "MONTH" => date.with_day(1),
        "QUARTER" => NaiveDate::from_ymd_opt(date.year(), (date.month0() / 3) * 3 + 1, 1),
        "YEAR" => NaiveDate::from_ymd_opt(date.year(), 1, 1),
        "ISOYEAR" => NaiveDate::from_isoywd_opt(date.iso_week().year(), 1, chrono::Weekday::Mon),
        week if week.starts_with("WEEK") => {
            let first = week_start(week)?;
            back((date.weekday().num_days_from_sunday() + 7 - first) % 7)
        }
        _ => return exec_err!("A truncation to {unit} is not supported"),
    };
    first.map_or_else(|| exec_err!("Date overflow"), Ok)
}

/// The first day of `WEEK` or `WEEK(MONDAY)`, from Sunday.
fn week_start(unit: &str) -> Result<u32> {
    const DAYS: [&str; 7] = ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];
    let named = unit.strip_prefix("WEEK(").and_then(|rest| rest.strip_suffix(')'));
    let at = DAYS.iter().position(|day| *day == named.unwrap_or("SUNDAY"));
    match at.filter(|_| named.is_some() || unit == "WEEK").and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(at),
        None => exec_err!("{unit} is not a date part"),
    }
}

fn truncated(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let cut = |us: i64, unit: &str| match unit_us(unit) {
        Some(length) => Ok(us - us.rem_euclid(length)),
        None => Ok(i64::from(day(Some(truncate_date(naive(us)?.date(), unit)?))?) * DAY_US),
    };
    match args[0].data_type() {
        DataType::Date32 => dates(args, n, |row| {
            let (date, unit) = (given!(row.date(0)), given!(row.text(1)));
            match date_of(date) {
                Some(date) => day(Some(truncate_date(date, unit)?)).map(Some),
                None => exec_err!("Date overflow"),
            }
        }),
        DataType::Timestamp(_, None) => {
            datetimes(args, n, |row| cut(given!(row.micros(0)), given!(row.text(1))).map(Some))
        }
        _ => timestamps(args, n, |row| {
            let (us, unit) = (given!(row.micros(0)), given!(row.text(1)));
            if !row.is_given(2) {
                return cut(us, unit).map(Some);
            }
            let zone = zone(given!(row.text(2)))?;
            to_utc(cut(to_local(us, zone)?, unit)?, zone).map(Some)
        }),
    }
}

/// TIMESTAMPs are whole units apart; dates and clocks count the boundaries between them.
fn difference(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let is_timestamp = matches!(args[0].data_type(), DataType::Timestamp(_, Some(_)));
    ints(args, n, |row| {
        let (a, b, unit) = (given!(row.micros(0)), given!(row.micros(1)), given!(row.text(2)));
        if let Some(length) = unit_us(unit) {
            return Ok(Some(match is_timestamp {
                true => (a - b) / length,
                false => a.div_euclid(length) - b.div_euclid(length),
            }));
        }
        if is_timestamp {
            return exec_err!("TIMESTAMP_DIFF does not support the {unit} date part");
        }
        let (a, b) = (naive(a)?.date(), naive(b)?.date());
        let months = |d: NaiveDate| i64::from(d.year()) * 12 + i64::from(d.month0());
        Ok(Some(match unit {
            "MONTH" => months(a) - months(b),
            "QUARTER" => months(a).div_euclid(3) - months(b).div_euclid(3),
            "YEAR" => i64::from(a.year()) - i64::from(b.year()),
            "ISOYEAR" => i64::from(a.iso_week().year()) - i64::from(b.iso_week().year()),
            week => (truncate_date(a, week)? - truncate_date(b, week)?).num_days() / 7,
        }))
    })
}

fn extract(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let (is_date, is_time) = match args[1].data_type() {
        DataType::Date32 => (true, false),
        DataType::Time64(_) => (false, true),
        _ => (false, false),
    };
    ints(args, n, |row| {
        let (unit, us) = (given!(row.text(0)), given!(local(row, 1, 2)?));
        let time = naive(us)?;
        let value = match unit {
            "HOUR" if !is_date => time.hour().into(),
            "MINUTE" if !is_date => time.minute().into(),
            "SECOND" if !is_date => time.second().into(),
            "MILLISECOND" if !is_date => us.rem_euclid(1_000_000) / 1000,
            "MICROSECOND" if !is_date => us.rem_euclid(1_000_000),
            "YEAR" if !is_time => time.year().into(),
            "QUARTER" if !is_time => i64::from(time.month0() / 3 + 1),
            "MONTH" if !is_time => time.month().into(),
            "DAY" if !is_time => time.day().into(),
            "DAYOFWEEK" if !is_time => i64::from(time.weekday().num_days_from_sunday()) + 1,
            "DAYOFYEAR" if !is_time => time.ordinal().into(),
            "ISOWEEK" if !is_time => time.iso_week().week().into(),
            "ISOYEAR" if !is_time => time.iso_week().year().into(),
            week if week.starts_with("WEEK") && !is_time => week_of_year(time.date(), week_start(week)?),
            _ => return exec_err!("EXTRACT does not support the {unit} date part here"),
        };
        Ok(Some(value))
    })
}

/// Weeks begin on `first` (from Sunday); the days before the first one are week 0.
pub(super) fn week_of_year(date: NaiveDate, first: u32) -> i64 {
    let since = (date.weekday().num_days_from_sunday() + 7 - first) % 7;
    (i64::from(date.ordinal0()) + 7 - i64::from(since)) / 7
}
