//! Disks that fail and disks that are full, under the program itself. What the spool makes of thousands of
//! such faults, and of lost power, its own tests ask of a model (`src/gateway/spool/tests.rs`); these here need
//! strace, or root for a disk of their own, and say so where they cannot be run.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Answer;
use super::loads::{Site, row};

/// `command`, run by another one in front of it.
fn by(front: &[&str], command: &Command) -> Command {
    let mut whole = Command::new(front[0]);
    whole.args(&front[1..]).arg(command.get_program()).args(command.get_args()).env_clear();
    whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // The tools are found, and the program does not look.
    whole.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    whole.current_dir(command.get_current_dir().expect("the test's own folder"));
    whole
}

fn works(command: &[&str]) -> bool {
    let tried =
        Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

#[test]
fn after_a_sync_that_failed_the_gateway_ends_and_has_told_nobody_more_than_is_there() {
    if !works(&["strace", "-f", "-e", "trace=none", "true"]) {
        println!("skipped: strace is not there, or may not trace");
        return;
    }
    // Each thread counts its own: of the spool's it is a commit. The main thread has four as it starts, of two logs
    // and their reserves.
    for failing in [5, 9] {
        let site = Site::new();
        let inject = format!("inject=fdatasync:error=EIO:when={failing}");
        // By -D the process that is waited for is the gateway, and not strace.
        let front = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject];
        // So all is loaded by the next process.
        site.warehouse.lock().expect("no panic").kill();
        let gateway = site.gateway_by(by(&front, &site.command()));
        let mut acknowledged = BTreeMap::new();
        let refused = loop {
            let id = format!("{failing}-{}", acknowledged.len());
            match site.post("", &row(&id)) {
                Some(Answer { status: 200, .. }) => acknowledged.insert(id, 1),
                other => break other,
            };
            assert!(acknowledged.len() < 20, "fdatasync never failed; {}", site.said());
        };
        // It may be told that nothing is known of its row, or nothing at all.
        assert!(refused.as_ref().is_none_or(|a| a.problem() == "503 spool_stopped"), "{refused:?}");
        let status = gateway.end();
        assert_eq!(status.code(), Some(1), "{}", site.said());
        assert!(site.said().contains("the disk of the spool has failed"), "{}", site.said());

        site.warehouse.lock().expect("no panic").restart(&site.context);
        let _gateway = site.gateway();
        assert_eq!(site.post("", &row("last")).expect("an answer").status, 200);
        acknowledged.insert("last".into(), 1);
        let started = Instant::now();
        let mut table = site.table();
        while !table.contains_key("last") {
            assert!(started.elapsed() < Duration::from_secs(60), "{}", site.said());
            std::thread::sleep(Duration::from_millis(100));
            table = site.table();
        }
        // The row nobody knew of is there once or not at all.
        let unknown = format!("{failing}-{}", acknowledged.len() - 1);
        assert!(table.remove(&unknown).is_none_or(|times| times == 1), "{table:?}");
        assert_eq!(table, acknowledged, "fdatasync {failing}");
    }
}

#[test]
fn nothing_is_acknowledged_into_a_spool_that_was_deleted() {
    let site = Site::new();
    let gateway = site.gateway();
    assert_eq!(site.post("", &row("a")).expect("an answer").status, 200);
    std::fs::remove_dir_all(site.context.path("spool")).expect("deleted");
    let answer = site.post("", &row("b"));
    assert!(answer.as_ref().is_none_or(|a| a.problem() == "503 spool_stopped"), "{answer:?}");
    assert_eq!(gateway.end().code(), Some(1));
    assert!(site.said().contains("the file was deleted"), "{}", site.said());
}

#[test]
fn a_full_disk_is_503_until_rows_are_loaded_and_drops_none() {
    if !works(&["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=4m none /mnt"]) {
        println!("skipped: a disk of the test's own needs root");
        return;
    }
    let site = Site::new();
    std::fs::create_dir(site.context.path("spool")).expect("made");
    let command = site.command();
    // In a namespace of its own: the disk goes when the gateway does.
    let mount = "mount -t tmpfs -o size=4m none spool && exec \"$0\" \"$@\"";
    site.warehouse.lock().expect("no panic").kill();
    let gateway = site.gateway_by(by(&["unshare", "-m", "sh", "-c", mount], &command));
    let (mut acknowledged, mut small) = (0, 0);
    let send = |acknowledged: &mut u32| {
        let rows: Vec<String> = (0..500).map(|n| row(&format!("{acknowledged}-{n}"))).collect();
        let answer = site.post("", &format!("[{}]", rows.join(","))).expect("an answer");
        *acknowledged += u32::from(answer.status == 200);
        answer
    };
    for round in 1..=2 {
        let refused = loop {
            let answer = send(&mut acknowledged);
            if answer.status != 200 {
                break answer;
            }
            assert!(acknowledged < 1000, "4 MiB never were full");
        };
        assert_eq!(refused.problem(), "503 spool_full", "round {round}");
        assert!(refused.head.contains("\r\nretry-after: "), "{refused:?}");
        // To the last byte: small ones do not fit either.
        while site.post("", "{\"WH_ID\":\"small\"}").expect("an answer").status == 200 {
            small += 1;
        }
        // What was acknowledged is still there, and goes as soon as it can, by itself.
        site.warehouse.lock().expect("no panic").restart(&site.context);
        let started = Instant::now();
        while send(&mut acknowledged).status != 200 {
            assert!(started.elapsed() < Duration::from_secs(60), "round {round}: {}", site.said());
            std::thread::sleep(Duration::from_millis(100));
        }
        site.wait_for(u64::from(acknowledged) * 500 + small);
        if round == 1 {
            site.warehouse.lock().expect("no panic").kill();
        }
    }
    let mut table = site.table();
    assert_eq!(table.remove("small").unwrap_or_default(), small);
    assert_eq!(table.len(), (acknowledged * 500) as usize);
    assert!(table.values().all(|times| *times == 1));
    gateway.signal("-TERM");
    assert!(gateway.end().success(), "{}", site.said());
}
