//! A bench's report as a table for people, and as Markdown.

use std::path::Path;

use indicatif::{BinaryBytes, HumanCount};

use crate::bench::{Build, Comparison, Machine, Report, StageReport, Work};
use crate::cli::output;

const HEADER: [&str; 12] = [
    "stage",
    "median",
    "p5",
    "p95",
    "min",
    "max",
    "rows/s",
    "MB/s",
    "CPU s",
    "allocations",
    "peak MiB",
    "servers",
];

pub(super) fn report(report: &Report) -> String {
    let mut table = vec![HEADER.map(str::to_owned).to_vec()];
    table.extend(report.stages.iter().map(|stage| row(stage).to_vec()));
    format!(
        "{}\n{}; {}\n\n{}{}\n{}\n",
        machine(&report.machine),
        build(&report.build),
        work(&report.work),
        output::aligned(&table),
        NOTE,
        bottleneck(report)
    )
}

/// What the columns mean, once.
const NOTE: &str = "\
seconds of wall time; MB/s of the body (fetch, decode, whole), of values in memory (transform, stage) or
of Parquet files (load, promote) that went in; CPU and memory of the stage's own process, and of the
servers it asked behind them
";

pub(super) fn markdown(report: &Report) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("{}  \n", machine(&report.machine));
    text += &format!("{}; {}\n\n", build(&report.build), work(&report.work));
    text += &line(&HEADER.map(str::to_owned));
    text += &format!("|---|{}\n", "--:|".repeat(HEADER.len() - 1));
    text.extend(report.stages.iter().map(|stage| line(&row(stage))));
    format!("{text}\n{NOTE}\n{}\n", bottleneck(report))
}

/// What was measured on, a line.
pub(super) fn machine(machine: &Machine) -> String {
    let memory = machine.memory_bytes.map(|bytes| BinaryBytes(bytes).to_string());
    let load = machine.load_average.map(|load| format!(", load {load} as it began"));
    format!(
        "{}, {} cores, {} of memory, {} {}{}",
        machine.cpu.as_deref().unwrap_or("unknown CPU"),
        machine.cores,
        memory.as_deref().unwrap_or("an unknown amount"),
        machine.os,
        machine.arch,
        load.unwrap_or_default()
    )
}

/// What was measured.
pub(super) fn build(build: &Build) -> String {
    let warning = if build.profile == "release" { "" } else { " (its speed says nothing)" };
    format!("api2bq {}, {} build{warning}", build.version, build.profile)
}

fn work(work: &Work) -> String {
    let records = match (work.input.as_str(), work.rows) {
        ("generated", Some(rows)) => format!("{} generated records", HumanCount(rows)),
        ("staged", _) => "staged files".to_owned(),
        _ => "records of its source".to_owned(),
    };
    let windows = if work.windows == 0 { String::new() } else { format!(" in {} windows", work.windows) };
    format!(
        "`{}`, {records}{windows}, {} at once; {} runs after {} warm-up",
        work.pipeline, work.jobs, work.runs, work.warm_up
    )
}

fn row(of: &StageReport) -> [String; 12] {
    let unknown = || "-".to_owned();
    let mebibytes = |bytes: u64| format!("{:.0}", bytes as f64 / f64::from(1 << 20));
    let servers = of.servers_cpu_seconds.map(|cpu| {
        let peak = of.servers_peak_rss_bytes.map_or_else(unknown, mebibytes);
        format!("{cpu:.2} s, {peak} MiB")
    });
    [
        of.stage.to_string(),
        seconds(of.seconds.median),
        seconds(of.seconds.p5),
        seconds(of.seconds.p95),
        seconds(of.seconds.min),
        seconds(of.seconds.max),
        of.rows_per_second.map_or_else(unknown, |rate| HumanCount(rate as u64).to_string()),
        format!("{:.0}", of.bytes_per_second / 1e6),
        seconds(of.cpu_seconds),
        of.allocations.map_or_else(unknown, |number| HumanCount(number as u64).to_string()),
        of.peak_rss_bytes.map_or_else(unknown, mebibytes),
        servers.unwrap_or_else(unknown),
    ]
}

/// Three digits that say something.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 100.0 => format!("{s:.0}"),
        s if s >= 10.0 => format!("{s:.1}"),
        s if s >= 1.0 => format!("{s:.2}"),
        s => format!("{s:.3}"),
    }
}

fn bottleneck(report: &Report) -> String {
    let Some(found) = &report.bottleneck else { return "bottleneck: not looked for".to_owned() };
    let share = found.share_of_whole.map(|share| format!(", {:.0} % of the whole run's time", share * 100.0));
    format!("bottleneck: {}, {} s alone{}", found.stage, seconds(found.seconds), share.unwrap_or_default())
}

pub(super) fn comparison(comparison: &Comparison, base: &Path) -> String {
    let mut table = vec![["stage", "then", "now", "change"].map(str::to_owned).to_vec()];
    for change in &comparison.changes {
        let percent = (change.ratio - 1.0) * 100.0;
        let cells = [
            change.stage.to_string(),
            format!("{:.2}", change.base),
            format!("{:.2}", change.now),
            format!("{percent:+.1} %"),
        ];
        table.push(cells.to_vec());
    }
    let mut text = format!("against `{}`, time in times of the anchor\n", base.display());
    text += &output::aligned(&table);
    for remark in &comparison.remarks {
        text += &format!("{remark}\n");
    }
    text
}
