//! BigQuery's errors: what went wrong, in the words and codes that clients look at.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) type Outcome<T> = Result<T, Failure>;

/// An error as BigQuery reports it: the HTTP status and the reason are what clients look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub code: u16,
    pub reason: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What led to it, as far as a job shows that in its `errors`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Failure>,
}

impl Failure {
    fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Failure { code, reason: reason.into(), message: message.into(), location: None, details: Vec::new() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Failure::new(400, "invalid", message)
    }

    pub(super) fn invalid_query(message: impl Into<String>) -> Self {
        Failure { location: Some("query".into()), ..Failure::new(400, "invalidQuery", message) }
    }

    /// A construct that BigQuery knows and this server does not run, rather than run it with another meaning.
    pub(super) fn unsupported_sql(what: impl fmt::Display) -> Self {
        Failure::invalid_query(format!("not supported by the embedded server: {what}"))
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Failure::new(404, "notFound", message)
    }

    pub(super) fn duplicate(message: impl Into<String>) -> Self {
        Failure::new(409, "duplicate", message)
    }

    pub(super) fn in_use(message: impl Into<String>) -> Self {
        Failure::new(400, "resourceInUse", message)
    }

    pub(super) fn condition_not_met() -> Self {
        Failure::new(412, "conditionNotMet", "Precondition check failed.")
    }

    /// Somebody else changed it in between.
    pub(super) fn aborted(message: impl Into<String>) -> Self {
        Failure::new(409, "aborted", message)
    }

    pub(super) fn stopped() -> Self {
        Failure::new(499, "stopped", "Job execution was cancelled: User requested cancellation")
    }

    /// `jobTimeoutMs` has passed.
    pub(super) fn timed_out(limit: std::time::Duration) -> Self {
        let message = format!("Job execution was cancelled: Job timed out after {}s", limit.as_secs_f64());
        Failure { message, ..Failure::stopped() }
    }

    pub(super) fn backend(message: impl Into<String>) -> Self {
        Failure::new(503, "backendError", message)
    }

    pub(super) fn bytes_billed(message: impl Into<String>) -> Self {
        Failure::new(400, "bytesBilledLimitExceeded", message)
    }

    /// In BigQuery's words.
    pub(super) fn too_complex() -> Self {
        let message = "Resources exceeded during query execution: Not enough resources for query planning - too \
                       many subqueries or query is too complex.";
        Failure { reason: "resourcesExceeded".into(), ..Failure::invalid_query(message) }
    }

    pub(super) fn not_implemented(what: impl fmt::Display) -> Self {
        Failure::new(501, "notImplemented", format!("not implemented by the embedded server: {what}"))
    }

    /// What Google's front end answers to a body that no service of theirs would take.
    pub(super) fn request_too_large() -> Self {
        Failure::new(413, "requestTooLarge", "Request Too Large")
    }

    /// A body that is larger than the method takes.
    pub(super) fn payload_size(max: u64) -> Self {
        Failure::new(400, "badRequest", format!("Request payload size exceeds the limit: {max} bytes."))
    }

    /// The entry of `errors[]`, also what a job shows as its `errorResult`.
    pub(super) fn proto(&self) -> Value {
        let mut proto = json!({"reason": self.reason, "message": self.message});
        if let Some(location) = &self.location {
            proto["location"] = json!(location);
        }
        proto
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::backend(format!("storage of the embedded server: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_the_reason_where_clients_look() {
        let proto = Failure::invalid_query("Unrecognized name: x").proto();
        assert_eq!(proto["reason"], "invalidQuery");
        assert_eq!(proto["location"], "query");
    }
}
