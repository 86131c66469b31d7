//! What a start makes of the segments that an earlier process left.

use std::fmt;

use super::disk::{Disk, DiskFile};
use super::log::{Sealed, failed, file_name};
use super::segment::{self, Behind, HEAD_BYTES};
use crate::error::Result;

/// What a start found that should not have been there. For people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// The unfinished end of the last segment is gone, as a power loss or a kill leaves it.
    Cut { file: String, bytes: u64 },
    /// Bytes at the end of the last segment are no records. They are kept in a file of their own.
    KeptEnd { file: String, bytes: u64 },
    /// Acknowledged records are damaged. The file is set aside, and nothing is loaded from it.
    SetAside { file: String, offset: u64, records_before: u64 },
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mended::Cut { file, bytes } => {
                write!(
                    f,
                    "`{file}` ended in {bytes} bytes of an unfinished record, which nobody was promised"
                )
            }
            Mended::KeptEnd { file, bytes } => {
                write!(
                    f,
                    "{bytes} bytes that are no records were at the end of a segment; they are in `{file}`"
                )
            }
            Mended::SetAside { file, offset, records_before } => write!(
                f,
                "a segment is damaged at byte {offset}, behind {records_before} good records; it is kept as `{file}` and not loaded"
            ),
        }
    }
}

/// What an earlier process's segment is after the start.
pub(super) enum After {
    Records(Sealed),
    Empty,
    SetAside,
}

/// Reads a segment that an earlier process wrote. `is_whole`: all of it was durable.
pub(super) fn mend<D: Disk>(
    disk: &D,
    number: u64,
    is_whole: bool,
    mended: &mut Vec<Mended>,
) -> Result<After> {
    let file = file_name(number);
    let bytes = match disk.read(&file) {
        Err(error) if is_of_the_disk(&error) => {
            let file = set_aside(disk, number, "damaged")?;
            mended.push(Mended::SetAside { file, offset: 0, records_before: 0 });
            return Ok(After::SetAside);
        }
        read => read.map_err(|e| failed(&format!("read `{file}`"), e))?,
    };
    if !is_whole && bytes.len() <= HEAD_BYTES {
        // Records come after the head is durable: there never was one.
        return Ok(After::Empty);
    }
    let found = segment::read(&bytes, number);
    let (offset, records) = (found.end as u64, found.records.len() as u64);
    let is_damaged = if is_whole { !found.is_whole() } else { found.behind == Behind::Damage };
    let Some(id) = found.id.filter(|_| !is_damaged) else {
        let file = set_aside(disk, number, "damaged")?;
        mended.push(Mended::SetAside { file, offset, records_before: records });
        return Ok(After::SetAside);
    };
    let mut sealed = Sealed { id, records, bytes: offset };
    // What is before a mark was durable before that was written.
    if is_whole || found.is_marked && found.behind == Behind::Nothing {
        return Ok(if records == 0 { After::Empty } else { After::Records(sealed) });
    }
    let (good, rest) = bytes.split_at(found.end);
    match found.behind {
        Behind::Nothing | Behind::Mark | Behind::Damage => {}
        Behind::Incomplete => mended.push(Mended::Cut { file: file.clone(), bytes: rest.len() as u64 }),
        Behind::Torn => {
            let kept = format!("{number:016x}.end");
            write_anew(disk, number, &kept, rest)?;
            mended.push(Mended::KeptEnd { file: kept, bytes: rest.len() as u64 });
        }
    }
    // Written anew even where it reads well: after a sync that failed, pages read well that are not on
    // the disk, and what was read here may have come from just such pages.
    let mut good = good.to_vec();
    id.mark(&mut good, found.next, offset)?;
    sealed.bytes = good.len() as u64;
    write_anew(disk, number, &file, &good)?;
    Ok(if records == 0 { After::Empty } else { After::Records(sealed) })
}

/// Replaces or makes a file: after a crash it is the old one or the new one, whole.
fn write_anew<D: Disk>(disk: &D, number: u64, name: &str, bytes: &[u8]) -> Result<()> {
    let draft = format!("{number:016x}.new");
    let write = || {
        let mut file = disk.create(&draft)?;
        file.append(bytes)?;
        file.sync()?;
        disk.rename(&draft, name)?;
        disk.sync_folder()
    };
    write().map_err(|e| {
        failed(&format!("write `{name}` anew"), e).hint("free some space on its disk; nothing is lost")
    })
}

/// EIO: what is there cannot be had, today nor tomorrow. Other errors of reading are no damage.
pub(super) fn is_of_the_disk(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(5)
}

/// Gives a segment a name under which nobody loads it, and returns that.
pub(super) fn set_aside<D: Disk>(disk: &D, number: u64, state: &str) -> Result<String> {
    let aside = format!("{number:016x}.{state}");
    let set_aside = disk.rename(&file_name(number), &aside).and_then(|()| disk.sync_folder());
    set_aside.map_err(|e| failed("set a segment aside", e))?;
    Ok(aside)
}
