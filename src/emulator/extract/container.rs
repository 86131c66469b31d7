//! Avro's object container files: a header with the schema, then blocks of rows.
//!
//! arrow-avro encodes the rows; its own container writer puts a schema of its own making into the header.

use std::io::Write;

use arrow_avro::writer::format::AvroBinaryFormat;
use arrow_avro::writer::{Encoder, WriterBuilder};
use crc::{CRC_32_ISO_HDLC, Crc};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::write_failed;
use crate::emulator::wire::Outcome;

/// 256 KiB of rows before compression: far below the 16 MB that BigQuery reads, and what a reader holds.
const BLOCK_BYTES: usize = 256 << 10;
static CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Null,
    Deflate,
    Snappy,
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Codec::Null => "null",
            Codec::Deflate => "deflate",
            Codec::Snappy => "snappy",
        }
    }

    fn compress(self, block: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Codec::Null => Ok(block.to_vec()),
            Codec::Deflate => {
                let mut encoder =
                    flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(block)?;
                encoder.finish()
            }
            Codec::Snappy => {
                let compressed = snap::raw::Encoder::new().compress_vec(block);
                let mut compressed = compressed.map_err(std::io::Error::other)?;
                compressed.extend_from_slice(&CHECKSUM.checksum(block).to_be_bytes());
                Ok(compressed)
            }
        }
    }
}

pub(super) struct ContainerWriter<W> {
    out: W,
    encoder: Encoder,
    codec: Codec,
    sync: [u8; 16],
}

impl<W: Write> ContainerWriter<W> {
    /// `avro` is the text of the schema, which is in the metadata of `schema` too.
    pub(super) fn new(mut out: W, schema: &SchemaRef, avro: &str, codec: Codec) -> Outcome<Self> {
        let builder = WriterBuilder::new(schema.as_ref().clone());
        let encoder = builder.build_encoder::<AvroBinaryFormat>().map_err(write_failed)?;
        let sync = fastrand::u128(..).to_be_bytes();
        let mut header = b"Obj\x01".to_vec();
        push_long(&mut header, 2);
        for (name, value) in [("avro.schema", avro), ("avro.codec", codec.name())] {
            push_bytes(&mut header, name.as_bytes());
            push_bytes(&mut header, value.as_bytes());
        }
        push_long(&mut header, 0);
        header.extend_from_slice(&sync);
        out.write_all(&header).map_err(write_failed)?;
        Ok(ContainerWriter { out, encoder, codec, sync })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Outcome<()> {
        self.encoder.encode(batch).map_err(write_failed)?;
        let rows = self.encoder.flush();
        let (bytes, offsets) = (rows.bytes(), rows.offsets());
        let mut first = 0;
        for last in 1..offsets.len() {
            let is_full = offsets[last] - offsets[first] >= BLOCK_BYTES || last + 1 == offsets.len();
            if let (true, Some(block)) = (is_full, bytes.get(offsets[first]..offsets[last])) {
                self.write_block(last - first, block).map_err(write_failed)?;
                first = last;
            }
        }
        Ok(())
    }

    fn write_block(&mut self, rows: usize, block: &[u8]) -> std::io::Result<()> {
        let compressed = self.codec.compress(block)?;
        let mut head = Vec::new();
        push_long(&mut head, rows as u64);
        push_long(&mut head, compressed.len() as u64);
        self.out.write_all(&head)?;
        self.out.write_all(&compressed)?;
        self.out.write_all(&self.sync)
    }

    pub(super) fn inner(&self) -> &W {
        &self.out
    }

    pub(super) fn into_inner(self) -> W {
        self.out
    }
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_long(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Zigzag, of what is never negative here, in groups of seven bits.
fn push_long(out: &mut Vec<u8>, number: u64) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
