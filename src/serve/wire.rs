//! A connection's bytes as they come: what hyper reads, mends, and does not show.
//!
//! hyper takes a head whose lines end in bare line feeds, and of `Transfer-Encoding` and
//! `Content-Length` together it forgets the latter. A proxy in front may read both differently, and
//! then one's body is the other's next request. So heads are looked at before hyper mends them.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::http::{HeaderMap, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of a head. A longer one is refused: it is not looked at.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// TCP, or TLS on top of it: what is looked at is what the client says, not how it is packed.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream that remembers what was read of the head at hand.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    seen: Arc<Seen>,
}

/// What has been seen of a connection.
#[derive(Debug)]
pub(super) struct Seen(Mutex<State>);

#[derive(Debug)]
struct State {
    /// From the start of the head that comes next, as far as it has come.
    head: Vec<u8>,
    /// Bytes of a body that are still to come before it.
    body_left: u64,
    /// The end of a chunked body is hyper's to find; from there on this one cannot follow, and nothing comes:
    /// its answer closes the connection.
    is_lost: bool,
    last_read: Instant,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, seen: Arc<Seen>) -> Wire {
        Wire { stream, seen }
    }
}

impl Seen {
    /// Of a connection that has just been made.
    pub(super) fn new() -> Seen {
        let state = State { head: Vec::new(), body_left: 0, is_lost: false, last_read: Instant::now() };
        Seen(Mutex::new(state))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the other side last sent something.
    pub(super) fn last_read(&self) -> Instant {
        self.state().last_read
    }

    /// What is wrong with the head that hyper has just made `headers` of.
    pub(super) fn wrong(&self, headers: &HeaderMap) -> Option<&'static str> {
        let mut state = self.state();
        if state.is_lost {
            return None;
        }
        let Some(end) = head_end(&state.head) else {
            state.lose();
            return Some("the head of the request is too long");
        };
        let wrong = wrong_with(&state.head[..end]);
        state.head.drain(..end);
        if headers.contains_key(header::TRANSFER_ENCODING) {
            state.lose();
        } else {
            let length = headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
            state.skip(length.unwrap_or(0));
        }
        wrong
    }
}

impl State {
    fn lose(&mut self) {
        self.is_lost = true;
        self.head = Vec::new();
    }

    /// A body of so many bytes comes next, or has in part come already.
    fn skip(&mut self, bytes: u64) {
        let here = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.head.len());
        self.head.drain(..here);
        self.body_left = bytes - here as u64;
    }

    fn read(&mut self, bytes: &[u8]) {
        self.last_read = Instant::now();
        let body = usize::try_from(self.body_left).unwrap_or(usize::MAX).min(bytes.len());
        self.body_left -= body as u64;
        // Behind a whole head comes its body, which hyper reads together with it as it likes.
        let is_whole = || head_end(&self.head).is_some();
        if self.is_lost || (self.head.len() > HEAD_BYTES_MAX && !is_whole()) {
            self.lose();
        } else {
            self.head.extend_from_slice(&bytes[body..]);
        }
    }
}

/// Behind the empty line, however its lines end.
fn head_end(bytes: &[u8]) -> Option<usize> {
    // Empty lines before a request are passed over.
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let mut line = start;
    loop {
        let end = line + memchr::memchr(b'\n', &bytes[line..])? + 1;
        if matches!(&bytes[line..end], b"\n" | b"\r\n") {
            return Some(end);
        }
        line = end;
    }
}

fn wrong_with(head: &[u8]) -> Option<&'static str> {
    let mut has = (false, false);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Some("a line of the head ends in a bare line feed");
        };
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        has.0 |= name.eq_ignore_ascii_case(b"transfer-encoding");
        has.1 |= name.eq_ignore_ascii_case(b"content-length");
    }
    (has == (true, true)).then_some("there are both `Transfer-Encoding` and `Content-Length`")
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.seen.state().read(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_followed_past_bodies_of_known_length_wherever_reads_end() {
        let first = "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
        let second = "\r\nGET /a HTTP/1.1\nHost: x\n\n";
        let all = format!("{first}{{\n\n\n\n\n}}\n{second}");
        let mut with_length = HeaderMap::new();
        with_length.insert(header::CONTENT_LENGTH, "9".parse().unwrap());
        for cut in 0..all.len() {
            let seen = Seen::new();
            let mut asked = false;
            for part in [&all[..cut], &all[cut..]] {
                seen.state().read(part.as_bytes());
                if !asked && head_end(&seen.state().head).is_some() {
                    assert_eq!(seen.wrong(&with_length), None, "{cut}");
                    asked = true;
                }
            }
            let wrong = seen.wrong(&HeaderMap::new());
            assert_eq!(wrong, Some("a line of the head ends in a bare line feed"), "{cut}");
        }
    }

    #[test]
    fn two_ways_to_end_a_body_are_one_too_many() {
        let head = |lines: &str| wrong_with(format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
        assert!(head("Transfer-Encoding: chunked\r\ncontent-length: 5").is_some());
        assert!(head("Content-Length: 5\r\nTRANSFER-ENCODING: chunked").is_some());
        assert_eq!(head("Content-Length: 5\r\nX: transfer-encoding: chunked"), None);
    }
}
