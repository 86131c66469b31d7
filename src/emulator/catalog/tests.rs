//! What goes while somebody is about to change it.

use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::emulator::names::JobId;

/// The dataset `p.d` with the table `t`.
fn ground() -> (TempDir, Arc<Catalog>, TableName) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
    let name = Address::parse("p", "d", "t").unwrap().name;
    catalog.insert_dataset(document(&name)).unwrap();
    catalog.create_table(Version::empty(Definition::new(name.clone()))).unwrap();
    (dir, catalog, name)
}

fn document(name: &TableName) -> DatasetDocument {
    DatasetDocument::new(name.project.clone(), name.dataset.clone(), "US".into())
}

/// Rows that were acknowledged while a table was renamed were once lost with its old name.
#[test]
fn a_change_that_begins_while_the_table_is_renamed_finds_it_gone() {
    let (_dir, catalog, name) = ground();
    let renamed = TableName { table: TableId::parse("u").unwrap(), ..name.clone() };
    let table = catalog.table(&name).unwrap();
    let mut change = None;
    catalog
        .rename_table(&name, &renamed, |version, _| {
            let table = Arc::clone(&table);
            let commit =
                Commit { project: None, job: JobId::parse("late").unwrap(), statistics: Value::Null };
            change = Some(thread::spawn(move || {
                table.change(|version| {
                    version.commits.push(commit);
                    Ok(())
                })
            }));
            let definition = Definition { number: 0, ..Definition::new(renamed.clone()) };
            Ok(Version::new(definition, version.parts.clone(), version.commits.clone()))
        })
        .unwrap();
    let changed = change.unwrap().join().unwrap();
    assert_eq!(changed.unwrap_err().code, 404);
    assert!(catalog.table(&renamed).unwrap().current().commits.is_empty());
}

/// Tables were once made in datasets that were gone, and stood up again at the next start.
#[test]
fn nothing_is_made_in_a_dataset_that_is_deleted() {
    let (dir, catalog, name) = ground();
    let held = catalog.dataset(&name.project, &name.dataset).unwrap();
    let table = catalog.table(&name).unwrap();
    catalog.delete_dataset(&name.project, &name.dataset, true, |_, _| Ok(())).unwrap();
    let other = TableName { table: TableId::parse("u").unwrap(), ..name.clone() };
    let made = held.create_table(Version::empty(Definition::new(other.clone())));
    assert_eq!(made.unwrap_err().message, "Not found: Dataset p:d");
    assert_eq!(table.change(|_| Ok(())).unwrap_err().code, 404);
    assert_eq!(held.change(|_| Ok(())).unwrap_err().code, 404);
    catalog.insert_dataset(document(&name)).unwrap();
    let reopened = Catalog::open(dir.path()).unwrap();
    assert_eq!([name, other].map(|name| reopened.table(&name).is_ok()), [false, false]);
}

#[test]
fn an_expiration_after_all_time_is_none_that_fails() {
    let (_dir, catalog, name) = ground();
    let dataset = catalog.dataset(&name.project, &name.dataset).unwrap();
    let forever = |document: &mut DatasetDocument| {
        document.rest.insert("defaultTableExpirationMs".into(), i64::MAX.to_string().into());
        Ok(())
    };
    dataset.change(forever).unwrap();
    let other = TableName { table: TableId::parse("u").unwrap(), ..name };
    let made = catalog.create_table(Version::empty(Definition::new(other))).unwrap();
    assert_eq!(made.current().definition.expiration_ms, Some(i64::MAX));
}

#[test]
fn temporary_tables_of_a_script_that_was_killed_go_at_the_next_start() {
    let (dir, catalog, name) = ground();
    let ids =
        [format!("_script{}", "0123456789abcdef".repeat(2)), "_script".into(), "_scripts_of_mine".into()];
    for id in &ids {
        let name = TableName { dataset: DatasetId::parse(id).unwrap(), ..name.clone() };
        catalog.insert_dataset(document(&name)).unwrap();
    }
    let reopened = Catalog::open(dir.path()).unwrap();
    reopened.delete_script_datasets();
    let is_there = |id: &String| reopened.dataset(&name.project, &DatasetId::parse(id).unwrap()).is_ok();
    assert_eq!(ids.iter().map(is_there).collect::<Vec<_>>(), [false, true, true]);
    assert!(reopened.table(&name).is_ok());
}
