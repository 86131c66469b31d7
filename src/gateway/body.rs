//! A request's body, read within limits of time and memory, and unpacked.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use futures::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;

/// How long a body may be, and take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Packed and unpacked.
    pub body_bytes_max: usize,
    /// For the whole body.
    pub body_timeout: Duration,
    /// Bytes of all bodies in work.
    pub memory_bytes: usize,
    /// Bytes of all bodies of one user.
    pub user_memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 16 << 20,
            body_timeout: Duration::from_secs(30),
            memory_bytes: 256 << 20,
            user_memory_bytes: 128 << 20,
        }
    }
}

/// Memory for bodies: a part for all, and of that a part for each user.
#[derive(Debug)]
pub(super) struct Memory {
    limits: Limits,
    all: Arc<Semaphore>,
    each: HashMap<String, Arc<Semaphore>>,
    /// For work on long bodies.
    turns: Arc<Semaphore>,
}

/// A body, and the memory that is set aside for it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    pub(super) memory: Vec<OwnedSemaphorePermit>,
}

/// Memory is counted in steps of so many bytes.
const STEP: usize = 1024;

impl Memory {
    pub(super) fn new<'u>(limits: Limits, users: impl Iterator<Item = &'u str>) -> Memory {
        let steps = |bytes: usize| Arc::new(Semaphore::new(bytes / STEP));
        let each = users.map(|user| (user.to_owned(), steps(limits.user_memory_bytes))).collect();
        let turns = std::thread::available_parallelism().map_or(1, usize::from);
        Memory { limits, all: steps(limits.memory_bytes), each, turns: Arc::new(Semaphore::new(turns)) }
    }

    /// Works on a long body, on a thread for that. One for each core at once: more would be no faster, and
    /// for each of them the allocator would keep as much as it ever had.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|e| e.to_string())?;
        let work = move || {
            let done = work();
            // Not when who asked for it goes away: it is at work until here.
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())
    }

    /// Reads the whole body of `user`, and unpacks it.
    pub(super) async fn read(&self, user: &str, headers: &HeaderMap, body: Body) -> Result<Held, Problem> {
        let is_packed = is_packed(headers)?;
        let length = headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
        let too_large = || {
            let message = format!("a body may have {} bytes, unpacked", self.limits.body_bytes_max);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message).closing()
        };
        if length.is_some_and(|length| length > self.limits.body_bytes_max) {
            return Err(too_large());
        }
        let deadline = Instant::now() + self.limits.body_timeout;
        let mut share = Share { memory: self, user, permits: Vec::new(), bytes: 0 };
        let mut bytes = Vec::new();
        let mut chunks = body.into_data_stream();
        loop {
            let chunk = timeout_at(deadline, chunks.next()).await.map_err(|_| {
                let message = format!("the body took longer than {:?}", self.limits.body_timeout);
                Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message).closing()
            })?;
            let Some(chunk) = chunk else { break };
            let chunk = chunk.map_err(|e| {
                let message = format!("the body ended early: {e}");
                Problem::new(StatusCode::BAD_REQUEST, "body_incomplete", message).closing()
            })?;
            if bytes.len() + chunk.len() > self.limits.body_bytes_max {
                return Err(too_large());
            }
            share.take(bytes.len() + chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        if is_packed {
            // What it unpacks to is not known: there must be room for all it may be.
            let bytes_max = self.limits.body_bytes_max;
            share.take(bytes.len() + bytes_max.min(bytes.len().saturating_mul(DEFLATE_RATIO_MAX)))?;
            return self.unpack(Held { bytes, memory: share.permits }, too_large).await;
        }
        Ok(Held { bytes, memory: share.permits })
    }

    /// To its end even when its sender goes away: the memory is the body's until then.
    async fn unpack(&self, packed: Held, too_large: impl Fn() -> Problem) -> Result<Held, Problem> {
        let bytes_max = self.limits.body_bytes_max;
        let unpack = move || {
            let Held { bytes: packed, memory } = packed;
            let mut bytes = Vec::new();
            // One byte more than may be tells that there is more.
            let mut unpacked = MultiGzDecoder::new(&packed[..]).take(bytes_max as u64 + 1);
            unpacked.read_to_end(&mut bytes).map(|_| Held { bytes, memory })
        };
        let unpacked = self.work(unpack).await.and_then(|read| read.map_err(|e| e.to_string()));
        let held = unpacked.map_err(|e| {
            Problem::new(StatusCode::BAD_REQUEST, "bad_gzip", format!("the body is not in gzip: {e}"))
        })?;
        if held.bytes.len() > bytes_max { Err(too_large()) } else { Ok(held) }
    }
}

/// Nothing that deflate packs is longer by more.
const DEFLATE_RATIO_MAX: usize = 1032;

fn is_packed(headers: &HeaderMap) -> Result<bool, Problem> {
    let encodings = headers.get_all(header::CONTENT_ENCODING);
    let mut encodings = encodings.iter().map(|encoding| encoding.to_str().unwrap_or("?").trim());
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case("identity") => Ok(false),
        (Some(one), None) if one.eq_ignore_ascii_case("gzip") || one.eq_ignore_ascii_case("x-gzip") => {
            Ok(true)
        }
        (Some(_), _) => {
            let message = "a body may come as it is, or with `Content-Encoding: gzip`";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_encoding", message).closing())
        }
    }
}

/// What one body has of the memory so far.
struct Share<'m> {
    memory: &'m Memory,
    user: &'m str,
    permits: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Share<'_> {
    /// Grows to `bytes` in all, at least doubling, so that small chunks cost nothing.
    fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let more = (bytes - self.bytes).max(self.bytes.min(1 << 20)).div_ceil(STEP);
        let steps = u32::try_from(more).unwrap_or(u32::MAX);
        let each = self.memory.each.get(self.user);
        for semaphore in each.into_iter().chain([&self.memory.all]) {
            let permit = Arc::clone(semaphore).try_acquire_many_owned(steps).map_err(|_| {
                let message = "too many bytes of bodies are in work";
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "out_of_memory", message);
                problem.retry_after(Duration::from_secs(1)).closing()
            })?;
            self.permits.push(permit);
        }
        self.bytes += more * STEP;
        Ok(())
    }
}
