//! Local files, `.gz`, `.bz2` and `.zst` unpacked on the way.

use std::path::Path;
use std::sync::atomic::Ordering;

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, ZstdDecoder};
use futures::{StreamExt, TryStreamExt};
use tokio::fs::File;
use tokio::io::{AsyncRead, BufReader};
use tokio_util::io::{InspectReader, ReaderStream};
use url::Url;

use super::Body;
use super::limit::{Limits, Packed, limited};
use crate::error::{Error, Result};
use crate::location::redacted;

/// 256 KiB: a few hundred records, and few enough calls not to matter.
const CHUNK_BYTES: usize = 256 << 10;

pub(super) async fn open(url: &Url, limits: Limits) -> Result<Body> {
    let path = url.to_file_path().map_err(|()| {
        Error::usage(format!("`{}` is no local file", redacted(url.as_str())))
            .hint("write `file:///absolute/path`")
    })?;
    let shown = path.display().to_string();
    let cannot = |e: std::io::Error| Error::failed(format!("cannot read `{shown}`")).caused_by(e);
    let file = File::open(&path).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::failed(format!("there is no file `{shown}`")).hint("check `source.url`")
        }
        _ => cannot(e),
    })?;
    let metadata = file.metadata().await.map_err(cannot)?;
    if !metadata.is_file() {
        return Err(Error::usage(format!("`{}` is not a file", path.display())));
    }
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_ascii_lowercase();
    let (stem, packing) = match name.rsplit_once('.') {
        Some((stem, packing @ ("gz" | "bz2" | "zst"))) => (stem, Some(packing)),
        _ => (name.as_str(), None),
    };
    let packed_bytes = Packed::default();
    let counter = Packed::clone(&packed_bytes);
    let counted = InspectReader::new(file, move |bytes| {
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    });
    let packed = BufReader::with_capacity(CHUNK_BYTES, counted);
    // Several members one after the other are one file: `cat a.gz b.gz > c.gz` is common.
    let reader: Box<dyn AsyncRead + Send + Unpin> = match packing {
        None => Box::new(packed),
        Some("gz") => {
            let mut reader = GzipDecoder::new(packed);
            reader.multiple_members(true);
            Box::new(reader)
        }
        Some("bz2") => {
            let mut reader = BzDecoder::new(packed);
            reader.multiple_members(true);
            Box::new(reader)
        }
        Some(_) => {
            let mut reader = ZstdDecoder::new(packed);
            reader.multiple_members(true);
            Box::new(reader)
        }
    };
    let media_type = media_type(stem);
    let failed = move |e| Error::failed(format!("cannot read `{shown}` to its end")).caused_by(e);
    let stream = ReaderStream::with_capacity(reader, CHUNK_BYTES).map_err(failed).boxed();
    let stream = limited(stream, limits, packing.is_some().then_some(packed_bytes));
    Ok(Body { stream, media_type, length: Some(metadata.len()), records: None, framed: true })
}

/// The media type that an extension stands for, once the packing is taken off.
fn media_type(name: &str) -> Option<String> {
    let media_type = match Path::new(name).extension()?.to_str()? {
        "xml" => "application/xml",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "json" => "application/json",
        "csv" | "txt" => "text/csv",
        _ => return None,
    };
    Some(media_type.to_owned())
}
