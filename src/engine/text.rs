//! CSV, TSV and NDJSON files, packed by gzip or not, as a table: read from front to back, a batch at a time.
//!
//! # Why not DataFusion's own readers of text?
//! They unpack only with a feature of their own, and name neither the file nor the line of a mistake.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json;
use arrow::record_batch::RecordBatch;
use bytes::{Buf, Bytes};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::PartitionStream;
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use tokio::sync::mpsc;

use super::files::Place;
use super::words;
use crate::error::{Error, Result};

/// Rows at the start of a file by which the types of its columns are guessed.
const GUESSED_FROM_ROWS: usize = 10_000;
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Pieces of a bucket's answer that wait to be read.
const PIECES_WAITING: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With a header.
    Delimited(u8),
    Ndjson,
}

#[derive(Debug, Clone)]
pub(super) struct TextFile {
    pub(super) place: Place,
    /// Its name as people may see it.
    pub(super) shown: String,
    pub(super) kind: Kind,
    pub(super) packed: bool,
}

impl TextFile {
    /// Its columns, by its first rows.
    pub(super) async fn columns(&self) -> Result<SchemaRef> {
        let (file, bytes) = (self.clone(), self.bytes().await?);
        let guess = move || -> Result<SchemaRef> {
            let cannot = |e| file.cannot(e);
            let reader = file.reader(bytes).map_err(|e| cannot(e.into()))?;
            let schema = match file.kind {
                Kind::Delimited(delimiter) => {
                    let format = csv::reader::Format::default().with_header(true).with_delimiter(delimiter);
                    format.infer_schema(reader, Some(GUESSED_FROM_ROWS)).map_err(cannot)?.0
                }
                Kind::Ndjson => {
                    json::reader::infer_json_schema(reader, Some(GUESSED_FROM_ROWS)).map_err(cannot)?.0
                }
            };
            if schema.fields().is_empty() {
                return Err(Error::usage(format!("`{}` is empty", file.shown)));
            }
            Ok(Arc::new(schema))
        };
        tokio::task::spawn_blocking(guess).await.map_err(|e| Error::failed("a reader died").caused_by(e))?
    }

    /// The file as it is.
    async fn bytes(&self) -> Result<Box<dyn Read + Send>> {
        match &self.place {
            Place::Local(path) => {
                let file = File::open(path);
                let cannot = |e| Error::usage(format!("cannot read `{}`", self.shown)).caused_by(e);
                Ok(Box::new(file.map_err(cannot)?))
            }
            Place::Bucket(store, path) => {
                let cannot = |e| Error::failed(format!("cannot read `{}`", self.shown)).caused_by(e);
                let mut pieces = store.get(path).await.map_err(cannot)?.into_stream();
                let (sender, receiver) = mpsc::channel(PIECES_WAITING);
                tokio::spawn(async move {
                    while let Some(piece) = pieces.next().await {
                        if sender.send(piece.map_err(io::Error::other)).await.is_err() {
                            return;
                        }
                    }
                });
                Ok(Box::new(Pieces { receiver, rest: Bytes::new() }))
            }
        }
    }

    /// Its text, without a byte order mark.
    fn reader(&self, bytes: Box<dyn Read + Send>) -> io::Result<Box<dyn BufRead + Send>> {
        let unpacked: Box<dyn Read + Send> = match self.packed {
            true => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, bytes))),
            false => bytes,
        };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, unpacked);
        if reader.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
            reader.consume(3);
        }
        Ok(Box::new(reader))
    }

    fn batches(
        &self,
        bytes: Box<dyn Read + Send>,
        schema: &SchemaRef,
        rows: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>> {
        let reader = self.reader(bytes).map_err(|e| self.cannot(e.into()))?;
        let schema = Arc::clone(schema);
        Ok(match self.kind {
            Kind::Delimited(delimiter) => {
                let builder = csv::ReaderBuilder::new(schema).with_header(true).with_delimiter(delimiter);
                let built = builder.with_batch_size(rows).build_buffered(reader);
                Box::new(built.map_err(|e| self.cannot(e))?)
            }
            Kind::Ndjson => {
                let built = json::ReaderBuilder::new(schema).with_batch_size(rows).build(reader);
                Box::new(built.map_err(|e| self.cannot(e))?)
            }
        })
    }

    fn cannot(&self, error: ArrowError) -> Error {
        let why = words::said(&error.to_string());
        if why.contains("to be an object") {
            return Error::failed(format!("`{}` is no file of JSON lines", self.shown))
                .hint("one JSON object a line is read, and no array");
        }
        let error = Error::failed(format!("`{}`: {why}", self.shown));
        match self.kind {
            Kind::Ndjson => error,
            Kind::Delimited(_) => {
                error.hint(format!("columns and types are those of the first {GUESSED_FROM_ROWS} rows"))
            }
        }
    }
}

/// Text files of the same columns, one after the other or side by side.
#[derive(Debug)]
pub(super) struct TextTable {
    files: Vec<TextFile>,
    columns: SchemaRef,
}

impl TextTable {
    pub(super) fn new(files: Vec<TextFile>, columns: SchemaRef) -> Self {
        TextTable { files, columns }
    }
}

#[async_trait::async_trait]
impl TableProvider for TextTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let part = |file: &TextFile| {
            Arc::new(Part { file: file.clone(), columns: self.schema() }) as Arc<dyn PartitionStream>
        };
        let parts = self.files.iter().map(part).collect();
        StreamingTable::try_new(self.schema(), parts)?.scan(state, projection, filters, limit).await
    }
}

#[derive(Debug)]
struct Part {
    file: TextFile,
    columns: SchemaRef,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.columns
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.columns), 2);
        let rows = context.session_config().batch_size();
        let (sender, file, columns) = (builder.tx(), self.file.clone(), Arc::clone(&self.columns));
        builder.spawn(async move {
            let bytes = file.bytes().await.map_err(ours)?;
            let read = move || {
                for batch in file.batches(bytes, &columns, rows).map_err(ours)? {
                    let batch = batch.map_err(|e| ours(file.cannot(e)));
                    let ended = batch.is_err();
                    if sender.blocking_send(batch).is_err() || ended {
                        return Ok(()); // nobody reads any more, or there is nothing more to read
                    }
                }
                Ok(())
            };
            tokio::task::spawn_blocking(read).await.map_err(|e| DataFusionError::External(Box::new(e)))?
        });
        builder.build()
    }
}

fn ours(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// What comes over the network, for readers that wait.
struct Pieces {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let taken = self.rest.len().min(out.len());
        self.rest.copy_to_slice(&mut out[..taken]);
        Ok(taken)
    }
}
