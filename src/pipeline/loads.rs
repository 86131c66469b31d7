//! The load jobs of a window's intent, and whether what they loaded is still there.

use super::Backfill;
use crate::bigquery::BigQuery;
use crate::error::Result;
use crate::generations::Generations;
use crate::guard;
use crate::holdings::{Holdings, Load};
use crate::load;
use crate::manifest::{Loaded, Manifest};
use crate::partition::Partition;
use crate::stage::journal::Chain;

impl Backfill {
    /// The first partition of a loaded window that is not as it was loaded. Days without records
    /// have nothing to lose; what came into them since is taken out on the way.
    pub(super) async fn first_gone<'l>(
        &self,
        bigquery: &BigQuery,
        manifest: &Manifest,
        loaded: &'l [Loaded],
        holdings: &Holdings,
    ) -> Result<Option<&'l Loaded>> {
        for ours in loaded {
            let (table, partition) = (&manifest.target.table, ours.partition);
            let holds = holdings.of_partition(table, partition);
            let is_ours = |load: &Load| load.job_id.as_ref() == Some(&ours.job_id);
            if manifest.target.appends() {
                // Whoever replaced the day since meant it. Others may be appending to it just now.
                let expected = holds.iter().map(|load| load.rows).sum::<u64>();
                let is_there = !holds.iter().any(is_ours)
                    || load::rows(bigquery, &self.destination, partition).await? >= expected;
                if !is_there {
                    return Err(guard::lost_appended(table, partition, expected));
                }
                continue;
            }
            // What was appended since lies on top of ours, unless ours is not there any more.
            let on_top = holds.iter().filter(|_| holds.iter().any(is_ours));
            let rows = on_top.clone().map(|load| load.rows).sum::<u64>().max(ours.output_rows);
            let ended_ms = on_top.map(|load| load.ended_ms).max().unwrap_or(ours.ended_ms);
            if !load::is_still_there(bigquery, &self.destination, partition, rows, ended_ms).await? {
                guard::refuse_to_drop(&self.pipeline, table, partition, holdings)?;
                return Ok(Some(ours));
            }
        }
        self.clear_days_without_records(bigquery, manifest).await?;
        Ok(None)
    }

    /// Replaces the days of a window for which there are no rows by nothing.
    async fn clear_days_without_records(&self, bigquery: &BigQuery, manifest: &Manifest) -> Result<()> {
        if manifest.target.appends() {
            return Ok(());
        }
        let (first, last) = manifest.window.days();
        for day in first..=last {
            let partition = Partition::of_day(self.pipeline.epoch, day)?;
            if !manifest.partitions.iter().any(|staged| staged.partition == partition) {
                load::clear(bigquery, &self.destination, partition).await?;
            }
        }
        Ok(())
    }

    /// The load jobs of one intent.
    pub(super) async fn load(
        &self,
        bigquery: &BigQuery,
        chain: &mut Chain,
        manifest: &Manifest,
    ) -> Result<Vec<Loaded>> {
        self.clear_days_without_records(bigquery, manifest).await?;
        let generations = Generations {
            bigquery,
            destination: &self.destination,
            origin: manifest.window.key(),
            retry: self.retry,
            effects: &self.effects,
        };
        let mut loaded = Vec::with_capacity(manifest.partitions.len());
        for staged in &manifest.partitions {
            loaded.push(generations.load(chain, staged, |_| Ok(())).await?);
        }
        Ok(loaded)
    }
}
