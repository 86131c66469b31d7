//! multipart/related: the job's document, then the file.

use std::path::Path;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use memchr::memmem;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;

use super::UPLOAD_BYTES_MAX;
use crate::emulator::wire::{Failure, Outcome};

/// 16 MiB, as for any other document.
const DOCUMENT_BYTES_MAX: usize = 16 << 20;
const PART_HEADER_BYTES_MAX: usize = 16 << 10;

/// Writes the file to `path` and answers the document.
pub(super) async fn receive(headers: &HeaderMap, body: Body, path: &Path) -> Outcome<Map<String, Value>> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let boundary = boundary(content_type)
        .ok_or_else(|| Failure::invalid(format!("Invalid Content-Type of an upload: {content_type}")))?;
    // The first boundary needs no line end before it.
    let mut parts = Parts {
        delimiter: format!("\r\n--{boundary}").into_bytes(),
        chunks: body.into_data_stream(),
        buffer: b"\r\n".to_vec(),
        empty_line: b"\r\n\r\n",
    };
    parts.read_up_to_delimiter(0, None).await?;
    // google-api-python-client, and so `bq`, ends its lines without a carriage return.
    while parts.buffer.is_empty() {
        parts.more().await?;
    }
    if parts.buffer.starts_with(b"\n") {
        parts.delimiter = format!("\n--{boundary}").into_bytes();
        parts.empty_line = b"\n\n";
    }
    parts.part_headers().await?;
    let document = parts.read_up_to_delimiter(DOCUMENT_BYTES_MAX, None).await?;
    let job = match serde_json::from_slice(&document) {
        Ok(Value::Object(job)) => job,
        Ok(_) => return Err(Failure::invalid("Parse Error: the first part is no JSON object")),
        Err(error) => return Err(Failure::invalid(format!("Parse Error: {error}"))),
    };
    parts.part_headers().await?;
    let mut file = tokio::fs::File::create(path).await?;
    parts.read_up_to_delimiter(0, Some(&mut file)).await?;
    file.flush().await?;
    Ok(job)
}

/// The boundary, quoted or not.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let at = parameters.to_ascii_lowercase().find("boundary=")? + "boundary=".len();
    let value = &parameters[at..];
    let boundary = match value.strip_prefix(['"', '\'']) {
        Some(quoted) => quoted.split(&value[..1]).next()?,
        None => value.split([';', ' ']).next()?,
    };
    // RFC 2046: at most 70 characters.
    (!boundary.is_empty() && boundary.len() <= 70).then(|| boundary.to_owned())
}

struct Parts {
    delimiter: Vec<u8>,
    chunks: BodyDataStream,
    buffer: Vec<u8>,
    /// What ends the headers of a part.
    empty_line: &'static [u8],
}

impl Parts {
    async fn more(&mut self) -> Outcome<()> {
        match self.chunks.next().await {
            Some(Ok(chunk)) => {
                self.buffer.extend_from_slice(&chunk);
                Ok(())
            }
            Some(Err(error)) => Err(Failure::invalid(format!("the upload broke off: {error}"))),
            None => Err(Failure::invalid("Malformed multipart body: it ends without its boundary.")),
        }
    }

    /// What stands before the next delimiter: in the answer, or in `file`.
    async fn read_up_to_delimiter(
        &mut self,
        max: usize,
        mut file: Option<&mut tokio::fs::File>,
    ) -> Outcome<Vec<u8>> {
        let finder = memmem::Finder::new(&self.delimiter).into_owned();
        let mut content = Vec::new();
        let mut size = 0;
        loop {
            let found = finder.find(&self.buffer);
            // A delimiter may have begun in the last bytes.
            let safe = found.unwrap_or((self.buffer.len() + 1).saturating_sub(self.delimiter.len()));
            size += safe as u64;
            match &mut file {
                Some(_) if size > UPLOAD_BYTES_MAX => {
                    return Err(Failure::invalid("The upload is larger than 100 GiB."));
                }
                Some(file) => file.write_all(&self.buffer[..safe]).await?,
                None => content.extend_from_slice(&self.buffer[..safe]),
            }
            if content.len() > max.max(PART_HEADER_BYTES_MAX) {
                return Err(Failure::invalid("Malformed multipart body: a part is too large."));
            }
            let taken = safe + found.map_or(0, |_| self.delimiter.len());
            self.buffer.drain(..taken);
            if found.is_some() {
                return Ok(content);
            }
            self.more().await?;
        }
    }

    /// Skips the rest of the delimiter's line and the headers up to the empty line.
    async fn part_headers(&mut self) -> Outcome<()> {
        loop {
            if let Some(end) = memmem::find(&self.buffer, self.empty_line) {
                let headers = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                if headers.starts_with("--") {
                    return Err(Failure::invalid("Malformed multipart body: a part is missing."));
                }
                if headers.contains("content-transfer-encoding: base64") {
                    return Err(Failure::not_implemented("multipart uploads in base64"));
                }
                self.buffer.drain(..end + self.empty_line.len());
                return Ok(());
            }
            if self.buffer.len() > PART_HEADER_BYTES_MAX {
                return Err(Failure::invalid(
                    "Malformed multipart body: the headers of a part are too long.",
                ));
            }
            self.more().await?;
        }
    }
}
