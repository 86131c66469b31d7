//! What one window that is not done will bring.

use std::collections::BTreeMap;

use serde::Serialize;

use super::earlier::Earlier;
use super::figure::{self, Figure, Known};
use super::rates::Rates;
use super::sample::Sample;
use crate::config::Pipeline;
use crate::ledger::Standing;
use crate::manifest::Manifest;
use crate::partition::{SECONDS_PER_DAY, Window};

/// Where the numbers of a window are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Its own files.
    Staged,
    Sample,
    /// Another run of the same source.
    Earlier,
    Nothing,
}

#[derive(Debug, Serialize)]
pub struct Ahead {
    pub window: Window,
    pub state: Standing,
    pub basis: Basis,
    pub records: Option<Figure>,
    /// Those with records, by number from 1. Each is a load job.
    pub days: BTreeMap<i64, DayAhead>,
    pub days_known: Known,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct DayAhead {
    pub rows: Option<Figure>,
    pub files: Option<Figure>,
    pub file_bytes: Option<Figure>,
}

pub(super) struct Knows<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) sample: Option<&'a Sample>,
    pub(super) earlier: &'a Earlier,
    pub(super) rates: &'a Rates,
}

impl Ahead {
    pub(super) fn new(
        knows: &Knows<'_>,
        window: Window,
        state: Standing,
        staged: Option<&Manifest>,
    ) -> Ahead {
        let epoch = knows.pipeline.epoch;
        let mut ahead = Ahead {
            window,
            state,
            basis: Basis::Nothing,
            records: None,
            days: BTreeMap::new(),
            days_known: Known::Counted,
        };
        if let Some(manifest) = staged {
            ahead.basis = Basis::Staged;
            ahead.records = Some(Figure::counted(manifest.counts.records));
            ahead.days = days_of(manifest, epoch);
        } else if let Some(records) = knows.sample.and_then(|sample| sample.records_of(window)) {
            ahead.basis = Basis::Sample;
            ahead.spread(records, knows);
        } else if let Some(manifest) = knows.earlier.window(window) {
            ahead.basis = Basis::Earlier;
            ahead.records = Some(Figure::counted(manifest.counts.records));
            ahead.days = days_of(manifest, epoch);
        } else if let Some(days) = knows.earlier.days(window) {
            ahead.basis = Basis::Earlier;
            ahead.share(days);
        } else {
            ahead.days_known = Known::AtMost;
            let (first, last) = window.days();
            ahead.days = (first..=last).map(|day| (day, DayAhead::default())).collect();
        }
        ahead
    }

    /// Whether the source is asked for it; what is staged is not fetched again.
    pub(super) fn is_fetched(&self) -> bool {
        self.basis != Basis::Staged
    }

    pub(super) fn rows(&self) -> Option<Figure> {
        figure::sum(self.days.values().map(|day| day.rows))
    }

    pub(super) fn files(&self) -> Option<Figure> {
        figure::sum(self.days.values().map(|day| day.files))
    }

    pub(super) fn file_bytes(&self) -> Option<Figure> {
        figure::sum(self.days.values().map(|day| day.file_bytes))
    }

    /// So many records evenly over the days of the window: which of several days have any is not known.
    fn spread(&mut self, records: Figure, knows: &Knows<'_>) {
        self.records = Some(records);
        if records == Figure::counted(0) {
            return;
        }
        let (first, last) = self.window.days();
        let is_sure = first == last && records.known == Known::Counted;
        self.days_known = if is_sure { Known::Counted } else { Known::AtMost };
        let share = records.value as f64 * knows.rates.rows_per_record / (last - first + 1) as f64;
        let bytes = knows.rates.file_bytes_per_row.map(|bytes| share * bytes);
        let file_bytes_max = (knows.pipeline.stage.file_mib_max << 20) as f64;
        let day = DayAhead {
            rows: Some(Figure::estimated(share)),
            files: bytes.map(|bytes| Figure::estimated((bytes / file_bytes_max).ceil().max(1.0))),
            file_bytes: bytes.map(Figure::estimated),
        };
        self.days = (first..=last).map(|of| (of, day)).collect();
    }

    /// What other windows brought for these days; of a part of a day, as much as that part is of it.
    fn share(&mut self, mut days: BTreeMap<i64, DayAhead>) {
        if !self.window.covers_whole_days() {
            self.days_known = Known::AtMost;
            for (number, day) in &mut days {
                let (start, end) = ((number - 1) * SECONDS_PER_DAY, number * SECONDS_PER_DAY);
                let inside = self.window.before.min(end) - self.window.after.max(start);
                let part = inside as f64 / SECONDS_PER_DAY as f64;
                let of = |figure: Option<Figure>| figure.map(|f| Figure::estimated(f.value as f64 * part));
                let files = day.files.map(|files| Figure::estimated((files.value as f64 * part).ceil()));
                *day = DayAhead { rows: of(day.rows), files, file_bytes: of(day.file_bytes) };
            }
        }
        self.days = days;
    }
}

fn days_of(manifest: &Manifest, epoch: chrono::NaiveDate) -> BTreeMap<i64, DayAhead> {
    let day = |staged: &crate::manifest::StagedPartition| DayAhead {
        rows: Some(Figure::counted(staged.rows)),
        files: Some(Figure::counted(staged.files.len() as u64)),
        file_bytes: Some(Figure::counted(staged.files.iter().map(|file| file.bytes).sum())),
    };
    manifest.partitions.iter().map(|staged| (staged.partition.day(epoch), day(staged))).collect()
}
