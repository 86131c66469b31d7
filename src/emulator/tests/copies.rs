//! Copy jobs, the past and policies, over HTTP.

use super::*;

impl Context {
    /// Runs a copy job and answers its end.
    async fn copy(&self, id: &str, source: &str, destination: &str, options: Value) -> Value {
        let table = |id: &str| json!({"projectId": "p", "datasetId": "d", "tableId": id});
        let mut copy = json!({"sourceTable": table(source), "destinationTable": table(destination)});
        for (name, value) in options.as_object().unwrap() {
            copy[name] = value.clone();
        }
        let body = json!({"jobReference": {"jobId": id}, "configuration": {"copy": copy}});
        let (status, answer) = self.post("jobs", body).await;
        assert_eq!(status, 200, "{answer}");
        self.finish(id).await
    }

    async fn num_rows(&self, table: &str) -> Value {
        self.get(&format!("datasets/d/tables/{table}")).await.1["numRows"].clone()
    }
}

/// A millisecond that is over.
async fn a_moment() -> i64 {
    tokio::time::sleep(Duration::from_millis(3)).await;
    let now = crate::emulator::wire::now_ms();
    tokio::time::sleep(Duration::from_millis(3)).await;
    now
}

#[tokio::test]
async fn a_deleted_table_comes_back_with_its_partitions_after_a_restart() {
    let context = Context::new().await;
    context.create_staging().await;
    let (one, two) = (context.parquet("1", &[Some(1), Some(2)]), context.parquet("2", &[Some(3)]));
    context.load("a", &one, "t$20240105", "WRITE_TRUNCATE").await;
    context.load("b", &two, "t$20240106", "WRITE_TRUNCATE").await;
    let before = a_moment().await;
    assert_eq!(context.send("DELETE", "datasets/d/tables/t", None).await.0, 204);
    let context = context.restarted().await;
    assert_eq!(context.get("datasets/d/tables/t").await.0, 404);

    let plain = context.copy("plain", &format!("t@{before}"), "plain", json!({})).await;
    assert_eq!(plain["status"], json!({"state": "DONE"}));
    assert_eq!(plain["statistics"]["copy"]["copiedRows"], "3");
    assert!(context.get("datasets/d/tables/plain").await.1.get("timePartitioning").is_none());

    // Into a table that has the partitioning again.
    context.create_staging().await;
    let into = context.copy("into", &format!("t@{before}"), "t", json!({})).await;
    assert_eq!(into["status"], json!({"state": "DONE"}));
    assert_eq!(context.num_rows("t$20240105").await, "2");
    assert_eq!(context.num_rows("t$20240106").await, "1");
    assert_eq!(context.rows("SELECT id FROM t WHERE _PARTITIONDATE = '2024-01-06'").await, "3");
}

#[tokio::test]
async fn a_copy_shares_files_but_not_their_fate() {
    let context = Context::new().await;
    context.create_staging().await;
    let (one, two) = (context.parquet("1", &[Some(1), Some(2)]), context.parquet("2", &[Some(3)]));
    context.load("a", &one, "t$20240105", "WRITE_TRUNCATE").await;
    let copied = context.copy("b", "t", "u", json!({})).await;
    assert_eq!(copied["statistics"]["copy"]["copiedRows"], "2", "{copied}");
    let (_, table) = context.get("datasets/d/tables/u").await;
    assert_eq!(
        (&table["timePartitioning"]["type"], &table["requirePartitionFilter"]),
        (&json!("DAY"), &json!(true))
    );
    context.load("c", &two, "t$20240105", "WRITE_TRUNCATE").await;
    context.send("DELETE", "datasets/d/tables/t", None).await;
    let context = context.restarted().await;
    assert_eq!(context.num_rows("u$20240105").await, "2");
    let again = context.copy("d", "u$20240105", "u$20240107", json!({})).await;
    assert_eq!(again["status"], json!({"state": "DONE"}));
    assert_eq!(context.num_rows("u").await, "4");
    let refused = context.copy("e", "u", "u$20240108", json!({})).await;
    assert_eq!(refused["status"]["errorResult"]["reason"], "invalid");
    let missing = context.copy("f", "t", "v", json!({})).await;
    assert_eq!(missing["status"]["errorResult"]["reason"], "notFound");
}

#[tokio::test]
async fn a_snapshot_is_read_only_and_a_clone_is_not() {
    let context = Context::new().await;
    context.create_staging().await;
    let one = context.parquet("1", &[Some(1), Some(2)]);
    context.load("a", &one, "t$20240105", "WRITE_TRUNCATE").await;
    context.copy("b", "t", "snapshot", json!({"operationType": "SNAPSHOT"})).await;
    context.copy("c", "t", "clone", json!({"operationType": "CLONE"})).await;
    let (_, snapshot) = context.get("datasets/d/tables/snapshot").await;
    assert_eq!(snapshot["type"], "SNAPSHOT");
    assert_eq!(snapshot["snapshotDefinition"]["baseTableReference"]["tableId"], "t");
    assert_eq!(context.get("datasets/d/tables/clone").await.1["type"], "TABLE");
    for (job, table, reason) in
        [("d", "snapshot$20240105", json!("invalid")), ("e", "clone$20240105", Value::Null)]
    {
        let written = context.load(job, &one, table, "WRITE_APPEND").await;
        assert_eq!(written["status"]["errorResult"]["reason"], reason, "{written}");
    }
    let deleted = context.send("DELETE", "datasets/d/tables/snapshot$20240105", None).await;
    assert_eq!((deleted.0, reason(&deleted.1)), (400, "invalid"));
    let copied = context.copy("f", "snapshot", "x", json!({})).await;
    assert_eq!(copied["status"]["errorResult"]["reason"], "invalid");
    let restored = context.copy("g", "snapshot", "x", json!({"operationType": "RESTORE"})).await;
    assert_eq!(restored["status"], json!({"state": "DONE"}));
    assert_eq!(context.num_rows("x").await, "2");
}

#[tokio::test]
async fn partitions_of_every_kind_are_named_and_pruned() {
    let context = Context::new().await;
    let one = context.parquet("1", &[Some(1), Some(11), Some(12), None, Some(99)]);
    let schema = json!({"fields": [{"name": "id", "type": "INT64"}, {"name": "name", "type": "STRING"}]});
    let range = json!({"field": "id", "range": {"start": 0, "end": 20, "interval": 10}});
    let body = json!({"tableReference": {"tableId": "r"}, "schema": schema, "rangePartitioning": range});
    assert_eq!(context.post("datasets/d/tables", body).await.0, 200);
    let loaded = context.load("a", &one, "r", "WRITE_APPEND").await;
    assert_eq!(loaded["status"], json!({"state": "DONE"}), "{loaded}");
    for (partition, rows) in [("0", "1"), ("10", "2"), ("__NULL__", "1"), ("__UNPARTITIONED__", "1")] {
        assert_eq!(context.num_rows(&format!("r${partition}")).await, rows, "{partition}");
    }
    assert_eq!(context.get("datasets/d/tables/r$5").await.0, 400);
    assert_eq!(context.rows("SELECT COUNT(*) FROM r WHERE id >= 10").await, "3");
    assert_eq!(context.rows("SELECT COUNT(*) FROM r WHERE id IS NULL").await, "1");
    let bytes = async |sql: &str| {
        let body = json!({"query": sql, "useLegacySql": false, "dryRun": true, "defaultDataset": {"datasetId": "d"}});
        context.post("queries", body).await.1["totalBytesProcessed"].clone()
    };
    assert_eq!(bytes("SELECT id FROM r").await, "32");
    assert_eq!(bytes("SELECT id FROM r WHERE id < 10").await, "16", "one range and what is in none");

    let (_, summary) = context.get("datasets/d/tables/r$__PARTITIONS_SUMMARY__").await;
    assert_eq!(
        (&summary["numRows"], &summary["schema"]["fields"][3]["name"]),
        (&json!("4"), &json!("partition_id"))
    );
    let hourly =
        json!({"tableReference": {"tableId": "h"}, "schema": schema, "timePartitioning": {"type": "HOUR"}});
    assert_eq!(context.post("datasets/d/tables", hourly).await.0, 200);
    context.load("b", &one, "h$2024010523", "WRITE_APPEND").await;
    assert_eq!(context.num_rows("h$2024010523").await, "5");
    let at_its_hour = "SELECT COUNT(*) FROM h WHERE _PARTITIONTIME = TIMESTAMP '2024-01-05 23:00:00'";
    assert_eq!(context.rows(at_its_hour).await, "5");
    let expiring = json!({"timePartitioning": {"type": "HOUR", "expirationMs": "3600000"}});
    assert_eq!(context.send("PATCH", "datasets/d/tables/h", Some(expiring)).await.0, 200);
    assert_eq!(context.num_rows("h").await, "0", "its time was long ago");
}
