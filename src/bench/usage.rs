//! What a process has used of the machine.

use std::path::Path;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use sha2::{Digest, Sha256};

use crate::telemetry::peak_rss_bytes;

/// Of this process, up to now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) allocations: Option<u64>,
    pub(super) allocated_bytes: Option<u64>,
}

impl Usage {
    pub(super) fn now() -> Usage {
        let (allocations, allocated_bytes) = allocated().unzip();
        Usage {
            cpu: ProcessTime::try_now().map_or(Duration::ZERO, |time| time.as_duration()),
            allocations,
            allocated_bytes,
        }
    }

    pub(super) fn since(self, before: Usage) -> Usage {
        let less = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            allocations: less(self.allocations, before.allocations),
            allocated_bytes: less(self.allocated_bytes, before.allocated_bytes),
        }
    }
}

/// Allocations so far and their bytes; growing one counts as another.
#[cfg(feature = "count-allocations")]
fn allocated() -> Option<(u64, u64)> {
    let stats = stats_alloc::INSTRUMENTED_SYSTEM.stats();
    let number = stats.allocations + stats.reallocations;
    Some((number as u64, stats.bytes_allocated as u64))
}

#[cfg(not(feature = "count-allocations"))]
fn allocated() -> Option<(u64, u64)> {
    None
}

/// Forgets the peak of this process, so that the next one is that of what comes now. Linux only.
pub(super) fn forget_peak() {
    // Where it cannot be done, the peak is that of the set-up too: too high, never too low.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Highest resident memory since [`forget_peak`], without `held` bytes.
pub(super) fn peak_without(held: u64) -> Option<u64> {
    Some(peak_rss_bytes()?.saturating_sub(held))
}

/// CPU seconds of another process, and its highest resident memory.
pub(super) fn of_process(pid: u32) -> Option<(f64, u64)> {
    let folder = Path::new("/proc").join(pid.to_string());
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The name in the second field may hold anything; what comes behind its bracket are numbers.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    // 100 a second on every Linux that Rust's standard library runs on.
    let cpu = (ticks(11)? + ticks(12)?) as f64 / 100.0;
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((cpu, kilobytes * 1024))
}

/// What [`anchor`] does, for people.
pub(super) const ANCHOR: &str = "SHA-256 of 64 MiB, one core";

/// Work that no change of this program makes faster or slower.
pub(super) fn anchor() -> Duration {
    let block = vec![7; 1 << 20];
    let started = Instant::now();
    let mut hasher = Sha256::new();
    for _ in 0..64 {
        hasher.update(&block);
    }
    std::hint::black_box(hasher.finalize());
    started.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_in_cpu_time_and_other_processes_tell_theirs() {
        let before = Usage::now();
        let wall = anchor();
        let used = Usage::now().since(before);
        assert!(used.cpu > Duration::ZERO && wall > Duration::ZERO, "{used:?} {wall:?}");
        if cfg!(target_os = "linux") {
            let (_, peak) = of_process(std::process::id()).expect("our own");
            assert!(peak > 1 << 20, "{peak}");
            assert_eq!(of_process(u32::MAX), None);
        }
    }
}
