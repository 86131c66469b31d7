//! `configuration.load`, checked before the job is made.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::avro::AvroOptions;
use super::csv::CsvOptions;
use super::json::JsonOptions;
use super::parquet::ParquetOptions;
use super::text::Encoding;
use crate::emulator::destination::{Destination, Disposition};
use crate::emulator::disk::OwnedFile;
use crate::emulator::fields::{self, Field};
use crate::emulator::names::ProjectId;
use crate::emulator::sources;
use crate::emulator::wire::{Failure, Outcome, integer, object, text};

const SOURCES_MAX: usize = 10_000;

#[derive(Debug, Clone)]
pub(super) enum Format {
    Parquet(ParquetOptions),
    Json(JsonOptions),
    Csv(CsvOptions),
    Avro(AvroOptions),
}

impl Format {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Format::Parquet(_) => "Parquet",
            Format::Json(_) => "JSON",
            Format::Csv(_) => "CSV",
            Format::Avro(_) => "Avro",
        }
    }
}

#[derive(Debug, Clone)]
pub(in crate::emulator) struct LoadSpec {
    pub destination: Destination,
    pub(super) uris: Vec<String>,
    /// Instead of URIs: a file that lives as long as the job.
    pub(super) uploaded: Option<Arc<OwnedFile>>,
    pub(super) schema: Option<Vec<Field>>,
    pub(super) format: Format,
    pub(super) autodetect: bool,
    pub(super) bad_rows_max: u64,
    /// The file whose schema counts, instead of the last one's.
    pub(super) reference: Option<String>,
}

impl LoadSpec {
    /// `uploaded` is the file that came with the request, if one did.
    pub(in crate::emulator) fn parse(
        load: &Map<String, Value>,
        project: &ProjectId,
        uploaded: Option<Arc<OwnedFile>>,
    ) -> Outcome<Self> {
        let required = |name: &str| {
            Failure::invalid(format!("Required parameter is missing: configuration.load.{name}"))
        };
        let reference = object(load, "destinationTable").ok_or_else(|| required("destinationTable"))?;
        let destination = Destination::parse(load, reference, project, Disposition::Append)?;
        let uris = texts(load, "sourceUris");
        match (&uploaded, uris.len()) {
            (None, 0) => return Err(required("sourceUris")),
            (Some(_), 1..) => {
                return Err(Failure::invalid("sourceUris and an uploaded file exclude each other"));
            }
            (None, count) if count > SOURCES_MAX => {
                return Err(Failure::invalid(format!("Too many sources provided: {count}. Limit is 10000.")));
            }
            _ => {}
        }
        for uri in &uris {
            sources::check(uri)?;
        }
        refuse_unsupported(load)?;
        let schema = object(load, "schema").map(fields::parse_schema).transpose()?.filter(|s| !s.is_empty());
        let autodetect = flag(load, "autodetect");
        let format = match text(load, "sourceFormat").filter(|format| !format.is_empty()) {
            None | Some("CSV") => Format::Csv(CsvOptions::parse(load, autodetect)?),
            Some("NEWLINE_DELIMITED_JSON") => Format::Json(JsonOptions::parse(load)?),
            Some("PARQUET") => Format::Parquet(ParquetOptions::parse(load)?),
            Some("AVRO") => Format::Avro(AvroOptions::parse(load)?),
            Some(other @ ("ORC" | "DATASTORE_BACKUP")) => {
                return Err(Failure::not_implemented(format!("load jobs with sourceFormat {other}")));
            }
            Some(other) => {
                return Err(Failure::invalid(format!("Invalid value for sourceFormat: {other}")));
            }
        };
        let bad_rows_max = integer(load, "maxBadRecords")?.map_or(Ok(0), u64::try_from);
        let bad_rows_max =
            bad_rows_max.map_err(|_| Failure::invalid("maxBadRecords must not be negative"))?;
        let reference = text(load, "referenceFileSchemaUri").filter(|uri| !uri.is_empty());
        if let Some(uri) = reference {
            sources::check(uri)?;
            if matches!(format, Format::Json(_) | Format::Csv(_)) {
                return Err(Failure::invalid("referenceFileSchemaUri is for AVRO, PARQUET and ORC files"));
            }
        }
        Ok(LoadSpec {
            reference: reference.map(str::to_owned),
            destination,
            uris,
            uploaded,
            schema,
            format,
            autodetect,
            bad_rows_max,
        })
    }

    /// Whether a file itself says what its columns are.
    pub(super) fn has_own_schema(&self) -> bool {
        matches!(self.format, Format::Parquet(_) | Format::Avro(_)) || self.autodetect
    }
}

/// What would change the result and cannot be done.
fn refuse_unsupported(load: &Map<String, Value>) -> Outcome<()> {
    for member in [
        "hivePartitioningOptions",
        "fileSetSpecType",
        "dateFormat",
        "datetimeFormat",
        "timeFormat",
        "timestampFormat",
        "schemaInline",
        "copyFilesOnly",
    ] {
        let default = match load.get(member) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty() || text == "FILE_SET_SPEC_TYPE_FILE_SYSTEM_MATCH",
            Some(Value::Bool(flag)) => !flag,
            Some(_) => false,
        };
        if !default {
            return Err(Failure::not_implemented(member));
        }
    }
    let precisions = load.get("timestampTargetPrecision").and_then(Value::as_array);
    if precisions.is_some_and(|given| given.iter().any(|digits| *digits != 6)) {
        return Err(Failure::invalid("Timestamps of picosecond precision are not supported"));
    }
    match text(load, "timeZone").unwrap_or_default() {
        "" | "UTC" | "Etc/UTC" => {}
        other => return Err(Failure::not_implemented(format!("timeZone {other}"))),
    }
    match text(load, "sourceColumnMatch").unwrap_or_default() {
        "" | "SOURCE_COLUMN_MATCH_UNSPECIFIED" | "POSITION" => Ok(()),
        other => Err(Failure::not_implemented(format!("sourceColumnMatch {other}"))),
    }
}

pub(super) fn flag(load: &Map<String, Value>, name: &str) -> bool {
    load.get(name).and_then(Value::as_bool).unwrap_or(false)
}

pub(super) fn texts(load: &Map<String, Value>, name: &str) -> Vec<String> {
    let items = load.get(name).and_then(Value::as_array);
    items.map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
}

/// `encoding`; UTF-8 when it is absent.
pub(super) fn encoding(load: &Map<String, Value>) -> Outcome<Encoding> {
    let name = text(load, "encoding").unwrap_or_default();
    Encoding::parse(name).ok_or_else(|| Failure::invalid(format!("Invalid value for encoding: {name}")))
}
