//! Flags of commands that speak to a gateway, and passwords that are read and not shown.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::{Command, Stdio};

use url::Url;

use crate::error::{Error, Result};
use crate::gateway::client::{Access, Password};

/// Where the gateway is, and who speaks to it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AccessArgs {
    /// Where the gateway listens
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// A user of the gateway; the password is API2BQ_GATEWAY_PASSWORD, or the first line of standard input
    #[arg(long, value_name = "NAME")]
    user: String,
}

const PASSWORD: &str = "API2BQ_GATEWAY_PASSWORD";

impl AccessArgs {
    pub(super) fn access(self) -> Result<Access> {
        access(&self.url, self.user)
    }
}

/// `user` of the gateway at `url`, with the password from where passwords come from.
pub(super) fn access(url: &str, user: String) -> Result<Access> {
    // Not shown: it may have a password in it.
    let url = Url::parse(url).map_err(|e| {
        Error::usage(format!("`--url` is not a URL: {e}")).hint("as `https://gateway.example`")
    })?;
    let password = match std::env::var(PASSWORD) {
        Ok(password) => password,
        Err(_) => read_password(&user)?,
    };
    if password.is_empty() {
        return Err(Error::usage("the password is empty")
            .hint(format!("it is in the environment, as {PASSWORD}, or the first line of standard input")));
    }
    Ok(Access { url, user, password: Password(password) })
}

fn read_password(user: &str) -> Result<String> {
    if std::io::stdin().is_terminal() { ask(&format!("password of `{user}`: ")) } else { read_line() }
}

/// Asks on a terminal, and does not show what is typed.
pub(super) fn ask(prompt: &str) -> Result<String> {
    eprint!("{prompt}");
    let echo = |flag: &str| Command::new("stty").arg(flag).stdin(Stdio::inherit()).status();
    let is_hidden = echo("-echo").is_ok_and(|status| status.success());
    let line = read_line();
    if is_hidden {
        let _ = echo("echo");
        eprintln!();
    }
    line
}

/// A line of standard input.
pub(super) fn read_line() -> Result<String> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|e| Error::usage("cannot read the password from standard input").caused_by(e))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
