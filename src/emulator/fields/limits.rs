//! Parameterized types: STRING(n), BYTES(n), NUMERIC(p, s), and how a NUMERIC is rounded to its scale.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StructArray,
};
use datafusion::arrow::datatypes::{
    ArrowNativeType, ArrowNativeTypeOp, DataType, Decimal128Type, Decimal256Type, DecimalType, FieldRef,
    Fields,
};
use datafusion::arrow::error::ArrowError;
use serde_json::{Map, Value};

use super::{Field, Kind};
use crate::emulator::files::places;
use crate::emulator::wire::{Failure, Outcome, integer, text};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::emulator) enum Rounding {
    #[default]
    HalfAwayFromZero,
    HalfEven,
}

/// What a value of the column may be at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::emulator) struct Limits {
    /// Characters of a STRING, bytes of BYTES.
    pub max_length: Option<u64>,
    pub precision: Option<u8>,
    pub scale: Option<u8>,
    pub rounding: Rounding,
}

impl Field {
    pub(in crate::emulator) fn limits(&self) -> Limits {
        // The members were checked when the field was made.
        parse(&self.name, self.kind, &self.rest).unwrap_or_default()
    }

    /// The text of `defaultValueExpression`.
    pub(in crate::emulator) fn default_expression(&self) -> Option<&str> {
        text(&self.rest, "defaultValueExpression").filter(|expression| !expression.trim().is_empty())
    }
}

pub(super) fn check(name: &str, kind: Kind, members: &Map<String, Value>) -> Outcome<()> {
    if integer(members, "timestampPrecision")?.is_some_and(|digits| digits != 6) {
        return Err(Failure::invalid(format!(
            "Field {name}: TIMESTAMP columns of picosecond precision are not supported"
        )));
    }
    parse(name, kind, members).map(drop)
}

fn parse(name: &str, kind: Kind, members: &Map<String, Value>) -> Outcome<Limits> {
    let given =
        |member: &str| integer(members, member).map(|n| n.filter(|n| *n != 0 || member == "maxLength"));
    let (length, precision, scale) = (given("maxLength")?, given("precision")?, given("scale")?);
    let wrong =
        |what: &str| Failure::invalid(format!("Invalid schema: field {name} of type {}: {what}", kind.sql()));
    let is_decimal = matches!(kind, Kind::Numeric | Kind::BigNumeric);
    if length.is_some() && !matches!(kind, Kind::String | Kind::Bytes) {
        return Err(wrong("maxLength is for STRING and BYTES"));
    }
    if (precision.is_some() || scale.is_some()) && !is_decimal {
        return Err(wrong("precision and scale are for NUMERIC and BIGNUMERIC"));
    }
    let max_length = match length.map(u64::try_from) {
        Some(Ok(0) | Err(_)) => return Err(wrong("maxLength must be positive")),
        other => other.and_then(Result::ok),
    };
    if scale.is_some() && precision.is_none() {
        return Err(wrong("scale needs a precision"));
    }
    let (whole_max, scale_max) = if kind == Kind::Numeric { (29, 9) } else { (38, 38) };
    if let Some(precision) = precision {
        let scale = scale.unwrap_or(0);
        if !(0..=scale_max).contains(&scale) || !(scale.max(1)..=scale + whole_max).contains(&precision) {
            return Err(wrong("precision and scale are out of range"));
        }
    }
    let rounding = match text(members, "roundingMode") {
        None | Some("" | "ROUNDING_MODE_UNSPECIFIED" | "ROUND_HALF_AWAY_FROM_ZERO") => {
            Rounding::HalfAwayFromZero
        }
        Some("ROUND_HALF_EVEN") => Rounding::HalfEven,
        Some(_) => return Err(wrong("roundingMode must be ROUND_HALF_AWAY_FROM_ZERO or ROUND_HALF_EVEN")),
    };
    let digits = |n: Option<i64>| n.and_then(|n| u8::try_from(n).ok());
    let (precision, scale) = (digits(precision), digits(precision.map(|_| scale.unwrap_or(0))));
    Ok(Limits { max_length, precision, scale, rounding })
}

/// Holds values that come in the column's own types, from files and queries, to the parameters of its type: a
/// decimal is rounded to the scale of its column, all else that does not fit is an error.
pub(in crate::emulator) fn fit_limits(batch: RecordBatch, fields: &[Field]) -> Outcome<RecordBatch> {
    if fields.iter().all(is_unlimited) {
        return Ok(batch);
    }
    let schema = batch.schema();
    let columns = fit_columns(schema.fields(), batch.columns(), fields)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| Failure::backend(e.to_string()))
}

fn is_unlimited(field: &Field) -> bool {
    field.rest.is_empty() && field.fields.iter().all(is_unlimited)
}

fn fit_columns(names: &Fields, columns: &[ArrayRef], fields: &[Field]) -> Outcome<Vec<ArrayRef>> {
    let places = places(fields.iter().map(|f| f.name.as_str()));
    let fit = |(name, column): (&FieldRef, &ArrayRef)| {
        let field = places.get(&name.name().to_lowercase()).map(|place| &fields[*place]);
        match field.filter(|field| !is_unlimited(field)) {
            Some(field) => fit_column(column, field),
            None => Ok(Arc::clone(column)),
        }
    };
    names.iter().zip(columns).map(fit).collect()
}

fn fit_column(column: &ArrayRef, field: &Field) -> Outcome<ArrayRef> {
    let broken = |e: ArrowError| Failure::backend(e.to_string());
    if let DataType::List(item) = column.data_type() {
        let list = column.as_list::<i32>();
        let values = fit_column(list.values(), field)?;
        let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
        let list = ListArray::try_new(Arc::clone(item), offsets, values, nulls).map_err(broken)?;
        return Ok(Arc::new(list));
    }
    if let (DataType::Struct(names), Kind::Record) = (column.data_type(), field.kind) {
        let record = column.as_struct();
        let columns = fit_columns(names, record.columns(), &field.fields)?;
        let record = StructArray::try_new(names.clone(), columns, record.nulls().cloned()).map_err(broken)?;
        return Ok(Arc::new(record));
    }
    let limits = field.limits();
    if let Some(max) = limits.max_length {
        check_length(column, field, max)?;
    }
    let (Some(precision), Some(scale)) = (limits.precision, limits.scale) else {
        return Ok(Arc::clone(column));
    };
    let fitted: Option<ArrayRef> = match column.data_type() {
        DataType::Decimal128(_, kept) => {
            decimals_fit(column.as_primitive::<Decimal128Type>(), *kept, precision, scale, limits.rounding)
                .map(|fitted| Arc::new(fitted) as ArrayRef)
        }
        DataType::Decimal256(_, kept) => {
            decimals_fit(column.as_primitive::<Decimal256Type>(), *kept, precision, scale, limits.rounding)
                .map(|fitted| Arc::new(fitted) as ArrayRef)
        }
        _ => Some(Arc::clone(column)),
    };
    fitted.ok_or_else(|| {
        Failure::invalid(format!(
            "Field {}: a value does not fit {}({precision}, {scale})",
            field.name,
            field.kind.sql()
        ))
    })
}

fn check_length(column: &ArrayRef, field: &Field, max: u64) -> Outcome<()> {
    let lengths: Vec<usize> = match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().flatten().map(|t| t.chars().count()).collect(),
        DataType::Binary => column.as_binary::<i32>().iter().flatten().map(<[u8]>::len).collect(),
        _ => Vec::new(),
    };
    let Some(length) = lengths.into_iter().find(|length| *length as u64 > max) else { return Ok(()) };
    let (name, kind) = (&field.name, field.kind.sql());
    Err(Failure::invalid(format!(
        "Field {name}: {kind}({max}) has maximum length {max} but got a value with length {length}"
    )))
}

/// Decimals that keep `kept` digits after the point, rounded to `scale` of them; `None` when one then has more
/// digits before the point than `precision` leaves.
fn decimals_fit<T: DecimalType>(
    values: &PrimitiveArray<T>,
    kept: i8,
    precision: u8,
    scale: u8,
    rounding: Rounding,
) -> Option<PrimitiveArray<T>> {
    let power = |exponent: u8| T::Native::usize_as(10).pow_wrapping(exponent.into());
    let (zero, one, two) = (T::Native::ZERO, T::Native::ONE, T::Native::usize_as(2));
    let dropped = u8::try_from(kept).ok()?.saturating_sub(scale);
    let (unit, limit) = (power(dropped), power(precision - scale + u8::try_from(kept).ok()?));
    let rounded = values.unary(|value: T::Native| {
        let rest = value.mod_wrapping(unit);
        let whole = value.sub_wrapping(rest);
        let away = if value.is_lt(zero) { unit.neg_wrapping() } else { unit };
        let double = rest.mul_wrapping(two);
        let double = if value.is_lt(zero) { double.neg_wrapping() } else { double };
        let is_odd = whole.div_wrapping(unit).mod_wrapping(two) != zero;
        let up = match rounding {
            _ if double == unit => rounding == Rounding::HalfAwayFromZero || is_odd,
            _ => double.is_gt(unit),
        };
        if up && unit != one { whole.add_wrapping(away) } else { whole }
    });
    let fits = |value: T::Native| value.is_lt(limit) && value.is_gt(limit.neg_wrapping());
    rounded.iter().flatten().all(fits).then(|| rounded.with_data_type(values.data_type().clone()))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Decimal128Array;

    use super::*;

    #[test]
    fn decimals_are_rounded_to_their_scale_and_refused_when_they_have_too_many_digits() {
        let fitted = |value: i128, rounding| {
            let values =
                Decimal128Array::from(vec![Some(value), None]).with_precision_and_scale(38, 9).unwrap();
            let fitted = decimals_fit(&values, 9, 5, 2, rounding)?;
            assert!(fitted.is_null(1));
            Some(fitted.value(0))
        };
        let away = |value| fitted(value, Rounding::HalfAwayFromZero);
        let even = |value| fitted(value, Rounding::HalfEven);
        assert_eq!(away(1_005_000_000), Some(1_010_000_000));
        assert_eq!(away(-1_005_000_000), Some(-1_010_000_000));
        assert_eq!(away(1_004_999_999), Some(1_000_000_000));
        assert_eq!((even(1_005_000_000), even(1_015_000_000)), (Some(1_000_000_000), Some(1_020_000_000)));
        assert_eq!(even(-1_005_000_001), Some(-1_010_000_000));
        assert_eq!(away(999_994_999_999), Some(999_990_000_000));
        assert_eq!((away(999_995_000_000), away(-1_000_000_000_000)), (None, None));
    }
}
