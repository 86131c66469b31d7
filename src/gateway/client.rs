//! A gateway from outside: what its senders, and those who ask it, need.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{StatusCode, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::{Error, Result};
use crate::location::{Secrets, is_loopback};

/// Where a gateway is, and who speaks to it.
#[derive(Debug, Clone)]
pub struct Access {
    pub url: Url,
    pub user: String,
    pub password: Password,
}

/// Shown to nobody but the gateway.
#[derive(Clone)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Connections to one gateway, as one user. Cheap to clone; all clones share them.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    user: String,
    /// What was sent and must not be shown when a server repeats it.
    secrets: Secrets,
}

/// How a request ended that brought no answer of use.
#[derive(Debug)]
pub enum Failure {
    /// An answer with this status, and the gateway's words if they are.
    Refused { status: StatusCode, reason: Option<String>, message: Option<String> },
    /// No answer, or one that is not a gateway's; in one word, and in the words of the client.
    Lost { kind: &'static str, error: reqwest::Error },
}

#[derive(Debug, Deserialize)]
struct Problem {
    error: ProblemError,
}

#[derive(Debug, Deserialize)]
struct ProblemError {
    reason: String,
    message: String,
}

/// An answer comes within milliseconds; this long after a request nobody waits for it any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

impl Client {
    pub fn new(access: &Access) -> Result<Client> {
        let url = &access.url;
        if url.cannot_be_a_base() || !matches!(url.scheme(), "http" | "https") {
            return Err(Error::usage("the URL of a gateway starts with `http://` or `https://`"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::usage("there are credentials in the URL of the gateway")
                .hint("give the user by `--user`, and never a password on the command line"));
        }
        if url.scheme() == "http" && !is_loopback(url) {
            tracing::warn!(%url, "the password goes in the clear; https would hide it");
        }
        let credentials = STANDARD.encode(format!("{}:{}", access.user, access.password.0));
        let mut authorization = HeaderValue::from_str(&format!("Basic {credentials}"))
            .map_err(|_| Error::usage("the credentials cannot be sent"))?;
        authorization.set_sensitive(true);
        let mut secrets = Secrets::default();
        secrets.add(&access.password.0);
        secrets.add(&credentials);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("api2bq/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, authorization)]))
            .timeout(ANSWER_TIMEOUT)
            .http1_only()
            .redirect(redirect::Policy::none());
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|e| Error::failed("cannot set up the HTTP client").caused_by(e))?;
        Ok(Client { http, url: url.clone(), user: access.user.clone(), secrets })
    }

    /// The gateway's address for people.
    pub fn shown_url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The answer to a question, as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        let mut url = self.at(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.answer(self.http.get(url)).await;
        answer.map_err(|failure| self.explain(failure))
    }

    /// Sends rows to a pipeline, as one object or an array.
    pub(super) async fn post<T: DeserializeOwned>(&self, url: Url, rows: String) -> Result<T, Failure> {
        let json = HeaderValue::from_static("application/json");
        self.answer(self.http.post(url).header(CONTENT_TYPE, json).body(rows)).await
    }

    /// The URL of something the gateway serves; names become parts of its path, whatever is in them.
    pub(super) fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path);
        }
        url
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Failure> {
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        if status == StatusCode::OK {
            return response.json().await.map_err(lost);
        }
        let problem: Option<Problem> = response.json().await.ok();
        let clean = |text: &str| self.secrets.taken_out_of(text);
        let (reason, message) = problem.map(|p| (clean(&p.error.reason), clean(&p.error.message))).unzip();
        Err(Failure::Refused { status, reason, message })
    }

    fn explain(&self, failure: Failure) -> Error {
        let (url, user) = (self.shown_url(), &self.user);
        match failure {
            Failure::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                Error::usage(format!("the gateway at `{url}` does not know user `{user}` with this password"))
                    .hint("`api2bq gateway passwd` sets one; a running gateway has to be started again then")
            }
            Failure::Refused { status, message, .. } => {
                let message = message.unwrap_or_else(|| "without a word; is it a gateway?".to_owned());
                let message = format!("the gateway at `{url}` answered {}: {message}", status.as_u16());
                match status {
                    // Asked again it would say the same.
                    StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Error::usage(message),
                    _ => Error::failed(message),
                }
            }
            Failure::Lost { kind, error } => {
                Error::failed(format!("no answer of a gateway at `{url}`: {kind}"))
                    .caused_by(error)
                    .hint("`api2bq gateway` starts one; `--url` says where it listens")
            }
        }
    }
}

impl fmt::Display for Failure {
    /// `503 spool_full`, `timed out`: the same words for the same failure, to be counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused { status, reason, .. } => {
                let reason = reason.as_ref().map_or(String::new(), |reason| format!(" {reason}"));
                write!(f, "{}{reason}", status.as_u16())
            }
            Failure::Lost { kind, .. } => f.write_str(kind),
        }
    }
}

fn lost(error: reqwest::Error) -> Failure {
    let kind = match &error {
        e if e.is_timeout() => "timed out",
        e if e.is_connect() => "not connected",
        e if e.is_decode() => "not understood",
        _ => "connection lost",
    };
    Failure::Lost { kind, error: error.without_url() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: &str) -> Access {
        Access { url: url.parse().unwrap(), user: "ann".into(), password: Password("hunter2".into()) }
    }

    #[test]
    fn nothing_shows_the_password_and_names_stay_parts_of_the_path() {
        let access = access("http://127.0.0.1:8080/prefix/");
        let client = Client::new(&access).unwrap();
        for shown in [format!("{access:?}"), format!("{client:?}")] {
            assert!(!shown.contains("hunter2") && !shown.contains("YW5uOmh1bnRlcjI="), "{shown}");
        }
        assert_eq!(client.at(&["v1", "a/../b"]).as_str(), "http://127.0.0.1:8080/prefix/v1/a%2F..%2Fb");
    }

    #[test]
    fn a_url_with_credentials_or_of_another_kind_is_refused_and_not_shown() {
        for url in
            ["http://ann:hunter2@127.0.0.1", "http://hunter2@127.0.0.1", "ftp://127.0.0.1", "data:hunter2"]
        {
            let error = Client::new(&access(url)).expect_err(url);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
