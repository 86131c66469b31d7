//! Names that can only hold legal ids, and the file names they are kept under.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::failure::{Failure, Outcome};
use super::partitions::Partition;
use super::wire::now_ms;

/// By Unicode category, as the documentation of tables says: L, M, N, Pc, Pd or Zs.
static TABLE_CHARACTER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[\p{L}\p{M}\p{N}\p{Pc}\p{Pd}\p{Zs}]\z").expect("a constant"));

macro_rules! id_type {
    ($name:ident, $what:literal, $legal:expr, $words:literal) => {
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub(super) struct $name(String);

        impl $name {
            pub(super) fn parse(text: &str) -> Outcome<Self> {
                let legal: fn(char) -> bool = $legal;
                if !text.is_empty() && text.len() <= 1024 && text.chars().all(legal) {
                    return Ok($name(text.to_owned()));
                }
                let shown: String = text.chars().take(100).collect();
                Err(Failure::invalid(format!(concat!("Invalid ", $what, " ID \"{}\". ", $words), shown)))
            }

            pub(super) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $name::parse(&text).map_err(|e| serde::de::Error::custom(e.message))
            }
        }
    };
}

id_type!(
    ProjectId,
    "project",
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'),
    "Project IDs must contain only letters, digits, dashes, dots and colons."
);
id_type!(
    DatasetId,
    "dataset",
    |c| c.is_alphanumeric() || matches!(c, '_' | '-'),
    "Dataset IDs must be alphanumeric (plus underscores and dashes) and at most 1024 bytes long."
);
id_type!(
    TableId,
    "table",
    |c| TABLE_CHARACTER.is_match(c.encode_utf8(&mut [0; 4])),
    "Table IDs must be alphanumeric (plus underscores, dashes and spaces) and at most 1024 bytes long."
);
id_type!(
    JobId,
    "job",
    |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
    "Job IDs must be alphanumeric (plus underscores and dashes) and at most 1024 characters long."
);

/// What the dataset of a script's temporary tables begins with; a hash comes after it.
const OF_SCRIPT: &str = "_script";

impl DatasetId {
    /// Where the temporary tables of the script with this hash are.
    pub(super) fn of_script(hash: &str) -> Outcome<Self> {
        DatasetId::parse(&format!("{OF_SCRIPT}{hash}"))
    }

    pub(super) fn is_of_script(&self) -> bool {
        let hash = self.0.strip_prefix(OF_SCRIPT);
        hash.is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// A table's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct TableName {
    pub project: ProjectId,
    pub dataset: DatasetId,
    pub table: TableId,
}

impl TableName {
    pub(super) fn reference(&self) -> Value {
        json!({
            "projectId": self.project.as_str(),
            "datasetId": self.dataset.as_str(),
            "tableId": self.table.as_str(),
        })
    }

    /// `p:d.t`, as BigQuery's messages and ids spell it.
    pub(super) fn legacy(&self) -> String {
        format!("{}:{}.{}", self.project, self.dataset, self.table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.project, self.dataset, self.table)
    }
}

/// A moment in the past of a table, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotTime {
    /// Since 1970.
    At(i64),
    /// Before now.
    Ago(i64),
    /// As far back as anything is known.
    Oldest,
}

impl SnapshotTime {
    /// Since 1970, when that is told.
    pub(super) fn milliseconds(self) -> Option<i64> {
        match self {
            SnapshotTime::At(ms) => Some(ms),
            SnapshotTime::Ago(ms) => Some(now_ms().saturating_sub(ms)),
            SnapshotTime::Oldest => None,
        }
    }

    fn from_decorator(decorator: &str) -> Outcome<Self> {
        let invalid = || Failure::invalid(format!("Invalid snapshot decorator \"@{decorator}\""));
        let ms: i64 = decorator.parse().map_err(|_| invalid())?;
        match ms {
            0 => Ok(SnapshotTime::Oldest),
            1.. => Ok(SnapshotTime::At(ms)),
            _ => ms.checked_neg().map(SnapshotTime::Ago).ok_or_else(invalid),
        }
    }
}

/// A table, or a part of it: `t`, `t$20240105`, `t@1700000000000`, `t$20240105@-3600000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub name: TableName,
    pub partition: Option<Partition>,
    /// The table as it was then.
    pub time: Option<SnapshotTime>,
}

impl Address {
    pub(super) fn parse(project: &str, dataset: &str, table: &str) -> Outcome<Self> {
        let (table, time) = match table.split_once('@') {
            None => (table, None),
            Some((table, decorator)) => (table, Some(SnapshotTime::from_decorator(decorator)?)),
        };
        let (table, partition) = match table.split_once('$') {
            None => (table, None),
            Some((table, decorator)) => (table, Some(Partition::from_decorator(decorator)?)),
        };
        let name = TableName {
            project: ProjectId::parse(project)?,
            dataset: DatasetId::parse(dataset)?,
            table: TableId::parse(table)?,
        };
        Ok(Address { name, partition, time })
    }

    /// What follows the table's id.
    pub(super) fn decorator(&self) -> String {
        let partition = self.partition.map(|p| format!("${p}")).unwrap_or_default();
        let time = match self.time {
            None => String::new(),
            Some(SnapshotTime::At(ms)) => format!("@{ms}"),
            Some(SnapshotTime::Ago(ms)) => format!("@-{ms}"),
            Some(SnapshotTime::Oldest) => "@0".to_owned(),
        };
        partition + &time
    }

    /// Refuses an address of the past, which nobody can change.
    pub(super) fn present(self) -> Outcome<Self> {
        match self.time {
            None => Ok(self),
            Some(_) => Err(Failure::invalid(format!(
                "Invalid table ID: a snapshot decorator of table {} can only be read",
                self.name.legacy()
            ))),
        }
    }

    /// From a `{projectId, datasetId, tableId}` document; the request's project stands in for a missing one.
    pub(super) fn from_reference(reference: &Map<String, Value>, project: &ProjectId) -> Outcome<Self> {
        let text = |name: &str| reference.get(name).and_then(Value::as_str);
        let part = |name: &str| {
            text(name).ok_or_else(|| Failure::invalid(format!("Required parameter is missing: {name}")))
        };
        let project = text("projectId").unwrap_or(project.as_str());
        Address::parse(project, part("datasetId")?, part("tableId")?)
    }
}

/// The name that an id is kept under on disk: one path component, the same for the same id only.
pub(super) fn file_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    // File systems take 255 bytes. `%h` is no escape of any byte, so no other id is kept under such a name.
    if name.len() > 200 { format!("%h{}", hex(&Sha256::digest(id.as_bytes()))) } else { name }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_no_paths() {
        for text in ["", "..", "a/b", "a.b", "a\\b", "a\0", "a$b", &"x".repeat(1025)] {
            assert!(TableId::parse(text).is_err(), "{text:?}");
            assert!(DatasetId::parse(text).is_err(), "{text:?}");
        }
        for text in ["t", "flows_staging", "días-2024", "a b", "ग्राहक", "e\u{301}", &"x".repeat(1024)]
        {
            assert!(TableId::parse(text).is_ok(), "{text:?}");
        }
        assert!(DatasetId::parse("a b").is_err());
    }

    #[test]
    fn file_names_are_one_component_and_differ_when_ids_do() {
        assert_eq!(file_name("flows-1_x"), "flows-1_x");
        assert_eq!(file_name("é"), "%C3%A9");
        assert_eq!(file_name(".."), "%2E%2E");
        let (long, longer) = ("x".repeat(201), "x".repeat(202));
        assert_eq!(file_name(&long).len(), 66);
        assert_ne!(file_name(&long), file_name(&longer));
    }
}
