//! Rows on their way, on the disk before their sender is told so.
//!
//! A folder of append-only segments. Records of many senders are written at once and synced once, and
//! then all of them are answered. A segment that is full or old is sealed; once its rows are in the
//! warehouse and that is durable too, it is deleted.
//!
//! What is promised: a record that was answered is in exactly one segment until that is removed, and
//! no sequence is ever given twice. Kills, power losses and failing syncs at any instant change
//! nothing of that; `tests.rs` has a model of a disk that loses everything it may.
//!
//! # Why is an error of `fsync` the end?
//! The kernel drops the pages it could not write and forgets the error. A second sync says that all is
//! well, and the bytes are not there. So the process ends, nobody is answered, and the next start
//! reads what there is and writes it anew.

mod committer;
mod disk;
mod log;
mod mend;
mod peek;
mod segment;

pub use committer::{Commit, Options as CommitOptions, Spool};
pub use disk::{Disk, DiskFile, Folder};
pub use log::{Log, Options, Refused, Sealed, read};
pub use mend::Mended;
pub use peek::{Peeked, Place, peek};
pub use segment::SegmentId;

#[cfg(test)]
mod tests;
