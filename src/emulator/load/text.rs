//! Text files as plain UTF-8: gzip is sniffed and undone, other encodings are converted. Byte by byte, on disk.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use async_compression::tokio::bufread::GzipDecoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::emulator::disk::OwnedFile;
use crate::emulator::run::blocking;
use crate::emulator::wire::{Failure, Outcome};

/// 64 GiB: a bomb must not fill the disk. BigQuery takes gzip files of 4 GB.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Latin1,
    /// Bytes of a unit, and whether its first byte is the highest.
    Units(usize, bool),
}

impl Encoding {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "" | "UTF-8" | "UTF8" => Encoding::Utf8,
            "ISO-8859-1" => Encoding::Latin1,
            "UTF-16BE" => Encoding::Units(2, true),
            "UTF-16LE" => Encoding::Units(2, false),
            "UTF-32BE" => Encoding::Units(4, true),
            "UTF-32LE" => Encoding::Units(4, false),
            _ => return None,
        })
    }
}

/// The text in a new file, unless the file at `path` is plain UTF-8 itself.
pub(super) async fn plain(
    path: &Path,
    encoding: Encoding,
    draft: impl Fn() -> OwnedFile,
) -> Outcome<Option<OwnedFile>> {
    let unpacked = unpack(path, &draft).await?;
    if encoding == Encoding::Utf8 {
        return Ok(unpacked);
    }
    let (from, to) = (path.to_owned(), draft());
    blocking(move || {
        let from = unpacked.as_ref().map_or(from.as_path(), OwnedFile::path);
        convert(from, to.path(), encoding)?;
        Ok(Some(to))
    })
    .await
}

async fn unpack(path: &Path, draft: impl Fn() -> OwnedFile) -> Outcome<Option<OwnedFile>> {
    let mut packed = tokio::io::BufReader::with_capacity(1 << 18, tokio::fs::File::open(path).await?);
    if !tokio::io::AsyncBufReadExt::fill_buf(&mut packed).await?.starts_with(&[0x1f, 0x8b]) {
        return Ok(None);
    }
    let mut decoder = GzipDecoder::new(packed);
    // Files that were put together of several are read to their end.
    decoder.multiple_members(true);
    let mut decoder = decoder.take(UNPACKED_BYTES_MAX);
    let draft = draft();
    let mut file = tokio::fs::File::create(draft.path()).await?;
    let copied = tokio::io::copy(&mut decoder, &mut file)
        .await
        .map_err(|e| Failure::invalid(format!("Failed to decompress gzip file: {e}.")))?;
    if copied == UNPACKED_BYTES_MAX {
        return Err(Failure::invalid("The gzip file is too large when it is unpacked."));
    }
    file.flush().await?;
    Ok(Some(draft))
}

fn convert(from: &Path, to: &Path, encoding: Encoding) -> Outcome<()> {
    let bytes = BufReader::with_capacity(1 << 18, File::open(from)?).bytes();
    let mut text = BufWriter::with_capacity(1 << 18, File::create(to)?);
    let mut put = |c: char| text.write_all(c.encode_utf8(&mut [0; 4]).as_bytes());
    match encoding {
        Encoding::Utf8 | Encoding::Latin1 => {
            for byte in bytes {
                put(char::from(byte?))?;
            }
        }
        Encoding::Units(size, high_first) => {
            let mut units = Units { bytes, size, high_first, failure: None };
            if size == 2 {
                let decoded = char::decode_utf16(units.by_ref().map(|unit| unit as u16));
                for c in decoded {
                    put(c.unwrap_or(char::REPLACEMENT_CHARACTER))?;
                }
            } else {
                for unit in units.by_ref() {
                    put(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))?;
                }
            }
            if let Some(failure) = units.failure {
                return Err(failure);
            }
        }
    }
    text.flush()?;
    Ok(())
}

/// Groups of two or four bytes as numbers.
struct Units<I> {
    bytes: I,
    size: usize,
    high_first: bool,
    failure: Option<Failure>,
}

impl<I: Iterator<Item = std::io::Result<u8>>> Iterator for Units<I> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let mut unit = 0;
        for place in 0..self.size {
            match self.bytes.next() {
                Some(Ok(byte)) => {
                    let shift = if self.high_first { self.size - 1 - place } else { place };
                    unit |= u32::from(byte) << (8 * shift);
                }
                Some(Err(error)) => {
                    self.failure = Some(error.into());
                    return None;
                }
                None if place == 0 => return None,
                None => {
                    self.failure = Some(Failure::invalid("The file ends within a character."));
                    return None;
                }
            }
        }
        Some(unit)
    }
}
