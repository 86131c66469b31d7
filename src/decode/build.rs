//! Arrow arrays in the making: a column's values as plain vectors, which can be taken back.
//!
//! # Why not Arrow's own builders?
//! They only grow. A record that is read straight into the columns may turn out wrong in its last field,
//! and then its other fields have to go again.

use std::sync::Arc;

use arrow::array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, PrimitiveArray, StringArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;

use super::value::Value;
use crate::schema::ColumnType;

/// The values of one column, of as many rows as the batch in work has.
#[derive(Debug)]
pub(super) struct Builder {
    kind: ColumnType,
    pub(super) values: Values,
    /// Reaches to the last NULL; all behind it are values. A column without NULLs never touches it.
    nulls: NullBufferBuilder,
    rows_max: usize,
}

#[derive(Debug)]
pub(super) enum Values {
    Text(Texts),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Bool(BooleanBufferBuilder),
    Numeric(Vec<i128>),
    Date(Vec<i32>),
    Timestamp(Vec<i64>),
}

/// Texts one behind the other, and where each ends.
#[derive(Debug)]
pub(super) struct Texts {
    /// UTF-8, since only whole texts are appended.
    pub(super) bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Texts {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Texts { bytes: Vec::with_capacity(bytes), ends }
    }

    /// Ends a text: all that `bytes` got since the last one ended.
    pub(super) fn end(&mut self) {
        // A batch ends at a few megabytes, and a record has at most as many as 32 bits can count.
        self.ends.push(i32::try_from(self.bytes.len()).expect("a batch has less than 2 GiB"));
    }

    /// Takes back what `bytes` got since the last text ended.
    pub(super) fn drop_open(&mut self) {
        self.truncate(self.ends.len() - 1);
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.end();
    }

    /// Leaves `rows` texts; what was appended to one that has not ended goes too.
    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.bytes.truncate(usize::try_from(self.ends[rows]).expect("ends are not negative"));
    }
}

impl Builder {
    pub(super) fn new(kind: ColumnType, rows_max: usize) -> Self {
        // 8 bytes a text: host names, ports and the like; it grows where they are longer.
        Builder { kind, values: Values::new(kind, rows_max, rows_max * 8), nulls: no_nulls(), rows_max }
    }

    /// Appends a value that [`parse`](super::value::parse) made of `text` for this column's type.
    pub(super) fn append(&mut self, value: Value, text: &[u8]) {
        match (&mut self.values, value) {
            (Values::Text(texts), Value::Text) => texts.push(text),
            (Values::Int64(values) | Values::Timestamp(values), Value::Int(int)) => values.push(int),
            (Values::Float64(values), Value::Float(float)) => values.push(float),
            (Values::Bool(values), Value::Bool(bool)) => values.append(bool),
            (Values::Numeric(values), Value::Numeric(numeric)) => values.push(numeric),
            (Values::Date(values), Value::Int(days)) => match i32::try_from(days) {
                Ok(days) => values.push(days),
                Err(_) => self.append_null(),
            },
            _ => self.append_null(),
        }
    }

    pub(super) fn append_null(&mut self) {
        self.nulls.append_n_non_nulls(self.values.len() - self.nulls.len());
        self.nulls.append_null();
        match &mut self.values {
            Values::Text(texts) => texts.end(),
            Values::Int64(values) | Values::Timestamp(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Bool(values) => values.append(false),
            Values::Numeric(values) => values.push(0),
            Values::Date(values) => values.push(0),
        }
    }

    /// Takes back what was appended behind the first `rows` values, if anything was.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Text(texts) => texts.truncate(rows),
            Values::Int64(values) | Values::Timestamp(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Bool(values) => values.truncate(rows),
            Values::Numeric(values) => values.truncate(rows),
            Values::Date(values) => values.truncate(rows),
        }
        if self.nulls.len() > rows {
            self.nulls.truncate(rows);
        }
    }

    /// The array of all values; the next one starts empty.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = if self.nulls.is_empty() {
            None
        } else {
            self.nulls.append_n_non_nulls(self.values.len() - self.nulls.len());
            // NULLs that were taken back leave a bitmap behind.
            self.nulls.finish().filter(|nulls| nulls.null_count() > 0)
        };
        // As many bytes of text as this time are likely again; a little more, so that nothing is moved.
        let text_bytes = match &self.values {
            Values::Text(texts) => texts.bytes.len() + texts.bytes.len() / 8,
            _ => 0,
        };
        let next = Values::new(self.kind, self.rows_max, text_bytes);
        Ok(match std::mem::replace(&mut self.values, next) {
            Values::Text(texts) => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(texts.ends));
                Arc::new(StringArray::try_new(ends, Buffer::from_vec(texts.bytes), nulls)?)
            }
            Values::Int64(values) => primitive::<Int64Type>(values, nulls, self.kind)?,
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, self.kind)?,
            Values::Bool(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Numeric(values) => primitive::<Decimal128Type>(values, nulls, self.kind)?,
            Values::Date(values) => primitive::<Date32Type>(values, nulls, self.kind)?,
            Values::Timestamp(values) => primitive::<TimestampMicrosecondType>(values, nulls, self.kind)?,
        })
    }
}

impl Values {
    fn new(kind: ColumnType, rows: usize, text_bytes: usize) -> Self {
        match kind {
            ColumnType::String => Values::Text(Texts::with_capacity(rows, text_bytes)),
            ColumnType::Int64 => Values::Int64(Vec::with_capacity(rows)),
            ColumnType::Float64 => Values::Float64(Vec::with_capacity(rows)),
            ColumnType::Bool => Values::Bool(BooleanBufferBuilder::new(rows)),
            ColumnType::Numeric => Values::Numeric(Vec::with_capacity(rows)),
            ColumnType::Date => Values::Date(Vec::with_capacity(rows)),
            ColumnType::Timestamp => Values::Timestamp(Vec::with_capacity(rows)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::Text(texts) => texts.ends.len() - 1,
            Values::Int64(values) | Values::Timestamp(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Numeric(values) => values.len(),
            Values::Date(values) => values.len(),
        }
    }
}

fn no_nulls() -> NullBufferBuilder {
    // It grows with the first NULL.
    NullBufferBuilder::new(0)
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
    kind: ColumnType,
) -> Result<ArrayRef, ArrowError> {
    let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), nulls)?;
    // The type alone says nothing of a decimal's places or a timestamp's zone.
    Ok(Arc::new(array.with_data_type(kind.arrow())))
}
