//! A plan as a tree of operators, for people: what each does, and, once it has run, its rows and time.

use std::fmt;
use std::sync::{Arc, LazyLock};

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::display::DisplayFormatType;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use regex::Regex;
use serde::Serialize;

use super::{Scanned, words};

/// One operator of a plan and what it reads from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Operator {
    pub operator: String,
    /// What it works on, a part each.
    pub details: Vec<String>,
    /// That it gave. `None` before it has run.
    pub rows: Option<u64>,
    /// At work in all threads together; of a scan also waiting for its files.
    pub milliseconds: Option<f64>,
    /// Bytes of files that a scan has read.
    pub bytes: Option<u64>,
    /// Bytes that went to disk for lack of memory.
    pub spilled_bytes: Option<u64>,
    pub inputs: Vec<Operator>,
}

/// DataFusion's names and ours.
const NAMES: [(&str, &str); 20] = [
    ("DataSourceExec", "scan"),
    ("StreamingTableExec", "scan text"),
    ("EmptyExec", "nothing"),
    ("PlaceholderRowExec", "one row"),
    ("FilterExec", "filter"),
    ("ProjectionExec", "columns"),
    ("AggregateExec", "aggregate"),
    ("SortExec", "sort"),
    ("SortExec(TopK)", "sort for the first"),
    ("SortPreservingMergeExec", "merge sorted"),
    ("CoalescePartitionsExec", "gather threads"),
    ("RepartitionExec", "spread over threads"),
    ("HashJoinExec", "join by hash"),
    ("SortMergeJoinExec", "join sorted"),
    ("NestedLoopJoinExec", "join by loop"),
    ("CrossJoinExec", "cross join"),
    ("GlobalLimitExec", "limit"),
    ("LocalLimitExec", "limit"),
    ("WindowAggExec", "window"),
    ("BoundedWindowAggExec", "window"),
];

/// The operator `plan` with all below it.
pub(super) fn operator(plan: &Arc<dyn ExecutionPlan>) -> Operator {
    // Only lets what it reads from pause.
    if let ("CooperativeExec", [input]) = (plan.name(), &plan.children()[..]) {
        return operator(input);
    }
    let metrics = plan.metrics();
    let sum = |name: &str| metrics.as_ref().and_then(|m| sum(m, name)).and_then(|n| u64::try_from(n).ok());
    // Before it has run, an operator has no figures at all; a scan opens its own when it is planned.
    let rows = metrics.as_ref().and_then(MetricsSet::output_rows).map(|rows| rows as u64);
    let computed = metrics.as_ref().and_then(MetricsSet::elapsed_compute).map(|ns| ns as u64);
    let nanoseconds = [computed, sum("time_elapsed_processing")].into_iter().flatten().max();
    let text = Details(plan.as_ref()).to_string();
    let details = text.lines().map(|line| detail(line.trim())).filter(|line| !line.is_empty());
    Operator {
        operator: name(plan.name()),
        details: details.collect(),
        rows,
        milliseconds: nanoseconds.map(|ns| ns as f64 / 1e6),
        bytes: sum("bytes_scanned"),
        spilled_bytes: metrics
            .as_ref()
            .and_then(MetricsSet::spilled_bytes)
            .map(|b| b as u64)
            .filter(|b| *b > 0),
        inputs: plan.children().into_iter().map(operator).collect(),
    }
}

/// Of all scans together.
pub(super) fn scanned(plan: &Arc<dyn ExecutionPlan>) -> Scanned {
    let children = plan.children();
    if children.is_empty() {
        let Some(metrics) = plan.metrics() else { return Scanned::default() };
        let bytes = sum(&metrics, "bytes_scanned").and_then(|n| u64::try_from(n).ok());
        let rows = metrics.output_rows().unwrap_or(0) as u64;
        return Scanned { rows, bytes: bytes.unwrap_or(0) };
    }
    children.into_iter().map(scanned).fold(Scanned::default(), |all, one| Scanned {
        rows: all.rows + one.rows,
        bytes: all.bytes + one.bytes,
    })
}

fn sum(metrics: &MetricsSet, name: &str) -> Option<usize> {
    metrics.sum_by_name(name).as_ref().map(MetricValue::as_usize)
}

fn name(name: &str) -> String {
    if let Some((_, ours)) = NAMES.iter().find(|(theirs, _)| *theirs == name) {
        return (*ours).to_owned();
    }
    let mut words = String::new();
    for c in name.trim_end_matches("Exec").chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

/// Without the places of columns, which say nothing more than their names.
fn detail(line: &str) -> String {
    static PLACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"@\d+").expect("a constant"));
    let line = words::typed(&words::literals(&PLACE.replace_all(line, "")));
    line.replace("count(1)", "count(*)")
}

struct Details<'p>(&'p dyn ExecutionPlan);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_as(DisplayFormatType::TreeRender, f)
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn operators_have_names_that_say_what_they_do() {
        assert_eq!(name("HashJoinExec"), "join by hash");
        assert_eq!(name("SymmetricHashJoinExec"), "symmetric hash join");
    }
}
