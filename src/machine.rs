//! How much memory there is for this process.

use std::fs::read_to_string;
use std::path::Path;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes of the machine, or of the container that this process is in where that may have less. `None`:
/// nobody tells, as outside of Linux.
pub fn memory_bytes() -> Option<u64> {
    let total = read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits(line, Path::new(CGROUPS)));
    total.into_iter().chain(limits).min()
}

/// The line is `MemTotal:       24684060 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Those of a control group and of all around it. Its line is `0::/path` in version 2 and `N:memory:/path` in
/// version 1 (cgroups(7)); in a container the path may be one of the host's, and the files are at the root.
fn limits(line: &str, mounted: &Path) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (root, file) = match parts.next() {
        Some("") => (mounted.to_owned(), "memory.max"),
        Some(controllers) if controllers.split(',').any(|controller| controller == "memory") => {
            (mounted.join("memory"), "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let path = Path::new(parts.next().unwrap_or_default().trim_start_matches('/'));
    let limit = |folder: &Path| read_to_string(root.join(folder).join(file)).ok()?.trim().parse().ok();
    path.ancestors().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_in_kilobytes() {
        assert_eq!(total("MemTotal:       24684060 kB\nMemFree: 1 kB\n"), Some(24_684_060 * 1024));
        assert_eq!(total("MemTotal: lots"), None);
    }

    #[test]
    fn limits_of_groups_around_count_and_max_is_none() {
        let mounted = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = mounted.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        write("a/b/memory.max", "max\n");
        write("a/memory.max", "1000\n");
        write("memory/c/memory.limit_in_bytes", "2000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let of = |line| limits(line, mounted.path());
        assert_eq!(of("0::/a/b"), [1000]);
        assert_eq!(of("4:cpu,memory:/c"), [2000, 9_223_372_036_854_771_712]);
        // The host's path, seen from a container.
        assert_eq!(of("4:memory:/docker/0123"), [9_223_372_036_854_771_712]);
        assert_eq!(of("3:cpuset:/"), [0; 0]);
        assert_eq!(of(""), [0; 0]);
    }
}
