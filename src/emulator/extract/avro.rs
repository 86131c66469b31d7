//! Avro as BigQuery extracts it: its schema, and the columns that Avro has as texts only.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_avro::schema::SCHEMA_METADATA_KEY;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema, SchemaRef};
use serde_json::{Value, json};

use super::write_failed;
use crate::emulator::encode::{TimestampFormat, value_text};
use crate::emulator::fields::{Field, Kind, Mode};
use crate::emulator::wire::Outcome;

/// How the rows of a table become Avro.
pub(super) struct Encoding {
    fields: Vec<Field>,
    schema: SchemaRef,
    avro: String,
    logical_types: bool,
}

impl Encoding {
    /// DATE and TIME are texts where `logical_types` does not make them numbers; DATETIME is one always.
    pub(super) fn new(fields: &[Field], logical_types: bool) -> Self {
        let avro = json!({
            "type": "record",
            "name": "Root",
            "fields": avro_fields(fields, "Root", logical_types),
        });
        let avro = avro.to_string();
        let metadata = HashMap::from([(SCHEMA_METADATA_KEY.to_owned(), avro.clone())]);
        let arrow: Vec<ArrowField> = fields.iter().map(|f| arrow_field(f, logical_types)).collect();
        let schema = Arc::new(Schema::new_with_metadata(arrow, metadata));
        Encoding { fields: fields.to_vec(), schema, avro, logical_types }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The text of Avro's own schema.
    pub(super) fn avro(&self) -> &str {
        &self.avro
    }

    pub(super) fn encode(&self, batch: &RecordBatch) -> Outcome<RecordBatch> {
        let columns = self.fields.iter().zip(batch.columns());
        let columns = columns.map(|(field, column)| encode(field, column, self.logical_types)).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(write_failed)
    }
}

/// Whether Avro has no number for the kind, or is not to use it.
fn is_text(kind: Kind, logical_types: bool) -> bool {
    match kind {
        Kind::Date | Kind::Time => !logical_types,
        Kind::DateTime => true,
        _ => false,
    }
}

fn avro_fields(fields: &[Field], record: &str, logical_types: bool) -> Value {
    fields
        .iter()
        .map(|field| {
            let item = avro_type(field, record, logical_types);
            let wrapped = match field.mode {
                Mode::Repeated => json!({"type": "array", "items": item}),
                Mode::Required => item,
                Mode::Nullable => json!(["null", item]),
            };
            json!({"name": field.name, "type": wrapped})
        })
        .collect()
}

fn avro_type(field: &Field, record: &str, logical_types: bool) -> Value {
    let record = format!("{record}_{}", field.name);
    match field.kind {
        Kind::Int64 => json!("long"),
        Kind::Float64 => json!("double"),
        Kind::Bool => json!("boolean"),
        Kind::Bytes => json!("bytes"),
        Kind::String => json!("string"),
        Kind::Date if logical_types => json!({"type": "int", "logicalType": "date"}),
        Kind::Time if logical_types => json!({"type": "long", "logicalType": "time-micros"}),
        Kind::DateTime if logical_types => json!({"type": "string", "logicalType": "datetime"}),
        Kind::Timestamp => json!({"type": "long", "logicalType": "timestamp-micros"}),
        Kind::Numeric => json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 9}),
        Kind::BigNumeric => json!({"type": "bytes", "logicalType": "decimal", "precision": 76, "scale": 38}),
        Kind::Record => json!({
            "type": "record", "name": record, "fields": avro_fields(&field.fields, &record, logical_types),
        }),
        Kind::Range(of) => {
            let bound = |name: &str| Field {
                name: name.to_owned(),
                kind: of.kind(),
                mode: Mode::Nullable,
                fields: Vec::new(),
                rest: serde_json::Map::new(),
            };
            let fields = avro_fields(&[bound("start"), bound("end")], &record, logical_types);
            json!({"type": "record", "name": record, "sqlType": field.kind.sql(), "fields": fields})
        }
        Kind::Date | Kind::Time | Kind::DateTime | Kind::Json | Kind::Geography | Kind::Interval => {
            json!({"type": "string", "sqlType": field.kind.sql()})
        }
    }
}

fn arrow_field(field: &Field, logical_types: bool) -> ArrowField {
    let item = item_type(field, logical_types);
    match field.mode {
        Mode::Repeated => {
            let item = Arc::new(ArrowField::new("item", item, false));
            ArrowField::new(&field.name, DataType::List(item), false)
        }
        mode => ArrowField::new(&field.name, item, mode == Mode::Nullable),
    }
}

fn item_type(field: &Field, logical_types: bool) -> DataType {
    match (field.kind, field.kind.arrow_type()) {
        (kind, _) if is_text(kind, logical_types) => DataType::Utf8,
        (Kind::Range(of), _) => {
            let bound =
                if is_text(of.kind(), logical_types) { Some(DataType::Utf8) } else { of.kind().arrow_type() };
            let bound = bound.unwrap_or(DataType::Utf8);
            let bounds = ["start", "end"].map(|name| ArrowField::new(name, bound.clone(), true));
            DataType::Struct(Fields::from(bounds.to_vec()))
        }
        (_, Some(plain)) => plain,
        (_, None) => DataType::Struct(field.fields.iter().map(|f| arrow_field(f, logical_types)).collect()),
    }
}

fn encode(field: &Field, column: &ArrayRef, logical_types: bool) -> ArrayRef {
    if field.mode != Mode::Repeated {
        return encode_items(field, column, logical_types);
    }
    // Avro's arrays are never null, as REPEATED values are not.
    let list = column.as_list::<i32>();
    let lengths = (0..list.len()).map(|row| if list.is_valid(row) { list.value(row).len() } else { 0 });
    let offsets = OffsetBuffer::from_lengths(lengths);
    let valid: Vec<ArrayRef> = list.iter().flatten().collect();
    let valid: Vec<&dyn Array> = valid.iter().map(AsRef::as_ref).collect();
    let items = match datafusion::arrow::compute::concat(&valid) {
        Ok(items) => items,
        Err(_) => list.values().slice(0, 0),
    };
    let items = encode_items(field, &items, logical_types);
    let item = Arc::new(ArrowField::new("item", items.data_type().clone(), false));
    Arc::new(ListArray::new(item, offsets, items, None))
}

fn encode_items(field: &Field, column: &ArrayRef, logical_types: bool) -> ArrayRef {
    if is_text(field.kind, logical_types) {
        return as_text(column);
    }
    let DataType::Struct(fields) = item_type(field, logical_types) else { return Arc::clone(column) };
    let record = column.as_struct();
    let columns: Vec<ArrayRef> = match field.kind {
        Kind::Range(of) if is_text(of.kind(), logical_types) => {
            record.columns().iter().map(as_text).collect()
        }
        Kind::Range(_) => record.columns().to_vec(),
        _ => {
            let children = field.fields.iter().zip(record.columns());
            children.map(|(field, column)| encode(field, column, logical_types)).collect()
        }
    };
    let nulls: Option<NullBuffer> = record.nulls().cloned();
    let encoded = StructArray::try_new(fields, columns, nulls);
    encoded.map_or_else(|_| Arc::clone(column), |record| Arc::new(record) as ArrayRef)
}

fn as_text(column: &ArrayRef) -> ArrayRef {
    let texts = (0..column.len())
        .map(|row| column.is_valid(row).then(|| value_text(column, row, TimestampFormat::Iso8601)));
    Arc::new(texts.collect::<StringArray>())
}
