//! What a request says about a query, checked before anything is parsed or made.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::parameters::Parameters;
use super::statements::options::string_literal;
use crate::emulator::destination::{Destination, Disposition};
use crate::emulator::names::{DatasetId, ProjectId};
use crate::emulator::wire::{Failure, Outcome, integer, object, text};

/// `configuration.query`, or the body of jobs.query.
#[derive(Debug, Clone)]
pub(in crate::emulator) struct QuerySpec {
    pub sql: String,
    pub project: ProjectId,
    pub default_dataset: Option<(ProjectId, DatasetId)>,
    pub(super) parameters: Parameters,
    pub bytes_billed_max: Option<u64>,
    /// A destination that was asked for.
    pub destination: Option<Destination>,
}

impl QuerySpec {
    pub(in crate::emulator) fn parse(query: &Map<String, Value>, project: &ProjectId) -> Outcome<Self> {
        let sql = text(query, "query").filter(|sql| !sql.trim().is_empty());
        let sql = sql.ok_or_else(|| Failure::invalid("Required parameter is missing: query"))?.to_owned();
        // BigQuery's own rule: a prefix in the text decides, then the flag, and without either it is legacy SQL.
        let prefix = sql.trim_start().lines().next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_legacy = match prefix.as_str() {
            "#legacysql" => true,
            "#standardsql" => false,
            _ => query.get("useLegacySql").and_then(Value::as_bool) != Some(false),
        };
        let sql = match is_legacy {
            false => sql,
            true => partitions_summary(&sql).ok_or_else(|| {
                Failure::not_implemented("legacy SQL (useLegacySql is true unless a request says false)")
            })?,
        };
        if query.get("createSession").and_then(Value::as_bool) == Some(true) {
            return Err(Failure::not_implemented("sessions (createSession)"));
        }
        let properties = query.get("connectionProperties").and_then(Value::as_array);
        if properties.is_some_and(|list| !list.is_empty()) {
            return Err(Failure::not_implemented("connectionProperties"));
        }
        if query.get("continuous").and_then(Value::as_bool) == Some(true) {
            return Err(Failure::not_implemented("continuous queries"));
        }
        for member in ["userDefinedFunctionResources", "tableDefinitions", "scriptOptions"] {
            if query.get(member).is_some_and(|v| !v.is_null()) {
                return Err(Failure::not_implemented(member));
            }
        }
        let default_dataset = match object(query, "defaultDataset") {
            None => None,
            Some(dataset) => {
                let project = text(dataset, "projectId").unwrap_or(project.as_str());
                let id = text(dataset, "datasetId").ok_or_else(|| {
                    Failure::invalid("Required parameter is missing: defaultDataset.datasetId")
                })?;
                Some((ProjectId::parse(project)?, DatasetId::parse(id)?))
            }
        };
        let destination = object(query, "destinationTable")
            .map(|table| Destination::parse(query, table, project, Disposition::Empty))
            .transpose()?;
        Ok(QuerySpec {
            sql,
            project: project.clone(),
            default_dataset,
            parameters: Parameters::parse(query)?,
            bytes_billed_max: integer(query, "maximumBytesBilled")?.and_then(|n| u64::try_from(n).ok()),
            destination,
        })
    }

    /// What a view's own query is asked with.
    pub(super) fn of_view(sql: String, project: ProjectId) -> Self {
        QuerySpec {
            sql,
            project,
            default_dataset: None,
            parameters: Parameters::default(),
            bytes_billed_max: None,
            destination: None,
        }
    }
}

/// The one query of legacy SQL that Google's clients send, for the partitions of a table, in GoogleSQL.
fn partitions_summary(sql: &str) -> Option<String> {
    static SUMMARY: LazyLock<Regex> = LazyLock::new(|| {
        let table = r"\[([^\]`]+)[:.]([^\]`.:]+)\.([^\]`.]+)\$__PARTITIONS_SUMMARY__\]";
        Regex::new(&format!(r"(?is)^\s*SELECT\s+partition_id\s+FROM\s+{table}\s*;?\s*$")).expect("a constant")
    });
    let parts = SUMMARY.captures(sql)?;
    let (project, dataset, table) = (parts.get(1)?.as_str(), parts.get(2)?.as_str(), parts.get(3)?.as_str());
    let table = string_literal(table);
    Some(format!(
        "SELECT partition_id FROM `{project}.{dataset}`.INFORMATION_SCHEMA.PARTITIONS \
         WHERE table_name = {table} AND partition_id IS NOT NULL ORDER BY partition_id"
    ))
}
