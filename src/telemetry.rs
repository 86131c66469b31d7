//! What a run shows while it works, and what the machine says about it. All of it on stderr.

mod transfer;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

pub use transfer::{Scanning, Transfer, Waiting};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Bars that redraw, for terminals.
    Bars,
    /// A line every ten seconds, for logs.
    Lines,
    Off,
}

const LINE_EVERY: Duration = Duration::from_secs(10);

/// The bars on the terminal, so that log lines can step around them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Writes log lines to stderr, above the bars where there are some.
#[derive(Debug)]
pub struct LogLines;

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match BARS.get() {
            Some(bars) => bars.suspend(|| io::stderr().write_all(bytes))?,
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Progress of one run. Cloned into every window's task.
#[derive(Debug, Clone)]
pub struct Progress {
    totals: Arc<Totals>,
    bars: Option<Bars>,
    _lines: Option<Arc<AbortOnDrop>>,
}

#[derive(Debug)]
struct Totals {
    started: Instant,
    windows: u64,
    windows_done: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Clone)]
struct Bars {
    all: MultiProgress,
    run: ProgressBar,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Progress {
    pub fn new(show: Show, windows: usize) -> Progress {
        let totals = Arc::new(Totals {
            started: Instant::now(),
            windows: windows as u64,
            windows_done: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let bars = (show == Show::Bars).then(|| {
            let all = BARS.get_or_init(MultiProgress::new).clone();
            let run = all.add(ProgressBar::new(windows as u64));
            run.set_style(style("{bar:24} {pos}/{len} windows  {msg}"));
            run.enable_steady_tick(Duration::from_millis(200));
            Bars { all, run }
        });
        let lines = (show == Show::Lines).then(|| {
            let totals = Arc::clone(&totals);
            Arc::new(AbortOnDrop(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(LINE_EVERY).await;
                    let done = totals.windows_done.load(Ordering::Relaxed);
                    say(&format!("{done}/{} windows  {}\n", totals.windows, totals.rates()));
                }
            })))
        });
        Progress { totals, bars, _lines: lines }
    }

    /// A window that starts. `records` is how many it will have, when the source says.
    pub fn window(&self, name: &str, records: Option<u64>) -> WindowProgress {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.all.add(match records {
                Some(records) => ProgressBar::new(records),
                None => ProgressBar::new_spinner(),
            });
            bar.set_style(style(match records {
                Some(_) => "{bar:24} {prefix}: {human_pos}/{human_len} records  {per_sec}  ETA {eta}  {msg}",
                None => "{spinner} {prefix}: {human_pos} records  {per_sec}  {msg}",
            }));
            bar.set_prefix(name.to_owned());
            bar
        });
        WindowProgress {
            totals: Arc::clone(&self.totals),
            run: self.bars.as_ref().map(|b| b.run.clone()),
            bar,
        }
    }

    pub fn window_done(&self) {
        let done = self.totals.windows_done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(bars) = &self.bars {
            bars.run.set_position(done);
            bars.run.set_message(self.totals.rates());
        }
    }

    /// Takes the bars away, so that what is printed next stands alone.
    pub fn clear(&self) {
        if let Some(bars) = &self.bars {
            bars.run.finish_and_clear();
            let _ = bars.all.clear();
        }
    }
}

/// Progress of one window. Its bar goes away when this is dropped.
#[derive(Debug)]
pub struct WindowProgress {
    totals: Arc<Totals>,
    run: Option<ProgressBar>,
    bar: Option<ProgressBar>,
}

impl WindowProgress {
    pub fn add(&self, records: u64, bytes: u64) {
        self.totals.records.fetch_add(records, Ordering::Relaxed);
        self.totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(records);
        }
        if let Some(run) = &self.run {
            run.set_message(self.totals.rates());
        }
    }

    pub fn doing(&self, what: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }
}

impl Drop for WindowProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Totals {
    fn rates(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let records = self.records.load(Ordering::Relaxed);
        let megabytes = self.bytes.load(Ordering::Relaxed) as f64 / 1e6;
        let done = self.windows_done.load(Ordering::Relaxed);
        let eta = match done {
            0 => String::new(),
            done => {
                let left = seconds / done as f64 * self.windows.saturating_sub(done) as f64;
                format!("  ETA {}:{:02}", left as u64 / 60, left as u64 % 60)
            }
        };
        format!(
            "{} records  {}/s  {:.0} MB/s{eta}",
            HumanCount(records),
            HumanCount((records as f64 / seconds) as u64),
            megabytes / seconds
        )
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constant").progress_chars("█▌ ")
}

/// Writes to stderr. Nobody reading it is no reason to stop.
pub fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Highest resident memory of this process so far, in bytes; `None` where the system does not say.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
