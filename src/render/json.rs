//! JSON: one array, or an object a line.

use std::io::{self, Write};

use arrow::record_batch::RecordBatch;

use super::value::{columns, push_object};
use super::{Rows, cannot_write};
use crate::error::Result;

/// Each row as an object whose values are texts, or null: what takes numbers of JSON for 64-bit floats
/// takes these whole.
pub fn text_objects(batch: &RecordBatch) -> Result<Vec<String>> {
    let columns = columns(batch).map_err(cannot_write)?;
    let object = |row| {
        let mut text = String::new();
        for (index, (name, column)) in columns.iter().enumerate() {
            text.push_str(if index > 0 { "," } else { "{" });
            text.push_str(name);
            text.push(':');
            column.push_json_text(&mut text, row);
        }
        text.push('}');
        text
    };
    Ok((0..batch.num_rows()).map(object).collect())
}

pub(super) struct Json {
    out: Box<dyn Write + Send>,
    is_array: bool,
    is_first: bool,
}

impl Json {
    pub(super) fn array(out: Box<dyn Write + Send>) -> Self {
        Json { out, is_array: true, is_first: true }
    }

    pub(super) fn lines(out: Box<dyn Write + Send>) -> Self {
        Json { out, is_array: false, is_first: true }
    }
}

impl Rows for Json {
    fn start(&mut self) -> io::Result<()> {
        if self.is_array { self.out.write_all(b"[") } else { Ok(()) }
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let columns = columns(batch)?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            text.clear();
            if self.is_array {
                text.push_str(if self.is_first { "\n" } else { ",\n" });
            }
            self.is_first = false;
            push_object(&mut text, &columns, row);
            if !self.is_array {
                text.push('\n');
            }
            self.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.is_array {
            self.out.write_all(if self.is_first { b"]\n" } else { b"\n]\n" })?;
        }
        self.out.flush()
    }
}
