//! What a backfill refuses before it starts, by what the journal tells of other runs.
//!
//! | it would | it is refused, unless |
//! |---|---|
//! | leave windows behind that a changed command staged and did not load | `--new-run` says so |
//! | append records that are loaded already | `--new-run` says so |
//! | replace a day that rows were appended to | `--drop-appended` says so |
//! | touch a day that another run has staged and not loaded yet | that run is resumed first |
//!
//! Guards against mistakes, and no part of the commit protocol: they may read dates, and two runs that
//! start at one instant do not see each other.

use std::collections::HashSet;

use crate::config::Pipeline;
use crate::error::{Error, Kind, Result};
use crate::holdings::Holdings;
use crate::ledger::{Ledger, LedgerWindow, Run};
use crate::manifest::Mode;
use crate::partition::{Partition, Window};
use crate::plan::{Document, Plan};

pub fn refuse(pipeline: &Pipeline, plan: &Plan, ledger: &Ledger, holdings: &Holdings) -> Result<()> {
    refuse_to_abandon_another(plan, ledger)?;
    let own = ledger.runs.iter().filter(|run| run.id == plan.run).flat_map(|run| &run.windows);
    let loaded: HashSet<Window> =
        own.filter(|window| window.state().loaded.is_some()).map(|window| window.window).collect();
    let of_table = |run: &&Run| run.plan.as_ref().is_some_and(|other| other.table == plan.document.table);
    let others = || {
        let others = ledger.runs.iter().filter(|run| run.id != plan.run).filter(of_table);
        others.flat_map(|run| run.windows.iter().map(move |window| (run, window)))
    };
    // Who has since loaded a window's records by another run has left it behind on purpose.
    let all = || ledger.runs.iter().filter(of_table).flat_map(|run| &run.windows);
    let is_left_behind = |open: &LedgerWindow| {
        let covers = |w: &Window| w.after <= open.window.after && open.window.before <= w.before;
        let written = |w: &LedgerWindow| w.entries.last().map(|last| last.written_unix_ms);
        all().any(|w| covers(&w.window) && w.state().loaded.is_some() && written(w) > written(open))
    };
    let is_open =
        |window: &LedgerWindow| window.state().manifest.is_some() && window.state().loaded.is_none();
    let open: Vec<_> = others().filter(|(_, other)| is_open(other) && !is_left_behind(other)).collect();
    for window in plan.windows.iter().filter(|window| !loaded.contains(window)) {
        match pipeline.mode {
            Mode::Append if plan.document.salt.is_empty() => refuse_to_double(*window, others())?,
            Mode::Append => {}
            Mode::Replace => {
                let (first, last) = window.days();
                for day in first..=last {
                    let partition = Partition::of_day(pipeline.epoch, day)?;
                    refuse_to_drop(pipeline, &plan.document.table, partition, holdings)?;
                }
            }
        }
        refuse_to_cross(pipeline, *window, plan.document.salt.is_empty(), &open)?;
    }
    Ok(())
}

/// Refuses to replace a day that rows were appended to, unless that is meant.
pub fn refuse_to_drop(
    pipeline: &Pipeline,
    table: &str,
    partition: Partition,
    holdings: &Holdings,
) -> Result<()> {
    let rows: u64 = holdings.appended(table, partition).map(|load| load.rows).sum();
    let Some(first) = holdings.appended(table, partition).next().filter(|_| !pipeline.drop_appended) else {
        return Ok(());
    };
    Err(Error::usage(format!(
        "partition `{partition}` of `{table}` would lose {rows} rows that run `{}` appended",
        first.run
    ))
    .hint("if the source still has them for this day, `--drop-appended` replaces it"))
}

/// The error of rows that were appended and are not there any more.
pub fn lost_appended(table: &str, partition: Partition, expected: u64) -> Error {
    Error::new(
        Kind::Mismatch,
        format!("partition `{partition}` of `{table}` has fewer than the {expected} rows that were loaded into it"),
    )
    .hint(
        "appending again could bring rows twice; replace the whole day: `--set warehouse.mode=replace --drop-appended`",
    )
}

fn refuse_to_double<'l>(
    window: Window,
    others: impl Iterator<Item = (&'l Run, &'l LedgerWindow)>,
) -> Result<()> {
    for (run, other) in others {
        if other.window.overlaps(window) && other.state().loaded.is_some() {
            return Err(Error::usage(format!(
                "{window} would be appended to what run `{}` loaded for {}",
                run.id, other.window
            ))
            .hint("`--since last` goes on after what is loaded; `--new-run` appends once more"));
        }
    }
    Ok(())
}

/// Refuses days that an open intent of the other mode will write to, for which of the two comes last would
/// be a matter of chance; and to append what an open intent will append too, unless it is left behind.
fn refuse_to_cross(
    pipeline: &Pipeline,
    window: Window,
    leaves_none_behind: bool,
    open: &[(&Run, &LedgerWindow)],
) -> Result<()> {
    let (first, last) = window.days_with_late(pipeline.late_days);
    for (run, other) in open {
        let Some(manifest) = other.manifest() else { continue };
        let is_other_mode = manifest.target.appends() != (pipeline.mode == Mode::Append);
        let (other_first, other_last) = match manifest.target.appends() {
            true => {
                let days = || manifest.partitions.iter().map(|staged| staged.partition.day(pipeline.epoch));
                (days().min().unwrap_or(i64::MAX), days().max().unwrap_or(i64::MIN))
            }
            false => other.window.days(),
        };
        let crosses = is_other_mode && other_first <= last && first <= other_last;
        let is_appended_twice = leaves_none_behind && !is_other_mode && manifest.target.appends();
        if crosses || (is_appended_twice && other.window.overlaps(window)) {
            return Err(Error::usage(format!(
                "{window} shares days with {} of run `{}`, which is staged and not loaded",
                other.window, run.id
            ))
            .hint("resume that run first; `api2bq status` shows it"));
        }
    }
    Ok(())
}

/// Refuses to start where another run of these days was begun with other settings and has not
/// come to its end: that is no resuming, and would leave the other run's staged rows unloaded.
fn refuse_to_abandon_another(plan: &Plan, ledger: &Ledger) -> Result<()> {
    if !plan.document.salt.is_empty() || ledger.runs.iter().any(|run| run.id == plan.run) {
        return Ok(());
    }
    let mut newest_whole = 0;
    let mut begun = Vec::new();
    for run in &ledger.runs {
        let Some(other) = &run.plan else {
            return run.damage.as_ref().map_or(Ok(()), |damage| Err(damage.again()));
        };
        let overlaps = run.windows.iter().any(|window| window.window.overlaps(plan.range));
        if !overlaps || other.table != plan.document.table {
            continue;
        }
        let (mut newest, mut open) = (None, None);
        for window in &run.windows {
            if let Some(damage) = &window.damage {
                return Err(damage.again());
            }
            let state = window.state();
            let last = window.entries.last().filter(|_| state.manifest.is_some());
            newest = newest.max(last.map(|last| last.written_unix_ms));
            open = open.or(state.loaded.is_none().then_some(window.window));
        }
        match (newest, open) {
            (Some(newest), None) => newest_whole = newest.max(newest_whole),
            (Some(newest), Some(window)) if is_changed_since(plan, other) => {
                begun.push((newest, would_abandon(plan, &run.id, other, window)));
            }
            _ => {}
        }
    }
    // Who has since loaded these days by another run has left the older one behind on purpose.
    match begun.into_iter().find(|(newest, _)| *newest > newest_whole) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

fn is_changed_since(plan: &Plan, other: &Document) -> bool {
    let Document { range, window_seconds, settings, .. } = &plan.document;
    *settings != other.settings || (*range == other.range && *window_seconds != other.window_seconds)
}

fn would_abandon(plan: &Plan, run: &str, other: &Document, window: Window) -> Error {
    let settings = &plan.document.settings;
    let differs = |(part, hash): &(&String, &String)| other.settings.get(*part) != Some(*hash);
    let mut parts: Vec<_> = settings.iter().filter(differs).map(|(part, _)| format!("`{part}`")).collect();
    if parts.is_empty() {
        parts.push("`--window`".to_owned());
    }
    let parts = parts.join(", ");
    Error::usage(format!(
        "the plan hash differs: run `{run}` of these days was begun with another {parts}, and {window} is not loaded"
    ))
    .hint("resume it with the settings it was begun with, or leave it behind by `--new-run`")
}
