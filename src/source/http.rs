//! One streamed GET: the only place where a source is spoken to over HTTP.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING};
use reqwest::redirect;
use tokio_util::io::{ReaderStream, StreamReader};
use url::Url;

use super::excerpt::excerpt;
use super::limit::{Limits, Packed, limited};
use super::{Body, Options, secrets};
use crate::effects::Clock;
use crate::error::{Error, Result};
use crate::location::{Secrets, is_loopback, redacted};
use crate::retry::parse_retry_after;

/// How long to wait for a connection, for the response's headers, and for the next bytes of a body.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    pub headers: Duration,
    pub idle: Duration,
    /// Bytes that must come within `idle`: one byte now and then is no progress.
    pub idle_bytes_min: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    timeouts: Timeouts,
    count_header: Option<String>,
    limits: Limits,
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
        for (name, value) in &options.headers.0 {
            let bad = || Error::usage(format!("header `{name}` cannot be sent"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
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
            .redirect(redirect::Policy::custom(follow));
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
            limits: options.limits,
            secrets: secrets(options),
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
                return Err(Error::failed(format!(
                    "source `{shown}` sent no answer in {seconds} s (timeout)"
                ))
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
                    "source `{shown}` sent the encoding `{other}`, which was not asked for (bad_encoding)"
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
        let chunks = response.bytes_stream().boxed();
        let stream = watched(chunks, shown, self.timeouts.idle, self.timeouts.idle_bytes_min);
        let packed = gzip.then(Packed::default);
        let stream = match &packed {
            Some(packed) => unpacked(stream, Packed::clone(packed)),
            None => stream,
        };
        let stream = limited(stream, self.limits, packed);
        Ok(Body { stream, media_type, length, records, framed })
    }
}

type Chunks = BoxStream<'static, reqwest::Result<Bytes>>;

/// Ends the body with an error where the connection does, and where too little comes for too long.
/// Only waiting counts: time in which nobody asked for more is not the source's.
fn watched(
    chunks: Chunks,
    shown: String,
    idle: Duration,
    bytes_min: u64,
) -> BoxStream<'static, Result<Bytes>> {
    let state = Some((chunks, Duration::ZERO, 0));
    let stream = futures::stream::unfold(state, move |state| {
        let shown = shown.clone();
        async move {
            let (mut chunks, waited, got) = state?;
            let since = tokio::time::Instant::now();
            let next = tokio::time::timeout(idle.saturating_sub(waited), chunks.next()).await;
            let waited = waited + since.elapsed();
            match next {
                Ok(None) => None,
                Ok(Some(Ok(bytes))) => {
                    let got = got + bytes.len() as u64;
                    let state =
                        if got < bytes_min { (chunks, waited, got) } else { (chunks, Duration::ZERO, 0) };
                    Some((Ok(bytes), Some(state)))
                }
                Ok(Some(Err(error))) => Some((Err(broken(&shown, error)), None)),
                Err(_) => {
                    let seconds = idle.as_secs();
                    let message = format!("source `{shown}` stalled: {got} bytes in {seconds} s (stalled)");
                    let hint =
                        "`source.idle_timeout_seconds` and `source.idle_bytes_min` say what a stall is";
                    Some((Err(Error::failed(message).retryable().hint(hint)), None))
                }
            }
        }
    });
    stream.boxed()
}

/// All members of a gzip body: some servers compress piece by piece, and reqwest reads only the first.
fn unpacked(stream: BoxStream<'static, Result<Bytes>>, packed: Packed) -> BoxStream<'static, Result<Bytes>> {
    let counted = stream.inspect_ok(move |bytes| {
        packed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    });
    let mut reader = GzipDecoder::new(StreamReader::new(counted.map_err(io::Error::other)));
    reader.multiple_members(true);
    let ours = |error: io::Error| {
        let early = error.kind() == io::ErrorKind::UnexpectedEof;
        match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(error) if early => {
                Error::failed("the gzip body ended early (truncated)").caused_by(error).retryable()
            }
            Err(error) => Error::failed("the gzip body is damaged (bad_gzip)").caused_by(error).retryable(),
        }
    };
    ReaderStream::with_capacity(reader, UNPACKED_BYTES).map_err(ours).boxed()
}

/// 64 KiB: about what HTTP gives at a time.
const UNPACKED_BYTES: usize = 64 << 10;

fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    match judge(attempt.previous(), attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(reason) => attempt.error(reason),
    }
}

/// Whether a redirect is followed: within the origin that was asked, and not in circles.
fn judge(previous: &[Url], next: &Url) -> Result<(), &'static str> {
    let Some(first) = previous.first() else { return Ok(()) };
    if first.origin() != next.origin() {
        // Another host must not see this one's headers, nor may this one make us ask another.
        return Err(match next {
            next if is_link_local(next) => "redirect to a link-local address refused (redirect_blocked)",
            next if first.scheme() == "https" && next.scheme() == "http" => {
                "redirect from https to http refused (redirect_downgrade)"
            }
            _ => "redirect to another origin refused (redirect_cross_origin)",
        });
    }
    if previous.contains(next) || previous.len() > REDIRECTS_MAX {
        return Err("redirects in circles (redirect_loop)");
    }
    Ok(())
}

const REDIRECTS_MAX: usize = 10;

/// Where clouds keep the credentials of their machines.
fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_link_local(),
        Some(url::Host::Ipv6(ip)) => {
            ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_link_local())
        }
        Some(url::Host::Domain(name)) => name == "metadata.google.internal",
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
    Error::failed(format!("source `{shown}` broke off (truncated)"))
        .caused_by(error.without_url())
        .retryable()
}

async fn refused(shown: &str, response: reqwest::Response, clock: &Clock, secrets: &Secrets) -> Error {
    let status = response.status();
    let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
    let wait = wait.and_then(|v| parse_retry_after(v, clock.unix_millis() / 1000));
    let body = start_of_body(response, secrets).await;
    let said = if body.is_empty() { String::new() } else { format!(": {body}") };
    let code = match status.as_u16() {
        429 => "rate_limited".to_owned(),
        number @ 400.. => format!("http_{number}"),
        number => format!("unexpected_status:{number}"),
    };
    let error = Error::failed(format!("source `{shown}` answered {status} ({code}){said}"));
    match status.as_u16() {
        429 | 500 | 502 | 503 | 504 => error.retryable().with_retry_after(wait),
        401 | 403 => error.hint("put credentials into a file and name it in `source.headers_file`"),
        _ => error,
    }
}

/// The first 200 characters, on one line: enough to see what the server meant.
async fn start_of_body(mut response: reqwest::Response, secrets: &Secrets) -> String {
    let mut body = Vec::new();
    while body.len() < 1000 {
        match tokio::time::timeout(Duration::from_secs(5), response.chunk()).await {
            Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
            _ => break,
        }
    }
    excerpt(&body, secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H09 to H12 of the bad inputs; the tests over a connection are in tests/it/bad_http.rs.
    #[test]
    fn redirects_stay_within_the_origin_and_end() {
        let url = |text: &str| Url::parse(text).expect("a URL");
        let from = |first: &str, next: &str| judge(&[url(first)], &url(next));
        let code = |verdict: Result<(), &'static str>| {
            verdict.err().and_then(|e| e.split_once('(')).map(|(_, code)| code.trim_end_matches(')'))
        };
        let here = "https://api.example/a";
        for (next, wanted) in [
            ("https://api.example/b", None),
            ("https://api.example:443/b?c", None),
            ("http://api.example/a", Some("redirect_downgrade")),
            ("http://other.example/a", Some("redirect_downgrade")),
            ("https://other.example/a", Some("redirect_cross_origin")),
            ("https://api.example:8443/a", Some("redirect_cross_origin")),
            ("https://api.example.evil/a", Some("redirect_cross_origin")),
            ("https://api.example@evil/a", Some("redirect_cross_origin")),
            ("http://169.254.169.254/computeMetadata/v1/", Some("redirect_blocked")),
            ("http://[::ffff:169.254.169.254]/", Some("redirect_blocked")),
            ("http://[fe80::1]/", Some("redirect_blocked")),
            ("http://2852039166/", Some("redirect_blocked")),
            ("http://metadata.google.internal/", Some("redirect_blocked")),
            ("file:///etc/passwd", Some("redirect_cross_origin")),
            (here, Some("redirect_loop")),
        ] {
            assert_eq!(code(from(here, next)), wanted, "{next}");
        }
        let many: Vec<Url> = (0..11).map(|n| url(&format!("https://api.example/{n}"))).collect();
        assert_eq!(judge(&many[..10], &many[10]), Ok(()));
        assert_eq!(code(judge(&many, &url("https://api.example/11"))), Some("redirect_loop"));
    }
}
