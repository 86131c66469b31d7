//! Tries again what may have been weather: jittered, bounded, and never longer than the server asks.

use std::time::Duration;

use crate::effects::{Door, Effects};
use crate::error::{Error, Result};

/// Waits as Google's SLA asks: the first at least 1 s, doubling to 32 s, with jitter.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    pub first_wait: Duration,
    pub wait_max: Duration,
    /// The longest `Retry-After` that is waited for; a longer one ends the attempts.
    pub retry_after_max: Duration,
    /// Repeats of the whole run, after which every error is final.
    pub retries_max: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            attempts: 6,
            first_wait: Duration::from_secs(1),
            wait_max: Duration::from_secs(32),
            retry_after_max: Duration::from_secs(300),
            retries_max: 1000,
        }
    }
}

impl Policy {
    /// How long to wait before attempt `next` (2 for the first repeat), or `None` to give up.
    pub fn wait_before(&self, next: u32, error: &Error) -> Option<Duration> {
        if !error.is_retryable() || next > self.attempts {
            return None;
        }
        if let Some(asked) = error.retry_after() {
            return (asked <= self.retry_after_max).then_some(asked);
        }
        let doubled = self.first_wait.saturating_mul(1 << (next.saturating_sub(2)).min(16));
        // Jitter upwards, so that the first wait never falls below its minimum.
        Some(doubled.min(self.wait_max).mul_f64(1.0 + fastrand::f64() / 2.0))
    }

    /// Starts counting the attempts at `what`.
    pub fn tries(&self, effects: &Effects, door: Door, what: impl Into<String>) -> Tries {
        Tries { policy: *self, effects: effects.clone(), door, what: what.into(), attempt: 1 }
    }
}

/// The attempts at one thing: `Err(error) => tries.wait_or(error).await?` in a loop.
///
/// # Why not a function that takes a closure?
/// An async closure that borrows cannot yet be proven `Send`, and the windows of a run are tasks.
#[derive(Debug)]
pub struct Tries {
    policy: Policy,
    effects: Effects,
    door: Door,
    what: String,
    attempt: u32,
}

impl Tries {
    /// Waits until it is time for the next attempt, or gives the error back when there is none.
    pub async fn wait_or(&mut self, error: Error) -> Result<()> {
        let Some(wait) = self.policy.wait_before(self.attempt + 1, &error) else {
            let attempts = self.attempt;
            return Err(if attempts > 1 {
                error.context(format!("after {attempts} attempts"))
            } else {
                error
            });
        };
        let retries_max = self.policy.retries_max;
        if self.effects.retries().total() >= retries_max {
            return Err(error.context(format!("after {retries_max} retries in this run, its budget")));
        }
        let retries = self.effects.count_retry(self.door);
        self.attempt += 1;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let (what, attempt) = (&self.what, self.attempt);
        tracing::warn!(what, attempt, retries, wait_ms, %error, "trying again");
        self.effects.sleep(wait).await;
        Ok(())
    }
}

/// Reads `Retry-After` in seconds or as a date. Past dates, negatives and nonsense are no hint.
pub fn parse_retry_after(value: &str, now_unix_seconds: u64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(value).ok()?.timestamp();
    let ahead = at.checked_sub(i64::try_from(now_unix_seconds).ok()?)?;
    u64::try_from(ahead).ok().filter(|s| *s > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_cap_and_end() {
        let policy = Policy::default();
        let weather = Error::failed("503").retryable();
        let first = policy.wait_before(2, &weather).expect("a wait");
        assert!((1.0..=1.5).contains(&first.as_secs_f64()), "{first:?}");
        let last = policy.wait_before(6, &weather).expect("a wait");
        assert!((16.0..=24.0).contains(&last.as_secs_f64()), "{last:?}");
        assert!(policy.wait_before(7, &weather).is_none());
        assert!(policy.wait_before(2, &Error::failed("404")).is_none());
    }

    #[test]
    fn retry_after_is_honoured_up_to_the_cap_and_nonsense_is_no_hint() {
        let policy = Policy::default();
        let asked = |s| Error::failed("429").retryable().with_retry_after(Some(Duration::from_secs(s)));
        assert_eq!(policy.wait_before(2, &asked(7)), Some(Duration::from_secs(7)));
        assert_eq!(policy.wait_before(2, &asked(86_400)), None);
        assert_eq!(parse_retry_after("120", 0), Some(Duration::from_secs(120)));
        for nonsense in ["Wed, 21 Oct 2015 07:28:00 GMT", "-5", "abc", ""] {
            assert_eq!(parse_retry_after(nonsense, 1_790_000_000), None, "{nonsense}");
        }
        let soon = parse_retry_after("Thu, 01 Jan 1970 00:02:00 GMT", 60);
        assert_eq!(soon, Some(Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn attempts_are_counted_and_end_with_the_error() {
        let effects = Effects::pretending(0);
        let reset = || Error::failed("reset").retryable();
        let mut tries = Policy::default().tries(&effects, Door::Store, "test");
        for _ in 0..5 {
            tries.wait_or(reset()).await.expect("another attempt");
        }
        let last = tries.wait_or(reset()).await.expect_err("the sixth is the last");
        assert_eq!(last.to_string(), "after 6 attempts: reset");
        assert_eq!(effects.retries().store, 5);
        assert!((31_000..=46_500).contains(&effects.clock.unix_millis()), "1 + 2 + 4 + 8 + 16 s and jitter");
        let mut tries = Policy::default().tries(&effects, Door::Store, "test");
        assert!(tries.wait_or(Error::failed("404")).await.is_err());
    }

    #[tokio::test]
    async fn the_whole_run_has_a_budget_of_repeats() {
        let effects = Effects::pretending(0);
        let policy = Policy { retries_max: 2, ..Policy::default() };
        for _ in 0..2 {
            let mut tries = policy.tries(&effects, Door::Source, "window");
            tries.wait_or(Error::failed("reset").retryable()).await.expect("another attempt");
        }
        let mut tries = policy.tries(&effects, Door::BigQuery, "table");
        let spent = tries.wait_or(Error::failed("503").retryable()).await.expect_err("the budget is spent");
        assert_eq!(spent.to_string(), "after 2 retries in this run, its budget: 503");
    }
}
