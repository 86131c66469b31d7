//! Whether an Avro container file is whole, before its rows are decoded.
//!
//! arrow-avro takes a file that ends inside of a block for one that ends before it, and makes room for what a
//! block says of itself.

use std::io::{BufRead, Read, Seek, SeekFrom};

use arrow_avro::compression::CompressionCodec;
use arrow_avro::reader::read_header_info;
use flate2::read::DeflateDecoder;

use crate::emulator::wire::{Failure, Outcome};

/// 64 MiB, compressed or not; BigQuery's advice is to stay below 16 MB.
const BLOCK_BYTES_MAX: u64 = 64 << 20;

/// How many rows a file has. `read` is at its start.
pub(super) fn count_rows<R: BufRead + Seek>(mut read: R) -> Outcome<u64> {
    let damaged = |what: &str| Failure::invalid(format!("the Avro file is damaged: {what}"));
    let header = read_header_info(&mut read).map_err(|error| {
        tracing::warn!(%error, "the header of an Avro file cannot be read");
        damaged("its header cannot be read")
    })?;
    let codec = header.compression().map_err(|error| {
        tracing::warn!(%error, "an Avro file has an unknown codec");
        Failure::not_implemented("Avro files with this codec")
    })?;
    if !matches!(codec, None | Some(CompressionCodec::Deflate | CompressionCodec::Snappy)) {
        return Err(Failure::not_implemented(format!("Avro files with the codec {codec:?}")));
    }
    read.seek(SeekFrom::Start(header.header_len()))?;
    let mut total = 0u64;
    while !read.fill_buf()?.is_empty() {
        let rows = read_long(&mut read)?.ok_or_else(|| damaged("a block has no count"))?;
        let size = read_long(&mut read)?.ok_or_else(|| damaged("a block has no size"))?;
        if size > BLOCK_BYTES_MAX {
            return Err(Failure::invalid(format!("an Avro block of {size} bytes; at most 64 MiB are read")));
        }
        let mut block = Vec::new();
        read.by_ref().take(size).read_to_end(&mut block)?;
        if block.len() as u64 != size {
            return Err(damaged("it ends inside of a block"));
        }
        if plain_bytes(codec, &block).is_none_or(|bytes| bytes > BLOCK_BYTES_MAX) {
            return Err(damaged("a block cannot be decompressed to 64 MiB or less"));
        }
        let mut sync = [0; 16];
        if read.read_exact(&mut sync).is_err() || sync != header.sync() {
            return Err(damaged("a block does not end where it says"));
        }
        total = total.checked_add(rows).ok_or_else(|| damaged("it has more rows than can be"))?;
    }
    Ok(total)
}

/// How large a block is when it is decompressed; None when it cannot be.
fn plain_bytes(codec: Option<CompressionCodec>, block: &[u8]) -> Option<u64> {
    match codec {
        Some(CompressionCodec::Deflate) => {
            let mut plain = DeflateDecoder::new(block).take(BLOCK_BYTES_MAX + 1);
            std::io::copy(&mut plain, &mut std::io::sink()).ok()
        }
        Some(CompressionCodec::Snappy) => {
            let checked = block.get(..block.len().checked_sub(4)?)?;
            Some(snap::raw::decompress_len(checked).ok()? as u64)
        }
        _ => Some(block.len() as u64),
    }
}

/// A zigzag number that must not be negative.
fn read_long(read: &mut impl Read) -> std::io::Result<Option<u64>> {
    let mut number = 0u64;
    for shift in (0..63).step_by(7) {
        let mut byte = [0];
        if read.read(&mut byte)? == 0 {
            return Ok(None);
        }
        number |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok((number & 1 == 0).then_some(number >> 1));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A file with a block of two rows, each a long.
    fn file() -> Vec<u8> {
        let mut file = b"Obj\x01\x02\x16avro.schema".to_vec();
        let schema = br#"{"type":"record","name":"R","fields":[{"name":"x","type":"long"}]}"#;
        file.extend([(schema.len() * 2) as u8 & 0x7f | 0x80, (schema.len() * 2 / 128) as u8]);
        file.extend(schema);
        file.push(0);
        file.extend([7; 16]);
        file.extend([4, 4, 2, 4]);
        file.extend([7; 16]);
        file
    }

    #[test]
    fn a_file_that_ends_anywhere_inside_of_a_block_is_damaged() {
        let file = file();
        assert_eq!(count_rows(Cursor::new(&file)), Ok(2));
        let block = file.len() - 20;
        assert_eq!(count_rows(Cursor::new(&file[..block])), Ok(0));
        for end in (0..block).chain(block + 1..file.len()) {
            let failure = count_rows(Cursor::new(&file[..end])).unwrap_err();
            assert_eq!(failure.code, 400, "{end}");
        }
    }

    #[test]
    fn what_a_block_says_of_itself_is_not_believed() {
        let whole = file();
        let start = whole.len() - 20;
        for block in
            [&[1u8, 4, 2, 4][..], &[4, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], &[0xff; 20]]
        {
            let mut file = whole[..start].to_vec();
            file.extend(block);
            file.extend([7; 16]);
            assert_eq!(count_rows(Cursor::new(&file)).unwrap_err().code, 400, "{block:?}");
        }
    }
}
