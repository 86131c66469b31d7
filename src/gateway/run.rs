//! A gateway put together: spool, keys, the HTTP side and the way out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use super::auth::{Gate, Ration, Users};
use super::body::Limits;
use super::front;
use super::judged::JudgedBy;
use super::kept_keys::KeptKeys;
use super::keys::Remembered;
use super::letter::{Head, Letter};
use super::metrics::Metrics;
use super::out::{Out, Pace};
use super::spool::{self, CommitOptions, Folder, Log, Mended, Spool};
use super::track::{self, Tracking};
use crate::bigquery::{self, BigQuery, TableId};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::load::Destination;
use crate::pipeline::{destination, open_store, stage_options};
use crate::retry::Policy;
use crate::serve::{Server, Tls};

/// How a gateway is run.
#[derive(Debug)]
pub struct Settings {
    pub pipeline: Pipeline,
    pub listen: SocketAddr,
    /// Names by which it is reached, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    pub auth_file: PathBuf,
    pub spool_dir: PathBuf,
    pub spool: spool::Options,
    pub limits: Limits,
    pub pace: Pace,
    pub connections_max: usize,
    pub tls: Option<Tls>,
    /// How long the journal has batches one by one once they are loaded, but two days at least.
    pub keep: Duration,
    /// `None`: requests are not tracked.
    pub track: Option<track::Options>,
}

/// A gateway at work.
#[derive(Debug)]
pub struct Gateway {
    server: Server,
    spool: Arc<Spool<Folder>>,
    out: oneshot::Receiver<Result<()>>,
    stop_out: watch::Sender<bool>,
}

/// How long open requests may take to end, once the gateway is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

impl Gateway {
    /// Opens the spool, mends it if need be, and starts to listen and to load.
    pub async fn start(settings: Settings) -> Result<Gateway> {
        let pipeline = &settings.pipeline;
        let (effects, remembered) = (Effects::default(), Remembered::default());
        let users = Users::read(&settings.auth_file)?;
        if let Some(unknown) = settings.track.iter().flat_map(|t| &t.operators).find(|name| !users.has(name))
        {
            let shown = settings.auth_file.display();
            return Err(Error::usage(format!("`--operator {unknown}` is no user of `{shown}`")));
        }
        let gate = Gate::new(users, Ration::default())?;
        let store = open_store(pipeline, &effects)?;
        let scratch = match pipeline.limits.spill_dir.as_str() {
            "" => store.scratch(),
            folder => PathBuf::from(folder),
        };
        let bigquery = connect(pipeline, &effects).await?;

        let disk = Folder::open(&settings.spool_dir)?;
        let (log, mended) = Log::open(disk.clone(), settings.spool)?;
        tell(&mended);
        let columns_disk = Folder::open(&settings.spool_dir.join("columns"))?;
        let judged_by = JudgedBy::open(&columns_disk, &pipeline.name, &pipeline.columns)?;
        let keys_disk = Folder::open(&settings.spool_dir.join("keys"))?;
        let clock = effects.clock.clone();
        let (keys, mut heads, mended) = KeptKeys::open(keys_disk, remembered.age_max, clock.clone())?;
        tell(&mended);
        heads.extend(waiting(&disk, &log, &judged_by)?);
        let metrics = Arc::new(Metrics::new());
        let told = Arc::clone(&metrics);
        let commits = CommitOptions {
            on_commit: Some(Arc::new(move |commit| told.committed(commit))),
            ..CommitOptions::default()
        };
        let spool = Arc::new(Spool::start(disk, log, commits)?);

        let warehouse = &pipeline.warehouse;
        let table = TableId::new(&warehouse.project, &warehouse.dataset, &warehouse.table);
        let tracking = match settings.track {
            Some(options) => {
                let (name, columns, shown) = (&pipeline.name, &pipeline.columns, table.to_string());
                let open = Tracking::open(options, &settings.spool_dir, store.clone(), name, columns, shown);
                Some(Arc::new(open?))
            }
            None => None,
        };
        let out = Out {
            destination: Destination { table, ..destination(pipeline) },
            spool: Arc::clone(&spool),
            keys,
            stage: stage_options(pipeline),
            store,
            scratch,
            bigquery,
            retry: retry(pipeline),
            effects,
            pace: settings.pace,
            settings: pipeline.gateway.clone(),
            metrics: Arc::clone(&metrics),
            tracking: tracking.clone(),
            looks_back: true,
            keep: settings.keep,
            archived: None,
        };
        let options = front::Options {
            listen: settings.listen,
            hosts: settings.hosts,
            connections_max: settings.connections_max,
            tls: settings.tls,
            pipeline: pipeline.name.clone(),
            columns: pipeline.columns.clone(),
            columns_id: judged_by.id().to_owned(),
            gate,
            limits: settings.limits,
            remembered,
            metrics,
            tracking,
            clock,
        };
        let server = front::start(options, Arc::clone(&spool), heads).await?;
        let (stop_out, stopped) = watch::channel(false);
        let out = on_its_own_thread(out, stopped)?;
        Ok(Gateway { server, spool, out, stop_out })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Works until `stop` ends: then open requests are answered, and what is in the spool stays there for
    /// the next start. An error is one that a restart, or a person, has to mend.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        tokio::select! {
            () = stop => {}
            why = self.spool.failed() => {
                // At once, and without a word to those who wait: nothing is known of their rows.
                return Err(Error::failed(format!("the disk of the spool has failed: {why}"))
                    .hint("what was acknowledged is in the spool; look after the disk, then start the gateway again"));
            }
            ended = &mut self.out => {
                let ended = ended.map_err(|e| Error::failed("the way out died").caused_by(e))?;
                self.server.stop_within(STOP_PATIENCE).await;
                return ended.and_then(|()| Err(Error::failed("the way out ended")));
            }
        }
        self.server.stop_within(STOP_PATIENCE).await;
        self.stop_out.send_replace(true);
        self.out.await.map_err(|e| Error::failed("the way out died").caused_by(e))?
    }
}

/// Starts the way out. All its reading of segments and writing of files is done by one thread: were it done by
/// whichever is free, the allocator would in time keep a segment's worth of memory for each of them.
fn on_its_own_thread(out: Out, stopped: watch::Receiver<bool>) -> Result<oneshot::Receiver<Result<()>>> {
    let cannot = |e| Error::failed("cannot start the thread of the way out").caused_by(e);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let (end, ended) = oneshot::channel();
    let work = move || {
        // Who would be told is gone when the gateway is.
        let _ = end.send(runtime.block_on(out.run(stopped)));
    };
    std::thread::Builder::new().name("way-out".into()).spawn(work).map_err(cannot)?;
    Ok(ended)
}

/// Nothing is given up for good: a gateway runs for months.
fn retry(pipeline: &Pipeline) -> Policy {
    Policy { retries_max: u64::MAX, ..pipeline.limits.retry() }
}

async fn connect(pipeline: &Pipeline, effects: &Effects) -> Result<BigQuery> {
    BigQuery::connect(bigquery::Options {
        project: pipeline.warehouse.project.clone(),
        location: pipeline.warehouse.location.clone(),
        poll_max: Duration::from_secs(pipeline.warehouse.poll_seconds_max.max(1)),
        retry: retry(pipeline),
        effects: effects.clone(),
        emulator: None,
    })
    .await
}

/// The requests with keys whose rows wait in the spool; all of its rows must say what they said.
fn waiting(disk: &Folder, log: &Log<Folder>, judged_by: &JudgedBy) -> Result<Vec<Head>> {
    let mut heads = Vec::new();
    for sealed in log.sealed() {
        for (_, bytes) in spool::read(disk, sealed.id)? {
            let letter = Letter::parse(&bytes)?;
            judged_by.check(&letter)?;
            let head = letter.head;
            if head.key.is_some() {
                heads.push(head);
            }
        }
    }
    Ok(heads)
}

fn tell(mended: &[Mended]) {
    for mended in mended {
        match mended {
            Mended::SetAside { .. } => tracing::error!("{mended}"),
            _ => tracing::warn!("{mended}"),
        }
    }
}
