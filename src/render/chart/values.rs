//! Columns as a chart reads them: as names, as numbers, or as places on an axis.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, SchemaRef, TimeUnit};

use crate::error::{Error, Result};
use crate::render::cell::shown;
use crate::render::value::Column;

/// A longer name would leave no room for what it names.
const NAME_WIDTH_MAX: usize = 30;

/// How the values of a column lie beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Whole numbers: nothing is between two neighbours.
    Whole,
    Number,
    /// Milliseconds since 1970, of days.
    Day,
    /// Milliseconds since 1970.
    Time,
    /// Names: as they come.
    None,
}

impl Order {
    pub(super) fn of(data_type: &DataType) -> Order {
        match data_type {
            data_type if data_type.is_integer() => Order::Whole,
            data_type if data_type.is_numeric() => Order::Number,
            DataType::Date32 | DataType::Date64 => Order::Day,
            DataType::Timestamp(..) => Order::Time,
            _ => Order::None,
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Order::Whole | Order::Number)
    }
}

/// The places of the columns of numbers from column `first` on.
pub(super) fn measures(schema: &SchemaRef, first: usize) -> Vec<usize> {
    let fields = schema.fields().iter().enumerate().skip(first);
    fields.filter(|(_, field)| Order::of(field.data_type()).is_number()).map(|(place, _)| place).collect()
}

/// How a column is called, fit for a terminal.
pub(super) fn name(field: &Field) -> String {
    shown(field.name(), NAME_WIDTH_MAX)
}

/// Each value as a name.
pub(super) fn names(field: &Field, array: &ArrayRef) -> Result<Vec<String>> {
    let column = Column::new(field, array).map_err(|e| unreadable(field).caused_by(e))?;
    let mut text = String::new();
    let name = |row| {
        if column.is_null(row) {
            return "NULL".to_owned();
        }
        text.clear();
        column.push_text(&mut text, row);
        shown(&text, NAME_WIDTH_MAX)
    };
    Ok((0..array.len()).map(name).collect())
}

/// Each value as a number or as its place in time; NaN where it is NULL, not a number, or infinite.
pub(super) fn numbers(field: &Field, array: &ArrayRef) -> Result<Vec<f64>> {
    let steps: &[DataType] = match Order::of(field.data_type()) {
        Order::Day | Order::Time => {
            &[DataType::Timestamp(TimeUnit::Millisecond, None), DataType::Int64, DataType::Float64]
        }
        _ => &[DataType::Float64],
    };
    let cast = |array: ArrayRef, to: &DataType| cast(&array, to);
    let array = steps.iter().try_fold(array.clone(), cast).map_err(|e| unreadable(field).caused_by(e))?;
    let number = |value: Option<f64>| value.filter(|value| value.is_finite()).unwrap_or(f64::NAN);
    Ok(array.as_primitive::<Float64Type>().iter().map(number).collect())
}

fn unreadable(field: &Field) -> Error {
    Error::failed(format!("cannot read column `{}` for the chart", field.name()))
}
