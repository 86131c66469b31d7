//! The line editor: when a line is whole, its colours, and what Tab makes of it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tokio::runtime::Handle;

use super::history;
use super::tokens::{Kind, is_whole, tokens};
use super::words::{Wanted, beginning_so, is_keyword, named_tables, wanted};
use crate::error::{Error, Result};
use crate::explore::Explorer;

/// Tab does not wait longer for the columns of a table, say in a bucket that is far away.
const COLUMNS_WITHIN: Duration = Duration::from_secs(2);
const HISTORY_MAX: usize = 10_000;

/// What was typed.
pub(super) enum Line {
    Text(String),
    /// Dropped by Ctrl-C.
    Dropped,
    /// There will be no more.
    End,
}

pub(super) struct LineEditor {
    editor: Editor<Assistant, FileHistory>,
    history: Option<std::path::PathBuf>,
}

impl LineEditor {
    pub(super) fn new(explorer: Arc<Explorer>, styled: bool) -> Result<LineEditor> {
        let config = Config::builder().completion_type(CompletionType::List);
        let config = config.history_ignore_space(true).max_history_size(HISTORY_MAX).map_err(broken)?;
        let mut editor = Editor::with_config(config.build()).map_err(broken)?;
        editor.set_helper(Some(Assistant::new(explorer, styled)));
        let history = history::file();
        if let Some(file) = &history {
            // A history that is not readable is one less, and no reason not to begin.
            if let Err(error) = editor.load_history(file) {
                tracing::debug!(%error, "the history cannot be read");
            }
        }
        Ok(LineEditor { editor, history })
    }

    /// Waits for the next one. The thread is not one of those that anything else waits for.
    pub(super) fn read(&mut self) -> Result<Line> {
        let read = tokio::task::block_in_place(|| self.editor.readline("api2bq> "));
        match read {
            Ok(text) => Ok(Line::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Line::Dropped),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(broken(error)),
        }
    }
}

impl LineEditor {
    /// Keeps what was typed, here and for the next shell.
    pub(super) fn remember(&mut self, text: &str) {
        let added = self.editor.add_history_entry(text.trim_end());
        let written = match (&self.history, added) {
            (Some(file), Ok(true)) => self.editor.append_history(file),
            (_, added) => added.map(|_| ()),
        };
        // The statement runs all the same.
        if let Err(error) = written {
            tracing::debug!(%error, "the history cannot be written");
        }
    }
}

fn broken(error: ReadlineError) -> Error {
    Error::failed("cannot read from the terminal").caused_by(error)
}

struct Assistant {
    explorer: Arc<Explorer>,
    styled: bool,
    tables: Vec<String>,
    /// With an opening parenthesis.
    functions: Vec<String>,
    /// By table, once they were asked for.
    columns: Mutex<HashMap<String, Vec<String>>>,
    files: FilenameCompleter,
}

impl Assistant {
    fn new(explorer: Arc<Explorer>, styled: bool) -> Assistant {
        let functions = explorer.functions().into_iter().map(|name| name + "(").collect();
        let (tables, columns) = (explorer.names(), Mutex::default());
        Assistant { explorer, styled, tables, functions, columns, files: FilenameCompleter::new() }
    }

    /// Of all tables that the text names; none of one that cannot be opened.
    fn columns_of(&self, text: &str) -> Vec<String> {
        let mut known = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for table in named_tables(text, &self.tables) {
            let columns = known.entry(table).or_insert_with_key(|table| {
                let asked = tokio::time::timeout(COLUMNS_WITHIN, self.explorer.schema_of(table));
                match Handle::current().block_on(asked) {
                    Ok(Ok(schema)) => schema.fields().iter().map(|field| field.name().clone()).collect(),
                    _ => Vec::new(),
                }
            });
            all.extend(columns.iter().cloned());
        }
        all
    }

    fn complete_word(&self, line: &str, before: &str) -> (usize, Vec<String>) {
        fn texts(names: &[String]) -> impl Iterator<Item = &str> {
            names.iter().map(String::as_str)
        }
        let (word, found) = match wanted(before) {
            Wanted::Of(names, word) => (word, beginning_so(word, names, false)),
            Wanted::Table(word) => {
                let functions = ["generate_series(", "range("].into_iter().filter(|_| !word.is_empty());
                (word, beginning_so(word, texts(&self.tables).chain(functions), false))
            }
            Wanted::Column(word) => (word, beginning_so(word, texts(&self.columns_of(line)), false)),
            Wanted::Anything(word) => {
                let columns = self.columns_of(line);
                let names = texts(&self.tables).chain(texts(&columns));
                match word.is_empty() {
                    true => (word, beginning_so(word, names, false)),
                    false => (word, beginning_so(word, names.chain(texts(&self.functions)), true)),
                }
            }
            Wanted::File | Wanted::Nothing => ("", Vec::new()),
        };
        (before.len() - word.len(), found)
    }
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        match is_whole(context.input()) {
            true => Ok(ValidationResult::Valid(None)),
            false => Ok(ValidationResult::Incomplete),
        }
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..at];
        if wanted(before) == Wanted::File {
            return self.files.complete_path(line, at);
        }
        let (start, names) = self.complete_word(line, before);
        let pair = |name: String| Pair { display: name.clone(), replacement: name };
        Ok((start, names.into_iter().map(pair).collect()))
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        match self.styled {
            true => Cow::Owned(colored(line)),
            false => Cow::Borrowed(line),
        }
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        self.styled && kind != CmdKind::MoveCursor
    }
}

fn colored(line: &str) -> String {
    let mut text = String::with_capacity(line.len() * 2);
    for token in tokens(line) {
        let color = match token.kind {
            Kind::Word if is_keyword(token.text) => "\x1b[1;34m",
            Kind::Text => "\x1b[32m",
            Kind::Name => "\x1b[36m",
            Kind::Number => "\x1b[35m",
            Kind::Comment => "\x1b[90m",
            _ => "",
        };
        text += color;
        text += token.text;
        if !color.is_empty() {
            text += "\x1b[0m";
        }
    }
    text
}
