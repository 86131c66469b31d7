//! INTERVAL: `Y-M D H:M:S` and ISO 8601's `P1Y2M3DT4H5M6.5S`, kept as the former.

use std::sync::LazyLock;

use regex::{Captures, Regex};

static CANONICAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(-?)(\d{1,5})-(\d{1,6}) (-?\d{1,7}) (-?)(\d{1,8}):(\d{1,9}):(\d{1,11})(?:\.(\d{1,6}))?$")
        .expect("a constant")
});
static ISO_8601: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^P(?:(-?\d{1,5})Y)?(?:(-?\d{1,6})M)?(?:(-?\d{1,6})W)?(?:(-?\d{1,7})D)?(?:T(?:(-?\d{1,8})H)?(?:(-?\d{1,10})M)?(?:(-?)(\d{1,12})(?:\.(\d{1,6}))?S)?)?$",
    )
    .expect("a constant")
});

const MONTHS_MAX: i64 = 120_000;
const DAYS_MAX: i64 = 3_660_000;
const MICROS_MAX: i64 = 87_840_000 * 3_600_000_000;

/// The canonical text of an interval in either spelling.
pub(super) fn canonical(text: &str) -> Option<String> {
    let (months, days, micros) = match CANONICAL.captures(text) {
        Some(found) => from_canonical(&found)?,
        None => from_iso(
            &ISO_8601
                .captures(text)
                .filter(|_| text.ends_with(|c: char| c.is_alphabetic() && !"PT".contains(c)))?,
        )?,
    };
    if months.abs() > MONTHS_MAX || days.abs() > DAYS_MAX || micros.abs() > MICROS_MAX {
        return None;
    }
    Some(format(months, days, micros))
}

fn number(found: &Captures<'_>, group: usize) -> Option<i64> {
    found.get(group).map_or(Some(0), |m| m.as_str().parse().ok())
}

/// Six digits of a second.
fn fraction(found: &Captures<'_>, group: usize) -> Option<i64> {
    found.get(group).map_or(Some(0), |m| format!("{:0<6}", m.as_str()).parse().ok())
}

fn from_canonical(found: &Captures<'_>) -> Option<(i64, i64, i64)> {
    let sign = |group: usize| if found[group].is_empty() { 1 } else { -1 };
    let months = sign(1) * (number(found, 2)? * 12 + number(found, 3)?);
    let seconds = number(found, 6)? * 3600 + number(found, 7)? * 60 + number(found, 8)?;
    let micros = seconds.checked_mul(1_000_000)?.checked_add(fraction(found, 9)?)?;
    Some((months, number(found, 4)?, sign(5) * micros))
}

fn from_iso(found: &Captures<'_>) -> Option<(i64, i64, i64)> {
    let months = number(found, 1)? * 12 + number(found, 2)?;
    let days = number(found, 3)? * 7 + number(found, 4)?;
    let sign = if found.get(7).is_some_and(|m| !m.as_str().is_empty()) { -1 } else { 1 };
    let second = number(found, 8)?.checked_mul(1_000_000)?.checked_add(fraction(found, 9)?)?;
    let minutes = number(found, 5)? * 60 + number(found, 6)?;
    let micros = minutes.checked_mul(60_000_000)?.checked_add(sign * second)?;
    Some((months, days, micros))
}

fn format(months: i64, days: i64, micros: i64) -> String {
    let sign = |n: i64| if n < 0 { "-" } else { "" };
    let (years, over) = (months.abs() / 12, months.abs() % 12);
    let (seconds, part) = (micros.abs() / 1_000_000, micros.abs() % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let part = match part {
        0 => String::new(),
        millis if millis % 1000 == 0 => format!(".{:03}", millis / 1000),
        micros => format!(".{micros:06}"),
    };
    format!("{}{years}-{over} {days} {}{hours}:{minutes}:{seconds}{part}", sign(months), sign(micros))
}
