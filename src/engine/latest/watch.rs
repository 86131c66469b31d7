//! Watches the first key expression while batches arrive, to find the keys that may occur twice.
//!
//! As long as an integer key rises, a row above the highest value so far cannot have been seen.
//! Only values that do not rise ("late" ones) may belong to two rows, and those are few.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{HashSet, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::PhysicalExpr;

use super::Limits;

/// What is known about keys when all rows have arrived.
pub(super) enum Found {
    /// Every row had a new first key, so every row stays.
    Unique,
    /// Only rows with one of these first keys may share their key with another row.
    Late(LateKeys),
    /// Any two rows may share their key.
    Unknown,
}

/// Values of the first key expression that did not rise.
pub(super) struct LateKeys {
    keys: HashSet<i64>,
    /// A bit per key, found by its low bits: rising keys read it in order, and it says no at once.
    sieve: Vec<u64>,
    _reservation: MemoryReservation,
}

impl LateKeys {
    fn new(keys: HashSet<i64>, reservation: MemoryReservation) -> Self {
        // Sixteen bits per key let few others through. Small beside the keys, so it is not asked for.
        let words = (keys.len() / 4).next_power_of_two();
        reservation.grow(words * size_of::<u64>());
        let mut sieve = vec![0; words];
        for key in &keys {
            let (word, bit) = Self::place(*key, words);
            sieve[word] |= bit;
        }
        LateKeys { keys, sieve, _reservation: reservation }
    }

    /// The word of a sieve of `words`, a power of two, and the bit in it.
    fn place(key: i64, words: usize) -> (usize, u64) {
        ((key as u64 >> 6) as usize & (words - 1), 1 << (key & 63))
    }

    /// Appends the positions of the rows that may share their key. `first` is the first key column.
    pub(super) fn pick(&self, first: &ArrayRef, picked: &mut Vec<u32>) -> Result<()> {
        // The watch saw the same values, so they are integers without NULL.
        let values = rising_values(first)?.expect("a watched key is an integer without NULL");
        for (row, value) in (0_u32..).zip(values.values()) {
            let (word, bit) = Self::place(*value, self.sieve.len());
            if self.sieve[word] & bit != 0 && self.keys.contains(value) {
                picked.push(row);
            }
        }
        Ok(())
    }
}

pub(super) struct Watch {
    key: Arc<dyn PhysicalExpr>,
    limits: Limits,
    reservation: MemoryReservation,
    watching: bool,
    /// The lowest value there is counts as late from the start, which is harmless.
    highest: i64,
    rows: u64,
    late_rows: u64,
    late: HashSet<i64>,
}

impl Watch {
    pub(super) fn new(key: Arc<dyn PhysicalExpr>, limits: Limits, reservation: MemoryReservation) -> Self {
        Watch {
            key,
            limits,
            reservation,
            watching: true,
            highest: i64::MIN,
            rows: 0,
            late_rows: 0,
            late: HashSet::default(),
        }
    }

    pub(super) fn see(&mut self, batch: &RecordBatch) -> Result<()> {
        if !self.watching {
            return Ok(());
        }
        let first = self.key.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(values) = rising_values(&first)? else {
            self.give_up();
            return Ok(());
        };
        let mut highest = self.highest;
        for &value in values.values() {
            if value > highest {
                highest = value;
            } else {
                self.late_rows += 1;
                self.late.insert(value);
            }
        }
        self.highest = highest;
        self.rows += values.len() as u64;
        // Late rows are counted, not late values: few values may cover many rows, each a key of its own.
        let many = self.late_rows > self.limits.late_rows && self.late_rows > self.rows / 8;
        let bytes = self.late.allocation_size();
        if many || bytes > self.limits.candidate_bytes || self.reservation.try_resize(bytes).is_err() {
            self.give_up();
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Found {
        if !self.watching {
            return Found::Unknown;
        }
        if self.late.is_empty() {
            return Found::Unique;
        }
        Found::Late(LateKeys::new(self.late, self.reservation))
    }

    fn give_up(&mut self) {
        self.watching = false;
        self.late = HashSet::default();
        self.reservation.free();
    }
}

/// The values as `i64`, in the same order; `None` if they are no integers, or some are NULL.
fn rising_values(array: &ArrayRef) -> Result<Option<Int64Array>> {
    if !array.data_type().is_integer() || array.null_count() > 0 {
        return Ok(None);
    }
    // A `u64` too large for `i64` becomes NULL here.
    let values = cast(array, &DataType::Int64)?;
    Ok((values.null_count() == 0).then(|| values.as_primitive::<Int64Type>().clone()))
}
