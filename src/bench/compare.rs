//! Two benches of the same work side by side: time against the anchor of each one's own runs.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::report::{FORMAT, Report, StageReport};
use super::task::Stage;
use crate::error::{Error, Result};

/// Every stage that both have measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub changes: Vec<Change>,
    /// What else is different, and may be the cause.
    pub remarks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub stage: Stage,
    /// Medians of time against the anchor.
    pub base: f64,
    pub now: f64,
    /// 1.1 takes a tenth longer.
    pub ratio: f64,
}

/// Reads the base, written by `--export-json`, and compares `now` with it.
pub fn compare(base: &Path, now: &Report) -> Result<Comparison> {
    let shown = base.display();
    let text = std::fs::read_to_string(base)
        .map_err(|e| Error::usage(format!("cannot read `{shown}`")).caused_by(e))?;
    let wrong = |why: String| {
        Error::usage(format!("`{shown}` {why}")).hint("write it anew with `--export-json`, by this version")
    };
    let json: Value = serde_json::from_str(&text).map_err(|e| wrong("is no JSON".into()).caused_by(e))?;
    match json.get("format").and_then(Value::as_u64) {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => return Err(wrong(format!("has format {format}, and this version reads {FORMAT}"))),
        None => return Err(wrong("is no report of a bench".into())),
    }
    let base: Report =
        serde_json::from_value(json).map_err(|e| wrong("is no report of a bench".into()).caused_by(e))?;
    changes(&base, now).map_err(|why| wrong(format!("cannot be compared: {why}")))
}

fn changes(base: &Report, now: &Report) -> Result<Comparison, String> {
    let work = |report: &Report| {
        let work = &report.work;
        (work.pipeline.clone(), work.input.clone(), work.rows, work.days, work.windows, work.jobs)
    };
    if work(base) != work(now) {
        return Err("it is of other work (pipeline, input, rows, days or jobs)".into());
    }
    if base.anchor != now.anchor {
        return Err(format!("its anchor is `{}`, and now it is `{}`", base.anchor, now.anchor));
    }
    if base.build.profile != now.build.profile {
        return Err(format!(
            "it is of a {} build, and this is a {} one",
            base.build.profile, now.build.profile
        ));
    }
    let mut changes = Vec::new();
    for now in &now.stages {
        let Some(base) = base.stages.iter().find(|base| base.stage == now.stage) else { continue };
        let took_in = |of: &StageReport| (of.rows, of.bytes);
        // Staged files may well have become smaller; records and bodies are what they are.
        if took_in(base) != took_in(now) && matches!(now.stage, Stage::Fetch | Stage::Decode | Stage::Whole) {
            return Err(format!("its `{}` took in other records", now.stage));
        }
        let (base, now_median) = (base.to_anchor.median, now.to_anchor.median);
        let ratio = now_median / base.max(1e-12);
        changes.push(Change { stage: now.stage, base, now: now_median, ratio });
    }
    if changes.is_empty() {
        return Err("no stage was measured in both".into());
    }
    let mut remarks = Vec::new();
    let mut differs = |what: &str, base: String, now: String| {
        if base != now {
            remarks.push(format!("{what}: {base} then, {now} now"));
        }
    };
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    differs("CPU", known(&base.machine.cpu), known(&now.machine.cpu));
    differs("cores", base.machine.cores.to_string(), now.machine.cores.to_string());
    differs("system", base.machine.os.clone(), now.machine.os.clone());
    differs("version", base.build.version.clone(), now.build.version.clone());
    let counts = |report: &Report| if report.build.counts_allocations { "counted" } else { "not counted" };
    differs("allocations", counts(base).into(), counts(now).into());
    Ok(Comparison { changes, remarks })
}

impl Comparison {
    /// An error that names the stages that take more than `fail_over` longer, 0.1 for a tenth.
    pub fn verdict(&self, fail_over: f64) -> Result<()> {
        let is_slower = |change: &&Change| change.ratio > 1.0 + fail_over;
        let slower: Vec<String> = self
            .changes
            .iter()
            .filter(is_slower)
            .map(|change| format!("`{}` takes {:.1} % longer", change.stage, (change.ratio - 1.0) * 100.0))
            .collect();
        if slower.is_empty() {
            return Ok(());
        }
        let allowed = format!("{} % is allowed", (fail_over * 1000.0).round() / 10.0);
        Err(Error::failed(format!("slower than the base: {}; {allowed}", slower.join(", ")))
            .hint("more `--runs` tell noise from change; a base of the same machine is the better one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn a_slower_machine_is_no_slower_stage_and_a_slower_stage_is_named() {
        let base = report(&[(Stage::Decode, 0.2), (Stage::Load, 0.5)], 0.01);
        // Everything takes twice as long, the anchor too; and `load` half as long again.
        let now = report(&[(Stage::Decode, 0.4), (Stage::Load, 1.5), (Stage::Fetch, 0.1)], 0.02);
        let comparison = changes(&base, &now).expect("the same work");
        let ratios: Vec<(Stage, f64)> =
            comparison.changes.iter().map(|c| (c.stage, (c.ratio * 1000.0).round() / 1000.0)).collect();
        assert_eq!(ratios, [(Stage::Decode, 1.0), (Stage::Load, 1.5)]);
        let error = comparison.verdict(0.1).expect_err("slower");
        assert_eq!(error.to_string(), "slower than the base: `load` takes 50.0 % longer; 10 % is allowed");
        assert!(comparison.verdict(0.51).is_ok());
    }

    #[test]
    fn other_work_is_not_compared() {
        let base = report(&[(Stage::Decode, 0.2)], 0.01);
        let mut other = base.clone();
        other.work.rows = Some(1001);
        assert!(changes(&base, &other).expect_err("other rows").contains("other work"));
        other = base.clone();
        other.stages[0].bytes += 1;
        assert!(changes(&base, &other).expect_err("other bytes").contains("other records"));
        other = base.clone();
        other.build.profile = "fast".into();
        assert!(changes(&base, &other).expect_err("another build").contains("build"));
        let other = report(&[(Stage::Load, 0.2)], 0.01);
        assert!(changes(&base, &other).expect_err("another stage").contains("in both"));
    }
}
