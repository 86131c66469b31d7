//! `api2bq track`: what became of the requests that a gateway took.

use std::path::PathBuf;

use super::access::access;
use super::{Format, output};
use crate::config::Pipeline;
use crate::effects::Effects;
use crate::error::{Error, Result};
use crate::gateway::client::Client;
use crate::gateway::track::{Answer, Folders, Instance, State, question};
use crate::pipeline::open_store;
use crate::telemetry::say;

/// Find the requests that a gateway took, by what is in them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The gateway must have been started with `--track A,B,C`; the first column is the primary one, and
VALUE is looked for in it. Requests come the newest first, a page at a time. A user sees what that
user sent; who is named by the gateway's `--operator` sees all.

A request is `accepted`: on the gateway's disk; `sealed`: about to be loaded; `loaded`: in the table,
by the job that is named, or streamed; `rejected`: nothing of it was taken; `failed`: its last load
job failed, and is tried again, or BigQuery refused every row of it that was streamed.

A gateway that is stopped cannot be asked. Whoever may read its folder then uses `--spool FOLDER`,
which works beside a gateway at work too, and shows what all users sent.

With --format json: pipeline, fields, trace, instances (id, time, user, state, accepted, rejected,
identifiers: field, values, more; rejects, table, job_id, reason, payload or payload_base64), next,
unreadable.

Examples:
  api2bq track inventory WH2 --user ann --since 1h
  api2bq track inventory --field Item_id 105 --user ann --url https://gw.example.com
  api2bq track inventory --spool ./spool --state failed
  api2bq track inventory WH2 --user ann --payload --format json | jq -r '.instances[].payload'")]
pub(super) struct Args {
    /// A built-in pipeline (`inventory`) or the path of a pipeline.toml
    pipeline: String,
    /// The value to look for, as the table shows it
    value: Option<String>,
    /// The column that has it [default: the primary one]
    #[arg(long, value_name = "COLUMN", requires = "value")]
    field: Option<String>,
    /// The id that the gateway has answered
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only requests in this state: accepted, sealed, loaded, rejected or failed
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only requests that came within this time: `90m`, `1h`, `7d`
    #[arg(long, value_name = "LENGTH")]
    since: Option<String>,
    /// Requests on a page, 1 to 1000
    #[arg(long, value_name = "N", default_value = "100")]
    limit: u32,
    /// Go on where a page ended: its `next`
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Show bodies too, where the gateway keeps them (`--trace`); they may hold secrets
    #[arg(long)]
    payload: bool,
    /// Where the gateway listens
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    url: String,
    /// A user of the gateway; the password is API2BQ_GATEWAY_PASSWORD, or the first line of standard input
    #[arg(long, value_name = "NAME", required_unless_present = "spool")]
    user: Option<String>,
    /// Read the folder of a gateway instead of asking it
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["url", "user"])]
    spool: Option<PathBuf>,
    /// Override a key of the pipeline
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the requests are printed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let pipeline = Pipeline::resolve_for_gateway(&args.pipeline, &args.set)?;
    let parameters = parameters(&args);
    let answer = match (&args.spool, &args.user) {
        (Some(spool), _) => of_folder(spool.clone(), &pipeline, &parameters).await?,
        (None, user) => {
            let access = access(&args.url, user.clone().unwrap_or_default())?;
            let query: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, &**value)).collect();
            Client::new(&access)?.get(&["track"], &query).await?
        }
    };
    if answer.pipeline != pipeline.name {
        let (theirs, asked) = (&answer.pipeline, &pipeline.name);
        return Err(Error::usage(format!("this gateway takes rows for `{theirs}`, not for `{asked}`")));
    }
    for file in &answer.page.unreadable {
        say(&format!("not all of `{file}` in the folder of the gateway can be read\n"));
    }
    match args.format {
        Format::Text => output::print(&text(&answer)),
        Format::Json => output::print(&output::json(&answer)?),
    }
}

/// As a URL's query has them.
fn parameters(args: &Args) -> Vec<(&'static str, String)> {
    let given = [
        ("field", args.field.clone()),
        ("value", args.value.clone()),
        ("id", args.id.clone()),
        ("state", args.state.map(|state| state.word().to_owned())),
        ("since", args.since.clone()),
        ("limit", Some(args.limit.to_string())),
        ("cursor", args.cursor.clone()),
        ("payload", args.payload.then(|| "true".to_owned())),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

async fn of_folder(spool: PathBuf, pipeline: &Pipeline, parameters: &[(&str, String)]) -> Result<Answer> {
    let effects = Effects::default();
    let warehouse = &pipeline.warehouse;
    let table = format!("{}.{}.{}", warehouse.project, warehouse.dataset, warehouse.table);
    let store = open_store(pipeline, &effects)?;
    let folders = Folders::open(spool, store, &pipeline.name, &pipeline.columns, table)?;
    let asked = question(parameters, &folders.fields(), effects.clock.unix_millis())?;
    folders.find(&asked).await
}

fn text(answer: &Answer) -> String {
    let instances = &answer.page.instances;
    if instances.is_empty() {
        return "no such requests\n".to_owned();
    }
    let mut header = ["time", "state"].map(str::to_owned).to_vec();
    header.extend(answer.fields.iter().cloned());
    header.extend(["accepted", "rejected", "user", "id"].map(str::to_owned));
    let table: Vec<_> =
        [header].into_iter().chain(instances.iter().map(|i| row(i, &answer.fields))).collect();
    let table = output::aligned(&table);
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, instance) in lines.zip(instances) {
        let remark = match (&instance.reason, &instance.job_id) {
            (Some(reason), _) => format!("✗ {}", shown(reason, usize::MAX)),
            (None, Some(job_id)) => shown(job_id, usize::MAX),
            (None, None) => String::new(),
        };
        text += format!("{line}  {remark}").trim_end();
        text.push('\n');
        let body = instance.payload.as_deref().or(instance.payload_base64.as_deref());
        for line in body.into_iter().flat_map(str::lines) {
            text += &format!("    {}\n", shown(line, usize::MAX));
        }
    }
    if let Some(next) = &answer.page.next {
        text += &format!("there are more: --cursor {next}\n");
    }
    text
}

fn row(instance: &Instance, fields: &[String]) -> Vec<String> {
    let values = |field: &String| {
        let found = instance.identifiers.iter().find(|identifier| identifier.field == *field);
        let Some(identifier) = found else { return String::new() };
        match &identifier.values[..] {
            [] => String::new(),
            [one] if identifier.more == 0 => shown(one, VALUE_WIDTH),
            [first, others @ ..] => {
                format!("{} +{}", shown(first, VALUE_WIDTH), others.len() as u64 + identifier.more)
            }
        }
    };
    let mut row = vec![instance.time.clone(), instance.state.word().to_owned()];
    row.extend(fields.iter().map(values));
    row.extend([instance.accepted.to_string(), instance.rejected.to_string()]);
    row.extend([shown(&instance.user, VALUE_WIDTH), instance.id.clone()]);
    row
}

/// A longer value is cut; JSON has it whole.
const VALUE_WIDTH: usize = 30;

/// What others sent may hold what moves a terminal's cursor.
fn shown(text: &str, length_max: usize) -> String {
    let mut shown: String =
        text.chars().take(length_max).map(|c| if c.is_control() { '·' } else { c }).collect();
    if text.chars().count() > length_max {
        shown.push('…');
    }
    shown
}
