//! The five doors to the world outside, and the clock. Whatever a run does to the world, or learns
//! from it, passes one of them under a name.
//!
//! In production the doors stand open and cost nothing. A test gives a [`Watcher`]: it is asked
//! before every effect and told after it, and can stop the run right there, as a kill would, or let
//! an answer get lost. Nothing about a run has to change for that.
//!
//! # Why not a trait for each client, and a fake of it?
//! A fake proves the code against what its author believed of the service. Here the real clients
//! speak to real servers, and the watcher only decides when the program dies.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use serde::Serialize;

use crate::error::Result;

/// Where an effect goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// Requests to the source, and every chunk of their bodies.
    Source,
    /// Reads and writes of the staging area.
    Store,
    /// REST calls.
    BigQuery,
    /// Files in the making, and what makes them durable.
    Files,
    /// Waits.
    Clock,
}

/// Sees every effect of a run. An error answers the effect; a future that never ends stops the run.
pub trait Watcher: Send + Sync + fmt::Debug {
    /// The effect has not happened. After an error it never does.
    fn before<'a>(&'a self, door: Door, what: &'a str) -> BoxFuture<'a, Result<()>>;
    /// It has happened, and nobody knows yet. An error takes the place of its answer.
    fn after<'a>(&'a self, door: Door, what: &'a str) -> BoxFuture<'a, Result<()>>;
}

/// The doors of one run. Cheap to clone; all clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    pub clock: Clock,
    watcher: Option<Arc<dyn Watcher>>,
    retries: Arc<RetryCounters>,
}

#[derive(Debug, Default)]
struct RetryCounters {
    source: AtomicU64,
    store: AtomicU64,
    bigquery: AtomicU64,
}

/// Repeats after an error that may have been weather, by the door they went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Retries {
    pub source: u64,
    pub store: u64,
    pub bigquery: u64,
}

impl Retries {
    pub fn total(self) -> u64 {
        self.source + self.store + self.bigquery
    }
}

impl Effects {
    /// Doors that `watcher` sees through, and a clock of the test's own.
    pub fn watched(watcher: Arc<dyn Watcher>, clock: Clock) -> Effects {
        Effects { clock, watcher: Some(watcher), ..Effects::default() }
    }

    /// Open doors, and a clock that stands at `unix_millis`.
    pub fn pretending(unix_millis: u64) -> Effects {
        Effects { clock: Clock::manual(unix_millis), ..Effects::default() }
    }

    pub fn is_watched(&self) -> bool {
        self.watcher.is_some()
    }

    /// Does `effect`, with the watcher on both sides of it.
    pub async fn pass<T>(
        &self,
        door: Door,
        what: impl FnOnce() -> String,
        effect: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(watcher) = &self.watcher else { return effect.await };
        let what = what();
        watcher.before(door, &what).await?;
        let done = effect.await;
        watcher.after(door, &what).await?;
        done
    }

    /// Waits, unless the clock is one that only pretends to.
    pub async fn sleep(&self, duration: Duration) {
        let wait = async {
            self.clock.sleep(duration).await;
            Ok(())
        };
        // A wait has no answer that could be wrong.
        let _ = self.pass(Door::Clock, || format!("wait {duration:?}"), wait).await;
    }

    /// Counts a repeat, and says how many the run has had with it.
    pub fn count_retry(&self, door: Door) -> u64 {
        match door {
            Door::Source => self.retries.source.fetch_add(1, Ordering::Relaxed),
            Door::BigQuery => self.retries.bigquery.fetch_add(1, Ordering::Relaxed),
            Door::Store | Door::Files | Door::Clock => self.retries.store.fetch_add(1, Ordering::Relaxed),
        };
        self.retries().total()
    }

    pub fn retries(&self) -> Retries {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let RetryCounters { source, store, bigquery } = &*self.retries;
        Retries { source: of(source), store: of(store), bigquery: of(bigquery) }
    }
}

/// Where time comes from. No safety decision reads it: it paces retries and dates journal entries.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

/// A pretended wait still gives others a moment, so that a loop of them does not spin.
const PRETENDED: Duration = Duration::from_millis(1);

impl Clock {
    /// A clock that stands at `unix_millis` and moves only when somebody waits.
    pub fn manual(unix_millis: u64) -> Clock {
        Clock(Some(Arc::new(AtomicU64::new(unix_millis))))
    }

    /// Milliseconds since 1970, for people who read journals and receipts.
    pub fn unix_millis(&self) -> u64 {
        if let Some(manual) = &self.0 {
            return manual.load(Ordering::Relaxed);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        millis(since)
    }

    async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Some(manual) => {
                manual.fetch_add(millis(duration), Ordering::Relaxed);
                tokio::time::sleep(duration.min(PRETENDED)).await;
            }
            None => tokio::time::sleep(duration).await,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::Error;

    /// Writes down what passes, and loses the answer of one effect.
    #[derive(Debug)]
    struct Scribe(Mutex<Vec<String>>);

    impl Watcher for Scribe {
        fn before<'a>(&'a self, door: Door, what: &'a str) -> BoxFuture<'a, Result<()>> {
            self.0.lock().expect("no panic").push(format!("{door:?} {what}"));
            Box::pin(async { Ok(()) })
        }

        fn after<'a>(&'a self, _: Door, what: &'a str) -> BoxFuture<'a, Result<()>> {
            let lost = what == "b";
            Box::pin(async move { if lost { Err(Error::failed("lost").retryable()) } else { Ok(()) } })
        }
    }

    #[tokio::test]
    async fn the_watcher_sees_every_effect_and_can_lose_its_answer() {
        let scribe = Arc::new(Scribe(Mutex::default()));
        let watched = Arc::clone(&scribe) as Arc<dyn Watcher>;
        let effects = Effects::watched(watched, Clock::manual(5));
        let done = AtomicU64::new(0);
        for what in ["a", "b"] {
            let effect = async { Ok(done.fetch_add(1, Ordering::Relaxed)) };
            assert_eq!(effects.pass(Door::Store, || what.into(), effect).await.is_err(), what == "b");
        }
        effects.sleep(Duration::from_secs(60)).await;
        assert_eq!(done.load(Ordering::Relaxed), 2, "both happened");
        assert_eq!(effects.clock.unix_millis(), 60_005);
        assert_eq!(*scribe.0.lock().expect("no panic"), ["Store a", "Store b", "Clock wait 60s"]);
    }
}
