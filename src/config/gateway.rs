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
        self.way_out().map(drop)
    }

    /// Refuses what would have no effect on the way that rows go.
    pub(super) fn check_way_out(&self) -> Result<()> {
        let of_streams = [
            ("template_suffix", !self.template_suffix.is_empty()),
            ("skip_invalid_rows", self.skip_invalid_rows),
            ("ignore_unknown_values", self.ignore_unknown_values),
        ];
        match (self.way_out()?, of_streams.into_iter().find(|(_, is_set)| *is_set)) {
            (WayOut::Batch, Some((key, _))) => {
                Err(Error::usage(format!("`gateway.{key}` needs `gateway.out = \"stream\"`"))
                    .hint("load jobs append whole rows to `warehouse.table` itself"))
            }
            _ => Ok(()),
        }
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
