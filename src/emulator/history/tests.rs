use std::time::Duration;

use serde_json::Map;
use tempfile::TempDir;

use super::*;
use crate::emulator::catalog::{Catalog, DatasetDocument};
use crate::emulator::names::{Address, DatasetId, ProjectId};
use crate::emulator::partitions::Partition;
use crate::emulator::versions::Part;

struct Context {
    dir: TempDir,
    catalog: Catalog,
}

/// The project `p` with the dataset `d`.
fn context() -> Context {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let (project, id) = (ProjectId::parse("p").unwrap(), DatasetId::parse("d").unwrap());
    catalog.insert_dataset(DatasetDocument::new(project, id, "US".into())).unwrap();
    Context { dir, catalog }
}

impl Context {
    fn restarted(self) -> Self {
        let Context { dir, catalog } = self;
        drop(catalog);
        let catalog = Catalog::open(dir.path()).unwrap();
        Context { dir, catalog }
    }

    fn address(&self, table: &str) -> Address {
        Address::parse("p", "d", table).unwrap()
    }

    fn create(&self, table: &str) {
        let definition = Definition::new(self.address(table).name);
        self.catalog.create_table(Version::empty(definition)).unwrap();
    }

    fn part(&self, table: &str, day: &str, rows: u64) -> Part {
        let name = format!("{rows}-{}.parquet", disk::unique_name());
        let draft = OwnedFile::draft(self.catalog.table_dir(&self.address(table).name).unwrap().join(name));
        std::fs::write(draft.path(), b"rows").unwrap();
        Part::new(Partition::from_decorator(day).unwrap(), rows, Map::new(), Arc::new(draft))
    }

    /// Replaces a partition and tells when that was.
    fn replace(&self, table: &str, day: &str, rows: u64) -> i64 {
        let part = self.part(table, day, rows);
        let table = self.catalog.table(&self.address(table).name).unwrap();
        table
            .change(|version| {
                version.parts.retain(|p| p.partition != part.partition);
                version.parts.push(part);
                Ok(())
            })
            .unwrap();
        self.past_now(&table.current())
    }

    /// When a version came, once that is past.
    fn past_now(&self, version: &Version) -> i64 {
        std::thread::sleep(Duration::from_millis(3));
        version.definition.modified_ms
    }

    /// The rows of the parts, in order, or the message of the error.
    fn rows(&self, table: &str) -> Result<Vec<u64>, String> {
        let version = self.catalog.version(&self.address(table)).map_err(|f| f.message)?;
        assert!(version.parts.iter().all(|part| part.file.path().exists()), "{table}");
        Ok(version.parts.iter().map(|part| part.rows).collect())
    }

    fn data_files(&self, table: &str) -> usize {
        let dir = self.catalog.table_dir(&self.address(table).name).unwrap();
        disk::files(&dir).unwrap().iter().filter(|name| name.ends_with(".parquet")).count()
    }
}

#[test]
fn every_version_is_found_at_its_time_also_after_a_restart() {
    let context = context();
    context.create("t");
    // There must be a millisecond in which it is empty.
    std::thread::sleep(Duration::from_millis(3));
    let times: Vec<i64> = [("20240101", 1), ("20240102", 2), ("20240101", 3), ("20240102", 4)]
        .iter()
        .map(|(day, rows)| context.replace("t", day, *rows))
        .collect();
    let expected: [&[u64]; 4] = [&[1], &[1, 2], &[2, 3], &[3, 4]];
    let mut context = context;
    for _ in 0..2 {
        for (time, rows) in times.iter().zip(expected) {
            assert_eq!(context.rows(&format!("t@{time}")).unwrap(), rows);
        }
        let before = times[0] - 1;
        assert!(
            context.rows(&format!("t@{before}")).is_ok_and(|rows| rows.is_empty()),
            "created, still empty"
        );
        assert_eq!(context.rows("t@0").unwrap(), [0; 0]);
        context.catalog.sweep();
        assert_eq!(context.data_files("t"), 4);
        context = context.restarted();
    }
}

#[test]
fn a_deleted_table_is_found_and_one_recreated_is_another() {
    let context = context();
    context.create("t");
    let first = context.replace("t", "20240101", 1);
    context.catalog.delete_table(&context.address("t").name, |_| Ok(())).unwrap();
    std::thread::sleep(Duration::from_millis(3));
    assert_eq!(context.rows("t").unwrap_err(), "Not found: Table p:d.t");
    assert_eq!(context.rows(&format!("t@{first}")).unwrap(), [1]);
    assert!(context.rows(&format!("t@{}", now_ms())).unwrap_err().starts_with("Not found"));

    let context = context.restarted();
    context.create("t");
    let second = context.replace("t", "20240101", 2);
    assert_eq!(context.rows(&format!("t@{first}")).unwrap(), [1]);
    assert_eq!(context.rows(&format!("t@{second}")).unwrap(), [2]);
    let too_early = context.rows("t@1000").unwrap_err();
    assert!(too_early.starts_with("Invalid snapshot time 1000 for table p:d.t@1000. Cannot read before "));
    let future = now_ms() + 60_000;
    assert!(context.rows(&format!("t@{future}")).unwrap_err().contains("Cannot read after"));
}

#[test]
fn what_is_past_the_window_goes_with_its_files_and_nothing_else_does() {
    let context = context();
    context.create("t");
    context.create("u");
    let first = context.replace("t", "20240101", 1);
    let second = context.replace("t", "20240101", 2);
    context.replace("u", "20240101", 7);
    context.catalog.delete_table(&context.address("u").name, |_| Ok(())).unwrap();
    let reader = context.catalog.version(&context.address(&format!("t@{first}"))).unwrap();
    let dataset =
        context.catalog.dataset(&ProjectId::parse("p").unwrap(), &DatasetId::parse("d").unwrap()).unwrap();
    let shrink = |document: &mut DatasetDocument| {
        document.rest.insert("maxTimeTravelHours".into(), 0.into());
        Ok(())
    };
    dataset.change(shrink).unwrap();
    context.catalog.sweep();
    assert!(reader.parts[0].file.path().exists(), "it is still being read");
    drop(reader);
    assert_eq!(context.data_files("t"), 1);
    assert!(context.rows(&format!("t@{first}")).unwrap_err().contains("Cannot read before"));
    assert_eq!(context.rows(&format!("t@{second}")).unwrap(), [2]);
    assert_eq!(context.rows("t").unwrap(), [2]);
    assert_eq!(context.data_files("u"), 1, "a deleted table keeps the window that it was deleted under");

    let context = context.restarted();
    context.catalog.sweep();
    assert_eq!((context.data_files("t"), context.data_files("u")), (1, 1));
}

#[test]
fn an_undo_without_its_change_does_no_harm() {
    let context = context();
    context.create("t");
    context.replace("t", "20240101", 1);
    // As after a crash between the two documents: the present version is still number 1.
    let version = context.catalog.version(&context.address("t")).unwrap();
    let birth = &version.definition.birth;
    let history = context.dir.path().join("projects/p/datasets/d/tables/t/history");
    let undo = Undo {
        until_ms: 1,
        modified_ms: 1,
        definition: None,
        added: vec!["never.parquet".into()],
        removed: vec![(0, PartDocument::of(&version.parts[0]))],
    };
    disk::write_document(&history.join(format!("{birth}.1.undo.json")), &undo).unwrap();
    let context = context.restarted();
    context.catalog.sweep();
    assert_eq!(context.rows("t").unwrap(), [1]);
    let time = context.replace("t", "20240101", 2);
    assert_eq!(context.rows(&format!("t@{}", time - 1)).unwrap(), [1]);
}

#[test]
fn a_replaced_table_is_kept_like_a_deleted_one() {
    let context = context();
    context.create("t");
    let first = context.replace("t", "20240101", 1);
    let fresh = Definition::new(context.address("t").name);
    let part = context.part("t", "20240101", 9);
    let table = context.catalog.table(&fresh.name).unwrap();
    table
        .change(|version| {
            *version = Version { parts: vec![part], ..Version::empty(fresh) };
            Ok(())
        })
        .unwrap();
    let context = context.restarted();
    context.catalog.sweep();
    assert_eq!(context.rows("t").unwrap(), [9]);
    assert_eq!(context.rows(&format!("t@{first}")).unwrap(), [1]);
}

#[test]
fn the_past_of_a_thousand_partitions_costs_as_much_as_what_changed() {
    let context = context();
    context.create("t");
    let parts: Vec<Part> = (1..=1000).map(|rows| context.part("t", "20240101", rows)).collect();
    let table = context.catalog.table(&context.address("t").name).unwrap();
    table
        .change(|version| {
            version.parts = parts;
            Ok(())
        })
        .unwrap();
    let part = context.part("t", "20240101", 5000);
    table
        .change(|version| {
            version.parts[500] = part;
            Ok(())
        })
        .unwrap();
    let dir = context.dir.path().join("projects/p/datasets/d/tables/t/history");
    let birth = &table.current().definition.birth;
    let bytes = std::fs::metadata(dir.join(format!("{birth}.1.undo.json"))).unwrap().len();
    assert!(bytes < 1000, "{bytes}");
}
