//! A table as it was: what BigQuery still tells of it, and what it says where it does not.

use std::sync::LazyLock;

use chrono::DateTime;
use regex::Regex;

use super::BigQuery;
use super::access::Need;
use super::address::Address;
use super::catalog::{Document, what};
use super::wire::Refusal;
use crate::error::{Error, Result};

/// Milliseconds since 1970 in a sentence; behind an `@` they are part of a name.
static MILLISECONDS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(^|[^@\d])(\d{13})\b").expect("a constant"));

const REACH: &str = "the past can be read for 7 days, or as long as the dataset's time travel window is, and not \
                     before the table was made";

/// What the service says of a table at an instant.
#[derive(Debug)]
pub enum Then {
    Was(Document),
    /// In these words: the instant is before the table, out of reach, or still to come.
    NotThere(String),
    /// It does not know, or does not say.
    Unknown,
}

impl Then {
    pub fn document(self) -> Option<Document> {
        match self {
            Then::Was(document) => Some(document),
            Then::NotThere(_) | Then::Unknown => None,
        }
    }
}

impl BigQuery {
    /// The table as it was then, where the service still knows.
    pub async fn document_then(&self, table: &Address, at_ms: u64) -> Result<Then> {
        let then = Address { at: Some(at_ms.to_string()), ..table.clone() };
        Ok(match self.look(&then).await? {
            // One that was changed later is not the table of then.
            Ok(document) if document.number("lastModifiedTime").is_some_and(|ms| ms > at_ms) => Then::Unknown,
            Ok(document) => Then::Was(document),
            Err(refusal) if is_about_time(&refusal) => Then::NotThere(in_utc(&refusal.message)),
            // There is none, or no snapshot decorators in this place at all.
            Err(refusal) if matches!(refusal.status, 400 | 404 | 501) => Then::Unknown,
            Err(refusal) => return Err(refusal.into_error_needing(&what(self, &then), Need::GET_TABLE)),
        })
    }

    /// A partition or an instant that the table cannot have.
    pub(super) fn no_such_part(&self, table: &Address, refusal: &Refusal) -> Error {
        let error = Error::usage(format!("`{}`: {}", self.named(table), in_utc(&refusal.message)));
        match is_about_time(refusal) {
            true => error.hint(REACH),
            false => {
                let whole = Address { partition: None, at: None, ..table.clone() };
                error.hint(format!(
                    "`api2bq table show {}` shows its partitions, if it has any",
                    self.named(&whole)
                ))
            }
        }
    }
}

/// "Invalid snapshot time …", as BigQuery puts it.
fn is_about_time(refusal: &Refusal) -> bool {
    refusal.status == 400 && refusal.message.contains("snapshot time")
}

/// A message of BigQuery's with its times for people.
pub fn in_utc(message: &str) -> String {
    let time = |found: &regex::Captures<'_>| {
        let at = found[2].parse().ok().and_then(DateTime::from_timestamp_millis);
        match at {
            Some(at) => format!("{}{}", &found[1], at.format("%Y-%m-%d %H:%M:%S UTC")),
            None => found[0].to_owned(),
        }
    };
    MILLISECONDS.replace_all(message, time).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_a_message_are_for_people_and_names_stay() {
        let said = "Invalid snapshot time 1798675200000 for table p:d.t@1798675200000. Cannot read before 5";
        let expected = "Invalid snapshot time 2026-12-31 00:00:00 UTC for table p:d.t@1798675200000. Cannot read \
                        before 5";
        assert_eq!(in_utc(said), expected);
    }
}
