//! `api2bq demo`: the whole main job offline, over HTTP both ways.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::{Global, output, promote};
use crate::config::Pipeline;
use crate::demo::{self, Content, Flows};
use crate::effects::Effects;
use crate::emulator;
use crate::engine::{self, Engine};
use crate::error::Result;
use crate::partition::{Bound, Partition, SECONDS_PER_DAY, range};
use crate::pipeline::{Backfill, Order, World, connect};
use crate::plan::Until;
use crate::receipt::Allowed;
use crate::telemetry::say;

/// Run the whole main job offline: generated flows, embedded BigQuery, receipt, one query
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Starts the flows API and the embedded BigQuery in this process, backfills through the code that talks
to Google, promotes, and leaves everything in the data folder. Running it again resumes.

Examples:
  api2bq demo
  api2bq demo --rows 5000000 --days 10 --data-dir /tmp/demo")]
pub(super) struct Args {
    /// Records to generate, repeats included
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Days the records are spread over
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    days: u32,
    /// Where staged files and tables are kept
    #[arg(long, default_value = "api2bq-data", value_name = "FOLDER")]
    data_dir: PathBuf,
}

const DUPLICATES: f64 = 0.03;
const SEED: u64 = 1;
const QUESTION: &str = "\
SELECT protocol, COUNT(*) AS flows, SUM(byte_count) AS bytes
FROM flows
GROUP BY protocol
ORDER BY flows DESC";

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let flows = Flows { rows: args.rows, days: args.days, duplicates: DUPLICATES, seed: SEED };
    let source = demo::start(demo::Options { listen: any_port, content: Content::Generated(flows) }).await?;
    let engine = Engine::new(engine::Options::default())?;
    let data_dir = args.data_dir.join("warehouse");
    let warehouse = emulator::start(emulator::Options {
        listen: any_port,
        data_dir,
        engine,
        faults: emulator::Faults::default(),
    })
    .await?;
    say(&format!("flows API on {}, embedded BigQuery on {}\n", source.url(), warehouse.url()));

    let settings = vec![
        format!("source.url={}/api/v1/stream/flows", source.url()),
        // The port is another one each time; the records are the same, and so is the run.
        format!("source.identity=demo rows={} days={}", args.rows, args.days),
        format!("stage.url={}", args.data_dir.join("stage").display()),
    ];
    let pipeline = Pipeline::resolve("flows", &settings)?;
    let order = Order {
        range: range(Bound::Day(1), Bound::Day(i64::from(args.days)), pipeline.epoch)?,
        window_seconds: SECONDS_PER_DAY,
        jobs: 2,
        until: Until::Load,
        salt: String::new(),
    };
    let world = World { bigquery: Some(warehouse.url()), show: global.show(), ..World::default() };
    let receipt = Backfill::assemble(pipeline.clone(), &order, world).await?.run().await?;
    output::print(&output::receipt(&receipt))?;
    receipt.verdict(Allowed::Records(0), "api2bq demo")?;

    let bigquery = connect(&pipeline, Some(warehouse.url()), &Effects::default()).await?;
    // A larger demo in the same folder may have left later days; this one answers for its own.
    let last_day = Partition::of_day(pipeline.epoch, i64::from(args.days))?.date();
    say("promoting\n");
    let promoted =
        crate::promote::promote(&pipeline, &bigquery, pipeline.promote_days, Some(last_day)).await?;
    output::print(&format!("\n{}", promote::sentence(&promoted)))?;
    let answer = bigquery.query(&pipeline.warehouse.dataset, QUESTION).await?;
    output::print(&format!("\n{QUESTION}\n\n{}", output::rows(&answer)))?;
    say(&format!("\n{}\n", next_steps(&args)));
    warehouse.stop().await;
    source.stop().await;
    Ok(())
}

fn next_steps(args: &Args) -> String {
    let data = args.data_dir.display();
    format!(
        "Staged files and tables are in `{data}`. With your own source and Google's BigQuery:

  export GOOGLE_APPLICATION_CREDENTIALS=key.json GOOGLE_CLOUD_PROJECT=my-project
  api2bq backfill flows --from 1 --to {days} \\
      --set source.url=https://my.api/flows --set stage.url=gs://my-bucket/staging
  api2bq promote flows --days 30

or offline again, against the tables of this demo:

  api2bq emulator --port 9050 --data-dir {data}/warehouse
  export BIGQUERY_EMULATOR_HOST=http://127.0.0.1:9050
  api2bq promote flows
  api2bq status flows --set stage.url={data}/stage
  api2bq verify flows --set stage.url={data}/stage",
        days = args.days
    )
}
