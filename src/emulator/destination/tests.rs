//! Tables that go while a job that writes to them runs.

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::emulator::catalog::DatasetDocument;
use crate::emulator::names::JobId;

struct Ground {
    _dir: TempDir,
    catalog: Catalog,
    destination: Destination,
}

/// The dataset `d`, and the destination `d.t` of a job that would make the table without partitions.
fn ground(disposition: &str) -> Ground {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let reference = json!({"projectId": "p", "datasetId": "d", "tableId": "t"});
    let configuration = json!({"writeDisposition": disposition});
    let destination = Destination::parse(
        configuration.as_object().unwrap(),
        reference.as_object().unwrap(),
        &ProjectId::parse("p").unwrap(),
        Disposition::Append,
    )
    .unwrap();
    let name = &destination.address.name;
    let dataset = DatasetDocument::new(name.project.clone(), name.dataset.clone(), "US".into());
    catalog.insert_dataset(dataset).unwrap();
    Ground { _dir: dir, catalog, destination }
}

impl Ground {
    fn create(&self) {
        let definition =
            Definition { fields: fields(), ..Definition::new(self.destination.address.name.clone()) };
        self.catalog.create_table(Version::empty(definition)).unwrap();
    }

    fn delete(&self) {
        self.catalog.delete_table(&self.destination.address.name, |_| Ok(())).unwrap();
    }

    fn target(&self) -> Target {
        self.destination.target(&self.catalog, &fields(), false).unwrap()
    }

    fn commit(&self, target: &Target) -> Result<(), String> {
        let commit = Commit { project: None, job: JobId::parse("job").unwrap(), statistics: Value::Null };
        let committed = self.destination.commit(&self.catalog, target, Vec::new(), commit, |_| true);
        committed.map_err(|failure| failure.message)
    }

    fn exists(&self) -> bool {
        self.catalog.table(&self.destination.address.name).is_ok()
    }
}

fn fields() -> Vec<Field> {
    serde_json::from_value(json!([{"name": "x", "type": "INT64"}])).unwrap()
}

/// Loads once made a table again that was dropped while they ran, without its partitions and description.
#[test]
fn a_table_that_is_deleted_while_a_job_writes_to_it_stays_deleted() {
    for disposition in ["WRITE_APPEND", "WRITE_TRUNCATE", "WRITE_EMPTY"] {
        let ground = ground(disposition);
        ground.create();
        let target = ground.target();
        ground.delete();
        assert_eq!(ground.commit(&target).unwrap_err(), "Not found: Table p:d.t", "{disposition}");
        assert!(!ground.exists(), "{disposition}");
    }
}

#[test]
fn a_table_that_was_not_there_is_made_also_when_somebody_else_makes_it_first() {
    let ground = ground("WRITE_APPEND");
    let target = ground.target();
    ground.commit(&target).unwrap();
    assert!(ground.exists());
    ground.delete();
    ground.create();
    ground.commit(&target).unwrap();
}
