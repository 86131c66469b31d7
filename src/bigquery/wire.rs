//! One REST call, with its status, its reason and its Retry-After kept.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use gcp_bigquery_client::error::BQError;
use reqwest::header::{CONTENT_TYPE, DATE, IF_MATCH, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::access::Need;
use super::{BigQuery, auth};
use crate::effects::Door;
use crate::error::{Error, Result};
use crate::location::{is_loopback, redacted};
use crate::retry::parse_retry_after;

/// What is asked of the service.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    /// JSON.
    pub(super) body: Option<Bytes>,
    /// Only if the resource still has this etag.
    pub(super) if_match: Option<&'a str>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, path: &'a str) -> Self {
        Ask { method, path, query: &[], body: None, if_match: None }
    }

    pub(super) fn get(path: &'a str) -> Self {
        Ask::new(Method::GET, path)
    }

    pub(super) fn body(self, body: &Value) -> Self {
        Ask { body: Some(text_of(body)), ..self }
    }
}

fn text_of(body: &Value) -> Bytes {
    body.to_string().into()
}

/// An answer of 2xx.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) document: Value,
    /// When it was given, by the service's clock; whole seconds.
    pub(super) served_ms: Option<u64>,
}

/// An answer of 2xx as it came.
struct Received {
    status: StatusCode,
    bytes: Bytes,
    served_ms: Option<u64>,
    retry_after: Option<Duration>,
}

impl Received {
    fn document(self) -> Result<Answer, Refusal> {
        let Received { status, bytes, served_ms, retry_after } = self;
        if status == StatusCode::NO_CONTENT {
            return Ok(Answer { document: Value::Null, served_ms });
        }
        let document = serde_json::from_slice(&bytes)
            .map_err(|_| Refusal { retry_after, ..Refusal::no_answer("the answer is no JSON") })?;
        Ok(Answer { document, served_ms })
    }
}

/// An answer that is not 2xx, or none at all.
#[derive(Debug)]
pub(super) struct Refusal {
    /// 0 when there was no answer, or none of this service.
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) message: String,
    /// An earlier attempt of the same call was not answered: it may have done its work.
    pub(super) repeated: bool,
    /// Asking again brings no other answer: nothing listens there, or another program does.
    is_final: bool,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn no_answer(message: impl Into<String>) -> Refusal {
        Refusal {
            status: 0,
            reason: String::new(),
            message: message.into(),
            repeated: false,
            is_final: false,
            retry_after: None,
        }
    }

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
        let is_weather =
            matches!(self.status, 0 | 429 | 500 | 502 | 503 | 504) || REASONS.contains(&self.reason.as_str());
        is_weather && !self.is_final
    }

    pub(super) fn into_error(self, what: &str) -> Error {
        let retryable = self.is_retryable();
        let message = match self.status {
            0 => format!("{what}: {}", self.message),
            status => format!("{what}: BigQuery answered {status} {}: {}", self.reason, self.message),
        };
        let error = Error::failed(message).with_retry_after(self.retry_after);
        let error = if retryable { error.retryable() } else { error };
        match self.status {
            0 if self.reason == NO_TOKEN => {
                error.hint("is there a network? Of the credentials nothing was said")
            }
            0 => error.hint("is BIGQUERY_EMULATOR_HOST right, and `api2bq emulator` running?"),
            _ if retryable => error,
            401 => error.hint("the credentials are not accepted; check GOOGLE_APPLICATION_CREDENTIALS"),
            403 if self.reason == "accessDenied" => {
                error.hint("the account needs the roles BigQuery Data Editor and BigQuery Job User")
            }
            _ => error,
        }
    }

    /// The same, where it is known what the call takes.
    pub(super) fn into_error_needing(self, what: &str, need: Need) -> Error {
        let denied = self.status == 403 && self.reason == "accessDenied";
        let error = self.into_error(what);
        if denied { error.hint(need.hint()) } else { error }
    }
}

/// The reason of a call that was never made, for want of a token that may come yet.
const NO_TOKEN: &str = "noToken";

impl BigQuery {
    /// Sends one request. `Ok(Err(refusal))` is the service's answer, `Err` a missing credential.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Result<Value, Refusal>> {
        let body = body.map(text_of);
        let asked = self.ask_once(&Ask { method, path, query, body, if_match: None }).await?;
        Ok(asked.map(|answer| answer.document))
    }

    async fn ask_once(&self, ask: &Ask<'_>) -> Result<Result<Answer, Refusal>> {
        let answer = self.pass(ask, self.send(ask)).await?;
        Ok(answer.and_then(Received::document))
    }

    /// A GET that is repeated on weather, its answer as it came: pages of rows are read in another way.
    pub(super) async fn read(
        &self,
        what: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Result<Bytes, Refusal>> {
        let ask = Ask { query, ..Ask::get(path) };
        let mut tries = self.tries(what);
        loop {
            match self.pass(&ask, self.send(&ask)).await? {
                Err(refusal) if refusal.is_retryable() => tries.wait_or(refusal.into_error(what)).await?,
                answer => return Ok(answer.map(|received| received.bytes)),
            }
        }
    }

    async fn pass(
        &self,
        ask: &Ask<'_>,
        answer: impl Future<Output = Result<Result<Received, Refusal>>>,
    ) -> Result<Result<Received, Refusal>> {
        let name = || format!("{} {}", ask.method, ask.path);
        match self.options.effects.pass(Door::BigQuery, name, answer).await {
            Err(lost) if lost.is_retryable() => Ok(Err(Refusal::no_answer(lost.to_string()))),
            answer => answer,
        }
    }

    async fn send(&self, ask: &Ask<'_>) -> Result<Result<Received, Refusal>> {
        let token = match self.credentials.access_token().await {
            Ok(token) => token,
            Err(error) => return self.refusal(error).map(Err),
        };
        let url = format!("{}/{}", self.base, ask.path);
        let mut request = self.http.request(ask.method.clone(), url).bearer_auth(token);
        if !ask.query.is_empty() {
            request = request.query(ask.query);
        }
        if let Some(etag) = ask.if_match {
            request = request.header(IF_MATCH, etag);
        }
        if let Some(body) = &ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Err(self.no_answer("no answer", error))),
        };
        self.was_answered.store(true, Ordering::Relaxed);
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after =
            retry_after.and_then(|v| parse_retry_after(v, self.options.effects.clock.unix_millis() / 1000));
        let served_ms = response.headers().get(DATE).and_then(|v| v.to_str().ok()).and_then(date_ms);
        let bytes = match response.bytes().await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(self.no_answer("no answer", error))),
        };
        if status.is_success() {
            return Ok(Ok(Received { status, bytes, served_ms, retry_after }));
        }
        let document: Option<Value> = serde_json::from_slice(&bytes).ok();
        let error = document.as_ref().map(|d| &d["error"]).filter(|error| error.is_object());
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let refusal = Refusal {
            status: status.as_u16(),
            reason: text(error.map(|e| &e["errors"][0]["reason"])),
            message: text(error.map(|e| &e["message"])),
            retry_after,
            ..Refusal::no_answer("")
        };
        // In a bad moment a proxy on the way answers for the service; a plain no has its document.
        if error.is_none() && !refusal.is_retryable() {
            let (service, url) = self.service();
            let message = format!(
                "what answers at `{url}` is not {service}, or does not know this call: \
                                   HTTP {} without {service}'s error document",
                status.as_u16()
            );
            return Ok(Err(Refusal { is_final: true, ..Refusal::no_answer(message) }));
        }
        Ok(Err(refusal))
    }

    /// What is spoken to, and where.
    fn service(&self) -> (&'static str, String) {
        let url = redacted(&self.base);
        match url.strip_suffix("/storage/v1") {
            Some(host) => ("Cloud Storage", host.to_owned()),
            None => ("BigQuery", url.trim_end_matches("/bigquery/v2").to_owned()),
        }
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
        let body = body.map(text_of);
        let asked = self.ask(what, &Ask { method, path, query, body, if_match: None }).await?;
        Ok(asked.map(|answer| answer.document))
    }

    /// The same for any question, with all that is known of the answer.
    pub(super) async fn ask(&self, what: &str, ask: &Ask<'_>) -> Result<Result<Answer, Refusal>> {
        let mut tries = self.tries(what);
        let mut repeated = false;
        loop {
            match self.ask_once(ask).await? {
                Err(refusal) if refusal.is_retryable() => tries.wait_or(refusal.into_error(what)).await?,
                Ok(answer) => return Ok(Ok(answer)),
                Err(refusal) => return Ok(Err(Refusal { repeated, ..refusal })),
            }
            repeated = true;
        }
    }

    fn no_answer(&self, start: &str, error: reqwest::Error) -> Refusal {
        let (_, url) = self.service();
        // On this machine a refused connection means that nothing listens; waiting brings nobody. One that
        // has answered before may be starting again.
        let is_here = error.url().is_some_and(is_loopback);
        if is_here && is_refused(&error) && !self.was_answered.load(Ordering::Relaxed) {
            let message = format!("nothing listens at `{url}`");
            return Refusal { is_final: true, ..Refusal::no_answer(message) };
        }
        let error = error.without_url();
        Refusal::no_answer(format!("{start} from `{url}`{}", causes(&error)))
    }

    /// The crate's error as ours; status and reason as far as the crate kept them.
    pub(super) fn refusal(&self, error: BQError) -> Result<Refusal> {
        match error {
            BQError::ResponseError { error } => {
                self.was_answered.store(true, Ordering::Relaxed);
                Ok(Refusal {
                    status: u16::try_from(error.error.code).unwrap_or(0),
                    reason: error
                        .error
                        .errors
                        .first()
                        .and_then(|e| e.get("reason").cloned())
                        .unwrap_or_default(),
                    ..Refusal::no_answer(error.error.message)
                })
            }
            // Also what the crate makes of any answer that is not its JSON, a 503 of a proxy for one.
            BQError::RequestError(error) => Ok(self.no_answer("no answer that can be read", error)),
            error => match auth::weather(&error) {
                Some(why) => Ok(Refusal { reason: NO_TOKEN.into(), ..Refusal::no_answer(why) }),
                None => Err(auth::no_token(&error)),
            },
        }
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        let io = cause.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = cause.source();
    }
    false
}

fn date_ms(http_date: &str) -> Option<u64> {
    let date = chrono::DateTime::parse_from_rfc2822(http_date).ok()?;
    u64::try_from(date.timestamp_millis()).ok()
}

/// Every cause on the way down, since reqwest's own message names none of them.
fn causes(error: &dyn std::error::Error) -> String {
    let mut message = String::new();
    let mut source = Some(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}
