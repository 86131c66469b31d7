"""INFORMATION_SCHEMA: the catalog as tables."""

import pytest
from google.api_core.exceptions import BadRequest


@pytest.fixture(scope="module")
def made(client, dataset):
    """A dataset with a table by day, an empty one without partitions, and a view."""
    prefix = f"{dataset.project}.{dataset.dataset_id}"
    client.query_and_wait(
        f"""CREATE TABLE `{prefix}.flows` (
              id INT64 NOT NULL OPTIONS(description='the key'), day DATE, name STRING(10) DEFAULT 'x',
              r STRUCT<a INT64, b ARRAY<STRING>>)
            PARTITION BY day CLUSTER BY name, id
            OPTIONS(description='say "hi"', labels=[('team', 'flows')], require_partition_filter=TRUE);
            INSERT `{prefix}.flows` (id, day) VALUES (1, '2024-01-02'), (2, '2024-01-02'), (3, '2024-01-03'), (4, NULL);
            CREATE TABLE `{prefix}.plain` (a INT64);
            CREATE VIEW `{prefix}.few` AS SELECT a FROM `{prefix}.plain`"""
    )
    return prefix


@pytest.fixture
def rows(client):
    return lambda sql: [tuple(row.values()) for row in client.query_and_wait(sql)]


def test_tables_and_views_are_listed_with_their_kind(rows, made):
    found = rows(f"SELECT table_name, table_type, is_insertable_into FROM `{made}`.INFORMATION_SCHEMA.TABLES ORDER BY 1")
    assert found == [("few", "VIEW", "NO"), ("flows", "BASE TABLE", "YES"), ("plain", "BASE TABLE", "YES")]


def test_the_ddl_of_a_table_makes_it_again(client, rows, made):
    [(ddl,)] = rows(f"SELECT ddl FROM `{made}`.INFORMATION_SCHEMA.TABLES WHERE table_name = 'flows'")
    assert ddl.startswith(f"CREATE TABLE `{made}.flows`")
    assert "PARTITION BY day\nCLUSTER BY name, id\nOPTIONS(" in ddl
    client.query_and_wait(ddl.replace(".flows`", ".again`", 1))
    again, flows = client.get_table(f"{made}.again"), client.get_table(f"{made}.flows")
    assert (again.schema, again.labels, again.description) == (flows.schema, flows.labels, flows.description)
    client.delete_table(again)


def test_columns_say_type_default_and_place(rows, made):
    found = rows(
        f"""SELECT column_name, ordinal_position, is_nullable, data_type, is_partitioning_column,
                   clustering_ordinal_position, column_default
            FROM `{made}`.INFORMATION_SCHEMA.COLUMNS WHERE table_name = 'flows' ORDER BY ordinal_position"""
    )
    assert found == [
        ("id", 1, "NO", "INT64", "NO", 2, "NULL"),
        ("day", 2, "YES", "DATE", "YES", None, "NULL"),
        ("name", 3, "YES", "STRING(10)", "NO", 1, "'x'"),
        ("r", 4, "YES", "STRUCT<a INT64, b ARRAY<STRING>>", "NO", None, "NULL"),
    ]
    paths = rows(
        f"""SELECT field_path, data_type, description FROM `{made}`.INFORMATION_SCHEMA.COLUMN_FIELD_PATHS
            WHERE table_name = 'flows' AND column_name IN ('id', 'r') ORDER BY field_path"""
    )
    assert paths == [
        ("id", "INT64", "the key"), ("r", "STRUCT<a INT64, b ARRAY<STRING>>", None),
        ("r.a", "INT64", None), ("r.b", "ARRAY<STRING>", None),
    ]


def test_partitions_say_rows_and_bytes(rows, made):
    found = rows(
        f"""SELECT partition_id, total_rows, storage_tier FROM `{made}`.INFORMATION_SCHEMA.PARTITIONS
            WHERE table_name = 'flows' ORDER BY partition_id"""
    )
    assert found == [("20240102", 2, "ACTIVE"), ("20240103", 1, "ACTIVE"), ("__NULL__", 1, "ACTIVE")]
    [(bytes_,)] = rows(f"SELECT total_logical_bytes FROM `{made}`.INFORMATION_SCHEMA.PARTITIONS WHERE partition_id = '20240103'")
    assert bytes_ > 0


def test_the_client_lists_partitions(client, made):
    assert sorted(client.list_partitions(f"{made}.flows")) == ["20240102", "20240103", "__NULL__"]


def test_options_are_literals(rows, made):
    found = rows(
        f"""SELECT option_name, option_type, option_value FROM `{made}`.INFORMATION_SCHEMA.TABLE_OPTIONS
            WHERE table_name = 'flows' ORDER BY option_name"""
    )
    assert found == [
        ("description", "STRING", '"say \\"hi\\""'),
        ("labels", "ARRAY<STRUCT<STRING, STRING>>", '[STRUCT("team", "flows")]'),
        ("require_partition_filter", "BOOL", "true"),
    ]


def test_views_are_listed_with_their_query(rows, made):
    found = rows(f"SELECT table_name, view_definition, use_standard_sql FROM `{made}`.INFORMATION_SCHEMA.VIEWS")
    assert found == [("few", f"SELECT a FROM `{made}.plain`", "YES")]


def test_datasets_of_the_region_are_listed(rows, client, dataset):
    region = f"region-{dataset.location.lower()}"
    for schemata in (f"`{region}`.INFORMATION_SCHEMA.SCHEMATA", "INFORMATION_SCHEMA.SCHEMATA"):
        found = rows(f"SELECT schema_name, location FROM {schemata} WHERE schema_name = '{dataset.dataset_id}'")
        assert found == [(dataset.dataset_id, dataset.location)]
    found = rows(f"SELECT COUNT(*) FROM `{region}`.INFORMATION_SCHEMA.TABLES WHERE table_schema = '{dataset.dataset_id}'")
    assert found[0][0] >= 3


def test_what_is_not_there_is_refused(rows, made):
    with pytest.raises(BadRequest):
        rows(f"SELECT * FROM `{made}`.INFORMATION_SCHEMA.NOTHING")
    with pytest.raises(BadRequest):
        rows(f"INSERT `{made}`.INFORMATION_SCHEMA.TABLES (table_name) VALUES ('x')")
