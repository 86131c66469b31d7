//! The bytes of one segment: a head, then records. Writing them is adding up; reading them is judging.
//!
//! ```text
//! head    magic 8 | number 8 | nonce 16 | crc 4
//! record  length 4 | crc 4 | sequence 8 | durable 8 | payload
//! ```
//! Numbers are little-endian. `crc` is CRC-32C of everything else in the head, or of the nonce and
//! everything else in the record: no payload can pass for a record of a segment whose nonce its
//! sender does not know, and no stale block of an older file for one of this.
//!
//! `durable` is how far the segment was on the disk when the record was written. A power loss takes
//! only what no sync has covered. So damage before the `durable` of any record behind it is no
//! power loss, and damage that no record says so of may be one, and holds nothing that was acknowledged.
//!
//! A record without a payload is a mark: it says that all before it is durable, and nothing else. A segment that
//! gets no more records ends in one, or the length of its last record could rot, and that look like a record that
//! was never finished.

use std::ops::Range;

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::error::{Error, Result};

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

const MAGIC: &[u8; 8] = b"a2bq-sp1";
pub(super) const HEAD_BYTES: usize = 36;
pub(super) const RECORD_HEAD_BYTES: usize = 24;

/// A segment holds this many sequences, used or not.
pub(super) const SEQUENCES_MAX: u64 = 1 << 24;

/// Which segment it is, among all there ever were in any spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// From 1, rising.
    pub number: u64,
    /// Random: the segments of a spool that was deleted and begun again are others.
    pub nonce: u128,
}

impl SegmentId {
    /// `0000000000000007-9f3c…`: safe in names, and sorted by number.
    pub fn key(&self) -> String {
        format!("{:016x}-{:032x}", self.number, self.nonce)
    }

    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&self.number.to_le_bytes());
        head.extend_from_slice(&self.nonce.to_le_bytes());
        head.extend_from_slice(&CRC.checksum(&head).to_le_bytes());
        head
    }

    /// Its first sequence. No other segment has any of those up to the next one's first.
    pub(super) fn first_sequence(&self) -> u64 {
        self.number * SEQUENCES_MAX
    }

    /// Appends a record to `bytes`.
    pub(super) fn write(
        &self,
        bytes: &mut Vec<u8>,
        sequence: u64,
        durable: u64,
        payload: &[u8],
    ) -> Result<()> {
        let length = u32::try_from(payload.len())
            .map_err(|_| Error::failed("a record of the spool has more than 4 GiB"))?;
        let crc = self.crc(length, sequence, durable, payload);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&durable.to_le_bytes());
        bytes.extend_from_slice(payload);
        Ok(())
    }

    /// Appends a mark to `bytes`: the whole segment before it, or what of it is not written yet.
    pub(super) fn mark(&self, bytes: &mut Vec<u8>, sequence: u64, durable: u64) -> Result<()> {
        self.write(bytes, sequence, durable, &[])
    }

    fn crc(&self, length: u32, sequence: u64, durable: u64, payload: &[u8]) -> u32 {
        let mut digest = CRC.digest();
        digest.update(&self.nonce.to_le_bytes());
        digest.update(&length.to_le_bytes());
        digest.update(&sequence.to_le_bytes());
        digest.update(&durable.to_le_bytes());
        digest.update(payload);
        digest.finalize()
    }

    /// The record at `at`, if one is there whole.
    fn record(&self, bytes: &[u8], at: usize) -> Option<Record> {
        let head = bytes.get(at..at + RECORD_HEAD_BYTES)?;
        let (length, crc) = (u32_at(head, 0)?, u32_at(head, 4)?);
        let (sequence, durable) = (u64_at(head, 8)?, u64_at(head, 16)?);
        // Checked first, since it costs nothing: hardly any bytes that are no record pass it.
        if sequence / SEQUENCES_MAX != self.number {
            return None;
        }
        let start = at + RECORD_HEAD_BYTES;
        let payload = start..start.checked_add(usize::try_from(length).ok()?)?;
        let text = bytes.get(payload.clone())?;
        (self.crc(length, sequence, durable, text) == crc).then_some(Record { sequence, durable, payload })
    }
}

/// Where a record's payload is in its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sequence: u64,
    durable: u64,
    pub(super) payload: Range<usize>,
}

/// What a segment's bytes were found to be.
#[derive(Debug)]
pub(super) struct Found {
    /// `None`: the head is not that of the segment it should be.
    pub(super) id: Option<SegmentId>,
    /// Up to the first place where none is, without marks.
    pub(super) records: Vec<Record>,
    /// Where the last of them ends, or the mark behind it.
    pub(super) end: usize,
    /// The last thing up to there is a mark: all before it was durable when it was written.
    pub(super) is_marked: bool,
    /// The sequence of a next record.
    pub(super) next: u64,
    pub(super) behind: Behind,
}

impl Found {
    /// Whether nothing is missing, as far as that can be told of a segment that got no more records.
    pub(super) fn is_whole(&self) -> bool {
        self.id.is_some() && matches!(self.behind, Behind::Nothing | Behind::Mark)
    }
}

/// What comes behind the last good record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    Nothing,
    /// No more than a mark takes, and no more of a length than a mark has: what a kill and a power loss leave of
    /// one. No record was there.
    Mark,
    /// The start of a record that the file is too short for.
    Incomplete,
    /// Bytes that a power loss may leave, or a bad disk: nothing says that they were ever durable.
    Torn,
    /// A later record says that this was durable once.
    Damage,
}

/// Reads the bytes of segment `number`.
pub(super) fn read(bytes: &[u8], number: u64) -> Found {
    let (records, behind) = (Vec::new(), Behind::Damage);
    let mut found = Found { id: None, records, end: 0, is_marked: false, next: 0, behind };
    let Some(id) = head_of(bytes).filter(|id| id.number == number) else { return found };
    (found.id, found.end, found.next) = (Some(id), HEAD_BYTES, id.first_sequence());
    while let Some(record) = id.record(bytes, found.end).filter(|record| record.sequence >= found.next) {
        (found.next, found.end) = (record.sequence + 1, record.payload.end);
        found.is_marked = record.payload.is_empty();
        if !found.is_marked {
            found.records.push(record);
        }
    }
    let rest = &bytes[found.end..];
    let says_durable = |at: usize| id.record(bytes, at).is_some_and(|later| later.durable > found.end as u64);
    let room = u32_at(rest, 0).map_or(usize::MAX, |length| RECORD_HEAD_BYTES.saturating_add(length as usize));
    found.behind = if rest.is_empty() {
        Behind::Nothing
    } else if (found.end + 1..bytes.len()).any(says_durable) {
        Behind::Damage
    } else if rest.len() <= RECORD_HEAD_BYTES && rest.iter().take(4).all(|byte| *byte == 0) {
        Behind::Mark
    } else if rest.len() < room {
        Behind::Incomplete
    } else {
        Behind::Torn
    };
    found
}

fn head_of(bytes: &[u8]) -> Option<SegmentId> {
    let head = bytes.get(..HEAD_BYTES)?;
    let crc = u32_at(head, HEAD_BYTES - 4)?;
    let nonce = u128::from_le_bytes(*head.get(16..)?.first_chunk()?);
    let intact = head.starts_with(MAGIC) && CRC.checksum(&head[..HEAD_BYTES - 4]) == crc;
    intact.then_some(SegmentId { number: u64_at(head, 8)?, nonce })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SegmentId = SegmentId { number: 7, nonce: 0x1234_5678_9abc };

    /// A segment of two commits: two records, then one.
    fn sample() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = ID.head();
        let mut ends = vec![bytes.len()];
        let mut durable = bytes.len() as u64;
        for (number, payload) in ["one", "two", "three"].iter().enumerate() {
            if number == 2 {
                durable = bytes.len() as u64;
            }
            ID.write(&mut bytes, ID.first_sequence() + number as u64, durable, payload.as_bytes()).unwrap();
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn what_was_written_is_read() {
        let (bytes, _) = sample();
        let found = read(&bytes, 7);
        assert_eq!(found.id, Some(ID));
        let payloads: Vec<&[u8]> = found.records.iter().map(|r| &bytes[r.payload.clone()]).collect();
        assert_eq!(payloads, [&b"one"[..], b"two", b"three"]);
        assert_eq!((found.end, found.behind), (bytes.len(), Behind::Nothing));
        assert_eq!(read(&bytes, 8).id, None, "a file under another's name");
    }

    #[test]
    fn a_segment_cut_anywhere_has_the_records_that_are_whole() {
        let (bytes, ends) = sample();
        for length in HEAD_BYTES..bytes.len() {
            let found = read(&bytes[..length], 7);
            let whole = ends.iter().filter(|end| **end <= length).count() - 1;
            assert_eq!(found.records.len(), whole, "{length}");
            let expected = if ends.contains(&length) { Behind::Nothing } else { Behind::Incomplete };
            assert_eq!(found.behind, expected, "{length}");
        }
    }

    #[test]
    fn a_changed_byte_is_damage_where_a_later_commit_says_so_and_never_passes() {
        let (bytes, ends) = sample();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            let found = read(&changed, 7);
            let intact = ends.iter().filter(|end| **end <= at).count().saturating_sub(1);
            assert_eq!(found.records.len(), intact, "{at}");
            match at {
                _ if at < HEAD_BYTES => assert_eq!(found.id, None, "{at}"),
                _ if at < ends[2] => assert_eq!(found.behind, Behind::Damage, "{at}"),
                // In the length it makes the last record look longer than the file.
                _ => assert!(matches!(found.behind, Behind::Torn | Behind::Incomplete), "{at}"),
            }
        }
    }

    #[test]
    fn a_payload_that_looks_like_a_record_is_none() {
        let other = SegmentId { nonce: 0, ..ID };
        let mut forged = Vec::new();
        other.write(&mut forged, ID.first_sequence() + 9, 1 << 20, b"forged").unwrap();
        let mut bytes = ID.head();
        let durable = bytes.len() as u64;
        ID.write(&mut bytes, ID.first_sequence(), durable, &forged).unwrap();
        bytes[HEAD_BYTES + 4] ^= 1;
        assert_eq!(read(&bytes, 7).behind, Behind::Torn);
    }
}
