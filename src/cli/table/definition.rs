//! The flags that say what a table is to be; of `create` and of `recover`.

use std::path::PathBuf;

use serde_json::json;

use super::expiry::Expiry;
use crate::config::Pipeline;
use crate::error::{Error, Result};
use crate::tables::{self, Definition};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What it is to be")]
pub(super) struct DefinitionArgs {
    /// Columns: `name:TYPE` or `name:TYPE:MODE`, with commas between
    #[arg(long, value_name = "COLUMNS", conflicts_with_all = ["schema_file", "from_pipeline"])]
    schema: Option<String>,
    /// Columns from a JSON file, as `bq show --schema` writes it; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "from_pipeline")]
    schema_file: Option<PathBuf>,
    /// Columns and layout of a pipeline's staging table: a built-in name (`flows`) or a pipeline.toml
    #[arg(long, value_name = "PIPELINE")]
    from_pipeline: Option<String>,
    /// Partitions by `hour`, `day`, `month` or `year` of ingestion, or of a column: `day:COLUMN`
    #[arg(long, value_name = "UNIT[:COLUMN]", conflicts_with = "range_partition")]
    partition_by: Option<String>,
    /// Partitions by ranges of an INT64 column
    #[arg(long, value_name = "COLUMN:START:END:STEP")]
    range_partition: Option<String>,
    /// Columns to cluster by, at most four
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    cluster_by: Vec<String>,
    /// Queries must filter by partition
    #[arg(long)]
    require_partition_filter: bool,
    /// Partitions are deleted that long after their time: `30d`
    #[arg(long, value_name = "DURATION")]
    partition_expires_in: Option<String>,
    /// The table is deleted after this time: `5d`, by the service's clock
    #[arg(long, value_name = "DURATION", conflicts_with = "expires_at")]
    expires_in: Option<String>,
    /// The table is deleted at this time: `2026-12-31`, RFC 3339, or milliseconds since 1970
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    #[arg(long, value_name = "TEXT", help = "What the table is, in words")]
    description: Option<String>,
    /// A label; repeat it for more
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
}

impl DefinitionArgs {
    /// What was typed, without when the table expires: see [`Self::expiry`].
    pub(super) fn definition(&self) -> Result<Definition> {
        let mut definition = match &self.from_pipeline {
            Some(pipeline) => Definition::of_staging(&Pipeline::resolve(pipeline, &[])?),
            None => Definition::default(),
        };
        if let Some(columns) = &self.schema {
            definition.set("schema", json!({ "fields": tables::parse_inline(columns)? }));
        }
        if let Some(file) = &self.schema_file {
            let shown = file.display();
            let text = match file.as_os_str() == "-" {
                true => std::io::read_to_string(std::io::stdin()),
                false => std::fs::read_to_string(file),
            };
            let text = text.map_err(|e| Error::usage(format!("cannot read `{shown}`")).caused_by(e))?;
            let fields = tables::parse_file(&text).map_err(|e| e.context(format!("`{shown}`")))?;
            definition.set("schema", json!({ "fields": fields }));
        }
        if let Some(text) = &self.partition_by {
            definition.set("timePartitioning", tables::parse_partition_by(text)?);
        }
        if let Some(text) = &self.range_partition {
            definition.remove("timePartitioning");
            definition.set("rangePartitioning", tables::parse_range_partition(text)?);
        }
        if let Some(text) = &self.partition_expires_in {
            let mut partitioning = definition.get("timePartitioning").clone();
            if partitioning.is_null() {
                return Err(Error::usage("only partitions by time expire").hint("add `--partition-by day`"));
            }
            partitioning["expirationMs"] = json!(tables::parse_duration(text)?.to_string());
            definition.set("timePartitioning", partitioning);
        }
        if !self.cluster_by.is_empty() {
            definition.set("clustering", json!({ "fields": self.cluster_by }));
        }
        if self.require_partition_filter {
            definition.set("requirePartitionFilter", json!(true));
        }
        if let Some(text) = &self.description {
            definition.set("description", json!(text));
        }
        if !self.labels.is_empty() {
            definition.set("labels", json!(tables::parse_labels(&self.labels)?));
        }
        Ok(definition)
    }

    pub(super) fn expiry(&self) -> Result<Option<Expiry>> {
        Expiry::parse(self.expires_in.as_deref(), self.expires_at.as_deref())
    }
}
