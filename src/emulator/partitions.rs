//! How a table is divided: by hour, day, month or year, or by ranges of an integer; and what names a part.

use std::fmt;

use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::failure::{Failure, Outcome};
use super::wire::{integer, object, text};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// Rows of other years are in no partition of a partitioned column.
const YEARS: std::ops::RangeInclusive<i32> = 1960..=2159;
/// As many ranges as BigQuery allows.
const RANGES_MAX: i64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Granularity {
    Hour,
    Day,
    Month,
    Year,
}

impl Granularity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Granularity::Hour => "HOUR",
            Granularity::Day => "DAY",
            Granularity::Month => "MONTH",
            Granularity::Year => "YEAR",
        }
    }

    /// Hours or days since 1970, months or years since the year 0.
    fn index(self, us: i64) -> i64 {
        let date = || DateTime::from_timestamp_micros(us).unwrap_or_default();
        match self {
            Granularity::Hour => us.div_euclid(HOUR_US),
            Granularity::Day => us.div_euclid(DAY_US),
            Granularity::Month => i64::from(date().year()) * 12 + i64::from(date().month0()),
            Granularity::Year => i64::from(date().year()),
        }
    }

    /// Microseconds since 1970; of the first moment of a partition.
    fn start_us(self, index: i64) -> i64 {
        let first_of_month = |months: i64| {
            let year = i32::try_from(months.div_euclid(12)).unwrap_or(i32::MAX);
            let month = u32::try_from(months.rem_euclid(12)).unwrap_or(0) + 1;
            let date = NaiveDate::from_ymd_opt(year, month, 1).unwrap_or(NaiveDate::MAX);
            date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros()
        };
        match self {
            Granularity::Hour => index.saturating_mul(HOUR_US),
            Granularity::Day => index.saturating_mul(DAY_US),
            Granularity::Month => first_of_month(index),
            Granularity::Year => first_of_month(index.saturating_mul(12)),
        }
    }

    /// `2024`, `202401`, `20240105` or `2024010523`: by its length, and only if it is in the calendar.
    fn parse(text: &str) -> Option<(Granularity, i64)> {
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = |range| text.get(range).and_then(|digits: &str| digits.parse::<u32>().ok());
        let (granularity, month, day, hour) = match text.len() {
            4 => (Granularity::Year, 1, 1, 0),
            6 => (Granularity::Month, number(4..6)?, 1, 0),
            8 => (Granularity::Day, number(4..6)?, number(6..8)?, 0),
            10 => (Granularity::Hour, number(4..6)?, number(6..8)?, number(8..10)?),
            _ => return None,
        };
        let year = i32::try_from(number(0..4)?).ok().filter(|year| *year >= 1)?;
        let start = NaiveDate::from_ymd_opt(year, month, day)?.and_hms_opt(hour, 0, 0)?.and_utc();
        Some((granularity, granularity.index(start.timestamp_micros())))
    }
}

/// Which rows of a table a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Partition {
    /// All of them: the table is not partitioned.
    Whole,
    /// The so-manieth hour, day, month or year.
    Time(Granularity, i64),
    /// From this integer on, for one interval.
    Range(i64),
    /// Rows without a value in the partitioning column.
    Null,
    /// Rows with a value that no partition is for.
    Unpartitioned,
}

impl Partition {
    /// Strict, because a load to a mistyped day must not succeed. What is not a time may still be the start of
    /// an integer range: `Partitioning::resolve` decides.
    pub(super) fn from_decorator(decorator: &str) -> Outcome<Self> {
        match decorator {
            "__NULL__" => return Ok(Partition::Null),
            "__UNPARTITIONED__" => return Ok(Partition::Unpartitioned),
            "__PARTITIONS_SUMMARY__" => {
                return Err(Failure::not_implemented(format!("the decorator `${decorator}` here")));
            }
            _ => {}
        }
        match Granularity::parse(decorator) {
            Some((granularity, index)) => Ok(Partition::Time(granularity, index)),
            None => decorator.parse().map(Partition::Range).map_err(|_| invalid_decorator(decorator)),
        }
    }

    /// The first moment and the first one after it, in microseconds since 1970.
    pub(super) fn bounds_us(self) -> Option<(i64, i64)> {
        match self {
            Partition::Time(granularity, index) => {
                Some((granularity.start_us(index), granularity.start_us(index.saturating_add(1))))
            }
            _ => None,
        }
    }
}

fn invalid_decorator(decorator: impl fmt::Display) -> Failure {
    Failure::invalid(format!(
        "Invalid partition decorator \"${decorator}\": expected $YYYYMMDD with a calendar day, or what the \
         table is partitioned by: $YYYYMMDDHH, $YYYYMM, $YYYY or the start of an integer range"
    ))
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (granularity, index) = match self {
            Partition::Whole => return f.write_str("__WHOLE__"),
            Partition::Range(start) => return write!(f, "{start}"),
            Partition::Null => return f.write_str("__NULL__"),
            Partition::Unpartitioned => return f.write_str("__UNPARTITIONED__"),
            Partition::Time(granularity, index) => (*granularity, *index),
        };
        let start = DateTime::from_timestamp_micros(granularity.start_us(index)).unwrap_or_default();
        let (year, month, day) = (start.year(), start.month(), start.day());
        match granularity {
            Granularity::Year => write!(f, "{year:04}"),
            Granularity::Month => write!(f, "{year:04}{month:02}"),
            Granularity::Day => write!(f, "{year:04}{month:02}{day:02}"),
            Granularity::Hour => write!(f, "{year:04}{month:02}{day:02}{:02}", start.hour()),
        }
    }
}

/// On disk an integer never looks like a day.
const RANGE_PREFIX: &str = "range:";

impl Serialize for Partition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Partition::Range(start) => serializer.collect_str(&format_args!("{RANGE_PREFIX}{start}")),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "__WHOLE__" {
            return Ok(Partition::Whole);
        }
        if let Some(start) = text.strip_prefix(RANGE_PREFIX) {
            return start.parse().map(Partition::Range).map_err(serde::de::Error::custom);
        }
        Partition::from_decorator(&text).map_err(|e| serde::de::Error::custom(e.message))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum By {
    Time(Granularity),
    Range { start: i64, end: i64, interval: i64 },
}

impl By {
    /// The partition of a moment of the partitioning column, in microseconds since 1970.
    pub(super) fn of_time(self, us: i64) -> Partition {
        let By::Time(granularity) = self else { return Partition::Unpartitioned };
        match DateTime::from_timestamp_micros(us) {
            Some(time) if YEARS.contains(&time.year()) => Partition::Time(granularity, granularity.index(us)),
            _ => Partition::Unpartitioned,
        }
    }

    pub(super) fn of_integer(self, value: i64) -> Partition {
        match self {
            By::Range { start, end, interval } if (start..end).contains(&value) && interval > 0 => {
                // The difference fits: an end that is too far from its start is refused.
                Partition::Range(start + (value - start) / interval * interval)
            }
            _ => Partition::Unpartitioned,
        }
    }
}

impl Default for By {
    fn default() -> Self {
        By::Time(Granularity::Day)
    }
}

/// By time or by integer: of a column, or of the load when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Partitioning {
    #[serde(default)]
    pub by: By,
    pub field: Option<String>,
    /// Age at which a partition goes, counted from its first moment.
    pub expiration_ms: Option<i64>,
}

impl Partitioning {
    /// By the time of the load.
    pub(super) fn of_ingestion(granularity: Granularity) -> Self {
        Partitioning { by: By::Time(granularity), field: None, expiration_ms: None }
    }

    /// BigQuery's `timePartitioning`.
    pub(super) fn parse_time(document: &Map<String, Value>) -> Outcome<Self> {
        let granularity = match text(document, "type").map(str::to_ascii_uppercase).as_deref() {
            Some("HOUR") => Granularity::Hour,
            Some("DAY") => Granularity::Day,
            Some("MONTH") => Granularity::Month,
            Some("YEAR") => Granularity::Year,
            Some(other) => {
                return Err(Failure::invalid(format!("Invalid value for timePartitioning.type: {other}")));
            }
            None => return Err(Failure::invalid("Required parameter is missing: timePartitioning.type")),
        };
        let field = text(document, "field").filter(|f| !f.is_empty() && *f != "_PARTITIONTIME");
        let expiration_ms = integer(document, "expirationMs")?.filter(|ms| *ms > 0);
        Ok(Partitioning { by: By::Time(granularity), field: field.map(str::to_owned), expiration_ms })
    }

    /// BigQuery's `rangePartitioning`.
    pub(super) fn parse_range(document: &Map<String, Value>) -> Outcome<Self> {
        let missing =
            |what: &str| Failure::invalid(format!("Required parameter is missing: rangePartitioning.{what}"));
        let field = text(document, "field").filter(|f| !f.is_empty()).ok_or_else(|| missing("field"))?;
        let range = object(document, "range").ok_or_else(|| missing("range"))?;
        let member = |name: &str| integer(range, name)?.ok_or_else(|| missing(name));
        let (start, end, interval) = (member("start")?, member("end")?, member("interval")?);
        let count = end.checked_sub(start).filter(|_| interval > 0).map(|width| width / interval);
        match count {
            Some(count) if start < end && count < RANGES_MAX => {}
            _ => {
                return Err(Failure::invalid(format!(
                    "Invalid range partitioning [{start}, {end}) with interval {interval}: the interval must \
                     be positive, start below end, and the partitions at most {RANGES_MAX}"
                )));
            }
        }
        let by = By::Range { start, end, interval };
        Ok(Partitioning { by, field: Some(field.to_owned()), expiration_ms: None })
    }

    /// Of a table or a job: at most one of the two kinds.
    pub(super) fn parse(document: &Map<String, Value>) -> Outcome<Option<Self>> {
        match (object(document, "timePartitioning"), object(document, "rangePartitioning")) {
            (None, None) => Ok(None),
            (Some(time), None) => Partitioning::parse_time(time).map(Some),
            (None, Some(range)) => Partitioning::parse_range(range).map(Some),
            (Some(_), Some(_)) => {
                Err(Failure::invalid("Only one of timePartitioning and rangePartitioning can be specified."))
            }
        }
    }

    /// The member of a table document and its value.
    pub(super) fn document(&self) -> (&'static str, Value) {
        match self.by {
            By::Time(granularity) => {
                let mut document = json!({"type": granularity.name()});
                if let Some(field) = &self.field {
                    document["field"] = json!(field);
                }
                if let Some(ms) = self.expiration_ms {
                    document["expirationMs"] = json!(ms.to_string());
                }
                ("timePartitioning", document)
            }
            By::Range { start, end, interval } => {
                let [start, end, interval] = [start, end, interval].map(|n| n.to_string());
                let range = json!({"start": start, "end": end, "interval": interval});
                ("rangePartitioning", json!({"field": self.field, "range": range}))
            }
        }
    }

    /// Whether rows are divided alike; how long they are kept does not matter.
    pub(super) fn divides_like(&self, other: &Partitioning) -> bool {
        let field = |p: &Partitioning| p.field.as_deref().map(str::to_lowercase);
        self.by == other.by && field(self) == field(other)
    }

    /// What a decorator means for this table; an error when it names none of its partitions.
    pub(super) fn resolve(&self, partition: Partition) -> Outcome<Partition> {
        let decorator = partition.to_string();
        match (partition, self.by) {
            (Partition::Null | Partition::Unpartitioned, _) => Ok(partition),
            (Partition::Time(found, _), By::Time(granularity)) if found == granularity => Ok(partition),
            (_, By::Time(_)) => Err(invalid_decorator(decorator)),
            (_, by @ By::Range { .. }) => match decorator.parse::<i64>() {
                Ok(start) if by.of_integer(start) == Partition::Range(start) => Ok(Partition::Range(start)),
                _ => Err(invalid_decorator(decorator)),
            },
        }
    }

    /// Whether a partition is past its time.
    pub(super) fn is_expired(&self, partition: Partition, now_ms: i64) -> bool {
        let start_ms = partition.bounds_us().map(|(start, _)| start / 1000);
        self.expiration_ms.zip(start_ms).is_some_and(|(age, start)| start.saturating_add(age) <= now_ms)
    }
}

impl fmt::Display for Partitioning {
    /// As the messages about two that differ show them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field.as_deref();
        match self.by {
            By::Time(granularity) => {
                let field = field.map(|f| format!(",field:{f}")).unwrap_or_default();
                write!(f, "interval(type:{}{field})", granularity.name().to_lowercase())
            }
            By::Range { start, end, interval } => {
                let field = field.unwrap_or_default();
                write!(f, "range(field:{field},start:{start},end:{end},interval:{interval})")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decorators_name_real_times_only() {
        let day = Partitioning::of_ingestion(Granularity::Day);
        let resolve = |text| Partition::from_decorator(text).and_then(|p| day.resolve(p));
        assert_eq!(resolve("20240229").unwrap().to_string(), "20240229");
        assert_eq!(resolve("__NULL__"), Ok(Partition::Null));
        for text in
            ["20230229", "20241301", "20240100", "2024010", "202401011", "2024-1-1", "", "00000101", "2024"]
        {
            let failure = resolve(text).unwrap_err();
            assert_eq!((failure.code, failure.reason.as_str()), (400, "invalid"), "{text}");
        }
    }

    #[test]
    fn a_time_is_in_the_partition_that_its_decorator_names() {
        let us = NaiveDate::from_ymd_opt(2024, 2, 29).unwrap().and_hms_opt(23, 59, 59).unwrap();
        let us = us.and_utc().timestamp_micros() + 999_999;
        for (granularity, name) in [
            (Granularity::Hour, "2024022923"),
            (Granularity::Day, "20240229"),
            (Granularity::Month, "202402"),
            (Granularity::Year, "2024"),
        ] {
            let partition = By::Time(granularity).of_time(us);
            assert_eq!(partition.to_string(), name);
            assert_eq!(Partition::from_decorator(name), Ok(partition));
            let (start, end) = partition.bounds_us().unwrap();
            assert!(start <= us && us < end);
            assert_ne!(By::Time(granularity).of_time(end), partition);
            let text = serde_json::to_string(&partition).unwrap();
            assert_eq!(serde_json::from_str::<Partition>(&text).unwrap(), partition);
        }
        assert_eq!(By::Time(Granularity::Day).of_time(-400_000_000_000_000), Partition::Unpartitioned);
    }

    #[test]
    fn an_integer_is_in_the_range_that_its_decorator_names() {
        let document = json!({"field": "n", "range": {"start": "-10", "end": 2030, "interval": "20"}});
        let partitioning = Partitioning::parse_range(document.as_object().unwrap()).unwrap();
        for (value, partition) in [(-10, "-10"), (9, "-10"), (10, "10"), (2029, "2010")] {
            assert_eq!(partitioning.by.of_integer(value).to_string(), partition);
        }
        for outside in [-11, 2030, i64::MIN, i64::MAX] {
            assert_eq!(partitioning.by.of_integer(outside), Partition::Unpartitioned);
        }
        let resolve = |text| Partition::from_decorator(text).and_then(|p| partitioning.resolve(p));
        assert_eq!(resolve("2010"), Ok(Partition::Range(2010)), "and no year");
        assert!(resolve("2011").is_err());
        let text = serde_json::to_string(&Partition::Range(2010)).unwrap();
        assert_eq!(serde_json::from_str::<Partition>(&text).unwrap(), Partition::Range(2010));
        let too_wide = json!({"field": "n", "range": {"start": i64::MIN, "end": i64::MAX, "interval": 1}});
        assert!(Partitioning::parse_range(too_wide.as_object().unwrap()).is_err());
    }
}
