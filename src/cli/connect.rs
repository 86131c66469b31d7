//! Which BigQuery a command without a pipeline speaks to.

use crate::bigquery::{self, BigQuery};
use crate::config::Connection;
use crate::effects::Effects;
use crate::error::Result;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Warehouse {
    /// Project of names that have none [default: GOOGLE_CLOUD_PROJECT, else `api2gbq`]
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
}

impl Warehouse {
    /// A client for the project; `location` is where jobs run and datasets are made, unless that is known
    /// better.
    pub(super) async fn connect(&self, location: Option<&str>) -> Result<BigQuery> {
        let Connection { project, location: default, poll_max, retry } = Connection::resolve()?;
        BigQuery::connect(bigquery::Options {
            project: self.project.clone().unwrap_or(project),
            location: location.map_or(default, str::to_owned),
            poll_max,
            retry,
            effects: Effects::default(),
            emulator: None,
        })
        .await
    }
}
