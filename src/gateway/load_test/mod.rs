//! The load test: requests leave when they are due, whatever has become of those before them.
//!
//! # Why is a latency counted from when its request was due?
//! A sender that waits for an answer before it sends again asks less of a server that is slow, and
//! counts one long wait where its users would have had hundreds (coordinated omission). Here a request
//! is due at its place in the second. If it leaves late, since all connections wait or this machine is
//! busy, then its sender waited from then on, and that is counted.

mod disk;
mod report;
mod rows;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use super::client::{Access, Client};
use crate::error::{Error, Kind, Result};
pub use report::{Fsync, Milliseconds, Report};
use report::{Tally, latencies};
use rows::{Field, Rows};

/// What is sent, and how fast.
#[derive(Debug)]
pub struct Options {
    pub pipeline: String,
    pub access: Access,
    /// Requests a second.
    pub rate: u32,
    pub seconds: u32,
    pub rows_per_request: u32,
    pub connections: u32,
    /// Makes other rows of the same kind.
    pub seed: u64,
    /// Where to measure what a sync of the disk takes, before the first request.
    pub spool: Option<PathBuf>,
}

impl Options {
    pub fn requests(&self) -> u64 {
        u64::from(self.rate) * u64::from(self.seconds)
    }

    pub fn rows(&self) -> u64 {
        self.requests() * u64::from(self.rows_per_request)
    }
}

/// So long after the last request was due, what has not left by then never does.
const GIVE_UP: Duration = Duration::from_secs(30);
/// So long after an interruption, requests that have left may still be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What the gateway says that a pipeline takes.
#[derive(Debug, Deserialize)]
struct Metadata {
    pipeline: String,
    fields: Vec<Field>,
}

#[derive(Debug, Deserialize)]
struct Submitted {
    accepted: u64,
    #[serde(default)]
    rejected: Vec<serde::de::IgnoredAny>,
}

/// Runs the test to its end, or until `stop` ends: then the report is about what was sent by then. `answered` is
/// told of the rows of every request that has ended.
pub async fn run(
    options: &Options,
    stop: impl Future<Output = ()>,
    answered: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Report> {
    tokio::pin!(stop);
    let client = Client::new(&options.access)?;
    let (metadata, disk) = tokio::select! {
        prepared = prepare(options, &client) => prepared?,
        () = &mut stop => {
            return Err(Error::new(Kind::Interrupted, "interrupted before the first request"));
        }
    };
    let test = Arc::new(Test {
        url: client.at(&["v1", &metadata.pipeline]),
        client,
        rows: Rows::new(&metadata.pipeline, &metadata.fields, options.seed),
        rows_per_request: options.rows_per_request,
        requests: options.requests(),
        rate: options.rate,
        // By then all senders are there.
        start: Instant::now() + Duration::from_millis(50),
        due: Semaphore::new(0),
        next: AtomicU64::new(0),
        tally: Mutex::new(Tally::new()),
    });
    let paced = Arc::downgrade(&test);
    let senders = options.connections as usize;
    let pacing = std::thread::Builder::new()
        .name("pace".into())
        .spawn(move || pace(&paced, senders))
        .map_err(|e| Error::failed("cannot start a thread").caused_by(e))?;
    let answered = Arc::new(answered);
    let mut senders = JoinSet::new();
    for _ in 0..options.connections {
        let (test, answered) = (Arc::clone(&test), Arc::clone(&answered));
        senders.spawn(async move { test.send(&*answered).await });
    }
    let is_interrupted = tokio::select! {
        ended = all(&mut senders) => ended.map(|()| false)?,
        () = &mut stop => true,
    };
    if is_interrupted {
        test.due.close();
        if let Ok(ended) = tokio::time::timeout(LAST_ANSWERS, all(&mut senders)).await {
            ended?;
        }
        senders.shutdown().await;
    }
    let lag = pacing.join().map_err(|_| Error::failed("the thread that paces died"))?;
    let mut tally = test.tally();
    // Senders that came for one more took a number too.
    let sent = is_interrupted.then(|| test.next.load(Ordering::Relaxed).min(test.requests));
    if let Some(sent) = sent {
        tally.interrupted(sent);
    }
    Ok(Report::new(options, &test.client, &tally, sent, test.start, &lag, disk))
}

async fn prepare(options: &Options, client: &Client) -> Result<(Metadata, Option<Fsync>)> {
    // Also lets the gateway hash the password once, and not under load.
    let metadata = client.get(&["v1", &options.pipeline, "metadata"], &[]).await?;
    let Some(folder) = options.spool.clone() else { return Ok((metadata, None)) };
    let measured = tokio::task::spawn_blocking(move || disk::measure(&folder)).await;
    let disk = measured.map_err(|e| Error::failed("measuring the disk died").caused_by(e))??;
    Ok((metadata, Some(disk)))
}

async fn all(senders: &mut JoinSet<()>) -> Result<()> {
    while let Some(ended) = senders.join_next().await {
        ended.map_err(|e| Error::failed("a sender died").caused_by(e))?;
    }
    Ok(())
}

/// What all senders of a test share.
#[derive(Debug)]
struct Test {
    client: Client,
    url: Url,
    rows: Rows,
    rows_per_request: u32,
    requests: u64,
    rate: u32,
    start: Instant,
    /// A permit for each request that is due and has no sender yet. Closed by an interruption.
    due: Semaphore,
    next: AtomicU64,
    tally: Mutex<Tally>,
}

impl Test {
    fn due_at(&self, request: u64) -> Instant {
        self.start + Duration::from_secs_f64(request as f64 / f64::from(self.rate))
    }

    /// One connection: takes the oldest request that is due, sends it, waits for its answer.
    async fn send(&self, answered: &(impl Fn(u64) + Sync)) {
        let give_up_at = self.due_at(self.requests) + GIVE_UP;
        while let Ok(permit) = self.due.acquire().await {
            permit.forget();
            let request = self.next.fetch_add(1, Ordering::Relaxed);
            if request >= self.requests {
                return;
            }
            let (due_at, sent_at) = (self.due_at(request), Instant::now());
            if sent_at > give_up_at {
                self.tally().failed("never sent".to_owned(), sent_at);
                continue;
            }
            let body = self.rows.body(request, self.rows_per_request);
            let answer: Result<Submitted, _> = self.client.post(self.url.clone(), body).await;
            let ended_at = Instant::now();
            let mut tally = self.tally();
            tally.sent(sent_at - due_at);
            match answer {
                Ok(Submitted { accepted, rejected }) => {
                    tally.taken(accepted, rejected.len() as u64, ended_at - due_at, ended_at);
                }
                Err(failure) => tally.failed(failure.to_string(), ended_at),
            }
            drop(tally);
            answered(u64::from(self.rows_per_request));
        }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets requests go when they are due, and returns by how much it was late, in microseconds. On a thread
/// of its own: the runtime's timers count in milliseconds, and its threads have the senders to run.
fn pace(test: &Weak<Test>, senders: usize) -> Histogram<u64> {
    let mut lag = latencies();
    for request in 0.. {
        // Gone: the test was given up.
        let Some(test) = test.upgrade().filter(|test| !test.due.is_closed()) else { return lag };
        if request == test.requests {
            // So that each sender finds out that there are no more.
            test.due.add_permits(senders);
            return lag;
        }
        let due_at = test.due_at(request);
        let early = due_at.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            std::thread::sleep(early);
        }
        lag.saturating_record(micros(due_at.elapsed()));
        test.due.add_permits(1);
    }
    lag
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
