//! `api2bq table create`: a table as it is defined by flags, by a file or by a pipeline.

use serde_json::json;

use super::definition::DefinitionArgs;
use super::expiry::Expiry;
use super::text::described;
use crate::bigquery::{Address, BigQuery, Document};
use crate::cli::connect::Warehouse;
use crate::cli::{Format, output};
use crate::error::{Error, Result};
use crate::tables::{self, Definition};
use crate::telemetry::say;

/// Create a table
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --partition-by the table is in one piece; `--partition-by day` makes partitions by the
time of ingestion, as load jobs of this program fill them. With --if-not-exists a table that is
there must have the same columns and layout, and what else is asked for; it is not changed.

With --format json: the table's document, as BigQuery answers it.

Examples:
  api2bq table create LANL.flows_staging --from-pipeline flows --create-dataset
  api2bq table create d.events --schema 'id:INT64:REQUIRED,at:TIMESTAMP,price:NUMERIC(10,2)' \\
      --partition-by day:at --cluster-by id --require-partition-filter --partition-expires-in 30d
  api2bq table create d.scratch --schema-file schema.json --expires-in 5d --label team=net")]
pub(super) struct Args {
    /// `dataset.table`, `project.dataset.table` or `project:dataset.table`
    table: Address,
    /// A table that is there and agrees is as good
    #[arg(long)]
    if_not_exists: bool,
    /// Make the dataset, too, where it is missing
    #[arg(long)]
    create_dataset: bool,
    /// Where a new dataset is: `US`, `EU`, `europe-west1` [default: US]
    #[arg(long, value_name = "LOCATION", requires = "create_dataset")]
    location: Option<String>,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    // The last, since its heading holds for all that follows.
    #[command(flatten)]
    definition: DefinitionArgs,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let table = args.table.clone().whole()?;
    let (mut definition, expiry) = (args.definition.definition()?, args.definition.expiry()?);
    if definition.fields().is_null() {
        return Err(Error::usage("the table has no columns")
            .hint("add `--schema id:INT64,…`, `--schema-file FILE` or `--from-pipeline flows`"));
    }
    definition.check()?;
    let bigquery = args.warehouse.connect(args.location.as_deref()).await?;
    let table = bigquery.named(&table);
    dataset(&bigquery, &table, &args).await?;
    if let Some(expiry) = &expiry {
        definition.set("expirationTime", json!(expiry.ms(&bigquery, &table).await?.to_string()));
    }
    let created = bigquery.create_table(&table, &definition.document(bigquery.project(), &table)).await?;
    let (document, verb) = match created {
        Some(document) => (document, "created"),
        None if args.if_not_exists => {
            let found = super::found(&bigquery, &table).await?;
            agree(&table, &definition, &found, matches!(expiry, Some(Expiry::In { .. })))?;
            (found, "was there and agrees")
        }
        None => {
            return Err(Error::usage(format!("table `{table}` is there already"))
                .hint("`--if-not-exists` accepts it when it agrees; `api2bq table show` says what it is"));
        }
    };
    match args.format {
        Format::Text => output::print(&format!("{table} {verb}: {}\n", described(&document.value))),
        Format::Json => output::print(&output::json(&document.value)?),
    }
}

/// Makes the dataset where that is wanted and it is missing.
async fn dataset(bigquery: &BigQuery, table: &Address, args: &Args) -> Result<()> {
    if !args.create_dataset {
        return Ok(());
    }
    let shown = format!("{}.{}", table.project.as_deref().unwrap_or_default(), table.dataset);
    let Some(found) = bigquery.dataset(table).await? else {
        bigquery.create_dataset(table).await?;
        say(&format!("dataset {shown} created in {}\n", bigquery.location().unwrap_or("US")));
        return Ok(());
    };
    let there = found.text("location");
    match &args.location {
        Some(wanted) if !wanted.eq_ignore_ascii_case(there) => {
            Err(Error::usage(format!("dataset `{shown}` is in {there}, not in {wanted}"))
                .hint("a dataset cannot be moved; name another one"))
        }
        _ => Ok(()),
    }
}

/// What is there must be what was asked for, as far as it was asked for.
fn agree(table: &Address, wanted: &Definition, found: &Document, lives: bool) -> Result<()> {
    let found = Definition::of(&found.value);
    let mut asked = wanted.members();
    // The exact time differs from call to call.
    if lives && let Some(members) = asked.as_object_mut() {
        members.remove("expirationTime");
    }
    let mut difference = tables::difference(&asked, &found.members());
    for (member, value) in asked.as_object().into_iter().flatten() {
        let is_layout =
            ["schema", "timePartitioning", "rangePartitioning", "clustering"].contains(&member.as_str());
        if difference.is_none() && !is_layout && found.get(member) != value {
            let there = match found.get(member) {
                serde_json::Value::Null => "not set".to_owned(),
                value => value.to_string(),
            };
            difference = Some(format!("{member} is {value} here and {there} there"));
        }
    }
    match difference {
        None => Ok(()),
        Some(difference) => {
            Err(Error::usage(format!("table `{table}` is there and is another: {difference}"))
                .hint("`here` is what was asked for; nothing was changed"))
        }
    }
}
