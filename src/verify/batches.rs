//! What a gateway has loaded: its journal against itself, what it still needs against the staging area, and
//! its partitions against the warehouse.

use std::collections::{BTreeMap, HashSet};

use chrono::NaiveDate;

use super::report::{Mismatch, Report, Unfinished};
use super::warehouse::table_of;
use super::{Against, offline_helps};
use crate::error::Result;
use crate::holdings::Holdings;
use crate::ledger::Standing;
use crate::ledger::batches::Batch;
use crate::manifest::Manifest;
use crate::partition::{Partition, SECONDS_PER_DAY, Window};

/// Rows of a partition by the journal, and the last batch that brought some, unless that is long ago.
type Expected<'b> = BTreeMap<(&'b str, Partition), (u64, Option<&'b Batch>)>;

pub(super) async fn prove(against: Against<'_>, holdings: &Holdings, report: &mut Report) -> Result<()> {
    let mut expected = Expected::new();
    report.checked.batches += against.ledger.num_ended() as u64;
    for day in against.ledger.ended.iter().flat_map(|ended| &ended.rows) {
        expected.entry((day.table.as_str(), day.partition)).or_default().0 += day.rows;
    }
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
        match batch.state().loaded {
            Some(loaded) => {
                for staged in &manifest.partitions {
                    let of_day = loaded.iter().filter(|load| load.partition == staged.partition);
                    let rows: u64 = of_day.map(|load| load.output_rows).sum();
                    if rows != staged.rows {
                        let (run, what) = (batch.run.clone(), "rows loaded, by the journal");
                        let (window, expected) = (manifest.window, staged.rows);
                        report.mismatches.push(differs(run, window, staged.partition, what, expected, rows));
                    }
                    let key = (manifest.target.table.as_str(), staged.partition);
                    let (sum, last) = expected.entry(key).or_default();
                    (*sum, *last) = (*sum + rows, Some(batch));
                }
            }
            None => open(against, batch, manifest, report).await?,
        }
    }
    let Some(bigquery) = against.bigquery else { return Ok(()) };
    for ((table, partition), (rows, batch)) in expected {
        // What a backfill brings to the same day, or is streamed there, cannot be told from it.
        if !holdings.of_partition(table, partition).is_empty() || streamed.contains(table) {
            continue;
        }
        let table = table_of(table)?;
        report.checked.partitions += 1;
        let found = bigquery.table(&table.partition(partition)).await.map_err(offline_helps)?;
        let found = found.map_or(0, |table| table.rows);
        if found != rows {
            let what = "rows in BigQuery, of all batches";
            let (run, window) = match batch.and_then(|batch| Some((&batch.run, batch.manifest()?.window))) {
                Some((run, window)) => (run.clone(), window),
                None => ("gateway".to_owned(), day_of(partition)),
            };
            report.mismatches.push(differs(run, window, partition, what, rows, found));
        }
    }
    Ok(())
}

/// A batch whose load jobs are still to come needs its files.
async fn open(against: Against<'_>, batch: &Batch, manifest: &Manifest, report: &mut Report) -> Result<()> {
    if against.bigquery.is_some() {
        report.unfinished.push(Unfinished {
            run: batch.run.clone(),
            window: manifest.window,
            state: batch.standing(),
            reason: batch.reason(),
        });
    }
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
            report.mismatches.push(Mismatch {
                file: Some(file.url.clone()),
                ..differs(batch.run.clone(), manifest.window, staged.partition, "file", expected, found)
            });
        }
    }
    Ok(())
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
