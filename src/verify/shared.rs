//! Partitions that several windows have brought rows to: held against the sum of them, once.

use std::collections::BTreeMap;

use super::Against;
use super::report::{Mismatch, Report};
use super::warehouse::{sums_differ, table_of};
use crate::error::Result;
use crate::holdings::Load;
use crate::partition::{Partition, Window};
use crate::stage::audit::Audit;

/// What was found on the way through the windows.
#[derive(Debug, Default)]
pub(super) struct Shared(BTreeMap<(String, Partition), Together>);

#[derive(Debug)]
struct Together {
    /// The last one that was proven, for messages.
    run: String,
    window: Window,
    /// By the journal.
    rows: u64,
    /// Loads whose files were not read, and whose sums are unknown.
    unread: usize,
    audit: Audit,
}

impl Shared {
    /// Adds one window's part of a partition that has `loads`.
    pub(super) fn add(
        &mut self,
        (run, window): (&str, Window),
        (table, partition): (&str, Partition),
        loads: &[Load],
        audit: Option<&Audit>,
    ) {
        let together = self.0.entry((table.to_owned(), partition)).or_insert_with(|| Together {
            run: String::new(),
            window,
            rows: loads.iter().map(|load| load.rows).sum(),
            unread: loads.iter().filter(|load| load.rows > 0).count(),
            audit: Audit::default(),
        });
        (together.run, together.window) = (run.to_owned(), window);
        if audit.is_some_and(|audit| together.audit.add_audit(audit)) {
            together.unread = together.unread.saturating_sub(1);
        }
    }

    /// Asks the warehouse about all of them.
    pub(super) async fn prove(self, against: Against<'_>, report: &mut Report) -> Result<()> {
        let Some(bigquery) = against.bigquery else { return Ok(()) };
        for ((table, partition), together) in self.0 {
            let table = table_of(&table)?;
            report.checked.partitions += 1;
            let found = bigquery.table(&table.partition(partition)).await?.map_or(0, |table| table.rows);
            let mut differs = |what: &str, expected: String, found: String| {
                report.mismatches.push(Mismatch {
                    run: together.run.clone(),
                    window: together.window,
                    partition: Some(partition),
                    file: None,
                    what: what.to_owned(),
                    expected,
                    found,
                });
            };
            if found != together.rows {
                differs("rows in BigQuery, of all windows", together.rows.to_string(), found.to_string());
            } else if together.unread == 0 && together.rows > 0 {
                for (what, expected, found) in
                    sums_differ(bigquery, &table, partition, &together.audit).await?
                {
                    differs(&what, expected.to_string(), found.to_string());
                }
            }
        }
        Ok(())
    }
}
