//! `api2bq completions` and `api2bq man`: generated from the commands themselves.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, output};
use crate::error::{Error, Result};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  api2bq completions bash > ~/.local/share/bash-completion/completions/api2bq")]
pub(super) struct CompletionArgs {
    shell: Shell,
}

/// Print the manual page of api2bq or of one command
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  api2bq man backfill | man -l -")]
pub(super) struct ManArgs {
    /// A command; without one, the page of api2bq itself
    command: Option<String>,
}

pub(super) fn completions(args: &CompletionArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "api2bq", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &ManArgs) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    let command = match &args.command {
        None => command,
        Some(name) => command.find_subcommand(name).cloned().ok_or_else(|| {
            Error::usage(format!("there is no command `{name}`")).hint("`api2bq --help` lists them")
        })?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|e| Error::failed("cannot write the manual page").caused_by(e))?;
    output::print(&String::from_utf8_lossy(&page))
}
