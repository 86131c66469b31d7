//! A record that could not become a row, and why.

/// A record that was well formed but holds a wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Byte of the decompressed body at which the record starts.
    pub offset: u64,
    /// `reason` or `reason:column`.
    pub reason: String,
    /// The record as it came.
    pub raw: Vec<u8>,
}
