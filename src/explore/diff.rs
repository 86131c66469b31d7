//! Two runs side by side: rows that came, went or changed.

use serde::Serialize;

use super::Explorer;
use super::compare::{Compared, Pair, compare};
use super::summary::quoted;
use crate::error::Result;
use crate::schema::DAY_COLUMN;

/// What to compare.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Starts of ids.
    pub before: String,
    pub after: String,
    /// Columns that, with the day, name a row.
    pub key: Vec<String>,
    /// Rows of each kind to show.
    pub examples: usize,
}

#[derive(Debug, Serialize)]
pub struct Difference {
    pub before: String,
    pub after: String,
    /// The columns by which rows were matched.
    pub key: Vec<String>,
    #[serde(flatten)]
    pub compared: Compared,
}

impl Explorer {
    /// Compares the rows of two runs of the first pipeline.
    pub async fn diff(&self, asked: &Comparison) -> Result<Difference> {
        let [before, after] = [self.run(&asked.before).await?, self.run(&asked.after).await?];
        let name = &self.subjects[0].pipeline.name;
        let tables = [&before, &after].map(|run| format!("{name}@{run}"));
        for table in &tables {
            // Opens it.
            self.plan(&format!("SELECT * FROM {}", quoted(table)), Some(0)).await?;
        }
        let mut key = asked.key.clone();
        key.push(DAY_COLUMN.to_owned());
        key.dedup();
        let called = [&before, &after].map(|run| format!("run `{run}`"));
        let pair = Pair {
            tables: [&tables[0], &tables[1]],
            called: [&called[0], &called[1]],
            both: "runs",
            sides: ["before", "after"],
            key: &key,
            examples: asked.examples,
        };
        let compared = compare(&self.sql, &pair).await?;
        Ok(Difference { before, after, key, compared })
    }

    /// The whole id of the run whose id starts so.
    async fn run(&self, id: &str) -> Result<String> {
        Ok(self.subjects[0].staged(Some(id)).await?.run)
    }
}
