//! What the stages take in: bodies fetched once, and what comes of them.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::ArrayData;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::task::BodyFile;
use crate::error::{Error, Result};
use crate::partition::Window;
use crate::source::{Body, Source};

/// Inputs are held in memory, so that no disk is measured with a stage.
const BODY_BYTES_MAX: u64 = 2 << 30;
/// What HTTP gives at a time, about.
const CHUNK_BYTES: usize = 64 << 10;

/// A folder of this bench, removed with everything in it when dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// In the folder for temporary files; `TMPDIR` names another disk.
    pub(super) fn create() -> Result<Scratch> {
        let name = format!("api2bq-bench-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .map_err(|e| Error::failed(format!("cannot create `{}`", path.display())).caused_by(e))?;
        Ok(Scratch(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Fetches every window into a file of its own.
pub(super) async fn fetch(source: &Source, windows: &[Window], scratch: &Path) -> Result<Vec<BodyFile>> {
    let mut bodies = Vec::with_capacity(windows.len());
    let mut total = 0;
    for (number, window) in windows.iter().enumerate() {
        let path = scratch.join(format!("body-{number}"));
        let cannot = |e| Error::failed(format!("cannot write `{}`", path.display())).caused_by(e);
        let mut file = std::fs::File::create(&path).map_err(cannot)?;
        let mut body = source.open(*window).await.map_err(|e| e.context(window.to_string()))?;
        let mut bytes = 0;
        while let Some(chunk) = body.stream.next().await {
            let chunk = chunk.map_err(|e| e.context(window.to_string()))?;
            bytes += chunk.len() as u64;
            if total + bytes > BODY_BYTES_MAX {
                return Err(Error::usage("the bodies are more than 2 GiB, and a bench holds them in memory")
                    .hint("measure fewer days or rows: `--from`, `--to`, `--rows`"));
            }
            file.write_all(&chunk).map_err(cannot)?;
        }
        total += bytes;
        let Body { media_type, framed, records, .. } = body;
        bodies.push(BodyFile { window: *window, file: path, media_type, framed, records, bytes });
    }
    Ok(bodies)
}

/// A body in memory, to be read as often as one likes.
#[derive(Debug, Clone)]
pub(super) struct HeldBody {
    pub(super) window: Window,
    about: BodyFile,
    bytes: Bytes,
}

impl HeldBody {
    pub(super) fn read(about: &BodyFile) -> Result<HeldBody> {
        let cannot = |e| Error::failed(format!("cannot read `{}`", about.file.display())).caused_by(e);
        let bytes = std::fs::read(&about.file).map_err(cannot)?;
        Ok(HeldBody { window: about.window, about: about.clone(), bytes: bytes.into() })
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The body as it came, in pieces as they come; nothing is copied.
    pub(super) fn body(&self) -> Body {
        let bytes = self.bytes.clone();
        let starts = (0..bytes.len()).step_by(CHUNK_BYTES);
        let chunks = starts.map(move |at| Ok(bytes.slice(at..bytes.len().min(at + CHUNK_BYTES))));
        let BodyFile { media_type, framed, records, .. } = self.about.clone();
        let stream = futures::stream::iter(chunks).boxed();
        Body { stream, media_type, length: Some(self.len()), records, framed }
    }
}

/// One window's batches.
#[derive(Debug)]
pub(super) struct Batches {
    pub(super) window: Window,
    pub(super) batches: Vec<RecordBatch>,
    /// Of their values.
    pub(super) bytes: u64,
}

impl Batches {
    pub(super) fn new(window: Window, batches: Vec<RecordBatch>) -> Arc<Batches> {
        let bytes = value_bytes(&batches);
        Arc::new(Batches { window, batches, bytes })
    }

    pub(super) fn rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.num_rows() as u64).sum()
    }

    /// The batches as the decoder sends them: from another task, four at a time.
    pub(super) fn sent(self: &Arc<Self>) -> mpsc::Receiver<Result<RecordBatch>> {
        let (records, input) = mpsc::channel(4);
        let batches = Arc::clone(self);
        tokio::spawn(async move {
            for batch in &batches.batches {
                if records.send(Ok(batch.clone())).await.is_err() {
                    return;
                }
            }
        });
        input
    }
}

/// Bytes of the values, without spare room.
fn value_bytes(batches: &[RecordBatch]) -> u64 {
    let columns = batches.iter().flat_map(RecordBatch::columns);
    columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0) as u64).sum()
}

/// Bytes that they hold in memory; buffers that several of them share are counted once.
pub(super) fn held_bytes<'b>(batches: impl Iterator<Item = &'b RecordBatch>) -> u64 {
    let mut buffers = HashMap::new();
    for column in batches.flat_map(RecordBatch::columns) {
        add_buffers(&column.to_data(), &mut buffers);
    }
    buffers.values().sum()
}

fn add_buffers(data: &ArrayData, buffers: &mut HashMap<usize, u64>) {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    for buffer in data.buffers().iter().chain(nulls) {
        buffers.insert(buffer.data_ptr().as_ptr() as usize, buffer.capacity() as u64);
    }
    data.child_data().iter().for_each(|child| add_buffers(child, buffers));
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn buffers_that_slices_share_are_counted_once() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("a batch");
        let slices = [batch.slice(0, 500), batch.slice(500, 500)];
        let held = held_bytes(slices.iter());
        assert!((8000..9000).contains(&held), "{held}");
        assert_eq!(value_bytes(&slices), 8000);
    }
}
