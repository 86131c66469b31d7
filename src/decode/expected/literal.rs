//! Bytes that must stand between two values, compared a block at a time.

use super::Miss;

/// Most literals have fewer bytes, such as `</src_comp><src_port>`.
const BLOCK: usize = 32;

#[derive(Debug, PartialEq)]
pub(super) struct Literal {
    length: usize,
    /// The first bytes, and zeros behind them; the other has ones where those are to be compared.
    block: [u8; BLOCK],
    mask: [u8; BLOCK],
    /// What does not fit into the block.
    rest: Vec<u8>,
}

impl Literal {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let (first, rest) = bytes.split_at(bytes.len().min(BLOCK));
        let (mut block, mut mask) = ([0; BLOCK], [0; BLOCK]);
        block[..first.len()].copy_from_slice(first);
        mask[..first.len()].fill(0xff);
        Literal { length: bytes.len(), block, mask, rest: rest.to_vec() }
    }

    /// Where it ends, if it stands at `at`.
    #[inline]
    pub(super) fn after(&self, bytes: &[u8], at: usize) -> Result<usize, Miss> {
        // A whole block is compared always: that takes a few instructions and no branch on its length.
        let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()).ok_or(Miss::Short)?;
        let mut differs = 0;
        for ((found, wanted), mask) in found.iter().zip(&self.block).zip(&self.mask) {
            differs |= (found ^ wanted) & mask;
        }
        if differs != 0 {
            return Err(Miss::Other);
        }
        let end = at + self.length;
        if !self.rest.is_empty() {
            match bytes.get(at + BLOCK..end) {
                None => return Err(Miss::Short),
                Some(found) if found != self.rest => return Err(Miss::Other),
                Some(_) => {}
            }
        }
        Ok(end)
    }
}
