//! Where records come from: one window of an HTTP API, or a file, as a stream of bytes.

mod excerpt;
mod files;
mod http;
mod limit;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use url::Url;

use crate::effects::{Door, Effects};
use crate::error::{Error, Result};
use crate::location::{Secrets, redacted};
use crate::partition::Window;

pub use excerpt::excerpt;
pub use http::Timeouts;
pub use limit::Limits;

/// How to ask for a window. `{after}`, `{before}` and `{day}` in the URL and the query stand for it.
#[derive(Debug, Clone)]
pub struct Options {
    pub url: String,
    /// Query parameters, in order. Only sent over HTTP.
    pub query: Vec<(String, String)>,
    /// Header names and values; the values may be secrets and are never shown.
    pub headers: Headers,
    /// Whether to ask for gzip; `None`: unless the source is on this machine, where it costs more than it saves.
    pub gzip: Option<bool>,
    /// Response header that holds the number of records, when the source sends one.
    pub count_header: Option<String>,
    pub timeouts: Timeouts,
    pub effects: Effects,
    pub limits: Limits,
}

/// Request headers. Debug shows the names only.
#[derive(Clone, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A body on its way: bytes after decompression, in order, cut anywhere.
///
/// The stream ends with an error unless the transfer ended as its framing says it should.
pub struct Body {
    pub stream: BoxStream<'static, Result<Bytes>>,
    /// Content-Type, or what the file's extension stands for.
    pub media_type: Option<String>,
    /// Bytes on the wire or on disk, when known; what `stream` yields may be more.
    pub length: Option<u64>,
    /// Records the source says it sends.
    pub records: Option<u64>,
    /// The transfer itself says where it ends; else only the document can.
    pub framed: bool,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Body { media_type, length, records, framed, .. } = self;
        write!(f, "Body {{ {media_type:?}, length: {length:?}, records: {records:?}, framed: {framed} }}")
    }
}

/// An API or files, ready to be asked for windows.
#[derive(Debug, Clone)]
pub struct Source {
    options: Options,
    transport: Transport,
}

#[derive(Debug, Clone)]
enum Transport {
    Http(http::Http),
    Files,
}

impl Source {
    pub fn new(options: Options) -> Result<Source> {
        let url = expand(&options.url, Window { after: 0, before: 1 });
        let parsed = Url::parse(&url).map_err(|e| {
            Error::usage(format!("`source.url` is no URL: `{}`", redacted(&options.url)))
                .caused_by(e)
                .hint("write `http://…`, `https://…` or `file:///absolute/path`")
        })?;
        let transport = match parsed.scheme() {
            "http" | "https" => Transport::Http(http::Http::new(&parsed, &options)?),
            "file" => Transport::Files,
            other => {
                return Err(Error::usage(format!("`source.url` has the scheme `{other}`"))
                    .hint("sources are read over `http`, `https` and from `file` URLs"));
            }
        };
        Ok(Source { options, transport })
    }

    /// What may not be shown of a body.
    pub fn secrets(&self) -> Secrets {
        secrets(&self.options)
    }

    /// False when every request brings everything there is, whatever window it asks for.
    pub fn has_windows(&self) -> bool {
        matches!(self.transport, Transport::Http(_)) || has_placeholder(&self.options.url)
    }

    /// Sends the request for one window, or opens its file.
    pub async fn open(&self, window: Window) -> Result<Body> {
        let mut url = Url::parse(&expand(&self.options.url, window))
            .map_err(|e| Error::usage("`source.url` is no URL for this window").caused_by(e))?;
        let body = async {
            match &self.transport {
                Transport::Files => files::open(&url, self.options.limits).await,
                Transport::Http(http) => {
                    if !self.options.query.is_empty() {
                        let query =
                            self.options.query.iter().map(|(key, value)| (key, expand(value, window)));
                        url.query_pairs_mut().extend_pairs(query);
                    }
                    http.get(url).await
                }
            }
        };
        let body = self.options.effects.pass(Door::Source, || format!("open {window}"), body).await?;
        Ok(self.watched(body, window))
    }

    /// The same body; its chunks pass the door one by one, if somebody watches it.
    fn watched(&self, body: Body, window: Window) -> Body {
        if !self.options.effects.is_watched() {
            return body;
        }
        let stream = futures::stream::unfold(
            Some((body.stream, self.options.effects.clone())),
            move |left| async move {
                let (mut stream, effects) = left?;
                let chunk = async { stream.next().await.transpose() };
                match effects.pass(Door::Source, || format!("read {window}"), chunk).await {
                    Ok(None) => None,
                    Ok(Some(bytes)) => Some((Ok(bytes), Some((stream, effects)))),
                    Err(error) => Some((Err(error), None)),
                }
            },
        );
        Body { stream: stream.boxed(), ..body }
    }
}

fn secrets(options: &Options) -> Secrets {
    let mut secrets = Secrets::default();
    if let Ok(url) = Url::parse(&options.url) {
        secrets.add_url(&url);
    }
    for (_, value) in options.query.iter().filter(|(_, value)| !has_placeholder(value)) {
        secrets.add(value);
    }
    options.headers.0.iter().for_each(|(_, value)| secrets.add_header(value));
    secrets
}

fn has_placeholder(text: &str) -> bool {
    ["{after}", "{before}", "{day}"].iter().any(|p| text.contains(p))
}

fn expand(text: &str, window: Window) -> String {
    text.replace("{after}", &window.after.to_string())
        .replace("{before}", &window.before.to_string())
        .replace("{day}", &window.days().0.to_string())
}

/// Default limits on waiting; every one of them can be set.
impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(10),
            headers: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            idle_bytes_min: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_stand_for_the_window() {
        let window = Window { after: 86_400, before: 172_800 };
        assert_eq!(expand("a={after}&b={before}&d={day}", window), "a=86400&b=172800&d=2");
    }
}
