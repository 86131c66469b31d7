//! The plan held against BigQuery's limits and advice.

use std::collections::BTreeSet;

use super::limits::{self, Check};
use super::used::Used;
use super::{Asked, DayAhead, Figure, Forecast, fit};
use crate::config::Pipeline;
use crate::partition::{Partition, SECONDS_PER_DAY};
use crate::plan::Plan;

impl Forecast {
    pub(super) fn hold_against_limits(
        &mut self,
        pipeline: &Pipeline,
        plan: &Plan,
        used: &Used,
        asked: Asked,
    ) {
        let most = |of: fn(&DayAhead) -> Option<Figure>| {
            let figures = self.windows.iter().flat_map(|ahead| ahead.days.values()).map(of);
            figures.flatten().max_by_key(|figure| figure.value)
        };
        let (files, bytes) = (most(|day| day.files), most(|day| day.file_bytes));
        let touched = self.windows.iter().flat_map(|ahead| ahead.days.keys());
        let touched = touched.filter_map(|day| Partition::of_day(pipeline.epoch, *day).ok());
        let more = touched.collect::<BTreeSet<_>>().difference(&used.partitions).count() as u64;
        let partitions = Figure { value: more, known: self.partitions.known };
        let jobs = Some(self.load_jobs);
        let one = Some(Figure::counted(self.load_jobs.value.min(1)));
        let mut checks = vec![
            Check::new(
                "load jobs per table and day",
                limits::LOAD_JOBS_PER_TABLE_AND_DAY,
                used.by_table,
                jobs,
            ),
            Check::new(
                "load jobs per project and day",
                limits::LOAD_JOBS_PER_PROJECT_AND_DAY,
                used.by_project,
                jobs,
            ),
            Check::new(
                "partition changes per table and day",
                limits::PARTITION_CHANGES_PER_TABLE_AND_DAY,
                used.by_table,
                jobs,
            ),
            Check::new("partitions per job", limits::PARTITIONS_PER_JOB, 0, one),
            Check::new(
                "partitions per table",
                limits::PARTITIONS_PER_TABLE,
                used.partitions.len() as u64,
                Some(partitions),
            ),
            Check::new("files per job", limits::URIS_PER_JOB, 0, files),
            Check::new("bytes per job", limits::BYTES_PER_JOB, 0, bytes),
        ];
        for check in checks.iter_mut().filter(|check| !check.holds) {
            check.instead = Some(fit::change(self, pipeline, plan, check, asked));
        }
        self.limits = checks;
    }

    pub(super) fn advise(&mut self, pipeline: &Pipeline) {
        let group_rows = pipeline.stage.row_group_rows as u64;
        let days = || self.windows.iter().flat_map(|ahead| ahead.days.values());
        let groups: u64 = days().filter_map(|d| d.rows).map(|rows| rows.value.div_ceil(group_rows)).sum();
        let bytes: u64 = days().filter_map(|day| day.file_bytes).map(|bytes| bytes.value).sum();
        if groups == 0 || bytes / groups >= limits::ROW_GROUP_BYTES_ADVISED {
            return;
        }
        let advised = limits::ROW_GROUP_BYTES_ADVISED >> 20;
        if days().filter_map(|day| day.rows).any(|rows| rows.value > group_rows) {
            self.advice.push(format!(
                "row groups below {advised} MiB are read slowly: raise `stage.row_group_rows` above {group_rows}"
            ));
        } else if self.window_seconds < SECONDS_PER_DAY {
            self.advice.push(format!(
                "files below {advised} MiB are many small ones: longer windows make fewer and larger ones"
            ));
        }
    }
}
