//! Rows as the REST API writes them, `{"f":[{"v":"1"},…]}`, read without a copy of their texts.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A page of tabledata.list or of a query's results.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<'a> {
    #[serde(borrow, default)]
    pub(super) rows: Vec<Row<'a>>,
    #[serde(default)]
    pub(super) total_rows: Option<String>,
    #[serde(default)]
    pub(super) page_token: Option<String>,
    #[serde(default)]
    pub(super) job_complete: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Row<'a> {
    #[serde(borrow, rename = "f")]
    pub(super) cells: Vec<Held<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Held<'a> {
    #[serde(borrow, rename = "v")]
    pub(super) cell: Cell<'a>,
}

/// A value: nothing, a text, the items of a REPEATED one, or the fields of a RECORD.
#[derive(Debug)]
pub(super) enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    Items(Vec<Held<'a>>),
    Record(Vec<Held<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Cell<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a row")
    }

    fn visit_unit<E: Error>(self) -> Result<Cell<'de>, E> {
        Ok(Cell::Null)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cell<'de>, E> {
        Ok(Cell::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell<'de>, A::Error> {
        let mut cells = Vec::new();
        while let Some(cell) = items.next_element()? {
            cells.push(cell);
        }
        Ok(Cell::Items(cells))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Cell<'de>, A::Error> {
        let mut record = None;
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            match &*name {
                "f" => record = Some(members.next_value()?),
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        record.map(Cell::Record).ok_or_else(|| A::Error::missing_field("f"))
    }
}
