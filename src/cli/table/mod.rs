//! `api2bq table`: tables looked at, made, changed, copied, deleted and recovered. One file per subcommand.

mod copy;
mod create;
mod definition;
mod delete;
mod expiry;
mod export;
mod iam;
mod list;
mod recover;
mod rows;
mod show;
mod text;
mod update;

pub(super) use text::way_back;

use clap::Subcommand;

use super::{Global, ONLY_READS, interrupted};
use crate::bigquery::{Address, BigQuery, Document};
use crate::error::{Error, Kind, Result};

/// Look at tables; make, change, copy, delete and recover them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A table is `dataset.table`, `project.dataset.table` or `project:dataset.table`; one partition of
it has `$20240131` behind it, and the table as it was `@` and milliseconds since 1970. Quote both
for the shell.

Examples:
  api2bq table create LANL.flows_staging --from-pipeline flows --create-dataset
  api2bq table list LANL
  api2bq table rows LANL.flows --limit 10
  api2bq table show LANL.flows_staging
  api2bq table copy LANL.flows LANL.flows_backup
  api2bq table delete LANL.flows_backup
  api2bq table recover LANL.flows_backup --to LANL.flows_again")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Box<create::Args>),
    Show(show::Args),
    List(list::Args),
    Rows(rows::Args),
    Export(export::Args),
    Update(update::Args),
    Copy(copy::Args),
    Rename(copy::RenameArgs),
    Delete(delete::Args),
    Recover(Box<recover::Args>),
    Iam(iam::Args),
}

impl Args {
    /// Waits for a job, and ends it itself or says what becomes of it, when it is told to stop.
    pub(super) fn stops_itself(&self) -> bool {
        matches!(self.action, Action::Copy(_) | Action::Rename(_) | Action::Recover(_) | Action::Export(_))
    }

    /// What there is after Ctrl-C, for those that do not say it themselves.
    pub(super) fn interrupted_hint(&self) -> String {
        match &self.action {
            Action::Show(_) | Action::List(_) => ONLY_READS.to_owned(),
            Action::Rows(args) => args.interrupted_hint(),
            Action::Iam(args) if args.only_reads() => ONLY_READS.to_owned(),
            Action::Iam(_) => "perhaps it was done already; `api2bq table iam get` tells".to_owned(),
            _ => "perhaps it was done already; `api2bq table show` tells".to_owned(),
        }
    }
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    match args.action {
        Action::Create(args) => create::run(*args).await,
        Action::Show(args) => show::run(args).await,
        Action::List(args) => list::run(args).await,
        Action::Rows(args) => rows::run(args, global).await,
        Action::Export(args) => export::run(args, global).await,
        Action::Update(args) => update::run(args).await,
        Action::Copy(args) => copy::run(args, global).await,
        Action::Rename(args) => copy::rename(args, global).await,
        Action::Delete(args) => delete::run(args).await,
        Action::Recover(args) => recover::run(*args, global).await,
        Action::Iam(args) => iam::run(args).await,
    }
}

/// What comes of a copy job, unless Ctrl-C comes first. `left` says what there may be then.
async fn unless_interrupted<T>(copying: impl Future<Output = Result<T>>, left: String) -> Result<T> {
    tokio::select! {
        copied = copying => copied,
        () = interrupted() => Err(Error::new(Kind::Interrupted, "interrupted").hint(format!(
            "BigQuery does not stop a copy job; one that was sent takes effect whole or not at all. {left}"
        ))),
    }
}

/// The table's document; that there is none is an error.
async fn found(bigquery: &BigQuery, table: &Address) -> Result<Document> {
    match bigquery.document(table).await? {
        Some(document) => Ok(document),
        None => Err(bigquery.missing(table).await),
    }
}

/// `dataset`, `project.dataset` or `project:dataset`: the project, where there is one, and the dataset.
pub(super) fn dataset(text: &str) -> Result<(Option<String>, String)> {
    // A dataset is what a table's name has before its last dot.
    let any_table = format!("{text}.t").parse::<Address>().map_err(|_| {
        Error::usage(format!("`{text}` is no dataset"))
            .hint("write `dataset`, `project.dataset` or `project:dataset`")
    })?;
    Ok((any_table.project, any_table.dataset))
}
