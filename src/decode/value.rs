//! One value of a record, from text to typed.

use std::ops::RangeInclusive;

use chrono::NaiveDate;

use crate::schema::ColumnType;

/// A value checked against its column, ready to append.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Null,
    /// The text it was read from, which stays where it is until it is appended.
    Text,
    /// INT64, DATE as days and TIMESTAMP as microseconds since 1970.
    Int(i64),
    Float(f64),
    Bool(bool),
    /// NUMERIC, times 10^9.
    Numeric(i128),
}

/// 1 KiB: the exact text of a FLOAT64 has at most 1,079 digits, and nobody writes them all.
const NUMBER_BYTES_MAX: usize = 1024;

/// Reads `text`, which is UTF-8, as the column's type; the error is the reject's reason.
///
/// Numbers may have [`NUMBER_BYTES_MAX`] bytes. INT64 takes an optional sign and digits; FLOAT64 what
/// Rust's parser takes, `NaN` and `inf` included; BOOL `true` and `false`; NUMERIC up to 29 digits before and 9 behind the point;
/// DATE `YYYY-MM-DD`; TIMESTAMP RFC 3339. White space around a number is not taken away.
pub(super) fn parse(kind: ColumnType, text: &[u8]) -> Result<Value, &'static str> {
    let is_number = matches!(kind, ColumnType::Int64 | ColumnType::Float64 | ColumnType::Numeric);
    if is_number && text.len() > NUMBER_BYTES_MAX {
        return Err("number_too_long");
    }
    Ok(match kind {
        ColumnType::String => Value::Text,
        ColumnType::Int64 => Value::Int(parse_int(text)?),
        ColumnType::Float64 => {
            let float: f64 = str_of(text).parse().map_err(|_| "not_a_float")?;
            // `1e400` reads as infinity; only a spelled-out infinity may be one.
            if float.is_infinite() && text.iter().any(u8::is_ascii_digit) {
                return Err("float_overflow");
            }
            Value::Float(float)
        }
        ColumnType::Bool => match text {
            b"true" => Value::Bool(true),
            b"false" => Value::Bool(false),
            _ => return Err("not_a_bool"),
        },
        ColumnType::Numeric => Value::Numeric(parse_numeric(text)?),
        ColumnType::Date => {
            // chrono also reads `2015-9-8` and years of five digits, which BigQuery does not have.
            let plain = text.len() == 10 && text[0].is_ascii_digit() && !text.starts_with(b"0000");
            let date: NaiveDate = str_of(text).parse().ok().filter(|_| plain).ok_or("not_a_date")?;
            Value::Int(date.signed_duration_since(NaiveDate::default()).num_days())
        }
        ColumnType::Timestamp => {
            let time = chrono::DateTime::parse_from_rfc3339(str_of(text)).map_err(|_| "not_a_timestamp")?;
            // A leap second is counted as the first of the next minute, which may be that of the year 10000.
            let micros = time.timestamp_micros();
            if !TIMESTAMPS.contains(&micros) {
                return Err("not_a_timestamp");
            }
            Value::Int(micros)
        }
    })
}

/// Years 1 to 9999, in microseconds since 1970: what BigQuery has.
const TIMESTAMPS: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Text that stands for nothing if it is no UTF-8.
fn str_of(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}

fn parse_int(text: &[u8]) -> Result<i64, &'static str> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err("not_an_integer");
    }
    // Summed downwards, since i64 reaches one further below zero than above.
    let mut value: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err("not_an_integer");
        }
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_sub(i64::from(digit - b'0')))
            .ok_or("int_overflow")?;
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or("int_overflow") }
}

fn parse_numeric(text: &[u8]) -> Result<i128, &'static str> {
    const SCALE: i32 = 9;
    const MAX: i128 = 10i128.pow(38) - 1;
    let (negative, number) = match text {
        [b'-', number @ ..] => (true, number),
        [b'+', number @ ..] => (false, number),
        number => (false, number),
    };
    let (mantissa, exponent) = match number.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&number[..at], parse_int(&number[at + 1..]).map_err(|_| "not_a_numeric")?),
        None => (number, 0),
    };
    let point = mantissa.iter().position(|b| *b == b'.').unwrap_or(mantissa.len());
    let (whole, fraction) = (&mantissa[..point], mantissa.get(point + 1..).unwrap_or_default());
    if whole.is_empty() && fraction.is_empty() {
        return Err("not_a_numeric");
    }
    let mut value: i128 = 0;
    for digit in whole.iter().chain(fraction) {
        if !digit.is_ascii_digit() {
            return Err("not_a_numeric");
        }
        value = value.checked_mul(10).ok_or("numeric_overflow")? + i128::from(digit - b'0');
        if value > MAX {
            return Err("numeric_overflow");
        }
    }
    // `value` times 10^shift is the number times 10^9.
    let fraction = i64::try_from(fraction.len()).map_err(|_| "numeric_scale")?;
    let shift = i64::from(SCALE).saturating_sub(fraction).saturating_add(exponent);
    let power = u32::try_from(shift.unsigned_abs()).unwrap_or(u32::MAX);
    let value = match 10i128.checked_pow(power.min(39)) {
        _ if value == 0 => 0,
        Some(power) if shift >= 0 => value.checked_mul(power).ok_or("numeric_overflow")?,
        Some(power) if value % power == 0 => value / power,
        None if shift >= 0 => return Err("numeric_overflow"),
        _ => return Err("numeric_scale"),
    };
    match value {
        value if value > MAX => Err("numeric_overflow"),
        value => Ok(if negative { -value } else { value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_at_their_limits() {
        let int = |text| parse_int(str::as_bytes(text));
        assert_eq!(int("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(int("9007199254740993"), Ok(9_007_199_254_740_993));
        assert_eq!(int("9223372036854775808"), Err("int_overflow"));
        for bad in ["", "-", "+", "1.0", "1e3", " 1", "1 ", "0x1", "１"] {
            assert_eq!(int(bad), Err("not_an_integer"), "{bad}");
        }
    }

    #[test]
    fn numerics_are_exact() {
        let numeric = |text| parse_numeric(str::as_bytes(text));
        assert_eq!(numeric("123.456"), Ok(123_456_000_000));
        assert_eq!(numeric("-0.000000001"), Ok(-1));
        assert_eq!(numeric("99999999999999999999999999999.999999999"), Ok(10i128.pow(38) - 1));
        assert_eq!(numeric("100000000000000000000000000000"), Err("numeric_overflow"));
        assert_eq!(numeric("0.0000000001"), Err("numeric_scale"));
        assert_eq!(numeric("1e2"), Ok(100_000_000_000));
        assert_eq!(numeric("12.5E-1"), Ok(1_250_000_000));
        assert_eq!(numeric("0e999"), Ok(0));
        assert_eq!(numeric("1e29"), Err("numeric_overflow"));
        assert_eq!(numeric("1e999999999999"), Err("numeric_overflow"));
        assert_eq!(numeric("1e-10"), Err("numeric_scale"));
        for bad in ["", ".", "e3", "1e", "1e1.5", "1.2.3", "--1"] {
            assert_eq!(numeric(bad), Err("not_a_numeric"), "{bad}");
        }
    }

    #[test]
    fn dates_timestamps_and_floats() {
        assert!(matches!(parse(ColumnType::Date, b"1970-01-02"), Ok(Value::Int(1))));
        assert!(matches!(parse(ColumnType::Timestamp, b"1970-01-01T00:00:01.5Z"), Ok(Value::Int(1_500_000))));
        let last = parse(ColumnType::Timestamp, b"9999-12-31T23:59:59.999999Z");
        assert!(matches!(last, Ok(Value::Int(last)) if last == *TIMESTAMPS.end()));
        // A leap second, then: the year 10000.
        assert!(parse(ColumnType::Timestamp, b"9999-12-31T23:59:60Z").is_err());
        assert!(parse(ColumnType::Timestamp, b"2016-12-31T23:59:60Z").is_ok());
        assert!(matches!(parse(ColumnType::Float64, b"1E-7"), Ok(Value::Float(_))));
        assert_eq!(parse(ColumnType::Float64, b"1e400").err(), Some("float_overflow"));
        for bad in ["2026-02-30", "2015-9-8", "+20000-01-01", "0000-01-01", " 2015-1-1 ", ""] {
            assert_eq!(parse(ColumnType::Date, bad.as_bytes()).err(), Some("not_a_date"), "{bad}");
        }
    }
}
