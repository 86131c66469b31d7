//! What a backfill will take, worked out before it starts, and whether BigQuery would let it.
//!
//! | a window that | is known by |
//! |---|---|
//! | is staged | its own manifest |
//! | is not | a sample, where one was taken; else an earlier run of the same source; else not at all |
//!
//! A number that nothing is known of is unknown, and never guessed. A backfill is refused by the same
//! forecast, made from the journal alone.

mod ahead;
mod check;
mod earlier;
mod figure;
mod fit;
pub mod limits;
mod rates;
mod sample;
mod used;

use std::collections::{BTreeMap, BTreeSet};

use indicatif::HumanCount;
use serde::Serialize;

use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::ledger::{Ledger, Standing};
use crate::partition::Window;
use crate::plan::{Plan, Until};
use crate::query::{USD_PER_TIB, price_of};
use limits::Check;
use rates::Rates;
use used::Used;

pub use ahead::{Ahead, Basis, DayAhead};
pub use figure::{Figure, Known};
pub use sample::Sample;

/// Active logical storage, a GiB and a month, in the US: an estimate, from Google's price list of May 2026.
pub const STORAGE_USD_PER_GIB_AND_MONTH: f64 = 0.02;

/// How the plan is to be carried out, and what the planner is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Windows at work at once.
    pub jobs: usize,
    pub until: Until,
    /// Records that there are, for whoever knows better than the journal.
    pub rows: Option<u64>,
    /// Plans as if each load job brought so many records, instead of a window's day.
    pub rows_per_job: Option<u64>,
}

impl Default for Asked {
    fn default() -> Self {
        Asked { jobs: 1, until: Until::Load, rows: None, rows_per_job: None }
    }
}

#[derive(Debug, Serialize)]
pub struct Forecast {
    pub pipeline: String,
    pub run: String,
    pub table: String,
    pub until: Until,
    pub range: Window,
    pub window_seconds: i64,
    pub jobs_at_once: usize,
    /// Windows by state.
    pub states: BTreeMap<&'static str, usize>,
    /// What the numbers rest on, a sentence each.
    pub basis: Vec<String>,
    /// To the source.
    pub requests: u64,
    pub load_jobs: Figure,
    /// Day partitions that are written to.
    pub partitions: Figure,
    /// Records that are still to be fetched.
    pub records: Option<Figure>,
    /// Rows that are still to be loaded.
    pub rows: Option<Figure>,
    /// Parquet files of these.
    pub files: Option<Figure>,
    pub file_bytes: Option<Figure>,
    /// Bytes of these rows in the table, as BigQuery counts them.
    pub table_bytes: Option<Figure>,
    /// Fetching and staging, and the load jobs; by what was measured of either.
    pub fetch_seconds: Option<f64>,
    pub load_seconds: Option<f64>,
    pub storage_usd_per_month: Option<f64>,
    /// What `promote` would read of these rows.
    pub promote: Option<Promote>,
    pub limits: Vec<Check>,
    pub advice: Vec<String>,
    /// The windows that are not done, in order of time.
    pub windows: Vec<Ahead>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Promote {
    pub days: u32,
    pub bytes: u64,
    pub usd: f64,
    pub usd_per_tib: f64,
}

impl Forecast {
    /// Works the plan out. `now_ms` says which jobs are younger than a day.
    pub fn new(
        pipeline: &Pipeline,
        plan: &Plan,
        ledger: &Ledger,
        sample: Option<&Sample>,
        asked: Asked,
        now_ms: u64,
    ) -> Result<Forecast> {
        let rates = Rates::of(plan, ledger, sample);
        let earlier = earlier::Earlier::of(plan, ledger, pipeline.epoch);
        let own = ledger.runs.iter().find(|run| run.id == plan.run);
        let own: BTreeMap<Window, _> =
            own.iter().flat_map(|run| &run.windows).map(|window| (window.window, window)).collect();
        let mut states = BTreeMap::new();
        let mut windows = Vec::new();
        let knows = ahead::Knows { pipeline, sample, earlier: &earlier, rates: &rates };
        for window in &plan.windows {
            let found = own.get(window);
            let state = found.map_or(Standing::Missing, |found| found.standing());
            *states.entry(state.word()).or_insert(0) += 1;
            let is_done = match asked.until {
                Until::Decode => false,
                Until::Stage => found.is_some_and(|found| found.manifest().is_some()),
                Until::Load => matches!(state, Standing::Done | Standing::Empty),
            };
            if !is_done {
                windows.push(Ahead::new(&knows, *window, state, found.and_then(|found| found.manifest())));
            }
        }
        let mut forecast = Forecast {
            pipeline: plan.document.pipeline.clone(),
            run: plan.run.clone(),
            table: plan.document.table.clone(),
            until: asked.until,
            range: plan.range,
            window_seconds: plan.document.window_seconds,
            jobs_at_once: asked.jobs,
            states,
            basis: basis(&windows, &earlier, sample),
            requests: windows.iter().filter(|ahead| ahead.is_fetched()).count() as u64,
            load_jobs: Figure::counted(0),
            partitions: Figure::counted(0),
            records: figure::sum(windows.iter().filter(|a| a.is_fetched()).map(|ahead| ahead.records)),
            rows: figure::sum(windows.iter().map(Ahead::rows)),
            files: figure::sum(windows.iter().map(Ahead::files)),
            file_bytes: figure::sum(windows.iter().map(Ahead::file_bytes)),
            table_bytes: None,
            fetch_seconds: None,
            load_seconds: None,
            storage_usd_per_month: None,
            promote: None,
            limits: Vec::new(),
            advice: Vec::new(),
            windows,
        };
        if let Some(rows) = asked.rows {
            let told = Some(Figure::counted(rows));
            (forecast.records, forecast.rows) = (told, told);
            forecast.basis.push(format!("`--rows`: {} records", HumanCount(rows)));
        }
        if asked.until == Until::Load {
            forecast.load(pipeline, asked, &rates)?;
            forecast.hold_against_limits(pipeline, plan, &Used::of(plan, ledger, now_ms), asked);
            forecast.advise(pipeline);
        }
        let at_once = (asked.jobs as u64).min(forecast.windows.len() as u64).max(1);
        forecast.fetch_seconds = rates.fetch_seconds(forecast.records, at_once);
        forecast.load_seconds = rates.load_seconds(forecast.load_jobs, at_once);
        Ok(forecast)
    }

    /// The error of a plan that BigQuery would not carry out.
    pub fn verdict(&self) -> Result<()> {
        let Some(broken) = self.limits.iter().find(|check| !check.holds) else { return Ok(()) };
        let planned = broken.plan.map_or(0, |plan| plan.value);
        let used = match broken.used {
            0 => String::new(),
            used => format!(" and {} before them", HumanCount(used)),
        };
        let error = Error::usage(format!(
            "BigQuery would not carry out this plan: {} for `{}`: {}{used} > {}",
            broken.limit,
            self.table,
            HumanCount(planned),
            HumanCount(broken.allowed)
        ));
        Err(match &broken.instead {
            Some(instead) => error.hint(instead.clone()),
            None => error,
        })
    }

    fn load(&mut self, pipeline: &Pipeline, asked: Asked, rates: &Rates) -> Result<()> {
        let mut days = BTreeSet::new();
        for ahead in &self.windows {
            days.extend(ahead.days.keys().copied());
        }
        let known = self.windows.iter().map(|ahead| ahead.days_known).max().unwrap_or(Known::Counted);
        self.partitions = Figure { value: days.len() as u64, known };
        let jobs = self.windows.iter().map(|ahead| ahead.days.len() as u64).sum();
        self.load_jobs = Figure { value: jobs, known };
        if let Some(rows_per_job) = asked.rows_per_job {
            let rows = self.rows.ok_or_else(|| {
                Error::usage("`--rows-per-job` needs to know how many records there are")
                    .hint("`--rows N` says it, `--sample` asks the source")
            })?;
            self.load_jobs = Figure { value: rows.value.div_ceil(rows_per_job.max(1)), known: rows.known };
        }
        let table_bytes = |rows: f64| rates.table_bytes_per_row.map(|bytes| rows * bytes);
        self.table_bytes = self.rows.and_then(|rows| table_bytes(rows.value as f64)).map(Figure::estimated);
        let gib = self.table_bytes.map(|bytes| bytes.value as f64 / f64::from(1 << 30));
        self.storage_usd_per_month = gib.map(|gib| gib * STORAGE_USD_PER_GIB_AND_MONTH);
        self.promote = self.promote_reads(pipeline.promote_days, rates);
        Ok(())
    }

    /// The newest days of the plan, all columns of them.
    fn promote_reads(&self, days: u32, rates: &Rates) -> Option<Promote> {
        let newest = *self.windows.iter().flat_map(|ahead| ahead.days.keys()).max()?;
        let read = newest - i64::from(days) + 1..=newest;
        let of_days = self.windows.iter().flat_map(|ahead| &ahead.days).filter(|(day, _)| read.contains(day));
        let rows = figure::sum(of_days.map(|(_, ahead)| ahead.rows))?;
        let bytes = Figure::estimated(rows.value as f64 * rates.table_bytes_per_row?).value;
        let price = price_of(bytes, 1, USD_PER_TIB);
        Some(Promote { days, bytes, usd: price.usd, usd_per_tib: price.usd_per_tib })
    }
}

fn basis(windows: &[Ahead], earlier: &earlier::Earlier, sample: Option<&Sample>) -> Vec<String> {
    let on = |basis: Basis| windows.iter().filter(|ahead| ahead.basis == basis).count();
    let mut said = Vec::new();
    let mut say = |basis: Basis, what: String| {
        let windows = on(basis);
        if windows > 0 {
            said.push(format!("{windows} window{}: {what}", if windows == 1 { "" } else { "s" }));
        }
    };
    say(Basis::Staged, "what this run has staged".into());
    if let Some(sample) = sample {
        say(Basis::Sample, sample.to_string());
    }
    let runs: Vec<_> = earlier.runs().iter().map(|run| format!("`{run}`")).collect();
    say(Basis::Earlier, format!("what run {} staged of the same source", runs.join(", ")));
    say(Basis::Nothing, "nothing is known; `--sample` asks the source".into());
    said
}
