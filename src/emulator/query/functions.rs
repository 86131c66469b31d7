//! BigQuery's functions where DataFusion has none, or one that means something else.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Date32Array, Decimal128Array, Float64Array, Int64Array};
use datafusion::arrow::compute::{self, kernels::numeric};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float64Type, Int64Type,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::casts::{self, NUMERIC};
use super::library::{divide_numeric, in_numeric, multiply_numeric, shift_day, signature_name};
use super::wording::{exec_err, plan_err};
use crate::emulator::fields::Kind;

/// All of them, for registration.
pub(super) fn all() -> Vec<ScalarUDF> {
    let mut functions: Vec<Bq> = [
        ("bq_add", Op::Arithmetic('+')),
        ("bq_subtract", Op::Arithmetic('-')),
        ("bq_multiply", Op::Arithmetic('*')),
        ("bq_divide", Op::Divide { safe: false }),
        ("bq_safe_divide", Op::Divide { safe: true }),
        ("bq_widen", Op::Widen),
        ("bq_narrow", Op::Narrow),
    ]
    .into_iter()
    .map(|(name, op)| Bq::new(name.to_owned(), op))
    .collect();
    for (suffix, kind) in casts::TARGETS {
        functions.push(Bq::new(format!("bq_cast_{suffix}"), Op::Cast { kind, safe: false }));
        functions.push(Bq::new(format!("bq_safe_cast_{suffix}"), Op::Cast { kind, safe: true }));
        functions.push(Bq::new(format!("bq_coerce_{suffix}"), Op::Coerce { kind }));
    }
    functions.into_iter().map(ScalarUDF::new_from_impl).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Arithmetic(char),
    Divide {
        safe: bool,
    },
    /// INT64 as a decimal that SUM does not overflow, and the sum back; other types as they are.
    Widen,
    Narrow,
    Cast {
        kind: Kind,
        safe: bool,
    },
    /// Brings an argument to the type of its parameter, as far as that happens without a CAST.
    Coerce {
        kind: Kind,
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
        match self.op {
            Op::Arithmetic(op) => self.arithmetic_types(op, given),
            Op::Widen | Op::Narrow => Ok(given.to_vec()),
            Op::Divide { .. } => {
                let common = self.common_type(given)?;
                Ok(vec![if common == DataType::Int64 { DataType::Float64 } else { common }; given.len()])
            }
            Op::Coerce { kind } => {
                let Some(given) = given.first() else { return self.refuse(given) };
                if !casts::coerces(given, kind) {
                    let given = signature_name(given);
                    return plan_err!("Value has type {given} which cannot be coerced to {}", kind.sql());
                }
                Ok(vec![casts::argument_type(given, kind)?])
            }
            Op::Cast { kind, .. } => {
                let Some(given) = given.first() else { return self.refuse(given) };
                Ok(vec![casts::argument_type(given, kind)?])
            }
        }
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
        let common = self.common_type(given)?;
        if matches!(common, DataType::Decimal256(..)) && op == '*' {
            return plan_err!("not supported by the embedded server: multiplication of BIGNUMERIC");
        }
        Ok(vec![common.clone(), common])
    }

    /// FLOAT64 before BIGNUMERIC before NUMERIC before INT64.
    fn common_type(&self, given: &[DataType]) -> Result<DataType> {
        if !given.iter().all(is_number) {
            return self.refuse(given);
        }
        let has = |kind| given.iter().any(|t| Kind::of(t) == Some(kind));
        Ok(if has(Kind::Float64) {
            DataType::Float64
        } else if has(Kind::BigNumeric) {
            casts::result_type(Kind::BigNumeric)
        } else if has(Kind::Numeric) {
            NUMERIC
        } else {
            DataType::Int64
        })
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
            Op::Divide { safe } => divide(&args[0], &args[1], safe)?,
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
            Op::Cast { kind, safe } => casts::cast(&args[0], kind, safe)?,
            Op::Coerce { kind } => casts::cast(&args[0], kind, false)?,
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
            Op::Arithmetic(_) | Op::Divide { .. } => {
                self.argument_types(args)?.into_iter().next().unwrap_or(DataType::Int64)
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
            Op::Cast { kind, .. } | Op::Coerce { kind } => casts::result_type(kind),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        // By their Arrow types these are texts.
        for field in args.arg_fields {
            if let Some(from @ (Kind::Json | Kind::Geography)) = Kind::of_field(field)
                && let Op::Cast { kind, .. } | Op::Coerce { kind } = self.op
            {
                return plan_err!("Invalid cast from {} to {}", from.sql(), kind.sql());
            }
        }
        let given: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(&self.name, self.return_type(&given)?, true)))
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

pub(super) fn dates_of(values: impl Iterator<Item = Result<Option<i32>>>) -> Result<ArrayRef> {
    Ok(Arc::new(values.collect::<Result<Date32Array>>()?))
}

fn arithmetic(op: char, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    if left.data_type() == &DataType::Date32 {
        let rows = dates(left).iter().zip(ints(right));
        return dates_of(rows.map(|(day, n)| {
            let (Some(day), Some(n)) = (day, n) else { return Ok(None) };
            match if op == '+' { Some(n) } else { n.checked_neg() } {
                Some(n) => shift_day(day, n, "DAY").map(Some),
                None => exec_err!("Date overflow"),
            }
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
    if left.data_type() == &NUMERIC {
        let rows = decimals(left).iter().zip(decimals(right));
        let result = |(left, right): (Option<i128>, Option<i128>)| {
            let (Some(l), Some(r)) = (left, right) else { return Ok(None) };
            let value = match op {
                '+' => l.checked_add(r),
                '-' => l.checked_sub(r),
                _ => return multiply_numeric(l, r).map(Some),
            };
            in_numeric(value).map(Some)
        };
        let values = rows.map(result).collect::<Result<Decimal128Array>>()?;
        return Ok(Arc::new(values.with_precision_and_scale(38, 9)?));
    }
    let result = match op {
        '+' => numeric::add(left, right),
        '-' => numeric::sub(left, right),
        _ => numeric::mul(left, right),
    };
    match result {
        Ok(result) if result.data_type() == left.data_type() => Ok(result),
        Ok(result) => match compute::cast_with_options(&result, left.data_type(), &casts::strict()) {
            Ok(result) => Ok(result),
            Err(_) => exec_err!("bignumeric overflow in operator {op}"),
        },
        Err(_) if left.data_type() == &DataType::Int64 => {
            let overflows = |(l, r): &(i64, i64)| match op {
                '+' => l.checked_add(*r).is_none(),
                '-' => l.checked_sub(*r).is_none(),
                _ => l.checked_mul(*r).is_none(),
            };
            let mut rows = ints(left).iter().zip(ints(right)).filter_map(|(l, r)| Some((l?, r?)));
            let (l, r) = rows.find(overflows).unwrap_or_default();
            exec_err!("int64 overflow: {l} {op} {r}")
        }
        Err(_) => exec_err!("bignumeric overflow in operator {op}"),
    }
}

fn divide(left: &ArrayRef, right: &ArrayRef, safe: bool) -> Result<ArrayRef> {
    match left.data_type() {
        DataType::Float64 => {
            let quotient = |(left, right): (Option<f64>, Option<f64>)| match (left, right) {
                (Some(_), Some(0.0)) if safe => Ok(None),
                (Some(left), Some(0.0)) => exec_err!("division by zero: {left} / 0"),
                (Some(left), Some(right)) => match left / right {
                    value if value.is_infinite() && left.is_finite() && safe => Ok(None),
                    value if value.is_infinite() && left.is_finite() => {
                        exec_err!("double overflow: {left} / {right}")
                    }
                    value => Ok(Some(value)),
                },
                _ => Ok(None),
            };
            let rows = floats(left).iter().zip(floats(right));
            Ok(Arc::new(rows.map(quotient).collect::<Result<Float64Array>>()?))
        }
        DataType::Decimal128(..) => {
            let quotient = |(left, right): (Option<i128>, Option<i128>)| match (left, right) {
                (Some(_), Some(0)) if safe => Ok(None),
                (Some(_), Some(0)) => exec_err!("division by zero"),
                (Some(left), Some(right)) if safe => Ok(divide_numeric(left, right).ok()),
                (Some(left), Some(right)) => divide_numeric(left, right).map(Some),
                _ => Ok(None),
            };
            let rows = decimals(left).iter().zip(decimals(right));
            let values = rows.map(quotient).collect::<Result<Decimal128Array>>()?;
            Ok(Arc::new(values.with_precision_and_scale(38, 9)?))
        }
        _ => exec_err!("not supported by the embedded server: division of BIGNUMERIC"),
    }
}

/// NUMERIC's raw integer, in billionths.
pub(super) fn decimals(array: &ArrayRef) -> &datafusion::arrow::array::Decimal128Array {
    array.as_primitive::<Decimal128Type>()
}
