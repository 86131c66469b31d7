//! Progress of rows that are read, and of waiting for a job that says nothing of its progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanCount, MultiProgress, ProgressBar};

use super::{AbortOnDrop, BARS, LINE_EVERY, Show, say, style};

/// Rows on their way. What is shown goes away when this is dropped.
#[derive(Debug)]
pub struct Transfer {
    bar: Option<ProgressBar>,
    rows: Arc<AtomicU64>,
    _lines: Option<AbortOnDrop>,
}

impl Transfer {
    pub fn new(show: Show, total: u64) -> Transfer {
        let bar = (show == Show::Bars).then(|| {
            let bar = BARS.get_or_init(MultiProgress::new).add(ProgressBar::new(total));
            bar.set_style(style("{bar:24} {human_pos}/{human_len} rows  {per_sec}  ETA {eta}"));
            bar
        });
        let rows = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&rows);
        let lines = (show == Show::Lines).then(|| {
            let started = Instant::now();
            every_ten_seconds(move || rows_line(counted.load(Ordering::Relaxed), total, started.elapsed()))
        });
        Transfer { bar, rows, _lines: lines }
    }

    pub fn add(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(rows);
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A query that reads and has nothing to show yet, or shows it elsewhere.
#[derive(Debug)]
pub struct Scanning {
    bar: Option<ProgressBar>,
    _ticks: Option<AbortOnDrop>,
}

impl Scanning {
    /// `read` says how many rows and bytes have been read so far.
    pub fn new(show: Show, read: impl Fn() -> (u64, u64) + Send + 'static) -> Scanning {
        let started = Instant::now();
        let bar = (show == Show::Bars).then(|| {
            let bar = BARS.get_or_init(MultiProgress::new).add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {msg}"));
            bar
        });
        let ticks = match (&bar, show) {
            (Some(bar), _) => {
                let bar = bar.clone();
                Some(AbortOnDrop(tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(REDRAWN_EVERY).await;
                        bar.set_message(read_line(read(), started.elapsed()));
                        bar.tick();
                    }
                })))
            }
            (None, Show::Lines) => {
                Some(every_ten_seconds(move || format!("{}\n", read_line(read(), started.elapsed()))))
            }
            (None, _) => None,
        };
        Scanning { bar, _ticks: ticks }
    }
}

impl Drop for Scanning {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

const REDRAWN_EVERY: Duration = Duration::from_millis(200);

fn read_line((rows, bytes): (u64, u64), elapsed: Duration) -> String {
    let rate = rows as f64 / elapsed.as_secs_f64().max(0.001);
    format!("{} rows read  {}  {}/s", HumanCount(rows), DecimalBytes(bytes), HumanCount(rate as u64))
}

/// Time that passes while a job runs.
#[derive(Debug)]
pub struct Waiting {
    bar: Option<ProgressBar>,
    _lines: Option<AbortOnDrop>,
}

impl Waiting {
    pub fn new(show: Show, what: &str) -> Waiting {
        let bar = (show == Show::Bars).then(|| {
            let bar = BARS.get_or_init(MultiProgress::new).add(ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {prefix}  {elapsed}"));
            bar.set_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let lines = (show == Show::Lines).then(|| {
            let (started, what) = (Instant::now(), what.to_owned());
            every_ten_seconds(move || format!("{what}  {} s\n", started.elapsed().as_secs()))
        });
        Waiting { bar, _lines: lines }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn every_ten_seconds(line: impl Fn() -> String + Send + 'static) -> AbortOnDrop {
    AbortOnDrop(tokio::spawn(async move {
        loop {
            tokio::time::sleep(LINE_EVERY).await;
            say(&line());
        }
    }))
}

fn rows_line(rows: u64, total: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let rate = rows as f64 / seconds;
    let left = total.saturating_sub(rows) as f64 / rate.max(1.0);
    format!(
        "{}/{} rows  {}/s  ETA {}:{:02}\n",
        HumanCount(rows),
        HumanCount(total),
        HumanCount(rate as u64),
        left as u64 / 60,
        left as u64 % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_scan_has_rows_bytes_and_rate() {
        let line = read_line((250_000, 1_500_000), Duration::from_secs(10));
        assert_eq!(line, "250,000 rows read  1.50 MB  25,000/s");
    }

    #[test]
    fn a_line_has_rows_rate_and_what_is_left() {
        let line = rows_line(250_000, 1_000_000, Duration::from_secs(10));
        assert_eq!(line, "250,000/1,000,000 rows  25,000/s  ETA 0:30\n");
    }
}
