//! The journal: per window a chain of numbered, create-only entries, each holding its forerunner's hash.
//!
//! Entries are never changed and never deleted. Two processes may write the same chain: of two
//! creates of one number one is stored, and the other process goes on from what was stored.

use sha2::{Digest, Sha256};

use super::store::{Created, Store};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Entry, Event, WindowState};

/// The chain of one window, as far as it has been read.
#[derive(Debug)]
pub struct Chain {
    store: Store,
    run: String,
    folder: String,
    entries: Vec<Entry>,
    last_sha256: String,
    /// Ours, once we have written something.
    epoch: Option<u32>,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Our entry is the next one.
    Ours,
    /// Somebody else's entry was there first; it is in the chain now.
    Theirs,
}

impl Chain {
    /// Reads the chain of `run` in `folder` from its start, checking numbers, hashes and epochs.
    pub async fn read(store: &Store, run: &str, folder: String) -> Result<Chain> {
        let (store, run) = (store.clone(), run.to_owned());
        let (entries, last_sha256) = (Vec::new(), String::new());
        let mut chain = Chain { store, run, folder, entries, last_sha256, epoch: None };
        chain.read_on().await?;
        Ok(chain)
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn state(&self) -> WindowState<'_> {
        WindowState::of(&self.entries)
    }

    /// Makes what was read durable, before anything is done because of it: whoever wrote the last
    /// entry may have died before it was.
    pub async fn make_durable(&self) -> Result<()> {
        match self.entries.last() {
            Some(last) => self.store.make_durable(&self.name(last.number)).await,
            None => Ok(()),
        }
    }

    /// Adds `event` as the next entry, durable when this returns, unless another writer was first.
    ///
    /// A create may be stored and yet answer with an error, or with "exists" when the error was
    /// retried underneath; so what is there is read back and compared.
    pub async fn append(&mut self, event: Event) -> Result<Appended> {
        let newest = self.entries.last().map_or(0, |last| last.epoch);
        // Whoever wrote after us has taken over; to write again is to take over from them.
        let epoch = match self.epoch {
            Some(ours) if ours == newest => ours,
            _ => newest.saturating_add(1),
        };
        let entry = Entry {
            run: self.run.clone(),
            number: self.next_number(),
            epoch,
            previous: self.last_sha256.clone(),
            nonce: format!("{:032x}", fastrand::u128(..)),
            written_unix_ms: self.store.effects().clock.unix_millis(),
            event,
        };
        let bytes = entry.to_bytes()?;
        let name = self.name(entry.number);
        let created = self.store.create(&name, &bytes).await;
        if !matches!(created, Ok(Created::New)) {
            match self.store.read(&name).await? {
                Some(found) if found != bytes => {
                    self.read_on().await?;
                    self.make_durable().await?;
                    return Ok(Appended::Theirs);
                }
                // Ours after all; only whether it is on the disk is not known yet.
                Some(_) => self.store.make_durable(&name).await?,
                None => {
                    let vanished = || self.damaged(Error::new(Kind::Damaged, "it vanished"));
                    return Err(created.err().unwrap_or_else(vanished));
                }
            }
        }
        self.last_sha256 = sha256_hex(&bytes);
        self.entries.push(entry);
        self.epoch = Some(epoch);
        Ok(Appended::Ours)
    }

    async fn read_on(&mut self) -> Result<()> {
        while let Some(bytes) = self.store.read(&self.name(self.next_number())).await? {
            let entry = Entry::parse(&bytes).map_err(|e| self.damaged(e))?;
            entry.follows(&self.run, &self.entries, &self.last_sha256).map_err(|e| self.damaged(e))?;
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

    fn damaged(&self, error: Error) -> Error {
        let name = self.name(self.next_number());
        match error.kind() {
            Kind::Fenced => error
                .context(format!("journal entry `{name}` is of another run"))
                .hint("two pipelines stage into the same place; give one of them another `stage.url`"),
            _ => error
                .context(format!("journal entry `{name}` is damaged"))
                .hint("nothing was loaded from it; restore it from a backup, or start over with `--new-run`"),
        }
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
