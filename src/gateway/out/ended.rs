//! Batches that ended long ago leave the journal, and what is kept of them for ever: their segments.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Out;
use crate::error::{Error, Result};
use crate::ledger::ended;

/// How often old batches are looked for.
const EVERY: Duration = Duration::from_secs(3600);
/// The journal has at least these: plans count the jobs of the last 24 hours.
const KEPT_MIN: Duration = Duration::from_secs(2 * 86_400);

impl Out {
    /// Sets segments aside that were loaded long ago, as a spool from a backup has them. They are not loaded
    /// again, and not deleted either: whoever brought them back may know why.
    pub(super) async fn set_aside_ended(&self) -> Result<()> {
        let sealed = self.spool.sealed().await.map_err(|refused| Error::failed(refused.to_string()))?;
        if sealed.is_empty() {
            return Ok(());
        }
        let ended = ended::read(&self.store, &self.destination.pipeline).await?;
        let known = ended::segments(&ended);
        for id in sealed.into_iter().map(|sealed| sealed.id) {
            if !known.contains(&*id.key()) {
                continue;
            }
            tracing::error!(
                segment = id.key(),
                "a segment came back whose batch ended long ago; it is kept as `.loaded`, and not loaded again"
            );
            self.spool.keep_loaded(id).await?;
        }
        Ok(())
    }

    /// Now and then puts batches together that ended long ago. Nothing depends on when, or whether.
    pub(super) async fn archive_old(&mut self) {
        if self.archived.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.archived = Some(Instant::now());
        let archive = async {
            let sealed = self.spool.sealed().await.map_err(|refused| Error::failed(refused.to_string()))?;
            let waiting: HashSet<String> = sealed.iter().map(|sealed| sealed.id.key()).collect();
            let kept_ms = u64::try_from(self.keep.max(KEPT_MIN).as_millis()).unwrap_or(u64::MAX);
            let before = self.effects.clock.unix_millis().saturating_sub(kept_ms);
            ended::archive(&self.store, &self.destination.pipeline, before, &waiting).await
        };
        match archive.await {
            Ok(0) => {}
            Ok(batches) => tracing::info!(batches, "old batches put together in the journal"),
            Err(error) => tracing::warn!(%error, "old batches stay in the journal as they are"),
        }
    }
}
