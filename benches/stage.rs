//! Staged rows into Parquet files on disk, beside a bare `ArrowWriter`.
//!
//! Bytes are those of the Arrow values that go in. What comes out is printed first.

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
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tempfile::TempDir;

use corpus::{RUNTIME, TRANSFORMED};

#[allow(dead_code, reason = "each bench uses a part of it")]
mod corpus;

fn main() {
    let print = |name: &str, bytes: u64| {
        println!("{name}: {:.2} MB of Parquet per million rows", bytes as f64 / rows() as f64);
    };
    print("staged", staged(TempDir::new().expect("a folder").path()));
    for name in CONFIGURATIONS {
        print(name, write(TempDir::new().expect("a folder").path(), configuration(name)));
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

/// Not synced, no hashes: what each way to write the same rows costs.
#[divan::bench(sample_count = 20, sample_size = 1, args = CONFIGURATIONS)]
fn b_anchor_arrow_writer(bencher: Bencher, name: &str) {
    bench(bencher, |folder| write(folder, configuration(name)));
}

/// The first is arrow-rs's own, without compression; of those with zstd 1 the last is what staging uses.
const CONFIGURATIONS: [&str; 9] = [
    "default",
    "zstd 1",
    "zstd 3",
    "snappy",
    "zstd 1, no statistics",
    "zstd 1, no dictionaries",
    "zstd 1, all integers as differences",
    "zstd 1, key as differences",
    "zstd 1, time and key as differences",
];

fn configuration(name: &str) -> WriterProperties {
    let zstd = |level| Compression::ZSTD(ZstdLevel::try_new(level).expect("a level"));
    let builder = WriterProperties::builder().set_compression(match name {
        "default" => return WriterProperties::default(),
        "snappy" => Compression::SNAPPY,
        "zstd 3" => zstd(3),
        _ => zstd(1),
    });
    let differences = |columns: &[&str]| {
        let builder = WriterProperties::builder()
            .set_compression(zstd(1))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_data_page_row_count_limit(100_000);
        columns
            .iter()
            .map(|name| ColumnPath::from(*name))
            .fold(builder, |builder, column| {
                let builder = builder.set_column_dictionary_enabled(column.clone(), false);
                builder.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
            })
            .build()
    };
    match name {
        "zstd 1, no statistics" => builder.set_statistics_enabled(EnabledStatistics::None).build(),
        "zstd 1, no dictionaries" => builder.set_dictionary_enabled(false).build(),
        "zstd 1, all integers as differences" => {
            differences(&["id", "time", "duration", "protocol", "packet_count", "byte_count"])
        }
        "zstd 1, time and key as differences" => differences(&["id", "time"]),
        "zstd 1, key as differences" => differences(&["id"]),
        _ => builder.build(),
    }
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

fn bench(bencher: Bencher, write: impl Fn(&Path) -> u64 + Sync) {
    bencher
        .counter(ItemsCount::new(rows()))
        .counter(BytesCount::new(corpus::arrow_bytes(&TRANSFORMED)))
        .with_inputs(|| TempDir::new().expect("a folder"))
        .bench_refs(|folder| write(folder.path()));
}
