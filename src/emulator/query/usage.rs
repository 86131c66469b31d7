//! What a query reads, and what BigQuery would bill for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::scan::ScanTable;
use crate::emulator::names::TableName;

/// What BigQuery bills at least: 10 MiB for each table that is read.
const BILLED_BYTES_MIN: u64 = 10 << 20;
const MIB: u64 = 1 << 20;

/// Summed up over the tables of one or more plans.
#[derive(Debug, Default, Clone)]
pub(super) struct Usage {
    bytes: BTreeMap<TableName, u64>,
    referenced: BTreeSet<TableName>,
    partitions: u64,
}

impl Usage {
    pub(super) fn of(scans: &[Arc<ScanTable>]) -> Self {
        let mut usage = Usage::default();
        for scan in scans {
            let name = &scan.version.definition.name;
            *usage.bytes.entry(name.clone()).or_default() += scan.bytes_read();
            usage.partitions += scan.partitions_read();
            if !name.dataset.as_str().starts_with('_') {
                usage.referenced.insert(name.clone());
            }
        }
        usage
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.values().sum()
    }

    pub(super) fn bytes_billed(&self) -> u64 {
        let billed = |bytes: &u64| match bytes {
            0 => 0,
            bytes => bytes.div_ceil(MIB).saturating_mul(MIB).max(BILLED_BYTES_MIN),
        };
        self.bytes.values().map(billed).sum()
    }

    /// `statistics` of a job.
    pub(super) fn statistics(&self, kind: &str, dry_run: bool) -> Value {
        let bytes = self.bytes().to_string();
        let billed = if dry_run { 0 } else { self.bytes_billed() };
        let mut query = json!({
            "statementType": kind,
            "totalBytesProcessed": bytes,
            "totalBytesBilled": billed.to_string(),
            "cacheHit": false,
        });
        if dry_run {
            query["totalBytesProcessedAccuracy"] = json!("PRECISE");
        } else {
            query["totalPartitionsProcessed"] = json!(self.partitions.to_string());
            query["queryPlan"] = json!([]);
            query["timeline"] = json!([]);
        }
        if !self.referenced.is_empty() {
            query["referencedTables"] = self.referenced.iter().map(TableName::reference).collect();
        }
        json!({"totalBytesProcessed": bytes, "query": query})
    }
}
