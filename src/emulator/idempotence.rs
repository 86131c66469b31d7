//! `requestId` of jobs.query: a request that is sent twice makes one job.
//!
//! BigQuery takes two requests for one only when they have the same id, ask for the same, and come within 15
//! minutes. Here the id of the job is made from all that, so a later process still knows its requests.

use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Emulator;
use super::jobs::{Job, JobDocument};
use super::names::{JobId, hex};
use super::wire::{Outcome, now_ms};

const LIFETIME_MS: i64 = 15 * 60 * 1000;

/// What decides about the result. How long to wait for it, and how it is written down, does not.
const DECISIVE: [&str; 12] = [
    "query",
    "useLegacySql",
    "parameterMode",
    "queryParameters",
    "defaultDataset",
    "location",
    "connectionProperties",
    "createSession",
    "maximumBytesBilled",
    "preserveNulls",
    "useQueryCache",
    "destinationEncryptionConfiguration",
];

/// The job of a request that has an id.
pub(super) enum Named {
    Known(Arc<Job>),
    /// To be made under this id.
    New(JobId),
}

/// `document` says where the job runs.
pub(super) fn named(
    emulator: &Emulator,
    request: &str,
    body: &Map<String, Value>,
    document: &JobDocument,
) -> Outcome<Named> {
    let mut digest = Sha256::new();
    let said = DECISIVE.iter().map(|member| body.get(*member).map(Value::to_string));
    let place =
        [&request, &document.project.as_str(), &document.location.as_str()].map(|p| Some((*p).to_owned()));
    for part in place.into_iter().chain(said) {
        // With lengths, so that no two requests run together into the same text.
        let part = part.unwrap_or_default();
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let hash = hex(&digest.finalize());
    let mut turn = 0_u64;
    loop {
        // Each lifetime has an id of its own: a job id is never free again.
        let id = JobId::parse(&format!("job_{hash}_{turn}"))?;
        match emulator.jobs.find(&document.project, id.as_str()) {
            Ok(job) if now_ms() - job.document().created_ms < LIFETIME_MS => return Ok(Named::Known(job)),
            Ok(_) => turn += 1,
            Err(_) => return Ok(Named::New(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::emulator::Faults;
    use crate::emulator::jobs::State;
    use crate::emulator::names::ProjectId;
    use crate::engine::{self, Engine};

    fn job(created_ms: i64) -> JobDocument {
        JobDocument {
            project: ProjectId::parse("p").unwrap(),
            id: JobId::parse("unnamed").unwrap(),
            location: "US".into(),
            configuration: json!({}),
            state: State::Pending,
            created_ms,
            started_ms: None,
            ended_ms: None,
            failure: None,
            warnings: Vec::new(),
            statistics: Value::Null,
            destination: None,
            dataset: None,
            removal: None,
            parent: None,
        }
    }

    #[test]
    fn a_request_is_known_for_a_quarter_of_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(engine::Options::default()).unwrap();
        let (data, buckets) = (dir.path().join("data"), dir.path().join("buckets"));
        let emulator = Emulator::open(data, &buckets, engine, Faults::default()).unwrap();
        let ask = |sql: &str, wait: i64, created_ms: i64| {
            let body = json!({"query": sql, "timeoutMs": wait, "requestId": "r"});
            let mut document = job(created_ms);
            match named(&emulator, "r", body.as_object().unwrap(), &document).unwrap() {
                Named::Known(job) => (job.document().id, true),
                Named::New(id) => {
                    document.id = id.clone();
                    emulator.jobs.create(document).unwrap();
                    (id, false)
                }
            }
        };
        let (old, known) = ask("SELECT 1", 1, now_ms() - LIFETIME_MS - 1);
        assert!(!known);
        let (first, known) = ask("SELECT 1", 1, now_ms());
        assert!(!known && first != old, "its time is over");
        assert_eq!(ask("SELECT 1", 2, now_ms()), (first.clone(), true));
        let (other, known) = ask("SELECT 2", 1, now_ms());
        assert!(!known && other != first, "another request under the same id");
    }
}
