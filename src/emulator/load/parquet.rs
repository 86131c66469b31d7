//! Parquet: files in the table's own shape are taken as they are, others are written again.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{self, CastOptions};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::LogicalType;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value};

use super::spec::{flag, texts};
use super::{damaged, read_failed};
use crate::emulator::coerce::{Cell, from_text, from_wkb};
use crate::emulator::destination::Target;
use crate::emulator::disk::{OwnedFile, unique_name};
use crate::emulator::elements::check_arrays;
use crate::emulator::fields::{self, Field, Kind, Mode, arrow_schema, fit_limits};
use crate::emulator::files::{RowsWriter, Rule, column_bytes, conform, same_name};
use crate::emulator::sources::Source;
use crate::emulator::versions::Part;
use crate::emulator::wire::{Failure, Outcome, object, text};

/// What `configuration.load` says about Parquet.
#[derive(Debug, Clone)]
pub(super) struct ParquetOptions {
    /// Whether lists become REPEATED columns, as opposed to BigQuery's `list.element` records.
    list_inference: bool,
    enum_as_string: bool,
    /// The kinds that a decimal may become, the narrowest that holds it first.
    decimals: Vec<Kind>,
}

impl ParquetOptions {
    pub(super) fn parse(load: &Map<String, Value>) -> Outcome<Self> {
        for member in ["columnNameCharacterMap"] {
            match text(load, member).unwrap_or_default() {
                "" | "COLUMN_NAME_CHARACTER_MAP_UNSPECIFIED" | "STRICT" => {}
                other => return Err(Failure::not_implemented(format!("{member} {other} for Parquet"))),
            }
        }
        let options = object(load, "parquetOptions");
        if options.and_then(|o| text(o, "mapTargetType")).is_some_and(|t| t == "ARRAY_OF_STRUCT") {
            return Err(Failure::not_implemented("parquetOptions.mapTargetType ARRAY_OF_STRUCT"));
        }
        let mut decimals = Vec::new();
        for (kind, name) in
            [(Kind::Numeric, "NUMERIC"), (Kind::BigNumeric, "BIGNUMERIC"), (Kind::String, "STRING")]
        {
            if texts(load, "decimalTargetTypes").iter().any(|given| given == name) {
                decimals.push(kind);
            }
        }
        if decimals.is_empty() {
            decimals.push(Kind::Numeric);
        }
        Ok(ParquetOptions {
            list_inference: options.is_some_and(|o| flag(o, "enableListInference")),
            enum_as_string: options.is_some_and(|o| flag(o, "enumAsString")),
            decimals,
        })
    }
}

impl ParquetOptions {
    /// For files that know no other lists than REPEATED columns.
    pub(super) fn with_lists(self) -> Self {
        ParquetOptions { list_inference: true, ..self }
    }
}

fn reader(path: &Path, uri: &str) -> Outcome<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|e| Failure::not_found(format!("Not found: URI {uri}: {e}")))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| damaged(uri, "Parquet", e))
}

/// The columns of a file, of the kinds that they become.
pub(super) fn fields_of(path: &Path, uri: &str, options: &ParquetOptions) -> Outcome<Vec<Field>> {
    let builder = reader(path, uri)?;
    let schema = nested_schema(builder.schema(), options.list_inference);
    let mut found = fields::fields_of(&schema).map_err(|e| read_failed(uri, e.message))?;
    for field in &found {
        fields::check_name(&field.name).map_err(|e| read_failed(uri, e.message))?;
    }
    choose_decimals(&mut found, schema.fields(), &options.decimals);
    if options.enum_as_string {
        for leaf in builder.parquet_schema().columns() {
            if leaf.logical_type_ref() != Some(&LogicalType::Enum) {
                continue;
            }
            match (leaf.path().parts(), found.iter_mut().find(|f| f.name == leaf.path().parts()[0])) {
                ([_], Some(field)) => field.kind = Kind::String,
                _ => {
                    return Err(Failure::not_implemented(format!(
                        "enumAsString of the nested {}",
                        leaf.path()
                    )));
                }
            }
        }
    }
    Ok(found)
}

/// By precision and scale, among the kinds that are allowed; the widest of them when none holds all values.
fn choose_decimals(found: &mut [Field], columns: &Fields, allowed: &[Kind]) {
    for (field, column) in found.iter_mut().zip(columns) {
        let one = match column.data_type() {
            DataType::List(item) => item.data_type(),
            other => other,
        };
        match one {
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                let whole = i16::from(*precision) - i16::from(*scale);
                let fits = |kind: &&Kind| match kind {
                    Kind::Numeric => whole <= 29 && *scale <= 9,
                    Kind::BigNumeric => whole <= 38 && *scale <= 38,
                    _ => true,
                };
                field.kind = allowed.iter().find(fits).or(allowed.last()).copied().unwrap_or(Kind::Numeric);
            }
            DataType::Struct(children) => choose_decimals(&mut field.fields, children, allowed),
            _ => {}
        }
    }
}

/// The rows of a file, as parts of the table; as it is, where it could have been written here.
pub(super) fn take_file(
    source: &Source,
    path: &Path,
    target: &Target,
    options: &ParquetOptions,
    cancelled: &impl Fn() -> bool,
) -> Outcome<Vec<Part>> {
    let builder = reader(path, &source.uri)?;
    let schema = nested_schema(builder.schema(), options.list_inference);
    let metadata = Arc::clone(builder.metadata());
    let same = check_schema(&schema, &target.fields)
        .map(|same| same && schema.fields() == builder.schema().fields())
        .map_err(|e| match e.code {
            400 => read_failed(&source.uri, e.message),
            _ => e,
        })?;
    if metadata.file_metadata().num_rows() == 0 {
        return Ok(Vec::new());
    }
    let batches = builder.with_batch_size(8192).build().map_err(|e| damaged(&source.uri, "Parquet", e))?;
    let required: Vec<&Field> = target.fields.iter().filter(|f| f.mode == Mode::Required).collect();
    let checked = batches.map(|batch| {
        if cancelled() {
            return Err(Failure::stopped());
        }
        let batch = batch.map_err(|e| damaged(&source.uri, "Parquet", e))?;
        check_required(&batch, &required, &source.uri)?;
        let batch = nested(&batch, &schema)?;
        let batch = fit_limits(batch, &target.fields).map_err(|e| read_failed(&source.uri, e.message))?;
        check_arrays(&batch).map_err(|e| read_failed(&source.uri, e.message))?;
        Ok(batch)
    });
    match (same, target.rule) {
        (true, Rule::Fixed(partition)) => {
            // Every page is decoded once, so that a damaged file fails now; the bytes are then kept as they are.
            let mut rows = 0;
            for batch in checked {
                rows += batch?.num_rows() as u64;
            }
            let file = Arc::new(copy(path, &target.dir)?);
            let column_bytes = column_bytes(&metadata);
            check_unchanged(file.path(), &metadata, &source.uri)?;
            Ok(vec![Part::new(partition, rows, column_bytes, file)])
        }
        _ => {
            let wanted = arrow_schema(&target.fields);
            let mut writer = RowsWriter::new(&target.dir, Arc::clone(&wanted), target.rule);
            for batch in checked {
                let batch = with_text_kinds(&batch?, &target.fields)
                    .and_then(|batch| check_decimals(&batch, &target.fields).map(|()| batch))
                    .map_err(|e| read_failed(&source.uri, e.message))?;
                writer.write(&conform(&batch, &wanted).map_err(|e| read_failed(&source.uri, e))?)?;
            }
            writer.finish()
        }
    }
}

fn copy(from: &Path, dir: &Path) -> Outcome<OwnedFile> {
    let draft = OwnedFile::draft(dir.join(format!("{}.parquet", unique_name())));
    let mut source = BufReader::with_capacity(1 << 20, File::open(from)?);
    let mut copy = File::create_new(draft.path())?;
    std::io::copy(&mut source, &mut copy)?;
    copy.sync_all()?;
    Ok(draft)
}

/// The file that was checked and the file that was copied must be the same one.
fn check_unchanged(copy: &Path, metadata: &ParquetMetaData, uri: &str) -> Outcome<()> {
    let copied = reader(copy, uri)?;
    if copied.metadata().row_groups() != metadata.row_groups() {
        return Err(read_failed(uri, "the file changed while it was read."));
    }
    Ok(())
}

/// Whether the file's columns already have the table's types; an error when they cannot become them.
fn check_schema(file: &Schema, table: &[Field]) -> Outcome<bool> {
    let mut same = true;
    for (index, column) in file.fields().iter().enumerate() {
        let name = column.name();
        if file.fields()[..index].iter().any(|f| same_name(f.name(), name)) {
            return Err(Failure::invalid(format!("Duplicate Parquet column '{name}'.")));
        }
        let Some(field) = table.iter().find(|f| same_name(&f.name, name)) else {
            return Err(Failure::invalid(format!("No such field: {name}.")));
        };
        same &= check_type(column, field)?;
    }
    for field in table.iter().filter(|f| f.mode == Mode::Required) {
        if !file.fields().iter().any(|f| same_name(f.name(), &field.name)) {
            let name = &field.name;
            return Err(Failure::invalid(format!(
                "Required column '{name}' is missing from the Parquet schema."
            )));
        }
    }
    Ok(same)
}

fn check_type(column: &ArrowField, field: &Field) -> Outcome<bool> {
    let found = column.data_type();
    let item = match found {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item.data_type())
        }
        _ => None,
    };
    let one = item.unwrap_or(found);
    let found_kind = match one {
        DataType::Decimal128(..) | DataType::Decimal256(..) => Some(Kind::Numeric),
        other => Kind::of(other),
    };
    let fits = item.is_some() == (field.mode == Mode::Repeated)
        && found_kind.is_some_and(|kind| {
            kind == field.kind
                || matches!(
                    (kind, field.kind),
                    (Kind::Bytes, Kind::String | Kind::Geography)
                        | (Kind::DateTime, Kind::Timestamp)
                        | (Kind::Timestamp, Kind::DateTime)
                        | (Kind::Numeric, Kind::BigNumeric | Kind::String)
                        | (Kind::String, Kind::Json | Kind::Geography | Kind::Interval)
                )
                || (field.kind.arrow_type().as_ref() == Some(one))
        });
    if !fits {
        let (found_name, repeated) = (
            found_kind.map_or_else(|| found.to_string(), |k| k.sql().to_owned()),
            if item.is_some() { "REPEATED " } else { "" },
        );
        return Err(Failure::invalid(format!(
            "Parquet column '{}' has type {repeated}{found_name} which does not match the target type {}{}.",
            field.name,
            if field.mode == Mode::Repeated { "REPEATED " } else { "" },
            field.kind.sql(),
        )));
    }
    if let (DataType::Struct(children), Kind::Record) = (one, field.kind) {
        check_schema(&Schema::new(children.clone()), &field.fields)?;
    }
    if matches!(field.kind, Kind::Json | Kind::Geography | Kind::Interval | Kind::Range(_)) {
        return Ok(false); // every value is looked at
    }
    let wanted = field.arrow();
    Ok(match (wanted.data_type(), found) {
        (DataType::Utf8, DataType::LargeUtf8 | DataType::Utf8View) => true,
        (DataType::Timestamp(unit, Some(_)), DataType::Timestamp(found_unit, Some(zone))) => {
            unit == found_unit && matches!(zone.as_ref(), "UTC" | "+00:00" | "Z")
        }
        (wanted, found) => wanted == found,
    })
}

fn check_required(batch: &RecordBatch, required: &[&Field], uri: &str) -> Outcome<()> {
    let schema = batch.schema();
    for field in required {
        let column = schema.fields().iter().position(|f| same_name(f.name(), &field.name));
        if column.is_none_or(|index| batch.column(index).logical_null_count() > 0) {
            let name = &field.name;
            return Err(read_failed(uri, format!("Required field {name} cannot be null.")));
        }
    }
    Ok(())
}

/// Lists as BigQuery has them without list inference, `c.list.element`; maps always as `c.key_value`.
fn nested_schema(schema: &Schema, list_inference: bool) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| nested_field(f, list_inference)).collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

fn nested_field(field: &ArrowField, list_inference: bool) -> ArrowField {
    let inner = |field: &ArrowField| nested_field(field, list_inference);
    let record = |child: ArrowField| DataType::Struct(Fields::from(vec![child]));
    let list = |name: &str, item: DataType| {
        ArrowField::new(name, DataType::List(Arc::new(ArrowField::new("item", item, true))), true)
    };
    let data_type = match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let item = inner(item);
            match list_inference {
                true => DataType::List(Arc::new(item.with_name("item").with_nullable(true))),
                false => record(list("list", record(item.with_name("element").with_nullable(true)))),
            }
        }
        DataType::Map(entries, _) => record(list("key_value", inner(entries).data_type().clone())),
        DataType::Struct(children) => DataType::Struct(children.iter().map(|c| inner(c)).collect()),
        other => other.clone(),
    };
    ArrowField::new(field.name(), data_type, field.is_nullable())
}

fn nested(batch: &RecordBatch, schema: &SchemaRef) -> Outcome<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| nested_column(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    columns
        .and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options))
        .map_err(|e| Failure::backend(format!("cannot nest a list: {e}")))
}

/// The same values, with a record around each list and each of its items where `wanted` has them.
fn nested_column(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    match (column.data_type(), wanted) {
        (DataType::LargeList(item) | DataType::FixedSizeList(item, _), _) => {
            let plain = compute::cast(column, &DataType::List(Arc::clone(item)))?;
            nested_column(&plain, wanted)
        }
        (DataType::List(_), DataType::List(item)) => {
            let list = column.as_list::<i32>();
            let values = nested_column(list.values(), item.data_type())?;
            let list =
                ListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned());
            Ok(Arc::new(list?))
        }
        (DataType::List(_), DataType::Struct(outer)) => {
            let list = column.as_list::<i32>();
            around_list(list.offsets(), list.values(), list.nulls(), outer)
        }
        (DataType::Map(..), DataType::Struct(outer)) => {
            let map = column.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            around_list(map.offsets(), &entries, map.nulls(), outer)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let record = column.as_struct();
            let children = record.columns().iter().zip(fields);
            let children = children.map(|(child, field)| nested_column(child, field.data_type()));
            let children = children.collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), children, record.nulls().cloned())?))
        }
        _ => Ok(Arc::clone(column)),
    }
}

fn around_list(
    offsets: &OffsetBuffer<i32>,
    values: &ArrayRef,
    nulls: Option<&NullBuffer>,
    outer: &Fields,
) -> Result<ArrayRef, ArrowError> {
    let DataType::List(item) = outer[0].data_type() else {
        return Err(ArrowError::SchemaError("a nested list holds no list".to_owned()));
    };
    let items: ArrayRef = match (item.data_type(), values.data_type()) {
        (DataType::Struct(fields), given)
            if fields.len() == 1 && *given != DataType::Struct(fields.clone()) =>
        {
            let value = nested_column(values, fields[0].data_type())?;
            Arc::new(StructArray::try_new(fields.clone(), vec![value], None)?)
        }
        (wanted, _) => nested_column(values, wanted)?,
    };
    let list = ListArray::try_new(Arc::clone(item), offsets.clone(), items, None)?;
    Ok(Arc::new(StructArray::try_new(outer.clone(), vec![Arc::new(list)], nulls.cloned())?))
}

/// Texts that are JSON, GEOGRAPHY or INTERVAL in the table, checked and in their canonical spelling; RANGEs,
/// checked.
fn with_text_kinds(batch: &RecordBatch, fields: &[Field]) -> Outcome<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    for (index, column) in batch.schema().fields().iter().enumerate() {
        let Some(field) = fields.iter().find(|f| same_name(&f.name, column.name())) else { continue };
        if let (Kind::Range(_), DataType::Struct(_)) = (field.kind, column.data_type()) {
            check_bounds(&columns[index], field)?;
        }
        if !matches!(field.kind, Kind::Json | Kind::Geography | Kind::Interval)
            || field.mode == Mode::Repeated
        {
            continue;
        }
        let failed = |e: ArrowError| Failure::invalid(format!("column {}: {e}", field.name));
        let refused = |value: &str| {
            let (name, kind) = (&field.name, field.kind.sql());
            Failure::invalid(format!("Invalid {kind} value in column {name}: {value}"))
        };
        let mut canonical = StringBuilder::new();
        if Kind::of(columns[index].data_type()) == Some(Kind::Bytes) {
            let shapes = compute::cast(&columns[index], &DataType::Binary).map_err(failed)?;
            for wkb in shapes.as_binary::<i32>() {
                let text = wkb.map(|wkb| from_wkb(wkb).ok_or_else(|| refused("well-known binary")));
                canonical.append_option(text.transpose()?);
            }
        } else {
            let texts = compute::cast(&columns[index], &DataType::Utf8).map_err(failed)?;
            for text in texts.as_string::<i32>() {
                match text.map(|text| from_text(field, text)).transpose() {
                    Ok(Some(Cell::Text(text))) => canonical.append_value(text),
                    Ok(_) => canonical.append_null(),
                    Err(e) => return Err(refused(&e.value)),
                }
            }
        }
        columns[index] = Arc::new(canonical.finish());
    }
    let schema = batch.schema();
    let named = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| ArrowField::new(field.name(), column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(named.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| Failure::backend(e.to_string()))
}

/// A RANGE starts before it ends; a bound that is NULL is none.
fn check_bounds(column: &ArrayRef, field: &Field) -> Outcome<()> {
    let ranges = column.as_struct();
    let ordered = compute::kernels::cmp::lt(ranges.column(0), ranges.column(1))
        .map_err(|e| Failure::invalid(format!("column {}: {e}", field.name)))?;
    let wrong = |row: usize| ranges.is_valid(row) && ordered.is_valid(row) && !ordered.value(row);
    if (0..ranges.len()).any(wrong) {
        return Err(Failure::invalid(format!(
            "Invalid {} value in column {}: Range start element must be smaller than range end element.",
            field.kind.sql(),
            field.name
        )));
    }
    Ok(())
}

/// No decimal is rounded: a NUMERIC that needs more digits after the point is out of range.
fn check_decimals(batch: &RecordBatch, fields: &[Field]) -> Outcome<()> {
    for (column, values) in batch.schema().fields().iter().zip(batch.columns()) {
        let Some(field) = fields.iter().find(|f| same_name(&f.name, column.name())) else { continue };
        let (DataType::Decimal128(..) | DataType::Decimal256(..)) = values.data_type() else { continue };
        let Some(wanted @ (DataType::Decimal128(..) | DataType::Decimal256(..))) = field.kind.arrow_type()
        else {
            continue;
        };
        let back =
            compute::cast_with_options(values, &wanted, &CastOptions { safe: true, ..Default::default() })
                .and_then(|cast| compute::cast(&cast, values.data_type()));
        let exact = back.is_ok_and(|back| back.as_ref() == values.as_ref());
        if !exact {
            let (name, kind) = (&field.name, field.kind.sql());
            return Err(Failure::invalid(format!("A value of column {name} is out of valid {kind} range.")));
        }
    }
    Ok(())
}
