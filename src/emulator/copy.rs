//! Copy jobs: tables, partitions, the past of either, snapshots and clones. Rows are shared, not rewritten.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value, json};

use super::catalog::Catalog;
use super::destination::{Destination, Disposition, Target};
use super::disk::{OwnedFile, unique_name};
use super::fields::arrow_schema;
use super::files::{RowsWriter, Rule, read_part};
use super::names::{Address, ProjectId};
use super::partitions::{Partition, Partitioning};
use super::versions::{Definition, Part, Version};
use super::wire::{Failure, Outcome, integer, now_ms, object, text};

const SOURCES_MAX: usize = 1200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Copy,
    /// Read-only, and the type of the new table says so.
    Snapshot,
    Clone,
    /// From a snapshot to a table.
    Restore,
}

/// `configuration.copy`, checked.
#[derive(Debug, Clone)]
pub(super) struct CopySpec {
    pub sources: Vec<Address>,
    pub destination: Destination,
    operation: Operation,
    expiration_ms: Option<i64>,
}

impl CopySpec {
    pub(super) fn parse(copy: &Map<String, Value>, project: &ProjectId) -> Outcome<Self> {
        let missing = |name: &str| {
            Failure::invalid(format!("Required parameter is missing: configuration.copy.{name}"))
        };
        let reference = |value: &Value| {
            let reference = value.as_object().ok_or_else(|| missing("sourceTables[].tableId"))?;
            Address::from_reference(reference, project)
        };
        let many = copy.get("sourceTables").and_then(Value::as_array).filter(|list| !list.is_empty());
        let sources = match (object(copy, "sourceTable"), many) {
            (Some(one), None) => vec![Address::from_reference(one, project)?],
            (None, Some(many)) => many.iter().map(reference).collect::<Outcome<Vec<_>>>()?,
            (None, None) => return Err(missing("sourceTable")),
            (Some(_), Some(_)) => {
                return Err(Failure::invalid("Only one of sourceTable and sourceTables can be specified."));
            }
        };
        if sources.len() > SOURCES_MAX {
            let given = sources.len();
            return Err(Failure::invalid(format!(
                "Too many sources provided: {given}. Limit is {SOURCES_MAX}."
            )));
        }
        let operation = match text(copy, "operationType") {
            None | Some("" | "OPERATION_TYPE_UNSPECIFIED" | "COPY") => Operation::Copy,
            Some("SNAPSHOT") => Operation::Snapshot,
            Some("CLONE") => Operation::Clone,
            Some("RESTORE") => Operation::Restore,
            Some(other) => return Err(Failure::invalid(format!("Invalid value for operationType: {other}"))),
        };
        let reference = object(copy, "destinationTable").ok_or_else(|| missing("destinationTable"))?;
        let destination = Destination::parse(copy, reference, project, Disposition::Empty)?;
        if operation != Operation::Copy && sources.len() > 1 {
            return Err(Failure::invalid("Snapshots, clones and restored tables have one source table"));
        }
        let decorated =
            destination.address.partition.is_some() || sources.iter().any(|s| s.partition.is_some());
        if operation != Operation::Copy && decorated {
            return Err(Failure::invalid("Snapshots, clones and restored tables are of whole tables"));
        }
        let expiration_ms = match copy.get("destinationExpirationTime").filter(|v| !v.is_null()) {
            None => None,
            Some(Value::String(time)) if DateTime::parse_from_rfc3339(time).is_ok() => {
                DateTime::parse_from_rfc3339(time).ok().map(|time| time.timestamp_millis())
            }
            Some(_) => integer(copy, "destinationExpirationTime")?,
        };
        if let Some(ms) = expiration_ms.filter(|ms| *ms <= now_ms()) {
            return Err(Failure::invalid(format!(
                "Invalid destination expiration time {ms}: it is in the past"
            )));
        }
        Ok(CopySpec { sources, destination, operation, expiration_ms })
    }
}

/// Files that are ready to become part of the destination.
#[derive(Debug)]
pub(super) struct Copied {
    pub destination: Destination,
    pub target: Arc<Target>,
    pub parts: Vec<Part>,
}

impl Copied {
    /// `statistics.copy`.
    pub(super) fn statistics(&self) -> Value {
        let rows: u64 = self.parts.iter().map(|p| p.rows).sum();
        let bytes: u64 = self.parts.iter().map(Part::logical_bytes).sum();
        json!({"copy": {"copiedRows": rows.to_string(), "copiedLogicalBytes": bytes.to_string()}})
    }
}

/// Links or rewrites the rows of every source. Nothing is visible until the parts are committed.
pub(super) fn run(spec: &CopySpec, catalog: &Catalog, cancelled: impl Fn() -> bool) -> Outcome<Copied> {
    let mut sources = Vec::with_capacity(spec.sources.len());
    for address in &spec.sources {
        let version = catalog.version(address)?;
        check_kind(&version, spec.operation)?;
        sources.push((address, version));
    }
    let Some((first_address, first)) = sources.first() else {
        return Err(Failure::invalid("Required parameter is missing: configuration.copy.sourceTable"));
    };
    for (_, other) in &sources {
        check_same(&first.definition, &other.definition)?;
    }
    let destination = destined(spec, catalog, first_address, &first.definition)?;
    let name = &destination.address.name;
    if spec.operation == Operation::Snapshot && catalog.table(name).is_ok() {
        return Err(Failure::duplicate(format!("Already Exists: Table {}", name.legacy())));
    }
    let target = destination.target(catalog, &first.definition.fields, true)?;
    let mut parts = Vec::new();
    for (address, version) in &sources {
        let partition = version.resolve(address.partition)?;
        for part in version.parts_of(partition) {
            if cancelled() {
                return Err(Failure::stopped());
            }
            parts.extend(take_part(part, &version.definition, &target)?);
        }
    }
    Ok(Copied { destination, target: Arc::new(target), parts })
}

fn check_kind(version: &Version, operation: Operation) -> Outcome<()> {
    let kind = version.definition.kind();
    let wanted = if operation == Operation::Restore { "SNAPSHOT" } else { "TABLE" };
    if kind == wanted {
        return Ok(());
    }
    let name = version.definition.name.legacy();
    Err(Failure::invalid(format!(
        "{name} is not allowed for this operation because it is currently a {kind}."
    )))
}

fn check_same(one: &Definition, other: &Definition) -> Outcome<()> {
    let same_division = match (&one.partitioning, &other.partitioning) {
        (None, None) => true,
        (Some(one), Some(other)) => one.divides_like(other),
        _ => false,
    };
    if one.fields == other.fields && same_division {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "Source tables of a copy must have identical schemas and partitioning: {} and {} differ",
        one.name.legacy(),
        other.name.legacy()
    )))
}

/// The destination with what a new table takes over from its source.
fn destined(
    spec: &CopySpec,
    catalog: &Catalog,
    address: &Address,
    source: &Definition,
) -> Outcome<Destination> {
    const KEPT: [&str; 4] = ["clustering", "tableConstraints", "defaultCollation", "defaultRoundingMode"];
    let mut rest = Map::new();
    for member in KEPT {
        if let Some(value) = source.rest.get(member) {
            rest.insert(member.to_owned(), value.clone());
        }
    }
    let time = || {
        let ms = address.time.map_or_else(now_ms, |time| time.milliseconds().unwrap_or(source.modified_ms));
        DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
    };
    let base = source.name.reference();
    match spec.operation {
        Operation::Snapshot => {
            let value = json!({"baseTableReference": base, "snapshotTime": time()});
            rest.insert("snapshotDefinition".into(), value);
        }
        Operation::Clone => {
            let value = json!({"baseTableReference": base, "cloneTime": time()});
            rest.insert("cloneDefinition".into(), value);
        }
        Operation::Copy | Operation::Restore => {}
    }
    // What is copied from the past comes without its partitioning, as BigQuery documents; a destination that
    // exists keeps its own.
    let of_the_past = address.time.is_some() && spec.operation == Operation::Copy;
    let exists = catalog.table(&spec.destination.address.name).is_ok();
    let one_partition = address.partition.is_some() && exists;
    let partitioning = source.partitioning.clone().filter(|_| !of_the_past && !one_partition);
    if source.partitioning.is_some()
        && address.partition.is_none()
        && spec.destination.address.partition.is_some()
    {
        return Err(Failure::invalid(format!(
            "Cannot copy all partitions of table {} into one partition",
            source.name.legacy()
        )));
    }
    let require_filter = source.require_filter && partitioning.is_some();
    Ok(spec.destination.clone().like(partitioning, require_filter, rest, spec.expiration_ms))
}

/// A part of a source as a part of the destination.
fn take_part(part: &Part, source: &Definition, target: &Target) -> Outcome<Vec<Part>> {
    let same_division = match (&source.partitioning, &target.partitioning) {
        (Some(source), Some(target)) => source.divides_like(target),
        _ => false,
    };
    let partition = match (&target.partitioning, target.rule) {
        (None, _) => Partition::Whole,
        // An ingestion-time partition takes any rows.
        (Some(Partitioning { field: None, .. }), Rule::Fixed(partition)) if target.decorated => partition,
        (Some(_), Rule::Only(_, _, wanted)) if part.partition != wanted => return rewrite(part, target),
        (Some(_), _) if same_division => part.partition,
        (Some(wanted), _) => {
            return Err(Failure::invalid(format!(
                "Incompatible table partitioning specification. Destination table exists with partitioning \
                 specification {wanted}, but transfer target partitioning specification is {}",
                source.partitioning.as_ref().map_or("none".to_owned(), Partitioning::to_string)
            )));
        }
    };
    let file = Arc::new(link(part.file.path(), &target.dir)?);
    Ok(vec![Part::new(partition, part.rows, part.column_bytes.clone(), file)])
}

/// For rows whose own partition does not tell that they belong to the destination's.
fn rewrite(part: &Part, target: &Target) -> Outcome<Vec<Part>> {
    let schema = arrow_schema(&target.fields);
    let mut writer = RowsWriter::new(&target.dir, Arc::clone(&schema), target.rule);
    for batch in read_part(part, &schema, 0, None)? {
        writer.write(&batch?)?;
    }
    writer.finish()
}

/// The same file under another name, so that each table can delete its own; a copy where links cannot be made.
pub(super) fn link(from: &Path, dir: &Path) -> Outcome<OwnedFile> {
    let draft = OwnedFile::draft(dir.join(format!("{}.parquet", unique_name())));
    if std::fs::hard_link(from, draft.path()).is_err() {
        std::fs::copy(from, draft.path())?;
        std::fs::File::open(draft.path())?.sync_all()?;
    }
    Ok(draft)
}
