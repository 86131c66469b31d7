//! The gateway: JSON rows in by HTTP, durable before they are acknowledged, then into BigQuery: each once
//! by load jobs, or within a second and at least once by insertAll.
//!
//! ```text
//! POST ──► auth ──► decode ────► spool ─────────► answer
//!          argon2   columns,     group commit:    "Submitted", n accepted,
//!          once     rejects by   one write,       rejected by index, an id
//!                   index        one fsync
//!                                  │
//!                                  ▼ full or old: sealed
//!                 segment ──► Parquet ──► intent ──► load job ──► loaded ──► segment deleted
//!                             staged      journal    appends      journal
//!
//!                 or  segment ──► insertAll ──► each row inserted or refused ──► streamed ──► segment deleted
//!                                 insertIds     rejects                          journal
//! ```
//!
//! A row has one owner at every instant. Until the answer it is its sender's, who may send it again.
//! From the answer on it is in one segment of the [`spool`], which the disk has. Once the intent of that
//! segment is in the journal, its load job is driven to its end, whatever happens to the segment's
//! file. Only when `loaded` is in the journal the file goes. A segment's id is its folder in the
//! journal, and the job's id is made of it and of the rows: the same segment met twice, after a kill at
//! any point, is the same load. A row that is streamed has an id of its own instead, by which BigQuery
//! drops what comes twice, for a minute; its segment's file goes when `streamed` is in the journal.
//!
//! # Why is a row that cannot be loaded refused, and not taken?
//! Its sender is the only one who can mend it. So the columns' rules are applied before the answer, by
//! the same code as for a backfill, and what is acknowledged fits the table.
//!
//! # Why a spool, and not rows straight into BigQuery?
//! A load job takes seconds, and a table takes 1,500 a day; senders want an answer in milliseconds.
//! Streaming inserts answer in time, but not while BigQuery is away, and when an answer is lost nobody
//! knows whether the row is there. So they too are made from the spool, until each row has an answer.

pub mod auth;
mod body;
pub mod client;
mod describe;
pub mod front;
mod judged;
mod kept_keys;
mod keys;
mod letter;
pub mod load_test;
mod metrics;
mod out;
mod payload;
mod problem;
mod run;
pub mod spool;
pub mod track;

pub use body::Limits;
pub use keys::Remembered;
pub use letter::{Head, Letter};
pub use metrics::Metrics;
pub use out::{Pace, RefusedRow, refused_rows};
pub use payload::{Judged, Malformed, Rejected, judge};
pub use run::{Gateway, Settings};
