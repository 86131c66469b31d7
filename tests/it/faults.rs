//! Bad days of BigQuery and Cloud Storage, one at a time: what the program makes of them, and the table.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::compare::Compare;
use crate::context::{Ended, Running, TestContext};
use crate::embedded::{Embedded, jobs, rest};
use crate::process::at_once;

/// A source, what it must become, and a folder for everything else.
struct Scene {
    context: TestContext,
    source: Running,
    compare: Mutex<Compare>,
}

impl Scene {
    fn new() -> Self {
        let context = TestContext::new();
        let source =
            context.source(&["--rows", "6000", "--days", "3", "--duplicates", "0.03", "--seed", "7"]);
        let compare = Mutex::new(Compare::with(&source.url, 3));
        Scene { context, source, compare }
    }

    fn embedded(&self, name: &str, faults: &[&str]) -> Embedded {
        Embedded::start(&self.context.path(name), faults)
    }

    /// One window after the other, so that calls come in one order.
    fn backfill(&self, emulator_url: &str, stage: Stage<'_>, more: &[&str]) -> Ended {
        let url = format!("source.url={}", self.source.flows());
        let (stage_url, storage_url) = match stage {
            Stage::Folder(name) => (format!("stage.url={}", self.context.path(name).display()), ""),
            Stage::Bucket(storage_url) => ("stage.url=gs://bucket/stage".to_owned(), storage_url),
        };
        let arguments = ["backfill", "flows", "--from", "1", "--to", "3", "--jobs", "1", "--set", &url];
        let mut command = self.context.command(arguments.into_iter().chain(["--set", &stage_url]));
        command.args(["--set", "limits.attempts=4"]).args(more).env("BIGQUERY_EMULATOR_HOST", emulator_url);
        command.env("STORAGE_EMULATOR_HOST", storage_url).env("API2BQ_LIMITS_RETRY_FIRST_WAIT_MS", "20");
        command.output().expect("it runs").into()
    }

    fn promote(&self, emulator_url: &str) -> Ended {
        let mut command = self.context.command(["promote", "flows"]);
        command.env("BIGQUERY_EMULATOR_HOST", emulator_url).env("API2BQ_LIMITS_RETRY_FIRST_WAIT_MS", "20");
        command.output().expect("it runs").into()
    }

    #[track_caller]
    fn staging_is_right(&self, emulator_url: &str) {
        self.compare.lock().expect("no panic before").staging(emulator_url, "LANL");
    }

    #[track_caller]
    fn production_is_right(&self, emulator_url: &str) {
        self.compare.lock().expect("no panic before").production(emulator_url, "LANL");
    }
}

#[derive(Clone, Copy)]
enum Stage<'a> {
    Folder(&'a str),
    /// In the Cloud Storage of this server.
    Bucket(&'a str),
}

/// The journal entries of every window below a stage, by window: the names of their events.
fn journal(stage: &Path) -> Vec<(String, Vec<Value>)> {
    let run = std::fs::read_dir(stage.join("flows/runs")).expect("runs").flatten().next().expect("a run");
    let mut windows = Vec::new();
    for window in std::fs::read_dir(run.path().join("w")).expect("windows").flatten() {
        let entries = (1..).map_while(|number| {
            let bytes = std::fs::read(window.path().join(format!("{number:04}.json"))).ok()?;
            Some(serde_json::from_slice::<Value>(&bytes).expect("JSON"))
        });
        windows.push((window.file_name().to_string_lossy().into_owned(), entries.collect()));
    }
    windows.sort_by_key(|(name, _)| name.split('-').next().and_then(|n| n.parse::<u64>().ok()));
    windows
}

fn events(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["event"].as_str().expect("a name")).collect()
}

#[test]
fn weather_in_bigquery_is_waited_for_and_the_table_is_right() {
    let scene = Scene::new();
    let cases: [&[&str]; 17] = [
        &["503=3"],
        &["503=3@/jobs"],
        &["503=1@POST", "503=1@GET"],
        &["503=3@/tables"],
        &["rate-limit=3@/jobs"],
        &["rate-limit=2"],
        &["drop=3"],
        &["drop=2@POST"],
        &["drop-after=3"],
        &["drop-after=1@/datasets", "drop-after=1@/tables"],
        &["drop-after-insert=3"],
        // Between the insert that was lost and the one that is sent again, or after both.
        &["late-insert=1:3"],
        &["late-insert=2:3"],
        &["running-polls=5:3"],
        &["fail-job=backendError:2"],
        &["fail-job=rateLimitExceeded@20110102"],
        &["drop-after-insert=1", "fail-job=internalError", "running-polls=2", "503=1@GET"],
    ];
    at_once(&cases, |index, faults| {
        let name = format!("w{index}");
        let bigquery = scene.embedded(&name, faults);
        let ended = scene.backfill(&bigquery.url, Stage::Folder(&format!("stage{index}")), &[]);
        assert_eq!(ended.code, 0, "{faults:?}: {ended:?}");
        assert!(ended.stdout.contains("6,000 records in ="), "{faults:?}: {}", ended.stdout);
        assert!(bigquery.faults.are_spent(), "{faults:?}: not all were met: {:?}", bigquery.faults);
        scene.staging_is_right(&bigquery.url);
    });
}

#[test]
fn weather_in_cloud_storage_is_waited_for_and_what_was_stored_is_known_again() {
    let scene = Scene::new();
    let cases: [&[&str]; 6] = [
        &["storage-503=3"],
        &["storage-503=2@.json"],
        &["storage-503=2@.parquet"],
        &["storage-lost=1@plan.json"],
        // S09: stored, answered by 503, refused by 412 when sent again, known again by its bytes.
        &["storage-lost=3@0001.json"],
        &["storage-lost=3@.parquet", "storage-lost=3@0002.json"],
    ];
    at_once(&cases, |index, faults| {
        let storage = scene.embedded(&format!("gcs{index}"), faults);
        let data_dir = scene.context.path(&format!("bq{index}"));
        let bigquery = scene.context.server_with(
            &["emulator", "--data-dir", data_dir.to_str().expect("UTF-8")],
            &[("STORAGE_EMULATOR_HOST", &storage.url)],
        );
        let ended = scene.backfill(&bigquery.url, Stage::Bucket(&storage.url), &[]);
        assert_eq!(ended.code, 0, "{faults:?}: {ended:?}");
        assert!(storage.faults.are_spent(), "{faults:?}: not all were met: {:?}", storage.faults);
        scene.staging_is_right(&bigquery.url);
        // One load job a day: nobody took his own entry for another's.
        assert_eq!(jobs(&bigquery.url, "api2bq_").len(), 3, "{faults:?}");
    });
}

/// S11: what is wrong with the content is wrong with it tomorrow. One job, one entry, no second try.
#[test]
fn a_job_that_is_refused_for_its_content_is_journaled_and_not_tried_again_blindly() {
    let scene = Scene::new();
    let bigquery = scene.embedded("wh", &["fail-job=invalid@20110102"]);
    let ended = scene.backfill(&bigquery.url, Stage::Folder("stage"), &[]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let last = ended.stderr.trim_end().lines().rev().take(2).collect::<Vec<_>>().join("\n");
    for words in ["'id'", ".parquet", "20110102", "api2bq backfill flows"] {
        assert!(last.contains(words), "`{words}` is not in the last lines:\n{last}");
    }
    let tried = jobs(&bigquery.url, "_20110102_");
    assert_eq!(tried.len(), 1, "{tried:?}");
    assert!(tried[0].0.contains("_g0_") && tried[0].1.as_deref() == Some("invalid"), "{tried:?}");
    let windows = journal(&scene.context.path("stage"));
    assert_eq!(events(&windows[0].1), ["intent", "loaded"]);
    assert_eq!(events(&windows[1].1), ["intent", "failed", "stopped"]);
    assert_eq!(events(&windows[2].1), ["intent", "loaded"]);
    assert_eq!(windows[1].1[1]["generation"], 0);
    let reason = windows[1].1[1]["reason"].as_str().expect("a reason");
    assert!(reason.contains("invalid") && reason.contains("'id'") && reason.contains(".parquet"), "{reason}");

    // A person who has seen to it says so by the same command: the next generation, the same files.
    scene.backfill(&bigquery.url, Stage::Folder("stage"), &[]).success();
    let tried = jobs(&bigquery.url, "_20110102_");
    assert_eq!(tried.len(), 2, "{tried:?}");
    assert!(tried[1].0.contains("_g1_") && tried[1].1.is_none(), "{tried:?}");
    scene.staging_is_right(&bigquery.url);
}

/// S12: BigQuery says that it has one row less than was staged.
#[test]
fn a_job_that_loaded_other_than_all_rows_is_a_mismatch_and_its_window_is_not_done() {
    let scene = Scene::new();
    let bigquery = scene.embedded("wh", &["row-count-off=1@20110102"]);
    let ended = scene.backfill(&bigquery.url, Stage::Folder("stage"), &[]);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(ended.stderr.contains("flows_staging$20110102"), "{}", ended.stderr);
    let windows = journal(&scene.context.path("stage"));
    assert_eq!(events(&windows[0].1), ["intent", "loaded"]);
    assert!(!events(&windows[1].1).contains(&"loaded"), "{windows:?}");
    assert_eq!(events(&windows[2].1), ["intent", "loaded"]);
    // Once every later run ended with 7: it found that very job, with that very count.
    let again = scene.backfill(&bigquery.url, Stage::Folder("stage"), &[]).success();
    assert!(again.stdout.contains("records in ="), "{}", again.stdout);
    let tried = jobs(&bigquery.url, "_20110102_");
    assert!(tried.len() == 2 && tried.iter().any(|job| job.0.contains("_g1_")), "{tried:?}");
    scene.staging_is_right(&bigquery.url);
}

/// An insert that was answered and is not there afterwards: the same id is sent again.
#[test]
fn a_job_that_nobody_finds_is_sent_again() {
    let scene = Scene::new();
    let bigquery = scene.embedded("wh", &["lose-job=2@20110102"]);
    scene.backfill(&bigquery.url, Stage::Folder("stage"), &[]).success();
    assert!(bigquery.faults.are_spent(), "{:?}", bigquery.faults);
    let tried = jobs(&bigquery.url, "_20110102_");
    assert!(tried.len() == 1 && tried[0].0.contains("_g0_"), "{tried:?}");
    scene.staging_is_right(&bigquery.url);
}

#[test]
fn more_weather_than_attempts_ends_with_the_list_of_windows_and_the_next_run_completes() {
    let scene = Scene::new();
    let bigquery = scene.embedded("wh", &["fail-job=backendError:4@20110102"]);
    let ended = scene.backfill(&bigquery.url, Stage::Folder("stage"), &["--summary-json", "run.json"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    let summary = std::fs::read_to_string(scene.context.path("run.json")).expect("written");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let failed = summary["failed"].as_array().expect("a list");
    assert_eq!(failed.len(), 1, "{summary}");
    assert_eq!(failed[0]["window"], json!({"after": 86_400, "before": 172_800}), "{summary}");
    assert_eq!(summary["windows"].as_array().expect("a list").len(), 2, "{summary}");
    assert_eq!(jobs(&bigquery.url, "_20110102_").len(), 4);
    scene.backfill(&bigquery.url, Stage::Folder("stage"), &[]).success();
    let tried = jobs(&bigquery.url, "_20110102_");
    assert!(tried.len() == 5 && tried[4].0.contains("_g4_"), "{tried:?}");
    scene.staging_is_right(&bigquery.url);
}

#[test]
fn promote_stands_the_same_weather() {
    let scene = Scene::new();
    let cases: [&[&str]; 6] = [
        &["503=2@/queries", "503=2@/jobs"],
        &["drop-after-insert=1", "rate-limit=1@/queries", "503=1@GET"],
        &["drop-after=2@/queries", "drop-after=1@POST"],
        &["late-insert=1@promote"],
        &["running-polls=4@promote", "drop=1@promote"],
        &["fail-job=backendError:2@promote"],
    ];
    at_once(&cases, |index, faults| {
        let bigquery = scene.embedded(&format!("p{index}"), &[]);
        scene.backfill(&bigquery.url, Stage::Folder(&format!("stage{index}")), &[]).success();
        bigquery.arm(faults);
        let ended = scene.promote(&bigquery.url);
        assert_eq!(ended.code, 0, "{faults:?}: {ended:?}");
        assert!(bigquery.faults.are_spent(), "{faults:?}: not all were met: {:?}", bigquery.faults);
        scene.staging_is_right(&bigquery.url);
        scene.production_is_right(&bigquery.url);
    });
}

/// E07 and E09, by hand: an id is used once, and a job with a source missing leaves its table alone.
#[test]
fn ids_are_used_once_and_a_missing_source_fails_the_whole_job() {
    let scene = Scene::new();
    let bigquery = scene.embedded("wh", &[]);
    scene.backfill(&bigquery.url, Stage::Folder("stage"), &[]).success();
    let (id, _) = jobs(&bigquery.url, "_20110102_").remove(0);
    let (_, before) = rest(&bigquery.url, "GET", &format!("jobs/{id}"), None);
    let mut other = json!({"jobReference": {"jobId": id}, "configuration": before["configuration"]});
    other["configuration"]["load"]["destinationTable"]["tableId"] = json!("flows_staging$20110103");
    let (status, answer) = rest(&bigquery.url, "POST", "jobs", Some(other.clone()));
    assert_eq!((status, &answer["error"]["errors"][0]["reason"]), (409, &json!("duplicate")));
    assert_eq!(rest(&bigquery.url, "GET", &format!("jobs/{id}"), None).1, before);

    let uris = &mut other["configuration"]["load"]["sourceUris"];
    let there = uris[0].clone();
    *uris = json!([there, format!("{}-not", there.as_str().expect("a URL"))]);
    other["jobReference"]["jobId"] = json!("e09");
    let (status, _) = rest(&bigquery.url, "POST", "jobs", Some(other));
    assert_eq!(status, 200);
    let job = (0..500).find_map(|_| {
        let (_, job) = rest(&bigquery.url, "GET", "jobs/e09", None);
        if job["status"]["state"] == "DONE" {
            return Some(job);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        None
    });
    let job = job.expect("the job ends");
    assert_eq!(job["status"]["errorResult"]["reason"], "notFound", "{job}");
    scene.staging_is_right(&bigquery.url);
}

/// hyper drops a handler whose client is gone. A job that was made and not started by then stayed PENDING
/// for ever, and the backfill that found it polled for as long.
#[test]
fn an_insert_whose_client_is_gone_never_happened_or_runs_to_its_end() {
    let context = TestContext::new();
    let bigquery = Embedded::start(&context.path("wh"), &[]);
    let address = bigquery.url.trim_start_matches("http://");
    for number in 0..60 {
        let table = json!({"projectId": "api2gbq", "datasetId": "d", "tableId": "t"});
        let load =
            json!({"destinationTable": table, "sourceFormat": "PARQUET", "sourceUris": ["file:///not"]});
        let reference = json!({"jobId": format!("gone{number}")});
        let body = json!({"jobReference": reference, "configuration": {"load": load}}).to_string();
        let head = format!(
            "POST /bigquery/v2/projects/api2gbq/jobs HTTP/1.1\r\nHost: {address}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut client = TcpStream::connect(address).expect("it listens");
        client.write_all(format!("{head}{body}").as_bytes()).expect("it takes a request");
        // Gone before the handler starts, while it writes the job's document, or when it waits for the job.
        std::thread::sleep(Duration::from_micros(number * 200));
    }
    let open = || {
        let (_, list) = rest(&bigquery.url, "GET", "jobs?maxResults=100", None);
        let states = list["jobs"].as_array().expect("a list").iter().map(|job| job["state"] != "DONE");
        let open = states.clone().filter(|open| *open).count();
        (states.count(), open)
    };
    let ended = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        matches!(open(), (1.., 0))
    });
    assert!(ended, "jobs and open ones: {:?}", open());
}

#[test]
fn the_flag_arms_a_server_that_says_what_bigquery_says() {
    let context = TestContext::new();
    let data_dir = context.path("wh");
    let folder = data_dir.to_str().expect("UTF-8");
    let faults = ["--fault", "503=1@/jobs", "--fault", "rate-limit=1@/jobs", "--fault", "storage-503=1"];
    let bigquery = context.server(&[&["emulator", "--data-dir", folder][..], &faults].concat());
    let reason = |answer: &Value| answer["error"]["errors"][0]["reason"].as_str().map(str::to_owned);
    for (status, why) in [(503, Some("backendError")), (403, Some("rateLimitExceeded")), (200, None)] {
        let (found, answer) = rest(&bigquery.url, "GET", "jobs", None);
        assert_eq!((found, reason(&answer).as_deref()), (status, why));
    }
}

#[test]
fn a_fault_that_there_is_not_is_refused_with_those_that_there_are() {
    let context = TestContext::new();
    for wrong in ["504=1", "503", "fail-job=:1"] {
        let ended = context.run(["emulator", "--port", "0", "--fault", wrong]);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(&format!("`{wrong}` is no fault")), "{}", ended.stderr);
        assert!(ended.stderr.contains("drop-after-insert=N"), "{}", ended.stderr);
    }
}
