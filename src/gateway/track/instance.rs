//! One request as an operator sees it: whose it is, what it is about, and how far its rows have come.

use std::collections::HashSet;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::gateway::letter::Head;
use crate::gateway::out::RefusedRow;
use crate::gateway::payload::{Rejected, each_batch};
use crate::render;
use crate::schema::{Columns, Format};

/// How far the rows of a request have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On the disk, in the segment that more requests are written to.
    Accepted,
    /// In a segment that waits to be loaded, or is.
    Sealed,
    /// In the table.
    Loaded,
    /// No row was taken.
    Rejected,
    /// The last load job failed, the disk lost a part of the segment, or BigQuery refused every row that was
    /// streamed. The reason is given.
    Failed,
}

impl State {
    pub const ALL: [State; 5] =
        [State::Accepted, State::Sealed, State::Loaded, State::Rejected, State::Failed];

    pub fn word(self) -> &'static str {
        match self {
            State::Accepted => "accepted",
            State::Sealed => "sealed",
            State::Loaded => "loaded",
            State::Rejected => "rejected",
            State::Failed => "failed",
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<State, String> {
        let words = State::ALL.map(|state| format!("`{}`", state.word())).join(", ");
        let found = State::ALL.into_iter().find(|state| state.word() == text);
        found.ok_or_else(|| format!("there are {words}"))
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// As its sender was told. Ids are in the order in which requests came.
    pub id: String,
    /// In UTC, for people.
    pub time: String,
    pub user: String,
    pub state: State,
    /// Rows.
    pub accepted: u64,
    pub rejected: u64,
    /// The primary one first.
    pub identifiers: Vec<Identifier>,
    /// The first of the rows that were not taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejects: Vec<Rejected>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Why it was rejected, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The body, where it is kept and asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The same of one that is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

/// All values that a tracked column has in one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identifier {
    pub field: String,
    /// Each once, as the table shows them.
    pub values: Vec<String>,
    /// How many more there are, where they are shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Rejected rows that are kept of a request. Its sender was told of all.
const REJECTS_KEPT: usize = 20;
/// Values of a column that are shown of a request. All of them are kept, and found.
const VALUES_SHOWN: usize = 20;

/// The columns by which requests are found.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    columns: Columns,
    /// The primary one first.
    places: Vec<usize>,
}

/// More columns would make every request slower to look through, and no request easier to find.
const FIELDS_MAX: usize = 3;

impl Tracked {
    pub(super) fn new(columns: &Columns, fields: &[String]) -> Result<Tracked> {
        if fields.is_empty() || fields.len() > FIELDS_MAX {
            return Err(Error::usage(format!("`--track` names {} columns", fields.len()))
                .hint(format!("name one to {FIELDS_MAX}, as `--track A,B`; the first is the primary one")));
        }
        let mut places = Vec::with_capacity(fields.len());
        for field in fields {
            let place = columns.index_of(field).map_err(|e| e.context("`--track`"))?;
            if places.contains(&place) {
                return Err(Error::usage(format!("`--track` names `{field}` twice")));
            }
            places.push(place);
        }
        Ok(Tracked { columns: columns.clone(), places })
    }

    pub(super) fn fields(&self) -> Vec<String> {
        let columns: Vec<_> = self.columns.iter().collect();
        self.places.iter().map(|place| columns[*place].name.clone()).collect()
    }

    /// A request as it stands in a segment, or is refused. What cannot be read of a body is not found by.
    pub(super) fn instance(&self, head: &Head, body: &[u8], state: State) -> Instance {
        Instance {
            id: head.id.clone(),
            time: time_of(head.unix_ms),
            user: head.user.clone(),
            state,
            accepted: head.accepted,
            rejected: head.rejected.len() as u64,
            identifiers: self.identifiers(body, head.format()),
            rejects: head.rejected.iter().take(REJECTS_KEPT).cloned().collect(),
            table: None,
            job_id: None,
            reason: None,
            payload: None,
            payload_base64: None,
        }
    }

    /// The rows themselves are not kept: they may take twenty times the memory of their body.
    fn identifiers(&self, body: &[u8], format: Format) -> Vec<Identifier> {
        let mut found: Vec<Distinct> = self.places.iter().map(|_| Distinct::default()).collect();
        let read = each_batch(body, format, &self.columns, |batch| {
            for (place, values) in self.places.iter().zip(&mut found) {
                let texts = render::texts(batch.schema().field(*place), batch.column(*place));
                texts.unwrap_or_default().into_iter().flatten().for_each(|text| values.add(text));
            }
            Ok(())
        });
        let columns: Vec<_> = self.columns.iter().collect();
        match read {
            // Rows that do not fit have no values of the columns' types; what they say counts.
            Ok(mut decoder) => {
                let rejects = decoder.take_rejects().into_iter();
                for row in rejects.filter_map(|reject| serde_json::from_slice::<Value>(&reject.raw).ok()) {
                    for (place, values) in self.places.iter().zip(&mut found) {
                        said(&row, columns[*place].path()).into_iter().for_each(|text| values.add(text));
                    }
                }
            }
            Err(_) => found.fill_with(Distinct::default),
        }
        let identifier = |(place, distinct): (&usize, Distinct)| Identifier {
            field: columns[*place].name.clone(),
            values: distinct.values,
            more: 0,
        };
        self.places.iter().zip(found).map(identifier).collect()
    }
}

/// Each text once, in the order in which they came.
#[derive(Debug, Default)]
struct Distinct {
    seen: HashSet<String>,
    values: Vec<String>,
}

impl Distinct {
    fn add(&mut self, text: String) {
        if !self.seen.contains(&text) {
            self.seen.insert(text.clone());
            self.values.push(text);
        }
    }
}

/// What a row that does not fit has in a field.
fn said(row: &Value, field: &str) -> Option<String> {
    match row.get(field)? {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

impl Instance {
    pub(super) fn because(mut self, reason: impl Into<String>) -> Instance {
        self.reason = Some(reason.into());
        self
    }

    /// Some of its rows were streamed, and BigQuery would not have them. Its words may have values in them; they
    /// stay among the rejects.
    pub(super) fn refused(mut self, rows: &[RefusedRow]) -> Instance {
        let refused = rows.len() as u64;
        if refused >= self.accepted {
            self.state = State::Failed;
        }
        let of = |row: &RefusedRow| Rejected {
            index: row.index,
            field: row.field.clone(),
            reason: row.reason.clone(),
        };
        let room = REJECTS_KEPT.saturating_sub(self.rejects.len());
        self.rejects.extend(rows.iter().take(room).map(of));
        let first = rows.first().map_or("", |row| &row.reason);
        let reason = format!("{first}: BigQuery refused {refused} of {} rows", self.accepted);
        self.because(reason)
    }

    pub(super) fn with_payload(mut self, body: &[u8]) -> Instance {
        match std::str::from_utf8(body) {
            Ok(text) => self.payload = Some(text.to_owned()),
            Err(_) => self.payload_base64 = Some(STANDARD.encode(body)),
        }
        self
    }

    pub(super) fn has(&self, field: &str, value: &str) -> bool {
        let of_field = self.identifiers.iter().filter(|identifier| identifier.field == field);
        of_field.flat_map(|identifier| &identifier.values).any(|has| has == value)
    }

    /// Cut to what is shown: never without the value that was asked for.
    pub(super) fn shortened(mut self, asked: Option<&str>, payload: bool) -> Instance {
        for identifier in &mut self.identifiers {
            let values = &mut identifier.values;
            if let Some(at) = values.iter().position(|value| Some(value.as_str()) == asked) {
                values[..=at].rotate_right(1);
            }
            identifier.more = values.len().saturating_sub(VALUES_SHOWN) as u64;
            values.truncate(VALUES_SHOWN);
        }
        if !payload {
            (self.payload, self.payload_base64) = (None, None);
        }
        self
    }

    /// Bytes that it takes in memory, more or less.
    pub(super) fn weight(&self) -> usize {
        let values = self.identifiers.iter().flat_map(|i| &i.values).map(|value| value.len() + 32);
        let texts = [&self.reason, &self.payload, &self.payload_base64];
        let texts = texts.into_iter().flatten().map(String::len);
        1000 + values.chain(texts).sum::<usize>() + self.rejects.len() * 200
    }
}

/// When a request came, by its id.
pub(super) fn ms_of(id: &str) -> Option<u64> {
    u64::from_str_radix(id.get(..MS_DIGITS)?, 16).ok()
}

/// An id starts with so many digits of its time, and so it is sorted by that.
const MS_DIGITS: usize = 11;

/// A new id for a request that came at `unix_ms`.
pub(in crate::gateway) fn new_id(unix_ms: u64) -> String {
    format!("{unix_ms:0MS_DIGITS$x}{:016x}", fastrand::u64(..))
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == MS_DIGITS + 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn time_of(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(DateTime::from_timestamp_millis);
    time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Column, ColumnType, Mode};

    fn tracked(fields: &[&str]) -> Result<Tracked> {
        let column = |name: &str, kind, path: Option<&str>| Column {
            name: name.into(),
            kind,
            mode: Mode::Nullable,
            path: path.map(str::to_owned),
        };
        let columns = Columns::new(vec![
            column("WH_ID", ColumnType::String, None),
            column("Item_id", ColumnType::Numeric, Some("item")),
            column("At", ColumnType::Timestamp, None),
        ])?;
        Tracked::new(&columns, &fields.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn columns_that_are_not_there_are_an_error_that_names_those_that_are() {
        let said = |fields: &[&str]| tracked(fields).expect_err("wrong").to_string();
        assert_eq!(
            said(&["WH_ID", "wh"]),
            "`--track`: no column `wh`; the pipeline has `WH_ID`, `Item_id`, `At`"
        );
        assert_eq!(said(&["WH_ID", "WH_ID"]), "`--track` names `WH_ID` twice");
        assert_eq!(said(&[]), "`--track` names 0 columns");
        assert!(tracked(&["At", "Item_id", "WH_ID"]).is_ok());
    }

    #[test]
    fn identifiers_are_what_the_table_shows_each_once_and_of_rejected_rows_what_they_say() {
        let body = br#"[{"WH_ID":27,"item":"15.0"},{"WH_ID":"27","item":15},
            {"WH_ID":"b","item":"many"},{"WH_ID":null},{"WH_ID":[1]},7]"#;
        let found = tracked(&["Item_id", "WH_ID"]).unwrap().identifiers(body, Format::Json);
        let of = |field: &str, values: &[&str]| Identifier {
            field: field.into(),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
            more: 0,
        };
        assert_eq!(found, [of("Item_id", &["15", "many"]), of("WH_ID", &["27", "b"])]);
        let broken = tracked(&["WH_ID"]).unwrap().identifiers(b"{\"WH_ID\":", Format::Json);
        assert_eq!(broken, [of("WH_ID", &[])]);
    }

    #[test]
    fn what_was_asked_for_is_shown_of_many() {
        let rows: Vec<_> = (0..100).map(|n| format!("{{\"WH_ID\":\"w{n}\"}}")).collect();
        let head = Head {
            id: new_id(1_800_000_000_123),
            pipeline: "inventory".into(),
            unix_ms: 1_800_000_000_123,
            user: "ann".into(),
            is_lines: true,
            accepted: 100,
            columns: None,
            rejected: Vec::new(),
            ignored: Vec::new(),
            key: None,
        };
        let tracked = tracked(&["WH_ID"]).unwrap();
        let instance = tracked.instance(&head, rows.join("\n").as_bytes(), State::Sealed);
        assert_eq!(
            (ms_of(&instance.id), instance.time.as_str()),
            (Some(head.unix_ms), "2027-01-15T08:00:00.123Z")
        );
        assert!(is_id(&instance.id) && instance.has("WH_ID", "w77") && !instance.has("WH_ID", "w100"));
        let shown = instance.shortened(Some("w77"), false);
        let identifier = &shown.identifiers[0];
        assert_eq!((identifier.values.len(), identifier.more), (VALUES_SHOWN, 80));
        assert_eq!(identifier.values[..2], ["w77", "w0"]);
    }
}
