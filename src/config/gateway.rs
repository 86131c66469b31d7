//! How rows leave the gateway.

use serde::Deserialize;

use crate::error::{Error, Result};

#[derive(Debug, Clone, Deserialize)]
pub struct GatewaySettings {
    out: String,
    /// Stream: rows go to the table named `warehouse.table` and this behind it, which is made like that one.
    pub template_suffix: String,
    /// Stream: the good rows of a request are stored at once, although others of it are not.
    pub skip_invalid_rows: bool,
    /// Stream: fields that the table has no column for are dropped.
    pub ignore_unknown_values: bool,
}

/// What rows are taken to the table by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayOut {
    /// Load jobs that append: each row once.
    Batch,
    /// insertAll: within a second, and at least once.
    Stream,
}

impl GatewaySettings {
    pub(super) fn check(&self) -> Result<()> {
        let suffix = &self.template_suffix;
        if !suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || suffix.len() > 100 {
            return Err(Error::usage(format!(
                "`gateway.template_suffix` `{suffix}` cannot end a table's name"
            ))
            .hint("letters, digits and `_`, at most 100"));
        }
        if self.way_out()? == WayOut::Batch && !suffix.is_empty() {
            return Err(Error::usage("`gateway.template_suffix` needs `gateway.out = \"stream\"`")
                .hint("load jobs append to `warehouse.table` itself"));
        }
        Ok(())
    }

    pub fn way_out(&self) -> Result<WayOut> {
        match self.out.as_str() {
            "batch" => Ok(WayOut::Batch),
            "stream" => Ok(WayOut::Stream),
            other => {
                Err(Error::usage(format!("`gateway.out` `{other}` is unknown")).hint("one of batch, stream"))
            }
        }
    }
}
