//! Rows of the gateway that BigQuery refused, by reason or one by one.

use indicatif::HumanCount;
use serde::Serialize;

use super::{Format, lines_of, on_one_line};
use crate::cli::output;
use crate::error::{Error, Kind, Result};
use crate::gateway::{RefusedRow, refused_rows};
use crate::stage::Store;

#[derive(Debug, Default, Serialize)]
struct Report {
    rejects: u64,
    reasons: Vec<Reason>,
}

/// All rejects of one reason and field. The rest is of the first.
#[derive(Debug, Serialize)]
struct Reason {
    reason: String,
    field: Option<String>,
    count: u64,
    id: String,
    index: u64,
    message: String,
    example: String,
}

pub(super) async fn run(store: &Store, pipeline: &str, format: Format) -> Result<()> {
    let mut report = Report::default();
    let mut wrong = None;
    for file in refused_rows(store, pipeline).await? {
        let lines = match lines_of(store, &file).await {
            Ok(lines) => lines,
            Err(error) => {
                wrong =
                    wrong.or(Some(error.hint("their number is right all the same: it is in the journal")));
                report.rejects += file.rows;
                continue;
            }
        };
        match format {
            Format::Ndjson => output::print(&lines)?,
            Format::Text | Format::Json => report.add(&lines)?,
        }
    }
    match format {
        Format::Ndjson => {}
        Format::Text => output::print(&report.text())?,
        Format::Json => output::print(&output::json(&report)?)?,
    }
    wrong.map_or(Ok(()), Err)
}

impl Report {
    fn add(&mut self, lines: &str) -> Result<()> {
        for line in lines.lines() {
            let row: RefusedRow = serde_json::from_str(line).map_err(|e| {
                Error::new(Kind::Damaged, "a line of the rejects is not readable").caused_by(e)
            })?;
            self.rejects += 1;
            let known = self.reasons.iter_mut().find(|r| r.reason == row.reason && r.field == row.field);
            if let Some(known) = known {
                known.count += 1;
                continue;
            }
            let RefusedRow { id, index, field, reason, message, raw } = row;
            let example = on_one_line(&raw);
            self.reasons.push(Reason { reason, field, count: 1, id, index, message, example });
        }
        self.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        Ok(())
    }

    fn text(&self) -> String {
        let count = |n: u64| HumanCount(n).to_string();
        let width = self.reasons.iter().map(|r| count(r.count).len()).max().unwrap_or(0);
        let mut text = String::new();
        for Reason { reason, field, count: n, id, index, message, example } in &self.reasons {
            let field = field.as_ref().map_or_else(String::new, |field| format!(":{field}"));
            text += &format!(
                "{:>width$}  {}\n{:width$}  first: row {index} of request {id}: {}\n{:width$}  {example}\n",
                count(*n),
                on_one_line(&format!("{reason}{field}")),
                "",
                on_one_line(message),
                "",
            );
        }
        text + &format!("{} rows of the gateway were refused by BigQuery\n", count(self.rejects))
    }
}
