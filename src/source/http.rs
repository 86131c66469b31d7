//! One streamed GET: the only place where a source is spoken to over HTTP.

use std::io;
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use reqwest::redirect;
use tokio_util::io::{ReaderStream, StreamReader};
use url::Url;

use super::{Body, Options};
use crate::effects::Clock;
use crate::error::{Error, Result};
use crate::location::{Secrets, redacted};
use crate::retry::parse_retry_after;

/// How long to wait for a connection, for the response's headers, and between two chunks.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    pub headers: Duration,
    pub idle: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    timeouts: Timeouts,
    count_header: Option<String>,
    clock: Clock,
    /// What was sent and must not be shown when a server repeats it.
    secrets: Secrets,
}

impl Http {
    pub(super) fn new(url: &Url, options: &Options) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if options.gzip.unwrap_or(!is_loopback(url)) {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let mut secrets = Secrets::default();
        for (name, value) in &options.headers.0 {
            let bad = || Error::usage(format!("header `{name}` cannot be sent"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            secrets.add(value);
            let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("api2bq/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(options.timeouts.connect)
            // reqwest would read the first member of a gzip body and leave the others out.
            .no_gzip()
            .redirect(redirect::Policy::custom(same_origin));
        if is_loopback(url) {
            // A proxy set for the outside world has no business with this machine's own servers.
            builder = builder.no_proxy();
        }
        let client =
            builder.build().map_err(|e| Error::failed("cannot set up the HTTP client").caused_by(e))?;
        Ok(Http {
            client,
            timeouts: options.timeouts,
            count_header: options.count_header.clone(),
            secrets,
            clock: options.effects.clock.clone(),
        })
    }

    pub(super) async fn get(&self, url: Url) -> Result<Body> {
        let shown = redacted(url.as_str());
        let mut secrets = self.secrets.clone();
        secrets.add_url(&url);
        let sent = tokio::time::timeout(self.timeouts.headers, self.client.get(url).send()).await;
        let response = match sent {
            Ok(sent) => sent.map_err(|e| unreachable(&shown, e))?,
            Err(_) => {
                let seconds = self.timeouts.headers.as_secs();
                return Err(Error::failed(format!("source `{shown}` sent no answer in {seconds} s"))
                    .retryable()
                    .hint("raise `source.headers_timeout_seconds` if the source needs longer"));
            }
        };
        let status = response.status();
        if status.as_u16() != 200 {
            return Err(refused(&shown, response, &self.clock, &secrets).await);
        }
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        let encoding = header("content-encoding").filter(|name| *name != "identity");
        let gzip = match encoding {
            None => false,
            Some("gzip" | "x-gzip") => true,
            Some(other) => {
                return Err(Error::failed(format!(
                    "source `{shown}` sent the encoding `{other}`, which was not asked for"
                )));
            }
        };
        // HTTP/1.0 and bare connections end a body by closing, as a broken one does.
        let framed = response.version() >= reqwest::Version::HTTP_2
            || response.headers().contains_key(TRANSFER_ENCODING)
            || response.content_length().is_some();
        let media_type = header("content-type").map(str::to_owned);
        let records = self.count_header.as_deref().and_then(header).and_then(|v| v.parse().ok());
        let length = response.content_length();
        let idle = self.timeouts.idle;
        let chunks = Box::pin(response.bytes_stream());
        let stream = futures::stream::unfold(Some((chunks, shown)), move |state| async move {
            let (mut chunks, shown) = state?;
            let next: Result<Bytes> = match tokio::time::timeout(idle, chunks.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(bytes))) => return Some((Ok(bytes), Some((chunks, shown)))),
                Ok(Some(Err(error))) => Err(broken(&shown, error)),
                Err(_) => {
                    Err(Error::failed(format!("source `{shown}` stalled: no byte in {} s", idle.as_secs()))
                        .retryable())
                }
            };
            Some((next, None))
        });
        let stream = if gzip { unpacked(stream.boxed()) } else { stream.boxed() };
        Ok(Body { stream, media_type, length, records, framed })
    }
}

/// All members of a gzip body: some servers compress piece by piece, and reqwest reads only the first.
fn unpacked(packed: BoxStream<'static, Result<Bytes>>) -> BoxStream<'static, Result<Bytes>> {
    let mut reader = GzipDecoder::new(StreamReader::new(packed.map_err(io::Error::other)));
    reader.multiple_members(true);
    let ours = |error: io::Error| match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) => Error::failed("the gzip body is damaged or ended early").caused_by(error).retryable(),
    };
    ReaderStream::with_capacity(reader, UNPACKED_BYTES).map_err(ours).boxed()
}

/// 64 KiB: about what HTTP gives at a time.
const UNPACKED_BYTES: usize = 64 << 10;

fn same_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let first = attempt.previous().first().map(Url::origin);
    if attempt.previous().len() > 10 {
        attempt.error("more than 10 redirects")
    } else if first == Some(attempt.url().origin()) {
        attempt.follow()
    } else {
        // Another host must not see this one's headers, nor may this one make us ask another.
        attempt.error("redirect to another origin refused")
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn unreachable(shown: &str, error: reqwest::Error) -> Error {
    let redirect = error.is_redirect();
    let is_connect = error.is_connect();
    let refused_here = is_connect && error.url().is_some_and(is_loopback);
    let failure = Error::failed(format!("cannot reach source `{shown}`")).caused_by(error.without_url());
    if redirect {
        return failure;
    }
    // On this machine a refused connection means that nothing listens; waiting brings nobody.
    let failure = if refused_here { failure } else { failure.retryable() };
    let failure = if is_connect { failure.unreachable() } else { failure };
    failure.hint("is it running? `api2bq source` serves the demo flows; `--set source.url=…` names another")
}

fn broken(shown: &str, error: reqwest::Error) -> Error {
    Error::failed(format!("source `{shown}` broke off")).caused_by(error.without_url()).retryable()
}

async fn refused(shown: &str, response: reqwest::Response, clock: &Clock, secrets: &Secrets) -> Error {
    let status = response.status();
    let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
    let wait = wait.and_then(|v| parse_retry_after(v, clock.unix_millis() / 1000));
    let body = start_of_body(response, secrets).await;
    let said = if body.is_empty() { String::new() } else { format!(": {body}") };
    let error = Error::failed(format!("source `{shown}` answered {status}{said}"));
    match status.as_u16() {
        429 | 500 | 502 | 503 | 504 => error.retryable().with_retry_after(wait),
        401 | 403 => error.hint("put credentials into a file and name it in `source.headers_file`"),
        _ => error,
    }
}

/// The first 200 characters, on one line: enough to see what the server meant.
async fn start_of_body(mut response: reqwest::Response, secrets: &Secrets) -> String {
    let mut body = Vec::new();
    while body.len() < 800 {
        match tokio::time::timeout(Duration::from_secs(5), response.chunk()).await {
            Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
            _ => break,
        }
    }
    let text = secrets.taken_out_of(&String::from_utf8_lossy(&body));
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
