//! What there is to ask: tables, their columns, and functions.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::summary::quoted;
use super::{Explorer, REJECTS, RUNS, WINDOWS};
use crate::engine::type_name;
use crate::error::{Error, Result};

impl Explorer {
    /// The tables that are here without a file being named, a row each.
    pub fn tables(&self) -> Result<RecordBatch> {
        let names = self.names();
        let holds = |name: &String| match name.as_str() {
            RUNS => "the journal: a row for each run",
            WINDOWS => "the journal: a row for each window of any run",
            name if name.ends_with(REJECTS) => "rejected records, as far as they are kept",
            _ => "staged rows, with their day",
        };
        let holds = names.iter().map(|name| holds(name).to_owned()).collect();
        table([("table", names), ("holds", holds)])
    }

    /// The columns of a table or file, a row each.
    pub async fn describe(&self, table_name: &str) -> Result<RecordBatch> {
        let schema = self.schema_of(table_name).await?;
        let names = schema.fields().iter().map(|field| field.name().clone()).collect();
        let types = schema.fields().iter().map(|field| type_name(field.data_type())).collect();
        table([("column", names), ("type", types)])
    }

    /// The columns of a table or file, which is opened for them.
    pub async fn schema_of(&self, table: &str) -> Result<SchemaRef> {
        Ok(self.plan(&format!("SELECT * FROM {}", quoted(table)), Some(0)).await?.schema())
    }

    pub fn functions(&self) -> Vec<String> {
        self.sql.functions()
    }
}

fn table(columns: [(&str, Vec<String>); 2]) -> Result<RecordBatch> {
    let columns = columns.map(|(name, texts)| (name, Arc::new(StringArray::from(texts)) as ArrayRef, false));
    RecordBatch::try_from_iter_with_nullable(columns)
        .map_err(|e| Error::failed("cannot list what there is").caused_by(e))
}
