//! INFORMATION_SCHEMA: the catalog as tables, made when a query asks, without touching data files.

mod ddl;
mod listings;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::MemTable;

use super::rewrite::Rewriter;
use crate::emulator::catalog::{Dataset, DatasetDocument};
use crate::emulator::fields::timestamp_type;
use crate::emulator::names::{DatasetId, ProjectId};
use crate::emulator::wire::{Failure, Outcome};

/// A value of a listing.
#[derive(Debug, Clone)]
enum Cell {
    Text(Option<String>),
    Number(Option<i64>),
    /// Milliseconds since 1970.
    Time(Option<i64>),
}

impl Cell {
    fn text(text: impl Into<String>) -> Cell {
        Cell::Text(Some(text.into()))
    }

    fn yes(yes: bool) -> Cell {
        Cell::text(if yes { "YES" } else { "NO" })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    String,
    Int64,
    Timestamp,
}

/// The columns of a view of INFORMATION_SCHEMA, in BigQuery's order.
type Columns = &'static [(&'static str, Type)];

/// Whose tables are listed.
struct Place {
    datasets: Vec<(Arc<Dataset>, DatasetDocument)>,
}

/// The name of the view, when the parts of a table's name lead into INFORMATION_SCHEMA.
pub(super) fn is_listing(parts: &[String]) -> bool {
    parts.len() >= 2 && parts[parts.len() - 2].eq_ignore_ascii_case("INFORMATION_SCHEMA")
}

impl Rewriter<'_> {
    /// `[project.][dataset | region-x.]INFORMATION_SCHEMA.VIEW` and the names of its columns.
    pub(super) fn listing(&self, parts: &[String]) -> Outcome<(MemTable, Vec<String>)> {
        let (view, qualifier) = match parts {
            [qualifier @ .., _, view] => (view.to_uppercase(), qualifier),
            _ => return Err(Failure::invalid_query("Syntax error: a table without a name")),
        };
        let of_project = matches!(view.as_str(), "SCHEMATA" | "SCHEMATA_OPTIONS");
        let place = self.place(qualifier, of_project, &view)?;
        let (columns, rows) = listings::list(&view, &place)?
            .ok_or_else(|| Failure::unsupported_sql(format!("INFORMATION_SCHEMA.{view}")))?;
        let names = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Ok((table(columns, &rows)?, names))
    }

    fn place(&self, qualifier: &[String], of_project: bool, view: &str) -> Outcome<Place> {
        let in_region = |project: &ProjectId, region: &str| {
            let all = self.catalog.datasets(project).into_iter().map(|d| (Arc::clone(&d), d.document()));
            let datasets = all.filter(|(_, d)| d.location.eq_ignore_ascii_case(region) && !d.is_hidden());
            Place { datasets: datasets.collect() }
        };
        let region = |part: &str| {
            let part = part.to_ascii_lowercase();
            part.strip_prefix("region-").map(str::to_owned)
        };
        match qualifier {
            [] if of_project => Ok(in_region(self.project, self.location)),
            [] => match self.default_dataset {
                Some((project, id)) => self.dataset(project, id),
                None => Err(Failure::invalid_query(format!(
                    "Table \"INFORMATION_SCHEMA.{view}\" must be qualified with a dataset (e.g. dataset.table)."
                ))),
            },
            [project @ .., last] => {
                let project = match project {
                    [] => self.project.clone(),
                    parts => ProjectId::parse(&parts.join("."))?,
                };
                match region(last) {
                    Some(region) if region.eq_ignore_ascii_case(self.location) => {
                        Ok(in_region(&project, &region))
                    }
                    Some(region) => Err(Failure::not_found(format!(
                        "Not found: Table {project}:region-{region}.INFORMATION_SCHEMA.{view} was not found in \
                         location {}",
                        self.location
                    ))),
                    None if of_project => Ok(in_region(&ProjectId::parse(last)?, self.location)),
                    None => self.dataset(&project, &DatasetId::parse(last)?),
                }
            }
        }
    }

    fn dataset(&self, project: &ProjectId, id: &DatasetId) -> Outcome<Place> {
        let dataset = self.catalog.dataset(project, id)?;
        let document = dataset.document();
        if !document.location.eq_ignore_ascii_case(self.location) {
            return Err(Failure::not_found(format!(
                "Not found: Dataset {project}:{id} was not found in location {}",
                self.location
            )));
        }
        Ok(Place { datasets: vec![(dataset, document)] })
    }
}

fn table(columns: Columns, rows: &[Vec<Cell>]) -> Outcome<MemTable> {
    let failed = |e: &dyn std::fmt::Display| Failure::backend(format!("INFORMATION_SCHEMA: {e}"));
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (index, (name, kind)) in columns.iter().enumerate() {
        let cells = rows.iter().map(|row| row.get(index));
        let array: ArrayRef = match kind {
            Type::String => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
                Some(Cell::Text(text)) => text.clone(),
                _ => None,
            }))),
            Type::Int64 => Arc::new(Int64Array::from_iter(cells.map(|cell| match cell {
                Some(Cell::Number(number)) => *number,
                _ => None,
            }))),
            Type::Timestamp => {
                let micros = cells.map(|cell| match cell {
                    Some(Cell::Time(ms)) => ms.map(|ms| ms.saturating_mul(1000)),
                    _ => None,
                });
                Arc::new(TimestampMicrosecondArray::from_iter(micros).with_timezone("UTC"))
            }
        };
        let data_type = match kind {
            Type::String => DataType::Utf8,
            Type::Int64 => DataType::Int64,
            Type::Timestamp => timestamp_type(),
        };
        fields.push(Field::new(*name, data_type, true));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(|e| failed(&e))?;
    MemTable::try_new(schema, vec![vec![batch]]).map_err(|e| failed(&e))
}
