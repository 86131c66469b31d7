//! Aligned columns for people, a page at a time.

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Rows;
use super::value::{columns, is_number};

/// Rows that are held to find out how wide their columns are.
const PAGE_ROWS: usize = 500;
/// A longer cell is cut; the other formats have it whole.
const CELL_WIDTH_MAX: usize = 100;

pub(super) struct Table {
    out: Box<dyn Write + Send>,
    header: Vec<String>,
    is_number: Vec<bool>,
    page: Vec<Vec<String>>,
    /// Of the pages before; they only grow.
    widths: Vec<usize>,
    has_header: bool,
}

impl Table {
    pub(super) fn new(schema: &SchemaRef, out: Box<dyn Write + Send>) -> Self {
        let fields = schema.fields().iter();
        Table {
            out,
            header: fields.clone().map(|field| shown(field.name())).collect(),
            is_number: fields.map(|field| is_number(field.data_type())).collect(),
            page: Vec::new(),
            widths: vec![0; schema.fields().len()],
            has_header: false,
        }
    }

    fn end_page(&mut self) -> io::Result<()> {
        let mut widths = self.widths.clone();
        for row in std::iter::once(&self.header).chain(&self.page) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        let mut text = String::new();
        // Columns that grow move away from under their header, so it is written again.
        if !self.has_header || widths != self.widths {
            if self.has_header {
                text.push('\n');
            }
            self.has_header = true;
            self.widths = widths;
            self.push_line(&mut text, &self.header);
            let rules: Vec<_> = self.widths.iter().map(|width| "─".repeat(*width)).collect();
            self.push_line(&mut text, &rules);
        }
        for row in &self.page {
            self.push_line(&mut text, row);
        }
        self.page.clear();
        self.out.write_all(text.as_bytes())
    }

    fn push_line(&self, text: &mut String, cells: &[String]) {
        let mut blanks = 0;
        for (index, cell) in cells.iter().enumerate() {
            let padding = self.widths[index] - cell.width();
            if index > 0 {
                blanks += 2;
            }
            if self.is_number[index] {
                blanks += padding;
            }
            // Blanks are written before something, so that no line ends with them.
            text.extend(std::iter::repeat_n(' ', blanks));
            text.push_str(cell);
            blanks = if self.is_number[index] { 0 } else { padding };
        }
        text.push('\n');
    }
}

impl Rows for Table {
    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let columns = columns(batch)?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            let cell = |(_, column): &(String, super::value::Column<'_>)| {
                if column.is_null(row) {
                    return "NULL".to_owned();
                }
                text.clear();
                column.push_text(&mut text, row);
                shown(&text)
            };
            let cells = columns.iter().map(cell).collect();
            self.page.push(cells);
            if self.page.len() >= PAGE_ROWS {
                self.end_page()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.page.is_empty() || !self.has_header {
            self.end_page()?;
        }
        self.out.flush()
    }
}

/// On one line, without what would move a terminal's cursor or colour it, and not too long.
fn shown(cell: &str) -> String {
    let (mut text, mut width) = (String::new(), 0);
    for c in cell.chars() {
        let escaped = c.is_control().then(|| c.escape_default().to_string());
        let wide = escaped.as_ref().map_or(c.width().unwrap_or(0), String::len);
        if width + wide > CELL_WIDTH_MAX {
            text.push('…');
            break;
        }
        width += wide;
        match escaped {
            Some(escaped) => text.push_str(&escaped),
            None => text.push(c),
        }
    }
    text
}
