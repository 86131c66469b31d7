//! What is known of buckets and objects besides names and bytes: documents beside the buckets' folders.
//!
//! An object's generation is the time its file was modified, in microseconds. So the file itself says which
//! record is its own, after a crash between the two as well as when somebody dropped the file in.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::draft::Checksums;
use super::layout::Bucket;
use crate::emulator::disk;
use crate::emulator::wire::{Failure, Outcome, now_ms};

/// The members of an object that a client may set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::emulator) struct Attributes(pub Map<String, Value>);

impl Attributes {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    pub(super) fn content_type(&self) -> &str {
        self.text("contentType").unwrap_or("application/octet-stream")
    }
}

/// One version of an object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub generation: i64,
    pub metageneration: i64,
    pub size: u64,
    pub crc32c: u32,
    /// None for an object that was composed.
    pub md5: Option<[u8; 16]>,
    pub component_count: Option<u32>,
    pub updated_ms: i64,
    pub attributes: Attributes,
}

impl Record {
    pub(super) fn new(generation: i64, size: u64, sums: Checksums) -> Self {
        Record {
            generation,
            metageneration: 1,
            size,
            crc32c: sums.crc32c,
            md5: Some(sums.md5),
            component_count: None,
            updated_ms: generation / 1000,
            attributes: Attributes::default(),
        }
    }
}

/// The records of a key: the one being written before the one that it replaces.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sidecar {
    pub key: String,
    pub records: Vec<Record>,
}

/// An object as a request sees it.
#[derive(Debug, Clone)]
pub(in crate::emulator) struct ObjectDocument {
    pub bucket: Bucket,
    pub key: String,
    pub(super) record: Record,
}

impl ObjectDocument {
    pub(super) fn etag(&self) -> String {
        format!("\"{:x}.{}\"", self.record.generation, self.record.metageneration)
    }

    pub(in crate::emulator) fn size(&self) -> u64 {
        self.record.size
    }
}

/// What must be true of the object that is there, or not there, for a request to be done.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::emulator) struct Conditions {
    /// 0: there must be none.
    pub generation: Option<i64>,
    pub not_generation: Option<i64>,
    pub metageneration: Option<i64>,
    pub not_metageneration: Option<i64>,
}

impl Conditions {
    pub(super) fn check(&self, current: Option<&Record>) -> Outcome<()> {
        let generation = current.map_or(0, |r| r.generation);
        let metageneration = current.map_or(0, |r| r.metageneration);
        let hold = self.generation.is_none_or(|wanted| wanted == generation)
            && self.not_generation.is_none_or(|unwanted| unwanted != generation)
            && self.metageneration.is_none_or(|wanted| wanted == metageneration)
            && self.not_metageneration.is_none_or(|unwanted| unwanted != metageneration);
        if hold { Ok(()) } else { Err(Failure::condition_not_met()) }
    }

    /// For buckets, which have no generations.
    pub(super) fn check_metageneration(&self, metageneration: i64) -> Outcome<()> {
        let holds = self.metageneration.is_none_or(|wanted| wanted == metageneration)
            && self.not_metageneration.is_none_or(|unwanted| unwanted != metageneration);
        if holds { Ok(()) } else { Err(Failure::condition_not_met()) }
    }
}

/// A bucket's own words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BucketDocument {
    pub name: String,
    pub location: String,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub metageneration: i64,
    pub birth: String,
    /// Members that are only handed back: labels, storageClass.
    pub rest: Map<String, Value>,
}

impl BucketDocument {
    pub(super) fn new(name: &Bucket, location: &str) -> Self {
        let now = now_ms();
        BucketDocument {
            name: name.as_str().to_owned(),
            location: location.to_ascii_uppercase(),
            created_ms: now,
            updated_ms: now,
            metageneration: 1,
            birth: disk::unique_name(),
            rest: Map::new(),
        }
    }

    pub(super) fn etag(&self) -> String {
        format!("{}.{}", self.birth.get(..16).unwrap_or_default(), self.metageneration)
    }
}
