//! `api2bq table update`: settings of a table, changed under its etag.

use serde_json::Value;

use super::expiry::Expiry;
use super::text::{instant, table_name};
use crate::bigquery::Address;
use crate::cli::connect::Warehouse;
use crate::cli::{Format, backfill, output};
use crate::error::{Error, Result};
use crate::tables::{self, Updated, Wish};

/// Change a table's description, expiration, labels and required filter
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The table is read, and changed only if it is still as it was read: what somebody else does in
between is never written over, and said. With --etag that holds from an earlier `table show` on.

With --format json: changed (members of the table's document) and table (that document).

Examples:
  api2bq table update LANL.flows --description 'network flows' --label team=net
  api2bq table update LANL.flows --expires-in 5d
  api2bq table update LANL.flows --never --remove-label team
  api2bq table update LANL.flows_staging --require-partition-filter false")]
pub(super) struct Args {
    /// `dataset.table`, `project.dataset.table` or `project:dataset.table`
    table: Address,
    /// What the table is, in words; '' takes them away
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The table is deleted after this time from now: `5d`, by the service's clock
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["expires_at", "never"])]
    expires_in: Option<String>,
    /// The table is deleted at this time: `2026-12-31`, RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME", conflicts_with = "never")]
    expires_at: Option<String>,
    /// The table does not expire
    #[arg(long)]
    never: bool,
    /// A label to set; repeat it for more
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// A label to take away; repeat it for more
    #[arg(long, value_name = "KEY")]
    remove_label: Vec<String>,
    /// Whether queries must filter by partition
    #[arg(long, value_name = "BOOL")]
    require_partition_filter: Option<bool>,
    /// Only if the table still has this etag, as `table show` prints it
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let table = args.table.clone().whole()?;
    let mut wish = Wish {
        description: args.description.clone(),
        expires_ms: args.never.then_some(None),
        labels: tables::parse_labels(&args.labels)?,
        labels_removed: args.remove_label.clone(),
        require_filter: args.require_partition_filter,
    };
    let expiry = Expiry::parse(args.expires_in.as_deref(), args.expires_at.as_deref())?;
    if wish.is_empty() && expiry.is_none() {
        return Err(Error::usage("there is nothing to change").hint(
            "add `--description`, `--expires-in`, `--label` or another of `api2bq table update --help`",
        ));
    }
    if let Some(both) = args.remove_label.iter().find(|key| wish.labels.contains_key(*key)) {
        return Err(Error::usage(format!("label `{both}` is both set and taken away")));
    }
    let bigquery = args.warehouse.connect(None).await?;
    let table = bigquery.named(&table);
    if let Some(expiry) = expiry {
        wish.expires_ms = Some(Some(expiry.ms(&bigquery, &table).await?));
    }
    let (members, document) = match tables::update(&bigquery, &table, &wish, args.etag.as_deref()).await? {
        Updated::AsItWas(document) => (Vec::new(), document),
        Updated::Changed { members, document } => (members, document),
        Updated::Lost { changed } => return Err(lost(&table, &changed, args.etag.is_some())),
    };
    match args.format {
        Format::Json => {
            let report = serde_json::json!({ "changed": members, "table": document.value });
            output::print(&output::json(&report)?)
        }
        Format::Text if members.is_empty() => {
            output::print(&format!("{table} is so already: nothing was changed\n"))
        }
        Format::Text => {
            let said: Vec<_> =
                members.iter().map(|member| said(member, &document.value[member.as_str()])).collect();
            output::print(&format!("{table} changed: {}\n", said.join("; ")))
        }
    }
}

fn lost(table: &Address, changed: &[String], was_given: bool) -> Error {
    let what = match changed {
        [] if was_given => "since it had this etag".to_owned(),
        [] => "meanwhile".to_owned(),
        members => format!("meanwhile ({})", members.join(", ")),
    };
    let shown = table_name(table);
    let then = match was_given {
        true => "repeat with the etag that it has now".to_owned(),
        false => format!("repeat: `{}`", backfill::resume_command()),
    };
    Error::failed(format!("table `{table}` was changed by somebody else {what}; nothing was changed here"))
        .hint(format!("look at it with `api2bq table show {shown}`, then {then}"))
}

/// A setting as it is now.
fn said(member: &str, value: &Value) -> String {
    match (member, value) {
        ("expirationTime", Value::Null) => "it never expires".to_owned(),
        ("expirationTime", value) => format!("it expires {}", instant(value)),
        ("requirePartitionFilter", value) if *value == true => "a filter is required".to_owned(),
        ("requirePartitionFilter", _) => "no filter is required".to_owned(),
        ("labels", Value::Object(labels)) if !labels.is_empty() => {
            let label =
                |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
            format!("labels {}", labels.iter().map(label).collect::<Vec<_>>().join(", "))
        }
        ("labels", _) => "no labels".to_owned(),
        (member, Value::Null) => format!("no {member}"),
        (member, value) => format!("{member} {value}"),
    }
}
