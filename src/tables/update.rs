//! A table's settings changed, but only on what was read: read, change, write under the etag.

use serde_json::{Map, Value, json};

use crate::bigquery::{Address, BigQuery, Change, Document};
use crate::error::{Error, Result};

/// What is to be otherwise. `None` leaves a setting as it is.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// An empty one takes it away.
    pub description: Option<String>,
    /// `Some(None)`: never.
    pub expires_ms: Option<Option<u64>>,
    pub labels: Map<String, Value>,
    pub labels_removed: Vec<String>,
    pub require_filter: Option<bool>,
}

/// What came of it.
#[derive(Debug)]
pub enum Updated {
    /// The table is so already.
    AsItWas(Document),
    Changed {
        /// The members that were changed.
        members: Vec<String>,
        document: Document,
    },
    /// Somebody else was faster; nothing was changed here.
    Lost {
        /// The members they changed; none where it was before the reading, since the given etag.
        changed: Vec<String>,
    },
}

/// Changes the table, if it still is as it was read; under `etag`, if it is as it was read then.
pub async fn update(
    bigquery: &BigQuery,
    table: &Address,
    wish: &Wish,
    etag: Option<&str>,
) -> Result<Updated> {
    let Some(before) = bigquery.document(table).await? else { return Err(bigquery.missing(table).await) };
    let patch = wish.patch(&before.value)?;
    if patch.is_empty() {
        return Ok(Updated::AsItWas(before));
    }
    let members: Vec<String> = patch.keys().cloned().collect();
    match bigquery.patch_table(table, etag.unwrap_or(before.etag()), &Value::Object(patch)).await? {
        Change::Made(document) => Ok(Updated::Changed { members, document }),
        Change::Lost => {
            let Some(now) = bigquery.document(table).await? else {
                return Err(bigquery.missing(table).await);
            };
            // Our own change, whose answer was lost, and which was then sent again.
            if wish.patch(&now.value)?.is_empty() && now.etag() != before.etag() {
                return Ok(Updated::Changed { members, document: now });
            }
            Ok(Updated::Lost { changed: differing(&before.value, &now.value) })
        }
    }
}

/// The settings in which two documents of a table differ.
fn differing(before: &Value, now: &Value) -> Vec<String> {
    let members = now.as_object().into_iter().chain(before.as_object()).flat_map(|m| m.keys());
    let mut changed: Vec<String> =
        members.filter(|m| before[m.as_str()] != now[m.as_str()]).cloned().collect();
    changed.sort();
    changed.dedup();
    changed.retain(|member| !["etag", "lastModifiedTime"].contains(&member.as_str()));
    changed
}

impl Wish {
    pub fn is_empty(&self) -> bool {
        let Wish { description, expires_ms, labels, labels_removed, require_filter } = self;
        description.is_none()
            && expires_ms.is_none()
            && labels.is_empty()
            && labels_removed.is_empty()
            && require_filter.is_none()
    }

    /// What has to be sent; nothing where the table is so already.
    fn patch(&self, table: &Value) -> Result<Map<String, Value>> {
        let mut patch = Map::new();
        if let Some(description) = &self.description
            && description != table["description"].as_str().unwrap_or_default()
        {
            patch.insert("description".into(), some_text(description));
        }
        if let Some(expires_ms) = self.expires_ms {
            let wanted = expires_ms.map(|ms| ms.to_string());
            if wanted.as_deref() != table["expirationTime"].as_str() {
                patch.insert("expirationTime".into(), json!(wanted));
            }
        }
        if let Some(required) = self.require_filter
            && required != (table["requirePartitionFilter"] == true)
        {
            let is_partitioned =
                table["timePartitioning"].is_object() || table["rangePartitioning"].is_object();
            if required && !is_partitioned {
                return Err(Error::usage("a filter can only be required of a partitioned table"));
            }
            patch.insert("requirePartitionFilter".into(), json!(required));
        }
        let before = table["labels"].as_object().cloned().unwrap_or_default();
        let mut labels = before.clone();
        labels.extend(self.labels.clone());
        for key in &self.labels_removed {
            labels.shift_remove(key);
        }
        if labels != before {
            // BigQuery merges labels; a null is what takes one away.
            let removed = before.keys().filter(|key| !labels.contains_key(*key)).cloned();
            let removed: Vec<String> = removed.collect();
            labels.extend(removed.into_iter().map(|key| (key, Value::Null)));
            patch.insert("labels".into(), Value::Object(labels));
        }
        Ok(patch)
    }
}

fn some_text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { json!(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_sent() {
        let table = json!({
            "description": "old", "labels": { "a": "1", "b": "2" }, "expirationTime": "5",
            "timePartitioning": { "type": "DAY" }, "requirePartitionFilter": true,
        });
        let labels =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let as_it_is = Wish {
            description: Some("old".into()),
            expires_ms: Some(Some(5)),
            labels: labels(&[("a", "1")]),
            labels_removed: vec!["c".into()],
            require_filter: Some(true),
        };
        assert!(as_it_is.patch(&table).expect("a patch").is_empty());
        let other = Wish {
            description: Some(String::new()),
            expires_ms: Some(None),
            labels: labels(&[("c", "3")]),
            labels_removed: vec!["b".into()],
            require_filter: Some(false),
        };
        assert_eq!(
            Value::Object(other.patch(&table).expect("a patch")),
            json!({
                "description": null, "expirationTime": null, "requirePartitionFilter": false,
                "labels": { "a": "1", "c": "3", "b": null },
            })
        );
        let filter = Wish { require_filter: Some(true), ..Wish::default() };
        assert!(filter.patch(&json!({})).is_err());
        assert!(Wish::default().is_empty() && !filter.is_empty());
    }

    #[test]
    fn what_somebody_else_changed_is_named() {
        let before = json!({ "etag": "1", "description": "a", "numRows": "1", "labels": {} });
        let now = json!({ "etag": "2", "numRows": "2", "labels": {} });
        assert_eq!(differing(&before, &now), ["description", "numRows"]);
    }
}
