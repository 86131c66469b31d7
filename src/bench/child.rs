//! The process that measures one stage: told by one line of JSON, telling one line for each run.

use std::time::Instant;

use super::ready::{Passed, Ready};
use super::task::{Line, Sample, Task};
use super::usage::{Usage, anchor, forget_peak, of_process, peak_without};
use crate::error::{Error, Kind, Result};

/// Measures the stage that `task` describes. `print` takes each line as it comes.
pub async fn perform(task: &str, print: impl Fn(&str) -> Result<()>) -> Result<()> {
    let task: Task = serde_json::from_str(task)
        .map_err(|e| Error::usage("this is no task of a bench").caused_by(e).hint("run `api2bq bench`"))?;
    let tell = |line: &Line| {
        let line = serde_json::to_string(line);
        print(&(line.map_err(|e| Error::failed("cannot write a sample").caused_by(e))? + "\n"))
    };
    match measure(&task, &tell).await {
        Err(error) => tell(&Line::Failed {
            message: error.to_string(),
            hint: error.hint_text().map(str::to_owned),
            usage: error.kind() == Kind::Usage,
        }),
        Ok(()) => Ok(()),
    }
}

async fn measure(task: &Task, tell: &impl Fn(&Line) -> Result<()>) -> Result<()> {
    let ready = Ready::new(task).await?;
    let held = ready.held_bytes();
    for number in 0..task.warm_up.saturating_add(task.runs) {
        let sample = run(task, &ready, held, number).await?;
        ready.tidy(number);
        tell(&if number < task.warm_up { Line::WarmedUp } else { Line::Sample(sample) })?;
    }
    Ok(())
}

async fn run(task: &Task, ready: &Ready, held: u64, number: u32) -> Result<Sample> {
    let anchor = anchor();
    forget_peak();
    let servers_before = servers(task);
    let before = Usage::now();
    let started = Instant::now();
    let Passed { rows, bytes } = ready.run(number).await?;
    if let Some(slow) = task.slow {
        tokio::time::sleep(slow.wait(task.stage, rows.unwrap_or(0))).await;
    }
    let elapsed = started.elapsed();
    let used = Usage::now().since(before);
    let servers_after = servers(task);
    Ok(Sample {
        seconds: elapsed.as_secs_f64(),
        anchor_seconds: anchor.as_secs_f64(),
        rows,
        bytes,
        cpu_seconds: used.cpu.as_secs_f64(),
        allocations: used.allocations,
        allocated_bytes: used.allocated_bytes,
        peak_rss_bytes: peak_without(held),
        servers_cpu_seconds: servers_before
            .zip(servers_after)
            .map(|((before, _), (after, _))| after - before),
        servers_peak_rss_bytes: servers_after.map(|(_, peak)| peak),
    })
}

/// CPU seconds and peaks of the servers that this stage asks. `None` where there are none, or not all tell.
fn servers(task: &Task) -> Option<(f64, u64)> {
    let source = task.source_pid.filter(|_| task.stage.needs_source());
    let bigquery = task.bigquery_pid.filter(|_| task.stage.needs_bigquery());
    let mut pids = source.into_iter().chain(bigquery).peekable();
    pids.peek()?;
    pids.map(of_process).try_fold((0.0, 0), |(cpu, peak), of| {
        let (more_cpu, more_peak) = of?;
        Some((cpu + more_cpu, peak + more_peak))
    })
}
