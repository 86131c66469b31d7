//! The source API of the demo: flow records over HTTP, generated from a seed or read from a file.

mod flows;
mod given;
mod render;
mod world;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::stream;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use crate::error::Result;
use crate::serve::Server;
use flows::Plan;

pub use flows::Flows;
pub use given::{Record, read_records};
pub use render::Body;

/// How many records the answer holds, so that a client can prove that it has them all.
pub const RECORD_COUNT: HeaderName = HeaderName::from_static("x-record-count");
/// Where `scanned_before` ends when it is left out: the last second of day 58, rounded up.
const SCANNED_BEFORE: u64 = 5_011_300;

/// What the API serves.
#[derive(Debug, Clone)]
pub enum Content {
    Generated(Flows),
    /// In the order of the file; a window takes the records whose time lies in it.
    Given(Arc<Vec<Record>>),
}

#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    pub content: Content,
}

/// Serves `GET /api/v1/stream/flows` until the server is dropped.
pub async fn start(options: Options) -> Result<Server> {
    Server::start(options.listen, router(options.content)).await
}

fn router(content: Content) -> Router {
    let source = match content {
        Content::Generated(flows) => Source::Generated(Arc::new(flows.plan())),
        Content::Given(records) => Source::Given(records),
    };
    // The fastest level: a slow source would hide what the client can do.
    let gzip = CompressionLayer::new().quality(CompressionLevel::Fastest);
    Router::new()
        .route("/api/v1/stream/flows", get(stream_flows))
        .layer(gzip)
        .route("/", get(about))
        .route("/healthz", get(async || "ok\n"))
        .with_state(source)
}

#[derive(Debug, Clone)]
enum Source {
    Generated(Arc<Plan>),
    Given(Arc<Vec<Record>>),
}

async fn about() -> &'static str {
    "api2bq demo source\n\
     GET /api/v1/stream/flows?scanned_after=A&scanned_before=B&limit=N&format=xml|json\n\
     records with A < time <= B; day d is A=(d-1)*86400, B=d*86400\n"
}

async fn stream_flows(State(source): State<Source>, RawQuery(query): RawQuery) -> Response {
    let window = match Window::parse(query.as_deref().unwrap_or_default()) {
        Ok(window) => window,
        Err(message) => return (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response(),
    };
    let Window { after, before, limit, body } = window;
    let content_type = match body {
        Body::Xml => "application/xml",
        Body::Ndjson => "application/x-ndjson",
    };
    let (count, chunks): (u64, Box<dyn Iterator<Item = Bytes> + Send>) = match source {
        Source::Generated(plan) => {
            (plan.count(after, before), Box::new(flows::chunks(plan, after, before, limit, body)))
        }
        Source::Given(records) => (
            given::count(&records, after, before),
            Box::new(given::chunks(records, after, before, limit, body)),
        ),
    };
    let count = limit.map_or(count, |limit| count.min(limit));
    let headers = [(header::CONTENT_TYPE, content_type.to_string()), (RECORD_COUNT, count.to_string())];
    // Each chunk is made when the connection asks for it, so a slow client costs one chunk of memory.
    let chunks = stream::iter(chunks.map(Ok::<_, Infallible>));
    (headers, HttpBody::from_stream(chunks)).into_response()
}

/// The query of one request: records with `after < time <= before`.
#[derive(Debug, PartialEq)]
struct Window {
    after: u64,
    before: u64,
    limit: Option<u64>,
    body: Body,
}

impl Window {
    /// The error is the one line that the client sees; it names the parameter.
    fn parse(query: &str) -> Result<Window, String> {
        let (mut after, mut before, mut limit, mut body) = (None, None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let again = match name.as_ref() {
                "scanned_after" => after.replace(whole_number(&name, &value)?).is_some(),
                "scanned_before" => before.replace(whole_number(&name, &value)?).is_some(),
                "limit" => limit.replace(whole_number(&name, &value)?).is_some(),
                "format" => body.replace(parse_format(&value)?).is_some(),
                _ => {
                    return Err(format!(
                        "no parameter `{}`; valid are scanned_after, scanned_before, limit, format",
                        name.escape_debug()
                    ));
                }
            };
            if again {
                return Err(format!("`{name}` is given twice"));
            }
        }
        let (after, before) = (after.unwrap_or(0), before.unwrap_or(SCANNED_BEFORE));
        if after > before {
            return Err(format!("`scanned_after` {after} is greater than `scanned_before` {before}"));
        }
        Ok(Window { after, before, limit, body: body.unwrap_or(Body::Xml) })
    }
}

fn whole_number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("`{name}`: `{}` is not a whole number", value.escape_debug()))
}

fn parse_format(value: &str) -> Result<Body, String> {
    match value {
        "xml" => Ok(Body::Xml),
        "json" => Ok(Body::Ndjson),
        _ => Err(format!("`format`: no format `{}`; valid are xml, json", value.escape_debug())),
    }
}

#[cfg(test)]
mod tests;
