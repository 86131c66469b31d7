//! Bytes that arrive, with the checksums that Cloud Storage keeps of them.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use crc::{CRC_32_ISCSI, Crc, Digest, Table};
use md5::{Digest as _, Md5};

use crate::emulator::disk::OwnedFile;
use crate::emulator::wire::Outcome;

static CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
const COPY_BYTES: usize = 1 << 16;

/// Of the bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksums {
    pub crc32c: u32,
    pub md5: [u8; 16],
}

pub(super) struct Checksummer {
    crc32c: Digest<'static, u32, Table<16>>,
    md5: Md5,
}

impl Checksummer {
    pub(super) fn new() -> Self {
        Checksummer { crc32c: CASTAGNOLI.digest(), md5: Md5::new() }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.crc32c.update(bytes);
        self.md5.update(bytes);
    }

    pub(super) fn finish(self) -> Checksums {
        Checksums { crc32c: self.crc32c.finalize(), md5: self.md5.finalize().into() }
    }
}

/// A file that vanishes unless it becomes an object.
pub(in crate::emulator) struct Draft {
    pub(super) file: File,
    pub(super) owned: OwnedFile,
    pub(super) size: u64,
    sums: Checksummer,
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("owned", &self.owned).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Draft {
    pub(super) fn create(path: PathBuf) -> std::io::Result<Draft> {
        let owned = OwnedFile::draft(path);
        let file = File::options().read(true).write(true).create_new(true).open(owned.path())?;
        Ok(Draft { file, owned, size: 0, sums: Checksummer::new() })
    }

    pub(in crate::emulator) fn append(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.write_all(bytes).map_err(Into::into)
    }

    pub(in crate::emulator) fn size(&self) -> u64 {
        self.size
    }

    /// Its bytes, from the first one.
    pub(in crate::emulator) fn reopen(&self) -> std::io::Result<File> {
        File::open(self.owned.path())
    }

    pub(super) fn append_file(&mut self, mut source: &File) -> Outcome<()> {
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match source.read(&mut buffer)? {
                0 => return Ok(()),
                read => self.append(&buffer[..read])?,
            }
        }
    }

    pub(super) fn append_draft(&mut self, other: &Draft) -> Outcome<()> {
        (&other.file).rewind()?;
        self.append_file(&other.file)
    }

    /// Makes the bytes durable.
    pub(super) fn seal(self) -> std::io::Result<(File, OwnedFile, u64, Checksums)> {
        self.file.sync_all()?;
        Ok((self.file, self.owned, self.size, self.sums.finish()))
    }
}

/// For the writers of file formats.
impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sums.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Of a file that somebody else wrote.
pub(super) fn checksums_of(mut file: &File) -> std::io::Result<Checksums> {
    let mut sums = Checksummer::new();
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sums.finish()),
            read => sums.update(&buffer[..read]),
        }
    }
}
