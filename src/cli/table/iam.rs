//! `api2bq table iam`: who may do what with a table.

use clap::Subcommand;
use serde_json::Value;

use super::text::{left_aligned, plain};
use crate::bigquery::Address;
use crate::cli::connect::Warehouse;
use crate::cli::{Format, output};
use crate::error::{Error, Result};
use crate::tables::Grant;
use crate::telemetry::say;

/// Show and change who may do what with a table
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Only the table's own policy: what is granted on its dataset or project counts too, and is not
shown here. A change is made to the policy as it was read, and again if somebody else was faster.
Conditions of other bindings are kept.

Examples:
  api2bq table iam get LANL.flows
  api2bq table iam add LANL.flows --role roles/bigquery.dataViewer --member user:ann@example.com
  api2bq table iam remove LANL.flows --role roles/bigquery.dataViewer --member user:ann@example.com")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the table's policy
    ///
    /// With --format json: the policy as BigQuery has it, conditions and etag included.
    Get(GetArgs),
    /// Give a member a role
    Add(AddArgs),
    /// Take a role from a member
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  api2bq table iam get LANL.flows
  api2bq table iam get LANL.flows --format json | jq .bindings")]
struct GetArgs {
    /// `dataset.table`, `project.dataset.table` or `project:dataset.table`
    table: Address,
    #[command(flatten)]
    warehouse: Warehouse,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  api2bq table iam add LANL.flows --role roles/bigquery.dataViewer --member user:ann@example.com")]
struct AddArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Allow `allUsers` and `allAuthenticatedUsers`: the whole internet
    #[arg(long)]
    allow_public: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  api2bq table iam remove LANL.flows --role roles/bigquery.dataEditor --member group:net@example.com")]
struct RemoveArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// `dataset.table`, `project.dataset.table` or `project:dataset.table`
    table: Address,
    /// `roles/…`, or `projects/PROJECT/roles/NAME` for one of your own
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// `user:`, `serviceAccount:` or `group:` and an address, or `domain:` and a domain
    #[arg(long, value_name = "MEMBER")]
    member: String,
    #[command(flatten)]
    warehouse: Warehouse,
}

impl Args {
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.action, Action::Get(_))
    }
}

pub(super) async fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Get(args) => get(args).await,
        Action::Add(args) => change(args.change, true, args.allow_public).await,
        Action::Remove(args) => change(args.change, false, false).await,
    }
}

async fn get(args: GetArgs) -> Result<()> {
    let table = args.table.whole()?;
    let bigquery = args.warehouse.connect(None).await?;
    let table = bigquery.named(&table);
    let policy = bigquery.policy(&table).await?;
    match args.format {
        Format::Json => output::print(&output::json(&policy)?),
        Format::Text => output::print(&text(&table, &policy)),
    }
}

fn text(table: &Address, policy: &Value) -> String {
    let mut lines = vec![["role", "member", "condition"].map(str::to_owned).to_vec()];
    for binding in policy["bindings"].as_array().into_iter().flatten() {
        let condition = &binding["condition"];
        let condition = match (condition["title"].as_str(), condition["expression"].as_str()) {
            (Some(title), Some(expression)) => format!("{title}: {expression}"),
            (title, expression) => title.or(expression).unwrap_or_default().to_owned(),
        };
        for member in binding["members"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let role = binding["role"].as_str().unwrap_or_default();
            lines.push([role, member, &condition].map(plain).to_vec());
        }
    }
    match lines.len() {
        1 => format!("{table} has no policy of its own; what its dataset and project grant counts\n"),
        _ => left_aligned(&lines),
    }
}

async fn change(args: ChangeArgs, add: bool, allow_public: bool) -> Result<()> {
    let table = args.table.whole()?;
    let grant = Grant::new(&args.role, &args.member)?;
    if add && grant.is_public() && !allow_public {
        return Err(Error::usage(format!("`{}` is the whole internet", grant.member)).hint(
            "`--allow-public` if that is meant; `domain:example.com` is everybody of one organization",
        ));
    }
    let bigquery = args.warehouse.connect(None).await?;
    let table = bigquery.named(&table);
    let changed = match add {
        true => grant.add(&bigquery, &table).await?,
        false => grant.remove(&bigquery, &table).await?,
    };
    let Grant { role, member } = &grant;
    let verb = match (add, changed.is_some()) {
        (true, true) => "has now",
        (true, false) => "had already",
        (false, true) => "no longer has",
        (false, false) => "did not have",
    };
    if changed.is_some() {
        say(
            "note: it takes a few minutes until a change of access holds everywhere; copies of the table do not have it\n",
        );
    }
    output::print(&format!("{table}: {member} {verb} {role}\n"))
}
