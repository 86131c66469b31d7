//! One REST call, with its status, its reason and its Retry-After kept.

use std::time::Duration;

use gcp_bigquery_client::error::BQError;
use reqwest::Method;
use reqwest::header::RETRY_AFTER;
use serde_json::Value;

use super::{BigQuery, auth};
use crate::effects::Door;
use crate::error::{Error, Result};
use crate::location::redacted;
use crate::retry::parse_retry_after;

/// An answer that is not 2xx, or none at all.
#[derive(Debug)]
pub(super) struct Refusal {
    /// 0 when there was no answer.
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// What Google calls retryable. `quotaExceeded` is an answer, not weather: it holds for hours.
    pub(super) fn is_retryable(&self) -> bool {
        const REASONS: [&str; 6] = [
            "backendError",
            "internalError",
            "rateLimitExceeded",
            "jobRateLimitExceeded",
            "jobBackendError",
            "jobInternalError",
        ];
        matches!(self.status, 0 | 429 | 500 | 502 | 503 | 504) || REASONS.contains(&self.reason.as_str())
    }

    pub(super) fn into_error(self, what: &str) -> Error {
        let retryable = self.is_retryable();
        let message = match self.status {
            0 => format!("{what}: {}", self.message),
            status => format!("{what}: BigQuery answered {status} {}: {}", self.reason, self.message),
        };
        let error = Error::failed(message).with_retry_after(self.retry_after);
        match self.status {
            _ if retryable && self.status == 0 => {
                error.retryable().hint("is BIGQUERY_EMULATOR_HOST right, and `api2bq emulator` running?")
            }
            _ if retryable => error.retryable(),
            401 => error.hint("the credentials are not accepted; check GOOGLE_APPLICATION_CREDENTIALS"),
            403 if self.reason == "accessDenied" => {
                error.hint("the account needs the roles BigQuery Data Editor and BigQuery Job User")
            }
            _ => error,
        }
    }
}

impl BigQuery {
    /// Sends one request. `Ok(Err(refusal))` is the service's answer, `Err` a missing credential.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Result<Value, Refusal>> {
        let name = || format!("{method} {path}");
        let answer = self.send(method.clone(), path, query, body);
        match self.options.effects.pass(Door::BigQuery, name, answer).await {
            Err(lost) if lost.is_retryable() => Ok(Err(Refusal {
                status: 0,
                reason: String::new(),
                message: lost.to_string(),
                retry_after: None,
            })),
            answer => answer,
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Result<Value, Refusal>> {
        let token = self.credentials.access_token().await.map_err(|e| auth::no_token(&e))?;
        let mut request = self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(token);
        if !query.is_empty() {
            request = request.query(query);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Err(self.no_answer(error))),
        };
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after =
            retry_after.and_then(|v| parse_retry_after(v, self.options.effects.clock.unix_millis() / 1000));
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(self.no_answer(error))),
        };
        let document: Option<Value> = serde_json::from_slice(&bytes).ok();
        if status == reqwest::StatusCode::NO_CONTENT {
            return Ok(Ok(Value::Null));
        }
        if status.is_success() {
            return Ok(document.ok_or_else(|| Refusal {
                status: 0,
                reason: String::new(),
                message: "the answer is no JSON".into(),
                retry_after,
            }));
        }
        let error = document.as_ref().map(|d| &d["error"]);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Err(Refusal {
            status: status.as_u16(),
            reason: text(error.map(|e| &e["errors"][0]["reason"])),
            message: text(error.map(|e| &e["message"])),
            retry_after,
        }))
    }

    /// A call that is repeated on weather: reads, and writes that say by 409 that they were done.
    pub(super) async fn call_until_answered(
        &self,
        what: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Result<Value, Refusal>> {
        let mut tries = self.tries(what);
        loop {
            match self.call(method.clone(), path, query, body).await? {
                Err(refusal) if refusal.is_retryable() => tries.wait_or(refusal.into_error(what)).await?,
                answer => return Ok(answer),
            }
        }
    }

    fn no_answer(&self, error: reqwest::Error) -> Refusal {
        no_answer(&format!("no answer from `{}`", redacted(&self.base)), error)
    }
}

/// Every cause on the way down, since reqwest's own message names none of them.
fn no_answer(start: &str, error: reqwest::Error) -> Refusal {
    let error = error.without_url();
    let mut message = start.to_owned();
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Refusal { status: 0, reason: String::new(), message, retry_after: None }
}

/// The crate's error as ours; status and reason as far as the crate kept them.
pub(super) fn refusal(error: BQError) -> Result<Refusal> {
    match error {
        BQError::ResponseError { error } => Ok(Refusal {
            status: u16::try_from(error.error.code).unwrap_or(0),
            reason: error.error.errors.first().and_then(|e| e.get("reason").cloned()).unwrap_or_default(),
            message: error.error.message,
            retry_after: None,
        }),
        // Also what the crate makes of any answer that is not its JSON, a 503 of a proxy for one.
        BQError::RequestError(error) => Ok(no_answer("no answer that can be read", error)),
        error => Err(auth::no_token(&error)),
    }
}
