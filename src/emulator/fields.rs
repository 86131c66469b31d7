//! Schemas: BigQuery's field documents, and the Arrow types that their values are kept in.

mod limits;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::wire::{Failure, Outcome, object, text};

pub(super) use limits::{Limits, Rounding, fit_limits};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
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
    Record,
    /// Kept as its text, compact.
    Json,
    /// Kept as well-known text.
    Geography,
    /// Kept as its canonical text, `Y-M D H:M:S`.
    Interval,
    /// Kept as a record of `start` and `end`, NULL where it is unbounded.
    Range(RangeOf),
}

/// What a RANGE is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RangeOf {
    Date,
    DateTime,
    Timestamp,
}

impl RangeOf {
    pub(super) fn kind(self) -> Kind {
        match self {
            RangeOf::Date => Kind::Date,
            RangeOf::DateTime => Kind::DateTime,
            RangeOf::Timestamp => Kind::Timestamp,
        }
    }

    fn parse(name: &str) -> Option<RangeOf> {
        Some(match Kind::parse(name)? {
            Kind::Date => RangeOf::Date,
            Kind::DateTime => RangeOf::DateTime,
            Kind::Timestamp => RangeOf::Timestamp,
            _ => return None,
        })
    }
}

/// In an Arrow field's metadata: the name of a kind that its Arrow type alone does not tell.
const KIND_KEY: &str = "bigquery:type";

impl Kind {
    /// Both spellings, and those of GoogleSQL; a RANGE by its full name, `RANGE<DATE>`.
    pub(super) fn parse(name: &str) -> Option<Kind> {
        Some(match name.to_ascii_uppercase().as_str() {
            "INT64" | "INTEGER" => Kind::Int64,
            "FLOAT64" | "FLOAT" => Kind::Float64,
            "BOOL" | "BOOLEAN" => Kind::Bool,
            "STRING" => Kind::String,
            "BYTES" => Kind::Bytes,
            "DATE" => Kind::Date,
            "DATETIME" => Kind::DateTime,
            "TIME" => Kind::Time,
            "TIMESTAMP" => Kind::Timestamp,
            "NUMERIC" | "DECIMAL" => Kind::Numeric,
            "BIGNUMERIC" | "BIGDECIMAL" => Kind::BigNumeric,
            "RECORD" | "STRUCT" => Kind::Record,
            "JSON" => Kind::Json,
            "GEOGRAPHY" => Kind::Geography,
            "INTERVAL" => Kind::Interval,
            upper => Kind::Range(RangeOf::parse(upper.strip_prefix("RANGE<")?.strip_suffix('>')?)?),
        })
    }

    /// The legacy name, which is what the API answers with.
    pub(super) fn legacy(self) -> &'static str {
        match self {
            Kind::Int64 => "INTEGER",
            Kind::Float64 => "FLOAT",
            Kind::Bool => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Bytes => "BYTES",
            Kind::Date => "DATE",
            Kind::DateTime => "DATETIME",
            Kind::Time => "TIME",
            Kind::Timestamp => "TIMESTAMP",
            Kind::Numeric => "NUMERIC",
            Kind::BigNumeric => "BIGNUMERIC",
            Kind::Record => "RECORD",
            Kind::Json => "JSON",
            Kind::Geography => "GEOGRAPHY",
            Kind::Interval => "INTERVAL",
            Kind::Range(_) => "RANGE",
        }
    }

    /// The name in GoogleSQL, which is what messages about queries use.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Kind::Int64 => "INT64",
            Kind::Float64 => "FLOAT64",
            Kind::Bool => "BOOL",
            Kind::Record => "STRUCT",
            Kind::Range(RangeOf::Date) => "RANGE<DATE>",
            Kind::Range(RangeOf::DateTime) => "RANGE<DATETIME>",
            Kind::Range(RangeOf::Timestamp) => "RANGE<TIMESTAMP>",
            other => other.legacy(),
        }
    }

    /// Of an Arrow field: what its metadata says, else what its type says. Of a REPEATED column: of its items.
    pub(super) fn of_field(field: &ArrowField) -> Option<Kind> {
        match (field.metadata().get(KIND_KEY), field.data_type()) {
            (Some(name), _) => Kind::parse(name),
            (None, DataType::List(item)) => Kind::of_field(item),
            (None, other) => Kind::of(other),
        }
    }

    /// What `of_field` reads, for an Arrow field of this kind.
    pub(super) fn metadata(self) -> HashMap<String, String> {
        match self {
            Kind::Json | Kind::Geography | Kind::Interval | Kind::Range(_) => {
                HashMap::from([(KIND_KEY.to_owned(), self.sql().to_owned())])
            }
            _ => HashMap::new(),
        }
    }

    /// The Arrow type of one value; a RECORD's depends on its fields and is not known here.
    pub(super) fn arrow_type(self) -> Option<DataType> {
        Some(match self {
            Kind::Int64 => DataType::Int64,
            Kind::Float64 => DataType::Float64,
            Kind::Bool => DataType::Boolean,
            Kind::String | Kind::Json | Kind::Geography | Kind::Interval => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Date => DataType::Date32,
            Kind::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Kind::Time => DataType::Time64(TimeUnit::Microsecond),
            Kind::Timestamp => timestamp_type(),
            Kind::Numeric => DataType::Decimal128(38, 9),
            Kind::BigNumeric => DataType::Decimal256(76, 38),
            Kind::Range(of) => {
                let bound = of.kind().arrow_type()?;
                let bounds = ["start", "end"].map(|name| ArrowField::new(name, bound.clone(), true));
                DataType::Struct(Fields::from(bounds.to_vec()))
            }
            Kind::Record => return None,
        })
    }

    /// Of an Arrow type; `None` when BigQuery has nothing like it (or only as REPEATED).
    pub(super) fn of(data_type: &DataType) -> Option<Kind> {
        Some(match data_type {
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64 => Kind::Int64,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Kind::Float64,
            DataType::Boolean => Kind::Bool,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::String,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Kind::Bytes,
            DataType::Date32 => Kind::Date,
            DataType::Time32(_) | DataType::Time64(_) => Kind::Time,
            DataType::Timestamp(_, None) => Kind::DateTime,
            DataType::Timestamp(_, Some(_)) => Kind::Timestamp,
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                let whole = i16::from(*precision) - i16::from(*scale);
                if *scale >= 0 && *scale <= 9 && whole <= 29 { Kind::Numeric } else { Kind::BigNumeric }
            }
            DataType::Struct(_) => Kind::Record,
            DataType::Dictionary(_, values) => Kind::of(values)?,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Nullable,
    Required,
    Repeated,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Nullable => "NULLABLE",
            Mode::Required => "REQUIRED",
            Mode::Repeated => "REPEATED",
        }
    }
}

/// One column or nested field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub name: String,
    pub kind: Kind,
    pub mode: Mode,
    pub fields: Vec<Field>,
    /// Members that this server only hands back: description, policyTags and the like.
    pub rest: Map<String, Value>,
}

/// Field names in BigQuery's `schema.fields`.
pub(super) fn parse_schema(schema: &Map<String, Value>) -> Outcome<Vec<Field>> {
    let fields = match schema.get("fields") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(fields)) => fields,
        Some(_) => return Err(Failure::invalid("Invalid schema: fields is not an array")),
    };
    let fields = parse_fields(fields)?;
    check_depth(&fields)?;
    Ok(fields)
}

/// RECORD in RECORD in RECORD: BigQuery nests so deep, whether they are REPEATED or not.
pub(super) const DEPTH_MAX: usize = 15;

/// Not asked of tables that are there: earlier releases let them nest deeper.
fn check_depth(fields: &[Field]) -> Outcome<()> {
    fn depth(fields: &[Field]) -> usize {
        let records = fields.iter().filter(|field| field.kind == Kind::Record);
        records.map(|record| 1 + depth(&record.fields)).max().unwrap_or(0)
    }
    match fields.iter().find(|field| depth(std::slice::from_ref(field)) > DEPTH_MAX) {
        None => Ok(()),
        Some(Field { name, .. }) => Err(Failure::invalid(format!(
            "Invalid schema: field {name} nests RECORDs more than {DEPTH_MAX} levels deep"
        ))),
    }
}

fn parse_fields(documents: &[Value]) -> Outcome<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::with_capacity(documents.len());
    let mut names = HashSet::with_capacity(documents.len());
    for document in documents {
        let object =
            document.as_object().ok_or_else(|| Failure::invalid("Invalid schema: a field is no object"))?;
        let field = Field::parse(object)?;
        if !names.insert(field.name.to_lowercase()) {
            let name = &field.name;
            return Err(Failure::invalid(format!("Field {name} already exists in schema")));
        }
        fields.push(field);
    }
    Ok(fields)
}

impl Field {
    fn parse(document: &Map<String, Value>) -> Outcome<Field> {
        let name = text(document, "name")
            .ok_or_else(|| Failure::invalid("Invalid schema: a field has no name"))?
            .to_owned();
        check_name(&name)?;
        let kind_name = text(document, "type")
            .ok_or_else(|| Failure::invalid(format!("Invalid schema: field {name} has no type")))?;
        let kind = match kind_name.to_ascii_uppercase().as_str() {
            "RANGE" => object(document, "rangeElementType")
                .and_then(|of| RangeOf::parse(text(of, "type")?))
                .map(Kind::Range)
                .ok_or_else(|| {
                    Failure::invalid(format!(
                        "Invalid schema: field {name} is a RANGE and needs a rangeElementType of DATE, DATETIME \
                         or TIMESTAMP"
                    ))
                })?,
            _ => Kind::parse(kind_name).ok_or_else(|| {
                Failure::invalid(format!("Invalid value for type: {kind_name} is not a valid value"))
            })?,
        };
        let mode = match text(document, "mode").map(str::to_ascii_uppercase).as_deref() {
            None | Some("" | "NULLABLE") => Mode::Nullable,
            Some("REQUIRED") => Mode::Required,
            Some("REPEATED") => Mode::Repeated,
            Some(other) => {
                return Err(Failure::invalid(format!(
                    "Invalid value for mode: {other} is not a valid value"
                )));
            }
        };
        let fields = match document.get("fields") {
            Some(Value::Array(fields)) => parse_fields(fields)?,
            _ => Vec::new(),
        };
        if (kind == Kind::Record) == fields.is_empty() {
            let message = format!("Field {name} is type {kind_name} but its sub-fields do not fit that");
            return Err(Failure::invalid(message));
        }
        let mut rest = document.clone();
        for known in ["name", "type", "mode", "fields", "rangeElementType"] {
            rest.shift_remove(known);
        }
        // An empty list of policy tags takes them away.
        let is_set = |name: &str, value: &Value| match name {
            "policyTags" => value["names"].as_array().is_some_and(|names| !names.is_empty()),
            _ => !value.is_null(),
        };
        rest.retain(|name, value| is_set(name, value));
        limits::check(&name, kind, &rest)?;
        Ok(Field { name, kind, mode, fields, rest })
    }

    pub(super) fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("name".into(), self.name.clone().into());
        document.insert("type".into(), self.kind.legacy().into());
        document.insert("mode".into(), self.mode.name().into());
        if let Kind::Range(of) = self.kind {
            document.insert("rangeElementType".into(), json!({"type": of.kind().legacy()}));
        }
        if !self.fields.is_empty() {
            document.insert("fields".into(), documents(&self.fields));
        }
        document.extend(self.rest.clone());
        Value::Object(document)
    }

    /// The Arrow field: always nullable, so that REQUIRED is checked in one place with BigQuery's words.
    pub(super) fn arrow(&self) -> ArrowField {
        let fields = || self.fields.iter().map(Field::arrow).collect::<Fields>();
        let one = self.kind.arrow_type().unwrap_or_else(|| DataType::Struct(fields()));
        let metadata = self.kind.metadata();
        match self.mode {
            Mode::Repeated => {
                let item = ArrowField::new("item", one, true).with_metadata(metadata);
                ArrowField::new(self.name.clone(), DataType::List(Arc::new(item)), true)
            }
            Mode::Nullable | Mode::Required => {
                ArrowField::new(self.name.clone(), one, true).with_metadata(metadata)
            }
        }
    }

    fn from_arrow(field: &ArrowField) -> Outcome<Field> {
        let name = field.name().clone();
        let (one, repeated) = match field.data_type() {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                (item.as_ref(), true)
            }
            _ => (field, false),
        };
        let kind = match one.data_type() {
            // An untyped NULL is an INT64 in BigQuery.
            DataType::Null => Kind::Int64,
            other => Kind::of_field(one).ok_or_else(|| {
                Failure::invalid(format!("column {name} has type {other}, which has no BigQuery type"))
            })?,
        };
        let fields = match one.data_type() {
            DataType::Struct(fields) if kind == Kind::Record => {
                fields.iter().map(|f| Field::from_arrow(f)).collect::<Outcome<_>>()?
            }
            _ => Vec::new(),
        };
        let mode = if repeated { Mode::Repeated } else { Mode::Nullable };
        Ok(Field { name, kind, mode, fields, rest: Map::new() })
    }
}

/// BigQuery reserves some prefixes for its pseudo columns.
pub(super) fn check_name(name: &str) -> Outcome<()> {
    let upper = name.to_uppercase();
    let reserved = ["_PARTITION", "_TABLE_", "_FILE_", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER"];
    if let Some(prefix) = reserved.iter().find(|p| upper.starts_with(**p)) {
        let message = format!(
            "Invalid field name \"{name}\". Field names are not allowed to start with the (case-insensitive) \
             prefix {prefix}"
        );
        return Err(Failure::invalid(message));
    }
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | ':' | '/' | '&' | '%' | '+');
    if name.is_empty() || name.chars().count() > 300 || !name.chars().all(legal) {
        return Err(Failure::invalid(format!("Invalid field name \"{name}\".")));
    }
    Ok(())
}

pub(super) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub(super) fn arrow_schema(fields: &[Field]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(Field::arrow).collect::<Vec<_>>()))
}

pub(super) fn fields_of(schema: &Schema) -> Outcome<Vec<Field>> {
    let fields: Vec<Field> = schema.fields().iter().map(|f| Field::from_arrow(f)).collect::<Outcome<_>>()?;
    check_depth(&fields)?;
    Ok(fields)
}

pub(super) fn documents(fields: &[Field]) -> Value {
    fields.iter().map(Field::document).collect()
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Map::deserialize(deserializer)?;
        Field::parse(&document).map_err(|e| serde::de::Error::custom(e.message))
    }
}

#[cfg(test)]
mod tests;
