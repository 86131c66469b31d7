//! `Content-Range`, as resumable uploads use it.

use axum::http::{HeaderMap, header};

use crate::emulator::wire::{Failure, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// `bytes */N` or `bytes */*`: how much has come?
    Status { total: Option<u64> },
    /// `bytes a-b/N` or `bytes a-b/*`.
    Chunk { first: u64, length: Option<u64>, total: Option<u64> },
    /// No header: all of it.
    Whole,
}

impl Range {
    pub(super) fn parse(headers: &HeaderMap) -> Outcome<Range> {
        let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(Range::Whole) };
        let text = value.to_str().unwrap_or_default();
        let invalid = || Failure::invalid(format!("Invalid value for Content-Range: {text}"));
        let (range, total) =
            text.trim().strip_prefix("bytes").and_then(|t| t.trim().split_once('/')).ok_or_else(invalid)?;
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| invalid());
        let total = if total.trim() == "*" { None } else { Some(number(total)?) };
        if range.trim() == "*" {
            return Ok(Range::Status { total });
        }
        let (first, last) = range.split_once('-').ok_or_else(invalid)?;
        let (first, last) = (number(first)?, number(last)?);
        // The last chunk of a file whose size was a surprise can be empty: `bytes 10-9/10`.
        let end = last.checked_add(1).filter(|end| *end >= first).ok_or_else(invalid)?;
        if total.is_some_and(|total| end > total) {
            return Err(invalid());
        }
        Ok(Range::Chunk { first, length: Some(end - first), total })
    }
}
