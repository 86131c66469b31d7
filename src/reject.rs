//! A record that could not become a row, and why.

/// Where in a body a record starts.
///
/// Bytes, lines and columns are those of the body after decompression and, where it is not UTF-8,
/// after its conversion to UTF-8. Lines end with a line feed. Columns are bytes, so that a body of one
/// line has columns as cheap as offsets are; in ASCII they are what an editor shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub offset: u64,
    /// From 1.
    pub line: u64,
    /// From 1.
    pub column: u64,
}

/// A record that was well formed but holds a wrong value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// How many records came before it.
    pub index: u64,
    pub place: Place,
    /// `reason` or `reason:column`.
    pub reason: String,
    /// The record as it came.
    pub raw: Vec<u8>,
}
