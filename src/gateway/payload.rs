//! A posted body judged by the pipeline's columns: which of its rows fit, and why the others do not.
//!
//! The code that reads values is that of [`decode`](crate::decode): a gateway and a backfill take the
//! same spellings. `"15"` fills a NUMERIC and `27` a STRING; `1.0` is no INT64, `true` fills a BOOL
//! only, and objects and arrays fill nothing.

use arrow::record_batch::RecordBatch;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::decode::{Decoder, Options};
use crate::error::{Error, Result};
use crate::reject::Reject;
use crate::schema::{Columns, Format};

/// A row that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Its place in the body, from 0.
    pub index: u64,
    /// The column that is wrong, unless the row as a whole is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// One of the words for rejects that a backfill has too, such as `missing_field`.
    pub reason: String,
}

/// Rejects of one body. What is said of a wrong row is longer than many rows are, and it is answered, stored
/// and remembered: a body with more of them is not taken.
pub(super) const REJECTED_MAX: usize = 10_000;

/// What a well-formed body holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    pub accepted: u64,
    /// How many rows do not fit.
    pub num_rejected: u64,
    /// The first of these, at most [`REJECTED_MAX`].
    pub rejected: Vec<Rejected>,
    /// Fields that are no columns, and were passed over.
    pub ignored: Vec<String>,
}

/// Why a body is none, and where, as far as that is one place. Lines and columns count from 1,
/// columns in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    pub message: String,
    pub place: Option<(usize, usize)>,
}

/// Judges every row of a body.
pub fn judge(body: &[u8], format: Format, columns: &Columns) -> Result<Judged, Malformed> {
    let malformed = |error: Error| explain(body, format, &error);
    let mut decoder = each_batch(body, format, columns, |_| Ok(())).map_err(malformed)?;
    let counts = decoder.counts();
    let rejected: Vec<Rejected> = decoder.take_rejects().into_iter().map(rejected).collect();
    let ignored = decoder.notices().into_iter();
    let ignored = ignored.filter_map(|n| n.what.strip_prefix("new_field:").map(str::to_owned)).collect();
    Ok(Judged { accepted: counts.rows, num_rejected: counts.rejects, rejected, ignored })
}

/// Bytes that are decoded before what came of them is passed on. Rows may take twenty times the memory of
/// their JSON: `{}` has three bytes and all columns.
const PART_BYTES: usize = 1 << 20;

/// Reads a body to its end, and passes its rows on as they come.
pub(super) fn each_batch(
    body: &[u8],
    format: Format,
    columns: &Columns,
    mut take: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<Decoder> {
    let mut decoder = decoder(body, format, columns)?;
    let mut pass_on = |decoder: &mut Decoder| -> Result<()> {
        while let Some(batch) = decoder.next_batch() {
            take(batch)?;
        }
        Ok(())
    };
    for part in body.chunks(PART_BYTES) {
        decoder.push(part)?;
        pass_on(&mut decoder)?;
    }
    decoder.finish()?;
    pass_on(&mut decoder)?;
    Ok(decoder)
}

fn decoder(body: &[u8], format: Format, columns: &Columns) -> Result<Decoder> {
    let options = Options {
        // No object of a field and a value is shorter. Builders are made for as many rows.
        batch_rows: (body.len() / 8).clamp(1, 8192),
        // All of them together are no longer than the body, which has its own limit.
        record_bytes_max: body.len().max(1),
        rejects_kept: REJECTED_MAX,
        expect_records: body.len() > 4096,
        ..Options::default()
    };
    Decoder::new(format, columns, &options)
}

fn rejected(reject: Reject) -> Rejected {
    let (reason, field) = match reject.reason.split_once(':') {
        Some((reason, field)) => (reason.to_owned(), Some(field.to_owned())),
        None => (reject.reason, None),
    };
    Rejected { index: reject.index, field, reason }
}

/// What word processors and web pages make of a quote.
const CURLY: [char; 8] = ['“', '”', '„', '‟', '‘', '’', '«', '»'];

fn char_at(text: &[u8], (line, column): (usize, usize)) -> Option<char> {
    let line = text.split(|byte| *byte == b'\n').nth(line.checked_sub(1)?)?;
    let rest = line.get(column - 1..)?;
    String::from_utf8_lossy(&rest[..rest.len().min(4)]).chars().next()
}

/// Finds the byte where the grammar is broken; the decoder only knows where the value starts.
fn explain(body: &[u8], format: Format, error: &Error) -> Malformed {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let error_at = |e: serde_json::Error| {
        // serde_json names the place in its message too.
        let said = e.to_string();
        let mut message = said.rsplit_once(" at line ").map_or(&*said, |(message, _)| message).to_owned();
        let place = (e.line(), e.column().max(1));
        if let Some(quote) = char_at(text, place).filter(|c| CURLY.contains(c)) {
            message += &format!("; `{quote}` is no quote of JSON, `\"` is");
        }
        Malformed { message, place: Some(place) }
    };
    let is_array = text.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    let grammar = if format == Format::Json && is_array {
        serde_json::from_slice::<IgnoredAny>(text).err()
    } else {
        serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>().find_map(Result::err)
    };
    match grammar {
        Some(grammar) => error_at(grammar),
        None => Malformed { message: error.to_string(), place: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Column, ColumnType, Mode};

    fn columns() -> Columns {
        let column = |name: &str, kind, mode| Column { name: name.into(), kind, mode, path: None };
        let required = Mode::Required;
        Columns::new(vec![
            column("WH_ID", ColumnType::String, required),
            column("Item_id", ColumnType::Numeric, Mode::Nullable),
            column("Count", ColumnType::Int64, Mode::Nullable),
        ])
        .unwrap()
    }

    #[test]
    fn rows_that_fit_are_counted_and_the_others_named() {
        let body = br#"[{"WH_ID":"WH1","Item_id":"15"}, {"WH_ID":27,"Item_id":1e2,"Count":1.0},
            {"Item_id":1}, 42, {"WH_ID":"WH2","Count":"7","Else":{"a":[1]}}]"#;
        let judged = judge(body, Format::Json, &columns()).unwrap();
        let rejected = |index, field: Option<&str>, reason: &str| Rejected {
            index,
            field: field.map(str::to_owned),
            reason: reason.into(),
        };
        assert_eq!(judged.accepted, 2);
        assert_eq!(
            judged.rejected,
            [
                rejected(1, Some("Count"), "not_an_integer"),
                rejected(2, Some("WH_ID"), "missing_field"),
                rejected(3, None, "not_an_object"),
            ]
        );
        assert_eq!(judged.ignored, ["Else"]);
        let mut rows = 0;
        let mut decoder = each_batch(body, Format::Json, &columns(), |batch| {
            rows += batch.num_rows();
            Ok(())
        })
        .unwrap();
        let again: Vec<_> = decoder.take_rejects().into_iter().map(super::rejected).collect();
        assert_eq!((rows, again), (2, judged.rejected));
    }

    #[test]
    fn of_very_many_wrong_rows_only_the_first_are_kept() {
        let body = format!("[{{\"WH_ID\":1}}{}]", ",1".repeat(REJECTED_MAX + 5));
        let judged = judge(body.as_bytes(), Format::Json, &columns()).unwrap();
        assert_eq!((judged.accepted, judged.num_rejected), (1, REJECTED_MAX as u64 + 5));
        assert_eq!((judged.rejected.len(), judged.rejected[0].index), (REJECTED_MAX, 1));
    }

    #[test]
    fn a_broken_body_is_told_by_line_and_column() {
        let place = |body: &str| judge(body.as_bytes(), Format::Json, &columns()).unwrap_err().place;
        let curly = judge("{\n  \"WH_ID\": “WH1”\n}".as_bytes(), Format::Json, &columns()).unwrap_err();
        assert_eq!(curly.place, Some((2, 12)));
        assert_eq!(curly.message, "expected value; `“` is no quote of JSON, `\"` is");
        assert_eq!(place("[{\"WH_ID\":\"a\"},\n{\"WH_ID\":\"b\"}"), Some((2, 13)));
        assert_eq!(place("[{\"WH_ID\":\"a\"}]\n x"), Some((2, 2)));
        assert_eq!(place("{\"WH_ID\":"), Some((1, 9)));
        assert_eq!(place(&"[".repeat(100_000)), Some((1, 100_000)));
        let error = judge(b"{\"WH_ID\": tru}", Format::Json, &columns()).unwrap_err();
        assert_eq!(error.message, "expected ident");
    }

    #[test]
    fn a_broken_line_is_a_reject_of_its_own() {
        let judged = judge(b"{\"WH_ID\":1}\n{\"WH_ID\":\n{\"WH_ID\":2}", Format::Ndjson, &columns()).unwrap();
        assert_eq!((judged.accepted, judged.rejected.len()), (2, 1));
        assert_eq!((judged.rejected[0].index, &*judged.rejected[0].reason), (1, "json_syntax"));
    }
}
