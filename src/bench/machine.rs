//! Where a figure comes from: without that it says nothing.

use std::fs::read_to_string;

use serde::{Deserialize, Serialize};

/// The machine. `None` is what it does not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: Option<String>,
    /// That this process may use.
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    /// As `Debian GNU/Linux 13, Linux 6.12.1`.
    pub os: String,
    pub arch: String,
    /// Of the last minute, as the bench began: what else the machine was doing.
    pub load_average: Option<f64>,
}

impl Machine {
    pub(super) fn this() -> Machine {
        let file = |path: &str| read_to_string(path).ok();
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(|line| {
                line.trim_start_matches([' ', '\t', ':', '=']).trim_matches(['"', ' ']).to_owned()
            })
        };
        let name = file("/etc/os-release").and_then(|text| value(&text, "PRETTY_NAME"));
        let kernel = file("/proc/sys/kernel/osrelease").map(|release| format!("Linux {}", release.trim()));
        let os: Vec<String> = name.into_iter().chain(kernel).collect();
        Machine {
            cpu: file("/proc/cpuinfo").and_then(|text| value(&text, "model name")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: crate::machine::memory_bytes(),
            os: if os.is_empty() { std::env::consts::OS.to_owned() } else { os.join(", ") },
            arch: std::env::consts::ARCH.to_owned(),
            load_average: file("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    pub version: String,
    /// `release` or `debug`; figures of the latter are good for nothing but tests.
    pub profile: String,
    pub counts_allocations: bool,
}

impl Build {
    pub(super) fn this() -> Build {
        Build {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            counts_allocations: cfg!(feature = "count-allocations"),
        }
    }
}
