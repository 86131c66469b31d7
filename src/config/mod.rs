//! Settings of a pipeline: defaults, its pipeline.toml, the environment and `--set`, in that order.

mod builtin;
mod checks;
mod gateway;
mod layers;

use std::time::Duration;

use chrono::NaiveDate;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::manifest;
use crate::retry::Policy;
use crate::schema::{Column, ColumnType, Columns, Format, Mode};

use checks::{absolute_url, check_name, check_project_and_dataset, check_table, check_warehouse, stage_url};
pub use gateway::{GatewaySettings, WayOut};
pub use layers::{Origin, Shown, is_secret};

/// A pipeline with every setting resolved and checked.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: String,
    pub columns: Columns,
    pub source: SourceSettings,
    /// `None`: the body itself tells.
    pub format: Option<Format>,
    pub time_column: String,
    pub epoch: NaiveDate,
    /// Days that a record may be older than its window.
    pub late_days: i64,
    /// What load jobs do with the rows that are there.
    pub mode: manifest::Mode,
    /// Days may be replaced although rows were appended to them.
    pub drop_appended: bool,
    /// `None`: unless the source is on this machine.
    pub gzip: Option<bool>,
    pub stage_sql: String,
    pub allow_filter: bool,
    pub stage: StageSettings,
    pub warehouse: Warehouse,
    pub promote_sql: String,
    pub promote_days: u32,
    pub gateway: GatewaySettings,
    pub limits: Limits,
    shown: Vec<Shown>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SourceSettings {
    pub url: String,
    /// Names the source in the run's id; empty: its URL does.
    pub identity: String,
    format: String,
    pub record_path: String,
    pub row_number_column: String,
    pub headers_file: String,
    pub count_header: String,
    gzip: String,
    pub connect_timeout_seconds: u64,
    pub headers_timeout_seconds: u64,
    pub idle_timeout_seconds: u64,
    pub idle_bytes_min: u64,
    pub strict_schema: bool,
    pub query: toml::map::Map<String, toml::Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct StageSettings {
    pub url: String,
    pub file_mib_max: u64,
    pub row_group_rows: usize,
    pub zstd_level: i32,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Warehouse {
    pub project: String,
    pub dataset: String,
    pub staging_table: String,
    pub table: String,
    pub location: String,
    mode: String,
    pub poll_seconds_max: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Limits {
    pub memory_mib: usize,
    pub query_memory_mib: usize,
    pub spill_dir: String,
    pub record_mib_max: usize,
    pub tag_kib_max: usize,
    pub attributes_max: usize,
    pub depth_max: usize,
    pub body_mib_max: u64,
    pub unpack_ratio_max: u64,
    pub rejects_kept: usize,
    pub batch_rows: usize,
    pub attempts: u32,
    pub retries_max: u64,
    pub retry_first_wait_ms: u64,
    pub retry_wait_seconds_max: u64,
    pub retry_after_seconds_max: u64,
}

impl Limits {
    /// How calls are repeated, the same at every door.
    pub fn retry(&self) -> Policy {
        Policy {
            attempts: self.attempts,
            first_wait: Duration::from_millis(self.retry_first_wait_ms),
            wait_max: Duration::from_secs(self.retry_wait_seconds_max),
            retry_after_max: Duration::from_secs(self.retry_after_seconds_max),
            retries_max: self.retries_max,
        }
    }
}

/// Where BigQuery is and how it is spoken to, for commands that have no pipeline.
#[derive(Debug, Clone)]
pub struct Connection {
    pub project: String,
    pub location: String,
    pub poll_max: Duration,
    pub retry: Policy,
}

impl Connection {
    /// The defaults, and the environment over them.
    pub fn resolve() -> Result<Connection> {
        #[derive(Deserialize)]
        struct Raw {
            warehouse: Warehouse,
            limits: Limits,
        }
        let layered = layers::Layers::resolve("", "defaults", &[])?;
        let Raw { warehouse, limits } = layered
            .table()
            .try_into()
            .map_err(|e: toml::de::Error| Error::usage(format!("bad setting: {}", e.message())))?;
        Ok(Connection {
            poll_max: Duration::from_secs(warehouse.poll_seconds_max.max(1)),
            retry: limits.retry(),
            project: warehouse.project,
            location: warehouse.location,
        })
    }
}

/// The settings as they stand in the file, before they are checked.
#[derive(Deserialize)]
struct Raw {
    name: String,
    source: SourceSettings,
    time: Time,
    transform: Transform,
    stage: StageSettings,
    warehouse: Warehouse,
    promote: Promote,
    gateway: GatewaySettings,
    limits: Limits,
    #[serde(default)]
    columns: Vec<Column>,
}

#[derive(Deserialize)]
struct Time {
    column: String,
    epoch: String,
    late_days: u16,
}

#[derive(Deserialize)]
struct Transform {
    sql: String,
    allow_filter: bool,
}

#[derive(Deserialize)]
struct Promote {
    sql: String,
    days: u32,
}

impl Pipeline {
    /// Resolves a built-in pipeline by name, or a pipeline.toml by path, under `set` (`key=value`).
    pub fn resolve(name_or_path: &str, set: &[String]) -> Result<Pipeline> {
        Pipeline::resolve_for(Use::Backfill, name_or_path, set)
    }

    /// The same for the gateway, to which rows come by themselves: `[source]`, `[time]`, SQL and the
    /// staging table are not asked for, and not looked at.
    pub fn resolve_for_gateway(name_or_path: &str, set: &[String]) -> Result<Pipeline> {
        Pipeline::resolve_for(Use::Gateway, name_or_path, set)
    }

    /// The same for commands that only look at what was staged and loaded, be it by a backfill, by the
    /// gateway, or by both.
    pub fn resolve_to_look(name_or_path: &str, set: &[String]) -> Result<Pipeline> {
        Pipeline::resolve_for(Use::Look, name_or_path, set)
    }

    fn resolve_for(what: Use, name_or_path: &str, set: &[String]) -> Result<Pipeline> {
        let files = builtin::Files::find(name_or_path)?;
        let layered = layers::Layers::resolve(&files.toml, &files.shown, set)?;
        let raw: Raw = layered.table().try_into().map_err(|e: toml::de::Error| {
            Error::usage(format!("bad setting in `{}`: {}", files.shown, e.message()))
                .hint("`api2bq backfill flows --show-settings` prints settings as they should be")
        })?;
        check_name(&raw.name).map_err(|e| e.context(format!("`{}`", files.shown)))?;
        let has_source = !raw.source.url.is_empty();
        if what == Use::Gateway {
            // The flag that names the way may be missing where a command only looks.
            raw.gateway.check_way_out()?;
        }
        if what == Use::Gateway || what == Use::Look && !has_source {
            return check_for_gateway(raw, layered.shown());
        }
        if name_or_path == "inventory" && !has_source {
            return Err(Error::usage("`inventory` has no source to read from")
                .hint("rows are posted to it: `api2bq gateway inventory`"));
        }
        let stage_sql = files.read(&raw.transform.sql)?;
        let promote_sql = files.read(&raw.promote.sql)?;
        check(raw, stage_sql, promote_sql, layered.shown())
    }

    /// Every setting with its value and origin, sorted by key. Nothing secret is in it.
    pub fn settings(&self) -> &[Shown] {
        &self.shown
    }

    pub fn with_stage_url(mut self, url: &str) -> Result<Self> {
        self.stage.url = stage_url(url)?;
        Ok(self)
    }

    /// Headers from `source.headers_file`, one `Name: value` a line.
    pub fn headers(&self) -> Result<Vec<(String, String)>> {
        if self.source.headers_file.is_empty() {
            return Ok(Vec::new());
        }
        let path = &self.source.headers_file;
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::usage(format!("cannot read `source.headers_file` `{path}`")).caused_by(e))?;
        let mut headers = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            // The line itself is not shown: it may be a secret without its name.
            let (name, value) = line.split_once(':').ok_or_else(|| {
                Error::usage(format!("line {} of `{path}` is no `Name: value`", number + 1))
            })?;
            let (name, value) = (name.trim(), value.trim());
            // RFC 9110's tokens. A name that is none is not shown either: it may be half of a secret.
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if name.is_empty() || !name.bytes().all(legal) {
                return Err(Error::usage(format!("line {} of `{path}` has no header's name", number + 1))
                    .hint("write `Name: value`, a line each"));
            }
            headers.push((name.to_owned(), value.to_owned()));
        }
        Ok(headers)
    }
}

/// What a pipeline is resolved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Backfill,
    Gateway,
    /// Whatever it has.
    Look,
}

/// Checks what the gateway looks at. Days are those on which rows come, and the first is that of 1970.
fn check_for_gateway(raw: Raw, shown: Vec<Shown>) -> Result<Pipeline> {
    let columns = Columns::new(raw.columns)?;
    check_project_and_dataset(&raw.warehouse)?;
    check_table("table", &raw.warehouse.table)?;
    raw.gateway.check()?;
    for (key, zero) in [
        ("limits.attempts", raw.limits.attempts == 0),
        ("stage.file_mib_max", raw.stage.file_mib_max == 0),
        ("stage.row_group_rows", raw.stage.row_group_rows == 0),
    ] {
        if zero {
            return Err(Error::usage(format!("`{key}` must be at least 1")));
        }
    }
    let mut stage = raw.stage;
    stage.url = stage_url(&stage.url)?;
    Ok(Pipeline {
        name: raw.name,
        columns,
        source: raw.source,
        format: None,
        time_column: String::new(),
        epoch: NaiveDate::default(),
        late_days: 0,
        mode: manifest::Mode::Append,
        drop_appended: false,
        gzip: None,
        stage_sql: String::new(),
        allow_filter: false,
        stage,
        warehouse: raw.warehouse,
        promote_sql: String::new(),
        promote_days: raw.promote.days,
        gateway: raw.gateway,
        limits: raw.limits,
        shown,
    })
}

fn check(raw: Raw, stage_sql: String, promote_sql: String, shown: Vec<Shown>) -> Result<Pipeline> {
    let columns = Columns::new(raw.columns)?;
    let time = columns.index_of(&raw.time.column).map_err(|e| e.context("`time.column`"))?;
    let column = columns.iter().nth(time).expect("index_of gave it");
    if column.kind != ColumnType::Int64 || column.mode != Mode::Required {
        return Err(Error::usage(format!("`time.column` `{}` must be a REQUIRED INT64", column.name)));
    }
    let epoch = raw.time.epoch.parse().map_err(|_| {
        Error::usage(format!("`time.epoch = \"{}\"` is no date", raw.time.epoch))
            .hint("the date of day 1, as `2011-01-01`")
    })?;
    let format = match raw.source.format.as_str() {
        "auto" => None,
        "xml" => Some(Format::Xml),
        "ndjson" => Some(Format::Ndjson),
        "json" => Some(Format::Json),
        "csv" => Some(Format::Csv),
        other => {
            return Err(Error::usage(format!("`source.format` `{other}` is unknown"))
                .hint("one of auto, xml, ndjson, json, csv"));
        }
    };
    let gzip = match raw.source.gzip.as_str() {
        "auto" => None,
        "on" => Some(true),
        "off" => Some(false),
        other => {
            return Err(
                Error::usage(format!("`source.gzip` `{other}` is unknown")).hint("one of auto, on, off")
            );
        }
    };
    if !raw.source.row_number_column.is_empty() {
        columns
            .index_of(&raw.source.row_number_column)
            .map_err(|e| e.context("`source.row_number_column`"))?;
    }
    if raw.source.query.values().any(|v| !v.is_str()) {
        return Err(Error::usage("values in `[source.query]` must be in quotes"));
    }
    check_warehouse(&raw.warehouse)?;
    let mode = match raw.warehouse.mode.as_str() {
        "replace" => manifest::Mode::Replace,
        "append" => manifest::Mode::Append,
        other => {
            return Err(
                Error::usage(format!("`warehouse.mode` `{other}` is unknown")).hint("one of replace, append")
            );
        }
    };
    if raw.time.late_days > 0 && mode == manifest::Mode::Replace {
        return Err(Error::usage("`time.late_days` needs `warehouse.mode = \"append\"`")
            .hint("a few late records must not replace the day that they belong to"));
    }
    for (key, zero) in [
        ("promote.days", raw.promote.days == 0),
        ("limits.memory_mib", raw.limits.memory_mib == 0),
        ("limits.batch_rows", raw.limits.batch_rows == 0),
        ("limits.record_mib_max", raw.limits.record_mib_max == 0),
        ("limits.tag_kib_max", raw.limits.tag_kib_max == 0),
        ("limits.attributes_max", raw.limits.attributes_max == 0),
        ("limits.body_mib_max", raw.limits.body_mib_max == 0),
        ("limits.unpack_ratio_max", raw.limits.unpack_ratio_max == 0),
        ("limits.depth_max", raw.limits.depth_max == 0),
        ("limits.attempts", raw.limits.attempts == 0),
        ("stage.file_mib_max", raw.stage.file_mib_max == 0),
        ("stage.row_group_rows", raw.stage.row_group_rows == 0),
        ("source.connect_timeout_seconds", raw.source.connect_timeout_seconds == 0),
        ("source.headers_timeout_seconds", raw.source.headers_timeout_seconds == 0),
        ("source.idle_timeout_seconds", raw.source.idle_timeout_seconds == 0),
    ] {
        if zero {
            return Err(Error::usage(format!("`{key}` must be at least 1")));
        }
    }
    let mut source = raw.source;
    if source.url.is_empty() {
        return Err(Error::usage("`source.url` is not set").hint("add `--set source.url=http://…`"));
    }
    source.url = absolute_url("source.url", &source.url)?;
    let mut stage = raw.stage;
    stage.url = stage_url(&stage.url)?;
    Ok(Pipeline {
        name: raw.name,
        columns,
        source,
        format,
        time_column: raw.time.column,
        epoch,
        late_days: i64::from(raw.time.late_days),
        mode,
        drop_appended: false,
        gzip,
        stage_sql,
        allow_filter: raw.transform.allow_filter,
        stage,
        warehouse: raw.warehouse,
        promote_sql,
        promote_days: raw.promote.days,
        gateway: raw.gateway,
        limits: raw.limits,
        shown,
    })
}

#[cfg(test)]
mod tests;
