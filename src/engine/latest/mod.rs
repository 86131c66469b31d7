//! Latest record per key: the textbook SQL stays, its plan becomes two cheap passes over a spool.
//!
//! Users write
//! ```sql
//! SELECT * FROM records
//! QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY time DESC, _seq DESC) = 1
//! ```
//! or the same with a subquery and `WHERE rn = 1`. DataFusion sorts every column of every row for
//! that. Records of an API mostly arrive once and in the order of their ids, so nearly all of that
//! work finds nothing. [`rule`] recognises the form and [`exec`] runs it:
//!
//! 1. *Collect* ([`spool`], [`watch`]): every batch is set aside, in memory up to a limit and then
//!    in a temporary file. Meanwhile an integer key that rises tells which keys may occur twice.
//! 2. *Decide* ([`decide`]): only rows with such a key are compared, exactly, on the whole key and
//!    the whole order. Rows that lose get a bit. Keys that do not rise are found by hash first.
//! 3. *Emit*: the spool is read once more and the losers are left out.
//!
//! # What it promises
//! Exactly one row per distinct key, the one `ROW_NUMBER` would number 1. NULL is a key like any
//! other, and floats are compared by their bits, so `-0.0` and `0.0` are two keys, as in DataFusion.
//! Where `ORDER BY` leaves a tie open, the row that arrives first stays. Rows leave in the order in
//! which they arrived, and the planner is kept from shuffling a single stream around the operator.
//! Several input partitions are read in whatever order they come.
//!
//! # How memory stays flat
//! Batches, candidates and winners live within [`Limits`] and are announced to the memory pool; what
//! does not fit is decided in several passes over the spool. One bit per row is all that grows.
//!
//! # Why not a join with the newest version?
//! It keeps every key in memory, needs the records twice, and has to be written by hand.

mod compact;
mod decide;
mod exec;
mod node;
mod rule;
mod spool;
mod stale;
mod watch;
mod winners;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::ExecutionPlan;

pub use exec::LatestPerKeyExec;
pub use node::LatestPerKey;

/// Name under which the rule can be removed from a session.
pub const RULE: &str = "latest_per_key";

/// What one operator may hold. Everything beyond goes to disk or into another pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of batches that stay in memory; the rest of the spool goes to a temporary file.
    pub spool_bytes: usize,
    /// Bytes that are written to that file at once.
    pub chunk_bytes: usize,
    /// Bytes of keys that might occur twice: late values, or marks of hashes.
    pub candidate_bytes: usize,
    /// Rows whose key did not rise, before the key counts as unordered (and an eighth of all rows).
    pub late_rows: u64,
    /// Bytes of the best row so far of each candidate key.
    pub winner_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            spool_bytes: 16 << 20,
            chunk_bytes: 1 << 20,
            candidate_bytes: 32 << 20,
            late_rows: 65_536,
            winner_bytes: 32 << 20,
        }
    }
}

/// Teaches a session the rule, the operator, and to leave a single stream in its order.
pub fn install(mut builder: SessionStateBuilder, limits: Limits) -> SessionStateBuilder {
    let rules = &mut builder.optimizer().get_or_insert_with(Optimizer::new).rules;
    // Filters have then been pushed through subqueries and aliases down to the window, and
    // projections that drop columns have not yet come between.
    let after = rules.iter().position(|rule| rule.name() == "push_down_filter");
    let rule = Arc::new(rule::LatestRule);
    match after {
        _ if rules.iter().any(|rule| rule.name() == RULE) => {}
        Some(after) => rules.insert(after + 1, rule),
        None => rules.push(rule),
    }
    builder.with_query_planner(Arc::new(node::LatestPlanner { limits }))
}

/// Rows that all latest-per-key operators of an executed plan removed; `None` when there is none.
pub fn duplicates(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    let own = plan.downcast_ref::<LatestPerKeyExec>().map(LatestPerKeyExec::duplicates);
    plan.children().into_iter().filter_map(duplicates).chain(own).reduce(|a, b| a + b)
}
