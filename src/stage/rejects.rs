//! Rejected records as NDJSON, one file per window: what came, where, and why it is no row.
//!
//! Every line is one reject. Those beyond the limit are counted only; a file that lacks some says so in
//! its name, `…-first-KEPT-of-ALL.ndjson`, and the manifest of the window has the exact count anyway.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::journal::sha256_hex;
use super::store::Store;
use crate::error::{Error, Result};
use crate::manifest::StagedFile;
use crate::partition::Window;
use crate::reject::Reject;

#[derive(Serialize)]
struct Line<'a> {
    after: i64,
    before: i64,
    /// Byte of the decompressed body, from 0.
    offset: u64,
    /// From 1; the column in bytes.
    line: u64,
    column: u64,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
}

/// Writes the rejects of one window, of which there were `all`, to `<name>-<hash>.ndjson`. The same
/// rejects give the same file.
pub async fn write(
    store: &Store,
    name: &str,
    window: Window,
    rejects: &[Reject],
    all: u64,
) -> Result<StagedFile> {
    let mut lines = Vec::new();
    for reject in rejects {
        let text = std::str::from_utf8(&reject.raw).ok();
        let line = Line {
            after: window.after,
            before: window.before,
            offset: reject.place.offset,
            line: reject.place.line,
            column: reject.place.column,
            reason: &reject.reason,
            raw: text,
            raw_base64: text.is_none().then(|| STANDARD.encode(&reject.raw)),
        };
        serde_json::to_writer(&mut lines, &line)
            .map_err(|e| Error::failed("cannot write a reject").caused_by(e))?;
        lines.push(b'\n');
    }
    // The content is in the name: what an attempt before the intent wrote may be of another body.
    let part = match rejects.len() as u64 {
        kept if kept < all => format!("-first-{kept}-of-{all}"),
        _ => String::new(),
    };
    let sha256 = sha256_hex(&lines);
    let name = format!("{name}-{}{part}.ndjson", &sha256[..8]);
    store.create(&name, &lines).await?;
    let (rows, bytes) = (rejects.len() as u64, lines.len() as u64);
    Ok(StagedFile { url: store.url_of(&name)?, rows, bytes, sha256 })
}
