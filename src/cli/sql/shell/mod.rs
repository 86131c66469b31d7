//! The shell of `api2bq sql`: one statement after the other, on a terminal.

mod command;
mod editor;
mod history;
mod tokens;
mod words;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::chart::Drawing;
use super::rows::{self, Showing};
use crate::cli::Global;
use crate::cli::output::{is_styled, print, tell};
use crate::cli::rows_output::{RowsOutput, settled};
use crate::error::{Error, Result};
use crate::explore::Explorer;
use crate::render::Format;
use crate::telemetry::say;
use command::Command;
use editor::{Line, LineEditor};

/// Reads, runs and shows until the user leaves. What goes wrong with a statement is told, and no end.
pub(super) async fn run(explorer: Explorer, begun: Showing, global: &Global) -> Result<()> {
    let explorer = Arc::new(explorer);
    let mut editor = LineEditor::new(Arc::clone(&explorer), is_styled())?;
    let more = r"`\o FILE` writes all of them";
    let showing = Showing { more, ..begun.clone() };
    let mut shell = Shell { explorer, showing, begun, format: None, file: None, global: global.clone() };
    if !global.quiet {
        let tables = shell.explorer.names().join(", ");
        say(&format!("SQL over {tables} and 'files'. Statements end with `;`, `\\?` helps, `\\q` leaves.\n"));
    }
    // From here on Ctrl-C ends nothing by itself.
    let _ = tokio::time::timeout(Duration::ZERO, tokio::signal::ctrl_c()).await;
    loop {
        let text = match editor.read()? {
            Line::Text(text) => text,
            Line::Dropped => continue,
            Line::End => return Ok(()),
        };
        let command = Command::parse(&text);
        if let Some(Ok(Command::Quit)) = command {
            return Ok(());
        }
        editor.remember(&text);
        tokio::select! {
            done = shell.act(command, &text) => if let Err(error) = done {
                tell(&error);
            },
            _ = tokio::signal::ctrl_c() => {
                settled().await;
                say("\ninterrupted\n");
            }
        }
    }
}

struct Shell {
    explorer: Arc<Explorer>,
    showing: Showing,
    /// As the command line had it.
    begun: Showing,
    /// What `\format` and `\o` set.
    format: Option<Format>,
    file: Option<PathBuf>,
    global: Global,
}

impl Shell {
    /// Runs the command, else all statements of the text up to the first that fails.
    async fn act(&mut self, command: Option<Result<Command>>, text: &str) -> Result<()> {
        if let Some(command) = command {
            return self.obey(command?).await;
        }
        for statement in tokens::statements(text) {
            rows::show(&self.explorer, statement, &self.showing, &self.global).await?;
        }
        Ok(())
    }

    async fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Tables => self.list(self.explorer.tables()?).await,
            Command::Columns(table) => self.list(self.explorer.describe(&table).await?).await,
            Command::Format(format) => self.write(format, self.file.clone()),
            Command::Output(file) => self.write(self.format, file),
            Command::Chart(kind) => {
                self.showing.drawing = kind.map(|kind| Drawing::new(kind, None)).transpose()?;
                Ok(())
            }
            Command::Timing(on) => {
                self.showing.timer = on.unwrap_or(!self.showing.timer);
                say(if self.showing.timer { "timing is on\n" } else { "timing is off\n" });
                Ok(())
            }
            Command::Help => print(command::HELP),
            Command::Quit => Ok(()),
        }
    }

    async fn list(&self, rows: RecordBatch) -> Result<()> {
        let schema = rows.schema();
        let rows = futures::stream::iter([Ok(rows)]);
        RowsOutput::new(None, None).write_counted(&schema, rows, &|_| {}).await.map(|_| ())
    }

    /// Rows in `format` into `file`; where neither is given, as the command line had it.
    fn write(&mut self, format: Option<Format>, file: Option<PathBuf>) -> Result<()> {
        let output = match (&format, &file) {
            (None, None) => self.begun.output.clone(),
            (Some(format), None) if format.is_binary() => {
                return Err(Error::usage(format!("{format} is nothing for a terminal"))
                    .hint(format!(r"`\o FILE.{format}` first")));
            }
            (None, Some(file)) if file.to_str().and_then(Format::of_file).is_none() => {
                return Err(Error::usage(format!("`{}` does not say which format is meant", file.display()))
                    .hint(r"end it with `.csv`, `.tsv`, `.json`, `.ndjson`, `.md`, `.parquet` or `.arrow`, or `\format` first"));
            }
            _ => RowsOutput::new(format, file.clone()),
        };
        output.check()?;
        (self.format, self.file, self.showing.output) = (format, file, output);
        Ok(())
    }
}
