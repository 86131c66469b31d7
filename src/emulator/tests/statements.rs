//! What statements leave in tables, as a query after them finds it.

use serde_json::json;

use super::Context;

/// Scripts, and the rows of the query at their end or the beginning of their message.
async fn check(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        let context = Context::new().await;
        let found = context.rows(sql).await;
        assert!(
            found == *expected || (expected.contains(' ') && found.starts_with(expected)),
            "{sql}: {found}"
        );
    }
}

#[tokio::test]
async fn a_struct_is_stored_by_the_place_of_its_fields() {
    check(&[
        (
            "CREATE TABLE d.t (s STRUCT<a INT64, b INT64>); INSERT d.t SELECT STRUCT(20 AS b, 10 AS a); \
             SELECT s.a, s.b FROM d.t",
            "20,10",
        ),
        (
            "CREATE TABLE d.t (n INT64, s ARRAY<STRUCT<a INT64, b FLOAT64>>); \
             INSERT d.t (s, n) SELECT [STRUCT(20 AS b, 10 AS a)], 1; SELECT n, i.a, i.b FROM d.t, t.s AS i",
            "1,20,10.0",
        ),
        (
            "CREATE TABLE d.t (s STRUCT<a INT64, b INT64>); INSERT d.t VALUES (STRUCT(1 AS a, 2 AS b)), \
             (STRUCT(4 AS b, 3 AS a)), ((5, 6)), (NULL), (IF(TRUE, STRUCT(8 AS b, 7 AS a), NULL)); \
             SELECT s.a, s.b FROM d.t ORDER BY 1",
            "NULL,NULL 1,2 4,3 5,6 8,7",
        ),
        (
            "CREATE TABLE d.t (s STRUCT<a DATE, b NUMERIC>); INSERT d.t VALUES (('2024-01-02', 1)); \
             SELECT s.a, s.b FROM d.t",
            "2024-01-02,1",
        ),
        (
            "CREATE TABLE d.t (k INT64, s STRUCT<a INT64, b INT64>); INSERT d.t VALUES (1, (1, 2)); \
             UPDATE d.t SET s = STRUCT(20 AS b, 10 AS a) WHERE k = 1; SELECT s.a, s.b FROM d.t",
            "20,10",
        ),
        (
            "CREATE TABLE d.t (k INT64, s STRUCT<a INT64, b INT64>); INSERT d.t VALUES (1, (1, 2)), (2, (3, 4)); \
             MERGE d.t USING (SELECT 1 AS k UNION ALL SELECT 3) AS n ON t.k = n.k \
             WHEN MATCHED THEN UPDATE SET s = STRUCT(20 AS b, 10 AS a) \
             WHEN NOT MATCHED THEN INSERT (k, s) VALUES (k, STRUCT(40 AS b, 30 AS a)); \
             SELECT k, s.a, s.b FROM d.t ORDER BY k",
            "1,20,10 2,3,4 3,40,30",
        ),
        (
            "CREATE TABLE d.t (s STRUCT<a INT64, b INT64>) AS SELECT STRUCT(20 AS b, 10 AS a); \
             SELECT s.a, s.b FROM d.t",
            "20,10",
        ),
        (
            "CREATE TABLE d.t (s STRUCT<a INT64, b STRING>); INSERT d.t SELECT STRUCT('x' AS b, 10 AS a)",
            "Value has type STRUCT<b STRING, a INT64> which cannot be inserted into column s",
        ),
    ])
    .await;
}

/// A job's destination is another matter: its schema is compared by name.
#[tokio::test]
async fn rows_that_are_appended_to_a_destination_go_by_name() {
    let context = Context::new().await;
    let created = context.query("CREATE TABLE d.t (s STRUCT<a INT64, b INT64>)").await;
    assert_eq!(created.0, 200, "{}", created.1);
    let query = json!({
        "query": "SELECT STRUCT(20 AS b, 10 AS a) AS s", "useLegacySql": false, "writeDisposition": "WRITE_APPEND",
        "destinationTable": {"projectId": "p", "datasetId": "d", "tableId": "t"},
    });
    let (status, job) = context.post("jobs", json!({"configuration": {"query": query}})).await;
    assert_eq!(status, 200, "{job}");
    context.finish(job["jobReference"]["jobId"].as_str().unwrap()).await;
    assert_eq!(context.rows("SELECT s.a, s.b FROM d.t").await, "10,20");
}
