//! An array may hold NULL while a query runs and in a file that is loaded, and not in a table or a result.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::DataType;

use super::wire::{Failure, Outcome};

pub(super) fn check_arrays(batch: &RecordBatch) -> Outcome<()> {
    let schema = batch.schema();
    let mut columns = schema.fields().iter().zip(batch.columns());
    columns.try_for_each(|(field, column)| check_elements(column, field.name()))
}

fn check_elements(column: &ArrayRef, name: &str) -> Outcome<()> {
    match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let is_bad = |row: usize| list.is_valid(row) && list.value(row).null_count() > 0;
            if list.values().null_count() > 0 && (0..list.len()).any(is_bad) {
                return Err(Failure::invalid(format!(
                    "Array cannot have a null element; error in writing field {name}"
                )));
            }
            check_elements(list.values(), name)
        }
        DataType::Struct(_) => column.as_struct().columns().iter().try_for_each(|c| check_elements(c, name)),
        _ => Ok(()),
    }
}
