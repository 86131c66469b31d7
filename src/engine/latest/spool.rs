//! Sets batches aside so that they can be read several times: in memory first, then on disk.
//!
//! Key and order columns ("hot") and the others ("cold") go to a file each, because deciding reads
//! only the former. Files are written and read on threads of their own, one step ahead.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::spill_file::{SpillFile, SpillWriter};
use datafusion::physical_plan::metrics::Count;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::Limits;
use super::compact::compact;

/// Batches that the reading thread may be ahead.
const READ_AHEAD: usize = 2;

/// Which columns a scan yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    Hot,
    All,
}

/// Takes batches in.
pub(super) struct Spool {
    schema: SchemaRef,
    split: Split,
    limits: Limits,
    rows: usize,
    /// The first batches, as long as they fit.
    held: Vec<RecordBatch>,
    held_bytes: MemoryReservation,
    /// The next chunk for the files.
    chunk: Vec<RecordBatch>,
    chunk_bytes: MemoryReservation,
    /// The thread that writes the chunk before, once there is one.
    writing: Option<JoinHandle<Result<Pair>>>,
    disk: Arc<DiskManager>,
    spilled_bytes: Count,
}

impl Spool {
    /// `hot` are the columns that a scan of [`Columns::Hot`] yields, in this order.
    pub(super) fn new(
        schema: SchemaRef,
        hot: Vec<usize>,
        limits: Limits,
        context: &TaskContext,
        spilled_bytes: Count,
    ) -> Self {
        let pool = context.memory_pool();
        Spool {
            split: Split::new(&schema, hot),
            schema,
            limits,
            rows: 0,
            held: Vec::new(),
            held_bytes: MemoryConsumer::new("LatestPerKey spool").with_can_spill(true).register(pool),
            chunk: Vec::new(),
            chunk_bytes: MemoryConsumer::new("LatestPerKey chunk").register(pool),
            writing: None,
            disk: Arc::clone(&context.runtime_env().disk_manager),
            spilled_bytes,
        }
    }

    pub(super) async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        let (batch, bytes) = compact(batch)?;
        if self.writing.is_none()
            && self.chunk.is_empty()
            && self.held_bytes.size() + bytes <= self.limits.spool_bytes
            && self.held_bytes.try_grow(bytes).is_ok()
        {
            self.held.push(batch);
            return Ok(());
        }
        // A chunk is what the spool cannot do without, so it is announced but not asked for.
        self.chunk_bytes.grow(bytes);
        self.chunk.push(batch);
        if self.chunk_bytes.size() >= self.limits.chunk_bytes { self.write_chunk().await } else { Ok(()) }
    }

    /// After the last batch: what can be read.
    pub(super) async fn seal(mut self) -> Result<Spooled> {
        if !self.chunk.is_empty() {
            self.write_chunk().await?;
        }
        let files = match self.written().await? {
            Some(pair) => {
                let spilled = self.spilled_bytes.clone();
                Some(spawn_blocking(move || pair.finish(&spilled)).await.map_err(thread_lost)??)
            }
            None => None,
        };
        let Spool { schema, split, rows, held, held_bytes, .. } = self;
        Ok(Spooled { schema, split, rows, held, _held_bytes: held_bytes, files })
    }

    async fn write_chunk(&mut self) -> Result<()> {
        let pair = match self.written().await? {
            Some(pair) => pair,
            None => Pair::create(&self.schema, &self.split, &self.disk)?,
        };
        let chunk = std::mem::take(&mut self.chunk);
        // Moves with the chunk and is freed when it is written.
        let bytes = self.chunk_bytes.take();
        let (split, spilled) = (self.split.clone(), self.spilled_bytes.clone());
        self.writing = Some(spawn_blocking(move || {
            let pair = pair.write(chunk, &split, &spilled);
            drop(bytes);
            pair
        }));
        Ok(())
    }

    /// The files, when the chunk before is in them; `None` if there was none.
    async fn written(&mut self) -> Result<Option<Pair>> {
        match self.writing.take() {
            Some(thread) => thread.await.map_err(thread_lost)?.map(Some),
            None => Ok(None),
        }
    }
}

/// All batches, to be read as often as needed.
pub(super) struct Spooled {
    schema: SchemaRef,
    split: Split,
    rows: usize,
    held: Vec<RecordBatch>,
    _held_bytes: MemoryReservation,
    files: Option<(Arc<dyn SpillFile>, Arc<dyn SpillFile>)>,
}

impl Spooled {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Reads everything once, in the order of arrival.
    pub(super) fn scan(&self, columns: Columns) -> Scan {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        if let Some((hot, cold)) = &self.files {
            let hot = Arc::clone(hot);
            let cold = (columns == Columns::All).then(|| Arc::clone(cold));
            let (split, schema) = (self.split.clone(), Arc::clone(&self.schema));
            // Ends early, with its files, when the receiver is gone.
            spawn_blocking(move || {
                if let Err(error) = read(&hot, cold.as_ref(), &split, &schema, &sender) {
                    // Nobody to tell if the receiver is gone.
                    let _ = sender.blocking_send(Err(error));
                }
            });
        }
        let hot = (columns == Columns::Hot).then(|| self.split.hot.clone());
        Scan { held: self.held.clone().into_iter(), hot, disk: receiver, missing: self.rows }
    }
}

/// One reading of the spool. Dropping it stops the thread that reads ahead.
pub(super) struct Scan {
    held: std::vec::IntoIter<RecordBatch>,
    hot: Option<Vec<usize>>,
    disk: mpsc::Receiver<Result<RecordBatch>>,
    /// Rows that are still to come.
    missing: usize,
}

impl Scan {
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let batch = match self.held.next() {
            Some(batch) => match &self.hot {
                Some(hot) => batch.project(hot)?,
                None => batch,
            },
            None => match self.disk.recv().await {
                Some(batch) => batch?,
                // A thread that panics closes its channel as one does that is done.
                None if self.missing > 0 => {
                    return exec_err!("the spool ended {} rows early", self.missing);
                }
                None => return Ok(None),
            },
        };
        self.missing -= batch.num_rows();
        Ok(Some(batch))
    }
}

/// How the columns of a batch are divided between the files.
#[derive(Debug, Clone)]
struct Split {
    hot: Vec<usize>,
    cold: Vec<usize>,
}

impl Split {
    fn new(schema: &SchemaRef, hot: Vec<usize>) -> Self {
        let cold = (0..schema.fields().len()).filter(|column| !hot.contains(column)).collect();
        Split { hot, cold }
    }

    fn join(&self, schema: &SchemaRef, hot: &RecordBatch, cold: &RecordBatch) -> Result<RecordBatch> {
        let mut columns: Vec<(usize, ArrayRef)> = Vec::with_capacity(schema.fields().len());
        columns.extend(self.hot.iter().copied().zip(hot.columns().iter().cloned()));
        columns.extend(self.cold.iter().copied().zip(cold.columns().iter().cloned()));
        columns.sort_unstable_by_key(|(column, _)| *column);
        let columns = columns.into_iter().map(|(_, array)| array).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(hot.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}

type Writer = StreamWriter<BufWriter<Box<dyn SpillWriter>>>;

/// The two files while they are written. Holds them, so that they outlive a write under way.
struct Pair {
    hot: (Writer, Arc<dyn SpillFile>),
    cold: (Writer, Arc<dyn SpillFile>),
    counted: u64,
}

impl Pair {
    fn create(schema: &SchemaRef, split: &Split, disk: &Arc<DiskManager>) -> Result<Self> {
        let create = |columns: &[usize]| -> Result<_> {
            let file = disk.create_tmp_file("LatestPerKey spool")?;
            let writer = BufWriter::with_capacity(64 << 10, file.open_writer()?);
            Ok((StreamWriter::try_new(writer, &schema.project(columns)?)?, file))
        };
        Ok(Pair { hot: create(&split.hot)?, cold: create(&split.cold)?, counted: 0 })
    }

    fn write(mut self, chunk: Vec<RecordBatch>, split: &Split, spilled: &Count) -> Result<Self> {
        for batch in chunk {
            self.hot.0.write(&batch.project(&split.hot)?)?;
            self.cold.0.write(&batch.project(&split.cold)?)?;
        }
        self.count(spilled);
        Ok(self)
    }

    fn count(&mut self, spilled: &Count) {
        let size = self.hot.1.size().unwrap_or(0) + self.cold.1.size().unwrap_or(0);
        spilled.add((size - self.counted) as usize);
        self.counted = size;
    }

    /// The hot and the cold file.
    fn finish(mut self, spilled: &Count) -> Result<(Arc<dyn SpillFile>, Arc<dyn SpillFile>)> {
        for writer in [&mut self.hot.0, &mut self.cold.0] {
            writer.finish()?;
            writer.get_mut().flush().map_err(DataFusionError::IoError)?;
            writer.get_mut().get_mut().finish()?;
        }
        self.count(spilled);
        Ok((self.hot.1, self.cold.1))
    }
}

fn read(
    hot: &Arc<dyn SpillFile>,
    cold: Option<&Arc<dyn SpillFile>>,
    split: &Split,
    schema: &SchemaRef,
    sender: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<()> {
    let open = |file: &Arc<dyn SpillFile>| -> Result<_> {
        let path = file.path().ok_or_else(|| exec_datafusion_err!("spill files have to be local files"))?;
        let file = File::open(path).map_err(DataFusionError::IoError)?;
        Ok(StreamReader::try_new(BufReader::with_capacity(64 << 10, file), None)?)
    };
    let hot = open(hot)?;
    let mut cold = cold.map(open).transpose()?;
    for batch in hot {
        let mut batch = batch?;
        if let Some(cold) = &mut cold {
            let rest =
                cold.next().ok_or_else(|| exec_datafusion_err!("the spool's files differ in length"))?;
            batch = split.join(schema, &batch, &rest?)?;
        }
        if sender.blocking_send(Ok(batch)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn thread_lost(error: tokio::task::JoinError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
