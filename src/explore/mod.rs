//! SQL over what is staged: the tables of pipelines, their journals, and files, in one local engine.
//!
//! A table is opened when a query names it, and not before: `SELECT 1` reads no journal.

mod compare;
mod content;
mod describe;
mod diff;
mod journal;
mod staged;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tokio::sync::OnceCell;

use crate::config::Pipeline;
use crate::effects::Effects;
use crate::engine::{Joins, Query, Sql, is_file};
use crate::error::{Error, Result};
use crate::ledger::{self, Ledger};
use crate::pipeline::{open_engine, open_query_engine, open_store};

pub use compare::{Compared, Examples, Pair, compare};
pub use content::Content;
pub use diff::{Comparison, Difference, day_list};
pub use staged::Staged;

const RUNS: &str = "runs";
const WINDOWS: &str = "windows";
/// Behind a pipeline's name, the table of its rejects.
const REJECTS: &str = "_rejects";

/// What queries can be asked of.
#[derive(Debug)]
pub struct Explorer {
    subjects: Vec<Subject>,
    /// Start of a run's id; the newest that is staged whole when `None`.
    as_of: Option<String>,
    sql: Sql,
}

#[derive(Debug)]
struct Subject {
    pipeline: Pipeline,
    ledger: OnceCell<Ledger>,
}

impl Explorer {
    /// Under the limits of the first pipeline.
    pub fn new(pipelines: Vec<Pipeline>, as_of: Option<String>) -> Result<Explorer> {
        Explorer::joining(Joins::Hashed, pipelines, as_of)
    }

    /// For joins of two tables that are both too large for the memory.
    pub fn with_sorted_joins(pipelines: Vec<Pipeline>) -> Result<Explorer> {
        Explorer::joining(Joins::Sorted, pipelines, None)
    }

    fn joining(joins: Joins, pipelines: Vec<Pipeline>, as_of: Option<String>) -> Result<Explorer> {
        let first = pipelines.first().ok_or_else(|| Error::usage("there is no pipeline to look at"))?;
        let scratch = match first.limits.spill_dir.as_str() {
            "" => std::env::temp_dir(),
            folder => PathBuf::from(folder),
        };
        let engine = match joins {
            Joins::Hashed => open_query_engine(first, scratch)?,
            Joins::Sorted => open_engine(first, scratch)?,
        };
        let sql = Sql::new(&engine, joins);
        for (place, pipeline) in pipelines.iter().enumerate() {
            if pipelines[..place].iter().any(|before| before.name == pipeline.name) {
                return Err(Error::usage(format!("two pipelines are called `{}`", pipeline.name)));
            }
        }
        let subject = |pipeline| Subject { pipeline, ledger: OnceCell::new() };
        Ok(Explorer { subjects: pipelines.into_iter().map(subject).collect(), as_of, sql })
    }

    /// The tables that are here without a file being named.
    pub fn names(&self) -> Vec<String> {
        let names = self.subjects.iter().map(|subject| subject.pipeline.name.clone());
        let tables = names.flat_map(|name| [name.clone(), format!("{name}{REJECTS}")]);
        tables.chain([RUNS.to_owned(), WINDOWS.to_owned()]).collect()
    }

    /// Plans one SELECT, which gives `limit` rows at most, and opens the tables that it names.
    pub async fn plan(&self, text: &str, limit: Option<usize>) -> Result<Query> {
        let statement = self.sql.parse(text)?;
        for table in self.sql.missing_tables(&statement)? {
            if !self.open(&table.name).await? {
                let names = self.names();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                return Err(statement.no_table(&table, &names));
            }
        }
        self.sql.plan(&statement, limit).await
    }

    /// `name@run` is the table of that run. False when there is no such table.
    async fn open(&self, name: &str) -> Result<bool> {
        let (table, run) = match name.split_once('@') {
            Some((table, run)) => (table, Some(run)),
            None => (name, self.as_of.as_deref()),
        };
        for subject in &self.subjects {
            let own = &subject.pipeline.name;
            if table == own {
                let staged = subject.staged(run).await?;
                let columns = subject.columns(&staged).await?;
                self.sql.add_days(name, staged.days(&subject.pipeline), columns).await?;
                return Ok(true);
            }
            if table.strip_suffix(REJECTS) == Some(own) {
                let staged = subject.staged(run).await?;
                let urls: Vec<String> = staged.rejects.into_iter().map(|file| file.url).collect();
                self.sql.add_lines(name, &urls, reject_columns()).await?;
                return Ok(true);
            }
        }
        if name == RUNS || name == WINDOWS {
            let mut journals = Vec::with_capacity(self.subjects.len());
            for subject in &self.subjects {
                journals.push((&subject.pipeline, subject.ledger().await?));
            }
            let rows = if name == RUNS { journal::runs(&journals)? } else { journal::windows(&journals)? };
            self.sql.add_rows(name, rows)?;
            return Ok(true);
        }
        if is_file(name) {
            self.sql.add_file(name).await?;
            return Ok(true);
        }
        Ok(false)
    }
}

impl Subject {
    async fn ledger(&self) -> Result<&Ledger> {
        let read = || async {
            let store = open_store(&self.pipeline, &Effects::default())?;
            ledger::read(&store, &self.pipeline.name).await
        };
        self.ledger.get_or_try_init(read).await
    }

    async fn staged(&self, run: Option<&str>) -> Result<Staged> {
        Staged::find(self.ledger().await?, &self.pipeline, run)
    }

    /// The columns of the pipeline, unless the run was staged with other ones: those are in its files.
    async fn columns(&self, staged: &Staged) -> Result<Option<SchemaRef>> {
        let run = self.ledger().await?.run(Some(&staged.run))?;
        let same =
            run.and_then(|run| run.plan.as_ref()).is_some_and(|plan| plan.has_columns_of(&self.pipeline));
        Ok((same || staged.partitions.is_empty()).then(|| self.pipeline.columns.arrow()))
    }
}

/// As [`crate::stage::rejects`] writes them.
fn reject_columns() -> SchemaRef {
    let column = |name: &str, data_type| Field::new(name, data_type, true);
    let numbers = ["after", "before", "offset", "line", "column"].map(|name| column(name, DataType::Int64));
    let texts = ["reason", "raw", "raw_base64"].map(|name| column(name, DataType::Utf8));
    Arc::new(Schema::new(numbers.into_iter().chain(texts).collect::<Vec<_>>()))
}
