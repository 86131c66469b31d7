//! Names of tables and jobs, without the client that uses them.

#[path = "../../../src/bigquery/names.rs"]
mod names;

pub use names::{TableId, load_job_id};
