"""tabledata.insertAll: what is stored, what is refused and in which words."""

import datetime
import gzip
import json

import pytest
import requests
from google.api_core import exceptions
from google.cloud import bigquery

SCHEMA = [
    bigquery.SchemaField("n", "INTEGER", mode="REQUIRED"),
    bigquery.SchemaField("s", "STRING"),
    bigquery.SchemaField("tags", "STRING", mode="REPEATED"),
    bigquery.SchemaField("r", "RECORD", fields=[bigquery.SchemaField("d", "DATE")]),
]


@pytest.fixture
def table(client, table_name):
    return client.create_table(bigquery.Table(table_name, schema=SCHEMA))


def numbers(client, table):
    return sorted(row["n"] for row in client.list_rows(table))


def entry(error):
    [one] = error["errors"]
    return error["index"], one["reason"], one["location"], one["message"]


def test_rows_are_visible_at_once(client, table):
    rows = [{"n": 1, "s": "x", "tags": ["a", "b"], "r": {"d": "2024-01-02"}}, {"n": "2"}]
    assert client.insert_rows_json(table, rows) == []
    listed = sorted((dict(row) for row in client.list_rows(table)), key=lambda row: row["n"])
    assert listed == [
        {"n": 1, "s": "x", "tags": ["a", "b"], "r": {"d": datetime.date(2024, 1, 2)}},
        {"n": 2, "s": None, "tags": [], "r": None},
    ]
    assert [row["c"] for row in client.query_and_wait(f"SELECT COUNT(*) AS c FROM `{table}`")] == [2]


def test_one_bad_row_stops_all(client, table):
    errors = client.insert_rows_json(table, [{"n": 1}, {"n": "not-a-number"}, {"n": 3}])
    reasons = [(e["index"], e["errors"][0]["reason"]) for e in sorted(errors, key=lambda e: e["index"])]
    assert reasons == [(0, "stopped"), (1, "invalid"), (2, "stopped")]
    [bad] = [e for e in errors if e["index"] == 1]
    assert entry(bad) == (1, "invalid", "n", "Cannot convert value to integer (bad value): not-a-number")
    assert numbers(client, table) == []


def test_bad_rows_can_be_skipped(client, table):
    errors = client.insert_rows_json(
        table, [{"n": 1}, {"n": 2, "zzz": 1}, {"s": "no n"}, {"n": 4}], skip_invalid_rows=True
    )
    assert [(i, reason) for i, reason, _, _ in map(entry, errors)] == [(1, "invalid"), (2, "invalid")]
    assert entry(errors[0])[2:] == ("zzz", "no such field: zzz.")
    assert numbers(client, table) == [1, 4]


def test_unknown_values_can_be_ignored(client, table):
    assert client.insert_rows_json(table, [{"n": 1, "zzz": 1}], ignore_unknown_values=True) == []
    assert numbers(client, table) == [1]


def test_an_insert_id_is_stored_once(client, table):
    assert client.insert_rows_json(table, [{"n": 1}, {"n": 2}], row_ids=["a", "b"]) == []
    assert client.insert_rows_json(table, [{"n": 2}, {"n": 3}], row_ids=["b", "c"]) == []
    assert numbers(client, table) == [1, 2, 3]
    assert client.insert_rows_json(table, [{"n": 3}], row_ids=[None]) == []
    assert numbers(client, table) == [1, 2, 3, 3]


def test_a_template_makes_the_table(client, table):
    assert client.insert_rows_json(table, [{"n": 7}], template_suffix="_x1") == []
    made = client.get_table(f"{table}_x1")
    assert [(f.name, f.field_type, f.mode) for f in made.schema] == [
        (f.name, f.field_type, f.mode) for f in table.schema
    ]
    assert numbers(client, made) == [7]
    assert numbers(client, table) == []


def test_a_day_can_be_named(client, table_name):
    table = bigquery.Table(table_name, schema=SCHEMA[:2])
    table.time_partitioning = bigquery.TimePartitioning()
    client.create_table(table)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    yesterday = today - datetime.timedelta(days=1)
    assert client.insert_rows_json(f"{table_name}${yesterday:%Y%m%d}", [{"n": 1}]) == []
    sql = f"SELECT n, _PARTITIONDATE AS d FROM `{table_name}` WHERE _PARTITIONDATE >= '2000-01-01'"
    assert [(row["n"], row["d"]) for row in client.query_and_wait(sql)] == [(1, yesterday)]
    with pytest.raises(exceptions.BadRequest, match="outside the allowed bounds"):
        long_ago = today - datetime.timedelta(days=40)
        client.insert_rows_json(f"{table_name}${long_ago:%Y%m%d}", [{"n": 1}])


def test_defaults_stand_in_for_missing_columns(client, table_name):
    schema = [
        bigquery.SchemaField("n", "INTEGER"),
        bigquery.SchemaField("s", "STRING", default_value_expression="'none'"),
        bigquery.SchemaField("at", "TIMESTAMP", default_value_expression="CURRENT_TIMESTAMP()"),
    ]
    table = client.create_table(bigquery.Table(table_name, schema=schema))
    assert client.insert_rows_json(table, [{"n": 1}, {"n": 2, "s": "x"}]) == []
    rows = sorted(client.list_rows(table), key=lambda row: row["n"])
    assert [row["s"] for row in rows] == ["none", "x"]
    age = datetime.datetime.now(datetime.timezone.utc) - rows[0]["at"]
    assert abs(age) < datetime.timedelta(minutes=10)


def test_values_are_held_to_the_parameters_of_their_type(client, table_name):
    schema = [
        bigquery.SchemaField("s", "STRING", max_length=3),
        bigquery.SchemaField("d", "NUMERIC", precision=5, scale=2),
    ]
    table = client.create_table(bigquery.Table(table_name, schema=schema))
    [long] = client.insert_rows_json(table, [{"s": "abcd"}])
    assert entry(long)[1:3] == ("invalid", "s")
    [wide] = client.insert_rows_json(table, [{"d": "1234.5"}])
    assert entry(wide)[1:3] == ("invalid", "d")
    assert client.insert_rows_json(table, [{"s": "äöü", "d": "123.45"}]) == []


def test_many_small_requests_keep_order_and_count(client, table):
    for n in range(40):
        assert client.insert_rows_json(table, [{"n": n, "s": str(n)}]) == []
    assert numbers(client, table) == list(range(40))
    assert int(client.get_table(table).num_rows) >= 0


def test_a_packed_body_of_octets_is_understood(client, table, bigquery_url, is_embedded):
    if not is_embedded:
        pytest.skip("sends a request without credentials")
    body = gzip.compress(json.dumps({"rows": [{"json": {"n": 5}}]}).encode())
    url = f"{bigquery_url}/bigquery/v2{table.path}/insertAll"
    headers = {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}
    answer = requests.post(url, data=body, headers=headers, timeout=30)
    assert answer.json() == {"kind": "bigquery#tableDataInsertAllResponse"}
    assert numbers(client, table) == [5]


def test_requests_that_make_no_sense_are_refused(client, table, table_name):
    call = client._connection.api_request
    with pytest.raises(exceptions.BadRequest):
        call(method="POST", path=f"{table.path}/insertAll", data={"rows": []})
    with pytest.raises(exceptions.BadRequest):
        call(method="POST", path=f"{table.path}/insertAll", data={"rows": [{"json": {}}] * 50_001})
    with pytest.raises(exceptions.NotFound):
        client.insert_rows_json(table_name + "_none", [{"n": 1}], retry=None)


def test_a_request_of_more_than_ten_megabytes_is_refused(client, table):
    with pytest.raises(exceptions.GoogleAPICallError) as failure:
        client.insert_rows_json(table, [{"n": 1, "s": "x" * (11 << 20)}], retry=None)
    assert failure.value.code in (400, 413)
    with pytest.raises(exceptions.GoogleAPICallError):
        client.insert_rows_json(table, [{"n": n} for n in range(50_001)], retry=None)
    assert numbers(client, table) == []
    assert client.insert_rows_json(table, [{"n": 1, "s": "x" * (9 << 20)}]) == []


def test_rows_far_from_today_are_not_streamed_to_their_partition(client, table_name):
    schema = [bigquery.SchemaField("n", "INTEGER"), bigquery.SchemaField("d", "DATE")]
    table = bigquery.Table(table_name, schema=schema)
    table.time_partitioning = bigquery.TimePartitioning(field="d")
    table = client.create_table(table)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    days = [(today + datetime.timedelta(days=days)).isoformat() for days in (0, -3000, 300, -4000, 400)]
    rows = [{"n": n, "d": day} for n, day in enumerate(days)]
    errors = client.insert_rows_json(table, rows, skip_invalid_rows=True)
    found = sorted((error["index"], error["errors"][0]["reason"]) for error in errors)
    assert found == [(3, "invalid"), (4, "invalid")]
    assert client.insert_rows_json(table, [{"n": 5, "d": None}]) == []
    [(count,)] = client.query_and_wait(f"SELECT COUNT(*) FROM `{table_name}` WHERE d IS NULL OR d IS NOT NULL")
    assert count == 4
