//! The HTTP side: what comes is checked, stored, and only then answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::auth::Gate;
use super::body::{Held, Limits, Memory};
use super::describe::{Description, flow_path};
use super::keys::{Keys, Remembered, key_of};
use super::letter::{Head, Letter};
use super::metrics::Metrics;
use super::payload::{Judged, Malformed, judge};
use super::problem::Problem;
use super::spool::{Folder, Refused, Spool};
use super::track::{Tracking, new_id};
use crate::effects::Clock;
use crate::error::Result;
use crate::schema::{Columns, Format};
use crate::serve::{self, Peer, Server, Tls};

/// What the HTTP side needs.
#[derive(Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// Names by which it is reached, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    pub connections_max: usize,
    pub tls: Option<Tls>,
    /// Of the one pipeline that is served.
    pub pipeline: String,
    pub columns: Columns,
    /// By which those who load the rows know these columns.
    pub columns_id: String,
    pub gate: Gate,
    pub limits: Limits,
    pub remembered: Remembered,
    pub metrics: Arc<Metrics>,
    pub tracking: Option<Arc<Tracking>>,
    pub clock: Clock,
}

/// One gateway, shared by all its requests.
#[derive(Debug)]
struct Front {
    pipeline: String,
    columns: Columns,
    columns_id: String,
    gate: Gate,
    memory: Memory,
    keys: Keys,
    spool: Arc<Spool<Folder>>,
    metrics: Arc<Metrics>,
    tracking: Option<Arc<Tracking>>,
    description: Description,
    clock: Clock,
}

/// Bodies up to this many bytes are judged where they came in: in about a millisecond.
const SMALL_BODY: usize = 128 << 10;
const KEY_BYTES_MAX: usize = 255;

/// Starts to listen. `letters` are those that the spool has from before.
pub async fn start(options: Options, spool: Arc<Spool<Folder>>, letters: Vec<Head>) -> Result<Server> {
    let keys = Keys::new(options.remembered, options.gate.users().count());
    for head in letters {
        keys.restore(head);
    }
    let front = Arc::new(Front {
        description: Description::new(
            &options.pipeline,
            &options.columns,
            options.tls.is_some(),
            options.tracking.is_some(),
        ),
        memory: Memory::new(options.limits, options.gate.users()),
        pipeline: options.pipeline,
        columns: options.columns,
        columns_id: options.columns_id,
        gate: options.gate,
        keys,
        spool,
        metrics: options.metrics,
        tracking: options.tracking,
        clock: options.clock,
    });
    let flow = flow_path("{pipeline}");
    let router = Router::new()
        .route("/v1/{pipeline}", post(take))
        .route("/v1/{pipeline}/metadata", get(metadata))
        .route(&format!("{flow}/stream"), post(take))
        .route(&format!("{flow}/metadata"), get(metadata))
        .route("/track", get(track))
        .route("/", get(page))
        .route("/openapi.json", get(open_api))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "rows are sent by POST")
                .closing()
        })
        .fallback(async || {
            Problem::new(StatusCode::NOT_FOUND, "not_found", "rows are sent to `/v1/<pipeline>`").closing()
        })
        .with_state(front);
    let server = serve::Options {
        hosts: options.hosts,
        connections_max: options.connections_max,
        closes_quiet: true,
        strict_heads: true,
        tls: options.tls,
        ..serve::Options::new(options.listen)
    };
    Server::start_with(server, router).await
}

async fn take(State(front): State<Arc<Front>>, Path(name): Path<String>, request: Request) -> Response {
    let started = Instant::now();
    let metrics = Arc::clone(&front.metrics);
    let response = match front.take(&name, request).await {
        Ok(head) => submitted(&head),
        Err(problem) => {
            tracing::debug!(status = problem.status().as_u16(), "nothing taken");
            problem.into_response()
        }
    };
    metrics.answered(response.status().as_u16(), started.elapsed());
    response
}

/// The same for the same head, whenever it is asked for.
fn submitted(head: &Head) -> Response {
    let mut answer = json!({
        "response": "Submitted",
        "accepted": head.accepted,
        "rejected": head.rejected,
        "id": head.id,
    });
    if !head.ignored.is_empty() {
        answer["ignored_fields"] = json!(head.ignored);
    }
    Json(answer).into_response()
}

impl Front {
    async fn take(self: Arc<Front>, name: &str, request: Request) -> Result<Arc<Head>, Problem> {
        let (parts, body) = request.into_parts();
        let user = self.enter(&parts.extensions, &parts.headers).await?;
        self.check_name(name)?;
        let is_lines = is_lines(&parts.headers)?;
        let key = idempotency_key(&parts.headers)?;
        let held = self.memory.read(&user, &parts.headers, body).await?;
        // On a task of its own: a sender who goes away must not leave a key behind that is stored and
        // not known, or the other way round.
        let stored = tokio::spawn(async move {
            // All of it, or the memory would be free for others when the sender goes away, and not the body.
            let Held { bytes, memory } = held;
            let key = key.map(|key| key_of(&user, &self.pipeline, &key, &bytes, is_lines));
            let (unix_ms, pipeline) = (self.clock.unix_millis(), self.pipeline.clone());
            let id = new_id(unix_ms);
            let (accepted, rejected, ignored) = (0, Vec::new(), Vec::new());
            let (user, columns) = (user.to_string(), Some(self.columns_id.clone()));
            let head =
                Head { id, pipeline, unix_ms, user, is_lines, accepted, columns, rejected, ignored, key };
            let stored = self.store_once(head, bytes).await;
            drop(memory);
            stored
        });
        stored.await.unwrap_or_else(|_| Err(Refused::Stopped(String::new()).into()))
    }

    /// Stores a body, unless one with the same key is stored already.
    async fn store_once(&self, head: Head, body: Vec<u8>) -> Result<Arc<Head>, Problem> {
        let Some(key) = head.key.clone() else { return self.store(head, body).await };
        let slot = self.keys.slot(&key).await;
        if let Some(earlier) = &*slot {
            if earlier.key.as_ref() == Some(&key) {
                return Ok(Arc::clone(earlier));
            }
            let message = "this Idempotency-Key came with another body before";
            return Err(Problem::new(StatusCode::CONFLICT, "key_reused", message));
        }
        match self.store(head, body).await {
            Ok(head) => {
                self.keys.answered(slot, Arc::clone(&head));
                Ok(head)
            }
            Err(problem) => {
                self.keys.failed(slot, &key);
                Err(problem)
            }
        }
    }

    async fn store(&self, mut head: Head, body: Vec<u8>) -> Result<Arc<Head>, Problem> {
        let (judged, body) = self.judge(body, head.format()).await?;
        let Judged { accepted, num_rejected, rejected, ignored } = match judged {
            Ok(judged) => judged,
            Err(malformed) => return Err(self.nothing_taken(head, body, 0, malformed.into()).await),
        };
        let rows = accepted + num_rejected;
        self.metrics.rows_in.inc_by(rows);
        self.metrics.rows_rejected.inc_by(num_rejected);
        if num_rejected > rejected.len() as u64 {
            // Those that fit count as rejected too: none of them is taken.
            self.metrics.rows_rejected.inc_by(accepted);
            let problem = Problem::too_many_rejected(num_rejected, rows, &rejected);
            head.rejected = rejected;
            return Err(self.nothing_taken(head, body, rows, problem).await);
        }
        (head.accepted, head.rejected, head.ignored) = (accepted, rejected, ignored);
        if accepted == 0 {
            let problem = match &head.rejected[..] {
                [] => Problem::new(StatusCode::BAD_REQUEST, "no_rows", "there are no rows in the body"),
                rejected => Problem::no_row_fits(rejected),
            };
            return Err(self.nothing_taken(head, body, rows, problem).await);
        }
        let letter = Letter { head, body };
        let bytes = letter.to_bytes().map_err(|e| Refused::Stopped(e.to_string()))?;
        self.spool.append(bytes).await?;
        self.metrics.rows_acknowledged.inc_by(accepted);
        Ok(Arc::new(letter.head))
    }

    /// What the sender of a body is told of whose rows none is taken, once an operator can find it.
    async fn nothing_taken(&self, head: Head, body: Vec<u8>, rows: u64, problem: Problem) -> Problem {
        let Some(tracking) = &self.tracking else { return problem };
        let id = head.id.clone();
        tracking.rejected(head, body, rows, problem.said()).await;
        problem.with_id(&id)
    }

    async fn judge(
        &self,
        body: Vec<u8>,
        format: Format,
    ) -> Result<(Result<Judged, Malformed>, Vec<u8>), Problem> {
        if body.len() <= SMALL_BODY {
            return Ok((judge(&body, format, &self.columns), body));
        }
        let columns = self.columns.clone();
        let judged = self.memory.work(move || (judge(&body, format, &columns), body)).await;
        Ok(judged.map_err(Refused::Stopped)?)
    }

    async fn enter(
        &self,
        extensions: &axum::http::Extensions,
        headers: &HeaderMap,
    ) -> Result<Arc<str>, Problem> {
        let peer = extensions.get::<Peer>().map(|Peer(peer)| peer.ip());
        let peer = peer.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
        let header = headers.get(header::AUTHORIZATION).map(|header| header.as_bytes());
        Ok(self.gate.check(peer, header).await?)
    }

    /// A name is only ever compared, and never a part of a path.
    fn check_name(&self, name: &str) -> Result<(), Problem> {
        let is_legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || name.len() > 100 || !name.bytes().all(is_legal) {
            let message = "a pipeline's name has letters, digits and `_`, at most 100";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_name", message).closing());
        }
        // The seed writes its flows in capitals.
        if !name.eq_ignore_ascii_case(&self.pipeline) {
            let message = format!("there is no pipeline `{name}` here");
            return Err(Problem::new(StatusCode::NOT_FOUND, "no_such_pipeline", message).closing());
        }
        Ok(())
    }
}

/// By the Content-Type, if there is one: some clients send none for a text they are given.
fn is_lines(headers: &HeaderMap) -> Result<bool, Problem> {
    let Some(header) = headers.get(header::CONTENT_TYPE) else { return Ok(false) };
    let text = header.to_str().unwrap_or_default().to_ascii_lowercase();
    let (kind, parameters) = text.split_once(';').unwrap_or((&text, ""));
    let charset = parameters.split(';').find_map(|p| p.trim().strip_prefix("charset="));
    let is_utf8 =
        charset.is_none_or(|charset| ["utf-8", "utf8", "us-ascii"].contains(&charset.trim_matches('"')));
    match kind.trim() {
        "application/json" | "text/json" if is_utf8 => Ok(false),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json-lines"
            if is_utf8 =>
        {
            Ok(true)
        }
        _ => {
            let message = "rows come as `Content-Type: application/json` or `application/x-ndjson`, in UTF-8";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message).closing())
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key.as_bytes().to_vec())),
        _ => {
            let message = format!("one Idempotency-Key of 1 to {KEY_BYTES_MAX} bytes");
            Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_key", message).closing())
        }
    }
}

async fn metadata(
    State(front): State<Arc<Front>>,
    Path(name): Path<String>,
    request: axum::http::Request<Body>,
) -> Result<Response, Problem> {
    front.enter(request.extensions(), request.headers()).await?;
    front.check_name(&name)?;
    Ok(Json(front.description.metadata()).into_response())
}

async fn track(
    State(front): State<Arc<Front>>,
    request: axum::http::Request<Body>,
) -> Result<Response, Problem> {
    let user = front.enter(request.extensions(), request.headers()).await?;
    let Some(tracking) = &front.tracking else {
        let message = "this gateway tracks no requests; it was started without `--track`";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_tracked", message));
    };
    let answer = tracking.answer(&user, request.uri().query().unwrap_or_default()).await?;
    // Identifiers, and bodies, are nobody else's: no cache keeps them.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

async fn open_api(State(front): State<Arc<Front>>) -> Response {
    Json(front.description.open_api()).into_response()
}

async fn page(State(front): State<Arc<Front>>) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(front.description.page())).into_response()
}

/// Ready as long as the spool would take a record.
async fn ready(State(front): State<Arc<Front>>) -> Response {
    match front.spool.has_room().await {
        Ok(true) => "ready\n".into_response(),
        Ok(false) => Problem::from(Refused::Full).into_response(),
        Err(refused) => Problem::from(refused).into_response(),
    }
}

async fn metrics(State(front): State<Arc<Front>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    front.metrics.spool_has(front.spool.bytes());
    ([(header::CONTENT_TYPE, kind)], front.metrics.text()).into_response()
}
