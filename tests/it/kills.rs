//! `kill -9` at random instants, of the program or of its warehouse; two programs at once; one put to
//! sleep. After each the same command completes, and every row is in the table once.
//!
//! `API2BQ_KILLS`, `API2BQ_EMULATOR_KILLS`, `API2BQ_PAIRS` and `API2BQ_SLEEPS` say how often, `API2BQ_SEED`
//! draws the same instants again.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::compare::Compare;
use crate::context::{Running, TestContext};
use crate::process::{Process, Warehouse};

pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name}={n} is no number")))
}

/// One source and one warehouse, in which every cycle has a dataset of its own.
struct Ground {
    context: TestContext,
    source: Running,
    warehouse: Warehouse,
    compare: Compare,
    random: fastrand::Rng,
    /// How long an undisturbed run takes.
    whole: Duration,
    cycles: usize,
}

impl Ground {
    fn new() -> Self {
        let context = TestContext::new();
        let source =
            context.source(&["--rows", "20000", "--days", "3", "--duplicates", "0.03", "--seed", "7"]);
        let compare = Compare::with(&source.url, 3);
        let warehouse = Warehouse::start(&context);
        let seed = setting("API2BQ_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
        println!("API2BQ_SEED={seed}");
        let random = fastrand::Rng::with_seed(seed);
        let mut ground =
            Ground { context, source, warehouse, compare, random, whole: Duration::ZERO, cycles: 0 };
        for _ in 0..3 {
            let run = ground.next_run();
            let started = Instant::now();
            assert_eq!(ground.start(&run, "calm").end().code(), Some(0), "{}", ground.said(&run, "calm"));
            ground.whole = ground.whole.max(started.elapsed());
        }
        ground
    }

    /// A dataset that is new. Two of three runs stage in a folder, the third in the warehouse's bucket.
    fn next_run(&mut self) -> Run {
        self.cycles += 1;
        let stage = match self.cycles % 3 {
            0 => "gs://bucket/stage".to_owned(),
            _ => self.context.path("stage").display().to_string(),
        };
        Run { dataset: format!("k{}", self.cycles), stage }
    }

    /// An instant of an undisturbed run, now and then a little after it.
    fn instant(&mut self) -> Duration {
        self.whole.mul_f64(self.random.f64() * 1.05)
    }

    fn backfill(&self, run: &Run) -> Command {
        let set = [
            format!("source.url={}", self.source.flows()),
            format!("stage.url={}", run.stage),
            format!("warehouse.dataset={}", run.dataset),
        ];
        let mut command = self.context.command(["backfill", "flows", "--from", "1", "--to", "3", "-v"]);
        command.args(set.iter().flat_map(|pair| ["--set", pair]));
        self.in_the_warehouse(command)
    }

    fn promote(&self, run: &Run) -> Command {
        let dataset = format!("warehouse.dataset={}", run.dataset);
        self.in_the_warehouse(self.context.command(["promote", "flows", "-q", "--set", &dataset]))
    }

    fn in_the_warehouse(&self, mut command: Command) -> Command {
        let url = self.warehouse.url();
        command.env("BIGQUERY_EMULATOR_HOST", &url).env("STORAGE_EMULATOR_HOST", &url);
        command.env("API2BQ_LIMITS_RETRY_FIRST_WAIT_MS", "50");
        command
    }

    /// Starts a backfill. What it says goes into files, and its receipt too.
    fn start(&self, run: &Run, name: &str) -> Process {
        let mut command = self.backfill(run);
        command.arg("--summary-json").arg(self.file(run, name, "json"));
        Process::start(command, self.file(run, name, "txt"))
    }

    fn file(&self, run: &Run, name: &str, extension: &str) -> PathBuf {
        self.context.path(&format!("{}-{name}.{extension}", run.dataset))
    }

    fn said(&self, run: &Run, name: &str) -> String {
        std::fs::read_to_string(self.file(run, name, "txt")).expect("written")
    }

    /// Runs the command to its end, which must be a good one, and says what was left to do for it:
    /// windows to fetch, windows with an open intent, windows that were done.
    #[track_caller]
    fn complete(&self, run: &Run, name: &str) -> [usize; 3] {
        let status = self.start(run, name).end();
        assert_eq!(status.code(), Some(0), "{run:?}: {}", self.said(run, name));
        let receipt = std::fs::read_to_string(self.file(run, name, "json")).expect("written");
        let receipt: Value = serde_json::from_str(&receipt).expect("JSON");
        let mut left = [0; 3];
        for window in receipt["windows"].as_array().expect("a list") {
            let was = match (window["fetched"].as_bool(), window["resumed"].as_bool()) {
                (Some(true), _) => 0,
                (_, Some(false)) => 1,
                _ => 2,
            };
            left[was] += 1;
        }
        assert_eq!(left.iter().sum::<usize>(), 3, "{receipt}");
        left
    }

    #[track_caller]
    fn table_is_right(&mut self, run: &Run) {
        self.compare.staging(&self.warehouse.url(), &run.dataset);
    }
}

#[derive(Debug)]
struct Run {
    dataset: String,
    stage: String,
}

#[test]
fn a_killed_backfill_is_finished_by_the_same_command() {
    let mut ground = Ground::new();
    let wanted = setting("API2BQ_KILLS").unwrap_or(20);
    let (mut kills, mut cycles, mut left, mut promote_kills) = (0, 0, [0; 3], 0);
    while kills < wanted {
        cycles += 1;
        // An instant behind the end kills nobody; most instants are before it.
        assert!(cycles <= 20 + 5 * wanted, "{kills} kills in {cycles} cycles");
        let run = ground.next_run();
        let at = ground.instant();
        kills += u64::from(ground.start(&run, "first").kill_after(at));
        if ground.random.u32(..3) == 0 {
            // Recovery is killed too.
            let at = ground.instant();
            kills += u64::from(ground.start(&run, "second").kill_after(at));
        }
        let found = ground.complete(&run, "last");
        left.iter_mut().zip(found).for_each(|(all, one)| *all += one);
        ground.table_is_right(&run);
        if cycles % 4 == 0 {
            let at = ground.instant().div_f64(3.0);
            let process = Process::start(ground.promote(&run), ground.file(&run, "promote", "txt"));
            promote_kills += u64::from(process.kill_after(at));
            let promoted = Process::start(ground.promote(&run), ground.file(&run, "promote", "txt")).end();
            assert_eq!(promoted.code(), Some(0), "{run:?}: {}", ground.said(&run, "promote"));
            ground.compare.production(&ground.warehouse.url(), &run.dataset);
        }
        if cycles % 5 == 0 {
            assert_eq!(ground.complete(&run, "again"), [0, 0, 3], "{run:?}: everything is done");
        }
    }
    let [to_fetch, open, done] = left;
    println!(
        "{kills} kills of backfill and {promote_kills} of promote in {cycles} cycles of {:?}",
        ground.whole
    );
    println!("windows found afterwards: {to_fetch} to fetch, {open} with an open intent, {done} done");
}

#[test]
fn a_killed_warehouse_loses_and_doubles_nothing() {
    let mut ground = Ground::new();
    let wanted = setting("API2BQ_EMULATOR_KILLS").unwrap_or(5);
    let (mut kills, mut cycles, mut complete) = (0, 0, 0);
    while kills < wanted {
        cycles += 1;
        assert!(cycles <= 20 + 5 * wanted, "{kills} kills in {cycles} cycles");
        let run = ground.next_run();
        let mut backfill = ground.start(&run, "first");
        std::thread::sleep(ground.instant());
        kills += u64::from(backfill.is_alive());
        ground.warehouse.kill();
        std::thread::sleep(Duration::from_millis(ground.random.u64(..150)));
        ground.warehouse.restart(&ground.context);
        let status = backfill.end();
        let said = ground.said(&run, "first");
        match status.code() {
            Some(0) => complete += 1,
            // It gave up, and says which windows are missing.
            Some(3) => assert!(said.contains("resume with"), "{run:?}: {said}"),
            _ => panic!("{run:?}: {status}: {said}"),
        }
        ground.complete(&run, "last");
        ground.table_is_right(&run);
    }
    println!("{kills} kills of the warehouse under a backfill in {cycles} cycles of {:?}", ground.whole);
    println!("{complete} of the backfills completed all the same, the others when run again");
}

#[test]
fn two_at_once_give_one_table() {
    let mut ground = Ground::new();
    let pairs = setting("API2BQ_PAIRS").unwrap_or(3);
    let mut codes = std::collections::BTreeMap::<_, u64>::new();
    for _ in 0..pairs {
        let run = ground.next_run();
        let one = ground.start(&run, "one");
        std::thread::sleep(ground.instant().div_f64(2.0));
        let two = ground.start(&run, "two");
        for (name, process) in [("one", one), ("two", two)] {
            let status = process.end();
            let said = ground.said(&run, name);
            match status.code() {
                Some(0) => {}
                Some(3) => assert!(said.contains("resume with"), "{run:?}: {said}"),
                Some(4) => assert!(said.contains("hint: "), "{run:?}: {said}"),
                _ => panic!("{run:?}: {status}: {said}"),
            }
            *codes.entry(status.code()).or_default() += 1;
        }
        ground.complete(&run, "last");
        ground.table_is_right(&run);
        assert_eq!(ground.complete(&run, "again"), [0, 0, 3], "{run:?}: everything is done");
    }
    println!("{pairs} pairs; exit codes: {codes:?}");
}

#[test]
fn one_that_sleeps_is_overtaken_and_wakes_up_to_a_table_that_stays_right() {
    let mut ground = Ground::new();
    let wanted = setting("API2BQ_SLEEPS").unwrap_or(2);
    let (mut sleeps, mut cycles) = (0, 0);
    let mut codes = std::collections::BTreeMap::<_, u64>::new();
    while sleeps < wanted {
        cycles += 1;
        assert!(cycles <= 20 + 5 * wanted, "{sleeps} sleeps in {cycles} cycles");
        let run = ground.next_run();
        let mut sleeper = ground.start(&run, "sleeper");
        std::thread::sleep(ground.instant());
        if !sleeper.is_alive() {
            continue;
        }
        sleeper.signal("-STOP");
        ground.complete(&run, "other");
        ground.table_is_right(&run);
        if !sleeper.is_alive() {
            continue;
        }
        sleeps += 1;
        sleeper.signal("-CONT");
        let status = sleeper.end();
        let said = ground.said(&run, "sleeper");
        match status.code() {
            Some(0) => {}
            Some(3) => assert!(said.contains("resume with"), "{run:?}: {said}"),
            Some(4) => assert!(said.contains("hint: "), "{run:?}: {said}"),
            _ => panic!("{run:?}: {status}: {said}"),
        }
        *codes.entry(status.code()).or_default() += 1;
        ground.table_is_right(&run);
        assert_eq!(ground.complete(&run, "again"), [0, 0, 3], "{run:?}: everything is done");
    }
    println!(
        "{sleeps} sleeps in {cycles} cycles of {:?}; exit codes of the sleepers: {codes:?}",
        ground.whole
    );
}
