//! The decoders agree with parsers by others, and nothing about how a run is cut up changes what is staged.
//!
//! Python's expat and json read the same documents, thousands of random ones, well-formed and not: what is
//! accepted and every value must be the same. What api2bq asks beyond that (one root, no DTD of the
//! document's own, one value per field) the reference scripts spell out independently.
//!
//! One class of documents may be read here and refused there: a record with a reference that stands for no
//! character, or with bytes that are none, is a reject, and the others are rows. Each such case is proven:
//! the document without its rejects must be accepted with the same rows; a reject by itself must be refused,
//! and accepted once its references and wrong bytes are something harmless.

use std::fmt::Write as _;
use std::path::Path;

use api2bq::decode::{Decoder, Options};
use api2bq::reject::Reject;
use api2bq::schema::{Column, ColumnType, Columns, Format, Mode};
use arrow::array::{Array, AsArray};
use serde_json::Value;

use crate::context::{TestContext, python};
use crate::documents::{Documents, FIELDS};

#[derive(Debug, Clone, PartialEq)]
struct Read {
    rows: Vec<Vec<Option<String>>>,
    rejects: Vec<Reject>,
}

fn columns() -> Columns {
    // Names of their own: `größe` and `x-1` are elements, but no columns of BigQuery's.
    let column = |(i, path): (usize, &&str)| Column {
        name: format!("c{i}"),
        kind: ColumnType::String,
        mode: Mode::Nullable,
        path: Some((*path).to_owned()),
    };
    Columns::new(FIELDS.iter().enumerate().map(column).collect()).expect("legal columns")
}

fn read_cut(format: Format, body: &[u8], cuts: &[usize], options: &Options) -> Result<Read, String> {
    let mut decoder = Decoder::new(format, &columns(), options).expect("legal options");
    let mut at = 0;
    for cut in cuts.iter().copied().chain([body.len()]) {
        decoder.push(&body[at..cut]).map_err(|e| e.to_string())?;
        at = cut;
    }
    decoder.finish().map_err(|e| e.to_string())?;
    let mut rows = Vec::new();
    while let Some(batch) = decoder.next_batch() {
        let texts: Vec<_> = batch.columns().iter().map(|c| c.as_string::<i32>()).collect();
        let text = |row: usize, c: usize| texts[c].is_valid(row).then(|| texts[c].value(row).to_owned());
        rows.extend((0..batch.num_rows()).map(|row| (0..FIELDS.len()).map(|c| text(row, c)).collect()));
    }
    Ok(Read { rows, rejects: decoder.take_rejects() })
}

/// Whole, cut at random, and without the shortcut for usual records: all must come to the same.
fn read(format: Format, body: &[u8], rng: &mut fastrand::Rng) -> Result<Read, String> {
    let whole = read_cut(format, body, &[], &Options::default());
    let mut cuts: Vec<usize> = (0..rng.usize(1..10)).map(|_| rng.usize(0..=body.len())).collect();
    cuts.sort_unstable();
    for options in [
        Options { batch_rows: rng.usize(1..20), ..Options::default() },
        Options { expect_records: false, ..Options::default() },
    ] {
        let other = read_cut(format, body, &cuts, &options);
        let same = match (&whole, &other) {
            (Ok(whole), Ok(other)) => whole == other,
            (Err(_), Err(_)) => true,
            _ => false,
        };
        let shown = body.escape_ascii();
        assert!(same, "{shown}\ncut at {cuts:?}, {options:?}\nwhole: {whole:?}\nother: {other:?}");
    }
    whole
}

/// Runs a reference script over `documents`; what it says of each, in order.
fn reference(script: &str, more: &[&str], documents: &[Vec<u8>]) -> Vec<Value> {
    let context = TestContext::new();
    let mut file = Vec::new();
    for document in documents {
        file.extend(u32::try_from(document.len()).expect("small").to_be_bytes());
        file.extend_from_slice(document);
    }
    let path = context.write("documents", file);
    let path = path.to_str().expect("UTF-8");
    let said = python(script, &[more, &[path], &FIELDS[..]].concat()).stdout;
    let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(said.len(), documents.len());
    said
}

/// The document without its rejected records.
fn without(document: &[u8], rejects: &[Reject]) -> Vec<u8> {
    let (mut rest, mut at) = (Vec::new(), 0);
    for reject in rejects {
        let start = start_of(reject);
        assert_eq!(document[start..start + reject.raw.len()], reject.raw);
        rest.extend_from_slice(&document[at..start]);
        at = start + reject.raw.len();
    }
    rest.extend_from_slice(&document[at..]);
    rest
}

/// Where the record starts in its body.
fn start_of(reject: &Reject) -> usize {
    usize::try_from(reject.place.offset).expect("small")
}

/// The record as a document of its own; with `harmless`, without references and without bytes that are no text.
fn alone(reject: &Reject, harmless: bool) -> Vec<u8> {
    let mut text = reject.raw.clone();
    if harmless {
        let lossy = String::from_utf8_lossy(&text).replace('\u{fffd}', "?");
        let mut kept = String::new();
        let mut rest = &*lossy;
        while let Some((before, after)) = rest.split_once('&') {
            kept += before;
            // Up to its `;`, unless a tag or another reference starts before that: then it is a stray `&`.
            // A number with something else in it is taken for a reference that stands for no character.
            let number = after.starts_with('#');
            let stops =
                |c: char| matches!(c, ';' | '&' | '<') || !number && (c == '>' || c.is_ascii_whitespace());
            let end = after.find(stops).filter(|end| after[*end..].starts_with(';'));
            kept += if end.is_some() { "x" } else { "&" };
            rest = end.map_or(after, |end| &after[end + 1..]);
        }
        text = (kept + rest).into_bytes();
    }
    [b"<records>", &text[..], b"</records>"].concat()
}

#[derive(Debug, Default)]
struct Tally {
    read: u32,
    refused: u32,
    rows: usize,
    rejects: usize,
    quarantined: u32,
    disagreements: Vec<String>,
}

impl Tally {
    #[track_caller]
    fn verdict(&self, what: &str) {
        let mut all = String::new();
        for disagreement in self.disagreements.iter().take(40) {
            writeln!(all, "{disagreement}\n").expect("a string takes all");
        }
        let Tally { read, refused, rows, rejects, quarantined, disagreements } = self;
        println!(
            "{what}: {read} read, {refused} refused, {rows} rows, {rejects} rejects, {quarantined} quarantined"
        );
        assert!(disagreements.is_empty(), "{} disagreements; the first:\n\n{all}", disagreements.len());
    }
}

fn compare_xml(documents: &[Vec<u8>], rng: &mut fastrand::Rng) -> Tally {
    let ours: Vec<Result<Read, String>> = documents.iter().map(|d| read(Format::Xml, d, rng)).collect();
    // For each document: itself, then what is left without its rejects, then each reject alone, twice.
    let mut asked = Vec::new();
    for (document, ours) in documents.iter().zip(&ours) {
        asked.push(document.clone());
        if let Ok(ours) = ours {
            asked.push(without(document, &ours.rejects));
            asked.extend(ours.rejects.iter().flat_map(|reject| [alone(reject, false), alone(reject, true)]));
        }
    }
    let said = reference("xml_reference.py", &[], &asked);
    let mut said = said.iter();
    let mut next = || said.next().expect("an answer for each");
    let mut tally = Tally::default();
    for (document, ours) in documents.iter().zip(&ours) {
        let theirs = next();
        let shown = document.escape_ascii();
        let Ok(ours) = ours else {
            tally.refused += 1;
            if theirs["refused"].is_null() {
                tally.disagreements.push(format!("{shown}\n  here: {ours:?}\n  there: {theirs}"));
            }
            continue;
        };
        let rest = next();
        let rejects: Vec<(&Value, &Value)> = ours.rejects.iter().map(|_| (next(), next())).collect();
        tally.read += 1;
        tally.rows += ours.rows.len();
        tally.rejects += ours.rejects.len();
        let reasons: Vec<&str> = ours.rejects.iter().map(|r| &*r.reason).collect();
        let rows = serde_json::json!(ours.rows);
        let same = theirs["rows"] == rows && theirs["rejects"] == serde_json::json!(reasons);
        // See the head of this file.
        let refused = |value: &Value| !value["refused"].is_null();
        let spoilt: Vec<_> = rejects.iter().filter(|(alone, _)| refused(alone)).collect();
        let rest_is_the_same = rest["rows"] == rows && rest["rejects"] == serde_json::json!([]);
        // Nothing but rejects leaves other elements, or none: then there is no record left to find.
        let class = refused(theirs)
            && !spoilt.is_empty()
            && spoilt.iter().all(|(_, harmless)| !refused(harmless))
            && (rest_is_the_same
                || (ours.rows.is_empty() && rest["refused"] == "elements, but no record among them"));
        tally.quarantined += u32::from(class);
        if !same && !class {
            tally.disagreements.push(format!("{shown}\n  here: {rows} {reasons:?}\n  there: {theirs}"));
        }
    }
    tally
}

#[test]
fn xml_means_the_same_to_expat() {
    let mut documents = Documents::new(2011);
    let bodies: Vec<Vec<u8>> = (0..3000).map(|_| documents.xml().into_bytes()).collect();
    let tally = compare_xml(&bodies, documents.rng());
    tally.verdict("well-formed documents");
    assert!(tally.read > 2500 && tally.rows > 7000 && tally.rejects > 300, "{tally:?}");
    assert_eq!(tally.quarantined, 0);

    let bodies: Vec<Vec<u8>> = (0..12_000).map(|_| documents.mutated_xml()).collect();
    let tally = compare_xml(&bodies, documents.rng());
    tally.verdict("documents after accidents");
    assert!(tally.read > 1000 && tally.refused > 4000 && tally.quarantined > 100, "{tally:?}");
}

fn compare_json(format: Format, bodies: &[Vec<u8>], rng: &mut fastrand::Rng) -> Tally {
    let form = if format == Format::Ndjson { "lines" } else { "objects" };
    let said = reference("json_reference.py", &[form], bodies);
    let mut tally = Tally::default();
    for (body, theirs) in bodies.iter().zip(&said) {
        let same = match read(format, body, rng) {
            Err(_) => {
                tally.refused += 1;
                !theirs["refused"].is_null()
            }
            Ok(ours) => {
                tally.read += 1;
                tally.rows += ours.rows.len();
                tally.rejects += ours.rejects.len();
                let offsets: Vec<usize> = ours.rejects.iter().map(start_of).collect();
                theirs["rows"] == serde_json::json!(ours.rows)
                    && theirs["rejects"] == serde_json::json!(offsets)
            }
        };
        if !same {
            let ours = read(format, body, rng);
            let shown = body.escape_ascii();
            tally.disagreements.push(format!("{shown}\n  here: {ours:?}\n  there: {theirs}"));
        }
    }
    tally
}

#[test]
fn json_means_the_same_to_python() {
    let mut documents = Documents::new(86_400);
    let lines: Vec<Vec<u8>> = (0..300).map(|_| documents.lines().into_bytes()).collect();
    let tally = compare_json(Format::Ndjson, &lines, documents.rng());
    tally.verdict("lines");
    assert!(tally.rows > 1500 && tally.rejects > 300 && tally.refused == 0, "{tally:?}");
    let damaged = |documents: &mut Documents| {
        let body = documents.lines();
        documents.mutated_json(body)
    };
    let lines: Vec<Vec<u8>> = (0..3000).map(|_| damaged(&mut documents)).collect();
    let tally = compare_json(Format::Ndjson, &lines, documents.rng());
    tally.verdict("lines after accidents");
    assert!(tally.rows > 10_000 && tally.rejects > 2000, "{tally:?}");

    let bodies: Vec<Vec<u8>> = (0..1000).map(|_| documents.json().into_bytes()).collect();
    let tally = compare_json(Format::Json, &bodies, documents.rng());
    tally.verdict("arrays and sequences");
    assert!(tally.rows > 1500 && tally.rejects > 100 && tally.refused == 0, "{tally:?}");
    let damaged = |documents: &mut Documents| {
        let body = documents.json();
        documents.mutated_json(body)
    };
    let bodies: Vec<Vec<u8>> = (0..4000).map(|_| damaged(&mut documents)).collect();
    let tally = compare_json(Format::Json, &bodies, documents.rng());
    tally.verdict("arrays and sequences after accidents");
    assert!(tally.read > 300 && tally.refused > 2000, "{tally:?}");
}

/// One backfill of three days into a stage of its own: what its staged files hold, by their logical hashes.
fn staged(context: &TestContext, source_url: &str, number: usize, rng: &mut fastrand::Rng) -> Vec<String> {
    let stage = format!("stage-{number}");
    let (jobs, threads) = (rng.u32(1..6).to_string(), rng.u32(1..5).to_string());
    let set = [
        format!("limits.batch_rows={}", [1, 7, 100, 1000, 8192][rng.usize(0..5)]),
        format!("limits.memory_mib={}", [16, 64, 128][rng.usize(0..3)]),
        format!("stage.row_group_rows={}", [100, 5000, 1_048_576][rng.usize(0..3)]),
        format!("stage.url={}", context.path(&stage).display()),
        format!("source.url={source_url}"),
        format!("source.query.format={}", ["xml", "json"][rng.usize(0..2)]),
    ];
    let mut arguments =
        vec!["backfill", "flows", "--from", "1", "--to", "3", "--until", "stage", "--jobs", &jobs];
    set.iter().for_each(|pair| arguments.extend(["--set", pair]));
    let window = format!("{}d", rng.u32(1..4));
    arguments.extend(["--window", &window]);
    let mut command = context.command(&arguments);
    let ended: crate::context::Ended =
        command.env("TOKIO_WORKER_THREADS", &threads).output().expect("it runs").into();
    let ended = ended.success();
    assert!(ended.stdout.contains("6,000 records in ="), "{}", ended.stdout);
    context.staged(&stage)
}

#[test]
fn cuts_threads_and_batches_do_not_change_what_is_staged() {
    let context = TestContext::new();
    let source = context.source(&["--rows", "6000", "--days", "3", "--duplicates", "0.1", "--seed", "7"]);
    let mut rng = fastrand::Rng::with_seed(259_200);
    let cutting = Cutting::start(&source.url, rng.fork());
    let expected = staged(&context, &source.flows(), 0, &mut rng);
    assert_eq!(expected.len(), 3, "{expected:?}");
    for number in 1..9 {
        let url = if number % 2 == 0 { source.flows() } else { cutting.flows() };
        assert_eq!(staged(&context, &url, number, &mut rng), expected, "combination {number}");
    }
    assert!(cutting.cuts() > 300, "{} cuts", cutting.cuts());
}

mod cutting;
use cutting::Cutting;

/// Reads a file of the tests' own, so that a document that once disagreed stays compared.
#[test]
fn the_seeds_of_the_fuzzer_mean_the_same_too() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds/xml_decode");
    let mut documents: Vec<Vec<u8>> = Vec::new();
    for file in std::fs::read_dir(seeds).expect("seeds").flatten() {
        // Four bytes say how the fuzzer cuts.
        documents.push(std::fs::read(file.path()).expect("readable").split_off(4));
    }
    assert!(documents.len() > 20);
    compare_xml(&documents, &mut fastrand::Rng::with_seed(1)).verdict("seeds");
}
