//! The job that a command waits for, so that Ctrl-C can end it where it runs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::BigQuery;
use crate::error::{Error, Kind};

/// Nobody who pressed Ctrl-C waits longer for an answer.
const CANCEL_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Running(Mutex<Option<(String, BigQuery)>>);

impl Running {
    fn job(&self) -> MutexGuard<'_, Option<(String, BigQuery)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a job's end; until then it can be cancelled, also when nobody waits any more.
    pub(super) async fn during<T>(&self, bigquery: &BigQuery, id: &str, job: impl Future<Output = T>) -> T {
        *self.job() = Some((id.to_owned(), bigquery.clone()));
        let ended = job.await;
        *self.job() = None;
        ended
    }

    /// Where it runs is known now.
    pub(super) fn is_at(&self, there: &BigQuery) {
        if let Some((_, bigquery)) = &mut *self.job() {
            *bigquery = there.clone();
        }
    }

    /// Cancels what runs, and says what became of it.
    pub async fn interrupted(&self) -> Error {
        let job = self.job().take();
        let interrupted = |what: String| Error::new(Kind::Interrupted, what);
        let Some((id, bigquery)) = job else { return interrupted("interrupted".into()) };
        match tokio::time::timeout(CANCEL_MAX, bigquery.cancel(&id)).await {
            Ok(Ok(())) => interrupted(format!("interrupted; job `{id}` is cancelled")),
            Ok(Err(error)) => interrupted(format!("interrupted; job `{id}` may still run: {error}")),
            Err(_) => interrupted(format!("interrupted; job `{id}` may still run: no answer in time")),
        }
    }
}
