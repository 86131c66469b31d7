//! CAST and SAFE_CAST with BigQuery's pairs of types, rounding and texts.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::compute::{self, CastOptions};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, i256,
};
use datafusion::common::Result;

use super::functions::decimals;
use super::library::signature_name;
use super::values;
use super::wording::{exec_err, plan_err};
use crate::emulator::encode::{bignumeric_text, decimal_text};
use crate::emulator::fields::Kind;

pub(super) const NUMERIC: DataType = DataType::Decimal128(38, 9);
const DAY_US: i64 = 86_400_000_000;
/// 2^63, the first FLOAT64 beyond INT64.
const INT64_LIMIT: f64 = 9.223_372_036_854_776e18;

/// The suffixes that the functions are registered under.
pub(super) const TARGETS: [(&str, Kind); 11] = [
    ("int64", Kind::Int64),
    ("float64", Kind::Float64),
    ("bool", Kind::Bool),
    ("string", Kind::String),
    ("bytes", Kind::Bytes),
    ("numeric", Kind::Numeric),
    ("bignumeric", Kind::BigNumeric),
    ("date", Kind::Date),
    ("datetime", Kind::DateTime),
    ("time", Kind::Time),
    ("timestamp", Kind::Timestamp),
];

pub(super) fn strict() -> CastOptions<'static> {
    CastOptions { safe: false, ..CastOptions::default() }
}

pub(super) fn result_type(kind: Kind) -> DataType {
    match kind {
        Kind::Numeric => NUMERIC,
        other => other.arrow_type().unwrap_or(DataType::Utf8),
    }
}

/// What a value is brought to before it is cast; pairs that BigQuery does not cast are refused.
pub(super) fn argument_type(given: &DataType, to: Kind) -> Result<DataType> {
    use Kind::{BigNumeric, Bool, Bytes, Date, DateTime, Float64, Int64, Numeric, String, Time, Timestamp};
    if *given == DataType::Null {
        return Ok(result_type(to));
    }
    let Some(from) = Kind::of(given) else {
        return plan_err!("Invalid cast from {} to {}", signature_name(given), to.sql());
    };
    let legal = from == to
        || match to {
            Int64 => matches!(from, Float64 | Numeric | BigNumeric | Bool | String),
            Float64 => matches!(from, Int64 | Numeric | BigNumeric | String),
            Numeric | BigNumeric => matches!(from, Int64 | Float64 | Numeric | BigNumeric | String),
            Bool => matches!(from, Int64 | String),
            String => from != Kind::Record,
            Bytes => from == String,
            Date => matches!(from, String | DateTime | Timestamp),
            DateTime | Timestamp => matches!(from, String | Date | DateTime | Timestamp),
            Time => matches!(from, String | DateTime | Timestamp),
            _ => false,
        };
    if !legal {
        return plan_err!("Invalid cast from {} to {}", from.sql(), to.sql());
    }
    Ok(result_type(from))
}

/// Whether a value becomes one of another type without a CAST.
pub(super) fn coerces(given: &DataType, to: Kind) -> bool {
    use Kind::{BigNumeric, Date, DateTime, Float64, Int64, Numeric};
    *given == DataType::Null
        || Kind::of(given).is_some_and(|from| {
            from == to
                || matches!(
                    (from, to),
                    (Int64, Numeric | BigNumeric | Float64)
                        | (Numeric, BigNumeric | Float64)
                        | (BigNumeric, Float64)
                        | (Date, DateTime)
                )
        })
}

pub(super) fn cast(from: &ArrayRef, to: Kind, safe: bool) -> Result<ArrayRef> {
    let target = result_type(to);
    if *from.data_type() == target {
        return Ok(Arc::clone(from));
    }
    if from.data_type() == &DataType::Null {
        return Ok(new_null_array(&target, from.len()));
    }
    match to {
        Kind::Int64 => to_int(from, safe),
        Kind::Float64 => match from.data_type() {
            DataType::Utf8 => {
                let values = each(from.as_string::<i32>().iter(), safe, "double", values::parse_float)?;
                Ok(Arc::new(values.into_iter().collect::<Float64Array>()))
            }
            _ => plainly(from, &target, safe),
        },
        Kind::Bool => match from.data_type() {
            DataType::Utf8 => {
                let values = each(from.as_string::<i32>().iter(), safe, "bool", values::parse_bool)?;
                Ok(Arc::new(values.into_iter().collect::<BooleanArray>()))
            }
            _ => Ok(Arc::new(
                from.as_primitive::<Int64Type>().iter().map(|n| n.map(|n| n != 0)).collect::<BooleanArray>(),
            )),
        },
        Kind::String => Ok(to_text(from, safe)?),
        Kind::Date => match from.data_type() {
            DataType::Utf8 => {
                let values = each(from.as_string::<i32>().iter(), safe, "date", |text| {
                    values::parse_date(text)
                        .or_else(|| i32::try_from(values::parse_datetime(text)?.div_euclid(DAY_US)).ok())
                })?;
                Ok(Arc::new(values.into_iter().collect::<Date32Array>()))
            }
            _ => {
                let micros = from.as_primitive::<TimestampMicrosecondType>();
                let days =
                    micros.iter().map(|us| us.and_then(|us| i32::try_from(us.div_euclid(DAY_US)).ok()));
                Ok(Arc::new(days.collect::<Date32Array>()))
            }
        },
        Kind::Timestamp | Kind::DateTime => {
            let micros: TimestampMicrosecondArray = match from.data_type() {
                DataType::Utf8 if to == Kind::Timestamp => {
                    let texts = from.as_string::<i32>().iter();
                    each(texts, safe, "timestamp", values::parse_timestamp)?.into_iter().collect()
                }
                DataType::Utf8 => {
                    let texts = from.as_string::<i32>().iter();
                    each(texts, safe, "datetime", values::parse_datetime)?.into_iter().collect()
                }
                DataType::Date32 => {
                    let days = from.as_primitive::<Date32Type>();
                    days.iter().map(|d| d.map(|d| i64::from(d) * DAY_US)).collect()
                }
                _ => from.as_primitive::<TimestampMicrosecondType>().iter().collect(),
            };
            Ok(Arc::new(micros.with_timezone_opt((to == Kind::Timestamp).then_some("UTC"))))
        }
        Kind::Time => {
            let micros: Time64MicrosecondArray = match from.data_type() {
                DataType::Utf8 => {
                    let texts = from.as_string::<i32>().iter();
                    each(texts, safe, "time", values::parse_time)?.into_iter().collect()
                }
                _ => {
                    let micros = from.as_primitive::<TimestampMicrosecondType>();
                    micros.iter().map(|us| us.map(|us| us.rem_euclid(DAY_US))).collect()
                }
            };
            Ok(Arc::new(micros))
        }
        // `argument_type` lets nothing else through.
        _ => plainly(from, &target, safe),
    }
}

/// Arrow's own cast, where it means the same.
fn plainly(from: &ArrayRef, target: &DataType, safe: bool) -> Result<ArrayRef> {
    let options = CastOptions { safe, ..CastOptions::default() };
    match compute::cast_with_options(from, target, &options) {
        Ok(array) => Ok(array),
        Err(_) => refused(from, target),
    }
}

/// Says which value it is that cannot be cast.
fn refused(from: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let fails = |row: &usize| compute::cast_with_options(&from.slice(*row, 1), target, &strict()).is_err();
    let value = (0..from.len()).find(fails).and_then(|row| to_text(&from.slice(row, 1), true).ok());
    let value = match &value {
        Some(texts) if texts.is_valid(0) => texts.as_string::<i32>().value(0),
        _ => "",
    };
    let to = Kind::of(target).map_or("STRING", Kind::sql);
    match from.data_type() {
        DataType::Utf8 => exec_err!("Invalid {to} value: {value}"),
        DataType::Binary => exec_err!("Invalid cast of bytes to UTF8 string"),
        DataType::Float64 if !value.bytes().any(|b| b.is_ascii_digit()) => {
            exec_err!(
                "Illegal conversion of non-finite floating point number to {}: {value}",
                to.to_lowercase()
            )
        }
        _ => exec_err!("{} out of range: {value}", to.to_lowercase()),
    }
}

/// Parses each text; what does not parse is NULL or an error.
fn each<'a, T>(
    texts: impl Iterator<Item = Option<&'a str>>,
    safe: bool,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<Option<T>>> {
    let one = |text: Option<&str>| match text {
        None => Ok(None),
        Some(text) => match parse(text) {
            None if safe => Ok(None),
            None if matches!(what, "timestamp" | "date" | "datetime" | "time") => {
                exec_err!("Invalid {what}: '{text}'")
            }
            None => exec_err!("Bad {what} value: {text}"),
            some => Ok(some),
        },
    };
    texts.map(one).collect()
}

fn to_int(from: &ArrayRef, safe: bool) -> Result<ArrayRef> {
    let overflow = |shown: String| match safe {
        true => Ok(None),
        false => exec_err!("Illegal conversion of value {shown} to type int64"),
    };
    let values: Vec<Option<i64>> = match from.data_type() {
        DataType::Utf8 => each(from.as_string::<i32>().iter(), safe, "int64", values::parse_int)?,
        DataType::Boolean => from.as_boolean().iter().map(|b| b.map(i64::from)).collect(),
        DataType::Float64 => {
            let round = |value: Option<f64>| match value {
                None => Ok(None),
                // Half away from zero; 2^63 itself is one too many.
                Some(v) if v.round() >= -INT64_LIMIT && v.round() < INT64_LIMIT => Ok(Some(v.round() as i64)),
                Some(v) => overflow(v.to_string()),
            };
            from.as_primitive::<Float64Type>().iter().map(round).collect::<Result<_>>()?
        }
        DataType::Decimal128(_, 9) => {
            const ONE: i128 = 1_000_000_000;
            let round = |value: Option<i128>| match value {
                None => Ok(None),
                Some(v) => {
                    let half = if v < 0 { -ONE / 2 } else { ONE / 2 };
                    match i64::try_from(v.saturating_add(half) / ONE) {
                        Ok(v) => Ok(Some(v)),
                        Err(_) => overflow(bignumeric_text(i256::from_i128(v), 9)),
                    }
                }
            };
            decimals(from).iter().map(round).collect::<Result<_>>()?
        }
        DataType::Decimal256(_, scale) => {
            let one = i256::from_i128(10).checked_pow(u32::try_from(*scale).unwrap_or(0));
            let array = from.as_primitive::<Decimal256Type>();
            let round = |value: Option<i256>| {
                let (Some(value), Some(one)) = (value, one) else { return Ok(None) };
                // Arrow's own cast cuts, and wraps around.
                let half = one.wrapping_div(i256::from_i128(2));
                let half = if value.is_negative() { half.wrapping_neg() } else { half };
                let whole = value.checked_add(half).and_then(|v| v.checked_div(one)?.to_i128());
                match whole.and_then(|whole| i64::try_from(whole).ok()) {
                    Some(whole) => Ok(Some(whole)),
                    None => overflow(bignumeric_text(value, array.scale())),
                }
            };
            array.iter().map(round).collect::<Result<_>>()?
        }
        _ => return plainly(from, &DataType::Int64, safe),
    };
    Ok(Arc::new(values.into_iter().collect::<Int64Array>()))
}

fn to_text(from: &ArrayRef, safe: bool) -> Result<ArrayRef> {
    let texts: StringArray = match from.data_type() {
        DataType::Float64 => {
            from.as_primitive::<Float64Type>().iter().map(|v| v.map(values::float_text)).collect()
        }
        DataType::Date32 => {
            from.as_primitive::<Date32Type>().iter().map(|v| v.map(values::cast_date_text)).collect()
        }
        DataType::Timestamp(_, zone) => {
            let text = if zone.is_some() { values::timestamp_text } else { values::cast_datetime_text };
            from.as_primitive::<TimestampMicrosecondType>().iter().map(|v| v.map(text)).collect()
        }
        DataType::Decimal128(..) => {
            let array = from.as_primitive::<Decimal128Type>();
            let text = |row: usize| array.is_valid(row).then(|| decimal_text(&array.value_as_string(row)));
            (0..array.len()).map(text).collect()
        }
        DataType::Decimal256(..) => {
            let array = from.as_primitive::<Decimal256Type>();
            array.iter().map(|value| value.map(|value| bignumeric_text(value, array.scale()))).collect()
        }
        DataType::Time64(_) => {
            let micros = from.as_primitive::<Time64MicrosecondType>();
            micros.iter().map(|us| us.map(values::time_text)).collect()
        }
        _ => return plainly(from, &DataType::Utf8, safe),
    };
    Ok(Arc::new(texts))
}
