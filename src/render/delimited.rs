//! A line a row: CSV, TSV and Markdown, which differ in what parts cells and what has to be escaped.

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::Rows;
use super::value::{columns, is_number};

pub(super) struct Delimited {
    out: Box<dyn Write + Send>,
    schema: SchemaRef,
    style: Style,
}

struct Style {
    before: &'static str,
    between: &'static str,
    after: &'static str,
    null: &'static str,
    /// Writes a text that is not NULL.
    push: fn(&mut String, &str),
    /// Under the header a line that says which columns are numbers.
    has_rule: bool,
}

impl Delimited {
    pub(super) fn csv(schema: &SchemaRef, out: Box<dyn Write + Send>) -> Self {
        let style =
            Style { before: "", between: ",", after: "\n", null: "", push: push_csv, has_rule: false };
        Delimited { out, schema: schema.clone(), style }
    }

    pub(super) fn tsv(schema: &SchemaRef, out: Box<dyn Write + Send>) -> Self {
        let style =
            Style { before: "", between: "\t", after: "\n", null: r"\N", push: push_tsv, has_rule: false };
        Delimited { out, schema: schema.clone(), style }
    }

    pub(super) fn markdown(schema: &SchemaRef, out: Box<dyn Write + Send>) -> Self {
        let style = Style {
            before: "| ",
            between: " | ",
            after: " |\n",
            null: "NULL",
            push: push_markdown,
            has_rule: true,
        };
        Delimited { out, schema: schema.clone(), style }
    }
}

impl Rows for Delimited {
    fn start(&mut self) -> io::Result<()> {
        let style = &self.style;
        let mut header = String::from(style.before);
        for (index, field) in self.schema.fields().iter().enumerate() {
            if index > 0 {
                header.push_str(style.between);
            }
            (style.push)(&mut header, field.name());
        }
        header.push_str(style.after);
        if style.has_rule {
            let fields = self.schema.fields().iter();
            let rules = fields.map(|f| if is_number(f.data_type()) { "---:" } else { "---" });
            header += &format!("| {} |\n", rules.collect::<Vec<_>>().join(" | "));
        }
        self.out.write_all(header.as_bytes())
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let columns = columns(batch)?;
        let style = &self.style;
        let (mut line, mut cell) = (String::new(), String::new());
        for row in 0..batch.num_rows() {
            line.clear();
            line.push_str(style.before);
            for (index, (_, column)) in columns.iter().enumerate() {
                if index > 0 {
                    line.push_str(style.between);
                }
                if column.is_null(row) {
                    line.push_str(style.null);
                } else {
                    cell.clear();
                    column.push_text(&mut cell, row);
                    (style.push)(&mut line, &cell);
                }
            }
            line.push_str(style.after);
            self.out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn push_csv(line: &mut String, cell: &str) {
    // An empty text is not NULL, which is nothing at all.
    if !cell.is_empty() && !cell.contains(['"', ',', '\n', '\r']) {
        line.push_str(cell);
        return;
    }
    line.push('"');
    line.push_str(&cell.replace('"', "\"\""));
    line.push('"');
}

fn push_tsv(line: &mut String, cell: &str) {
    for c in cell.chars() {
        match c {
            '\t' => line.push_str(r"\t"),
            '\n' => line.push_str(r"\n"),
            '\r' => line.push_str(r"\r"),
            '\\' => line.push_str(r"\\"),
            c => line.push(c),
        }
    }
}

fn push_markdown(line: &mut String, cell: &str) {
    for c in cell.chars() {
        match c {
            '|' => line.push_str(r"\|"),
            '\\' => line.push_str(r"\\"),
            '\n' => line.push_str("<br>"),
            '\r' => {}
            // What would move a terminal's cursor or colour it.
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
}
