//! Tables: insert, get, list, patch, update, delete.

use serde_json::{Map, Value, json};

use super::catalog::{Catalog, apply_rest};
use super::fields::{self, Field, Mode};
use super::files::same_name;
use super::jobs::Jobs;
use super::names::{Address, DatasetId, ProjectId, TableName};
use super::partitions::Partitioning;
use super::versions::{Definition, Part, PartitionSummary, Version};
use super::wire::{Arguments, Failure, Outcome, Reply, integer, now_ms, object, text};

type Body = Map<String, Value>;

pub(super) fn insert_table(
    catalog: &Catalog,
    project: &ProjectId,
    dataset: &str,
    body: &Body,
) -> Outcome<Reply> {
    let reference = object(body, "tableReference")
        .ok_or_else(|| Failure::invalid("Required parameter is missing: tableReference"))?;
    let id = text(reference, "tableId")
        .ok_or_else(|| Failure::invalid("Required parameter is missing: tableReference.tableId"))?;
    let address = Address::parse(project.as_str(), dataset, id)?;
    if address.partition.is_some() || address.time.is_some() {
        return Err(Failure::invalid(format!("Invalid table ID \"{id}\": a decorator names no new table")));
    }
    let location = catalog.dataset(&address.name.project, &address.name.dataset)?.document().location;
    for member in ["materializedView", "externalDataConfiguration", "cloneDefinition"] {
        if body.get(member).is_some_and(|v| !v.is_null()) {
            return Err(Failure::not_implemented(format!("tables with {member}")));
        }
    }
    let mut definition = defined(address.name.clone(), body)?;
    if let Some(view) = body.get("view").filter(|v| !v.is_null()) {
        definition.rest.insert("view".into(), view.clone());
    }
    let table = catalog.create_table(Version::empty(definition))?;
    Ok(Reply::Json(resource(&table.current(), &address, &location)))
}

/// What a table document says about a table to make.
pub(super) fn defined(name: TableName, body: &Body) -> Outcome<Definition> {
    let mut definition = Definition::new(name);
    if let Some(schema) = object(body, "schema") {
        definition.fields = fields::parse_schema(schema)?;
    }
    apply_table(&mut definition, body)?;
    definition.check_partitioning()?;
    Ok(definition)
}

pub(super) fn get_table(catalog: &Catalog, address: &Address) -> Outcome<Reply> {
    let location = catalog.dataset(&address.name.project, &address.name.dataset)?.document().location;
    let version = catalog.version(address)?;
    let partition = version.resolve(address.partition)?;
    Ok(Reply::Json(resource(&version, &Address { partition, ..address.clone() }, &location)))
}

/// The table of a table's partitions, whose rows legacy SQL reads.
pub(super) const PARTITIONS_SUMMARY: &str = "$__PARTITIONS_SUMMARY__";

const SUMMARY_COLUMNS: [(&str, &str); 6] = [
    ("project_id", "STRING"),
    ("dataset_id", "STRING"),
    ("table_id", "STRING"),
    ("partition_id", "STRING"),
    ("creation_time", "INTEGER"),
    ("last_modified_time", "INTEGER"),
];

/// Its rows, which Google's clients list.
pub(super) fn list_partitions_summary(
    catalog: &Catalog,
    address: &Address,
    arguments: &Arguments,
) -> Outcome<Reply> {
    let version = catalog.version(address)?;
    if version.definition.partitioning.is_none() {
        let name = address.name.legacy();
        return Err(Failure::invalid(format!("Table {name} is not partitioned")));
    }
    let wanted: Option<Vec<&str>> =
        arguments.get("selectedFields").map(|fields| fields.split(',').map(str::trim).collect());
    let found = version.partitions();
    let (range, next) = slice(found.len(), arguments)?;
    let row = |partition: &PartitionSummary| {
        let TableName { project, dataset, table } = &address.name;
        let values = [
            project.to_string(),
            dataset.to_string(),
            table.to_string(),
            partition.partition.to_string(),
            partition.created_ms.to_string(),
            partition.modified_ms.to_string(),
        ];
        let selected = SUMMARY_COLUMNS.iter().zip(values).filter(|((name, _), _)| {
            wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|w| w.eq_ignore_ascii_case(name)))
        });
        json!({"f": selected.map(|(_, value)| json!({"v": value})).collect::<Value>()})
    };
    let rows: Value = found[range].iter().map(row).collect();
    let mut list = json!({
        "kind": "bigquery#tableDataList", "etag": version.definition.etag(),
        "totalRows": found.len().to_string(), "rows": rows,
    });
    if let Some(next) = next {
        list["pageToken"] = json!(next);
    }
    Ok(Reply::Json(list))
}

pub(super) fn get_partitions_summary(catalog: &Catalog, address: &Address) -> Outcome<Reply> {
    let Reply::Json(mut resource) = get_table(catalog, address)? else { return Ok(Reply::NoContent) };
    let partitions = catalog.version(address)?.partitions().len();
    let column = |(name, kind): &(&str, &str)| json!({"name": name, "type": kind});
    resource["schema"] = json!({"fields": SUMMARY_COLUMNS.iter().map(column).collect::<Value>()});
    for member in ["id", "selfLink"] {
        resource[member] =
            json!(format!("{}{PARTITIONS_SUMMARY}", resource[member].as_str().unwrap_or_default()));
    }
    resource["tableReference"]["tableId"] = json!(format!("{}{PARTITIONS_SUMMARY}", address.name.table));
    resource["numRows"] = json!(partitions.to_string());
    Ok(Reply::Json(resource))
}

pub(super) fn list_tables(
    catalog: &Catalog,
    project: &ProjectId,
    dataset: &DatasetId,
    arguments: &Arguments,
) -> Outcome<Reply> {
    let dataset = catalog.dataset(project, dataset)?;
    let location = dataset.document().location;
    let found = dataset.tables();
    let (range, next) = slice(found.len(), arguments)?;
    let tables: Vec<Value> = found[range]
        .iter()
        .map(|table| {
            let version = table.current();
            let name = version.definition.name.clone();
            let resource = resource(&version, &Address { name, partition: None, time: None }, &location);
            let mut item = json!({"kind": "bigquery#table"});
            for member in [
                "id",
                "tableReference",
                "type",
                "friendlyName",
                "timePartitioning",
                "rangePartitioning",
                "requirePartitionFilter",
                "clustering",
                "creationTime",
                "expirationTime",
                "labels",
            ] {
                if let Some(value) = resource.get(member) {
                    item[member] = value.clone();
                }
            }
            item
        })
        .collect();
    let mut list = json!({
        "kind": "bigquery#tableList", "etag": dataset.document().etag(), "totalItems": found.len(), "tables": tables,
    });
    if let Some(next) = next {
        list["nextPageToken"] = Value::from(next);
    }
    Ok(Reply::Json(list))
}

pub(super) fn patch_table(
    catalog: &Catalog,
    address: &Address,
    body: &Body,
    if_match: Option<&str>,
) -> Outcome<Reply> {
    change_table(catalog, address, body, if_match, false)
}

/// PUT: what is not sent is cleared, except what a table cannot lose.
pub(super) fn update_table(
    catalog: &Catalog,
    address: &Address,
    body: &Body,
    if_match: Option<&str>,
) -> Outcome<Reply> {
    change_table(catalog, address, body, if_match, true)
}

fn change_table(
    catalog: &Catalog,
    address: &Address,
    body: &Body,
    if_match: Option<&str>,
    replace: bool,
) -> Outcome<Reply> {
    if address.partition.is_some() {
        return Err(Failure::invalid("Cannot change a partition: name the table"));
    }
    let address = &address.clone().present()?;
    catalog.table(&address.name)?.change(|version| {
        let definition = &mut version.definition;
        check_etag(if_match, &definition.etag())?;
        if let Some(view) = body.get("view").filter(|v| !v.is_null()) {
            if definition.view().is_none() {
                return Err(Failure::invalid("Cannot change a table into a view"));
            }
            definition.rest.insert("view".into(), view.clone());
            definition.fields.clear();
        }
        if let Some(schema) = object(body, "schema") {
            definition.fields = changed_schema(definition, fields::parse_schema(schema)?)?;
        }
        let before = definition.partitioning.clone();
        if replace {
            TABLE_REST.iter().for_each(|member| drop(definition.rest.shift_remove(*member)));
            definition.expiration_ms = None;
            definition.require_filter = false;
        }
        apply_table(definition, body)?;
        let same = match (&before, &definition.partitioning) {
            (None, None) => true,
            (Some(before), Some(after)) => before.divides_like(after),
            _ => false,
        };
        if !same {
            let name = definition.name.legacy();
            return Err(Failure::invalid(format!(
                "Cannot change partitioning/clustering spec for a table {name}"
            )));
        }
        definition.check_partitioning()
    })?;
    get_table(catalog, address)
}

pub(super) fn delete_table(
    catalog: &Catalog,
    jobs: &Jobs,
    address: &Address,
    if_match: Option<&str>,
) -> Outcome<Reply> {
    let address = &address.clone().present()?;
    let Some(partition) = address.partition else {
        catalog.delete_table(&address.name, |version| {
            check_etag(if_match, &version.definition.etag())?;
            jobs.attest(&version.commits)
        })?;
        return Ok(Reply::NoContent);
    };
    catalog.table(&address.name)?.change(|version| {
        check_etag(if_match, &version.definition.etag())?;
        let named = version.resolve(Some(partition))?;
        let before = version.parts.len();
        version.take_rows(named);
        if version.parts.len() == before {
            let name = version.definition.name.legacy();
            return Err(Failure::not_found(format!("Not found: Partition {name}${partition}")));
        }
        Ok(())
    })?;
    Ok(Reply::NoContent)
}

pub(super) fn check_etag(if_match: Option<&str>, etag: &str) -> Outcome<()> {
    match if_match {
        Some(wanted) if wanted != "*" && wanted.trim_matches('"') != etag => {
            Err(Failure::condition_not_met())
        }
        _ => Ok(()),
    }
}

/// Columns may be added as NULLABLE or REPEATED and relaxed from REQUIRED; nothing else. At any depth.
fn changed_schema(definition: &Definition, wanted: Vec<Field>) -> Outcome<Vec<Field>> {
    let name = definition.name.legacy();
    check_changed(&definition.fields, &wanted, "")
        .map_err(|what| Failure::invalid(format!("Provided Schema does not match Table {name}. {what}")))?;
    Ok(wanted)
}

fn check_changed(before: &[Field], wanted: &[Field], parent: &str) -> Result<(), String> {
    for old in before {
        let path = format!("{parent}{}", old.name);
        let Some(new) = wanted.iter().find(|f| same_name(&f.name, &old.name)) else {
            return Err(format!("Field {path} is missing in new schema"));
        };
        if new.kind != old.kind {
            let (from, to) = (old.kind.legacy(), new.kind.legacy());
            return Err(format!("Field {path} has changed type from {from} to {to}"));
        }
        if new.mode != old.mode && (old.mode, new.mode) != (Mode::Required, Mode::Nullable) {
            let (from, to) = (old.mode.name(), new.mode.name());
            return Err(format!("Field {path} has changed mode from {from} to {to}"));
        }
        check_changed(&old.fields, &new.fields, &format!("{path}."))?;
    }
    for new in wanted.iter().filter(|new| new.mode == Mode::Required) {
        if !before.iter().any(|f| same_name(&f.name, &new.name)) {
            return Err(format!(
                "Cannot add required fields to an existing schema. (field: {parent}{})",
                new.name
            ));
        }
    }
    Ok(())
}

/// What of a table's document a client may set and is only handed back.
const TABLE_REST: [&str; 10] = [
    "friendlyName",
    "description",
    "labels",
    "resourceTags",
    "clustering",
    "maxStaleness",
    "encryptionConfiguration",
    "tableConstraints",
    "defaultCollation",
    "defaultRoundingMode",
];

/// The members that a client may set, at creation or later; an explicit null clears.
pub(super) fn apply_table(definition: &mut Definition, body: &Body) -> Outcome<()> {
    apply_rest(&mut definition.rest, body, &TABLE_REST);
    check_columns(definition)?;
    if body.contains_key("expirationTime") {
        definition.expiration_ms = integer(body, "expirationTime")?.filter(|ms| *ms > 0);
        if let Some(ms) = definition.expiration_ms.filter(|ms| *ms <= now_ms()) {
            return Err(Failure::invalid(format!(
                "Invalid value for expirationTime: {ms} is not in the future"
            )));
        }
    }
    if let Some(partitioning) = Partitioning::parse(body)? {
        definition.partitioning = Some(partitioning);
        let nested = object(body, "timePartitioning").and_then(|d| d.get("requirePartitionFilter"));
        if let Some(required) = nested.and_then(Value::as_bool) {
            definition.require_filter = required;
        }
    }
    if let Some(required) = body.get("requirePartitionFilter") {
        definition.require_filter = required.as_bool().unwrap_or(false);
    }
    if definition.require_filter && definition.partitioning.is_none() {
        return Err(Failure::invalid("require_partition_filter is only supported for partitioned tables"));
    }
    Ok(())
}

/// Clustering and keys name columns that there are.
fn check_columns(definition: &Definition) -> Outcome<()> {
    let known = |name: &str| definition.fields.iter().any(|f| same_name(&f.name, name));
    let names = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if let Some(clustering) = definition.rest.get("clustering") {
        let fields = names(clustering.get("fields"));
        if fields.len() > 4 {
            return Err(Failure::invalid("Table cannot be clustered by more than 4 fields."));
        }
        // A clustered table may still wait for the schema that a load brings.
        let missing = fields.iter().find(|name| !definition.fields.is_empty() && !known(name));
        if let Some(name) = missing {
            return Err(Failure::invalid(format!(
                "The field specified for clustering cannot be found in the schema. Invalid field: {name}."
            )));
        }
    }
    let key = definition.rest.get("tableConstraints").and_then(|c| c.get("primaryKey"));
    match names(key.and_then(|key| key.get("columns"))).iter().find(|name| !known(name)) {
        Some(name) => Err(Failure::invalid(format!("Primary key column not found: {name}"))),
        None => Ok(()),
    }
}

pub(super) fn resource(version: &Version, address: &Address, location: &str) -> Value {
    let (definition, partition) = (&version.definition, address.partition);
    let name = &definition.name;
    let rows: u64 = version.parts_of(partition).map(|part| part.rows).sum();
    let bytes: u64 = version.parts_of(partition).map(Part::logical_bytes).sum();
    let decorator = address.decorator();
    let written = partition.and_then(|_| version.parts_of(partition).map(|p| p.written_ms).max());
    let modified_ms = written.unwrap_or(definition.modified_ms);
    let mut reference = name.reference();
    reference["tableId"] = json!(format!("{}{decorator}", name.table));
    let mut resource = json!({
        "kind": "bigquery#table",
        "etag": definition.etag(),
        "id": format!("{}{decorator}", name.legacy()),
        "selfLink": format!(
            "https://bigquery.googleapis.com/bigquery/v2/projects/{}/datasets/{}/tables/{}{decorator}",
            name.project, name.dataset, name.table
        ),
        "tableReference": reference,
        "schema": {"fields": fields::documents(&definition.fields)},
        "numRows": rows.to_string(),
        "numBytes": bytes.to_string(),
        "numLongTermBytes": "0",
        "numTotalLogicalBytes": bytes.to_string(),
        "creationTime": definition.created_ms.to_string(),
        "lastModifiedTime": modified_ms.to_string(),
        "type": definition.kind(),
        "location": location,
    });
    if let Some(partitioning) = &definition.partitioning {
        let (member, document) = partitioning.document();
        resource[member] = document;
        resource["requirePartitionFilter"] = json!(definition.require_filter);
        if definition.require_filter && member == "timePartitioning" {
            resource[member]["requirePartitionFilter"] = json!(true);
        }
    }
    if let Some(ms) = definition.expiration_ms {
        resource["expirationTime"] = json!(ms.to_string());
    }
    for (member, value) in &definition.rest {
        resource[member] = value.clone();
    }
    resource
}

/// maxResults and pageToken over a list of `total` things.
pub(super) fn slice(
    total: usize,
    arguments: &Arguments,
) -> Outcome<(std::ops::Range<usize>, Option<String>)> {
    let start = match arguments.get("pageToken") {
        None => 0,
        Some(token) => token.parse::<usize>().map_err(|_| Failure::invalid("Invalid value for pageToken"))?,
    };
    let start = start.min(total);
    let max = arguments.number("maxResults")?.unwrap_or(1000).clamp(1, 1000);
    let end = total.min(start + usize::try_from(max).unwrap_or(1000));
    Ok((start..end, (end < total).then(|| end.to_string())))
}
