//! `api2bq gateway`: takes JSON rows by HTTP, and loads them.

mod passwd;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::{duration, interrupted, output};
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Limits, Pace, Settings, spool, track};
use crate::serve::Tls;
use crate::telemetry::say;

/// Take JSON rows by HTTP, acknowledge them once durable, load them once
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
POST /v1/PIPELINE takes one object, an array, or with Content-Type application/x-ndjson an object a
line; gzip too. So does /ic/api/integration/v1/flows/rest/PIPELINE/1.0/stream. The answer says how
many rows were accepted and which were rejected, and comes once the accepted ones are on the disk.
The same request with the same Idempotency-Key is stored once, for 24 hours. GET / is a page for
senders; /openapi.json, /v1/PIPELINE/metadata, /healthz, /readyz and /metrics are there too.

Rows are appended to `warehouse.table`, to the day (UTC) on which they came. There are two ways out:
  --out batch    every --load-every they become one load job; each acknowledged row is loaded once,
                 whenever the gateway, the machine or BigQuery stops: the next start goes on
  --out stream   they go by insertAll within a second, each at least once: after a kill or a lost
                 answer rows are sent again under the same insertId, which BigQuery drops for about
                 a minute, as well as it can. Rows that it refuses become rejects:
                 `api2bq rejects PIPELINE --gateway`. gateway.template_suffix, skip_invalid_rows and
                 ignore_unknown_values are passed on
If the disk fails to sync, the gateway ends with exit code 1. If the spool is full, senders get 503
until rows have left. SIGTERM and Ctrl-C end it when open requests are answered. With --tls-cert it
speaks TLS 1.2 and 1.3 and nothing else; SIGHUP reads certificate and key again.

With --track A,B requests are found by the values that these columns have in them: GET
/track?value=WH2&since=1h, or `api2bq track`, says of each whether it is accepted, sealed, loaded,
rejected or failed, by which job and why. A user finds what that user sent; an --operator finds all.

Built in is `inventory`: WH_ID, Item_Name, Item_id, Quantity_Available, Quantity_Requested and
Backlog, into DataLoad.OIC. Your own is a pipeline.toml of which name, [warehouse], [gateway] and
[[columns]] count.

Examples:
  api2bq gateway passwd --auth-file users.txt ann
  api2bq gateway inventory --auth-file users.txt --spool ./spool
  api2bq gateway inventory --auth-file users.txt --out stream
  curl -u ann -d '{\"WH_ID\":\"WH1\",\"Item_id\":\"15\"}' -H 'Content-Type: application/json' \\
    http://127.0.0.1:8080/v1/inventory
  api2bq gateway inventory --auth-file users.txt --track WH_ID,Item_id --operator ann
  api2bq gateway ./mine.toml --auth-file users.txt --listen 0.0.0.0:8443 --host gw.example.com \\
    --tls-cert chain.pem --tls-key key.pem"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// A built-in pipeline (`inventory`) or the path of a pipeline.toml
    #[arg(required = true)]
    pipeline: Option<String>,
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// A name by which it is reached, beside addresses and localhost; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The server's certificate in PEM, with those that signed it behind it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Users and hashes of their passwords, as `gateway passwd` writes them
    #[arg(long, required = true, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Where rows wait until they are loaded
    #[arg(long, default_value = "api2bq-data/spool", value_name = "FOLDER")]
    spool: PathBuf,
    /// Bytes that may wait there, in MiB; one more, and senders get 503
    #[arg(long, default_value_t = 4096, value_name = "MIB", value_parser = clap::value_parser!(u64).range(32..))]
    spool_mib_max: u64,
    /// How rows leave, instead of the pipeline's `gateway.out`
    #[arg(long, value_enum)]
    out: Option<Out>,
    /// How often rows leave [default: 90s, 960 of the 1,500 load jobs that a table takes a day; 500ms for
    /// stream]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    load_every: Option<Duration>,
    /// Load jobs a day, failed ones included; then rows wait until the next day
    #[arg(long, default_value_t = 1400, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1500))]
    jobs_per_day: u64,
    /// Bytes of a body, packed and unpacked, in MiB
    #[arg(long, default_value_t = 16, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=64))]
    body_mib_max: u32,
    /// Connections at once; when they are used up, the one that was quiet for longest is closed
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections_max: u32,
    /// One to three columns by which requests are found, the primary one first: GET /track, `api2bq track`
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    track: Vec<String>,
    /// Keep bodies too, to be shown with the requests; they may hold secrets
    #[arg(long, requires = "track")]
    trace: bool,
    /// How long requests are found after they came, and loaded batches stay in the journal one by one
    #[arg(long, default_value = "7d", value_name = "DURATION", value_parser = duration)]
    keep: Duration,
    /// A user who finds what others sent, too; may be repeated
    #[arg(long = "operator", value_name = "USER", requires = "track")]
    operators: Vec<String>,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Out {
    Batch,
    Stream,
}

#[derive(Debug, Subcommand)]
enum Command {
    Passwd(passwd::Args),
}

pub(super) async fn run(args: Args) -> Result<()> {
    if let Some(Command::Passwd(args)) = args.command {
        return passwd::run(&args);
    }
    let missing = || Error::usage("a pipeline and `--auth-file` are needed");
    let (name, auth_file) = (args.pipeline.ok_or_else(missing)?, args.auth_file.ok_or_else(missing)?);
    let mut set = args.set;
    set.extend(args.out.map(|out| match out {
        Out::Batch => "gateway.out=batch".to_owned(),
        Out::Stream => "gateway.out=stream".to_owned(),
    }));
    let pipeline = Pipeline::resolve_for_gateway(&name, &set)?;
    let every = args.load_every.unwrap_or(Pace::every(pipeline.gateway.way_out()?));
    for (flag, time) in [("--load-every", every), ("--keep", args.keep)] {
        if time.is_zero() {
            return Err(Error::usage(format!("`{flag}` must be longer than nothing")));
        }
    }
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::read(certificate, key)?),
        _ => None,
    };
    if tls.is_none() && !args.listen.ip().is_loopback() {
        tracing::warn!(listen = %args.listen, "passwords and rows come in the clear; give it a certificate by `--tls-cert`, or let only a proxy with TLS reach it");
    }
    let gateway = Gateway::start(Settings {
        pipeline,
        listen: args.listen,
        hosts: args.hosts,
        auth_file,
        spool_dir: args.spool,
        spool: spool::Options { disk_bytes_max: args.spool_mib_max << 20, ..spool::Options::default() },
        limits: Limits { body_bytes_max: (args.body_mib_max as usize) << 20, ..Limits::default() },
        pace: Pace { every, jobs_per_day: args.jobs_per_day },
        connections_max: args.connections_max as usize,
        tls: tls.clone(),
        keep: args.keep,
        track: (!args.track.is_empty()).then_some(track::Options {
            fields: args.track,
            trace: args.trace,
            keep: args.keep,
            operators: args.operators,
        }),
    })
    .await?;
    output::print(&format!("taking rows for `{name}` on {}\n", gateway.url()))?;
    tokio::select! {
        ended = gateway.run(interrupted()) => ended,
        never = reload_on_hangup(tls) => match never {},
    }
}

/// Certificates are renewed every few weeks, by programs that send SIGHUP.
async fn reload_on_hangup(tls: Option<Tls>) -> Infallible {
    #[cfg(unix)]
    if let Some(tls) = tls
        && let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
    {
        while hangup.recv().await.is_some() {
            match tls.reload() {
                Ok(()) => say("certificate and key were read again\n"),
                Err(error) => tracing::error!(%error, "the certificate stays as it was"),
            }
        }
    }
    std::future::pending().await
}
