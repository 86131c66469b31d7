//! `api2bq emulator`: the embedded BigQuery-compatible server on a port of its own.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::output;
use crate::emulator::{self, Options};
use crate::engine::{self, Engine};
use crate::error::{Error, Result};

/// Serve BigQuery's REST API from a local folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Covered: datasets, tables, load jobs (Parquet from file:// and gs://), query jobs, jobs.query,
tabledata.list, ingestion-time day partitions, `$YYYYMMDD` decorators, required partition filters,
and the part of Cloud Storage's XML API that staging needs.
Anything else is refused with an error, never run with another meaning.

Examples:
  api2bq emulator --port 9050 --data-dir ./wh
  BIGQUERY_EMULATOR_HOST=http://127.0.0.1:9050 api2bq promote flows
  STORAGE_EMULATOR_HOST=http://127.0.0.1:9050 api2bq backfill flows --from 1 --to 1 --set stage.url=gs://bucket/x")]
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
    /// Memory of all queries together, in MiB; more spills to disk
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..))]
    memory_mib: u32,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let engine = Engine::new(engine::Options {
        memory_bytes: (args.memory_mib as usize) << 20,
        ..engine::Options::default()
    })?;
    let listen = SocketAddr::new(args.host, args.port);
    let server = emulator::start(Options { listen, data_dir: args.data_dir, engine }).await?;
    output::print(&format!("serving BigQuery on {0}\nexport BIGQUERY_EMULATOR_HOST={0}\n", server.url()))?;
    server.wait().await;
    Err(Error::failed("the server stopped"))
}
