//! The staged files that a promote would read, on this machine.

use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use url::Url;

use crate::bigquery::TableId;
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::engine::DayFile;
use crate::error::{Error, Kind, Result};
use crate::explore::Content;
use crate::holdings::Windows;
use crate::ledger;
use crate::manifest::StagedFile;
use crate::pipeline::open_store;
use crate::stage::Store;

/// What the journal says of the staging table's partitions.
#[derive(Debug)]
pub struct Staged {
    store: Store,
    content: Content,
    table: TableId,
}

/// Files of days, as long as this is kept.
#[derive(Debug)]
pub struct Files {
    pub days: Vec<(NaiveDate, Vec<PathBuf>)>,
    pub rows: u64,
    pub bytes: u64,
    /// Copies of what is in a bucket.
    _copies: Option<Copies>,
}

impl Files {
    pub fn num_files(&self) -> usize {
        self.days.iter().map(|(_, files)| files.len()).sum()
    }
}

/// Reads the journal of all runs.
pub async fn staged(pipeline: &Pipeline, windows: Windows) -> Result<Staged> {
    let store = open_store(pipeline, &Effects::default())?;
    let ledger = ledger::read(&store, &pipeline.name).await?;
    let warehouse = &pipeline.warehouse;
    let table = TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.staging_table);
    let content = Content::of(&ledger, &table.to_string(), pipeline.epoch, windows)?;
    Ok(Staged { store, content, table })
}

impl Staged {
    pub fn newest(&self) -> Result<NaiveDate> {
        self.content.newest().ok_or_else(|| Error::usage(format!("no rows of `{}` are staged", self.table)))
    }

    /// The files of these days where they are; those of a bucket are copied into `scratch`, one at a time.
    pub async fn files(&self, first: NaiveDate, last: NaiveDate, scratch: &Path) -> Result<Files> {
        let content = self.content.clone().between(first, last);
        if content.days.is_empty() {
            return Err(Error::usage(format!(
                "no rows of `{}` are staged from {first} to {last}",
                self.table
            ))
            .hint("choose other `--as-of` or `--days`"));
        }
        let (rows, bytes) = content.files().fold((0, 0), |(r, b), file| (r + file.rows, b + file.bytes));
        let copies = match self.store.folder() {
            Some(_) => None,
            None => Some(Copies::new(scratch)?),
        };
        let mut days = Vec::with_capacity(content.days.len());
        for (partition, files) in &content.days {
            let mut paths = Vec::with_capacity(files.len());
            for file in files {
                paths.push(match &copies {
                    None => local(file)?,
                    Some(copies) => copies.copy(&self.store, file).await?,
                });
            }
            days.push((partition.date(), paths));
        }
        Ok(Files { days, rows, bytes, _copies: copies })
    }
}

fn local(file: &StagedFile) -> Result<PathBuf> {
    DayFile { url: file.url.clone(), rows: file.rows, bytes: file.bytes }.check()?;
    let path = Url::parse(&file.url).ok().and_then(|url| url.to_file_path().ok());
    path.ok_or_else(|| Error::new(Kind::Damaged, format!("`{}` names no file of this machine", file.url)))
}

/// A folder that goes with all that is in it.
#[derive(Debug)]
struct Copies(PathBuf);

impl Copies {
    fn new(scratch: &Path) -> Result<Copies> {
        let folder = scratch.join(format!(".promote-{:016x}", fastrand::u64(..)));
        std::fs::create_dir_all(&folder)
            .map_err(|e| Error::failed(format!("cannot create `{}`", folder.display())).caused_by(e))?;
        Ok(Copies(folder))
    }

    async fn copy(&self, store: &Store, file: &StagedFile) -> Result<PathBuf> {
        let damaged = |why: &str| {
            Error::new(Kind::Damaged, format!("staged file `{}` {why}", file.url)).hint(
                "the same `api2bq backfill` again puts it back; `api2bq verify` names all that are wrong",
            )
        };
        let name = store.name_of(&file.url).ok_or_else(|| damaged("is not in this staging area"))?;
        let bytes = store.read(name).await?.ok_or_else(|| damaged("is gone"))?;
        if bytes.len() as u64 != file.bytes {
            return Err(damaged("has another size than the journal says"));
        }
        let path = self.0.join(format!("{:016x}.parquet", fastrand::u64(..)));
        std::fs::write(&path, bytes)
            .map_err(|e| Error::failed(format!("cannot write `{}`", path.display())).caused_by(e))?;
        Ok(path)
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // What stays is only untidy.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
