//! Staged rows into Parquet files on disk, beside a bare `ArrowWriter`.
//!
//! Bytes are those of the Arrow values that go in. What comes out is printed first: 12.8 MB of Parquet per
//! million rows, 28.3 with default settings, 14.2 with zstd 1 and else default.

use std::fs::File;
use std::path::Path;

use api2bq::effects::Effects;
use api2bq::partition::{SECONDS_PER_DAY, Window};
use api2bq::retry::Policy;
use api2bq::stage::{Options, Store, WindowWriter};
use arrow::record_batch::RecordBatch;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use corpus::{RUNTIME, TRANSFORMED};

#[allow(dead_code, reason = "each bench uses a part of it")]
mod corpus;

fn main() {
    for (name, write) in [("staged", staged as fn(&Path) -> u64), ("default", default), ("zstd 1", zstd)] {
        let bytes = write(TempDir::new().expect("a folder").path());
        println!("{name}: {:.1} MB of Parquet per million rows", bytes as f64 / rows() as f64);
    }
    divan::main();
}

/// The corpus is one day.
const DAY: Window = Window { after: 0, before: SECONDS_PER_DAY };

/// Hash of the rows, Parquet, checksum of the file, link, fsync: all that a window needs.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn a_write_and_publish(bencher: Bencher) {
    bench(bencher, staged);
}

/// Uncompressed, dictionaries for all columns; not synced.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn b_anchor_arrow_writer_default(bencher: Bencher) {
    bench(bencher, default);
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn c_anchor_arrow_writer_zstd_1(bencher: Bencher) {
    bench(bencher, zstd);
}

fn staged(folder: &Path) -> u64 {
    let pipeline = corpus::pipeline(&[]);
    let url = format!("file://{}/stage", folder.display());
    let store = Store::open(&url, Effects::default(), Policy::default()).expect("a folder is a store");
    let writer = WindowWriter::new(pipeline.columns.arrow(), pipeline.epoch, DAY, Options::default(), folder);
    let mut writer = writer.expect("a writer");
    TRANSFORMED.iter().for_each(|batch| writer.write(batch).expect("the batch fits"));
    let written = writer.finish(&store, "window").expect("files are finished");
    RUNTIME.block_on(written.publish(&store)).expect("files are published");
    let staged = &written.partitions;
    assert_eq!(staged.iter().map(|partition| partition.rows).sum::<u64>(), rows());
    staged.iter().flat_map(|partition| &partition.files).map(|file| file.bytes).sum()
}

fn default(folder: &Path) -> u64 {
    write(folder, WriterProperties::default())
}

fn zstd(folder: &Path) -> u64 {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("a level"));
    write(folder, WriterProperties::builder().set_compression(zstd).build())
}

fn write(folder: &Path, properties: WriterProperties) -> u64 {
    let path = folder.join("anchor.parquet");
    let file = File::create_new(&path).expect("the folder is new");
    let writer = ArrowWriter::try_new(file, TRANSFORMED[0].schema(), Some(properties));
    let mut writer = writer.expect("a writer");
    TRANSFORMED.iter().for_each(|batch| writer.write(batch).expect("the batch fits"));
    writer.close().expect("the file is written");
    path.metadata().expect("it exists").len()
}

fn rows() -> u64 {
    TRANSFORMED.iter().map(RecordBatch::num_rows).sum::<usize>() as u64
}

fn bench(bencher: Bencher, write: fn(&Path) -> u64) {
    bencher
        .counter(ItemsCount::new(rows()))
        .counter(BytesCount::new(corpus::arrow_bytes(&TRANSFORMED)))
        .with_inputs(|| TempDir::new().expect("a folder"))
        .bench_refs(|folder| write(folder.path()));
}
