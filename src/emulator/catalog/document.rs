//! A dataset's own words, and which of them a client may set.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::emulator::disk;
use crate::emulator::names::{DatasetId, ProjectId};
use crate::emulator::versions::Commit;
use crate::emulator::wire::{integer, now_ms};

/// Seven days of time travel, the most and the default.
const WINDOW_HOURS: i64 = 168;

/// A dataset's own words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::emulator) struct DatasetDocument {
    pub project: ProjectId,
    pub id: DatasetId,
    pub location: String,
    pub rest: Map<String, Value>,
    pub created_ms: i64,
    pub modified_ms: i64,
    pub birth: String,
    pub number: u64,
    /// What jobs did to the dataset itself.
    #[serde(default)]
    pub commits: Vec<Commit>,
}

impl DatasetDocument {
    pub(in crate::emulator) fn new(project: ProjectId, id: DatasetId, location: String) -> Self {
        let (now, birth) = (now_ms(), disk::unique_name());
        let rest = Map::new();
        let (created_ms, modified_ms, number, commits) = (now, now, 0, Vec::new());
        DatasetDocument { project, id, location, rest, created_ms, modified_ms, birth, number, commits }
    }

    pub(in crate::emulator) fn etag(&self) -> String {
        format!("{}.{}", &self.birth[..16.min(self.birth.len())], self.number)
    }

    /// How long the past of its tables is kept; of anonymous results nothing is.
    pub(in crate::emulator) fn window_ms(&self) -> Option<i64> {
        let hours = integer(&self.rest, "maxTimeTravelHours").ok().flatten().unwrap_or(WINDOW_HOURS);
        (!self.is_hidden()).then(|| hours.clamp(0, WINDOW_HOURS) * 3_600_000)
    }

    pub(in crate::emulator) fn is_case_insensitive(&self) -> bool {
        self.rest.get("isCaseInsensitive").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Anonymous results are kept in datasets that are not listed.
    pub(in crate::emulator) fn is_hidden(&self) -> bool {
        self.id.as_str().starts_with('_')
    }
}

/// The members of a dataset document that a client may set and that are only handed back.
pub(in crate::emulator) const DATASET_REST: [&str; 13] = [
    "friendlyName",
    "description",
    "labels",
    "access",
    "defaultTableExpirationMs",
    "defaultPartitionExpirationMs",
    "maxTimeTravelHours",
    "storageBillingModel",
    "isCaseInsensitive",
    "resourceTags",
    "defaultCollation",
    "defaultRoundingMode",
    "defaultEncryptionConfiguration",
];

/// Sets, or with an explicit null clears, the given members.
pub(in crate::emulator) fn apply_rest(
    rest: &mut Map<String, Value>,
    sent: &Map<String, Value>,
    members: &[&str],
) {
    for member in members {
        match sent.get(*member) {
            None => {}
            Some(Value::Null) => drop(rest.shift_remove(*member)),
            Some(Value::Object(sent)) if matches!(*member, "labels" | "resourceTags") => {
                merge(rest, member, sent);
            }
            Some(value) => {
                let value = without_nulls(value);
                rest.insert((*member).to_owned(), value);
            }
        }
    }
}

/// Labels are merged into those that are there; a null takes one away.
fn merge(rest: &mut Map<String, Value>, member: &str, sent: &Map<String, Value>) {
    let mut pairs = rest.get(member).and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in sent {
        match value {
            Value::Null => drop(pairs.shift_remove(key)),
            value => drop(pairs.insert(key.clone(), value.clone())),
        }
    }
    rest.shift_remove(member);
    if !pairs.is_empty() {
        rest.insert(member.to_owned(), Value::Object(pairs));
    }
}

/// BigQuery leaves out what is not set.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let set = members.iter().filter(|(_, value)| !value.is_null());
            Value::Object(set.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}

/// Whom a new dataset admits.
fn default_access() -> Value {
    json!([
        {"role": "WRITER", "specialGroup": "projectWriters"},
        {"role": "OWNER", "specialGroup": "projectOwners"},
        {"role": "READER", "specialGroup": "projectReaders"},
    ])
}

impl DatasetDocument {
    pub(in crate::emulator) fn resource(&self) -> Value {
        let (project, id) = (self.project.as_str(), self.id.as_str());
        let mut resource = json!({
            "kind": "bigquery#dataset",
            "etag": self.etag(),
            "id": format!("{project}:{id}"),
            "selfLink": format!("https://bigquery.googleapis.com/bigquery/v2/projects/{project}/datasets/{id}"),
            "datasetReference": {"projectId": project, "datasetId": id},
            "creationTime": self.created_ms.to_string(),
            "lastModifiedTime": self.modified_ms.to_string(),
            "location": self.location,
            "type": "DEFAULT",
            "access": default_access(),
            "isCaseInsensitive": self.is_case_insensitive(),
        });
        for (name, value) in &self.rest {
            resource[name] = value.clone();
        }
        resource
    }
}
