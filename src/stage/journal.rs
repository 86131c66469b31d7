//! The journal: per window a chain of numbered, create-only entries, each holding its forerunner's hash.

use sha2::{Digest, Sha256};

use super::store::{Created, Store};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Entry, Event};

/// The chain of one window, as far as it has been read.
#[derive(Debug)]
pub struct Chain {
    store: Store,
    folder: String,
    entries: Vec<Entry>,
    last_sha256: String,
}

/// What became of an append.
#[derive(Debug)]
pub enum Appended {
    /// Our entry is the next one.
    Ours,
    /// Somebody else's entry was there first; it is in the chain now.
    Theirs,
}

impl Chain {
    /// Reads the chain in `folder` from its start, checking numbers and hashes.
    pub async fn read(store: &Store, folder: String) -> Result<Chain> {
        let mut chain =
            Chain { store: store.clone(), folder, entries: Vec::new(), last_sha256: String::new() };
        chain.read_on().await?;
        Ok(chain)
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds `event` as the next entry, durable when this returns, unless another writer was first.
    ///
    /// A create may be stored and yet answer with an error, or with "exists" when the error was
    /// retried underneath; so what is there is read back and compared by its nonce.
    pub async fn append(&mut self, event: Event) -> Result<Appended> {
        let entry = Entry {
            number: self.next_number(),
            previous: self.last_sha256.clone(),
            nonce: format!("{:032x}", fastrand::u128(..)),
            written_unix_ms: Clock.unix_millis(),
            event,
        };
        let bytes = serde_json::to_vec_pretty(&entry)
            .map_err(|e| Error::failed("cannot write a journal entry").caused_by(e))?;
        let created = self.store.create(&self.name(entry.number), bytes.clone()).await;
        if !matches!(created, Ok(Created::New)) {
            let found = self.store.read(&self.name(entry.number)).await?;
            match found {
                Some(found) if found != bytes => {
                    self.read_on().await?;
                    return Ok(Appended::Theirs);
                }
                // Ours after all; only whether it is on the disk is not known yet.
                Some(_) => self.store.make_sure(&self.name(entry.number))?,
                None => return Err(created.err().unwrap_or_else(|| self.damaged("an entry vanished"))),
            }
        }
        self.last_sha256 = sha256_hex(&bytes);
        self.entries.push(entry);
        Ok(Appended::Ours)
    }

    async fn read_on(&mut self) -> Result<()> {
        while let Some(bytes) = self.store.read(&self.name(self.next_number())).await? {
            let entry: Entry = serde_json::from_slice(&bytes)
                .map_err(|e| self.damaged("it is not readable").caused_by(e))?;
            if entry.number != self.next_number() || entry.previous != self.last_sha256 {
                return Err(self.damaged("it does not follow the entry before it"));
            }
            self.last_sha256 = sha256_hex(&bytes);
            self.entries.push(entry);
        }
        Ok(())
    }

    fn next_number(&self) -> u32 {
        u32::try_from(self.entries.len()).map_or(u32::MAX, |n| n + 1)
    }

    fn name(&self, number: u32) -> String {
        format!("{}/{number:04}.json", self.folder)
    }

    fn damaged(&self, why: &str) -> Error {
        let name = self.name(self.next_number());
        Error::new(Kind::Damaged, format!("journal entry `{name}` is damaged: {why}"))
            .hint("nothing was loaded from it; restore it from a backup, or start over with `--new-run`")
    }
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
