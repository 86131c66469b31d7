//! Mathematics: rounding away from zero, errors instead of overflow, NUMERIC kept exact.

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, i256};
use datafusion::common::Result;

use super::Function;
use super::rows::{Row, bools, floats, given, ints, numerics, texts};
use crate::emulator::query::wording::exec_err;

/// 1 as a NUMERIC.
pub(super) const ONE: i128 = 1_000_000_000;
/// The largest NUMERIC is 10^29 - 10^-9.
pub(super) const NUMERIC_MAX: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

const SAME: &str = "INT64 -> INT64 | NUMERIC -> NUMERIC | FLOAT64 -> FLOAT64";
const ROUNDED: &str = "INT64 -> FLOAT64 | NUMERIC -> NUMERIC | FLOAT64 -> FLOAT64";
const FLOATS: &str = "FLOAT64 -> FLOAT64";
const TWO_FLOATS: &str = "FLOAT64, FLOAT64 -> FLOAT64";
const TWO_NUMBERS: &str = "INT64, INT64 -> INT64 | NUMERIC, NUMERIC -> NUMERIC | FLOAT64, FLOAT64 -> FLOAT64";
const TO_PLACES: &str = "FLOAT64 -> FLOAT64 | FLOAT64, INT64 -> FLOAT64 | NUMERIC -> NUMERIC | \
                         NUMERIC, INT64 -> NUMERIC | INT64 -> FLOAT64 | INT64, INT64 -> FLOAT64";

pub(super) fn functions() -> Vec<Function> {
    let f = Function::listed;
    vec![
        f("ABS", SAME, |args, n| match kind(args) {
            Number::Int => ints(args, n, |row| match given!(row.int(0)).checked_abs() {
                Some(value) => Ok(Some(value)),
                None => exec_err!("int64 overflow: ABS({})", i64::MIN),
            }),
            Number::Numeric => numerics(args, n, |row| Ok(row.numeric(0).map(i128::abs))),
            Number::Float => floats(args, n, |row| Ok(row.float(0).map(f64::abs))),
        }),
        f("SIGN", SAME, |args, n| match kind(args) {
            Number::Int => ints(args, n, |row| Ok(row.int(0).map(i64::signum))),
            Number::Numeric => numerics(args, n, |row| Ok(row.numeric(0).map(|v| v.signum() * ONE))),
            Number::Float => floats(args, n, |row| {
                Ok(row.float(0).map(|v| if v == 0.0 || v.is_nan() { v } else { v.signum() }))
            }),
        }),
        f("ROUND", TO_PLACES, |args, n| to_places(args, n, Rounding::HalfAway)),
        f("TRUNC", TO_PLACES, |args, n| to_places(args, n, Rounding::TowardsZero)),
        f("CEIL", ROUNDED, |args, n| to_places(args, n, Rounding::Up)),
        f("CEILING", ROUNDED, |args, n| to_places(args, n, Rounding::Up)),
        f("FLOOR", ROUNDED, |args, n| to_places(args, n, Rounding::Down)),
        f("SQRT", FLOATS, |args, n| {
            checked(args, n, "SQRT", |v| if v < 0.0 { None } else { Some(v.sqrt()) })
        }),
        f("CBRT", FLOATS, |args, n| checked(args, n, "CBRT", |v| Some(v.cbrt()))),
        f("EXP", FLOATS, |args, n| checked(args, n, "EXP", |v| Some(v.exp()))),
        f("LN", FLOATS, |args, n| checked(args, n, "LN", |v| (v > 0.0 || v.is_nan()).then(|| v.ln()))),
        f("LOG10", FLOATS, |args, n| {
            checked(args, n, "LOG10", |v| (v > 0.0 || v.is_nan()).then(|| v.log10()))
        }),
        f("LOG", "FLOAT64 -> FLOAT64 | FLOAT64, FLOAT64 -> FLOAT64", |args, n| {
            floats(args, n, |row| {
                let value = given!(row.float(0));
                let base = if row.is_given(1) { given!(row.float(1)) } else { std::f64::consts::E };
                if value <= 0.0 || base <= 0.0 || base == 1.0 {
                    return exec_err!("Floating point error in function: LOG({value}, {base})");
                }
                Ok(Some(if row.is_given(1) { value.ln() / base.ln() } else { value.ln() }))
            })
        }),
        f("POW", TWO_FLOATS, power),
        f("POWER", TWO_FLOATS, power),
        f("SIN", FLOATS, |args, n| checked(args, n, "SIN", |v| Some(v.sin()))),
        f("COS", FLOATS, |args, n| checked(args, n, "COS", |v| Some(v.cos()))),
        f("TAN", FLOATS, |args, n| checked(args, n, "TAN", |v| Some(v.tan()))),
        f("ASIN", FLOATS, |args, n| checked(args, n, "ASIN", |v| (v.abs() <= 1.0).then(|| v.asin()))),
        f("ACOS", FLOATS, |args, n| checked(args, n, "ACOS", |v| (v.abs() <= 1.0).then(|| v.acos()))),
        f("ATAN", FLOATS, |args, n| checked(args, n, "ATAN", |v| Some(v.atan()))),
        f("ATAN2", TWO_FLOATS, |args, n| {
            floats(args, n, |row| Ok(Some(given!(row.float(0)).atan2(given!(row.float(1))))))
        }),
        f("IEEE_DIVIDE", TWO_FLOATS, |args, n| {
            floats(args, n, |row| Ok(Some(given!(row.float(0)) / given!(row.float(1)))))
        }),
        f("IS_NAN", "FLOAT64 -> BOOL", |args, n| bools(args, n, |row| Ok(row.float(0).map(f64::is_nan)))),
        f("IS_INF", "FLOAT64 -> BOOL", |args, n| {
            bools(args, n, |row| Ok(row.float(0).map(f64::is_infinite)))
        }),
        f("DIV", "INT64, INT64 -> INT64 | NUMERIC, NUMERIC -> NUMERIC", |args, n| match kind(args) {
            Number::Int => ints(args, n, |row| {
                let (a, b) = (given!(row.int(0)), not_zero(given!(row.int(1)))?);
                a.checked_div(b).map_or_else(|| exec_err!("int64 overflow: {a} / {b}"), |v| Ok(Some(v)))
            }),
            _ => numerics(args, n, |row| {
                let (a, b) = (given!(row.numeric(0)), not_zero(given!(row.numeric(1)))?);
                in_numeric((a / b).checked_mul(ONE)).map(Some)
            }),
        }),
        f("MOD", "INT64, INT64 -> INT64 | NUMERIC, NUMERIC -> NUMERIC", |args, n| match kind(args) {
            Number::Int => ints(args, n, |row| {
                let (a, b) = (given!(row.int(0)), not_zero(given!(row.int(1)))?);
                Ok(Some(a.wrapping_rem(b)))
            }),
            _ => numerics(args, n, |row| {
                let (a, b) = (given!(row.numeric(0)), not_zero(given!(row.numeric(1)))?);
                Ok(Some(a % b))
            }),
        }),
        f("SAFE_ADD", TWO_NUMBERS, |args, n| safely(args, n, i64::checked_add, |a, b| a + b, '+')),
        f("SAFE_SUBTRACT", TWO_NUMBERS, |args, n| safely(args, n, i64::checked_sub, |a, b| a - b, '-')),
        f("SAFE_MULTIPLY", TWO_NUMBERS, |args, n| safely(args, n, i64::checked_mul, |a, b| a * b, '*')),
        f("SAFE_NEGATE", SAME, |args, n| match kind(args) {
            Number::Int => ints(args, n, |row| Ok(row.int(0).and_then(i64::checked_neg))),
            Number::Numeric => numerics(args, n, |row| Ok(row.numeric(0).map(|v| -v))),
            Number::Float => floats(args, n, |row| Ok(row.float(0).map(|v| -v))),
        }),
        f("BIT_COUNT", "INT64 -> INT64", |args, n| {
            ints(args, n, |row| Ok(row.int(0).map(|v| v.count_ones().into())))
        }),
        f("bitwise_and", "INT64, INT64 -> INT64", |args, n| {
            ints(args, n, |row| Ok(Some(given!(row.int(0)) & given!(row.int(1)))))
        }),
        f("bitwise_or", "INT64, INT64 -> INT64", |args, n| {
            ints(args, n, |row| Ok(Some(given!(row.int(0)) | given!(row.int(1)))))
        }),
        f("bitwise_xor", "INT64, INT64 -> INT64", |args, n| {
            ints(args, n, |row| Ok(Some(given!(row.int(0)) ^ given!(row.int(1)))))
        }),
        f("bitwise_not", "INT64 -> INT64", |args, n| ints(args, n, |row| Ok(row.int(0).map(|v| !v)))),
        f("RAND", "-> FLOAT64", |args, n| floats(args, n, |_| Ok(Some(fastrand::f64())))).volatile(),
        f("GENERATE_UUID", "-> STRING", |args, n| texts(args, n, |_| Ok(Some(uuid())))).volatile(),
        f("ERROR", "STRING -> INT64", |args, n| {
            ints(args, n, |row: Row<'_>| exec_err!("{}", row.text(0).unwrap_or_default()))
        })
        .volatile(),
    ]
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Int,
    Numeric,
    Float,
}

fn kind(args: &[ArrayRef]) -> Number {
    match args.first().map(|a| a.data_type()) {
        Some(DataType::Int64) => Number::Int,
        Some(DataType::Decimal128(..)) => Number::Numeric,
        _ => Number::Float,
    }
}

fn not_zero<T: Default + PartialEq>(divisor: T) -> Result<T> {
    if divisor == T::default() { exec_err!("division by zero") } else { Ok(divisor) }
}

pub(in crate::emulator::query) fn in_numeric(value: Option<i128>) -> Result<i128> {
    match value.filter(|v| v.abs() <= NUMERIC_MAX) {
        Some(value) => Ok(value),
        None => exec_err!("numeric overflow"),
    }
}

/// a / b to nine places, half away from zero.
pub(in crate::emulator::query) fn divide_numeric(a: i128, b: i128) -> Result<i128> {
    // A billionfold of a has up to 47 digits.
    let (scaled, divisor) = (i256::from_i128(a).wrapping_mul(i256::from_i128(ONE)), i256::from_i128(b));
    let (Some(quotient), Some(rest)) = (scaled.checked_div(divisor), scaled.checked_rem(divisor)) else {
        return exec_err!("division by zero");
    };
    let rounds_up = rest.wrapping_abs().wrapping_mul(i256::from_i128(2)) >= divisor.wrapping_abs();
    let away = if !rounds_up {
        0
    } else if (a < 0) != (b < 0) {
        -1
    } else {
        1
    };
    in_numeric(quotient.wrapping_add(i256::from_i128(away)).to_i128())
}

fn checked(args: &[ArrayRef], n: usize, name: &str, f: fn(f64) -> Option<f64>) -> Result<ArrayRef> {
    floats(args, n, |row| {
        let value = given!(row.float(0));
        match f(value).filter(|result| result.is_finite() || !value.is_finite()) {
            Some(result) => Ok(Some(result)),
            None => exec_err!("Floating point error in function: {name}({value})"),
        }
    })
}

fn power(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    floats(args, n, |row| {
        let (base, exponent) = (given!(row.float(0)), given!(row.float(1)));
        let result = base.powf(exponent);
        if (result.is_nan() || result.is_infinite()) && base.is_finite() && exponent.is_finite() {
            return exec_err!("Floating point error in function: POW({base}, {exponent})");
        }
        Ok(Some(result))
    })
}

fn safely(
    args: &[ArrayRef],
    n: usize,
    int: fn(i64, i64) -> Option<i64>,
    float: fn(f64, f64) -> f64,
    op: char,
) -> Result<ArrayRef> {
    match kind(args) {
        Number::Int => ints(args, n, |row| Ok(int(given!(row.int(0)), given!(row.int(1))))),
        Number::Float => floats(args, n, |row| {
            let (a, b) = (given!(row.float(0)), given!(row.float(1)));
            let result = float(a, b);
            Ok((result.is_finite() || !a.is_finite() || !b.is_finite()).then_some(result))
        }),
        Number::Numeric => numerics(args, n, |row| {
            let (a, b) = (given!(row.numeric(0)), given!(row.numeric(1)));
            Ok(match op {
                '+' => in_numeric(a.checked_add(b)).ok(),
                '-' => in_numeric(a.checked_sub(b)).ok(),
                _ => multiply_numeric(a, b).ok(),
            })
        }),
    }
}

/// a * b to nine places, half away from zero.
pub(in crate::emulator::query) fn multiply_numeric(a: i128, b: i128) -> Result<i128> {
    // (aw + af) * b, with aw whole: the parts fit where the product does.
    let (whole, fraction) = (a / ONE, a % ONE);
    let (b_whole, b_fraction) = (b / ONE, b % ONE);
    let small = fraction * b_fraction;
    let rounded = (small + small.signum() * (ONE / 2)) / ONE;
    let parts = whole.checked_mul(b).and_then(|p| p.checked_add(fraction.checked_mul(b_whole)?));
    in_numeric(parts.and_then(|p| p.checked_add(rounded)))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rounding {
    HalfAway,
    TowardsZero,
    Up,
    Down,
}

fn to_places(args: &[ArrayRef], n: usize, rounding: Rounding) -> Result<ArrayRef> {
    let places = |row: Row<'_>| if row.is_given(1) { row.int(1) } else { Some(0) };
    match kind(args) {
        Number::Int => floats(args, n, |row| {
            Ok(Some(round_float(given!(row.int(0)) as f64, given!(places(row)), rounding)))
        }),
        Number::Float => {
            floats(args, n, |row| Ok(Some(round_float(given!(row.float(0)), given!(places(row)), rounding))))
        }
        Number::Numeric => numerics(args, n, |row| {
            let (value, places) = (given!(row.numeric(0)), given!(places(row)));
            in_numeric(round_numeric(value, places, rounding)).map(Some)
        }),
    }
}

fn round_float(value: f64, places: i64, rounding: Rounding) -> f64 {
    let apply = |v: f64| match rounding {
        Rounding::HalfAway => v.round(),
        Rounding::TowardsZero => v.trunc(),
        Rounding::Up => v.ceil(),
        Rounding::Down => v.floor(),
    };
    if places == 0 || !value.is_finite() {
        return apply(value);
    }
    let places = i32::try_from(places.clamp(-400, 400)).unwrap_or(0);
    if places > 0 {
        let scaled = value * 10_f64.powi(places);
        // Beyond 2^53 there is nothing behind the point, and a huge scale has no digits to cut.
        return if scaled.abs() < 9e15 { apply(scaled) / 10_f64.powi(places) } else { value };
    }
    let unit = 10_f64.powi(-places);
    if unit.is_infinite() { 0.0 } else { apply(value / unit) * unit }
}

fn round_numeric(value: i128, places: i64, rounding: Rounding) -> Option<i128> {
    if places >= 9 {
        return Some(value);
    }
    // 10^38 is larger than every NUMERIC.
    let digits = u32::try_from(9 - places.max(-29)).ok()?;
    let unit = 10_i128.pow(digits);
    let (whole, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
    let up = match rounding {
        Rounding::HalfAway => {
            if value < 0 {
                rest > unit / 2
            } else {
                rest >= unit / 2
            }
        }
        Rounding::TowardsZero => value < 0 && rest != 0,
        Rounding::Up => rest != 0,
        Rounding::Down => false,
    };
    (whole + i128::from(up)).checked_mul(unit)
}

/// A random (version 4) identifier.
fn uuid() -> String {
    let bits = fastrand::u128(..);
    let bits = bits & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let text = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
