//! Datasets: insert, get, list, patch, update.

use serde_json::{Map, Value, json};

use super::catalog::{Catalog, DATASET_REST, DatasetDocument, apply_rest};
use super::names::{DatasetId, ProjectId};
use super::tables::{check_etag, slice};
use super::wire::{Arguments, Failure, Outcome, Reply, integer, object, text};

type Body = Map<String, Value>;

pub(super) fn insert(catalog: &Catalog, project: ProjectId, body: &Body) -> Outcome<Reply> {
    let id = object(body, "datasetReference")
        .and_then(|r| text(r, "datasetId"))
        .ok_or_else(|| Failure::invalid("Required parameter is missing: datasetReference.datasetId"))?;
    let id = DatasetId::parse(id)?;
    if id.as_str().starts_with('_') {
        return Err(Failure::invalid(format!("Invalid dataset ID \"{id}\": the underscore is reserved")));
    }
    let location = text(body, "location").filter(|l| !l.is_empty()).unwrap_or("US").to_owned();
    let mut document = DatasetDocument::new(project, id, location);
    apply(&mut document, body)?;
    Ok(Reply::Json(catalog.insert_dataset(document)?.document().resource()))
}

pub(super) fn list(catalog: &Catalog, project: &ProjectId, arguments: &Arguments) -> Outcome<Reply> {
    let mut found: Vec<DatasetDocument> = catalog.datasets(project).iter().map(|d| d.document()).collect();
    found.retain(|d| arguments.flag("all") || !d.is_hidden());
    let labels = arguments.get("filter").map(parse_filter).transpose()?.unwrap_or_default();
    found.retain(|d| labels.iter().all(|(key, value)| has_label(d, key, value.as_deref())));
    let (range, next) = slice(found.len(), arguments)?;
    let mut list = json!({"kind": "bigquery#datasetList"});
    let datasets: Vec<Value> = found[range]
        .iter()
        .map(|d| {
            let resource = d.resource();
            let mut item = json!({"kind": "bigquery#dataset"});
            for member in ["id", "datasetReference", "location", "labels", "friendlyName", "type"] {
                if let Some(value) = resource.get(member) {
                    item[member] = value.clone();
                }
            }
            item
        })
        .collect();
    list["datasets"] = Value::from(datasets);
    if let Some(next) = next {
        list["nextPageToken"] = Value::from(next);
    }
    Ok(Reply::Json(list))
}

/// PATCH; with `replace` PUT, which clears what is not sent.
pub(super) fn change(
    catalog: &Catalog,
    project: &ProjectId,
    id: &DatasetId,
    body: &Body,
    if_match: Option<&str>,
    replace: bool,
) -> Outcome<Reply> {
    let dataset = catalog.dataset(project, id)?;
    dataset.change(|document| {
        check_etag(if_match, &document.etag())?;
        if let Some(location) = text(body, "location")
            && !location.eq_ignore_ascii_case(&document.location)
        {
            return Err(Failure::invalid("Dataset location cannot be changed"));
        }
        if replace {
            DATASET_REST.iter().for_each(|member| drop(document.rest.shift_remove(*member)));
        }
        apply(document, body)
    })?;
    Ok(Reply::Json(dataset.document().resource()))
}

/// What a client sends, as it is kept. Numbers become text, as all 64-bit numbers are.
fn apply(document: &mut DatasetDocument, body: &Body) -> Outcome<()> {
    const NUMBERS: [&str; 3] =
        ["defaultTableExpirationMs", "defaultPartitionExpirationMs", "maxTimeTravelHours"];
    for member in ["linkedDatasetSource", "externalDatasetReference", "externalCatalogDatasetOptions"] {
        if body.get(member).is_some_and(|v| !v.is_null()) {
            return Err(Failure::not_implemented(format!("datasets with {member}")));
        }
    }
    apply_rest(&mut document.rest, body, &DATASET_REST);
    for member in NUMBERS {
        if let Some(number) = integer(&document.rest, member)? {
            document.rest.insert(member.to_owned(), json!(number.to_string()));
        }
    }
    const HOUR_MS: i64 = 3_600_000;
    let expiration = integer(&document.rest, "defaultTableExpirationMs")?.unwrap_or(0);
    if expiration != 0 && expiration < HOUR_MS {
        return Err(Failure::invalid(format!(
            "Invalid default table expiration time {expiration}: it must be at least one hour"
        )));
    }
    let hours = integer(&document.rest, "maxTimeTravelHours")?.unwrap_or(168);
    if !(48..=168).contains(&hours) || hours % 24 != 0 {
        return Err(Failure::invalid(format!(
            "Invalid max time travel hours {hours}: it must be a multiple of 24 between 48 and 168"
        )));
    }
    let sensitive = body.get("isCaseInsensitive").is_none_or(|flag| flag.is_null() || flag.is_boolean());
    if !sensitive {
        return Err(Failure::invalid("Invalid value for isCaseInsensitive"));
    }
    Ok(())
}

/// `labels.key:value` and `labels.key`, several with spaces between: all must hold.
fn parse_filter(filter: &str) -> Outcome<Vec<(String, Option<String>)>> {
    let invalid = || Failure::invalid(format!("Invalid filter: {filter}. Expected labels.key:value"));
    let term = |term: &str| {
        let term = term.strip_prefix("labels.").filter(|term| !term.is_empty()).ok_or_else(invalid)?;
        Ok(match term.split_once(':') {
            None => (term.to_owned(), None),
            Some((key, "*")) => (key.to_owned(), None),
            Some((key, value)) => (key.to_owned(), Some(value.trim_matches('"').to_owned())),
        })
    };
    filter.split_whitespace().filter(|word| !word.eq_ignore_ascii_case("AND")).map(term).collect()
}

fn has_label(document: &DatasetDocument, key: &str, value: Option<&str>) -> bool {
    let found = document.rest.get("labels").and_then(|labels| labels.get(key)).and_then(Value::as_str);
    found.is_some_and(|found| value.is_none_or(|value| value == found))
}
