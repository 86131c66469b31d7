//! Load jobs of one day, so that the table's quota is not met by surprise.

use std::collections::HashMap;

use super::folder;
use crate::effects::Clock;
use crate::error::{Error, Result};
use crate::stage::Store;

/// How many jobs are left today. Failed ones count, as they do for BigQuery.
#[derive(Debug)]
pub(super) struct Budget {
    per_day: u64,
    day: u64,
    used: u64,
}

impl Budget {
    /// Counts what the journal tells of today. Only an estimate: nothing but politeness rests on it.
    pub(super) async fn read(store: &Store, pipeline: &str, per_day: u64) -> Result<Budget> {
        let day = quota_day(store.effects().clock.unix_millis());
        let mut entries: HashMap<String, u64> = HashMap::new();
        for object in store.walk(&folder(pipeline)).await? {
            let Some((batch, file)) = object.name.rsplit_once('/') else { continue };
            let is_entry = file.len() == 9 && file.ends_with(".json") && file != "batch.json";
            if is_entry && quota_day(object.modified_unix_ms) == day {
                *entries.entry(batch.to_owned()).or_default() += 1;
            }
        }
        // An intent and what became of it are one job, each failure between them is another.
        let used = entries.values().map(|entries| (entries - 1).max(1)).sum();
        Ok(Budget { per_day, day, used })
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

    #[test]
    fn a_day_has_so_many_jobs_and_the_next_day_as_many_again() {
        let day_ms = 86_400_000;
        let clock = Clock::manual(20_000 * day_ms);
        let mut budget = Budget { per_day: 2, day: 0, used: 9 };
        assert!(budget.take(&clock).is_ok() && budget.take(&clock).is_ok());
        assert!(budget.take(&clock).expect_err("none left").to_string().contains("used up"));
        assert!(budget.take(&Clock::manual(20_000 * day_ms + day_ms / 2)).is_ok());
    }
}
