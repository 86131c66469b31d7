//! Arguments row by row, and the arrays that results are collected into.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use datafusion::common::Result;

/// One row of the arguments; each accessor is `None` where the argument is NULL or was not given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    args: &'a [ArrayRef],
    row: usize,
}

/// The value of an argument, or NULL as the result.
macro_rules! given {
    ($value:expr) => {
        match $value {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}
pub(super) use given;

impl<'a> Row<'a> {
    pub(super) fn new(args: &'a [ArrayRef], row: usize) -> Self {
        Row { args, row }
    }

    pub(super) fn is_given(self, index: usize) -> bool {
        index < self.args.len()
    }

    fn valid(self, index: usize) -> Option<&'a ArrayRef> {
        self.args.get(index).filter(|a| a.is_valid(self.row))
    }

    pub(super) fn text(self, index: usize) -> Option<&'a str> {
        self.valid(index).map(|a| a.as_string::<i32>().value(self.row))
    }

    pub(super) fn bytes(self, index: usize) -> Option<&'a [u8]> {
        self.valid(index).map(|a| a.as_binary::<i32>().value(self.row))
    }

    pub(super) fn int(self, index: usize) -> Option<i64> {
        self.valid(index).map(|a| a.as_primitive::<Int64Type>().value(self.row))
    }

    pub(super) fn float(self, index: usize) -> Option<f64> {
        self.valid(index).map(|a| a.as_primitive::<Float64Type>().value(self.row))
    }

    /// Days since 1970.
    pub(super) fn date(self, index: usize) -> Option<i32> {
        self.valid(index).map(|a| a.as_primitive::<Date32Type>().value(self.row))
    }

    /// Microseconds of a TIMESTAMP, DATETIME, or a DATE's midnight.
    pub(super) fn micros(self, index: usize) -> Option<i64> {
        self.valid(index).map(|a| match a.data_type() {
            DataType::Date32 => i64::from(a.as_primitive::<Date32Type>().value(self.row)) * 86_400_000_000,
            DataType::Time64(_) => a.as_primitive::<Time64MicrosecondType>().value(self.row),
            _ => a.as_primitive::<TimestampMicrosecondType>().value(self.row),
        })
    }

    /// Billionths of a NUMERIC.
    pub(super) fn numeric(self, index: usize) -> Option<i128> {
        self.valid(index).map(|a| a.as_primitive::<Decimal128Type>().value(self.row))
    }

    /// The elements of an ARRAY.
    pub(super) fn items(self, index: usize) -> Option<ArrayRef> {
        self.valid(index).map(|a| a.as_list::<i32>().value(self.row))
    }
}

fn each<'a, T>(
    args: &'a [ArrayRef],
    rows: usize,
    f: impl Fn(Row<'a>) -> Result<Option<T>>,
) -> impl Iterator<Item = Result<Option<T>>> {
    (0..rows).map(move |row| f(Row { args, row }))
}

/// Calls `f` for each row and collects its results.
macro_rules! collector {
    ($name:ident, $array:ty, $item:ty) => {
        pub(super) fn $name<'a>(
            args: &'a [ArrayRef],
            rows: usize,
            f: impl Fn(Row<'a>) -> Result<Option<$item>>,
        ) -> Result<ArrayRef> {
            Ok(Arc::new(each(args, rows, f).collect::<Result<$array>>()?))
        }
    };
}

collector!(texts, StringArray, String);
collector!(ints, Int64Array, i64);
collector!(floats, Float64Array, f64);
collector!(bools, BooleanArray, bool);
collector!(dates, Date32Array, i32);
collector!(times, Time64MicrosecondArray, i64);
collector!(datetimes, TimestampMicrosecondArray, i64);
collector!(binaries, BinaryArray, Vec<u8>);

pub(super) fn timestamps<'a>(
    args: &'a [ArrayRef],
    rows: usize,
    f: impl Fn(Row<'a>) -> Result<Option<i64>>,
) -> Result<ArrayRef> {
    let stamps: TimestampMicrosecondArray = each(args, rows, f).collect::<Result<_>>()?;
    Ok(Arc::new(stamps.with_timezone("UTC")))
}

pub(super) fn numerics<'a>(
    args: &'a [ArrayRef],
    rows: usize,
    f: impl Fn(Row<'a>) -> Result<Option<i128>>,
) -> Result<ArrayRef> {
    let values: Decimal128Array = each(args, rows, f).collect::<Result<_>>()?;
    Ok(Arc::new(values.with_precision_and_scale(38, 9)?))
}

/// Lists of texts.
pub(super) fn text_lists<'a>(
    args: &'a [ArrayRef],
    rows: usize,
    f: impl Fn(Row<'a>) -> Result<Option<Vec<String>>>,
) -> Result<ArrayRef> {
    use datafusion::arrow::array::{ListBuilder, StringBuilder};
    let mut builder = ListBuilder::new(StringBuilder::new());
    for list in each(args, rows, f) {
        match list? {
            Some(list) => {
                list.into_iter().for_each(|item| builder.values().append_value(item));
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    Ok(Arc::new(builder.finish()))
}
