//! Proves again what the journal says of a run: by the staged files, by the warehouse, by the source.
//!
//! | said | held against |
//! |---|---|
//! | an entry | its number, its forerunner's hash, its counts (reading the chain does that) |
//! | a staged file | its size and SHA-256, the rows in its footer and the rows in it |
//! | a staged partition | its files' rows, and their logical hash computed again |
//! | a loaded partition | BigQuery's row count, and sums per column, computed from the files |
//! | a day without records | an empty partition |
//! | the rejects that were kept | their file, by size, SHA-256 and lines |
//! | the records of a window | the source's own count, where it is asked and says one |
//!
//! Of a gateway's batches the files are gone once they are loaded: their journal is held against itself, and
//! the rows of each partition against all batches that brought some.
//!
//! A partition is held against the warehouse only for the run that loaded it last: what a later run
//! replaced is no mismatch. One that several windows appended to is held against all of them together.

mod batches;
mod report;
mod shared;
mod warehouse;

use crate::bigquery::BigQuery;
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::holdings::{Holdings, Windows};
use crate::ledger::{Ledger, LedgerWindow, Run, Standing};
use crate::manifest::{Manifest, StagedFile, StagedPartition};
use crate::partition::{Partition, Window};
use crate::source::Source;
use crate::stage::Store;
use crate::stage::audit::Audit;
use crate::stage::journal::sha256_hex;
use crate::telemetry::peak_rss_bytes;
use shared::Shared;

pub use report::{Checked, Damaged, Mismatch, Report, Superseded, Unfinished};

/// What a run is held against, beside its staged files.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    pub pipeline: &'a Pipeline,
    pub store: &'a Store,
    pub ledger: &'a Ledger,
    /// What the pipeline's gateway loaded is proven too.
    pub gateway: bool,
    /// `None`: the warehouse is left out.
    pub bigquery: Option<&'a BigQuery>,
    /// `None`: the source is left out.
    pub source: Option<&'a Source>,
}

/// Proves `runs`, all of the ledger that is given. Whatever does not hold is in the report; an
/// error means that something could not be asked.
pub async fn verify(against: Against<'_>, runs: &[&Run]) -> Result<Report> {
    let mut report = Report {
        pipeline: against.pipeline.name.clone(),
        runs: runs.iter().map(|run| run.id.clone()).collect(),
        offline: against.bigquery.is_none(),
        ..Report::default()
    };
    let damaged = |(run, window, error): (&str, Option<Window>, &Error)| Damaged {
        run: run.to_owned(),
        window,
        error: error.to_string(),
    };
    report.damaged = against.ledger.damage().map(damaged).collect();
    let holdings = Holdings::of(against.ledger, against.pipeline.epoch, Windows::Loaded);
    let mut shared = Shared::default();
    for run in runs {
        for window in &run.windows {
            let mut proof =
                Proof { against, run, window, holdings: &holdings, shared: &mut shared, report: &mut report };
            proof.window().await?;
        }
    }
    shared.prove(against, &mut report).await.map_err(offline_helps)?;
    if against.gateway {
        batches::prove(against, &holdings, &mut report).await?;
    }
    report.peak_rss_bytes = peak_rss_bytes();
    Ok(report)
}

/// BigQuery is the one side that can be done without.
pub fn offline_helps(error: Error) -> Error {
    let hint = match error.hint_text() {
        Some(hint) => format!("{hint}; `--offline` leaves BigQuery out"),
        None => "`--offline` leaves BigQuery out".to_owned(),
    };
    error.hint(hint)
}

/// One window under proof.
struct Proof<'a, 'r> {
    against: Against<'a>,
    run: &'a Run,
    window: &'a LedgerWindow,
    holdings: &'a Holdings,
    shared: &'r mut Shared,
    report: &'r mut Report,
}

impl Proof<'_, '_> {
    async fn window(&mut self) -> Result<()> {
        let standing = self.window.standing();
        if standing == Standing::Damaged {
            return Ok(());
        }
        self.report.checked.windows += 1;
        self.report.checked.entries += self.window.entries.len() as u64;
        let is_left = match standing {
            Standing::Missing => true,
            Standing::Open | Standing::Failed => self.against.bigquery.is_some(),
            Standing::Done | Standing::Empty | Standing::Damaged => false,
        };
        if is_left {
            self.report.unfinished.push(Unfinished {
                run: self.run.id.clone(),
                window: self.window.window,
                state: standing,
                reason: self.window.reason(),
            });
        }
        let Some(manifest) = self.window.manifest() else { return Ok(()) };
        let mut audits = Vec::with_capacity(manifest.partitions.len());
        for staged in &manifest.partitions {
            audits.push(self.staged(staged).await?);
        }
        if let Some(rejects) = &manifest.rejects {
            self.rejects(manifest, rejects).await?;
        }
        if let Some(source) = self.against.source {
            self.source(source, manifest).await?;
        }
        self.loaded_as_staged(manifest);
        self.warehouse(manifest, &audits).await.map_err(offline_helps)
    }

    /// One partition's files. `None` where they do not allow to say what should be in the table.
    async fn staged(&mut self, staged: &StagedPartition) -> Result<Option<Audit>> {
        let mut audit = Some(Audit::default());
        for file in &staged.files {
            let Some(bytes) = self.bytes_of(Some(staged.partition), file).await? else {
                audit = None;
                continue;
            };
            let Some(before) = audit.take() else { continue };
            let footer_before = before.footer_rows;
            // Off the threads that wait for answers; a file that breaks the reader breaks only this.
            let read = tokio::task::spawn_blocking(move || {
                let mut after = before;
                let added = after.add_file(bytes);
                added.map(|()| after)
            });
            let place = (Some(staged.partition), Some(file));
            match read.await {
                Ok(Ok(after)) => {
                    let footer = after.footer_rows - footer_before;
                    self.same(place, "rows in the footer", file.rows, footer);
                    audit = Some(after);
                }
                Ok(Err(error)) => self.differs(place, "content", "a Parquet file of this pipeline", error),
                Err(_) => self.differs(
                    place,
                    "content",
                    "a Parquet file of this pipeline",
                    "one that no reader can stand",
                ),
            }
        }
        let Some(audit) = audit else { return Ok(None) };
        self.report.checked.rows += audit.rows;
        let place = (Some(staged.partition), None);
        self.same(place, "staged rows", staged.rows, audit.rows);
        if let Some(hash) = audit.logical_hash() {
            self.same(place, "logical hash of the staged rows", staged.logical_hash.as_str(), hash.as_str());
        }
        Ok(Some(audit))
    }

    async fn rejects(&mut self, manifest: &Manifest, rejects: &StagedFile) -> Result<()> {
        let Some(bytes) = self.bytes_of(None, rejects).await? else { return Ok(()) };
        self.report.checked.rejects_files += 1;
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.same((None, Some(rejects)), "rejects kept", rejects.rows, lines);
        if lines > manifest.counts.rejects {
            let at_most = format!("at most {}", manifest.counts.rejects);
            self.differs((None, Some(rejects)), "rejects kept", at_most, lines);
        }
        Ok(())
    }

    /// The bytes of a file that are just as the journal names them.
    async fn bytes_of(&mut self, partition: Option<Partition>, file: &StagedFile) -> Result<Option<Vec<u8>>> {
        let place = (partition, Some(file));
        self.report.checked.files += 1;
        let Some(name) = self.against.store.name_of(&file.url) else {
            self.differs(place, "place", "a file of this staging area", "one elsewhere");
            return Ok(None);
        };
        let Some(bytes) = self.against.store.read(name).await? else {
            self.differs(place, "file", format!("{} bytes", file.bytes), "no file");
            return Ok(None);
        };
        self.report.checked.bytes += bytes.len() as u64;
        if !self.same(place, "size in bytes", file.bytes, bytes.len() as u64) {
            return Ok(None);
        }
        let hash = sha256_hex(&bytes);
        Ok(self.same(place, "SHA-256", file.sha256.as_str(), hash.as_str()).then_some(bytes))
    }

    async fn source(&mut self, source: &Source, manifest: &Manifest) -> Result<()> {
        // The body is left where it is: its head says how many records it has.
        let Some(records) = source.open(manifest.window).await?.records else { return Ok(()) };
        self.report.checked.source_counts += 1;
        let fetched = manifest.counts.records + manifest.counts.outside;
        self.same((None, None), "records at the source", fetched, records);
        Ok(())
    }

    /// The journal against itself: each staged partition was loaded once, with as many rows.
    fn loaded_as_staged(&mut self, manifest: &Manifest) {
        let Some(loaded) = self.window.state().loaded else { return };
        for staged in &manifest.partitions {
            let mut rows = loaded.iter().filter(|l| l.partition == staged.partition).map(|l| l.output_rows);
            let place = (Some(staged.partition), None);
            match (rows.next(), rows.next()) {
                (Some(rows), None) => {
                    self.same(place, "rows loaded, by the journal", staged.rows, rows);
                }
                (None, _) => self.differs(place, "loads in the journal", 1, 0),
                (Some(_), Some(_)) => self.differs(place, "loads in the journal", 1, "several"),
            }
        }
    }

    /// Notes what is not the same, and says whether it was.
    fn same<T: PartialEq + std::fmt::Display>(
        &mut self,
        place: Place<'_>,
        what: &str,
        expected: T,
        found: T,
    ) -> bool {
        let same = expected == found;
        if !same {
            self.differs(place, what, expected, found);
        }
        same
    }

    fn differs(
        &mut self,
        (partition, file): Place<'_>,
        what: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) {
        self.report.mismatches.push(Mismatch {
            run: self.run.id.clone(),
            window: self.window.window,
            partition,
            file: file.map(|file| file.url.clone()),
            what: what.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        });
    }
}

/// Where in a window.
type Place<'f> = (Option<Partition>, Option<&'f StagedFile>);
