//! How every server here listens: loopback unless told otherwise, Host checked, slow clients cut off.

mod tls;
mod wire;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tower::util::{MapRequest, MapResult};

use crate::error::{Error, Result};
pub use tls::Tls;
use wire::{Seen, Stream, Wire};

/// 10 s for a client to send its headers: axum has no such limit of its own.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// More than the 300 concurrent requests that BigQuery allows one user.
const CONNECTIONS_MAX: usize = 512;

/// Who has sent nothing for this long makes room for others, where a server is full and says so.
const QUIET_MIN: Duration = Duration::from_secs(1);

/// How a server listens.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    /// Names beside addresses and `localhost` that a Host header may have.
    pub hosts: Vec<String>,
    pub connections_max: usize,
    /// When all connections are in use, the one that has been quiet for longest is closed for a new one.
    /// Only for servers that answer at once: one that works for minutes has quiet clients.
    pub closes_quiet: bool,
    /// Heads that others could read in another way get 400.
    pub strict_heads: bool,
    /// Then nothing is said but by TLS.
    pub tls: Option<Tls>,
}

impl Options {
    pub fn new(listen: SocketAddr) -> Options {
        let (hosts, connections_max) = (Vec::new(), CONNECTIONS_MAX);
        Options { listen, hosts, connections_max, closes_quiet: false, strict_heads: false, tls: None }
    }
}

/// In a request's extensions: who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// In a request's extensions: what is wrong with its head.
#[derive(Debug, Clone, Copy)]
struct WrongHead(&'static str);

/// In a request's extensions: what comes behind it on its connection could not be looked at.
#[derive(Debug, Clone, Copy)]
struct LastOne;

/// In a response's extensions: instead of it, the connection is closed.
#[derive(Debug, Clone, Copy)]
pub struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hung up")
    }
}

impl std::error::Error for HangUp {}

impl From<Infallible> for HangUp {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A server at work on a task of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    scheme: &'static str,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Binds `listen` (port 0 picks a free one) and serves `router` until stopped.
    ///
    /// Requests whose Host header names neither a loopback address nor the bound address get 403:
    /// without that a web page could reach the server through a name that it rebinds to loopback. So do
    /// requests from a page of another origin, whose writes a browser sends without asking first.
    pub async fn start(listen: SocketAddr, router: Router) -> Result<Server> {
        Server::start_with(Options::new(listen), router).await
    }

    /// The same, with other limits.
    pub async fn start_with(options: Options, router: Router) -> Result<Server> {
        let listen = options.listen;
        let listener = TcpListener::bind(listen).await.map_err(|e| {
            Error::failed(format!("cannot listen on `{listen}`"))
                .caused_by(e)
                .hint("choose another port, or 0 for any free one")
        })?;
        let addr =
            listener.local_addr().map_err(|e| Error::failed("cannot read the bound address").caused_by(e))?;
        let hosts: Arc<[String]> = options.hosts.iter().cloned().collect();
        let router = router.layer(middleware::from_fn(move |request: Request, next: Next| {
            check_host(addr, Arc::clone(&hosts), request, next)
        }));
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept_loop(listener, router, options, stopped));
        Ok(Server { addr, scheme, stop, task })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:port`, for clients; with TLS `https://…`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// Stops accepting, lets open requests end for at most a second, and returns.
    pub async fn stop(self) {
        self.stop_within(Duration::from_secs(1)).await;
    }

    /// Stops accepting, and returns when open requests have ended or `patience` has. After a second it says what it
    /// waits for.
    pub async fn stop_within(mut self, patience: Duration) {
        let _ = self.stop.send(true);
        let told = Duration::from_secs(1).min(patience);
        if tokio::time::timeout(told, &mut self.task).await.is_err() && told < patience {
            tracing::warn!(at_most = ?patience, "waits for requests that are still open");
            if tokio::time::timeout(patience - told, &mut self.task).await.is_err() {
                tracing::warn!("requests that were still open are hung up on");
            }
        }
    }

    /// Waits for ever, or until the accept loop dies.
    pub async fn wait(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        self.task.abort();
    }
}

/// Connections by number, with what ends each.
#[derive(Debug, Default)]
struct Connections(Mutex<BTreeMap<u64, (AbortHandle, Arc<Seen>)>>);

impl Connections {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, (AbortHandle, Arc<Seen>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection that has been quiet for longest, if it has been for a while.
    fn close_quietest(&self) {
        let open = self.open();
        let quietest = open.values().min_by_key(|(_, seen)| seen.last_read());
        if let Some((connection, _)) = quietest.filter(|(_, seen)| seen.last_read().elapsed() > QUIET_MIN) {
            connection.abort();
        }
    }
}

async fn accept_loop(
    listener: TcpListener,
    router: Router,
    options: Options,
    mut stopped: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let open = Arc::new(Connections::default());
    let mut connections = tokio::task::JoinSet::new();
    for number in 0.. {
        if options.closes_quiet && slots.available_permits() == 0 {
            open.close_quietest();
        }
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            // Somebody will have been quiet for long enough by then.
            () = tokio::time::sleep(QUIET_MIN / 10), if options.closes_quiet => continue,
            _ = stopped.changed() => break,
        };
        let Ok(slot) = slot else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let seen = Arc::new(Seen::new());
        let heads = options.strict_heads.then(|| Arc::clone(&seen));
        let marked = MapRequest::new(router.clone(), move |mut request: axum::http::Request<_>| {
            request.extensions_mut().insert(Peer(peer));
            if let Some(wrong) = heads.as_ref().and_then(|seen| seen.wrong(request.headers())) {
                request.extensions_mut().insert(WrongHead(wrong));
            }
            if heads.is_some() && request.headers().contains_key(header::TRANSFER_ENCODING) {
                request.extensions_mut().insert(LastOne);
            }
            request
        });
        let service = TowerToHyperService::new(MapResult::new(marked, answer_or_hang_up));
        let (mut stopped, tls, still_open) = (stopped.clone(), options.tls.clone(), Arc::clone(&open));
        let read = Arc::clone(&seen);
        // Locked until it is in the list, so that it cannot end before.
        let mut list = open.open();
        let connection = connections.spawn(async move {
            let _slot = slot;
            let _entry = Entry(still_open, number);
            let stream: Box<dyn Stream> = match tls {
                None => Box::new(stream),
                Some(tls) => {
                    let shaken = tokio::select! {
                        shaken = tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)) => shaken,
                        _ = stopped.changed() => return,
                    };
                    let Ok(Some(stream)) = shaken else { return };
                    Box::new(stream)
                }
            };
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let connection = builder.serve_connection(TokioIo::new(Wire::new(stream, read)), service);
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended early");
            }
        });
        list.insert(number, (connection, seen));
    }
    while connections.join_next().await.is_some() {}
}

/// Takes a connection from the list when it ends, however it does.
struct Entry(Arc<Connections>, u64);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.open().remove(&self.1);
    }
}

/// hyper closes a connection whose service fails, and sends nothing.
fn answer_or_hang_up(answer: Result<Response, Infallible>) -> Result<Response, HangUp> {
    let Ok(response) = answer;
    match response.extensions().get::<HangUp>() {
        Some(hang_up) => Err(*hang_up),
        None => Ok(response),
    }
}

async fn check_host(addr: SocketAddr, hosts: Arc<[String]>, request: Request, next: Next) -> Response {
    if let Some(WrongHead(wrong)) = request.extensions().get() {
        let close = [(header::CONNECTION, "close")];
        return (StatusCode::BAD_REQUEST, close, format!("{wrong}\n")).into_response();
    }
    if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
        return (StatusCode::BAD_REQUEST, [(header::CONNECTION, "close")], "two Host headers\n")
            .into_response();
    }
    let host_is_allowed = |host: &str, addr| is_allowed(host, &hosts, addr);
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    if !host_is_allowed(host, addr) {
        return (StatusCode::FORBIDDEN, format!("host `{host}` is not served here\n")).into_response();
    }
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        if !host_is_allowed(host, addr) {
            return (StatusCode::FORBIDDEN, format!("origin `{origin}` is not served here\n"))
                .into_response();
        }
    }
    let is_last = request.extensions().get::<LastOne>().is_some();
    let mut response = next.run(request).await;
    if is_last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn is_allowed(host: &str, hosts: &[String], addr: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|host| host.eq_ignore_ascii_case(bare))
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip == addr.ip() || addr.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebound_name_is_refused_and_loopback_in_any_spelling_is_not() {
        let addr: SocketAddr = "127.0.0.1:9050".parse().expect("an address");
        for host in ["127.0.0.1:9050", "127.0.0.1", "localhost:9050", "LOCALHOST", "[::1]:9050"] {
            assert!(is_allowed(host, &[], addr), "{host}");
        }
        for host in ["", "evil.example:9050", "evil.example", "10.0.0.1:9050", "127.0.0.1.evil.example"] {
            assert!(!is_allowed(host, &[], addr), "{host}");
        }
        assert!(is_allowed("Gateway.example:443", &["gateway.example".into()], addr));
    }
}
