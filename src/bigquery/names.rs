//! Names of tables and ids of jobs.

use std::fmt;

use crate::partition::Partition;

/// `project.dataset.table`, and the partition behind a `$`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableId {
    pub project: String,
    pub dataset: String,
    pub table: String,
    pub partition: Option<Partition>,
}

impl TableId {
    pub fn new(project: &str, dataset: &str, table: &str) -> Self {
        TableId { project: project.into(), dataset: dataset.into(), table: table.into(), partition: None }
    }

    /// The same table, one partition of it.
    pub fn partition(&self, partition: Partition) -> Self {
        TableId { partition: Some(partition), ..self.clone() }
    }

    /// `table`, or `table$YYYYMMDD`.
    pub fn decorated(&self) -> String {
        match self.partition {
            Some(partition) => format!("{}${partition}", self.table),
            None => self.table.clone(),
        }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.project, self.dataset, self.decorated())
    }
}

/// `api2bq_<pipeline>_<dataset>_<table>_<partition>_g<generation>_<20 hex of the logical hash>`.
///
/// The generation makes a failed id replaceable; the hash keeps different content apart. Whatever a
/// damaged journal says, this is an id: the service then answers, and nothing panics.
pub fn load_job_id(
    pipeline: &str,
    table: &TableId,
    partition: Partition,
    generation: u32,
    logical_hash: &str,
) -> String {
    // Job ids take letters, digits, `_` and `-`; project and dataset keep equal tables apart.
    let safe = |name: &str, length_max: usize| -> String {
        name.chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
            .take(length_max)
            .collect()
    };
    format!(
        "api2bq_{}_{}_{}_{partition}_g{generation}_{}",
        safe(pipeline, 100),
        safe(&table.dataset, 200),
        safe(&table.table, 200),
        safe(logical_hash, 20)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_ids_whatever_the_journal_says() {
        let date = chrono::NaiveDate::from_ymd_opt(2011, 1, 1).expect("a date");
        let table = TableId::new("api2gbq", "LANL", "my ünï flows");
        let id = |hash: &str| load_job_id("flows", &table, Partition::from_date(date), 3, hash);
        assert_eq!(
            id("0123456789abcdef0123456789abcdef"),
            "api2bq_flows_LANL_my--n--flows_20110101_g3_0123456789abcdef0123"
        );
        // A slice of the first 20 bytes once panicked here: one entry stopped the whole run.
        assert_eq!(id("é"), "api2bq_flows_LANL_my--n--flows_20110101_g3_-");
    }
}
