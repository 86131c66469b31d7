//! The spool without its thread: appends to one segment, syncs, goes on to the next, mends at the start.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::disk::{Disk, DiskFile};
use super::mend::{After, Mended, is_of_the_disk, mend, set_aside};
use super::segment::{self, HEAD_BYTES, RECORD_HEAD_BYTES, SEQUENCES_MAX, SegmentId};
use crate::error::{Error, Kind, Result};

/// How much a spool holds.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment ends once it has this many bytes.
    pub segment_bytes: u64,
    /// Of all segments together. Beyond it records are refused, never dropped.
    pub disk_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        // 16 MiB: read into memory as a whole, and written anew at a start after a kill.
        Options { segment_bytes: 16 << 20, disk_bytes_max: 4 << 30 }
    }
}

/// Why a record was not taken. It is not in the spool then, or nobody will ever be told that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The spool or its disk is full. Room comes back as segments are loaded.
    Full,
    /// The disk failed to sync: nothing it says can be relied on, and the process has to end.
    Stopped(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Full => f.write_str("the spool is full"),
            Refused::Stopped(why) => write!(f, "the spool has stopped: {why}"),
        }
    }
}

/// A segment that gets no more records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    pub id: SegmentId,
    pub records: u64,
    pub bytes: u64,
}

/// The segments of one folder.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    options: Options,
    sealed: BTreeMap<u64, Sealed>,
    sealed_bytes: u64,
    active: Active<D::File>,
    /// Of no segment there ever was.
    next_number: u64,
    has_reserve: bool,
    reserve_tried: Instant,
    stopped: Option<String>,
}

#[derive(Debug)]
struct Active<F> {
    id: SegmentId,
    file: F,
    /// On the disk, and what the file is as long as nothing is pending.
    durable: u64,
    records: u64,
    next_sequence: u64,
    pending: Vec<u8>,
    pending_records: u64,
    /// The last write did not fit on the disk, and was taken back.
    was_full: bool,
}

/// A file that makes room when it goes.
const RESERVE: &str = "reserve";
const RESERVE_BYTES: usize = 64 << 10;
const RESERVE_EVERY: Duration = Duration::from_secs(1);

pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// The number in a segment's file name, whatever has become of the segment.
pub(super) fn number_of(name: &str) -> Option<(u64, &str)> {
    let (number, state) = name.split_once('.')?;
    Some((u64::from_str_radix(number, 16).ok().filter(|_| number.len() == 16)?, state))
}

impl<D: Disk> Log<D> {
    /// Opens the folder, mends what a crash left, and starts a new segment.
    pub fn open(disk: D, options: Options) -> Result<(Log<D>, Vec<Mended>)> {
        let mut mended = Vec::new();
        let mut sealed = BTreeMap::new();
        let mut empty = Vec::new();
        let names = disk.list().map_err(|e| failed("list its files", e))?;
        let numbers = names.iter().filter_map(|name| number_of(name));
        let mut next_number = numbers.clone().map(|(number, _)| number + 1).max().unwrap_or(1);
        let mut segments: Vec<u64> =
            numbers.filter(|(_, state)| *state == "seg").map(|(number, _)| number).collect();
        segments.sort_unstable();
        for name in names.iter().filter(|name| name.ends_with(".new")) {
            disk.remove(name).map_err(|e| failed("remove a half written file", e))?;
        }
        // Backwards: one is whole if there are records in a later one.
        let mut is_whole = false;
        for number in segments.into_iter().rev() {
            match mend(&disk, number, is_whole, &mut mended)? {
                After::Records(segment) => drop(sealed.insert(number, segment)),
                After::Empty => empty.push(number),
                After::SetAside => {}
            }
            is_whole |= empty.last() != Some(&number);
        }
        let mut has_reserve = true;
        let active = start_next(&disk, &mut next_number, &mut has_reserve);
        let active = active.map_err(|e| {
            failed("start a segment", e)
                .hint("free some space on its disk, or look after it; nothing is lost")
        })?;
        // Not before: the highest number that was ever used must be among the files.
        for number in empty {
            disk.remove(&file_name(number)).map_err(|e| failed("remove an empty segment", e))?;
        }
        disk.sync_folder().map_err(|e| failed("sync its folder", e))?;
        let has_reserve = has_reserve && keep_reserve(&disk);
        let sealed_bytes = sealed.values().map(|sealed: &Sealed| sealed.bytes).sum();
        let (reserve_tried, stopped) = (Instant::now(), None);
        let log = Log {
            disk,
            options,
            sealed,
            sealed_bytes,
            active,
            next_number,
            has_reserve,
            reserve_tried,
            stopped,
        };
        Ok((log, mended))
    }

    /// Takes a record, which is durable after the next [`Log::commit`]. One without a payload is none.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, Refused> {
        self.check()?;
        debug_assert!(!payload.is_empty(), "it would be read as a mark");
        let bytes = RECORD_HEAD_BYTES as u64 + payload.len() as u64;
        if self.bytes() + bytes > self.options.disk_bytes_max || self.active.has_no_sequence() {
            return Err(Refused::Full);
        }
        let active = &mut self.active;
        let sequence = active.next_sequence;
        active.id.write(&mut active.pending, sequence, active.durable, payload).map_err(|_| Refused::Full)?;
        active.next_sequence += 1;
        active.pending_records += 1;
        Ok(sequence)
    }

    /// Makes everything appended durable: one write, one sync. After [`Refused::Full`] none of it is
    /// in the log.
    pub fn commit(&mut self) -> Result<(), Refused> {
        self.check()?;
        if self.active.pending.is_empty() {
            return Ok(());
        }
        self.write_pending()?;
        if self.active.durable >= self.options.segment_bytes || self.active.is_used_up() {
            // All is durable whether or not the next segment can be started; then the next commit tries.
            match self.seal() {
                Err(Refused::Full) | Ok(_) => {}
                Err(stopped) => return Err(stopped),
            }
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), Refused> {
        let active = &mut self.active;
        let (bytes, records) = (active.pending.len() as u64, active.pending_records);
        let written = active.file.append(&active.pending);
        active.pending.clear();
        active.pending_records = 0;
        if let Err(error) = written {
            // What of it is in the file must not stay, nor come back: its sender is told that it is not there.
            return match active.file.truncate(active.durable).and_then(|()| active.file.sync()) {
                Ok(()) => {
                    active.was_full = true;
                    tracing::warn!(%error, "the spool cannot be written");
                    Err(Refused::Full)
                }
                Err(error) => Err(self.stop("cannot take back a write", &error)),
            };
        }
        if let Err(error) = active.file.sync() {
            // Never again: a second sync of pages that the first one gave up returns without an error.
            return Err(self.stop("cannot sync a segment", &error));
        }
        active.was_full = false;
        active.durable += bytes;
        active.records += records;
        Ok(())
    }

    /// Ends the active segment, if it has records, and starts the next.
    pub fn seal(&mut self) -> Result<Option<Sealed>, Refused> {
        self.check()?;
        if !self.active.pending.is_empty() {
            self.commit()?;
        }
        // Nothing that is known of the disk is from now.
        self.active.was_full = false;
        self.keep_reserve();
        // Refused records use sequences up too: one of them that comes back with a power loss is told from others
        // by having one of its own.
        if self.active.records == 0 && !self.active.is_used_up() {
            return Ok(None);
        }
        match self.mark_end() {
            // There is no room for it; it is done without.
            Ok(()) | Err(Refused::Full) => {}
            Err(stopped) => return Err(stopped),
        }
        let next = match start_next(&self.disk, &mut self.next_number, &mut self.has_reserve) {
            Ok(next) => next,
            Err(error) if error.is_sync => return Err(self.stop("cannot sync a new segment", &error.error)),
            Err(error) => {
                tracing::warn!(error = %error.error, "the spool cannot start a segment");
                return Err(Refused::Full);
            }
        };
        let Active { id, durable: bytes, records, .. } = std::mem::replace(&mut self.active, next);
        if records == 0 {
            // Else the next start finds it.
            let _ = self.disk.remove(&file_name(id.number));
            return Ok(None);
        }
        let sealed = Sealed { id, records, bytes };
        self.sealed.insert(id.number, sealed);
        self.sealed_bytes += bytes;
        Ok(Some(sealed))
    }

    /// Says at the end of the active segment that all of it is durable. More records may come behind that, and
    /// another mark. There must be nothing pending.
    fn mark_end(&mut self) -> Result<(), Refused> {
        self.check()?;
        let active = &mut self.active;
        if active.records == 0 {
            return Ok(());
        }
        let marked = active.id.mark(&mut active.pending, active.next_sequence, active.durable);
        marked.map_err(|_| Refused::Full)?;
        active.next_sequence += 1;
        self.write_pending()
    }

    /// Segments that wait to be loaded, in their order.
    pub fn sealed(&self) -> impl Iterator<Item = Sealed> + '_ {
        self.sealed.values().copied()
    }

    /// Ends a process's work, so that the next start has nothing to write anew. What cannot be done is done without.
    pub fn close(&mut self) {
        // On a full disk the reserve has room for it.
        if self.mark_end() == Err(Refused::Full) && self.disk.remove(RESERVE).is_ok() {
            self.has_reserve = false;
            let _ = self.mark_end();
        }
    }

    /// Forgets segments whose records are durable elsewhere: the first one last, and only once the others
    /// are gone for good. So as long as any of them is there, the first one is.
    ///
    /// A power loss may bring that one back, under its id: whoever loaded it knows that id.
    pub fn remove(&mut self, ids: &[SegmentId]) -> Result<()> {
        let Some((first, others)) = ids.split_first() else { return Ok(()) };
        for id in others {
            self.remove_one(*id)?;
        }
        if !others.is_empty() {
            self.disk.sync_folder().map_err(|e| failed("sync its folder", e))?;
        }
        self.remove_one(*first)?;
        self.keep_reserve();
        Ok(())
    }

    fn remove_one(&mut self, id: SegmentId) -> Result<()> {
        if self.sealed.get(&id.number).is_some_and(|sealed| sealed.id == id) {
            self.disk.remove(&file_name(id.number)).map_err(|e| failed("remove a loaded segment", e))?;
            self.forget(id);
        }
        Ok(())
    }

    /// Sets a segment aside that was found damaged after the start. Its bytes take no room any more.
    pub fn set_aside(&mut self, id: SegmentId) -> Result<()> {
        self.rename_aside(id, "damaged")
    }

    /// Sets a segment aside that was loaded long ago, and has come back. It is not read again.
    pub fn keep_loaded(&mut self, id: SegmentId) -> Result<()> {
        self.rename_aside(id, "loaded")
    }

    fn rename_aside(&mut self, id: SegmentId, state: &str) -> Result<()> {
        if self.sealed.get(&id.number).is_some_and(|sealed| sealed.id == id) {
            let renamed = set_aside(&self.disk, id.number, state);
            // Also where the rename is not durable: the file is not there any more.
            self.forget(id);
            renamed?;
        }
        Ok(())
    }

    fn forget(&mut self, id: SegmentId) {
        let bytes = self.sealed.remove(&id.number).map_or(0, |sealed| sealed.bytes);
        self.sealed_bytes -= bytes;
    }

    /// Bytes of all segments, with what waits for the next commit.
    pub fn bytes(&self) -> u64 {
        self.sealed_bytes + self.active.durable + self.active.pending.len() as u64
    }

    /// False when it is full, or was when it was last written to and nothing was sealed since.
    pub fn has_room(&mut self) -> bool {
        self.has_reserve()
            && !self.active.was_full
            && self.bytes() + (RECORD_HEAD_BYTES as u64) < self.options.disk_bytes_max
    }

    /// Whether there is something to give up for the next segment. Without it no record should be taken: the last
    /// bytes of the disk would be gone, and what is in the active segment could never be sealed, and loaded.
    ///
    /// Looked for now and then, also while nothing can be loaded: somebody else may have made room.
    pub fn has_reserve(&mut self) -> bool {
        if self.reserve_tried.elapsed() >= RESERVE_EVERY {
            self.keep_reserve();
        }
        self.has_reserve
    }

    fn keep_reserve(&mut self) {
        if !self.has_reserve {
            (self.has_reserve, self.reserve_tried) = (keep_reserve(&self.disk), Instant::now());
        }
    }

    pub fn pending_bytes(&self) -> usize {
        self.active.pending.len()
    }

    /// Whether the disk has failed to sync: it takes nothing any more.
    pub fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    fn check(&self) -> Result<(), Refused> {
        self.stopped.clone().map_or(Ok(()), |why| Err(Refused::Stopped(why)))
    }

    fn stop(&mut self, what: &str, error: &std::io::Error) -> Refused {
        let why = format!("{what}: {error}");
        self.stopped = Some(why.clone());
        Refused::Stopped(why)
    }
}

impl<F> Active<F> {
    /// A commit has at most half of a segment's sequences, and the other half is still there.
    fn is_used_up(&self) -> bool {
        self.next_sequence - self.id.first_sequence() >= SEQUENCES_MAX / 2
    }

    /// The last one is for a mark.
    fn has_no_sequence(&self) -> bool {
        self.next_sequence - self.id.first_sequence() >= SEQUENCES_MAX - 1
    }
}

/// The records of a sealed segment: sequence and payload. An error is damage.
pub fn read<D: Disk>(disk: &D, id: SegmentId) -> Result<Vec<(u64, Vec<u8>)>> {
    let file = file_name(id.number);
    let bytes = disk.read(&file).map_err(|e| {
        let kind = if is_of_the_disk(&e) { Kind::Damaged } else { Kind::Failed };
        Error::new(kind, format!("the spool cannot read `{file}`")).caused_by(e)
    })?;
    let found = segment::read(&bytes, id.number);
    if found.id != Some(id) || !found.is_whole() {
        let damaged = format!("segment `{file}` of the spool is damaged at byte {}", found.end);
        return Err(Error::new(Kind::Damaged, damaged));
    }
    Ok(found.records.into_iter().map(|r| (r.sequence, bytes[r.payload].to_vec())).collect())
}

/// Takes room of the disk for [`start_next`]; false: there is none. Not compressible, where disks do that.
fn keep_reserve<D: Disk>(disk: &D) -> bool {
    if disk.read(RESERVE).is_ok_and(|bytes| bytes.len() == RESERVE_BYTES) {
        return true;
    }
    // What a kill or a power loss has left of it.
    let _ = disk.remove(RESERVE);
    let Ok(mut file) = disk.create(RESERVE) else { return false };
    let mut bytes = vec![0; RESERVE_BYTES];
    fastrand::fill(&mut bytes);
    let kept = file.append(&bytes).and_then(|()| file.sync()).is_ok();
    if !kept {
        let _ = disk.remove(RESERVE);
    }
    kept
}

/// Starts the next segment, on a full disk by giving up the reserve: what cannot be sealed cannot be loaded, and
/// then nothing would ever make room. Each try has a number of its own.
fn start_next<D: Disk>(
    disk: &D,
    next_number: &mut u64,
    has_reserve: &mut bool,
) -> Result<Active<D::File>, StartError> {
    let mut start_one = || {
        *next_number += 1;
        start(disk, *next_number - 1)
    };
    match start_one() {
        Err(error) if !error.is_sync && is_full(&error.error) && disk.remove(RESERVE).is_ok() => {
            *has_reserve = false;
            start_one()
        }
        started => started,
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

struct StartError {
    error: std::io::Error,
    is_sync: bool,
}

impl From<StartError> for std::io::Error {
    fn from(error: StartError) -> Self {
        error.error
    }
}

/// A new segment that survives a power loss: the file first, then its name in the folder.
fn start<D: Disk>(disk: &D, number: u64) -> Result<Active<D::File>, StartError> {
    let id = SegmentId { number, nonce: fastrand::u128(..) };
    let name = file_name(number);
    let mut file = disk.create(&name).map_err(|error| StartError { error, is_sync: false })?;
    if let Err(error) = file.append(&id.head()) {
        // A number is used once. What cannot be removed now is found at the next start.
        let _ = disk.remove(&name);
        return Err(StartError { error, is_sync: false });
    }
    let synced = file.sync().and_then(|()| disk.sync_folder());
    synced.map_err(|error| StartError { error, is_sync: true })?;
    Ok(Active {
        id,
        file,
        durable: HEAD_BYTES as u64,
        records: 0,
        next_sequence: id.first_sequence(),
        pending: Vec::new(),
        pending_records: 0,
        was_full: false,
    })
}

pub(super) fn failed(what: &str, error: impl Into<std::io::Error>) -> Error {
    Error::failed(format!("the spool cannot {what}")).caused_by(error.into())
}
