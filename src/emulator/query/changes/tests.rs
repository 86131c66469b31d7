//! Statements that overlap: planned one after the other on the same version of a table, then committed.

use tempfile::TempDir;

use super::*;
use crate::emulator::catalog::DatasetDocument;
use crate::emulator::names::{Address, JobId, ProjectId};
use crate::emulator::query::dml::plan_dml;
use crate::emulator::query::scope::Scope;
use crate::emulator::query::{Environment, QuerySpec, statements};
use crate::emulator::{Emulator, Faults};
use crate::engine::{self, Engine};

struct Ground {
    _dir: TempDir,
    emulator: Emulator,
}

impl Ground {
    /// The table `d.t` with the columns `k` and `v`, without rows.
    fn new() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::new(engine::Options::default()).unwrap();
        let (data, buckets) = (dir.path().join("data"), dir.path().join("buckets"));
        let emulator = Emulator::open(data, &buckets, engine, Faults::default()).unwrap();
        let name = name();
        let dataset = DatasetDocument::new(name.project.clone(), name.dataset.clone(), "US".into());
        emulator.catalog.insert_dataset(dataset).unwrap();
        let mut definition = Definition::new(name);
        definition.fields =
            serde_json::from_value(json!([{"name": "k", "type": "INT64"}, {"name": "v", "type": "INT64"}]))
                .unwrap();
        emulator.catalog.create_table(Version::empty(definition)).unwrap();
        Ground { _dir: dir, emulator }
    }

    /// What a statement would do to the table as it is now.
    async fn planned(&self, sql: &str) -> Changes {
        let query = json!({"query": sql, "useLegacySql": false});
        let spec = QuerySpec::parse(query.as_object().unwrap(), &ProjectId::parse("p").unwrap()).unwrap();
        let scope = Scope::default();
        let env = Environment { emulator: &self.emulator, spec: &spec, location: "US", scope: &scope };
        let statement = statements::parse(sql).unwrap().pop().unwrap().statement;
        let planned = plan_dml(env, statement).await.unwrap();
        let dir = self.emulator.catalog.table_dir(&planned.target).unwrap();
        write(planned, dir, Arc::new(|| false)).await.unwrap()
    }

    fn commit(&self, changes: Changes) -> Committed {
        let commit = Commit { project: None, job: JobId::parse("job").unwrap(), statistics: Value::Null };
        changes.commit(&self.emulator.catalog, commit, |_| true).unwrap()
    }

    fn num_rows(&self) -> u64 {
        self.emulator.catalog.table(&name()).unwrap().current().parts.iter().map(|part| part.rows).sum()
    }
}

fn name() -> TableName {
    Address::parse("p", "d", "t").unwrap().name
}

const UPSERT: &str = "MERGE d.t USING (SELECT x AS k FROM UNNEST([1, 2, 3]) AS x) AS s ON t.k = s.k \
                      WHEN MATCHED THEN UPDATE SET v = t.v + 1 WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, 1)";

/// Four upserts at once made four rows of every key.
#[tokio::test]
async fn of_two_upserts_of_the_same_keys_the_later_starts_over() {
    let ground = Ground::new();
    let (one, two) = (ground.planned(UPSERT).await, ground.planned(UPSERT).await);
    assert_eq!(ground.commit(one), Committed::Done);
    assert_eq!(ground.commit(two), Committed::Overtaken);
    assert_eq!(ground.num_rows(), 3);
    let again = ground.planned(UPSERT).await;
    assert_eq!((again.counts.inserted, again.counts.updated), (0, 3));
    assert_eq!(ground.commit(again), Committed::Done);
    assert_eq!(ground.num_rows(), 3);
}

#[tokio::test]
async fn rows_that_are_only_added_overtake_nobody() {
    const INSERT: &str = "INSERT d.t (k, v) SELECT k + 10, v FROM d.t UNION ALL SELECT 7, 7";
    const MERGE: &str =
        "MERGE d.t USING (SELECT 8 AS k) AS s ON FALSE WHEN NOT MATCHED THEN INSERT (k) VALUES (s.k)";
    let ground = Ground::new();
    let (upsert, insert, merge) =
        (ground.planned(UPSERT).await, ground.planned(INSERT).await, ground.planned(MERGE).await);
    assert_eq!(ground.commit(insert), Committed::Done);
    assert_eq!(ground.commit(upsert), Committed::Done);
    assert_eq!(ground.commit(merge), Committed::Done);
    assert_eq!(ground.num_rows(), 1 + 3 + 1);
}

#[tokio::test]
async fn what_a_statement_read_of_its_table_is_still_so_when_it_commits() {
    let ground = Ground::new();
    let fill = ground.planned("INSERT d.t (k, v) VALUES (1, 1)").await;
    assert_eq!(ground.commit(fill), Committed::Done);
    let fill = ground.planned("INSERT d.t (k, v) VALUES (2, 2)").await;
    assert_eq!(ground.commit(fill), Committed::Done);
    // Each leaves one row, together they must not take both.
    let delete = |k: u64| format!("DELETE d.t WHERE k = {k} AND (SELECT COUNT(*) FROM d.t) > 1");
    let (one, two) = (ground.planned(&delete(1)).await, ground.planned(&delete(2)).await);
    // What reads nothing but the rows that it changes goes on beside them.
    let other = ground.planned("UPDATE d.t SET v = 5 WHERE k = 2").await;
    assert_eq!(ground.commit(one), Committed::Done);
    assert_eq!(ground.commit(two), Committed::Overtaken);
    assert_eq!(ground.commit(other), Committed::Done);
    assert_eq!(ground.num_rows(), 1);
}

#[tokio::test]
async fn an_upsert_starts_over_when_the_table_was_emptied() {
    let ground = Ground::new();
    let fill = ground.planned(UPSERT).await;
    assert_eq!(ground.commit(fill), Committed::Done);
    let new_key = UPSERT.replace("[1, 2, 3]", "[4]");
    let upsert = ground.planned(&new_key).await;
    let emptied = |version: &mut Version| {
        version.take_rows(None);
        Ok(())
    };
    ground.emulator.catalog.table(&name()).unwrap().change(emptied).unwrap();
    assert_eq!(ground.commit(upsert), Committed::Overtaken);
}
