//! `api2bq table recover`: a table as it was, also one that is deleted.

use serde_json::json;

use super::definition::DefinitionArgs;
use super::text::{described, table_name};
use super::unless_interrupted;
use crate::bigquery::Address;
use crate::cli::connect::Warehouse;
use crate::cli::output::counted;
use crate::cli::{Format, Global, output};
use crate::error::{Error, Result};
use crate::tables::{self, Recovery};
use crate::telemetry::{Waiting, say};

/// Bring back a table as it was, also one that is deleted
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The rows come back into --to, a table that is not there or is empty; nothing is ever deleted or
replaced. Without --at a deleted table is taken as it was in its last millisecond, which is
searched for by the service's clock; one that was there for less than a twentieth of the time
since may not be found so. The past can be read for 7 days, or as long as the dataset's time
travel window is.

BigQuery's copy of the past has the rows and columns, and neither partitioning nor filter nor
labels. They are recreated first, from the first of these that is there:
  1. --like TABLE
  2. the table as it was at that instant, where BigQuery tells (the embedded server does)
  3. --schema, --schema-file or --from-pipeline alone
  4. the table as it is now, if it was not deleted
What flags say of it wins over that, one by one. Columns, partitioning, clustering, required
filter, partition expiration, description and labels are recreated; the table's own expiration
and its access policy are not. --bare takes the plain copy.

With --format json: destination, at_ms, rows, definition_from and table (the destination's
document).

Examples:
  api2bq table recover LANL.flows_staging --to LANL.flows_staging_again
  api2bq table recover LANL.flows --at 1h --to LANL.flows_before
  api2bq table recover LANL.flows_staging --at 1767225600000 --to LANL.again --from-pipeline flows")]
pub(super) struct Args {
    /// The table as it was named
    table: Address,
    /// The instant: `1h` (ago), `2026-01-31T12:00:00Z`, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Where the rows come back: a table that is not there, or is empty
    #[arg(long, value_name = "TABLE")]
    to: Address,
    /// A table that is defined as this one was
    #[arg(long, value_name = "TABLE")]
    like: Option<Address>,
    /// Only rows and columns, as BigQuery's copy gives them
    #[arg(long, conflicts_with_all = ["like", "schema", "schema_file", "from_pipeline", "partition_by"])]
    bare: bool,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    // The last, since its heading holds for all that follows.
    #[command(flatten)]
    definition: DefinitionArgs,
}

pub(super) async fn run(args: Args, global: &Global) -> Result<()> {
    let mut at = args.at.as_deref().map(tables::parse_when).transpose()?;
    let mut table = args.table.clone();
    if let Some(ms) = table.at.take() {
        if at.is_some() {
            return Err(Error::usage("the instant is said twice: by `@` and by `--at`"));
        }
        at = Some(tables::parse_when(&ms)?);
    }
    let (table, to) = (table.whole()?, args.to.clone().whole()?);
    let (mut stated, expiry) = (args.definition.definition()?, args.definition.expiry()?);
    let bigquery = args.warehouse.connect(None).await?;
    let (table, to) = (bigquery.named(&table), bigquery.named(&to));
    if let Some(expiry) = expiry {
        stated.set("expirationTime", json!(expiry.ms(&bigquery, &to).await?.to_string()));
    }
    let what = format!("recovering {table}");
    let like = args.like.map(|like| bigquery.named(&like));
    let recovery =
        Recovery { table: table.clone(), at, destination: to.clone(), stated, like, bare: args.bare };
    let left = format!("Look with `api2bq table show {}`; nothing was deleted", table_name(&to));
    let showing = Waiting::new(global.show(), &what);
    let recovered = unless_interrupted(tables::recover(&bigquery, recovery), left).await?;
    drop(showing);
    for remark in &recovered.remarks {
        say(&format!("note: {remark}\n"));
    }
    match args.format {
        Format::Text => {
            let at = i64::try_from(recovered.at_ms).ok().and_then(tables::time_words).unwrap_or_default();
            let from =
                recovered.definition_from.map_or("a bare copy".to_owned(), |from| format!("defined {from}"));
            output::print(&format!(
                "{to}: {} of {table} at {} ms ({at}); {from}: {}\n",
                counted(recovered.rows, "row"),
                recovered.at_ms,
                described(&recovered.destination.value)
            ))
        }
        Format::Json => output::print(&output::json(&json!({
            "destination": to.to_string(),
            "at_ms": recovered.at_ms,
            "rows": recovered.rows,
            "definition_from": recovered.definition_from,
            "table": recovered.destination.value,
        }))?),
    }
}
