//! One bit per row: set when another row of the same key comes first.

use arrow::array::{BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;

/// Marks rows while the decision is made.
pub(super) struct Marks {
    bits: BooleanBufferBuilder,
    reservation: MemoryReservation,
}

impl Marks {
    pub(super) fn new(rows: usize, reservation: MemoryReservation) -> Self {
        // An eighth of a byte per row is what the operator cannot do without, so it is not asked for.
        reservation.grow(rows.div_ceil(8));
        let mut bits = BooleanBufferBuilder::new(rows);
        bits.append_n(rows, false);
        Marks { bits, reservation }
    }

    pub(super) fn set(&mut self, row: usize) {
        self.bits.set_bit(row, true);
    }

    pub(super) fn finish(mut self) -> Stale {
        Stale { bits: self.bits.finish(), _reservation: self.reservation }
    }
}

/// The rows to leave out.
pub(super) struct Stale {
    bits: BooleanBuffer,
    _reservation: MemoryReservation,
}

impl Stale {
    /// `batch`, whose first row is number `row`, without its stale rows, and how many those were.
    pub(super) fn strip(&self, batch: RecordBatch, row: usize) -> Result<(RecordBatch, usize)> {
        let bits = self.bits.slice(row, batch.num_rows());
        let stale = bits.count_set_bits();
        if stale == 0 {
            return Ok((batch, 0));
        }
        Ok((filter_record_batch(&batch, &BooleanArray::new(!&bits, None))?, stale))
    }
}
