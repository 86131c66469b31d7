//! Files of requests that are in no segment any more, an [`Instance`] a line.
//!
//! | file | holds | is written |
//! |---|---|---|
//! | `<first>-<last>-<segment>.ndjson.gz` | the requests of a batch that was loaded | once, before its segments go |
//! | `<first>-rejected.ndjson` | requests of which no row was taken | a line each, before their answer |
//!
//! `first` and `last` are when the requests in it came, in milliseconds.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, ErrorKind, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::instance::{Instance, ms_of};
use crate::error::{Error, Kind, Result};

/// One file, and when its requests came.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    pub(super) bytes: u64,
    pub(super) is_rejected: bool,
    path: PathBuf,
}

const PACKED: &str = ".ndjson.gz";
const REJECTED: &str = "-rejected.ndjson";
const FIELDS: &str = "fields.json";
/// Files in the making, and leftovers of a kill.
const DRAFT: &str = ".part";
/// A file's time is that of its last write, by a clock that may be set: its requests are not younger by more.
pub(super) const CLOCK_SLACK_MS: u64 = 300_000;

impl Shelf {
    /// All of a folder, by when their last requests came.
    pub(super) fn list(folder: &Path) -> Result<Vec<Shelf>> {
        let cannot = |e| cannot("list", folder, e);
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(cannot)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(cannot)?;
            // What is gone by now was too old.
            if let (Some(name), Ok(metadata)) = (entry.file_name().to_str(), entry.metadata())
                && let Some((first_ms, last_ms)) = times_of(name, &metadata)
            {
                let (bytes, path, is_rejected) = (metadata.len(), entry.path(), name.ends_with(REJECTED));
                found.push(Shelf { first_ms, last_ms, bytes, is_rejected, path });
            }
        }
        found.sort_unstable_by(|a, b| (a.last_ms, &a.path).cmp(&(b.last_ms, &b.path)));
        Ok(found)
    }

    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Hands out its lines, one at a time. A file that is gone has none.
    pub(super) fn lines(&self, mut take: impl FnMut(&[u8])) -> Result<()> {
        let cannot = |e| cannot("read", &self.path, e);
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file.map_err(cannot)?,
        };
        let unpacked: Box<dyn Read> =
            if self.is_rejected { Box::new(file) } else { Box::new(MultiGzDecoder::new(file)) };
        let (mut reader, mut line) = (BufReader::with_capacity(64 << 10, unpacked), Vec::new());
        while reader.read_until(b'\n', &mut line).map_err(cannot)? > 0 {
            take(&line);
            line.clear();
        }
        Ok(())
    }

    pub(super) fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(cannot("remove", &self.path, error)),
            _ => Ok(()),
        }
    }
}

/// When the requests of a file of this name came. `None`: it is no file of requests.
fn times_of(name: &str, metadata: &std::fs::Metadata) -> Option<(u64, u64)> {
    if let Some(first) = name.strip_suffix(REJECTED) {
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_millis();
        return Some((ms_of(first)?, u64::try_from(modified).ok()?.saturating_add(CLOCK_SLACK_MS)));
    }
    let mut parts = name.strip_suffix(PACKED)?.split('-');
    Some((ms_of(parts.next()?)?, ms_of(parts.next()?)?))
}

/// Makes the folder, and clears away what a kill has left there. Nobody else may be at work in it.
/// `fields` are written down for whoever looks into it without its gateway.
pub(super) fn open(folder: &Path, fields: &[String]) -> Result<()> {
    let failed = |e| cannot("open", folder, e);
    std::fs::create_dir_all(folder).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Identifiers of customers are in it, and bodies where they are kept.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_string_lossy().ends_with(DRAFT) {
            std::fs::remove_file(&path).map_err(|e| cannot("remove", &path, e))?;
        }
    }
    let draft = folder.join(format!("{FIELDS}{DRAFT}"));
    let text = serde_json::to_vec(fields).map_err(|e| Error::failed("cannot write names").caused_by(e))?;
    let mut options = OpenOptions::new();
    create(&draft, options.create(true).write(true).truncate(true))?
        .write_all(&text)
        .and_then(|()| std::fs::rename(&draft, folder.join(FIELDS)))
        .map_err(|e| cannot("write", &draft, e))
}

/// The columns by which the gateway of this folder finds requests, or did when it was started last.
pub(super) fn fields(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join(FIELDS);
    match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", &path, error)),
        Ok(text) => {
            let damaged = Error::new(Kind::Damaged, format!("`{}` is not readable", path.display()));
            serde_json::from_slice(&text).map(Some).map_err(|e| damaged.caused_by(e))
        }
    }
}

/// A file of a batch in the making. It appears when it is finished, and never in parts.
pub(super) struct Draft<'f> {
    folder: &'f Path,
    path: PathBuf,
    /// `None` once it is finished.
    file: Option<GzEncoder<BufWriter<File>>>,
    times: Option<(u64, u64)>,
}

impl<'f> Draft<'f> {
    /// `None`: the requests of the batch that starts with segment `key` are there already.
    pub(super) fn start(folder: &'f Path, key: &str) -> Result<Option<Draft<'f>>> {
        let end = format!("-{key}{PACKED}");
        if Shelf::list(folder)?.iter().any(|shelf| shelf.name().ends_with(&end)) {
            return Ok(None);
        }
        let path = folder.join(format!("{key}{DRAFT}"));
        let mut options = OpenOptions::new();
        let file = create(&path, options.create(true).write(true).truncate(true))?;
        // 6 to 8 times smaller at 100 MB/s.
        let file = Some(GzEncoder::new(BufWriter::new(file), Compression::fast()));
        Ok(Some(Draft { folder, path, file, times: None }))
    }

    pub(super) fn add(&mut self, instance: &Instance) -> Result<()> {
        let ms = ms_of(&instance.id).unwrap_or_default();
        let (first, last) = self.times.unwrap_or((ms, ms));
        self.times = Some((first.min(ms), last.max(ms)));
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&line(instance)?).map_err(|e| cannot("write", &self.path, e))
    }

    /// It is durable when this returns.
    pub(super) fn finish(mut self, key: &str) -> Result<()> {
        let failed = |e| cannot("write", &self.path, e);
        let (Some((first, last)), Some(file)) = (self.times, self.file.take()) else { return Ok(()) };
        let name = format!("{first:011x}-{last:011x}-{key}{PACKED}");
        let file = file.finish().and_then(|file| Ok(file.into_inner()?)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&self.path, self.folder.join(name)).map_err(failed)?;
        File::open(self.folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Draft<'_> {
    /// What could not be finished takes no room; what was has another name.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Requests of which no row was taken, as they come.
///
/// They are written and not synced: a kill of the process loses none, a power loss the last seconds.
/// Their senders know; an fsync for each would let whoever sends nonsense slow down those who do not.
#[derive(Debug)]
pub(super) struct RejectedLog {
    folder: PathBuf,
    /// The one that is written to, and its bytes. Opened for each: it may have been deleted for its age.
    file: Option<(PathBuf, u64)>,
}

/// A file of rejected requests ends with this many bytes.
const REJECTED_FILE_BYTES: u64 = 8 << 20;
/// All of them together: who sends nothing else does not fill the disk. The oldest go.
const REJECTED_BYTES: u64 = 64 << 20;

impl RejectedLog {
    pub(super) fn new(folder: &Path) -> RejectedLog {
        RejectedLog { folder: folder.to_owned(), file: None }
    }

    pub(super) fn add(&mut self, instance: &Instance) -> Result<()> {
        let line = line(instance)?;
        let (path, bytes) = match self.file.take() {
            Some((path, bytes)) if bytes < REJECTED_FILE_BYTES => (path, bytes),
            _ => {
                self.make_room()?;
                let first = instance.id.get(..11).unwrap_or_default();
                (self.folder.join(format!("{first}{REJECTED}")), 0)
            }
        };
        create(&path, OpenOptions::new().create(true).append(true))?
            .write_all(&line)
            .map_err(|e| cannot("write", &path, e))?;
        self.file = Some((path, bytes + line.len() as u64));
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        let shelves: Vec<_> = Shelf::list(&self.folder)?.into_iter().filter(|s| s.is_rejected).collect();
        let mut bytes: u64 = shelves.iter().map(|shelf| shelf.bytes).sum();
        for oldest in shelves {
            if bytes <= REJECTED_BYTES - REJECTED_FILE_BYTES {
                break;
            }
            bytes -= oldest.bytes;
            oldest.remove()?;
        }
        Ok(())
    }
}

fn line(instance: &Instance) -> Result<Vec<u8>> {
    let mut line =
        serde_json::to_vec(instance).map_err(|e| Error::failed("cannot write a request").caused_by(e))?;
    line.push(b'\n');
    Ok(line)
}

/// A file that nobody else may read.
fn create(path: &Path, options: &mut OpenOptions) -> Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path).map_err(|e| cannot("write", path, e))
}

fn cannot(verb: &str, path: &Path, error: std::io::Error) -> Error {
    Error::failed(format!("cannot {verb} `{}`", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::track::instance::{State, new_id};

    fn instance(unix_ms: u64, padding: usize) -> Instance {
        Instance {
            id: new_id(unix_ms),
            time: String::new(),
            user: "ann".into(),
            state: State::Rejected,
            accepted: 0,
            rejected: 1,
            identifiers: Vec::new(),
            rejects: Vec::new(),
            table: None,
            job_id: None,
            reason: None,
            payload: Some("x".repeat(padding)),
            payload_base64: None,
        }
    }

    fn times(folder: &Path) -> Vec<(u64, u64)> {
        Shelf::list(folder).unwrap().iter().map(|shelf| (shelf.first_ms, shelf.last_ms)).collect()
    }

    #[test]
    fn a_batch_is_written_once_and_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &["WH_ID".to_owned()]).unwrap();
        assert_eq!(fields(dir.path()).unwrap(), Some(vec!["WH_ID".to_owned()]));
        let key = format!("{:016x}-{:032x}", 7, 9);
        // Killed in the middle: the process that is started next clears it away.
        std::mem::forget(Draft::start(dir.path(), &key).unwrap());
        open(dir.path(), &["WH_ID".to_owned()]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the names alone");
        let mut draft = Draft::start(dir.path(), &key).unwrap().unwrap();
        let written = [50, 40, 60].map(|ms| instance(ms, 0));
        written.iter().for_each(|instance| draft.add(instance).unwrap());
        assert_eq!(times(dir.path()), []);
        draft.finish(&key).unwrap();
        assert_eq!(times(dir.path()), [(40, 60)]);
        assert!(
            Draft::start(dir.path(), &key).unwrap().is_none(),
            "also after a kill before its segments went"
        );
        let mut read = Vec::new();
        Shelf::list(dir.path()).unwrap()[0]
            .lines(|line| read.push(serde_json::from_slice::<Instance>(line).unwrap()))
            .unwrap();
        assert_eq!(read, written);
        // Given up: it takes no room.
        drop(Draft::start(dir.path(), "other").unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn rejected_requests_take_bounded_room_and_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), &[]).unwrap();
        let mut log = RejectedLog::new(dir.path());
        for ms in 0..100 {
            log.add(&instance(1_000_000 + ms, 1 << 20)).unwrap();
        }
        let shelves = Shelf::list(dir.path()).unwrap();
        let bytes: u64 = shelves.iter().map(|shelf| shelf.bytes).sum();
        assert!(bytes <= REJECTED_BYTES && bytes > REJECTED_BYTES / 2, "{bytes}");
        let mut count = 0;
        shelves.last().unwrap().lines(|_| count += 1).unwrap();
        assert!(count > 0 && shelves[0].first_ms > 1_000_000, "the oldest went");
        // Deleted for its age while it is written to: the next one is found all the same.
        shelves.iter().for_each(|shelf| shelf.remove().unwrap());
        log.add(&instance(2_000_000, 0)).unwrap();
        assert_eq!(Shelf::list(dir.path()).unwrap().len(), 1);
    }
}
