//! The main job up to staged files: a source in this process, HTTP over loopback, two days' windows at once.
//!
//! A million records over five days, as `api2bq demo`. The server's share of the two cores is in every figure.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use api2bq::demo::{self, Content, Flows};
use api2bq::effects::Effects;
use api2bq::error::Result;
use api2bq::partition::{SECONDS_PER_DAY, Window};
use api2bq::pipeline::{Backfill, Order, World, open_source};
use api2bq::plan::Until;
use api2bq::serve::Server;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use futures::TryStreamExt;
use tempfile::TempDir;

use corpus::RUNTIME;

#[allow(dead_code, reason = "each bench uses a part of it")]
mod corpus;

fn main() {
    divan::main();
}

const ROWS: u64 = 1_000_000;
const DAYS: u32 = 5;
const RANGE: Window = Window { after: 0, before: DAYS as i64 * SECONDS_PER_DAY };

#[divan::bench(sample_count = 5, sample_size = 1)]
fn a_xml_to_staged_parquet(bencher: Bencher) {
    bench(bencher, "xml", true, Some(Until::Stage));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn b_xml_without_gzip_to_staged_parquet(bencher: Bencher) {
    bench(bencher, "xml", false, Some(Until::Stage));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn c_ndjson_to_staged_parquet(bencher: Bencher) {
    bench(bencher, "ndjson", true, Some(Until::Stage));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn d_anchor_xml_decoded_and_dropped(bencher: Bencher) {
    bench(bencher, "xml", true, Some(Until::Decode));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn e_anchor_xml_fetched_and_dropped(bencher: Bencher) {
    bench(bencher, "xml", true, None);
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn f_anchor_xml_without_gzip_fetched_and_dropped(bencher: Bencher) {
    bench(bencher, "xml", false, None);
}

fn bench(bencher: Bencher, format: &'static str, gzip: bool, until: Option<Until>) {
    let flows = Flows { rows: ROWS, days: DAYS, duplicates: 0.03, seed: 1 };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = demo::Options { listen, content: Content::Generated(flows) };
    let server = RUNTIME.block_on(demo::start(options)).expect("a port is free");
    // As a task, so that the work is where a backfill's is.
    let run = |folder: &TempDir, until: Option<Until>| {
        let settings = settings(&server, folder.path(), format, gzip);
        let work = async move {
            match until {
                Some(until) => backfill(&settings, until).await,
                None => fetch(&settings).await,
            }
        };
        RUNTIME.block_on(RUNTIME.spawn(work)).expect("no panic").expect("the run is complete")
    };
    let bytes = run(&TempDir::new().expect("a folder"), None);
    bencher
        .counter(ItemsCount::new(ROWS))
        .counter(BytesCount::new(bytes))
        .with_inputs(|| TempDir::new().expect("a folder"))
        .bench_refs(|folder| run(folder, until));
}

fn settings(server: &Server, folder: &Path, format: &str, gzip: bool) -> Vec<String> {
    vec![
        format!("source.url={}/api/v1/stream/flows", server.url()),
        format!("source.format={format}"),
        format!("source.gzip={}", if gzip { "on" } else { "off" }),
        format!("stage.url={}", folder.display()),
    ]
}

/// The stages put together as `api2bq backfill` does; gives the bytes of the bodies.
async fn backfill(settings: &[String], until: Until) -> Result<u64> {
    let pipeline = corpus::pipeline(settings);
    let order = Order { range: RANGE, window_seconds: SECONDS_PER_DAY, jobs: 2, until, salt: String::new() };
    let receipt = Backfill::assemble(pipeline, &order, World::default()).await?.run().await?;
    assert!(receipt.failed.is_empty(), "{:?}", receipt.failed);
    let counts = receipt.windows.iter().map(|window| window.counts);
    assert_eq!(counts.clone().map(|c| c.records).sum::<u64>(), ROWS);
    Ok(counts.map(|c| c.bytes).sum())
}

/// Two windows at a time as a backfill has, and nothing done with them.
async fn fetch(settings: &[String]) -> Result<u64> {
    let source = open_source(&corpus::pipeline(settings), &Effects::default())?;
    let fetch = async |window| {
        let body = source.open(window).await?;
        body.stream.try_fold(0, async |sum, bytes| Ok(sum + bytes.len() as u64)).await
    };
    let mut bytes = 0;
    for pair in RANGE.split(SECONDS_PER_DAY).chunks(2) {
        let both = futures::future::try_join_all(pair.iter().map(|window| fetch(*window))).await?;
        bytes += both.iter().sum::<u64>();
    }
    Ok(bytes)
}
