//! Buckets and objects as the JSON API writes and takes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::media::{crc32c_text, rfc3339};
use super::records::{Attributes, BucketDocument, ObjectDocument};
use crate::emulator::wire::{Failure, Outcome};

/// What a client may say of an object.
const OBJECT_SETTABLE: [&str; 8] = [
    "contentType",
    "contentEncoding",
    "contentDisposition",
    "contentLanguage",
    "cacheControl",
    "customTime",
    "metadata",
    "storageClass",
];
/// Would change what a client may do later, which nothing here looks at.
const OBJECT_REFUSED: [&str; 5] =
    ["temporaryHold", "eventBasedHold", "retention", "kmsKeyName", "customerEncryption"];

const BUCKET_SETTABLE: [&str; 5] = ["labels", "storageClass", "iamConfiguration", "cors", "softDeletePolicy"];
const BUCKET_REFUSED: [&str; 11] = [
    "versioning",
    "lifecycle",
    "retentionPolicy",
    "encryption",
    "billing",
    "defaultEventBasedHold",
    "logging",
    "website",
    "autoclass",
    "hierarchicalNamespace",
    "objectRetention",
];

pub(super) fn object(document: &ObjectDocument, base: &str) -> Value {
    let record = &document.record;
    let (bucket, key) = (document.bucket.as_str(), &document.key);
    let path = format!("storage/v1/b/{bucket}/o/{}", quoted(key));
    let created = rfc3339(record.generation / 1000);
    let mut resource = json!({
        "kind": "storage#object",
        "id": format!("{bucket}/{key}/{}", record.generation),
        "selfLink": format!("{base}/{path}"),
        "mediaLink": format!("{base}/download/{path}?generation={}&alt=media", record.generation),
        "name": key,
        "bucket": bucket,
        "generation": record.generation.to_string(),
        "metageneration": record.metageneration.to_string(),
        "contentType": record.attributes.content_type(),
        "storageClass": "STANDARD",
        "size": record.size.to_string(),
        "crc32c": crc32c_text(record),
        "etag": document.etag().trim_matches('"'),
        "timeCreated": created,
        "timeStorageClassUpdated": created,
        "timeFinalized": created,
        "updated": rfc3339(record.updated_ms),
    });
    if let Some(md5) = record.md5 {
        resource["md5Hash"] = json!(STANDARD.encode(md5));
    }
    if let Some(count) = record.component_count {
        resource["componentCount"] = json!(count);
    }
    for (member, value) in &record.attributes.0 {
        resource[member] = value.clone();
    }
    resource
}

/// The attributes that `sent` gives to a new object.
pub(super) fn attributes(sent: &Map<String, Value>) -> Outcome<Attributes> {
    let mut attributes = Attributes::default();
    merge_attributes(&mut attributes, sent)?;
    Ok(attributes)
}

/// What is sent replaces what is there, an explicit null clears it; within `metadata` by its own members.
pub(super) fn merge_attributes(attributes: &mut Attributes, sent: &Map<String, Value>) -> Outcome<()> {
    refuse(sent, &OBJECT_REFUSED)?;
    for member in OBJECT_SETTABLE {
        match sent.get(member) {
            None => {}
            Some(Value::Null) => drop(attributes.0.shift_remove(member)),
            Some(Value::Object(changes)) if member == "metadata" => {
                let mut metadata =
                    attributes.0.get(member).and_then(Value::as_object).cloned().unwrap_or_default();
                for (name, value) in changes {
                    match value {
                        Value::Null => drop(metadata.shift_remove(name)),
                        Value::String(_) => drop(metadata.insert(name.clone(), value.clone())),
                        _ => {
                            return Err(Failure::invalid(format!(
                                "Invalid value for metadata.{name}: no text"
                            )));
                        }
                    }
                }
                attributes.0.insert(member.to_owned(), metadata.into());
            }
            Some(Value::String(text)) if member != "metadata" => {
                attributes.0.insert(member.to_owned(), text.as_str().into());
            }
            Some(value) => return Err(Failure::invalid(format!("Invalid value for {member}: {value}"))),
        }
    }
    Ok(())
}

pub(super) fn bucket(document: &BucketDocument, base: &str) -> Value {
    let name = &document.name;
    let is_multi = matches!(document.location.as_str(), "US" | "EU" | "ASIA");
    let mut resource = json!({
        "kind": "storage#bucket",
        "id": name,
        "selfLink": format!("{base}/storage/v1/b/{name}"),
        "name": name,
        "projectNumber": "1",
        "metageneration": document.metageneration.to_string(),
        "location": document.location,
        "locationType": if is_multi { "multi-region" } else { "region" },
        "storageClass": "STANDARD",
        "etag": document.etag(),
        "timeCreated": rfc3339(document.created_ms),
        "updated": rfc3339(document.updated_ms),
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": false}},
    });
    for (member, value) in &document.rest {
        resource[member] = value.clone();
    }
    resource
}

pub(super) fn merge_bucket(document: &mut BucketDocument, sent: &Map<String, Value>) -> Outcome<()> {
    refuse(sent, &BUCKET_REFUSED)?;
    for member in BUCKET_SETTABLE {
        match sent.get(member) {
            None => {}
            Some(Value::Null) => drop(document.rest.shift_remove(member)),
            Some(value) => drop(document.rest.insert(member.to_owned(), value.clone())),
        }
    }
    if let Some(Value::Object(labels)) = document.rest.get_mut("labels") {
        labels.retain(|_, value| !value.is_null());
    }
    Ok(())
}

/// What is asked for must not be forgotten silently; what is switched off may be.
fn refuse(sent: &Map<String, Value>, members: &[&str]) -> Outcome<()> {
    for member in members {
        if sent.get(*member).is_some_and(asks_for_something) {
            return Err(Failure::not_implemented(format!("{member} in Cloud Storage")));
        }
    }
    Ok(())
}

fn asks_for_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Object(members) => members.values().any(asks_for_something),
        Value::Array(items) => items.iter().any(asks_for_something),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    }
}

/// As one segment of a path.
fn quoted(text: &str) -> String {
    let byte = |b: u8| match b {
        b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}
