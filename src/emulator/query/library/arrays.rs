//! Functions on ARRAYs.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Builder, Float64Builder, Int64Builder, ListArray,
    ListBuilder, Scalar, TimestampMicrosecondBuilder, UInt64Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::compute::kernels::cmp;
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::Result;

use crate::emulator::fields::Kind;
use crate::emulator::query::floats::keys::Key;
use crate::emulator::query::wording::{exec_err, plan_err};

use super::Function;
use super::rows::{given, ints, texts};
use super::signatures::{list_of, signature_name, supertype};
use super::text::length;

/// As many elements as BigQuery generates.
const ITEMS_MAX: usize = 1_000_000;

pub(super) fn functions() -> Vec<Function> {
    let f = Function::listed;
    vec![
        Function::generic(
            "ARRAY_LENGTH",
            |given| Ok((one_array("ARRAY_LENGTH", given)?.0, DataType::Int64)),
            |args, n| ints(args, n, |row| Ok(row.items(0).map(|items| length(items.len())))),
        ),
        Function::generic(
            "ARRAY_REVERSE",
            |given| one_array("ARRAY_REVERSE", given),
            |args, n| rebuilt(args, n, |offsets, row| (offsets[row]..offsets[row + 1]).rev().collect()),
        ),
        Function::generic("ARRAY_FIRST", |given| ends("ARRAY_FIRST", given), |args, n| end(args, n, true))
            .keeping_kind(),
        Function::generic("ARRAY_LAST", |given| ends("ARRAY_LAST", given), |args, n| end(args, n, false))
            .keeping_kind(),
        Function::generic("ARRAY_CONCAT", concat_types, array_concat),
        Function::generic("join", join_types, |args, n| match args.first().map(|a| a.data_type()) {
            Some(DataType::List(_)) => array_concat(args, n),
            _ => super::text::concat(args, n),
        })
        .refusing_json(),
        Function::generic("in_array", in_array_types, in_array),
        f(
            "ARRAY_TO_STRING",
            "ARRAY<STRING>, STRING -> STRING | ARRAY<STRING>, STRING, STRING -> STRING",
            array_to_string,
        ),
        f(
            "GENERATE_ARRAY",
            "INT64, INT64 -> ARRAY<INT64> | INT64, INT64, INT64 -> ARRAY<INT64> | \
             FLOAT64, FLOAT64 -> ARRAY<FLOAT64> | FLOAT64, FLOAT64, FLOAT64 -> ARRAY<FLOAT64>",
            generate_array,
        ),
        f("GENERATE_DATE_ARRAY", "DATE, DATE, INT64, STRING -> ARRAY<DATE>", generate_dates),
        f(
            "GENERATE_TIMESTAMP_ARRAY",
            "TIMESTAMP, TIMESTAMP, INT64, STRING -> ARRAY<TIMESTAMP>",
            generate_timestamps,
        ),
        f("RANGE_BUCKET", "INT64, ARRAY<INT64> -> INT64 | FLOAT64, ARRAY<FLOAT64> -> INT64", |args, n| {
            ints(args, n, |row| {
                let items = given!(row.items(1));
                let value = given!(if args[0].data_type() == &DataType::Int64 {
                    row.int(0).map(|v| v as f64)
                } else {
                    row.float(0)
                });
                let bounds = datafusion::arrow::compute::cast(&items, &DataType::Float64)?;
                let bounds = bounds.as_primitive::<datafusion::arrow::datatypes::Float64Type>();
                if bounds.null_count() > 0 {
                    return exec_err!("Elements in input array to RANGE_BUCKET cannot be null");
                }
                Ok(Some(length(bounds.values().iter().take_while(|bound| **bound <= value).count())))
            })
        }),
    ]
}

fn one_array(name: &str, given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    match given {
        [DataType::List(_)] => Ok((given.to_vec(), given[0].clone())),
        [DataType::Null] => Ok((vec![list_of(DataType::Int64)], list_of(DataType::Int64))),
        _ => {
            let types: Vec<String> = given.iter().map(signature_name).collect();
            plan_err!("No matching signature for function {name} for argument types: {}", types.join(", "))
        }
    }
}

fn ends(name: &str, given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    let (wanted, list) = one_array(name, given)?;
    match list {
        DataType::List(item) => Ok((wanted, item.data_type().clone())),
        other => Ok((wanted, other)),
    }
}

/// New arrays of the same elements: for each row the places to take them from.
fn rebuilt(args: &[ArrayRef], n: usize, order: impl Fn(&[i32], usize) -> Vec<i32>) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let places: Vec<Vec<i32>> = (0..n).map(|row| order(list.offsets(), row)).collect();
    let flat = UInt64Array::from_iter(places.iter().flatten().map(|at| u64::try_from(*at).ok()));
    let items = take(list.values(), &flat, None)?;
    let DataType::List(item) = list.data_type() else { return exec_err!("no array") };
    let offsets = OffsetBuffer::from_lengths(places.iter().map(Vec::len));
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, list.nulls().cloned())?))
}

/// The first `count` elements.
pub(super) fn head(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let counts = args[1].as_primitive::<datafusion::arrow::datatypes::Int64Type>();
    rebuilt(args, n, |offsets, row| {
        let count = i32::try_from(counts.value(row)).unwrap_or(i32::MAX);
        (offsets[row]..offsets[row + 1].min(offsets[row].saturating_add(count))).collect()
    })
}

fn end(args: &[ArrayRef], n: usize, first: bool) -> Result<ArrayRef> {
    let list = args[0].as_list::<i32>();
    let mut places = Vec::with_capacity(n);
    for row in 0..n {
        let (from, to) = (list.offsets()[row], list.offsets()[row + 1]);
        places.push(match list.is_valid(row) {
            false => None,
            true if from == to => {
                return exec_err!("ARRAY_FIRST and ARRAY_LAST cannot get an element of an empty array");
            }
            true => u64::try_from(if first { from } else { to - 1 }).ok(),
        });
    }
    Ok(take(list.values(), &UInt64Array::from(places), None)?)
}

fn concat_types(given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    let items = given.iter().map(|list| match list {
        DataType::List(item) => Some(item.data_type()),
        DataType::Null => Some(list),
        _ => None,
    });
    let item = items.collect::<Option<Vec<_>>>().and_then(supertype);
    match item {
        // With what is known of the elements besides their type.
        Some(_) if given.iter().all(|list| matches!(list, DataType::List(_)) && *list == given[0]) => {
            Ok((given.to_vec(), given[0].clone()))
        }
        Some(item) => {
            let list = list_of(if item == DataType::Null { DataType::Int64 } else { item });
            Ok((vec![list.clone(); given.len()], list))
        }
        None => {
            let types: Vec<String> = given.iter().map(signature_name).collect();
            plan_err!(
                "No matching signature for function ARRAY_CONCAT for argument types: {}",
                types.join(", ")
            )
        }
    }
}

/// The operator ||.
fn join_types(given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    if given.iter().any(|t| matches!(t, DataType::List(_))) {
        return concat_types(given);
    }
    for common in [DataType::Utf8, DataType::Binary] {
        if given.iter().all(|t| *t == DataType::Null || Kind::of(t) == Kind::of(&common)) {
            return Ok((vec![common.clone(); given.len()], common));
        }
    }
    let types: Vec<String> = given.iter().map(signature_name).collect();
    plan_err!("No matching signature for operator || for argument types: {}", types.join(", "))
}

fn array_concat(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let lists: Vec<&ListArray> = args.iter().map(|a| a.as_list::<i32>()).collect();
    let values: Vec<&dyn Array> = lists.iter().map(|l| l.values().as_ref()).collect();
    let all = concat(&values)?;
    let starts: Vec<usize> = lists
        .iter()
        .scan(0, |sum, l| {
            let start = *sum;
            *sum += l.values().len();
            Some(start)
        })
        .collect();
    let (mut places, mut lengths, mut valid) = (Vec::new(), Vec::with_capacity(n), Vec::with_capacity(n));
    for row in 0..n {
        let before = places.len();
        let is_valid = lists.iter().all(|l| l.is_valid(row));
        if is_valid {
            for (list, start) in lists.iter().zip(&starts) {
                let range = list.offsets()[row]..list.offsets()[row + 1];
                places.extend(range.map(|at| *start as u64 + u64::try_from(at).unwrap_or(0)));
            }
        }
        lengths.push(places.len() - before);
        valid.push(is_valid);
    }
    let items = take(&all, &UInt64Array::from(places), None)?;
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(
        field,
        OffsetBuffer::from_lengths(lengths),
        items,
        Some(NullBuffer::from(valid)),
    )?))
}

fn in_array_types(given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    if let [value, DataType::List(item)] = given
        && let Some(common) = supertype([value, item.data_type()])
    {
        return Ok((vec![common.clone(), list_of(common)], DataType::Boolean));
    }
    let types: Vec<String> = given.iter().map(signature_name).collect();
    plan_err!("No matching signature for operator IN UNNEST for argument types: {}", types.join(", "))
}

fn equal_to(items: &ArrayRef, value: &ArrayRef) -> Result<BooleanArray> {
    if !value.data_type().is_nested() {
        return Ok(cmp::eq(items, &Scalar::new(Arc::clone(value)))?);
    }
    let compare = datafusion::arrow::array::make_comparator(items, value, SortOptions::default())?;
    let equal = |at: usize| (items.is_valid(at) && value.is_valid(0)).then(|| compare(at, 0).is_eq());
    Ok((0..items.len()).map(equal).collect())
}

/// TRUE when an element is equal, else NULL when one of them is, else FALSE.
fn in_array(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let list = args[1].as_list::<i32>();
    let mut found = Vec::with_capacity(n);
    for row in 0..n {
        // In a NULL array there is nothing.
        if list.is_null(row) || list.value_length(row) == 0 {
            found.push(Some(false));
            continue;
        }
        let items = Key::Above.of_array(&list.value(row));
        let value = Key::Below.of_array(&args[0].slice(row, 1));
        let equal = equal_to(&items, &value)?;
        let any = equal.true_count() > 0;
        found.push(if any {
            Some(true)
        } else if equal.null_count() > 0 {
            None
        } else {
            Some(false)
        });
    }
    Ok(Arc::new(BooleanArray::from(found)))
}

fn array_to_string(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    texts(args, n, |row| {
        let (items, delimiter) = (given!(row.items(0)), given!(row.text(1)));
        let null = if row.is_given(2) { Some(given!(row.text(2))) } else { None };
        let pieces: Vec<&str> = items.as_string::<i32>().iter().filter_map(|item| item.or(null)).collect();
        Ok(Some(pieces.join(delimiter)))
    })
}

fn too_many<T>() -> Result<T> {
    exec_err!("Cannot generate arrays with more than {ITEMS_MAX} elements")
}

fn generate_array(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    if args[0].data_type() == &DataType::Int64 {
        let mut lists = ListBuilder::new(Int64Builder::new());
        let numbers = |index: usize| {
            args.get(index).map(|a| a.as_primitive::<datafusion::arrow::datatypes::Int64Type>())
        };
        for row in 0..n {
            let at = |index: usize| match numbers(index) {
                Some(array) => array.is_valid(row).then(|| array.value(row)),
                None => Some(1),
            };
            let (Some(from), Some(to), Some(step)) = (at(0), at(1), at(2)) else {
                lists.append(false);
                continue;
            };
            if step == 0 {
                return exec_err!("Sequence step cannot be 0.");
            }
            let (mut value, mut count) = (Some(from), 0);
            while let Some(next) = value.filter(|v| if step > 0 { *v <= to } else { *v >= to }) {
                count += 1;
                if count > ITEMS_MAX {
                    return too_many();
                }
                lists.values().append_value(next);
                value = next.checked_add(step);
            }
            lists.append(true);
        }
        return Ok(Arc::new(lists.finish()));
    }
    let mut lists = ListBuilder::new(Float64Builder::new());
    let numbers =
        |index: usize| args.get(index).map(|a| a.as_primitive::<datafusion::arrow::datatypes::Float64Type>());
    for row in 0..n {
        let at = |index: usize| match numbers(index) {
            Some(array) => array.is_valid(row).then(|| array.value(row)),
            None => Some(1.0),
        };
        let (Some(from), Some(to), Some(step)) = (at(0), at(1), at(2)) else {
            lists.append(false);
            continue;
        };
        if step == 0.0 || !step.is_finite() || !from.is_finite() || !to.is_finite() {
            return exec_err!("Sequence step cannot be 0 and bounds must be finite.");
        }
        for count in 0.. {
            let value = from + f64::from(count) * step;
            if if step > 0.0 { value > to } else { value < to } {
                break;
            }
            if count as usize >= ITEMS_MAX {
                return too_many();
            }
            lists.values().append_value(value);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

/// Each bound is the first one shifted, so that months do not lose their days.
fn generated<T>(from: T, to: T, amount: i64, shift: impl Fn(i64) -> Result<Option<T>>) -> Result<Vec<T>>
where
    T: PartialOrd + Copy,
{
    if amount == 0 {
        return exec_err!("Sequence step cannot be 0.");
    }
    let mut items = Vec::new();
    let mut next = Some(from);
    while let Some(item) = next.filter(|item| if amount > 0 { *item <= to } else { *item >= to }) {
        if items.len() >= ITEMS_MAX {
            return too_many();
        }
        items.push(item);
        next = match amount.checked_mul(length(items.len())) {
            // Beyond the calendar's end there is nothing to add.
            Some(steps) => shift(steps).unwrap_or(None),
            None => None,
        };
    }
    Ok(items)
}

fn generate_dates(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let mut lists = ListBuilder::new(Date32Builder::new());
    for row in 0..n {
        let row = super::rows::Row::new(args, row);
        let (Some(from), Some(to), Some(step), Some(unit)) =
            (row.date(0), row.date(1), row.int(2), row.text(3))
        else {
            lists.append(false);
            continue;
        };
        let items =
            generated(from, to, step, |steps| super::calendar::shift_day(from, steps, unit).map(Some))?;
        items.into_iter().for_each(|item| lists.values().append_value(item));
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn generate_timestamps(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let mut lists = ListBuilder::new(TimestampMicrosecondBuilder::new().with_timezone("UTC"));
    for row in 0..n {
        let row = super::rows::Row::new(args, row);
        let (Some(from), Some(to), Some(step), Some(unit)) =
            (row.micros(0), row.micros(1), row.int(2), row.text(3))
        else {
            lists.append(false);
            continue;
        };
        let items =
            generated(from, to, step, |steps| super::calendar::shift_instant(from, steps, unit).map(Some))?;
        items.into_iter().for_each(|item| lists.values().append_value(item));
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}
