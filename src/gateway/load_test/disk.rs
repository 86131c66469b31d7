//! What the disk itself takes to make 4 KiB durable: no gateway on it is faster than that.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::micros;
use super::report::{Fsync, Milliseconds, latencies};
use crate::error::{Error, Result};

const WRITES_MAX: u32 = 1000;
const TIME_MAX: Duration = Duration::from_secs(5);

/// Writes and syncs in `folder`, as the spool does, until it is known well enough.
pub(super) fn measure(folder: &Path) -> Result<Fsync> {
    let shown = folder.display();
    let cannot = |e| {
        Error::usage(format!("cannot measure the disk at `{shown}`"))
            .caused_by(e)
            .hint("`--spool` names a folder on the disk of the gateway's spool")
    };
    let path = folder.join(format!("api2bq-load-test-{}-{:08x}.tmp", std::process::id(), fastrand::u32(..)));
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(cannot)?;
    // Its name is not needed any more, and nothing stays behind, however this ends.
    std::fs::remove_file(&path).map_err(cannot)?;
    let (started, mut latency) = (Instant::now(), latencies());
    let block = [0x5a; 4096];
    for _ in 0..WRITES_MAX {
        let before = Instant::now();
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(cannot)?;
        latency.saturating_record(micros(before.elapsed()));
        if started.elapsed() > TIME_MAX {
            break;
        }
    }
    let latency_ms = Milliseconds::of(&latency);
    Ok(Fsync { folder: shown.to_string(), writes: latency.len(), latency: latency_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_measured_and_nothing_stays_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let fsync = measure(dir.path()).unwrap();
        assert!(fsync.writes > 0 && fsync.latency.p50 > 0.0 && fsync.latency.p50 <= fsync.latency.max);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = measure(&dir.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
