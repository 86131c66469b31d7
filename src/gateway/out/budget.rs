//! Load jobs of one day, so that the table's quota is not met by surprise.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::effects::Clock;
use crate::error::{Error, Result};
use crate::ledger::batches::folder;
use crate::stage::Store;

/// How many jobs are left today. Failed ones count, as they do for BigQuery.
#[derive(Debug)]
pub(super) struct Budget {
    per_day: u64,
    day: u64,
    used: u64,
    read: Instant,
}

/// How long a count holds: other gateways load into the same table.
const HOLDS: Duration = Duration::from_secs(3600);

impl Budget {
    /// Counts what the journal tells of today. Only an estimate: nothing but politeness rests on it.
    pub(super) async fn read(store: &Store, pipeline: &str, per_day: u64) -> Result<Budget> {
        let day = quota_day(store.effects().clock.unix_millis());
        let mut entries: HashMap<String, u64> = HashMap::new();
        // Streamed rows have an entry, and no batch.
        let mut batches: HashSet<String> = HashSet::new();
        for object in store.walk(&folder(pipeline)).await? {
            let Some((batch, file)) = object.name.rsplit_once('/') else { continue };
            if file == "batch.json" {
                batches.insert(batch.to_owned());
            }
            let is_entry = file.len() == 9 && file.ends_with(".json");
            if is_entry && quota_day(object.modified_unix_ms) == day {
                *entries.entry(batch.to_owned()).or_default() += 1;
            }
        }
        // An intent and what became of it are one job, each failure between them is another.
        let of_batches = entries.iter().filter(|(batch, _)| batches.contains(*batch));
        let used = of_batches.map(|(_, entries)| (entries - 1).max(1)).sum();
        Ok(Budget { per_day, day, used, read: Instant::now() })
    }

    pub(super) fn is_old(&self) -> bool {
        self.read.elapsed() > HOLDS
    }

    /// Takes one job of today's, if there is one left.
    pub(super) fn take(&mut self, clock: &Clock) -> Result<()> {
        let today = quota_day(clock.unix_millis());
        if today != self.day {
            (self.day, self.used) = (today, 0);
        }
        if self.used >= self.per_day {
            let message = format!("today's {} load jobs are used up; rows wait until tomorrow", self.per_day);
            return Err(Error::failed(message).hint("BigQuery takes 1,500 load jobs a table and day"));
        }
        self.used += 1;
        Ok(())
    }
}

/// Days of quotas end at midnight in California: 8 hours behind UTC, and 7 in summer, when this is an
/// hour late, and so careful.
fn quota_day(unix_ms: u64) -> u64 {
    (unix_ms / 1000).saturating_sub(8 * 3600) / 86_400
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use crate::retry::Policy;

    #[test]
    fn a_day_has_so_many_jobs_and_the_next_day_as_many_again() {
        let day_ms = 86_400_000;
        let clock = Clock::manual(20_000 * day_ms);
        let mut budget = Budget { per_day: 2, day: 0, used: 9, read: Instant::now() };
        assert!(budget.take(&clock).is_ok() && budget.take(&clock).is_ok());
        assert!(budget.take(&clock).expect_err("none left").to_string().contains("used up"));
        assert!(budget.take(&Clock::manual(20_000 * day_ms + day_ms / 2)).is_ok());
    }

    #[tokio::test]
    async fn a_batch_is_a_job_and_rows_that_were_streamed_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        let store = Store::open(&url, Effects::default(), Policy::default()).unwrap();
        for name in
            ["1/batch.json", "1/0001.json", "1/0002.json", "2/0001.json", "3/batch.json", "3/0001.json"]
        {
            store.create(&format!("p/gateway/{name}"), b"{}").await.unwrap();
        }
        assert_eq!(Budget::read(&store, "p", 9).await.unwrap().used, 2);
    }
}
