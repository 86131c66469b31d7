//! What a record of the spool holds: a body as it came, and what its sender was told.

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::payload::{self, Rejected};
use crate::error::{Error, Kind, Result};
use crate::partition::SECONDS_PER_DAY;
use crate::schema::{Columns, Format};

/// One request that was, or will be, answered with "Submitted".
///
/// A line of JSON, then the body. The body is kept whole, rejected rows included: it is judged again
/// by the same code when it is loaded, and then as now the same rows fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub head: Head,
    pub body: Vec<u8>,
}

/// What is known of a body beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub id: String,
    pub pipeline: String,
    /// When it came, for people.
    pub unix_ms: u64,
    pub user: String,
    /// Lines, each of which is a record; else values in an array or one after the other.
    pub is_lines: bool,
    pub accepted: u64,
    /// An id of the columns by which it was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
    /// Where the sender gave a key by which it may ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
}

/// An Idempotency-Key and what it was used for, both as hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub key_sha256: String,
    pub body_sha256: String,
}

impl Head {
    pub fn format(&self) -> Format {
        if self.is_lines { Format::Ndjson } else { Format::Json }
    }

    /// When it came, in seconds since 1970.
    pub fn second(&self) -> i64 {
        i64::try_from(self.unix_ms / 1000).unwrap_or(0)
    }

    /// The day on which it came. Day 1 is that of second 0.
    pub fn day(&self) -> i64 {
        self.second().div_euclid(SECONDS_PER_DAY) + 1
    }

    /// Where its accepted rows stand in the body, from 0.
    pub fn accepted_indexes(&self) -> impl Iterator<Item = u64> + '_ {
        let mut rejected = self.rejected.iter().map(|rejected| rejected.index).peekable();
        (0..).filter(move |index| rejected.next_if_eq(index).is_none())
    }
}

impl Letter {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&self.head)
            .map_err(|e| Error::failed("cannot write a record of the spool").caused_by(e))?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    /// Passes on the rows that were accepted, which are those that fit now.
    pub(super) fn each_batch(
        &self,
        columns: &Columns,
        take: impl FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let Head { accepted, rejected, id, .. } = &self.head;
        let mut decoder = payload::each_batch(&self.body, self.head.format(), columns, take)?;
        let rows = decoder.counts().rows;
        let are_others =
            rejected.iter().map(|row| row.index).ne(decoder.take_rejects().iter().map(|row| row.index));
        if rows != *accepted || are_others {
            let message = match are_others && rows == *accepted {
                true => format!("rows of `{id}` were accepted, and others fit the columns now"),
                false => {
                    format!("{accepted} rows of `{id}` were accepted, and {rows} of them fit the columns now")
                }
            };
            return Err(Error::usage(message)
                .hint("start the gateway with the columns it had, until its spool is empty"));
        }
        Ok(())
    }

    pub fn parse(bytes: &[u8]) -> Result<Letter> {
        let damaged = || Error::new(Kind::Damaged, "a record of the spool is not readable");
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
        let head = serde_json::from_slice(&bytes[..end]).map_err(|e| damaged().caused_by(e))?;
        Ok(Letter { head, body: bytes[end + 1..].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_comes_back_whatever_its_body() {
        let rejected = Rejected { index: 3, field: Some("a\nb".into()), reason: "missing_field".into() };
        let head = Head {
            id: "1".into(),
            pipeline: "inventory".into(),
            unix_ms: 5,
            user: "é\n".into(),
            is_lines: true,
            accepted: 2,
            columns: Some("c".into()),
            rejected: vec![rejected],
            ignored: vec!["x".into()],
            key: Some(Key { key_sha256: "a".into(), body_sha256: "b".into() }),
        };
        for body in [&b""[..], b"\n\n{}\n", b"\xff\0"] {
            let letter = Letter { head: head.clone(), body: body.to_vec() };
            assert_eq!(Letter::parse(&letter.to_bytes().unwrap()).unwrap(), letter);
        }
        assert!(Letter::parse(b"{}").is_err());
    }
}
