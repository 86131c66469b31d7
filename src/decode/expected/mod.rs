//! The fast path: records that are written as an earlier one was.
//!
//! Nearly all records of a body have the same tags or keys in the same order, byte for byte, and differ
//! in their values. So the careful path reads the first one; what stands between its values is learned
//! as a [`Template`], and the next records are compared with that and their values go straight into the
//! columns. A value must be plain: text that stands for itself, a number in its usual spelling.
//!
//! Whatever is not as expected is left, as if it had not been seen, to the careful path, which alone
//! rejects records and finds fault with documents. A template comes from a record that path took for a
//! row, so a record that has all of it, and plain values, is one too.

pub(super) mod json;
mod literal;
pub(super) mod xml;

use super::rows::Rows;
use literal::Literal;

/// Why a record is not taken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Miss {
    /// The bytes end before it can be told. Some more are looked at than the record has.
    Short,
    /// It is something else, or may be.
    Other,
}

/// A value that stands between two literals: how it is written, and the column that takes it.
trait Value: std::fmt::Debug + PartialEq {
    /// Appends the value at `at`, and returns where it ends.
    fn read(&self, bytes: &[u8], at: usize, rows: &mut Rows) -> Result<usize, Miss>;
}

/// What the records of one shape have in common.
#[derive(Debug, PartialEq)]
struct Template<V> {
    /// Each value, and what stands before it.
    values: Vec<(Literal, V)>,
    /// What stands behind the last value.
    end: Literal,
    /// Columns that such records lack. They are NULLABLE, or the record would be no row.
    absent: Vec<usize>,
    /// Fields that are no columns.
    unknown: Vec<String>,
}

/// The shapes that records had lately. Optional fields make for more than one.
#[derive(Debug)]
struct Shapes<V> {
    /// The one that fitted last comes first.
    templates: Vec<Template<V>>,
    /// Records in a row that fitted none.
    misses: u32,
    /// Records to leave alone, since so many fitted none.
    pause: u32,
}

/// Each is tried on a record that the others do not fit, and a try has its cost.
const TEMPLATES_MAX: usize = 4;
/// So many shapes in a row that were never seen again, and learning is not worth it for a while.
const MISSES_MAX: u32 = 8;
/// Records after which learning is tried again, however often it was in vain.
const PAUSE_MAX: u32 = 4096;

impl<V: Value> Template<V> {
    /// Appends the record at the start of `bytes` to the columns, and returns where it ends. They are as
    /// they were if it is not taken.
    fn read(&self, bytes: &[u8], rows: &mut Rows) -> Result<usize, Miss> {
        let end = self.values(bytes, rows).inspect_err(|_| rows.undo())?;
        for name in &self.unknown {
            rows.drift().unknown_again(name);
        }
        Ok(end)
    }

    fn values(&self, bytes: &[u8], rows: &mut Rows) -> Result<usize, Miss> {
        let mut at = 0;
        for (before, value) in &self.values {
            at = before.after(bytes, at)?;
            at = value.read(bytes, at, rows)?;
        }
        at = self.end.after(bytes, at)?;
        for column in &self.absent {
            rows.builder(*column).append_null();
        }
        Ok(at)
    }
}

impl<V: Value> Shapes<V> {
    fn new() -> Self {
        Shapes { templates: Vec::with_capacity(TEMPLATES_MAX), misses: 0, pause: 0 }
    }

    /// Reads the record at the start of `bytes`, if it is written as one before.
    fn read(&mut self, bytes: &[u8], rows: &mut Rows) -> Result<usize, Miss> {
        if self.pause > 0 {
            return Err(Miss::Other);
        }
        for i in 0..self.templates.len() {
            match self.templates[i].read(bytes, rows) {
                Err(Miss::Other) => {}
                Err(Miss::Short) => return Err(Miss::Short),
                Ok(end) => {
                    self.templates.swap(0, i);
                    self.misses = 0;
                    return Ok(end);
                }
            }
        }
        Err(Miss::Other)
    }

    /// Takes note of a record that the careful path took for a row.
    fn learn(&mut self, template: impl FnOnce() -> Option<Template<V>>) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        self.misses += 1;
        if self.misses > MISSES_MAX {
            self.pause = 1u32.checked_shl(self.misses).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        }
        // A record may be of a known shape and have a value that is not plain.
        let Some(template) = template().filter(|template| !self.templates.contains(template)) else { return };
        self.templates.truncate(TEMPLATES_MAX - 1);
        self.templates.insert(0, template);
    }
}

#[cfg(test)]
mod tests;
