//! `api2bq source`: the flows API, with generated or given records.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::output;
use crate::demo::{self, Content, Flows, Options};
use crate::error::{Error, Result};

/// Serve the flows API with generated or given records
#[derive(Debug, clap::Args)]
#[command(after_help = "\
GET /api/v1/stream/flows?scanned_after=A&scanned_before=B&limit=N&format=xml|json
A is exclusive, B inclusive; day d is ((d-1)*86400, d*86400]. The same seed gives the same bytes.

Examples:
  api2bq source --port 5000 --rows 1000000 --days 3 --duplicates 0.03 --seed 7
  api2bq source --records my_flows.csv
  curl 'http://127.0.0.1:5000/api/v1/stream/flows?scanned_before=86400&limit=3'")]
pub(super) struct Args {
    /// Port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 5000)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// Records to generate, repeats included
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Days the records are spread over
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    days: u32,
    /// Share of records that repeat an earlier id with other values
    #[arg(long, default_value_t = 0.03, value_parser = share)]
    duplicates: f64,
    /// Makes other records of the same kind
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Serve the records of this CSV file instead (a header with the ten columns)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rows", "days", "duplicates", "seed"])]
    records: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=0.5).contains(&share) => Ok(share),
        _ => Err("want a share from 0 to 0.5".into()),
    }
}

pub(super) async fn run(args: Args) -> Result<()> {
    let content = match &args.records {
        Some(path) => Content::Given(Arc::new(demo::read_records(path)?)),
        None => Content::Generated(Flows {
            rows: args.rows,
            days: args.days,
            duplicates: args.duplicates,
            seed: args.seed,
        }),
    };
    let server = demo::start(Options { listen: SocketAddr::new(args.host, args.port), content }).await?;
    output::print(&format!("serving flows on {}/api/v1/stream/flows\n", server.url()))?;
    server.wait().await;
    Err(Error::failed("the server stopped"))
}
