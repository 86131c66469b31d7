//! BigQuery's functions where DataFusion has none, or one that means something else.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::{self, kernels::numeric};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::casts::{self, NUMERIC};
use super::dates::{
    DAY_US, date, date_diff, day_in_range, extract, format, in_range, shift_date, trunc_date, unit_us,
};
use crate::emulator::encode::date_of;
use crate::emulator::fields::{Kind, timestamp_type};

/// All of them, for registration.
pub(super) fn all() -> Vec<ScalarUDF> {
    let mut functions: Vec<Bq> = [
        ("bq_add", Op::Arithmetic('+')),
        ("bq_subtract", Op::Arithmetic('-')),
        ("bq_multiply", Op::Arithmetic('*')),
        ("bq_divide", Op::Divide { safe: false }),
        ("bq_safe_divide", Op::Divide { safe: true }),
        ("bq_div", Op::Arithmetic('d')),
        ("bq_mod", Op::Arithmetic('%')),
        ("bq_float", Op::Float),
        ("bq_widen", Op::Widen),
        ("bq_narrow", Op::Narrow),
        ("bq_substr", Op::Substr),
        ("bq_date", Op::Date),
        ("bq_timestamp_seconds", Op::ToTimestamp(1_000_000)),
        ("bq_timestamp_millis", Op::ToTimestamp(1_000)),
        ("bq_timestamp_micros", Op::ToTimestamp(1)),
        ("bq_unix_seconds", Op::FromTimestamp(1_000_000)),
        ("bq_unix_millis", Op::FromTimestamp(1_000)),
        ("bq_unix_micros", Op::FromTimestamp(1)),
        ("bq_unix_date", Op::UnixDate),
        ("bq_date_from_unix_date", Op::FromUnixDate),
        ("bq_timestamp_add", Op::ShiftTimestamp(1)),
        ("bq_timestamp_sub", Op::ShiftTimestamp(-1)),
        ("bq_date_add", Op::ShiftDate(1)),
        ("bq_date_sub", Op::ShiftDate(-1)),
        ("bq_timestamp_trunc", Op::TruncTimestamp),
        ("bq_date_trunc", Op::TruncDate),
        ("bq_timestamp_diff", Op::DiffTimestamp),
        ("bq_date_diff", Op::DiffDate),
        ("bq_extract", Op::Extract),
        ("bq_format_timestamp", Op::Format(Kind::Timestamp)),
        ("bq_format_date", Op::Format(Kind::Date)),
    ]
    .into_iter()
    .map(|(name, op)| Bq::new(name.to_owned(), op))
    .collect();
    for (suffix, kind) in casts::TARGETS {
        functions.push(Bq::new(format!("bq_cast_{suffix}"), Op::Cast { kind, safe: false }));
        functions.push(Bq::new(format!("bq_safe_cast_{suffix}"), Op::Cast { kind, safe: true }));
    }
    functions.into_iter().map(ScalarUDF::new_from_impl).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Arithmetic(char),
    Divide {
        safe: bool,
    },
    /// INT64 as FLOAT64, which is what BigQuery rounds.
    Float,
    /// INT64 as a decimal that SUM does not overflow, and the sum back; other types as they are.
    Widen,
    Narrow,
    Substr,
    Date,
    ToTimestamp(i64),
    FromTimestamp(i64),
    UnixDate,
    FromUnixDate,
    ShiftTimestamp(i64),
    ShiftDate(i64),
    TruncTimestamp,
    TruncDate,
    DiffTimestamp,
    DiffDate,
    Extract,
    Format(Kind),
    Cast {
        kind: Kind,
        safe: bool,
    },
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bq {
    name: String,
    op: Op,
    signature: Signature,
}

impl Bq {
    fn new(name: String, op: Op) -> Self {
        Bq { name, op, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The types that the arguments are cast to; a type BigQuery would refuse is refused.
    fn argument_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let text = DataType::Utf8;
        let wanted = match self.op {
            Op::Arithmetic(op) => return self.arithmetic_types(op, given),
            Op::Widen | Op::Narrow => return Ok(given.to_vec()),
            Op::Divide { .. } | Op::Float => {
                // NUMERIC / NUMERIC is NUMERIC in BigQuery, and this would be FLOAT64.
                let numeric = |t: &DataType| matches!(Kind::of(t), Some(Kind::Numeric | Kind::BigNumeric));
                if given.iter().any(numeric) {
                    return plan_err!(
                        "not supported by the embedded server: division and rounding of NUMERIC"
                    );
                }
                if !given.iter().all(is_number) {
                    return self.refuse(given);
                }
                return Ok(vec![DataType::Float64; given.len()]);
            }
            Op::Cast { kind, .. } => {
                let Some(given) = given.first() else { return self.refuse(given) };
                return Ok(vec![casts::argument_type(given, kind)?]);
            }
            Op::Date => match given {
                [one] => match Kind::of(one) {
                    Some(Kind::Date) => vec![DataType::Date32],
                    Some(Kind::Timestamp) => vec![timestamp_type()],
                    Some(Kind::DateTime) => vec![casts::datetime_type()],
                    Some(Kind::String) => vec![text],
                    _ => return self.refuse(given),
                },
                _ => vec![DataType::Int64; 3],
            },
            Op::Substr => {
                let mut wanted = vec![DataType::Int64; given.len()];
                wanted[0] = text;
                wanted
            }
            Op::ToTimestamp(_) | Op::FromUnixDate => vec![DataType::Int64],
            Op::FromTimestamp(_) => vec![timestamp_type()],
            Op::UnixDate => vec![DataType::Date32],
            Op::ShiftTimestamp(_) => vec![timestamp_type(), DataType::Int64, text],
            Op::ShiftDate(_) => vec![DataType::Date32, DataType::Int64, text],
            Op::TruncTimestamp => vec![timestamp_type(), text],
            Op::TruncDate => vec![DataType::Date32, text],
            Op::DiffTimestamp => vec![timestamp_type(), timestamp_type(), text],
            Op::DiffDate => vec![DataType::Date32, DataType::Date32, text],
            Op::Extract => match given.get(1).and_then(Kind::of) {
                Some(Kind::Date) => vec![text, DataType::Date32],
                Some(Kind::Timestamp) => vec![text, timestamp_type()],
                Some(Kind::DateTime) => vec![text, casts::datetime_type()],
                _ => return self.refuse(given),
            },
            Op::Format(Kind::Date) => vec![text, DataType::Date32],
            Op::Format(_) => vec![text, timestamp_type()],
        };
        let fits = given.len() == wanted.len()
            && given.iter().zip(&wanted).all(|(g, w)| *g == DataType::Null || Kind::of(g) == Kind::of(w));
        if fits { Ok(wanted) } else { self.refuse(given) }
    }

    fn arithmetic_types(&self, op: char, given: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = given else { return self.refuse(given) };
        // DATE + INT64 and DATE - INT64 count days.
        if Kind::of(left) == Some(Kind::Date)
            && matches!(op, '+' | '-')
            && (Kind::of(right) == Some(Kind::Int64) || *right == DataType::Null)
        {
            return Ok(vec![DataType::Date32, DataType::Int64]);
        }
        if !is_number(left) || !is_number(right) {
            return self.refuse(given);
        }
        let kinds = [Kind::of(left), Kind::of(right)];
        let common = if kinds.contains(&Some(Kind::BigNumeric)) {
            return plan_err!("not supported by the embedded server: arithmetic with BIGNUMERIC");
        } else if kinds.contains(&Some(Kind::Float64)) {
            if matches!(op, 'd' | '%') {
                return self.refuse(given);
            }
            DataType::Float64
        } else if kinds.contains(&Some(Kind::Numeric)) {
            if !matches!(op, '+' | '-' | '*') {
                return plan_err!("not supported by the embedded server: DIV and MOD of NUMERIC");
            }
            NUMERIC
        } else {
            DataType::Int64
        };
        Ok(vec![common.clone(), common])
    }

    fn refuse<T>(&self, given: &[DataType]) -> Result<T> {
        let name = self.name.trim_start_matches("bq_").to_uppercase();
        let what = match self.op {
            Op::Arithmetic(op @ ('+' | '-' | '*')) => format!("operator {op}"),
            Op::Divide { safe: false } => "operator /".to_owned(),
            _ => format!("function {name}"),
        };
        let types: Vec<&str> = given.iter().map(|t| Kind::of(t).map_or("NULL", Kind::sql)).collect();
        plan_err!("No matching signature for {what} for argument types: {}", types.join(", "))
    }

    fn compute(&self, args: &[ArrayRef]) -> Result<ArrayRef> {
        Ok(match self.op {
            Op::Arithmetic(op) => arithmetic(op, &args[0], &args[1])?,
            Op::Divide { safe } => {
                let (left, right) = (floats(&args[0]), floats(&args[1]));
                let quotient = |(left, right): (Option<f64>, Option<f64>)| match (left, right) {
                    (Some(_), Some(0.0)) if safe => Ok(None),
                    (Some(left), Some(0.0)) => exec_err!("division by zero: {left} / 0"),
                    (Some(left), Some(right)) => Ok(Some(left / right)),
                    _ => Ok(None),
                };
                Arc::new(left.iter().zip(right).map(quotient).collect::<Result<Float64Array>>()?)
            }
            Op::Float => Arc::clone(&args[0]),
            Op::Widen | Op::Narrow => {
                let target = self.return_type(&[args[0].data_type().clone()])?;
                match compute::cast_with_options(&args[0], &target, &casts::strict()) {
                    Ok(array) => array,
                    Err(_) => {
                        return exec_err!(
                            "{} overflow in SUM",
                            if target == DataType::Int64 { "int64" } else { "numeric" }
                        );
                    }
                }
            }
            Op::Substr => substr(args),
            Op::Date => return date(args),
            Op::ToTimestamp(unit) => timestamps_of(ints(&args[0]).iter().map(|n| match n {
                None => Ok(None),
                Some(n) => in_range(n.checked_mul(unit)),
            }))?,
            Op::FromTimestamp(unit) => Arc::new(
                micros(&args[0]).iter().map(|us| us.map(|us| us.div_euclid(unit))).collect::<Int64Array>(),
            ),
            Op::UnixDate => {
                Arc::new(dates(&args[0]).iter().map(|d| d.map(i64::from)).collect::<Int64Array>())
            }
            Op::FromUnixDate => dates_of(ints(&args[0]).iter().map(|n| match n {
                None => Ok(None),
                Some(n) => day_in_range(i32::try_from(n).ok().and_then(date_of)),
            }))?,
            Op::ShiftTimestamp(sign) => {
                let rows = micros(&args[0]).iter().zip(ints(&args[1])).zip(texts(&args[2]));
                timestamps_of(rows.map(|((us, n), unit)| {
                    let (Some(us), Some(n), Some(unit)) = (us, n, unit) else { return Ok(None) };
                    let Some(unit) = unit_us(unit) else {
                        return exec_err!(
                            "TIMESTAMP_ADD and TIMESTAMP_SUB do not support the {unit} date part"
                        );
                    };
                    in_range(n.checked_mul(sign * unit).and_then(|shift| us.checked_add(shift)))
                }))?
            }
            Op::ShiftDate(sign) => {
                let rows = dates(&args[0]).iter().zip(ints(&args[1])).zip(texts(&args[2]));
                dates_of(rows.map(|((day, n), unit)| {
                    let (Some(day), Some(n), Some(unit)) = (day, n, unit) else { return Ok(None) };
                    shift_date(day, n.checked_mul(sign), unit)
                }))?
            }
            Op::TruncTimestamp => {
                let rows = micros(&args[0]).iter().zip(texts(&args[1]));
                timestamps_of(rows.map(|(us, unit)| {
                    let (Some(us), Some(unit)) = (us, unit) else { return Ok(None) };
                    if let Some(unit) = unit_us(unit) {
                        return Ok(Some(us - us.rem_euclid(unit)));
                    }
                    let day = trunc_date(i32::try_from(us.div_euclid(DAY_US)).ok().and_then(date_of), unit)?;
                    Ok(day.map(|d| i64::from(d) * DAY_US))
                }))?
            }
            Op::TruncDate => {
                let rows = dates(&args[0]).iter().zip(texts(&args[1]));
                dates_of(rows.map(|(day, unit)| match (day, unit) {
                    (Some(day), Some("DAY")) => Ok(Some(day)),
                    (Some(day), Some(unit)) => trunc_date(date_of(day), unit),
                    _ => Ok(None),
                }))?
            }
            Op::DiffTimestamp => {
                let rows = micros(&args[0]).iter().zip(micros(&args[1])).zip(texts(&args[2]));
                let diff = |((a, b), unit): ((Option<i64>, Option<i64>), Option<&str>)| {
                    let (Some(a), Some(b), Some(unit)) = (a, b, unit) else { return Ok(None) };
                    match unit_us(unit) {
                        Some(unit) => Ok(Some((a - b) / unit)),
                        None => exec_err!("TIMESTAMP_DIFF does not support the {unit} date part"),
                    }
                };
                Arc::new(rows.map(diff).collect::<Result<Int64Array>>()?)
            }
            Op::DiffDate => {
                let rows = dates(&args[0]).iter().zip(dates(&args[1])).zip(texts(&args[2]));
                let diff = |((a, b), unit): ((Option<i32>, Option<i32>), Option<&str>)| {
                    let (Some(a), Some(b), Some(unit)) = (a, b, unit) else { return Ok(None) };
                    date_diff(a, b, unit)
                };
                Arc::new(rows.map(diff).collect::<Result<Int64Array>>()?)
            }
            Op::Extract => extract(&args[0], &args[1])?,
            Op::Format(kind) => format(&args[0], &args[1], kind)?,
            Op::Cast { kind, safe } => casts::cast(&args[0], kind, safe)?,
        })
    }
}

impl ScalarUDFImpl for Bq {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.argument_types(given)
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(match self.op {
            Op::Arithmetic(_) => self.argument_types(args)?.into_iter().next().unwrap_or(DataType::Int64),
            Op::Divide { .. } | Op::Float => {
                self.argument_types(args)?;
                DataType::Float64
            }
            Op::Widen => match args.first() {
                Some(given) if Kind::of(given) == Some(Kind::Int64) => DataType::Decimal128(19, 0),
                given => given.cloned().unwrap_or(DataType::Null),
            },
            Op::Narrow => match args.first() {
                Some(DataType::Decimal128(_, 0)) => DataType::Int64,
                Some(DataType::Decimal128(..)) => NUMERIC,
                given => given.cloned().unwrap_or(DataType::Null),
            },
            Op::Substr | Op::Format(_) => DataType::Utf8,
            Op::Date | Op::FromUnixDate | Op::ShiftDate(_) | Op::TruncDate => DataType::Date32,
            Op::ToTimestamp(_) | Op::ShiftTimestamp(_) | Op::TruncTimestamp => timestamp_type(),
            Op::FromTimestamp(_) | Op::UnixDate | Op::DiffTimestamp | Op::DiffDate | Op::Extract => {
                DataType::Int64
            }
            Op::Cast { kind, .. } => casts::result_type(kind),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays: Vec<ArrayRef> = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<_>>()?;
        let result = self.compute(&arrays)?;
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

fn is_number(data_type: &DataType) -> bool {
    *data_type == DataType::Null
        || matches!(Kind::of(data_type), Some(Kind::Int64 | Kind::Float64 | Kind::Numeric | Kind::BigNumeric))
}

pub(super) fn ints(array: &ArrayRef) -> &Int64Array {
    array.as_primitive::<Int64Type>()
}

fn floats(array: &ArrayRef) -> &Float64Array {
    array.as_primitive::<Float64Type>()
}

pub(super) fn dates(array: &ArrayRef) -> &Date32Array {
    array.as_primitive::<Date32Type>()
}

pub(super) fn micros(array: &ArrayRef) -> &TimestampMicrosecondArray {
    array.as_primitive::<TimestampMicrosecondType>()
}

pub(super) fn texts(array: &ArrayRef) -> &StringArray {
    array.as_string::<i32>()
}

fn timestamps_of(values: impl Iterator<Item = Result<Option<i64>>>) -> Result<ArrayRef> {
    Ok(Arc::new(values.collect::<Result<TimestampMicrosecondArray>>()?.with_timezone("UTC")))
}

pub(super) fn dates_of(values: impl Iterator<Item = Result<Option<i32>>>) -> Result<ArrayRef> {
    Ok(Arc::new(values.collect::<Result<Date32Array>>()?))
}

fn arithmetic(op: char, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    if left.data_type() == &DataType::Date32 {
        let rows = dates(left).iter().zip(ints(right));
        return dates_of(rows.map(|(day, n)| {
            let (Some(day), Some(n)) = (day, n) else { return Ok(None) };
            shift_date(day, if op == '+' { Some(n) } else { n.checked_neg() }, "DAY")
        }));
    }
    if left.data_type() == &DataType::Float64 {
        // Floats overflow to infinity in Arrow, and are an error in BigQuery.
        let rows = floats(left).iter().zip(floats(right));
        let result = |(left, right): (Option<f64>, Option<f64>)| {
            let (Some(l), Some(r)) = (left, right) else { return Ok(None) };
            let value = match op {
                '+' => l + r,
                '-' => l - r,
                _ => l * r,
            };
            if value.is_infinite() && l.is_finite() && r.is_finite() {
                return exec_err!("double overflow: {l} {op} {r}");
            }
            Ok(Some(value))
        };
        return Ok(Arc::new(rows.map(result).collect::<Result<Float64Array>>()?));
    }
    let result = match op {
        '+' => numeric::add(left, right),
        '-' => numeric::sub(left, right),
        '*' => numeric::mul(left, right),
        'd' => numeric::div(left, right),
        _ => numeric::rem(left, right),
    };
    match result {
        Ok(result) if result.data_type() == left.data_type() => Ok(result),
        Ok(result) => Ok(compute::cast_with_options(&result, left.data_type(), &casts::strict())?),
        Err(datafusion::arrow::error::ArrowError::DivideByZero) => exec_err!("division by zero"),
        Err(error) if left.data_type() == &DataType::Int64 => exec_err!("int64 overflow: {error}"),
        Err(error) => exec_err!("numeric overflow: {error}"),
    }
}

fn substr(args: &[ArrayRef]) -> ArrayRef {
    let lengths = args.get(2).map(ints);
    let rows = texts(&args[0]).iter().zip(ints(&args[1])).enumerate();
    let cut = |(row, (text, from)): (usize, (Option<&str>, Option<i64>))| {
        let (text, from) = (text?, from?);
        let length = match lengths {
            None => i64::MAX,
            Some(lengths) if lengths.is_null(row) => return None,
            Some(lengths) => lengths.value(row),
        };
        let count = i64::try_from(text.chars().count()).ok()?;
        // From the end when negative; 0 and 1 are both the first; before the start is the start.
        let start = match from {
            0 => 0,
            from if from > 0 => from - 1,
            from => (count + from).max(0),
        };
        let skip = usize::try_from(start).ok()?;
        let take = usize::try_from(length.max(0)).ok()?;
        Some(text.chars().skip(skip).take(take).collect::<String>())
    };
    Arc::new(rows.map(cut).collect::<StringArray>())
}

/// NUMERIC's raw integer, in billionths.
pub(super) fn decimals(array: &ArrayRef) -> &datafusion::arrow::array::Decimal128Array {
    array.as_primitive::<Decimal128Type>()
}
