"""DDL, DML, MERGE, scripts and views: what each does to tables, and what it answers."""

import concurrent.futures
import datetime
from decimal import Decimal

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud import bigquery

DAY = datetime.date(2024, 1, 2)


@pytest.fixture
def run(client):
    """Runs a statement to its end and gives its job."""

    def run(sql, **config):
        job = client.query(sql, job_config=bigquery.QueryJobConfig(**config), job_retry=None)
        job.result()
        return job

    return run


@pytest.fixture
def rows(run):
    return lambda sql, **config: [tuple(row.values()) for row in run(sql, **config).result()]


def refused(run, sql, text, reason="invalidQuery", error=BadRequest):
    with pytest.raises(error) as failure:
        run(sql)
    assert text in failure.value.message, failure.value.message
    assert failure.value.errors[0]["reason"] == reason


def counts(job):
    stats = job.dml_stats
    return stats.inserted_row_count, stats.updated_row_count, stats.deleted_row_count


def test_create_table_says_what_it_is_made_of(client, run, table_name):
    job = run(
        f"""CREATE TABLE `{table_name}` (
              id INT64 NOT NULL OPTIONS(description='the key'),
              name STRING(20) DEFAULT 'nobody' NOT NULL,
              price NUMERIC(10, 2),
              tags ARRAY<STRUCT<k STRING, v ARRAY<INT64>>>,
              seen TIMESTAMP)
            PARTITION BY TIMESTAMP_TRUNC(seen, MONTH)
            CLUSTER BY id
            OPTIONS(description='things', labels=[('team', 'flows')], partition_expiration_days=20000,
                    require_partition_filter=TRUE, friendly_name='Things')"""
    )
    assert (job.statement_type, job.ddl_operation_performed) == ("CREATE_TABLE", "CREATE")
    assert job.ddl_target_table.table_id == table_name.split(".")[-1]
    table = client.get_table(table_name)
    assert [(f.name, f.field_type, f.mode) for f in table.schema] == [
        ("id", "INTEGER", "REQUIRED"), ("name", "STRING", "REQUIRED"), ("price", "NUMERIC", "NULLABLE"),
        ("tags", "RECORD", "REPEATED"), ("seen", "TIMESTAMP", "NULLABLE"),
    ]
    assert table.schema[0].description == "the key"
    assert (table.schema[1].max_length, table.schema[1].default_value_expression) == (20, "'nobody'")
    assert (table.schema[2].precision, table.schema[2].scale) == (10, 2)
    assert table.schema[3].fields[1].mode == "REPEATED"
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "seen")
    assert table.time_partitioning.expiration_ms == 20000 * 86_400_000
    assert table.clustering_fields == ["id"]
    assert (table.description, table.friendly_name, table.labels) == ("things", "Things", {"team": "flows"})
    assert table.require_partition_filter is True


def test_create_table_takes_names_that_are_free(run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` AS SELECT 1 AS a, 'x' AS b")
    refused(run, f"CREATE TABLE `{table_name}` (a INT64)", "Already Exists", "duplicate", Conflict)
    assert run(f"CREATE TABLE IF NOT EXISTS `{table_name}` (z INT64)").ddl_operation_performed == "SKIP"
    assert rows(f"SELECT * FROM `{table_name}`") == [(1, "x")]
    job = run(f"CREATE OR REPLACE TABLE `{table_name}` CLUSTER BY d AS SELECT 2 AS c, DATE '2024-01-02' AS d")
    assert (job.statement_type, job.ddl_operation_performed) == ("CREATE_TABLE_AS_SELECT", "REPLACE")
    assert rows(f"SELECT * FROM `{table_name}`") == [(2, DAY)]


def test_rows_of_create_table_go_to_their_partitions(client, run, rows, table_name):
    run(
        f"""CREATE TABLE `{table_name}` PARTITION BY RANGE_BUCKET(n, GENERATE_ARRAY(0, 100, 10)) AS
            SELECT 5 AS n UNION ALL SELECT 15 UNION ALL SELECT 17"""
    )
    assert client.get_table(table_name).range_partitioning.range_.interval == 10
    assert client.get_table(f"{table_name}$10").num_rows == 2
    job = run(f"SELECT n FROM `{table_name}` WHERE n >= 10")
    assert sorted(row.n for row in job.result()) == [15, 17]
    assert job.total_bytes_processed == 16


def test_create_table_like_copy_and_clone(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (a INT64 NOT NULL, d DATE) PARTITION BY d OPTIONS(description='first')")
    run(f"INSERT `{table_name}` VALUES (1, '2024-01-02'), (2, NULL)")
    run(f"CREATE TABLE `{table_name}_like` LIKE `{table_name}` OPTIONS(description='second')")
    like = client.get_table(f"{table_name}_like")
    assert (like.num_rows, like.description, like.time_partitioning.field) == (0, "second", "d")
    assert like.schema[0].mode == "REQUIRED"
    run(f"CREATE TABLE `{table_name}_copy` COPY `{table_name}`")
    run(f"CREATE TABLE `{table_name}_clone` CLONE `{table_name}`")
    run(f"DELETE FROM `{table_name}` WHERE a = 1")
    for made in ("copy", "clone"):
        assert rows(f"SELECT a FROM `{table_name}_{made}` ORDER BY a") == [(1,), (2,)]
        assert client.get_table(f"{table_name}_{made}").time_partitioning.field == "d"
    assert client.get_table(f"{table_name}_clone").clone_definition is not None


def test_snapshots_are_made_of_the_past_and_dropped_as_such(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` AS SELECT 1 AS a")
    run(f"CREATE SNAPSHOT TABLE `{table_name}_s` CLONE `{table_name}`")
    run(f"UPDATE `{table_name}` SET a = 2 WHERE TRUE")
    assert rows(f"SELECT a FROM `{table_name}_s`") == [(1,)]
    assert client.get_table(f"{table_name}_s").table_type == "SNAPSHOT"
    for sql in (f"UPDATE `{table_name}_s` SET a = 3 WHERE TRUE", f"DROP TABLE `{table_name}_s`"):
        with pytest.raises(BadRequest):
            run(sql)
    assert run(f"DROP SNAPSHOT TABLE `{table_name}_s`").ddl_operation_performed == "DROP"


def test_drop_and_truncate(client, run, table_name):
    refused(run, f"DROP TABLE `{table_name}`", "Not found", "notFound", NotFound)
    assert run(f"DROP TABLE IF EXISTS `{table_name}`").ddl_operation_performed == "SKIP"
    run(f"CREATE TABLE `{table_name}` AS SELECT n FROM (SELECT 1 AS n UNION ALL SELECT 2)")
    job = run(f"TRUNCATE TABLE `{table_name}`")
    assert (job.statement_type, client.get_table(table_name).num_rows) == ("TRUNCATE_TABLE", 0)
    job = run(f"DROP TABLE `{table_name}`")
    assert (job.statement_type, job.ddl_operation_performed) == ("DROP_TABLE", "DROP")
    with pytest.raises(NotFound):
        client.get_table(table_name)


def test_alter_table_changes_columns_and_keeps_rows(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (a INT64 NOT NULL, b STRING(3), c INT64)")
    run(f"INSERT `{table_name}` VALUES (1, 'x', 10)")
    job = run(f"ALTER TABLE `{table_name}` ADD COLUMN d DATE OPTIONS(description='day'), ADD COLUMN IF NOT EXISTS c INT64")
    assert job.statement_type == "ALTER_TABLE"
    run(f"ALTER TABLE `{table_name}` DROP COLUMN c, DROP COLUMN IF EXISTS nothing")
    run(f"ALTER TABLE `{table_name}` ADD COLUMN c STRING")
    assert rows(f"SELECT a, b, c, d FROM `{table_name}`") == [(1, "x", None, None)]
    run(f"ALTER TABLE `{table_name}` RENAME COLUMN b TO e")
    run(f"ALTER TABLE `{table_name}` ALTER COLUMN a DROP NOT NULL, ALTER COLUMN a SET DATA TYPE NUMERIC, "
        f"ALTER COLUMN e SET DATA TYPE STRING(5), ALTER COLUMN e SET OPTIONS(description='was b')")
    run(f"ALTER TABLE `{table_name}` ALTER COLUMN c SET DEFAULT 'new'")
    run(f"INSERT `{table_name}` (a, e) VALUES (1.5, 'abcde')")
    found = rows(f"SELECT a, e, c FROM `{table_name}` ORDER BY a")
    assert found == [(Decimal("1"), "x", None), (Decimal("1.5"), "abcde", "new")]
    schema = {f.name: f for f in client.get_table(table_name).schema}
    assert (schema["a"].field_type, schema["a"].mode) == ("NUMERIC", "NULLABLE")
    assert (schema["e"].max_length, schema["e"].description) == (5, "was b")
    run(f"ALTER TABLE `{table_name}` SET OPTIONS (description='now', labels=[('k', 'v')])")
    run(f"ALTER TABLE `{table_name}` SET OPTIONS (description=NULL)")
    table = client.get_table(table_name)
    assert (table.description, table.labels) == (None, {"k": "v"})
    for sql in ("ALTER COLUMN e SET DATA TYPE INT64", "DROP COLUMN zz", "ADD COLUMN q INT64 NOT NULL"):
        with pytest.raises(BadRequest):
            run(f"ALTER TABLE `{table_name}` {sql}")
    run(f"ALTER TABLE `{table_name}` RENAME TO {table_name.split('.')[-1]}_renamed")
    assert len(rows(f"SELECT a FROM `{table_name}_renamed`")) == 2
    with pytest.raises(NotFound):
        client.get_table(table_name)


def test_schemas_are_created_altered_and_dropped(client, run, dataset):
    name = f"{dataset.dataset_id}_made"
    job = run(f"CREATE SCHEMA {name} OPTIONS(description='x', labels=[('a', 'b')], default_table_expiration_days=2)")
    assert (job.statement_type, job.ddl_operation_performed) == ("CREATE_SCHEMA", "CREATE")
    try:
        made = client.get_dataset(name)
        assert (made.description, made.labels) == ("x", {"a": "b"})
        assert made.default_table_expiration_ms == 2 * 86_400_000
        assert run(f"CREATE SCHEMA IF NOT EXISTS {name}").ddl_operation_performed == "SKIP"
        refused(run, f"CREATE SCHEMA {name}", "Already Exists", "duplicate", Conflict)
        run(f"ALTER SCHEMA {name} SET OPTIONS (description='y')")
        assert client.get_dataset(name).description == "y"
        run(f"CREATE TABLE {name}.t (a INT64)")
        refused(run, f"DROP SCHEMA {name}", "is still in use", "resourceInUse")
    finally:
        run(f"DROP SCHEMA {name} CASCADE")
    assert run(f"DROP SCHEMA IF EXISTS {name}").ddl_operation_performed == "SKIP"


def test_insert_takes_values_queries_and_defaults(run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (a INT64, b STRING DEFAULT 'd', c NUMERIC, d DATE, e TIMESTAMP)")
    job = run(
        f"""INSERT INTO `{table_name}` (a, b, c, d, e) VALUES
            (1, DEFAULT, 1.10, '2024-01-02', '2024-01-02 03:04:05 UTC'), (2, 'x', NULL, NULL, NULL)"""
    )
    assert (job.statement_type, job.num_dml_affected_rows, counts(job)) == ("INSERT", 2, (2, 0, 0))
    run(f"INSERT `{table_name}` (a, c) SELECT a + 10, a FROM `{table_name}`")
    run(f"INSERT `{table_name}` (a) VALUES ((SELECT MAX(a) FROM `{table_name}`))")
    at = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    assert rows(f"SELECT * FROM `{table_name}` ORDER BY a, c") == [
        (1, "d", Decimal("1.1"), DAY, at), (2, "x", None, None, None),
        (11, "d", Decimal("1"), None, None), (12, "d", None, None, None), (12, "d", Decimal("2"), None, None),
    ]
    refused(run, f"INSERT `{table_name}` (a) VALUES (1, 2)", "Inserted row has wrong column count; Has 2, expected 1")
    refused(run, f"INSERT `{table_name}` (a) VALUES ('x')", "which has type INT64")
    refused(run, f"INSERT `{table_name}` (zz) VALUES (1)", "Column zz is not present in table")


def test_required_columns_take_no_null(run, table_name):
    run(f"CREATE TABLE `{table_name}` (a INT64 NOT NULL, b INT64)")
    refused(run, f"INSERT `{table_name}` (b) VALUES (1)", "a", "invalidQuery")


def test_update_changes_what_matches(run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (id INT64, v STRING, d DATE) PARTITION BY d")
    run(f"INSERT `{table_name}` VALUES (1, 'a', '2024-01-01'), (2, 'b', '2024-01-02'), (3, 'c', NULL)")
    job = run(f"UPDATE `{table_name}` SET v = CONCAT(v, '!'), d = DATE '2024-01-03' WHERE id >= 2")
    assert (job.num_dml_affected_rows, counts(job)) == (2, (0, 2, 0))
    found = rows(f"SELECT id, v FROM `{table_name}` WHERE d = '2024-01-03' ORDER BY id")
    assert found == [(2, "b!"), (3, "c!")]
    job = run(
        f"""UPDATE `{table_name}` t SET v = s.v FROM (SELECT 1 AS id, 'z' AS v UNION ALL SELECT 9, 'y') AS s
            WHERE t.id = s.id"""
    )
    assert job.num_dml_affected_rows == 1
    assert rows(f"SELECT v FROM `{table_name}` WHERE id = 1") == [("z",)]
    refused(run, f"UPDATE `{table_name}` SET v = 'x'", "WHERE")
    refused(
        run,
        f"UPDATE `{table_name}` t SET v = s.v FROM (SELECT 1 AS id, 'z' AS v UNION ALL SELECT 1, 'y') s WHERE t.id = s.id",
        "UPDATE/MERGE must match at most one source row for each target row",
    )


def test_delete_takes_rows_away(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` AS SELECT 1 AS a UNION ALL SELECT 2 UNION ALL SELECT 3")
    job = run(f"DELETE FROM `{table_name}` WHERE a IN (SELECT a FROM `{table_name}` WHERE a > 1)")
    assert (job.statement_type, counts(job)) == ("DELETE", (0, 0, 2))
    assert rows(f"SELECT a FROM `{table_name}`") == [(1,)]
    assert run(f"DELETE `{table_name}` WHERE a = 5").num_dml_affected_rows == 0
    run(f"DELETE `{table_name}` WHERE TRUE")
    assert client.get_table(table_name).num_rows == 0
    refused(run, f"DELETE FROM `{table_name}`", "WHERE")


def test_merge_does_the_first_clause_that_applies(run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (id INT64, v STRING, n INT64)")
    run(f"INSERT `{table_name}` VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4)")
    job = run(
        f"""MERGE `{table_name}` t
            USING (SELECT 1 AS id, 'A' AS v UNION ALL SELECT 2, 'B' UNION ALL SELECT 9, 'Z') s ON t.id = s.id
            WHEN MATCHED AND s.v = 'B' THEN DELETE
            WHEN MATCHED THEN UPDATE SET v = s.v, n = n + 100
            WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)
            WHEN NOT MATCHED BY SOURCE AND t.id = 4 THEN DELETE
            WHEN NOT MATCHED BY SOURCE THEN UPDATE SET v = 'kept'"""
    )
    assert (job.statement_type, job.num_dml_affected_rows, counts(job)) == ("MERGE", 5, (1, 2, 2))
    found = rows(f"SELECT id, v, n FROM `{table_name}` ORDER BY id")
    assert found == [(1, "A", 101), (3, "kept", 3), (9, "Z", None)]
    refused(
        run,
        f"MERGE `{table_name}` t USING (SELECT 1 AS id UNION ALL SELECT 1) s ON t.id = s.id WHEN MATCHED THEN DELETE",
        "UPDATE/MERGE must match at most one source row for each target row",
    )


def test_merge_on_false_replaces_a_table(run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` AS SELECT 1 AS id, 'a' AS v")
    run(f"CREATE TABLE `{table_name}_new` AS SELECT 2 AS id, 'b' AS v")
    run(
        f"""MERGE `{table_name}` USING `{table_name}_new` ON FALSE
            WHEN NOT MATCHED THEN INSERT ROW WHEN NOT MATCHED BY SOURCE THEN DELETE"""
    )
    assert rows(f"SELECT * FROM `{table_name}`") == [(2, "b")]


def test_rows_stay_in_their_partition_of_arrival(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (a INT64) PARTITION BY _PARTITIONDATE")
    run(f"INSERT `{table_name}` (_PARTITIONTIME, a) VALUES (TIMESTAMP '2024-01-02', 1), (TIMESTAMP '2024-01-03', 2)")
    run(f"UPDATE `{table_name}` SET a = a + 10 WHERE _PARTITIONDATE = '2024-01-02'")
    assert rows(f"SELECT a, _PARTITIONDATE AS d FROM `{table_name}` ORDER BY a") == [(2, DAY + datetime.timedelta(1)), (11, DAY)]
    assert client.get_table(f"{table_name}$20240102").num_rows == 1
    run(f"INSERT `{table_name}` (a) VALUES (3)")
    assert len(rows(f"SELECT a FROM `{table_name}` WHERE _PARTITIONTIME > TIMESTAMP '2024-02-01'")) == 1


def test_dml_at_the_same_time_is_not_lost(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` AS SELECT 0 AS n")
    sql = f"UPDATE `{table_name}` SET n = n + 1 WHERE TRUE"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: client.query(sql).result(), range(4)))
    assert rows(f"SELECT n FROM `{table_name}`") == [(4,)]


def test_upserts_at_the_same_time_make_no_key_twice(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (k INT64, v INT64)")
    sql = f"""MERGE `{table_name}` t USING (SELECT x AS k FROM UNNEST(GENERATE_ARRAY(0, 50)) AS x) s ON t.k = s.k
              WHEN MATCHED THEN UPDATE SET v = t.v + 1
              WHEN NOT MATCHED THEN INSERT (k, v) VALUES (s.k, 1)"""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: client.query(sql).result(), range(4)))
    assert rows(f"SELECT COUNT(*), COUNT(DISTINCT k), MIN(v), MAX(v) FROM `{table_name}`") == [(51, 51, 4, 4)]


def test_parameters_go_where_they_stand(run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` AS SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y'")
    parameters = [bigquery.ScalarQueryParameter(None, "STRING", "new"), bigquery.ScalarQueryParameter(None, "INT64", 2)]
    run(f"UPDATE `{table_name}` SET b = ? WHERE a = ?", query_parameters=parameters)
    assert rows(f"SELECT b FROM `{table_name}` ORDER BY a") == [("x",), ("new",)]


def test_a_view_is_its_query(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` AS SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y'")
    job = run(f"CREATE VIEW `{table_name}_v` (id OPTIONS(description='key'), b) OPTIONS(description='few') AS "
              f"SELECT a, b FROM `{table_name}` WHERE a > 1")
    assert (job.statement_type, job.ddl_operation_performed) == ("CREATE_VIEW", "CREATE")
    view = client.get_table(f"{table_name}_v")
    assert (view.table_type, view.description, view.schema[0].description) == ("VIEW", "few", "key")
    assert view.view_query == f"SELECT a, b FROM `{table_name}` WHERE a > 1"
    assert rows(f"SELECT id, b FROM `{table_name}_v`") == [(2, "y")]
    run(f"INSERT `{table_name}` VALUES (3, 'z')")
    assert rows(f"SELECT COUNT(*) FROM `{table_name}_v`") == [(2,)]
    run(f"CREATE OR REPLACE VIEW `{table_name}_v` AS SELECT COUNT(*) AS n FROM `{table_name}`")
    assert rows(f"SELECT * FROM `{table_name}_v`") == [(3,)]
    refused(run, f"DROP TABLE `{table_name}_v`", "VIEW", "invalid")
    refused(run, f"DELETE FROM `{table_name}_v` WHERE TRUE", "VIEW")
    run(f"DROP VIEW `{table_name}_v`")


def test_a_view_is_made_without_sql_too(client, run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (a INT64) PARTITION BY _PARTITIONDATE OPTIONS(require_partition_filter=TRUE)")
    view = bigquery.Table(f"{table_name}_v")
    view.view_query = f"SELECT a, _PARTITIONDATE AS day FROM `{table_name}`"
    made = client.create_table(view)
    assert [(f.name, f.field_type) for f in made.schema] == [("a", "INTEGER"), ("day", "DATE")]
    with pytest.raises(BadRequest, match="partition elimination"):
        rows(f"SELECT a FROM `{table_name}_v`")
    assert rows(f"SELECT a FROM `{table_name}_v` WHERE day = '2024-01-02'") == []
    made.view_query = f"SELECT a + 1 AS b FROM `{table_name}` WHERE _PARTITIONDATE > '2024-01-01'"
    client.update_table(made, ["view_query"])
    assert rows(f"SELECT b FROM `{table_name}_v`") == []


def test_a_script_has_a_job_for_each_statement(client, run, table_name):
    job = run(
        f"""CREATE TEMP TABLE mine AS SELECT 1 AS a;
            INSERT mine VALUES (2);
            CREATE TABLE `{table_name}` AS SELECT * FROM mine;
            SELECT SUM(a) AS total FROM mine;"""
    )
    assert [row.total for row in job.result()] == [3]
    assert (job.statement_type, job.num_child_jobs) == ("SCRIPT", 4)
    children = list(client.list_jobs(parent_job=job))
    assert sorted(child.statement_type for child in children) == [
        "CREATE_TABLE_AS_SELECT", "CREATE_TABLE_AS_SELECT", "INSERT", "SELECT",
    ]
    assert {child.parent_job_id for child in children} == {job.job_id}
    assert client.get_table(table_name).num_rows == 2


def test_a_script_ends_at_its_first_mistake(client, run, table_name):
    with pytest.raises(BadRequest):
        run(f"CREATE TABLE `{table_name}` (a INT64); SELECT nothing FROM `{table_name}`; DROP TABLE `{table_name}`")
    assert client.get_table(table_name).num_rows == 0


def test_functions_of_a_query_are_its_own(rows):
    sql = """CREATE TEMP FUNCTION half(x FLOAT64) AS (x / 2);
             CREATE TEMP FUNCTION quarter(x FLOAT64) RETURNS STRING AS (CAST(half(half(x)) AS STRING));
             SELECT half(3), quarter(10)"""
    assert rows(sql) == [(1.5, "2.5")]
    with pytest.raises(BadRequest):
        rows("SELECT half(3)")


def test_a_statement_cannot_write_past_the_limits_of_a_column(client, table_name):
    client.query(f"CREATE TABLE `{table_name}` (s STRING(3), n NUMERIC(4, 2))").result()
    client.query(f"INSERT INTO `{table_name}` VALUES ('abc', NUMERIC '12.34')").result()
    for statement in [
        f"INSERT INTO `{table_name}` VALUES ('abcd', NULL)",
        f"UPDATE `{table_name}` SET s = 'abcd' WHERE TRUE",
        f"INSERT INTO `{table_name}` VALUES (NULL, NUMERIC '123.4')",
    ]:
        with pytest.raises(BadRequest):
            client.query(statement).result()
    [row] = client.list_rows(table_name)
    assert (row.s, str(row.n)) == ("abc", "12.34")


def test_no_statement_stores_an_array_with_null_in_it(client, run, table_name):
    run(f"CREATE TABLE `{table_name}` (id INT64, a ARRAY<STRING>, s STRUCT<u ARRAY<INT64>>)")
    run(f"INSERT `{table_name}` VALUES (1, ['x'], STRUCT([1]))")
    for sql in [
        f"INSERT `{table_name}` SELECT 2, [NULL, 'a'], STRUCT([1] AS u)",
        f"INSERT `{table_name}` SELECT 2, ['a'], STRUCT([1, NULL] AS u)",
        f"INSERT `{table_name}` VALUES (2, ['a', NULL], STRUCT([1]))",
        f"UPDATE `{table_name}` SET a = [NULL, 'a'] WHERE TRUE",
        f"MERGE `{table_name}` t USING (SELECT 2 AS id) s ON t.id = s.id "
        "WHEN NOT MATCHED THEN INSERT (id, a) VALUES (s.id, ['a', NULL])",
    ]:
        refused(run, sql, "Array cannot have a null element")
    [row] = client.query(f"SELECT * FROM `{table_name}`").result()
    assert tuple(row.values()) == (1, ["x"], {"u": [1]})


def test_an_empty_array_takes_the_type_of_its_column(client, table_name):
    columns = "id INT64, tags ARRAY<STRING>, parts ARRAY<STRUCT<n INT64, s STRING>>"
    client.query(f"CREATE TABLE `{table_name}` ({columns})").result()
    rows = "(1, ['x', 'y'], [STRUCT(1 AS n, 'a' AS s)]), (2, [], [])"
    client.query(f"INSERT INTO `{table_name}` VALUES {rows}").result()
    client.query(f"UPDATE `{table_name}` SET tags = [] WHERE id = 1").result()
    found = {row.id: (row.tags, row.parts) for row in client.list_rows(table_name)}
    assert found == {1: ([], [{"n": 1, "s": "a"}]), 2: ([], [])}


def test_decimals_are_rounded_to_the_scale_of_their_column(run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (k INT64, a NUMERIC(5, 2), b BIGNUMERIC(6, 3), c ARRAY<NUMERIC(4, 1)>)")
    run(f"INSERT `{table_name}` VALUES (1, NUMERIC '1.005', BIGNUMERIC '-2.0005', [NUMERIC '1.25', NUMERIC '-0.04'])")
    run(f"INSERT `{table_name}` (k, a) VALUES (2, 0.001), (3, -999.994)")
    run(f"UPDATE `{table_name}` SET a = NUMERIC '-0.125' WHERE k = 2")
    found = rows(f"SELECT * EXCEPT (k) FROM `{table_name}` ORDER BY k")
    numbers = [Decimal(text) for text in ("1.01", "-2.001", "1.3", "0", "-0.13", "-999.99")]
    assert found == [
        (numbers[0], numbers[1], numbers[2:4]), (numbers[4], None, []), (numbers[5], None, []),
    ]
    for wrong in ("NUMERIC '999.995'", "NUMERIC '1000'"):
        with pytest.raises(BadRequest):
            run(f"INSERT `{table_name}` (a) VALUES ({wrong})")
    run(f"CREATE OR REPLACE TABLE `{table_name}` (a NUMERIC(5, 2)) AS SELECT NUMERIC '1.239' AS a")
    assert rows(f"SELECT * FROM `{table_name}`") == [(Decimal("1.24"),)]


def test_arguments_of_a_function_are_not_cast(rows, run):
    whole, text = "CREATE TEMP FUNCTION f(x INT64) AS (x + 1); ", "CREATE TEMP FUNCTION f(x STRING) AS (x); "
    for sql in (whole + "SELECT f(1.7)", whole + "SELECT f('7')", text + "SELECT f(7)"):
        with pytest.raises(BadRequest):
            run(sql)
    with pytest.raises(BadRequest):
        run("CREATE TEMP FUNCTION f(x FLOAT64) RETURNS INT64 AS (x); SELECT f(1.7)")
    assert rows(whole + "SELECT f(1)") == [(2,)]
    assert rows("CREATE TEMP FUNCTION f(x FLOAT64) AS (x / 2); SELECT f(1)") == [(0.5,)]
    assert rows("CREATE TEMP FUNCTION f(x DATE) AS (x); SELECT f('2024-01-02')") == [(datetime.date(2024, 1, 2),)]
    assert rows("CREATE TEMP FUNCTION f(x ANY TYPE) AS (x + 1); SELECT f(1.5), f(1)") == [(2.5, 2)]


def test_json_and_geography_are_not_compared(run, rows, table_name):
    run(f"CREATE TABLE `{table_name}` (k INT64, j JSON, g GEOGRAPHY)")
    run(f"INSERT `{table_name}` VALUES (1, JSON '{{\"a\": 1}}', ST_GEOGFROMTEXT('POINT(1 2)')), (2, NULL, NULL)")
    table = f"`{table_name}`"
    for wrong in (
        f"SELECT k FROM {table} WHERE j = '1'", f"SELECT k FROM {table} WHERE j = j", f"SELECT k FROM {table} WHERE g = g",
        f"SELECT CAST(j AS STRING) FROM {table}", f"SELECT CAST(g AS STRING) FROM {table}",
        f"SELECT j FROM {table} ORDER BY j", f"SELECT COUNT(*) FROM {table} GROUP BY j", f"SELECT DISTINCT j FROM {table}",
        f"SELECT MIN(j) FROM {table}", f"SELECT COUNT(DISTINCT j) FROM {table}", f"SELECT UPPER(j) FROM {table}",
        f"SELECT j || 'x' FROM {table}", f"SELECT k FROM {table} WHERE j LIKE '%a%'", f"SELECT j IN ('1') FROM {table}",
        f"SELECT ROW_NUMBER() OVER (PARTITION BY j ORDER BY k) FROM {table}", f"SELECT NULLIF(j, j) FROM {table}",
        f"SELECT k FROM {table} WHERE IF(k = 1, j, NULL) = '1'",
    ):
        with pytest.raises(BadRequest):
            run(wrong)
    assert rows(f"SELECT k, JSON_VALUE(j, '$.a'), j IS NULL, TO_JSON_STRING(j) FROM {table} ORDER BY k")[0] == (
        1, "1", False, '{"a":1}',
    )
