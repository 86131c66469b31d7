//! A model of a disk, which loses all it may when the power goes off, and lies when told to.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::gateway::spool::{Disk, DiskFile};

/// What a broken disk says is done, and has not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    FileSync,
    FolderSync,
}

#[derive(Debug, Clone)]
pub(super) struct ModelDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    inodes: Vec<Inode>,
    /// As the process sees them.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced: Vec<Vec<NameChange>>,
    /// Operations until the process dies.
    left: u64,
    faults: bool,
    lie: Option<Lie>,
    /// Bytes that fit on it.
    capacity: usize,
    /// Files that cannot be read.
    bad: Vec<usize>,
}

/// `None` removes the name. A rename is two of them that come or go together.
type NameChange = (String, Option<usize>);

#[derive(Debug, Default)]
struct Inode {
    /// As the process sees it.
    content: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Append(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Debug)]
pub(super) struct ModelFile {
    disk: ModelDisk,
    inode: usize,
}

/// What survives of a write is in units of so many bytes; small ones tear every record.
const SECTOR: usize = 16;

impl ModelDisk {
    pub(super) fn new(seed: u64, lie: Option<Lie>) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let (inodes, unsynced) = (Vec::new(), Vec::new());
        let (names, durable_names) = (BTreeMap::new(), BTreeMap::new());
        let (left, faults, capacity, bad) = (0, true, usize::MAX, Vec::new());
        let state =
            State { random, inodes, names, durable_names, unsynced, left, faults, lie, capacity, bad };
        ModelDisk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while it was locked")
    }

    /// The process lives for so many operations.
    pub(super) fn live(&self, operations: u64, faults: bool) {
        let mut state = self.state();
        (state.left, state.faults) = (operations, faults);
    }

    /// Nothing more fits on it than so many bytes, faults or none.
    pub(super) fn holds(&self, capacity: usize) {
        self.state().capacity = capacity;
    }

    pub(super) fn used(&self) -> usize {
        self.state().used()
    }

    /// A sector of the file is bad.
    pub(super) fn spoil(&self, name: &str) {
        let mut state = self.state();
        let inode = state.names[name];
        state.bad.push(inode);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().left == 0
    }

    /// Everything that was not synced is kept, lost or torn.
    pub(super) fn lose_power(&self) {
        let state = &mut *self.state();
        for group in state.unsynced.drain(..) {
            if state.random.bool() {
                apply_names(&mut state.durable_names, group);
            }
        }
        state.names = state.durable_names.clone();
        for inode in &mut state.inodes {
            for change in inode.unsynced.drain(..) {
                keep_some(&mut inode.durable, change, &mut state.random);
            }
            inode.content = inode.durable.clone();
        }
    }

    fn file(&self, inode: usize) -> ModelFile {
        ModelFile { disk: self.clone(), inode }
    }
}

impl State {
    /// Counts an operation. The last one may still happen; nobody hears of it. An error: it does not.
    fn operation(&mut self) -> io::Result<()> {
        if self.left == 0 {
            return Err(io::Error::other("the process is dead"));
        }
        self.left -= 1;
        if self.left == 0 && self.random.bool() { Err(io::Error::other("killed before")) } else { Ok(()) }
    }

    fn answer<T>(&self, answer: T) -> io::Result<T> {
        if self.left == 0 { Err(io::Error::other("killed after")) } else { Ok(answer) }
    }

    /// One in `of`, as long as faults are on.
    fn fails(&mut self, of: u32) -> bool {
        self.faults && self.random.u32(..of) == 0
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].content.len()).sum()
    }

    fn change_names(&mut self, group: Vec<NameChange>) {
        apply_names(&mut self.names, group.clone());
        self.unsynced.push(group);
    }
}

fn apply_names(names: &mut BTreeMap<String, usize>, group: Vec<NameChange>) {
    for (name, inode) in group {
        match inode {
            Some(inode) => names.insert(name, inode),
            None => names.remove(&name),
        };
    }
}

/// Applies a change whole, not at all, up to some byte, or in some of its sectors.
fn keep_some(durable: &mut Vec<u8>, change: Change, random: &mut fastrand::Rng) {
    let (at, mut bytes) = match change {
        Change::Truncate(length) => {
            if random.bool() {
                durable.truncate(length);
            }
            return;
        }
        Change::Append(at, bytes) => (at, bytes),
    };
    match random.u32(..4) {
        0 => return,
        1 => bytes.truncate(random.usize(..=bytes.len())),
        2 => {
            for sector in bytes.chunks_mut(SECTOR) {
                if random.bool() {
                    sector.fill(0);
                }
            }
        }
        _ => {}
    }
    write(durable, at, &bytes);
}

fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Disk for ModelDisk {
    type File = ModelFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.operation()?;
        state.answer(state.names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.operation()?;
        let inode = *state.names.get(name).ok_or(ErrorKind::NotFound)?;
        if state.bad.contains(&inode) {
            return Err(io::Error::from_raw_os_error(5));
        }
        state.answer(state.inodes[inode].content.clone())
    }

    fn create(&self, name: &str) -> io::Result<ModelFile> {
        let mut state = self.state();
        state.operation()?;
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change_names(vec![(name.to_owned(), Some(inode))]);
        state.answer(self.file(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let inode = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.change_names(vec![(to.to_owned(), Some(inode)), (from.to_owned(), None)]);
        state.answer(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        if !state.names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change_names(vec![(name.to_owned(), None)]);
        state.answer(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        if state.lie != Some(Lie::FolderSync) {
            state.durable_names = state.names.clone();
            state.unsynced.clear();
        }
        state.answer(())
    }
}

impl DiskFile for ModelFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation()?;
        let room = state.capacity.saturating_sub(state.used());
        let (dies, full) = (state.left == 0, state.fails(15) || room < bytes.len());
        // A kill and a full disk both leave a part of a write behind.
        let part = if dies || full { state.random.usize(..=bytes.len()).min(room) } else { bytes.len() };
        let inode = &mut state.inodes[self.inode];
        let at = inode.content.len();
        inode.content.extend_from_slice(&bytes[..part]);
        inode.unsynced.push(Change::Append(at, bytes[..part].to_vec()));
        if full { Err(ErrorKind::StorageFull.into()) } else { state.answer(()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation()?;
        let length = usize::try_from(length).expect("files of the model are small");
        let inode = &mut state.inodes[self.inode];
        inode.content.truncate(length);
        inode.unsynced.push(Change::Truncate(length));
        state.answer(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        state.operation()?;
        let fails = state.fails(30);
        let inode = &mut state.inodes[self.inode];
        if fails {
            // Pages that were given up: they read well until the power goes, and no later sync writes them.
            for change in inode.unsynced.drain(..) {
                keep_some(&mut inode.durable, change, &mut state.random);
            }
            return Err(io::Error::other("input/output error"));
        }
        if state.lie != Some(Lie::FileSync) {
            for change in inode.unsynced.drain(..) {
                match change {
                    Change::Append(at, bytes) => write(&mut inode.durable, at, &bytes),
                    Change::Truncate(length) => inode.durable.truncate(length),
                }
            }
        }
        state.answer(())
    }
}
