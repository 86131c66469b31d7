//! Parameterized types: STRING(n), BYTES(n), NUMERIC(p, s), and how a NUMERIC is rounded to its scale.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, Fields};
use serde_json::{Map, Value};

use super::{Field, Kind};
use crate::emulator::files::same_name;
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

/// Holds values that come in the column's own types, from files and queries, to the parameters of its type.
pub(in crate::emulator) fn check_limits(batch: &RecordBatch, fields: &[Field]) -> Outcome<()> {
    let schema = batch.schema();
    check_columns(schema.fields(), batch.columns(), fields)
}

fn check_columns(names: &Fields, columns: &[ArrayRef], fields: &[Field]) -> Outcome<()> {
    for (name, column) in names.iter().zip(columns) {
        let Some(field) = fields.iter().find(|f| same_name(&f.name, name.name())) else { continue };
        check_column(column, field)?;
    }
    Ok(())
}

fn check_column(column: &ArrayRef, field: &Field) -> Outcome<()> {
    if let DataType::List(_) = column.data_type() {
        return check_column(column.as_list::<i32>().values(), field);
    }
    if let (DataType::Struct(names), Kind::Record) = (column.data_type(), field.kind) {
        return check_columns(names, column.as_struct().columns(), &field.fields);
    }
    let limits = if field.rest.is_empty() { return Ok(()) } else { field.limits() };
    if let Some(max) = limits.max_length {
        let lengths: Vec<usize> = match column.data_type() {
            DataType::Utf8 => column.as_string::<i32>().iter().flatten().map(|t| t.chars().count()).collect(),
            DataType::Binary => column.as_binary::<i32>().iter().flatten().map(<[u8]>::len).collect(),
            _ => Vec::new(),
        };
        if let Some(length) = lengths.into_iter().find(|length| *length as u64 > max) {
            let (name, kind) = (&field.name, field.kind.sql());
            return Err(Failure::invalid(format!(
                "Field {name}: {kind}({max}) has maximum length {max} but got a value with length {length}"
            )));
        }
    }
    let (Some(precision), Some(scale)) = (limits.precision, limits.scale) else { return Ok(()) };
    let Ok(scale) = i8::try_from(scale) else { return Ok(()) };
    let narrow = match field.kind {
        Kind::Numeric => DataType::Decimal128(precision, scale),
        _ => DataType::Decimal256(precision, scale),
    };
    let exact = compute::cast(column, &narrow)
        .and_then(|cast| compute::cast(&cast, column.data_type()))
        .is_ok_and(|back| back.as_ref() == column.as_ref());
    match exact {
        true => Ok(()),
        false => Err(Failure::invalid(format!(
            "Field {}: a value does not fit {}({precision}, {scale})",
            field.name,
            field.kind.sql()
        ))),
    }
}
