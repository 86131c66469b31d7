//! `gc`: leftovers go and nothing else does, not even under a backfill at work.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api2bq::config::Pipeline;
use api2bq::effects::{Clock, Door, Effects, Watcher};
use api2bq::error::Result;
use api2bq::partition::{SECONDS_PER_DAY, Window};
use api2bq::pipeline::{Backfill, Order, World, open_store};
use api2bq::plan::Until;
use api2bq::sweep::{self, Leftover};
use api2bq::telemetry::Show;
use futures::future::BoxFuture;

use crate::commands::{ask, body, files, half_done, json, record};
use crate::context::{RawSource, TestContext};

#[test]
fn gc_sweeps_old_leftovers_and_nothing_else() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let (source, loaded) = half_done(&context, Some(&emulator), &[]);
    assert_eq!(loaded.code, 3, "{loaded:?}");
    let stage = context.path("stage");
    let before = files(&stage, "");
    let run = files(&stage, "plan.json").remove(0).parent().expect("a folder").to_owned();
    let rejects = files(&stage, ".ndjson").remove(0);
    let scratch = stage.join(".scratch");
    let process = std::process::id();
    let leftovers = [
        run.join("w/0000172800-0000259200/20110103/00ff-12345678-0.parquet"),
        run.join("w/0000000000-0000086400/20110101/other.parquet"),
        run.join("w/0000000000-0000086400/.0123456789abcdef.part"),
        rejects.with_file_name("0000000000-0000086400-00000000.ndjson"),
        scratch.join("0123456789abcdef.part"),
        // No process has such a number: Linux stops at 4,194,304.
        scratch.join("api2bq-4999999-0123456789abcdef/20110101/0.parquet"),
    ];
    let kept = [
        run.join("w/0000172800-0000259200/20110103/notes.txt"),
        run.join("w/0000172800-0000259200/old.json"),
        stage.join("flows/notes.parquet"),
        stage.join("other/runs/0/w/0/20110101/a.parquet"),
        scratch.join(format!("api2bq-{process}-0123456789abcdef/0.parquet")),
    ];
    for path in leftovers.iter().chain(&kept) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, b"0123456789").expect("written");
    }
    let all = files(&stage, "");
    assert_eq!(all.len(), before.len() + leftovers.len() + kept.len());
    // All of it is younger than a day.
    let young = ask(&context, None, &["gc", "flows"]).success().stdout;
    assert!(young.contains("0 leftovers removed") && young.contains("7 are too young"), "{young}");
    let dry = ask(&context, None, &["gc", "flows", "--min-age", "0s", "--dry-run"]).success().stdout;
    assert!(dry.contains("6 leftovers would be removed, 60 B"), "{dry}");
    assert_eq!(files(&stage, ""), all);

    // A journal that cannot be read names nothing, so nothing may go.
    let entry = files(&run, "0001.json").remove(0);
    let whole = std::fs::read(&entry).expect("read");
    std::fs::write(&entry, &whole[..whole.len() - 1]).expect("written");
    let refused = ask(&context, None, &["gc", "flows", "--min-age", "0s"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stderr.contains("nothing was swept"), "{}", refused.stderr);
    std::fs::write(&entry, whole).expect("written");
    assert_eq!(files(&stage, ""), all);

    let swept = json(&ask(&context, None, &["gc", "flows", "--min-age", "0s", "--format", "json"]).success());
    assert_eq!(swept["swept"].as_array().map(Vec::len), Some(6), "{swept}");
    assert_eq!(swept["swept_bytes"], 60);
    let mut expected: Vec<PathBuf> = before.into_iter().chain(kept).collect();
    expected.sort();
    assert_eq!(files(&stage, ""), expected);
    for wrong in ["1", "h", "-1h", "1w", "99999999999999999999d"] {
        assert_eq!(ask(&context, None, &["gc", "flows", "--min-age", wrong]).code, 2, "{wrong}");
    }
    // Nothing that anybody needs is gone.
    let again = context.backfill(Some(&emulator), &source.url, 3, &["--set", "limits.attempts=1"]);
    assert!(again.stdout.contains("2 windows were there already"), "{again:?}");
    assert_eq!(ask(&context, Some(&emulator), &["verify", "flows"]).code, 3);
}

/// Sweeps between the moment a window's files are there and the intent that names them: the one
/// moment in which nothing but their age tells them from leftovers.
#[derive(Debug)]
struct SweepsTooSoon {
    pipeline: Pipeline,
    did: AtomicBool,
}

impl Watcher for SweepsTooSoon {
    fn before<'a>(&'a self, door: Door, what: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let is_intent =
                door == Door::Store && what.starts_with("create ") && what.ends_with("/0001.json");
            if is_intent && !self.did.swap(true, Ordering::SeqCst) {
                let store = open_store(&self.pipeline, &Effects::default())?;
                let swept = sweep::sweep(&store, "flows", Duration::ZERO, false).await?;
                assert!(swept.swept.iter().any(|swept| swept.kind == Leftover::Staged), "{swept:?}");
            }
            Ok(())
        })
    }

    fn after<'a>(&'a self, _: Door, _: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn a_file_swept_from_under_its_intent_costs_a_load_job_and_no_rows() {
    let context = TestContext::new();
    let emulator = context.emulator();
    let source = RawSource::start(vec![body(&[record(1, 1, "6"), record(2, 2, "6")])]);
    let set =
        [format!("stage.url={}", context.path("stage").display()), format!("source.url={}", source.url)];
    let pipeline = Pipeline::resolve("flows", &set).expect("a pipeline");
    let watcher = Arc::new(SweepsTooSoon { pipeline: pipeline.clone(), did: AtomicBool::new(false) });
    let watched = Arc::clone(&watcher) as Arc<dyn Watcher>;
    let world = World {
        effects: Effects::watched(watched, Clock::manual(1_700_000_000_000)),
        bigquery: Some(emulator.url.clone()),
        show: Show::Off,
    };
    let order = Order {
        range: Window { after: 0, before: SECONDS_PER_DAY },
        window_seconds: SECONDS_PER_DAY,
        jobs: 1,
        until: Until::Load,
        salt: String::new(),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let receipt = runtime.block_on(async {
        Backfill::assemble(pipeline, &order, world).await.expect("assembled").run().await.expect("it runs")
    });
    assert!(watcher.did.load(Ordering::SeqCst));
    let (_, error) = &receipt.failed[0];
    assert!(error.to_string().contains("load job `api2bq_flows"), "{error}");
    assert!(error.to_string().contains(".parquet"), "the missing file is named: {error}");
    let status = json(&ask(&context, None, &["status", "flows", "--format", "json"]).success());
    assert_eq!(status["run"]["windows"][0]["state"], "failed", "{status}");
    let proof = ask(&context, None, &["verify", "flows", "--offline"]);
    assert_eq!(proof.code, 7, "{proof:?}");
    // The same command puts the file back and loads it, under the next generation.
    let again = context.backfill(Some(&emulator), &source.url, 1, &[]).success();
    assert!(again.stderr.contains("staged file restored"), "{}", again.stderr);
    let proof = json(&ask(&context, Some(&emulator), &["verify", "flows", "--format", "json"]).success());
    assert_eq!(proof["checked"]["rows"], 2);
    let status = json(&ask(&context, None, &["status", "flows", "--format", "json"]).success());
    let job = status["run"]["windows"][0]["partitions"][0]["job_id"].as_str().expect("a job");
    assert!(job.contains("_20110101_g1_"), "{job}");
}
