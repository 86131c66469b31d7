//! Formats that keep columns: a Parquet file, and Arrow's IPC stream.

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Rows;

/// Row groups end at this many rows or bytes under construction.
const ROW_GROUP_ROWS: usize = 256 * 1024;
const ROW_GROUP_BYTES: usize = 32 << 20;

type Out = Box<dyn Write + Send>;

pub(super) struct Parquet(Option<ArrowWriter<Out>>);

impl Parquet {
    pub(super) fn new(schema: &SchemaRef, out: Out) -> io::Result<Self> {
        let zstd = ZstdLevel::try_new(1).map(Compression::ZSTD).map_err(io_error)?;
        let properties = WriterProperties::builder()
            .set_compression(zstd)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(io_error)?;
        Ok(Parquet(Some(writer)))
    }
}

impl Rows for Parquet {
    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let Some(writer) = &mut self.0 else { return Ok(()) };
        writer.write(batch).map_err(io_error)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush().map_err(io_error)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(writer) = self.0.take() else { return Ok(()) };
        writer.into_inner().map_err(io_error)?.flush()
    }
}

/// The writer is made by `start`, since it writes the schema at once.
pub(super) struct ArrowStream {
    unopened: Option<(SchemaRef, Out)>,
    writer: Option<StreamWriter<Out>>,
}

impl ArrowStream {
    pub(super) fn new(schema: &SchemaRef, out: Out) -> Self {
        ArrowStream { unopened: Some((schema.clone(), out)), writer: None }
    }
}

impl Rows for ArrowStream {
    fn start(&mut self) -> io::Result<()> {
        if let Some((schema, out)) = self.unopened.take() {
            self.writer = Some(StreamWriter::try_new(out, &schema).map_err(arrow_io_error)?);
        }
        Ok(())
    }

    fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write(batch).map_err(arrow_io_error)
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.finish().map_err(arrow_io_error)?;
        writer.get_mut().flush()
    }
}

/// A closed pipe has to be known as one.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}

fn arrow_io_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => io::Error::other(other),
    }
}
