//! The server as a client sees it: over HTTP, in BigQuery's own documents.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Faults, Options, start};
use crate::engine::{self, Engine};
use crate::serve::Server;

mod copies;
mod crashes;
mod statements;

struct Context {
    dir: TempDir,
    server: Server,
    http: reqwest::Client,
}

impl Context {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = serve(dir.path()).await;
        let context = Context { dir, server, http: reqwest::Client::new() };
        context.post("datasets", json!({"datasetReference": {"datasetId": "d"}})).await;
        context
    }

    async fn restarted(self) -> Self {
        let Context { dir, server, http } = self;
        server.stop().await;
        let server = serve(dir.path()).await;
        Context { dir, server, http }
    }

    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/bigquery/v2/projects/p/{path}", self.server.url());
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send("POST", path, Some(body)).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, None).await
    }

    /// An ingestion-time table `t(id REQUIRED, name)` that needs a partition filter.
    async fn create_staging(&self) {
        let body = json!({
            "tableReference": {"tableId": "t"},
            "schema": {"fields": [
                {"name": "id", "type": "INT64", "mode": "REQUIRED"}, {"name": "Name", "type": "STRING"},
            ]},
            "timePartitioning": {"type": "DAY"},
            "requirePartitionFilter": true,
        });
        assert_eq!(self.post("datasets/d/tables", body).await.0, 200);
    }

    fn parquet(&self, name: &str, ids: &[Option<i64>]) -> String {
        let path = self.dir.path().join(name);
        let names: Vec<String> = ids.iter().map(|id| format!("n{}", id.unwrap_or(0))).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef, true),
            ("name", Arc::new(StringArray::from(names)) as ArrayRef, true),
        ])
        .unwrap();
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        format!("file://{}", path.display())
    }

    async fn finish(&self, id: &str) -> Value {
        for _ in 0..500 {
            let (status, job) = self.get(&format!("jobs/{id}")).await;
            assert_eq!(status, 200, "{job}");
            if job["status"]["state"] == "DONE" {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("job {id} did not end");
    }

    async fn load(&self, id: &str, uri: &str, table: &str, disposition: &str) -> Value {
        let (status, answer) = self.post("jobs", load_body(id, uri, table, disposition)).await;
        assert_eq!(status, 200, "{answer}");
        self.finish(id).await
    }

    async fn query(&self, sql: &str) -> (u16, Value) {
        let dataset = json!({"datasetId": "d"});
        self.post("queries", json!({"query": sql, "useLegacySql": false, "defaultDataset": dataset})).await
    }

    /// The values of a query's rows as text, or its message.
    async fn rows(&self, sql: &str) -> String {
        let (status, answer) = self.query(sql).await;
        if status != 200 {
            return answer["error"]["message"].as_str().unwrap().to_owned();
        }
        let row = |row: &Value| {
            let values = row["f"].as_array().unwrap().iter();
            values.map(|v| v["v"].as_str().unwrap_or("NULL").to_owned()).collect::<Vec<_>>().join(",")
        };
        answer["rows"].as_array().unwrap().iter().map(row).collect::<Vec<_>>().join(" ")
    }
}

async fn serve(dir: &Path) -> Server {
    let engine = Engine::new(engine::Options::default()).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    start(Options { listen, data_dir: dir.join("data"), engine, faults: Faults::default() }).await.unwrap()
}

fn load_body(id: &str, uri: &str, table: &str, disposition: &str) -> Value {
    json!({
        "jobReference": {"jobId": id},
        "configuration": {"load": {
            "sourceUris": [uri], "sourceFormat": "PARQUET", "writeDisposition": disposition,
            "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": table},
        }},
    })
}

fn reason(answer: &Value) -> &str {
    answer["error"]["errors"][0]["reason"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_partition_is_replaced_whole_and_survives_a_restart() {
    let context = Context::new().await;
    context.create_staging().await;
    let (one, two) = (context.parquet("1", &[Some(1), Some(2)]), context.parquet("2", &[Some(3)]));
    let job = context.load("a", &one, "t$20240105", "WRITE_TRUNCATE").await;
    assert_eq!(job["statistics"]["load"]["outputRows"], "2", "{job}");
    context.load("b", &two, "t$20240106", "WRITE_TRUNCATE").await;
    context.load("c", &two, "t$20240105", "WRITE_TRUNCATE").await;
    context.load("d", &two, "t$20240105", "WRITE_APPEND").await;
    let refused = context.load("e", &two, "t$20240105", "WRITE_EMPTY").await;
    assert_eq!(refused["status"]["errorResult"]["reason"], "duplicate");

    let context = context.restarted().await;
    assert_eq!(context.get("datasets/d/tables/t$20240105").await.1["numRows"], "2");
    assert_eq!(context.get("datasets/d/tables/t").await.1["numRows"], "3");
    let (_, page) = context.get("datasets/d/tables/t$20240105/data?maxResults=1&selectedFields=name").await;
    assert_eq!(page["rows"], json!([{"f": [{"v": "n3"}]}]));
    assert_eq!(page["totalRows"], "2");
    let files = std::fs::read_dir(context.dir.path().join("data/projects/p/datasets/d/tables/t")).unwrap();
    assert_eq!(files.count(), 6, "three data files, the one that was replaced, the document and the history");
}

#[tokio::test]
async fn a_job_id_is_used_once_and_a_failed_one_is_burnt() {
    let context = Context::new().await;
    context.create_staging().await;
    let uri = context.parquet("1", &[Some(1), None]);
    let job = context.load("a", &uri, "t$20240105", "WRITE_TRUNCATE").await;
    let error = &job["status"]["errorResult"];
    assert_eq!(error["reason"], "invalid");
    assert!(error["message"].as_str().unwrap().contains("Required field id cannot be null"), "{error}");
    let (status, answer) = context.post("jobs", load_body("a", &uri, "other", "WRITE_APPEND")).await;
    assert_eq!((status, reason(&answer)), (409, "duplicate"));
    assert_eq!(answer["error"]["message"], "Already Exists: Job p:US.a");
    assert_eq!(context.get("jobs/a?location=EU").await.0, 404);
    let (status, answer) = context.post("jobs", load_body("b", &uri, "t$20230229", "WRITE_APPEND")).await;
    assert_eq!((status, reason(&answer)), (400, "invalid"));
}

#[tokio::test]
async fn after_a_crash_a_job_is_done_and_says_whether_it_took_effect() {
    let context = Context::new().await;
    context.create_staging().await;
    let uri = context.parquet("1", &[Some(1), Some(2)]);
    let before = context.load("took", &uri, "t$20240105", "WRITE_TRUNCATE").await;
    let jobs = context.dir.path().join("data/projects/p/jobs");
    let path = jobs.join("took.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    // As it was on disk while the job ran.
    document["state"] = json!("Pending");
    document["statistics"] = Value::Null;
    document["ended_ms"] = Value::Null;
    std::fs::write(&path, document.to_string()).unwrap();
    document["id"] = json!("not");
    std::fs::write(jobs.join("not.json"), document.to_string()).unwrap();
    let table = context.dir.path().join("data/projects/p/datasets/d/tables/t");
    std::fs::write(table.join("half.parquet"), b"half").unwrap();

    let context = context.restarted().await;
    let (_, took) = context.get("jobs/took").await;
    assert_eq!(took["status"], json!({"state": "DONE"}));
    assert_eq!(took["statistics"]["load"], before["statistics"]["load"]);
    let (_, not) = context.get("jobs/not").await;
    assert_eq!(not["status"]["errorResult"]["reason"], "backendError");
    for _ in 0..500 {
        if !table.join("half.parquet").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!table.join("half.parquet").exists(), "the first sweep deletes it");
    assert_eq!(context.get("datasets/d/tables/t").await.1["numRows"], "2");
}

#[tokio::test]
async fn a_staging_table_is_not_read_without_a_partition_filter() {
    let context = Context::new().await;
    context.create_staging().await;
    let uri = context.parquet("1", &[Some(1), Some(2)]);
    context.load("a", &uri, "t$20240105", "WRITE_TRUNCATE").await;
    context.load("b", &uri, "t$20240107", "WRITE_TRUNCATE").await;
    for filter in [
        "_PARTITIONTIME >= '2024-01-05'",
        "_partitiondate = DATE '2024-01-05' AND id > 0",
        "DATE(_PARTITIONTIME) BETWEEN '2024-01-05' AND '2024-01-07'",
        "_PARTITIONDATE IN ('2024-01-05', '2024-01-06')",
        "(_PARTITIONDATE = '2024-01-05' OR _PARTITIONDATE = '2024-01-07')",
        "_PARTITIONTIME > TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY)",
    ] {
        assert_eq!(context.query(&format!("SELECT id FROM t WHERE {filter}")).await.0, 200, "{filter}");
    }
    for filter in [
        "TRUE",
        "id = 1",
        "_PARTITIONDATE = '2024-01-05' OR id = 1",
        "_PARTITIONDATE = '2024-01-05' OR TRUE",
        "_PARTITIONTIME = TIMESTAMP_SECONDS(id)",
        "_PARTITIONTIME = (SELECT MAX(_PARTITIONTIME) FROM t WHERE _PARTITIONDATE > '2024-01-01')",
    ] {
        let (status, answer) = context.query(&format!("SELECT id FROM t WHERE {filter}")).await;
        assert_eq!((status, reason(&answer)), (400, "invalidQuery"), "{filter}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("Cannot query over table 'p.d.t' without a filter"), "{message}");
    }
    // Only the partitions that the filter leaves are read and counted.
    let dry = |sql: &'static str| {
        context.post("queries", json!({"query": sql, "dryRun": true, "useLegacySql": false}))
    };
    let (_, one) = dry("SELECT id FROM d.t WHERE _PARTITIONDATE = '2024-01-05'").await;
    let (_, two) = dry("SELECT id FROM d.t WHERE _PARTITIONDATE >= '2024-01-05'").await;
    assert_eq!((&one["totalBytesProcessed"], &two["totalBytesProcessed"]), (&json!("16"), &json!("32")));
    assert_eq!(one["schema"]["fields"][0]["type"], "INTEGER");
    assert!(one.get("rows").is_none());
}

/// BigQuery takes a request that does not say for legacy SQL, whose names and joins mean other things.
#[tokio::test]
async fn legacy_sql_is_refused_however_it_is_asked_for() {
    let context = Context::new().await;
    for body in [
        json!({"query": "SELECT 1"}),
        json!({"query": "SELECT 1", "useLegacySql": true}),
        json!({"query": "#legacySQL\nSELECT 1", "useLegacySql": false}),
    ] {
        let (status, answer) = context.post("queries", body.clone()).await;
        assert_eq!((status, reason(&answer)), (501, "notImplemented"), "{body}");
    }
    let (status, answer) = context.post("queries", json!({"query": "#standardSQL\nSELECT 1"})).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn the_latest_record_per_key_replaces_a_table_at_once() {
    let context = Context::new().await;
    context.create_staging().await;
    let (one, two) = (context.parquet("1", &[Some(1), Some(2)]), context.parquet("2", &[Some(2), Some(3)]));
    context.load("a", &one, "t$20240105", "WRITE_TRUNCATE").await;
    context.load("b", &two, "t$20240106", "WRITE_TRUNCATE").await;
    let sql = "SELECT * FROM `p.d.t` WHERE _PARTITIONTIME >= TIMESTAMP('2024-01-01') \
               QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY _PARTITIONTIME DESC) = 1";
    for id in ["p1", "p2"] {
        let body = json!({
            "jobReference": {"jobId": id},
            "configuration": {"query": {
                "query": sql, "useLegacySql": false, "writeDisposition": "WRITE_TRUNCATE",
                "clustering": {"fields": ["id"]},
                "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "flows"},
            }},
        });
        assert_eq!(context.post("jobs", body).await.0, 200);
        let job = context.finish(id).await;
        assert_eq!(job["status"], json!({"state": "DONE"}), "{job}");
    }
    let (_, table) = context.get("datasets/d/tables/flows").await;
    assert_eq!(table["numRows"], "3");
    assert_eq!(table["clustering"], json!({"fields": ["id"]}));
    let names: Vec<&Value> =
        table["schema"]["fields"].as_array().unwrap().iter().map(|f| &f["name"]).collect();
    assert_eq!(names, ["id", "Name"]);
    assert_eq!(context.rows("SELECT ID, name FROM flows ORDER BY id DESC").await, "3,n3 2,n2 1,n1");
}

#[tokio::test]
async fn a_job_ends_when_its_time_is_up() {
    let context = Context::new().await;
    let numbers = "(SELECT x FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS x)";
    let endless =
        format!("SELECT SUM(a.x * b.x - c.x) FROM {numbers} a CROSS JOIN {numbers} b CROSS JOIN {numbers} c");
    let limited = json!({"query": endless, "useLegacySql": false, "jobTimeoutMs": "300"});
    let (status, answer) = context.post("queries", limited).await;
    assert_eq!((status, &answer["error"]["errors"][0]["reason"]), (499, &json!("stopped")), "{answer}");
    let message = "Job execution was cancelled: Job timed out after 0.3s";
    assert_eq!(answer["error"]["message"], message);
    let query = json!({"query": "SELECT 1", "useLegacySql": false});
    let generous = json!({
        "jobReference": {"jobId": "quick"}, "configuration": {"query": query, "jobTimeoutMs": "60000"},
    });
    assert_eq!(context.post("jobs", generous).await.0, 200);
    assert_eq!(context.finish("quick").await["status"], json!({"state": "DONE"}));
}

/// What Arrow's readers say of a file speaks of their parsers.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_called_damaged() {
    let context = Context::new().await;
    for (format, bytes) in [
        ("AVRO", &b"no Avro at all, but long enough to be looked at"[..]),
        ("AVRO", b"Obj\x01\x02\x16avro.schema\x04{}\x000123456789abcdef"),
        ("PARQUET", b"no Parquet at all"),
        ("PARQUET", b"PAR1 and what is no footer\xff\x00\x00\x00PAR1"),
    ] {
        let path = context.dir.path().join("damaged");
        std::fs::write(&path, bytes).unwrap();
        let id = format!("{format}{}", bytes.len());
        let mut body = load_body(&id, &format!("file://{}", path.display()), "t", "WRITE_EMPTY");
        body["configuration"]["load"]["sourceFormat"] = json!(format);
        assert_eq!(context.post("jobs", body).await.0, 200);
        let error = context.finish(&id).await["status"]["errorResult"].take();
        let message = error["message"].as_str().unwrap_or_default();
        assert_eq!(error["reason"], "invalid", "{error}");
        assert!(message.starts_with("Error while reading data, error message: "), "{message}");
        assert!(message.contains("damaged") && !message.contains("rror: "), "{message}");
    }
}

#[tokio::test]
async fn sql_means_what_it_means_in_bigquery() {
    let context = Context::new().await;
    for (expression, value) in [
        ("7/2", "3.5"),
        ("1/0", "division by zero: 1 / 0"),
        ("CAST(TIMESTAMP '2026-11-01' AS STRING)", "2026-11-01 00:00:00+00"),
        ("CONCAT('a', NULL)", "NULL"),
        ("CAST(-2.5 AS INT64)", "-3"),
        ("MOD(-7, 2)", "-1"),
        ("SUBSTR('hello', -3)", "llo"),
        ("TIMESTAMP '2024-01-02 03:04:05.123456'", "1.704164645123456E9"),
        ("DATE_SUB(DATE '2024-03-31', INTERVAL 1 MONTH)", "2024-02-29"),
        ("GREATEST(1, NULL)", "NULL"),
        ("CAST('1.250' AS NUMERIC)", "1.25"),
        ("EXTRACT(DAYOFWEEK FROM DATE '2024-01-07')", "1"),
        ("LENGTH('é')", "1"),
        ("1 = '1'", "No matching signature for operator = for argument types: INT64, STRING"),
        ("SUM(x) FROM (SELECT 9223372036854775807 x UNION ALL SELECT 1)", "int64 overflow in SUM"),
        ("SUM(x) FROM (SELECT 1 x UNION ALL SELECT NULL UNION ALL SELECT 2)", "3"),
        ("9223372036854775807 + x FROM (SELECT 1 x)", "int64 overflow"),
        ("ROUND(3)", "3.0"),
        ("AVG(CAST(x AS NUMERIC)) FROM (SELECT 1 x UNION ALL SELECT 2)", "1.5"),
        ("1 NOT IN (SELECT NULL UNION ALL SELECT 2)", "NULL"),
        ("IF(TRUE, 1, 'a')", "No matching signature"),
        ("COALESCE(1, 'a')", "No matching signature"),
        ("LENGTH(1)", "No matching signature for function LENGTH for argument types: INT64"),
        ("foo(1)", "Function not found: foo"),
        ("to_timestamp(1)", "Function not found: to_timestamp"),
        ("nosuch", "Unrecognized name: nosuch"),
        ("x FROM nosuch", "Not found: Table p:d.nosuch"),
    ] {
        let found = context.rows(&format!("SELECT {expression}")).await;
        // Messages are given by their beginning.
        let matches = if value.contains(' ') { found.starts_with(value) } else { found == value };
        assert!(matches, "{expression}: {found}");
    }
    let nulls = "SELECT x FROM (SELECT 1 x UNION ALL SELECT NULL UNION ALL SELECT 2) ORDER BY x";
    assert_eq!(context.rows(nulls).await, "NULL 1 2");
    assert_eq!(context.rows(&format!("{nulls} DESC")).await, "2 1 NULL");
}

#[tokio::test]
async fn what_is_not_on_the_list_is_refused_and_named() {
    let context = Context::new().await;
    context.create_staging().await;
    for (sql, what) in [
        ("SELECT 1 FROM t FOR SYSTEM_TIME AS OF '2024-01-01'", "must be a constant TIMESTAMP"),
        ("SELECT * FROM `d.t$20240105`", "decorator"),
        ("SELECT * FROM t TABLESAMPLE SYSTEM (10 PERCENT)", "TABLESAMPLE"),
        ("SELECT * FROM t NATURAL JOIN t AS u", "NATURAL JOIN"),
        ("SELECT INTERVAL 1 DAY", "INTERVAL"),
        ("SELECT rb'a'", "raw bytes"),
        ("SELECT FARM_FINGERPRINT('a')", "Function not found"),
        ("SELECT 1 UNION SELECT 2", "ALL or keyword DISTINCT"),
        ("SELECT 1 ~ 2", ""),
        ("SELECT 1::INT64", ""),
    ] {
        let (status, answer) = context.query(sql).await;
        assert_eq!((status, reason(&answer)), (400, "invalidQuery"), "{sql}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(what), "{sql}: {message}");
    }
    for (method, path) in [("POST", "datasets/d/tables/t:undelete"), ("POST", "datasets/d/tables/t:restore")]
    {
        let (status, answer) = context.send(method, path, Some(json!({}))).await;
        assert_eq!((status, reason(&answer)), (501, "notImplemented"), "{path}");
    }
}

#[tokio::test]
async fn patches_change_the_etag_and_respect_it() {
    let context = Context::new().await;
    context.create_staging().await;
    let (_, table) = context.get("datasets/d/tables/t").await;
    let patch = json!({"description": "x", "labels": {"a": "b"}, "expirationTime": "4102444800000"});
    let (_, patched) = context.send("PATCH", "datasets/d/tables/t", Some(patch)).await;
    assert_ne!(patched["etag"], table["etag"]);
    assert_eq!(patched["expirationTime"], "4102444800000");
    let cleared = json!({"description": null});
    let (_, patched) = context.send("PATCH", "datasets/d/tables/t", Some(cleared)).await;
    assert!(patched.get("description").is_none());
    assert_eq!(patched["labels"], json!({"a": "b"}));
    let dropped = json!({"schema": {"fields": [{"name": "id", "type": "INTEGER"}]}});
    let (status, answer) = context.send("PATCH", "datasets/d/tables/t", Some(dropped)).await;
    assert_eq!((status, reason(&answer)), (400, "invalid"));
    let (status, answer) = context.send("DELETE", "datasets/d", None).await;
    assert_eq!((status, reason(&answer)), (400, "resourceInUse"));
    assert_eq!(context.send("DELETE", "datasets/d?deleteContents=true", None).await.0, 204);
    assert_eq!(context.get("datasets/d").await.0, 404);
}

#[tokio::test]
async fn a_scripts_temporary_tables_leave_nothing_behind() {
    let context = Context::new().await;
    let two = "CREATE TEMP TABLE a AS SELECT 1 AS x; CREATE TEMP TABLE b AS SELECT 2 AS x;";
    let sum = format!("{two} SELECT SUM(x) AS sum FROM (SELECT x FROM a UNION ALL SELECT x FROM b)");
    assert_eq!(context.rows(&sum).await, "3");
    let failing = context.rows(&format!("{two} SELECT nothing FROM a")).await;
    assert!(failing.contains("nothing"), "{failing}");
    let (_, all) = context.get("datasets?all=true").await;
    let ids = all["datasets"].as_array().unwrap().iter();
    let ids: Vec<&str> = ids.map(|d| d["datasetReference"]["datasetId"].as_str().unwrap()).collect();
    assert!(ids.contains(&"d") && !ids.iter().any(|id| id.starts_with("_script")), "{ids:?}");
}
