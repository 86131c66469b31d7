//! Outside values become a table's own: what BigQuery converts is converted, the rest refused in its words.
//!
//! In two steps, so that a bad row leaves nothing behind: JSON or text to a tree of `Cell`s, which can fail,
//! and cells to Arrow columns (`builder`), which cannot.

mod builder;
mod decimal;
mod defaults;
mod geography;
mod interval;
mod scalar;

#[cfg(test)]
mod tests;

use datafusion::arrow::datatypes::i256;
use serde_json::{Map, Value};

use super::fields::{Field, Kind, Mode};
use super::files::same_name;

pub(super) use builder::RowsBuilder;
pub(super) use defaults::Defaults;
pub(super) use geography::{canonical as geography_text, from_wkb};
pub(super) use scalar::{from_text, from_text_as};

/// One value, of the Arrow type of its column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    /// INT64, and the microseconds of TIME, DATETIME and TIMESTAMP.
    Int(i64),
    /// A DATE, since 1970-01-01.
    Days(i32),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Scaled as the column is: 9 digits for NUMERIC, 38 for BIGNUMERIC.
    Decimal(i256),
    List(Vec<Cell>),
    /// A RECORD's fields, or a RANGE's two bounds.
    Record(Vec<Cell>),
}

/// Which words BigQuery uses, and whether a JSON column takes its value as it is or as a text that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Load,
    Insert,
}

/// Why a row is refused, and the path of the field that is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub location: String,
    pub message: String,
}

/// Turns JSON objects into rows of a table.
#[derive(Debug)]
pub(super) struct Coercer<'a> {
    pub fields: &'a [Field],
    pub defaults: &'a Defaults,
    pub ignore_unknown: bool,
    pub form: Form,
}

impl Coercer<'_> {
    pub(super) fn row(&self, object: &Map<String, Value>) -> Result<Vec<Cell>, Wrong> {
        self.record(self.fields, object, "")
    }

    fn record(&self, fields: &[Field], object: &Map<String, Value>, path: &str) -> Result<Vec<Cell>, Wrong> {
        let mut found: Vec<Option<&Value>> = fields.iter().map(|f| object.get(&f.name)).collect();
        if found.iter().flatten().count() < object.len() {
            for (name, value) in object {
                match fields.iter().position(|f| same_name(&f.name, name)) {
                    Some(index) => found[index] = found[index].or(Some(value)),
                    None if self.ignore_unknown => {}
                    None => {
                        let message = match self.form {
                            Form::Load => format!("No such field: {}.", joined(path, name)),
                            Form::Insert => format!("no such field: {name}."),
                        };
                        return Err(Wrong { location: joined(path, name), message });
                    }
                }
            }
        }
        let mut cells = Vec::with_capacity(fields.len());
        for (field, value) in fields.iter().zip(found) {
            cells.push(match value {
                // Only columns have defaults, nested fields have none.
                None if path.is_empty() && self.defaults.has(&field.name) => self.defaults.cell(&field.name),
                None => self.value(field, &Value::Null, path, value.is_some())?,
                Some(value) => self.value(field, value, path, true)?,
            });
        }
        Ok(cells)
    }

    fn value(&self, field: &Field, value: &Value, path: &str, given: bool) -> Result<Cell, Wrong> {
        let wrong = |message: String| Wrong { location: joined(path, &field.name), message };
        let name = || joined(path, &field.name);
        match (field.mode, value) {
            (Mode::Required, Value::Null) => Err(wrong(match (self.form, given) {
                (Form::Load, true) => {
                    format!("Only optional fields can be set to NULL. Field: {}; Value: NULL", name())
                }
                _ => format!("Missing required field: {}.", name()),
            })),
            (Mode::Repeated, Value::Null) if !given => Ok(Cell::List(Vec::new())),
            (Mode::Repeated, Value::Null) => Err(wrong(match self.form {
                Form::Load => {
                    format!("Only optional fields can be set to NULL. Field: {}; Value: NULL", name())
                }
                Form::Insert => format!("Field value of {} cannot be empty.", name()),
            })),
            (Mode::Repeated, Value::Array(items)) => {
                let mut cells = Vec::with_capacity(items.len());
                for item in items {
                    cells.push(match item {
                        Value::Null => {
                            return Err(wrong(format!(
                                "Only optional fields can be set to NULL. Field: {}; Value: NULL",
                                name()
                            )));
                        }
                        // An array in an array is a value of JSON's own.
                        Value::Array(_) if field.kind != Kind::Json => {
                            return Err(wrong(format!("Nested arrays not allowed. Field: {}.", name())));
                        }
                        item => self.one(field, item, path)?,
                    });
                }
                Ok(Cell::List(cells))
            }
            (Mode::Repeated, _) => {
                Err(wrong(format!("Repeated field must be imported as a JSON array. Field: {}.", name())))
            }
            (_, Value::Null) => Ok(Cell::Null),
            (_, Value::Array(_)) if field.kind != Kind::Json => {
                Err(wrong(format!("Array specified for non-repeated field: {}.", name())))
            }
            _ => self.one(field, value, path),
        }
    }

    fn one(&self, field: &Field, value: &Value, path: &str) -> Result<Cell, Wrong> {
        let location = || joined(path, &field.name);
        match (field.kind, value) {
            (Kind::Record, Value::Object(object)) => {
                self.record(&field.fields, object, &location()).map(Cell::Record)
            }
            (Kind::Record, other) => Err(Wrong {
                message: scalar::bad_value(Kind::Record, &shown(other), &location(), self.form),
                location: location(),
            }),
            (Kind::Json | Kind::Range(_), _) => scalar::from_json(field, value, self.form)
                .map_err(|e| Wrong { message: e.message(&location(), self.form), location: location() }),
            (_, Value::Object(_)) => Err(Wrong {
                message: format!("This field: {} is not a record.", field.name),
                location: location(),
            }),
            _ => scalar::from_json(field, value, self.form)
                .map_err(|e| Wrong { message: e.message(&location(), self.form), location: location() }),
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A value in a message, at most so long.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().take(100).collect()
}
