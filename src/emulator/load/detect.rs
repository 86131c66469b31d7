//! Schema autodetection: the columns and types of the first 500 rows, by BigQuery's rules.

use serde_json::{Map, Value};

use crate::emulator::coerce::from_text_as;
use crate::emulator::fields::{self, Field, Kind, Limits, Mode};
use crate::emulator::files::same_name;
use crate::emulator::wire::Outcome;

pub(super) const SAMPLE_ROWS: usize = 500;

/// What was seen of one value or column.
#[derive(Debug, Default)]
pub(super) struct Guess {
    /// `None` as long as there were only NULLs.
    kind: Option<Kind>,
    repeated: bool,
    children: Vec<(String, Guess)>,
}

impl Guess {
    /// Takes a value into account; an error when it contradicts what was seen before.
    pub(super) fn add(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Null => Ok(()),
            Value::Array(items) => {
                if self.kind.is_some() && !self.repeated {
                    return Err("Array specified for non-repeated field.".to_owned());
                }
                self.repeated = true;
                items.iter().try_for_each(|item| match item {
                    Value::Array(_) => Err("Nested arrays not allowed.".to_owned()),
                    item => self.add_one(item),
                })
            }
            _ if self.repeated => Err("Repeated field must be imported as a JSON array.".to_owned()),
            value => self.add_one(value),
        }
    }

    fn add_one(&mut self, value: &Value) -> Result<(), String> {
        let kind = match value {
            Value::Null | Value::Array(_) => return Ok(()),
            Value::Bool(_) => Kind::Bool,
            Value::Number(number) if number.is_f64() => Kind::Float64,
            Value::Number(number) if number.as_i64().is_none() => Kind::Float64,
            Value::Number(_) => Kind::Int64,
            Value::String(text) => kind_of_text(text),
            Value::Object(_) => Kind::Record,
        };
        self.kind = Some(match self.kind {
            None => kind,
            Some(before) => common(before, kind).ok_or("Conflicting types: a record and a scalar.")?,
        });
        let Value::Object(object) = value else { return Ok(()) };
        for (name, value) in object {
            let index = match self.children.iter().position(|(n, _)| same_name(n, name)) {
                Some(index) => index,
                None => {
                    self.children.push((name.clone(), Guess::default()));
                    self.children.len() - 1
                }
            };
            self.children[index].1.add(value).map_err(|e| format!("{e} Field: {name}."))?;
        }
        Ok(())
    }

    /// The kinds of the columns of a guess about rows.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Option<Kind>> + '_ {
        self.children.iter().map(|(_, guess)| guess.kind)
    }

    /// The columns; one that only held NULL is what the table has it as, or a STRING.
    pub(super) fn fields(&self, known: &[Field]) -> Outcome<Vec<Field>> {
        let mut fields = Vec::with_capacity(self.children.len());
        for (name, guess) in &self.children {
            fields::check_name(name)?;
            let existing = known.iter().find(|f| same_name(&f.name, name));
            if let (None, Some(existing)) = (guess.kind, existing) {
                fields.push(existing.clone());
                continue;
            }
            let below = existing.map_or(&[][..], |f| f.fields.as_slice());
            let mut children = guess.fields(below)?;
            let mut kind = guess.kind.unwrap_or(Kind::String);
            if kind == Kind::Record && children.is_empty() {
                // BigQuery has no RECORD without fields.
                (kind, children) = (Kind::String, Vec::new());
            }
            let mode = if guess.repeated { Mode::Repeated } else { Mode::Nullable };
            fields.push(Field { name: name.clone(), kind, mode, fields: children, rest: Map::new() });
        }
        Ok(fields)
    }
}

fn common(a: Kind, b: Kind) -> Option<Kind> {
    Some(match (a, b) {
        _ if a == b => a,
        (Kind::Record, _) | (_, Kind::Record) => return None,
        (Kind::Int64 | Kind::Float64, Kind::Int64 | Kind::Float64) => Kind::Float64,
        (Kind::Date | Kind::Timestamp, Kind::Date | Kind::Timestamp) => Kind::Timestamp,
        _ => Kind::String,
    })
}

/// The narrowest of the kinds that autodetection knows.
pub(super) fn kind_of_text(text: &str) -> Kind {
    let trimmed = text.trim();
    let fits = |kind: Kind| from_text_as(kind, &Limits::default(), trimmed).is_ok();
    let digit = trimmed.bytes().any(|b| b.is_ascii_digit());
    match trimmed {
        _ if trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false") => Kind::Bool,
        _ if digit && fits(Kind::Int64) => Kind::Int64,
        _ if digit && fits(Kind::Float64) => Kind::Float64,
        _ if !digit => Kind::String,
        _ if trimmed.len() == 10 && fits(Kind::Date) => Kind::Date,
        _ if trimmed.contains(':') && !trimmed.contains(['-', '/']) && fits(Kind::Time) => Kind::Time,
        _ if trimmed.len() > 10 && fits(Kind::Timestamp) => Kind::Timestamp,
        _ => Kind::String,
    }
}
