//! What the names in a statement of a script stand for, besides columns and tables of the catalog.

use std::collections::BTreeMap;

use crate::emulator::names::TableName;

#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// What CREATE TEMP TABLE made, by name.
    pub temporary: BTreeMap<String, TableName>,
}
