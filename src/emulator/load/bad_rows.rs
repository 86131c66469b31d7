//! Rows that do not fit: counted, shown, and too many of them end the job.

use crate::emulator::wire::{Failure, Outcome};

/// As many as BigQuery shows.
const SHOWN_MAX: usize = 10;

/// The account of one job over all of its files.
#[derive(Debug)]
pub(super) struct BadRows {
    format: &'static str,
    allowed: u64,
    rows: u64,
    bad: u64,
    shown: Vec<Failure>,
}

impl BadRows {
    pub(super) fn new(format: &'static str, allowed: u64) -> Self {
        BadRows { format, allowed, rows: 0, bad: 0, shown: Vec::new() }
    }

    pub(super) fn good_row(&mut self) {
        self.rows += 1;
    }

    /// Leaves the row out, or ends the job in BigQuery's words.
    pub(super) fn bad_row(&mut self, failure: Failure) -> Outcome<()> {
        self.rows += 1;
        self.bad += 1;
        let uri = failure.location.clone();
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(failure);
        }
        if self.bad <= self.allowed {
            return Ok(());
        }
        let BadRows { format, rows, bad, allowed, .. } = self;
        let mut details = vec![super::read_failed(
            "",
            format!(
                "{format} processing encountered too many errors, giving up. Rows: {rows}; errors: {bad}; max \
                 bad: {allowed}; error percent: 0"
            ),
        )];
        details.append(&mut self.shown);
        let message = format!(
            "Error while reading data, error message: {format} table encountered too many errors, giving up. \
             Rows: {rows}; errors: {bad}. Please look into the errors[] collection for more details."
        );
        let message = match &uri {
            Some(uri) => format!("{message} File: {uri}"),
            None => message,
        };
        Err(Failure { location: uri, details, ..Failure::invalid(message) })
    }

    pub(super) fn into_parts(self) -> (u64, Vec<Failure>) {
        (self.bad, self.shown)
    }
}
