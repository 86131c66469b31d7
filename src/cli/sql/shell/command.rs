//! What begins with `\`.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::render::Format;
use crate::render::chart::Kind;

pub(super) const HELP: &str = r"A statement ends with `;`, on any line.
Tab completes keywords, tables, columns, functions and files. Arrows and Ctrl-R find what was typed
before. Ctrl-C drops the line, or stops the query; Ctrl-D leaves.

  \d                 the tables that are there by themselves
  \d TABLE           the columns of a table, or of a 'file.csv'
  \format [FORMAT]   table, csv, tsv, json, ndjson, markdown, parquet or arrow; alone: as at the start
  \chart [KIND]      draw the rows: bar, line, hist or heat; `\chart off` prints them again
  \o [FILE]          write the rows of each query into FILE, in place of what was there; alone: here again
  \timing [on|off]   say how long each query took
  \?  \h             this
  \q                 leave

A table stays as it was when it was first named; a shell that is opened later sees newer runs.
";

/// All commands, as they are completed.
pub(super) const NAMES: [&str; 8] = [r"\?", r"\chart", r"\d", r"\format", r"\h", r"\o", r"\q", r"\timing"];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Tables,
    Columns(String),
    /// `None`: as the shell began.
    Format(Option<Format>),
    /// `None`: rows.
    Chart(Option<Kind>),
    /// `None`: the terminal.
    Output(Option<PathBuf>),
    /// `None`: the other way round.
    Timing(Option<bool>),
    Help,
    Quit,
}

impl Command {
    /// Reads a line that begins with `\`, or is a word that means one. `None` of SQL.
    pub(super) fn parse(line: &str) -> Option<Result<Command>> {
        match line.trim() {
            "exit" | "quit" => Some(Ok(Command::Quit)),
            "help" => Some(Ok(Command::Help)),
            line if line.starts_with('\\') => Some(Command::of(line)),
            _ => None,
        }
    }

    fn of(line: &str) -> Result<Command> {
        let line = line.trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = unquoted(argument.trim());
        let given = (!argument.is_empty()).then_some(argument);
        let none = |command| match given {
            None => Ok(command),
            Some(more) => Err(Error::usage(format!("`{name}` takes nothing, and there is `{more}`"))),
        };
        match name {
            r"\d" => Ok(given.map_or(Command::Tables, |table| Command::Columns(table.to_owned()))),
            r"\format" => Ok(Command::Format(given.map(str::parse).transpose()?)),
            r"\chart" => match given {
                None | Some("off") => Ok(Command::Chart(None)),
                Some(kind) => Ok(Command::Chart(Some(kind.parse()?))),
            },
            r"\o" => Ok(Command::Output(given.map(PathBuf::from))),
            r"\timing" => match given {
                None => Ok(Command::Timing(None)),
                Some("on") => Ok(Command::Timing(Some(true))),
                Some("off") => Ok(Command::Timing(Some(false))),
                Some(other) => Err(Error::usage(format!(r"`\timing` is `on` or `off`, and not `{other}`"))),
            },
            r"\?" | r"\h" => none(Command::Help),
            r"\q" => none(Command::Quit),
            other => Err(Error::usage(format!("there is no command `{other}`")).hint(r"`\?` lists them")),
        }
    }
}

/// Without quotes around all of it.
fn unquoted(text: &str) -> &str {
    let in_quotes = ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    in_quotes.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_their_argument() {
        let parsed = |line: &str| Command::parse(line).expect("a command").expect("a good one");
        assert_eq!(parsed(r"\d"), Command::Tables);
        assert_eq!(parsed(r"\d flows;"), Command::Columns("flows".to_owned()));
        assert_eq!(parsed(r"\d 'a b.csv' "), Command::Columns("a b.csv".to_owned()));
        assert_eq!(parsed(r"\format ndjson"), Command::Format(Some(Format::Ndjson)));
        assert_eq!(parsed(r"\format"), Command::Format(None));
        assert_eq!(parsed(r"\chart heat"), Command::Chart(Some(Kind::Heat)));
        assert_eq!(parsed(r"\chart off"), Command::Chart(None));
        assert_eq!(parsed(r"\o out.csv"), Command::Output(Some("out.csv".into())));
        assert_eq!(parsed(r"\timing off"), Command::Timing(Some(false)));
        assert_eq!((parsed("quit"), parsed(r" \h")), (Command::Quit, Command::Help));
        assert_eq!(Command::parse("SELECT 1;").map(|_| ()), None);
        let wrong = |line: &str| Command::parse(line).expect("a command").expect_err("wrong").to_string();
        assert_eq!(wrong(r"\x"), r"there is no command `\x`");
        assert_eq!(wrong(r"\q now"), r"`\q` takes nothing, and there is `now`");
        assert_eq!(wrong(r"\chart pie"), "no chart `pie`; there are bar, line, hist, heat");
        assert_eq!(wrong(r"\timing maybe"), r"`\timing` is `on` or `off`, and not `maybe`");
    }

    #[test]
    fn help_names_every_command() {
        for name in NAMES {
            assert!(HELP.contains(name), "{name}");
        }
    }
}
