//! Gives slices of large buffers buffers of their own, so that what is kept is what is accounted for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MutableArrayData, RecordBatch, RecordBatchOptions, make_array};
use arrow::datatypes::DataType;
use datafusion::common::Result;

/// `batch` in buffers of its own where it is a small part of larger ones, and the bytes it holds.
///
/// Without this a slice would keep the whole page alive that it was cut from, unaccounted for.
pub(super) fn compact(batch: RecordBatch) -> Result<(RecordBatch, usize)> {
    let mut bytes = 0;
    let mut columns = batch.columns().to_vec();
    for column in &mut columns {
        let held = column.get_array_memory_size();
        if held > 4096 && held > 2 * used_bytes(column)? {
            *column = copied(column)?;
        }
        bytes += column.get_array_memory_size();
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok((RecordBatch::try_new_with_options(batch.schema(), columns, &options)?, bytes))
}

fn used_bytes(array: &ArrayRef) -> Result<usize> {
    let strings = match array.data_type() {
        DataType::Utf8View => array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => array.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    Ok(array.to_data().get_slice_memory_size()? + strings)
}

fn copied(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => {
            let data = array.to_data();
            let mut copy = MutableArrayData::new(vec![&data], false, data.len());
            copy.try_extend(0, 0, data.len())?;
            make_array(copy.freeze())
        }
    })
}
