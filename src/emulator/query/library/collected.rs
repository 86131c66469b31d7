//! What the aggregates that collect their values in an array end with.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray, UInt64Array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{SortOptions, cast, sort_to_indices, take};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue};

use super::rows::{floats, given};
use super::signatures::{list_of, signature_name};
use super::{Function, arrays};
use crate::emulator::query::floats::keys::Key;
use crate::emulator::query::wording::{exec_err, plan_err};

/// BigQuery's own.
const NUMBER_MAX: usize = 100_000;

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::generic("head", |given| with_number("LIMIT", given), arrays::head),
        // ARRAY_AGG(DISTINCT x ORDER BY x).
        Function::generic("sorted", one_list, |args, n| sorted(args, n, false)),
        Function::generic("sorted_descending", one_list, |args, n| sorted(args, n, true)),
        // APPROX_QUANTILES and APPROX_TOP_COUNT, which are exact here.
        Function::generic("quantiles", |given| with_number("APPROX_QUANTILES", given), quantiles),
        Function::generic("top_count", top_count_type, top_count),
        Function::listed("PERCENTILE_CONT", "ARRAY<FLOAT64>, FLOAT64 -> FLOAT64", |args, n| {
            floats(args, n, |row| {
                let (items, p) = (given!(row.items(0)), given!(row.float(1)));
                if !(0.0..=1.0).contains(&p) {
                    return exec_err!("PERCENTILE_CONT expects a percentile between 0 and 1");
                }
                let sorted = datafusion::arrow::compute::sort(&Key::Below.of_array(&items), None)?;
                let sorted = sorted.as_primitive::<Float64Type>();
                let values: Vec<f64> = sorted.iter().flatten().collect();
                let Some(last) = values.len().checked_sub(1) else { return Ok(None) };
                let at = p * last as f64;
                let (low, high) = (at.floor(), at.ceil());
                let value = |at: f64| values.get(at as usize).copied().unwrap_or(f64::NAN);
                Ok(Some(value(low) * (1.0 - (at - low)) + value(high) * (at - low)))
            })
        }),
    ]
}

fn with_number(name: &str, given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    match given {
        [list @ DataType::List(_), DataType::Int64] => Ok((given.to_vec(), list.clone())),
        _ => {
            let types: Vec<String> = given.iter().map(signature_name).collect();
            plan_err!("No matching signature for {name} for argument types: {}", types.join(", "))
        }
    }
}

fn one_list(given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    match given {
        [list @ DataType::List(_)] => Ok((given.to_vec(), list.clone())),
        _ => plan_err!("ORDER BY in an aggregate needs an array"),
    }
}

/// NULL is the smallest value.
fn sorted(args: &[ArrayRef], n: usize, descending: bool) -> Result<ArrayRef> {
    let options = SortOptions { descending, nulls_first: !descending };
    picked(
        args,
        n,
        |_| Ok(1),
        |items, _| Ok(sort_to_indices(&Key::Below.of_array(items), Some(options), None)?.values().to_vec()),
    )
}

fn number_of(args: &[ArrayRef], row: usize) -> Result<usize> {
    match usize::try_from(args[1].as_primitive::<Int64Type>().value(row)) {
        Ok(count @ 1..=NUMBER_MAX) => Ok(count),
        _ => exec_err!("The number of APPROX_QUANTILES must be from 1 to {NUMBER_MAX}"),
    }
}

/// n + 1 boundaries, the smallest and the largest value among them.
fn quantiles(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    picked(
        args,
        n,
        |row| number_of(args, row),
        |items, count| {
            let sorted = sort_to_indices(&Key::Below.of_array(items), None, None)?;
            let last = items.len().saturating_sub(1);
            if items.is_empty() {
                return Ok(Vec::new());
            }
            Ok((0..=count).map(|at| sorted.value((last * at + count / 2) / count.max(1))).collect())
        },
    )
}

/// For each row the places of the elements that are kept.
fn picked(
    args: &[ArrayRef],
    n: usize,
    number: impl Fn(usize) -> Result<usize>,
    pick: impl Fn(&ArrayRef, usize) -> Result<Vec<u32>>,
) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(n));
    for row in 0..n {
        let count = number(row)?;
        let kept = match list.is_valid(row) {
            true => pick(&list.value(row), count)?,
            false => Vec::new(),
        };
        let start = u64::try_from(list.offsets()[row]).unwrap_or(0);
        lengths.push(kept.len());
        places.extend(kept.into_iter().map(|at| start + u64::from(at)));
    }
    let items = take(list.values(), &UInt64Array::from(places), None)?;
    let DataType::List(item) = list.data_type() else { return exec_err!("no array") };
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, list.nulls().cloned())?))
}

fn top_count_type(given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    let (wanted, list) = with_number("APPROX_TOP_COUNT", given)?;
    let DataType::List(item) = list else { return plan_err!("no array") };
    Ok((wanted, list_of(top_count_item(item.data_type()))))
}

fn top_count_item(item: &DataType) -> DataType {
    let value = Field::new("value", item.clone(), true);
    DataType::Struct(vec![value, Field::new("count", DataType::Int64, true)].into())
}

fn top_count(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let counts = args[1].as_primitive::<Int64Type>();
    let (mut places, mut numbers, mut lengths) = (Vec::new(), Vec::new(), Vec::with_capacity(n));
    for row in 0..n {
        let items = Key::Below.of_array(&list.value(row));
        let order = sort_to_indices(&items, Some(SortOptions::default()), None)?;
        let mut runs: Vec<(u32, i64)> = Vec::new();
        let mut before: Option<ScalarValue> = None;
        for at in order.values() {
            let value = ScalarValue::try_from_array(&items, *at as usize)?;
            match runs.last_mut() {
                Some((_, count)) if before.as_ref() == Some(&value) => *count += 1,
                _ => runs.push((*at, 1)),
            }
            before = Some(value);
        }
        runs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        runs.truncate(usize::try_from(counts.value(row)).unwrap_or(0));
        lengths.push(runs.len());
        let start = u64::try_from(list.offsets()[row]).unwrap_or(0);
        for (at, count) in runs {
            places.push(start + u64::from(at));
            numbers.push(count);
        }
    }
    let values = take(list.values(), &UInt64Array::from(places), None)?;
    let DataType::Struct(fields) = top_count_item(values.data_type()) else { return exec_err!("no record") };
    let columns: Vec<ArrayRef> =
        vec![cast(&values, fields[0].data_type())?, Arc::new(Int64Array::from(numbers))];
    let records: ArrayRef = Arc::new(StructArray::try_new(fields, columns, None)?);
    let field = Arc::new(Field::new("item", records.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(
        field,
        OffsetBuffer::from_lengths(lengths),
        records,
        list.nulls().cloned(),
    )?))
}
