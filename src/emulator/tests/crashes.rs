//! What jobs say of themselves after a crash, with the files on disk as a crash at that instant leaves them.

use super::*;

impl Context {
    /// Runs a statement as a job of this id.
    async fn statement(&self, id: &str, sql: &str) -> Value {
        let query = json!({"query": sql, "useLegacySql": false});
        let body = json!({"jobReference": {"jobId": id}, "configuration": {"query": query}});
        assert_eq!(self.post("jobs", body).await.0, 200);
        self.finish(id).await
    }

    /// A job's document as it was before the job ended, as the job of the id `as_id`.
    fn unfinish(&self, id: &str, as_id: &str, change: impl FnOnce(&mut Value)) {
        let jobs = self.dir.path().join("data/projects/p/jobs");
        let text = std::fs::read(jobs.join(format!("{id}.json"))).unwrap();
        let mut document: Value = serde_json::from_slice(&text).unwrap();
        document["id"] = json!(as_id);
        document["state"] = json!("Running");
        document["statistics"] = Value::Null;
        document["ended_ms"] = Value::Null;
        change(&mut document);
        std::fs::write(jobs.join(format!("{as_id}.json")), document.to_string()).unwrap();
    }

    fn table_dir(&self, table: &str) -> std::path::PathBuf {
        self.dir.path().join("data/projects/p/datasets/d/tables").join(table)
    }

    fn birth(&self, table: &str) -> Value {
        let text = std::fs::read(self.table_dir(table).join("table.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["definition"]["birth"].clone()
    }

    /// What the job did, or the end of what it says instead.
    async fn told(&self, id: &str) -> String {
        let (_, job) = self.get(&format!("jobs/{id}")).await;
        assert_eq!(job["status"]["state"], "DONE", "{job}");
        match job["status"]["errorResult"]["message"].as_str() {
            Some(message) => message.rsplit("; ").next().unwrap().to_owned(),
            None => job["statistics"]["query"]["ddlOperationPerformed"].as_str().unwrap().to_owned(),
        }
    }
}

const WITHOUT: &str = "it had no effect. Retry with a new job id.";

#[tokio::test]
async fn a_drop_is_done_when_what_it_dropped_is_gone_and_only_then() {
    let context = Context::new().await;
    context.statement("make", "CREATE TABLE d.t AS SELECT 1 AS x").await;
    context.statement("drop", "DROP TABLE d.t").await;
    context.unfinish("drop", "drop", |_| ());
    // Another table of that name is not the one that was dropped.
    context.statement("again", "CREATE TABLE d.t AS SELECT 2 AS x").await;
    let birth = context.birth("t");
    context.unfinish("drop", "noted", |document| document["removal"]["birth"] = birth);
    context.unfinish("drop", "early", |document| document["removal"] = Value::Null);
    let context = context.restarted().await;
    assert_eq!(context.told("drop").await, "DROP");
    assert_eq!(context.told("noted").await, WITHOUT);
    assert_eq!(context.told("early").await, WITHOUT);
    assert_eq!(context.rows("SELECT x FROM d.t").await, "2");
}

#[tokio::test]
async fn statements_on_datasets_are_done_when_the_dataset_shows_it() {
    let context = Context::new().await;
    context.statement("make", "CREATE SCHEMA a").await;
    context.statement("other", "CREATE SCHEMA b; CREATE SCHEMA c").await;
    context.statement("alter", "ALTER SCHEMA c SET OPTIONS (description = 'x')").await;
    context.statement("drop", "DROP SCHEMA b CASCADE").await;
    for job in ["make", "alter", "drop"] {
        context.unfinish(job, job, |_| ());
        context.unfinish(job, &format!("not-{job}"), |document| document["removal"] = Value::Null);
    }
    let context = context.restarted().await;
    let mut told = Vec::new();
    for job in ["make", "alter", "drop"] {
        told.push(context.told(job).await);
        assert_eq!(context.told(&format!("not-{job}")).await, WITHOUT);
    }
    assert_eq!(told, ["CREATE", "ALTER", "DROP"]);
    assert_eq!(context.get("datasets/a").await.0, 200);
    assert_eq!(context.get("datasets/c").await.1["description"], "x");
    assert_eq!(context.get("datasets/b").await.0, 404);
}

/// A renamed table was once found under both names.
#[tokio::test]
async fn a_rename_that_broke_off_once_the_new_name_was_there_is_finished() {
    let context = Context::new().await;
    context.statement("make", "CREATE TABLE d.old AS SELECT 1 AS x").await;
    context.statement("rename", "ALTER TABLE d.old RENAME TO new").await;
    let history = context.table_dir("old").join("history");
    let grave = std::fs::read_dir(&history).unwrap().map(|e| e.unwrap().path());
    let grave = grave.into_iter().find(|path| path.to_string_lossy().ends_with(".grave.json")).unwrap();
    std::fs::rename(grave, context.table_dir("old").join("table.json")).unwrap();
    context.unfinish("rename", "rename", |_| ());
    let context = context.restarted().await;
    assert_eq!(context.told("rename").await, "ALTER");
    assert_eq!(context.get("datasets/d/tables/old").await.0, 404);
    assert_eq!(context.rows("SELECT x FROM d.new").await, "1");
}

#[tokio::test]
async fn a_rename_that_broke_off_before_the_new_name_was_there_had_no_effect() {
    let context = Context::new().await;
    context.statement("make", "CREATE TABLE d.old AS SELECT 1 AS x").await;
    context.statement("rename", "ALTER TABLE d.old RENAME TO new").await;
    context.statement("back", "CREATE TABLE d.old AS SELECT 2 AS x").await;
    let birth = context.birth("old");
    context.unfinish("rename", "broken", |document| {
        document["removal"]["birth"] = birth;
        document["removal"]["moved_to"]["table"] = json!("newer");
    });
    std::fs::create_dir(context.table_dir("newer")).unwrap();
    std::fs::write(context.table_dir("newer").join("link.parquet"), b"rows").unwrap();
    let context = context.restarted().await;
    assert_eq!(context.told("broken").await, WITHOUT);
    assert_eq!(context.rows("SELECT x FROM d.old").await, "2");
    assert!(!context.table_dir("newer").exists());
}

#[tokio::test]
async fn a_dataset_that_was_being_removed_is_gone_whole_and_leaves_nothing_to_the_next() {
    let context = Context::new().await;
    context.statement("make", "CREATE TABLE d.t AS SELECT 1 AS x").await;
    context.statement("drop", "DROP SCHEMA d CASCADE").await;
    // As when the tables of the dropped dataset could not be removed.
    let table = context.table_dir("t");
    let of_the_first = json!({
        "definition": {
            "name": {"project": "p", "dataset": "d", "table": "t"}, "fields": [], "partitioning": null,
            "require_filter": false, "expiration_ms": null, "rest": {}, "created_ms": 1, "modified_ms": 1,
            "birth": "0", "number": 0,
        },
        "parts": [], "commits": [],
    });
    std::fs::write(table.join("table.json"), of_the_first.to_string()).unwrap();
    context.statement("next", "CREATE SCHEMA d").await;
    let context = context.restarted().await;
    assert_eq!(context.get("datasets/d").await.0, 200);
    assert_eq!(context.get("datasets/d/tables/t").await.0, 404);
}
