//! Aligned columns for people, a page at a time.
//!
//! What is wider than the terminal is folded: a part of the columns below the other, some rows at a time,
//! each part with the first column before it.

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use unicode_width::UnicodeWidthStr;

use super::Rows;
use super::cell::shown;
use super::value::{columns, is_number};

/// Rows that are held to find out how wide their columns are.
const PAGE_ROWS: usize = 500;
/// A longer cell is cut; the other formats have it whole.
const CELL_WIDTH_MAX: usize = 100;
/// Of a folded table: so few that the parts of a row are on one screen.
const FOLDED_ROWS: usize = 10;

pub(super) struct Table {
    out: Box<dyn Write + Send>,
    /// Of the terminal. `None` where lines may be of any width.
    width: Option<usize>,
    header: Vec<String>,
    is_number: Vec<bool>,
    page: Vec<Vec<String>>,
    /// Of the pages before; they only grow.
    widths: Vec<usize>,
    has_header: bool,
}

impl Table {
    pub(super) fn new(schema: &SchemaRef, out: Box<dyn Write + Send>, width: Option<usize>) -> Self {
        let fields = schema.fields().iter();
        Table {
            out,
            width,
            header: fields.clone().map(|field| shown(field.name(), cell_width(width))).collect(),
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
        let has_grown = widths != self.widths;
        self.widths = widths;
        let parts = self.parts();
        // Columns that grow move away from under their header, so it is written again.
        let needs_header = parts.len() > 1 || !self.has_header || has_grown;
        let rows_at_once = if parts.len() > 1 { FOLDED_ROWS } else { PAGE_ROWS };
        let mut pieces: Vec<&[Vec<String>]> = self.page.chunks(rows_at_once).collect();
        if pieces.is_empty() {
            // A table without rows has its header all the same.
            pieces.push(&[]);
        }
        let mut text = String::new();
        for (piece, part) in pieces.iter().flat_map(|piece| parts.iter().map(move |part| (piece, part))) {
            if needs_header {
                if self.has_header || !text.is_empty() {
                    text.push('\n');
                }
                self.push_line(&mut text, &self.header, part);
                let rules: Vec<_> = self.widths.iter().map(|width| "─".repeat(*width)).collect();
                self.push_line(&mut text, &rules, part);
            }
            piece.iter().for_each(|row| self.push_line(&mut text, row, part));
        }
        self.has_header = true;
        self.page.clear();
        self.out.write_all(text.as_bytes())
    }

    /// The columns by the part of the table that they stand in.
    fn parts(&self) -> Vec<Vec<usize>> {
        let all = 0..self.widths.len();
        let Some(room) = self.width else { return vec![all.collect()] };
        let is_first_short = self.widths.first().is_some_and(|first| *first <= room / 4);
        let wide = |part: &[usize]| part.iter().map(|column| self.widths[*column] + 2).sum::<usize>();
        let (mut parts, mut part) = (Vec::new(), Vec::new());
        for column in all {
            if !part.is_empty() && wide(&part) + self.widths[column] > room {
                parts.push(std::mem::take(&mut part));
                if is_first_short && self.widths[0] + 2 + self.widths[column] <= room {
                    part = vec![0];
                }
            }
            part.push(column);
        }
        parts.push(part);
        parts
    }

    fn push_line(&self, text: &mut String, cells: &[String], part: &[usize]) {
        let mut blanks = 0;
        for (place, &column) in part.iter().enumerate() {
            let cell = &cells[column];
            let padding = self.widths[column] - cell.width();
            if place > 0 {
                blanks += 2;
            }
            if self.is_number[column] {
                blanks += padding;
            }
            // Blanks are written before something, so that no line ends with them.
            text.extend(std::iter::repeat_n(' ', blanks));
            text.push_str(cell);
            blanks = if self.is_number[column] { 0 } else { padding };
        }
        text.push('\n');
    }
}

/// A cell that is wider than the terminal would not be folded but broken.
fn cell_width(width: Option<usize>) -> usize {
    width.map_or(CELL_WIDTH_MAX, |width| CELL_WIDTH_MAX.min(width.saturating_sub(1)))
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
                shown(&text, cell_width(self.width))
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
