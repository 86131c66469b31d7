//! The rows of a load test: the same ones for the same seed, however fast they are sent.

use std::fmt::Write as _;

use fastrand::Rng;
use serde::Deserialize;

use crate::schema::ColumnType;

/// A field of a row, as the gateway describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Field {
    name: String,
    #[serde(rename = "type")]
    kind: ColumnType,
}

/// Makes the rows of one pipeline.
#[derive(Debug)]
pub(super) struct Rows {
    /// `"name":` and what comes behind it.
    fields: Vec<(String, Values)>,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Values {
    /// Of `inventory`: the stock of a warehouse.
    Warehouse,
    ItemName,
    ItemId,
    Available,
    Requested,
    Backlog,
    /// Of any other pipeline: something that its type takes.
    Any(ColumnType),
}

/// Those of the reference case's script (github.com/GaryHostt/BigQueryIntegration, Part2.md), as all ranges are.
const ITEM_NAMES: [&str; 5] = [
    "Mechanically Separated",
    "Shelf-Stable, Pathogen Negative Meat Slurry",
    "Poultry Fat",
    "Chicken Meal",
    "Whole Ground",
];

impl Rows {
    pub(super) fn new(pipeline: &str, fields: &[Field], seed: u64) -> Rows {
        let values = |field: &Field| match (pipeline, &*field.name) {
            ("inventory", "WH_ID") => Values::Warehouse,
            ("inventory", "Item_Name") => Values::ItemName,
            ("inventory", "Item_id") => Values::ItemId,
            ("inventory", "Quantity_Available") => Values::Available,
            ("inventory", "Quantity_Requested") => Values::Requested,
            ("inventory", "Backlog") => Values::Backlog,
            _ => Values::Any(field.kind),
        };
        let key = |field: &Field| format!("{}:", serde_json::Value::from(&*field.name));
        Rows { fields: fields.iter().map(|field| (key(field), values(field))).collect(), seed }
    }

    /// The body of one request: an object, or an array of them.
    pub(super) fn body(&self, request: u64, rows: u32) -> String {
        let mut random = Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ request);
        let mut body = String::with_capacity(rows as usize * self.fields.len() * 24 + 2);
        if rows == 1 {
            self.row(&mut body, &mut random);
            return body;
        }
        for number in 0..rows {
            body.push(if number == 0 { '[' } else { ',' });
            self.row(&mut body, &mut random);
        }
        body.push(']');
        body
    }

    fn row(&self, body: &mut String, random: &mut Rng) {
        let (available, requested) = (random.u32(1000..=5000), random.u32(1000..=5000));
        for (number, (key, values)) in self.fields.iter().enumerate() {
            body.push(if number == 0 { '{' } else { ',' });
            body.push_str(key);
            // Writing to a string does not fail.
            let _ = match values {
                Values::Warehouse => write!(body, "\"WH{}\"", random.u32(1..=7)),
                Values::ItemName => write!(body, "\"{}\"", ITEM_NAMES[random.usize(..ITEM_NAMES.len())]),
                Values::ItemId => write!(body, "{}", random.u32(100..=110)),
                Values::Available => write!(body, "{available}"),
                Values::Requested => write!(body, "{requested}"),
                // The script draws a third number here; what is short is what its table of stock has. A number, as
                // there, in a column of texts.
                Values::Backlog => write!(body, "{}", (i64::from(available) - i64::from(requested)).min(0)),
                Values::Any(kind) => any(*kind, body, random),
            };
        }
        body.push('}');
    }
}

fn any(kind: ColumnType, body: &mut String, random: &mut Rng) -> std::fmt::Result {
    match kind {
        ColumnType::String => write!(body, "\"text {}\"", random.u32(..10_000)),
        ColumnType::Int64 => write!(body, "{}", random.u32(..)),
        ColumnType::Float64 => write!(body, "{}", random.f64()),
        ColumnType::Bool => write!(body, "{}", random.bool()),
        ColumnType::Numeric => write!(body, "{}.{:02}", random.u32(..100_000), random.u32(..100)),
        ColumnType::Date => write!(body, "\"2026-{:02}-{:02}\"", random.u32(1..=12), random.u32(1..=28)),
        ColumnType::Timestamp => {
            let (month, day) = (random.u32(1..=12), random.u32(1..=28));
            let (hour, minute, second) = (random.u32(..24), random.u32(..60), random.u32(..60));
            write!(body, "\"2026-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::judge;
    use crate::schema::{Column, Columns, Format, Mode};

    const TYPES: [ColumnType; 7] = [
        ColumnType::String,
        ColumnType::Int64,
        ColumnType::Float64,
        ColumnType::Bool,
        ColumnType::Numeric,
        ColumnType::Date,
        ColumnType::Timestamp,
    ];

    fn rows(pipeline: &str, fields: &[(&str, ColumnType)], seed: u64) -> (Rows, Columns) {
        let field = |(name, kind): &(&str, ColumnType)| Field { name: (*name).to_owned(), kind: *kind };
        let column = |(name, kind): &(&str, ColumnType)| Column {
            name: (*name).to_owned(),
            kind: *kind,
            mode: Mode::Required,
            path: None,
        };
        let columns = Columns::new(fields.iter().map(column).collect()).unwrap();
        (Rows::new(pipeline, &fields.iter().map(field).collect::<Vec<_>>(), seed), columns)
    }

    #[test]
    fn the_stock_is_in_its_ranges_and_the_same_for_the_same_seed() {
        let (text, number) = (ColumnType::String, ColumnType::Numeric);
        let fields = [
            ("WH_ID", text),
            ("Item_Name", text),
            ("Item_id", number),
            ("Quantity_Available", number),
            ("Quantity_Requested", number),
            ("Backlog", text),
        ];
        let (first, columns) = rows("inventory", &fields, 1);
        let body = first.body(7, 5000);
        assert_eq!(rows("inventory", &fields, 1).0.body(7, 5000), body);
        assert_ne!(rows("inventory", &fields, 2).0.body(7, 5000), body);
        assert_ne!(first.body(8, 5000), body);
        assert_eq!(judge(body.as_bytes(), Format::Json, &columns).unwrap().accepted, 5000);
        let parsed: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
        let mut seen: [std::collections::BTreeSet<String>; 3] = Default::default();
        for row in &parsed {
            for (seen, name) in seen.iter_mut().zip(["WH_ID", "Item_Name", "Item_id"]) {
                seen.insert(row[name].to_string());
            }
            let quantity = |name: &str| row[name].as_i64().filter(|n| (1000..=5000).contains(n)).unwrap();
            let left = quantity("Quantity_Available") - quantity("Quantity_Requested");
            assert_eq!(row["Backlog"].as_i64().unwrap(), left.min(0), "{row}");
        }
        assert_eq!(seen.map(|seen| seen.len()), [7, 5, 11]);
    }

    #[test]
    fn every_type_of_column_takes_what_is_made_for_it() {
        let fields = TYPES.map(|kind| (kind.name(), kind));
        let (rows, columns) = rows("mine", &fields, 3);
        for count in [1, 500] {
            let judged = judge(rows.body(1, count).as_bytes(), Format::Json, &columns).unwrap();
            assert_eq!((judged.accepted, judged.rejected), (u64::from(count), Vec::new()));
        }
    }
}
