//! `api2bq diff`: what differs between the staged rows of two runs.

use indicatif::HumanCount;
use serde_json::Value;

use super::{Format, output};
use crate::config::Pipeline;
use crate::error::Result;
use crate::explore::{Comparison, Difference, Explorer, day_list};

/// Compare the staged rows of two runs: added, removed, changed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows of the days that both runs have are matched by --key and their day; columns that only one of
the runs has are named and not compared. `api2bq status` lists the runs. Sorting two large runs
spills to disk.

With --format json: before, after, days, days_only_before, days_only_after, key, added, removed,
changed, same, changed_columns (rows by column), columns_added, columns_removed, examples (added,
removed; changed with key and, of the columns that differ, before and after). Exit code 0 also when
the runs differ.

Examples:
  api2bq diff 9d65e544 0c1f2a33 --key id
  api2bq diff 9d65e544 0c1f2a33 --key id --format json | jq .changed_columns")]
pub(super) struct Args {
    /// The earlier run, by its id or the start of it
    before: String,
    /// The later run
    after: String,
    /// A column that, with the day, names a row; may be repeated
    #[arg(long, value_name = "COLUMN", required = true, value_delimiter = ',')]
    key: Vec<String>,
    /// Rows of each kind to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    examples: u16,
    /// A built-in pipeline (`flows`) or the path of a pipeline.toml
    #[arg(long, value_name = "PIPELINE", default_value = "flows")]
    pipeline: String,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let pipeline = Pipeline::resolve(&args.pipeline, &args.set)?;
    let explorer = Explorer::with_sorted_joins(vec![pipeline])?;
    let asked = Comparison {
        before: args.before,
        after: args.after,
        key: args.key,
        examples: usize::from(args.examples),
    };
    let difference = explorer.diff(&asked).await?;
    output::print(&match args.format {
        Format::Text => text(&difference),
        Format::Json => output::json(&difference)?,
    })
}

fn text(difference: &Difference) -> String {
    let Difference { before, after, days, key, compared, .. } = difference;
    let mut text =
        format!("run `{before}` and run `{after}`, {}, rows matched by {}\n", day_list(days), key.join(", "));
    for (run, days) in [(before, &difference.days_only_before), (after, &difference.days_only_after)] {
        if !days.is_empty() {
            text += &format!("not compared: {}, which only run `{run}` has\n", day_list(days));
        }
    }
    let kinds = [
        ("added", compared.added),
        ("removed", compared.removed),
        ("changed", compared.changed),
        ("same", compared.same),
    ];
    let table = kinds.map(|(kind, rows)| vec![kind.to_owned(), HumanCount(rows).to_string()]);
    text += &output::aligned(&table);
    for (word, columns) in [
        ("only in the later run", &compared.columns_added),
        ("only in the earlier run", &compared.columns_removed),
    ] {
        if !columns.is_empty() {
            text += &format!("{word}: {}\n", columns.join(", "));
        }
    }
    for (column, rows) in &compared.changed_columns {
        text += &format!("`{column}` differs in {}\n", output::counted(rows.as_u64().unwrap_or(0), "row"));
    }
    let examples = &compared.examples;
    let kinds = [("+", &examples.added), ("-", &examples.removed), ("~", &examples.changed)];
    for (mark, rows) in kinds {
        for row in rows {
            text += &format!("{mark} {}\n", line(row, ["before", "after"]));
        }
    }
    text
}

/// `id 5, day 1, protocol 6 → 17`; `sides` are the members of what differs.
pub(super) fn line(row: &Value, sides: [&str; 2]) -> String {
    let Value::Object(columns) = row else { return row.to_string() };
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), |text| format!("{text:?}"));
    let column = |(name, value): (&String, &Value)| match value {
        Value::Object(pair) if pair.len() == 2 && sides.iter().all(|side| pair.contains_key(*side)) => {
            format!("{name} {} → {}", shown(&pair[sides[0]]), shown(&pair[sides[1]]))
        }
        value => format!("{name} {}", shown(value)),
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}
