//! The embedded server's own idea of ids, which shares no code with the client's.

#[path = "../../../src/emulator/failure.rs"]
mod failure;
#[path = "../../../src/emulator/names.rs"]
mod names;
#[path = "../../../src/emulator/partitions.rs"]
mod partitions;

use names::{Address, DatasetId, JobId, ProjectId, TableId, file_name};
use partitions::Partition;

/// What the two need of the module of that name, which would bring a web server with it.
mod wire {
    use serde_json::{Map, Value};

    use super::failure::{Failure, Outcome};

    pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
        object.get(name).and_then(Value::as_str)
    }

    pub(super) fn object<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
        object.get(name).and_then(Value::as_object)
    }

    pub(super) fn integer(object: &Map<String, Value>, name: &str) -> Outcome<Option<i64>> {
        let Some(value) = object.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let number = value.as_i64().or_else(|| value.as_str().and_then(|t| t.parse().ok()));
        number.map(Some).ok_or_else(|| Failure::invalid(format!("Invalid value for {name}: {value}")))
    }

    pub(super) fn now_ms() -> i64 {
        chrono::Utc::now().timestamp_millis()
    }
}

/// True for an id that a job may have.
pub fn is_job_id(text: &str) -> bool {
    JobId::parse(text).is_ok()
}

/// `p`, `d` and `t`, which may be decorated: the table in BigQuery's spelling, and its decorator.
///
/// Whatever is taken must be kept under one path component, and be read back from its own document.
pub fn address(project: &str, dataset: &str, table: &str) -> Option<(String, Option<String>)> {
    for name in [
        ProjectId::parse(project).ok().map(|id| file_name(id.as_str())),
        DatasetId::parse(dataset).ok().map(|id| file_name(id.as_str())),
        TableId::parse(table).ok().map(|id| file_name(id.as_str())),
    ]
    .into_iter()
    .flatten()
    {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-%".contains(&b);
        assert!(!name.is_empty() && name.len() <= 255 && name.bytes().all(plain), "`{name}` is no file name");
    }
    let address = Address::parse(project, dataset, table).ok()?;
    let document = serde_json::to_string(&address.name).expect("names are text");
    let read: names::TableName =
        serde_json::from_str(&document).expect("a name that was taken is taken again");
    assert_eq!(read, address.name);
    if let Some(partition) = address.partition {
        let decorator = partition.to_string();
        assert_eq!(Partition::from_decorator(&decorator).ok(), Some(partition), "{decorator}");
    }
    Some((address.name.to_string(), address.partition.map(|partition| partition.to_string())))
}
