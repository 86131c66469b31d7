//! Damage to staged files and to the journal, by the ids of the list of bad inputs.
//!
//! Where a line leaves a choice, this is the one that is pinned:
//! - S01: the file is fetched again and put back if it comes out as the same bytes; else exit code 5.
//! - S03: a panic of the Parquet library on some damage, in a thread of its own, ends with the file named
//!   as damaged and the exit code of a mismatch.
//! - S04: an entry is on the disk before it has its name, so a torn one is never ours. It is refused by
//!   its number, the last one as much as the first, in a folder as in a bucket.
//! - S15: memory for SQL is limited by `limits.memory_mib`, beyond which it spills. A process that gets
//!   less than it needs at all is stopped by the system, and the same command resumes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use api2bq::effects::Effects;
use api2bq::error::Kind;
use api2bq::retry::Policy;
use api2bq::stage::Store;
use api2bq::stage::journal::{Chain, sha256_hex};
use serde_json::Value;

use crate::context::{Ended, Running, TestContext};

/// The one name below a folder that ends so.
fn only(folder: &Path, end: &str) -> PathBuf {
    let found =
        Command::new("find").arg(folder).args(["-name", &format!("*{end}")]).output().expect("find runs");
    let found = String::from_utf8(found.stdout).expect("UTF-8");
    let mut lines = found.lines();
    let (one, more) = (lines.next(), lines.next());
    assert!(more.is_none(), "{found}");
    PathBuf::from(one.unwrap_or_else(|| panic!("no {end} below {}", folder.display())))
}

fn ask(context: &TestContext, emulator: Option<&Running>, arguments: &[&str]) -> Ended {
    let mut command = context.command(arguments.iter().copied().chain(["--set", "stage.url=stage"]));
    if let Some(emulator) = emulator {
        command.env("BIGQUERY_EMULATOR_HOST", &emulator.url);
    }
    command.output().expect("it runs").into()
}

const SAME: [&str; 2] = ["--set", "source.identity=the same"];

/// S01: found by size and hash before a job is sent.
#[test]
fn damaged_staged_files_are_restored_from_the_source_or_refused_and_never_loaded() {
    type Damage = fn(&Path, &[u8]);
    let damages: [(&str, Damage); 4] = [
        ("truncated by one byte", |path, bytes| {
            std::fs::write(path, &bytes[..bytes.len() - 1]).expect("written")
        }),
        ("footer magic flipped", |path, bytes| {
            let mut flipped = bytes.to_vec();
            *flipped.last_mut().expect("a footer") ^= 1;
            std::fs::write(path, flipped).expect("written");
        }),
        ("zero length", |path, _| std::fs::write(path, b"").expect("written")),
        ("missing", |path, _| std::fs::remove_file(path).expect("removed")),
    ];
    let sources = TestContext::new();
    let source = sources.source(&["--rows", "1000", "--days", "1"]);
    let changed = sources.source(&["--rows", "1000", "--days", "1", "--seed", "2"]);
    for (what, damage) in damages {
        let context = TestContext::new();
        let emulator = context.emulator();
        context.backfill(None, &source.flows(), 1, &[&SAME[..], &["--until", "stage"]].concat()).success();
        let file = only(&context.path("stage"), ".parquet");
        let bytes = std::fs::read(&file).expect("read");
        damage(&file, &bytes);
        let refused = context.backfill(Some(&emulator), &changed.flows(), 1, &SAME);
        assert_eq!(refused.code, 5, "{what}: {refused:?}");
        assert!(refused.stderr.contains("is not as it was staged"), "{what}: {}", refused.stderr);
        let proof = ask(&context, Some(&emulator), &["verify", "flows"]);
        assert_eq!(proof.code, 7, "{what}: {proof:?}");
        assert!(proof.stdout.contains("open"), "{what}: nothing was loaded: {}", proof.stdout);
        let healed = context.backfill(Some(&emulator), &source.flows(), 1, &SAME);
        assert_eq!(healed.code, 0, "{what}: {healed:?}");
        assert_eq!(std::fs::read(&file).expect("it is back"), bytes, "{what}");
        ask(&context, Some(&emulator), &["verify", "flows"]).success();
    }
}

/// S03. The files are damaged in every way that their reader has to believe: the journal is made to
/// name each as if it had been staged so, or `verify` would not open it at all.
#[test]
fn no_damaged_parquet_file_makes_its_reader_panic_hang_or_grow() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "3000", "--days", "1"]);
    context.backfill(None, &source.flows(), 1, &["--until", "stage"]).success();
    let file = only(&context.path("stage"), ".parquet");
    let entry = only(&context.path("stage"), "0001.json");
    let (good, journal) =
        (std::fs::read(&file).expect("read"), std::fs::read_to_string(&entry).expect("read"));
    let (hash, size) = (sha256_hex(&good), format!("\"bytes\": {},", good.len()));
    assert!(journal.contains(&hash) && journal.contains(&size), "{journal}");
    let mut random = fastrand::Rng::with_seed(3);
    let (mut unreadable, mut worst) = (0, 0);
    for (number, damaged) in (0..200).map(|n| (n, mutated(&good, n, &mut random))).collect::<Vec<_>>() {
        let named = journal.replace(&hash, &sha256_hex(&damaged));
        let named = named.replace(&size, &format!("\"bytes\": {},", damaged.len()));
        std::fs::write(&file, &damaged).expect("written");
        std::fs::write(&entry, named).expect("written");
        // 20 seconds and 2 GB of addresses, of which `peak_rss_bytes` says how many were used.
        let script = "ulimit -v 2000000; exec timeout 20 \"$0\" \"$@\"";
        let mut command = Command::new("bash");
        command.args(["-c", script, env!("CARGO_BIN_EXE_api2bq"), "verify", "flows", "--offline"]);
        command.args(["--format", "json", "--set", "stage.url=stage"]).current_dir(context.path(""));
        let ended: Ended = command.env_remove("RUST_BACKTRACE").output().expect("bash runs").into();
        let keep = || {
            let kept = std::env::temp_dir().join(format!("api2bq-damaged-{number}.parquet"));
            let _ = std::fs::write(&kept, &damaged);
            kept.display().to_string()
        };
        assert!(matches!(ended.code, 0 | 7), "{number} {}: {ended:?}", keep());
        for panic in ended.stderr.lines().filter(|line| line.contains("panicked at")) {
            let is_contained = panic.contains("/parquet-") && ended.stdout.contains("no reader can stand");
            assert!(is_contained, "{number} {}: {panic}", keep());
        }
        let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let rss = report["peak_rss_bytes"].as_u64().expect("Linux says");
        assert!(rss < 256 << 20, "{number} {}: {rss} bytes", keep());
        worst = worst.max(rss);
        unreadable += usize::from(ended.stdout.contains("it cannot be read"));
    }
    println!("{unreadable} of 200 unreadable, at most {} MiB", worst >> 20);
    assert!(unreadable > 100, "only {unreadable}: the damage is too small to prove anything");
}

/// Bit flips in footer and pages, cuts, lengths beyond all bounds, and pieces in other places.
fn mutated(good: &[u8], number: u32, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let length = bytes.len();
    let footer_length = u32::from_le_bytes(good[length - 8..length - 4].try_into().expect("four bytes"));
    let footer = length - 8 - footer_length as usize;
    match number % 8 {
        0 => {
            (0..1 + number / 8).for_each(|_| bytes[random.usize(footer..length - 8)] ^= 1 << random.u8(0..8))
        }
        1 => (0..1 + number / 8).for_each(|_| bytes[random.usize(4..footer)] ^= 1 << random.u8(0..8)),
        2 => bytes.truncate(random.usize(0..length)),
        // The footer's own length.
        3 => bytes[length - 8..length - 4].copy_from_slice(&random.u32(..).to_le_bytes()),
        // Large varints, as lengths and counts are written.
        4 => {
            let at = random.usize(footer..length - 20);
            bytes[at..at + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        }
        5 => {
            let at = random.usize(4..footer - 20);
            bytes[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x0f]);
        }
        // A piece that is gone from the middle, the footer still whole.
        6 => {
            let at = random.usize(4..footer - 100);
            bytes.drain(at..at + random.usize(1..100));
        }
        _ => {
            let (from, to) = (random.usize(4..length - 108), random.usize(4..length - 108));
            bytes.copy_within(from..from + 100, to);
        }
    }
    bytes
}

/// S04, at every byte.
#[test]
fn a_torn_entry_is_refused_by_its_number_wherever_it_is_torn() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let source = context.source(&["--rows", "500", "--days", "1"]);
    context.backfill(Some(&emulator), &source.flows(), 1, &[]).success();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for entry in ["0001.json", "0002.json"] {
        let path = only(&context.path("stage"), entry);
        let whole = std::fs::read(&path).expect("read");
        let folder = path.parent().expect("a folder");
        let run =
            folder.ancestors().nth(2).and_then(Path::file_name).and_then(|n| n.to_str()).expect("a run");
        let url = format!("file://{}", folder.display());
        let store = Store::open(&url, Effects::default(), Policy::default()).expect("a folder");
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("written");
            let read = runtime.block_on(Chain::read(&store, run, ".".into()));
            let error = read.expect_err("a torn entry is no entry");
            assert_eq!(error.kind(), Kind::Damaged, "{entry} cut at {length}: {error}");
            assert!(error.to_string().contains(&format!("/{entry}` is damaged")), "{entry}: {error}");
        }
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).expect("written");
            for command in [&["status", "flows"][..], &["verify", "flows"], &["gc", "flows"]] {
                let ended = ask(&context, Some(&emulator), command);
                assert_eq!(ended.code, 5, "{entry} cut at {length}: {ended:?}");
                assert!(ended.stderr.contains(&format!("/{entry}` is damaged")), "{}", ended.stderr);
            }
            let ended = context.backfill(Some(&emulator), &source.flows(), 1, &[]);
            assert_eq!(ended.code, 5, "{entry} cut at {length}: {ended:?}");
            assert!(ended.stderr.contains(&format!("/{entry}` is damaged")), "{}", ended.stderr);
            assert!(ended.stderr.contains("--new-run"), "{}", ended.stderr);
        }
        std::fs::write(&path, whole).expect("written");
    }
    ask(&context, Some(&emulator), &["verify", "flows"]).success();
}

/// What a proxy between the program and its bucket does to the first create of an entry.
#[derive(Clone, Copy, PartialEq)]
enum Trick {
    /// It is stored, and the answer is a 503.
    StoredAndDenied,
    /// As before, but what is stored is an entry of another run.
    OtherRunStored,
}

/// A proxy in front of the embedded Cloud Storage. Says which answers creates of entry 1 had.
fn tricky_bucket(upstream: &str, trick: Trick) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let upstream = upstream.trim_start_matches("http://").to_owned();
    let creates = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&creates);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (upstream, seen) = (upstream.clone(), Arc::clone(&seen));
            std::thread::spawn(move || pass_on(client, &upstream, trick, &seen));
        }
    });
    (url, creates)
}

/// One request, one answer, one connection.
fn pass_on(mut client: TcpStream, upstream: &str, trick: Trick, creates: &Mutex<Vec<String>>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(request) = head.lines().next() else { return };
    let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
    let length = head.lines().find(is_length).and_then(|line| line.split(':').nth(1)?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if client.read_exact(&mut body).is_err() {
        return;
    }
    let is_first = request.starts_with("PUT ") && request.contains("0001%2Ejson") && {
        creates.lock().expect("no panic").is_empty()
    };
    if is_first && trick == Trick::OtherRunStored {
        let text = String::from_utf8(body).expect("an entry is text");
        let at = text.find("\"run\": \"").expect("an entry names its run") + 8;
        body = format!("{}0000000000000000{}", &text[..at], &text[at + 16..]).into_bytes();
    }
    let rest: Vec<&str> =
        head.lines().skip(1).filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
    let head = format!("{request}\r\nConnection: close\r\n{}\r\n", rest.join("\r\n"));
    let mut server = TcpStream::connect(upstream).expect("the emulator listens");
    server.write_all(head.as_bytes()).and_then(|()| server.write_all(&body)).expect("sent");
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).expect("answered");
    if request.starts_with("PUT ") && request.contains("0001%2Ejson") {
        let status = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        creates.lock().expect("no panic").push(status);
    }
    if is_first {
        answer =
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    }
    let _ = client.write_all(&answer);
}

/// S09, S10: the answer is lost, the retry hears "exists", and whose entry it is decides.
#[test]
fn a_stored_entry_whose_answer_was_lost_is_ours_if_its_bytes_are_and_fences_us_if_they_are_not() {
    for (trick, code) in [(Trick::StoredAndDenied, 0), (Trick::OtherRunStored, 4)] {
        let context = TestContext::new();
        let source = context.source(&["--rows", "500", "--days", "1"]);
        let behind = context.server(&["emulator", "--data-dir", "bucket"]);
        let (bucket, creates) = tricky_bucket(&behind.url, trick);
        let warehouse =
            context.server_with(&["emulator", "--data-dir", "wh"], &[("STORAGE_EMULATOR_HOST", &behind.url)]);
        let url = format!("source.url={}", source.flows());
        let arguments = ["backfill", "flows", "--from", "1", "--to", "1", "--set", &url];
        let more = ["--set", "stage.url=gs://bucket/x", "--set", "limits.retry_first_wait_ms=10"];
        let run = || -> Ended {
            let mut command = context.command(arguments.iter().chain(&more));
            command.env("BIGQUERY_EMULATOR_HOST", &warehouse.url).env("STORAGE_EMULATOR_HOST", &bucket);
            command.output().expect("it runs").into()
        };
        let ended = run();
        assert_eq!(ended.code, code, "{ended:?}");
        let creates = creates.lock().expect("no panic").clone();
        assert_eq!(creates.len(), 2, "{creates:?}");
        assert!(creates[0].contains(" 200 ") && creates[1].contains(" 412 "), "{creates:?}");
        if trick == Trick::OtherRunStored {
            assert!(ended.stderr.contains("0001.json` is of another run"), "{}", ended.stderr);
            // It stays so, and is found at the start from now on.
            assert_eq!(run().code, 4);
        } else {
            assert!(ended.stdout.contains("retries: 0 source, 1 staging area"), "{}", ended.stdout);
            assert!(run().success().stdout.contains("1 windows were there already"));
        }
    }
}

/// S10, in a folder.
#[test]
fn an_entry_of_another_run_stops_this_one() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let source = context.source(&["--rows", "500", "--days", "1"]);
    context.backfill(None, &source.flows(), 1, &["--until", "stage"]).success();
    let entry = only(&context.path("stage"), "0001.json");
    let text = std::fs::read_to_string(&entry).expect("read");
    let run: Value = serde_json::from_str(&text).expect("JSON");
    std::fs::write(&entry, text.replacen(run["run"].as_str().expect("a run"), "0000000000000000", 1))
        .expect("written");
    let ended = context.backfill(Some(&emulator), &source.flows(), 1, &[]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("0001.json` is of another run"), "{}", ended.stderr);
    for command in [&["status", "flows"][..], &["verify", "flows", "--offline"], &["gc", "flows"]] {
        assert_eq!(ask(&context, None, command).code, 4, "{command:?}");
    }
}

/// S15.
#[test]
fn little_memory_spills_and_too_little_stops_a_run_that_resumes() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "1000000", "--days", "2"]);
    let small = ["--until", "stage", "--jobs", "1", "--set", "limits.memory_mib=32"];
    let ended = context.backfill(None, &source.flows(), 2, &small).success();
    assert!(ended.stdout.contains("1,000,000 records in ="), "{}", ended.stdout);

    // A limit on addresses stands in for the system's killer: the process dies where it asks for more.
    let context = TestContext::new();
    let arguments = ["backfill", "flows", "--from", "1", "--to", "2", "--set", "stage.url=stage"];
    let url = format!("source.url={}", source.flows());
    let mut stopped = 0;
    for kilobytes in [150_000, 200_000, 250_000, 300_000, 400_000] {
        let script = format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_api2bq")]).args(arguments).args(["--set", &url]);
        let ended: Ended =
            command.args(small).current_dir(context.path("")).output().expect("bash runs").into();
        stopped += usize::from(ended.code != 0);
    }
    assert!(stopped > 0, "the limits were too generous to prove anything");
    let resumed: Ended = context
        .command(arguments.into_iter().chain(["--set", &url]).chain(small))
        .output()
        .expect("it runs")
        .into();
    assert!(resumed.success().stdout.contains("1,000,000 records in ="));
    ask(&context, None, &["verify", "flows", "--offline"]).success();
}
