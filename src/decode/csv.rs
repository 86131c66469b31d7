//! Lines of comma-separated fields in column order, without header and without quotes.

use super::Options;
use super::lines::LineFormat;
use super::rows::Rows;
use crate::error::Result;
use crate::schema::Columns;

#[derive(Debug)]
pub(super) struct Line {
    fields: Vec<usize>,
    row_number: Option<usize>,
}

impl Line {
    pub(super) fn new(columns: &Columns, options: &Options) -> Result<Self> {
        let row_number =
            options.row_number_column.as_deref().map(|name| columns.index_of(name)).transpose()?;
        let fields = (0..columns.len()).filter(|i| Some(*i) != row_number).collect();
        Ok(Line { fields, row_number })
    }
}

impl LineFormat for Line {
    fn read(&mut self, line: &[u8], rows: &mut Rows) {
        let Ok(line) = std::str::from_utf8(line) else {
            return rows.spoil("invalid_utf8", None);
        };
        if line.contains('"') {
            return rows.spoil("quoted_field", None);
        }
        if let Some(column) = self.row_number {
            let number = rows.record_number().to_string();
            rows.start(column);
            rows.text(column, number.as_bytes());
        }
        let mut fields = line.split(',');
        for column in &self.fields {
            let Some(field) = fields.next() else {
                return rows.spoil("missing_field", Some(*column));
            };
            rows.start(*column);
            rows.text(*column, field.as_bytes());
        }
        if fields.next().is_some() {
            rows.spoil("too_many_fields", None);
        }
    }
}
