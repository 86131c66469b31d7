//! Times and durations as people write them.

use chrono::{DateTime, NaiveDate};

use crate::error::{Error, Result};

const UNITS: [(char, u64); 5] =
    [('w', 604_800_000), ('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1000)];

/// The last millisecond of the year 9999, behind which BigQuery has no times.
const MS_MAX: u64 = 253_402_300_799_999;
/// From any day of this century on, this long ends before that.
const DURATION_MS_MAX: u64 = MS_MAX - 4_102_444_800_000;

/// `30d`, `12h`, `90m`, `45s` or `2w`, in milliseconds.
pub fn parse_duration(text: &str) -> Result<u64> {
    let wrong =
        || Error::usage(format!("`{text}` is no duration")).hint("write `30d`, `12h`, `90m` or `45s`");
    let mut chars = text.chars();
    let unit = chars.next_back().ok_or_else(wrong)?;
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let count: u64 = chars.as_str().parse().map_err(|_| wrong())?;
    let ms = count.checked_mul(*unit_ms).filter(|ms| *ms > 0).ok_or_else(wrong)?;
    if ms > DURATION_MS_MAX {
        return Err(Error::usage(format!("`{text}` ends behind the year 9999, where BigQuery's times end")));
    }
    Ok(ms)
}

/// A time that exists: milliseconds since 1970, `2026-12-31` (its start, UTC) or `2026-12-31T12:00:00Z`.
pub fn parse_time(text: &str) -> Result<u64> {
    let ms = if let Ok(ms) = text.parse::<i64>() {
        Some(ms)
    } else if let Ok(date) = text.parse::<NaiveDate>() {
        date.and_hms_opt(0, 0, 0).map(|midnight| midnight.and_utc().timestamp_millis())
    } else {
        DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis())
    };
    let ms = ms.and_then(|ms| u64::try_from(ms).ok()).ok_or_else(|| {
        Error::usage(format!("`{text}` is no time"))
            .hint("write `2026-12-31`, `2026-12-31T12:00:00Z` or milliseconds since 1970")
    })?;
    if ms > MS_MAX {
        return Err(Error::usage(format!("`{text}` is behind the year 9999, where BigQuery's times end"))
            .hint("milliseconds since 1970 have 13 digits in this century"));
    }
    Ok(ms)
}

/// Milliseconds since 1970 as `2026-12-31 00:00:00 UTC`; `None` of what is no time.
pub fn time_words(ms: i64) -> Option<String> {
    DateTime::from_timestamp_millis(ms).map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// The largest unit that measures it without a rest.
pub fn duration_words(ms: u64) -> String {
    const NAMES: [&str; 5] = ["week", "day", "hour", "minute", "second"];
    let whole =
        UNITS.iter().zip(NAMES).skip(1).find(|((_, unit_ms), _)| ms > 0 && ms.is_multiple_of(*unit_ms));
    match whole {
        Some(((_, unit_ms), name)) => {
            let count = ms / unit_ms;
            format!("{count} {name}{}", if count == 1 { "" } else { "s" })
        }
        None => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_duration("30d").expect("a duration"), 2_592_000_000);
        assert_eq!(parse_duration("90m").expect("a duration"), 5_400_000);
        for wrong in ["", "d", "30", "0d", "-1d", "1.5d", "1é", "99999999999999999999d", "9999999999999999w"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_time("2026-12-31").expect("a time"), 1_798_675_200_000);
        assert_eq!(parse_time("2026-12-31T01:00:00+01:00").expect("a time"), 1_798_675_200_000);
        assert_eq!(parse_time("1798675200000").expect("a time"), 1_798_675_200_000);
        assert_eq!(parse_time("9999-12-31T23:59:59.999Z").expect("a time"), MS_MAX);
        assert!(parse_time("1795319820389999").is_err() && parse_duration("999999999d").is_err());
        for wrong in ["", "tomorrow", "-5", "2026-13-01", "2026-12-31 12:00"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_said_in_their_largest_whole_unit() {
        let said = [86_400_000, 172_800_000, 5_400_000, 1500, 0].map(duration_words);
        assert_eq!(said, ["1 day", "2 days", "90 minutes", "1500 ms", "0 ms"]);
    }
}
