//! An embedded BigQuery in the test's own process, and REST calls to one.

use std::path::Path;

use api2bq::emulator::{self, Faults};
use api2bq::engine::{self, Engine};
use api2bq::serve::Server;
use serde_json::Value;
use tokio::runtime::Runtime;

/// In this process, so that a test can arm it and see that its faults were met.
pub struct Embedded {
    pub url: String,
    pub faults: Faults,
    _server: Server,
    _runtime: Runtime,
}

impl Embedded {
    pub fn start(data_dir: &Path, faults: &[&str]) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let armed = Faults::default();
        let options = emulator::Options {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data_dir: data_dir.to_owned(),
            engine: Engine::new(engine::Options::default()).expect("an engine"),
            faults: armed.clone(),
        };
        let server = runtime.block_on(emulator::start(options)).expect("it starts");
        let embedded = Embedded { url: server.url(), faults: armed, _server: server, _runtime: runtime };
        embedded.arm(faults);
        embedded
    }

    pub fn arm(&self, faults: &[&str]) {
        for fault in faults {
            self.faults.arm(fault.parse().expect("a fault"));
        }
    }
}

/// A REST call to the emulator, as anybody may make it.
pub fn rest(emulator_url: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    try_rest(emulator_url, method, path, body).expect("an answer")
}

/// The same of an emulator that may be gone before it has answered.
pub fn try_rest(emulator_url: &str, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let url = format!("{emulator_url}/bigquery/v2/projects/api2gbq/{path}");
    runtime.block_on(async {
        let mut request = reqwest::Client::new().request(method.parse().expect("a method"), url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.unwrap_or(Value::Null)))
    })
}

/// The ids of all jobs whose id has `part` in it, with how they ended.
pub fn jobs(emulator_url: &str, part: &str) -> Vec<(String, Option<String>)> {
    let (_, list) = rest(emulator_url, "GET", "jobs", None);
    let mut found: Vec<_> = list["jobs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|job| (&job["jobReference"]["jobId"], &job["errorResult"]["reason"]))
        .map(|(id, reason)| (id.as_str().expect("an id").to_owned(), reason.as_str().map(str::to_owned)))
        .filter(|(id, _)| id.contains(part))
        .collect();
    found.sort();
    found
}
