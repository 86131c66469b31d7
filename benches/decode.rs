//! Bodies into record batches on one core, beside what other parsers do with the same bytes.

use std::hint::black_box;

use api2bq::schema::Format;
use arrow::json::ReaderBuilder;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use serde::Deserialize;

use corpus::{CSV, JSON_ARRAY, NDJSON, OTHER_SHAPES, ROWS, XML};

#[allow(dead_code, reason = "each bench uses a part of it")]
mod corpus;

fn main() {
    divan::main();
}

/// What the source sends and HTTP gives at a time, about.
const CHUNK_BYTES: usize = 64 << 10;

/// Those of [`OTHER_SHAPES`].
const SHAPES: [&str; 3] = ["attributes", "nested", "shuffled"];

#[divan::bench(sample_count = 20, sample_size = 1)]
fn a_xml_in_64_kib_chunks(bencher: Bencher) {
    bench(bencher, &XML, |body| rows(Format::Xml, body.chunks(CHUNK_BYTES)));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn b_xml_in_one_chunk(bencher: Bencher) {
    bench(bencher, &XML, |body| rows(Format::Xml, std::iter::once(body)));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn c_anchor_xml_events_of_quick_xml(bencher: Bencher) {
    bench(bencher, &XML, records_by_quick_xml);
}

/// No tokenizer that looks at each tag is faster.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn d_anchor_xml_memchr_over_angle_brackets(bencher: Bencher) {
    bench(bencher, &XML, |body| memchr::memchr_iter(b'<', body).map(black_box).count() / 22);
}

/// The compiler makes vector code of it: the speed at which memory is read.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn d_anchor_xml_count_of_angle_brackets(bencher: Bencher) {
    bench(bencher, &XML, |body| body.iter().filter(|b| **b == b'<').count() / 22);
}

/// Records that the fast path never takes.
#[divan::bench(sample_count = 20, sample_size = 1, args = SHAPES)]
fn e_xml_of_other_shapes(bencher: Bencher, shape: &str) {
    bench(bencher, other_shape(shape), |body| rows(Format::Xml, body.chunks(CHUNK_BYTES)));
}

#[divan::bench(sample_count = 20, sample_size = 1, args = SHAPES)]
fn f_anchor_xml_of_other_shapes_events_of_quick_xml(bencher: Bencher, shape: &str) {
    bench(bencher, other_shape(shape), records_by_quick_xml);
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn g_ndjson_in_64_kib_chunks(bencher: Bencher) {
    bench(bencher, &NDJSON, |body| rows(Format::Ndjson, body.chunks(CHUNK_BYTES)));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn h_anchor_ndjson_serde_json_typed(bencher: Bencher) {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "reading them is the point")]
    struct Flow<'a> {
        id: i64,
        time: i64,
        duration: i64,
        src_comp: &'a str,
        src_port: &'a str,
        dst_comp: &'a str,
        dst_port: &'a str,
        protocol: i64,
        packet_count: i64,
        byte_count: i64,
    }
    bench(bencher, &NDJSON, |body| {
        let lines = body.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines.filter(|line| serde_json::from_slice::<Flow<'_>>(line).map(black_box).is_ok()).count()
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn i_anchor_ndjson_arrow_json(bencher: Bencher) {
    let schema = corpus::pipeline(&[]).columns.arrow();
    bench(bencher, &NDJSON, |mut body| {
        let builder = ReaderBuilder::new(schema.clone()).with_batch_size(8192);
        let mut decoder = builder.build_decoder().expect("a decoder");
        let mut rows = 0;
        loop {
            body = &body[decoder.decode(body).expect("lines of JSON")..];
            match decoder.flush().expect("whole records") {
                Some(batch) => rows += batch.num_rows(),
                None => return rows,
            }
        }
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn j_json_array_in_64_kib_chunks(bencher: Bencher) {
    bench(bencher, &JSON_ARRAY, |body| rows(Format::Json, body.chunks(CHUNK_BYTES)));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn k_csv_in_64_kib_chunks(bencher: Bencher) {
    bench(bencher, &CSV, |body| rows(Format::Csv, body.chunks(CHUNK_BYTES)));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn l_anchor_csv_arrow_csv(bencher: Bencher) {
    let without_id: Vec<usize> = (1..10).collect();
    let schema = corpus::pipeline(&[]).columns.arrow().project(&without_id).expect("ten columns");
    bench(bencher, &CSV, |body| {
        let builder = arrow::csv::ReaderBuilder::new(schema.clone().into()).with_batch_size(8192);
        let batches = builder.build_buffered(body).expect("a reader");
        batches.map(|batch| batch.expect("fields that fit").num_rows()).sum()
    });
}

fn other_shape(name: &str) -> &'static [u8] {
    &OTHER_SHAPES.iter().find(|(shape, _)| *shape == name).expect("one of three").1
}

/// Every event is made, and nothing is kept of it.
fn records_by_quick_xml(body: &[u8]) -> usize {
    let mut reader = quick_xml::Reader::from_reader(body);
    let mut records = 0;
    loop {
        match reader.read_event().expect("well-formed") {
            quick_xml::events::Event::End(tag) if tag.name().as_ref() == "record" => records += 1,
            quick_xml::events::Event::Eof => return records,
            event => drop(black_box(event)),
        }
    }
}

/// As a pipeline does it: a batch is gone before the next comes.
fn rows<'a>(format: Format, chunks: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut rows = 0;
    corpus::decode_each(format, chunks, |batch| rows += black_box(batch).num_rows());
    rows
}

/// `read` gives the number of records, so that nobody is fast by skipping some.
fn bench(bencher: Bencher, body: &'static [u8], read: impl Fn(&'static [u8]) -> usize + Sync) {
    assert_eq!(read(body), ROWS);
    bencher
        .counter(ItemsCount::new(ROWS))
        .counter(BytesCount::of_slice(body))
        .bench(|| read(black_box(body)));
}
