//! `api2bq emulator`: the embedded BigQuery-compatible server on a port of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::output;
use crate::emulator::{self, Fault, Faults, Options, StorageOptions};
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::serve::Server;

/// Serve BigQuery's REST API from a local folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Covered: datasets; tables, views, snapshots, their partitions, policies and past (`table@ms`); load
jobs (Parquet, Avro, JSON, CSV from gs://, file:// and uploads), insertAll, copy and extract jobs;
GoogleSQL: SELECT, INSERT, UPDATE, DELETE, MERGE, CREATE, ALTER, DROP, scripts without variables,
INFORMATION_SCHEMA, required partition filters. The README has a table of it.
Cloud Storage is served beside it: a bucket is a folder, an object a file in it, and gs:// in a job
means these buckets (or, where the server is started with STORAGE_EMULATOR_HOST, those there).
Policies are kept, not enforced: whoever reaches the port may do everything.
Anything else is refused with an error, never run with another meaning.

Faults, each for the next N calls or jobs, then over. `@TEXT` behind one keeps it to calls whose
`METHOD /path`, or jobs whose id, has TEXT in it:
  503=N                   refuse a call by 503 backendError
  429=N, rate-limit=N     refuse a call by rateLimitExceeded, under 429 or 403
  drop=N, drop-after=N    hang up without an answer: before doing what was asked, or after
  drop-after-insert=N     insert a job, then hang up
  late-insert=K:N         hang up on the insert of a job, which lands K calls later
  lose-job=N              answer the insert of a job that nobody finds afterwards
  running-polls=K:N       show a job as RUNNING at the next K polls, whatever it is
  fail-job=REASON:N       end a job with that errorResult and without effect
  row-count-off=N         report one row less than a load job has written
  storage-503=N           refuse a call to Cloud Storage by 503
  storage-lost=N          store an object, and answer 503

Examples:
  api2bq emulator --port 9050 --data-dir ./wh
  BIGQUERY_EMULATOR_HOST=http://127.0.0.1:9050 api2bq promote flows
  api2bq emulator --port 9050 --gcs-port 4443 --gcs-dir ./buckets --data-dir ./wh
  api2bq emulator --fault drop-after-insert=1 --fault 503=3@jobs
  STORAGE_EMULATOR_HOST=http://127.0.0.1:9050 \\
      api2bq backfill flows --from 1 --to 1 --set stage.url=gs://bucket/x")]
pub(super) struct Args {
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 9050)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// Where tables are kept
    #[arg(long, default_value = "api2bq-data/warehouse", value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Port for Cloud Storage alone; without it both services share the one port
    #[arg(long, value_name = "PORT")]
    gcs_port: Option<u16>,
    /// Where buckets are kept, each a folder with objects as files [default: `buckets` in the data folder]
    #[arg(long, value_name = "FOLDER")]
    gcs_dir: Option<PathBuf>,
    /// Memory of all queries together, in MiB; more spills to disk
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..))]
    memory_mib: u32,
    /// Do something wrong on purpose, so that a client can be tested; may be repeated
    #[arg(long = "fault", value_name = "SPEC")]
    faults: Vec<Fault>,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let engine = Engine::new(engine::Options {
        memory_bytes: (args.memory_mib as usize) << 20,
        ..engine::Options::default()
    })?;
    let listen = SocketAddr::new(args.host, args.port);
    let faults = Faults::default();
    for fault in args.faults {
        faults.arm(fault);
    }
    let storage = StorageOptions {
        listen: args.gcs_port.map(|port| SocketAddr::new(args.host, port)),
        dir: args.gcs_dir,
    };
    let options = Options { listen, data_dir: args.data_dir, engine, faults };
    let servers = emulator::start_with_storage(options, storage).await?;
    let (bigquery, storage) = (servers.bigquery.url(), servers.storage.as_ref().map(Server::url));
    let mut text = format!("serving BigQuery on {bigquery}\n");
    if let Some(storage) = &storage {
        text += &format!("serving Cloud Storage on {storage}\n");
    }
    text += &format!("export BIGQUERY_EMULATOR_HOST={bigquery}\n");
    if let Some(storage) = &storage {
        text += &format!("export STORAGE_EMULATOR_HOST={storage}\n");
    }
    output::print(&text)?;
    servers.bigquery.wait().await;
    Err(Error::failed("the server stopped"))
}
