//! The best row so far of each key, within a bounded number of bytes.

use std::hash::BuildHasher;

use datafusion::common::HashMap;
use datafusion::common::hash_utils::RandomState;

/// No entry follows.
const END: u32 = u32::MAX;

/// Keys and orders as bytes in one arena; entries whose hashes agree form a chain.
#[derive(Default)]
pub(super) struct Winners {
    heads: HashMap<u64, u32>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
}

struct Entry {
    /// Where the key starts in the arena; the order follows it.
    at: usize,
    key_len: u32,
    order_len: u32,
    row: usize,
    next: u32,
}

/// The hash that [`Winners::offer`] wants.
pub(super) fn hash(key: &[u8]) -> u64 {
    RandomState::default().hash_one(key)
}

impl Winners {
    /// Takes part with `row`; returns the row that lost: it, the winner so far, or none yet.
    /// Rows have to be offered in the order of arrival, for then a tie goes to the first.
    pub(super) fn offer(&mut self, hash: u64, key: &[u8], order: &[u8], row: usize) -> Option<usize> {
        let head = self.heads.get(&hash).copied().unwrap_or(END);
        let mut at = head;
        while let Some(entry) = self.entries.get_mut(at as usize) {
            let order_at = entry.at + entry.key_len as usize;
            if &self.arena[entry.at..order_at] != key {
                at = entry.next;
                continue;
            }
            let best = &mut self.arena[order_at..order_at + entry.order_len as usize];
            if order >= &*best {
                return Some(row);
            }
            if best.len() == order.len() {
                best.copy_from_slice(order);
            } else {
                (entry.at, entry.order_len) = (self.arena.len(), order.len() as u32);
                self.arena.extend_from_slice(key);
                self.arena.extend_from_slice(order);
            }
            return Some(std::mem::replace(&mut entry.row, row));
        }
        self.heads.insert(hash, self.entries.len() as u32);
        self.entries.push(Entry {
            at: self.arena.len(),
            key_len: key.len() as u32,
            order_len: order.len() as u32,
            row,
            next: head,
        });
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(order);
        None
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.heads.allocation_size() + self.entries.capacity() * size_of::<Entry>() + self.arena.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_the_same_hash_stay_apart_and_ties_go_to_the_first() {
        let mut winners = Winners::default();
        assert_eq!(winners.offer(7, b"a", b"5", 0), None);
        assert_eq!(winners.offer(7, b"b", b"5", 1), None);
        assert_eq!(winners.offer(7, b"a", b"5", 2), Some(2));
        assert_eq!(winners.offer(7, b"a", b"40", 3), Some(0));
        assert_eq!(winners.offer(7, b"b", b"6", 4), Some(4));
        assert_eq!(winners.offer(7, b"a", b"39", 5), Some(3));
        assert_eq!(winners.offer(7, b"a", b"3", 6), Some(5));
        assert_eq!(winners.len(), 2);
    }
}
