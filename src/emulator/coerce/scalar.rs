//! One value of one column, from text or JSON.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::{Cell, Form, decimal, geography, interval, shown};
use crate::emulator::fields::{Field, Kind, Limits};
use crate::emulator::query::values;

/// A value that cannot become one of its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::emulator) struct Refused {
    pub kind: Kind,
    pub value: String,
    /// Set when the value is of the right kind and still not allowed.
    pub reason: Option<String>,
}

impl Refused {
    fn bad(kind: Kind, value: &str) -> Self {
        Refused { kind, value: value.chars().take(100).collect(), reason: None }
    }

    fn because(kind: Kind, value: &str, reason: String) -> Self {
        Refused { reason: Some(reason), ..Refused::bad(kind, value) }
    }

    pub(super) fn message(&self, location: &str, form: Form) -> String {
        match (&self.reason, form) {
            (Some(reason), Form::Load) => format!("{reason} Field: {location}; Value: {}", self.value),
            (Some(reason), Form::Insert) => reason.clone(),
            (None, form) => bad_value(self.kind, &self.value, location, form),
        }
    }
}

/// The recorded words of both services, which differ.
pub(super) fn bad_value(kind: Kind, value: &str, location: &str, form: Form) -> String {
    let name = match kind {
        Kind::Int64 => "integer",
        Kind::Float64 => "floating point",
        Kind::Bool => "boolean",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Date => "date",
        Kind::DateTime => "datetime",
        Kind::Time => "time",
        Kind::Timestamp => "timestamp",
        Kind::Numeric => "numeric",
        Kind::BigNumeric => "bignumeric",
        Kind::Record => "record",
        Kind::Json => "json",
        Kind::Geography => "geography",
        Kind::Interval => "interval",
        Kind::Range(_) => "range",
    };
    match (form, kind) {
        (Form::Insert, Kind::Timestamp) => format!(
            "Could not parse '{value}' as a timestamp. Required format is YYYY-MM-DD HH:MM[:SS[.SSSSSS]] or \
             YYYY/MM/DD HH:MM[:SS[.SSSSSS]]"
        ),
        (Form::Insert, Kind::Date | Kind::DateTime | Kind::Time) => {
            format!("Invalid {name} string \"{value}\"")
        }
        (Form::Insert, Kind::Numeric | Kind::BigNumeric) => format!("Invalid {} value: {value}", kind.sql()),
        (Form::Insert, Kind::Bytes) => format!("Could not decode base64 string to bytes: {value}"),
        (Form::Insert, _) => format!("Cannot convert value to {name} (bad value): {value}"),
        (Form::Load, _) => format!("Could not convert value to {name}. Field: {location}; Value: {value}"),
    }
}

/// The value of a text that stands where one of `field` is expected.
pub(in crate::emulator) fn from_text(field: &Field, text: &str) -> Result<Cell, Refused> {
    let limits = if field.rest.is_empty() { Limits::default() } else { field.limits() };
    from_text_as(field.kind, &limits, text)
}

pub(in crate::emulator) fn from_text_as(kind: Kind, limits: &Limits, text: &str) -> Result<Cell, Refused> {
    let bad = || Refused::bad(kind, text);
    let trimmed = text.trim();
    Ok(match kind {
        Kind::String => {
            let length = text.chars().count();
            check_length(kind, limits, length, text)?;
            Cell::Text(text.to_owned())
        }
        Kind::Bytes => {
            let bytes = decode_base64(text).ok_or_else(bad)?;
            check_length(kind, limits, bytes.len(), text)?;
            Cell::Bytes(bytes)
        }
        Kind::Int64 => Cell::Int(trimmed.parse().map_err(|_| bad())?),
        Kind::Float64 => Cell::Float(values::parse_float(trimmed).ok_or_else(bad)?),
        Kind::Bool => Cell::Bool(match trimmed.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => true,
            "false" | "f" | "no" | "n" | "0" => false,
            _ => return Err(bad()),
        }),
        Kind::Date => Cell::Days(values::parse_date(trimmed).ok_or_else(bad)?),
        Kind::DateTime => Cell::Int(values::parse_datetime(trimmed).and_then(in_range).ok_or_else(bad)?),
        // Only the clock of any day counts.
        Kind::Time => {
            let on_a_day = format!("1970-01-01 {trimmed}");
            Cell::Int(values::parse_datetime(&on_a_day).ok_or_else(bad)?)
        }
        Kind::Timestamp => Cell::Int(timestamp(trimmed).ok_or_else(bad)?),
        Kind::Numeric | Kind::BigNumeric => Cell::Decimal(
            decimal::parse(trimmed, kind, limits).ok_or_else(|| out_of_range(kind, limits, text))?,
        ),
        Kind::Json => {
            let value: Value = serde_json::from_str(text).map_err(|_| bad())?;
            Cell::Text(value.to_string())
        }
        Kind::Geography => Cell::Text(geography::canonical(trimmed).ok_or_else(bad)?),
        Kind::Interval => Cell::Text(interval::canonical(trimmed).ok_or_else(bad)?),
        Kind::Range(of) => {
            let bounds = trimmed.strip_prefix('[').and_then(|t| t.strip_suffix(')')).ok_or_else(bad)?;
            let (start, end) = bounds.split_once(',').ok_or_else(bad)?;
            let bound = |text: &str| match text.trim() {
                unbounded if ["UNBOUNDED", "NULL"].iter().any(|w| unbounded.eq_ignore_ascii_case(w)) => {
                    Ok(Cell::Null)
                }
                text => from_text_as(of.kind(), limits, text),
            };
            range(kind, text, bound(start)?, bound(end)?)?
        }
        Kind::Record => return Err(bad()),
    })
}

pub(super) fn from_json(field: &Field, value: &Value, form: Form) -> Result<Cell, Refused> {
    let bad = || Refused::bad(field.kind, &shown(value));
    match (field.kind, value) {
        (_, Value::Null) => Ok(Cell::Null),
        (Kind::Json, value) if form == Form::Load => Ok(Cell::Text(value.to_string())),
        (Kind::Json, Value::Object(_) | Value::Array(_)) => {
            Err(Refused::because(field.kind, "", format!("This field: {} is not a record.", field.name)))
        }
        (Kind::Range(of), Value::Object(bounds)) => {
            let limits = field.limits();
            let bound = |name: &str| match bounds.get(name) {
                None | Some(Value::Null) => Ok(Cell::Null),
                Some(Value::String(text)) => from_text_as(of.kind(), &limits, text),
                Some(_) => Err(bad()),
            };
            if bounds.keys().any(|name| name != "start" && name != "end") {
                return Err(bad());
            }
            range(field.kind, &shown(value), bound("start")?, bound("end")?)
        }
        (_, Value::String(text)) => from_text(field, text),
        (Kind::Bool, Value::Bool(flag)) => Ok(Cell::Bool(*flag)),
        (Kind::String, Value::Bool(flag)) => from_text(field, if *flag { "true" } else { "false" }),
        (Kind::Json, Value::Bool(_) | Value::Number(_)) => Ok(Cell::Text(value.to_string())),
        (Kind::Int64, Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => Ok(Cell::Int(n)),
            // 2^53: beyond it the number was not exact any more.
            (None, Some(n)) if n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_992.0 => {
                number_text(n).parse().map(Cell::Int).map_err(|_| bad())
            }
            _ => Err(bad()),
        },
        (Kind::Float64, Value::Number(number)) => number.as_f64().map(Cell::Float).ok_or_else(bad),
        (
            Kind::String | Kind::Timestamp | Kind::Numeric | Kind::BigNumeric | Kind::Bool,
            Value::Number(_),
        ) => from_text(field, &value.to_string()),
        _ => Err(bad()),
    }
}

fn number_text(whole: f64) -> String {
    format!("{whole:.0}")
}

fn range(kind: Kind, text: &str, start: Cell, end: Cell) -> Result<Cell, Refused> {
    let ordered = match (&start, &end) {
        (Cell::Days(start), Cell::Days(end)) => start < end,
        (Cell::Int(start), Cell::Int(end)) => start < end,
        _ => true,
    };
    if !ordered {
        let reason = "Range start element must be smaller than range end element.".to_owned();
        return Err(Refused::because(kind, text, reason));
    }
    Ok(Cell::Record(vec![start, end]))
}

fn check_length(kind: Kind, limits: &Limits, length: usize, text: &str) -> Result<(), Refused> {
    match limits.max_length {
        Some(max) if length as u64 > max => {
            let name = kind.sql();
            Err(Refused::because(
                kind,
                text,
                format!("{name}({max}) has maximum length {max} but got a value with length {length}."),
            ))
        }
        _ => Ok(()),
    }
}

fn out_of_range(kind: Kind, limits: &Limits, text: &str) -> Refused {
    let unlimited = Limits { rounding: limits.rounding, ..Limits::default() };
    match (decimal::parse(text.trim(), kind, &unlimited), limits.precision) {
        (Some(_), Some(precision)) => {
            let (name, scale) = (kind.sql(), limits.scale.unwrap_or(0));
            Refused::because(
                kind,
                text,
                format!(
                    "{name}({precision}, {scale}) has precision {precision} and scale {scale} but got a value that is not in range."
                ),
            )
        }
        _ => Refused::bad(kind, text),
    }
}

/// Either alphabet, padded or not, line breaks ignored.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
    let code: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(&code).or_else(|_| URL_SAFE.decode(&code)).ok()
}

/// A date with slashes, one without seconds, or seconds since 1970 too.
fn timestamp(text: &str) -> Option<i64> {
    let is_number = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && !text.get(1..).is_some_and(|t| t.contains('-') && !t.contains(['e', 'E']));
    if is_number {
        return epoch_seconds(text);
    }
    let dashed = match text.get(..10) {
        Some(date) if date.contains('/') => format!("{}{}", date.replace('/', "-"), &text[10..]),
        _ => text.to_owned(),
    };
    values::parse_timestamp(&dashed).and_then(in_range)
}

fn epoch_seconds(text: &str) -> Option<i64> {
    // Nine digits after the point: six are kept, and a NUMERIC is exact.
    let seconds = decimal::parse(text, Kind::Numeric, &Limits::default())?.to_i128()?;
    in_range(i64::try_from(seconds.div_euclid(1000)).ok()?)
}

/// From the year 1 to 9999.
fn in_range(micros: i64) -> Option<i64> {
    (-62_135_596_800_000_000..=253_402_300_799_999_999).contains(&micros).then_some(micros)
}
