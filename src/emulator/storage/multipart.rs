//! Bodies in parts: `multipart/related` uploads, whose last part is streamed, and `multipart/mixed` batches.

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use memchr::memmem;

use crate::emulator::wire::{Failure, Outcome};

/// 2 MiB for everything before the media: metadata is small.
const HEAD_BYTES_MAX: usize = 2 << 20;

fn damaged(what: &str) -> Failure {
    Failure::invalid(format!("Malformed multipart body: {what}"))
}

/// The parameter of the content type, quoted or not.
pub(super) fn boundary(headers: &HeaderMap) -> Outcome<String> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let parameters = content_type.split(';').skip(1).filter_map(|p| p.trim().split_once('='));
    let mut found = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"));
    let value = found.next().map(|(_, value)| value.trim().trim_matches(['"', '\'']));
    match value.filter(|v| !v.is_empty() && v.len() <= 100) {
        Some(value) => Ok(value.to_owned()),
        None => Err(damaged("the content type names no boundary")),
    }
}

/// Header lines (their names in lower case) and the content behind them.
pub(super) struct Part<'a> {
    headers: Vec<(String, &'a str)>,
    pub content: &'a [u8],
}

impl<'a> Part<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Outcome<Part<'a>> {
        let end = end_of_headers(bytes).ok_or_else(|| damaged("a part has no end of headers"))?;
        let (head, content) = bytes.split_at(end);
        let head = std::str::from_utf8(head).map_err(|_| damaged("the headers of a part are no text"))?;
        let headers = head.lines().filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim())).collect();
        Ok(Part { headers, content })
    }

    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// Behind the empty line; a part without headers begins with that line.
fn end_of_headers(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    let crlf = memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4);
    let lf = memmem::find(bytes, b"\n\n").map(|at| at + 2);
    crlf.into_iter().chain(lf).min()
}

/// An upload: what is said of the object, its media type, and its bytes as they come.
pub(super) struct Related {
    pub metadata: Vec<u8>,
    pub media_type: Option<String>,
    delimiter: Vec<u8>,
    held: BytesMut,
    rest: BodyDataStream,
    is_over: bool,
}

impl Related {
    pub(super) async fn open(headers: &HeaderMap, body: Body) -> Outcome<Related> {
        let delimiter = format!("\r\n--{}", boundary(headers)?).into_bytes();
        // The first delimiter may stand at the very beginning, where it has no line before it.
        let mut held = BytesMut::from(&b"\r\n"[..]);
        let mut rest = body.into_data_stream();
        loop {
            if let Some(Head { metadata, media_type, bytes }) = head(&held, &delimiter)? {
                held.advance(bytes);
                return Ok(Related { metadata, media_type, delimiter, held, rest, is_over: false });
            }
            if held.len() > HEAD_BYTES_MAX {
                return Err(damaged("the metadata is too large"));
            }
            let chunk = next_chunk(&mut rest).await?.ok_or_else(|| damaged("it broke off"))?;
            held.extend_from_slice(&chunk);
        }
    }

    /// The next bytes of the media.
    pub(super) async fn next(&mut self) -> Outcome<Option<Bytes>> {
        while !self.is_over {
            if let Some(end) = memmem::find(&self.held, &self.delimiter) {
                self.is_over = true;
                return Ok(Some(self.held.split_to(end).freeze()));
            }
            // The delimiter may have begun.
            let safe = self.held.len().saturating_sub(self.delimiter.len());
            if safe > 0 {
                return Ok(Some(self.held.split_to(safe).freeze()));
            }
            let chunk = next_chunk(&mut self.rest).await?.ok_or_else(|| damaged("it broke off"))?;
            self.held.extend_from_slice(&chunk);
        }
        Ok(None)
    }
}

/// What stands before the media.
struct Head {
    metadata: Vec<u8>,
    media_type: Option<String>,
    bytes: usize,
}

/// `None` until all of it has come.
fn head(held: &[u8], delimiter: &[u8]) -> Outcome<Option<Head>> {
    let mut finder = memmem::find_iter(held, delimiter);
    let (Some(first), Some(second)) = (finder.next(), finder.next()) else { return Ok(None) };
    let line_end = |at: usize| memchr::memchr(b'\n', held.get(at..)?).map(|n| at + n + 1);
    let Some(first_line) = line_end(first + delimiter.len()) else { return Ok(None) };
    let Some(second_line) = line_end(second + delimiter.len()) else { return Ok(None) };
    let metadata = held.get(first_line..second).ok_or_else(|| damaged("its first part is empty"))?;
    let Some(media) = held.get(second_line..).and_then(end_of_headers) else { return Ok(None) };
    let headers = Part::parse(&held[second_line..second_line + media])?;
    let media_type = headers.header("content-type").map(str::to_owned);
    let metadata = Part::parse(metadata)?.content.to_vec();
    Ok(Some(Head { metadata, media_type, bytes: second_line + media }))
}

async fn next_chunk(body: &mut BodyDataStream) -> Outcome<Option<Bytes>> {
    let chunk = body.next().await.transpose();
    chunk.map_err(|e| Failure::invalid(format!("the request body broke off: {e}")))
}

/// The parts of a small body that has come whole.
pub(super) fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let marks: Vec<usize> = memmem::find_iter(body, delimiter.as_bytes()).collect();
    let between = marks.windows(2).filter_map(|pair| body.get(pair[0] + delimiter.len()..pair[1]));
    // The rest of the delimiter's own line belongs to no part.
    between.filter_map(|part| part.get(memchr::memchr(b'\n', part)? + 1..)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(body: &[u8], step: usize) -> Outcome<(Vec<u8>, Option<String>, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        let value = "multipart/related; boundary=\"==x==\"".parse().expect("a header");
        headers.insert(header::CONTENT_TYPE, value);
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            body.chunks(step).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let body = Body::from_stream(futures::stream::iter(chunks));
        let mut related = Related::open(&headers, body).await?;
        let mut media = Vec::new();
        while let Some(bytes) = related.next().await? {
            media.extend_from_slice(&bytes);
        }
        Ok((related.metadata, related.media_type, media))
    }

    #[tokio::test]
    async fn the_media_is_the_same_however_the_body_is_cut() {
        for media in ["", "\r\n", "hello\r\n--==x=", "\r\n--==x\r\n"] {
            let body = format!(
                "--==x==\r\ncontent-type: application/json\r\n\r\n{{\"name\":\"a\"}}\r\n--==x==\r\n\
                 Content-Type: text/csv\r\n\r\n{media}\r\n--==x==--"
            );
            for step in [1, 2, 7, 1000] {
                let (metadata, media_type, found) = read(body.as_bytes(), step).await.unwrap();
                assert_eq!(metadata, b"{\"name\":\"a\"}");
                assert_eq!(media_type.as_deref(), Some("text/csv"));
                assert_eq!(found, media.as_bytes(), "in steps of {step}");
            }
            for cut in [10, 50, body.len() - 10] {
                assert_eq!(read(&body.as_bytes()[..cut], 5).await.unwrap_err().code, 400);
            }
        }
    }

    #[test]
    fn a_batch_is_split_into_its_parts() {
        let body = b"--b\r\nA: 1\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--";
        let found: Vec<_> = parts(body, "b").into_iter().map(|p| Part::parse(p).unwrap()).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].header("a"), found[0].content), (Some("1"), &b"one\r\n"[..]));
        assert_eq!(found[1].content, b"two\r\n");
    }
}
