//! What a body held that is no error but that somebody should know: drift, attributes, a DOCTYPE.

use std::collections::HashMap;
use std::ops::Range;

use super::not_well_formed;
use crate::error::{Error, Result};
use crate::schema::Column;

/// Something seen in a body, told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `doctype_ignored`, `encoding:LABEL`, `encoding_conflict:LABEL`, `attributes_ignored`,
    /// `new_field:NAME`, `new_fields_not_listed` or `type_change:COLUMN`.
    pub what: String,
    /// The record it was first seen in, from 1; 0 for the document itself.
    pub first_record: u64,
    /// How often it was seen; of a change of type, only the first is counted.
    pub count: u64,
}

impl Notice {
    pub(super) fn of_document(what: impl Into<String>) -> Self {
        Notice { what: what.into(), first_record: 0, count: 1 }
    }

    /// What began after the first record is a change of the source; the rest is how it always was.
    pub fn is_drift(&self) -> bool {
        self.first_record > 1
    }
}

/// Fields listed by name; a source that makes up names must not fill the memory with them.
const NAMES_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 300;

/// How JSON writes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Text,
    Number,
    Bool,
}

/// Collects what records hold beside their columns.
///
/// A record that is read again, because its bytes had not all come, counts once: what it holds waits
/// until it ends.
#[derive(Debug)]
pub(super) struct Drift {
    strict: bool,
    // Of the record at hand.
    names: String,
    unknown: Vec<Range<usize>>,
    attributes: u64,
    spellings: Vec<Option<Spelling>>,
    // Of the body.
    usual_spellings: Vec<Option<Spelling>>,
    has_changed: Vec<bool>,
    fields: HashMap<String, (u64, u64)>,
    notices: [(u64, u64); 2],
    changes: Vec<Notice>,
}

const ATTRIBUTES: usize = 0;
const NOT_LISTED: usize = 1;

impl Drift {
    pub(super) fn new(columns: usize, strict: bool) -> Self {
        Drift {
            strict,
            names: String::new(),
            unknown: Vec::new(),
            attributes: 0,
            spellings: vec![None; columns],
            usual_spellings: vec![None; columns],
            has_changed: vec![false; columns],
            fields: HashMap::new(),
            notices: [(0, 0); 2],
            changes: Vec::new(),
        }
    }

    pub(super) fn begin(&mut self) {
        self.names.clear();
        self.unknown.clear();
        self.attributes = 0;
        self.spellings.fill(None);
    }

    pub(super) fn unknown(&mut self, name: &str) {
        let start = self.names.len();
        self.names.push_str(name);
        self.unknown.push(start..self.names.len());
    }

    pub(super) fn attributes(&mut self, count: u64) {
        self.attributes += count;
    }

    pub(super) fn spelling(&mut self, column: usize, spelling: Spelling) {
        self.spellings[column] = Some(spelling);
    }

    /// False where a column is spelt as it always was, or where it is known to be spelt in several ways.
    pub(super) fn is_news(&self, column: usize, spelling: Spelling) -> bool {
        match self.usual_spellings[column] {
            Some(usual) => usual != spelling && !self.has_changed[column],
            None => true,
        }
    }

    pub(super) fn is_spelt(&self, column: usize, spelling: Spelling) -> bool {
        self.spellings[column] == Some(spelling)
    }

    /// Takes the record's findings over. An error where the schema is strict and the record is not of it.
    pub(super) fn end(&mut self, columns: &[Column], number: u64, offset: u64) -> Result<()> {
        if self.attributes > 0 {
            count(&mut self.notices[ATTRIBUTES], number, self.attributes);
        }
        for range in &self.unknown {
            let name = &self.names[range.clone()];
            if self.strict {
                return Err(schema_drift(name, number, offset));
            }
            if let Some(seen) = self.fields.get_mut(name) {
                seen.1 += 1;
            } else if self.fields.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX {
                self.fields.insert(name.to_owned(), (number, 1));
            } else {
                count(&mut self.notices[NOT_LISTED], number, 1);
            }
        }
        for (column, (now, usual)) in self.spellings.iter().zip(&mut self.usual_spellings).enumerate() {
            if now.is_some() && now != usual {
                if usual.is_some() && !std::mem::replace(&mut self.has_changed[column], true) {
                    let what = format!("type_change:{}", columns[column].name);
                    self.changes.push(Notice { what, first_record: number, count: 1 });
                }
                *usual = usual.or(*now);
            }
        }
        Ok(())
    }

    /// A field that a record before this one had too, so that it is known or not listed.
    pub(super) fn unknown_again(&mut self, name: &str) {
        match self.fields.get_mut(name) {
            Some(seen) => seen.1 += 1,
            None => self.notices[NOT_LISTED].1 += 1,
        }
    }

    pub(super) fn notices(&self) -> Vec<Notice> {
        let named = [("attributes_ignored", ATTRIBUTES), ("new_fields_not_listed", NOT_LISTED)];
        let counted = named.map(|(what, index)| (what.to_owned(), self.notices[index]));
        let fields = self.fields.iter().map(|(name, seen)| (format!("new_field:{}", shortened(name)), *seen));
        let all = counted.into_iter().chain(fields).filter(|(_, (_, count))| *count > 0);
        let mut notices: Vec<Notice> =
            all.map(|(what, (first_record, count))| Notice { what, first_record, count }).collect();
        notices.extend(self.changes.iter().cloned());
        notices.sort_by(|a, b| (a.first_record, &a.what).cmp(&(b.first_record, &b.what)));
        notices
    }
}

fn count(seen: &mut (u64, u64), number: u64, more: u64) {
    if seen.1 == 0 {
        seen.0 = number;
    }
    seen.1 += more;
}

/// A name as it may stand in a log line.
fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn schema_drift(name: &str, number: u64, offset: u64) -> Error {
    let name = shortened(name);
    not_well_formed(
        "schema_drift",
        &format!("record {number} has the field `{name}`, which is no column,"),
        offset,
    )
    .hint("add the column to the pipeline, or unset `source.strict_schema`")
}
