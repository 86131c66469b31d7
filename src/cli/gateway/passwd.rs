//! `api2bq gateway passwd`: a user's line in the file of users.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::cli::access::{ask, read_line};
use crate::error::{Error, Result};
use crate::gateway::auth::hash_password;
use crate::telemetry::say;

/// Set the password of a user of the gateway; it is read from standard input
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file has a line `user:hash` each, with argon2id hashes. A running gateway reads it when it is started.

Examples:
  api2bq gateway passwd --auth-file users.txt ann
  pass show gateway/ann | api2bq gateway passwd --auth-file users.txt ann
  api2bq gateway passwd --auth-file users.txt --remove ann")]
pub(super) struct Args {
    /// The file of users; made if it is not there
    #[arg(long, value_name = "FILE")]
    auth_file: PathBuf,
    /// Take the user out instead
    #[arg(long)]
    remove: bool,
    /// The user's name, without `:`
    user: String,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let user = &args.user;
    if user.is_empty() || user.len() > 200 || user.starts_with('#') || user.trim() != user {
        return Err(Error::usage(format!("`{user}` is no name of a user")));
    }
    if user.contains(|c: char| c == ':' || c.is_control()) {
        return Err(Error::usage("a user's name has neither `:` nor control characters"));
    }
    let path = &args.auth_file;
    let cannot = |e| Error::failed(format!("cannot write `{}`", path.display())).caused_by(e);
    let old = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot(error)),
    };
    let is_theirs = |line: &&str| line.split_once(':').is_some_and(|(name, _)| name.trim() == user);
    let known = old.lines().any(|line| is_theirs(&line));
    let mut lines: Vec<String> = old.lines().filter(|line| !is_theirs(line)).map(str::to_owned).collect();
    if args.remove {
        if !known {
            return Err(Error::usage(format!("there is no user `{user}` in `{}`", path.display())));
        }
    } else {
        let password = read_password(user)?;
        lines.push(format!("{user}:{}", hash_password(password.as_bytes())?));
    }
    replace(path, &(lines.join("\n") + "\n")).map_err(cannot)?;
    let done = match (args.remove, known) {
        (true, _) => "removed",
        (false, true) => "changed",
        (false, false) => "added",
    };
    say(&format!("user `{user}` {done}; a running gateway has to be started again\n"));
    Ok(())
}

/// A line of standard input. On a terminal it is asked for, twice, and not shown.
fn read_password(user: &str) -> Result<String> {
    let is_terminal = std::io::stdin().is_terminal();
    let password = if is_terminal { ask(&format!("password of `{user}`: "))? } else { read_line()? };
    if password.is_empty() {
        return Err(Error::usage("the password is empty").hint("it is the first line of standard input"));
    }
    if is_terminal && ask("once more: ")? != password {
        return Err(Error::usage("the two passwords differ"));
    }
    Ok(password)
}

/// Writes beside it and renames: after a crash it is the old file or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}
