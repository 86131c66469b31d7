//! BigQuery's schema documents, and the Arrow types that their values become.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use serde_json::Value;

use crate::error::{Error, Result};

/// One column or nested field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: FieldKind,
    pub repeated: bool,
    pub required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    Int64,
    Float64,
    Bool,
    String,
    Bytes,
    Date,
    DateTime,
    Time,
    Timestamp,
    Numeric,
    BigNumeric,
    Record(Vec<Field>),
    /// Values that stay texts: JSON, GEOGRAPHY, INTERVAL, and what is newer than this program.
    Text(String),
    /// Text too; the times of a RANGE<TIMESTAMP> are numbers on the wire.
    Range {
        of_timestamps: bool,
    },
}

/// The fields of a `schema` document.
pub fn fields(schema: &Value) -> Result<Vec<Field>> {
    let documents = schema["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    documents.iter().map(Field::parse).collect()
}

pub fn arrow_schema(fields: &[Field]) -> SchemaRef {
    // A parent may be NULL and its REQUIRED child with it, so only columns are ever not nullable.
    let column = |field: &Field| field.arrow().with_nullable(!field.required);
    Arc::new(Schema::new(fields.iter().map(column).collect::<Vec<_>>()))
}

impl Field {
    fn parse(document: &Value) -> Result<Field> {
        let text = |key: &str| document[key].as_str();
        let (Some(name), Some(kind)) = (text("name"), text("type")) else {
            return Err(Error::failed("BigQuery describes a column without name or type"));
        };
        let kind = match kind.to_ascii_uppercase().as_str() {
            "INTEGER" | "INT64" => FieldKind::Int64,
            "FLOAT" | "FLOAT64" => FieldKind::Float64,
            "BOOLEAN" | "BOOL" => FieldKind::Bool,
            "STRING" => FieldKind::String,
            "BYTES" => FieldKind::Bytes,
            "DATE" => FieldKind::Date,
            "DATETIME" => FieldKind::DateTime,
            "TIME" => FieldKind::Time,
            "TIMESTAMP" => FieldKind::Timestamp,
            "NUMERIC" => FieldKind::Numeric,
            "BIGNUMERIC" => FieldKind::BigNumeric,
            "RECORD" | "STRUCT" => FieldKind::Record(fields(document)?),
            "RANGE" => {
                FieldKind::Range { of_timestamps: document["rangeElementType"]["type"] == "TIMESTAMP" }
            }
            other => FieldKind::Text(other.to_ascii_lowercase()),
        };
        let mode = text("mode").unwrap_or("NULLABLE");
        let (repeated, required) = (mode == "REPEATED", mode == "REQUIRED");
        Ok(Field { name: name.to_owned(), kind, repeated, required })
    }

    pub(super) fn arrow(&self) -> ArrowField {
        let item = self.item_type();
        let data_type = match self.repeated {
            true => DataType::List(self.item()),
            false => item,
        };
        ArrowField::new(&self.name, data_type, true).with_metadata(self.metadata(!self.repeated))
    }

    /// The field of a REPEATED field's items.
    pub(super) fn item(&self) -> Arc<ArrowField> {
        Arc::new(ArrowField::new("item", self.item_type(), true).with_metadata(self.metadata(true)))
    }

    fn item_type(&self) -> DataType {
        match &self.kind {
            FieldKind::Int64 => DataType::Int64,
            FieldKind::Float64 => DataType::Float64,
            FieldKind::Bool => DataType::Boolean,
            FieldKind::String | FieldKind::Text(_) | FieldKind::Range { .. } => DataType::Utf8,
            FieldKind::Bytes => DataType::Binary,
            FieldKind::Date => DataType::Date32,
            FieldKind::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            FieldKind::Time => DataType::Time64(TimeUnit::Microsecond),
            FieldKind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            FieldKind::Numeric => DataType::Decimal128(38, 9),
            FieldKind::BigNumeric => DataType::Decimal256(76, 38),
            FieldKind::Record(fields) => DataType::Struct(fields.iter().map(Field::arrow).collect()),
        }
    }

    /// What a text stands for, as BigQuery's own Storage API says it.
    fn metadata(&self, is_item: bool) -> HashMap<String, String> {
        let name = match &self.kind {
            FieldKind::Text(name) => name,
            FieldKind::Range { .. } => "range",
            _ => return HashMap::new(),
        };
        let entry = || ("ARROW:extension:name".to_owned(), format!("google:sqlType:{name}"));
        if is_item { HashMap::from([entry()]) } else { HashMap::new() }
    }
}

/// The fields that `selectedFields` leaves over, in the order of the table.
///
/// `r.x` keeps the field `r` with nothing but `x` in it; names are the same in any case.
pub fn selected(fields: &[Field], paths: &[Vec<&str>]) -> Result<Vec<Field>> {
    let mut kept = Vec::new();
    for path in paths {
        let first = path.first().copied().unwrap_or_default();
        if !fields.iter().any(|field| same(&field.name, first)) {
            let names: Vec<_> = fields.iter().map(|field| format!("`{}`", field.name)).collect();
            return Err(Error::usage(format!("there is no column `{first}`"))
                .hint(format!("there are {}", names.join(", "))));
        }
    }
    for field in fields {
        let here: Vec<_> = paths.iter().filter(|path| same(&field.name, path[0])).collect();
        let below: Vec<Vec<&str>> = here.iter().map(|path| path[1..].to_vec()).collect();
        match &field.kind {
            _ if here.is_empty() => {}
            _ if below.iter().any(Vec::is_empty) => kept.push(field.clone()),
            FieldKind::Record(children) => {
                let children = selected(children, &below).map_err(|e| e.context(field.name.clone()))?;
                kept.push(Field { kind: FieldKind::Record(children), ..field.clone() });
            }
            _ => return Err(Error::usage(format!("column `{}` has no fields in it", field.name))),
        }
    }
    Ok(kept)
}

pub(super) fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}
