//! The smallest change of a plan that BigQuery would carry out.

use indicatif::HumanCount;

use super::limits::Check;
use super::{Asked, Forecast};
use crate::config::Pipeline;
use crate::partition::{SECONDS_PER_DAY, Window, length};
use crate::plan::Plan;

/// In words: the flag or the setting to change, and to what.
pub(super) fn change(
    forecast: &Forecast,
    pipeline: &Pipeline,
    plan: &Plan,
    broken: &Check,
    asked: Asked,
) -> String {
    match broken.limit {
        "files per job" => {
            let files = broken.plan.map_or(0, |plan| plan.value);
            let mib = (files * pipeline.stage.file_mib_max).div_ceil(broken.allowed);
            format!("`--set stage.file_mib_max={mib}` would fit")
        }
        "bytes per job" => "windows shorter than a day that append would fit: \
            `--set warehouse.mode=append --window 12h`"
            .to_owned(),
        "partitions per table" => "stage into another table: `--set warehouse.staging_table=…`".to_owned(),
        _ => fewer_jobs(forecast, plan, broken, asked),
    }
}

fn fewer_jobs(forecast: &Forecast, plan: &Plan, broken: &Check, asked: Asked) -> String {
    let left = broken.allowed.saturating_sub(broken.used);
    if left == 0 {
        return format!(
            "{} jobs of the last 24 hours are in the journal; wait until they are older",
            HumanCount(broken.used)
        );
    }
    if let (Some(_), Some(rows)) = (asked.rows_per_job, forecast.rows) {
        let ours = forecast.windows.iter().map(|ahead| ahead.days.len() as u64).sum::<u64>();
        let fits = format!("`--rows-per-job {}` would fit", rows.value.div_ceil(left));
        return match ours <= left {
            true => format!("{fits}; without it there is a job for each window's day: {}", HumanCount(ours)),
            false => fits,
        };
    }
    let seconds = plan.document.window_seconds;
    if seconds < SECONDS_PER_DAY
        && let Some(longer) = longer_window(forecast, seconds, left)
    {
        return format!("`--window {}` would fit", length(longer));
    }
    let mut jobs = 0;
    let fits = forecast.windows.iter().take_while(|ahead| {
        jobs += ahead.days.len() as u64;
        jobs <= left
    });
    match fits.last().map(|ahead| ahead.window) {
        Some(last) => {
            let unknown = forecast.load_jobs.known == super::Known::AtMost;
            let stage = "; or count the days that have records first, by `--until stage`";
            let hint = if unknown { stage } else { "" };
            format!("`--to {}` would fit, and the rest a day later{hint}", end_of(last))
        }
        None => "not one window would fit; windows of fewer days would".to_owned(),
    }
}

/// The shortest window of whole minutes that divides a day and needs no more jobs than are left.
fn longer_window(forecast: &Forecast, seconds: i64, left: u64) -> Option<i64> {
    let divides = |length: &i64| SECONDS_PER_DAY % length == 0 && length % 60 == 0;
    (seconds + 1..=SECONDS_PER_DAY).filter(divides).find(|length| {
        let mut parts: Vec<(i64, i64)> = Vec::new();
        for ahead in &forecast.windows {
            // Cut at multiples of the length, no part of a window lies in two days.
            let first = ahead.window.after.div_euclid(*length);
            let last = (ahead.window.before - 1).div_euclid(*length);
            parts.extend((first..=last).flat_map(|part| ahead.days.keys().map(move |day| (*day, part))));
        }
        parts.sort_unstable();
        parts.dedup();
        parts.len() as u64 <= left
    })
}

fn end_of(window: Window) -> String {
    match window.before % SECONDS_PER_DAY {
        0 => (window.before / SECONDS_PER_DAY).to_string(),
        _ => format!("{}s", window.before),
    }
}
