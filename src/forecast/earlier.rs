//! What earlier runs staged of the same source, by window and by day.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::NaiveDate;

use super::ahead::DayAhead;
use super::figure::Figure;
use crate::ledger::{Ledger, Run};
use crate::manifest::Manifest;
use crate::partition::{SECONDS_PER_DAY, Window, day_of};
use crate::plan::Plan;

/// The newest run that knows it counts.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    windows: HashMap<Window, Manifest>,
    days: BTreeMap<i64, DayAhead>,
    runs: BTreeSet<String>,
}

impl Earlier {
    pub(super) fn of(plan: &Plan, ledger: &Ledger, epoch: NaiveDate) -> Earlier {
        let mut earlier = Earlier::default();
        // The newest is the last, and goes over those before it.
        for run in &ledger.runs {
            let is_alike = run.plan.as_ref().is_some_and(|other| other.has_source_of(&plan.document));
            if run.id != plan.run && is_alike {
                earlier.add(run, epoch);
            }
        }
        earlier
    }

    pub(super) fn window(&self, window: Window) -> Option<&Manifest> {
        self.windows.get(&window)
    }

    /// The days of a window with rows, if all of its days are known.
    pub(super) fn days(&self, window: Window) -> Option<BTreeMap<i64, DayAhead>> {
        let (first, last) = window.days();
        let days: Option<BTreeMap<i64, DayAhead>> =
            (first..=last).map(|day| Some((day, *self.days.get(&day)?))).collect();
        let has_rows = |day: &DayAhead| day.rows.is_some_and(|rows| rows.value > 0);
        Some(days?.into_iter().filter(|(_, day)| has_rows(day)).collect())
    }

    pub(super) fn runs(&self) -> &BTreeSet<String> {
        &self.runs
    }

    fn add(&mut self, run: &Run, epoch: NaiveDate) {
        let mut manifests: Vec<&Manifest> = run.windows.iter().filter_map(|w| w.manifest()).collect();
        manifests.sort_by_key(|manifest| manifest.window);
        for span in spans(&manifests) {
            // Days that lie in the span as a whole.
            let first = day_of(span.after.saturating_add(SECONDS_PER_DAY));
            let last = span.before.div_euclid(SECONDS_PER_DAY);
            for day in first..=last {
                let none = Some(Figure::counted(0));
                self.days.insert(day, DayAhead { rows: none, files: none, file_bytes: none });
                self.runs.insert(run.id.clone());
            }
        }
        for manifest in manifests {
            self.runs.insert(run.id.clone());
            self.windows.insert(manifest.window, manifest.clone());
            for staged in &manifest.partitions {
                let Some(day) = self.days.get_mut(&staged.partition.day(epoch)) else { continue };
                let add = |figure: &mut Option<Figure>, more: u64| {
                    *figure = figure.map(|figure| figure.plus(Figure::counted(more)));
                };
                add(&mut day.rows, staged.rows);
                add(&mut day.files, staged.files.len() as u64);
                add(&mut day.file_bytes, staged.files.iter().map(|file| file.bytes).sum());
            }
        }
    }
}

/// Windows in order of time, neighbours together.
fn spans(manifests: &[&Manifest]) -> Vec<Window> {
    let mut spans: Vec<Window> = Vec::new();
    for Window { after, before } in manifests.iter().map(|manifest| manifest.window) {
        match spans.last_mut() {
            Some(span) if span.before >= after => span.before = span.before.max(before),
            _ => spans.push(Window { after, before }),
        }
    }
    spans
}
