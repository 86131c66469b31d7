//! What a gateway has loaded: its journal against itself, what it still needs against the staging area, and
//! its partitions against the warehouse.

use std::collections::{BTreeMap, HashSet};

use chrono::NaiveDate;

use super::report::{Mismatch, Report, Unfinished};
use super::warehouse::table_of;
use super::{Against, offline_helps};
use crate::error::Result;
use crate::holdings::Holdings;
use crate::ledger::batches::Batch;
use crate::ledger::{self, Ledger, Standing};
use crate::manifest::Manifest;
use crate::partition::{Partition, SECONDS_PER_DAY, Window};

/// What the journal says that gateways brought to one partition.
#[derive(Debug, Default, PartialEq)]
struct Brought {
    rows: u64,
    /// The last batch that brought some, unless that is long ago.
    last: Option<(String, Window)>,
    /// Rows of each batch that was begun and is not noted as loaded: all of them are in the table, or none.
    open: Vec<u64>,
}

/// By table and partition.
type Partitions = BTreeMap<(String, Partition), Brought>;

/// How often the journal is read again while gateways go on loading. A batch takes them a second, reading and
/// asking some milliseconds.
const TRIES: usize = 10;

pub(super) async fn prove(against: Against<'_>, holdings: &Holdings, report: &mut Report) -> Result<()> {
    report.checked.batches += against.ledger.num_ended() as u64;
    // What is streamed is counted by the service in its own time.
    let mut streamed: HashSet<&str> = HashSet::new();
    streamed.extend(against.ledger.ended.iter().flat_map(|ended| ended.streamed.keys()).map(String::as_str));
    for batch in &against.ledger.batches {
        streamed.extend(batch.streamed().map(|streamed| streamed.table.as_str()));
        if batch.standing() == Standing::Damaged {
            continue;
        }
        report.checked.batches += 1;
        report.checked.entries += batch.entries.len() as u64;
        // Before its intent all that it needs is in the spool.
        let Some(manifest) = batch.manifest() else { continue };
        if batch.state().loaded.is_none() {
            let gone = files_gone(against, batch, manifest, report).await?;
            // They go once they are loaded.
            if gone.is_empty() || is_open_now(against, batch).await? {
                report.mismatches.extend(gone);
                if against.bigquery.is_some() {
                    let (run, window) = (batch.run.clone(), manifest.window);
                    let (state, reason) = (batch.standing(), batch.reason());
                    report.unfinished.push(Unfinished { run, window, state, reason });
                }
            }
            continue;
        }
        for staged in &manifest.partitions {
            let rows = rows_loaded(batch, staged.partition);
            if rows != staged.rows {
                let (run, what) = (batch.run.clone(), "rows loaded, by the journal");
                let (window, expected) = (manifest.window, staged.rows);
                report.mismatches.push(differs(run, window, staged.partition, what, expected, rows));
            }
        }
    }
    let Some(bigquery) = against.bigquery else { return Ok(()) };
    let mut brought = partitions(against.ledger);
    // What a backfill brings to the same day, or is streamed there, cannot be told from it.
    brought.retain(|(table, partition), brought| {
        brought.rows > 0
            && holdings.of_partition(table, *partition).is_empty()
            && !streamed.contains(table.as_str())
    });
    report.checked.partitions += brought.len() as u64;
    report.not_compared = streamed.into_iter().map(str::to_owned).collect();
    report.not_compared.sort_unstable();
    for attempt in 1.. {
        let mut differing = Vec::new();
        for ((table, partition), expected) in brought {
            let found =
                bigquery.table(&table_of(&table)?.partition(partition)).await.map_err(offline_helps)?;
            let found = found.map_or(0, |table| table.rows);
            if !expected.may_be(found) {
                differing.push(((table, partition), expected, found));
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        // Where it says the same as before, no gateway was at work in between.
        let mut now = partitions(&ledger::read(against.store, &against.pipeline.name).await?);
        brought = Partitions::new();
        for (key, before, found) in differing {
            let after = now.remove(&key).unwrap_or_default();
            if after != before && attempt < TRIES {
                brought.insert(key, after);
                continue;
            }
            let (run, window) = before.last.unwrap_or_else(|| ("gateway".to_owned(), day_of(key.1)));
            let what = "rows in BigQuery, of all batches";
            report.mismatches.push(differs(run, window, key.1, what, before.rows, found));
        }
    }
    Ok(())
}

fn partitions(ledger: &Ledger) -> Partitions {
    let mut brought = Partitions::new();
    for day in ledger.ended.iter().flat_map(|ended| &ended.rows) {
        brought.entry((day.table.clone(), day.partition)).or_default().rows += day.rows;
    }
    for batch in &ledger.batches {
        let manifest = batch.manifest().filter(|_| batch.standing() != Standing::Damaged);
        let Some(manifest) = manifest else { continue };
        for staged in &manifest.partitions {
            let of_day = brought.entry((manifest.target.table.clone(), staged.partition)).or_default();
            if batch.state().loaded.is_none() {
                of_day.open.push(staged.rows);
                continue;
            }
            of_day.rows += rows_loaded(batch, staged.partition);
            of_day.last = Some((batch.run.clone(), manifest.window));
        }
    }
    brought
}

impl Brought {
    fn may_be(&self, found: u64) -> bool {
        if found <= self.rows {
            return found == self.rows;
        }
        let mut sums = HashSet::from([self.rows]);
        for rows in &self.open {
            let with = |sum: &u64| Some(sum + rows).filter(|sum| *sum <= found);
            sums.extend(sums.iter().filter_map(with).collect::<Vec<_>>());
        }
        sums.contains(&found)
    }
}

/// Rows that a batch's load jobs brought to a partition.
fn rows_loaded(batch: &Batch, partition: Partition) -> u64 {
    let loaded = batch.state().loaded.unwrap_or_default();
    loaded.iter().filter(|load| load.partition == partition).map(|load| load.output_rows).sum()
}

/// The files of a batch that are not as its load jobs need them.
async fn files_gone(
    against: Against<'_>,
    batch: &Batch,
    manifest: &Manifest,
    report: &mut Report,
) -> Result<Vec<Mismatch>> {
    let mut gone = Vec::new();
    for (staged, file) in manifest.partitions.iter().flat_map(|p| p.files.iter().map(move |file| (p, file))) {
        report.checked.files += 1;
        let name = against.store.name_of(&file.url);
        let holds = match name {
            Some(name) => against.store.holds(name, file.bytes, &file.sha256).await?,
            None => false,
        };
        if holds {
            (report.checked.bytes, report.checked.rows) =
                (report.checked.bytes + file.bytes, report.checked.rows + file.rows);
        } else {
            let (expected, found) = (format!("{} bytes with their SHA-256", file.bytes), "not these");
            gone.push(Mismatch {
                file: Some(file.url.clone()),
                ..differs(batch.run.clone(), manifest.window, staged.partition, "file", expected, found)
            });
        }
    }
    Ok(gone)
}

/// Whether a batch that was open still is.
async fn is_open_now(against: Against<'_>, batch: &Batch) -> Result<bool> {
    let now = ledger::read(against.store, &against.pipeline.name).await?;
    // Those that are put together are loaded.
    let batch = now.batches.iter().find(|of_now| of_now.run == batch.run);
    Ok(batch.is_some_and(|batch| batch.state().loaded.is_none()))
}

/// The seconds of a day, as those of gateways are counted.
fn day_of(partition: Partition) -> Window {
    let day = partition.day(NaiveDate::default());
    Window { after: (day - 1) * SECONDS_PER_DAY, before: day * SECONDS_PER_DAY }
}

fn differs(
    run: String,
    window: Window,
    partition: Partition,
    what: &str,
    expected: impl ToString,
    found: impl ToString,
) -> Mismatch {
    let (expected, found) = (expected.to_string(), found.to_string());
    Mismatch { run, window, partition: Some(partition), file: None, what: what.to_owned(), expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_batch_that_is_not_noted_all_rows_are_in_the_table_or_none() {
        let brought = Brought { rows: 10, last: None, open: vec![2, 5] };
        let found: Vec<u64> = (0..30).filter(|found| brought.may_be(*found)).collect();
        assert_eq!(found, [10, 12, 15, 17]);
        assert!(!Brought { open: Vec::new(), ..brought }.may_be(12));
    }
}
