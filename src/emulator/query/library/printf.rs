//! FORMAT(), and the text of any value.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;

use super::Function;
use crate::emulator::fields::Kind;
use crate::emulator::query::library::signature_name;
use crate::emulator::query::wording::{exec_err, plan_err};
use crate::emulator::query::{casts, values};

pub(super) fn functions() -> Vec<Function> {
    vec![Function::generic(
        "FORMAT",
        |given| match given.first() {
            Some(DataType::Utf8 | DataType::Null) => Ok((given.to_vec(), DataType::Utf8)),
            _ => plan_err!("FORMAT needs a format string"),
        },
        |args, n| {
            let one = |row: usize| formatted(args, row);
            Ok(std::sync::Arc::new((0..n).map(one).collect::<Result<StringArray>>()?))
        },
    )]
}

/// Widths and precisions that a result can still hold.
const WIDTH_MAX: usize = 1000;

#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    grouped: bool,
    width: usize,
    precision: Option<usize>,
}

fn formatted(args: &[ArrayRef], row: usize) -> Result<Option<String>> {
    let [format, values @ ..] = args else { return Ok(None) };
    if format.is_null(row) || format.data_type() == &DataType::Null {
        return Ok(None);
    }
    let mut values = values.iter();
    let mut next = || match values.next() {
        Some(value) => Ok(value),
        None => exec_err!("Too few arguments to FORMAT"),
    };
    let (mut out, mut chars) = (String::new(), format.as_string::<i32>().value(row).chars().peekable());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+ 0#'".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                '\'' => spec.grouped = true,
                _ => {}
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Result<usize> {
            let mut digits = String::new();
            if chars.next_if_eq(&'*').is_some() {
                digits = plain_text(next()?, row);
            }
            digits.extend(std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)));
            match if digits.is_empty() { Ok(0) } else { digits.parse() } {
                Ok(number) if number <= WIDTH_MAX => Ok(number),
                _ => exec_err!("Invalid width or precision in FORMAT"),
            }
        };
        spec.width = number(&mut chars)?;
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars)?);
        }
        let Some(verb) = chars.next() else { return exec_err!("Invalid format string in FORMAT") };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = next()?;
        if (value.is_null(row) || value.data_type() == &DataType::Null) && !matches!(verb, 't' | 'T') {
            return Ok(None);
        }
        out.push_str(&padded(&spec, &verb_text(verb, &spec, value, row)?));
    }
    if values.next().is_some() {
        return exec_err!("Too many arguments to FORMAT");
    }
    Ok(Some(out))
}

fn verb_text(verb: char, spec: &Spec, value: &ArrayRef, row: usize) -> Result<String> {
    let refused = || {
        let given = signature_name(value.data_type());
        exec_err!("Invalid type for argument of FORMAT: %{verb} does not take {given}")
    };
    Ok(match verb {
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let DataType::Int64 = value.data_type() else { return refused() };
            let number = value.as_primitive::<Int64Type>().value(row);
            let magnitude = number.unsigned_abs();
            let digits = match verb {
                'x' => format!("{magnitude:x}"),
                'X' => format!("{magnitude:X}"),
                'o' => format!("{magnitude:o}"),
                _ if spec.grouped => grouped(&magnitude.to_string()),
                _ => magnitude.to_string(),
            };
            signed(spec, number < 0, &digits)
        }
        'f' | 'F' | 'e' | 'E' | 'g' | 'G' => {
            let number = match value.data_type() {
                DataType::Float64 => value.as_primitive::<Float64Type>().value(row),
                DataType::Decimal128(..) => plain_text(value, row).parse().unwrap_or(f64::NAN),
                _ => return refused(),
            };
            if !number.is_finite() {
                return Ok(signed(spec, number < 0.0, if number.is_nan() { "nan" } else { "inf" }));
            }
            let (magnitude, precision) = (number.abs(), spec.precision.unwrap_or(6));
            let digits = match verb {
                'f' | 'F' => {
                    let digits = format!("{magnitude:.precision$}");
                    if spec.grouped { grouped(&digits) } else { digits }
                }
                'e' | 'E' => scientific(magnitude, precision),
                _ => general(magnitude, precision.max(1)),
            };
            let digits = if verb.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
            signed(spec, number.is_sign_negative(), &digits)
        }
        's' => match value.data_type() {
            DataType::Utf8 => {
                let text = value.as_string::<i32>().value(row);
                spec.precision.map_or(text.to_owned(), |max| text.chars().take(max).collect())
            }
            _ => return refused(),
        },
        't' => shown_text(value, row),
        'T' => literal_text(value, row),
        other => return exec_err!("not supported by the embedded server: FORMAT with %{other}"),
    })
}

fn grouped(digits: &str) -> String {
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    fraction.map_or(out.clone(), |fraction| format!("{out}.{fraction}"))
}

fn scientific(magnitude: f64, precision: usize) -> String {
    let text = format!("{magnitude:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// C's %g: the shorter of both, without zeros at the end.
fn general(magnitude: f64, precision: usize) -> String {
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let text = scientific(magnitude, precision - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    match usize::try_from(power) {
        Ok(power) if power >= precision => format!("{}e{exponent}", trimmed(mantissa)),
        Ok(power) => trimmed(&format!("{magnitude:.*}", precision - 1 - power)),
        Err(_) if power < -4 => format!("{}e{exponent}", trimmed(mantissa)),
        Err(_) => trimmed(&format!("{magnitude:.*}", precision - 1 + power.unsigned_abs() as usize)),
    }
}

fn signed(spec: &Spec, negative: bool, digits: &str) -> String {
    let sign = if negative {
        "-"
    } else if spec.plus {
        "+"
    } else if spec.space {
        " "
    } else {
        ""
    };
    let missing = spec.width.saturating_sub(sign.len() + digits.len());
    let zeros = if spec.zero && !spec.left { missing } else { 0 };
    format!("{sign}{}{digits}", "0".repeat(zeros))
}

fn padded(spec: &Spec, text: &str) -> String {
    let missing = " ".repeat(spec.width.saturating_sub(text.chars().count()));
    if spec.left { format!("{text}{missing}") } else { format!("{missing}{text}") }
}

/// As CAST to STRING prints it; arrays and structs in brackets.
pub(super) fn plain_text(array: &ArrayRef, row: usize) -> String {
    nested_text(array, row, plain_text).unwrap_or_else(|| {
        let text = casts::cast(&array.slice(row, 1), Kind::String, true);
        text.ok()
            .filter(|t| t.is_valid(0))
            .map_or("NULL".into(), |t| t.as_string::<i32>().value(0).to_owned())
    })
}

/// As %t prints it: a FLOAT64 is told from an INT64.
fn shown_text(array: &ArrayRef, row: usize) -> String {
    nested_text(array, row, shown_text).unwrap_or_else(|| {
        let text = plain_text(array, row);
        let is_whole = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if is_whole && *array.data_type() == DataType::Float64 { format!("{text}.0") } else { text }
    })
}

fn nested_text(array: &ArrayRef, row: usize, item: fn(&ArrayRef, usize) -> String) -> Option<String> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Some("NULL".into());
    }
    match array.data_type() {
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let texts: Vec<String> = (0..items.len()).map(|at| item(&items, at)).collect();
            Some(format!("[{}]", texts.join(", ")))
        }
        DataType::Struct(_) => {
            let texts: Vec<String> = array.as_struct().columns().iter().map(|c| item(c, row)).collect();
            Some(format!("({})", texts.join(", ")))
        }
        _ => None,
    }
}

/// As a literal of GoogleSQL.
fn literal_text(array: &ArrayRef, row: usize) -> String {
    nested_text(array, row, literal_text).unwrap_or_else(|| {
        let text = plain_text(array, row);
        match Kind::of(array.data_type()) {
            Some(Kind::String) => serde_json::Value::from(text).to_string(),
            Some(Kind::Bytes) => format!("b{}", serde_json::Value::from(text)),
            Some(kind @ (Kind::Date | Kind::DateTime | Kind::Time | Kind::Timestamp | Kind::Numeric)) => {
                format!("{} \"{text}\"", kind.sql())
            }
            Some(Kind::Float64) => values::float_literal(&text),
            _ => text,
        }
    })
}
