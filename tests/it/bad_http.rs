//! What a source does wrong over HTTP, by the ids of the list: at the door, without the rest of the program.
//!
//! H06 and H07 are about paging, which there is none of: a window is one request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api2bq::effects::Effects;
use api2bq::partition::Window;
use api2bq::source::{Headers, Limits, Options, Source, Timeouts};
use async_compression::tokio::bufread::GzipEncoder;
use futures::TryStreamExt;
use tokio::io::AsyncReadExt;

/// A source that does as it is told: request number, request, and where the answer goes.
pub struct Server {
    pub url: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    pub fn start(answer: impl Fn(usize, &str, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/flows", listener.local_addr().expect("an address"));
        let requests = Arc::new(AtomicUsize::new(0));
        let (counter, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || one(stream, number, &*answer));
            }
        });
        Server { url, requests }
    }

    /// The same bytes for everybody.
    pub fn bytes(bytes: Vec<u8>) -> Server {
        Server::start(move |_, _, stream| drop(stream.write_all(&bytes)))
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn one(mut stream: TcpStream, number: usize, answer: &dyn Fn(usize, &str, &mut TcpStream)) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
        request.push(byte[0]);
    }
    answer(number, &String::from_utf8_lossy(&request), &mut stream);
}

pub fn with_length(headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// In chunks of `size` bytes, with the last one that says that it is whole.
pub fn chunked(headers: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(size) {
        answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        answer.extend_from_slice(&[chunk, b"\r\n"].concat());
    }
    [&answer[..], b"0\r\n\r\n"].concat()
}

fn options(url: &str) -> Options {
    Options {
        url: url.to_owned(),
        query: Vec::new(),
        headers: Headers(vec![("Authorization".to_owned(), "Bearer canary-9f3c".to_owned())]),
        gzip: Some(true),
        count_header: None,
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        effects: Effects::default(),
    }
}

/// Asks for one window and reads it to its end: how much came, or the error.
async fn read(options: Options) -> Result<u64, String> {
    let source = Source::new(options).expect("a source");
    let read = async {
        let body = source.open(Window { after: 0, before: 86_400 }).await?;
        body.stream.try_fold(0, |sum, bytes| async move { Ok(sum + bytes.len() as u64) }).await
    };
    read.await.map_err(|error: api2bq::error::Error| {
        assert!(!error.to_string().contains("canary"), "{error}");
        error.to_string()
    })
}

async fn fails(id: &str, server: &Server, code: &str) {
    let error = read(options(&server.url)).await.expect_err(id);
    assert!(error.contains(&format!("({code})")), "{id}: {error}");
}

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzipEncoder::new(bytes).read_to_end(&mut packed).await.expect("memory takes all");
    packed
}

const BODY: &[u8] = b"<records><record><id>1</id></record></records>";
const GZIP: &str = "Content-Encoding: gzip\r\n";

/// X02, J03, H05 and H14: wherever the connection ends, it is noticed, also right behind the document.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_off_anywhere_is_truncated() {
    let packed = gzip(&BODY.repeat(3)).await;
    for (name, whole) in [
        ("length", with_length("", BODY)),
        ("chunks", chunked("", BODY, 7)),
        ("one chunk", chunked("", BODY, 1000)),
        ("gzip, length", with_length(GZIP, &packed)),
        ("gzip, chunks", chunked(GZIP, &packed, 5)),
    ] {
        let server = Server::bytes(whole.clone());
        assert!(read(options(&server.url)).await.is_ok(), "{name}: the whole of it is fine");
        let head = whole.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
        for cut in head..whole.len() {
            let server = Server::bytes(whole[..cut].to_vec());
            fails(&format!("{name}, {cut} of {} bytes", whole.len()), &server, "truncated").await;
        }
        for cut in [0, 1, head / 2, head - 1] {
            let server = Server::bytes(whole[..cut].to_vec());
            assert!(read(options(&server.url)).await.is_err(), "{name}: cut in its head at {cut}");
        }
    }
}

/// H14 and H18: framing in order, and the gzip body inside is not.
#[tokio::test(flavor = "multi_thread")]
async fn gzip_bodies_are_whole_or_fail() {
    let packed = gzip(&BODY.repeat(3)).await;
    for cut in 1..packed.len() {
        let server = Server::bytes(with_length(GZIP, &packed[..cut]));
        fails(&format!("H14, {cut} of {} bytes", packed.len()), &server, "truncated").await;
    }
    let flipped = |at: usize| {
        let mut packed = packed.clone();
        packed[at] ^= 1;
        with_length(GZIP, &packed)
    };
    let garbage = [&packed[..], b"garbage behind it"].concat();
    for (id, answer) in [
        ("H18", with_length(GZIP, BODY)),
        ("H14 checksum", flipped(packed.len() - 8)),
        ("H14 length", flipped(packed.len() - 4)),
        ("H14 garbage behind", with_length(GZIP, &garbage)),
    ] {
        fails(id, &Server::bytes(answer), "bad_gzip").await;
    }
    let members = [&packed[..], &gzip(b"<x/>").await].concat();
    let server = Server::bytes(with_length(GZIP, &members));
    assert_eq!(read(options(&server.url)).await, Ok(3 * BODY.len() as u64 + 4), "all members count");
    for (id, encoding) in [("br", "br"), ("twice", "gzip, gzip"), ("deflate", "deflate")] {
        let server = Server::bytes(with_length(&format!("Content-Encoding: {encoding}\r\n"), &packed));
        fails(id, &server, "bad_encoding").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_limits_on_what_they_unpack_to() {
    let bomb = gzip(&vec![b' '; 64 << 20]).await;
    assert!(bomb.len() < 100_000, "{} bytes are no bomb", bomb.len());
    let server = Server::bytes(with_length(GZIP, &bomb));
    fails("ratio", &server, "unpack_ratio").await;
    let limits = Limits { bytes_max: 1 << 20, ratio_max: 10_000 };
    for (name, answer) in [
        ("gzip", with_length(GZIP, &bomb)),
        ("plain", with_length("", &vec![b' '; (1 << 20) + 1])),
        ("chunks", chunked("", &vec![b' '; (1 << 20) + 1], 10_000)),
    ] {
        let server = Server::bytes(answer);
        let error = read(Options { limits, ..options(&server.url) }).await.expect_err(name);
        assert!(error.contains("(body_too_large)"), "{name}: {error}");
    }
    let server = Server::bytes(with_length("", &vec![b' '; 1 << 20]));
    assert_eq!(read(Options { limits, ..options(&server.url) }).await, Ok(1 << 20));
    // Files unpack too.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bomb.xml.gz");
    std::fs::write(&path, &bomb).expect("written");
    let error = read(options(&format!("file://{}", path.display()))).await.expect_err("a bomb");
    assert!(error.contains("(unpack_ratio)"), "{error}");
}

/// H24 and its like: only 200 brings a body.
#[tokio::test(flavor = "multi_thread")]
async fn other_answers_than_200_fail() {
    for (status, code) in [
        ("201 Created", "unexpected_status:201"),
        ("202 Accepted", "unexpected_status:202"),
        ("203 Non-Authoritative Information", "unexpected_status:203"),
        ("204 No Content", "unexpected_status:204"),
        ("206 Partial Content", "unexpected_status:206"),
        ("300 Multiple Choices", "unexpected_status:300"),
        ("302 Found", "unexpected_status:302"),
        ("304 Not Modified", "unexpected_status:304"),
        ("400 Bad Request", "http_400"),
        ("404 Not Found", "http_404"),
        ("429 Too Many Requests", "rate_limited"),
        ("500 Internal Server Error", "http_500"),
        ("503 Service Unavailable", "http_503"),
    ] {
        let bodiless = status.starts_with("204") || status.starts_with("304");
        let range = "Content-Range: bytes 0-45/46\r\n";
        let answer = match bodiless {
            true => format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").into_bytes(),
            false => {
                let whole = String::from_utf8(with_length(range, BODY)).expect("ASCII");
                whole.replace("200 OK", status).into_bytes()
            }
        };
        fails(status, &Server::bytes(answer), code).await;
    }
    // What the server says is shown, but not what it was sent.
    let echo = Server::start(|_, request, stream| {
        let answer = with_length("", request.as_bytes());
        let answer = String::from_utf8_lossy(&answer).replace("200 OK", "400 Bad Request");
        drop(stream.write_all(answer.as_bytes()));
    });
    let error = read(options(&echo.url)).await.expect_err("400");
    assert!(error.contains("GET /flows"), "{error}");
}

/// H09 to H11. That nobody else is asked is seen by who is not asked.
#[tokio::test(flavor = "multi_thread")]
async fn redirects_stay_at_home() {
    let elsewhere = Server::bytes(with_length("", BODY));
    let to = |target: String| {
        Server::bytes(
            format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        )
    };
    fails("H09", &to("http://169.254.169.254/computeMetadata/v1/".to_owned()), "redirect_blocked").await;
    fails("H10", &to(elsewhere.url.clone()), "redirect_cross_origin").await;
    // The same server under another name is another origin.
    fails("H10 name", &to(elsewhere.url.replace("127.0.0.1", "localhost")), "redirect_cross_origin").await;
    assert_eq!(elsewhere.requests(), 0);

    for status in [301, 302, 303, 307, 308] {
        let circle = Server::start(move |_, request, stream| {
            let other = if request.starts_with("GET /flows") { "/b" } else { "/flows" };
            let head = format!("HTTP/1.1 {status} Moved\r\nLocation: {other}\r\nContent-Length: 0\r\n");
            drop(stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()));
        });
        fails("H11", &circle, "redirect_loop").await;
        assert!(circle.requests() <= 10, "{} requests", circle.requests());
    }
    let endless = Server::start(|number, _, stream| {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: /{number}\r\nContent-Length: 0\r\n");
        drop(stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()));
    });
    fails("H11 endless", &endless, "redirect_loop").await;
    assert!(endless.requests() <= 11, "{} requests", endless.requests());

    let moved = Server::start(|_, request, stream| {
        assert!(request.to_ascii_lowercase().contains("authorization: bearer"), "{request}");
        let moved = b"HTTP/1.1 307 Moved\r\nLocation: /new\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let answer = if request.starts_with("GET /new") { with_length("", BODY) } else { moved.to_vec() };
        drop(stream.write_all(&answer));
    });
    assert_eq!(read(options(&moved.url)).await, Ok(BODY.len() as u64), "within the origin it is followed");
}

/// H19 and H21: whoever says too little for too long is left, and the worker is free again.
#[tokio::test(flavor = "multi_thread")]
async fn slow_sources_are_left() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    // One byte at a time until nobody listens.
    let drip = |stream: &mut TcpStream, bytes: &[u8]| {
        let bytes = bytes.iter().cycle().copied();
        for byte in bytes {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let hold = |stream: &mut TcpStream| drop(stream.read(&mut [0]));
    let impatient = |url: &str| {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { headers: second, idle: second, ..Timeouts::default() };
        Options { timeouts, ..options(url) }
    };
    for (id, server, code) in [
        (
            "H19",
            Server::start(move |_, _, s| {
                drop(s.write_all(head.as_bytes()));
                drip(s, b"x")
            }),
            "stalled",
        ),
        (
            "H19 silent",
            Server::start(move |_, _, s| {
                drop(s.write_all(head.as_bytes()));
                hold(s)
            }),
            "stalled",
        ),
        (
            "H19 chunks",
            Server::start(move |_, _, s| {
                drop(s.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
                drip(s, b"1\r\nx\r\n");
            }),
            "stalled",
        ),
        ("H21", Server::start(move |_, _, s| hold(s)), "timeout"),
        (
            "H21 head",
            Server::start(move |_, _, s| drip(s, b"HTTP/1.1 200 OK\r\nX-A: aaaaaaaaaaaaaaaaaaaaa")),
            "timeout",
        ),
    ] {
        let started = Instant::now();
        let error = read(impatient(&server.url)).await.expect_err(id);
        assert!(error.contains(&format!("({code})")), "{id}: {error}");
        // Not a measurement: a source that is not left keeps this going for hours.
        assert!(started.elapsed() < Duration::from_secs(60), "{id}");
    }
    // A pause is no stall where enough comes between two of them.
    let pauses = Server::start(|_, _, stream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6000\r\n\r\n"));
        for _ in 0..4 {
            drop(stream.write_all(&[b'x'; 1500]));
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(read(impatient(&pauses.url)).await, Ok(6000));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_have_limits_and_lengths_are_clear() {
    let head = |headers: &str| {
        let body = std::str::from_utf8(BODY).expect("ASCII");
        Server::bytes(format!("HTTP/1.1 200 OK\r\n{headers}Connection: close\r\n\r\n{body}").into_bytes())
    };
    let length = BODY.len();
    let ok = format!("Content-Length: {length}\r\n");
    for (id, server) in [
        ("a header of 1 MiB", head(&format!("{ok}X: {}\r\n", "x".repeat(1 << 20)))),
        ("200 headers", head(&format!("{ok}{}", "X: x\r\n".repeat(200)))),
        ("two lengths", head(&format!("{ok}Content-Length: {}\r\n", length - 1))),
        ("signed length", head(&format!("Content-Length: +{length}\r\n"))),
        ("hexadecimal length", head(&format!("Content-Length: {length:#x}\r\n"))),
        ("negative length", head("Content-Length: -1\r\n")),
        ("length too great", head(&format!("Content-Length: {}\r\n", length + 1))),
        ("length beyond all", head("Content-Length: 99999999999999999999\r\n")),
        ("no HTTP", Server::bytes(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec())),
        ("bad chunk", Server::bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec())),
        ("endless chunk size", {
            let size = "f".repeat(100);
            Server::bytes(
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n").into_bytes(),
            )
        }),
    ] {
        assert!(read(options(&server.url)).await.is_err(), "{id}");
    }
    assert_eq!(read(options(&head(&ok).url)).await, Ok(length as u64));
}
