//! `api2bq table`: tables looked at, made, changed, copied, deleted and recovered. One file per subcommand.

mod list;
mod rows;
mod show;
mod text;

use clap::{Subcommand, ValueEnum};

use super::Global;
use crate::bigquery::{Address, BigQuery, Document};
use crate::error::{Error, Result};

/// Look at tables; make, change, copy, delete and recover them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A table is `dataset.table`, `project.dataset.table` or `project:dataset.table`; one partition of it has
`$20240131` behind it, and the table as it was `@` and milliseconds since 1970. Quote both for the shell.

Examples:
  api2bq table list LANL
  api2bq table show LANL.flows_staging")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Show(show::Args),
    List(list::Args),
    Rows(rows::Args),
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableFormat {
    Table,
    Json,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    match args.action {
        Action::Show(args) => show::run(args).await,
        Action::List(args) => list::run(args).await,
        Action::Rows(args) => rows::run(args, global).await,
    }
}

/// The table's document; that there is none is an error.
async fn found(bigquery: &BigQuery, table: &Address) -> Result<Document> {
    match bigquery.document(table).await? {
        Some(document) => Ok(document),
        None => {
            let named = bigquery.named(table);
            let project = named.project.as_deref().unwrap_or_default();
            Err(Error::usage(format!("there is no table `{named}`")).hint(format!(
                "`api2bq table list {project}.{}` lists what is there; `--project` names another project",
                named.dataset
            )))
        }
    }
}

/// `dataset`, `project.dataset` or `project:dataset`: the project, where there is one, and the dataset.
fn dataset(text: &str) -> Result<(Option<String>, String)> {
    // A dataset is what a table's name has before its last dot.
    let any_table = format!("{text}.t").parse::<Address>().map_err(|_| {
        Error::usage(format!("`{text}` is no dataset"))
            .hint("write `dataset`, `project.dataset` or `project:dataset`")
    })?;
    Ok((any_table.project, any_table.dataset))
}
