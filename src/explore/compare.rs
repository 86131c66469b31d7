//! Two tables side by side: rows that only one of them has, and rows that differ.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::{Map, Value};

use super::summary::quoted;
use crate::engine::{Query, Sql};
use crate::error::{Error, Result};
use crate::render::{Format, Renderer};

/// What is compared with what.
#[derive(Debug)]
pub struct Pair<'p> {
    /// Tables that the engine knows.
    pub tables: [&'p str; 2],
    /// What messages call each of them, and the two together.
    pub called: [&'p str; 2],
    pub both: &'p str,
    /// The names of their values in examples.
    pub sides: [&'p str; 2],
    /// Columns that name a row.
    pub key: &'p [String],
    /// Rows of each kind to show.
    pub examples: usize,
}

#[derive(Debug, Serialize)]
pub struct Compared {
    /// Rows of the second table without a match in the first.
    pub added: u64,
    pub removed: u64,
    pub changed: u64,
    pub same: u64,
    /// Rows in which a column differs; only of columns where some do.
    pub changed_columns: Map<String, Value>,
    /// Columns that only one of the tables has are not compared.
    pub columns_added: Vec<String>,
    pub columns_removed: Vec<String>,
    pub examples: Examples,
}

/// The first rows of each kind, by their keys.
#[derive(Debug, Serialize)]
pub struct Examples {
    pub added: Vec<Value>,
    pub removed: Vec<Value>,
    /// Key columns as they are, others with the value of both sides; those that are the same are left out.
    pub changed: Vec<Value>,
}

/// True in a row that a table has; NULL in one that is made up by the join.
const THERE: &str = "\"_there\"";

/// Compares row by row. NULL is a key like any other.
pub async fn compare(sql: &Sql, pair: &Pair<'_>) -> Result<Compared> {
    let asked = Asked { sql };
    let names = pair.tables.map(quoted);
    let [old, new] = [asked.columns(&names[0]).await?, asked.columns(&names[1]).await?];
    let key = pair.key;
    for column in key {
        if !old.contains(column) || !new.contains(column) {
            return Err(Error::usage(format!("`--key {column}`: not both {} have such a column", pair.both)));
        }
    }
    for (name, called) in names.iter().zip(pair.called) {
        asked.is_key(name, called, key).await?;
    }
    let common: Vec<&String> = old.iter().filter(|c| new.contains(c) && !key.contains(c)).collect();
    let on: Vec<String> =
        key.iter().map(|c| format!("(a.{0} IS NOT DISTINCT FROM b.{0})", quoted(c))).collect();
    let side = |table: &str| format!("(SELECT *, TRUE AS {THERE} FROM {table})");
    let joined = format!("{} a FULL JOIN {} b ON {}", side(&names[0]), side(&names[1]), on.join(" AND "));
    let differs: Vec<String> =
        common.iter().map(|c| format!("(a.{0} IS DISTINCT FROM b.{0})", quoted(c))).collect();
    let both = format!("a.{THERE} AND b.{THERE}");
    let changed = match differs.is_empty() {
        true => "FALSE".to_owned(),
        false => format!("{both} AND ({})", differs.join(" OR ")),
    };
    let [added, removed] = ["a", "b"].map(|missing| format!("{missing}.{THERE} IS NULL"));
    let count = |condition: &str| format!("COUNT(CASE WHEN {condition} THEN 1 END)");
    let mut counts = vec![count(&added), count(&removed), count(&changed), count(&both)];
    counts.extend(differs.iter().map(|differs| count(&format!("{both} AND {differs}"))));
    let counts = asked.numbers(&format!("SELECT {} FROM {joined}", counts.join(", "))).await?;
    let [num_added, num_removed, num_changed, num_both, of_columns @ ..] = &counts[..] else {
        return Err(Error::failed("the comparison gave no counts"));
    };
    let by_column = common.iter().zip(of_columns).filter(|(_, count)| **count > 0);
    let order = |side: &str| {
        let columns: Vec<String> = key.iter().map(|c| format!("{side}.{}", quoted(c))).collect();
        format!("ORDER BY {} LIMIT {}", columns.join(", "), pair.examples)
    };
    let rows = |side: &'static str, columns: &[String], condition: &str| {
        let shown: Vec<String> = columns.iter().map(|c| format!("{side}.{0} AS {0}", quoted(c))).collect();
        format!("SELECT {} FROM {joined} WHERE {condition} {}", shown.join(", "), order(side))
    };
    let mut examples = Examples { added: Vec::new(), removed: Vec::new(), changed: Vec::new() };
    // Each is a join of its own: what is not there is not looked for.
    let wanted = |count: u64| pair.examples > 0 && count > 0;
    if wanted(*num_added) {
        examples.added = asked.objects(&rows("b", &new, &added)).await?;
    }
    if wanted(*num_removed) {
        examples.removed = asked.objects(&rows("a", &old, &removed)).await?;
    }
    if wanted(*num_changed) {
        let before = asked.objects(&rows("a", &old, &changed)).await?;
        let after = asked.objects(&rows("b", &new, &changed)).await?;
        examples.changed = pairs(key, pair.sides, before, after);
    }
    Ok(Compared {
        added: *num_added,
        removed: *num_removed,
        changed: *num_changed,
        same: num_both - num_changed,
        changed_columns: by_column.map(|(c, count)| ((*c).clone(), Value::from(*count))).collect(),
        columns_added: new.iter().filter(|c| !old.contains(c)).cloned().collect(),
        columns_removed: old.iter().filter(|c| !new.contains(c)).cloned().collect(),
        examples,
    })
}

struct Asked<'s> {
    sql: &'s Sql,
}

impl Asked<'_> {
    async fn plan(&self, text: &str, limit: Option<usize>) -> Result<Query> {
        self.sql.plan(&self.sql.parse(text)?, limit).await
    }

    async fn columns(&self, table: &str) -> Result<Vec<String>> {
        let schema = self.plan(&format!("SELECT * FROM {table}"), Some(0)).await?.schema();
        Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
    }

    /// Rows that share a key would each be matched with all of the others.
    async fn is_key(&self, table: &str, called: &str, key: &[String]) -> Result<()> {
        let columns: Vec<String> = key.iter().map(|c| quoted(c)).collect();
        let columns = columns.join(", ");
        let shared = format!(
            "SELECT COUNT(*) FROM (SELECT {columns} FROM {table} GROUP BY {columns} HAVING COUNT(*) > 1)"
        );
        match self.numbers(&shared).await?[..] {
            [0] => Ok(()),
            _ => Err(Error::usage(format!(
                "several rows of {called} have the same {}",
                key.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(" and ")
            ))
            .hint("name more columns, with `--key` for each")),
        }
    }

    /// The only row of a query that counts.
    async fn numbers(&self, sql: &str) -> Result<Vec<u64>> {
        let batches: Vec<RecordBatch> = self.plan(sql, None).await?.rows()?.try_collect().await?;
        let batch = batches.iter().find(|batch| batch.num_rows() == 1);
        let batch = batch.ok_or_else(|| Error::failed("the comparison gave no counts"))?;
        let count = |column: &arrow::array::ArrayRef| column.as_primitive::<Int64Type>().value(0);
        Ok(batch.columns().iter().map(|column| u64::try_from(count(column)).unwrap_or(0)).collect())
    }

    async fn objects(&self, sql: &str) -> Result<Vec<Value>> {
        let query = self.plan(sql, None).await?;
        let text = Shared::default();
        let mut renderer = Renderer::new(Format::Ndjson, &query.schema(), Box::new(text.clone()))?;
        let mut rows = query.rows()?;
        while let Some(batch) = rows.try_next().await? {
            renderer.write(&batch)?;
        }
        renderer.finish()?;
        let bytes = text.0.lock().map(|bytes| bytes.clone()).unwrap_or_default();
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter();
        lines.collect::<Result<_, _>>().map_err(|e| Error::failed("an example is no JSON").caused_by(e))
    }
}

/// Both sides of changed rows, which come in the same order.
fn pairs(key: &[String], sides: [&str; 2], before: Vec<Value>, after: Vec<Value>) -> Vec<Value> {
    let pair = |(before, after): (Value, Value)| {
        let (Value::Object(before), Value::Object(mut after)) = (before, after) else { return Value::Null };
        let mut shown = Map::new();
        for (column, old) in before {
            match after.remove(&column) {
                Some(new) if key.contains(&column) => shown.insert(column, new),
                Some(new) if new != old => {
                    let both = [(sides[0].to_owned(), old), (sides[1].to_owned(), new)];
                    shown.insert(column, Value::Object(Map::from_iter(both)))
                }
                _ => None,
            };
        }
        Value::Object(shown)
    };
    before.into_iter().zip(after).map(pair).collect()
}

/// A text that is read again once its writer is done.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.0.lock().map_err(|_| io::Error::other("the other side died"))?;
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
