//! Cells, row after row, into Arrow columns.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayBuilder, ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, ListBuilder, PrimitiveBuilder,
    RecordBatch, RecordBatchOptions, StringBuilder, StructBuilder, make_builder,
};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, SchemaRef,
    Time64MicrosecondType, TimestampMicrosecondType,
};

use super::Cell;
use crate::emulator::fields::{Field, arrow_schema};

/// 8,192 rows, as many as a batch read from a file has, or less when they are long.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 4 << 20;

/// Collects rows until they make a batch.
pub(in crate::emulator) struct RowsBuilder {
    schema: SchemaRef,
    builders: Vec<Box<dyn ArrayBuilder>>,
    rows: usize,
    bytes: usize,
}

impl RowsBuilder {
    pub(in crate::emulator) fn new(fields: &[Field]) -> Self {
        let schema = arrow_schema(fields);
        let builders = schema.fields().iter().map(|f| make_builder(f.data_type(), 0)).collect();
        RowsBuilder { schema, builders, rows: 0, bytes: 0 }
    }

    /// Takes one row, whose cells are of the columns' types; `bytes` is how long it was outside.
    pub(in crate::emulator) fn push(&mut self, row: &[Cell], bytes: usize) {
        debug_assert_eq!(row.len(), self.builders.len(), "a cell for every column");
        for ((builder, field), cell) in self.builders.iter_mut().zip(self.schema.fields()).zip(row) {
            append(builder.as_mut(), field.data_type(), cell);
        }
        self.rows += 1;
        self.bytes += bytes;
    }

    pub(in crate::emulator) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The rows so far, unless there are none.
    pub(in crate::emulator) fn take(&mut self) -> Option<RecordBatch> {
        if self.rows == 0 {
            return None;
        }
        let columns: Vec<ArrayRef> = self
            .builders
            .iter_mut()
            .zip(self.schema.fields())
            .map(|(builder, field)| finished(builder.as_mut(), field.data_type()))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        Some(batch.expect("the builders were made from the schema"))
    }
}

/// Precision, scale and time zone are no part of what a builder makes when it is asked through the trait.
fn finished(builder: &mut dyn ArrayBuilder, data_type: &DataType) -> ArrayRef {
    let array = builder.finish();
    debug_assert_eq!(array.data_type(), data_type);
    array
}

fn of<T: ArrayBuilder>(builder: &mut dyn ArrayBuilder) -> &mut T {
    builder.as_any_mut().downcast_mut().expect("the builder was made from the type")
}

fn append_number<T: ArrowPrimitiveType>(builder: &mut dyn ArrayBuilder, number: Option<T::Native>) {
    of::<PrimitiveBuilder<T>>(builder).append_option(number);
}

fn append(builder: &mut dyn ArrayBuilder, data_type: &DataType, cell: &Cell) {
    let int = || if let Cell::Int(n) = cell { Some(*n) } else { None };
    let decimal = || if let Cell::Decimal(n) = cell { Some(*n) } else { None };
    match data_type {
        DataType::List(item) => {
            let list = of::<ListBuilder<Box<dyn ArrayBuilder>>>(builder);
            if let Cell::List(cells) = cell {
                for cell in cells {
                    append(list.values().as_mut(), item.data_type(), cell);
                }
            }
            list.append(true);
        }
        DataType::Struct(fields) => {
            let record = of::<StructBuilder>(builder);
            let cells = if let Cell::Record(cells) = cell { cells.as_slice() } else { &[] };
            for (index, (child, field)) in record.field_builders_mut().iter_mut().zip(fields).enumerate() {
                append(child.as_mut(), field.data_type(), cells.get(index).unwrap_or(&Cell::Null));
            }
            record.append(matches!(cell, Cell::Record(_)));
        }
        DataType::Int64 => append_number::<Int64Type>(builder, int()),
        DataType::Time64(_) => append_number::<Time64MicrosecondType>(builder, int()),
        DataType::Timestamp(..) => append_number::<TimestampMicrosecondType>(builder, int()),
        DataType::Date32 => {
            let days = if let Cell::Days(days) = cell { Some(*days) } else { None };
            append_number::<Date32Type>(builder, days);
        }
        DataType::Float64 => {
            let number = if let Cell::Float(number) = cell { Some(*number) } else { None };
            append_number::<Float64Type>(builder, number);
        }
        DataType::Decimal128(..) => {
            append_number::<Decimal128Type>(builder, decimal().and_then(|n| n.to_i128()));
        }
        DataType::Decimal256(..) => append_number::<Decimal256Type>(builder, decimal()),
        DataType::Boolean => {
            let flag = if let Cell::Bool(flag) = cell { Some(*flag) } else { None };
            of::<BooleanBuilder>(builder).append_option(flag);
        }
        DataType::Binary => {
            let bytes = if let Cell::Bytes(bytes) = cell { Some(bytes) } else { None };
            of::<BinaryBuilder>(builder).append_option(bytes);
        }
        DataType::Utf8 => {
            let text = if let Cell::Text(text) = cell { Some(text) } else { None };
            of::<StringBuilder>(builder).append_option(text);
        }
        other => unreachable!("no kind has the Arrow type {other}"),
    }
}
