//! Loaded partitions against BigQuery: rows as the table's metadata counts them, and sums per column as
//! a query computes them.

use std::collections::HashMap;

use super::{Proof, Superseded};
use crate::bigquery::{BigQuery, Rows, TableId};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::partition::Partition;
use crate::schema::ColumnType;
use crate::stage::audit::{Audit, ColumnSum};

/// Partitions in one query: its answer must be one page.
const PARTITIONS_AT_ONCE: usize = 50;

impl Proof<'_, '_> {
    /// Every day of a loaded window. `audits` are those of the manifest's partitions, in their order.
    pub(super) async fn warehouse(&mut self, manifest: &Manifest, audits: &[Option<Audit>]) -> Result<()> {
        let Some(bigquery) = self.against.bigquery else { return Ok(()) };
        if self.window.state().loaded.is_none() {
            return Ok(());
        }
        let table = table_of(&manifest.target.table)?;
        let mut to_sum = Vec::new();
        let (run, holdings) = (self.run, self.holdings);
        let ours = (run.id.as_str(), self.window.window);
        for partition in self.partitions_of(manifest)? {
            let target = (manifest.target.table.as_str(), partition);
            let staged = manifest.partitions.iter().position(|staged| staged.partition == partition);
            let holds = holdings.of_partition(target.0, partition);
            if !holds.iter().any(|load| (load.run.as_str(), load.window) == ours) {
                let (run, by) = (self.run.id.clone(), holds.last().map_or(String::new(), |l| l.run.clone()));
                self.report.superseded.push(Superseded { run, partition, by });
                continue;
            }
            if holds.len() > 1 {
                let audit = staged.and_then(|at| audits[at].as_ref());
                self.shared.add(ours, target, holds, audit);
                continue;
            }
            self.report.checked.partitions += 1;
            let expected = staged.map_or(0, |at| manifest.partitions[at].rows);
            let found = bigquery.table(&table.partition(partition)).await?;
            if found.is_none() && bigquery.table(&table).await?.is_none() {
                self.no_table(&table);
                return Ok(());
            }
            let found = found.map_or(0, |table| table.rows);
            let agrees = self.same((Some(partition), None), "rows in BigQuery", expected, found);
            // Sums of other rows than those that were staged would only say the same again, worse.
            if let Some(audit) = staged.and_then(|at| audits[at].as_ref()).filter(|_| agrees && expected > 0)
            {
                to_sum.push((partition, audit));
            }
        }
        for together in to_sum.chunks(PARTITIONS_AT_ONCE) {
            self.sums(bigquery, &table, together).await?;
        }
        Ok(())
    }

    /// All days of a window that replaced them; those with rows of one that appended.
    fn partitions_of(&self, manifest: &Manifest) -> Result<Vec<Partition>> {
        if manifest.target.appends() {
            return Ok(manifest.partitions.iter().map(|staged| staged.partition).collect());
        }
        let (first, last) = self.window.window.days();
        (first..=last).map(|day| Partition::of_day(self.against.pipeline.epoch, day)).collect()
    }

    /// Said once: each of its partitions would only say the same again.
    fn no_table(&mut self, table: &TableId) {
        let what = format!("table `{table}`");
        if !self.report.mismatches.iter().any(|mismatch| mismatch.what == what) {
            self.differs((None, None), &what, "a table", "none");
        }
    }

    async fn sums(
        &mut self,
        bigquery: &BigQuery,
        table: &TableId,
        together: &[(Partition, &Audit)],
    ) -> Result<()> {
        // Files of one window have the same columns, and `Audit` has seen to it for each partition.
        let Some((_, first)) = together.first() else { return Ok(()) };
        let answer = bigquery.query(&table.dataset, &sql(table, &first.columns, together)).await?;
        let found = by_partition(&answer)?;
        for (partition, audit) in together {
            for (what, expected, found) in differing(audit, found.get(partition)) {
                self.differs((Some(*partition), None), &what, expected, found);
            }
        }
        Ok(())
    }
}

/// What differs of one partition's rows and sums: what, expected, found.
pub(super) async fn sums_differ(
    bigquery: &BigQuery,
    table: &TableId,
    partition: Partition,
    audit: &Audit,
) -> Result<Vec<(String, i128, i128)>> {
    let answer = bigquery.query(&table.dataset, &sql(table, &audit.columns, &[(partition, audit)])).await?;
    Ok(differing(audit, by_partition(&answer)?.get(&partition)))
}

fn differing(audit: &Audit, found: Option<&Vec<i128>>) -> Vec<(String, i128, i128)> {
    let Some(found) = found else {
        return vec![("rows in a query".to_owned(), i128::from(audit.rows), 0)];
    };
    let mut found = found.iter().copied();
    let mut next = || found.next().unwrap_or_default();
    let mut compared = vec![("rows in a query".to_owned(), i128::from(audit.rows), next())];
    for column in &audit.columns {
        compared.push((format!("values in column `{}`", column.name), i128::from(column.values), next()));
        if let Some(sum) = column.sum {
            compared.push((format!("sum of column `{}`", column.name), sum, next()));
        }
    }
    compared.into_iter().filter(|(_, expected, found)| expected != found).collect()
}

/// Day, rows, and for each column the values that are not NULL and the sum that [`ColumnSum`] has.
fn sql(table: &TableId, columns: &[ColumnSum], together: &[(Partition, &Audit)]) -> String {
    let mut selected =
        vec!["DATE(_PARTITIONTIME) AS partition_day".to_owned(), "COUNT(*) AS num_rows".to_owned()];
    for (number, column) in columns.iter().enumerate() {
        let name = format!("`{}`", column.name);
        selected.push(format!("COUNT({name}) AS values_{number}"));
        // As NUMERIC: the sum of a day's numbers need not be an INT64.
        let sum = match column.kind {
            ColumnType::Int64 => format!("SUM(CAST({name} AS NUMERIC))"),
            ColumnType::String => format!("SUM(LENGTH({name}))"),
            ColumnType::Bool => format!("COUNTIF({name})"),
            ColumnType::Timestamp => format!("SUM(CAST(UNIX_MICROS({name}) AS NUMERIC))"),
            ColumnType::Date => format!("SUM(UNIX_DATE({name}))"),
            ColumnType::Float64 | ColumnType::Numeric => continue,
        };
        selected.push(format!("{sum} AS sum_{number}"));
    }
    let days: Vec<_> =
        together.iter().map(|(p, _)| format!("TIMESTAMP '{} 00:00:00 UTC'", p.date())).collect();
    format!(
        "SELECT {} FROM `{}` WHERE _PARTITIONTIME IN ({}) GROUP BY partition_day",
        selected.join(", "),
        table.table,
        days.join(", ")
    )
}

/// The numbers of each row behind its day. A sum of nothing but NULL is 0 here.
fn by_partition(answer: &Rows) -> Result<HashMap<Partition, Vec<i128>>> {
    let wrong = || Error::failed("BigQuery's answer to a query for sums is not one");
    let mut found = HashMap::new();
    for row in &answer.rows {
        let (day, numbers) = row.split_first().ok_or_else(wrong)?;
        let day = day.as_deref().and_then(|day| day.parse().ok()).ok_or_else(wrong)?;
        let number =
            |cell: &Option<String>| cell.as_deref().map_or(Ok(0), |n| n.parse().map_err(|_| wrong()));
        let numbers: Vec<i128> = numbers.iter().map(number).collect::<Result<_>>()?;
        if numbers.is_empty() {
            return Err(wrong());
        }
        found.insert(Partition::from_date(day), numbers);
    }
    Ok(found)
}

/// The table that an intent names as `project.dataset.table`; a project may have dots of its own.
pub(super) fn table_of(target: &str) -> Result<TableId> {
    let mut parts = target.rsplitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(table), Some(dataset), Some(project)) => Ok(TableId::new(project, dataset, table)),
        _ => Err(Error::failed(format!("the journal names `{target}` as a table"))),
    }
}
