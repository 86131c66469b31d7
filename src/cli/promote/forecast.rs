//! `promote --dry-run`: what would change in production.

use indicatif::{BinaryBytes, HumanCount};

use super::{Args, is_json, waiting};
use crate::bigquery::BigQuery;
use crate::cli::Global;
use crate::cli::output::{self, counted};
use crate::cli::query::dollars;
use crate::config::Pipeline;
use crate::error::Result;
use crate::promote::{Forecast, Rebuild, forecast};

pub(super) async fn run(
    args: &Args,
    pipeline: &Pipeline,
    bigquery: &BigQuery,
    days: u32,
    global: &Global,
) -> Result<()> {
    let forecast = {
        let _waiting = waiting(global, "the service compares");
        let rebuild = Rebuild::find(pipeline, bigquery, days, args.as_of).await?;
        let key = rebuild.key(&args.key)?;
        forecast(&rebuild, bigquery, &key, args.price_per_tib).await?
    };
    match is_json(args) {
        false => output::print(&text(&forecast)),
        true => output::print(&output::json(&forecast)?),
    }
}

fn text(forecast: &Forecast) -> String {
    let Forecast { table, first_day, last_day, .. } = forecast;
    let rows = counted(forecast.rows_after, "row");
    let mut text = match forecast.exists {
        true => format!(
            "`{table}` with {} would be replaced by {rows}: the latest record per {} from {first_day} to {last_day}\n",
            counted(forecast.rows_before, "row"),
            forecast.key.join(", ")
        ),
        false => format!(
            "`{table}` would be made with {rows}: the latest record per {} from {first_day} to {last_day}\n",
            forecast.key.join(", ")
        ),
    };
    let kinds = [
        ("new", forecast.new),
        ("changed", forecast.changed),
        ("dropped", forecast.dropped),
        ("same", forecast.same),
    ];
    text += &output::aligned(&kinds.map(|(kind, rows)| vec![kind.to_owned(), HumanCount(rows).to_string()]));
    for (what, columns) in [
        ("new columns", &forecast.columns_added),
        ("columns that go", &forecast.columns_removed),
        ("columns of another type, not compared", &forecast.columns_retyped),
    ] {
        if !columns.is_empty() {
            text += &format!("{what}: {}\n", columns.join(", "));
        }
    }
    text += &format!(
        "the promote reads {}, ${} (estimate, on demand at ${} per TiB)\n",
        BinaryBytes(forecast.bytes_processed),
        dollars(forecast.price.usd),
        forecast.price.usd_per_tib
    );
    text += &format!(
        "this question has read {}, ${}; nothing was changed\n",
        BinaryBytes(forecast.own.bytes_processed),
        dollars(forecast.own.usd)
    );
    text
}
