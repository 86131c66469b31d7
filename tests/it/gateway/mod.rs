//! The gateway's HTTP side over raw sockets: what comes in, on purpose or by mistake.

mod answers;
mod commands;
mod crowds;
mod damage;
mod disks;
mod load_test;
mod loads;
mod refusals;
mod storms;
mod strangers;
mod streams;
mod tls;
mod tracking;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use api2bq::effects::{Clock, Effects};
use api2bq::gateway::auth::{Gate, Ration, Users, hash_password};
use api2bq::gateway::front::{self, Options};
use api2bq::gateway::spool::{self, CommitOptions, Folder, Log, Spool};
use api2bq::gateway::track::{self, Tracking};
use api2bq::gateway::{Head, Letter, Limits, Metrics, Remembered};
use api2bq::retry::Policy;
use api2bq::schema::{Column, ColumnType, Columns, Mode};
use api2bq::serve::{Server, Tls};
use api2bq::stage::Store;
use base64::Engine as _;
use serde_json::Value;

/// A gateway in this process, whose spool stays when it is stopped.
pub struct Gateway {
    dir: tempfile::TempDir,
    server: Option<Server>,
    pub spool: Option<Arc<Spool<Folder>>>,
    pub addr: SocketAddr,
    settings: Settings,
}

#[derive(Clone)]
pub struct Settings {
    pub users: String,
    pub limits: Limits,
    pub connections_max: usize,
    pub spool: spool::Options,
    pub ration: Ration,
    pub tls: Option<Tls>,
    pub track: Option<track::Options>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            users: format!("ann:{}\n", hash_password(b"secret").expect("a hash")),
            limits: Limits::default(),
            connections_max: 64,
            spool: spool::Options::default(),
            ration: Ration { burst: 1000, every: Duration::from_secs(1) },
            tls: None,
            track: None,
        }
    }
}

/// What an answer is.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// `status reason`
    pub fn problem(&self) -> String {
        format!("{} {}", self.status, self.json()["error"]["reason"].as_str().unwrap_or_default())
    }
}

pub fn columns() -> Columns {
    let column = |name: &str, kind, mode| Column { name: name.into(), kind, mode, path: None };
    Columns::new(vec![
        column("WH_ID", ColumnType::String, Mode::Required),
        column("Item_id", ColumnType::Numeric, Mode::Nullable),
    ])
    .expect("columns")
}

impl Gateway {
    pub async fn start() -> Gateway {
        Gateway::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Gateway {
        let dir = tempfile::tempdir().expect("a folder");
        let addr = "127.0.0.1:0".parse().expect("an address");
        let mut gateway = Gateway { dir, server: None, spool: None, addr, settings };
        gateway.restart().await;
        gateway
    }

    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        drop(self.spool.take());
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        let Settings { users, limits, connections_max, spool, ration, tls, track } = self.settings.clone();
        let disk = Folder::open(&self.dir.path().join("spool")).expect("a folder");
        let (log, mended) = Log::open(disk.clone(), spool).expect("a log");
        assert_eq!(mended, []);
        let mut heads: Vec<Head> = Vec::new();
        for sealed in log.sealed() {
            let records = spool::read(&disk, sealed.id).expect("readable");
            heads.extend(records.iter().map(|(_, bytes)| Letter::parse(bytes).expect("a letter").head));
        }
        let spool = Arc::new(Spool::start(disk, log, CommitOptions::default()).expect("a thread"));
        let tracking = track.map(|options| {
            let stage = format!("file://{}", self.dir.path().join("stage").display());
            let store = Store::open(&stage, Effects::default(), Policy::default()).expect("a store");
            let (spool, table) = (self.dir.path().join("spool"), "p.d.t".to_owned());
            let tracking = Tracking::open(options, &spool, store, "inventory", &columns(), table);
            Arc::new(tracking.expect("a folder"))
        });
        let options = Options {
            listen: "127.0.0.1:0".parse().expect("an address"),
            hosts: vec!["gateway.example".into()],
            connections_max,
            tls,
            pipeline: "inventory".into(),
            columns: columns(),
            columns_id: String::new(),
            gate: Gate::new(Users::parse(&users, "users").expect("users"), ration).expect("a gate"),
            limits,
            remembered: Remembered::default(),
            metrics: Arc::new(Metrics::new()),
            tracking,
            clock: Clock::default(),
        };
        let server = front::start(options, Arc::clone(&spool), heads).await.expect("it listens");
        self.addr = server.addr();
        (self.server, self.spool) = (Some(server), Some(spool));
    }

    /// The letters that the spool has.
    pub async fn letters(&self) -> Vec<Letter> {
        let spool = self.spool.as_ref().expect("started");
        spool.seal().await.expect("sealed");
        let mut letters = Vec::new();
        for sealed in spool.sealed().await.expect("listed") {
            let records = spool.read(sealed.id).expect("readable");
            letters.extend(records.iter().map(|(_, bytes)| Letter::parse(bytes).expect("a letter")));
        }
        letters
    }

    /// Sends bytes and reads all that comes back until the other side closes.
    pub async fn raw(&self, bytes: impl Into<Vec<u8>>) -> String {
        let (addr, bytes) = (self.addr, bytes.into());
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = connect(addr);
            let _ = stream.write_all(&bytes);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        });
        answer.await.expect("no panic")
    }

    pub async fn send(&self, method_path: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!(
            "{method_path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        parse(&self.raw([head.as_bytes(), body].concat()).await)
    }

    pub async fn post(&self, headers: &str, body: impl AsRef<[u8]>) -> Answer {
        let headers = format!("{}{headers}", ann());
        self.send("POST /v1/inventory", &headers, body.as_ref()).await
    }
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream
}

pub fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

pub fn authorization(credentials: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
    format!("Authorization: Basic {encoded}\r\n")
}

pub fn ann() -> String {
    authorization("ann:secret")
}

pub const ROW: &str = r#"{"WH_ID":"WH1","Item_id":"15"}"#;
