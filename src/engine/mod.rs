//! The only place where a DataFusion session is built.

pub mod bucket;
mod days;
mod explain;
mod files;
pub mod googlesql;
pub mod latest;
mod sql;
mod text;
mod threads;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::error::{Error, Result};

pub use days::{DayFile, DayFiles};
pub use explain::Operator;
pub use files::is_file;
pub use sql::{Joins, Query, Scanned, Sql, Statement, TableName, plain};
pub use words::{said_of as said, type_name};

/// Limits that every query of one process shares.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes that sorts, joins and aggregates may hold together before they spill.
    pub memory_bytes: usize,
    /// Where they spill to; the system's temporary folder when `None`.
    pub spill_dir: Option<PathBuf>,
    /// Partitions of a plan, that is threads at work on one query.
    pub target_partitions: usize,
    /// Rows of a record batch.
    pub batch_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        // 128 MiB: two windows of a day side by side stay well under the 400 MiB the product promises.
        Options { memory_bytes: 128 << 20, spill_dir: None, target_partitions: 2, batch_rows: 8192 }
    }
}

/// Makes sessions that share one memory pool and one spill folder.
#[derive(Debug, Clone)]
pub struct Engine {
    runtime: Arc<RuntimeEnv>,
    options: Options,
}

impl Engine {
    pub fn new(options: Options) -> Result<Self> {
        let mode = match &options.spill_dir {
            Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let pool = TrackConsumersPool::new(
            FairSpillPool::new(options.memory_bytes),
            std::num::NonZeroUsize::new(3).expect("3 is not zero"),
        );
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode))
            .build_arc()
            .map_err(|e| Error::failed("cannot set up the SQL engine").caused_by(e))?;
        Ok(Engine { runtime, options })
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Settings common to every session; callers add what their dialect needs.
    pub fn config(&self) -> SessionConfig {
        SessionConfig::new()
            .with_target_partitions(self.options.target_partitions)
            .with_batch_size(self.options.batch_rows)
            .with_information_schema(false)
    }

    /// A builder with DataFusion's own functions and rules and [`latest`], to which a caller may add.
    pub fn state_builder(&self, config: SessionConfig) -> SessionStateBuilder {
        let builder = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_default_features();
        latest::install(builder, latest::Limits::default())
    }

    /// A session with DataFusion's own SQL.
    pub fn session(&self) -> SessionContext {
        SessionContext::new_with_state(self.state_builder(self.config()).build())
    }
}
