"""Copy jobs: one source or many, partitions, dispositions, snapshots and clones."""

import datetime

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud import bigquery

SCHEMA = [bigquery.SchemaField("n", "INTEGER"), bigquery.SchemaField("day", "DATE")]


def load(client, name, numbers, day="2024-01-05", **options):
    config = bigquery.LoadJobConfig(schema=SCHEMA, write_disposition="WRITE_TRUNCATE", **options)
    rows = [{"n": n, "day": day} for n in numbers]
    client.load_table_from_json(rows, name, job_config=config).result()


def numbers_of(client, name):
    return sorted(row.n for row in client.list_rows(name, selected_fields=SCHEMA))


def copy(client, sources, destination, **options):
    job = client.copy_table(sources, destination, job_config=bigquery.CopyJobConfig(**options))
    return job.result()


def by_day(client, name, field=None):
    table = bigquery.Table(name, schema=SCHEMA)
    table.time_partitioning = bigquery.TimePartitioning(field=field)
    table.require_partition_filter = True
    return client.create_table(table)


def test_a_copy_is_a_table_of_its_own(client, table_name):
    load(client, table_name, [1, 2])
    job = copy(client, table_name, f"{table_name}_b")
    assert (job.state, job.error_result) == ("DONE", None)
    assert int(job._job_statistics()["copiedRows"]) == 2
    load(client, table_name, [9])
    assert numbers_of(client, f"{table_name}_b") == [1, 2]
    client.delete_table(table_name)
    assert numbers_of(client, f"{table_name}_b") == [1, 2]


def test_dispositions(client, table_name):
    load(client, table_name, [1])
    other = f"{table_name}_b"
    with pytest.raises(NotFound):
        copy(client, table_name, other, create_disposition="CREATE_NEVER")
    copy(client, table_name, other)
    with pytest.raises(Conflict):
        copy(client, table_name, other)
    copy(client, table_name, other, write_disposition="WRITE_APPEND")
    assert numbers_of(client, other) == [1, 1]
    copy(client, table_name, other, write_disposition="WRITE_TRUNCATE")
    assert numbers_of(client, other) == [1]


def test_many_sources_of_one_schema(client, table_name):
    a, b, c = (f"{table_name}_{x}" for x in "abc")
    load(client, a, [1])
    load(client, b, [2, 3])
    copy(client, [a, b], table_name)
    assert numbers_of(client, table_name) == [1, 2, 3]
    client.create_table(bigquery.Table(c, schema=[bigquery.SchemaField("other", "STRING")]))
    with pytest.raises(BadRequest):
        copy(client, [a, c], f"{table_name}_x")
    with pytest.raises(NotFound):
        client.get_table(f"{table_name}_x")


def test_a_partitioned_table_keeps_its_partitions(client, table_name):
    by_day(client, table_name)
    load(client, f"{table_name}$20240105", [1])
    load(client, f"{table_name}$20240106", [2, 3])
    other = f"{table_name}_b"
    copy(client, table_name, other)
    assert client.get_table(other).time_partitioning.type_ == "DAY"
    assert client.get_table(f"{other}$20240106").num_rows == 2
    # One partition over another, the rest untouched.
    copy(client, f"{table_name}$20240105", f"{other}$20240106", write_disposition="WRITE_TRUNCATE")
    assert numbers_of(client, f"{other}$20240106") == [1]
    assert numbers_of(client, f"{other}$20240105") == [1]


def test_rows_of_another_day_do_not_get_into_a_partition(client, table_name):
    by_day(client, table_name, field="day")
    load(client, f"{table_name}_plain", [1], day="2024-01-05")
    with pytest.raises(BadRequest):
        copy(client, f"{table_name}_plain", f"{table_name}$20240107", write_disposition="WRITE_TRUNCATE")
    assert client.get_table(table_name).num_rows == 0


def test_a_differently_partitioned_destination_is_refused(client, table_name):
    load(client, f"{table_name}_plain", [1])
    by_day(client, table_name)
    with pytest.raises(BadRequest, match="(?i)partitioning"):
        copy(client, f"{table_name}_plain", table_name, write_disposition="WRITE_APPEND")


def test_a_snapshot_is_read_only_and_restores(client, table_name):
    load(client, table_name, [1, 2])
    snapshot = f"{table_name}_snapshot"
    expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)
    copy(
        client,
        table_name,
        snapshot,
        operation_type="SNAPSHOT",
        destination_expiration_time=expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    made = client.get_table(snapshot)
    assert made.table_type == "SNAPSHOT"
    assert made.snapshot_definition.base_table_reference.table_id == table_name.split(".")[-1]
    assert abs((made.expires - expires).total_seconds()) < 2
    with pytest.raises((BadRequest, Conflict)):
        load(client, snapshot, [3])
    with pytest.raises(Conflict):
        copy(client, table_name, snapshot, operation_type="SNAPSHOT")
    load(client, table_name, [9])
    copy(client, snapshot, table_name, operation_type="RESTORE", write_disposition="WRITE_TRUNCATE")
    assert numbers_of(client, table_name) == [1, 2]
    assert client.get_table(table_name).table_type == "TABLE"


def test_a_clone_can_be_written(client, table_name):
    load(client, table_name, [1])
    clone = f"{table_name}_clone"
    copy(client, table_name, clone, operation_type="CLONE")
    made = client.get_table(clone)
    assert made.table_type == "TABLE"
    assert made.clone_definition.base_table_reference.table_id == table_name.split(".")[-1]
    load(client, clone, [2])
    assert numbers_of(client, table_name) == [1]


def test_a_missing_source_fails_the_job(client, table_name):
    with pytest.raises(NotFound) as caught:
        copy(client, f"{table_name}_nowhere", table_name)
    assert caught.value.errors[0]["reason"] == "notFound"
