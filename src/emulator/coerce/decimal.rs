//! NUMERIC and BIGNUMERIC from text, exactly.

use datafusion::arrow::datatypes::i256;

use crate::emulator::fields::{Kind, Limits, Rounding};

/// The digits after the point that each kind keeps.
fn scale(kind: Kind) -> i64 {
    if kind == Kind::BigNumeric { 38 } else { 9 }
}

/// `-1.5e3`, rounded to the scale of the column; `None` when it is no number or out of range.
pub(super) fn parse(text: &str, kind: Kind, limits: &Limits) -> Option<i256> {
    let kept = limits.scale.map_or(scale(kind), i64::from);
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // How many of the digits are kept; the others decide the rounding.
    let keep = i64::try_from(whole.len()).ok()? + i64::from(exponent) + kept;
    let unscaled = match usize::try_from(keep) {
        Err(_) => "0".to_owned(),
        Ok(keep) if keep > digits.len() + 400 => {
            if digits.iter().any(|d| *d != b'0') {
                return None;
            }
            "0".to_owned()
        }
        Ok(keep) => rounded(&digits, keep, limits.rounding),
    };
    let padding = "0".repeat(usize::try_from(scale(kind) - kept).unwrap_or(0));
    let significant = unscaled.trim_start_matches('0');
    if significant.len() > 77 {
        return None;
    }
    let text = format!("{}0{significant}{padding}", if negative { "-" } else { "" });
    let value = i256::from_string(&text)?;
    is_in_range(value, significant.len(), kind, limits).then_some(value)
}

fn is_in_range(value: i256, digits: usize, kind: Kind, limits: &Limits) -> bool {
    let within_kind =
        kind == Kind::BigNumeric || value.to_i128().is_some_and(|n| n.unsigned_abs() < 10_u128.pow(38));
    within_kind && limits.precision.is_none_or(|precision| digits <= usize::from(precision))
}

fn rounded(digits: &[u8], keep: usize, rounding: Rounding) -> String {
    let mut kept: Vec<u8> = digits.iter().copied().chain(std::iter::repeat(b'0')).take(keep).collect();
    let dropped = digits.get(keep..).unwrap_or_default();
    let up = match dropped.first() {
        None | Some(b'0'..=b'4') => false,
        Some(b'5') if rounding == Rounding::HalfEven && dropped[1..].iter().all(|d| *d == b'0') => {
            kept.last().is_some_and(|d| (d - b'0') % 2 == 1)
        }
        Some(_) => true,
    };
    if up {
        let mut place = kept.len();
        loop {
            let Some(index) = place.checked_sub(1) else {
                kept.insert(0, b'1');
                break;
            };
            if kept[index] < b'9' {
                kept[index] += 1;
                break;
            }
            kept[index] = b'0';
            place = index;
        }
    }
    kept.into_iter().map(char::from).collect()
}
