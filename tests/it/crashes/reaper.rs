//! Watches every effect of a run, and strikes at one of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use api2bq::effects::{Door, Watcher};
use api2bq::error::{Error, Result};
use futures::future::{BoxFuture, pending};
use tokio::sync::Notify;

/// On which side of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Before,
    /// It has happened, and its answer is not there yet.
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing of this run happens any more.
    Crash,
    /// The effect, or its answer, gets lost once, and the run goes on.
    Lose,
    /// From here on no answer of BigQuery comes through any more, whatever it does.
    Silence,
}

/// Where to strike.
#[derive(Debug, Clone)]
pub struct Point {
    at: At,
    side: Side,
    how: How,
}

#[derive(Debug, Clone)]
enum At {
    Named(String, usize),
    Nth(usize),
}

impl Point {
    /// The effect of this name, the `nth` time it comes, from 0.
    pub fn named(name: &str, nth: usize, side: Side, how: How) -> Self {
        Point { at: At::Named(name.into(), nth), side, how }
    }

    /// Effect number `nth` of the run, whatever it is, from 0.
    pub fn nth(nth: usize, side: Side, how: How) -> Self {
        Point { at: At::Nth(nth), side, how }
    }
}

#[derive(Debug)]
pub struct Reaper {
    point: Option<Point>,
    /// What differs from case to case, and what to call it.
    names: Mutex<Vec<(String, &'static str)>>,
    seen: Mutex<Vec<String>>,
    struck: AtomicBool,
    crashed: AtomicBool,
    silent: AtomicBool,
    pub died: Notify,
}

impl Reaper {
    pub fn watching() -> Self {
        Reaper {
            point: None,
            names: Mutex::default(),
            seen: Mutex::default(),
            struck: AtomicBool::new(false),
            crashed: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            died: Notify::new(),
        }
    }

    pub fn waiting_for(point: Point) -> Self {
        Reaper { point: Some(point), ..Reaper::watching() }
    }

    pub fn rename(&self, what: String, name: &'static str) {
        self.names.lock().expect("no panic").push((what, name));
    }

    pub fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    /// All effects in the order in which they began.
    pub fn trace(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }

    pub fn total(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for name in self.trace() {
            *counts.entry(name).or_insert(0) += 1;
        }
        counts
    }

    fn name(&self, door: Door, what: &str) -> String {
        let mut name = format!("{door:?} {what}");
        for (from, to) in self.names.lock().expect("no panic").iter() {
            name = name.replace(from, to);
        }
        name
    }

    /// `nth` is how often the name has come before; `number` counts all effects.
    fn strikes(&self, name: &str, nth: usize, number: usize, side: Side) -> Option<How> {
        let point = self.point.as_ref().filter(|point| point.side == side)?;
        let here = match &point.at {
            At::Named(wanted, times) => wanted == name && *times == nth,
            At::Nth(wanted) => *wanted == number,
        };
        (here && !self.struck.swap(true, Ordering::SeqCst)).then_some(point.how)
    }

    async fn pass(&self, strike: Option<How>) -> Result<()> {
        match strike {
            Some(How::Lose) => return Err(lost()),
            Some(How::Silence) => {
                self.silent.store(true, Ordering::SeqCst);
                return Err(lost());
            }
            Some(How::Crash) => {
                self.crashed.store(true, Ordering::SeqCst);
                self.died.notify_one();
            }
            None => {}
        }
        if self.crashed.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        Ok(())
    }
}

impl Watcher for Reaper {
    fn before<'a>(&'a self, door: Door, what: &'a str) -> BoxFuture<'a, Result<()>> {
        let name = self.name(door, what);
        let strike = {
            let mut seen = self.seen.lock().expect("no panic");
            let (number, nth) = (seen.len(), seen.iter().filter(|other| **other == name).count());
            let strike = self.strikes(&name, nth, number, Side::Before);
            seen.push(name);
            strike
        };
        Box::pin(self.pass(strike))
    }

    fn after<'a>(&'a self, door: Door, what: &'a str) -> BoxFuture<'a, Result<()>> {
        let name = self.name(door, what);
        let strike = {
            let seen = self.seen.lock().expect("no panic");
            let last = seen.iter().rposition(|other| *other == name).expect("before comes before after");
            let nth = seen[..last].iter().filter(|other| **other == name).count();
            self.strikes(&name, nth, last, Side::After)
        };
        let silent = door == Door::BigQuery && self.silent.load(Ordering::SeqCst);
        Box::pin(async move {
            self.pass(strike).await?;
            if silent { Err(lost()) } else { Ok(()) }
        })
    }
}

fn lost() -> Error {
    Error::failed("lost on purpose").retryable()
}
