//! What a sender is told when nothing was taken.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::Denied;
use super::payload::{Malformed, REJECTED_MAX, Rejected};
use super::spool::Refused;

/// An answer with an error in it. Nothing of the request is in the spool, or ever will be, unless it says
/// that this is not known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    status: StatusCode,
    error: Value,
    retry_after: Option<Duration>,
    /// The rest of the body is not wanted.
    closes: bool,
}

impl Problem {
    /// `reason` is for programs, and stays.
    pub(super) fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Problem {
        let message: String = message.into();
        let error = json!({ "status": status.as_u16(), "reason": reason, "message": message });
        Problem { status, error, retry_after: None, closes: false }
    }

    pub(super) fn closing(mut self) -> Problem {
        self.closes = true;
        self
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Problem {
        self.retry_after = Some(wait);
        self
    }

    /// Rows came, and none of them fits.
    pub(super) fn no_row_fits(rejected: &[Rejected]) -> Problem {
        let message = format!("none of the {} rows fits the columns; nothing was stored", rejected.len());
        let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_row_fits", message);
        problem.error["rejected"] = json!(rejected);
        problem
    }

    /// More rows do not fit than can be told.
    pub(super) fn too_many_rejected(rejected: u64, rows: u64, first: &[Rejected]) -> Problem {
        let message = format!(
            "{rejected} of {rows} rows do not fit the columns, and at most {REJECTED_MAX} are told of; nothing was stored"
        );
        let mut problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_rejected", message);
        problem.error["rejected"] = json!(first);
        problem
    }

    /// One parameter of a question is wrong.
    pub(super) fn of_parameter(mut self, name: &str) -> Problem {
        self.error["parameter"] = json!(name);
        self
    }

    /// By which an operator finds the request.
    pub(super) fn with_id(mut self, id: &str) -> Problem {
        self.error["id"] = json!(id);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// For people.
    pub(super) fn message(&self) -> &str {
        self.error["message"].as_str().unwrap_or_default()
    }

    /// For programs, then for people.
    pub(super) fn said(&self) -> String {
        format!("{}: {}", self.error["reason"].as_str().unwrap_or_default(), self.message())
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        let message = match malformed.place {
            Some((line, column)) => format!("line {line}, column {column}: {}", malformed.message),
            None => malformed.message,
        };
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "json_syntax", message);
        if let Some((line, column)) = malformed.place {
            problem.error["line"] = json!(line);
            problem.error["column"] = json!(column);
        }
        problem
    }
}

/// A hash takes 50 ms; in a second a few dozen of those who wait have been looked at.
const BUSY: Duration = Duration::from_secs(1);
/// Segments take some seconds to be loaded.
const FULL: Duration = Duration::from_secs(10);

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let problem = match denied {
            Denied::Unauthorized => {
                let message = "user and password are wanted by Basic authentication";
                Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            }
            Denied::TooMany { retry_after } => {
                let message = "too many wrong passwords came from this address";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", message)
                    .retry_after(retry_after)
            }
            Denied::Busy => {
                let message = "too many passwords are being looked at";
                Problem::new(unavailable, "busy", message).retry_after(BUSY)
            }
        };
        problem.closing()
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let problem = match refused {
            Refused::Full => {
                let message = "the gateway is full; none of these rows was stored";
                Problem::new(unavailable, "spool_full", message)
            }
            // What a failed sync leaves on the disk shows at the next start.
            Refused::Stopped(_) => {
                let message = "the gateway stops, and cannot tell whether these rows are stored; \
                    to send them again and have them once, use an Idempotency-Key";
                Problem::new(unavailable, "spool_stopped", message).closing()
            }
        };
        problem.retry_after(FULL)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.error }))).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"api2bq\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: who comes too early is sent away again.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            );
        }
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
