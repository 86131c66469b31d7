//! What a backfill refuses before it starts, by what the journal tells of other runs.
//!
//! Guards against mistakes, and no part of the commit protocol: they may read dates, and two runs that
//! start at one instant do not see each other.

use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::partition::Window;
use crate::plan::{Document, Plan};

/// Refuses to start where another run of these days was begun with other settings and has not
/// come to its end: that is no resuming, and would leave the other run's staged rows unloaded.
pub fn refuse_to_abandon_another(plan: &Plan, ledger: &Ledger) -> Result<()> {
    if !plan.document.salt.is_empty() || ledger.runs.iter().any(|run| run.id == plan.run) {
        return Ok(());
    }
    let mut newest_whole = 0;
    let mut begun = Vec::new();
    for run in &ledger.runs {
        let Some(other) = &run.plan else {
            return run.damage.as_ref().map_or(Ok(()), |damage| Err(damage.again()));
        };
        let overlaps = other.range.after < plan.range.before && plan.range.after < other.range.before;
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
