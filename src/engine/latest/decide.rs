//! Finds the rows that lose to another row of their key, in as many passes as memory asks for.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_arrays;
use arrow::datatypes::Schema;
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use datafusion::common::hash_utils::{RandomState, with_hashes};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::metrics::{Count, Time};

use super::Limits;
use super::spool::{Columns, Spooled};
use super::stale::{Marks, Stale};
use super::watch::{Found, LateKeys};
use super::winners::{self, Winners};

/// Keys of one share that are decided whatever memory says; a batch brings about as many.
const SHARE_MIN: usize = 64;

/// Compares rows of hot columns by key and order.
pub(super) struct Comparison {
    key: Vec<Arc<dyn PhysicalExpr>>,
    order: Vec<PhysicalSortExpr>,
    key_rows: RowConverter,
    order_rows: RowConverter,
}

impl Comparison {
    /// The expressions refer to `schema`.
    pub(super) fn new(
        key: Vec<Arc<dyn PhysicalExpr>>,
        order: Vec<PhysicalSortExpr>,
        schema: &Schema,
    ) -> Result<Self> {
        let mut key_fields = Vec::with_capacity(key.len());
        for expr in &key {
            key_fields.push(SortField::new(expr.data_type(schema)?));
        }
        let mut order_fields = Vec::with_capacity(order.len());
        for sort in &order {
            order_fields.push(SortField::new_with_options(sort.expr.data_type(schema)?, sort.options));
        }
        let key_rows = RowConverter::new(key_fields)?;
        Ok(Comparison { key, order, key_rows, order_rows: RowConverter::new(order_fields)? })
    }

    fn keys(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.key.iter().map(|key| key.evaluate(batch)?.into_array(batch.num_rows())).collect()
    }

    fn orders(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.order.iter().map(|sort| sort.expr.evaluate(batch)?.into_array(batch.num_rows())).collect()
    }
}

pub(super) struct Decision<'a> {
    pub(super) spool: &'a Spooled,
    pub(super) comparison: Comparison,
    pub(super) limits: Limits,
    pub(super) passes: Count,
    pub(super) time: Time,
    /// For candidates and winners; an empty one per purpose is split off.
    pub(super) memory: MemoryReservation,
}

impl Decision<'_> {
    /// The rows to leave out; `None` if all stay.
    pub(super) async fn run(self, found: Found) -> Result<Option<Stale>> {
        if matches!(found, Found::Unique) {
            return Ok(None);
        }
        let mut marks = Marks::new(self.spool.rows(), self.memory.new_empty());
        match found {
            Found::Unique => {}
            Found::Late(late) => self.settle(&Candidates::Late(late), &mut marks).await?,
            Found::Unknown => self.settle_by_hash(&mut marks).await?,
        }
        Ok(Some(marks.finish()))
    }

    /// For keys in no useful order: looks only at rows whose hash occurs twice.
    async fn settle_by_hash(&self, marks: &mut Marks) -> Result<()> {
        // Sixteen slots per row let one row in sixteen through by accident; eight are still worth it.
        let rows = self.spool.rows();
        let wanted = (rows * 16).next_power_of_two().max(64);
        let memory = self.memory.new_empty();
        // Two marks per slot.
        let mut slots = wanted.min(previous_power_of_two(self.limits.candidate_bytes * 4)).max(64);
        while let Err(error) = memory.try_resize(slots / 4) {
            if slots <= 64 << 10 {
                return Err(error);
            }
            slots /= 2;
        }
        let shares = (rows * 8).div_ceil(slots).max(1) as u64;
        for share in 0..shares {
            let mut repeated = Repeated::new(slots, Share { of: shares, share });
            self.passes.add(1);
            let mut scan = self.spool.scan(Columns::Hot);
            while let Some(batch) = scan.next().await? {
                let _timer = self.time.timer();
                repeated.see(&self.comparison.keys(&batch)?)?;
            }
            if repeated.any {
                self.settle(&Candidates::Repeated(repeated), marks).await?;
            }
        }
        Ok(())
    }

    /// Compares the candidates exactly: all of them at once, or split by hash until a share fits.
    async fn settle(&self, candidates: &Candidates, marks: &mut Marks) -> Result<()> {
        let mut shares = vec![Share { of: 1, share: 0 }];
        while let Some(share) = shares.pop() {
            self.passes.add(1);
            // Marks made before a share turns out too large are true all the same.
            if !self.settle_share(candidates, share, marks).await? {
                shares.extend(share.halves());
            }
        }
        Ok(())
    }

    /// False if the winners outgrew their memory.
    async fn settle_share(&self, candidates: &Candidates, share: Share, marks: &mut Marks) -> Result<bool> {
        let memory = self.memory.new_empty();
        let mut winners = Winners::default();
        let mut picked = Vec::new();
        let mut row = 0;
        let mut scan = self.spool.scan(Columns::Hot);
        while let Some(batch) = scan.next().await? {
            let _timer = self.time.timer();
            let keys = self.comparison.keys(&batch)?;
            picked.clear();
            candidates.pick(&keys, &mut picked)?;
            if !picked.is_empty() {
                let orders = self.comparison.orders(&batch)?;
                self.offer(&picked, &keys, &orders, row, share, &mut winners, marks)?;
                let bytes = winners.bytes();
                let room = memory.try_resize(bytes);
                if winners.len() > SHARE_MIN && (bytes > self.limits.winner_bytes || room.is_err()) {
                    return Ok(false);
                }
                room?;
            }
            row += batch.num_rows();
        }
        Ok(true)
    }

    #[expect(clippy::too_many_arguments, reason = "the inner loop of `settle_share`, apart to be read")]
    fn offer(
        &self,
        picked: &[u32],
        keys: &[ArrayRef],
        orders: &[ArrayRef],
        first_row: usize,
        share: Share,
        winners: &mut Winners,
        marks: &mut Marks,
    ) -> Result<()> {
        let indices = UInt32Array::from(picked.to_vec());
        let key_rows = self.comparison.key_rows.convert_columns(&take_arrays(keys, &indices, None)?)?;
        // Without ORDER BY the first to arrive wins, that is all orders are equal.
        let order_rows = match orders {
            [] => None,
            orders => {
                Some(self.comparison.order_rows.convert_columns(&take_arrays(orders, &indices, None)?)?)
            }
        };
        for (i, row) in picked.iter().enumerate() {
            let key = key_rows.row(i).data();
            let hash = winners::hash(key);
            if !share.takes(hash) {
                continue;
            }
            let order = order_rows.as_ref().map_or(&[][..], |rows| rows.row(i).data());
            if let Some(loser) = winners.offer(hash, key, order, first_row + *row as usize) {
                marks.set(loser);
            }
        }
        Ok(())
    }
}

/// Rows that may share their key with another row.
enum Candidates {
    Late(LateKeys),
    Repeated(Repeated),
}

impl Candidates {
    fn pick(&self, keys: &[ArrayRef], picked: &mut Vec<u32>) -> Result<()> {
        match self {
            Candidates::Late(late) => late.pick(&keys[0], picked),
            Candidates::Repeated(repeated) => repeated.pick(keys, picked),
        }
    }
}

/// One part of all hashes.
#[derive(Debug, Clone, Copy)]
struct Share {
    of: u64,
    share: u64,
}

impl Share {
    // The upper half, because tables and slots go by the lower bits.
    fn takes(self, hash: u64) -> bool {
        self.of == 1 || (hash >> 32) % self.of == self.share
    }

    fn halves(self) -> [Share; 2] {
        let of = self.of * 2;
        [Share { of, share: self.share + self.of }, Share { of, share: self.share }]
    }
}

/// Slots, chosen by the hash of a key, that were met at least once, and at least twice.
struct Repeated {
    mask: u64,
    share: Share,
    once: Vec<u64>,
    twice: Vec<u64>,
    any: bool,
}

impl Repeated {
    fn new(slots: usize, share: Share) -> Self {
        let empty = vec![0; slots / 64];
        Repeated { mask: slots as u64 - 1, share, once: empty.clone(), twice: empty, any: false }
    }

    fn see(&mut self, keys: &[ArrayRef]) -> Result<()> {
        with_hashes(keys, &RandomState::default(), |hashes| {
            for hash in hashes.iter().filter(|hash| self.share.takes(**hash)) {
                let (word, bit) = Self::place(hash & self.mask);
                let again = self.once[word] & bit;
                self.once[word] |= bit;
                self.twice[word] |= again;
                self.any |= again != 0;
            }
            Ok(())
        })
    }

    fn pick(&self, keys: &[ArrayRef], picked: &mut Vec<u32>) -> Result<()> {
        with_hashes(keys, &RandomState::default(), |hashes| {
            for (row, hash) in (0_u32..).zip(hashes) {
                let (word, bit) = Self::place(hash & self.mask);
                if self.twice[word] & bit != 0 && self.share.takes(*hash) {
                    picked.push(row);
                }
            }
            Ok(())
        })
    }

    fn place(slot: u64) -> (usize, u64) {
        ((slot / 64) as usize, 1 << (slot % 64))
    }
}

fn previous_power_of_two(n: usize) -> usize {
    if n == 0 { 0 } else { 1 << n.ilog2() }
}
