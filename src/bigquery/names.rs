//! Names of tables and ids of jobs.

use std::fmt;

use sha2::{Digest, Sha256};

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

/// Job ids take 1,024 characters, dataset and table names as many each.
const NAME_LENGTH_MAX: usize = 200;

/// `api2bq_<pipeline>-<dataset>-<table>_<partition>_g<generation>_<20 hex of the logical hash>`; of rows that
/// are appended, the window or segment that they come from is behind the partition.
///
/// Without it, a record that comes again in a later window, alone with itself, would have the id of the
/// job that brought it first: its rows would never be appended, and counted twice.
///
/// The generation makes a failed id replaceable; the hash keeps different content apart. Different
/// tables never share an id: the second one's rows would be taken for loaded already. Whatever a
/// damaged journal says, this is an id: the service then answers, and nothing panics.
pub fn load_job_id(
    pipeline: &str,
    table: &TableId,
    partition: Partition,
    appends_from: Option<&str>,
    generation: u32,
    logical_hash: &str,
) -> String {
    let origin = appends_from.map_or_else(String::new, |origin| format!("_{origin}"));
    format!(
        "api2bq_{}-{}-{}_{partition}{origin}_g{generation}_{}",
        distinct(pipeline),
        distinct(&table.dataset),
        distinct(&table.table),
        logical_hash.chars().map(letter).take(20).collect::<String>()
    )
}

/// A name as a part of a job id, which takes letters, digits, `_` and `-`.
///
/// One with anything but letters, digits and `_` has its hash behind it, since what is put in the
/// place of a letter may stand in another name; so has a long one. The others hold no `-`, which
/// parts them.
fn distinct(name: &str) -> String {
    if name.len() <= NAME_LENGTH_MAX && name.chars().all(|c| c == letter(c)) {
        return name.to_owned();
    }
    let shown: String = name.chars().map(letter).take(NAME_LENGTH_MAX).collect();
    let hash = Sha256::digest(name.as_bytes());
    format!("{shown}-{:08x}", u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]))
}

fn letter(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_ids_whatever_the_journal_says() {
        let date = chrono::NaiveDate::from_ymd_opt(2011, 1, 1).expect("a date");
        let table = TableId::new("api2gbq", "LANL", "my ünï flows");
        let id = |hash: &str| load_job_id("flows", &table, Partition::from_date(date), None, 3, hash);
        assert_eq!(
            id("0123456789abcdef0123456789abcdef"),
            "api2bq_flows-LANL-my--n--flows-24d3cce0_20110101_g3_0123456789abcdef0123"
        );
        let window = Some("0000000000-0000010800");
        let appends = load_job_id("flows", &table, Partition::from_date(date), window, 0, "01");
        assert!(appends.ends_with("_20110101_0000000000-0000010800_g0_01"), "{appends}");
        // A slice of the first 20 bytes once panicked here: one entry stopped the whole run.
        assert_eq!(id("é"), "api2bq_flows-LANL-my--n--flows-24d3cce0_20110101_g3_-");
    }
}
