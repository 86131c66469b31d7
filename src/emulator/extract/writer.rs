//! One file of extracted rows, in its format and compression.

use std::io::Write;

use datafusion::arrow::array::RecordBatch;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};

use super::avro::Encoding;
use super::container::{Codec, ContainerWriter};
use super::{text as lines, write_failed};
use crate::emulator::fields::{Field, arrow_schema};
use crate::emulator::storage::Draft;
use crate::emulator::wire::{Failure, Outcome, text};

const ROW_GROUP_ROWS: usize = 256 * 1024;

#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Csv { delimiter: u8, header: bool, gzip: bool },
    Json { gzip: bool },
    Avro { logical_types: bool, codec: Codec },
    Parquet { compression: Compression },
}

impl Format {
    pub(super) fn parse(extract: &Map<String, Value>) -> Outcome<Self> {
        let name = text(extract, "destinationFormat").filter(|f| !f.is_empty()).unwrap_or("CSV");
        let compression = text(extract, "compression").filter(|c| !c.is_empty()).unwrap_or("NONE");
        let flag = |name: &str, default: bool| extract.get(name).and_then(Value::as_bool).unwrap_or(default);
        let unfit =
            || Failure::invalid(format!("Compression {compression} is not supported for format {name}"));
        let gzip = || match compression {
            "NONE" => Ok(false),
            "GZIP" => Ok(true),
            _ => Err(unfit()),
        };
        Ok(match name {
            "CSV" => {
                let delimiter = match text(extract, "fieldDelimiter").unwrap_or(",") {
                    "\\t" | "tab" => b'\t',
                    one => match one.as_bytes() {
                        [] => b',',
                        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => *byte,
                        _ => {
                            return Err(Failure::invalid(format!("Invalid value for fieldDelimiter: {one}")));
                        }
                    },
                };
                Format::Csv { delimiter, header: flag("printHeader", true), gzip: gzip()? }
            }
            "NEWLINE_DELIMITED_JSON" => Format::Json { gzip: gzip()? },
            "AVRO" => {
                let codec = match compression {
                    "NONE" => Codec::Null,
                    "DEFLATE" => Codec::Deflate,
                    "SNAPPY" => Codec::Snappy,
                    _ => return Err(unfit()),
                };
                Format::Avro { logical_types: flag("useAvroLogicalTypes", false), codec }
            }
            "PARQUET" => {
                let compression = match compression {
                    "NONE" => Compression::UNCOMPRESSED,
                    "SNAPPY" => Compression::SNAPPY,
                    "ZSTD" => Compression::ZSTD(Default::default()),
                    "GZIP" => return Err(Failure::not_implemented("Parquet files with GZIP compression")),
                    _ => return Err(unfit()),
                };
                Format::Parquet { compression }
            }
            other => return Err(Failure::invalid(format!("Invalid value for destinationFormat: {other}"))),
        })
    }
}

/// Text files, compressed or not.
pub(super) enum Sink {
    Plain(Draft),
    Gzip(Box<GzEncoder<Draft>>),
}

impl Sink {
    fn new(draft: Draft, gzip: bool) -> Self {
        match gzip {
            true => Sink::Gzip(Box::new(GzEncoder::new(draft, flate2::Compression::default()))),
            false => Sink::Plain(draft),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        match self {
            Sink::Plain(draft) => draft.write_all(bytes),
            Sink::Gzip(encoder) => encoder.write_all(bytes),
        }
        .map_err(write_failed)
    }

    fn draft(&self) -> &Draft {
        match self {
            Sink::Plain(draft) => draft,
            Sink::Gzip(encoder) => encoder.get_ref(),
        }
    }
}

pub(super) enum FileWriter {
    Csv { sink: Sink, delimiter: u8 },
    Json { sink: Sink, fields: Vec<Field> },
    Avro { writer: Box<ContainerWriter<Draft>>, encoding: Encoding },
    Parquet(Box<ArrowWriter<Draft>>),
}

impl FileWriter {
    pub(super) fn new(format: Format, fields: &[Field], draft: Draft) -> Outcome<Self> {
        Ok(match format {
            Format::Csv { delimiter, header, gzip } => {
                let mut sink = Sink::new(draft, gzip);
                if header {
                    sink.write(lines::csv_header(fields, delimiter).as_bytes())?;
                }
                FileWriter::Csv { sink, delimiter }
            }
            Format::Json { gzip } => {
                FileWriter::Json { sink: Sink::new(draft, gzip), fields: fields.to_vec() }
            }
            Format::Avro { logical_types, codec } => {
                let encoding = Encoding::new(fields, logical_types);
                let writer = ContainerWriter::new(draft, encoding.schema(), encoding.avro(), codec)?;
                FileWriter::Avro { writer: Box::new(writer), encoding }
            }
            Format::Parquet { compression } => {
                let properties = WriterProperties::builder()
                    .set_compression(compression)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    // Lists as `list.element`, which is what everybody else calls them.
                    .set_coerce_types(true)
                    .build();
                let options =
                    ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
                let writer = ArrowWriter::try_new_with_options(draft, arrow_schema(fields), options);
                FileWriter::Parquet(Box::new(writer.map_err(write_failed)?))
            }
        })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Outcome<()> {
        match self {
            FileWriter::Csv { sink, delimiter } => sink.write(lines::csv_rows(batch, *delimiter).as_bytes()),
            FileWriter::Json { sink, fields } => sink.write(lines::json_rows(batch, fields).as_bytes()),
            FileWriter::Avro { writer, encoding } => writer.write(&encoding.encode(batch)?),
            FileWriter::Parquet(writer) => writer.write(batch).map_err(write_failed),
        }
    }

    /// About as large as the file is so far.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            FileWriter::Csv { sink, .. } | FileWriter::Json { sink, .. } => sink.draft().size(),
            FileWriter::Avro { writer, .. } => writer.inner().size(),
            FileWriter::Parquet(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
        }
    }

    pub(super) fn finish(self) -> Outcome<Draft> {
        match self {
            FileWriter::Csv { sink, .. } | FileWriter::Json { sink, .. } => match sink {
                Sink::Plain(draft) => Ok(draft),
                Sink::Gzip(encoder) => encoder.finish().map_err(write_failed),
            },
            FileWriter::Avro { writer, .. } => Ok(writer.into_inner()),
            FileWriter::Parquet(writer) => writer.into_inner().map_err(write_failed),
        }
    }
}
