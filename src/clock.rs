//! Where time comes from, so that tests own it. No safety decision reads it: it only paces retries.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Milliseconds since 1970, for people who read journals and receipts.
    pub fn unix_millis(self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    pub async fn sleep(self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
