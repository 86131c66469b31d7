//! A TCP proxy that misbehaves where a test tells it to. One HTTP request per connection, seen whole, so
//! that a fault hits one call and the calls can be counted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// What becomes of one request.
#[derive(Debug, Clone)]
pub enum Act {
    Pass,
    /// Passed on after a while.
    Delay(Duration),
    /// The connection is reset before anything was passed on.
    Reset,
    /// The service gets the first bytes of the request, the client nothing.
    CutRequest(usize),
    /// Done by the service; the client sees the connection closed.
    LoseAnswer,
    /// Done by the service; the client sees the connection reset.
    ResetAnswer,
    /// Done by the service; the client gets this share of the answer, in percent.
    CutAnswer(usize),
    /// Never seen by the service; the client gets these bytes, and the end.
    Instead(Vec<u8>),
}

/// A 502 as load balancers send it: no JSON, and nobody knows whether anything was done.
pub fn bad_gateway() -> Act {
    let body = "<html><title>502</title>The server encountered a temporary error.</html>";
    let head = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: ";
    Act::Instead(format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes())
}

/// Number, from 0, and `METHOD /path?query` of a request.
type Decide = dyn Fn(usize, &str) -> Act + Send + Sync;

/// At work until it is dropped.
pub struct Proxy {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    // Last, so that nothing is asked of it any more when it ends.
    _runtime: Runtime,
}

impl Proxy {
    /// In front of `upstream`, which is `http://address:port`.
    pub fn start(upstream: &str, decide: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let upstream: SocketAddr = upstream.trim_start_matches("http://").parse().expect("an address");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, decide): (_, Arc<Decide>) = (Arc::clone(&seen), Arc::new(decide));
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // What goes wrong here is what goes wrong with networks: the client sees it.
                tokio::spawn(one_request(client, upstream, Arc::clone(&log), Arc::clone(&decide)));
            }
        });
        Proxy { url, seen, _runtime: runtime }
    }

    /// In front of nothing: for those that answer themselves.
    pub fn alone(decide: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Proxy {
        Proxy::start("http://127.0.0.1:1", decide)
    }

    /// `METHOD /path?query` of every request so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

async fn one_request(
    mut client: TcpStream,
    upstream: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    decide: Arc<Decide>,
) -> std::io::Result<()> {
    let Some(request) = read_request(&mut client).await? else { return Ok(()) };
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).trim_end_matches(" HTTP/1.1").to_owned();
    let number = {
        let mut log = log.lock().expect("no panic");
        log.push(line.clone());
        log.len() - 1
    };
    match decide(number, &line) {
        Act::Pass => {}
        Act::Delay(wait) => tokio::time::sleep(wait).await,
        Act::Reset => return client.set_zero_linger(),
        Act::CutRequest(bytes) => {
            let mut service = TcpStream::connect(upstream).await?;
            service.write_all(&request[..bytes.min(request.len() - 1)]).await?;
            return Ok(());
        }
        Act::Instead(answer) => return client.write_all(&answer).await,
        act => {
            let answer = exchange(upstream, &request).await?;
            match act {
                Act::ResetAnswer => return client.set_zero_linger(),
                Act::CutAnswer(percent) => client.write_all(&answer[..answer.len() * percent / 100]).await?,
                _ => {}
            }
            return Ok(());
        }
    }
    let answer = exchange(upstream, &request).await?;
    client.write_all(&answer).await?;
    client.shutdown().await
}

/// The whole answer. The service closes behind it, since it was asked to.
async fn exchange(upstream: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut service = TcpStream::connect(upstream).await?;
    service.write_all(request).await?;
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Head and body, with `Connection: close` in the head; `None` when the client only looked in.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut length = 0;
    let mut kept = Vec::new();
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        match name.to_ascii_lowercase().as_str() {
            "connection" => continue,
            "content-length" => length = value.trim().parse().expect("a number"),
            "transfer-encoding" => panic!("a request in chunks: {head}"),
            _ => {}
        }
        kept.push(line);
    }
    let body_start = head_end + 4;
    while bytes.len() < body_start + length {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let mut request = format!("{}\r\nconnection: close\r\n\r\n", kept.join("\r\n")).into_bytes();
    request.extend_from_slice(&bytes[body_start..]);
    Ok(Some(request))
}
