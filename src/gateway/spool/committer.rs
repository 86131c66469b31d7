//! The thread that owns the spool: whatever waits is written at once, synced once, and answered.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::disk::Disk;
use super::log::{self, Log, Refused, Sealed};
use super::segment::SegmentId;
use crate::error::{Error, Result};

/// When a commit is made.
#[derive(Clone)]
pub struct Options {
    /// How long the first record of a commit waits for others to share its sync.
    pub wait: Duration,
    /// A commit with this many bytes waits no longer.
    pub bytes_max: usize,
    /// Records that wait to be taken; one more is refused.
    pub queue: usize,
    /// Told of every commit, on the thread that makes them.
    pub on_commit: Option<Arc<dyn Fn(Commit) + Send + Sync>>,
}

impl Default for Options {
    fn default() -> Self {
        Options { wait: Duration::from_millis(1), bytes_max: 1 << 20, queue: 8192, on_commit: None }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { wait, bytes_max, queue, .. } = self;
        write!(f, "Options {{ wait: {wait:?}, bytes_max: {bytes_max}, queue: {queue} }}")
    }
}

/// What one commit was.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    pub records: u64,
    pub bytes: u64,
    /// For the write and the sync.
    pub took: Duration,
}

enum Order {
    Append { payload: Vec<u8>, done: oneshot::Sender<Result<u64, Refused>> },
    Seal { done: oneshot::Sender<Result<(), Refused>> },
    Sealed { done: oneshot::Sender<Vec<Sealed>> },
    HasRoom { done: oneshot::Sender<bool> },
    Remove { ids: Vec<SegmentId>, done: oneshot::Sender<Result<()>> },
    SetAside { id: SegmentId, done: oneshot::Sender<Result<()>> },
    KeepLoaded { id: SegmentId, done: oneshot::Sender<Result<()>> },
}

/// A spool that many may use at once. When the last of them is dropped, its thread ends.
#[derive(Debug)]
pub struct Spool<D: Disk> {
    disk: D,
    bytes: Arc<AtomicU64>,
    orders: Option<SyncSender<Order>>,
    stopped: watch::Receiver<Option<String>>,
    thread: Option<JoinHandle<()>>,
}

impl<D: Disk> Spool<D> {
    /// Gives `log` a thread of its own.
    pub fn start(disk: D, log: Log<D>, options: Options) -> Result<Spool<D>> {
        let (orders, ordered) = sync_channel(options.queue);
        let (stop, stopped) = watch::channel(None);
        let bytes = Arc::new(AtomicU64::new(log.bytes()));
        let told = Arc::clone(&bytes);
        let work = move || Committer { log, options, stop, bytes: told, waiting: Vec::new() }.work(&ordered);
        let thread = std::thread::Builder::new()
            .name("spool".into())
            .spawn(work)
            .map_err(|e| Error::failed("cannot start the thread of the spool").caused_by(e))?;
        Ok(Spool { disk, bytes, orders: Some(orders), stopped, thread: Some(thread) })
    }

    /// Returns the record's sequence once it is durable.
    pub async fn append(&self, payload: Vec<u8>) -> Result<u64, Refused> {
        let (done, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        match orders.try_send(Order::Append { payload, done }) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(gone())),
            Err(TrySendError::Full(_)) => Err(Refused::Full),
            Err(TrySendError::Disconnected(_)) => Err(gone()),
        }
    }

    /// Ends the active segment if it has records.
    pub async fn seal(&self) -> Result<(), Refused> {
        self.ask(|done| Order::Seal { done }).await?
    }

    /// Segments that wait to be loaded, in their order.
    pub async fn sealed(&self) -> Result<Vec<Sealed>, Refused> {
        self.ask(|done| Order::Sealed { done }).await
    }

    /// Whether a record would be taken, as far as that is known without one.
    pub async fn has_room(&self) -> Result<bool, Refused> {
        let stopped = self.stopped.borrow().clone();
        match stopped {
            Some(why) => Err(Refused::Stopped(why)),
            None => self.ask(|done| Order::HasRoom { done }).await,
        }
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The records of a sealed segment: sequence and payload.
    pub fn read(&self, id: SegmentId) -> Result<Vec<(u64, Vec<u8>)>> {
        log::read(&self.disk, id)
    }

    /// Deletes segments whose rows are loaded, which must be durable before. The first one goes last.
    pub async fn remove(&self, ids: Vec<SegmentId>) -> Result<()> {
        self.ask(|done| Order::Remove { ids, done }).await.map_err(|e| Error::failed(e.to_string()))?
    }

    /// Sets a damaged segment aside.
    pub async fn set_aside(&self, id: SegmentId) -> Result<()> {
        self.ask(|done| Order::SetAside { id, done }).await.map_err(|e| Error::failed(e.to_string()))?
    }

    /// Sets a segment aside that was loaded long ago, and has come back.
    pub async fn keep_loaded(&self, id: SegmentId) -> Result<()> {
        self.ask(|done| Order::KeepLoaded { id, done }).await.map_err(|e| Error::failed(e.to_string()))?
    }

    /// Waits until the disk has failed to sync, and says how. The process has to end then.
    pub async fn failed(&self) -> String {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "its thread ended".into(),
        }
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, Refused> {
        let (done, answer) = oneshot::channel();
        let mut order = order(done);
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        loop {
            match orders.try_send(order) {
                Ok(()) => return answer.await.map_err(|_| gone()),
                Err(TrySendError::Disconnected(_)) => return Err(gone()),
                // Records are refused when the queue is full; what keeps the spool going is not.
                Err(TrySendError::Full(same)) => order = same,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn gone() -> Refused {
    Refused::Stopped("its thread ended".into())
}

impl<D: Disk> Drop for Spool<D> {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told by the panic itself.
            let _ = thread.join();
        }
    }
}

struct Committer<D: Disk> {
    log: Log<D>,
    options: Options,
    stop: watch::Sender<Option<String>>,
    bytes: Arc<AtomicU64>,
    /// Records that the next commit makes durable.
    waiting: Vec<(u64, oneshot::Sender<Result<u64, Refused>>)>,
}

impl<D: Disk> Committer<D> {
    /// Until every sender is gone; what they sent before is committed.
    fn work(mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            let mut order = Some(order);
            let until = Instant::now() + self.options.wait;
            loop {
                match order.take() {
                    Some(order) => self.take(order),
                    None => break,
                }
                if self.log.pending_bytes() >= self.options.bytes_max {
                    break;
                }
                order = orders.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
            }
            self.commit();
            self.bytes.store(self.log.bytes(), Ordering::Relaxed);
        }
        self.log.close();
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Append { done, .. } if !self.log.has_reserve() => answer(done, Err(Refused::Full)),
            Order::Append { payload, done } => match self.log.append(&payload) {
                Ok(sequence) => self.waiting.push((sequence, done)),
                Err(refused) => answer(done, Err(refused)),
            },
            Order::Seal { done } => {
                self.commit();
                let sealed = self.log.seal().map(|_| ());
                self.note(&sealed);
                answer(done, sealed);
            }
            Order::Sealed { done } => answer(done, self.log.sealed().collect()),
            Order::HasRoom { done } => answer(done, self.log.has_room()),
            Order::Remove { ids, done } => answer(done, self.log.remove(&ids)),
            Order::SetAside { id, done } => answer(done, self.log.set_aside(id)),
            Order::KeepLoaded { id, done } => answer(done, self.log.keep_loaded(id)),
        }
    }

    fn commit(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let (started, bytes) = (Instant::now(), self.log.pending_bytes() as u64);
        let committed = self.log.commit();
        let took = started.elapsed();
        self.note(&committed);
        let records = self.waiting.len() as u64;
        for (sequence, done) in self.waiting.drain(..) {
            answer(done, committed.clone().map(|()| sequence));
        }
        if let (Ok(()), Some(told)) = (&committed, &self.options.on_commit) {
            told(Commit { records, bytes, took });
        }
    }

    fn note(&self, done: &Result<(), Refused>) {
        if let Err(Refused::Stopped(why)) = done {
            self.stop.send_replace(Some(why.clone()));
        }
    }
}

/// Who has gone away since is not waiting for an answer.
fn answer<T>(done: oneshot::Sender<T>, answer: T) {
    let _ = done.send(answer);
}
