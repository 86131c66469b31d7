//! How every server here listens: loopback unless told otherwise, Host checked, slow clients cut off.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tower::util::MapResult;

use crate::error::{Error, Result};

/// 10 s for a client to send its headers: axum has no such limit of its own.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// More than the 300 concurrent requests that BigQuery allows one user.
const CONNECTIONS_MAX: usize = 512;

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
        let listener = TcpListener::bind(listen).await.map_err(|e| {
            Error::failed(format!("cannot listen on `{listen}`"))
                .caused_by(e)
                .hint("choose another port with `--port`, or 0 for any free one")
        })?;
        let addr =
            listener.local_addr().map_err(|e| Error::failed("cannot read the bound address").caused_by(e))?;
        let router = router
            .layer(middleware::from_fn(move |request: Request, next: Next| check_host(addr, request, next)));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept_loop(listener, router, stopped));
        Ok(Server { addr, stop, task })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:port`, for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops accepting, lets open requests end for at most a second, and returns.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.task).await;
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

async fn accept_loop(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
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
        let service = TowerToHyperService::new(MapResult::new(router.clone(), answer_or_hang_up));
        let mut stopped = stopped.clone();
        connections.spawn(async move {
            let _slot = slot;
            let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
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
    }
    while connections.join_next().await.is_some() {}
}

/// hyper closes a connection whose service fails, and sends nothing.
fn answer_or_hang_up(answer: Result<Response, Infallible>) -> Result<Response, HangUp> {
    let Ok(response) = answer;
    match response.extensions().get::<HangUp>() {
        Some(hang_up) => Err(*hang_up),
        None => Ok(response),
    }
}

async fn check_host(addr: SocketAddr, request: Request, next: Next) -> Response {
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
    next.run(request).await
}

fn host_is_allowed(host: &str, addr: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
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
            assert!(host_is_allowed(host, addr), "{host}");
        }
        for host in ["", "evil.example:9050", "evil.example", "10.0.0.1:9050", "127.0.0.1.evil.example"] {
            assert!(!host_is_allowed(host, addr), "{host}");
        }
    }
}
