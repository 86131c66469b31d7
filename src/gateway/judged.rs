//! The columns by which the bodies in a spool were judged, for whoever loads them later.
//!
//! A body is kept as it came, and read again when it is loaded. With other columns it would say something else:
//! of a column that has got another name it would have no value, and nobody would be told.

use std::collections::HashMap;

use super::letter::{Head, Letter};
use super::spool::{Disk, DiskFile, Folder};
use crate::error::{Error, Kind, Result};
use crate::schema::{Column, Columns};
use crate::stage::journal::sha256_hex;

/// All columns that a spool's bodies may have been judged by, each set in a file of its own.
#[derive(Debug)]
pub(super) struct JudgedBy {
    pipeline: String,
    now: Columns,
    id: String,
    earlier: HashMap<String, Vec<Column>>,
}

/// Hexadecimal digits of an id.
const ID_LENGTH: usize = 16;

impl JudgedBy {
    /// Those that `disk` has, with `now` among them before any body is.
    pub(super) fn open(disk: &Folder, pipeline: &str, now: &Columns) -> Result<JudgedBy> {
        let cannot = |e| {
            Error::failed("cannot keep the spool's columns")
                .caused_by(e)
                .hint("free some space on its disk, or look after it")
        };
        let bytes = serde_json::to_vec(now)
            .map_err(|e| Error::failed("cannot write the pipeline's columns").caused_by(e))?;
        let id = sha256_hex(&bytes)[..ID_LENGTH].to_owned();
        let mut earlier = HashMap::new();
        for name in disk.list().map_err(cannot)? {
            let Some(id) = name.strip_suffix(".json") else { continue };
            // What cannot be read is of no body, or missing for it.
            if let Ok(bytes) = disk.read(&name)
                && let Ok(columns) = serde_json::from_slice(&bytes)
            {
                earlier.insert(id.to_owned(), columns);
            }
        }
        if !earlier.contains_key(&id) {
            let (draft, name) = (format!("{id}.new"), format!("{id}.json"));
            let write = || {
                let _ = disk.remove(&draft);
                let mut file = disk.create(&draft)?;
                file.append(&bytes)?;
                file.sync()?;
                disk.rename(&draft, &name)
            };
            write().map_err(cannot)?;
        }
        // A kill may have come before the name was durable.
        disk.sync_folder().map_err(cannot)?;
        Ok(JudgedBy { pipeline: pipeline.to_owned(), now: now.clone(), id, earlier })
    }

    /// Of the columns that count now.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// An error, unless the rows of a body say now what they said to whoever judged it.
    pub(super) fn check(&self, letter: &Letter) -> Result<()> {
        self.check_columns(&letter.head)?;
        if letter.head.columns.as_ref() != Some(&self.id) {
            // A column that is new, or REQUIRED now, may not fit.
            letter.each_batch(&self.now, |_| Ok(()))?;
        }
        Ok(())
    }

    fn check_columns(&self, head: &Head) -> Result<()> {
        if head.pipeline != self.pipeline {
            let Head { pipeline, .. } = head;
            return Err(Error::usage(format!("the spool has rows of the pipeline `{pipeline}`"))
                .hint(format!("give `{}` a spool of its own by `--spool`", self.pipeline)));
        }
        let Some(id) = head.columns.as_ref().filter(|id| **id != self.id) else { return Ok(()) };
        let unknown = || {
            let message =
                format!("the spool has rows of columns `{id}`, which its folder `columns` does not have");
            Error::new(Kind::Damaged, message).hint(format!("restore `columns/{id}.json` from a backup"))
        };
        for column in self.earlier.get(id).ok_or_else(unknown)? {
            let is_same = |now: &&Column| {
                (&now.name, now.kind, now.path()) == (&column.name, column.kind, column.path())
            };
            if !self.now.iter().any(|now| is_same(&now)) {
                let Column { name, kind, .. } = column;
                let message = format!(
                    "the spool has rows with a column `{name}` {} from `{}`, and the pipeline has not",
                    kind.name(),
                    column.path()
                );
                return Err(Error::usage(message).hint(format!(
                    "start the gateway with the columns it had, until its spool is empty: `columns/{id}.json` has them"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ColumnType, Mode};

    fn columns(given: &[(&str, ColumnType, Option<&str>)]) -> Columns {
        let column = |(name, kind, path): &(&str, ColumnType, Option<&str>)| Column {
            name: (*name).to_owned(),
            kind: *kind,
            mode: Mode::Nullable,
            path: path.map(str::to_owned),
        };
        Columns::new(given.iter().map(column).collect()).unwrap()
    }

    #[test]
    fn rows_of_columns_that_are_gone_changed_or_of_another_pipeline_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Folder::open(dir.path()).unwrap();
        let (text, number) = (ColumnType::String, ColumnType::Numeric);
        let open = |pipeline: &str, now: &Columns| JudgedBy::open(&disk, pipeline, now).unwrap();
        let before = columns(&[("a", text, None), ("n", number, Some("x"))]);
        let id = open("orders", &before).id().to_owned();
        let head = serde_json::json!({
            "id": "", "pipeline": "orders", "unix_ms": 0, "user": "", "is_lines": false, "accepted": 1,
            "columns": id,
        });
        let body = br#"{"a":"x","x":7,"new":"many"}"#.to_vec();
        let letter = Letter { head: serde_json::from_value(head).unwrap(), body };
        let said = |pipeline: &str, now: &Columns| {
            open(pipeline, now).check(&letter).map_err(|error| error.to_string())
        };
        assert_eq!(said("orders", &before), Ok(()));
        let more = columns(&[("n", number, Some("x")), ("new", text, None), ("a", text, None)]);
        assert_eq!(said("orders", &more), Ok(()), "order does not matter, nor what is new");
        for wrong in [
            columns(&[("a", text, None), ("amount", number, Some("x"))]),
            columns(&[("a", text, None), ("n", number, None)]),
            columns(&[("a", text, None), ("n", text, Some("x"))]),
        ] {
            let said = said("orders", &wrong).unwrap_err();
            assert!(said.contains("a column `n` NUMERIC from `x`"), "{said}");
        }
        let unfit = columns(&[("a", text, None), ("n", number, Some("x")), ("new", number, None)]);
        assert!(said("orders", &unfit).unwrap_err().contains("0 of them fit the columns now"));
        assert!(said("inventory", &before).unwrap_err().contains("rows of the pipeline `orders`"));
        std::fs::remove_file(dir.path().join(format!("{id}.json"))).unwrap();
        assert_eq!(open("orders", &more).check(&letter).unwrap_err().kind(), Kind::Damaged);
    }
}
