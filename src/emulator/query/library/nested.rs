//! STRUCTs and ARRAYs as values: made, taken apart, and cast.

use std::sync::Arc;

use datafusion::arrow::array::UInt64Array;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, new_null_array};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::Result;

use super::Function;
use super::rows::{Row, ints};
use super::signatures::{list_of, signature_name, supertype};
use crate::emulator::coerce::geography_text;
use crate::emulator::fields::{Kind, RangeOf};
use crate::emulator::query::wording::{exec_err, plan_err};
use crate::emulator::query::{casts, types};

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::literal("struct", struct_type, make_struct),
        Function::literal("field", field_type, field),
        Function::generic("array", array_type, make_array).keeping_kind(),
        Function::literal("subscript", subscript_type, |args, n| match args[0].data_type() {
            DataType::Utf8 => super::json::part(args, n),
            _ => element(args, n, 0, false),
        }),
        Function::literal("element", element_type, |args, n| element(args, n, 0, false)),
        Function::literal("element_ordinal", element_type, |args, n| element(args, n, 1, false)),
        Function::literal("element_or_null", element_type, |args, n| element(args, n, 0, true)),
        Function::literal("element_ordinal_or_null", element_type, |args, n| element(args, n, 1, true)),
        // What UNNEST … WITH OFFSET counts.
        Function::generic("offsets", offsets_type, offsets),
        // ARRAY(SELECT …) without rows is an empty array.
        Function::generic("or_empty", same_array, |args, _| {
            let list = args[0].as_list::<i32>();
            let DataType::List(item) = list.data_type() else { return exec_err!("no array") };
            let lengths = (0..list.len())
                .map(|row| if list.is_valid(row) { list.value_length(row) as usize } else { 0 });
            // A NULL array has no elements beneath it here: array_agg made it.
            let offsets = OffsetBuffer::from_lengths(lengths);
            let start = list.offsets().first().copied().unwrap_or(0) as usize;
            let items = list.values().slice(start, offsets.last().copied().unwrap_or(0) as usize);
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, None)?))
        }),
        Function::literal("cast_nested", cast_nested_type, |args, n| cast_to_named(args, n, false)),
        Function::literal("safe_cast_nested", cast_nested_type, |args, n| cast_to_named(args, n, true)),
        Function::literal("range_date", |_, _| Ok(range_field(RangeOf::Date)), make_range),
        Function::literal("range_datetime", |_, _| Ok(range_field(RangeOf::DateTime)), make_range),
        Function::literal("range_timestamp", |_, _| Ok(range_field(RangeOf::Timestamp)), make_range),
        Function::listed("as_geography", "STRING -> STRING", |args, _| Ok(Arc::clone(&args[0])))
            .of_kind(Kind::Geography),
        Function::listed("ST_GEOGPOINT", "FLOAT64, FLOAT64 -> STRING", |args, n| {
            super::rows::texts(args, n, |row| {
                let (Some(longitude), Some(latitude)) = (row.float(0), row.float(1)) else { return Ok(None) };
                if !(-90.0..=90.0).contains(&latitude) || !longitude.is_finite() {
                    return exec_err!("Latitude must be between -90 and 90 degrees, longitude finite");
                }
                let text = crate::emulator::query::values::float_text;
                Ok(Some(format!("POINT({} {})", text(longitude), text(latitude))))
            })
        })
        .of_kind(Kind::Geography),
        Function::listed("ST_GEOGFROMTEXT", "STRING -> STRING", |args, n| {
            super::rows::texts(args, n, |row| match row.text(0).map(geography_text) {
                None => Ok(None),
                Some(Some(text)) => Ok(Some(text)),
                Some(None) => exec_err!("ST_GeogFromText failed: Invalid WKT string"),
            })
        })
        .of_kind(Kind::Geography),
        Function::listed("as_interval", "STRING -> STRING", |args, _| Ok(Arc::clone(&args[0])))
            .of_kind(Kind::Interval),
    ]
}

/// Fields without a name are `_field_1` and so on, by their place.
pub(in crate::emulator::query) fn is_anonymous(name: &str) -> bool {
    name.strip_prefix("_field_").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// `STRUCT('a', x, 'b', y)`.
fn struct_type(given: &[FieldRef], literals: &[Option<&str>]) -> Result<Field> {
    let mut fields = Vec::with_capacity(given.len() / 2);
    for (pair, names) in given.chunks(2).zip(literals.chunks(2)) {
        let ([_, value], Some(Some(name))) = (pair, names.first()) else {
            return plan_err!("a field of a STRUCT has no name");
        };
        fields.push(typed(value).with_name(*name));
    }
    Ok(Field::new("struct", DataType::Struct(fields.into()), true))
}

/// A field that is NULL without a type is an INT64, as everywhere in BigQuery.
fn typed(field: &Field) -> Field {
    let field = field.clone().with_nullable(true);
    match field.data_type() {
        DataType::Null => field.with_data_type(DataType::Int64),
        _ => field,
    }
}

fn make_struct(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let mut fields = Vec::with_capacity(args.len() / 2);
    let mut columns = Vec::with_capacity(args.len() / 2);
    for pair in args.chunks(2) {
        let [name, value] = pair else { return exec_err!("a field of a STRUCT has no value") };
        let name = if n == 0 { String::new() } else { name.as_string::<i32>().value(0).to_owned() };
        let field = typed(&Field::new(name, value.data_type().clone(), true));
        columns.push(match value.data_type() {
            DataType::Null => new_null_array(&DataType::Int64, n),
            _ => Arc::clone(value),
        });
        fields.push(field);
    }
    let fields: Fields = fields.into();
    if columns.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(n, None)));
    }
    Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
}

/// `FIELD(x, 'name')`, in any case.
fn field_type(given: &[FieldRef], literals: &[Option<&str>]) -> Result<Field> {
    let (Some(value), Some(Some(name))) = (given.first(), literals.get(1)) else {
        return plan_err!("a field needs a name");
    };
    if is_json(value) {
        return Ok(json_field());
    }
    let DataType::Struct(fields) = value.data_type() else {
        return plan_err!(
            "Cannot access field {name} on a value with type {}",
            signature_name(value.data_type())
        );
    };
    let mut found = fields.iter().filter(|f| f.name().to_lowercase() == name.to_lowercase());
    match (found.next(), found.next()) {
        (Some(field), None) => Ok(field.as_ref().clone().with_nullable(true)),
        (Some(_), Some(_)) => plan_err!("Struct field name {name} is ambiguous"),
        (None, _) => plan_err!("Field name {name} does not exist in {}", signature_name(value.data_type())),
    }
}

fn is_json(value: &Field) -> bool {
    *value.data_type() == DataType::Utf8 && Kind::of_field(value) == Some(Kind::Json)
}

fn json_field() -> Field {
    Field::new("json", DataType::Utf8, true).with_metadata(Kind::Json.metadata())
}

fn field(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    if n == 0 {
        // Without a row there is no name either: the caller casts the nothing to what it expects.
        return Ok(new_null_array(&DataType::Null, 0));
    }
    if args[0].data_type() == &DataType::Utf8 {
        return super::json::part(args, n);
    }
    let record = args[0].as_struct();
    let name = args[1].as_string::<i32>().value(0).to_lowercase();
    let Some(at) = record.fields().iter().position(|f| f.name().to_lowercase() == name) else {
        return exec_err!("Field name {name} does not exist");
    };
    let column = Arc::clone(record.column(at));
    let Some(nulls) = record.nulls() else { return Ok(column) };
    // A field of NULL is NULL, whatever lies beneath.
    Ok(datafusion::arrow::compute::nullif(
        &column,
        &datafusion::arrow::array::BooleanArray::new(!nulls.inner(), None),
    )?)
}

fn array_type(given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    let item = match supertype(given) {
        Some(DataType::Null) => DataType::Int64,
        Some(item) => item,
        None => {
            let types: Vec<String> = given.iter().map(signature_name).collect();
            return plan_err!(
                "Array elements of types {{{}}} do not have a common supertype",
                types.join(", ")
            );
        }
    };
    if matches!(item, DataType::List(_)) {
        return plan_err!(
            "Cannot construct array with element type ARRAY because nested arrays are not supported"
        );
    }
    // DataFusion does not rename the fields of structs; that is done below.
    let wanted = match item {
        DataType::Struct(_) => given.to_vec(),
        _ => vec![item.clone(); given.len()],
    };
    Ok((wanted, list_of(item)))
}

fn make_array(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    let Some(item) = supertype(args.iter().map(|a| a.data_type())).filter(|_| !args.is_empty()) else {
        let field = Arc::new(Field::new("item", DataType::Int64, true));
        let none = new_null_array(&DataType::Int64, 0);
        return Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(vec![0; n]), none, None)?));
    };
    let item = if item == DataType::Null { DataType::Int64 } else { item };
    let arrays: Vec<ArrayRef> = args.iter().map(|a| cast_nested(a, &item, false)).collect::<Result<_>>()?;
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    let all = concat(&arrays)?;
    // Column after column becomes row after row.
    let width = args.len();
    let order = (0..n).flat_map(|row| (0..width).map(move |column| (column * n + row) as u64));
    let items = take(&all, &UInt64Array::from_iter_values(order), None)?;
    let field = Arc::new(Field::new("item", item, true));
    Ok(Arc::new(ListArray::try_new(field, OffsetBuffer::from_lengths(vec![width; n]), items, None)?))
}

/// `x[1]`, and of JSON also `x['name']`.
fn subscript_type(given: &[FieldRef], literals: &[Option<&str>]) -> Result<Field> {
    match given {
        [value, index] if is_json(value) => match index.data_type() {
            DataType::Int64 | DataType::Utf8 | DataType::Null => Ok(json_field()),
            other => plan_err!("Subscript of JSON must be INT64 or STRING, not {}", signature_name(other)),
        },
        _ => element_type(given, literals),
    }
}

fn element_type(given: &[FieldRef], _: &[Option<&str>]) -> Result<Field> {
    let [list, index] = given else { return plan_err!("an element needs an index") };
    match (list.data_type(), index.data_type()) {
        (DataType::List(item), DataType::Int64 | DataType::Null) => {
            // What is known of the elements stands at the array, or at its items.
            let tagged = if list.metadata().is_empty() { item } else { list };
            let element = Field::new("element", item.data_type().clone(), true);
            Ok(element.with_metadata(tagged.metadata().clone()))
        }
        (DataType::List(_), index) => {
            plan_err!(
                "Array position in [] must be coercible to INT64, but has type {}",
                signature_name(index)
            )
        }
        (other, _) => {
            let other = if is_json(list) { "JSON".to_owned() } else { signature_name(other) };
            plan_err!("Element access using [] is not supported on values of type {other}")
        }
    }
}

fn element(args: &[ArrayRef], n: usize, first: i64, or_null: bool) -> Result<ArrayRef> {
    let lists = args[0].as_list::<i32>();
    if args[1].data_type() == &DataType::Null {
        return Ok(new_null_array(lists.values().data_type(), n));
    }
    let indices = ints(args, n, |row: Row<'_>| {
        let (Some(items), Some(index)) = (row.items(0), row.int(1)) else { return Ok(None) };
        let at = usize::try_from(index.saturating_sub(first)).ok().filter(|at| *at < items.len());
        match at {
            Some(at) => Ok(i64::try_from(at).ok()),
            None if or_null => Ok(None),
            None => exec_err!("Array index {index} is out of bounds"),
        }
    })?;
    let indices = indices.as_primitive::<datafusion::arrow::datatypes::Int64Type>();
    let offsets = lists.offsets();
    let places: UInt64Array = indices
        .iter()
        .enumerate()
        .map(|(row, at)| u64::try_from(i64::from(offsets[row]) + at?).ok())
        .collect();
    Ok(take(lists.values(), &places, None)?)
}

fn same_array(given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    match given {
        [DataType::List(_)] => Ok((given.to_vec(), given[0].clone())),
        [DataType::Null] => Ok((vec![list_of(DataType::Int64)], list_of(DataType::Int64))),
        [other, ..] => plan_err!(
            "Values referenced in UNNEST must be arrays. UNNEST contains expression of type {}",
            signature_name(other)
        ),
        [] => plan_err!("UNNEST needs an array"),
    }
}

fn offsets_type(given: &[DataType]) -> Result<(Vec<DataType>, DataType)> {
    Ok((same_array(given)?.0, list_of(DataType::Int64)))
}

fn offsets(args: &[ArrayRef], n: usize) -> Result<ArrayRef> {
    use datafusion::arrow::array::{Int64Builder, ListBuilder};
    let lists = args[0].as_list::<i32>();
    let mut builder = ListBuilder::new(Int64Builder::new());
    for row in 0..n {
        if lists.is_valid(row) {
            (0..i64::from(lists.value_length(row))).for_each(|at| builder.values().append_value(at));
        }
        builder.append(lists.is_valid(row));
    }
    Ok(Arc::new(builder.finish()))
}

/// CAST between arrays and structs: element by element, field by field.
pub(in crate::emulator::query) fn cast_nested(
    from: &ArrayRef,
    to: &DataType,
    safe: bool,
) -> Result<ArrayRef> {
    if from.data_type() == to {
        return Ok(Arc::clone(from));
    }
    match (from.data_type(), to) {
        (DataType::Null, _) => Ok(new_null_array(to, from.len())),
        (DataType::List(_), DataType::List(item)) => {
            let list = from.as_list::<i32>();
            let items = cast_nested(list.values(), item.data_type(), safe)?;
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(item),
                list.offsets().clone(),
                items,
                list.nulls().cloned(),
            )?))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let record = from.as_struct();
            let columns = record
                .columns()
                .iter()
                .zip(fields)
                .map(|(column, field)| cast_nested(column, field.data_type(), safe));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), columns, record.nulls().cloned())?))
        }
        (_, to) => match crate::emulator::fields::Kind::of(to) {
            Some(kind) => casts::cast(from, kind, safe),
            None => exec_err!("Invalid cast"),
        },
    }
}

fn cast_nested_type(given: &[FieldRef], literals: &[Option<&str>]) -> Result<Field> {
    let target = literals.get(1).copied().flatten().and_then(types::arrow_type);
    let (Some(value), Some(target)) = (given.first(), target) else {
        return plan_err!("a cast needs a type");
    };
    check_cast(value.data_type(), &target)?;
    Ok(Field::new("cast", target, true))
}

fn cast_to_named(args: &[ArrayRef], n: usize, safe: bool) -> Result<ArrayRef> {
    if n == 0 {
        return Ok(new_null_array(&DataType::Null, 0));
    }
    match types::arrow_type(args[1].as_string::<i32>().value(0)) {
        Some(target) => cast_nested(&args[0], &target, safe),
        None => exec_err!("a cast needs a type"),
    }
}

fn range_field(of: RangeOf) -> Field {
    let kind = Kind::Range(of);
    Field::new("range", kind.arrow_type().unwrap_or(DataType::Null), true).with_metadata(kind.metadata())
}

fn make_range(args: &[ArrayRef], _: usize) -> Result<ArrayRef> {
    let field = |name: &str, bound: &ArrayRef| Field::new(name, bound.data_type().clone(), true);
    let fields = vec![field("start", &args[0]), field("end", &args[1])];
    Ok(Arc::new(StructArray::try_new(fields.into(), args.to_vec(), None)?))
}

/// Whether a cast is one of GoogleSQL's; names of fields do not matter.
pub(in crate::emulator::query) fn check_cast(from: &DataType, to: &DataType) -> Result<()> {
    match (from, to) {
        (DataType::Null, _) => Ok(()),
        (DataType::List(a), DataType::List(b)) => check_cast(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) if a.len() == b.len() => {
            a.iter().zip(b).try_for_each(|(a, b)| check_cast(a.data_type(), b.data_type()))
        }
        (DataType::List(_) | DataType::Struct(_), _) | (_, DataType::List(_) | DataType::Struct(_)) => {
            plan_err!("Invalid cast from {} to {}", signature_name(from), signature_name(to))
        }
        (_, to) => match crate::emulator::fields::Kind::of(to) {
            Some(kind) => casts::argument_type(from, kind).map(drop),
            None => plan_err!("Invalid cast"),
        },
    }
}
