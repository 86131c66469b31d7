//! What a record holds, as Arrow and BigQuery see it, and how bodies write it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Place of a record in its window's stream; breaks ties between versions of a key.
pub const SEQ_COLUMN: &str = "_seq";
/// 1-based day that `stage.sql` adds; names the partition and is not loaded.
pub const DAY_COLUMN: &str = "day";

/// GoogleSQL types that decoders can produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ColumnType {
    String,
    Int64,
    Float64,
    Bool,
    Numeric,
    Date,
    Timestamp,
}

impl ColumnType {
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::String => DataType::Utf8,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Bool => DataType::Boolean,
            // NUMERIC holds 38 digits, 9 of them behind the point.
            ColumnType::Numeric => DataType::Decimal128(38, 9),
            ColumnType::Date => DataType::Date32,
            // BigQuery keeps microseconds; Parquet must say UTC or they load as DATETIME.
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// Name in BigQuery's REST documents and SQL.
    pub fn name(self) -> &'static str {
        match self {
            ColumnType::String => "STRING",
            ColumnType::Int64 => "INT64",
            ColumnType::Float64 => "FLOAT64",
            ColumnType::Bool => "BOOL",
            ColumnType::Numeric => "NUMERIC",
            ColumnType::Date => "DATE",
            ColumnType::Timestamp => "TIMESTAMP",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    Required,
    #[default]
    Nullable,
}

/// One column: its name in BigQuery and the element or key that fills it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    #[serde(default)]
    pub mode: Mode,
    /// Child element or key in a record, when it is not `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Column {
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.name)
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Xml,
    /// One JSON object per line.
    Ndjson,
    /// A JSON array of objects, or objects one after the other.
    Json,
    /// Comma-separated lines without header or quotes, as LANL publishes its flows.
    Csv,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Xml => "xml",
            Format::Ndjson => "ndjson",
            Format::Json => "json",
            Format::Csv => "csv",
        })
    }
}

/// The columns of a record, in table order, without repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Columns(Vec<Column>);

impl Columns {
    pub fn new(columns: Vec<Column>) -> Result<Self> {
        if columns.is_empty() {
            return Err(Error::usage("the pipeline has no `[[columns]]`"));
        }
        for (i, column) in columns.iter().enumerate() {
            check_name(&column.name)?;
            let earlier = &columns[..i];
            // BigQuery's column names are case-insensitive.
            if earlier.iter().any(|c| c.name.eq_ignore_ascii_case(&column.name)) {
                return Err(Error::usage(format!("column `{}` is there twice", column.name)));
            }
            if earlier.iter().any(|c| c.path() == column.path()) {
                return Err(Error::usage(format!("two columns read the path `{}`", column.path())));
            }
        }
        Ok(Columns(columns))
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Column> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn index_of(&self, name: &str) -> Result<usize> {
        self.0.iter().position(|c| c.name == name).ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|c| format!("`{}`", c.name)).collect();
            Error::usage(format!("no column `{name}`; the pipeline has {}", names.join(", ")))
        })
    }

    /// Arrow schema of decoded and of staged record batches.
    pub fn arrow(&self) -> SchemaRef {
        let field = |c: &Column| Field::new(&c.name, c.kind.arrow(), c.mode == Mode::Nullable);
        Arc::new(Schema::new(self.0.iter().map(field).collect::<Vec<_>>()))
    }
}

/// BigQuery's rule for column names, and the names this product needs for itself.
fn check_name(name: &str) -> Result<()> {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
    if !starts || !chars.all(|c| c.is_alphanumeric() || c == '_') || name.len() > 300 {
        return Err(Error::usage(format!("`{name}` is no column name"))
            .hint("letters, digits and `_`, not starting with a digit, at most 300 bytes"));
    }
    let reserved =
        ["_PARTITIONTIME", "_PARTITIONDATE", "_FILE_SUFFIX", "_TABLE_SUFFIX", SEQ_COLUMN, DAY_COLUMN];
    if reserved.iter().any(|r| r.eq_ignore_ascii_case(name)) {
        return Err(Error::usage(format!("column name `{name}` is reserved"))
            .hint("give the column another `name` and put the source's name into `path`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Column {
        Column { name: name.into(), kind: ColumnType::Int64, mode: Mode::Required, path: None }
    }

    #[test]
    fn repeated_reserved_and_illegal_names_are_refused() {
        assert!(Columns::new(vec![]).is_err());
        assert!(Columns::new(vec![column("id"), column("ID")]).is_err());
        for name in ["day", "_seq", "_PartitionTime", "1st", "a-b", ""] {
            assert!(Columns::new(vec![column(name)]).is_err(), "{name}");
        }
        let mut other = column("b");
        other.path = Some("a".into());
        assert!(Columns::new(vec![column("a"), other]).is_err());
        assert_eq!(
            Columns::new(vec![column("a"), column("b")]).expect("columns").index_of("b").expect("b"),
            1
        );
    }
}
