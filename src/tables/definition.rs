//! What a table is to be: columns, layout, expiration, description and labels.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::schema;
use super::words::{clustering, partitioning, type_name};
use crate::bigquery::Address;
use crate::config::Pipeline;
use crate::error::{Error, Result};

/// Members of a table's document that a table can be created with, and that say what it is.
const LAYOUT: [&str; 3] = ["timePartitioning", "rangePartitioning", "clustering"];
/// Those that can be set later, too.
const SETTINGS: [&str; 6] = [
    "requirePartitionFilter",
    "expirationTime",
    "description",
    "friendlyName",
    "labels",
    "encryptionConfiguration",
];

/// Members of a table's document, without what the service adds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definition(Map<String, Value>);

impl Definition {
    /// That of a table that is there, or was.
    pub fn of(document: &Value) -> Definition {
        let mut members = Map::new();
        for member in ["schema", "defaultCollation"].iter().chain(&LAYOUT).chain(&SETTINGS) {
            if let Some(value) = document.get(*member).filter(|value| !value.is_null()) {
                members.insert((*member).to_owned(), value.clone());
            }
        }
        Definition(members)
    }

    /// That of a pipeline's staging table.
    pub fn of_staging(pipeline: &Pipeline) -> Definition {
        let mut definition = Definition::default();
        definition.set("schema", json!({ "fields": schema::of_columns(&pipeline.columns) }));
        definition.set("timePartitioning", json!({ "type": "DAY" }));
        definition.set("requirePartitionFilter", json!(true));
        definition
    }

    pub fn set(&mut self, member: &str, value: Value) {
        self.0.insert(member.to_owned(), value);
    }

    pub fn get(&self, member: &str) -> &Value {
        self.0.get(member).unwrap_or(&Value::Null)
    }

    pub fn remove(&mut self, member: &str) -> Option<Value> {
        self.0.remove(member)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lays what `other` says over this.
    pub fn overlay(&mut self, other: Definition) {
        self.0.extend(other.0);
    }

    /// As members of a table's document.
    pub fn members(&self) -> Value {
        Value::Object(self.0.clone())
    }

    pub fn fields(&self) -> &Value {
        &self.get("schema")["fields"]
    }

    /// The document that creates it under this name.
    pub fn document(&self, project: &str, table: &Address) -> Value {
        let mut document = self.members();
        document["tableReference"] = json!({
            "projectId": table.project.as_deref().unwrap_or(project),
            "datasetId": table.dataset,
            "tableId": table.table,
        });
        document
    }

    /// BigQuery's rules for layouts, so that a mistake is named before anything is done.
    pub fn check(&self) -> Result<()> {
        let time = self.get("timePartitioning");
        let range = self.get("rangePartitioning");
        let is_partitioned = !time.is_null() || !range.is_null();
        if self.get("requirePartitionFilter") == true && !is_partitioned {
            return Err(Error::usage("a filter can only be required of a partitioned table")
                .hint("add `--partition-by day`, or `--partition-by day:COLUMN`"));
        }
        if let Some(column) = time["field"].as_str() {
            let kinds: &[&str] = match time["type"].as_str() {
                Some("HOUR") => &["TIMESTAMP", "DATETIME"],
                _ => &["TIMESTAMP", "DATETIME", "DATE"],
            };
            self.check_column("partition by", column, kinds)?;
        }
        if let Some(column) = range["field"].as_str() {
            self.check_column("partition by", column, &["INT64"])?;
        }
        let members = self.members();
        let columns = clustering(&members);
        if columns.len() > 4 {
            return Err(Error::usage(format!("{} columns to cluster by are more than 4", columns.len())));
        }
        for (at, column) in columns.iter().enumerate() {
            if columns[..at].iter().any(|earlier| earlier.eq_ignore_ascii_case(column)) {
                return Err(Error::usage(format!("`{column}` is there twice to cluster by")));
            }
            const KINDS: [&str; 10] = [
                "STRING",
                "INT64",
                "NUMERIC",
                "BIGNUMERIC",
                "BOOL",
                "DATE",
                "DATETIME",
                "TIMESTAMP",
                "GEOGRAPHY",
                "RANGE",
            ];
            self.check_column("cluster by", column, &KINDS)?;
        }
        Ok(())
    }

    fn check_column(&self, verb: &str, column: &str, kinds: &[&str]) -> Result<()> {
        let fields = self.fields().as_array().map(Vec::as_slice).unwrap_or_default();
        let name = |field: &Value| field["name"].as_str().unwrap_or_default().to_owned();
        let Some(field) = fields.iter().find(|field| name(field).eq_ignore_ascii_case(column)) else {
            let names: Vec<_> = fields.iter().map(|field| format!("`{}`", name(field))).collect();
            return Err(Error::usage(format!(
                "cannot {verb} `{column}`: the columns are {}",
                names.join(", ")
            )));
        };
        let kind = field["type"].as_str().unwrap_or_default().to_ascii_uppercase();
        let kind = type_name(&kind);
        if !kinds.contains(&kind) || field["mode"] == "REPEATED" {
            let mode = if field["mode"] == "REPEATED" { "REPEATED " } else { "" };
            return Err(Error::usage(format!("cannot {verb} `{column}`, which is {mode}{kind}"))
                .hint(format!("it takes a column of type {}", kinds.join(", "))));
        }
        Ok(())
    }
}

/// The first difference between two tables that keeps one from being copied into the other, in words.
pub fn difference(one: &Value, other: &Value) -> Option<String> {
    let columns = schema::difference(&one["schema"]["fields"], &other["schema"]["fields"]);
    columns.or_else(|| layout_difference(one, other))
}

pub fn layout_difference(one: &Value, other: &Value) -> Option<String> {
    let partitioned = |table: &Value| partitioning(table).unwrap_or("not at all".into());
    if partitioned(one) != partitioned(other) {
        return Some(format!("partitioned {} here and {} there", partitioned(one), partitioned(other)));
    }
    let clustered = |table: &Value| match clustering(table) {
        none if none.is_empty() => "not at all".to_owned(),
        columns => format!("by {}", columns.join(", ")),
    };
    if clustered(one) != clustered(other) {
        return Some(format!("clustered {} here and {} there", clustered(one), clustered(other)));
    }
    None
}

/// `day`, `hour:at`, …, as `timePartitioning`.
pub fn parse_partition_by(text: &str) -> Result<Value> {
    let (unit, column) = text.split_once(':').map_or((text, None), |(unit, column)| (unit, Some(column)));
    let unit = unit.to_ascii_uppercase();
    if !["HOUR", "DAY", "MONTH", "YEAR"].contains(&unit.as_str()) || column == Some("") {
        return Err(Error::usage(format!("cannot partition by `{text}`"))
            .hint("write `day`, `hour`, `month` or `year`, and `:COLUMN` behind it unless by ingestion"));
    }
    Ok(match column {
        Some(column) => json!({ "type": unit, "field": column }),
        None => json!({ "type": unit }),
    })
}

/// `id:0:1000:10`, as `rangePartitioning`.
pub fn parse_range_partition(text: &str) -> Result<Value> {
    let wrong = |why: &str| {
        Error::usage(format!("`--range-partition {text}` {why}"))
            .hint("write `column:start:end:step`, whole numbers, as `id:0:1000:10`")
    };
    // From the right: a column's name may have a colon in it.
    let parts: Vec<&str> = text.rsplitn(4, ':').collect();
    let [step, end, start, column] = parts[..] else { return Err(wrong("has not four parts")) };
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong("has a bound that is no number"));
    let (first, last, width) = (number(start)?, number(end)?, number(step)?);
    if column.is_empty() || first >= last || width < 1 {
        return Err(wrong("has no partitions"));
    }
    if last.abs_diff(first).div_ceil(width.unsigned_abs()) > 10_000 {
        return Err(wrong("has more than 10,000 partitions"));
    }
    Ok(json!({ "field": column, "range": { "start": start, "end": end, "interval": step } }))
}

static LABEL_KEY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{M}\p{N}_-]{0,62}\z").expect("a constant"));
static LABEL_VALUE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\A[\p{Ll}\p{Lo}\p{M}\p{N}_-]{0,63}\z").expect("a constant"));
const LABELS_MAX: usize = 64;

/// `key=value` each, as a `labels` document.
pub fn parse_labels(pairs: &[String]) -> Result<Map<String, Value>> {
    const RULE: &str = "at most 63 lower-case letters, digits, `_` and `-` each; a key starts with a letter";
    let mut labels = Map::new();
    for pair in pairs {
        let wrong = || Error::usage(format!("`{pair}` is no label `key=value`")).hint(RULE);
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        if !LABEL_KEY.is_match(key) || !LABEL_VALUE.is_match(value) {
            return Err(wrong());
        }
        if labels.insert(key.to_owned(), json!(value)).is_some() {
            return Err(Error::usage(format!("label `{key}` is there twice")));
        }
    }
    if labels.len() > LABELS_MAX {
        return Err(Error::usage(format!("{} labels are more than BigQuery's {LABELS_MAX}", labels.len())));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(members: Value) -> Definition {
        let mut definition = Definition::of(&members);
        let columns = "id:INT64,at:TIMESTAMP,day:DATE,tags:STRING:REPEATED,j:JSON";
        definition.set("schema", json!({ "fields": schema::parse_inline(columns).expect("columns") }));
        definition
    }

    #[test]
    fn layouts_that_bigquery_would_refuse_are_refused_with_their_reason() {
        let by =
            |text: &str| json!({ "timePartitioning": parse_partition_by(text).expect("a partitioning") });
        let cluster = |columns: &[&str]| json!({ "clustering": { "fields": columns } });
        for legal in [by("day"), by("hour"), by("HOUR:at"), by("month:day"), cluster(&["id", "AT", "day"])] {
            definition(legal).check().expect("a layout");
        }
        for (members, words) in [
            (by("hour:day"), "cannot partition by `day`, which is DATE"),
            (by("day:id"), "cannot partition by `id`, which is INT64"),
            (by("day:nope"), "the columns are `id`, `at`"),
            (cluster(&["tags"]), "cannot cluster by `tags`, which is REPEATED STRING"),
            (cluster(&["j"]), "cannot cluster by `j`, which is JSON"),
            (cluster(&["id", "ID"]), "twice"),
            (cluster(&["id", "at", "day", "a", "b"]), "more than 4"),
            (json!({ "requirePartitionFilter": true }), "only be required of a partitioned table"),
        ] {
            let error = definition(members).check().expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        for wrong in ["", "week", "day:", "days"] {
            assert!(parse_partition_by(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_have_partitions_and_not_too_many() {
        let range = json!({ "field": "a:b", "range": { "start": "-5", "end": "5", "interval": "1" } });
        assert_eq!(parse_range_partition("a:b:-5:5:1").expect("a range"), range);
        assert!(parse_range_partition("id:0:10000:1").is_ok());
        for wrong in ["id", "id:0:10", "id:0:10:0", "id:5:5:1", "id:x:5:1", ":0:5:1", "id:0:10001:1"] {
            assert!(parse_range_partition(wrong).is_err(), "{wrong}");
        }
        assert!(parse_range_partition(&format!("id:{}:{}:1", i64::MIN, i64::MAX)).is_err());
    }

    #[test]
    fn labels_are_as_bigquery_takes_them() {
        let labels =
            |pairs: &[&str]| parse_labels(&pairs.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(labels(&["team=net", "größe="]).expect("labels").len(), 2);
        for wrong in ["team", "=net", "Team=net", "1=a", "team=Net", "team=a b"] {
            assert!(labels(&[wrong]).is_err(), "{wrong}");
        }
        assert!(labels(&["a=b", "a=c"]).is_err());
        assert!(labels(&[&format!("{}=x", "a".repeat(64))]).is_err());
    }
}
