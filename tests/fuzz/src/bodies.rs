//! Decodes one body in several ways that must not make a difference.

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;

use crate::decode::{Counts, Decoder, Options};
use crate::error::Result;
use crate::schema::{Column, ColumnType, Columns, Format, Mode};

/// Small limits, since the bodies are small: a limit that is never reached is never tested.
const RECORD_BYTES_MAX: usize = 600;
const DEPTH_MAX: usize = 6;

/// How a body is cut, taken from the first four bytes of the fuzzer's input; the rest is the body.
pub struct Input<'a> {
    pub body: &'a [u8],
    cuts: Vec<usize>,
    batch_rows: usize,
}

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Option<Self> {
        let (control, body) = data.split_at_checked(4)?;
        let mut cuts: Vec<usize> = control[..3].iter().map(|b| usize::from(*b) * body.len() / 255).collect();
        cuts.sort_unstable();
        Some(Input { body, cuts, batch_rows: usize::from(control[3] % 7) + 1 })
    }
}

/// What a body gave. The rows are one batch, so that it does not matter how they were batched.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub rows: RecordBatch,
    pub rejects: Vec<(u64, String)>,
    pub counts: Counts,
}

fn columns() -> Columns {
    let column = |name: &str, kind, mode, path: Option<&str>| Column {
        name: name.into(),
        kind,
        mode,
        path: path.map(str::to_owned),
    };
    Columns::new(vec![
        column("id", ColumnType::Int64, Mode::Required, None),
        column("name", ColumnType::String, Mode::Required, None),
        column("note", ColumnType::String, Mode::Nullable, Some("n")),
        column("ratio", ColumnType::Float64, Mode::Nullable, None),
        column("ok", ColumnType::Bool, Mode::Nullable, None),
        column("price", ColumnType::Numeric, Mode::Nullable, None),
        column("on_day", ColumnType::Date, Mode::Nullable, None),
        column("at", ColumnType::Timestamp, Mode::Nullable, None),
    ])
    .expect("legal columns")
}

/// Decodes `input` whole, cut where it says, byte by byte, and without the shortcut: the outcome must be
/// the same, and the counts must add up.
pub fn decode(format: Format, input: &Input<'_>) -> Result<Decoded> {
    let options = Options {
        record_bytes_max: RECORD_BYTES_MAX,
        depth_max: DEPTH_MAX,
        rejects_kept: 5,
        // Builders are made for so many rows, which would take most of the time.
        batch_rows: 64,
        ..Options::default()
    };
    let whole = decode_cut(format, input.body, &[], &options);
    // Long bodies in many pieces would take the time of a hundred short ones.
    let every_byte: Vec<usize> = (0..input.body.len()).take(700).collect();
    let small_batches = Options { batch_rows: input.batch_rows, ..options.clone() };
    let careful = Options { expect_records: false, ..options.clone() };
    for (how, other) in [
        ("cut", decode_cut(format, input.body, &input.cuts, &small_batches)),
        ("byte by byte", decode_cut(format, input.body, &every_byte, &options)),
        ("without the shortcut", decode_cut(format, input.body, &[], &careful)),
        ("without the shortcut, cut", decode_cut(format, input.body, &input.cuts, &careful)),
    ] {
        match (&whole, &other) {
            (Ok(whole), Ok(other)) => assert_eq!(whole, other, "{how}"),
            (Err(whole), Err(other)) => assert_eq!(whole.to_string(), other.to_string(), "{how}"),
            (whole, other) => panic!("whole: {whole:?}\n{how}: {other:?}"),
        }
    }
    whole
}

/// A body whose records are all `record` but the fourth: there the byte at `at` is `byte`.
pub fn repeated(format: Format, record: &[u8], at: u8, byte: u8) -> Vec<u8> {
    let mut odd = record.to_vec();
    if let Some(place) = odd.get_mut(usize::from(at)) {
        *place = byte;
    }
    let (open, between, close) = match format {
        Format::Xml => (&b"<records>"[..], &b"\n"[..], &b"</records>"[..]),
        Format::Json => (&b"["[..], &b","[..], &b"]"[..]),
        Format::Ndjson | Format::Csv => (&b""[..], &b"\n"[..], &b"\n"[..]),
    };
    [open, &[record, record, record, &odd, record, record].join(between), close].concat()
}

fn decode_cut(format: Format, body: &[u8], cuts: &[usize], options: &Options) -> Result<Decoded> {
    let mut decoder = Decoder::new(format, &columns(), options)?;
    let mut at = 0;
    for cut in cuts.iter().copied().chain([body.len()]).filter(|cut| *cut <= body.len()) {
        decoder.push(&body[at..cut])?;
        at = cut;
    }
    decoder.finish()?;
    let mut batches = Vec::new();
    while let Some(batch) = decoder.next_batch() {
        assert!((1..=options.batch_rows).contains(&batch.num_rows()), "{} rows", batch.num_rows());
        batches.push(batch);
    }
    let counts = decoder.counts();
    let rows = concat_batches(&columns().arrow(), &batches).expect("batches of one schema");
    assert_eq!(counts.records, counts.rows + counts.rejects);
    assert_eq!(counts.rows, rows.num_rows() as u64);
    let rejects = decoder.take_rejects();
    assert!(rejects.len() as u64 <= counts.rejects && rejects.len() <= options.rejects_kept);
    for reject in &rejects {
        let start = usize::try_from(reject.place.offset).expect("within the body");
        assert_eq!(body[start..][..reject.raw.len()], reject.raw, "the offset leads to the raw bytes");
    }
    let rejects = rejects.into_iter().map(|r| (r.place.offset, r.reason)).collect();
    Ok(Decoded { rows, rejects, counts })
}
