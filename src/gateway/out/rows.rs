//! The rows of one segment as requests, and what has become of them so far.

use std::collections::BTreeMap;
use std::mem;

use crate::bigquery::RowError;
use crate::error::{Error, Kind, Result};
use crate::gateway::letter::Letter;
use crate::gateway::spool::{Folder, SegmentId, Spool};
use crate::render::text_objects;
use crate::schema::Columns;

/// BigQuery takes 50,000 rows a request and recommends 500.
const ROWS_MAX: usize = 500;
/// BigQuery takes 10 MB a request, and as much a row.
const BYTES_MAX: usize = 9 << 20;
/// Of a row beside its own JSON: `{"insertId":"…","json":…},`.
const ROW_BYTES: usize = 96;

/// A row under the id by which BigQuery drops it when it comes twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Of the request that brought it.
    pub(super) letter: String,
    /// Its place in that one's body, from 0.
    pub(super) index: u64,
    pub(super) json: String,
}

impl Row {
    /// The same at every try, by whichever process: both parts are on the disk.
    pub(super) fn insert_id(&self) -> String {
        format!("{}-{}", self.letter, self.index)
    }
}

/// Rows that are sent together, of one day.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// On which they came; day 1 is that of second 0.
    pub(super) day: i64,
    pub(super) rows: Vec<Row>,
    bytes: usize,
}

/// A row that BigQuery will not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) row: Row,
    pub(super) error: RowError,
}

/// What an answer makes of the rows that were sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// Those to be sent again, by their places in the request.
    pub(super) again: Vec<usize>,
    pub(super) refused: Vec<Refused>,
    /// Why not at once.
    pub(super) waits: Option<String>,
}

impl Request {
    /// `left` are the rows that were sent, of which `errors` names those that were not stored.
    pub(super) fn split(&self, left: &[usize], errors: Vec<RowError>) -> Split {
        let (again, wrong): (Vec<_>, Vec<_>) =
            errors.into_iter().partition(|error| error.is_stopped() || error.is_weather());
        // Without the wrong ones the others have nothing that stops them.
        let waits = again.iter().find(|error| error.is_weather() || wrong.is_empty());
        let waits = waits.map(|error| format!("{}: {}", error.reason, error.message));
        let again = again.iter().map(|error| left[error.index]).collect();
        let refused = wrong.into_iter().map(|error| {
            let row = self.rows[left[error.index]].clone();
            Refused { row, error }
        });
        Split { again, refused: refused.collect(), waits }
    }
}

/// A segment on its way. Kept from one try to the next, so that what has its answer is not sent again.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) segment: SegmentId,
    /// Those that its letters say were accepted.
    pub(super) rows: u64,
    /// What has no answer yet.
    pub(super) waiting: Vec<Request>,
    pub(super) inserted: u64,
    pub(super) refused: Vec<Refused>,
}

impl Sending {
    pub(super) fn read(spool: &Spool<Folder>, segment: SegmentId, columns: &Columns) -> Result<Sending> {
        let mut sending = Sending { segment, rows: 0, waiting: Vec::new(), inserted: 0, refused: Vec::new() };
        let mut open: BTreeMap<i64, Request> = BTreeMap::new();
        for (_, bytes) in spool.read(segment)? {
            sending.add(&Letter::parse(&bytes)?, columns, &mut open)?;
        }
        sending.waiting.extend(open.into_values().filter(|request| !request.rows.is_empty()));
        Ok(sending)
    }

    fn add(&mut self, letter: &Letter, columns: &Columns, open: &mut BTreeMap<i64, Request>) -> Result<()> {
        let head = &letter.head;
        self.rows += head.accepted;
        let day = head.day();
        let request = open.entry(day).or_default();
        request.day = day;
        let mut indexes = head.accepted_indexes();
        letter.each_batch(columns, |batch| {
            for json in text_objects(&batch)? {
                let index = indexes.next().unwrap_or(u64::MAX);
                let row = Row { letter: head.id.clone(), index, json };
                let bytes = row.json.len() + ROW_BYTES;
                if bytes > BYTES_MAX {
                    self.refused.push(Refused { error: too_long(&row), row });
                    continue;
                }
                if request.rows.len() == ROWS_MAX || request.bytes + bytes > BYTES_MAX {
                    self.waiting.push(mem::replace(request, Request { day, ..Request::default() }));
                }
                request.bytes += bytes;
                request.rows.push(row);
            }
            Ok(())
        })
    }

    /// Takes note of a request whose rows all have their answer.
    pub(super) fn answered(&mut self, rows: usize, refused: Vec<Refused>) {
        self.inserted += (rows - refused.len()) as u64;
        self.refused.extend(refused);
    }
}

/// BigQuery would refuse the whole request, and every time.
fn too_long(row: &Row) -> RowError {
    let message = format!("a row of {} bytes; a request takes {BYTES_MAX}", row.json.len());
    RowError { index: 0, reason: "row_too_long".into(), location: String::new(), message }
}

/// Segments whose rows all have their answer, and for which the journal does not say so yet.
#[derive(Debug, Default)]
pub(super) struct Answered {
    pub(super) segments: Vec<SegmentId>,
    pub(super) rows: u64,
    pub(super) inserted: u64,
    pub(super) refused: Vec<Refused>,
}

impl Answered {
    /// Adds a segment; none of its rows may be without an answer.
    pub(super) fn add(&mut self, sent: Sending) -> Result<()> {
        let Sending { segment, rows, waiting, inserted, refused } = sent;
        if !waiting.is_empty() || rows != inserted + refused.len() as u64 {
            let message = format!(
                "{rows} rows of segment `{}` were accepted, and {inserted} are inserted, {} refused",
                segment.key(),
                refused.len()
            );
            return Err(Error::new(Kind::Mismatch, message)
                .hint("its rows are still in the spool; start the gateway with `--out batch` to load them"));
        }
        self.segments.push(segment);
        self.rows += rows;
        self.inserted += inserted;
        self.refused.extend(refused);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::letter::Head;
    use crate::gateway::payload::judge;
    use crate::schema::{Column, ColumnType, Format, Mode};

    fn columns() -> Columns {
        let column = |name: &str, kind| Column { name: name.into(), kind, mode: Mode::Nullable, path: None };
        Columns::new(vec![column("a", ColumnType::String), column("n", ColumnType::Int64)]).unwrap()
    }

    fn letter(id: &str, unix_ms: u64, body: &str) -> Letter {
        let judged = judge(body.as_bytes(), Format::Json, &columns()).unwrap();
        let (accepted, rejected, ignored) = (judged.accepted, judged.rejected, judged.ignored);
        let (id, pipeline, user) = (id.into(), "p".into(), "u".into());
        let head = Head {
            id,
            pipeline,
            unix_ms,
            user,
            is_lines: false,
            accepted,
            columns: None,
            rejected,
            ignored,
            key: None,
        };
        Letter { head, body: body.as_bytes().to_vec() }
    }

    fn sending(letters: &[Letter]) -> Sending {
        let segment = SegmentId { number: 1, nonce: 1 };
        let mut sending = Sending { segment, rows: 0, waiting: Vec::new(), inserted: 0, refused: Vec::new() };
        let mut open = BTreeMap::new();
        for letter in letters {
            sending.add(letter, &columns(), &mut open).unwrap();
        }
        sending.waiting.extend(open.into_values());
        sending
    }

    #[test]
    fn an_id_is_that_of_the_request_and_of_the_place_in_its_body() {
        let body = r#"[{"a":"x"},{"n":"many"},7,{"a":"y\"","n":9007199254740993}]"#;
        let sent = sending(&[letter("one", 0, body), letter("two", 86_400_000, r#"{"a":null}"#)]);
        let rows: Vec<_> = sent.waiting.iter().flat_map(|request| &request.rows).collect();
        let ids: Vec<_> = rows.iter().map(|row| row.insert_id()).collect();
        assert_eq!(ids, ["one-0", "one-3", "two-0"]);
        assert_eq!(rows[1].json, r#"{"a":"y\"","n":"9007199254740993"}"#);
        assert_eq!((rows[2].json.as_str(), sent.rows), (r#"{"a":null,"n":null}"#, 3));
        assert_eq!(sent.waiting.iter().map(|request| request.day).collect::<Vec<_>>(), [1, 2], "a day each");
    }

    #[test]
    fn requests_end_at_the_limits_and_a_row_beyond_them_is_refused() {
        let rows: Vec<String> = (0..1001).map(|n| format!("{{\"n\":{n}}}")).collect();
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(BYTES_MAX));
        let half = format!("{{\"a\":\"{}\"}}", "x".repeat(BYTES_MAX / 2));
        let sent = sending(&[
            letter("many", 0, &format!("[{}]", rows.join(","))),
            letter("long", 0, &long),
            letter("half", 0, &half),
            letter("half", 0, &half),
        ]);
        let lengths: Vec<_> = sent.waiting.iter().map(|request| request.rows.len()).collect();
        assert_eq!(lengths, [500, 500, 2, 1]);
        assert_eq!(
            (sent.rows, sent.refused.len(), &*sent.refused[0].error.reason),
            (1004, 1, "row_too_long")
        );
    }

    #[test]
    fn rows_that_were_only_stopped_go_again_at_once_and_weather_is_waited_for() {
        let sent = sending(&[letter("one", 0, r#"[{"a":"0"},{"a":"1"},{"a":"2"},{"a":"3"}]"#)]);
        let request = &sent.waiting[0];
        let error = |index, reason: &str| {
            let (location, message) = (String::new(), "why".into());
            RowError { index, reason: reason.into(), location, message }
        };
        // Row 0 has its answer from before.
        let split = |reasons: [&str; 3]| {
            let errors = reasons.iter().enumerate().filter(|(_, reason)| !reason.is_empty());
            let split =
                request.split(&[1, 2, 3], errors.map(|(index, reason)| error(index, reason)).collect());
            let refused: Vec<u64> = split.refused.iter().map(|refused| refused.row.index).collect();
            (split.again, refused, split.waits)
        };
        assert_eq!(split(["", "", ""]), (vec![], vec![], None), "all are stored");
        assert_eq!(split(["stopped", "invalid", "stopped"]), (vec![1, 3], vec![2], None));
        assert_eq!(split(["", "unknown", ""]), (vec![], vec![2], None));
        let waits = |why: &str| Some(format!("{why}: why"));
        assert_eq!(split(["backendError", "invalid", ""]), (vec![1], vec![2], waits("backendError")));
        assert_eq!(split(["stopped", "", "stopped"]), (vec![1, 3], vec![], waits("stopped")));
    }

    #[test]
    fn a_segment_is_answered_when_each_of_its_rows_is() {
        let mut sent = sending(&[letter("one", 0, r#"[{"a":"x"},{"a":"y"}]"#)]);
        let request = sent.waiting.pop().unwrap();
        let refused = Refused { error: too_long(&request.rows[0]), row: request.rows[0].clone() };
        sent.answered(2, vec![refused]);
        let mut answered = Answered::default();
        answered.add(sent).unwrap();
        assert_eq!((answered.rows, answered.inserted, answered.refused.len()), (2, 1, 1));
        let lost = sending(&[letter("one", 0, r#"{"a":"x"}"#)]);
        assert_eq!(answered.add(lost).unwrap_err().kind(), Kind::Mismatch);
        assert_eq!(answered.segments.len(), 1);
    }
}
