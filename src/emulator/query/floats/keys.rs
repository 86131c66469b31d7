//! FLOAT64 as keys, whose order by bits, which is DataFusion's, is BigQuery's order of the values.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The smallest value by its bits; what processors make of 0 / 0.
const NAN_BELOW: f64 = f64::from_bits(0xfff8_0000_0000_0000);
/// The largest value by its bits.
const NAN_ABOVE: f64 = f64::from_bits(0x7ff8_0000_0000_0000);

/// What a value becomes. There is one NaN in each kind of key, and one zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::emulator::query) enum Key {
    /// With NaN below all numbers: as ORDER BY and GROUP BY see it.
    Below,
    /// With NaN above all numbers. Compared with the other kind, NaN is like nothing.
    Above,
    /// As an integer in the same order.
    IntegerBelow,
    IntegerAbove,
    /// The value of such an integer.
    Value,
}

impl Key {
    pub(super) fn of(self, expr: Expr) -> Expr {
        if let Expr::Literal(ScalarValue::Float64(value), metadata) = expr {
            return Expr::Literal(self.scalar(value), metadata);
        }
        static FUNCTIONS: LazyLock<[ScalarUDF; 5]> = LazyLock::new(|| {
            let keys = [Key::Below, Key::Above, Key::IntegerBelow, Key::IntegerAbove, Key::Value];
            keys.map(|key| ScalarUDF::new_from_impl(KeyFunction::new(key)))
        });
        FUNCTIONS[self as usize].call(vec![expr])
    }

    fn scalar(self, value: Option<f64>) -> ScalarValue {
        match self {
            Key::IntegerBelow => ScalarValue::Int64(value.map(|v| integer(with_nan(v, NAN_BELOW)))),
            Key::IntegerAbove => ScalarValue::Int64(value.map(|v| integer(with_nan(v, NAN_ABOVE)))),
            Key::Above => ScalarValue::Float64(value.map(|v| with_nan(v, NAN_ABOVE))),
            Key::Below | Key::Value => ScalarValue::Float64(value.map(|v| with_nan(v, NAN_BELOW))),
        }
    }

    /// An array of another type is a key as it is.
    pub(in crate::emulator::query) fn of_array(self, array: &ArrayRef) -> ArrayRef {
        if let (Key::Value, DataType::Int64) = (self, array.data_type()) {
            let values: Float64Array = array.as_primitive::<Int64Type>().unary(value);
            return Arc::new(values);
        }
        let Some(floats) = array.as_primitive_opt::<Float64Type>() else { return Arc::clone(array) };
        let integers =
            |nan| Arc::new(floats.unary::<_, Int64Type>(|v| integer(with_nan(v, nan)))) as ArrayRef;
        let values = |nan| Arc::new(floats.unary::<_, Float64Type>(|v| with_nan(v, nan))) as ArrayRef;
        match self {
            Key::Below | Key::Value => values(NAN_BELOW),
            Key::Above => values(NAN_ABOVE),
            Key::IntegerBelow => integers(NAN_BELOW),
            Key::IntegerAbove => integers(NAN_ABOVE),
        }
    }
}

fn with_nan(value: f64, nan: f64) -> f64 {
    // -0.0 + 0.0 is 0.0.
    if value.is_nan() { nan } else { value + 0.0 }
}

/// Negative values have the order of their bits reversed.
fn integer(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 63) & i64::MAX)
}

fn value(integer: i64) -> f64 {
    f64::from_bits((integer ^ ((integer >> 63) & i64::MAX)).cast_unsigned())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct KeyFunction {
    key: Key,
    signature: Signature,
}

impl KeyFunction {
    fn new(key: Key) -> Self {
        let given = if key == Key::Value { DataType::Int64 } else { DataType::Float64 };
        KeyFunction { key, signature: Signature::exact(vec![given], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for KeyFunction {
    // Without the `bq_` of functions that may fail: a condition with a key needs no guard.
    fn name(&self) -> &str {
        match self.key {
            Key::Below => "key_below",
            Key::Above => "key_above",
            Key::IntegerBelow => "key_integer_below",
            Key::IntegerAbove => "key_integer_above",
            Key::Value => "key_value",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.key {
            Key::IntegerBelow | Key::IntegerAbove => DataType::Int64,
            Key::Below | Key::Above | Key::Value => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [given] = args.args.as_slice() else { return internal_err!("a key is of one value") };
        Ok(match given {
            ColumnarValue::Array(array) => ColumnarValue::Array(self.key.of_array(array)),
            ColumnarValue::Scalar(scalar) => {
                let key = self.key.of_array(&scalar.to_array()?);
                ColumnarValue::Scalar(ScalarValue::try_from_array(&key, 0)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;

    use super::*;

    #[test]
    fn keys_have_bigquerys_order_and_integers_lead_back_to_their_values() {
        let smallest_first = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -f64::MIN_POSITIVE,
            -0.0,
            f64::MIN_POSITIVE,
            2.0,
            f64::INFINITY,
        ];
        for pair in smallest_first.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|v| integer(with_nan(v, NAN_BELOW)));
            assert!(a < b, "{pair:?}");
            assert!(integer(NAN_BELOW) < a && b < integer(NAN_ABOVE));
        }
        for v in smallest_first {
            assert_eq!(value(integer(v)).to_bits(), v.to_bits());
        }
        assert_eq!(with_nan(-0.0, NAN_BELOW).to_bits(), 0);
        for nan in [f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001)] {
            assert_eq!(with_nan(nan, NAN_BELOW).to_bits(), NAN_BELOW.to_bits());
            assert!(value(integer(with_nan(nan, NAN_ABOVE))).is_nan());
        }
        let array: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(&Key::Below.of_array(&array), &array);
    }
}
