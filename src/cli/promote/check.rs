//! `promote --check`: the service's rows against those of the staged files.

use indicatif::HumanCount;
use serde_json::Value;

use super::local::answer;
use super::{Args, is_json, scratch, waiting};
use crate::bigquery::BigQuery;
use crate::cli::diff::line;
use crate::cli::{Global, output};
use crate::config::Pipeline;
use crate::error::Result;
use crate::holdings::Windows;
use crate::pipeline::open_engine;
use crate::promote::{Checked, Rebuild, Rows, check, staged};

pub(super) async fn run(
    args: &Args,
    pipeline: &Pipeline,
    bigquery: &BigQuery,
    days: u32,
    global: &Global,
) -> Result<()> {
    let checked = {
        let _waiting = waiting(global, "both sides compute production");
        let rebuild = Rebuild::find(pipeline, bigquery, days, args.as_of).await?;
        let key = rebuild.key(&args.key)?;
        let scratch = scratch(pipeline);
        let staged = staged(pipeline, Windows::Loaded).await?;
        let files = staged.files(rebuild.first_day, rebuild.last_day, &scratch).await?;
        let engine = open_engine(pipeline, scratch.clone())?;
        let answer = answer(pipeline, &rebuild, &files, engine.clone(), &scratch).await?;
        let local = Rows { schema: answer.schema, rows: answer.rows };
        check(&rebuild, bigquery, local, &engine, &scratch, &key, usize::from(args.examples)).await?
    };
    match is_json(args) {
        false => output::print(&text(&checked))?,
        true => output::print(&output::json(&checked)?)?,
    }
    checked.verdict()
}

fn text(checked: &Checked) -> String {
    let mut text = format!(
        "production from {} to {}, computed by the service and from the staged files, rows matched by {}\n",
        checked.first_day,
        checked.last_day,
        checked.key.join(", ")
    );
    let kinds = [
        ("equal", checked.equal),
        ("only service", checked.only_service),
        ("only local", checked.only_local),
        ("different", checked.different),
    ];
    text += &output::aligned(&kinds.map(|(kind, rows)| vec![kind.to_owned(), HumanCount(rows).to_string()]));
    for (column, rows) in &checked.different_columns {
        text += &format!("`{column}` differs in {}\n", output::counted(rows.as_u64().unwrap_or(0), "row"));
    }
    for kind in ["only_service", "only_local", "different"] {
        for row in checked.examples.get(kind).and_then(Value::as_array).into_iter().flatten() {
            text += &format!("{}: {}\n", kind.replace('_', " "), line(row, ["service", "local"]));
        }
    }
    text
}
