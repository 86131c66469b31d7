//! The embedded BigQuery against plain DataFusion: a million staged flows loaded day by day and promoted.
//!
//! The server is asked over HTTP, decodes and copies every file, keeps what a load job keeps and makes the
//! result durable; DataFusion reads the same files where they are and writes one Parquet file.
//! Both write production; the ratio a : b is the price of being a warehouse.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use api2bq::bigquery::{LoadJob, QueryJob, TableId, Write};
use api2bq::config::Pipeline;
use api2bq::demo::{self, Content, Flows};
use api2bq::effects::Effects;
use api2bq::emulator::{self, Faults};
use api2bq::engine::{self, Engine};
use api2bq::partition::{Partition, SECONDS_PER_DAY, Window};
use api2bq::pipeline::{Backfill, Order, World, connect};
use api2bq::plan::Until;
use chrono::NaiveDate;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::logical_expr::lit;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use divan::Bencher;
use divan::counter::ItemsCount;
use tempfile::TempDir;

use corpus::RUNTIME;

#[allow(dead_code, reason = "each bench uses a part of it")]
mod corpus;

fn main() {
    divan::main();
}

const ROWS: u64 = 1_000_000;
const DAYS: u32 = 5;

/// Day partition (`20110101`) and Parquet file, of all five days.
struct Staged {
    _folder: TempDir,
    files: Vec<(String, PathBuf)>,
}

static STAGED: LazyLock<Staged> = LazyLock::new(|| RUNTIME.block_on(stage()));

#[divan::bench(sample_count = 5, sample_size = 1)]
fn a_embedded_load_and_promote(bencher: Bencher) {
    LazyLock::force(&STAGED);
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| TempDir::new().expect("a folder"))
        .bench_refs(|folder| RUNTIME.block_on(embedded(folder.path())));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn b_plain_datafusion(bencher: Bencher) {
    plain(bencher, |context| assert!(context.remove_optimizer_rule(engine::latest::RULE)));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn c_datafusion_with_our_operator(bencher: Bencher) {
    plain(bencher, |_| {});
}

async fn stage() -> Staged {
    let flows = Flows { rows: ROWS, days: DAYS, duplicates: 0.03, seed: 1 };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = demo::Options { listen, content: Content::Generated(flows) };
    let server = demo::start(options).await.expect("a port is free");
    let folder = TempDir::new().expect("a folder");
    let pipeline = corpus::pipeline(&[
        format!("source.url={}/api/v1/stream/flows", server.url()),
        format!("stage.url={}", folder.path().display()),
    ]);
    let range = Window { after: 0, before: i64::from(DAYS) * SECONDS_PER_DAY };
    let order =
        Order { range, window_seconds: SECONDS_PER_DAY, jobs: 2, until: Until::Stage, salt: String::new() };
    let backfill = Backfill::assemble(pipeline, &order, World::default()).await.expect("it assembles");
    backfill.run().await.expect("it runs");
    let mut files = Vec::new();
    collect(folder.path(), &mut files);
    files.sort();
    Staged { _folder: folder, files }
}

fn collect(dir: &Path, files: &mut Vec<(String, PathBuf)>) {
    for entry in std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").path()) {
        if entry.is_dir() {
            collect(&entry, files);
        } else if entry.extension().is_some_and(|e| e == "parquet") {
            let day = entry.parent().and_then(Path::file_name).expect("a day's folder");
            files.push((day.to_string_lossy().replace('-', ""), entry));
        }
    }
}

fn pipeline() -> Pipeline {
    corpus::pipeline(&[])
}

fn partition(day: &str) -> Partition {
    Partition::from_date(NaiveDate::parse_from_str(day, "%Y%m%d").expect("a day"))
}

/// `2011-01-01 00:00:00` of `20110101`.
fn midnight(day: &str) -> String {
    format!("{}-{}-{} 00:00:00", &day[..4], &day[4..6], &day[6..])
}

/// One load job a day over HTTP, then the promote query into a table.
async fn embedded(folder: &Path) {
    let options = emulator::Options {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        data_dir: folder.to_owned(),
        engine: Engine::new(engine::Options::default()).expect("an engine"),
        faults: Faults::default(),
    };
    let server = emulator::start(options).await.expect("it starts");
    let pipeline = pipeline();
    let dataset = pipeline.warehouse.dataset.as_str();
    let bigquery = connect(&pipeline, Some(server.url()), &Effects::default()).await.expect("it connects");
    let table = |name: &str| TableId::new(&pipeline.warehouse.project, dataset, name);
    bigquery.ensure_dataset(dataset).await.expect("a dataset");
    let staging = table("flows_staging");
    bigquery.ensure_staging_table(&staging, &pipeline.columns).await.expect("a table");
    let files = &STAGED.files;
    for (day, file) in files {
        let destination = staging.partition(partition(day));
        let id = format!("load_{day}");
        let uri = format!("file://{}", file.display());
        let load = LoadJob {
            id: &id,
            destination: &destination,
            columns: &pipeline.columns,
            source_uris: vec![uri],
            write: Write::Truncate,
        };
        bigquery.load(&load).await.expect("an answer").expect("it loads");
    }
    let (first, last) = (&files.first().expect("files").0, &files.last().expect("files").0);
    let sql = pipeline.promote_sql.replace("{staging_table}", "flows_staging");
    let query = QueryJob {
        id: "promote",
        sql: &sql,
        dataset,
        destination: &table("flows"),
        timestamps: vec![("first_day", midnight(first)), ("last_day", midnight(last))],
    };
    bigquery.query_into(&query).await.expect("an answer").expect("it promotes");
    let made = bigquery.table(query.destination).await.expect("an answer").expect("a table");
    assert!(made.rows > ROWS * 9 / 10, "{made:?}");
}

/// The same SELECT over the same files, and its rows into one file.
fn plain(bencher: Bencher, prepare: impl Fn(&SessionContext) + Sync) {
    LazyLock::force(&STAGED);
    bencher.counter(ItemsCount::new(ROWS)).with_inputs(|| TempDir::new().expect("a folder")).bench_refs(
        |folder| {
            RUNTIME.block_on(async {
                let engine = Engine::new(engine::Options::default()).expect("an engine");
                let config: SessionConfig = engine.config();
                let context = SessionContext::new_with_state(engine.state_builder(config).build());
                prepare(&context);
                let mut all = None;
                for (day, file) in &STAGED.files {
                    let path = file.to_string_lossy().into_owned();
                    let rows = context.read_parquet(path, ParquetReadOptions::default()).await.expect("rows");
                    let day = lit(ScalarValue::Utf8(Some(day.clone())));
                    let rows = rows.with_column("_partitiontime", day).expect("a column");
                    all = Some(match all {
                        None => rows,
                        Some(before) => rows.union(before).expect("the same columns"),
                    });
                }
                let all = all.expect("files").into_view();
                context.register_table("flows_staging", all).expect("a table");
                let sql = pipeline()
                    .promote_sql
                    .replace("`{staging_table}`", "flows_staging")
                    .replace("WHERE _PARTITIONTIME BETWEEN @first_day AND @last_day", "")
                    .replace("_PARTITIONTIME", "_partitiontime");
                let production = folder.path().join("production.parquet");
                let frame = context.sql(&sql).await.expect("a plan");
                let path = production.to_string_lossy().into_owned();
                let options = DataFrameWriteOptions::new().with_single_file_output(true);
                frame.write_parquet(&path, options, None).await.expect("it writes");
                assert!(production.is_file());
            });
        },
    );
}
