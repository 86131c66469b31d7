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
            "CREATE TABLE d.t (j ARRAY<JSON>); INSERT d.t VALUES ([JSON '{\"k\":2}']), ([]); \
             SELECT j[SAFE_OFFSET(0)].k FROM d.t WHERE ARRAY_LENGTH(j) = 1",
            "2",
        ),
        (
            "CREATE TABLE d.t (s STRUCT<a INT64, b STRING>); INSERT d.t SELECT STRUCT('x' AS b, 10 AS a)",
            "Value has type STRUCT<b STRING, a INT64> which cannot be inserted into column s",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_tie_for_the_latest_record_goes_to_the_earliest_partition_whichever_was_written_first() {
    let rows = [
        "INSERT d.t VALUES (1, DATE '2026-01-02', 'b'); ",
        "INSERT d.t VALUES (1, DATE '2026-01-01', 'a'); ",
    ];
    for [first, second] in [rows, [rows[1], rows[0]]] {
        let sql = format!(
            "CREATE TABLE d.t (id INT64, day DATE, v STRING) PARTITION BY day; {first}{second}\
             SELECT v FROM d.t QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY id) = 1"
        );
        check(&[(&sql, "a")]).await;
    }
}

#[tokio::test]
async fn stored_nan_matches_nothing_and_comes_first() {
    let rows = "CREATE TABLE d.t (k FLOAT64, v INT64); \
                INSERT d.t VALUES (CAST('nan' AS FLOAT64), 1), (-0.0, 2), (5, 3), (NULL, 4); ";
    check(&[
        (
            &format!(
                "{rows}MERGE d.t USING (SELECT IEEE_DIVIDE(0, 0) AS k, 10 AS v UNION ALL SELECT 0.0, 20) AS s \
                 ON t.k = s.k WHEN MATCHED THEN UPDATE SET v = s.v \
                 WHEN NOT MATCHED THEN INSERT VALUES (s.k, s.v); SELECT k, v FROM d.t ORDER BY k, v"
            ),
            "NULL,4 NaN,1 NaN,10 -0.0,20 5.0,3",
        ),
        (&format!("{rows}DELETE d.t WHERE k = k; SELECT v FROM d.t ORDER BY k DESC"), "1 4"),
        (&format!("{rows}UPDATE d.t SET v = 0 WHERE NOT (k < 1); SELECT k, v FROM d.t ORDER BY v, k"), "NaN,0 5.0,0 -0.0,2 NULL,4"),
        (&format!("{rows}SELECT MIN(k), MAX(k), COUNT(DISTINCT k) FROM d.t"), "NaN,NaN,3"),
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

const TWO: &str = "CREATE TABLE d.t (x INT64, y STRING); CREATE TABLE d.s (x INT64, y STRING); \
                   INSERT d.t VALUES (1, 'old'), (2, 'old'); INSERT d.s VALUES (2, 'new'), (3, 'new');";

#[tokio::test]
async fn merge_knows_only_the_columns_of_the_row_that_is_there() {
    let merged = |clauses: &str| {
        format!("{TWO} MERGE d.t USING d.s ON t.x = s.x {clauses}; SELECT x, y FROM d.t ORDER BY x")
    };
    for (clauses, expected) in [
        ("WHEN NOT MATCHED THEN INSERT (x, y) VALUES (x, y)", "1,old 2,old 3,new"),
        ("WHEN NOT MATCHED THEN INSERT (x) VALUES (x)", "1,old 2,old 3,NULL"),
        ("WHEN NOT MATCHED BY TARGET AND x > 5 THEN INSERT ROW", "1,old 2,old"),
        ("WHEN NOT MATCHED AND y = 'new' THEN INSERT ROW", "1,old 2,old 3,new"),
        (
            "WHEN NOT MATCHED THEN INSERT (y, x) VALUES (UPPER(y), (SELECT MAX(x) FROM d.s WHERE s.x = x) + x)",
            "1,old 2,old 6,NEW",
        ),
        (
            "WHEN NOT MATCHED BY SOURCE AND x = 1 THEN UPDATE SET y = CONCAT(y, CAST(x AS STRING))",
            "1,old1 2,old",
        ),
        ("WHEN NOT MATCHED BY SOURCE AND y = 'old' THEN DELETE", "2,old"),
        (
            "WHEN MATCHED THEN UPDATE SET y = s.y WHEN NOT MATCHED THEN INSERT ROW WHEN NOT MATCHED BY SOURCE THEN DELETE",
            "2,new 3,new",
        ),
        ("WHEN MATCHED THEN UPDATE SET y = y", "Column name y is ambiguous"),
        ("WHEN NOT MATCHED THEN INSERT (x) VALUES (t.x)", "Unrecognized name: t"),
        ("WHEN NOT MATCHED BY SOURCE AND s.x = 1 THEN DELETE", "Unrecognized name: s"),
        ("WHEN NOT MATCHED BY SOURCE THEN UPDATE SET y = s.y", "Unrecognized name: s"),
    ] {
        check(&[(&merged(clauses), expected)]).await;
    }
}

#[tokio::test]
async fn merge_takes_conditions_with_queries() {
    let sql = format!(
        "{TWO} MERGE d.t USING d.s ON t.x = s.x \
         WHEN MATCHED AND s.x IN (SELECT x FROM d.s WHERE y = 'new') THEN UPDATE SET y = s.y \
         WHEN NOT MATCHED AND EXISTS(SELECT 1 FROM d.t WHERE t.x = 9) THEN INSERT ROW; \
         SELECT x, y FROM d.t ORDER BY x"
    );
    check(&[(&sql, "1,old 2,new")]).await;
}

#[tokio::test]
async fn tables_are_cloned_as_they_were() {
    let context = Context::new().await;
    assert_eq!(context.query("CREATE TABLE d.src AS SELECT 1 AS x").await.0, 200);
    let then: String = context.rows("SELECT CAST(UNIX_MICROS(CURRENT_TIMESTAMP()) + 1000 AS STRING)").await;
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(context.query("INSERT d.src VALUES (2)").await.0, 200);
    let at = format!("FOR SYSTEM_TIME AS OF TIMESTAMP_MICROS({then})");
    for (made, expected) in [
        (format!("CREATE TABLE d.a CLONE src {at}"), "1"),
        (format!("CREATE TABLE d.b CLONE d.src {at} OPTIONS (description = 'b')"), "1"),
        (format!("CREATE TABLE d.c CLONE `p.d.src` {}", at.replace("SYSTEM_TIME", "SYSTEM TIME")), "1"),
        (format!("CREATE SNAPSHOT TABLE d.e CLONE src {at} OPTIONS (friendly_name = 'e')"), "1"),
        (format!("CREATE SNAPSHOT TABLE IF NOT EXISTS d.f CLONE p.d.src {at}"), "1"),
        ("CREATE TABLE d.g CLONE src".to_owned(), "1 2"),
    ] {
        let (status, answer) = context.query(&made).await;
        assert_eq!(status, 200, "{made}: {answer}");
        let name = made.split(" CLONE").next().unwrap().rsplit(' ').next().unwrap();
        assert_eq!(context.rows(&format!("SELECT x FROM {name} ORDER BY x")).await, expected, "{made}");
    }
    // The name is no keyword elsewhere.
    assert_eq!(context.query("CREATE TABLE d.clone CLONE src").await.0, 200);
    let read = "SELECT c.x FROM clone c FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP() ORDER BY 1";
    assert_eq!(context.rows(read).await, "1 2");
}
