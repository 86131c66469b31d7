//! The spool against disks that lose, tear and fail, and against the real one.

mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use disk::{Lie, ModelDisk};

/// What happened in one schedule, beside the disk: clients, and a warehouse that never forgets.
#[derive(Debug, Default)]
struct World {
    sent: u32,
    /// Payload by the sequence that its sender was told.
    acknowledged: BTreeMap<u64, u32>,
    /// What the first reading of a sealed segment gave. Its load job has an id of that content.
    staged: BTreeMap<SegmentId, Vec<(u64, Vec<u8>)>>,
    /// Segments that are loaded together, by the first of them: decided once.
    batches: BTreeMap<SegmentId, Vec<SegmentId>>,
    /// First segments of batches that are loaded.
    loaded: BTreeSet<SegmentId>,
    crashes: u32,
    power_losses: u32,
}

const OPTIONS: Options = Options { segment_bytes: 300, disk_bytes_max: 4000 };

impl World {
    /// A process from its start to its death, or until it has done enough. An `Err` is a broken promise.
    fn live(&mut self, disk: &ModelDisk, random: &mut fastrand::Rng) -> Result<(), String> {
        let Ok((mut log, mended)) = Log::open(disk.clone(), OPTIONS) else { return Ok(()) };
        if let Some(aside) = mended.iter().find(|m| matches!(m, Mended::SetAside { .. })) {
            return Err(format!("a power loss was taken for damage: {aside}"));
        }
        for _ in 0..random.u32(1..30) {
            match random.u32(..8) {
                0..5 => {
                    let mut sent = Vec::new();
                    for _ in 0..random.u32(1..6) {
                        let payload = format!("{} {}", self.sent, "x".repeat(random.usize(..60)));
                        self.sent += 1;
                        if let Ok(sequence) = log.append(payload.as_bytes()) {
                            sent.push((sequence, self.sent - 1));
                        }
                    }
                    if log.commit().is_ok() {
                        for (sequence, payload) in sent {
                            if self.acknowledged.insert(sequence, payload).is_some() {
                                return Err(format!("sequence {sequence} was given twice"));
                            }
                        }
                    }
                }
                5 => drop(log.seal()),
                _ => self.load(disk, &mut log, random.usize(1..4), random.bool())?,
            }
            if disk.is_dead() {
                break;
            }
        }
        Ok(())
    }

    /// Loads the oldest sealed segments, as the way out does: decide, stage, load, note, remove.
    fn load(
        &mut self,
        disk: &ModelDisk,
        log: &mut Log<ModelDisk>,
        segments: usize,
        to_the_end: bool,
    ) -> Result<(), String> {
        let sealed: Vec<SegmentId> = log.sealed().map(|sealed| sealed.id).collect();
        let Some(first) = sealed.first().copied() else { return Ok(()) };
        let decided = || sealed.iter().copied().take(segments).collect();
        let batch = self.batches.entry(first).or_insert_with(decided).clone();
        if !self.loaded.contains(&first) {
            for id in &batch {
                match read(disk, *id) {
                    Ok(rows) if *self.staged.entry(*id).or_insert_with(|| rows.clone()) != rows => {
                        return Err(format!("segment {} has other rows than before", id.key()));
                    }
                    Ok(_) => {}
                    Err(_) if disk.is_dead() => return Ok(()),
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        if to_the_end {
            self.loaded.insert(first);
            let _ = log.remove(&batch);
        }
        Ok(())
    }

    /// Invariant: every acknowledged row once, every other at most once.
    fn check(&self) -> Result<(), String> {
        let mut table: BTreeMap<u32, u32> = BTreeMap::new();
        let mut sequences = BTreeSet::new();
        let segments = self.loaded.iter().flat_map(|first| &self.batches[first]);
        for (sequence, row) in segments.flat_map(|id| &self.staged[id]) {
            let text = String::from_utf8_lossy(row);
            let payload: u32 = text.split(' ').next().and_then(|n| n.parse().ok()).ok_or("not a row")?;
            *table.entry(payload).or_default() += 1;
            if !sequences.insert(*sequence) {
                return Err(format!("sequence {sequence} is in the table twice"));
            }
            if self.acknowledged.get(sequence).is_some_and(|told| *told != payload) {
                return Err(format!("sequence {sequence} was told for another row than {payload}"));
            }
        }
        if let Some((payload, times)) = table.iter().find(|(_, times)| **times > 1) {
            return Err(format!("row {payload} is in the table {times} times"));
        }
        match self.acknowledged.values().find(|payload| !table.contains_key(payload)) {
            Some(lost) => Err(format!("row {lost} was acknowledged and is lost")),
            None => Ok(()),
        }
    }
}

/// Lives of a process that end in kills and power losses, and then one that drains the spool.
fn schedule(seed: u64, lie: Option<Lie>) -> Result<World, String> {
    let disk = ModelDisk::new(seed, lie);
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let mut world = World::default();
    for _ in 0..random.u32(2..8) {
        disk.live(random.u64(1..80), true);
        world.live(&disk, &mut random)?;
        world.crashes += u32::from(disk.is_dead());
        if random.bool() {
            disk.lose_power();
            world.power_losses += 1;
        }
    }
    disk.live(u64::MAX, false);
    let (mut log, _) = Log::open(disk.clone(), OPTIONS).map_err(|e| e.to_string())?;
    log.seal().map_err(|e| e.to_string())?;
    while log.sealed().next().is_some() {
        world.load(&disk, &mut log, 2, true)?;
    }
    world.check()?;
    Ok(world)
}

#[test]
fn no_schedule_of_power_losses_loses_an_acknowledged_row_or_doubles_any() {
    let (mut acknowledged, mut sent, mut crashes, mut power_losses) = (0, 0, 0, 0);
    for seed in 0..2000 {
        let world = schedule(seed, None).unwrap_or_else(|broken| panic!("schedule {seed}: {broken}"));
        acknowledged += world.acknowledged.len();
        sent += world.sent as usize;
        crashes += world.crashes;
        power_losses += world.power_losses;
    }
    // The schedules are about something.
    assert!(acknowledged > 20_000 && sent > acknowledged, "{acknowledged} of {sent}");
    assert!(crashes > 3000 && power_losses > 3000, "{crashes} {power_losses}");
}

#[test]
fn a_disk_that_only_says_that_it_synced_is_found_out() {
    for lie in [Lie::FileSync, Lie::FolderSync] {
        let broken = (0..200).filter_map(|seed| schedule(seed, Some(lie)).err());
        let lost = broken.filter(|broken| broken.contains("lost")).count();
        assert!(lost > 20, "{lie:?}: {lost} of 200 schedules lost a row: the model loses nothing");
    }
}

fn open(folder: &std::path::Path, options: Options) -> (Folder, Log<Folder>, Vec<Mended>) {
    let disk = Folder::open(folder).expect("a folder");
    let (log, mended) = Log::open(disk.clone(), options).expect("a log");
    (disk, log, mended)
}

fn texts(disk: &Folder, log: &Log<Folder>) -> Vec<String> {
    let records = log.sealed().flat_map(|sealed| read(disk, sealed.id).expect("readable"));
    records.map(|(_, payload)| String::from_utf8(payload).expect("text")).collect()
}

#[test]
fn damage_sets_one_segment_aside_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut log, _) = open(dir.path(), Options::default());
    for text in ["one", "two", "three"] {
        log.append(text.as_bytes()).unwrap();
        log.commit().unwrap();
        log.seal().unwrap();
    }
    let middle = log.sealed().nth(1).unwrap();
    drop((disk, log));
    let path = dir.path().join(log::file_name(middle.id.number));
    let mut bytes = std::fs::read(&path).unwrap();
    let payload = segment::read(&bytes, middle.id.number).records[0].payload.clone();
    bytes[payload.start] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    let (disk, mut log, mended) = open(dir.path(), Options::default());
    let [Mended::SetAside { file, offset: 36, records_before: 0 }] = &mended[..] else {
        panic!("{mended:?}")
    };
    assert_eq!(std::fs::read(dir.path().join(file)).unwrap(), bytes, "kept as it was");
    assert_eq!(texts(&disk, &log), ["one", "three"]);
    assert_eq!(log.append(b"four").map(|sequence| sequence / segment::SEQUENCES_MAX), Ok(5));
    // Found later, while it waits to be loaded.
    let first = log.sealed().next().unwrap();
    std::fs::write(dir.path().join(log::file_name(first.id.number)), b"").unwrap();
    let error = read(&disk, first.id).expect_err("damaged");
    assert_eq!(error.kind(), crate::error::Kind::Damaged);
    log.set_aside(first.id).unwrap();
    assert_eq!(texts(&disk, &log), ["three"]);
}

#[test]
fn only_an_unfinished_end_is_cut_and_anything_else_is_kept() {
    for (end, kept) in [(&b"\x05"[..], false), (&[0; 40][..], true)] {
        let dir = tempfile::tempdir().unwrap();
        let (disk, mut log, _) = open(dir.path(), Options::default());
        log.append(b"one").unwrap();
        log.commit().unwrap();
        drop((disk, log));
        let path = dir.path().join(log::file_name(1));
        let bytes = [&std::fs::read(&path).unwrap(), end].concat();
        std::fs::write(&path, bytes).unwrap();
        let (disk, log, mended) = open(dir.path(), Options::default());
        assert_eq!(texts(&disk, &log), ["one"]);
        match &mended[..] {
            [Mended::KeptEnd { file, .. }] if kept => {
                assert_eq!(std::fs::read(dir.path().join(file)).unwrap(), end);
            }
            [Mended::Cut { bytes, .. }] if !kept => assert_eq!(*bytes, end.len() as u64),
            other => panic!("{other:?}"),
        }
        drop((disk, log));
        assert_eq!(open(dir.path(), Options::default()).2, [], "mended once");
    }
}

/// In its length, damage makes the last record look like one that was never finished.
#[test]
fn the_last_record_of_a_segment_is_not_cut_once_that_is_sealed_or_was_written_anew() {
    for (is_sealed, is_last) in [(true, true), (true, false), (false, false)] {
        let dir = tempfile::tempdir().unwrap();
        let (disk, mut log, _) = open(dir.path(), Options::default());
        for text in ["one", "two"] {
            log.append(text.as_bytes()).unwrap();
            log.commit().unwrap();
        }
        if is_sealed {
            log.seal().unwrap();
        }
        drop((disk, log));
        if !is_sealed {
            assert_eq!(open(dir.path(), Options::default()).2, [], "what a kill left is whole");
        }
        let path = |number| dir.path().join(log::file_name(number));
        let mut bytes = std::fs::read(path(1)).unwrap();
        let records = segment::read(&bytes, 1).records;
        bytes[records[1].payload.start - segment::RECORD_HEAD_BYTES] ^= 0x40;
        std::fs::write(path(1), &bytes).unwrap();
        if is_last {
            std::fs::remove_file(path(2)).unwrap();
        }
        let (_, log, mended) = open(dir.path(), Options::default());
        assert!(matches!(mended[..], [Mended::SetAside { records_before: 1, .. }]), "{mended:?}");
        assert_eq!(log.sealed().count(), 0);
    }
}

/// On a full disk there is no room for a second copy of a segment.
#[test]
fn a_start_writes_nothing_anew_of_what_was_stopped_or_mended() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let inode = || std::fs::metadata(dir.path().join(log::file_name(1))).unwrap().ino();
    let (disk, log, _) = open(dir.path(), Options::default());
    let spool = Spool::start(disk, log, CommitOptions::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(spool.append(b"one".to_vec())).unwrap();
    let written = inode();
    drop(spool);
    for _ in 0..2 {
        let (disk, log, mended) = open(dir.path(), Options::default());
        assert_eq!((mended, inode(), texts(&disk, &log)), (vec![], written, vec!["one".to_owned()]));
    }
}

#[test]
fn a_full_spool_refuses_and_takes_again_when_a_segment_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (_disk, mut log, _) = open(dir.path(), Options { segment_bytes: 500, disk_bytes_max: 1000 });
    let mut taken = 0;
    let refused = loop {
        match log.append(&[b'x'; 100]).and_then(|_| log.commit()) {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((taken, refused), (7, Refused::Full));
    let oldest = log.sealed().next().unwrap();
    log.remove(&[oldest.id]).unwrap();
    assert!(log.append(&[b'x'; 100]).is_ok());
}

/// Whoever sends nothing to a gateway that is not ready would never have made it ready again.
#[test]
fn a_disk_that_was_full_has_room_again_without_another_record() {
    let disk = ModelDisk::new(1, None);
    disk.live(u64::MAX, false);
    disk.holds(70_000);
    let (mut log, _) = Log::open(disk, Options::default()).unwrap();
    assert!(log.has_room());
    log.append(&[b'x'; 10_000]).unwrap();
    assert_eq!((log.commit(), log.has_room()), (Err(Refused::Full), false));
    assert_eq!((log.seal(), log.has_room()), (Ok(None), true));
}

/// Records until nothing fits, as long as a spool takes any; their sequences.
fn fill(log: &mut Log<ModelDisk>) -> Vec<u64> {
    let mut told = Vec::new();
    while log.has_reserve()
        && let Ok(sequence) = log.append(&[b'x'; 100])
    {
        match log.commit() {
            Ok(()) => told.push(sequence),
            Err(refused) => {
                assert_eq!(refused, Refused::Full);
                break;
            }
        }
    }
    told
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_is_emptied_by_loading_and_takes_again() {
    for (seed, capacity) in (0..200).zip((70_000..).step_by(37)) {
        let disk = ModelDisk::new(seed, None);
        disk.live(u64::MAX, false);
        disk.holds(capacity);
        let (mut log, _) = Log::open(disk.clone(), Options::default()).unwrap();
        let mut told = Vec::new();
        for _ in 0..3 {
            let before = told.len();
            told.extend(fill(&mut log));
            assert!(told.len() > before, "{capacity} bytes: nothing fits in the room that was made");
            // There is one segment, and no byte for the head of a second one but the reserve's.
            let sealed = log.seal().unwrap_or_else(|e| panic!("{capacity} bytes: {e}")).unwrap();
            // Were the room of the reserve filled, the next segment could not be sealed.
            assert!(log.has_reserve() || fill(&mut log).is_empty());
            told.extend(fill(&mut log));
            let mut rows = Vec::new();
            let more = log.seal().unwrap();
            for Sealed { id, .. } in std::iter::once(sealed).chain(more) {
                rows.extend(read(&disk, id).unwrap().into_iter().map(|(row, _)| row));
                log.remove(&[id]).unwrap();
            }
            assert_eq!(rows, told[before..]);
        }
    }
}

#[test]
fn what_was_taken_is_loaded_whoever_fills_the_disk_and_nothing_is_taken_until_there_is_room() {
    for records in 1..60 {
        let disk = ModelDisk::new(records, None);
        disk.live(u64::MAX, false);
        let (mut log, _) = Log::open(disk.clone(), Options::default()).unwrap();
        let mut told: Vec<u64> = (0..records).map(|_| log.append(&[b'x'; 100]).unwrap()).collect();
        log.commit().unwrap();
        disk.holds(disk.used());
        let mut rows = Vec::new();
        for _ in 0..3 {
            let sealed = log.seal().unwrap();
            told.extend(fill(&mut log));
            if let Some(Sealed { id, .. }) = sealed {
                rows.extend(read(&disk, id).unwrap().into_iter().map(|(row, _)| row));
                disk.holds(disk.used());
                log.remove(&[id]).unwrap();
            }
        }
        assert_eq!((rows, log.has_room()), (told, false), "{records} records");
        disk.holds(usize::MAX);
        assert_eq!((log.seal(), log.has_room()), (Ok(None), true));
    }
}

#[test]
fn a_stop_on_a_full_disk_leaves_what_can_be_started_there() {
    for (seed, capacity) in (0..200).zip((70_000..).step_by(37)) {
        let disk = ModelDisk::new(seed, None);
        disk.live(u64::MAX, false);
        disk.holds(capacity);
        let (mut log, _) = Log::open(disk.clone(), Options::default()).unwrap();
        let told = fill(&mut log);
        log.close();
        let (mut log, mended) = Log::open(disk.clone(), Options::default()).unwrap();
        assert_eq!(mended, []);
        let sealed = log.sealed().next().unwrap();
        let rows: Vec<u64> = read(&disk, sealed.id).unwrap().into_iter().map(|(row, _)| row).collect();
        assert_eq!(rows, told, "{capacity} bytes");
        log.remove(&[sealed.id]).unwrap();
        assert!(log.has_room());
    }
}

/// They would have been given to records of the next segment too.
#[test]
fn refused_records_that_use_up_the_sequences_of_a_segment_are_the_last_of_it() {
    let disk = ModelDisk::new(1, None);
    disk.live(u64::MAX, false);
    disk.holds(70_000);
    let (mut log, _) = Log::open(disk.clone(), Options::default()).unwrap();
    let use_up = |log: &mut Log<ModelDisk>| {
        for _ in 0..=segment::SEQUENCES_MAX / 2 / 100_000 {
            for _ in 0..100_000 {
                log.append(b"x").unwrap();
            }
            assert_eq!(log.commit(), Err(Refused::Full));
        }
    };
    use_up(&mut log);
    let first = log.append(b"x").unwrap() / segment::SEQUENCES_MAX;
    log.commit().unwrap();
    assert_eq!(log.sealed().count(), 1, "it is sealed at once");
    let next = log.append(b"y").unwrap();
    assert_eq!(next, (first + 1) * segment::SEQUENCES_MAX);
    log.commit().unwrap();
    // The same without a record in it.
    use_up(&mut log);
    log.seal().unwrap();
    let rows = log.sealed().flat_map(|sealed| read(&disk, sealed.id).unwrap()).map(|(_, row)| row);
    assert_eq!(rows.collect::<Vec<_>>(), [b"x", b"y"]);
}

#[test]
fn a_reserve_that_a_kill_left_empty_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    for left in [0, 100] {
        std::fs::write(dir.path().join("reserve"), vec![1; left]).unwrap();
        let (_, mut log, _) = open(dir.path(), Options::default());
        assert!(log.has_reserve());
        assert_eq!(std::fs::metadata(dir.path().join("reserve")).unwrap().len(), 64 << 10);
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_set_aside_and_the_others_go_on() {
    for is_open in [true, false] {
        let disk = ModelDisk::new(1, None);
        disk.live(u64::MAX, false);
        let (mut log, _) = Log::open(disk.clone(), Options::default()).unwrap();
        for text in ["one", "two"] {
            log.append(text.as_bytes()).unwrap();
            log.seal().unwrap();
        }
        let bad = log.sealed().next().unwrap().id;
        disk.spoil(&log::file_name(bad.number));
        if is_open {
            assert_eq!(read(&disk, bad).unwrap_err().kind(), crate::error::Kind::Damaged);
            log.set_aside(bad).unwrap();
        } else {
            let mended;
            (log, mended) = Log::open(disk.clone(), Options::default()).unwrap();
            assert!(matches!(mended[..], [Mended::SetAside { records_before: 0, .. }]), "{mended:?}");
        }
        let left: Vec<SegmentId> = log.sealed().map(|sealed| sealed.id).collect();
        assert_eq!(left.len(), 1);
        assert_eq!(read(&disk, left[0]).unwrap()[0].1, b"two");
    }
}

#[test]
fn a_spool_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(dir.path()).unwrap();
    let second = Folder::open(dir.path()).expect_err("it is locked");
    assert_eq!(second.kind(), crate::error::Kind::Fenced);
    drop(folder);
    assert!(Folder::open(dir.path()).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_share_a_commit_and_each_is_told_its_own_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let commits = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&commits);
    let on_commit: Arc<dyn Fn(Commit) + Send + Sync> =
        Arc::new(move |commit| seen.lock().expect("no panic").push(commit));
    let (disk, log, _) = open(dir.path(), Options::default());
    let options = CommitOptions { on_commit: Some(on_commit), ..CommitOptions::default() };
    let spool = Arc::new(Spool::start(disk, log, options).unwrap());
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..200u32 {
        let spool = Arc::clone(&spool);
        senders.spawn(async move { (number, spool.append(number.to_string().into_bytes()).await) });
    }
    let told: BTreeMap<u64, u32> =
        senders.join_all().await.into_iter().map(|(number, told)| (told.unwrap(), number)).collect();
    spool.seal().await.unwrap();
    let sealed = spool.sealed().await.unwrap();
    let stored = spool.read(sealed[0].id).unwrap();
    let stored: BTreeMap<u64, u32> = stored
        .into_iter()
        .map(|(sequence, payload)| (sequence, String::from_utf8(payload).unwrap().parse().unwrap()))
        .collect();
    assert_eq!(stored, told);
    assert_eq!(told.len(), 200);
    {
        let commits = commits.lock().unwrap();
        assert_eq!(commits.iter().map(|commit| commit.records).sum::<u64>(), 200);
        assert!(commits.len() < 100, "{} commits of 200 records", commits.len());
    }
    spool.remove(vec![sealed[0].id]).await.unwrap();
    assert_eq!(spool.sealed().await.unwrap(), []);
}

#[tokio::test]
async fn after_a_failed_sync_nobody_is_told_anything_good_and_the_spool_says_so() {
    let disk = ModelDisk::new(1, None);
    disk.live(1000, false);
    let (log, _) = Log::open(disk.clone(), Options::default()).unwrap();
    let options = CommitOptions { wait: Duration::ZERO, ..CommitOptions::default() };
    let spool = Spool::start(disk.clone(), log, options).unwrap();
    assert!(spool.append(b"one".to_vec()).await.is_ok());
    disk.live(1, false);
    let refused = spool.append(b"two".to_vec()).await.expect_err("the disk is dead");
    assert!(matches!(refused, Refused::Stopped(_)), "{refused}");
    assert!(spool.failed().await.contains("dead"));
    disk.live(1000, false);
    let refused = spool.append(b"three".to_vec()).await.expect_err("it never goes on");
    assert!(matches!(refused, Refused::Stopped(_)), "{refused}");
}
