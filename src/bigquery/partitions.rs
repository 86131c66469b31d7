//! The partitions of a table, from INFORMATION_SCHEMA.

use serde_json::Value;

use super::BigQuery;
use super::address::Address;
use crate::error::Result;

impl BigQuery {
    /// `{partition_id, total_rows, total_logical_bytes, last_modified_time}` each, times in microseconds; the
    /// newest first. A query, with what that costs.
    pub async fn partitions(&self, table: &Address) -> Result<Vec<Value>> {
        let named = self.named(table);
        let project = named.project.as_deref().unwrap_or_default();
        // Neither name can hold a quote of either kind.
        let sql = format!(
            "SELECT partition_id, total_rows, total_logical_bytes, last_modified_time \
             FROM `{project}`.`{}`.INFORMATION_SCHEMA.PARTITIONS \
             WHERE table_name = '{}' ORDER BY partition_id DESC",
            named.dataset, named.table
        );
        let rows = self.query(&named.dataset, &sql).await?;
        let document = |row: Vec<Option<String>>| {
            let members = rows.columns.iter().cloned().zip(row.into_iter().map(Value::from));
            Value::Object(members.collect())
        };
        Ok(rows.rows.into_iter().map(document).collect())
    }
}
