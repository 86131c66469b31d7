//! What the source told of windows that are still to be fetched.

use std::collections::BTreeMap;
use std::fmt;

use super::figure::Figure;
use crate::partition::Window;

/// Counts of windows, and a few windows read in part.
#[derive(Debug, Default)]
pub struct Sample {
    /// Records of a window, as the source itself counts them.
    pub counts: BTreeMap<Window, u64>,
    /// Windows that were read, and of those the ones that were read to their end, with their records.
    pub read: usize,
    pub whole: BTreeMap<Window, u64>,
    /// Records read, the rows and bytes they came to, and how long it took.
    pub records: u64,
    pub rows: u64,
    pub file_bytes: u64,
    pub table_bytes: u64,
    pub ms: u64,
}

impl Sample {
    pub(super) fn records_of(&self, window: Window) -> Option<Figure> {
        if let Some(records) = self.counts.get(&window).or(self.whole.get(&window)) {
            return Some(Figure::counted(*records));
        }
        // The mean of windows of which none is known to be cut off.
        let is_whole = self.read > 0 && self.whole.len() == self.read;
        let sum: u64 = self.whole.values().sum();
        is_whole.then(|| Figure::estimated(sum as f64 / self.read as f64))
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { counts, read, records, .. } = self;
        if !counts.is_empty() {
            write!(f, "the source's own counts, and ")?;
        }
        write!(f, "a sample of {} records from {read} windows", indicatif::HumanCount(*records))
    }
}
