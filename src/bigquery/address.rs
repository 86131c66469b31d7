//! What a user types for a table: `p:d.t`, `p.d.t` or `d.t`, and what BigQuery takes behind it.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;

use super::names::TableId;
use crate::error::{Error, Result};

/// By Unicode category, as the documentation of tables says: L, M, N, Pc, Pd or Zs.
static TABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[\p{L}\p{M}\p{N}\p{Pc}\p{Pd}\p{Zs}]+\z").expect("a constant"));
static DATASET: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A[A-Za-z0-9_]+\z").expect("a constant"));
static PROJECT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[A-Za-z0-9][A-Za-z0-9.:_-]*\z").expect("a constant"));
/// `$20240131`, `$2024013123`, `$202401`, `$2024`, `$-5`, `$__NULL__`, `$__UNPARTITIONED__`.
static PARTITION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A(-?[0-9]{1,19}|__[A-Z]+__)\z").expect("a constant"));
/// Milliseconds since 1970, or before now.
static INSTANT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\A-?[0-9]{1,18}\z").expect("a constant"));

/// BigQuery's limit for the names of datasets and tables, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// A table of a project that may not be named, one partition of it, or the table as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub project: Option<String>,
    pub dataset: String,
    pub table: String,
    /// What is behind the `$`.
    pub partition: Option<String>,
    /// What is behind the `@`.
    pub at: Option<String>,
}

impl Address {
    /// The whole table, in `project` where the address names none.
    pub fn id(&self, project: &str) -> TableId {
        TableId::new(self.project.as_deref().unwrap_or(project), &self.dataset, &self.table)
    }

    /// `$20240131@1704067200000`: what is behind the table's name, or nothing.
    pub fn decorator(&self) -> String {
        let part = |sign: char, part: &Option<String>| {
            part.as_ref().map_or_else(String::new, |part| format!("{sign}{part}"))
        };
        part('$', &self.partition) + &part('@', &self.at)
    }

    /// Refuses a partition or a time, for a command that works on whole tables.
    pub fn whole(self) -> Result<Address> {
        match self.decorator() {
            decorator if decorator.is_empty() => Ok(self),
            decorator => Err(Error::usage(format!("`{decorator}` behind `{}`: a whole table is needed", {
                Address { partition: None, at: None, ..self }
            }))),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address> {
        let wrong = |why: String| {
            Error::usage(format!("`{text}` is no table: {why}"))
                .hint("write `dataset.table`, `project.dataset.table` or `project:dataset.table`")
        };
        let (text_before, at) = match text.split_once('@') {
            Some((before, at)) => (before, Some(at.to_owned())),
            None => (text, None),
        };
        let (name, partition) = match text_before.split_once('$') {
            Some((name, partition)) => (name, Some(partition.to_owned())),
            None => (text_before, None),
        };
        let Some((rest, table)) = name.rsplit_once('.') else {
            return Err(wrong("it names no dataset".into()));
        };
        let (project, dataset) = match rest.rsplit_once([':', '.']) {
            Some((project, dataset)) => (Some(project.to_owned()), dataset),
            None => (None, rest),
        };
        if !TABLE.is_match(table) {
            let rule = "letters, marks, numbers, connectors, dashes and spaces";
            return Err(wrong(format!("a table's name has {rule}")));
        }
        if !DATASET.is_match(dataset) {
            return Err(wrong("a dataset's name has ASCII letters, digits and `_`".into()));
        }
        if let Some(long) = [table, dataset].into_iter().find(|name| name.len() > NAME_BYTES_MAX) {
            return Err(wrong(format!("{} bytes are more than {NAME_BYTES_MAX}", long.len())));
        }
        if let Some(project) = project.as_ref().filter(|project| !PROJECT.is_match(project)) {
            return Err(wrong(format!("`{project}` is no project")));
        }
        if let Some(partition) = partition.as_ref().filter(|partition| !PARTITION.is_match(partition)) {
            return Err(wrong(format!("`${partition}` is no partition; `$20240131` is one")));
        }
        if let Some(at) = at.as_ref().filter(|at| !INSTANT.is_match(at)) {
            return Err(wrong(format!("`@{at}` is no time in milliseconds since 1970")));
        }
        Ok(Address { project, dataset: dataset.into(), table: table.into(), partition, at })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(project) = &self.project {
            write!(f, "{project}.")?;
        }
        write!(f, "{}.{}{}", self.dataset, self.table, self.decorator())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address> {
        text.parse()
    }

    #[test]
    fn the_ways_to_write_a_table_lead_to_the_same_one() {
        for (text, id, decorator) in [
            ("d.t", "home.d.t", ""),
            ("p:d.t", "p.d.t", ""),
            ("p.d.t$20240131", "p.d.t", "$20240131"),
            ("google.com:p:d.t@1704067200000", "google.com:p.d.t", "@1704067200000"),
            ("google.com:p.d.t$__NULL__@-5", "google.com:p.d.t", "$__NULL__@-5"),
            ("p-1.d_2.Zürich 東京-x_1", "p-1.d_2.Zürich 東京-x_1", ""),
        ] {
            let address = address(text).expect(text);
            assert_eq!((address.id("home").to_string(), address.decorator()), (id.into(), decorator.into()));
        }
        let said = address("d.t$20240131").expect("a table").whole().expect_err("a partition");
        assert_eq!(said.to_string(), "`$20240131` behind `d.t`: a whole table is needed");
    }

    #[test]
    fn what_is_no_table_is_told_apart() {
        for (text, why) in [
            ("t", "names no dataset"),
            ("d.", "a table's name"),
            ("d.a/b", "a table's name"),
            ("d-1.t", "a dataset's name"),
            ("p q.d.t", "is no project"),
            ("d.t$", "is no partition"),
            ("d.t$2024-01-31", "is no partition"),
            ("d.t@yesterday", "is no time"),
        ] {
            let said = address(text).expect_err(text).to_string();
            assert!(said.contains(why), "{said}");
        }
        assert!(address(&format!("d.{}", "é".repeat(512))).is_ok());
        assert!(address(&format!("d.{}", "é".repeat(513))).is_err());
    }
}
