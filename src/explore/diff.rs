//! Two runs side by side: rows that came, went or changed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Explorer;
use super::compare::{Compared, Pair, compare};
use crate::error::{Error, Result};
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
    /// Days that both runs have staged, by their numbers: what was compared.
    pub days: BTreeSet<i64>,
    /// Days of one run alone, whose rows are neither added nor removed.
    pub days_only_before: BTreeSet<i64>,
    pub days_only_after: BTreeSet<i64>,
    /// The columns by which rows were matched.
    pub key: Vec<String>,
    #[serde(flatten)]
    pub compared: Compared,
}

impl Explorer {
    /// Compares the rows of two runs of the first pipeline.
    pub async fn diff(&self, asked: &Comparison) -> Result<Difference> {
        let subject = &self.subjects[0];
        let [before, after] =
            [subject.staged(Some(&asked.before)).await?, subject.staged(Some(&asked.after)).await?];
        let [old, new] = [&before, &after].map(|staged| staged.covers(&subject.pipeline));
        let days: BTreeSet<i64> = old.intersection(&new).copied().collect();
        if days.is_empty() {
            return Err(Error::usage(format!(
                "run `{}` and run `{}` have no day in common: there are {} and {}",
                before.run,
                after.run,
                day_list(&old),
                day_list(&new)
            )));
        }
        // A run may be compared with itself.
        let tables = [(&before, "before"), (&after, "after")]
            .map(|(staged, side)| format!("{}@{} {side}", subject.pipeline.name, staged.run));
        for (table, staged) in tables.iter().zip([&before, &after]) {
            let mut files = staged.days(&subject.pipeline);
            files.retain(|of_day| days.contains(&of_day.day));
            self.sql.add_days(table, files, subject.columns(staged).await?).await?;
        }
        let mut key = asked.key.clone();
        key.push(DAY_COLUMN.to_owned());
        key.dedup();
        let called = [&before, &after].map(|staged| format!("run `{}`", staged.run));
        let pair = Pair {
            tables: [&tables[0], &tables[1]],
            called: [&called[0], &called[1]],
            both: "runs",
            sides: ["before", "after"],
            key: &key,
            examples: asked.examples,
        };
        let compared = compare(&self.sql, &pair).await?;
        Ok(Difference {
            before: before.run,
            after: after.run,
            days_only_before: old.difference(&days).copied().collect(),
            days_only_after: new.difference(&days).copied().collect(),
            days,
            key,
            compared,
        })
    }
}

/// `day 2`, `days 1, 3-5`.
pub fn day_list(days: &BTreeSet<i64>) -> String {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for &day in days {
        match ranges.last_mut().filter(|(_, last)| *last + 1 == day) {
            Some((_, last)) => *last = day,
            None => ranges.push((day, day)),
        }
    }
    let shown = |(first, last): &(i64, i64)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    };
    let word = if days.len() == 1 { "day" } else { "days" };
    format!("{word} {}", ranges.iter().map(shown).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_days_are_a_range() {
        let list = |days: &[i64]| day_list(&days.iter().copied().collect());
        assert_eq!(list(&[2]), "day 2");
        assert_eq!(list(&[1, 3, 4, 5, 8, 9]), "days 1, 3-5, 8, 9");
    }
}
