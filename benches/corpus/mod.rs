//! The corpus of the benches: seeded flow records, the same bytes each time, made in memory.

use std::sync::LazyLock;

use api2bq::config::Pipeline;
use api2bq::decode::{Decoder, Options};
use api2bq::demo::{Body, Flows};
use api2bq::engine::{self, Engine};
use api2bq::schema::Format;
use api2bq::transform::Transform;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// One window of `api2bq demo`: a day of its million records over five days.
pub(crate) const ROWS: usize = 200_000;
/// As the demo: 3 in 100 records repeat an earlier id.
pub(crate) const FLOWS: Flows = Flows { rows: ROWS as u64, days: 1, duplicates: 0.03, seed: 1 };

pub(crate) static XML: LazyLock<Vec<u8>> = LazyLock::new(|| body(Body::Xml));
pub(crate) static NDJSON: LazyLock<Vec<u8>> = LazyLock::new(|| body(Body::Ndjson));

pub(crate) static JSON_ARRAY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut array = NDJSON.clone();
    array.iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b',');
    array.insert(0, b'[');
    *array.last_mut().expect("it has the opening bracket") = b']';
    array
});

/// The flows as XML whose records the fast path cannot expect: with attributes, with nested elements, and
/// with fields in another order each time.
pub(crate) static OTHER_SHAPES: LazyLock<[(&str, Vec<u8>); 3]> = LazyLock::new(|| {
    let mut rng = fastrand::Rng::with_seed(1);
    [
        (
            "attributes",
            reshaped(|i, fields| {
                let fields = fields.concat().replace("_comp>C", "_comp kind='host'>C");
                format!("<record n='{i}'>{fields}</record>")
            }),
        ),
        (
            "nested",
            reshaped(|_, fields| {
                format!("<record>{}<more><a>1</a><b>2</b></more></record>", fields.concat())
            }),
        ),
        (
            "shuffled",
            reshaped(|_, fields| {
                rng.shuffle(fields);
                format!("<record>{}</record>", fields.concat())
            }),
        ),
    ]
});

/// The same records, each written anew from its number and its fields such as `<id>1</id>`.
fn reshaped(mut write: impl FnMut(usize, &mut [&str]) -> String) -> Vec<u8> {
    let text = std::str::from_utf8(&XML).expect("text");
    let mut xml = String::from("<records>");
    for (i, record) in text.split("<record>").skip(1).enumerate() {
        let (record, _) = record.split_once("</record>").expect("a whole record");
        let mut fields: Vec<&str> = Vec::new();
        let mut rest = record;
        while let Some((_, behind)) = rest.split_once("</") {
            let (_, behind) = behind.split_once('>').expect("a whole tag");
            fields.push(&rest[..rest.len() - behind.len()]);
            rest = behind;
        }
        xml += &write(i, &mut fields);
        xml += "\n";
    }
    (xml + "</records>").into_bytes()
}

/// LANL's layout: no header, no id.
pub(crate) static CSV: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut csv = Vec::new();
    let mut writer = arrow::csv::WriterBuilder::new().with_header(false).build(&mut csv);
    for batch in DECODED.iter() {
        let without_id: Vec<usize> = (1..batch.num_columns()).collect();
        writer.write(&batch.project(&without_id).expect("the columns exist")).expect("memory takes it");
    }
    drop(writer);
    csv
});

/// What decoding gives and the SQL takes.
pub(crate) static DECODED: LazyLock<Vec<RecordBatch>> =
    LazyLock::new(|| decode(Format::Xml, [XML.as_slice()].into_iter()));

/// What the built-in SQL gives and staging takes.
pub(crate) static TRANSFORMED: LazyLock<Vec<RecordBatch>> = LazyLock::new(|| {
    let transform = transform(&pipeline(&[]).stage_sql);
    RUNTIME.block_on(run(&transform, &DECODED))
});

/// Two threads, as many as the machine of the README has cores.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
});

/// The built-in pipeline under `set`.
pub(crate) fn pipeline(set: &[String]) -> Pipeline {
    Pipeline::resolve("flows", set).expect("the built-in pipeline is right")
}

fn body(body: Body) -> Vec<u8> {
    FLOWS.chunks(0, u64::MAX, None, body).collect::<Vec<_>>().concat()
}

/// Decodes one body to its end, and keeps what comes of it.
fn decode<'a>(format: Format, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    decode_each(format, chunks, |batch| batches.push(batch));
    batches
}

/// Decodes one body to its end.
pub(crate) fn decode_each<'a>(
    format: Format,
    chunks: impl Iterator<Item = &'a [u8]>,
    mut take: impl FnMut(RecordBatch),
) {
    let options = Options { row_number_column: Some("id".into()), ..Options::default() };
    let mut decoder = Decoder::new(format, &pipeline(&[]).columns, &options).expect("right options");
    for chunk in chunks {
        decoder.push(chunk).expect("a well-formed body");
        std::iter::from_fn(|| decoder.next_batch()).for_each(&mut take);
    }
    decoder.finish().expect("a whole body");
    std::iter::from_fn(|| decoder.next_batch()).for_each(&mut take);
    assert_eq!(decoder.counts().rows, ROWS as u64, "every record is a row");
}

pub(crate) fn transform(sql: &str) -> Transform {
    let engine = Engine::new(engine::Options::default()).expect("an engine starts");
    RUNTIME.block_on(Transform::new(&engine, sql, &pipeline(&[]).columns)).expect("right SQL")
}

/// Sends batches through the SQL as a backfill does: from another task, four at a time.
pub(crate) async fn run(transform: &Transform, batches: &'static [RecordBatch]) -> Vec<RecordBatch> {
    let (records, input) = mpsc::channel(4);
    tokio::spawn(async move {
        for batch in batches {
            records.send(Ok(batch.clone())).await.expect("the SQL reads to the end");
        }
    });
    let (rows, _) = transform.run(input).await.expect("the SQL starts");
    rows.try_collect().await.expect("the SQL runs")
}

/// Bytes of the values in memory, without spare room.
pub(crate) fn arrow_bytes(batches: &[RecordBatch]) -> usize {
    let column = |column: &arrow::array::ArrayRef| column.to_data().get_slice_memory_size().expect("flat");
    batches.iter().flat_map(RecordBatch::columns).map(column).sum()
}
